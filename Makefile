# knockd and knock.  make; make test; make demo; make install
PREFIX     = /usr/local
SYSCONFDIR = /etc
MANDIR     = $(PREFIX)/share/man

# One static binary: musl where it is, or whatever cc makes with -static.
CC      := $(shell command -v musl-gcc || command -v $(CC) || echo cc)
CFLAGS   = -Os
WARN     = -Wall -Wextra -Wpedantic -Wshadow -Wconversion
HARDEN   = -fstack-protector-strong -D_FORTIFY_SOURCE=2 -fPIE
ALL      = -std=c11 -D_GNU_SOURCE $(WARN) $(HARDEN) -ffunction-sections \
	   -fdata-sections $(CFLAGS)
# static-pie where the toolchain can, else static.
STATIC  := $(shell echo 'int main(void){return 0;}' | $(CC) -fPIE -static-pie \
	   -x c - -o /dev/null 2>/dev/null && echo -static-pie || echo -static)
LINK     = $(STATIC) -s -Wl,--gc-sections -Wl,-z,relro,-z,now $(LDFLAGS)

all: knockd knock

knockd: knockd.c config.h Makefile
	$(CC) $(ALL) $(LINK) -o $@ knockd.c

knock: knock.c config.h Makefile
	$(CC) $(ALL) $(LINK) -o $@ knock.c

test:
	./test.sh

demo:
	tests/demo.sh

install: all
	install -d $(DESTDIR)$(PREFIX)/sbin $(DESTDIR)$(PREFIX)/bin \
		$(DESTDIR)$(MANDIR)/man1 $(DESTDIR)$(MANDIR)/man5 \
		$(DESTDIR)$(MANDIR)/man8 $(DESTDIR)$(SYSCONFDIR)
	install -m 755 knockd $(DESTDIR)$(PREFIX)/sbin/knockd
	install -m 755 knock $(DESTDIR)$(PREFIX)/bin/knock
	install -m 644 man/knock.1 $(DESTDIR)$(MANDIR)/man1/knock.1
	install -m 644 man/knockd.conf.5 $(DESTDIR)$(MANDIR)/man5/knockd.conf.5
	install -m 644 man/knockd.8 $(DESTDIR)$(MANDIR)/man8/knockd.8
	test -e $(DESTDIR)$(SYSCONFDIR)/knockd.conf || install -m 600 \
		knockd.conf.example $(DESTDIR)$(SYSCONFDIR)/knockd.conf

# The configuration stays: it is the owner's.
uninstall:
	rm -f $(DESTDIR)$(PREFIX)/sbin/knockd $(DESTDIR)$(PREFIX)/bin/knock \
		$(DESTDIR)$(MANDIR)/man1/knock.1 \
		$(DESTDIR)$(MANDIR)/man5/knockd.conf.5 \
		$(DESTDIR)$(MANDIR)/man8/knockd.8

clean:
	rm -rf knockd knock build

.PHONY: all test demo install uninstall clean
