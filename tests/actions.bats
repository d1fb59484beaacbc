#!/usr/bin/env bats
# What happens at an opened door: commands and what they find, grants and their
# stop commands, also over the daemon's end.

load lib
load packets

# script NAME: makes $T/NAME from standard input, a program to run directly.
script() {
	{ echo "#!$BASH"; cat; } >"$T/$1"
	chmod 755 "$T/$1"
}

# --- grants ------------------------------------------------------------------

@test "the stop command runs once for each opening, after the last one's time" {
	local t0 took

	conf <<-EOF2
	[d]
	sequence = 7000,8000
	start_command = echo start %IP% >> $T/did
	cmd_timeout = 2
	stop_command = echo stop %IP% >> $T/did
	EOF2
	start
	knock_a 10.77.0.1 7000 8000
	did 'start 10.77.0.2'
	knock_a 10.77.0.1 7000 8000
	did 'start 10.77.0.2' 2
	t0=$(uptime_ms)
	knock_a 10.77.0.1 7000 8000
	did 'start 10.77.0.2' 3
	did 'stop 10.77.0.2' 3
	took=$(($(uptime_ms) - t0))
	[ "$took" -ge 1990 ] || { echo "after $took ms"; return 1; }
	mark
	is "$(cat "$T/did")" 'start 10.77.0.2
start 10.77.0.2
start 10.77.0.2
stop 10.77.0.2
stop 10.77.0.2
stop 10.77.0.2'
	logged '10.77.0.2: d: CLOSE SESAME'
	stop_knockd
	is "$(wc -l <"$T/did")" 6
}

@test "a new knock moves the deadline" {
	local t0 took

	grant_door 3
	start
	knock_a 10.77.0.1 7000 8000
	did 'start 10.77.0.2'
	# Half of the time later.
	t0=$(uptime_ms)
	half_gone() { [ $(($(uptime_ms) - t0)) -ge 1500 ]; }
	until_true "$WAIT" half_gone
	t0=$(uptime_ms)
	knock_a 10.77.0.1 7000 8000
	did 'stop 10.77.0.2'
	took=$(($(uptime_ms) - t0))
	[ "$took" -ge 2990 ] || { echo "first stop after $took ms"; return 1; }
	did 'stop 10.77.0.2' 2
	stop_knockd
}

@test "addresses have grants of their own; real iptables rules are all gone at the end" {
	local before

	need iptables
	in_s iptables -w -A INPUT -p tcp --dport 22 -j REJECT ||
		skip "iptables does not work with this kernel"
	before=$(in_s iptables -S)
	conf <<-EOF2
	[d]
	sequence = 7000,8000
	start_command = iptables -w -I INPUT -s %IP% -p tcp --dport 22 -j ACCEPT
	cmd_timeout = 3
	stop_command = iptables -w -D INPUT -s %IP% -p tcp --dport 22 -j ACCEPT
	EOF2
	start
	for _ in 1 2; do
		knock_a 10.77.0.1 7000 8000
		knock_b 10.77.0.1 7000 8000
	done
	rules() { [ "$(in_s iptables -w -S | grep -c ACCEPT$)" = "$1" ]; }
	# Four, beside the three policies of the chains.
	until_true "$WAIT" rules 7
	until_true "$WAIT" rules 3
	is "$(in_s iptables -w -S)" "$before"
	not_logged 'non-zero'
	stop_knockd
}

# rule_door SECONDS: a daemon whose door d is a real rule for so long.
rule_door() {
	need iptables
	conf <<-EOF2
	[d]
	sequence = 7000:udp,7001:udp
	start_command = iptables -I INPUT -s %IP% -p tcp --dport 22 -j ACCEPT
	cmd_timeout = $1
	stop_command = iptables -D INPUT -s %IP% -p tcp --dport 22 -j ACCEPT
	EOF2
	start
}

@test "who knocks again and again before the deadline does not pile up openings" {
	local i n

	rule_door 2
	for i in {1..80}; do knock_a -u -d 100 10.77.0.1 7000 7001; done
	n=$(in_s iptables -S INPUT | grep -c 'dport 22')
	# knockd 0.8 has 10 here
	[ "$n" -le 40 ] || { echo "$n rules for one address"; return 1; }
}

@test "more openings than may stand: each knock still runs, and all are closed at the end" {
	local i

	rule_door 600
	for i in {1..20}; do
		knock_a -u -d 50 10.77.0.1 7000 7001
		logged 'd: running command: iptables -I' "$i"
	done
	logged 'd: CLOSE SESAME' 4
	stop_knockd
	is "$(count "$LOG" 'd: CLOSE SESAME')" 20
	is "$(in_s iptables -S INPUT | grep -c 'dport 22')" 0
}

