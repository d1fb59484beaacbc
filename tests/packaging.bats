#!/usr/bin/env bats
# packaging/: what distributions need, each built by the distribution's own tool
# where this machine has it (dpkg-buildpackage, lintian, autopkgtest, makepkg), else
# read by its interpreter with the tool's functions in place of the tool (abuild,
# OpenWrt's build system and procd, NixOS). See docs/packaging.md.

load lib

setup() {
	need git make
	W=$T/work
	mkdir "$W"
	(cd "$ROOT" && git ls-files --cached --others --exclude-standard |
		tar -c -T -) | tar -x -C "$W"
	cd "$W" || return
	export SOURCE_DATE_EPOCH=1700000000
	V=$(sed -n 's/^#define VERSION *"\(.*\)"/\1/p' config.h)
	make -s packaging >"$T/out" 2>&1 || { cat "$T/out"; return 1; }
	P=$W/dist/packaging ARCHIVE=$W/dist/knockd-$V.tar.gz
}

# files DIRECTORY: what is in there, without directories.
files() {
	(cd "$1" && find . ! -type d | LC_ALL=C sort)
}

@test "make packaging: every value is filled in, and the sums are the archive's" {
	not grep -rn '@[A-Z0-9]*@' "$P"
	grep -q "^PKG_VERSION:=$V\$" "$P/openwrt/Makefile"
	grep -q "PKG_HASH:=$(sha256sum <"$ARCHIVE" | cut -d ' ' -f 1)\$" "$P/openwrt/Makefile"
	is "$(files "$P")" "$(files packaging)"
}

# --- Debian ------------------------------------------------------------------------

# debian_source: an unpacked archive with debian/ in it.
debian_source() {
	need dpkg-buildpackage dh lintian fakeroot
	mkdir "$T/deb"
	cp "$ARCHIVE" "$T/deb/knockd_$V.orig.tar.gz"
	tar -xzf "$ARCHIVE" -C "$T/deb"
	cp -r "$P/debian" "$T/deb/knockd-$V/"
	cd "$T/deb/knockd-$V" || return
}

# debian_build: dpkg-buildpackage, without the unit tests, which other tests run.
debian_build() {
	debian_source
	# -d: a compiler is there, if not the package build-essential
	DEB_BUILD_OPTIONS=nocheck dpkg-buildpackage -d -us -uc >"$T/out" 2>&1 </dev/null ||
		{ tail -n 30 "$T/out"; return 1; }
	cd .. || return
	DEB=$(echo "$PWD"/knockd_*.deb)
}

@test "Debian: dpkg-buildpackage; lintian has nothing to say; conffiles, dbgsym" {
	debian_build
	lintian -EI --fail-on=none --allow-root ./*.changes | grep -v '^[XN]:' >"$T/lintian" || :
	is "$(<"$T/lintian")" ''
	is "$(dpkg-deb -I "$DEB" conffiles)" "$(printf '%s\n' /etc/default/knockd \
		/etc/init.d/knockd /etc/knockd.conf /etc/logrotate.d/knockd)"
	compgen -G "knockd-dbgsym_*.deb" >/dev/null
	matches "$(dpkg-deb -f "$DEB" Depends)" '^libc6'
	dpkg-deb -c "$DEB" >"$T/list"
	grep -q '^-rw------- root/root .* \./etc/knockd.conf$' "$T/list"
	grep -q ' \./lib/systemd/system/knockd.service$\| \./usr/lib/systemd/system/knockd.service$' "$T/list"
	# flags of the distribution: the program is position-independent, and more
	dpkg-deb -x "$DEB" x
	readelf -dW x/usr/sbin/knockd | grep -q 'FLAGS_1.*NOW.*PIE'
	not grep -i 'warning:' "$T/out"
}

@test "Debian: the version is above 0.8, and below any official revision" {
	local v official

	v=$(sed -n '1s/.*(\(.*\)).*/\1/p' "$P/debian/changelog")
	dpkg --compare-versions "$v" gt 0.8-2+b1
	for official in "$V-1" "$V-1~bpo12+1" "$V-0.1" "$V-0ubuntu1" "$V-0ubuntu0.22.04.1"; do
		dpkg --compare-versions "$v" lt "$official" || { echo "$official"; return 1; }
	done
	# the same for the package of make deb
	grep -q 'Version: $version-0local1$' contrib/make-deb.sh
}

