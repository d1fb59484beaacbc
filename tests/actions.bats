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

# limit NAME: a number from config.h.
limit() {
	sed -n "s/^#define $1  *\([0-9]*\).*/\1/p" "$ROOT/config.h"
}

# --- grants ------------------------------------------------------------------

@test "the stop command runs once for each opening, after the last one's time" {
	local t0 took

	conf <<-EOF2
	[d]
	sequence = 7000,8000
	start_command = echo start %IP% >> $T/did
	cmd_timeout = 4
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
	[ "$took" -ge 3990 ] || { echo "after $took ms"; return 1; }
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
	cmd_timeout = 8
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
	start_command_6 = ip6tables -I INPUT -s %IP% -p tcp --dport 22 -j ACCEPT
	cmd_timeout = $1
	stop_command = iptables -D INPUT -s %IP% -p tcp --dport 22 -j ACCEPT
	stop_command_6 = ip6tables -D INPUT -s %IP% -p tcp --dport 22 -j ACCEPT
	EOF2
	start
}

# rules TOOL: how many rules iptables or another has that let somebody in.
rules() {
	in_s "$1" -w -S INPUT | grep -c 'ACCEPT$' | awk '{ print $1 - 1 }'
}

has_rules() {
	[ "$(rules "$1")" = "$2" ]
}

@test "who knocks again and again before the deadline does not pile up openings" {
	local n

	rule_door 600
	for _ in {1..40}; do
		knock_a -u -d 20 10.77.0.1 7000 7001
		knock_a -u -d 20 fd77::1 7000 7001
		for n in $(rules iptables) $(rules ip6tables); do
			[ "$n" -le 16 ] || { echo "$n rules for one address"; return 1; }
		done
	done
	settled() { [ "$(rules iptables) $(rules ip6tables)" = '16 16' ]; }
	until_true "$WAIT" settled
	is "$(on_record "$T/k.state") $(on_record "$T/k.state" times)" '2 32'
	stop_knockd
	is "$(rules iptables) $(rules ip6tables)" '0 0'
	logged '10.77.0.2: d: CLOSE SESAME'
	is "$(count "$LOG" 'CLOSE SESAME')" 2
}

@test "a flushed firewall does not lock out who is let in: a knock adds the rule again" {
	rule_door 600
	knock_a -u -d 20 10.77.0.1 7000 7001
	until_true "$WAIT" has_rules iptables 1
	in_s iptables -F INPUT
	knock_a -u -d 20 10.77.0.1 7000 7001
	until_true "$WAIT" has_rules iptables 1
}

# --- stop commands that fail -------------------------------------------------------

# locked COMMAND...: while iptables's lock is taken.
locked() {
	local holder

	in_s bash -c 'exec flock /run/xtables.lock sleep 1000' 3>&- &
	holder=$!
	lock_taken() { ! in_s flock -n /run/xtables.lock true; }
	until_true "$WAIT" lock_taken
	"$@"
	kill "$(pids_in "$S" sleep | head -n 1)"
	wait "$holder" || :
}

@test "a stop command that fails, since iptables is locked, runs again: no rule stays" {
	need iptables-legacy ip6tables-legacy
	in_s iptables-legacy -w -S >/dev/null || skip "iptables-legacy does not work with this kernel"
	conf <<-EOF2
	[d]
	sequence = 7000
	start_command = iptables-legacy -w -I INPUT -s %IP% -j ACCEPT
	start_command_6 = ip6tables-legacy -w -I INPUT -s %IP% -j ACCEPT
	cmd_timeout = 6
	stop_command = iptables-legacy -w 1 -D INPUT -s %IP% -j ACCEPT
	stop_command_6 = ip6tables-legacy -w 1 -D INPUT -s %IP% -j ACCEPT
	EOF2
	start
	knock_a 10.77.0.1 7000
	knock_a fd77::1 7000
	both_open() { has_rules iptables-legacy 1 && has_rules ip6tables-legacy 1; }
	until_true "$WAIT" both_open
	close_fails() { logged 'd: command returned non-zero status code \(4\)' 2; }
	locked close_fails
	both_shut() { has_rules iptables-legacy 0 && has_rules ip6tables-legacy 0; }
	until_true "$WAIT" both_shut
	logged '10.77.0.2: d: CLOSE SESAME'
	logged 'fd77::2: d: CLOSE SESAME'
	is "$(count "$LOG" 'command timeout')" 2
	stop_knockd
}

