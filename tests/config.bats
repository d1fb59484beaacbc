#!/usr/bin/env bats
# knockd.conf: what is wrong in it is said with file, line and word, all at once,
# and nothing is started; what is doubtful is a warning.

bats_require_minimum_version 1.5.0
load lib

# Most of this needs neither network nor privilege.
setup() {
	C=$T/knockd.conf
}

teardown() {
	say_why
	net_down
}

# check [FILE]: knockd -t, on an interface that each machine has; sets rc and leaves
# $T/o and $T/e.
check() {
	rc=0
	"$KNOCKD" -t -i lo -p "$T/k.pid" -c "${1:-$C}" >"$T/o" 2>"$T/e" || rc=$?
}

# bad LINE TEXT...: the configuration on standard input is refused, for one reason:
# in that line, with these texts in the message.
bad() {
	local line=$1 text

	shift
	cat >"$C"
	chmod 600 "$C"
	check
	is "exit status $rc" 'exit status 1'
	errors >"$T/errors"
	is "$(wc -l <"$T/errors") error" '1 error' || { cat "$T/errors"; return 1; }
	for text; do
		grep -q "^knockd: $C:$line: " "$T/errors" && grep -qiF -e "$text" "$T/errors" || {
			echo "not in line $line with '$text':"
			cat "$T/errors"
			return 1
		}
	done
}

# errors: what is no warning, and not their number, which -t prints last.
errors() {
	grep -vE ' warning: |^knockd: errors: [0-9]+$' "$T/e" || :
}

# good: the configuration on standard input is accepted.
good() {
	cat >"$C"
	chmod 600 "$C"
	check
	is "exit status $rc" 'exit status 0' || { cat "$T/e"; return 1; }
	is "$(errors)" ''
}

# says LINE: -t printed that, whatever the blanks.
says() {
	tr -s ' \t' ' ' <"$T/o" | sed 's/^ //; s/ $//; s/ *, */,/g' | grep -qxiF -e "$1" || {
		echo "not said: $1"
		cat "$T/o"
		return 1
	}
}

# warns LINE TEXT: so does standard error; LINE may be a regex.
warns() {
	grep -E "^knockd: $C:$1: warning: " "$T/e" | grep -qiE -e "$2" || {
		echo "no such warning: $1: $2"
		cat "$T/e"
		return 1
	}
}

# seq_bad SEQUENCE TEXT
seq_bad() {
	printf '[options]\n\n[d]\n\tsequence = %s\n\ttcpflags = syn\n' "$1" | bad 4 "$2"
}

# --- errors --------------------------------------------------------------------

@test "the message of the manual, to the letter" {
	printf '%s\n' '# comment' '[options]' 'UseSyslog' '' '' '' '' '' '' '' '[d]' \
		'sequence = 7000,80x' | bad 12 "80x"
	is "$(errors)" "knockd: $C:12: port '80x' is not a number from 1 to 65535"
}

@test "ports: 0, 65536, -1, abc, 80x, huge, with a sign, hex, broken, two in one" {
	local p

	for p in 0 00 65536 -1 abc 80x 99999999999999999999 +80 0x50 80.0 '80 81' 4294967376 \
		'7000 8000' '[7000' '8O' KNOCKD_PORTS '{keyport1}'; do
		seq_bad "$p" "$p"
		seq_bad "7000,$p,9000" "$p"
	done
}

@test "sequences: empty item, trailing comma, 33 ports, unknown protocol" {
	seq_bad '7000,,9000' ''
	seq_bad '7000,8000,' ''
	seq_bad ',7000' ''
	seq_bad '7000, ,9000' ''
	seq_bad "$(seq -s, 1001 1033)" 32
	seq_bad '7000:tcp,8000:icmp' icmp
	seq_bad '7000:' ''
	seq_bad '7000:tcpp' tcpp
	seq_bad ':udp' ''
}

