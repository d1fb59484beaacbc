#!/usr/bin/env bats
# Doors always close: when the state file can't be written or is not there, and
# when clocks jump.

load lib
load rogue

setup_file() {
	build_rogue
}

# standing [N]: waits until the state file has an opening with its deadline: the
# record from before its start command is gone then, and N - 1 others are.
standing() {
	wait_for_line "$T/k.state" '^gone ' "${1:-1}"
}

# --- the state file -------------------------------------------------------------------

@test "the state file is gone while the daemon runs: it still closes" {
	grant_door 3600
	start
	knock_a 10.77.0.1 7000 8000
	standing
	rm "$T/k.state"
	knock_b 10.77.0.1 7000 8000
	did 'start 10.77.0.3'
	standing
	# Both are in the new one.
	is "$(on_record "$T/k.state")" 2
	stop_knockd
	is "$(times_did 'stop .*')" 2
}

@test "a state file that is a symlink is refused, and its target is left alone" {
	grant_door 3600
	start
	knock_a 10.77.0.1 7000 8000
	standing
	crash
	mv "$T/k.state" "$T/target"
	cp -p "$T/target" "$T/same"
	ln -s target "$T/k.state"
	start
	logged "state file refused: $T/k.state: .*; its doors may still be open"
	cmp "$T/target" "$T/same"
	knock_b 10.77.0.1 7000 8000
	standing
	[ ! -L "$T/k.state" ]
	stop_knockd
	cmp "$T/target" "$T/same"
	is "$(times_did 'stop .*')" 1
	is "$(times_did 'stop 10.77.0.3')" 1
}

@test "a symlink in the place of the new state file is not followed" {
	grant_door 3600
	echo precious >"$T/precious"
	start
	ln -sf precious "$T/k.state.new"
	knock_a 10.77.0.1 7000 8000
	standing
	is "$(cat "$T/precious")" precious
	stop_knockd
}

# bad_place: what it does where it can't write its state file: it says so once,
# opens, and closes by time and at the end.
bad_place() {
	grant_door "$1"
	start_knockd -i eth0 -p "$T/place/k.pid"
	knock_a 10.77.0.1 7000 8000
	did 'start 10.77.0.2'
	[ "$1" = 3600 ] || did 'stop 10.77.0.2'
	knock_b 10.77.0.1 7000 8000
	did 'start 10.77.0.3'
	stop_knockd
	is "$(times_did 'stop .*')" 2
	is "$(count "$LOG" "could not write $T/place/k.state: $2: if knockd is killed, open doors stay open\$")" 1
	: >"$LOG"; rm -f "$T/did"
}

@test "a full disk, a read-only one, a directory that is not there: said, and doors close" {
	local n

	mkdir "$T/place"
	for n in 3600 1; do
		bad_place_of $n
	done
}

bad_place_of() {
	in_s mount -t tmpfs -o size=16k none "$T/place"
	in_s bash -c "cat /dev/zero >$T/place/all 2>/dev/null" || :
	bad_place "$1" 'No space left on device'
	in_s mount -o remount,ro "$T/place"
	bad_place "$1" 'Read-only file system'
	in_s umount "$T/place"
	rmdir "$T/place"
	bad_place "$1" 'No such file or directory'
	mkdir "$T/place"
}

@test "the disk fills while a door is open: after a kill, what was written before is closed" {
	local long

	# Each record needs a page of its own.
	long=$(printf '%05000d' 0)
	mkdir "$T/place"
	in_s mount -t tmpfs -o size=64k none "$T/place"
	conf <<-EOF2
	[d]
	sequence = 7000,8000
	start_command = echo start %IP% >> $T/did
	cmd_timeout = 3600
	stop_command = echo stop %IP% >> $T/did # $long
	EOF2
	start_knockd -i eth0 -p "$T/place/k.pid"
	knock_a 10.77.0.1 7000 8000
	did 'start 10.77.0.2'
	kept() { in_s grep -q '^gone 1 ' "$T/place/k.state"; }
	until_true "$WAIT" kept
	in_s bash -c "cat /dev/zero >$T/place/all 2>/dev/null" || :
	knock_b 10.77.0.1 7000 8000
	did 'start 10.77.0.3'
	logged "could not write $T/place/k.state: No space left on device: if knockd is killed, open doors stay open"
	crash
	start_knockd -i eth0 -p "$T/place/k.pid"
	logged '10.77.0.2: d: left open by an earlier run'
	# Room again: the next write has all that it knows.
	in_s rm "$T/place/all"
	knock_b 10.77.0.1 7000 8000
	did 'start 10.77.0.3' 2
	both_kept() { in_s cat "$T/place/k.state" >"$T/state" && [ "$(on_record "$T/state")" = 2 ]; }
	until_true "$WAIT" both_kept
	stop_knockd
	is "$(times_did 'stop 10.77.0.2')" 1
	# One more was opened when nothing could be written.
	is "$(times_did 'stop 10.77.0.3')" 1
}

@test "two daemons started at once never share a state file" {
	local i j p n

	conf </dev/null
	for i in {1..20}; do
		rm -f "$T"/k.state*
		: >"$LOG"
		in_s bash -c '"$@" & "$@" & wait' x "$KNOCKD" -c "$T/knockd.conf" \
			-p "$T/k.pid" -i eth0 </dev/null >/dev/null 2>&1 3>&- &
		j=$!
		logged "$READY" 2
		n=$(count "$LOG" 'another knockd uses')
		for p in $(pids_in "$S" knockd); do kill "$p" 2>/dev/null || :; done
		wait "$j" || :
		is "round $i: $n refused, $(count "$LOG" 'could not write') not written" \
			"round $i: 1 refused, 0 not written"
	done
}

