#!/usr/bin/env bats
# SIGHUP, and interfaces and addresses that come and go: the daemon stays, with the
# same process id, and the next knock opens.

load lib
load rogue
load reloads

same_daemon() {
	running "$PID"
	mark
}

# A door "d" of one port, so that each hit opens it; opens N: N openings by A.
simple() {
	conf <<-EOF2
	[d]
	sequence = 7000
	tcpflags = syn
	EOF2
}

# wire IF A_IF: joins S and A once more, with addresses 10.78.0.1/2, fd78::1/2.
wire() {
	in_s ip link add "$1" type veth peer name "$2" netns "$A"
	in_a ip addr add 10.78.0.2/24 dev "$2"
	in_a ip addr add fd78::2/64 dev "$2" nodad
	in_a ip link set "$2" up
}

address() {
	in_s ip addr add 10.78.0.1/24 dev "$1"
	in_s ip addr add fd78::1/64 dev "$1" nodad
}

# --- SIGHUP ------------------------------------------------------------------

@test "SIGHUP: new doors count, old ones are gone, same process, log reopened" {
	simple
	start -v
	knock_a 10.77.0.1 7000
	logged ' d: OPEN SESAME'
	conf <<-EOF2
	[new]
	sequence = 7001
	command = echo new >> $T/did
	EOF2
	mv "$LOG" "$T/log.1"
	kill -HUP "$PID"
	knock_until 'new: OPEN SESAME' 1 10.77.0.1 7001
	did new
	knock_a 10.77.0.1 7000
	same_daemon
	not_logged ' d: '
	cat "$T/log.1" "$LOG" >"$T/both"
	has_lines "$T/both" "\\] re-reading config file: $T/knockd.conf\$" 1
	has_lines "$T/out" "^closing log file: $LOG\$" 1
	has_lines "$T/out" "^re-opening log file: $LOG\$" 1
	stop_knockd
	not grep -q shutting "$T/log.1"
}

@test "SIGHUP: a knock under way goes on if no door has changed what it waits for" {
	local from to before

	conf <<-EOF2
	[d]
	sequence = 7000,8000,9000
	EOF2
	start
	has_sniffer
	for to in 10.77.0.1 fd77::1; do
		from=${to/%1/2}
		before=$SNIFFER
		knock_a "$to" 7000 8000
		logged "$from: d: Stage 2"
		# Another command, another name: nothing that the sniffer knows.
		printf 'command = true %s\n' "$to" >>"$T/knockd.conf"
		kill -HUP "$PID"
		reloaded $((${times:-0} + 1))
		times=$((${times:-0} + 2))
		knock_a "$to" 9000
		logged "$from: d: OPEN SESAME"
		has_sniffer
		is "$SNIFFER" "$before"
		# Another door: another sniffer, and knocks start over.
		knock_a "$to" 7000 8000
		logged "$from: d: Stage 2" 2
		printf 'seq_timeout = %s\n' "$times" >>"$T/knockd.conf"
		kill -HUP "$PID"
		reloaded "$times"
		mark
		knock_a "$to" 9000
		mark
		is "$(count "$LOG" "$from: d: OPEN")" 1
		has_sniffer
		not [ "$SNIFFER" = "$before" ]
	done
	stop_knockd
}

@test "SIGHUP with a bad file: said with line and word, everything stays as it is" {
	simple
	start
	printf '[broken]\nsequence = 7001,80x\nnonsense = 1\n' >>"$T/knockd.conf"
	kill -HUP "$PID"
	logged "$T/knockd.conf:9: .*80x"
	logged "$T/knockd.conf:10: .*nonsense"
	knock_a 10.77.0.1 7000
	logged ' d: OPEN SESAME'
	rm "$T/knockd.conf"
	kill -HUP "$PID"
	logged 're-reading config file' 2
	same_daemon
	knock_a 10.77.0.1 7000
	logged ' d: OPEN SESAME' 2
	simple
	kill -HUP "$PID"
	logged 're-reading config file' 3
	same_daemon
	stop_knockd
}

@test "SIGHUP with an emptied file: said, and everything stays as it is" {
	grant_door 600
	start
	: >"$T/knockd.conf"
	kill -HUP "$PID"
	logged 'has no doors left: nothing changes$'
	knock_a -d 50 10.77.0.1 7000 8000
	wait_for_line "$T/did" start
}

@test "SIGHUP with a FIFO for a configuration does not hang the daemon" {
	conf </dev/null
	start
	mv "$T/knockd.conf" "$T/old"
	mkfifo "$T/knockd.conf"
	kill -HUP "$PID"
	logged 'has errors: nothing changes$'
	kill "$PID"
	until_true "$WAIT" gone "$PID" || { echo "hangs in $(cat "/proc/$PID/wchan")"; return 1; }
}

