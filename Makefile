# knockd and knock.  make; make test; make demo; make install
PREFIX     = /usr/local
SYSCONFDIR = /etc
MANDIR     = $(PREFIX)/share/man
UNITDIR    = $(PREFIX)/lib/systemd/system
BASHDIR    = $(PREFIX)/share/bash-completion/completions
ZSHDIR     = $(PREFIX)/share/zsh/site-functions

# One static binary of two names. musl makes the smaller one; any other compiler
# with a static libc does, too. STATIC=0: a dynamic one, by the usual compiler.
# CC, CFLAGS, CPPFLAGS and LDFLAGS count, from the environment as well.
STATIC = 1
ifeq ($(origin CC),default)
CC := $(shell test $(STATIC) = 0 || command -v musl-gcc || echo cc)
CC := $(or $(CC),cc)
endif
CFLAGS  ?= -O2
READELF  = $(shell $(CC) -print-prog-name=readelf)
STRIP    = $(shell $(CC) -print-prog-name=strip)

WARN     = -Wall -Wextra -Wpedantic -Wshadow -Wconversion
# _FORTIFY_SOURCE: not where the flags or the compiler itself have one, and not
# without -O, where it warns.
FORTIFY  = $(shell echo | $(CC) $(CPPFLAGS) $(CFLAGS) -dM -E - | awk '\
	   / __OPTIMIZE__ / { o = 1 } / _FORTIFY_SOURCE / { f = 1 } \
	   END { if (o && !f) print "-D_FORTIFY_SOURCE=2" }')
ALL      = -std=c11 -D_GNU_SOURCE $(WARN) -fstack-protector-strong $(FORTIFY) \
	   -fPIE -ffunction-sections -fdata-sections \
	   -fno-asynchronous-unwind-tables -fno-unwind-tables \
	   $(CPPFLAGS) $(CFLAGS)
# noseparate-code: constants share a segment with the code, 4 KiB less a file.
LINK     = -Wl,--gc-sections,-z,relro,-z,now,-z,noseparate-code $(LDFLAGS)

# Static and at any address; or static at least. Each way is tried on an empty
# program, and is taken if the result names no dynamic linker. Debian's musl-gcc
# makes a dynamic program of -static-pie; the second way names the parts, which
# lie where the compiler finds the dynamic program's.
CRT      = $(shell $(CC) $(CFLAGS) -\#\#\# -x c /dev/null 2>&1 | tr ' "' '\n\n' | \
	   sed -n 's,[^/]*crt1\.o$$,,p')
PARTS    = -static -nostartfiles -Wl,-pie,--no-dynamic-linker,-z,text \
	   $(CRT)rcrt1.o $(CRT)crti.o $(CRT)crtn.o
is_static = $(READELF) -l $(1) > $(1).headers && ! grep -q INTERP $(1).headers
ifeq ($(STATIC),0)
HOW      = -pie
CHECK    = :
else
HOW      = $(shell for how in -static-pie "$(PARTS)" -static; do \
	   echo 'int main(void) { return 0; }' | $(CC) $(ALL) $(LINK) $$how \
	   -x c - -o $@.try && $(call is_static,$@.try) && echo $$how && break; \
	   done 2> /dev/null; rm -f $@.try $@.try.headers)
CHECK    = if $(call is_static,$@); then rm -f $@.headers; else rm -f $@ \
	   $@.headers; echo '$(CC) makes no static program: install musl-gcc or' \
	   'the static libc, or make STATIC=0' >&2; false; fi
endif

# OUT: the result's directory, with its slash; for several builds of one source.
all: $(OUT)knockd $(OUT)knock

$(OUT)knockd: knockd.c knock.c config.h Makefile
	$(eval how := $(HOW))
	$(CC) $(ALL) $(LINK) $(filter-out %crtn.o,$(how)) -o $@ knockd.c knock.c \
		$(filter %crtn.o,$(how))
	@$(CHECK)

$(OUT)knock: $(OUT)knockd
	ln -sf knockd $@

# For scripts: the strip that goes with the compiler.
strip-program:
	@echo $(STRIP)

test:
	./test.sh

# For packagers: no root, no network, nothing to install.
check: all
	./test.sh --check

demo:
	tests/demo.sh

bench:
	tests/bench.sh

bench-quick:
	tests/bench.sh quick

soak:
	tests/soak.sh

coverage:
	tests/coverage.sh

fuzz:
	tests/fuzz.sh $(RUNS)

prove:
	tests/prove.sh

