#!/usr/bin/env bats
# What users of knockd 0.8 rely on: options, files, log lines, the matcher, and
# the bugs of 0.8 that must not come back.

load lib

# as_nobody COMMAND...: without any privilege, in S.
as_nobody() {
	need setpriv
	in_s setpriv --reuid=65534 --regid=65534 --clear-groups --inh-caps=-all -- "$@"
}

# --- the command line --------------------------------------------------------

@test "-h, -V and their long forms: on standard output, exit 0, no privilege needed" {
	local o

	copy_for_all
	for o in -h --help --hel -V --version --vers; do
		as_nobody "$T/copy" "$o" >"$T/o" 2>"$T/e"
		is "$(cat "$T/e")" ''
		case $o in
		-V | --v*) matches "$(head -n 1 "$T/o")" '^knockd [0-9]+\.[0-9]' ;;
		*) matches "$(head -n 1 "$T/o")" '^usage: knockd ' ;;
		esac
	done
}

@test "-h names every option, long and short" {
	local o

	in_s "$KNOCKD" -h >"$T/o"
	for o in i/interface d/daemon c/config D/debug l/lookup p/pidfile g/logfile \
		v/verbose 4/only-ip-v4 V/version h/help t/test; do
		grep -qE -- "-${o%/*}, --${o#*/}\\b" "$T/o" || { echo "missing: $o"; return 1; }
	done
}

@test "an unknown option, a missing argument, an operand: standard error, exit 1" {
	local rc

	conf </dev/null
	for args in -x --nonsense --interface -c "-t -c $T/knockd.conf stray" --p; do
		rc=0
		# shellcheck disable=SC2086
		in_s "$KNOCKD" $args >"$T/o" 2>"$T/e" || rc=$?
		is "$args: $rc" "$args: 1"
		[ -s "$T/e" ] || { echo "$args: nothing said"; return 1; }
		is "$(cat "$T/o")" ''
	done
	in_s "$KNOCKD" --nonsense 2>"$T/e" || :
	grep -q '^usage: knockd' "$T/e"
}

@test "all options in their long forms" {
	printf '[d]\nsequence = 7000\n' >"$T/other.conf"
	launch --interface eth0 --config "$T/other.conf" --pidfile "$T/other.pid" \
		--logfile "$T/log" --verbose --debug --lookup --only-ip-v4
	logged "$READY"
	knock_a 10.77.0.1 7000
	logged 'd: OPEN SESAME'
	wait_for_line "$T/out" 'd: OPEN SESAME'
	stop_knockd
}

@test "all options in abbreviated forms, with = and without" {
	printf '[d]\nsequence = 7000\n' >"$T/other.conf"
	launch --int=eth0 --con="$T/other.conf" --pid "$T/other.pid" --log="$T/log" \
		--verb --deb --look --only
	logged "$READY"
	knock_a 10.77.0.1 7000
	logged 'd: OPEN SESAME'
	stop_knockd
}

@test "-i beats Interface" {
	printf '[options]\ninterface = nosuch0\nlogfile = %s\n[d]\nsequence = 7000\n' \
		"$LOG" >"$T/knockd.conf"
	start
	logged "listening on eth0\$"
	knock_a 10.77.0.1 7000
	logged 'd: OPEN SESAME'
	stop_knockd
}

@test "Interface counts when there is no -i" {
	printf '[options]\nInterface = eth0\nlogfile = %s\n[d]\nsequence = 7000\n' \
		"$LOG" >"$T/knockd.conf"
	start_knockd
	logged "listening on eth0\$"
	stop_knockd
}

@test "LogFile beats -g; -g counts without LogFile" {
	conf </dev/null
	start -g "$T/other.log"
	logged "$READY"
	[ ! -e "$T/other.log" ]
	stop_knockd
	LOG=$T/other.log
	echo '[d]
	sequence = 7000' >"$T/knockd.conf"
	start -g "$LOG"
	logged "$READY"
	stop_knockd
}

@test "PidFile beats -p; -p counts without PidFile" {
	conf <<-EOF2
	[options]
	pidfile = $T/file.pid
	EOF2
	in_s "$KNOCKD" -d -i eth0 -c "$T/knockd.conf" -p "$T/option.pid" 3>&-
	until_true "$WAIT" test -s "$T/file.pid"
	[ ! -e "$T/option.pid" ]
	PID=$(cat "$T/file.pid")
	kill "$PID"
	until_true "$WAIT" no_daemon_left
	conf </dev/null
	in_s "$KNOCKD" -d -i eth0 -c "$T/knockd.conf" -p "$T/option.pid" 3>&-
	until_true "$WAIT" test -s "$T/option.pid"
	kill "$(cat "$T/option.pid")"
	until_true "$WAIT" no_daemon_left
}

@test "an empty -i, Interface, LogFile or PidFile is none, as if not given" {
	conf <<-EOF2
	[d]
	sequence = 7000
	EOF2
	start_knockd -i ''
	knock_a 10.77.0.1 7000
	logged ' d: OPEN SESAME'
	stop_knockd
	printf '[options]\ninterface =\nlogfile = \npidfile =\n[d]\nsequence = 7000\n' \
		>"$T/knockd.conf"
	start_knockd -g "$LOG"
	knock_a 10.77.0.1 7000
	logged ' d: OPEN SESAME' 2
	stop_knockd
}

@test "a configuration from a descriptor, as in 0.8" {
	conf </dev/null
	export T KNOCKD
	# shellcheck disable=SC2016
	in_s bash -c '"$KNOCKD" -t -c <(cat "$T/knockd.conf")'
}

# --- detaching, pidfile, exit status -------------------------------------------