@test "Debian: over the official 0.8 the owner's files stay; autopkgtest's test; purge" {
	local f

	need_namespaces
	debian_build
	net_up
	copy_of_machine /
	in_s mkdir "$M/debs"
	for f in "$ROOT"/build/debs/knockd_0.8*.deb "$ROOT"/build/debs/libpcap0.8_*.deb; do
		[ -e "$f" ] || skip "no Debian package of knockd 0.8 in build/debs"
		in_s cp "$f" "$M/debs/"
	done
	in_s cp "$DEB" "$M/debs/ours.deb"
	in_m sh -c 'rm -f /etc/knockd.conf /etc/default/knockd /etc/init.d/knockd
		dpkg --force-depends -i debs/libpcap0.8_*.deb debs/knockd_0.8*.deb' >"$T/out" 2>&1
	in_m sh -c 'printf "[mine]\nsequence = 7,8,9\n" > /etc/knockd.conf
		echo "START_KNOCKD=0" > /etc/default/knockd'
	in_m dpkg --force-confold -i debs/ours.deb >"$T/out" 2>&1
	matches "$(in_m knockd -V)" "^knockd $V"
	is "$(in_m grep -c mine /etc/knockd.conf)" 1
	in_m test -e /usr/share/man/man8/knockd.8.gz
	# the package's test, as autopkgtest runs it
	in_s cp -r "$P/debian/tests" "$M/tests"
	in_m /tests/knock >"$T/out" 2>&1
	grep -q 'door: OPEN SESAME' "$T/out"
	in_m dpkg --purge knockd >"$T/out" 2>&1
	for f in /etc/knockd.conf /etc/default/knockd /etc/init.d/knockd /usr/sbin/knockd; do
		not in_m test -e $f
	done
}

# --- Arch --------------------------------------------------------------------------

@test "Arch: makepkg makes the package; one directory of programs" {
	local d=$T/arch f

	need makepkg pacman-conf bsdtar fakeroot setpriv
	bash -n "$P/arch/PKGBUILD"
	chmod 711 "$BATS_RUN_TMPDIR" "$BATS_RUN_TMPDIR/test" "$T"
	mkdir "$d"
	cp "$P/arch/PKGBUILD" "$ARCHIVE" "$d"
	chown -R nobody "$d"
	(cd "$d" && setpriv --reuid nobody --regid nogroup --clear-groups \
		env HOME="$d" PATH="$PATH" makepkg --nodeps --nocheck) >"$T/out" 2>&1 3>&- ||
		{ tail -n 30 "$T/out"; return 1; }
	not grep -i 'warning: .*\(references\|unstripped\|backup\)' "$T/out"
	f=$(echo "$d/knockd-$V-1-"*.pkg.tar*)
	bsdtar -tf "$f" >"$T/list"
	for f in usr/bin/knockd usr/bin/knock usr/lib/systemd/system/knockd.service \
		etc/knockd.conf usr/share/licenses/knockd/LICENSE usr/share/man/man8/knockd.8.gz; do
		grep -qx "$f" "$T/list" || { echo "lacks $f"; return 1; }
	done
	not grep sbin "$T/list"
	grep -q '^ExecStart=/usr/bin/knockd ' "$d/pkg/knockd/usr/lib/systemd/system/knockd.service"
	grep -qx 'backup = etc/knockd.conf' "$d/pkg/knockd/.PKGINFO"
}

# --- Alpine ------------------------------------------------------------------------

@test "Alpine: APKBUILD builds and packages, with the archive's sum" {
	local d=$T/pkg

	cp "$P/alpine/APKBUILD" "$ARCHIVE" "$T/"
	! command -v busybox >/dev/null || busybox ash -n "$T/APKBUILD"
	# shellcheck disable=SC2016
	sum=$(sh -ec '. "$1/APKBUILD"; eval "echo \"$sha512sums\""' sh "$T")
	(cd "$T" && sha512sum -c <<<"$(sed '/^$/d' <<<"$sum")")
	tar -xzf "$ARCHIVE" -C "$T"
	# shellcheck disable=SC2016
	(cd "$T/knockd-$V" && pkgdir=$d sh -ec '. "$1/APKBUILD"; build; package' sh "$T") \
		>"$T/out" 2>&1
	files "$d" >"$T/list"
	for f in ./etc/conf.d/knockd ./etc/init.d/knockd ./etc/knockd.conf \
		./etc/logrotate.d/knockd ./usr/sbin/knockd ./usr/bin/knock; do
		grep -qx "$f" "$T/list" || { echo "lacks $f"; return 1; }
	done
	not grep systemd "$T/list"
}

# --- OpenWrt -----------------------------------------------------------------------