# The daemon with address and undefined-behaviour sanitizers, which need more
# system calls than seccomp would let them have.
SANITIZE = -fsanitize=address,undefined -fno-sanitize-recover=undefined
sanitize: build/knockd-asan
build/knockd-asan: knockd.c knock.c config.h Makefile
	mkdir -p build
	gcc -std=c11 -D_GNU_SOURCE -DNO_SECCOMP $(WARN) -g -O1 $(SANITIZE) \
		-o $@ knockd.c knock.c

# Every linter over everything; no warning is left.
# Not: warnings about every snprintf() and every !strcmp().
TIDY = bugprone-*,clang-analyzer-*,-bugprone-easily-swappable-parameters,$(\
	)-clang-analyzer-security.insecureAPI.*,$(\
	)-bugprone-suspicious-string-compare
LINT = -std=c11 -D_GNU_SOURCE $(WARN) -Werror -O2 -fsyntax-only
lint:
	clang-format --dry-run -Werror knockd.c knock.c config.h tests/*.[ch] \
		tests/prove/*.[ch]
	gcc $(LINT) knockd.c knock.c
	clang $(LINT) knockd.c knock.c
	clang-tidy --quiet --warnings-as-errors='*' --checks='$(TIDY)' \
		knockd.c knock.c -- -std=c11 -D_GNU_SOURCE
	cppcheck --quiet --std=c11 --enable=warning,performance,portability \
		--inline-suppr --error-exitcode=1 -D_GNU_SOURCE knockd.c knock.c
	shellcheck -S warning test.sh .ci/run tests/*.sh tests/*.bash tests/*.bats \
		contrib/*.sh contrib/knockd-log contrib/knockd.init \
		contrib/knockd.openrc contrib/fleet/knock-*
	mandoc -T lint -W warning man/*.[158]

install: all
	install -d $(DESTDIR)$(PREFIX)/sbin $(DESTDIR)$(PREFIX)/bin \
		$(DESTDIR)$(MANDIR)/man1 $(DESTDIR)$(MANDIR)/man5 \
		$(DESTDIR)$(MANDIR)/man8 $(DESTDIR)$(UNITDIR) \
		$(DESTDIR)$(BASHDIR) $(DESTDIR)$(ZSHDIR) $(DESTDIR)$(SYSCONFDIR)
	install -m 755 knockd $(DESTDIR)$(PREFIX)/sbin/knockd
	install -m 755 contrib/knockd-log $(DESTDIR)$(PREFIX)/bin/knockd-log
	ln -sf ../sbin/knockd $(DESTDIR)$(PREFIX)/bin/knock
	install -m 644 man/knock.1 $(DESTDIR)$(MANDIR)/man1/knock.1
	install -m 644 man/knockd.conf.5 $(DESTDIR)$(MANDIR)/man5/knockd.conf.5
	install -m 644 man/knockd.8 $(DESTDIR)$(MANDIR)/man8/knockd.8
	sed 's,/usr/sbin/,$(PREFIX)/sbin/,' contrib/knockd.service \
		> $(DESTDIR)$(UNITDIR)/knockd.service
	chmod 644 $(DESTDIR)$(UNITDIR)/knockd.service
	install -m 644 contrib/knock.bash $(DESTDIR)$(BASHDIR)/knock
	ln -sf knock $(DESTDIR)$(BASHDIR)/knockd
	install -m 644 contrib/_knock $(DESTDIR)$(ZSHDIR)/_knock
	test -e $(DESTDIR)$(SYSCONFDIR)/knockd.conf || install -m 600 \
		knockd.conf.example $(DESTDIR)$(SYSCONFDIR)/knockd.conf

# The configuration stays: it is the owner's.
uninstall:
	rm -f $(DESTDIR)$(PREFIX)/sbin/knockd $(DESTDIR)$(PREFIX)/bin/knock \
		$(DESTDIR)$(PREFIX)/bin/knockd-log \
		$(DESTDIR)$(MANDIR)/man1/knock.1 \
		$(DESTDIR)$(MANDIR)/man5/knockd.conf.5 \
		$(DESTDIR)$(MANDIR)/man8/knockd.8 \
		$(DESTDIR)$(UNITDIR)/knockd.service $(DESTDIR)$(ZSHDIR)/_knock \
		$(DESTDIR)$(BASHDIR)/knock $(DESTDIR)$(BASHDIR)/knockd

deb: all
	contrib/make-deb.sh

apk: all
	contrib/make-deb.sh apk

dist:
	contrib/make-dist.sh

cross:
	contrib/cross.sh

clean:
	rm -rf knockd knock build

.PHONY: all prove test check demo bench bench-quick soak coverage fuzz sanitize lint install \
	uninstall deb apk dist cross clean
