#!/usr/bin/env bats
# The archive and the packages: same input, same bytes; from Debian's knockd 0.8
# to ours and back, in a copy of this machine's file system that is thrown away.

load lib

M=''

setup() {
	cd "$ROOT" || return
	# what is built here goes into a copy, not into dist/ of the tree
	need git make
	W=$T/work
	mkdir "$W"
	git ls-files --cached --others --exclude-standard |
		tar -c -T - | tar -x -C "$W"
	cp -p "$KNOCKD" "$W/knockd"
	cp -p "$KNOCK" "$W/knock"
	touch "$W/knockd" "$W/knock"
	export SOURCE_DATE_EPOCH=1700000000
}

refute() {
	! "$@"
}

version() {
	sed -n 's/^#define VERSION *"\(.*\)"/\1/p' "$ROOT/config.h"
}

@test "make-dist: twice the same bytes, and complete enough to build" {
	local v

	v=$(version)
	cd "$W"
	contrib/make-dist.sh
	cp "dist/knockd-$v.tar.gz" "$T/first"
	touch config.h knockd.c
	contrib/make-dist.sh
	cmp "$T/first" "dist/knockd-$v.tar.gz"
	mkdir "$T/x"
	tar -xzf "$T/first" -C "$T/x"
	cd "$T/x/knockd-$v"
	for f in knockd.c knock.c config.h Makefile README.md LICENSE test.sh; do
		[ -e "$f" ] || { echo "lacks $f"; return 1; }
	done
	refute test -e knockd
	make >"$T/make" 2>&1 || { tail "$T/make"; return 1; }
	./knockd -V
}

@test "make dist: the same bytes in another place, at another time, and from the archive" {
	local a=$T/a b=$T/elsewhere/b name

	unset SOURCE_DATE_EPOCH
	name=knockd-$(version)
	rm "$W/knockd" "$W/knock"
	git -C "$W" init -q
	git -C "$W" add -A
	git -C "$W" -c user.name=x -c user.email=x@localhost commit -q -m x \
		--date @1700000000
	git clone -q "$W" "$a"
	mkdir "${b%/*}"
	# other times of the files, other rights, zone and language
	(umask 077; git clone -q "$W" "$b")
	find "$b" -name .git -prune -o -type f -exec touch -d @1234567890 {} +
	make -s -C "$a" dist
	: >"$b/knockd"
	(umask 077; cd "$b"; TZ=Asia/Tokyo LC_ALL=C.UTF-8 make -s dist)
	cmp "$a/dist/$name.tar.gz" "$b/dist/$name.tar.gz"
	# out of the archive, where there is no git
	mkdir "$T/x"
	tar -xzf "$a/dist/$name.tar.gz" -C "$T/x"
	make -s -C "$T/x/$name" dist
	cmp "$a/dist/$name.tar.gz" "$T/x/$name/dist/$name.tar.gz"
}

