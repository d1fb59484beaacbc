#!/usr/bin/env bats
# The daemon and the client under valgrind: no memory error and nothing lost, in
# each of their processes. Without seccomp, since valgrind needs more system calls.

load lib

# The sniffer is a copy that fork() made, which valgrind can follow. It has longer to
# end than usual: one that is killed reports nothing.
setup_file() {
	local d=$BATS_FILE_TMPDIR

	command -v gcc >/dev/null || return 0
	cp "$ROOT/knock.c" "$d"
	sed 's/SYS_execveat/-1/' "$ROOT/knockd.c" >"$d/knockd.c"
	not cmp -s "$ROOT/knockd.c" "$d/knockd.c"
	sed 's/^\(#define DRAIN_MS  *\)1000 /\160000 /' "$ROOT/config.h" >"$d/config.h"
	not cmp -s "$ROOT/config.h" "$d/config.h"
	gcc -std=c11 -D_GNU_SOURCE -DNO_SECCOMP -g -O0 -o "$d/knockd" "$d/knockd.c" "$d/knock.c"
	ln -s knockd "$d/knock"
}

# The reports come by a pipe, since a sniffer may write no file.
setup() {
	need valgrind gcc
	net_up
	KNOCKD=$BATS_FILE_TMPDIR/knockd
	KNOCK=$BATS_FILE_TMPDIR/knock
	REPORT=$T/report
	mkfifo "$T/reports"
	exec {REPORTS}<>"$T/reports"
	cat <"$T/reports" >"$REPORT" 3>&- {REPORTS}>&- &
	CAT=$!
	VALGRIND=(valgrind --vgdb=no --error-exitcode=99 --leak-check=full
		--errors-for-leak-kinds=definite --log-file="$T/reports")
}

teardown() {
	say_why
	[ -n "${BATS_TEST_COMPLETED:-}" ] || [ -z "${CAT:-}" ] || tail -n 100 "$REPORT"
	net_down
	[ -z "${CAT:-}" ] || kill "$CAT"
}

# clean N: so many processes have reported, and none has found anything.
clean() {
	wait_for_line "$REPORT" 'ERROR SUMMARY: ' "$1"
	is "$(count "$REPORT" 'ERROR SUMMARY: 0 errors')" "$1"
	is "$(count "$REPORT" 'ERROR SUMMARY: ')" "$1"
	is "$(count "$REPORT" 'definitely lost: 0 bytes|no leaks are possible')" "$1"
}

# launch ARG...: in place of lib's.
launch() {
	nsenter -t "$S" -m -n -r -w -- "${VALGRIND[@]}" "$KNOCKD" -c "$T/knockd.conf" \
		-p "$T/k.pid" "$@" </dev/null >"$T/out" 2>"$T/err" 3>&- {REPORTS}>&- &
	PID=$!
}

nothing_in_s() {
	[ -z "$(pids_in "$S")" ]
}

# end_knockd: exit status 0, and no process is left.
end_knockd() {
	kill -TERM "$PID"
	ended "$PID" 0
	PID=''
	until_true "$WAIT" nothing_in_s
}

# doors [DIRECTIVE]: one that shuts soon, one-time sequences, one that stays open.
doors() {
	conf <<-EOF2
	[d]
	sequence = 7000,8000
	start_command = echo start %IP% >> $T/did
	cmd_timeout = 1
	stop_command = echo stop %IP% >> $T/did
	[once]
	one_time_sequences = $T/sequences
	command = echo once %IP%
	[hour]
	sequence = 7001:udp,8001
	tcpflags = syn,!ack
	allow = 10.77.0.0/24,fd77::/64
	target = 10.77.0.1,fd77::1
	start_command = echo start hour >> $T/did
	start_command_6 = echo start hour6 >> $T/did
	cmd_timeout = 3600
	stop_command = echo stop hour >> $T/did; [ -e $T/failed ] || { >$T/failed; exit 3; }
	[none]
	sequence = 7005
	command = /no/such/program
	${1:-}
	EOF2
}

# --- the daemon --------------------------------------------------------------

@test "the daemon: knocks, stops, one-time sequences, reloads, the end" {
	printf '# two\n7003,8003\n7004:udp,8004\n' >"$T/sequences"
	doors
	start -v -D
	not_logged 'the sniffer died'
	knock_a 10.77.0.1 7000 8000
	did 'stop 10.77.0.2'
	knock_a fd77::1 7000 8000
	did 'stop fd77::2'
	knock_a 10.77.0.1 7001:udp 8001
	did 'start hour'
	knock_a fd77::1 7001:udp 8001
	did 'start hour6'
	knock_b 10.77.0.1 7003 8003
	logged '\] once: once 10.77.0.3$'
	# A bad file, then a good one: another sniffer.
	doors 'nonsense = 1'
	kill -HUP "$PID"
	logged 'has errors: nothing changes$'
	doors 'seq_cooldown = 5'
	kill -HUP "$PID"
	reloaded
	knock_b 10.77.0.1 7004:udp 8004
	logged '10.77.0.3: once: OPEN SESAME' 2
	logged 'no more sequences left'
	knock_b 10.77.0.1 7005
	# There posix_spawn() does not hear that exec failed in the child, which
	# then reports, too.
	logged '\] none: .*(not found|No such file|status code)'
	# An attempt that is not finished; an address that comes.
	knock_a 10.77.0.1 7000
	in_s ip addr add 10.77.0.9/24 dev eth0
	mark
	kill -USR1 "$PID"
	logged '\] counters: '
	end_knockd
	# One of them fails at first.
	did 'stop hour' 3
	not_logged 'the sniffer died'
	clean 4
}

