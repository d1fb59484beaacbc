#!/usr/bin/env bats
# Installing: the archive and the packages (same input, same bytes); from Debian's
# knockd 0.8 to ours and back, in a copy of this machine's file system that is
# thrown away; and what README and docs/from-0.8.md tell a stranger to type, typed
# on a fresh Debian. The commands are taken out of these pages.

load lib

setup_file() {
	export CLEAN=$ROOT/build/clean-root
	[ "$(id -u)" = 0 ] || return 0
	debian_root clean-root gcc make musl-tools iptables libpcap0.8 logrotate >&3
}

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
	not test -e knockd
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

@test "make release: the archive, a static program, their sums; the same again" {
	local v

	need sha256sum readelf
	v=$(version)
	cd "$W"
	# The unit tests under other processors: cross.bats. With -C, make also tells
	# which directory it enters; the scripts must not take that for an answer.
	UNIT=/none timeout 280 make -C "$W" release ARCHS=amd64 >"$T/out" 2>&1 </dev/null ||
		{ tail -n 20 "$T/out"; return 1; }
	is "$(cd "dist/$v" && echo *)" \
		"SHA256SUMS knockd-$v-linux-amd64 knockd-$v.tar.gz"
	(cd "dist/$v" && sha256sum --strict -c SHA256SUMS)
	readelf -lSW "dist/$v/knockd-$v-linux-amd64" >"$T/headers"
	not grep 'INTERP\|\.symtab' "$T/headers"
	[ "$(uname -m)" != x86_64 ] || "dist/$v/knockd-$v-linux-amd64" -V
	cp "dist/$v/SHA256SUMS" "$T/first"
	touch knockd.c
	UNIT=/none make -s release ARCHS=amd64 >"$T/out" 2>&1 </dev/null
	cmp "$T/first" "dist/$v/SHA256SUMS"
}