@test "SIGTERM while a stop command hangs: said which door, exit 1, the next start closes it" {
	conf <<-EOF2
	[slow one]
	sequence = 7000
	start_command = iptables -w -I INPUT -s %IP% -j ACCEPT
	start_command_6 = ip6tables -w -I INPUT -s %IP% -j ACCEPT
	cmd_timeout = 3600
	stop_command = [ -e $T/free ] || exec sleep 1000; iptables -w -D INPUT -s %IP% -j ACCEPT
	stop_command_6 = [ -e $T/free ] || exec sleep 1000; ip6tables -w -D INPUT -s %IP% -j ACCEPT
	[quick]
	sequence = 7001
	start_command = echo start %IP% >> $T/did
	cmd_timeout = 3600
	stop_command = echo stop %IP% >> $T/did
	EOF2
	start
	knock_a 10.77.0.1 7000 7001
	knock_a fd77::1 7000
	both_open() { has_rules iptables 1 && has_rules ip6tables 1; }
	until_true "$WAIT" both_open
	did 'start 10.77.0.2'
	kill -TERM "$PID"
	ended "$PID" 1
	is "$(log_text | grep 'not closed')" \
		'openings not closed in time: 2 (slow one); the next start of knockd closes them'
	did 'stop 10.77.0.2'
	is "$(on_record "$T/k.state")" 2
	is "$(rules iptables) $(rules ip6tables)" '1 1'
	touch "$T/free"
	start
	logged '10.77.0.2: slow one: left open by an earlier run'
	logged 'fd77::2: slow one: left open by an earlier run'
	both_shut() { has_rules iptables 0 && has_rules ip6tables 0; }
	until_true "$WAIT" both_shut
	stop_knockd
	[ ! -e "$T/k.state" ]
}

@test "a door that Close is closing when knockd is killed: the next start closes it" {
	local from to n=0

	conf <<-EOF2
	[d]
	sequence = 7000
	start_command = echo start %IP% >> $T/did
	cmd_timeout = 3600
	stop_command = [ -e $T/free ] || exit 4; echo stop %IP% >> $T/did
	[c]
	sequence = 7001
	close = d
	EOF2
	start
	for to in 10.77.0.1 fd77::1; do
		from=${to/%1/2}
		knock_a "$to" 7000
		did "start $from"
		# Closing it again and again uses up none of its tries.
		for _ in 1 2 3 4 5; do
			knock_a "$to" 7001
			n=$((n + 1))
			logged 'd: command returned non-zero status code \(4\)' "$n"
		done
	done
	not_logged 'given up'
	kill -KILL "$PID"
	until_true "$WAIT" no_daemon_left
	touch "$T/free"
	start
	did 'stop 10.77.0.2'
	did 'stop fd77::2'
	stop_knockd
}