@test "-d returns when everything is ready, with a pidfile, a session of its own, in /" {
	conf <<-EOF2
	[d]
	sequence = 7000
	command = pwd >> $T/did
	EOF2
	in_s bash -c "cd $T && exec $KNOCKD -d -i eth0 -c $T/knockd.conf -p $T/k.pid" \
		</dev/null >"$T/out" 2>"$T/err" 3>&-
	# At once, without waiting.
	matches "$(cat "$T/k.pid")" '^[0-9]+$'
	has_lines "$LOG" "$READY" 1
	PID=$(cat "$T/k.pid")
	is "$(cat "/proc/$PID/comm")" "$(basename "$KNOCKD")"
	is "$(readlink "/proc/$PID/cwd")" /
	is "$(readlink "/proc/$PID/fd/0") $(readlink "/proc/$PID/fd/1") $(readlink "/proc/$PID/fd/2")" \
		"/dev/null /dev/null /dev/null"
	is "$(sed 's/.*) //' "/proc/$PID/stat" | cut -d' ' -f4)" "$PID"
	is "$(cat "$T/out" "$T/err")" ''
	knock_a 10.77.0.1 7000
	did /
	kill "$PID"
	until_true "$WAIT" no_daemon_left
	[ ! -e "$T/k.pid" ]
}

@test "without -d there is no pidfile" {
	conf </dev/null
	start
	[ ! -e "$T/k.pid" ]
	stop_knockd
}

@test "-d: every error of the start comes before detaching, with exit status 1" {
	local what rc

	conf </dev/null
	cp "$T/knockd.conf" "$T/good"
	for what in config interface nofile; do
		cp "$T/good" "$T/c"
		set -- -i eth0 -c "$T/c" -p "$T/k.pid"
		case $what in
		config) printf '[d]\nsequence = 70000\n' >>"$T/c" ;;
		interface) set -- -i nosuch0 -c "$T/c" -p "$T/k.pid" ;;
		nofile) rm "$T/c" ;;
		esac
		rc=0
		in_s "$KNOCKD" -d "$@" >"$T/o" 2>"$T/e" 3>&- || rc=$?
		is "$what: $rc" "$what: 1"
		[ -s "$T/e" ] || { echo "$what: nothing said"; return 1; }
		no_daemon_left
		[ ! -e "$T/k.pid" ]
	done
}

@test "-d: a pidfile or a log file that cannot be written ends the start" {
	local rc=0

	conf </dev/null
	in_s "$KNOCKD" -d -i eth0 -c "$T/knockd.conf" -p "$T/no/such/k.pid" >"$T/o" 2>"$T/e" 3>&- || rc=$?
	is "$rc" 1
	grep -q "could not create pid file $T/no/such/k.pid: No such file" "$T/e"
	no_daemon_left
	echo '[d]
	sequence = 7000' >"$T/knockd.conf"
	rc=0
	in_s "$KNOCKD" -d -i eth0 -c "$T/knockd.conf" -p "$T/k.pid" -g "$T/no/such/log" >"$T/o" 2>"$T/e" 3>&- || rc=$?
	is "$rc" 1
	grep -q "could not open log file $T/no/such/log: No such file" "$T/e"
	no_daemon_left
	[ ! -e "$T/k.pid" ]
	# Without -d there is standard error.
	start -g "$T/no/such/log"
	grep -q "could not open log file" "$T/err"
	stop_knockd
}

@test "-d: the default pidfile is no hindrance where it cannot be written, as for an ordinary user" {
	conf </dev/null
	in_s mount -t tmpfs -o ro none /run
	in_s "$KNOCKD" -d -i eth0 -c "$T/knockd.conf" >"$T/o" 2>"$T/e" 3>&-
	grep -q "could not create pid file /var/run/knockd.pid: Read-only" "$T/e"
	mark
	kill "$(pids_in "$S" "$(basename "$KNOCKD")" | sort -n | head -n 1)"
	until_true "$WAIT" no_daemon_left
}

@test "no such interface: an error that lists those there are, exit 1" {
	conf </dev/null
	in_s ip link add other0 type veth peer name other1
	launch -i nosuch0
	ended "$PID" 1
	grep nosuch0 "$T/err" | grep eth0 | grep -q other0
}

@test "no CAP_NET_RAW: says so, exit 1, also with -d" {
	local o rc

	echo '[d]
	sequence = 7000' >"$T/knockd.conf"
	chmod 644 "$T/knockd.conf"
	copy_for_all
	for o in -v -d; do
		rc=0
		as_nobody "$T/copy" $o -i eth0 -c "$T/knockd.conf" -p /run/lock/k.pid \
			>"$T/o" 2>"$T/e" 3>&- || rc=$?
		is "$o: $rc" "$o: 1"
		grep -q '^knockd: .*needs CAP_NET_RAW' "$T/e"
		no_daemon_left
	done
	# root without it, as in a tight container
	rc=0
	in_s setpriv --bounding-set=-net_raw --inh-caps=-net_raw -- \
		"$T/copy" -i eth0 -c "$T/knockd.conf" >"$T/o" 2>"$T/e" || rc=$?
	is "$rc" 1
	grep -q '^knockd: .*needs CAP_NET_RAW' "$T/e"
}

@test "SIGTERM and SIGINT: exit 0, 'shutting down' in the log" {
	conf </dev/null
	start
	stop_knockd TERM
	is "$(count "$LOG" 'shutting down$')" 1
	start
	stop_knockd INT
	is "$(count "$LOG" 'shutting down$')" 2
}

