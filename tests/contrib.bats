#!/usr/bin/env bats
# contrib/ and what make install installs: service files, completion, log rotation,
# and the programs that read logs. OpenRC, fail2ban and sshguard run for real.
#
# OpenRC and sshguard come from Debian's packages, which are unpacked into a
# directory of the test and never installed.

load lib

setup() {
	cd "$ROOT" || return
}

# --- service files and scripts ---------------------------------------------

@test "scripts are clean" {
	local f

	for f in contrib/knockd.init contrib/knockd.openrc contrib/knockd-log \
		contrib/fleet/knock-* contrib/*.sh; do
		[ -e "$f" ] || continue
		sh -n "$f"
	done
	bash -n contrib/knock.bash
	bash -n .ci/run
	! command -v zsh >/dev/null || zsh -n contrib/_knock
	need shellcheck
	shellcheck contrib/knockd.init contrib/knockd.openrc contrib/knockd-log \
		contrib/fleet/knock-* contrib/*.sh contrib/knock.bash .ci/run
}

@test "completion knows every option" {
	local o prog have

	for prog in knock knockd; do
		have=$(bash -c '. contrib/knock.bash
			COMP_WORDS=("$1" -) COMP_CWORD=1; "_$1"
			printf "%s\n" "${COMPREPLY[@]}"' - $prog)
		while read -r o; do
			grep -qxe "$o" <<<"$have" || { echo "bash, $prog: $o"; return 1; }
			grep -qE -e "['{,)-]${o}[][},]" contrib/_knock ||
				{ echo "zsh, $prog: $o"; return 1; }
		done < <("./$prog" --help | help_options)
	done
}

# zsh_offers LINE: what a zsh on a terminal of its own offers there.
zsh_offers() {
	timeout 60 zsh -f tests/zsh_offers.zsh "$ROOT/contrib" "$1"
}

@test "completion in a real zsh: every option, and nothing that is none" {
	local prog

	need zsh
	for prog in knock.1 knockd.8; do
		{ zsh_offers "${prog%.*} -"; zsh_offers "${prog%.*} --"; } |
			sort -u >"$T/offers"
		grep '^\.It Fl' "man/$prog" | grep -oE 'Fl [-A-Za-z0-9]+' |
			sed 's/^Fl /-/' | sort -u >"$T/options"
		diff "$T/options" "$T/offers" ||
			{ echo "$prog: <: should be offered, >: should not"; return 1; }
	done
	zsh_offers 'knockd -i ' >"$T/offers"
	for prog in any lo; do grep -qx "$prog" "$T/offers"; done
}

@test "completion offers the user's profiles" {
	mkdir -p "$T/.config"
	printf '# x\n[ home ]\nhost = h\n[work]\n' >"$T/.config/knock.conf"
	env -u XDG_CONFIG_HOME HOME="$T" bash -c '. contrib/knock.bash
		COMP_WORDS=(knock "") COMP_CWORD=1; _knock
		printf "%s\n" "${COMPREPLY[@]}"' >"$T/out"
	grep -qx work "$T/out"
	not grep -q home "$T/out"
	need zsh
	(unset XDG_CONFIG_HOME; HOME=$T zsh_offers 'knock ') >"$T/out"
	grep -qx work "$T/out"
	(HOME=/nonexistent XDG_CONFIG_HOME=$T/.config zsh_offers 'knock ') >"$T/out"
	grep -qx work "$T/out"
}

@test "completion runs nothing out of a profile" {
	mkdir -p "$T/h/.config"
	printf '[$(>$HOME/ran)]\nports 7000\n' >"$T/h/.config/knock.conf"
	# shellcheck disable=SC2016
	HOME=$T/h XDG_CONFIG_HOME='' bash --norc -c '. "$1"; COMP_WORDS=(knock ""); COMP_CWORD=1; _knock' \
		x "$ROOT/contrib/knock.bash"
	not test -e "$T/h/ran"
}

@test "the systemd unit and the drop-in are clean" {
	local d=$T/root

	need systemd-analyze
	mkdir -p "$d/etc/systemd/system/knockd.service.d" "$d/usr/sbin" "$d/bin" \
		"$d/lib" "$d/usr/lib"
	[ -d /lib/systemd/system ] || skip "no systemd units here"
	cp -r /lib/systemd "$d/lib/"
	[ -e "$d/usr/lib/systemd" ] || cp -r /lib/systemd "$d/usr/lib/"
	cp knockd "$d/usr/sbin/knockd"
	cp /bin/true "$d/bin/kill"
	cp contrib/knockd.service "$d/etc/systemd/system/"
	systemd-analyze verify --man=no --root="$d" knockd.service >"$T/v" 2>&1
	is "$(grep knockd "$T/v")" ''
	exposure "$d" >"$T/scores"
	cp contrib/knockd-tight.conf "$d/etc/systemd/system/knockd.service.d/"
	systemd-analyze verify --man=no --root="$d" knockd.service >"$T/v" 2>&1
	is "$(grep knockd "$T/v")" ''
	exposure "$d" >>"$T/scores"
	matches "$(tail -n 1 "$T/scores")" '^[0-3]\.'
	# README has the scores of one systemd; others weigh differently
	systemd-analyze --version | grep -q '^systemd 252 ' || return 0
	grep -qF "exposure $(paste -sd' ' "$T/scores" | sed 's/ / and /') by" README.md ||
		{ cat "$T/scores"; return 1; }
}

# exposure ROOT: the unit's score; the lower the better.
exposure() {
	systemd-analyze security --no-pager --offline=true --root="$1" \
		knockd.service | sed -n 's/.*level for knockd.service: \([0-9.]*\).*/\1/p'
}