@test "SIGTERM with hours to go: every stop command runs at once, exit 0" {
	grant_door 3600
	start
	knock_a 10.77.0.1 7000 8000
	did 'start 10.77.0.2'
	knock_a 10.77.0.1 7000 8000
	knock_b 10.77.0.1 7000 8000
	knock_a fd77::1 7000 8000
	did 'start .*' 4
	stop_knockd
	is "$(times_did 'stop 10.77.0.2') $(times_did 'stop 10.77.0.3') $(times_did 'stop fd77::2')" '2 1 1'
	is "$(count "$LOG" 'd: running command: echo stop')" 4
	start
	mark
	is "$(wc -l <"$T/did")" 8
	stop_knockd
	is "$(wc -l <"$T/did")" 8
}

@test "SIGINT too; and a second SIGTERM meanwhile does no harm" {
	conf <<-EOF2
	[d]
	sequence = 7000
	start_command = echo start >> $T/did
	cmd_timeout = 3600
	stop_command = sleep 1; echo stop >> $T/did
	EOF2
	start
	knock_a 10.77.0.1 7000
	did start
	kill -INT "$PID"
	logged 'd: running command: sleep 1'
	kill -TERM "$PID" 2>/dev/null || :
	ended "$PID" "$TERM_STATUS"
	is "$(times_did stop)" 1
}

@test "SIGKILL, restart after the deadline: closed at once" {
	local t0

	grant_door 1
	start
	knock_a 10.77.0.1 7000 8000
	did 'start 10.77.0.2'
	crash
	t0=$(uptime_ms)
	past() { [ $(($(uptime_ms) - t0)) -gt 1100 ]; }
	until_true "$WAIT" past
	is "$(times_did 'stop .*')" 0
	start
	did 'stop 10.77.0.2'
	logged '10.77.0.2: d: CLOSE SESAME'
	stop_knockd
	is "$(times_did 'stop .*')" 1
}

@test "SIGKILL, restart before the deadline: closed when it is due, once per opening" {
	local t0 took

	grant_door 4
	start
	knock_a 10.77.0.1 7000 8000
	did 'start 10.77.0.2'
	t0=$(uptime_ms)
	knock_a 10.77.0.1 7000 8000
	did 'start 10.77.0.2' 2
	crash
	start
	did 'stop 10.77.0.2' 2
	took=$(($(uptime_ms) - t0))
	[ "$took" -ge 3990 ] || { echo "after $took ms"; return 1; }
	stop_knockd
	is "$(times_did 'stop .*')" 2
}

@test "SIGKILL, restart, SIGTERM: closed" {
	grant_door 3600
	start
	knock_a 10.77.0.1 7000 8000
	did 'start 10.77.0.2'
	crash
	start
	mark
	is "$(times_did 'stop .*')" 0
	stop_knockd
	is "$(times_did 'stop 10.77.0.2')" 1
}

@test "the grant is on disk before the start command runs" {
	conf <<-EOF2
	[d]
	sequence = 7000
	start_command = kill -KILL \$PPID; echo start >> $T/did
	cmd_timeout = 3600
	stop_command = echo stop >> $T/did
	EOF2
	start
	knock_a 10.77.0.1 7000
	did start
	until_true "$WAIT" gone "$PID"
	# The sniffer ends by itself when the monitor is gone.
	until_true "$WAIT" no_daemon_left
	start
	stop_knockd
	is "$(times_did stop)" 1
}

@test "the state file: mode 0600, another name for another pidfile" {
	grant_door 3600
	start_knockd -i eth0 -p "$T/mine.pid"
	knock_a 10.77.0.1 7000 8000
	did 'start 10.77.0.2'
	[ -s "$T/mine.state" ]
	is "$(stat -c '%a %u' "$T/mine.state")" '600 0'
	stop_knockd
}

