#!/usr/bin/env bats
# The programs that stand beside knockd on a host, each for real: OpenRC runs its
# script; fail2ban and sshguard read its log and that of an sshd behind a knock.
#
# OpenRC and sshguard come from Debian's packages, which are unpacked into a
# directory of the test and never installed.

load lib

M=''

setup() {
	net_up
}

refute() {
	! "$@"
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

# --- OpenRC ---------------------------------------------------------------

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
}

in_m() {
	in_s chroot "$M" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin "$@" 3>&-
}

# rc COMMAND: the script's, as a runlevel would call it; no other service.
rc() {
	in_m timeout 60 /etc/init.d/knockd -D "$@" </dev/null
}

@test "OpenRC runs its script: start, status, reload, restart, stop" {
	local d pid

	need dpkg-deb apt-get
	debian openrc librc1 libeinfo1
	copy_of_machine
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
	refute running "$pid"
	# a configuration with errors: no restart, the old one goes on
	pid=$(in_m cat /run/knockd.pid)
	in_m sh -c 'cp /etc/knockd.conf /good; echo no such word >> /etc/knockd.conf'
	rc restart >"$T/out" 2>&1 || :
	grep -q 'no such word' "$T/out"
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

# --- fail2ban and sshguard -----------------------------------------------------

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
	printf '%s\n' '[openSSH]' ' sequence = 4001,4004,4002' ' tcpflags = syn' \
		' seq_timeout = 1' ' command = false' | conf
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
	refute grep -E '^[1-9]' "$T/found"
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
	local before ssh

	need sshd ssh ssh-keygen fail2ban-regex
	ssh=$(command -v sshd)
	ssh-keygen -q -t ed25519 -N '' -f "$T/hostkey"
	ssh-keygen -q -t ed25519 -N '' -f "$T/key"
	in_s sed -i 's/^root:[^:]*:/root:*:/' /etc/shadow
	printf '%s\n' "HostKey $T/hostkey" "AuthorizedKeysFile $T/key.pub" \
		'PermitRootLogin yes' 'StrictModes no' 'PidFile none' 'UseDNS no' \
		>"$T/sshd_config"
	in_s "$ssh" -D -e -f "$T/sshd_config" 2>"$T/sshd" 3>&- &
	until_true "$WAIT" listens "$S" tcp 22

	knock_a 10.77.0.1 4001 4004 4002
	in_a ssh -F none -i "$T/key" -o BatchMode=yes -o LogLevel=ERROR \
		-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null \
		-o ProxyCommand="$KNOCK -W %p %h 4001 4004 4002" root@10.77.0.1 true
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