@test "make-deb: twice the same bytes, and nothing in it under /etc" {
	need dpkg-deb
	cd "$W"
	contrib/make-deb.sh
	cp dist/*.deb "$T/first"
	contrib/make-deb.sh
	cmp "$T/first" dist/*.deb
	dpkg-deb -c "$T/first" >"$T/list"
	refute grep -E ' \./etc/' "$T/list"
	refute grep -vE '^[^ ]+ root/root ' "$T/list"
	grep -q ' \./usr/bin/knock -> \.\./sbin/knockd$' "$T/list"
	for f in usr/sbin/knockd usr/share/man/man8/knockd.8.gz \
		lib/systemd/system/knockd.service; do
		grep -q " \./$f\$" "$T/list" || { echo "lacks $f"; return 1; }
	done
}

@test "apk-style archive: twice the same bytes; runs in an empty root" {
	local f v

	v=$(version)
	cd "$W"
	contrib/make-deb.sh apk
	f=$(echo dist/*.apk.tar.gz)
	cp "$f" "$T/first"
	contrib/make-deb.sh apk
	cmp "$T/first" "$f"
	is "$(tar -tzf "$f" | head -n 1)" .PKGINFO
	# all of it, and nothing else; root's, and written to by root alone
	tar -tzf "$f" | grep -v '/$' | sort | diff - <(sort <<-'EOF'
	.PKGINFO
	etc/default/knockd
	etc/init.d/knockd
	etc/knockd.conf
	etc/logrotate.d/knockd
	usr/bin/knock
	usr/bin/knockd-log
	usr/sbin/knockd
	usr/share/bash-completion/completions/knock
	usr/share/bash-completion/completions/knockd
	usr/share/licenses/knockd/LICENSE
	usr/share/man/man1/knock.1.gz
	usr/share/man/man5/knockd.conf.5.gz
	usr/share/man/man8/knockd.8.gz
	usr/share/zsh/site-functions/_knock
	EOF
	)
	refute grep -vE '^([-d]...(-|r)-.(-|r)-.|lrwxrwxrwx) 0/0 ' <(tar -tvzf "$f")
	tar -xzOf "$f" .PKGINFO >"$T/info"
	for k in "pkgname = knockd" "pkgver = $v-r0" "arch = $(uname -m)" \
		"builddate = $SOURCE_DATE_EPOCH"; do
		grep -qxF "$k" "$T/info" || { cat "$T/info"; return 1; }
	done
	mkdir "$T/r"
	tar -xzf "$f" -C "$T/r"
	cmp "$T/r/usr/sbin/knockd" "$W/knockd"
	is "$(stat -c %a "$T/r/etc/knockd.conf")" 600
	matches "$(chroot "$T/r" /usr/sbin/knockd -V)" "^knockd $v"
	chroot "$T/r" /usr/sbin/knockd -t >/dev/null
	[ -x "$T/r/etc/init.d/knockd" ]
}

# --- from 0.8 and back -------------------------------------------------------

# copy_of_machine: mounts in S a copy of / that forgets what is written.
copy_of_machine() {
	M=$T/machine
	mkdir -p "$M" "$T/over"
	in_s mount -t tmpfs none "$T/over"
	in_s mkdir "$T/over/u" "$T/over/w"
	in_s mount -t overlay overlay \
		-o "lowerdir=/,upperdir=$T/over/u,workdir=$T/over/w" "$M" ||
		skip "no overlay file system here"
	for d in proc sys dev run; do in_s mount --rbind "/$d" "$M/$d"; done
	in_s mkdir -p "$M/debs"
}

in_m() {
	in_s chroot "$M" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin \
		DEBIAN_FRONTEND=noninteractive "$@"
}

# old_debs: Debian's packages, which test.sh has fetched with apt.
old_debs() {
	local f

	for f in "$ROOT"/build/debs/knockd_0.8*.deb "$ROOT"/build/debs/libpcap0.8_*.deb; do
		[ -e "$f" ] || skip "no Debian package of knockd 0.8 in build/debs"
		in_s cp "$f" "$M/debs/"
	done
}

opened() {
	in_m grep -q "OPEN 10.77.0.2 $1" /opened 2>/dev/null
}

# works N: the daemon that runs in M opens for A's Nth knock.
works() {
	knock_a 10.77.0.1 7001 8001 9001
	until_true "$WAIT" opened "$1" || { echo "knock $1 did not open"; return 1; }
}

daemons() {
	[ -n "$(pids_in "$S" knockd)" ]
}

no_daemons() {
	refute daemons
}

init_script() {
	in_m timeout 60 /etc/init.d/knockd "$@" </dev/null >"$T/init" 2>&1 3>&-
}

@test "over Debian's knockd 0.8, with its files in /etc, and back" {
	need dpkg-deb
	net_up
	copy_of_machine
	old_debs
	(cd "$W" && contrib/make-deb.sh)
	in_s cp "$W"/dist/knockd_*.deb "$M/debs/ours.deb"

	# Debian's, configured as its users have it
	in_m sh -c 'dpkg --force-depends -i debs/libpcap0.8_*.deb debs/knockd_0.8*.deb' \
		>"$T/dpkg" 2>&1
	matches "$(in_m knockd -V)" '^knockd 0\.8'
	in_m sh -c 'cat > /etc/knockd.conf' <<-EOF
	[options]
		UseSyslog
	[openSSH]
		sequence    = 7001,8001,9001
		seq_timeout = 5
		command     = echo OPEN %IP% \$(wc -l < /n) >> /opened; echo >> /n
		tcpflags    = syn
	EOF
	in_m sh -c 'echo > /n'
	in_m sh -c 'printf "START_KNOCKD=1\nKNOCKD_OPTS=\"-i eth0\"\n" > /etc/default/knockd'
	in_m sh -c 'cd /etc && md5sum knockd.conf default/knockd init.d/knockd' >"$T/etc"
	init_script start
	until_true "$WAIT" daemons
	old_ready
	works 1
	init_script stop
	until_true "$WAIT" no_daemons

	# ours on top: not a file in /etc is touched
	in_m dpkg -i debs/ours.deb >"$T/dpkg" 2>&1
	matches "$(in_m knockd -V)" "^knockd $(version)"
	in_m sh -c 'cd /etc && md5sum -c' <"$T/etc"
	in_m knockd -t >/dev/null
	# Debian's own init script starts and stops it
	init_script start
	until_true "$WAIT" daemons
	works 2
	init_script restart
	until_true "$WAIT" daemons
	works 3
	init_script stop
	until_true "$WAIT" no_daemons

	# and so does the command of Debian's unit, with its capabilities
	# shellcheck disable=SC2016
	nsenter -t "$S" -m -n -- capsh --drop="$(all_but 12 13 16)" --chroot="$M" -- -c \
		'. /etc/default/knockd; exec /usr/sbin/knockd $KNOCKD_OPTS -v' \
		>"$T/out" 2>"$T/err" </dev/null 3>&- &
	# shellcheck disable=SC2034 # stop_knockd takes it
	PID=$!
	wait_for_line "$T/out" 'listening on'
	works 4
	stop_knockd

	# back
	in_m sh -c 'dpkg --force-depends --force-downgrade -i debs/knockd_0.8*.deb' \
		>"$T/dpkg" 2>&1
	matches "$(in_m knockd -V)" '^knockd 0\.8'
	in_m sh -c 'cd /etc && md5sum -c' <"$T/etc"
	init_script start
	until_true "$WAIT" daemons
	old_ready
	works 5
}

# old_ready: 0.8 says in no log that it captures; its packet socket does.
old_ready() {
	until_true "$WAIT" has_lines "/proc/$S/net/packet" . 2
}

# all_but CAPABILITY...: every other one, by number, with commas.
all_but() {
	local last n out=

	read -r last </proc/sys/kernel/cap_last_cap
	for ((n = 0; n <= last; n++)); do
		[[ " $* " == *" $n "* ]] || out+=,$n
	done
	echo "${out#,}"
}

@test "on a machine without knockd: the package brings its files, purge takes them" {
	need dpkg-deb
	net_up
	copy_of_machine
	in_m rm -f /etc/knockd.conf /etc/default/knockd /etc/init.d/knockd
	(cd "$W" && contrib/make-deb.sh)
	in_s cp "$W"/dist/knockd_*.deb "$M/debs/ours.deb"
	in_m dpkg -i debs/ours.deb >"$T/dpkg" 2>&1
	in_m cmp /etc/knockd.conf /usr/share/knockd/knockd.conf
	is "$(in_m stat -c %a /etc/knockd.conf)" 600
	in_m sh -c 'printf "START_KNOCKD=1\nKNOCKD_OPTS=\"-i eth0\"\n" > /etc/default/knockd'
	in_m sh -c 'echo "[x]
		sequence = 7001,8001,9001
		command = echo OPEN %IP% 1 >> /opened" > /etc/knockd.conf'
	init_script start
	until_true "$WAIT" daemons
	works 1
	init_script stop
	until_true "$WAIT" no_daemons
	in_m dpkg --purge knockd >"$T/dpkg" 2>&1
	for f in /etc/knockd.conf /etc/default/knockd /etc/init.d/knockd \
		/usr/sbin/knockd; do
		refute in_m test -e $f
	done
}