@test "a second daemon on the same pidfile is refused and leaves the first alone" {
	local first rc=0

	conf </dev/null
	in_s "$KNOCKD" -d -i eth0 -c "$T/knockd.conf" -p "$T/k.pid" 3>&-
	first=$(cat "$T/k.pid")
	in_s "$KNOCKD" -d -i eth0 -c "$T/knockd.conf" -p "$T/k.pid" >"$T/o" 2>"$T/e" 3>&- || rc=$?
	is "$rc" 1
	grep -qx "knockd: another knockd runs with pid file $T/k.pid: give this one its own (-p)" "$T/e"
	is "$(cat "$T/k.pid")" "$first"
	mark
	kill "$first"
	until_true "$WAIT" no_daemon_left
	[ ! -e "$T/k.pid" ]
}

# Whoever may read a file can lock it, with flock(2) or for reading.
@test "a reader's lock on the pidfile keeps no daemon from starting" {
	local how

	need python3
	conf </dev/null
	for how in 'fcntl.flock(f, fcntl.LOCK_EX)' 'fcntl.lockf(f, fcntl.LOCK_SH)'; do
		echo 1 >"$T/k.pid"
		: >"$T/locked"
		bg "$S" python3 -c "
import fcntl, time
f = open('$T/k.pid')
$how
print('yes', file=open('$T/locked', 'w'), flush=True)
time.sleep(600)"
		locker=$!
		until_true "$WAIT" test -s "$T/locked"
		in_s "$KNOCKD" -d -i eth0 -c "$T/knockd.conf" -p "$T/k.pid" 3>&-
		mark
		kill "$(cat "$T/k.pid")"
		until_true "$WAIT" no_daemon_left
		kill "$locker"
		wait "$locker" || :
	done
}

@test "two daemons with pidfiles of their own stand side by side" {
	local first

	conf </dev/null
	start
	first=$PID
	PID=''
	start_knockd -i eth0 -p "$T/k2.pid"
	in_b bash -c 'echo >/dev/udp/10.77.0.1/65000'
	logged 'mark: OPEN SESAME' 2
	kill "$first" "$PID"
	ended "$first" "$TERM_STATUS"
	ended "$PID" "$TERM_STATUS"
}

@test "a pidfile left by a crash is no hindrance; its link is not followed" {
	conf </dev/null
	echo 1 >"$T/k.pid"
	in_s "$KNOCKD" -d -i eth0 -c "$T/knockd.conf" -p "$T/k.pid" 3>&-
	PID=$(cat "$T/k.pid")
	is "$(cat "/proc/$PID/comm")" "$(basename "$KNOCKD")"
	for p in $(pids_in "$S" "$(basename "$KNOCKD")"); do kill -KILL "$p" 2>/dev/null || :; done
	until_true "$WAIT" no_daemon_left
	is "$(cat "$T/k.pid")" "$PID"
	in_s "$KNOCKD" -d -i eth0 -c "$T/knockd.conf" -p "$T/k.pid" 3>&-
	PID=$(cat "$T/k.pid")
	kill "$PID"
	until_true "$WAIT" no_daemon_left
	echo precious >"$T/victim"
	ln -s "$T/victim" "$T/link.pid"
	in_s "$KNOCKD" -d -i eth0 -c "$T/knockd.conf" -p "$T/link.pid" >"$T/o" 2>"$T/e" 3>&- || :
	is "$(cat "$T/victim")" precious
}

@test "-d under a NOTIFY_SOCKET: does not detach, says so, and writes the pidfile" {
	need socat
	conf </dev/null
	bg "$S" socat -u "UNIX-RECV:$T/notify" "CREATE:$T/notified"
	until_true "$WAIT" test -S "$T/notify"
	NOTIFY_SOCKET=$T/notify launch -d -i eth0
	wait_for_line "$T/notified" 'READY=1'
	running "$PID"
	is "$(cat "$T/k.pid")" "$PID"
	grep -qx 'knockd: warning: -d does not detach under a service manager' "$T/err"
	mark
	stop_knockd
}

@test "NOTIFY_SOCKET is told READY=1" {
	need socat
	conf </dev/null
	bg "$S" socat -u "UNIX-RECV:$T/notify" "CREATE:$T/notified"
	until_true "$WAIT" test -S "$T/notify"
	NOTIFY_SOCKET=$T/notify launch -i eth0
	wait_for_line "$T/notified" 'READY=1'
	has_lines "$LOG" "$READY" 1
	stop_knockd
}

# --- the log ---------------------------------------------------------------------

@test "the log of a door, to the letter" {
	conf <<-EOF2
	[openSSH]
	sequence      = 7000,8000,9000
	seq_timeout   = 5
	tcpflags      = syn
	start_command = echo "open %IP% %IP%" >> $T/did
	cmd_timeout   = 1
	stop_command  = echo "shut %IP%" >> $T/did
	EOF2
	start
	knock_a 10.77.0.1 7000 8000 9000
	logged 'CLOSE SESAME'
	stop_knockd
	is "$(log_text)" "starting up, listening on eth0
10.77.0.2: openSSH: Stage 1
10.77.0.2: openSSH: Stage 2
10.77.0.2: openSSH: Stage 3
10.77.0.2: openSSH: OPEN SESAME
openSSH: running command: echo \"open 10.77.0.2 10.77.0.2\" >> $T/did
10.77.0.2: openSSH: command timeout
openSSH: running command: echo \"shut 10.77.0.2\" >> $T/did
10.77.0.2: openSSH: CLOSE SESAME
shutting down"
	is "$(cat "$T/did")" "open 10.77.0.2 10.77.0.2
shut 10.77.0.2"
	is "$(cat "$T/out" "$T/err")" ''
}

