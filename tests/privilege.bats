#!/usr/bin/env bats
# The process that reads packets has no privilege, and who takes it over gets
# nowhere: from /proc, and with a sniffer that turns against the monitor (rogue.c).

load lib
load rogue

setup_file() {
	build_rogue
}

# status FIELD: of the sniffer, from /proc.
status() {
	sed -n "s/^$1:[[:space:]]*//p" "/proc/$SNIFFER/status" | tr '\t' ' '
}

limit_is_0() {
	grep -qE "^$1 +0 +0 " "/proc/$SNIFFER/limits" || { echo "$1:"; cat "/proc/$SNIFFER/limits"; return 1; }
}

# --- from /proc --------------------------------------------------------------------

@test "the sniffer has a user of its own, no groups, no capabilities, no new privileges, seccomp" {
	local set id

	grant_door 3600
	# Whoever starts it may be in groups and have ambient capabilities.
	(
		# shellcheck disable=SC2093
		exec nsenter -t "$S" -m -n -r -w -- setpriv --groups 4,24,1234 \
			--inh-caps +net_raw,+sys_admin --ambient-caps +net_raw,+sys_admin \
			"$KNOCKD" -i eth0 -c "$T/knockd.conf" -p "$T/k.pid" \
			</dev/null >"$T/out" 2>"$T/err" 3>&-
	) &
	PID=$!
	logged "$READY"
	has_sniffer
	not grep -qi warn "$LOG" "$T/err"
	matches "$(status Uid)" '^([1-9][0-9]*) \1 \1 \1$'
	matches "$(status Gid)" '^([1-9][0-9]*) \1 \1 \1$'
	is "$(status Groups | tr -d ' ')" ''
	for set in CapInh CapPrm CapEff CapBnd CapAmb; do
		is "$set $(status $set)" "$set 0000000000000000"
	done
	is "$(status NoNewPrivs)" 1
	is "$(status Seccomp)" 2
	# The id is nobody's in particular.
	id=$(status Uid)
	not getent passwd "${id%% *}"
	stop_knockd
}

@test "the sniffer's root is an empty directory without a name, and it stands in it" {
	grant_door 3600
	start
	has_sniffer
	matches "$(readlink "/proc/$SNIFFER/root")" ' \(deleted\)$'
	is "$(readlink "/proc/$SNIFFER/cwd")" "$(readlink "/proc/$SNIFFER/root")"
	[ "/proc/$SNIFFER/root" -ef "/proc/$SNIFFER/cwd" ]
	not [ "/proc/$SNIFFER/root" -ef "/proc/$PID/root" ]
	is "$(ls -A "/proc/$SNIFFER/root/")" ''
	# Nothing can ever be put there, not even by root.
	not touch "/proc/$SNIFFER/root/x"
	# No trace of it is left.
	is "$(in_s find /run /tmp /dev/shm /var/tmp -maxdepth 1 -name "knockd.$SNIFFER" 2>/dev/null)" ''
	stop_knockd
}

@test "the sniffer has its socket and its channel open, nothing else" {
	local fd inodes=''

	grant_door 3600
	exec {fd}<>"$T/open_file"
	start
	exec {fd}>&-
	has_sniffer
	for fd in "/proc/$SNIFFER/fd/"*; do
		inodes+="$(readlink "$fd") "
	done
	matches "$inodes" '^socket:\[([0-9]+)\] socket:\[([0-9]+)\] /dev/null $'
	# One is a packet socket, the other one end of a pair.
	set -- "${BASH_REMATCH[@]:1}"
	is "$(in_s cat /proc/net/packet | awk -v a="$1" -v b="$2" '$9 == a || $9 == b' | wc -l)" 1
	is "$(in_s cat /proc/net/unix | awk -v a="$1" -v b="$2" '($7 == a || $7 == b) && $5 == "0005" && $8 == ""' | wc -l)" 1
	# The same for the next one, after a reload.
	sed -i 's/7000/7001/' "$T/knockd.conf"
	kill -HUP "$PID"
	reloaded
	mark
	has_sniffer
	is "$(find "/proc/$SNIFFER/fd/" -type l | wc -l)" 3
	stop_knockd
}

