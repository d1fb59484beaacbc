#!/usr/bin/env bats
# System calls that fail: the daemon does not crash or hang, and no door stays open.
# Each call fails once, in turn, by strace (see schedules.bash; here with one of its
# errors, in `tests/soak.sh schedules` with all); and some fail for a while.

load lib
load rogue

setup() {
	need strace
	net_up
}

@test "an opening, from the knock to CLOSE SESAME: each call of the monitor fails once" {
	schedules opening faults
}

@test "an opening: each call of the sniffer fails once" {
	schedules sniffing faults
}

@test "a reload: each call of the monitor fails once" {
	schedules reloading faults
}

@test "the end: each call of the monitor fails once" {
	schedules ending faults
}

@test "a start with a door left open, and its end: each call of the monitor fails once" {
	schedules starting faults
}

@test "a start: each call of the sniffer's sandbox fails once" {
	schedules sandboxing faults
}

# --- for a while -------------------------------------------------------------------

# while_failing PID CALLS ERROR COMMAND...: all these calls of that process fail
# while the command runs.
while_failing() {
	local pid=$1 calls=$2 error=$3 tracer

	shift 3
	strace -qq -o "$T/trace" -p "$pid" -e trace="$calls" -e inject="$calls:error=$error" 3>&- &
	tracer=$!
	joined() { grep -q "^TracerPid:.*$tracer$" "/proc/$pid/status"; }
	until_true "$WAIT" joined
	"$@"
	until_true "$WAIT" grep -q "(INJECTED)" "$T/trace" || { echo "$calls: none failed"; return 1; }
	kill -INT "$tracer" 2>/dev/null || :
	wait "$tracer" || :
}

# knocked_and LINE: a knock by A, and what the log says then.
knocked_and() {
	knock_a 10.77.0.1 7000 8000
	logged "$1"
}

@test "no process to be had: the command runs later, and the stop command too" {
	grant_door 4
	start
	while_failing "$PID" '?fork,?vfork,clone,?clone3' EAGAIN \
		knocked_and 'd: could not run the command: Resource temporarily unavailable'
	did 'start 10.77.0.2'
	has_lines "$T/did" '^start' 1
	stop_fails() {
		logged '10.77.0.2: d: command timeout'
		logged 'd: could not run the command: Resource temporarily unavailable' 4
	}
	while_failing "$PID" '?fork,?vfork,clone,?clone3' EAGAIN stop_fails
	did 'stop 10.77.0.2'
	logged '10.77.0.2: d: CLOSE SESAME'
	stop_knockd
	is "$(cat "$T/did")" 'start 10.77.0.2
stop 10.77.0.2'
}

@test "no process to be had for a new sniffer: it comes later, and hears knocks then" {
	grant_door 3600
	start
	has_sniffer
	no_sniffer() {
		kill -KILL "$SNIFFER"
		logged 'could not start the sniffer: Resource temporarily unavailable'
	}
	while_failing "$PID" '?fork,?vfork,clone,?clone3' EAGAIN no_sniffer
	has_sniffer
	knock_a 10.77.0.1 7000 8000
	did 'start 10.77.0.2'
	stop_knockd
	is "$(times_did 'stop .*')" 1
}

@test "a state file that can't be written for a while: said once, then it is up to date" {
	local call n=0

	grant_door 3600
	start
	for call in 'write:ENOSPC' 'openat:EMFILE' 'renameat,?renameat2:EIO'; do
		rm -f "$T/did"
		: >"$LOG"
		# One that is gone must be replaced, and not only grow.
		opens_twice() {
			rm -f "$T/k.state"
			knock_a 10.77.0.1 7000 8000
			did 'start 10.77.0.2'
			knock_a 10.77.0.1 7000 8000
			did 'start 10.77.0.2' 2
		}
		while_failing "$PID" "${call%:*}" "${call#*:}" opens_twice
		[ "${call%:*}" = write ] ||
			is "$call $(count "$LOG" 'could not write .*/k.state: ')" "$call 1"
		knock_b 10.77.0.1 7000 8000
		did 'start 10.77.0.3'
		n=$((n + 3))
		all_kept() { [ "$(on_record "$T/k.state" times)" = $n ]; }
		until_true "$WAIT" all_kept
	done
	stop_knockd
	is "$(times_did 'stop .*')" 9
	[ ! -e "$T/k.state" ]
}

@test "the sniffer's poll, filter and counters fail for a while: knocks open afterwards" {
	local call

	grant_door 3600
	start
	for call in poll,ppoll:EINTR poll,ppoll:ENOMEM setsockopt:ENOMEM; do
		has_sniffer
		[ "${call%:*}" != setsockopt ] || break
		rm -f "$T/did"
		while_failing "$SNIFFER" "${call%:*}" "${call#*:}" knock_a 10.77.0.1 7000 8000
		# That knock may be lost: strace makes a call that seccomp does not know.
		has_sniffer
		knock_a 10.77.0.1 7000 8000
		knock_b 10.77.0.1 7000 8000
		did 'start 10.77.0.2'
		did 'start 10.77.0.3'
	done
	stop_knockd
}

@test "the monitor's poll fails for a while: it goes on afterwards, and has lost nothing" {
	local error

	grant_door 1
	start
	for error in EINTR ENOMEM; do
		rm -f "$T/did"
		while_failing "$PID" 'poll,?ppoll' $error knock_a 10.77.0.1 7000 8000
		did 'start 10.77.0.2'
		did 'stop 10.77.0.2'
	done
	stop_knockd
}

@test "no memory: it ends and says why; the next start closes what was open" {
	grant_door 3600
	start
	knock_a 10.77.0.1 7000 8000
	did 'start 10.77.0.2'
	wait_for_line "$T/k.state" '^open '
	reload() {
		kill -HUP "$PID"
		until_true "$WAIT" gone "$PID"
	}
	# A file of some size, so that it needs memory of the kernel's.
	printf '# %080d\n' {1..5000} >>"$T/knockd.conf"
	while_failing "$PID" mmap,brk,?mremap ENOMEM reload
	ended "$PID" 1
	logged 'out of memory'
	until_true "$WAIT" no_daemon_left
	start
	logged '10.77.0.2: d: left open by an earlier run'
	knock_b 10.77.0.1 7000 8000
	did 'start 10.77.0.3'
	stop_knockd
	is "$(times_did 'stop .*')" 2
}