# many_open N: a daemon that has N openings of the door d, every second one of
# IPv6, each with a rule, from the state file of one that was killed.
many_open() {
	local i now=$(($(uptime_ms) + 3600000))

	rule_door 3600
	crash
	for ((i = 0; i < $1; i++)); do
		printf -v ip '10.%d.%d.%d' $((i / 65536 + 88)) $((i / 256 % 256)) $((i % 256))
		((i % 2)) || printf -v ip 'fd88::%x' "$i"
		echo "$ip"
	done >"$T/ips"
	for t in iptables ip6tables; do
		{
			printf '*filter\n'
			if [ $t = iptables ]; then grep -v : "$T/ips"; else grep : "$T/ips"; fi |
				sed 's/.*/-A INPUT -s & -p tcp --dport 22 -j ACCEPT/'
			printf 'COMMIT\n'
		} | in_s $t-restore
	done
	# As 1.0.0 wrote it.
	{
		printf 'knockd-state 2\n'
		while read -r ip; do
			t=iptables
			[[ $ip != *:* ]] || t=ip6tables
			printf 'open 3600 %s %s d\nstop %s -D INPUT -s %s -p tcp --dport 22 -j ACCEPT\n' \
				"$now" "$ip" "$t" "$ip"
		done <"$T/ips"
	} >"$T/k.state"
	python3 - "$T/k.state" <<-'E'
	import sys
	text = open(sys.argv[1], "rb").read()
	h = 0xcbf29ce484222325
	for b in text: h = (h ^ b) * 0x100000001b3 & 0xffffffffffffffff
	open(sys.argv[1], "ab").write(b"sum %016x\n" % h)
	E
	chmod 600 "$T/k.state"
	start
	is "$(rules iptables) $(rules ip6tables)" "$(($1 / 2)) $(($1 / 2))"
}

@test "SIGTERM with hundreds of rules: all are closed, or it says how many are not" {
	local t0 status left=${CLOSE_RULES:-300} said

	need python3
	many_open "$left"
	while [ "$left" -gt 0 ]; do
		t0=$(uptime_ms) status=0
		kill -TERM "$PID"
		until_true "$WAIT" gone "$PID"
		wait "$PID" || status=$?
		until_true "$WAIT" no_commands_left
		left=$(($(rules iptables) + $(rules ip6tables)))
		echo "ended after $(($(uptime_ms) - t0)) ms, status $status, $left rules are left"
		[ "$status" != 0 ] || break
		# What was running then has gone on.
		said=$(sed -n 's/.*not closed in time: \([0-9]*\) (d).*/\1/p' "$LOG" | tail -n 1)
		[ "$left" -le "$said" ] && [ "$left" -ge $((said - $(limit RUN_MAX))) ]
		[ -s "$T/k.state" ]
		[ "$left" = 0 ] || start
	done
	is "$left" 0
	PID=''
}

no_commands_left() {
	[ -z "$(pids_in "$S" iptables)$(pids_in "$S" ip6tables)" ]
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

@test "SIGINT too; a second signal ends it at once, and says what is open" {
	conf <<-EOF2
	[d]
	sequence = 7000
	start_command = echo start >> $T/did
	cmd_timeout = 3600
	stop_command = echo stop >> $T/did; exec sleep 1000
	EOF2
	start
	knock_a 10.77.0.1 7000
	did start
	kill -INT "$PID"
	did stop
	kill -TERM "$PID"
	ended "$PID" 1
	logged 'openings not closed in time: 1 \(d\)'
	is "$(on_record "$T/k.state")" 1
}

@test "SIGKILL, restart after the deadline: closed at once" {
	local t0

	grant_door 4
	start
	knock_a 10.77.0.1 7000 8000
	did 'start 10.77.0.2'
	crash
	t0=$(uptime_ms)
	past() { [ $(($(uptime_ms) - t0)) -gt 4100 ]; }
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
	for what in foreign others changed garbage binary huge; do
		rm -f "$T/k.state"
		case $what in
		foreign) cp "$T/good" "$T/k.state"; chown 1234 "$T/k.state" ;;
		others) cp "$T/good" "$T/k.state" ;;
		changed) sed 's/stop 10/stop x10/; s/10.77.0.2/10.77.0.4/' "$T/good" >"$T/k.state" ;;
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
	stop_command = echo stop >> $T/did; [ -e $T/free ] || exit 5
	EOF2
	start
	knock_a 10.77.0.1 7000
	logged 'd: command returned non-zero status code \(4\)$'
	did stop
	logged 'd: command returned non-zero status code \(5\)$'
	touch "$T/free"
	did stop 2
	logged '10.77.0.2: d: CLOSE SESAME'
	stop_knockd
	is "$(times_did stop)" 2
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

# --- closing on demand -------------------------------------------------------------

