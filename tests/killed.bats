#!/usr/bin/env bats
# Doors always close: kills at any time, of the monitor, the sniffer or both, and
# restarts.

load lib
load rogue

# --- kills ------------------------------------------------------------------------

@test "a kill at each system call of an opening, from the knock to CLOSE SESAME" {
	need strace
	schedules opening kills
}

@test "a kill at each system call of the end, from SIGTERM on" {
	need strace
	schedules ending kills
}

@test "a kill at each system call of a start with a door left open, and of its end" {
	need strace
	schedules starting kills
}

@test "a kill at each system call of a sealed knock: the same bytes never open again" {
	need strace python3
	schedules sealing kills
}

@test "random schedules of openings, closings, kills, reloads and ends" {
	SCHEDULES=${SCHEDULES:-100} SEED=${SEED:-1} schedules random
}

@test "the sniffer is killed: the grant keeps its time, the same monitor closes it" {
	local monitor

	grant_door 1
	start
	monitor=$PID
	knock_a 10.77.0.1 7000 8000
	did 'start 10.77.0.2'
	has_sniffer
	kill -KILL "$SNIFFER"
	logged 'the sniffer died \(signal 9\): starting another$'
	did 'stop 10.77.0.2'
	has_sniffer
	mark
	is "$PID" "$monitor"
	stop_knockd
	is "$(times_did 'stop .*')" 1
}

@test "SIGTERM right after a kill of the sniffer: everything closes, exit 0" {
	grant_door 3600
	start
	knock_a 10.77.0.1 7000 8000
	did 'start 10.77.0.2'
	has_sniffer
	kill -KILL "$SNIFFER"
	stop_knockd
	is "$(times_did 'stop .*')" 1
	[ ! -e "$T/k.state" ]
}

@test "a start command that goes on after the kill is waited for" {
	conf <<-EOF2
	[d]
	sequence = 7000
	start_command = sleep 2; echo start >> $T/did
	cmd_timeout = 0
	stop_command = echo stop >> $T/did
	EOF2
	start
	knock_a 10.77.0.1 7000
	logged 'd: running command: sleep 2'
	crash
	start
	did start
	did stop
	is "$(cat "$T/did")" 'start
stop'
	stop_knockd
}
