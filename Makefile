# knockd and knock.  make; make test; make demo; make install
PREFIX     = /usr/local
SBINDIR    = $(PREFIX)/sbin
BINDIR     = $(PREFIX)/bin
SYSCONFDIR = /etc
MANDIR     = $(PREFIX)/share/man
DOCDIR     = $(PREFIX)/share/doc/knockd
UNITDIR    = $(PREFIX)/lib/systemd/system
BASHDIR    = $(PREFIX)/share/bash-completion/completions
ZSHDIR     = $(PREFIX)/share/zsh/site-functions

# One static binary of two names. musl makes the smaller one; any other compiler
# with a static libc does, too. STATIC=0: a dynamic one, by the usual compiler.
# CC, CFLAGS, CPPFLAGS and LDFLAGS count, from the environment as well.
STATIC  ?= 1
ifeq ($(origin CC),default)
CC := $(shell test $(STATIC) = 0 || command -v musl-gcc || echo cc)
CC := $(or $(CC),cc)
endif
CFLAGS  ?= -Os
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
# hash-style: nobody looks up a symbol in the file, so one table is enough.
LINK     = -Wl,--gc-sections,-z,relro,-z,now,-z,noseparate-code \
	   -Wl,--hash-style=gnu $(LDFLAGS)

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

# Ours against ours: how far the figures can be trusted.
bench-noise:
	tests/bench.sh noise

soak:
	tests/soak.sh

coverage:
	tests/coverage.sh

# N: how many mistakes; SEED: of the sample.
mutants:
	tests/mutants.py $(N)

fuzz:
	tests/fuzz.sh $(RUNS)

# SECONDS: for how long; goes on where the last one stopped.
SECONDS = 600
fuzz-long:
	FUZZ_SECONDS=$(SECONDS) tests/fuzz.sh long


prove:
	tests/prove.sh

machines:
	tests/machines.sh

# The daemon with address and undefined-behaviour sanitizers, which need more
# system calls than seccomp would let them have.
SANITIZE = -fsanitize=address,undefined -fno-sanitize-recover=undefined
sanitize: build/knockd-asan
build/knockd-asan: knockd.c knock.c config.h Makefile
	mkdir -p build
	gcc -std=c11 -D_GNU_SOURCE -DNO_SECCOMP $(WARN) -g -O1 $(SANITIZE) \
		-o $@ knockd.c knock.c