@test "a state file that is damaged or not the user's own is refused, never executed" {
	local what

	grant_door 3600
	start
	knock_a 10.77.0.1 7000 8000
	did 'start 10.77.0.2'
	crash
	cp "$T/k.state" "$T/good"
	for what in foreign others cut changed garbage binary huge; do
		rm -f "$T/k.state"
		case $what in
		foreign) cp "$T/good" "$T/k.state"; chown 1234 "$T/k.state" ;;
		others) cp "$T/good" "$T/k.state" ;;
		changed) sed 's/stop 10/stop x10/; s/10.77.0.2/10.77.0.4/' "$T/good" >"$T/k.state" ;;
		cut) head -c $(($(wc -c <"$T/good") - 3)) "$T/good" >"$T/k.state" ;;
		garbage) { cat "$T/good"; echo 'd; touch /etc/owned'; } >"$T/k.state" ;;
		binary) head -c 3000 /dev/urandom >"$T/k.state" ;;
		huge) tr '\0' x </dev/zero | head -c 3000000 >"$T/k.state" ;;
		esac
		chmod 600 "$T/k.state"
		[ $what != others ] || chmod 622 "$T/k.state"
		launch -i eth0
		said_so() { cat "$T/err" "$LOG" | grep -q "$T/k.state"; }
		until_true "$WAIT" said_so || { echo "$what: nothing said"; return 1; }
		ready_or_gone() { has_lines "$LOG" "$READY" 1 || ! running "$PID"; }
		until_true "$WAIT" ready_or_gone
		! running "$PID" || stop_knockd
		until_true "$WAIT" no_daemon_left
		is "$what: $(times_did 'stop .*')" "$what: 0"
		[ ! -e "$T/owned" ]
		: >"$LOG"
	done
}

@test "a state file of nothing, or none, is no error" {
	grant_door 3600
	: >"$T/k.state"; chmod 600 "$T/k.state"
	start
	stop_knockd
	is "$(cat "$T/err")" ''
}

@test "a stop command runs although the start command failed, and its failure is logged" {
	conf <<-EOF2
	[d]
	sequence = 7000
	start_command = echo start >> $T/did; exit 4
	cmd_timeout = 1
	stop_command = echo stop >> $T/did; exit 5
	EOF2
	start
	knock_a 10.77.0.1 7000
	logged 'd: command returned non-zero status code \(4\)$'
	did stop
	logged 'd: command returned non-zero status code \(5\)$'
	stop_knockd
	is "$(times_did stop)" 1
}

@test "a stop command comes in time although other commands of the address run meanwhile" {
	conf <<-EOF2
	[d]
	sequence = 7000
	start_command = sleep 1; echo start >> $T/did
	cmd_timeout = 1
	stop_command = echo stop >> $T/did
	[e]
	sequence = 7001
	command = echo other >> $T/did
	EOF2
	start
	# No event follows that could wake the daemon by chance.
	knock_a 10.77.0.1 7000 7001
	did stop
	is "$(cat "$T/did")" 'start
other
stop'
	stop_knockd
}

# --- order -------------------------------------------------------------------------

@test "a hanging command delays only its own address, whose commands keep their order" {
	local hang

	conf <<-EOF2
	[hang]
	sequence = 7000
	command = sleep 800
	[quick]
	sequence = 7001
	command = echo quick %IP% >> $T/did
	[quicker]
	sequence = 7002
	command = echo quicker %IP% >> $T/did
	EOF2
	start
	knock_a 10.77.0.1 7000
	logged 'hang: running command: sleep 800'
	knock_a 10.77.0.1 7001 7002
	logged '10.77.0.2: quicker: OPEN SESAME'
	knock_b 10.77.0.1 7002 7001
	did 'quick 10.77.0.3'
	did 'quicker 10.77.0.3'
	is "$(times_did '.* 10.77.0.2')" 0
	hang=$(pids_in "$S" sleep)
	kill -KILL "$hang"
	did 'quicker 10.77.0.2'
	is "$(grep 10.77.0.2 "$T/did")" 'quick 10.77.0.2
quicker 10.77.0.2'
	logged 'hang: command killed by signal 9$'
	stop_knockd
}

@test "slow open, fast close: they run in the order of the knocks" {
	conf <<-EOF2
	[open]
	sequence = 7000
	command = sleep 1; echo open >> $T/did
	[close]
	sequence = 7001
	command = echo close >> $T/did
	EOF2
	start
	knock_a 10.77.0.1 7000 7001
	did close
	is "$(cat "$T/did")" 'open
close'
	stop_knockd
}

# --- very many -----------------------------------------------------------------

# limit NAME: a number from config.h.
limit() {
	sed -n "s/^#define $1  *\([0-9]*\).*/\1/p" "$ROOT/config.h"
}

# hanging_doors: a door "hang" whose commands wait on $T/wait until let_go, then
# add a line to $T/done; the rest of the configuration comes from standard input.
# Called with that redirected: the test itself holds the other end.
hanging_doors() {
	mkfifo "$T/wait"
	exec {WAITING}<>"$T/wait"
	{
		printf '[hang]\nsequence = 7000\ncommand = read x <%s; echo %%IP%% >>%s\n' \
			"$T/wait" "$T/done"
		cat
	} | conf
}