@test "an empty sequence, and a door without one" {
	printf '[d]\nsequence =\n' | bad 2 equence
	printf '[d]\nsequence = \t \n' | bad 2 equence
	printf '[options]\n\n[d]\ntcpflags = syn\n[e]\nsequence = 1001\n' | bad 3 d
	printf '[e]\nsequence = 1001\n[d]\n' | bad 3 d
}

@test "a sequence and one_time_sequences in one door" {
	echo ' 1001,1002' >"$T/seq"
	printf '[d]\nsequence = 1001\none_time_sequences = %s\n' "$T/seq" >"$C"
	check
	is "$rc" 1 || says "one_time_sequences = $T/seq" || says 'sequence = 1001'
}

@test "unknown directives, and right ones in the wrong section" {
	printf '[d]\nsequence = 1001\nacl = 192.168.0.100\n' | bad 3 acl
	printf '[options]\non_start = iptables -P INPUT DROP\n' | bad 2 on_start
	printf '[options]\nsequence = 1001\n' | bad 2 sequence
	printf '[options]\nstart_command = true\n' | bad 2 start_command
	printf '[d]\nsequence = 1001\nlogfile = /tmp/x\n' | bad 3 logfile
	printf '[d]\nsequence = 1001\ninterface = eth0\n' | bad 3 interface
	printf '[d]\nsequence = 1001\npidfile = /tmp/x\n' | bad 3 pidfile
	printf '[d]\nsequence = 1001\nipset = x\n' | bad 3 ipset
	printf '[d]\nsequence = 1001\nsequences = 1002\n' | bad 3 sequences
}

@test "-c: a pipe is read if somebody writes it, and hangs nobody" {
	mkfifo "$T/fifo"
	check "$T/fifo"
	is "$rc" 1
	is "$(cat "$T/e")" "knockd: $T/fifo:1: nobody writes to this pipe
knockd: errors: 1"
	# The writer has the pipe open before knockd opens it.
	exec {FIFO}<>"$T/fifo"
	(pause 0.3; printf '[d]\nsequence = 1001\n') 3>&- >&"$FIFO" &
	exec {FIFO}>&-
	check "$T/fifo"
	is "$rc" 0
	check /dev/null
	not grep chmod "$T/e"
}

@test "--status needs no configuration if -p is given" {
	[ ! -e /etc/knockd.conf ] || skip "there is a configuration"
	is "$("$KNOCKD" --status -p "$T/k.pid" 2>&1)" ''
	matches "$("$KNOCKD" --status 2>&1)" 'could not open /etc/knockd.conf: No such file'
	matches "$("$KNOCKD" --status -p "$T/k.pid" -c "$T/none" 2>&1)" "could not open $T/none: No such file"
}

@test "UseSyslog with a value, others without one" {
	printf '[options]\nUseSyslog = yes\n' | bad 2 UseSyslog
	printf '[d]\nsequence\n' >"$C"
	check
	is "$rc" 1
	grep -qi "^knockd: $C:2: .*sequence" "$T/e"
	printf '[d]\nsequence = 1001\nJust some words\n' | bad 3 "no '=' in 'Just'"
	printf '[d]\nsequence = 1001\n= 5\n' | bad 3 ''
}

@test "a directive outside a section" {
	printf 'UseSyslog\n[d]\nsequence = 1001\n' | bad 1 UseSyslog
	printf '\n# x\ninterface=ALL\n[d]\nsequence = 1001\n' | bad 3 interface
}

@test "bad section lines" {
	printf '[d]\nsequence = 1001\n[]\nsequence = 1002\n' | bad 3 ''
	printf '[d]\nsequence = 1001\n[  ]\nsequence = 1002\n' | bad 3 ''
	printf '[d]\nsequence = 1001\n[e\nsequence = 1002\n' | bad 3 '[e'
	printf '[d]\nsequence = 1001\n[e] x\nsequence = 1002\n' | bad 3 '[e] x'
}

