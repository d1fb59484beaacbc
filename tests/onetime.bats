#!/usr/bin/env bats
# One_Time_Sequences: each line of the file opens once, in order; none of 0.8's
# bugs with it.

load lib

# A door "once" that takes its sequences from $T/seq, and one beside it.
once() {
	cat >"$T/seq"
	conf <<-EOF2
	[once]
	one_time_sequences = $T/seq
	tcpflags = syn
	seq_timeout = 20
	command = echo once %IP% \$(grep -c '^#' $T/seq) >> $T/did
	[plain]
	sequence = 5001,5002
	command = echo plain %IP% >> $T/did
	EOF2
}

LAST='no more sequences left in the one time sequences file for door once --> disabling the door'

@test "each line opens once, in order; the used one is marked before the command runs" {
	once <<-EOF2
	# comment
	 1001,1002

	 2001:udp,2002 , 2003:TCP
	EOF2
	start
	knock_a 10.77.0.1 2001:udp 2002 2003
	mark
	not_logged 'once: OPEN'
	knock_a 10.77.0.1 1001 1002
	opened once
	# The comment and the line that was just used.
	is "$(cat "$T/did")" 'once 10.77.0.2 2'
	knock_a 10.77.0.1 1001 1002
	mark
	knock_a 10.77.0.1 2001:udp 2002 2003
	opened once 2
	is "$(cat "$T/seq")" '# comment
#1001,1002

#2001:udp,2002 , 2003:TCP'
	stop_knockd
}

@test "the last one disables that door alone, also at the next start" {
	echo ' 1001,1002' | once
	start
	knock_a 10.77.0.1 1001 1002
	opened once
	logged "$LAST"
	knock_a 10.77.0.1 1001 1002
	mark
	is "$(count "$LOG" 'once: OPEN')" 1
	knock_a 10.77.0.1 5001 5002
	logged 'plain: OPEN SESAME'
	stop_knockd
	start
	cat "$LOG" "$T/err" >"$T/both"
	is "$(count "$T/both" "$LAST")" 2
	knock_a 10.77.0.1 1001 1002
	knock_a 10.77.0.1 5001 5002
	logged 'plain: OPEN SESAME' 2
	is "$(count "$LOG" 'once: OPEN')" 1
	# A new list and SIGHUP bring it to life.
	echo ' 3001,3002' >"$T/seq.new"
	mv "$T/seq.new" "$T/seq"
	kill -HUP "$PID"
	knock_until 'once: OPEN SESAME' 2 10.77.0.1 3001 3002
	stop_knockd
}

@test "the next start goes on behind the used lines" {
	printf ' 1001,1002\n 2001,2002\n 3001,3002\n' | once
	start
	knock_a 10.77.0.1 1001 1002
	opened once
	stop_knockd
	start
	knock_a 10.77.0.1 1001 1002
	mark
	knock_a 10.77.0.1 2001 2002
	opened once 2
	kill -HUP "$PID"
	reloaded
	mark
	knock_a 10.77.0.1 2001 2002
	knock_a 10.77.0.1 3001 3002
	opened once 3
	mark
	is "$(count "$LOG" 'once: OPEN')" 3
	stop_knockd
}

@test "both address families" {
	printf ' 1001,1002\n 2001,2002\n 3001,3002\n' | once
	start
	knock_a fd77::1 1001 1002
	opened once
	knock_a fd77::1 2001 2002
	opened once 2
	knock_a 10.77.0.1 3001 3002
	opened once 3
	stop_knockd
}

@test "an invalid line does not make a used one valid again" {
	printf ' 70000,1\n 1001,1002\n 2001,2002\n' | once
	# Refused as a whole, or the line passed over: both are safe.
	launch -i eth0
	ready_or_gone() { [ "$(ready_lines)" -gt 0 ] || ! running "$PID"; }
	until_true "$WAIT" ready_or_gone
	if running "$PID"; then
		knock_a 10.77.0.1 1001 1002
		opened once
		knock_a 10.77.0.1 1001 1002
		mark
		is "$(count "$LOG" 'once: OPEN')" 1
		is "$(sed -n 2p "$T/seq")" '#1001,1002'
		stop_knockd
	else
		ended "$PID" 1
		grep -q "$T/seq:1: .*70000" "$T/err"
	fi
}