# let_go N: so many commands go on.
let_go() {
	printf "%$1s" '' | tr ' ' '\n' >&"$WAITING"
}

# children: the daemon's, the sniffer and any zombies among them.
children() {
	wc -w <"/proc/$PID/task/$PID/children"
}

has_children() {
	[ "$(children)" = "$1" ]
}

@test "500 commands that hang keep nobody else's door from opening and shutting" {
	local t0

	need_gen
	hanging_doors <<-EOF2
	[d]
	sequence = 7001
	start_command = echo start %IP% >> $T/did
	cmd_timeout = 1
	stop_command = echo stop %IP% >> $T/did
	[e]
	sequence = 7002
	start_command = echo start e >> $T/did
	cmd_timeout = 3600
	stop_command = echo stop e >> $T/did
	EOF2
	start
	from 100.64.0.1 ports=7000 sources=500 rate=1000
	logged 'hang: OPEN SESAME' 500
	knock_a 10.77.0.1 7001 7002
	knock_b 10.77.0.1 7001
	did 'stop 10.77.0.2'
	did 'stop 10.77.0.3'
	did 'start e'
	is "$(count "$LOG" 'hang: running command: ')" 500
	[ ! -e "$T/done" ]
	until_true "$WAIT" has_children 501
	not_logged 'refused|could not'
	# Nor do they keep it from ending, though it gives them some time.
	t0=$(uptime_ms)
	kill -TERM "$PID"
	did 'stop e'
	ended "$PID" "$TERM_STATUS"
	echo "ended after $(($(uptime_ms) - t0)) ms"
	PID=''
	until_true "$WAIT" no_daemon_left
}

@test "more commands than may run or wait are refused; stops still run, and in the end all do" {
	local most queue all n=0

	need_gen
	most=$(limit STARTS_MAX)
	queue=$(limit QUEUE_MAX)
	hanging_doors <<-EOF2
	[d]
	sequence = 7001
	start_command = read x <$T/start; echo start >> $T/did
	cmd_timeout = 1
	stop_command = echo stop >> $T/did
	EOF2
	mkfifo "$T/start"
	exec {START}<>"$T/start"
	start
	knock_a 10.77.0.1 7001
	logged 'd: running command: read'
	# One of the places is taken by the door d.
	all=$((most - 1 + queue))
	while [ $n -le $all ]; do
		from "100.64.$((n / 200)).1" ports=7000 sources=200 rate=2000
		n=$((n + 200))
		logged 'hang: OPEN SESAME' $n
		[ $n -lt "$most" ] || logged 'hang: running command: ' $((most - 1))
	done
	logged "hang: refused: $queue commands wait" $((n - all))
	is "$(count "$LOG" 'hang: refused: ')" $((n - all))
	is "$(children)" $((most + 1))
	knock_b 10.77.0.1 7001
	logged "10.77.0.3: d: refused: $queue commands wait"
	# Its place goes to one more that hangs. The stop needs none of these.
	echo >&"$START"
	did stop
	logged '10.77.0.2: d: CLOSE SESAME'
	is "$(count "$LOG" 'hang: running command: ')" "$most"
	is "$(children)" $((most + 1))
	[ ! -e "$T/done" ]
	let_go $all
	WAIT=120 wait_for_line "$T/done" '^100' $all
	is "$(sort -u "$T/done" | wc -l)" $all
	until_true "$WAIT" has_children 1
	is "$(count "$LOG" 'hang: running command: ')" $all
	knock_b 10.77.0.1 7001
	echo >&"$START"
	did stop 2
	stop_knockd
}

@test "one address whose command hangs does not fill the queue of all" {
	need python3
	conf <<-EOF2
	[d]
	sequence = 7000:udp,7001:udp
	start_command = [ %IP% = 10.77.0.3 ] || exec sleep 1000
	EOF2
	start
	in_a python3 - 3>&- <<-'E'
	import socket, time
	for i in range(4300):
	    for p in (7000, 7001):
	        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
	        s.sendto(b"\0", ("10.77.0.1", p)); s.close()
	    time.sleep(0.001)
	E
	mark
	knock_b -u -d 50 10.77.0.1 7000 7001
	logged '10.77.0.3: d: OPEN SESAME'
	mark
	not_logged '10.77.0.3: d: refused'
}

# --- no process to be had ------------------------------------------------------

# An uid that nobody has, for a limit of its own.
NOBODYS=64123