# secrets: a door with one-time sequences, whose command, name, next sequence and
# environment a sniffer must not know.
SECRETS=(secret-command secret-name secret-environment '5001,5002,5003')
secrets() {
	printf '%s\n' 4001,4002,4003 5001,5002,5003 >"$T/sequences"
	conf <<-EOF2
	[secret-name]
	one_time_sequences = $T/sequences
	command = echo secret-command %IP%
	[d]
	sequence = 7000,8000,9000
	EOF2
	export PRIVATE=secret-environment
}

@test "the sniffer is a program of its own: no command, environment or sequence to come in its memory" {
	local map

	need perl
	secrets
	start
	has_sniffer
	is "$(holds "$PID" "${SECRETS[@]:0:3}")" "${SECRETS[*]:0:3}"
	is "$(holds "$SNIFFER" "${SECRETS[@]}" 4001,4002,4003)" 4001,4002,4003
	is "$(tr '\0' '|' <"/proc/$SNIFFER/cmdline")" 'knockd: sniffer|'
	is "$(wc -c <"/proc/$SNIFFER/environ")" 0
	# Neither code nor stack are where the monitor has them.
	for map in "$(basename "$KNOCKD")" '\[stack\]'; do
		not [ "$(grep -m 1 "$map" "/proc/$PID/maps" | cut -d- -f1)" = \
			"$(grep -m 1 "$map" "/proc/$SNIFFER/maps" | cut -d- -f1)" ]
	done
	# It gets a sequence when the one before is used up.
	knock_a 10.77.0.1 4001 4002 4003
	logged 'secret-name: OPEN SESAME'
	mark
	is "$(holds "$SNIFFER" "${SECRETS[@]}")" 5001,5002,5003
	knock_a fd77::1 5001 5002 5003
	logged 'secret-name: OPEN SESAME' 2
	need pidof
	is "$(pidof "$(basename "$KNOCKD")" | tr ' ' '\n' | grep -cx -e "$PID" -e "$SNIFFER")" 1
	stop_knockd
}

@test "a file that is replaced or gone while it runs, a chroot without /proc: there is a next sniffer" {
	local root=$T/root

	mkdir -p "$root/etc" "$root/run" "$root/dev"
	cp "$KNOCKD" "$root/knockd"
	mknod "$root/dev/null" c 1 3
	printf '[options]\nlogfile = /log\n[mark]\nsequence = 65000:udp\n' >"$root/etc/knockd.conf"
	LOG=$root/log
	nsenter -t "$S" -m -n -r -w -- chroot "$root" ./knockd -i eth0 -c /etc/knockd.conf \
		-p /run/k.pid </dev/null >"$T/out" 2>"$T/err" 3>&- &
	PID=$!
	logged "$READY"
	has_sniffer
	not_logged warning
	mark
	rm "$root/knockd"
	printf '#!/bin/false\n' >"$root/knockd"
	kill -KILL "$SNIFFER"
	logged 'the sniffer died \(signal 9\): starting another$'
	has_sniffer
	mark
	stop_knockd
}

# As under qemu-user.
@test "no execveat(): the sniffer is a copy, and a warning says so" {
	need perl strace
	secrets
	: >"$T/out"; : >"$T/err"
	# It is the last call in which the sniffer could be traced.
	nsenter -t "$S" -m -n -r -w -- strace -qq -f -o /dev/null -e trace=execveat \
		-e inject=execveat:error=ENOSYS "$KNOCKD" -i eth0 -c "$T/knockd.conf" \
		-p "$T/k.pid" </dev/null >"$T/out" 2>"$T/err" 3>&- &
	logged "$READY"
	logged 'warning: the sniffer runs without: memory of its own$'
	PID=$(pids_in "$S" "$(basename "$KNOCKD")" | sort -n | head -n 1)
	has_sniffer
	# So the test above would see them.
	is "$(holds "$SNIFFER" "${SECRETS[@]:0:3}")" "${SECRETS[*]:0:3}"
	knock_a 10.77.0.1 7000 8000 9000
	logged '10.77.0.2: d: OPEN SESAME'
	knock_a fd77::1 7000 8000 9000
	logged 'fd77::2: d: OPEN SESAME'
	kill -TERM "$PID"
	until_true "$WAIT" no_daemon_left
	PID=''
}