@test "the log's times: local, to the minute, in square brackets" {
	local before after

	conf </dev/null
	export TZ=TST-7
	before=$(date '+%Y-%m-%d %H:%M')
	start
	stop_knockd
	after=$(date '+%Y-%m-%d %H:%M')
	while read -r line; do
		[[ $line == "[$before] "* || $line == "[$after] "* ]] || is "$line" "[$after] ..."
	done <"$LOG"
}

@test "the log is appended to, a line at a time" {
	conf <<<''
	echo before >"$LOG"
	start
	mark
	is "$(head -n 1 "$LOG")" before
	stop_knockd
	is "$(grep -c '^$' "$LOG")" 0
}

@test "a file size limit: what strangers do does not end the daemon" {
	local i

	conf <<-EOF2
	[d]
	sequence = 7000,7001
	EOF2
	: >"$T/out"; : >"$T/err"
	in_s bash -c 'ulimit -f 1; exec "$@"' x "$KNOCKD" -c "$T/knockd.conf" \
		-p "$T/k.pid" -i eth0 </dev/null >"$T/out" 2>"$T/err" 3>&- &
	PID=$!
	until_true "$WAIT" started 0
	for i in {1..25}; do knock_a -d 5 10.77.0.1 7000; knock_b -d 5 10.77.0.1 7000 7001; done
	pause 0.5
	running "$PID"
}

@test "a tab in a command is one in the log" {
	conf <<-EOF2
	[d]
	sequence = 7000
	command = true	%IP%
	EOF2
	start
	knock_a 10.77.0.1 7000
	logged $'running command: true\t10.77.0.2$'
	stop_knockd
}

@test "a sequence that takes too long: 'sequence timeout', by itself, not too early" {
	local t0 took

	conf <<-EOF2
	[d]
	sequence = 7000,8000,9000
	seq_timeout = 3
	EOF2
	start
	t0=$(uptime_ms)
	knock_a 10.77.0.1 7000 8000
	# No packet comes after these.
	logged '\] 10.77.0.2: d: sequence timeout \(stage 2\)$'
	took=$(($(uptime_ms) - t0))
	[ "$took" -ge 2990 ] || { echo "after $took ms"; return 1; }
	knock_a 10.77.0.1 9000
	mark
	not_logged 'd: OPEN SESAME'
	stop_knockd
}

@test "a knock that was completed is not followed by a timeout line" {
	conf <<-EOF2
	[d]
	sequence = 7000,8000
	seq_timeout = 3
	[later]
	sequence = 7001,8001
	seq_timeout = 3
	EOF2
	start
	knock_a 10.77.0.1 7000 8000
	logged 'd: OPEN SESAME'
	knock_a 10.77.0.1 7001
	logged 'later: sequence timeout'
	not_logged ' d: sequence timeout'
	stop_knockd
}

@test "-v prints the same on standard output" {
	conf <<-EOF2
	[d]
	sequence = 7000,8000
	command = true >> $T/did
	EOF2
	start -v
	knock_a 10.77.0.1 7000 8000
	wait_for_line "$T/out" 'd: running command'
	stop_knockd
	is "$(cat "$T/out")" "listening on eth0...
10.77.0.2: d: Stage 1
10.77.0.2: d: Stage 2
10.77.0.2: d: OPEN SESAME
d: running command: true >> $T/did
waiting for child processes...
closing..."
}

@test "-D prints the packets on standard output, with the right month" {
	conf <<-EOF2
	[d]
	sequence = 7000,8000:udp
	EOF2
	start -D -v
	knock_a 10.77.0.1 7000 8000:udp
	knock_a fd77::1 7000
	wait_for_line "$T/out" "^$(date +%Y-%m)-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}: tcp: 10.77.0.2:[0-9]+ -> 10.77.0.1:7000 [0-9]+ bytes\$"
	wait_for_line "$T/out" ": udp: 10.77.0.2:[0-9]+ -> 10.77.0.1:8000 [0-9]+ bytes\$"
	wait_for_line "$T/out" ": tcp: fd77::2:[0-9]+ -> fd77::1:7000 [0-9]+ bytes\$"
	stop_knockd
}

@test "neither log file nor syslog, not detached: the log is on standard error" {
	printf '[d]\nsequence = 7000\n' >"$T/knockd.conf"
	start
	knock_a 10.77.0.1 7000
	wait_for_line "$T/err" '^10.77.0.2: d: OPEN SESAME$'
	stop_knockd
	grep -q '^starting up, listening on eth0$' "$T/err"
}

@test "a log file that cannot be opened is a warning, as in 0.8, and no reason to stay away" {
	printf '[options]\nlogfile = %s\n[d]\nsequence = 7000\ncommand = echo open >> %s\n' \
		"$T/no/such/log" "$T/did" >"$T/knockd.conf"
	launch -i eth0 -v
	wait_for_line "$T/out" 'listening on eth0'
	grep -q "$T/no/such/log: No such file" "$T/err"
	knock_a 10.77.0.1 7000
	did open
	stop_knockd
}

# Takes what arrives at S's /dev/log; $T/syslog gets it line by line.
syslogd() {
	need socat
	in_s rm -f /dev/log
	bg "$S" socat -u UNIX-RECV:/dev/log "OPEN:$T/syslog.raw,creat,append"
	SYSLOGD=$!
	until_true "$WAIT" in_s test -S /dev/log
}

syslogged() {
	until_true "$WAIT" in_syslog "$1" && return
	echo "not in syslog: $1"
	cat "$T/syslog"
	return 1
}

in_syslog() {
	sed 's/<\([0-9]*\)>/\n<\1>/g' "$T/syslog.raw" >"$T/syslog" 2>/dev/null || return 1
	grep -qE -e "$1" "$T/syslog"
}