@test "tcp flags" {
	printf '[d]\nsequence = 1001\ntcpflags = syn,foo\n' | bad 3 foo
	printf '[d]\nsequence = 1001\ntcpflags = synack\n' | bad 3 synack
	printf '[d]\nsequence = 1001\ntcpflags = !\n' | bad 3 ''
	printf '[d]\nsequence = 1001\ntcpflags = syn,,ack\n' | bad 3 ''
	printf '[d]\nsequence = 1001\ntcpflags =\n' | bad 3 ''
}

@test "timeouts: missing, negative, garbage, huge, 0 where it has no meaning" {
	local d v

	for d in seq_timeout timeout cmd_timeout seq_cooldown cooldown; do
		for v in '' -1 abc 5s 1.5 31536001 99999999999999999999 '5 6' 0x10; do
			printf '[d]\nsequence = 1001,1002\n%s = %s\n' "$d" "$v" | bad 3 "$v"
		done
	done
	printf '[d]\nseq_timeout = 0\nsequence = 1001,1002\n' | bad '[12]' 'Seq_Timeout 0'
	printf '[d]\nsequence = 1001,1002\nseq_timeout = 31536000\ncooldown = 0\n' | good
}

@test "stray_limit: 0 to 63, in [options] and in a door" {
	printf '[options]\nstray_limit = 0\n[d]\nsequence = 1001\nStray_Limit = 63\n' | good
	printf '[options]\nstray_limit = 64\n' | bad 2 64
	printf '[d]\nsequence = 1001\nstray_limit = -1\n' | bad 3 -1
}

@test "one_time_sequences: no such file, a directory, unreadable lines" {
	printf '[d]\none_time_sequences = /no/such/file\n' | bad 2 /no/such/file
	printf '[d]\none_time_sequences = /etc\n' | bad 2 /etc
	printf '[d]\none_time_sequences =\n' | bad 2 ''
}

@test "target and allow" {
	printf '[d]\nsequence = 1001\ntarget = 10.1.2\n' | bad 3 10.1.2
	printf '[d]\nsequence = 1001\ntarget = example.org\n' | bad 3 example.org
	printf '[d]\nsequence = 1001\ntarget =\n' | bad 3 ''
	printf '[d]\nsequence = 1001\nallow = 10.0.0.0/33\n' | bad 3 33
	printf '[d]\nsequence = 1001\nallow = 10.0.0.0/8,fd00::/129\n' | bad 3 129
	printf '[d]\nsequence = 1001\nallow = 10.0.0.0/8,\n' | bad 3 ''
	printf '[d]\nsequence = 1001\nallow = 10.0.0.0/x\n' | bad 3 x
}

@test "an interface name that is too long, in the file and as an option" {
	printf '[options]\ninterface = abcdefghijklmnop\n' | bad 2 abcdefghijklmnop
	printf '[options]\ninterface = %s\n' "$(printf 'e%.0s' {1..300})" | bad 2 ''
	printf '[d]\nsequence = 1001\n' >"$C"
	[ "$(id -u)" = 0 ] || return 0
	rc=0
	unshare -n "$KNOCKD" -i abcdefghijklmnop -c "$C" >"$T/o" 2>"$T/e" || rc=$?
	is "$rc" 1
	grep -q '^knockd: .*abcdefghijklmnop' "$T/e"
}

@test "a name of a door that is too long, or has control characters" {
	printf '[%s]\nsequence = 1001\n' "$(printf 'e%.0s' {1..127})" | good
	printf '[%s]\nsequence = 1001\n' "$(printf 'e%.0s' {1..5000})" | bad 1 ''
}

@test "no file, a directory, an unreadable one" {
	check /no/such.conf
	is "$rc" 1
	grep -q '^knockd: .*/no/such.conf' "$T/e"
	check "$T"
	is "$rc" 1
	grep -q "^knockd: .*$T" "$T/e"
	: >"$C"
	chmod 000 "$C"
	[ "$(id -u)" = 0 ] || { check; is "$rc" 1; return; }
	need setpriv
	copy_for_all
	rc=0
	setpriv --reuid=65534 --regid=65534 --clear-groups -- "$T/copy" -t -c "$C" >"$T/o" 2>"$T/e" || rc=$?
	is "$rc" 1
	# whose file it is: root in a container has no right to a user's
	grep -q "^knockd: could not open $C: Permission denied: its owner is user 0, its mode 0000, and this is user 65534\$" "$T/e"
}

