#!/usr/bin/env bats
# What README and docs/from-0.8.md tell a stranger to type, typed on a fresh
# Debian: a root file system made by debootstrap, with what these pages ask for
# and nothing else. The commands are taken out of the pages.

load lib

M=$T/machine

# The root is made once, and kept in build/ for the next time.
setup_file() {
	local log=$BATS_FILE_TMPDIR/debootstrap suite
	local with=gcc,make,musl-tools,iptables,libpcap0.8,logrotate

	export CLEAN=$ROOT/build/clean-root
	[ "$(id -u)" = 0 ] || return 0
	[ "$(cat "$CLEAN/.made" 2>/dev/null)" != "$with" ] || return 0
	command -v debootstrap >/dev/null || return 0
	# shellcheck source=/dev/null
	suite=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
	rm -rf "$CLEAN"
	if timeout 280 debootstrap --variant=minbase --include="$with" "$suite" \
		"$CLEAN" >"$log" 2>&1 </dev/null; then
		echo "$with" >"$CLEAN/.made"
	else
		tail -n 3 "$log" >&3
	fi
}

setup() {
	need debootstrap
	[ -e "$CLEAN/.made" ] || skip "debootstrap made no root file system"
	net_up
	mkdir "$M" "$T/over"
	in_s mount -t tmpfs none "$T/over"
	in_s mkdir "$T/over/u" "$T/over/w"
	in_s mount -t overlay overlay \
		-o "lowerdir=$CLEAN,upperdir=$T/over/u,workdir=$T/over/w" "$M" ||
		skip "no overlay file system here"
	for d in proc sys dev; do in_s mount --rbind "/$d" "$M/$d"; done
	in_s mount -t tmpfs -o mode=755 none "$M/run"
	in_s mkdir "$M/run/lock" "$M/src"
	# a fresh clone: no result of a build
	(cd "$ROOT" && git ls-files --cached --others --exclude-standard |
		tar -c -T -) | in_s tar -x -C "$M/src"
}

refute() {
	! "$@"
}

# in_m COMMAND...: there, in the clone, as root and with root's PATH.
in_m() {
	in_s chroot "$M" env -i -C /src HOME=/root TERM=dumb \
		PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
		"$@" 3>&-
}

# step N: the commands of that step of README's "Put it on a host".
step() {
	awk -v n="$1" '/^[^ 0-9]/ { on = 0 } /^[0-9]\. / { on = $1 == n "." }
		on && /^       / { print substr($0, 8) }' "$ROOT/README.md" |
		sed 's/^sudo //'
}

# type_in: the commands on standard input, one after another, stop at the first
# that fails.
type_in() {
	in_m bash -ec "$(cat)" </dev/null >"$T/typed" 2>&1 || {
		cat "$T/typed"
		return 1
	}
}

reaches() {
	"in_$1" nc -z -w 2 "$2" 22 2>/dev/null
}

reaches_not() {
	! reaches "$@"
}

session_lives() {
	echo "$1" >&"$SAY"
	wait_for_line "$T/heard" "^$1\$"
}

