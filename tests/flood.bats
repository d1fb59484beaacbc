#!/usr/bin/env bats
# Floods of spoofed knocks: an honest knock in the middle opens; memory and log
# stay bounded; afterwards there is quiet again. Each flood lasts 3 seconds.

load lib
load packets

setup() {
	need_gen
	net_up
	no_answers
	flood_conf
	start
}

# honest ADDR DOOR ARG...: knocks as B with -d 0, 50 and 200 as long as the
# flood lasts, nine times at least; sets OPENED and KNOCKED.
honest() {
	local before n=0 a=$1 door=$2

	before=$(opens "$a" "$door")
	shift 2
	while [ $n -lt 9 ] || running "$FLOOD"; do
		for d in 0 50 200; do
			knock_b -d $d "$(me "$([[ $a == *:* ]] && echo 6)")" "$@"
			n=$((n + 1))
		done
	done
	wait "$FLOOD"
	mark
	KNOCKED=$n
	OPENED=$(($(opens "$a" "$door") - before))
}

# all_open "FLOOD WORDS" ADDR DOOR ARG...: in this flood every knock opens. When
# the machine has no CPU for the daemon the kernel drops packets, and says so:
# such a try is void.
all_open() {
	local before words=$1

	shift
	for _ in 1 2 3; do
		before=$(drops)
		# shellcheck disable=SC2086
		flood $words
		honest "$@"
		[ "$OPENED" != "$KNOCKED" ] || return 0
		echo "$OPENED of $KNOCKED opened, $(($(drops) - before)) packets dropped by the kernel"
		[ "$(drops)" != "$before" ] || return 1
	done
	[[ $words == *rate=20000* ]] && return 1
	skip "this machine is too busy for this flood"
}

@test "a flood of first knocks, IPv4, 20,000 packets a second" {
	all_open '100.64.0.1 ports=7000 rate=20000' 10.77.0.3 openSSH 7000 8000 9000
}

@test "a flood of first knocks, IPv4, as fast as it goes" {
	all_open '100.64.0.1 ports=7000' 10.77.0.3 openSSH 7000 8000 9000
}

@test "a flood of first knocks, IPv6, as fast as it goes" {
	all_open 'fd99::1 ports=7000' fd77::3 openSSH 7000 8000 9000
}

@test "a flood of first knocks at a UDP door" {
	all_open '100.64.0.1 ports=6000 proto=udp' 10.77.0.3 udp -u 6000 6001 6002
}

@test "a flood of second knocks" {
	all_open '100.64.0.1 ports=8000' 10.77.0.3 openSSH 7000 8000 9000
}

@test "a flood that knows all but the last port" {
	all_open '100.64.0.1 ports=7000,8000' 10.77.0.3 openSSH 7000 8000 9000
}

@test "floods of noise: SYN, UDP, data" {
	for w in 'ports=1-65535 order=rand' 'ports=10000-60000 proto=udp order=rand' \
		'sources=64 ports=443 flags=A payload=1360'; do
		all_open "100.64.0.1 $w" 10.77.0.3 openSSH 7000 8000 9000
	done
}

@test "somebody behind the knocker's own address floods first knocks" {
	all_open '10.77.0.3 sources=1 ports=7000 rate=20000' \
		10.77.0.3 openSSH 7000 8000 9000
}

@test "an attempt begun before the flood completes after it" {
	cat >"$T/slow.conf" <<-EOF
	[slow]
		sequence = 7000,8000,9000
		seq_timeout = 300
		tcpflags = syn
	EOF
	conf <"$T/slow.conf"
	kill -HUP "$PID"
	reloaded
	mark
	# Past the first stage, so that no newcomer may put it out.
	from 10.88.0.1 ports=7000,8000
	mark
	flood 100.64.0.1 ports=7000
	wait "$FLOOD"
	mark
	from 10.88.0.1 ports=9000
	mark
	is "$(opens 10.88.0.1 slow)" 1
}

@test "memory and log stay bounded" {
	local before first second

	before=$(rss)
	flood 100.64.0.1 ports=7000
	wait "$FLOOD"
	flood fd99::1 ports=7000
	wait "$FLOOD"
	mark
	first=$(rss)
	flood 100.80.0.1 ports=7000,8000
	wait "$FLOOD"
	flood fd99:1::1 ports=31337
	wait "$FLOOD"
	mark
	second=$(rss)
	echo "KiB resident: $before idle, $first after two floods, $second after four"
	[ "$first" -lt 20000 ]
	[ $((second - first)) -lt 512 ]
	# 20 lines a second and kind, some kinds, and their sums.
	n=$(wc -l <"$LOG")
	echo "$n lines in the log"
	[ "$n" -lt 4000 ]
	grep -qE '[0-9]+ messages suppressed' "$LOG"
	is "$(doors_opened 'openSSH|shuffled')" 0
}

# quiet: no process of the daemon has run for two seconds.
quiet() {
	local n

	n=$(switches)
	pause 2
	[ "$(switches)" = "$n" ]
}

@test "afterwards no process of it ever wakes up" {
	flood 100.64.0.1 ports=7000
	wait "$FLOOD"
	mark
	until_true 60 quiet
	knock_b "$ME4" 7000 8000 9000
	logged 'openSSH: OPEN SESAME'
	until_true 60 quiet
}

@test "traffic that is no knock wakes nobody" {
	until_true 60 quiet
	n=$(switches)
	flood 100.64.0.1 sources=64 ports=443 flags=A payload=1360
	wait "$FLOOD"
	flood 100.64.0.1 ports=10000-60000 proto=udp order=rand
	wait "$FLOOD"
	in_s "$GEN" if=eth0 qdisc=1 src="$ME4" dst=10.77.0.2 \
		dmac=02:00:00:00:00:02 ports=7000,8000,9000 n=100000
	is "$(switches)" "$n"
}

@test "a flood of a door of one port does not keep another door's knocks away" {
	cat >>"$T/knockd.conf" <<-EOF2
	[one]
	sequence = 7100
	command = sleep 2
	EOF2
	kill -HUP "$PID"
	reloaded
	FLOOD_TIME=3 flood 100.64.0.1 ports=7100 rate=20000
	wait "$FLOOD"
	# What is too much is refused; nobody else waits behind it.
	logged 'one: refused: 2048 start commands wait, 2048 of this door'
	knock_until '10.77.0.2: openSSH: OPEN SESAME' 1 -d 20 "$ME4" 7000 8000 9000
	stop_knockd
}