@test "a binary file, NUL bytes, a device that never ends" {
	head -c 20000 /dev/urandom >"$C"
	check
	is "$rc" 1
	grep -q "^knockd: $C:" "$T/e"
	[ "$(wc -c <"$T/e")" -lt 1000000 ]
	printf '[d]\nsequence = 10\00001\n' >"$C"
	check
	is "$rc" 1
	check /dev/null
	is "$rc" 0
	rc=0
	(ulimit -v 500000; exec "$KNOCKD" -t -c /dev/zero) >"$T/o" 2>"$T/e" || rc=$?
	is "$rc" 1
	grep -q '^knockd: ' "$T/e"
}

@test "a line of 100 kB: a comment, a command, and one that is wrong" {
	local long

	long=$(printf '%0100000d' 5)
	printf '# %s\n[d]\nsequence = 1001\ncommand = echo %s\n' "$long" "$long" >"$C"
	check
	case $rc in
	0) ;;
	*) grep -q "^knockd: $C:4: " "$T/e"; is "$(errors | wc -l)" 1 ;;
	esac
	# 0.8 took the rest of a long comment for a line of its own.
	printf '# %s\nsequence = 1001\n[d]\nsequence = 1002\n' "$(printf '%04094d' 5)" | bad 2 sequence
	printf '[d]\nsequence = 1001\nnonsense = %s\n' "$long" | bad 3 nonsense
	[ "$(wc -c <"$T/e")" -lt 20000 ]
}

@test "all errors of a file at once, in order, and no more than those" {
	cat >"$C" <<-EOF2
	[options]
	UseSyslog
	nonsense = 1
	[d]
	sequence = 70000,8000
	tcpflags = syn,foo
	seq_timeout = -5
	[e]
	sequence = 1001
	wrong
	[f]
	command = true
	EOF2
	chmod 600 "$C"
	check
	is "$rc" 1
	is "$(errors | sed "s,^knockd: $C:\([0-9]*\): .*,\1," | tr '\n' ' ')" '3 5 6 7 10 11 '
}

@test "a file that is wrong starts nothing, also without -t and with -d" {
	local o

	net_up
	conf <<-EOF2
	[d]
	sequence = 80x
	EOF2
	for o in -v -d; do
		rc=0
		in_s "$KNOCKD" $o -i eth0 -c "$C" -p "$T/k.pid" >"$T/o" 2>"$T/e" 3>&- || rc=$?
		is "$o: $rc" "$o: 1"
		is "$(errors)" "knockd: $C:6: port '80x' is not a number from 1 to 65535"
		no_daemon_left
		[ ! -e "$T/k.pid" ] && [ ! -e "$T/k.state" ] && [ ! -e "$LOG" ]
	done
}

# --- what is accepted ----------------------------------------------------------------

@test "CRLF, a BOM, blanks anywhere, no newline at the end, UTF-8 in comments" {
	printf '\357\273\277# \344\275\240 [x]\r\n  [options]  \r\n\tUseSyslog \r\n\r\n \t\r\n[ d ]\r\n  SEQUENCE\t=  7000 , 8000 : UDP,9000:tcp \r\nTcpFlags = syn , !ack' | good
	says '[d]'
	says 'sequence = 7000,8000:udp,9000' || says 'sequence = 7000:tcp,8000:udp,9000:tcp'
	not grep -q "$(printf '\r')" "$T/o"
}

@test "inline comments behind white space, but not in commands" {
	printf '%s\n' '[options]' 'interface = eth0   # outside' '[d]' 'sequence = 7000,8000 # a' \
		'seq_timeout = 10	#b' 'tcpflags = syn # only SYN' \
		'command = echo "#1" # stays' 'stop_command = echo a#b' | good
	says 'interface = eth0'
	says 'seq_timeout = 10'
	says 'start_command = echo "#1" # stays' || says 'command = echo "#1" # stays'
	says 'stop_command = echo a#b'
}