@test "OpenWrt: its Makefile installs, its init script gives procd the daemon" {
	local d=$T/wrt

	mkdir "$d" "$T/include" "$d/build"
	cp -r "$P/openwrt/." "$d/"
	: >"$T/rules.mk"
	# shellcheck disable=SC2016
	printf '%s\n' 'define BuildPackage' 'install-$(1):' \
		'$(call Package/$(1)/install,$(D))' 'flags:' $'\t@echo $(MAKE_FLAGS)' endef \
		>"$T/include/package.mk"
	tar -xzf "$ARCHIVE" -C "$d/build" --strip-components=1
	make -s -C "$d/build" "$(make -s -C "$d" TOPDIR="$T" INCLUDE_DIR="$T/include" flags)" \
		>"$T/out" 2>&1
	make -s -C "$d" TOPDIR="$T" INCLUDE_DIR="$T/include" PKG_BUILD_DIR=build D="$T/root" \
		INSTALL_DIR='install -d -m 755' INSTALL_BIN='install -m 755' \
		INSTALL_CONF='install -m 600' LN='ln -sf' install-knockd
	is "$(files "$T/root")" "$(printf '%s\n' ./etc/config/knockd ./etc/init.d/knockd \
		./etc/knockd.conf ./usr/bin/knock ./usr/sbin/knockd)"
	is "$(stat -c %a "$T/root/etc/knockd.conf")" 600

	# the script, with the functions of rc.common, UCI and procd in place of them
	sed "s,/lib/functions/network.sh,/dev/null,; s,/var/lib,$T/lib,g; s,/usr/sbin/knockd,$T/root/usr/sbin/knockd,
		s,/etc/knockd.conf,$T/root/etc/knockd.conf," "$T/root/etc/init.d/knockd" >"$T/init"
	cat >"$T/rc" <<-'END'
	config_load() { :; }
	config_foreach() { "$1" main; }
	config_get() { eval "$1=\${$3:-${4:-}}"; }
	config_get_bool() { config_get "$@"; }
	network_get_device() { [ "$2" = wan ] && eval "$1=pppoe-wan"; }
	procd_open_instance() { echo "open $1"; }
	procd_set_param() { echo "$@"; }
	procd_append_param() { echo "+ $@"; }
	procd_close_instance() { echo close; }
	procd_add_reload_trigger() { echo "trigger $1"; }
	logger() { shift 2; echo "log: $*"; }
	END
	run env enabled=0 sh -ec ". $T/rc; . $T/init; start_service"
	matches "$output" '^log: not started: option enabled of main is not 1'
	run env enabled=1 interface='wan br-lan' options=-4 \
		sh -ec ". $T/rc; . $T/init; { start_service; service_triggers; } 2>/dev/null"
	is "$(stat -c %a "$T/lib/knockd")" 700
	is "$output" "open main
command $T/root/usr/sbin/knockd -c $T/root/etc/knockd.conf -p /var/run/knockd-main.pid
+ command -i pppoe-wan,br-lan
+ command -4
respawn 3600 10 0
stderr 1
term_timeout 10
close
trigger knockd"
	echo 'no such word' >>"$T/root/etc/knockd.conf"
	run env enabled=1 sh -ec ". $T/rc; . $T/init; start_service"
	matches "$output" 'log: not started: see .*knockd -t'
	not grep -q '^open' <<<"$output"
}

# --- Nix ---------------------------------------------------------------------------

@test "NixOS: package and module are parsed, and the module makes the unit" {
	local module='
	let
	  lib = {
	    mkEnableOption = x: x; mkOption = x: x; mkIf = c: x: if c then x else { };
	    types = { package = 0; str = 0; lines = 0; nullOr = x: x; listOf = x: x; };
	    escapeShellArgs = builtins.concatStringsSep " ";
	    hasPrefix = p: s: builtins.substring 0 (builtins.stringLength p) s == p;
	  };
	  made = import '$P'/nix/module.nix {
	    inherit lib;
	    pkgs = { coreutils = "/coreutils"; };
	    config.services.knockd = {
	      enable = true; package = "/knockd"; path = [ ]; settings = "";
	      extraArgs = [ "-i" "eth0" ];
	    } // '

	need nix-instantiate
	nix() {
		run env HOME="$T" NIX_STATE_DIR="$T/nix" NIX_STORE_DIR="$T/store" \
			nix-instantiate "$@" 2>/dev/null
	}
	nix --parse "$P/nix/package.nix"
	is "$status" 0
	nix --eval --strict --expr "$module"'{ configFile = "/etc/k.conf"; }; };
		in made.config.systemd.services.knockd.serviceConfig.ExecStart'
	is "${lines[-1]}" '"/knockd/sbin/knockd -c /etc/k.conf -i eth0"'
	nix --eval --strict --expr "$module"'{ configFile = "${builtins.storeDir}/k.conf"; }; };
		in map (a: a.assertion) made.config.assertions'
	is "${lines[-1]}" '[ true false ]'
	nix --eval --strict --expr "$module"'{ configFile = null; settings = "[options]"; }; };
		in map (a: a.assertion) made.config.assertions'
	is "${lines[-1]}" '[ true true ]'
}