@test "UseSyslog, in any section and without a value; LogFile beside it" {
	syslogd
	conf <<-EOF2
	[d]
	UseSyslog
	sequence = 7000
	command = true >> $T/did
	EOF2
	start
	knock_a 10.77.0.1 7000
	syslogged "^<29>[A-Z][a-z]{2} [ 1-3][0-9] [0-9]{2}:[0-9]{2}:[0-9]{2} knockd: 10.77.0.2: d: OPEN SESAME\$"
	syslogged "^<29>.* knockd: d: running command: true >> $T/did\$"
	syslogged 'knockd: starting up, listening on eth0$'
	logged 'd: OPEN SESAME'
	stop_knockd
	syslogged 'knockd: shutting down$'
	is "$(cat "$T/err")" ''
}

@test "a syslog that is absent at the start or restarts is found again" {
	printf '[options]\nUseSyslog\n[d]\nsequence = 7000\n' >"$T/knockd.conf"
	launch -i eth0 -v
	wait_for_line "$T/out" 'listening on eth0'
	knock_a 10.77.0.1 7000
	wait_for_line "$T/out" 'OPEN SESAME'
	syslogd
	knock_a 10.77.0.1 7000
	syslogged 'd: OPEN SESAME'
	kill "$SYSLOGD"; wait "$SYSLOGD" 2>/dev/null || :
	knock_a 10.77.0.1 7000
	wait_for_line "$T/out" 'OPEN SESAME' 3
	rm "$T/syslog.raw"
	syslogd
	knock_a 10.77.0.1 7000
	syslogged 'd: OPEN SESAME'
	stop_knockd
}

@test "SIGHUP: UseSyslog comes and goes" {
	local n

	syslogd
	conf <<-EOF2
	[d]
	sequence = 7000
	EOF2
	start
	knock_a 10.77.0.1 7000
	logged ' d: OPEN SESAME'
	[ ! -s "$T/syslog.raw" ]
	sed -i '1a UseSyslog' "$T/knockd.conf"
	kill -HUP "$PID"
	knock_until ' d: OPEN SESAME' 2 10.77.0.1 7000
	syslogged 'knockd: '
	sed -i '/UseSyslog/d' "$T/knockd.conf"
	kill -HUP "$PID"
	reloaded 2
	mark
	n=$(wc -c <"$T/syslog.raw")
	mark
	is "$(wc -c <"$T/syslog.raw")" "$n"
	stop_knockd
}

# --- directives --------------------------------------------------------------------

@test "every directive, its aliases, any case, no blanks or many" {
	conf <<-EOF2
	[one]
	SEQUENCE=7000 , 7001:UDP,7002:Tcp
	Timeout=7
	TCPFLAGS= SYN
	Command=echo one %IP% >> $T/did
	Command_6=echo one6 %IP% >> $T/did
	[two]
	  	sequence	=	7100
	SEQ_TIMEOUT = 7
	start_COMMAND = echo two a=b # c >> $T/did
	CMD_timeout = 1
	Stop_Command = echo two shut >> $T/did
	EOF2
	start
	knock_a 10.77.0.1 7000 7001:udp 7002
	did 'one 10.77.0.2'
	knock_a fd77::1 7000 7001:udp 7002
	did 'one6 fd77::2'
	knock_a 10.77.0.1 7100
	logged 'two: running command: echo two a=b # c >> '
	did 'two shut'
	stop_knockd
}

@test "the last of two directives counts; tcpflags add up; two doors of one name" {
	need hping3
	conf <<-EOF2
	[d]
	sequence = 7000
	sequence = 7001
	tcpflags = syn
	tcpflags = !ack,!psh
	command = echo first >> $T/did
	command = echo second >> $T/did
	[d]
	sequence = 7001
	command = echo twin >> $T/did
	EOF2
	start
	in_a hping3 -q -c 1 -A -p 7001 10.77.0.1 >/dev/null 2>&1 || :
	did twin
	knock_a 10.77.0.1 7001
	did second
	did twin 2
	mark
	is "$(count "$T/did" second)" 1
	is "$(count "$T/did" first)" 0
	stop_knockd
}