@test "[Options] in any case is no door" {
	printf '[Options]\nUseSyslog\nlogfile = /dev/null\n[OPTIONS]\npidfile = /run/x.pid\n' | good
}

@test "port:proto:whatever, as 0.8 took it; ports with leading zeros" {
	printf '[d]\nsequence = 7000:udp:x, 0080 : TCP\n' >"$C"
	chmod 600 "$C"
	check
	[ "$rc" = 0 ] || grep -q "^knockd: $C:2: " "$T/e"
}

@test "words of forks: seq_cooldown, cooldown, AllowDuplicates, AllowDupes" {
	printf '[options]\nAllowDuplicates\n[d]\nsequence = 7000:udp\nseq_cooldown = 60\nAllowDupes\n[e]\nsequence = 7001\ncooldown = 5\n' | good
}

@test "a file of nothing; a door without command; two doors of one name; a directive twice" {
	printf '' | good
	printf '[options]\n' | good
	warns '[0-9]*' 'no door' || warns '[0-9]*' 'door'
	printf '[d]\nsequence = 7001,4002,9003\n' | good
	warns '[0-9]+' 'command'
	printf '[d]\nsequence = 7001,4002,9003\ncommand = true %%IP%%\n[d]\nsequence = 7004,4005,9006\ncommand = true %%IP%%\n' | good
	warns '[0-9]+' 'name|twice|already|again|too'
	printf '[d]\nsequence = 7001,4002,9003\nseq_timeout = 5\nseq_timeout = 6\ncommand = true %%IP%%\n' | good
	warns 4 'seq_timeout|twice|again|already'
	says 'seq_timeout = 6'
}

# --- -t: warnings, and what it prints ---------------------------------------------------

# A door with nothing to warn of; $1 replaces its sequence, $2 its command.
fine() {
	printf '[options]\ninterface = lo\nlogfile = %s\n[d]\nsequence = %s\ntcpflags = syn\nstart_command = %s\ncmd_timeout = 5\nstop_command = /bin/true %%IP%%\n' \
		"$T/log" "${1:-7001,4002,9003,1004}" "${2:-/bin/true %IP%}"
}

@test "-t: a careful configuration has no warning" {
	fine | good
	is "$(cat "$T/e")" ''
}

@test "-t warns: ascending, the well-known example, fewer than 3 ports" {
	fine 7001,7002,9003,9004 | good
	warns '[45]' 'ascend|ris|order'
	fine 7000,8000,9000 | good
	warns '[45]' ''
	fine 9000,8000,7000 | good
	warns '[45]' ''
	fine 2222:udp,3333:tcp,4444:udp | good
	warns '[45]' ''
	fine 7001,4002 | good
	warns '[45]' 'port'
}

@test "-t warns: readable by others, command not found, no %IP%" {
	fine >"$C"
	chmod 644 "$C"
	check
	is "$rc" 0
	grep -qE "^knockd: $C(:[0-9]+)?: warning: .*(read|mode|others)" "$T/e"
	fine '' '/no/such/tool -s %IP%' | good
	warns '[47]' '/no/such/tool'
	fine '' '/bin/true' | good
	warns '[47]' '%IP%'
	fine '' '/no/such/tool -s %IP% && true' | good
}

@test "-t warns: a start without a stop time, a stop without a start" {
	printf '[d]\nsequence = 7001,4002,9003,1004\nstart_command = /bin/true %%IP%%\nstop_command = /bin/true %%IP%%\n' | good
	warns '[0-9]+' 'cmd_timeout|timeout'
	printf '[d]\nsequence = 7001,4002,9003,1004\nstart_command = /bin/true %%IP%%\ncmd_timeout = 5\n' | good
	warns '[0-9]+' 'stop'
	printf '[d]\nsequence = 7001,4002,9003,1004\nstop_command = /bin/true %%IP%%\n' | good
	warns '[0-9]+' 'command'
}