@test "the end of a longer next sequence does not open by itself" {
	printf ' 1001,1002\n 1003,1004,1005,1006\n' | once
	start
	knock_a 10.77.0.1 1001 1002
	opened once
	knock_a 10.77.0.1 1005 1006
	mark
	is "$(count "$LOG" 'once: OPEN')" 1
	knock_a 10.77.0.1 1003 1004 1005 1006
	opened once 2
	stop_knockd
}

@test "lines that begin alike: the right one is marked, also after an edit" {
	printf ' 1001,1002,2001,2002\n' | once
	start
	printf ' 1001,1002,3001,3002\n 1001,1002,2001,2002\n' >"$T/seq"
	knock_a 10.77.0.1 1001 1002 2001 2002
	opened once
	grep -qE '^# ?1001,1002,2001,2002$' "$T/seq"
	not grep -qE '^#.*3001' "$T/seq"
	stop_knockd
}

@test "two lines alike: a knock that was seen opens no second time, also after a restart" {
	printf ' 1001,1002\n 2001,2002\n 1001 , 1002:tcp\n 3001,3002\n' | once
	start
	knock_a 10.77.0.1 1001 1002
	opened once
	is "$(cat "$T/seq")" '#1001,1002
 2001,2002
#1001 , 1002:tcp
 3001,3002'
	knock_a 10.77.0.1 2001 2002
	opened once 2
	knock_b 10.77.0.1 1001 1002
	stop_knockd
	start
	knock_b 10.77.0.1 1001 1002
	mark
	is "$(count "$LOG" 'once: OPEN')" 2
	knock_a 10.77.0.1 3001 3002
	opened once 3
	stop_knockd
}

@test "a line without a leading blank is used up all the same, its first digit lost as in 0.8" {
	printf '1001,1002\n2001,2002\n' | once
	start
	knock_a 10.77.0.1 1001 1002
	opened once
	is "$(cat "$T/seq")" '#001,1002
2001,2002'
	stop_knockd
	start
	knock_a 10.77.0.1 1001 1002
	mark
	is "$(count "$LOG" 'once: OPEN')" 1
	knock_a 10.77.0.1 2001 2002
	opened once 2
	stop_knockd
}

@test "CRLF and no newline at the end" {
	printf ' 1001,1002\r\n 2001,2002' | once
	start
	knock_a 10.77.0.1 1001 1002
	opened once
	knock_a 10.77.0.1 2001 2002
	opened once 2
	logged "$LAST"
	knock_a 10.77.0.1 2001 2002
	mark
	is "$(count "$LOG" 'once: OPEN')" 2
	stop_knockd
}

@test "the log says when few are left" {
	printf ' %d,%d\n' 1001 1002 2001 2002 3001 3002 | once
	start
	knock_a 10.77.0.1 1001 1002
	opened once
	logged 'once: .*2 .*left'
	stop_knockd
}

@test "a file that cannot be marked: the used sequence opens no second time" {
	printf ' 1001,1002\n 2001,2002\n' | once
	start
	in_s mount --bind "$T/seq" "$T/seq"
	in_s mount -o remount,ro,bind "$T/seq"
	knock_a 10.77.0.1 1001 1002
	logged "once: .*$T/seq|$T/seq.*once"
	knock_a 10.77.0.1 1001 1002
	mark
	[ "$(count "$LOG" 'once: OPEN')" -le 1 ]
	running "$PID"
	knock_a 10.77.0.1 5001 5002
	logged 'plain: OPEN SESAME'
	stop_knockd
}