@test "Close: the rules of another door go now, and its own command runs after that" {
	local tool me to all n

	conf <<-EOF2
	[ssh]
	sequence = 7000,8000
	start_command = iptables -w -I INPUT -s %IP% -j ACCEPT
	start_command_6 = ip6tables -w -I INPUT -s %IP% -j ACCEPT
	cmd_timeout = 3600
	stop_command = iptables -w -D INPUT -s %IP% -j ACCEPT
	stop_command_6 = ip6tables -w -D INPUT -s %IP% -j ACCEPT
	[shut]
	sequence = 7001,8001
	close = ssh
	message = CLOSE SESAME
	command = { iptables -S INPUT; ip6tables -S INPUT; } | grep -c 'ACCEPT$' >> $T/did
	[quiet]
	sequence = 7002,8002
	close = ssh
	EOF2
	start
	knock_b 10.77.0.1 7000 8000
	until_true "$WAIT" has_rules iptables 1
	while read -r tool me to all; do
		rm -f "$T/did"
		# Each start command runs before the next knock, which would add nothing.
		for n in 1 2 3; do
			knock_a "$to" 7000 8000
			until_true "$WAIT" has_rules "$tool" $((all - 3 + n))
		done
		knock_a "$to" 7001 8001
		# Two policies, and the rule of B.
		did 3
		logged "$me: ssh: CLOSE SESAME"
		knock_a "$to" 7000 8000
		until_true "$WAIT" has_rules "$tool" $((all - 2))
		knock_a "$to" 7002 8002
		logged "$me: ssh: CLOSE SESAME" 2
		is "$(rules iptables) $(rules ip6tables)" '1 0'
	done <<-EOF2
	iptables 10.77.0.2 10.77.0.1 4
	ip6tables fd77::2 fd77::1 3
	EOF2
	stop_knockd
	is "$(rules iptables)" 0
}

@test "--status: what is open, while the daemon runs and when it is dead" {
	local left

	grant_door 3600
	start
	knock_a 10.77.0.1 7000 8000
	did 'start 10.77.0.2'
	knock_b fd77::1 7000 8000
	did 'start fd77::3'
	both_there() { [ "$(status | wc -l)" = 2 ]; }
	status() { in_s "$KNOCKD" -S -c "$T/knockd.conf" -p "$T/k.pid"; }
	until_true "$WAIT" both_there
	for _ in 1 2; do
		status >"$T/status"
		sed -E 's/\t3[56][0-9][0-9]\t/\tLEFT\t/' "$T/status" | sort >"$T/sorted"
		is "$(cat "$T/sorted")" $'d\t10.77.0.2\t-\tLEFT\tstop\nd\tfd77::3\t-\tLEFT\tstop'
		[ -z "$PID" ] || crash
	done
	is "$(in_s "$KNOCKD" --status -c "$T/knockd.conf" -p "$T/other.pid")" ''
	# On a terminal in columns, with a heading.
	in_s script -qec "$KNOCKD -S -c $T/knockd.conf -p $T/k.pid" /dev/null </dev/null >"$T/tty"
	has_lines "$T/tty" '^DOOR  ADDRESS    CLIENT  SECONDS  HOW' 1
	has_lines "$T/tty" '^d     10.77.0.2  -          3[56][0-9][0-9]  stop' 1
}

# --- order -------------------------------------------------------------------------

@test "a hanging command delays only its own address, for 2 seconds; commands keep their order" {
	local hang

	conf <<-EOF2
	[hang]
	sequence = 7000
	command = sleep 800
	[quick]
	sequence = 7001
	command = sleep 0.2; echo quick %IP% >> $T/did
	[quicker]
	sequence = 7002
	command = echo quicker %IP% >> $T/did
	EOF2
	start
	knock_a 10.77.0.1 7000
	logged 'hang: running command: sleep 800'
	knock_a 10.77.0.1 7001 7002
	knock_b 10.77.0.1 7002
	did 'quicker 10.77.0.3'
	did 'quicker 10.77.0.2'
	did 'quick 10.77.0.2'
	# They begin in their order; the second one waits 0.2 s for the first, not longer.
	is "$(log_text | sed -n 's/: running command: .* 10.77.0.2 .*//p')" 'quick
quicker'
	# It hangs still.
	hang=$(pids_in "$S" sleep)
	kill -KILL "$hang"
	logged 'hang: command killed by signal 9$'
	stop_knockd
}

