# knockd and knock.  make; make test; make demo; make install
PREFIX     = /usr/local
SYSCONFDIR = /etc
MANDIR     = $(PREFIX)/share/man
UNITDIR    = $(PREFIX)/lib/systemd/system
BASHDIR    = $(PREFIX)/share/bash-completion/completions
ZSHDIR     = $(PREFIX)/share/zsh/site-functions

# One static binary, of two names: made with musl where it is, else with
# cc -static.
CC      := $(shell command -v musl-gcc || command -v $(CC) || echo cc)
CFLAGS   = -O2
WARN     = -Wall -Wextra -Wpedantic -Wshadow -Wconversion
ALL      = -std=c11 -D_GNU_SOURCE $(WARN) -fstack-protector-strong \
	   -D_FORTIFY_SOURCE=2 -fPIE -ffunction-sections -fdata-sections \
	   -fno-asynchronous-unwind-tables -fno-unwind-tables $(CFLAGS)
# noseparate-code: constants share a segment with the code, 4 KiB less a file.
LINK     = -s -Wl,--gc-sections,--build-id=none,-z,relro,-z,now \
	   -Wl,-z,noseparate-code $(LDFLAGS)

# Static and position-independent.  Debian's musl-gcc takes -static-pie for a
# dynamic program, so there its parts are named; what can neither is static.
CRT      = /usr/lib/$(shell gcc -dumpmachine 2>/dev/null | cut -d- -f1)-linux-musl
PIE_GCC  = -static -nostartfiles -Wl,-pie,--no-dynamic-linker,-z,text \
	   $(CRT)/rcrt1.o $(CRT)/crti.o
ifeq ($(notdir $(CC))$(wildcard $(CRT)/rcrt1.o),musl-gcc$(CRT)/rcrt1.o)
STATIC   = $(PIE_GCC)
END      = $(CRT)/crtn.o
else
STATIC  := $(shell echo 'int main(void){return 0;}' | $(CC) -fPIE -static-pie \
	   -x c - -o /dev/null 2>/dev/null && echo -static-pie || echo -static)
endif

all: knockd knock

knockd: knockd.c knock.c config.h Makefile
	$(CC) $(ALL) $(STATIC) $(LINK) -o $@ knockd.c knock.c $(END)

knock: knockd
	ln -sf knockd $@

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