@test "make-deb: twice the same bytes, and nothing in it under /etc" {
	need dpkg-deb
	cd "$W"
	contrib/make-deb.sh
	cp dist/*.deb "$T/first"
	contrib/make-deb.sh
	cmp "$T/first" dist/*.deb
	dpkg-deb -c "$T/first" >"$T/list"
	not grep -E ' \./etc/' "$T/list"
	not grep -vE '^[^ ]+ root/root ' "$T/list"
	grep -q ' \./usr/bin/knock -> \.\./sbin/knockd$' "$T/list"
	for f in usr/sbin/knockd usr/share/man/man8/knockd.8.gz \
		lib/systemd/system/knockd.service usr/share/doc/knockd/copyright \
		usr/share/doc/knockd/README.md usr/share/doc/knockd/docs/from-0.8.md; do
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
	etc/conf.d/knockd
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
	usr/share/man/man1/knockd-log.1.gz
	usr/share/man/man5/knockd.conf.5.gz
	usr/share/man/man8/knockd.8.gz
	usr/share/zsh/site-functions/_knock
	EOF
	)
	not grep -vE '^([-d]...(-|r)-.(-|r)-.|lrwxrwxrwx) 0/0 ' <(tar -tvzf "$f")
	tar -xzOf "$f" .PKGINFO >"$T/info"
	for k in "pkgname = knockd" "pkgver = $v-r0" "arch = $(uname -m)" \
		"builddate = $SOURCE_DATE_EPOCH"; do
		grep -qxF "$k" "$T/info" || { cat "$T/info"; return 1; }
	done
	mkdir "$T/r"
	tar -xzf "$f" -C "$T/r"
	strip -o "$T/stripped" "$W/knockd"
	cmp "$T/r/usr/sbin/knockd" "$T/stripped"
	is "$(stat -c %a "$T/r/etc/knockd.conf")" 600
	matches "$(chroot "$T/r" /usr/sbin/knockd -V)" "^knockd $v"
	chroot "$T/r" /usr/sbin/knockd -t >/dev/null
	[ -x "$T/r/etc/init.d/knockd" ]
}

# --- from 0.8 and back -------------------------------------------------------

# old_debs: Debian's packages, which test.sh has fetched with apt.
old_debs() {
	local f

	in_s mkdir -p "$M/debs"
	for f in "$ROOT"/build/debs/knockd_0.8*.deb "$ROOT"/build/debs/libpcap0.8_*.deb; do
		[ -e "$f" ] || skip "no Debian package of knockd 0.8 in build/debs"
		in_s cp "$f" "$M/debs/"
	done
}

# our_deb: $M/debs/ours.deb, built from the tree.
our_deb() {
	in_s mkdir -p "$M/debs"
	(cd "$W" && contrib/make-deb.sh)
	in_s cp "$W"/dist/knockd_*.deb "$M/debs/ours.deb"
}

# opened VERSION: a knock was the last to be answered by that one.
opened() {
	in_m tail -n 1 /opened 2>/dev/null | grep -q "^10.77.0.2 knockd $1"
}

# works VERSION: that version runs and opens for A's knock, whose command is OPENS.
# A knock may come too early: 0.8 does not say when it listens.
OPENS='echo %IP% $(/usr/sbin/knockd -V | head -n 1) >> /opened'
works() {
	local end=$((SECONDS + WAIT))

	in_m truncate -s 0 /opened
	until opened "$1"; do
		[ "$SECONDS" -le "$end" ] || { echo "$1 did not open"; return 1; }
		knock_a 10.77.0.1 7001 8001 9001
		until_true 1 opened "$1" || :
	done
}

daemons() {
	[ -n "$(pids_in "$S" knockd)" ]
}

no_daemons() {
	[ -z "$(pids_in "$S" knockd)" ]
}

# own_pids: M gets process numbers of its own. The start-stop-daemon of Debian's
# init script goes by the path of a program in /proc, and would take the
# /usr/sbin/knockd of another machine for this one's.
own_pids() {
	bg "$S" unshare --pid --fork sh -c "mount -t proc proc '$M/proc'
		echo >'$T/first'; exec sleep infinity"
	PIDS=/proc/$!/ns/pid_for_children
	until_true "$WAIT" test -s "$T/first"
	rm "$T/first"
}

shared_pids() {
	in_s umount "$M/proc"
	# shellcheck disable=SC2034 # in_m takes it
	PIDS=''
}

init_script() {
	in_m timeout 60 /etc/init.d/knockd "$@" </dev/null >"$T/init" 2>&1 3>&-
}

@test "over Debian's knockd 0.8, with its files in /etc, and back" {
	need dpkg-deb
	net_up
	copy_of_machine /
	own_pids
	old_debs
	our_deb

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
		command     = $OPENS
		tcpflags    = syn
	EOF
	in_m sh -c 'printf "START_KNOCKD=1\nKNOCKD_OPTS=\"-i eth0\"\n" > /etc/default/knockd'
	in_m sh -c 'cd /etc && md5sum knockd.conf default/knockd init.d/knockd' >"$T/etc"
	init_script start
	until_true "$WAIT" daemons
	works 0.8
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
	works "$(version)"
	init_script restart
	until_true "$WAIT" daemons
	works "$(version)"
	init_script stop
	until_true "$WAIT" no_daemons

	# and so does the command of Debian's unit, with its capabilities
	shared_pids
	# shellcheck disable=SC2016
	nsenter -t "$S" -m -n -- capsh --drop="$(all_but 12 13 16)" --chroot="$M" -- -c \
		'. /etc/default/knockd; exec /usr/sbin/knockd $KNOCKD_OPTS -v' \
		>"$T/out" 2>"$T/err" </dev/null 3>&- &
	# shellcheck disable=SC2034 # stop_knockd takes it
	PID=$!
	wait_for_line "$T/out" 'listening on'
	works "$(version)"
	stop_knockd
	own_pids

	# back
	in_m sh -c 'dpkg --force-depends --force-downgrade -i debs/knockd_0.8*.deb' \
		>"$T/dpkg" 2>&1
	matches "$(in_m knockd -V)" '^knockd 0\.8'
	in_m sh -c 'cd /etc && md5sum -c' <"$T/etc"
	init_script start
	until_true "$WAIT" daemons
	works 0.8
}

@test "on a machine without knockd: the package brings its files, purge takes them" {
	need dpkg-deb
	net_up
	copy_of_machine /
	own_pids
	in_m rm -f /etc/knockd.conf /etc/default/knockd /etc/init.d/knockd
	our_deb
	in_m dpkg -i debs/ours.deb >"$T/dpkg" 2>&1
	in_m cmp /etc/knockd.conf /usr/share/knockd/knockd.conf
	is "$(in_m stat -c %a /etc/knockd.conf)" 600
	in_m sh -c 'printf "START_KNOCKD=1\nKNOCKD_OPTS=\"-i eth0\"\n" > /etc/default/knockd'
	in_m sh -c 'cat > /etc/knockd.conf' <<-EOF
	[x]
		sequence = 7001,8001,9001
		command  = $OPENS
	EOF
	init_script start
	until_true "$WAIT" daemons
	works "$(version)"
	init_script stop
	until_true "$WAIT" no_daemons
	in_m dpkg --purge knockd >"$T/dpkg" 2>&1
	for f in /etc/knockd.conf /etc/default/knockd /etc/init.d/knockd \
		/usr/sbin/knockd; do
		not in_m test -e $f
	done
}

# --- on a fresh Debian -------------------------------------------------------

# fresh_debian: $M is one, with what the pages ask for and nothing else; /src is a
# fresh clone, no result of a build.
fresh_debian() {
	need debootstrap
	[ -e "$CLEAN/.made" ] || skip "debootstrap made no root file system"
	net_up
	copy_of_machine "$CLEAN"
	in_s mkdir "$M/src"
	tar -c -C "$W" --exclude=./knockd --exclude=./knock . | in_s tar -x -C "$M/src"
}

# in_clone COMMAND...: there, in the clone.
in_clone() {
	in_m env -C /src "$@"
}

# type_in: the commands on standard input, one after another, stop at the first
# that fails.
type_in() {
	in_clone bash -ec "$(cat)" </dev/null >"$T/typed" 2>&1 || {
		cat "$T/typed"
		return 1
	}
}

@test "README, step by step: build, install, ports, firewall, first knock" {
	local ip knock ports way

	need nc socat
	fresh_debian
	serve 22 EXEC:cat

	# 1. only what it says is there; no warning
	readme_step 1 | sed '/^git clone/d' | type_in
	not grep -i 'warning\|error' "$T/typed"
	matches "$(in_m knockd -V)" '^knockd [0-9]'
	is "$(in_m stat -c %a /etc/knockd.conf)" 600

	# 2. ports of one's own; what -t then still says is no surprise
	ports=$(in_m knock --generate 4 | sed -n 's/^sequence = //p')
	matches "$ports" '^[0-9]+(,[0-9]+){3}$'
	in_m sed -i "s/7000,8000,9000/$ports/
		s/9000,8000,7000/$(tr , '\n' <<<"$ports" | tac | paste -sd,)/" \
		/etc/knockd.conf
	readme_step 2 | sed '/^knock --generate/d; /^sudoedit/d' | type_in
	grep -qi "^sequence = $ports" "$T/typed"
	not grep 'warning.*manuals\|warning.*read this\|No such file' "$T/typed"

	# 3. a session from before stays
	session socat - TCP:10.77.0.1:22
	session_lives one
	readme_step 3 | sed 's/sleep 600/exec 3>\&-; sleep 600/' | type_in
	matches "$(<"$T/typed")" 'way back: [0-9]+'
	way=$(sed -n 's/^way back: //p' "$T/typed")
	session_lives two
	for ip in 10.77.0.1 fd77::1; do reaches_not a "$ip"; done

	# 4.
	is "$(readme_step 4)" 'knockd -v'
	nsenter -t "$S" -m -n -r -w -- chroot "$M" env -i PATH=/usr/local/sbin:/bin \
		knockd -v >"$T/out" 2>"$T/err" </dev/null 3>&- &
	# shellcheck disable=SC2034 # stop_knockd takes it
	PID=$!
	wait_for_line "$T/out" '^listening on'

	# 5. with the clone's knock, which is copied to the client; both families
	cp "$M/src/knock" "$T/knock" 2>/dev/null || in_clone cat knock >"$T/knock"
	chmod 755 "$T/knock"
	for ip in 10.77.0.1 fd77::1; do
		knock=$(readme_step 5 | sed -n 's/^knock HOST \([0-9 ]*\)\(-d [0-9]*\).*/\2/p' |
			head -n 1)
		is "$knock" '-d 500'
		# shellcheck disable=SC2046,SC2086
		in_a "$T/knock" "$ip" $(tr , ' ' <<<"$ports") $knock
		until_true "$WAIT" reaches a "$ip"
		reaches_not b "$ip"
		# shellcheck disable=SC2046,SC2086
		in_a "$T/knock" "$ip" $(tr , '\n' <<<"$ports" | tac) $knock
		until_true "$WAIT" reaches_not a "$ip"
	done
	for line in 'Stage 1' 'Stage 2' 'Stage 3' 'OPEN SESAME' 'running command'; do
		grep -q "$line" "$T/out"
	done
	not grep 'status code' "$T/out"
	session_lives three
	stop_knockd

	# 7. the way back is stopped in time: the firewall may be saved
	readme_step 7 | sed "s/^kill NUMBER/kill $way/" | type_in
	is "$(grep -c ': shut$' "$T/typed")" 2
	not grep OPEN "$T/typed"

	# the way back opens port 22 again, and then the page says so
	readme_step 3 | sed -n 's/^nohup sh -c .sleep 600; \(.*\). > .*/\1/p' | type_in
	for ip in 10.77.0.1 fd77::1; do reaches a "$ip"; done
	readme_step 7 | sed '/^kill/d' | type_in
	is "$(grep -c ': OPEN$' "$T/typed")" 2
}