@test "the sniffer leaves no core, can't be traced, and may make no process and no file" {
	local uid

	grant_door 3600
	start
	has_sniffer
	limit_is_0 'Max core file size'
	limit_is_0 'Max processes'
	limit_is_0 'Max file size'
	# Not dumpable: its files in /proc are root's, not its own user's.
	is "$(stat -c '%u %g' "/proc/$SNIFFER/environ")" '0 0'
	need setpriv
	uid=$(status Uid)
	not setpriv --reuid "${uid%% *}" --clear-groups cat "/proc/$SNIFFER/maps"
	stop_knockd
}

@test "the sniffer ends when the monitor is killed" {
	grant_door 3600
	start
	has_sniffer
	kill -KILL "$PID"
	until_true "$WAIT" no_daemon_left
}

# --- forbidden calls --------------------------------------------------------------------

# sniffer_died STATUS: waits for one more such line, whose number is $DEATHS, and
# that there is a sniffer again, which listens.
DEATHS=0
sniffer_died() {
	DEATHS=$((DEATHS + 1))
	logged 'the sniffer died' "$DEATHS"
	matches "$1: $(grep 'the sniffer died' "$LOG" | tail -n 1)" \
		"the sniffer died \\($1\\): starting another\$"
	order "${IDLE:-}"
	has_sniffer
	mark
}

# With a grant that stands all the time.
@test "each forbidden system call kills the sniffer; grants and later knocks don't notice" {
	local call calls='open openat execve socket ptrace fork clone kill chdir chroot setuid mmap setsockopt channel_filter process_vm_readv'

	[ "$(uname -m)" != x86_64 ] || calls+=' x32 i386'
	[ "$(uname -m)" = x86_64 ] || calls=${calls/open openat/openat}
	grant_door 3600
	rogue ''
	knock_a 10.77.0.1 7000 8000
	did 'start 10.77.0.2'
	for call in $calls; do
		deed "call $call"
		# SIGSYS has this number on all architectures but MIPS and so on.
		sniffer_died 'signal 31'
	done
	running "$PID"
	knock_b 10.77.0.1 7000 8000
	did 'start 10.77.0.3'
	kill -USR1 "$PID"
	logged 'counters: .* grants 2, commands 2, forged 0$'
	is "$(times_did 'stop .*')" 0
	not_logged 'bad record'
	stop_knockd
	is "$(sort "$T/did")" "$(printf '%s\n' 'start 10.77.0.2' 'start 10.77.0.3' 'stop 10.77.0.2' 'stop 10.77.0.3')"
}

@test "a kernel without seccomp: a warning, and the rest of the sandbox still holds" {
	local try IDLE=noseccomp

	grant_door 3600
	rogue noseccomp
	has_sniffer
	is "$(status Seccomp)" 0
	logged 'warning: the sniffer runs without: seccomp filter$'
	knock_a 10.77.0.1 7000 8000
	did 'start 10.77.0.2'
	# The error numbers: EACCES (the empty root is not even its own to search),
	# EPERM, EAGAIN (no process more).
	for try in openat:13 execve:13 chdir:13 socket:1 ptrace:1 clone:11 kill:1 setuid:1; do
		deed "noseccomp try ${try%:*}"
		sniffer_died "status ${try#*:}"
	done
	stop_knockd
	did 'stop 10.77.0.2'
}

# --- the ring ---------------------------------------------------------------------

# Each slot is full, and claims to begin far beyond the ring.
@test "what a sniffer leaves in the ring harms no successor" {
	grant_door 3600
	rogue ''
	deed poison
	sniffer_died 'signal [0-9]+'
	# One that ends as it should: the next one gets the same ring.
	order 'leave poison'
	sed -i 's/7000/7001/' "$T/knockd.conf"
	kill -HUP "$PID"
	# What comes before the next one has read the ring finds no room there.
	knock_until '10.77.0.2: d: OPEN SESAME' 1 10.77.0.1 7001 8000
	did 'start 10.77.0.2'
	knock_a fd77::1 7001 8000
	did 'start fd77::2'
	is "$(count "$LOG" 'the sniffer died')" 1
	stop_knockd
}

# --- forged records -------------------------------------------------------------------