@test "one forged knock at a public door with a long command: the address's own door opens, and closes in time" {
	local tool me to

	need_gen
	conf <<-EOF2
	[public]
	sequence = 6000
	command = sleep 1000
	[ssh]
	sequence = 7000,8000
	start_command = iptables -w -I INPUT -s %IP% -j ACCEPT && echo %IP% >> $T/did
	start_command_6 = ip6tables -w -I INPUT -s %IP% -j ACCEPT && echo %IP% >> $T/did
	cmd_timeout = 2
	stop_command = iptables -w -D INPUT -s %IP% -j ACCEPT
	stop_command_6 = ip6tables -w -D INPUT -s %IP% -j ACCEPT
	EOF2
	start
	while read -r tool me to; do
		from "$me" ports=6000
		logged "$me: public: OPEN SESAME"
		knock_a "$to" 7000 8000
		did "$me"
		until_true "$WAIT" has_rules "$tool" 0
		logged "$me: ssh: CLOSE SESAME"
	done <<-EOF2
	iptables 10.77.0.2 10.77.0.1
	ip6tables fd77::2 fd77::1
	EOF2
	# What was forged runs still.
	is "$(pids_in "$S" sleep | wc -l)" 2
	stop_knockd
}

# opens_then_closes COMMAND: the start command of a door, and one that closes.
opens_then_closes() {
	conf <<-EOF2
	[open]
	sequence = 7000
	command = $1
	[close]
	sequence = 7001
	command = echo close >> $T/did
	EOF2
	start
	knock_a 10.77.0.1 7000 7001
	did close
	is "$(cat "$T/did")" 'open
close'
}

@test "a start command that runs for long does not hold up the closing knock" {
	opens_then_closes "echo open >> $T/did; exec sleep 1000"
	[ -n "$(pids_in "$S" sleep)" ]
	stop_knockd
}

@test "slow open, fast close: they run in the order of the knocks" {
	opens_then_closes "sleep 1; echo open >> $T/did"
	stop_knockd
}

# --- very many -----------------------------------------------------------------

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

@test "hundreds of commands that hang keep nobody else's door from opening and shutting" {
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
	logged 'hang: running command: ' 8
	knock_a 10.77.0.1 7001 7002
	knock_b 10.77.0.1 7001
	did 'stop 10.77.0.2'
	did 'stop 10.77.0.3'
	did 'start e'
	[ ! -e "$T/done" ]
	not_logged 'refused|could not'
	# Nor do they keep it from ending.
	t0=$(uptime_ms)
	kill -TERM "$PID"
	did 'stop e'
	ended "$PID" "$TERM_STATUS"
	echo "ended after $(($(uptime_ms) - t0)) ms"
	PID=''
	until_true "$WAIT" no_daemon_left
}

@test "a door whose commands hang gets half of the queue; other doors open and close, and in the end all run" {
	local queue n all

	need_gen
	queue=$(limit QUEUE_MAX)
	hanging_doors <<-EOF2
	[d]
	sequence = 7001
	start_command = echo start %IP% >> $T/did
	cmd_timeout = 1
	stop_command = echo stop %IP% >> $T/did
	EOF2
	start
	for ((n = 0; n < queue / 2 + 1000; n += 200)); do
		from "100.64.$((n / 200)).1" ports=7000 sources=200 rate=800
	done
	mark
	logged "hang: refused: $((queue / 2)) start commands wait, $((queue / 2)) of this door"
	knock_b 10.77.0.1 7001
	knock_b fd77::1 7001
	did 'stop 10.77.0.3'
	did 'stop fd77::3'
	not_logged ' d: refused'
	[ ! -e "$T/done" ]
	let_go $((n + 200))
	all_done() { [ "$(grep -c '^100' "$T/done")" -ge $((queue / 2)) ] && has_children 1; }
	WAIT=120 until_true 120 all_done
	all=$(wc -l <"$T/done")
	is "$(sort -u "$T/done" | wc -l)" "$all"
	stop_knockd
}