# Every linter over everything; no warning is left.
# Not: warnings about every snprintf() and every !strcmp(), and about the order of
# fields, which is the reader's.
TIDY = bugprone-*,clang-analyzer-*,-bugprone-easily-swappable-parameters,$(\
	)-clang-analyzer-security.insecureAPI.*,$(\
	)-clang-analyzer-optin.performance.Padding,$(\
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
		tests/machines/init \
		contrib/*.sh contrib/knockd-log contrib/knockd.init \
		contrib/knockd.openrc contrib/fleet/knock-* contrib/game/game \
		packaging/openwrt/files/knockd.init packaging/debian/tests/knock
	mandoc -T lint -W warning man/*.[158]

# --- installation

# INIT: whose files are installed, systemd, openrc, sysv or none. Unless it is
# named: the init system that runs here, else the one that is installed here.
INIT = $(shell \
	if [ -d /run/systemd/system ]; then echo systemd; \
	elif [ -d /run/openrc ]; then echo openrc; \
	elif command -v systemctl > /dev/null; then echo systemd; \
	elif [ -x /sbin/openrc-run ]; then echo openrc; \
	elif [ -d /etc/init.d ]; then echo sysv; \
	else echo none; fi)

# knock is a link to knockd: as short as the two directories allow.
ifeq ($(BINDIR),$(SBINDIR))
KNOCK_LINK = knockd
else ifeq ($(dir $(BINDIR)),$(dir $(SBINDIR)))
KNOCK_LINK = ../$(notdir $(SBINDIR))/knockd
else
KNOCK_LINK = $(SBINDIR)/knockd
endif

DOCS = README.md SECURITY.md CHANGELOG.md LICENSE knockd.conf.example \
	$(wildcard docs/*) contrib/nftables.conf contrib/knockd-tight.conf \
	contrib/fail2ban-knockd.conf contrib/knockd.logrotate contrib/knockd.init \
	contrib/knockd.openrc $(wildcard contrib/knock1.*) \
	$(wildcard contrib/fleet/*)

# $(call adapted,SOURCE,MODE,TARGET): a file with the daemon's path in it.
define adapted
	sed 's,/usr/sbin/knockd,$(SBINDIR)/knockd,g' $(1) > $(DESTDIR)$(3)
	chmod $(2) $(DESTDIR)$(3)
endef

install: all install-$(INIT)
	install -d $(DESTDIR)$(SBINDIR) $(DESTDIR)$(BINDIR) \
		$(DESTDIR)$(MANDIR)/man1 $(DESTDIR)$(MANDIR)/man5 \
		$(DESTDIR)$(MANDIR)/man8 $(DESTDIR)$(BASHDIR) \
		$(DESTDIR)$(ZSHDIR) $(DESTDIR)$(SYSCONFDIR)
	install -m 755 $(OUT)knockd $(DESTDIR)$(SBINDIR)/knockd
	install -m 755 contrib/knockd-log $(DESTDIR)$(BINDIR)/knockd-log
	ln -sf $(KNOCK_LINK) $(DESTDIR)$(BINDIR)/knock
	install -m 644 man/knock.1 man/knockd-log.1 $(DESTDIR)$(MANDIR)/man1
	install -m 644 man/knockd.conf.5 $(DESTDIR)$(MANDIR)/man5/knockd.conf.5
	install -m 644 man/knockd.8 $(DESTDIR)$(MANDIR)/man8/knockd.8
	install -m 644 contrib/knock.bash $(DESTDIR)$(BASHDIR)/knock
	ln -sf knock $(DESTDIR)$(BASHDIR)/knockd
	install -m 644 contrib/_knock $(DESTDIR)$(ZSHDIR)/_knock
	for f in $(DOCS); do \
		install -d $(DESTDIR)$(DOCDIR)/$$(dirname $$f) && \
		install -m $$(test -x $$f && echo 755 || echo 644) $$f \
			$(DESTDIR)$(DOCDIR)/$$f || exit 1; \
	done
	test -e $(DESTDIR)$(SYSCONFDIR)/knockd.conf || install -m 600 \
		knockd.conf.example $(DESTDIR)$(SYSCONFDIR)/knockd.conf

# The same without the program's symbols.
install-strip: install
	$(STRIP) $(DESTDIR)$(SBINDIR)/knockd

install-systemd:
	install -d $(DESTDIR)$(UNITDIR)
	$(call adapted,contrib/knockd.service,644,$(UNITDIR)/knockd.service)

install-sysv:
	install -d $(DESTDIR)$(SYSCONFDIR)/init.d $(DESTDIR)$(SYSCONFDIR)/default
	$(call adapted,contrib/knockd.init,755,$(SYSCONFDIR)/init.d/knockd)
	test -e $(DESTDIR)$(SYSCONFDIR)/default/knockd || install -m 644 \
		contrib/default-knockd $(DESTDIR)$(SYSCONFDIR)/default/knockd

install-openrc:
	install -d $(DESTDIR)$(SYSCONFDIR)/init.d $(DESTDIR)$(SYSCONFDIR)/conf.d
	$(call adapted,contrib/knockd.openrc,755,$(SYSCONFDIR)/init.d/knockd)
	test -e $(DESTDIR)$(SYSCONFDIR)/conf.d/knockd || install -m 644 \
		contrib/knockd.confd $(DESTDIR)$(SYSCONFDIR)/conf.d/knockd

install-none:

install-%:
	@echo "INIT is systemd, openrc, sysv or none, not '$*'" >&2; false

# The configuration stays: it is the owner's.
uninstall: uninstall-$(INIT)
	rm -f $(DESTDIR)$(SBINDIR)/knockd $(DESTDIR)$(BINDIR)/knock \
		$(DESTDIR)$(BINDIR)/knockd-log \
		$(DESTDIR)$(MANDIR)/man1/knock.1 \
		$(DESTDIR)$(MANDIR)/man1/knockd-log.1 \
		$(DESTDIR)$(MANDIR)/man5/knockd.conf.5 \
		$(DESTDIR)$(MANDIR)/man8/knockd.8 \
		$(DESTDIR)$(ZSHDIR)/_knock \
		$(DESTDIR)$(BASHDIR)/knock $(DESTDIR)$(BASHDIR)/knockd \
		$(addprefix $(DESTDIR)$(DOCDIR)/,$(DOCS))
	-for d in $(sort $(dir $(DOCS))); do echo $(DESTDIR)$(DOCDIR)/$${d#./}; done | \
		LC_ALL=C sort -r | xargs rmdir 2> /dev/null

uninstall-systemd:
	rm -f $(DESTDIR)$(UNITDIR)/knockd.service

uninstall-sysv uninstall-openrc:
	rm -f $(DESTDIR)$(SYSCONFDIR)/init.d/knockd

uninstall-none:

uninstall-%:
	@echo "INIT is systemd, openrc, sysv or none, not '$*'" >&2; false

.PHONY: install install-strip install-systemd install-sysv install-openrc \
	install-none uninstall uninstall-systemd uninstall-sysv uninstall-openrc \
	uninstall-none

# --- packages and releases

deb: all
	contrib/make-deb.sh

apk: all
	contrib/make-deb.sh apk

dist:
	contrib/make-dist.sh

# packaging/ with this version and its sums; see docs/packaging.md.
packaging: dist
	contrib/make-packaging.sh

# ARCHS: for these processors alone.
cross:
	contrib/cross.sh $(ARCHS)

# The source archive, programs for all processors, their sums; in dist/VERSION.
release:
	rm -rf build/cross/*/knockd
	$(MAKE) dist cross
	contrib/make-release.sh

.PHONY: release strip-program packaging

clean:
	rm -rf knockd knock build

.PHONY: all prove machines test check demo bench bench-quick bench-noise soak coverage mutants fuzz fuzz-long sanitize lint install \
	uninstall deb apk dist cross clean