@test "-t prints what it understood, in the syntax of the file; of that it prints the same" {
	echo ' 7001,7002' >"$T/seq"
	cat >"$C" <<-EOF2
	[options]
	UseSyslog
	LogFile = $T/log
	PidFile = $T/k.pid
	Interface = eth0, wlan0
	Stray_Limit = 12
	[a]
	Sequence = 7000, 8000:UDP ,9000
	Timeout = 7
	TCPFlags = syn,!ack
	Target = FD00:0:0::1
	Command = echo "%IP%" >> /x # y = z
	Command_6 =
	Cmd_Timeout = 33
	Stop_Command = echo stop %IP%
	Stop_Command_6 = echo stop6 %IP%
	Allow = 10.0.0.0/8, fd00::/8
	Message = CLOSE SESAME
	Cooldown = 9
	Stray_Limit = 0
	[b]
	One_Time_Sequences = $T/seq
	TCPFlags = fin,urg
	EOF2
	chmod 600 "$C"
	check
	is "$rc $(errors)" '0 '
	says UseSyslog
	says 'interface = eth0,wlan0'
	says 'stray_limit = 12'
	says '[a]'
	says 'seq_timeout = 7' || says 'timeout = 7'
	says 'tcpflags = syn,!ack'
	says 'target = fd00::1' || says 'target = fd00::1/128'
	says 'cmd_timeout = 33'
	says 'stop_command = echo stop %IP%'
	says 'stop_command_6 = echo stop6 %IP%'
	says 'allow = 10.0.0.0/8,fd00::/8'
	says 'message = CLOSE SESAME'
	says 'seq_cooldown = 9' || says 'cooldown = 9'
	says 'stray_limit = 0'
	says "one_time_sequences = $T/seq"
	cp "$T/o" "$T/first"
	cp "$T/o" "$T/again.conf"
	check "$T/again.conf"
	is "$rc $(errors)" '0 '
	is "$(cat "$T/o")" "$(cat "$T/first")"
}

@test "-t needs no privilege and touches nothing" {
	need setpriv
	[ "$(id -u)" = 0 ] || skip "needs root"
	copy_for_all
	fine >"$C"; chmod 644 "$C"
	setpriv --reuid=65534 --regid=65534 --clear-groups --inh-caps=-all -- \
		"$T/copy" -t -c "$C" >"$T/o" 2>"$T/e"
	says '[d]'
	[ ! -e "$T/log" ]
}

@test "-t shows interfaces with addresses, ports in use; offers a random sequence" {
	need_namespaces
	net_up
	fine 7000,8000,9000 >"$C"
	chmod 600 "$C"
	bg "$S" socat TCP-LISTEN:8000,fork,reuseaddr /dev/null
	until_true "$WAIT" listens "$S" tcp 8000
	in_s ip link add down0 type veth peer name down1
	in_s "$KNOCKD" -t -c "$C" -i eth0 >"$T/o" 2>"$T/e"
	says '# interfaces: eth0'
	says '# eth0 10.77.0.1'
	says '# eth0 fd77::1'
	warns '[0-9]+' 'use a random one, for example sequence = [0-9]+,[0-9]+,[0-9]+,[0-9]+$'
	warns '[0-9]+' 'port 8000 is in use'
	is "$(grep -c 'is in use' "$T/e")" 1
	# What is offered can be taken: no such warning any more.
	fine "$(sed -n 's/.*for example sequence = //p' "$T/e")" | good
	not grep -q 'for example' "$T/e"
	in_s "$KNOCKD" -t -c "$C" -i eth0,down0 >"$T/o"
	says '# interfaces: eth0,down0; waiting: down0 is down'
}

# --- Include -------------------------------------------------------------------------------