@test "the logrotate file is read" {
	local logrotate=/usr/sbin/logrotate

	[ -x $logrotate ] || skip "logrotate is not installed"
	cp contrib/knockd.logrotate "$T/k"
	chmod 644 "$T/k"
	$logrotate -d -s "$T/state" "$T/k" >"$T/out" 2>&1
	not grep -i error "$T/out"
}

@test "a rotated log is reopened at the HUP that the logrotate file sends" {
	local logrotate=/usr/sbin/logrotate

	[ -x $logrotate ] || skip "logrotate is not installed"
	net_up
	conf <<<''
	in_s "$KNOCKD" -d -i eth0 -c "$T/knockd.conf" -p "$T/k.pid" 3>&-
	[ -s "$T/k.pid" ]
	sed "s,/var/log/knockd.log,$LOG,; s,/var/run/knockd.pid,$T/k.pid,
		s,/run/systemd/system,/nonexistent," contrib/knockd.logrotate >"$T/k"
	chmod 644 "$T/k"
	$logrotate -f -s "$T/state" "$T/k"
	mark
	[ -s "$LOG.1" ]
	PID=$(<"$T/k.pid")
	kill "$PID"
	until_true "$WAIT" gone "$PID"
}

@test "the init script starts, reloads and stops, if START_KNOCKD is 1" {
	net_up
	conf <<<''
	in_s cp "$KNOCKD" /run/knockd
	printf '%s\n' "KNOCKD_OPTS='-c $T/knockd.conf -p $T/k.pid -i eth0'" \
		"PIDFILE=$T/k.pid" >"$T/defaults"
	script() {
		in_s env DAEMON=/run/knockd DEFAULTS="$T/defaults" \
			sh "$ROOT/contrib/knockd.init" "$@" 3>&-
	}
	run script start
	is "$status $output" "0 knockd is not started: $T/defaults does not say START_KNOCKD=1"
	run script status
	is "$status" 3
	echo START_KNOCKD=1 >>"$T/defaults"
	script start
	script status
	run script start
	matches "$output" 'already'
	mark
	script reload
	logged 're-reading config file'
	mark
	script restart
	mark
	# a configuration with errors: no restart, the old one goes on
	cp "$T/knockd.conf" "$T/good"
	echo 'no such word' >>"$T/knockd.conf"
	script status >"$T/before"
	run script restart
	is "$status" 1
	script status | diff "$T/before" -
	mark
	cp "$T/good" "$T/knockd.conf"
	script stop
	run script status
	is "$status" 3
	[ ! -e "$T/k.pid" ]
	run script nonsense
	is "$status" 2
}

@test "the OpenRC script gives the right command line" {
	# OpenRC itself is not needed: its variables and functions are.
	# shellcheck disable=SC2016
	run env -u KNOCKD sh -c '. contrib/knockd.openrc; echo "$command $command_args"' </dev/null
	matches "$output" '^/usr/sbin/knockd -d'
	run sh -c 'eerror() { echo "$@"; }; . contrib/knockd.openrc
		START_KNOCKD=0; start_pre'
	is "$status" 1
	matches "$output" disabled
	run sh -c 'checkpath() { echo "made: $*"; }
		KNOCKD=./knockd OPTS="-c knockd.conf.example"
		. contrib/knockd.openrc; start_pre'
	is "$status" 0
	matches "$output" 'made: -d -m 0700 /var/lib/knockd'
}