@test "a state file whose last line was cut off: what stands before it is closed" {
	grant_door 3600
	start
	knock_a 10.77.0.1 7000 8000
	standing
	knock_b fd77::1 7000 8000
	standing 2
	crash
	# The record of the second as it was before its start command.
	head -n 6 "$T/k.state" >"$T/cut"
	sed -n 7p "$T/k.state" | head -c 30 >>"$T/cut"
	cp "$T/cut" "$T/k.state"
	start
	logged '10.77.0.2: d: left open by an earlier run'
	not_logged 'refused|fd77::3: d: left open'
	stop_knockd
	is "$(times_did 'stop .*')" 1
}

@test "nothing happens, a door is open: the monitor does not wake up" {
	local before

	grant_door 3600
	start
	knock_a 10.77.0.1 7000 8000
	did 'start 10.77.0.2'
	standing
	wakes() { awk '/^voluntary_ctxt/ { print $2 }' "/proc/$PID/status"; }
	# The links' own events come to an end.
	quiet() {
		before=$(wakes)
		pause 3
		[ "$(wakes)" = "$before" ]
	}
	until_true "$WAIT" quiet
	stop_knockd
}

# --- clocks -----------------------------------------------------------------------------

# With clocks of the wall that jump while a door stands open, and again while the
# daemon is dead.
@test "the clock is set a day ahead and a day back: doors close in their own time" {
	local t0 took by

	grant_door 3
	for by in 86400 -86400; do
		rm -f "$T/did"
		: >"$LOG"
		rogue ''
		knock_a 10.77.0.1 7000 8000
		did 'start 10.77.0.2'
		t0=$(uptime_ms)
		order '' "$by"
		mark
		# It can be seen in the log.
		tail -n 1 "$LOG" | not grep "^.$(date +%Y-%m-%d) "
		did 'stop 10.77.0.2'
		took=$(($(uptime_ms) - t0))
		[ "$took" -ge 2500 ] || { echo "$by: closed after $took ms"; return 1; }
		knock_b 10.77.0.1 7000 8000
		standing
		crash
		t0=$(uptime_ms)
		# The first order is read when it starts: the clock is right again.
		rogue ''
		did 'stop 10.77.0.3'
		took=$(($(uptime_ms) - t0))
		[ "$took" -le 30000 ] || { echo "$by: closed after $took ms"; return 1; }
		stop_knockd
		is "$(times_did 'stop .*')" 2
	done
}

# restarted_at SECONDS: the daemon is killed with a grant of 4 s that stands; the
# next one's clock since boot is so much ahead, in a time namespace.
restarted_at() {
	grant_door 4
	rm -f "$T/did"
	start
	knock_a 10.77.0.1 7000 8000
	standing
	crash
	: >"$LOG"
	nsenter -t "$S" -m -n -r -w -- unshare --time --boottime "$1" "$KNOCKD" -i eth0 \
		-c "$T/knockd.conf" -p "$T/k.pid" </dev/null >"$T/out" 2>"$T/err" 3>&- &
	PID=$!
	logged "$READY"
	did 'stop 10.77.0.2'
	stop_knockd
	is "$(times_did 'stop .*')" 1
}

@test "a restart with a clock that is far off in either direction closes within the time" {
	local up

	read -r up _ </proc/uptime
	up=${up%.*}
	unshare --time --boottime 86400 true 2>/dev/null || skip "no time namespaces here"
	restarted_at 86400
	# No clock can be before the boot.
	restarted_at -$((up > 86400 + 60 ? 86400 : up - 60))
}

@test "a stop command that can't be started is in nobody's way, and SIGTERM tries it once more" {
	mkdir "$T/bin"
	echo x >"$T/dir"
	conf <<-EOF2
	[a]
	sequence = 7000
	start_command = echo a %IP% >> $T/did
	cmd_timeout = 1
	stop_command = $T/dir/stop %IP%
	[b]
	sequence = 7001
	start_command = echo b %IP% >> $T/did
	EOF2
	start
	knock_a 10.77.0.1 7000
	logged 'a: could not run the command'
	knock_a 10.77.0.1 7001
	did 'b 10.77.0.2'
	printf '#!/bin/sh\necho stop $1 >>%s\n' "$T/did" >"$T/bin/stop"
	chmod 755 "$T/bin/stop"
	rm "$T/dir"
	mv "$T/bin" "$T/dir"
	kill -TERM "$PID"
	ended "$PID" 0
	is "$(times_did 'stop 10.77.0.2')" 1
	[ ! -e "$T/k.state" ]
}

@test "a stop command that fails is not said to have closed the door" {
	conf <<-EOF2
	[a]
	sequence = 7000
	start_command = echo a %IP% >> $T/did
	cmd_timeout = 1
	stop_command = echo stop >> $T/did; [ -e $T/free ] || exit 3
	EOF2
	start
	knock_a 10.77.0.1 7000
	logged 'a: command returned non-zero status code \(3\)'
	mark
	not_logged CLOSE
	# It runs again, and the door stays on record until it succeeds.
	did stop 2
	is "$(on_record "$T/k.state")" 1
	touch "$T/free"
	stop_knockd
	logged '10.77.0.2: a: CLOSE SESAME'
	[ ! -e "$T/k.state" ]
}

@test "two doors of one name: each keeps its own time" {
	conf <<-EOF2
	[ssh]
	sequence = 7000
	command = echo open >> $T/did
	cmd_timeout = 3600
	stop_command = echo shut >> $T/did
	[ssh]
	sequence = 7001
	command = echo other >> $T/did
	EOF2
	start
	knock_a 10.77.0.1 7000
	wait_for_line "$T/did" open
	knock_a 10.77.0.1 7001
	wait_for_line "$T/did" other
	pause 12
	not has_lines "$T/did" shut 1
}