@test "a door's name with a # in it" {
	conf <<-EOF2
	[ssh #1]   # the first
	sequence = 7000
	EOF2
	start
	knock_a 10.77.0.1 7000
	logged ' ssh #1: OPEN SESAME$'
	stop_knockd
}

@test "a file without doors starts; a door without a command logs" {
	printf '[options]\nlogfile = %s\n' "$LOG" >"$T/knockd.conf"
	start
	stop_knockd
	conf <<-EOF2
	[quiet]
	sequence = 7000
	EOF2
	start
	knock_a 10.77.0.1 7000
	logged '10.77.0.2: quiet: OPEN SESAME'
	mark
	not_logged 'quiet: running command'
	stop_knockd
}

@test "tcpflags: all set, none of those with !, others do not matter" {
	need hping3
	conf <<-EOF2
	[f]
	sequence = 7000
	tcpflags = FIN,!ack
	[s]
	sequence = 7001
	tcpflags = syn,ack
	[x]
	sequence = 7002
	tcpflags = syn,!rst,!urg
	EOF2
	start
	# A port of its own each: hping3's sequence number only changes by the second.
	hp() { in_a hping3 -q -c 1 -s $((port++)) "$@" 10.77.0.1 >/dev/null 2>&1 || :; }
	port=3000
	hp -S -p 7000; hp -F -A -p 7000; hp -A -p 7000
	hp -S -p 7001; hp -A -p 7001
	hp -S -R -p 7002; hp -S -U -p 7002; hp -S -A -p 7002
	mark
	not_logged '10.77.0.2: .: (Stage|OPEN)'
	hp -F -p 7000; logged '10.77.0.2: f: OPEN SESAME'
	hp -F -P -U -X -p 7000; logged '10.77.0.2: f: OPEN SESAME' 2
	hp -S -A -p 7001; logged '10.77.0.2: s: OPEN SESAME'
	hp -S -P -p 7002; logged '10.77.0.2: x: OPEN SESAME'
	mark
	is "$(count "$LOG" '10.77.0.2: .: OPEN')" 4
	stop_knockd
}

@test "without tcpflags any TCP packet counts" {
	need hping3
	conf <<-EOF2
	[d]
	sequence = 7000,7001,7002
	EOF2
	start
	for flags in -F:7000 -A:7001 -R:7002; do
		in_a hping3 -q -c 1 "${flags%:*}" -p "${flags#*:}" 10.77.0.1 >/dev/null 2>&1 || :
	done
	logged '10.77.0.2: d: OPEN SESAME'
	stop_knockd
}

@test "*_6 commands for IPv6, those without for both" {
	conf <<-EOF2
	[both]
	sequence = 7000
	start_command = echo start %IP% >> $T/did
	start_command_6 = echo start6 %IP% >> $T/did
	cmd_timeout = 1
	stop_command = echo stop %IP% >> $T/did
	stop_command_6 = echo stop6 %IP% >> $T/did
	[fall]
	sequence = 7001
	start_command = echo fall %IP% >> $T/did
	cmd_timeout = 1
	stop_command = echo fallstop %IP% >> $T/did
	[mixed]
	sequence = 7002
	start_command = echo mixed %IP% >> $T/did
	start_command_6 = echo mixed6 %IP% >> $T/did
	cmd_timeout = 1
	stop_command = echo mixedstop %IP% >> $T/did
	EOF2
	start
	for host in 10.77.0.1 fd77::1; do
		for port in 7000 7001 7002; do knock_a $host $port; done
	done
	did 'start 10.77.0.2'; did 'start6 fd77::2'
	did 'stop 10.77.0.2'; did 'stop6 fd77::2'
	did 'fall 10.77.0.2'; did 'fall fd77::2'
	did 'fallstop 10.77.0.2'; did 'fallstop fd77::2'
	did 'mixed 10.77.0.2'; did 'mixed6 fd77::2'
	did 'mixedstop 10.77.0.2'; did 'mixedstop fd77::2'
	is "$(wc -l <"$T/did")" 12
	stop_knockd
}

@test "an empty Start_Command_6: nothing runs for IPv6, and nothing stops" {
	conf <<-EOF2
	[d]
	sequence = 7000
	start_command = echo start %IP% >> $T/did
	start_command_6 =
	cmd_timeout = 1
	stop_command = echo stop %IP% >> $T/did
	EOF2
	start
	knock_a fd77::1 7000
	logged 'fd77::2: d: OPEN SESAME'
	knock_a 10.77.0.1 7000
	did 'stop 10.77.0.2'
	is "$(cat "$T/did")" 'start 10.77.0.2
stop 10.77.0.2'
	not_logged 'fd77::2: d: command timeout'
	stop_knockd
}

@test "Target: knocks at that address count, those at the own do not" {
	conf <<-EOF2
	[far]
	sequence = 7000,8000
	target = 10.88.0.9
	[far6]
	sequence = 7000,8000
	target = FD88:0:0::0009
	[near]
	sequence = 7001
	EOF2
	in_a ip route add 10.88.0.9 via 10.77.0.1
	in_a ip route add fd88::9 via fd77::1
	start
	knock_a 10.77.0.1 7000 8000
	knock_a fd77::1 7000 8000
	knock_a 10.88.0.9 7001
	knock_a fd88::9 7001
	mark
	not_logged 'OPEN SESAME.*far|far.*OPEN SESAME|near'
	knock_a 10.88.0.9 7000 8000
	logged '10.77.0.2: far: OPEN SESAME'
	not_logged 'far6: OPEN'
	knock_a fd88::9 7000 8000
	logged 'fd77::2: far6: OPEN SESAME'
	is "$(count "$LOG" 'far: OPEN')" 1
	stop_knockd
}

@test "an IPv4 Target on an interface that has IPv6 only" {
	in_s ip addr del 10.77.0.1/24 dev eth0
	conf <<-EOF2
	[far]
	sequence = 7000
	target = 10.88.0.9
	EOF2
	in_a ip route add 10.88.0.9 via 10.77.0.1
	start
	knock_a 10.88.0.9 7000
	logged 'far: OPEN SESAME'
	stop_knockd
}

@test "-4: IPv6 is not looked at" {
	conf <<-EOF2
	[d]
	sequence = 7000
	EOF2
	start -4
	knock_a fd77::1 7000
	mark
	not_logged 'fd77::2'
	knock_a 10.77.0.1 7000
	logged '10.77.0.2: d: OPEN SESAME'
	stop_knockd
}

@test "IPv4 and IPv6 of one client are two sources; a link-local address has no scope" {
	local ll

	conf <<-EOF2
	[d]
	sequence = 7000,8000
	command = echo got %IP% >> $T/did
	EOF2
	until_true "$WAIT" bash -c "! nsenter -t $S -n ip -6 addr show dev eth0 tentative | grep -q fe80"
	until_true "$WAIT" bash -c "! nsenter -t $A -n ip -6 addr show dev br0 tentative | grep -q fe80"
	start
	knock_a 10.77.0.1 7000
	knock_a fd77::1 8000
	mark
	not_logged ' d: OPEN'
	ll=$(in_s ip -6 -o addr show dev eth0 scope link)
	ll=${ll#*inet6 }; ll=${ll%%/*}
	knock_a "$ll%br0" 7000 8000
	did 'got fe80::[0-9a-f:]+'
	stop_knockd
}

# --- -l --------------------------------------------------------------------------------

@test "-l: names in the log" {
	conf <<-EOF2
	[d]
	sequence = 7000
	command = echo got %IP% >> $T/did
	EOF2
	in_s bash -c 'echo 10.77.0.2 client.example >>/etc/hosts'
	start -l
	named() {
		knock_a 10.77.0.1 7000
		mark
		has_lines "$LOG" '\] 10.77.0.2 \(client.example\): d: OPEN SESAME$' 1
	}
	until_true "$WAIT" named
	did 'got 10.77.0.2'
	stop_knockd
}

@test "-l: a name server that never answers delays no knock" {
	need socat
	conf <<-EOF2
	[d]
	sequence = 7000,8000
	command = echo got %IP% >> $T/did
	EOF2
	in_s bash -c 'echo nameserver 127.0.0.1 >/etc/resolv.conf
		echo options timeout:120 attempts:5 >>/etc/resolv.conf
		: >/etc/hosts; echo hosts: files dns >/etc/nsswitch.conf'
	bg "$S" socat -u UDP-RECV:53,bind=127.0.0.1 "OPEN:$T/queries,creat,append"
	until_true "$WAIT" listens "$S" udp 53
	start -l
	knock_a 10.77.0.1 7000 8000
	did 'got 10.77.0.2'
	logged '\] 10.77.0.2: d: OPEN SESAME$'
	knock_b 10.77.0.1 7000 8000
	did 'got 10.77.0.3'
	knock_a fd77::1 7000 8000
	did 'got fd77::2'
	# It was asked, so the daemon did not just not look.
	until_true "$WAIT" test -s "$T/queries"
	stop_knockd
}

# Answers any query with the name that stands in $NAME (as printf wants it).
# shellcheck disable=SC2016
ANSWER='read -r -d "" q < <(od -An -v -tx1 | tr -d " \n"); id=${q:0:4}; qs=${q:24}
	n=$(printf "$NAME" | od -An -v -tx1 | tr -d " \n"); l=$(printf %02x $((${#n} / 2)))
	rd=${l}${n}00; rl=$(printf %04x $((${#rd} / 2)))
	a=${id}81800001000100000000${qs}c00c000c00010000003c$rl$rd
	printf "$(sed "s/../\\\\x&/g" <<<"$a")"'

@test "-l: control characters in a name do not get into the log" {
	need socat od
	conf <<-EOF2
	[d]
	sequence = 7000
	EOF2
	in_s bash -c 'echo nameserver 127.0.0.1 >/etc/resolv.conf
		: >/etc/hosts; echo hosts: files dns >/etc/nsswitch.conf'
	echo "$ANSWER" >"$T/answer"
	NAME='evil\033[31m\nx: OPEN SESAME' bg "$S" socat UDP-RECVFROM:53,bind=127.0.0.1,fork \
		EXEC:"bash $T/answer"
	until_true "$WAIT" listens "$S" udp 53
	start -l
	for _ in 1 2 3 4 5; do
		knock_a 10.77.0.1 7000
		mark
	done
	is "$(LC_ALL=C tr -d '\n\040-\176' <"$LOG" | wc -c)" 0
	not_logged '^x: OPEN'
	stop_knockd
}

# --- the matcher ---------------------------------------------------------------------------

@test "doors with the same first ports run in parallel; a prefix door does not stop the longer" {
	conf <<-EOF2
	[short]
	sequence = 7000,8000
	[long]
	sequence = 7000,8000,9000
	[other]
	sequence = 7000,9000,8000
	EOF2
	start
	knock_a 10.77.0.1 7000 8000 9000
	logged 'short: OPEN SESAME'
	logged 'long: OPEN SESAME'
	knock_a 10.77.0.1 7000 9000 8000
	logged 'other: OPEN SESAME'
	is "$(count "$LOG" 'OPEN')" 3
	stop_knockd
}

@test "the same sequence in two doors opens both" {
	conf <<-EOF2
	[one]
	sequence = 1111,2222,3333
	[two]
	sequence = 1111,2222,3333
	EOF2
	start
	knock_a 10.77.0.1 1111 2222 3333
	logged 'one: OPEN SESAME'
	logged 'two: OPEN SESAME'
	stop_knockd
}

@test "repeated ports in a sequence" {
	conf <<-EOF2
	[d]
	sequence = 7000,7000,8000,7000
	[u]
	sequence = 15637:udp,15637:udp
	EOF2
	start
	knock_a 10.77.0.1 7000 7000 8000 7000
	logged ' d: OPEN SESAME'
	knock_a 10.77.0.1 15637:udp
	mark
	not_logged ' u: OPEN'
	knock_a 10.77.0.1 15637:udp
	logged ' u: OPEN SESAME'
	stop_knockd
}

pair() {
	conf <<-EOF2
	[open]
	sequence = 7000,8000,9000
	seq_timeout = 10
	tcpflags = syn
	[close]
	sequence = 9000,8000,7000
	seq_timeout = 10
	tcpflags = syn
	EOF2
}

@test "a closing knock soon after the opening one: its first port, hit again, begins anew" {
	pair
	start
	knock_a 10.77.0.1 7000 8000 9000
	logged ' open: OPEN SESAME'
	# 9000 has begun an attempt at [close], which is nearly over now.
	pause 8
	knock_a -d 1500 10.77.0.1 9000 8000 7000
	logged ' close: OPEN SESAME'
	stop_knockd
}

@test "an attempt given up, then the whole knock: its first port begins anew" {
	pair
	start
	knock_a 10.77.0.1 7000
	logged ' open: Stage 1'
	pause 8
	knock_a -d 1500 10.77.0.1 7000 8000 9000
	logged ' open: OPEN SESAME'
	stop_knockd
}

@test "a port of another door is a stray, a wrong one of its own spoils the knock" {
	conf <<-EOF2
	[d]
	sequence = 7000,8000,9000
	tcpflags = syn
	[e]
	sequence = 5000:udp,5001,5002
	tcpflags = syn
	EOF2
	start
	knock_a 10.77.0.1 7000 9000 8000 9000
	mark
	not_logged 'd: OPEN'
	knock_a 10.77.0.1 7000 8000 5001 9000
	logged 'd: OPEN SESAME'
	knock_a 10.77.0.1 7000 8000 5000:udp 9000
	logged 'd: OPEN SESAME' 2
	stop_knockd
}

@test "the right ports in the wrong order, or with the wrong protocol, open nothing" {
	conf <<-EOF2
	[d]
	sequence = 7000,8000,9000:udp
	EOF2
	start
	# 9000:udp at stage 1 ends what is half done.
	knock_a 10.77.0.1 8000 7000 9000:udp
	knock_a 10.77.0.1 7000 9000:udp 8000
	knock_a 10.77.0.1 9000:udp 8000 7000 9000:udp
	knock_a 10.77.0.1 7000:udp 8000 9000:udp
	knock_a 10.77.0.1 7000 8000:udp 9000:udp
	knock_a 10.77.0.1 7000 8000 9000
	mark
	not_logged ' d: OPEN'
	stop_knockd
}

@test "a one-port door opens at each hit" {
	conf <<-EOF2
	[d]
	sequence = 7000:udp
	EOF2
	start
	for i in 1 2 3 4 5; do
		knock_a 10.77.0.1 7000:udp
		logged 'd: OPEN SESAME' "$i"
	done
	stop_knockd
}

@test "what a stranger does spoils nobody else's knock" {
	conf <<-EOF2
	[d]
	sequence = 7000,8000,9000
	EOF2
	start
	knock_a 10.77.0.1 7000
	knock_b 10.77.0.1 7000
	logged 'Stage 1' 2
	knock_a 10.77.0.1 9000
	knock_b 10.77.0.1 8000
	logged '10.77.0.3: d: Stage 2'
	knock_a 10.77.0.1 7000 8000 9000
	logged '10.77.0.2: d: OPEN SESAME'
	knock_b 10.77.0.1 9000
	logged '10.77.0.3: d: OPEN SESAME'
	stop_knockd
}

@test "a knock that ends another attempt begins its own" {
	conf <<-EOF2
	[one]
	sequence = 1001,1002,1003
	[two]
	sequence = 2001,2002
	EOF2
	start
	knock_a 10.77.0.1 1001 2001 2002
	logged 'two: OPEN SESAME'
	knock_a 10.77.0.1 1001 1002 1001 1002 1003
	logged 'one: OPEN SESAME'
	stop_knockd
}

@test "knocks that come twice open once (1 1 2 2 3 3), those out of order do not (1 3 2 3)" {
	conf <<-EOF2
	[options]
	AllowDuplicates
	[d]
	sequence = 7000,8000,9000
	AllowDupes
	tcpflags = syn
	EOF2
	start
	knock_a 10.77.0.1 7000 9000 8000 9000
	mark
	not_logged ' d: OPEN'
	knock_a 10.77.0.1 7000 7000 8000 8000 9000 9000
	logged ' d: OPEN SESAME'
	mark
	is "$(count "$LOG" ' d: OPEN')" 1
	stop_knockd
}

@test "32 ports in a sequence" {
	conf <<-EOF2
	[d]
	sequence = $(seq -s, 20000 20031)
	EOF2
	start
	# shellcheck disable=SC2046
	knock_a 10.77.0.1 $(seq 20000 20031)
	logged 'd: OPEN SESAME'
	stop_knockd
}

@test "1,000 doors of two ports and both families start, and the last one opens" {
	conf < <(awk 'BEGIN { for (i = 0; i < 1000; i++)
		printf "[d%d]\nsequence = %d,%d:udp,%d\ntcpflags = syn\n", i,
			2000 + i * 31 % 30000, 33000 + i * 17 % 30000, 2000 + i * 7 % 30000 }')
	start
	set -- $((2000 + 999 * 31 % 30000)) $((33000 + 999 * 17 % 30000)):udp $((2000 + 999 * 7 % 30000))
	knock_a 10.77.0.1 "$@"
	logged '10.77.0.2: d999: OPEN SESAME'
	knock_a fd77::1 "$@"
	logged 'fd77::2: d999: OPEN SESAME'
	stop_knockd
}

@test "1,000 quick hits on a one-port door: alive, no zombies, nobody else waits" {
	conf <<-EOF2
	[d]
	sequence = 7000:udp
	command = echo %IP% >> $T/did
	EOF2
	start
	# Nothing listens there: the answers make some writes fail.
	in_a bash -c 'exec 3>/dev/udp/10.77.0.1/7000; for ((i = 0; i < 1000; i++)); do echo >&3; done' 2>/dev/null
	mark
	logged '10.77.0.2: d: OPEN SESAME'
	did 10.77.0.2
	no_children() { [ -z "$(pids_in "$S" sh)" ]; }
	until_true "$WAIT" no_children
	running "$PID"
	# Again, should the door have opened a thousand times in this very second.
	again() {
		knock_b 10.77.0.1 7000:udp
		until_true 1 has_lines "$T/did" '^10.77.0.3$' 1
	}
	until_true "$WAIT" again
	stop_knockd
}