@test "the daemon that takes over from a killed one, and gets another sniffer" {
	local p

	printf '7003,8003\n' >"$T/sequences"
	doors
	start
	knock_a 10.77.0.1 7001:udp 8001
	did 'start hour'
	# Neither it nor its sniffer, which is killed with it, can report.
	kill -KILL "$PID"
	wait "$PID" || :
	until_true "$WAIT" nothing_in_s
	start
	logged '10.77.0.2: hour: left open by an earlier run$'
	for p in $(pids_in "$S"); do
		[ "$p" = "$PID" ] || kill -KILL "$p"
	done
	logged 'the sniffer died \(signal 9\): starting another$'
	knock_until '10.77.0.2: d: OPEN SESAME' 1 10.77.0.1 7000 8000
	end_knockd
	did 'stop hour' 2
	did 'stop 10.77.0.2'
	clean 2
}

@test "the daemon: names of addresses" {
	in_s bash -c 'echo 10.77.0.2 laptop.example >>/etc/hosts'
	printf '7003,8003\n' >"$T/sequences"
	doors
	start -l
	knock_a 10.77.0.1 7000 8000
	did 'stop 10.77.0.2'
	end_knockd
	# One that takes its time to look a name up is ended without a report.
	wait_for_line "$REPORT" 'ERROR SUMMARY: ' 3
	clean "$(count "$REPORT" 'ERROR SUMMARY: ')"
}

# run_in_s STATUS ARG...: the daemon where it ends by itself.
run_in_s() {
	local status=$1 rc=0

	shift
	in_s "${VALGRIND[@]}" "$KNOCKD" "$@" >"$T/out" 2>"$T/err" </dev/null 3>&- || rc=$?
	is "$* $rc" "$* $status"
}

@test "the daemon: -t, -h, -V and what it refuses" {
	printf '7003,8003\n' >"$T/sequences"
	doors
	run_in_s 0 -h
	run_in_s 0 -V
	run_in_s 1 --nonsense
	run_in_s 1 operand
	run_in_s 0 -t -c "$T/knockd.conf"
	run_in_s 1 -t -c "$T/none.conf"
	run_in_s 1 -c "$T/knockd.conf" -i nope0
	doors 'sequence = 7000,,70000:icmp
	tcpflags = syn,what
	allow = 300.1.1.1,::/129
	one_time_sequences = /nowhere
	[
	start_command'
	run_in_s 1 -t -c "$T/knockd.conf"
	clean 8
}

# --- the client --------------------------------------------------------------

# knocks STATUS ARG...: from A.
knocks() {
	local status=$1 rc=0

	shift
	HOME=$T XDG_CONFIG_HOME='' in_a "${VALGRIND[@]}" "$KNOCK" "$@" \
		>"$T/out" 2>"$T/err" </dev/null 3>&- || rc=$?
	KNOCKS=$((${KNOCKS:-0} + 1))
	is "$* $rc" "$* $status"
}

@test "the client: knocks, -w, -W, profiles, mistakes" {
	bg "$S" socat TCP-LISTEN:22,fork,reuseaddr SYSTEM:'echo hello'
	until_true "$WAIT" listens "$S" tcp 22
	knocks 0 -h
	knocks 0 -V
	knocks 0 -v -d 20 10.77.0.1 7000 8000:udp 9000:tcp
	knocks 0 -6 fd77::1 7000 8000:udp
	knocks 0 -u -i br0 10.77.0.1 7000
	knocks 0 -w 22 10.77.0.1 7000
	knocks 0 -W 22 10.77.0.1 7000
	is "$(cat "$T/out")" hello
	knocks 1 -w 23 -t 1 10.77.0.1 7000
	mkdir "$T/.config"
	cat >"$T/.config/knock.conf" <<-EOF2
	# two
	[home]
	host = 10.77.0.1
	ports = 7000,8000:udp
	delay = 10
	[bad]
	hosts = 10.77.0.1
	EOF2
	chmod 600 "$T/.config/knock.conf"
	knocks 0 -v home
	matches "$(cat "$T/out")" 7000
	knocks 1 bad
	knocks 1 nowhere
	knocks 1
	knocks 1 10.77.0.1 70000
	knocks 1 10.77.0.1 7000:sctp
	knocks 1 no.such.host.invalid 7000
	knocks 1 -x
	knocks 0 --generate 4
	clean "$KNOCKS"
}