# section HEADING: the commands in a section of docs/from-0.8.md.
section() {
	awk -v want="## $1" '/^## / { on = $0 == want }
		on && /^    / { print substr($0, 5) }' "$ROOT/docs/from-0.8.md" |
		sed 's/^sudo //; s/ sudo / /g'
}

# restart: in place of systemctl, which needs more than a root file system;
# Debian's unit runs this very command.
restart() {
	local p

	for p in $(pids_in "$S" knockd); do kill "$p" 2>/dev/null || :; done
	until_true "$WAIT" no_daemons
	# shellcheck disable=SC2016
	in_m sh -c '. /etc/default/knockd; exec /usr/sbin/knockd $KNOCKD_OPTS' \
		>"$T/out" 2>&1 </dev/null &
}

@test "docs/from-0.8.md: over Debian's package by hand, and back" {
	fresh_debian
	old_debs
	in_m sh -c 'dpkg -i /debs/knockd_0.8*.deb' >"$T/dpkg" 2>&1 || { cat "$T/dpkg"; return 1; }
	in_m sh -c 'cat >/etc/knockd.conf; echo "KNOCKD_OPTS=\"-i eth0\"" >/etc/default/knockd' \
		<<-EOF
	[options]
		UseSyslog
	[door]
		sequence    = 7001,8001,9001
		seq_timeout = 15
		tcpflags    = syn
		command     = $OPENS
	EOF
	in_m sh -c 'cd /etc && md5sum knockd.conf default/knockd init.d/knockd' >"$T/etc"
	# shellcheck disable=SC2016
	in_m sed -n 's/^ExecStart=//p' /lib/systemd/system/knockd.service |
		grep -qx '/usr/sbin/knockd $KNOCKD_OPTS'
	restart
	works 0.8

	in_clone make -s >"$T/make" 2>&1
	section 'Over a Debian package' >"$T/commands"
	# the way with dpkg -i is tested above, the unit in systemd.bats
	sed '/^make deb/d; /dpkg -i/d; /contrib\/knockd.service/,$d; /systemctl/d' \
		"$T/commands" >"$T/c"
	matches "$(<"$T/c")" 'cp -p /usr/sbin/knockd /usr/sbin/knockd-0.8'
	type_in <"$T/c"
	restart
	works "$(version)"

	section 'How to go back' | sed '/systemctl restart/d
		s/ && systemctl daemon-reload//' >"$T/c"
	matches "$(<"$T/c")" 'install /usr/sbin/knockd-0.8'
	type_in <"$T/c"
	restart
	works 0.8
	in_m sh -c 'cd /etc && md5sum -c' <"$T/etc"
	# and dpkg finds its own files again
	is "$(in_m dpkg -V knockd | grep -v ' c /etc/')" ''
	restart
}