# as_nobody COMMAND...: with that uid.
as_nobody() {
	setpriv --reuid $NOBODYS --regid $NOBODYS --clear-groups "$@"
}

# nproc N: the daemon's user may have so many processes, the daemon and its
# sniffer included. (Root may need a capability for this, its user does not.)
nproc() {
	as_nobody prlimit --pid "$PID" --nproc="$1:"
}

# few_processes N: a door "d" whose start command waits on $T/start, and a daemon
# of an ordinary user who may have so many processes.
few_processes() {
	need setpriv prlimit
	[ -z "$(ps -o pid= -u $NOBODYS)" ] || skip "uid $NOBODYS is in use"
	copy_for_all
	KNOCKD=$T/copy
	mkdir "$T/r"; chmod 777 "$T/r"
	mkfifo "$T/start"; chmod 666 "$T/start"
	exec {START}<>"$T/start"
	: >"$T/did"; : >"$LOG"; chmod 666 "$T/did" "$LOG"
	conf <<-EOF2
	[d]
	sequence = 7001
	start_command = echo start %IP% >> $T/did; read x <$T/start
	cmd_timeout = 1
	stop_command = echo stop %IP% >> $T/did
	EOF2
	chmod 644 "$T/knockd.conf"
	poor "$1"
}

# poor N: starts it.
poor() {
	(exec nsenter -t "$S" -m -n -r -w -- prlimit --nproc="$1:20" setpriv \
		--bounding-set -all,+net_raw --inh-caps -all,+net_raw \
		--ambient-caps -all,+net_raw --reuid $NOBODYS --regid $NOBODYS \
		--clear-groups "$KNOCKD" -i eth0 -c "$T/knockd.conf" -p "$T/r/k.pid" \
		</dev/null >"$T/out" 2>"$T/err" 3>&-) &
	PID=$!
}

NO_PROCESS='d: could not run the command: Resource temporarily unavailable$'

@test "no process to be had: each command is tried again until it runs" {
	local n

	few_processes 1
	logged 'could not start the sniffer: Resource temporarily unavailable$' 2
	running "$PID"
	nproc 2
	logged "$READY"
	knock_a 10.77.0.1 7001
	logged '10.77.0.2: d: OPEN SESAME'
	logged "$NO_PROCESS" 2
	knock_b 10.77.0.1 7001
	logged '10.77.0.3: d: OPEN SESAME'
	logged "$NO_PROCESS" 5
	is "$(cat "$T/did")" ''
	nproc 20
	did 'start 10.77.0.2'
	did 'start 10.77.0.3'
	# Now for the stops.
	nproc 2
	n=$(count "$LOG" "$NO_PROCESS")
	printf '\n\n' >&"$START"
	logged 'd: running command: echo stop' 2
	logged "$NO_PROCESS" $((n + 4))
	is "$(times_did 'stop .*')" 0
	[ -s "$T/r/k.state" ]
	mark
	nproc 20
	did 'stop 10.77.0.2'
	did 'stop 10.77.0.3'
	logged 'd: CLOSE SESAME' 2
	has_children 1
	stop_knockd
	is "$(times_did '.*')" 4
}

@test "no process to be had for a stop command until the daemon's end: the next one runs it" {
	few_processes 20
	logged "$READY"
	knock_a 10.77.0.1 7001
	did 'start 10.77.0.2'
	# Not even the place of the sniffer, which ends before the stops.
	nproc 1
	echo >&"$START"
	logged "$NO_PROCESS"
	stop_knockd
	is "$(times_did 'stop .*')" 0
	[ -s "$T/r/k.state" ]
	poor 20
	did 'stop 10.77.0.2'
	logged "$READY" 2
	stop_knockd
	is "$(times_did '.*')" 2
}

# --- what a command finds --------------------------------------------------------------

@test "what a command prints is logged with the door's name, without control characters" {
	script talk <<'EOF2'
echo "to out"; echo "to err" >&2; printf 'bell\a\033[1m end\rx\n'
printf 'csi \233 1m, \302\233 1m, cut \303\n'; printf 'no newline'
EOF2
	conf <<-EOF2
	[d]
	sequence = 7000
	command = $T/talk %IP%
	EOF2
	start
	knock_a 10.77.0.1 7000
	logged '\] d: to out$'
	logged '\] d: to err$'
	logged '\] d: bell.*end'
	logged '\] d: csi \? 1m, \?\? 1m, cut \?$'
	logged '\] d: no newline$'
	is "$(LC_ALL=C tr -d '\n\040-\176' <"$LOG" | wc -c)" 0
	stop_knockd
}