# refused WHY DEED: the monitor says once what is wrong, and runs nothing. A reload
# with another door brings a new sniffer, and with it a new first time.
refused() {
	local n before

	has_sniffer
	before=$SNIFFER
	n=$(count "$LOG" 'bad record')
	deed "$2"
	logged 'bad record' $((n + 1)) || { echo "deed: $2"; return 1; }
	deed "$2"
	order ''
	mark
	is "$2: $(count "$LOG" 'bad record')" "$2: $((n + 1))"
	matches "$2: $(grep 'bad record' "$LOG" | tail -n 1)" "bad record from the sniffer: $1\$"
	is "$2: $(wc -l <"$T/did")" "$2: 1"
	running "$PID"
	n=$(sed -n 's/^seq_timeout = //p' "$T/knockd.conf")
	sed -i "s/^seq_timeout = $n/seq_timeout = $((n + 1))/" "$T/knockd.conf"
	kill -HUP "$PID"
	# The next deed is not for the one that goes.
	another() { has_sniffer && [ "$SNIFFER" != "$before" ]; }
	until_true "$WAIT" another
	mark
}

@test "a file with cap_net_raw+p: starts as uid 1000 where docker gives no ambient capability" {
	local rc=0

	need setcap setpriv
	copy_for_all
	setcap cap_net_raw+p "$T/copy" 2>/dev/null || skip "no file capabilities here"
	printf '[d]\nsequence = 7000\n' >"$T/c"
	chmod 644 "$T/c"
	as_1000() {
		in_s setpriv --reuid=1000 --regid=1000 --clear-groups --inh-caps=-all "$@"
	}
	bg "$S" setpriv --reuid=1000 --regid=1000 --clear-groups --inh-caps=-all -- \
		"$T/copy" -v -i eth0 -c "$T/c" -p /run/lock/k.pid >"$T/out" 2>"$T/err"
	PID=$!
	wait_for_line "$T/out" '^listening on eth0'
	knock_a 10.77.0.1 7000
	wait_for_line "$T/out" 'd: OPEN SESAME'
	kill "$PID"
	ended "$PID" "$TERM_STATUS"
	PID=''
	# Where the capability may not be had at all, it runs and says what it needs.
	as_1000 --bounding-set=-net_raw -- "$T/copy" -V >"$T/o"
	grep -q '^knockd' "$T/o"
	as_1000 --bounding-set=-net_raw -- "$T/copy" -i eth0 -c "$T/c" >"$T/o" 2>"$T/e" || rc=$?
	is "$rc" 1
	grep -q 'needs CAP_NET_RAW' "$T/e"
}

@test "a file with cap_net_raw+p: whoever starts it as a sniffer has no capability of it" {
	need setcap setpriv python3
	copy_for_all
	setcap cap_net_raw+p "$T/copy" 2>/dev/null || skip "no file capabilities here"
	# A channel where nothing comes, and memory for the ring.
	cat >"$T/start.py" <<-EOF2
	import os, socket, sys
	ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
	ring = os.memfd_create("ring")
	os.ftruncate(ring, 1 << 20)
	pid = os.fork()
	if not pid:
	    os.dup2(theirs.fileno(), 0)
	    os.dup2(ring, 1)
	    os.execvp(sys.argv[1], sys.argv[1:])
	theirs.close()
	print(pid, flush=True)
	os.waitpid(pid, 0)
	EOF2
	bg "$S" python3 "$T/start.py" setpriv --reuid=1000 --regid=1000 --clear-groups \
		--inh-caps=-all bash --norc -c 'exec -a "knockd: sniffer" "$0"' "$T/copy" \
		>"$T/out" 2>"$T/err"
	wait_for_line "$T/out" '^[0-9]'
	sniffer=$(cat "$T/out")
	wait_for_line "/proc/$sniffer/status" '^Name:.knockd: sniffer$'
	is "$(grep '^CapPrm' "/proc/$sniffer/status")" $'CapPrm:\t0000000000000000'
	kill -KILL "$sniffer"
}

forging_doors() {
	conf <<-EOF2
	[d]
	sequence = 7000,8000
	start_command = echo start %IP% >> $T/did
	cmd_timeout = 3600
	stop_command = echo stop %IP% >> $T/did
	[friends]
	sequence = 7001,8001
	allow = 10.77.0.2/31, 10.9.9.9
	deny = 10.77.0.3
	seq_timeout = 20
	command = echo friends %IP% >> $T/did
	EOF2
}