# debian PACKAGE...: their files are in build/debs, or are fetched there.
debian() {
	local p

	mkdir -p "$ROOT/build/debs"
	for p; do
		! compgen -G "$ROOT/build/debs/${p}_*.deb" >/dev/null || continue
		(cd "$ROOT/build/debs" && timeout 120 apt-get -q download "$p") \
			>"$T/apt" 2>&1 || skip "Debian's package $p is not to be had here"
	done
}

# unpack PACKAGE... DIRECTORY: links to directories there are followed.
unpack() {
	local p

	for p in "${@:1:$#-1}"; do
		dpkg-deb --fsys-tarfile "$ROOT"/build/debs/"$p"_*.deb |
			in_s tar -x --keep-directory-symlink -C "${!#}"
	done
}

# rc COMMAND: the script's, as a runlevel would call it; no other service.
rc() {
	in_m timeout 60 /etc/init.d/knockd -D "$@" </dev/null
}

@test "OpenRC runs its script: start, status, reload, restart, stop" {
	local d pid

	need dpkg-deb apt-get
	net_up
	debian openrc librc1 libeinfo1
	copy_of_machine /
	unpack openrc librc1 libeinfo1 "$M"
	in_m find /etc/init.d -type f -delete
	# what the boot would have made
	for d in starting started stopping inactive wasinactive failed \
		hotplugged daemons options exclusive scheduled tmp; do
		in_m mkdir -p "/run/openrc/$d"
	done
	in_m touch /run/openrc/softlevel
	in_s install -m 755 "$ROOT/contrib/knockd.openrc" "$M/etc/init.d/knockd"
	in_s install -m 755 "$KNOCKD" "$M/usr/sbin/knockd"
	conf <<<''
	in_s install -m 600 "$T/knockd.conf" "$M/etc/knockd.conf"
	in_m sh -c 'printf "%s\n" START_KNOCKD=0 "KNOCKD_OPTS=\"-i eth0\"" \
		> /etc/default/knockd'
	LOG=$T/rc.log
	in_m sed -i 's,logfile = .*,logfile = /run/knockd.log,' /etc/knockd.conf
	ln -s "/proc/$S/root/run/knockd.log" "$LOG"

	# as in /etc/default/knockd
	run rc start
	is "$status" 1
	matches "$output" 'disabled in /etc/default/knockd'
	in_m sed -i s/=0/=1/ /etc/default/knockd

	rc start
	pid=$(in_m cat /run/knockd.pid)
	running "$pid"
	mark
	rc status
	rc reload
	logged 're-reading config file'
	mark
	is "$(in_m cat /run/knockd.pid)" "$pid"
	rc restart
	mark
	not running "$pid"
	# a configuration with errors: no restart, the old one goes on
	pid=$(in_m cat /run/knockd.pid)
	in_m sh -c 'cp /etc/knockd.conf /good; echo no such word >> /etc/knockd.conf'
	rc restart >"$T/out" 2>&1 || :
	grep -q "no '=' in 'no'" "$T/out"
	running "$pid"
	mark
	in_m cp /good /etc/knockd.conf
	rc stop
	run rc status
	is "$status" 3
	until_true "$WAIT" no_daemon_left
	# with such a file it does not start at all
	in_m sh -c 'echo no such word >> /etc/knockd.conf'
	run rc start
	[ "$status" != 0 ]
	until_true "$WAIT" no_daemon_left
}

@test "install and uninstall, with an existing knockd.conf left alone" {
	local d=$T/dest f

	make install DESTDIR="$d" PREFIX=/usr SYSCONFDIR=/etc INIT=systemd >/dev/null
	[ -x "$d/usr/sbin/knockd" ]
	[ -x "$d/usr/bin/knock" ]
	[ -s "$d/usr/share/man/man8/knockd.8" ]
	[ -s "$d/usr/share/man/man5/knockd.conf.5" ]
	[ -s "$d/usr/share/man/man1/knock.1" ]
	cmp knockd.conf.example "$d/etc/knockd.conf"
	is "$(stat -c %a "$d/etc/knockd.conf")" 600
	echo mine >"$d/etc/knockd.conf"
	make install DESTDIR="$d" PREFIX=/usr SYSCONFDIR=/etc INIT=systemd >/dev/null
	is "$(<"$d/etc/knockd.conf")" mine
	grep -qx 'ExecStart=/usr/sbin/knockd $KNOCKD_OPTS' \
		"$d/usr/lib/systemd/system/knockd.service"
	[ -x "$d/usr/bin/knockd-log" ]
	for f in bash-completion/completions/knock zsh/site-functions/_knock; do
		[ -s "$d/usr/share/$f" ]
	done
	[ "$d/usr/share/bash-completion/completions/knockd" -ef \
		"$d/usr/share/bash-completion/completions/knock" ]
	make uninstall DESTDIR="$d" PREFIX=/usr SYSCONFDIR=/etc INIT=systemd >/dev/null
	is "$(find "$d" ! -type d | sed "s,$d,,")" /etc/knockd.conf
	is "$(<"$d/etc/knockd.conf")" mine
}