@test "a command that prints without end fills neither log nor memory" {
	script flood <<'EOF2'
for ((i = 0; i < 20000; i++)); do echo "line $i of very many, and a few words more"; done
printf '%0100000d\n' 1
EOF2
	conf <<-EOF2
	[d]
	sequence = 7000
	command = $T/flood
	[e]
	sequence = 7001
	command = echo over >> $T/did
	EOF2
	start
	knock_a 10.77.0.1 7000 7001
	did over
	mark
	[ "$(count "$LOG" ' d: line')" -ge 1 ]
	[ "$(count "$LOG" ' d: ')" -le 200 ]
	[ "$(wc -c <"$LOG")" -lt 100000 ]
	stop_knockd
}

@test "status and signal of a command are logged; so is a missing program" {
	conf <<-EOF2
	[s]
	sequence = 7000
	command = exit 3
	[k]
	sequence = 7001
	command = kill -TERM \$\$
	[m]
	sequence = 7002
	command = /no/such/program %IP%
	[n]
	sequence = 7003
	command = /no/such/program %IP%; exit \$?
	[g]
	sequence = 7004
	command = true
	EOF2
	start
	knock_a 10.77.0.1 7000 7001 7002 7003 7004
	logged '\] s: command returned non-zero status code \(3\)$'
	logged '\] k: command killed by signal 15$'
	logged '\] m: .*(No such file|not found)'
	logged '\] n: command returned non-zero status code \(127\)$'
	logged '\] g: running command: true$'
	mark
	not_logged '\] g: command'
	stop_knockd
}

@test "environment, directory, input, session, signals, umask, descriptors of a command" {
	script look <<'EOF2'
{
	echo "ip=$KNOCKD_IP door=$KNOCKD_DOOR event=$KNOCKD_EVENT arg=$1 mine=$MINE"
	echo "path=${PATH:+set} cwd=$(pwd) umask=$(umask) in=$(readlink /proc/$$/fd/0)"
	read -r _ _ _ _ pgrp sid _ </proc/$$/stat
	[ "$pgrp $sid" = "$$ $$" ] && echo leader
} >>"${0%/*}/did"
EOF2
	# bash -c needs no descriptor for its script.
	conf <<-EOF2
	[d]
	sequence = 7000
	start_command = $T/look %IP%
	cmd_timeout = 1
	stop_command = $T/look %IP%
	[f]
	sequence = 7001
	command = $BASH -c 'for f in {0..255}; do [ ! -e /proc/\$\$/fd/\$f ] || echo fd \$f; done'
	[s]
	sequence = 7002
	command = grep Sig /proc/self/status
	EOF2
	# As hostile a start as there may be: signals ignored, odd descriptors.
	(
		trap '' INT QUIT PIPE HUP USR2
		umask 0
		exec 7</etc/hostname 9>"$T/nine" 199</etc/passwd 3>&-
		cd "$T" && MINE=yes exec nsenter -t "$S" -m -n -r --wd="$T" -- "$KNOCKD" -i eth0 \
			-c "$T/knockd.conf" -p "$T/k.pid" </dev/null >"$T/out" 2>"$T/err"
	) 3>&- &
	PID=$!
	logged "$READY"
	knock_a 10.77.0.1 7000 7001 7002
	wait_for_line "$T/did" 'event=stop'
	wait_for_line "$T/did" '^leader$' 2
	is "$(head -n 1 "$T/did")" "ip=10.77.0.2 door=d event=start arg=10.77.0.2 mine=yes"
	has_lines "$T/did" "^path=set cwd=$T umask=0*[1-7][0-7]* in=/dev/null\$" 2
	logged '\] s: SigBlk:.0+$'
	# Signals 32 to 34 are the libc's own; whoever started us may ignore them.
	logged '\] s: SigIgn:.(0{16}|0{7}[0-3][08]0{7})$'
	logged '\] f: fd 2$'
	mark
	is "$(log_text | grep '^f: fd')" 'f: fd 0
f: fd 1
f: fd 2'
	stop_knockd
}

@test "SIGCHLD was ignored by whoever started the daemon: commands are still waited for" {
	conf <<-EOF2
	[d]
	sequence = 7000
	start_command = echo start >> $T/did
	cmd_timeout = 1
	stop_command = echo stop >> $T/did
	EOF2
	(
		trap '' CHLD
		exec nsenter -t "$S" -m -n -r -w -- "$KNOCKD" -i eth0 -c "$T/knockd.conf" \
			-p "$T/k.pid" </dev/null >"$T/out" 2>"$T/err" 3>&-
	) &
	PID=$!
	logged "$READY"
	knock_a 10.77.0.1 7000
	did stop
	knock_a 10.77.0.1 7000
	did start 2
	stop_knockd
}