# opens_in_flood HOST SOURCE: a knock opens. Knocks again after ten seconds, twice: on
# a busy machine the kernel may have no room for a packet.
opens_in_flood() {
	local n try

	n=$(grep -cx "$2" "$T/did") || :
	more() { [ "$(grep -cx "$1" "$T/did")" -gt "$2" ]; }
	for try in 1 2 3; do
		knock_a "$1" 7000 8000
		until_true 10 more "$2" "$n" && return
	done
	echo "no opening for $2 after $try knocks"
	return 1
}

@test "a stranger who floods a door of one port keeps nobody out, and fills no log" {
	local f n

	need_gen
	conf <<-EOF2
	[public]
	sequence = 6000
	tcpflags = syn
	start_command = true %IP%
	cmd_timeout = 3600
	stop_command = true %IP%
	[ssh]
	sequence = 7000,8000
	tcpflags = syn
	start_command = iptables -w -I INPUT -s %IP% -j ACCEPT && echo %IP% >> $T/did
	start_command_6 = ip6tables -w -I INPUT -s %IP% -j ACCEPT && echo %IP% >> $T/did
	cmd_timeout = 1
	stop_command = iptables -w -D INPUT -s %IP% -j ACCEPT
	stop_command_6 = ip6tables -w -D INPUT -s %IP% -j ACCEPT
	EOF2
	start
	gen_b src=100.64.0.1 dst=10.77.0.1 ports=6000 sources=12000 rate=2000 &
	f=$!
	gen_b src=fd99::1 dst=fd77::1 ports=6000 sources=12000 rate=2000 &
	: >"$T/did"
	for n in 1 2 3; do
		opens_in_flood 10.77.0.1 10.77.0.2
		until_true "$WAIT" has_rules iptables 0
		opens_in_flood fd77::1 fd77::2
		until_true "$WAIT" has_rules ip6tables 0
	done
	wait "$f" $!
	logged 'public: [0-9]+ messages suppressed'
	not_logged ' ssh: refused'
	[ "$(wc -l <"$LOG")" -lt 3000 ] || { wc -l "$LOG"; return 1; }
	kill -KILL "$PID"
}

@test "commands that leave something running: the output of other doors' is still logged" {
	local most

	need_gen
	most=$(limit OUTPUTS_MAX)
	conf <<-EOF2
	[bg]
	sequence = 7000
	command = echo bg %IP%; sleep 1000 &
	[d]
	sequence = 7001
	command = echo out %IP%
	EOF2
	start
	from 100.64.0.1 ports=7000 sources=$((most / 2 + 10)) rate=500
	logged "bg: output is not logged: what earlier commands have left running holds $((most / 2)) pipes"
	knock_a 10.77.0.1 7001
	logged 'd: out 10.77.0.2'
	is "$(count "$LOG" 'bg: output is not logged')" 1
	stop_knockd
}

@test "one address that knocks again and again adds nothing to the queue" {
	need python3
	conf <<-EOF2
	[d]
	sequence = 7000:udp,7001:udp
	start_command = [ %IP% = 10.77.0.2 ] && exec sleep 1000; echo %IP% >> $T/did
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
	not_logged 'd: refused: .* wait'
	# Again, should the door have opened a thousand times in this very second.
	again() {
		knock_b -u -d 50 10.77.0.1 7000 7001
		until_true 1 has_lines "$T/did" '^10.77.0.3$' 1
	}
	until_true "$WAIT" again
	stop_knockd
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

	few_processes 2
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
	kill -TERM "$PID"
	ended "$PID" 1
	logged 'openings not closed in time: 1 \(d\)'
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
	logged '\] counters: packets [0-9]+, drops 0, hits 3, attempts [0-9]+, evictions 0, cancelled 0, opens 2, grants 1, commands 1, forged 0$'
	stop_knockd
}
