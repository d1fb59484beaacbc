#!/bin/sh
# make-deb.sh - packages of what make has built, without a packaging system
#
#     contrib/make-deb.sh             dist/knockd_VERSION-0local1_ARCH.deb
#     contrib/make-deb.sh apk         dist/knockd-VERSION-ARCH.apk.tar.gz
#
# The .deb needs dpkg-deb alone. It takes the place of Debian's knockd; files of
# yours in /etc are never touched, nor asked about: what is missing there is put
# there when the package is configured. The other one is laid out like an Alpine
# package, .PKGINFO first: tar -C / -xzf FILE, with OpenRC's script.
# DESTDIR builds of other processors: KNOCKD= and ARCH= name them.
# The same input gives the same bytes; times are those of SOURCE_DATE_EPOCH, or
# of the last commit.
set -eu
cd "$(dirname "$0")/.."
umask 022

kind=${1:-deb}
version=$(sed -n 's/^#define VERSION *"\(.*\)"/\1/p' config.h)
: "${SOURCE_DATE_EPOCH:=$(git log -1 --format=%ct 2> /dev/null ||
	stat -c %Y config.h)}"
export SOURCE_DATE_EPOCH
d=$(mktemp -d)
trap 'rm -rf "$d"' EXIT
root=$d/root
mkdir -p dist "$root"

make -s install-strip DESTDIR="$root" PREFIX=/usr SYSCONFDIR=/etc \
	INIT="$([ "$kind" = apk ] && echo openrc || echo systemd)" \
	UNITDIR=/lib/systemd/system ZSHDIR=/usr/share/zsh/vendor-completions \
	> /dev/null
[ -z "${KNOCKD:-}" ] || install -m 755 "$KNOCKD" "$root/usr/sbin/knockd"

put() {
	install -D -m "$1" "$2" "$root/$3"
}

find "$root/usr/share/man" -type f -exec gzip -9n {} +

deb() {
	arch=${ARCH:-$(dpkg --print-architecture)}
	share=usr/share/knockd
	# What configures the host: from here to /etc, where nothing is.
	rm -rf "${root:?}/etc"
	put 600 knockd.conf.example $share/knockd.conf
	put 644 contrib/default-knockd $share/default
	put 755 contrib/knockd.init $share/init
	put 644 contrib/knockd.logrotate $share/logrotate
	mv "$root/usr/share/doc/knockd/LICENSE" \
		"$root/usr/share/doc/knockd/copyright"

	mkdir "$root/DEBIAN"
	cat > "$root/DEBIAN/control" << EOF
Package: knockd
Version: $version-0local1
Architecture: $arch
Maintainer: The knockd authors <knockd@localhost>
Installed-Size: $(du -k -s --apparent-size "$root" | cut -f 1)
Suggests: iptables | nftables
Section: net
Priority: optional
Description: port-knock server and client
 knockd runs a command, mostly one that opens the firewall, for an address that
 hits the right ports in the right order. knock is the client. Takes the place
 of knockd 0.8, with the same options, configuration and log. Static; needs no
 library.
EOF
	cat > "$root/DEBIAN/postinst" << 'EOF'
#!/bin/sh
set -e
[ "$1" = configure ] || exit 0
put() {
	[ -e "$DPKG_ROOT/etc/$3" ] || [ ! -d "$DPKG_ROOT/etc/${3%/*}" ] ||
		install -m "$1" "$DPKG_ROOT/usr/share/knockd/$2" "$DPKG_ROOT/etc/$3"
}
mkdir -p "$DPKG_ROOT/etc/default" "$DPKG_ROOT/etc/init.d"
[ -e "$DPKG_ROOT/etc/knockd.conf" ] ||
	install -m 600 "$DPKG_ROOT/usr/share/knockd/knockd.conf" "$DPKG_ROOT/etc/"
put 644 default default/knockd
put 755 init init.d/knockd
put 644 logrotate logrotate.d/knockd
[ -z "$DPKG_ROOT" ] || exit 0
if command -v update-rc.d > /dev/null; then
	update-rc.d knockd defaults > /dev/null || true
fi
if [ -d /run/systemd/system ]; then
	systemctl daemon-reload || true
	systemctl try-restart knockd.service || true
fi
EOF
	cat > "$root/DEBIAN/prerm" << 'EOF'
#!/bin/sh
set -e
if [ "$1" = remove ] && [ -z "$DPKG_ROOT" ] && [ -d /run/systemd/system ]; then
	systemctl disable --now knockd.service || true
fi
EOF
	cat > "$root/DEBIAN/postrm" << 'EOF'
#!/bin/sh
set -e
[ "$1" = purge ] || exit 0
rm -f "$DPKG_ROOT/etc/knockd.conf" "$DPKG_ROOT/etc/default/knockd" \
	"$DPKG_ROOT/etc/init.d/knockd" "$DPKG_ROOT/etc/logrotate.d/knockd"
rm -rf "$DPKG_ROOT/var/lib/knockd"
if [ -z "$DPKG_ROOT" ] && command -v update-rc.d > /dev/null; then
	update-rc.d knockd remove > /dev/null || true
fi
EOF
	chmod 755 "$root/DEBIAN/postinst" "$root/DEBIAN/prerm" \
		"$root/DEBIAN/postrm"
	(cd "$root" && find . -type f ! -path './DEBIAN/*' | LC_ALL=C sort |
		sed 's,^\./,,' | xargs md5sum > DEBIAN/md5sums)
	result=dist/knockd_$version-0local1_$arch.deb
	dpkg-deb --root-owner-group -Zxz -b "$root" "$result" > /dev/null
}

apk() {
	arch=${ARCH:-$(uname -m)}
	mv "$root/usr/share/zsh/vendor-completions" \
		"$root/usr/share/zsh/site-functions"
	put 644 contrib/knockd.logrotate etc/logrotate.d/knockd
	mkdir -p "$root/usr/share/licenses/knockd"
	mv "$root/usr/share/doc/knockd/LICENSE" "$root/usr/share/licenses/knockd/"
	rm -r "${root:?}/usr/share/doc"	# Alpine's knockd-doc
	cat > "$root/.PKGINFO" << EOF
pkgname = knockd
pkgver = $version-r0
pkgdesc = port-knock server and client
arch = $arch
license = ISC
builddate = $SOURCE_DATE_EPOCH
size = $(du -b -s "$root" | cut -f 1)
EOF
	result=dist/knockd-$version-$arch.apk.tar.gz
	(cd "$root" && { echo .PKGINFO; find . ! -path . ! -path ./.PKGINFO |
		sed 's,^\./,,' | LC_ALL=C sort; } | tar -c --no-recursion \
		--format=ustar --owner=0 --group=0 --numeric-owner \
		--mtime="@$SOURCE_DATE_EPOCH" -T -) | gzip -9n > "$result"
}

case $kind in
deb | apk) $kind ;;
*) echo "usage: make-deb.sh [deb|apk]" >&2; exit 1 ;;
esac
echo "$result"