# --- reading the log --------------------------------------------------------

@test "knockd-log says who opened what when" {
	printf '%s\n' \
		'[2026-11-23 15:04] starting up, listening on eth0' \
		'[2026-11-23 15:04] 192.0.2.7: openSSH: Stage 1' \
		'[2026-11-23 15:05] 192.0.2.7: openSSH: OPEN SESAME' \
		'[2026-11-23 15:05] openSSH: running command: true' \
		'[2026-11-23 15:06] openSSH: command returned non-zero status code (1)' \
		'Nov 23 15:07:05 host knockd: 2001:db8::1: openSSH: OPEN SESAME' \
		'2026-11-23T15:08:05+0000 host knockd[12]: 192.0.2.7: closeSSH: CLOSE SESAME' \
		'192.0.2.8 (a.example): x: hello' \
		'[2026-11-23 15:09] openSSH: 192.0.2.9: openSSH: OPEN SESAME' \
		'[2026-11-23 15:09] dead: x: OPEN SESAME' \
		'[2026-11-23 15:09] openSSH: OPEN SESAME' \
		'Nov 23 15:07:09 host knockd: openSSH: it said: OPEN SESAME' \
		'openSSH: Nov 23 15:07:09 host knockd: 192.0.2.9: x: OPEN SESAME' \
		'Nov 23 15:07:10 host daemon.notice knockd: 192.0.2.7: a: b: OPEN SESAME' >"$T/l"
	contrib/knockd-log -m hello "$T/l" >"$T/out"
	diff "$T/out" - <<-EOF
	2026-11-23 15:05 192.0.2.7 openSSH OPEN SESAME
	2026-11-23 15:06 - openSSH command returned non-zero status code (1)
	Nov 23 15:07:05 2001:db8::1 openSSH OPEN SESAME
	2026-11-23T15:08:05+0000 192.0.2.7 closeSSH CLOSE SESAME
	- 192.0.2.8 (a.example) x hello
	Nov 23 15:07:10 host 192.0.2.7 a: b OPEN SESAME
	EOF
	need busybox
	mkdir "$T/bin"
	ln -s "$(command -v busybox)" "$T/bin/awk"
	PATH=$T/bin:$PATH contrib/knockd-log -m hello "$T/l" | diff - "$T/out"
}

@test "knockd-log reads the log of a real knock" {
	net_up
	printf '%s\n' '[a door]' ' sequence = 4001,4004,4002' ' tcpflags = syn' \
		' command = false' | conf
	start
	knock_a 10.77.0.1 4001 4004 4002
	logged 'status code'
	contrib/knockd-log "$LOG" >"$T/out"
	grep -qE '^[0-9-]+ [0-9:]+ 10.77.0.2 a door OPEN SESAME$' "$T/out"
	grep -qE 'a door command returned non-zero status code \(1\)$' "$T/out"
	stop_knockd
}

# --- fail2ban and sshguard -----------------------------------------------------

@test "the fail2ban filter finds knocks that ran out of time, nothing else" {
	need fail2ban-regex
	net_up
	printf '%s\n' '[a]' ' sequence = 4001,4004,4002' ' tcpflags = syn' \
		' seq_timeout = 3' '[b]' ' sequence = 4010,4011' ' tcpflags = syn' |
		conf
	start
	knock_a 10.77.0.1 4001 4004
	logged 'sequence timeout \(stage 2\)'
	knock_a fd77::1 4001
	logged 'sequence timeout \(stage 1\)'
	knock_a 10.77.0.1 4010 4011
	logged 'b: OPEN SESAME'
	stop_knockd
	fail2ban-regex "$LOG" "$ROOT/contrib/fail2ban-knockd.conf" >"$T/out"
	grep -qE '^Failregex: 2 total' "$T/out"
	grep -qE ', 2 matched,' "$T/out"
	grep -q 'Date template hits' "$T/out"
}