@test "Include: files beside the configuration, at the start, with -d from elsewhere, at SIGHUP" {
	need_namespaces
	net_up
	mkdir "$T/doors"
	conf <<-EOF2
	[options]
	include = doors/*.conf
	EOF2
	printf '[one]\nsequence = 7001\n' >"$T/doors/1.conf"
	printf '[bad]\nsequence = x\n' >"$T/doors/2.conf.off"
	# A relative -c, from a directory that the daemon leaves.
	in_s sh -c "cd '$T' && exec '$KNOCKD' -d -i eth0 -c knockd.conf -p k.pid" 3>&-
	PID=$(cat "$T/k.pid")
	knock_a 10.77.0.1 7001
	logged 'one: OPEN SESAME'
	printf '[two]\nsequence = 7002\n' >"$T/doors/2.conf"
	kill -HUP "$PID"
	knock_until 'two: OPEN SESAME' 1 10.77.0.1 7002
	# An error in one of them changes nothing; it is logged with its file.
	cp "$T/doors/2.conf.off" "$T/doors/3.conf"
	kill -HUP "$PID"
	logged "doors/3.conf:2: port 'x' is not a number"
	logged 'knockd.conf has errors: nothing changes'
	knock_until 'two: OPEN SESAME' 2 10.77.0.1 7002
	rm "$T/doors/1.conf" "$T/doors/3.conf"
	kill -HUP "$PID"
	reloaded 2
	mark
	knock_a 10.77.0.1 7001
	mark
	is "$(count "$LOG" 'one: OPEN')" 1
	kill "$PID"
	until_true "$WAIT" no_daemon_left
	PID=''
}

@test "-t: an included file that others may read, or that is not there" {
	fine >"$T/doors.conf"
	sed -i '/^\[options/,/^logfile/d' "$T/doors.conf"
	chmod 644 "$T/doors.conf"
	printf '[options]\ninclude = doors.conf\n' | good
	grep -qx "knockd: $T/doors.conf:1: warning: everyone can read this file: chmod 600 $T/doors.conf" "$T/e"
	says '[d]'
	not grep -qi include "$T/o"
	rm "$T/doors.conf"
	check
	is "$rc" 1
	grep -qx "knockd: could not open $T/doors.conf: No such file or directory" "$T/e"
}

# --- -t: what the start would need -------------------------------------------------------

# test_t ARG...: knockd -t with $C; sets rc, leaves $T/o and $T/e.
test_t() {
	rc=0
	"$KNOCKD" -t -c "$C" "$@" >"$T/o" 2>"$T/e" || rc=$?
}

@test "-t ends with OK, or with the number of errors" {
	fine >"$C"
	chmod 600 "$C"
	check
	is "$rc $(tail -n 1 "$T/o")" '0 # OK'
	printf '[d]\nsequence = x\n' >"$C"
	check
	is "$rc $(tail -n 1 "$T/e")" '1 knockd: errors: 1'
	not grep -q OK "$T/o"
	printf '[d]\nsequence = x\nfoo = 1\n' >"$C"
	test_t -i nosuch0 -p "$T/k.pid"
	is "$rc $(tail -n 1 "$T/e")" '1 knockd: errors: 3'
}

@test "-t: an interface that does not exist is an error, as at the start" {
	fine >"$C"
	chmod 600 "$C"
	test_t -i lo,nosuch0 -p "$T/k.pid"
	is "$rc" 1
	grep -q '^knockd: no such interface: nosuch0 does not exist; this host has:.* lo' "$T/e"
	# It beats that of the file, which exists.
	sed -i s/=.lo$/=nosuch1/ "$C"
	test_t -p "$T/k.pid"
	grep -q '^knockd: no such interface: nosuch1' "$T/e"
}

@test "-t: files that can't be written: errors with -d, which would end there, else warnings" {
	fine | sed "s,^logfile.*,logfile = $T/no/such/log," >"$C"
	chmod 600 "$C"
	test_t -d -p "$T/no/pid/k.pid"
	is "$rc" 1
	grep -qx "knockd: could not write $T/no/such/log: No such file or directory" "$T/e"
	grep -qx "knockd: could not write $T/no/pid/k.pid: No such file or directory" "$T/e"
	grep -qx "knockd: warning: could not write $T/no/pid/k.state: No such file or directory" "$T/e"
	is "$(tail -n 1 "$T/e")" 'knockd: errors: 2'
	test_t -p "$T/k.pid"
	is "$rc $(tail -n 1 "$T/o")" '0 # OK'
	grep -qx "knockd: warning: could not write $T/no/such/log: No such file or directory" "$T/e"
	# A directory in its place; -g; relative paths; what is there; nothing is made.
	fine | sed '/^logfile/d' >"$C"
	mkdir "$T/d.log"
	touch "$T/old.log"
	test_t -d -g "$T/d.log" -p "$T/k.pid"
	grep -qx "knockd: could not write $T/d.log: Is a directory" "$T/e"
	for log in "$T/old.log" "$T/new.log" new.log /dev/stderr; do
		(cd "$T" && "$KNOCKD" -t -d -c "$C" -g $log -p k.pid) >"$T/o" 2>"$T/e"
		is "$(cat "$T/e")" ''
	done
	[ ! -e "$T/new.log" ] && [ ! -e "$T/k.pid" ] && [ ! -e "$T/k.state" ]
	[ ! -s "$T/old.log" ]
	# The default pidfile is no error: an ordinary user can't write it.
	need_namespaces
	unshare -m sh -c "mount -t tmpfs -o ro none /run && exec $KNOCKD -t -d -c $C" >"$T/o" 2>"$T/e"
	grep -qx 'knockd: warning: could not write /var/run/knockd.pid: Read-only file system' "$T/e"
}

@test "-t says that a daemon with this pidfile runs, and does not disturb it" {
	need_namespaces
	net_up
	conf </dev/null
	in_s "$KNOCKD" -d -i eth0 -c "$T/knockd.conf" -p "$T/k.pid" 3>&-
	in_s "$KNOCKD" -t -d -i eth0 -c "$T/knockd.conf" -p "$T/k.pid" >"$T/o"
	says "# another knockd runs with pid file $T/k.pid"
	is "$(tail -n 1 "$T/o")" '# OK'
	mark
	kill "$(cat "$T/k.pid")"
	until_true "$WAIT" no_daemon_left
	in_s "$KNOCKD" -t -d -i eth0 -c "$T/knockd.conf" -p "$T/k.pid" >"$T/o"
	not grep -q 'another knockd' "$T/o"
}

@test "on a terminal: coloured, aligned lines; into a pipe the plain ones" {
	need_namespaces
	need script
	net_up
	printf '[d]\nsequence = 1001,1002\ncommand = /bin/false %%IP%%\n' >"$C"
	chmod 600 "$C"
	bg "$S" script -qefc "'$KNOCKD' -i eth0 -c '$C' -p '$T/k.pid'" "$T/tty" >/dev/null 2>&1
	until_true "$WAIT" grep -qs 'starting up' "$T/tty"
	knock_a 10.77.0.1 1001 1002
	until_true "$WAIT" grep -q 'non-zero' "$T/tty"
	esc=$(printf '\033')
	for line in "36:10.77.0.2: d: Stage 1" "32:10.77.0.2: d: OPEN SESAME" \
		"33:d: command returned non-zero status code (1)"; do
		grep -qE "^$esc\[${line%%:*}m[0-9:]{8}$esc\[0m  $(printf %s "${line#*:}" | sed 's/[()]/\\&/g')" "$T/tty" ||
			{ echo "no $line"; cat -v "$T/tty"; return 1; }
	done
	for p in $(pids_in "$S" knockd); do kill "$p" 2>/dev/null || :; done
	until_true "$WAIT" grep -q 'shutting down' "$T/tty"
	bg "$S" "$KNOCKD" -i eth0 -c "$C" -p "$T/k.pid" 2>"$T/plain"
	until_true "$WAIT" grep -qs 'starting up' "$T/plain"
	knock_a 10.77.0.1 1001 1002
	until_true "$WAIT" grep -q 'non-zero' "$T/plain"
	grep -qx '10.77.0.2: d: OPEN SESAME' "$T/plain"
	not grep -q "$esc" "$T/plain"
}