@test "README, step by step: build, install, ports, firewall, first knock" {
	local ip knock ports

	need nc socat
	bg "$S" socat TCP6-LISTEN:22,fork,reuseaddr,ipv6only=0 EXEC:cat
	until_true "$WAIT" listens "$S" tcp 22

	# 1. only what it says is there; no warning
	step 1 | type_in
	refute grep -i 'warning\|error' "$T/typed"
	matches "$(in_m knockd -V)" '^knockd [0-9]'
	is "$(in_m stat -c %a /etc/knockd.conf)" 600

	# 2. ports of one's own; what -t then still says is no surprise
	ports=$(in_m knock --generate 4 | sed -n 's/^sequence = //p')
	matches "$ports" '^[0-9]+(,[0-9]+){3}$'
	in_m sed -i "s/7000,8000,9000/$ports/
		s/9000,8000,7000/$(tr , '\n' <<<"$ports" | tac | paste -sd,)/" \
		/etc/knockd.conf
	step 2 | sed '/^knock --generate/d; /^sudoedit/d' | type_in
	grep -qi "^sequence = $ports" "$T/typed"
	refute grep 'warning.*manuals\|warning.*read this\|No such file' "$T/typed"

	# 3. a session from before stays
	mkfifo "$T/say"
	exec {SAY}<>"$T/say"
	# shellcheck disable=SC2217
	bg "$A" socat - TCP:10.77.0.1:22 <"$T/say" >"$T/heard"
	session_lives one
	step 3 | sed 's/sleep 600/exec 3>\&-; sleep 600/' | type_in
	matches "$(<"$T/typed")" 'way back: [0-9]+'
	session_lives two
	for ip in 10.77.0.1 fd77::1; do reaches_not a "$ip"; done

	# 4.
	is "$(step 4)" 'knockd -v'
	nsenter -t "$S" -m -n -r -w -- chroot "$M" env -i PATH=/usr/local/sbin:/bin \
		knockd -v >"$T/out" 2>"$T/err" </dev/null 3>&- &
	# shellcheck disable=SC2034 # stop_knockd takes it
	PID=$!
	wait_for_line "$T/out" '^listening on'

	# 5. with the clone's knock, which is copied to the client; both families
	cp "$M/src/knock" "$T/knock" 2>/dev/null || in_m cat knock >"$T/knock"
	chmod 755 "$T/knock"
	for ip in 10.77.0.1 fd77::1; do
		knock=$(step 5 | sed -n 's/^knock HOST \([0-9 ]*\)\(-d [0-9]*\).*/\2/p' |
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
	refute grep 'status code' "$T/out"
	session_lives three
	stop_knockd

	# the way back opens port 22 again
	step 3 | sed -n 's/^nohup sh -c .sleep 600; \(.*\). > .*/\1/p' | type_in
	for ip in 10.77.0.1 fd77::1; do reaches a "$ip"; done
}

# section HEADING: the commands in a section of docs/from-0.8.md.
section() {
	awk -v want="## $1" '/^## / { on = $0 == want }
		on && /^    / { print substr($0, 5) }' "$ROOT/docs/from-0.8.md" |
		sed 's/^sudo //; s/ sudo / /g'
}

# opened VERSION: a knock was the last to be answered by that one.
opened() {
	in_m tail -n 1 /opened 2>/dev/null | grep -q "^10.77.0.2 knockd $1"
}

# works VERSION: that version runs and opens for A's knock. 0.8 does not say when it
# listens.
works() {
	local end=$((SECONDS + WAIT))

	until opened "$1"; do
		[ "$SECONDS" -le "$end" ] || { echo "$1 did not open"; return 1; }
		knock_a 10.77.0.1 7001 8001 9001
		until_true 1 opened "$1" || :
	done
}

no_daemons() {
	[ -z "$(pids_in "$S" knockd)" ]
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
	local f

	for f in "$ROOT"/build/debs/knockd_0.8*.deb; do
		[ -e "$f" ] || skip "no Debian package of knockd 0.8 in build/debs"
		in_s cp "$f" "$M/knockd-0.8.deb"
	done
	in_m dpkg -i /knockd-0.8.deb >"$T/dpkg" 2>&1 || { cat "$T/dpkg"; return 1; }
	in_m sh -c 'cat >/etc/knockd.conf; echo "KNOCKD_OPTS=\"-i eth0\"" >/etc/default/knockd' \
		<<-'EOF'
	[options]
		UseSyslog
	[door]
		sequence    = 7001,8001,9001
		seq_timeout = 15
		tcpflags    = syn
		command     = echo %IP% $(/usr/sbin/knockd -V | head -n 1) >> /opened
	EOF
	in_m sh -c 'cd /etc && md5sum knockd.conf default/knockd init.d/knockd' >"$T/etc"
	# shellcheck disable=SC2016
	in_m sed -n 's/^ExecStart=//p' /lib/systemd/system/knockd.service |
		grep -qx '/usr/sbin/knockd $KNOCKD_OPTS'
	restart
	works 0.8

	in_m make -s >"$T/make" 2>&1
	section 'Over a Debian package' >"$T/commands"
	# the way with dpkg -i is in packages.bats, the unit in systemd.bats
	sed '/^make deb/d; /dpkg -i/d; /contrib\/knockd.service/,$d; /systemctl/d' \
		"$T/commands" >"$T/c"
	matches "$(<"$T/c")" 'cp -p /usr/sbin/knockd /usr/sbin/knockd-0.8'
	type_in <"$T/c"
	restart
	works "$(sed -n 's/^#define VERSION *"\(.*\)"/\1/p' "$ROOT/config.h")"

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