# as_syslog NAME: the lines on standard input as /var/log/syslog has them.
as_syslog() {
	awk -v name="$1" -v time="$(LC_ALL=C date '+%b %e %T')" \
		'{ sub(/\r$/, ""); print time " host " name "[4711]: " $0 }'
}

# found FILTER FILE: how many lines fail2ban's filter takes for attacks.
found() {
	fail2ban-regex "$2" "$1" 2>/dev/null |
		sed -n 's/^Lines: .*[, ]\([0-9]*\) matched.*/\1/p'
}

# guard FILE: sshguard's word on each line that it takes for an attack.
guard() {
	"$T/sshguard/usr/libexec/sshguard/sshg-parser" <"$1"
}

# a log with all that strangers and friends cause
log_of_knocks() {
	net_up
	printf '%s\n' '[openSSH]' ' sequence = 4001,4004,4002' ' tcpflags = syn' \
		' seq_timeout = 3' ' command = false' | conf
	start
	knock_a 10.77.0.1 4001 4004 4002
	logged 'status code'
	knock_a fd77::1 4001 4004 4002
	logged 'status code' 2
	knock_a 10.77.0.1 4001 4004
	logged 'sequence timeout'
	for _ in {1..40}; do knock_b 10.77.0.1 4001; done
	mark
	stop_knockd
	log_text | as_syslog knockd
}

# Failed password of a real sshd: what a filter must find, so that nothing found
# means something.
control() {
	echo 'Failed password for root from 192.0.2.1 port 40000 ssh2' | as_syslog sshd
}

@test "no filter of fail2ban takes knockd's log for an attack" {
	local f

	need fail2ban-regex
	log_of_knocks >"$T/l"
	control >"$T/c"
	is "$(found sshd "$T/c")" 1
	[ "$(wc -l <"$T/l")" -ge 10 ]
	export -f found
	# shellcheck disable=SC2016
	grep -l '^failregex' /etc/fail2ban/filter.d/*.conf |
		xargs -P 4 -I F bash -c \
			'echo "$(found "$1" "$2") $1"' - F "$T/l" >"$T/found"
	[ "$(wc -l <"$T/found")" -ge 50 ]
	not grep -E '^[1-9]' "$T/found"
	for f in ddos aggressive; do is "$(found "sshd[mode=$f]" "$T/l")" 0; done
}

@test "sshguard does not take knockd's log for an attack" {
	debian sshguard
	mkdir "$T/sshguard"
	dpkg-deb -x "$ROOT"/build/debs/sshguard_*.deb "$T/sshguard"
	control >"$T/c"
	guard "$T/c" | grep -q 192.0.2.1
	log_of_knocks >"$T/l"
	guard "$T/l" >"$T/found"
	is "$(cat "$T/found")" ''
}

# The listening sshd is the only one.
session_over() {
	[ "$(pids_in "$S" sshd | wc -l)" = 1 ]
}

@test "a knock, then ssh: what sshd logs of it is no attack; -w is one to strict jails" {
	local before

	need fail2ban-regex
	net_up
	start_sshd

	knock_a 10.77.0.1 4001 4004 4002
	in_a ssh -F "$T/ssh_config" \
		-o ProxyCommand="$KNOCK -W %p %h 4001 4004 4002" 10.77.0.1 true
	wait_for_line "$T/sshd" 'Accepted publickey'
	until_true "$WAIT" session_over
	as_syslog sshd <"$T/sshd" >"$T/l"
	is "$(found sshd "$T/l")" 0
	is "$(found 'sshd[mode=aggressive]' "$T/l")" 0
	debian sshguard
	mkdir "$T/sshguard"
	dpkg-deb -x "$ROOT"/build/debs/sshguard_*.deb "$T/sshguard"
	is "$(guard "$T/l")" ''

	# -w connects and says nothing: knock(1) and fail2ban-knockd.conf warn
	before=$(wc -l <"$T/sshd")
	knock_a -w 22 10.77.0.1 4001 4004 4002
	wait_for_line "$T/sshd" 'Connection closed by 10.77.0.2'
	tail -n +$((before + 1)) "$T/sshd" | as_syslog sshd >"$T/l"
	is "$(found sshd "$T/l")" 0
	[ "$(found 'sshd[mode=aggressive]' "$T/l")" -ge 1 ]
}