# Doors: 0 is "mark", 1 is "d", 2 is "friends".
@test "forged records are refused, each said once, and nothing runs" {
	local a door

	forging_doors
	rogue ''
	knock_a 10.77.0.1 7000 8000
	did 'start 10.77.0.2'
	refused kind 'forge none 1 2 10.9.9.9 0 1'
	refused kind 'forge other 1 2 10.9.9.9 0 1'
	for door in 3 4 65536 2147483648 4294967295; do
		refused door "forge OPEN $door 2 10.9.9.9 0 1"
	done
	refused door 'forge STAGE 3 1 10.9.9.9 0 1'
	refused door 'forge TIMEOUT 3 1 10.9.9.9 0 1'
	for a in 0 1 3 33 4294967295; do
		refused stage "forge OPEN 1 $a 10.9.9.9 0 1"
	done
	refused stage 'forge STAGE 1 33 10.9.9.9 0 1'
	for a in 0.0.0.0 0.1.2.3 224.0.0.1 239.255.255.255 255.255.255.255 :: ff02::1; do
		refused address "forge OPEN 1 2 $a 0 1"
	done
	refused address 'forge OPEN 2 2 10.77.0.3 0 1'
	for a in -55 -1 1 55 57 65000; do
		refused size "forge OPEN 1 2 10.9.9.9 $a 1"
	done
	# The honest knocks of the same sniffer count.
	knock_b 10.77.0.1 7000 8000
	did 'start 10.77.0.3'
	not_logged 'the sniffer died'
	stop_knockd
	is "$(times_did 'stop .*')" 2
	is "$(times_did '.* 10.9.9.9')" 0
}

@test "too many openings are not believed, and few one-time sequences are used up at once" {
	local i used

	for i in {100..299}; do echo "1$i,2$i"; done >"$T/sequences"
	conf <<-EOF2
	[d]
	sequence = 7000,8000
	[once]
	one_time_sequences = $T/sequences
	seq_timeout = 20
	EOF2
	rogue ''
	deed 'forge OPEN 1 2 10.9.9.9 0 20000'
	logged 'bad record from the sniffer: openings$'
	sed -i 's/7000/7001/' "$T/knockd.conf"
	kill -HUP "$PID"
	reloaded
	order ''
	mark
	deed 'forge OPEN 2 2 10.9.9.9 0 200'
	logged 'bad record from the sniffer: sequence$'
	order ''
	mark
	used=$(grep -c '^#' "$T/sequences")
	[ "$used" -ge 1 ] && [ "$used" -lt 50 ] || { echo "$used sequences are used up"; return 1; }
	# The next one opens, once the sniffer has it, in either family.
	for i in 10.77.0.1 fd77::1; do
		used=$(grep -c '^#' "$T/sequences")
		again() {
			knock_a "$i" $((1100 + used)) $((2100 + used))
			until_true 1 grep -q "^#$((100 + used))," "$T/sequences"
		}
		until_true "$WAIT" again
	done
	stop_knockd
}

@test "with -4 no IPv6 address gets in" {
	forging_doors
	rogue '' -4
	knock_a 10.77.0.1 7000 8000
	did 'start 10.77.0.2'
	refused address 'forge OPEN 1 2 fd77::2 0 1'
	refused address 'forge STAGE 1 1 fd77::2 0 1'
	stop_knockd
}

@test "too many records, garbage, and an empty one: refused, and knocks still count" {
	local n i

	forging_doors
	rogue ''
	knock_a 10.77.0.1 7000 8000
	did 'start 10.77.0.2'
	refused rate 'forge STAGE 1 1 10.9.9.9 0 5000'
	refused rate 'forge SUPPRESSED 0 0 10.9.9.9 0 5000'
	n=$(wc -l <"$LOG")
	for ((i = 1; i <= 20; i++)); do
		deed "garbage $i 2000"
	done
	order ''
	mark
	is "$(count "$LOG" 'bad record')" 3
	# The log grows by some 160 lines a second at most, whatever is written.
	[ $(($(wc -l <"$LOG") - n)) -lt 1000 ]
	is "$(wc -l <"$T/did")" 1
	# A record of nothing looks like the channel's end: a new sniffer comes.
	deed 'forge STAGE 1 1 10.9.9.9 -1000 1'
	logged 'the sniffer died \(status [0-9]+\): starting another'
	order ''
	has_sniffer
	knock_b 10.77.0.1 7000 8000
	did 'start 10.77.0.3'
	stop_knockd
	is "$(sort "$T/did")" "$(printf '%s\n' 'start 10.77.0.2' 'start 10.77.0.3' 'stop 10.77.0.2' 'stop 10.77.0.3')"
}