@test "SIGHUP after -d with relative paths" {
	printf '[options]\nlogfile = log\npidfile = k.pid\n[d]\nsequence = 7000\n' >"$T/knockd.conf"
	in_s bash -c "cd $T && exec $KNOCKD -d -i eth0 -c knockd.conf" 3>&-
	PID=$(cat "$T/k.pid")
	printf '[e]\nsequence = 7001\n' >>"$T/knockd.conf"
	kill -HUP "$PID"
	knock_until ' e: OPEN SESAME' 1 10.77.0.1 7001
	running "$PID"
	kill "$PID"
	until_true "$WAIT" no_daemon_left
	[ ! -e "$T/k.pid" ]
}

@test "SIGHUP: grants keep their time, also when their door is gone or changed" {
	local door

	for door in gone changed kept; do
		printf '[%s]\nsequence = %d\nstart_command = echo start %s >> %s\ncmd_timeout = 3\nstop_command = echo stop %s >> %s\n' \
			$door $((7000 + ${#door})) $door "$T/did" $door "$T/did"
	done | conf
	start
	knock_a 10.77.0.1 7004 7007 # gone and kept: 4 letters
	knock_a 10.77.0.1 7004
	did 'start .*' 5
	conf <<-EOF2
	[kept]
	sequence = 7004
	start_command = echo start kept >> $T/did
	cmd_timeout = 3
	stop_command = echo stop kept >> $T/did
	[changed]
	sequence = 7999
	start_command = echo start other >> $T/did
	cmd_timeout = 3600
	stop_command = echo stop changed >> $T/did
	EOF2
	kill -HUP "$PID"
	reloaded
	did 'stop gone' 2
	did 'stop kept' 2
	did 'stop changed'
	same_daemon
	stop_knockd
	is "$(grep -c stop "$T/did")" 5
}

@test "SIGHUP: another LogFile" {
	simple
	start
	sed -i "s,^.*logfile.*,logfile = $T/log2," "$T/knockd.conf"
	kill -HUP "$PID"
	reloaded
	LOG=$T/log2
	knock_a 10.77.0.1 7000
	logged ' d: OPEN SESAME'
	stop_knockd
	not grep -q 'd: OPEN SESAME' "$T/log"
}

@test "SIGHUP: another PidFile; at the end the own one goes, nobody else's" {
	simple
	sed -i "1a pidfile = $T/one.pid" "$T/knockd.conf"
	in_s "$KNOCKD" -d -i eth0 -c "$T/knockd.conf" 3>&-
	PID=$(cat "$T/one.pid")
	echo 4711 >"$T/two.pid"
	sed -i "s/one.pid/two.pid/" "$T/knockd.conf"
	kill -HUP "$PID"
	reloaded
	same_daemon
	kill "$PID"
	until_true "$WAIT" no_daemon_left
	[ ! -e "$T/one.pid" ]
	is "$(cat "$T/two.pid")" 4711
}

@test "SIGHUP: another Interface is listened on" {
	wire eth1 e1
	address eth1
	in_s ip link set eth1 up
	simple
	sed -i '1a interface = eth0' "$T/knockd.conf"
	start_knockd
	knock_a 10.78.0.1 7000
	mark
	not_logged ' d: OPEN'
	sed -i 's/^interface.*/interface = eth0,eth1/' "$T/knockd.conf"
	kill -HUP "$PID"
	knock_until ' d: OPEN SESAME' 1 10.78.0.1 7000
	same_daemon
	stop_knockd
}

@test "100 SIGHUPs in a stream of knocks: alive, and the next knock opens" {
	conf <<-EOF2
	[d]
	sequence = 7000,8000,9000
	seq_timeout = 15
	[e]
	sequence = 7000
	command = true
	EOF2
	start
	in_b bash -c 'for ((i = 0; i < 3000; i++)); do
		{ : >/dev/tcp/10.77.0.1/7000; } 2>/dev/null; done' 3>&- &
	for ((i = 0; i < 100; i++)); do
		kill -HUP "$PID"
		pause 0.01
	done
	until_true "$WAIT" same_daemon
	knock_until '10.77.0.2: d: OPEN SESAME' 1 10.77.0.1 7000 8000 9000
	stop_knockd
}

@test "90 reloads, a third of them bad, in a stream of knocks: none is lost, nothing grows" {
	reloads 90
	is "$LOST" 0
	[ "${GREW% *}" -le 64 ]
	[ "${GREW#* }" -le 64 ]
	not_logged 'died'
	stop_knockd
}

# --- interfaces and addresses --------------------------------------------------------

@test "an interface that is down at the start is waited for" {
	in_s ip link set eth0 down
	simple
	start
	in_s ip link set eth0 up
	knock_until ' d: OPEN SESAME' 1 10.77.0.1 7000
	same_daemon
	stop_knockd
}

@test "an interface without an address at the start is waited for, and said once" {
	in_s ip addr flush dev eth0
	simple
	start
	logged 'eth0.* no address'
	in_s ip addr add 10.77.0.1/24 dev eth0
	knock_until '10.77.0.2: d: OPEN SESAME' 1 10.77.0.1 7000
	in_s ip addr add fd77::1/64 dev eth0 nodad
	knock_until 'fd77::2: d: OPEN SESAME' 1 fd77::1 7000
	same_daemon
	is "$(count "$LOG" 'eth0.* no address')" 1
	stop_knockd
}

@test "down and up" {
	simple
	start
	knock_a 10.77.0.1 7000
	logged ' d: OPEN SESAME'
	in_s ip link set eth0 down
	in_s ip link set eth0 up
	in_s ip addr replace fd77::1/64 dev eth0 nodad
	knock_until '10.77.0.2: d: OPEN SESAME' 2 10.77.0.1 7000
	knock_until 'fd77::2: d: OPEN SESAME' 1 fd77::1 7000
	same_daemon
	stop_knockd
}

@test "deleted and made anew" {
	simple
	start
	knock_a 10.77.0.1 7000
	logged ' d: OPEN SESAME'
	for i in 2 3; do
		in_s ip link del eth0
		in_s ip link add index $((20 + i)) eth0 type veth peer name s0 netns "$A"
		in_a ip link set s0 master br0 up
		in_s ip addr add 10.77.0.1/24 dev eth0
		in_s ip link set eth0 address 02:00:00:00:00:01 up
		knock_until ' d: OPEN SESAME' $i 10.77.0.1 7000
	done
	same_daemon
	stop_knockd
}

@test "renamed away and back" {
	simple
	start
	for i in 1 2; do
		in_s ip link set eth0 down
		in_s ip link set eth0 name lan0
		in_s ip link set lan0 up
		in_s ip link set lan0 down
		in_s ip link set lan0 name eth0
		in_s ip link set eth0 up
		knock_until '10.77.0.2: d: OPEN SESAME' $i 10.77.0.1 7000
	done
	same_daemon
	stop_knockd
}

@test "address replaced, address added, address gone" {
	simple
	start
	in_s ip addr add 10.77.0.9/24 dev eth0
	in_a ip neigh replace 10.77.0.9 lladdr 02:00:00:00:00:01 dev br0 nud permanent
	knock_until ' d: OPEN SESAME' 1 10.77.0.9 7000
	knock_a 10.77.0.1 7000
	logged ' d: OPEN SESAME' 2
	same_daemon
	# .1 moves away; A still sends to it. The marks go to .9 then.
	in_s ip addr del 10.77.0.1/24 dev eth0
	in_s ip addr replace 10.77.0.9/24 dev eth0
	in_b ip neigh replace 10.77.0.9 lladdr 02:00:00:00:00:01 dev eth0 nud permanent
	quiet() {
		local n

		n=$(count "$LOG" ' d: OPEN')
		knock_a 10.77.0.1 7000
		in_b bash -c 'echo >/dev/udp/10.77.0.9/65000'
		until_true 1 has_lines "$LOG" 'mark: OPEN' $((++marks)) || return 1
		[ "$(count "$LOG" ' d: OPEN')" = "$n" ]
	}
	marks=$(count "$LOG" 'mark: OPEN')
	until_true "$WAIT" quiet
	running "$PID"
	stop_knockd
}

@test "IPv6 alone at first, an IPv4 address later" {
	in_s ip addr del 10.77.0.1/24 dev eth0
	simple
	start
	knock_a fd77::1 7000
	logged 'fd77::2: d: OPEN SESAME'
	in_s ip addr add 10.77.0.1/24 dev eth0
	knock_until '10.77.0.2: d: OPEN SESAME' 1 10.77.0.1 7000
	same_daemon
	stop_knockd
}

@test "several interfaces, by -i and by Interface; others do not count" {
	wire eth1 e1; address eth1; in_s ip link set eth1 up
	in_s ip link add eth2 type veth peer name e2 netns "$A"
	in_s ip addr add 10.79.0.1/24 dev eth2
	in_s ip link set eth2 up
	in_a ip addr add 10.79.0.2/24 dev e2
	in_a ip link set e2 up
	simple
	start_knockd -i eth0,eth1
	logged 'listening on eth0,eth1$'
	knock_until '10.77.0.2: d: OPEN' 1 10.77.0.1 7000
	knock_until '10.78.0.2: d: OPEN' 1 10.78.0.1 7000
	knock_until 'fd78::2: d: OPEN' 1 fd78::1 7000
	knock_a 10.79.0.1 7000
	mark
	not_logged '10.79.0.2'
	stop_knockd
	sed -i '1a interface = eth0 , eth2' "$T/knockd.conf"
	start_knockd
	logged 'listening on eth0 ?, ?eth2$'
	knock_until '10.79.0.2: d: OPEN' 1 10.79.0.1 7000
	knock_a 10.78.0.1 7000
	mark
	is "$(count "$LOG" '10.78.0.2: d: OPEN')" 1
	stop_knockd
}

@test "an interface by another name of it" {
	in_s ip link property add dev eth0 altname enp0s3 || skip "no altnames here"
	conf <<-EOF2
	[d]
	sequence = 7000
	EOF2
	start_knockd -i enp0s3
	knock_a 10.77.0.1 7000
	WAIT=5 logged ' d: OPEN SESAME'
}

@test "an address label (eth0:1) as the interface, by option and in the file" {
	in_s ip addr add 10.77.0.50/24 dev eth0 label eth0:1
	conf <<-EOF2
	[d]
	sequence = 7000
	EOF2
	start_knockd -i eth0:1
	not_logged 'waiting:'
	knock_a 10.77.0.1 7000
	mark_label
	not_logged ' d: OPEN'
	knock_a 10.77.0.50 7000
	logged ' d: OPEN SESAME'
	stop_knockd
	sed -i '1a interface = eth0:1' "$T/knockd.conf"
	start_knockd
	knock_a 10.77.0.50 7000
	logged ' d: OPEN SESAME' 2
	stop_knockd
}

# As mark, to the address with the label.
mark_label() {
	local n

	n=$(count "$LOG" 'mark: OPEN SESAME')
	in_a bash -c 'echo >/dev/udp/10.77.0.50/65000'
	logged 'mark: OPEN SESAME' $((n + 1))
}

@test "any, and no interface given: every one but the loopback, also one that comes later" {
	simple
	for args in '-i any' ''; do
		: >"$LOG"
		# shellcheck disable=SC2086
		start_knockd $args
		logged 'listening on any$'
		knock_a 10.77.0.1 7000
		logged '10.77.0.2: d: OPEN'
		knock_a fd77::1 7000
		logged 'fd77::2: d: OPEN'
		wire eth1 e1
		in_s ip link set eth1 up
		address eth1
		knock_until '10.78.0.2: d: OPEN' 1 10.78.0.1 7000
		in_s "$KNOCK" 127.0.0.1 7000
		in_s "$KNOCK" 10.77.0.1 7000
		same_daemon
		not_logged '(127.0.0.1|10.77.0.1): d'
		stop_knockd
		in_s ip link del eth1
	done
}

@test "any and the loopback" {
	simple
	sed -i 's/^\[options\]/&\ninterface = lo, any/' "$T/knockd.conf"
	for args in '-i any,lo' ''; do
		: >"$LOG"
		# shellcheck disable=SC2086
		start_knockd $args
		knock_a 10.77.0.1 7000
		logged '10.77.0.2: d: OPEN'
		knock_a fd77::1 7000
		logged 'fd77::2: d: OPEN'
		in_s "$KNOCK" 127.0.0.1 7000
		logged '127.0.0.1: d: OPEN'
		in_s "$KNOCK" ::1 7000
		logged '::1: d: OPEN'
		# What is sent to an own address comes by the loopback as well.
		in_s "$KNOCK" 10.77.0.1 7000
		logged '10.77.0.1: d: OPEN'
		stop_knockd
	done
	launch -i any,eth7
	ended "$PID" 1
	grep -q 'no such interface: eth7 does not exist' "$T/err"
}

@test "thousands of addresses: knocks on each of them count, IPv4 and IPv6" {
	local i

	simple
	start
	for i in {0..2999}; do
		echo "addr add 10.99.$((i / 250)).$((i % 250 + 1))/32 dev eth0"
	done | in_s ip -batch -
	in_s ip addr add fd99::1/128 dev eth0 nodad
	in_a ip route add 10.99.0.0/16 dev br0
	in_a ip route add fd99::/64 dev br0
	in_a ip neigh replace fd99::1 lladdr 02:00:00:00:00:01 dev br0 nud permanent
	in_a ip neigh replace 10.99.11.250 lladdr 02:00:00:00:00:01 dev br0 nud permanent
	knock_until '10.77.0.2: d: OPEN' 1 10.99.11.250 7000
	knock_until 'fd77::2: d: OPEN' 1 fd99::1 7000
	knock_a fd77::1 7000
	logged 'fd77::2: d: OPEN' 2
	stop_knockd
	# The same when they are there at the start.
	start
	knock_a 10.99.11.250 7000
	logged '10.77.0.2: d: OPEN' 2
	knock_a fd99::1 7000
	logged 'fd77::2: d: OPEN' 3
	stop_knockd
}

@test "any: a packet for this host's address on another interface counts" {
	wire eth1 e1
	address eth1
	in_s ip link set eth1 up
	in_a ip route add 10.77.0.1/32 via 10.78.0.1 dev e1
	simple
	start_knockd -i any
	knock_until '10.78.0.2: d: OPEN|10.77.0.2: d: OPEN' 1 10.77.0.1 7000
	stop_knockd
}

@test "the loopback by name" {
	conf <<-EOF2
	[d]
	sequence = 7000,8000:udp
	EOF2
	start_knockd -i lo
	logged 'listening on lo$'
	in_s "$KNOCK" 127.0.0.1 7000 8000:udp
	logged '127.0.0.1: d: OPEN SESAME'
	in_s "$KNOCK" ::1 7000 8000:udp
	logged '::1: d: OPEN SESAME'
	in_s "$KNOCK" 127.0.0.1 8000:udp
	stop_knockd
	is "$(count "$LOG" 'd: OPEN')" 2
}

@test "a tun device, made anew while the daemon runs, IPv4 and IPv6" {
	need socat
	[ -c /dev/net/tun ] || skip "no tun device in this kernel"
	tunnel() {
		local far='UDP-DATAGRAM:10.77.0'

		bg "$S" socat "TUN,tun-name=tun0,iff-no-pi,iff-up" "$far.2:5555,bind=10.77.0.1:5555"
		SOCAT_S=$!
		bg "$A" socat "TUN,tun-name=tun0,iff-no-pi,iff-up" "$far.1:5555,bind=10.77.0.2:5555"
		SOCAT_A=$!
		until_true "$WAIT" in_s ip addr add 10.99.0.1/24 dev tun0 2>/dev/null
		until_true "$WAIT" in_a ip addr add 10.99.0.2/24 dev tun0 2>/dev/null
		in_s ip addr add fd99::1/64 dev tun0
		in_a ip addr add fd99::2/64 dev tun0
	}
	conf <<-EOF2
	[d]
	sequence = 7000,8000:udp
	EOF2
	tunnel
	start_knockd -i eth0,tun0
	for i in 1 2; do
		knock_until '10.99.0.2: d: OPEN SESAME' $i 10.99.0.1 7000 8000:udp
		knock_until 'fd99::2: d: OPEN SESAME' $i fd99::1 7000 8000:udp
		kill "$SOCAT_S" "$SOCAT_A"
		wait "$SOCAT_S" "$SOCAT_A" || :
		[ $i = 2 ] || tunnel
	done
	same_daemon
	stop_knockd
}

@test "a packet that a bridge and its port both show counts once" {
	in_s ip link add br7 type bridge stp_state 0 forward_delay 0
	in_s ip addr flush dev eth0
	in_s ip link set br7 address 02:00:00:00:00:01 up
	in_s ip link set eth0 master br7
	in_s ip addr add 10.77.0.1/24 dev br7
	in_s ip addr add fd77::1/64 dev br7 nodad
	conf <<-EOF2
	[u]
	sequence = 7000:udp
	[t]
	sequence = 7001
	[s]
	sequence = 7002,7002,7003
	EOF2
	for interface in br7,eth0 any br7; do
		: >"$LOG"
		start_knockd -i $interface
		knock_until ' u: OPEN SESAME' 1 10.77.0.1 7000:udp
		mark
		n=$(count "$LOG" ' u: OPEN')
		for i in 1 2 3; do
			knock_a 10.77.0.1 7000:udp 7001
			knock_a fd77::1 7000:udp 7001
		done
		mark
		is "$interface: $(count "$LOG" ' u: OPEN')" "$interface: $((n + 6))"
		is "$interface: $(count "$LOG" ' t: OPEN')" "$interface: 6"
		knock_a 10.77.0.1 7002 7003
		mark
		not_logged ' s: OPEN'
		knock_a 10.77.0.1 7002 7002 7003
		logged ' s: OPEN SESAME'
		stop_knockd
	done
}
