#!/usr/bin/env bats
# contrib/fleet: three hosts, one Redis; a door opened on one opens on all.
#
#	S  the host where the knock arrives    A  the client; Redis runs here too
#	B  the second host                     C  the third

load lib

PUBLISH=$ROOT/contrib/fleet/knock-publish
SUBSCRIBE=$ROOT/contrib/fleet/knock-subscribe
C=''

setup() {
	need redis-server redis-cli nft
	net_up
	export FLEET_REDIS="-h 10.77.0.2" FLEET_RESYNC=3
	box C '' -n
	in_a ip link add c0 type veth peer name eth0 netns "$C"
	in_a ip link set c0 master br0 up
	in_c ip link set lo up
	in_c ip addr add 10.77.0.4/24 dev eth0
	in_c ip link set eth0 up
	in_a redis-server --bind 10.77.0.2 --protected-mode no --save '' \
		--dir "$T" >"$T/redis" 2>&1 3>&- &
	until_true "$WAIT" redis_up
	for x in s b c; do
		"in_$x" nft -f "$ROOT/contrib/nftables.conf"
		"in_$x" "$SUBSCRIBE" >"$T/sub.$x" 2>&1 3>&- &
	done
	for x in s b c; do
		wait_for_line "$T/sub.$x" '^knock-subscribe: connected, 0 open'
	done
}

teardown() {
	[ -z "${BATS_TEST_COMPLETED:-}" ] && [ -z "${BATS_TEST_SKIPPED:-}" ] &&
		tail -n 20 "$T"/sub.? "$T/redis"
	say_why
	net_down ${C:+"$C"}
}

in_c() { nsenter -t "$C" -n -- "$@"; }

redis_up() {
	[ "$(in_a redis-cli -h 10.77.0.2 ping 2>/dev/null)" = PONG ]
}

# has BOX SET ADDRESS
has() {
	"in_$1" nft get element inet knock "$2" "{ $3 }" >/dev/null 2>&1
}

has_not() {
	! has "$@"
}

@test "a knock at one host opens all of them" {
	for x in s b c; do
		"in_$x" nc -lk 22 >/dev/null 2>&1 3>&- &
	done
	for p in "$S" "$B" "$C"; do until_true "$WAIT" listens "$p" tcp 22; done
	for i in 1 3 4; do not reaches a 10.77.0.$i; done
	conf <<-EOF
	[ssh]
		sequence    = 7000,9000,8000
		seq_timeout = 60
		tcpflags    = syn
		command     = nft add element inet knock ssh4 { %IP% timeout 1h }; $PUBLISH open ssh %IP% 3600
		command_6   = nft add element inet knock ssh6 { %IP% timeout 1h }; $PUBLISH open ssh %IP% 3600
	EOF
	start
	knock_a 10.77.0.1 7000 9000 8000
	for x in s b c; do until_true "$WAIT" has $x ssh4 10.77.0.2; done
	for i in 1 3 4; do reaches a 10.77.0.$i; done
	knock_a fd77::1 7000 9000 8000
	for x in s b c; do until_true "$WAIT" has $x ssh6 fd77::2; done
	is "$(count "$LOG" 'status code')" 0
	stop_knockd
}

@test "a close closes all of them" {
	in_s "$PUBLISH" open ssh 192.0.2.9 600
	for x in s b c; do until_true "$WAIT" has $x ssh4 192.0.2.9; done
	in_s "$PUBLISH" close ssh 192.0.2.9
	for x in s b c; do until_true "$WAIT" has_not $x ssh4 192.0.2.9; done
}

@test "a host that was cut off catches up when it rejoins" {
	in_a ip link set b0 down
	in_s "$PUBLISH" open ssh 192.0.2.7 600
	in_s "$PUBLISH" open ssh 2001:db8::7 600
	until_true "$WAIT" has c ssh4 192.0.2.7
	until_true "$WAIT" has c ssh6 2001:db8::7
	has_not b ssh4 192.0.2.7
	in_a ip link set b0 up
	until_true 60 has b ssh4 192.0.2.7
	until_true 60 has b ssh6 2001:db8::7
}

@test "the time that is left is what is left" {
	in_s "$PUBLISH" open ssh 192.0.2.5 3
	until_true "$WAIT" has c ssh4 192.0.2.5
	until_true "$WAIT" has_not c ssh4 192.0.2.5
	until_true "$WAIT" has_not b ssh4 192.0.2.5
}

@test "Redis gone: the publisher fails, the subscribers wait and come back" {
	local before

	# shellcheck disable=SC2046
	kill $(pids_in "$A" redis-server)
	until_true "$WAIT" eval '! redis_up'
	run in_s "$PUBLISH" open ssh 192.0.2.6 600
	[ "$status" = 1 ]
	before=$(count "$T/sub.b" connected)
	in_a redis-server --bind 10.77.0.2 --protected-mode no --save '' \
		--dir "$T" >>"$T/redis" 2>&1 3>&- &
	until_true "$WAIT" redis_up
	wait_for_line "$T/sub.b" connected $((before + 1))
	in_s "$PUBLISH" open ssh 192.0.2.6 600
	until_true "$WAIT" has b ssh4 192.0.2.6
}