@test "a umask is kept, an empty environment gets a PATH" {
	conf <<-EOF2
	[d]
	sequence = 7000
	command = umask >> $T/did; env | grep ^PATH= >> $T/did
	EOF2
	(
		umask 0137
		exec 3>&-
		exec nsenter -t "$S" -m -n -r -w -- env -i "$KNOCKD" -i eth0 \
			-c "$T/knockd.conf" -p "$T/k.pid" </dev/null >"$T/out" 2>"$T/err"
	) &
	PID=$!
	logged "$READY"
	knock_a 10.77.0.1 7000
	did 'PATH=.*/usr/bin.*'
	did '0?137'
	stop_knockd
}

@test "a command without shell syntax needs no shell; its words are taken apart" {
	local sh

	sh=$(in_s readlink -f /bin/sh)
	case $sh in *busybox* | *bash*) skip "/bin/sh is $sh here, needed otherwise" ;; esac
	script args <<'EOF2'
for a; do printf '[%s]' "$a"; done >>"${0%/*}/did"
echo >>"${0%/*}/did"
EOF2
	conf <<-EOF2
	[d]
	sequence = 7000
	command = $T/args  add element inet  %IP%/32 a=%IP%,b=1	tab -x --y=z @w:u
	[s]
	sequence = 7001
	command = $T/args "one word" ; echo more >> $T/did
	EOF2
	start
	in_s mount --bind /dev/null "$sh"
	knock_a 10.77.0.1 7000
	did '\[add\]\[element\]\[inet\]\[10.77.0.2/32\]\[a=10.77.0.2,b=1\]\[tab\]\[-x\]\[--y=z\]\[@w:u\]'
	knock_a 10.77.0.1 7001
	logged '\] s: .*(status code|/bin/sh|[Pp]ermission)'
	in_s umount "$sh"
	knock_a 10.77.0.1 7001
	did '\[one word\]'
	did more
	stop_knockd
}

@test "every kind of shell syntax is left to the shell" {
	local c n=0 door

	# One special character each, and what becomes of it.
	while IFS='	' read -r c door; do
		n=$((n + 1))
		printf '[%s]\nsequence = %d\ncommand = %s\n' "d$n" $((7000 + n)) "$c"
		echo "d$n: $door" >>"$T/expected"
	done <<-'EOF2' | conf
	A=1 env	A=1
	echo a ; echo b	b
	echo a && echo c	c
	false || echo d	d
	echo e | cat	e
	echo "f  f"	f  f
	echo 'g  g'	g  g
	echo h\ \ h	h  h
	echo $((4 + 4))	8
	echo $KNOCKD_EVENT	start
	echo `echo i`	i
	echo /et[c]	/etc
	echo /et?	/etc
	echo /etc/host*name	/etc/hostname
	echo ~root	/root
	cat < /etc/hostname	HOSTNAME
	echo j > /dev/stderr	j
	(echo k)	k
	{ echo l; }	l
	! echo m	m
	echo n # comment	n
	if true; then echo o; fi	o
	echo p &	p
	exec /bin/echo q	q
	cd / && echo $PWD	/
	test -d / && echo r	r
	echo {x} - -- a:b @c %d,e+f	{x} - -- a:b @c %d,e+f
	EOF2
	sed -i "s,HOSTNAME,$(cat /etc/hostname)," "$T/expected"
	start
	# shellcheck disable=SC2046
	knock_a 10.77.0.1 $(seq 7001 $((7000 + $(wc -l <"$T/expected"))))
	while read -r c; do
		logged "\\] $(sed 's/[][{}+*?.()]/\\&/g' <<<"$c")\$"
	done <"$T/expected"
	stop_knockd
}

@test "a very long command" {
	local long

	long=$(printf '%03900d' 7)
	conf <<-EOF2
	[d]
	sequence = 7000
	command = echo $long %IP%%IP%%IP%%IP%%IP%%IP%%IP%%IP%%IP%%IP%%IP%%IP%%IP%%IP%%IP%%IP%%IP%%IP%%IP%%IP%%IP%%IP%%IP%%IP%%IP%%IP%%IP%%IP%%IP%%IP% >> $T/did
	[e]
	sequence = 7001
	command = echo next >> $T/did
	EOF2
	start
	knock_a 10.77.0.1 7000 7001
	did next
	did '0+7 (10.77.0.2){30}'
	stop_knockd
}