# --- with less than root ------------------------------------------------------------------

# names CAPABILITY...: as setpriv wants them, each added to a set of none.
names() {
	local c all=-all

	for c; do all+=,+$c; done
	echo "$all"
}

# opens_and_shuts COMMAND...: starts knockd by it; the door opens, and at the end
# it shuts.
opens_and_shuts() {
	: >"$T/did"; chmod 666 "$T/did"
	(exec nsenter -t "$S" -m -n -r -w -- "$@" "$T/copy" -i eth0 -c "$T/knockd.conf" \
		-p "$T/r/k.pid" </dev/null >"$T/out" 2>"$T/err" 3>&-) &
	PID=$!
	KNOCKD=$T/copy
	logged "$READY"
	knock_a 10.77.0.1 7000 8000
	did 'start 10.77.0.2'
	stop_knockd
	did 'stop 10.77.0.2'
}

less_than_root() {
	need setpriv
	copy_for_all
	grant_door 3600
	mkdir "$T/r"; chmod 777 "$T/r"
	: >"$LOG"; chmod 666 "$LOG"
	chmod 644 "$T/knockd.conf"
}

CONTAINER='chown dac_override fowner fsetid kill setgid setuid setpcap net_bind_service net_raw sys_chroot mknod audit_write setfcap'

@test "the default set of a container: nothing is missing" {
	local caps

	less_than_root
	# shellcheck disable=SC2086
	caps=$(names $CONTAINER)
	opens_and_shuts setpriv --bounding-set "$caps" --inh-caps "$caps"
	not_logged 'warning'
}

@test "a container's default set without setuid and sys_chroot: says so, works" {
	local caps

	less_than_root
	# shellcheck disable=SC2086
	caps=$(names ${CONTAINER/ setuid/})
	caps=${caps/,+sys_chroot/}
	opens_and_shuts setpriv --bounding-set "$caps" --inh-caps "$caps"
	logged 'warning: the sniffer runs without: empty root directory, own user and group id$'
	is "$(count "$LOG" warning)" 1
}

@test "an ordinary user with CAP_NET_RAW alone: says so, works" {
	less_than_root
	# What there is of it is in the ambient set, so it gets past the exec.
	opens_and_shuts setpriv --bounding-set "$(names net_raw)" --inh-caps "$(names net_raw)" \
		--ambient-caps "$(names net_raw)" --reuid 1000 --regid 1000 --clear-groups
	logged 'warning: the sniffer runs without: bounding set, empty root directory, own user and group id$'
	is "$(count "$LOG" warning)" 1
}

# --- limits -------------------------------------------------------------------------------

# limited LIMIT: starts knockd with that limit, as prlimit(1) writes it.
limited() {
	: >"$T/out"; : >"$T/err"
	nsenter -t "$S" -m -n -r -w -- prlimit "$1" "$KNOCKD" -i eth0 -c "$T/knockd.conf" \
		-p "$T/k.pid" </dev/null >"$T/out" 2>"$T/err" 3>&- &
	PID=$!
}

@test "too few descriptors: says so and ends with 1, or has a sniffer" {
	local n rc

	need prlimit
	grant_door 3600
	for n in {6..16}; do
		: >"$LOG"
		limited --nofile="$n"
		until_true "$WAIT" started 0
		if running "$PID"; then
			has_sniffer
			stop_knockd
		else
			ended "$PID" 1
			grep -q '^knockd: .*\(No file descriptors available\|Too many open files\|unnoticed\)' "$T/err"
			cat "$T/err" >>"$T/errors"
		fi
	done
	has_lines "$T/errors" '^knockd: could not start the sniffer: (No file descriptors|Too many open)' 1
}

@test "no byte may be written to files: it hears SIGTERM, and waits without work" {
	need prlimit
	grant_door 3600
	limited --fsize=0
	has_sniffer
	knock_a 10.77.0.1 7000 8000
	# It used the whole processor; now its times, in ticks of 10 ms, stay small.
	pause 2
	is "$(awk '{ print ($14 + $15 < 100) }' "/proc/$PID/stat")" 1
	kill -TERM "$PID"
	until_true "$WAIT" gone "$PID"
}