@test "the account of the README can do this and nothing else" {
	in_a redis-cli -h 10.77.0.2 ACL SETUSER knock on '>secret' '~knock:*' \
		'&knock' +set +del +ttl +scan +publish +subscribe +multi +exec \
		+ping
	export FLEET_REDIS="-h 10.77.0.2 --user knock" REDISCLI_AUTH=secret
	in_s "$PUBLISH" open ssh 192.0.2.4 600
	until_true "$WAIT" has c ssh4 192.0.2.4
	in_s "$SUBSCRIBE" >"$T/sub.x" 2>&1 3>&- &
	wait_for_line "$T/sub.x" '^knock-subscribe: connected, [1-9]'
	run in_s redis-cli -h 10.77.0.2 --user knock get other
	matches "$output" NOPERM
	run in_s redis-cli -h 10.77.0.2 --user knock flushall
	matches "$output" NOPERM
}

@test "what is no door, address or time gets nowhere" {
	local bad

	for bad in 'open ssh 1.2.3.4;x 5' 'open s/h 1.2.3.4 5' 'open ssh 1.2.3.4 x' \
		'open ssh 1.2.3.4 0' 'shut ssh 1.2.3.4 5' 'open ssh'; do
		# shellcheck disable=SC2086
		run in_s "$PUBLISH" $bad
		[ "$status" = 1 ] || { echo "accepted: $bad"; return 1; }
	done
	for bad in 'open ssh4;flush 1.2.3.4 5' 'open ssh 1.2.3.4}; 5' \
		'open ssh 1.2.3.4 5;' 'open ssh' '' 'open ssh 1.2.3.4 99999999'; do
		in_a redis-cli -h 10.77.0.2 publish knock "$bad"
	done
	in_s "$PUBLISH" open ssh 192.0.2.3 600
	until_true "$WAIT" has s ssh4 192.0.2.3
	has_not s ssh4 1.2.3.4
}

# sealed DOOR FILE: the 56 bytes that a client with the key sends for that door.
sealed() {
	local receiver

	printf '%s\n' "$1:$KEY" >"$T/client.key"
	chmod 600 "$T/client.key"
	: >"$T/got"
	bg "$A" socat -u UDP4-RECV:62201,bind=10.77.0.2 "OPEN:$T/got,append"
	receiver=$!
	until_true "$WAIT" listens "$A" udp 62201
	in_a "$KNOCK" -k "$T/client.key" 10.77.0.2 62201
	until_true "$WAIT" test -s "$T/got"
	kill "$receiver"
	head -c 56 "$T/got" >"$2"
}

# deliver FILE ADDRESS: A sends these bytes.
deliver() {
	in_a socat -u "FILE:$1" "UDP4-SENDTO:$2:62201"
}

# sealed_door BOX NAME: its configuration, in $T/BOX.conf.
sealed_door() {
	cat >"$T/$1.conf" <<-EOF
	[options]
		logfile = $T/$1.log
	[$2]
		sequence = 62201:udp
		keys     = $T/keys
		command  = nft add element inet knock ssh4 { %IP% timeout 1h }; $PUBLISH open ssh %IP% 3600
	EOF
	chmod 600 "$T/$1.conf"
}

@test "a sealed knock that one host has accepted is refused by the others, cut off or not" {
	local x

	need socat
	KEY=$("$KNOCK" --keygen anna x | sed -n 's/^anna //p')
	echo "anna $KEY" >"$T/keys"
	chmod 600 "$T/keys"
	sealed_door s ssh-a
	sealed_door b ssh-b
	for x in s b; do
		"in_$x" "$KNOCKD" -d -c "$T/$x.conf" -p "$T/$x.pid" 3>&-
	done
	sealed ssh-a "$T/a"
	sealed ssh-a "$T/a2"
	sealed ssh-b "$T/b"
	deliver "$T/a" 10.77.0.1
	wait_for_line "$T/s.log" '10.77.0.2: ssh-a: OPEN SESAME'
	for x in s b c; do until_true "$WAIT" has $x ssh4 10.77.0.2; done
	# seen on the way, and sent to the other host; then one that nobody has used,
	# for the door of another host, while Redis is gone
	deliver "$T/a" 10.77.0.3
	# shellcheck disable=SC2046
	kill $(pids_in "$A" redis-server)
	until_true "$WAIT" eval '! redis_up'
	deliver "$T/a2" 10.77.0.3
	deliver "$T/a" 10.77.0.1
	# its own is taken, so the others have been looked at
	deliver "$T/b" 10.77.0.3
	wait_for_line "$T/b.log" '10.77.0.2: ssh-b: OPEN SESAME'
	is "$(count "$T/b.log" OPEN)" 1
	is "$(count "$T/s.log" OPEN)" 1
	kill "$(<"$T/s.pid")" "$(<"$T/b.pid")"
}