# --- cooldown, allow, message -----------------------------------------------------------

@test "seq_cooldown: one opening, however many hits, until it is over" {
	local t0 took

	conf <<-EOF2
	[d]
	sequence = 7000:udp
	seq_timeout = 1
	seq_cooldown = 2
	command = echo %IP% >> $T/did
	[c]
	sequence = 7001
	cooldown = 3600
	command = echo c >> $T/did
	EOF2
	start
	t0=$(uptime_ms)
	in_a bash -c 'exec 3>/dev/udp/10.77.0.1/7000; for ((i = 0; i < 50; i++)); do echo >&3; done'
	in_b bash -c 'echo >/dev/udp/10.77.0.1/7000'
	knock_a 10.77.0.1 7001
	knock_a 10.77.0.1 7001
	mark
	if [ $(($(uptime_ms) - t0)) -lt 1900 ]; then
		is "$(count "$LOG" ' d: OPEN')" 1
	fi
	is "$(count "$LOG" ' c: OPEN')" 1
	knock_until ' d: OPEN SESAME' 2 10.77.0.1 7000:udp
	took=$(($(uptime_ms) - t0))
	[ "$took" -ge 1990 ] || { echo "opened again after $took ms"; return 1; }
	stop_knockd
}

@test "allow: for all others the door does not exist" {
	conf <<-EOF2
	[d]
	sequence = 7000,8000
	allow = 192.0.2.0/24, 10.77.0.3 , fd77::/64
	[e]
	sequence = 7001
	Allow = 10.77.0.0/31,10.77.0.3/32
	[f]
	sequence = 7002
	Allow = 10.77.0.0/30
	EOF2
	start
	knock_a 10.77.0.1 7000 8000 7001
	mark
	not_logged '10.77.0.2: [de]: '
	knock_b 10.77.0.1 7000 8000 7001
	logged '10.77.0.3: d: OPEN SESAME'
	logged '10.77.0.3: e: OPEN SESAME'
	knock_a fd77::1 7000 8000 7001 7002
	logged 'fd77::2: d: OPEN SESAME'
	knock_a 10.77.0.1 7002
	logged '10.77.0.2: f: OPEN SESAME'
	mark
	not_logged 'fd77::2: [ef]: '
	# The sniffer itself looks at allow, not only the monitor behind it.
	not_logged 'bad record'
	stop_knockd
}

@test "deny: for these the door does not exist, also if allow has them" {
	conf <<-EOF2
	[d]
	sequence = 7000,8000
	deny = 192.0.2.0/24, 10.77.0.2 , fd77::2/127
	[e]
	sequence = 7001
	allow = 10.77.0.0/24,fd77::/64
	deny = 10.77.0.0/30,fd77::/96
	[f]
	sequence = 7002
	deny = ::/0
	EOF2
	start
	knock_a 10.77.0.1 7000 8000 7001
	knock_b 10.77.0.1 7001
	knock_a fd77::1 7000 8000 7001 7002
	knock_b fd77::1 7001 7002
	mark
	not_logged '(10.77.0.2|fd77::2): d: '
	not_logged ': e: '
	not_logged 'fd77::.: f: '
	knock_b 10.77.0.1 7000 8000 7002
	logged '10.77.0.3: d: OPEN SESAME'
	logged '10.77.0.3: f: OPEN SESAME'
	# The sniffer itself looks at deny, not only the monitor behind it.
	not_logged 'bad record'
	stop_knockd
}

@test "message: in place of OPEN SESAME" {
	conf <<-EOF2
	[closeSSH]
	sequence = 9000,8000
	message = CLOSE SESAME
	command = true %IP%
	EOF2
	start
	knock_a 10.77.0.1 9000 8000
	logged '\] 10.77.0.2: closeSSH: CLOSE SESAME$'
	logged '\] closeSSH: running command: true 10.77.0.2$'
	not_logged 'OPEN SESAME'
	stop_knockd
}

@test "SIGUSR1 logs counters" {
	conf <<-EOF2
	[d]
	sequence = 7000,8000
	start_command = true
	cmd_timeout = 3600
	stop_command = true
	EOF2
	start
	knock_a 10.77.0.1 7000 8000
	logged 'd: running command: true'
	mark
	kill -USR1 "$PID"
	logged '\] counters: packets [0-9]+, drops 0, hits 3, attempts [0-9]+, evictions 0, cancelled 0, opens 2, grants 1, commands 1$'
	stop_knockd
}
