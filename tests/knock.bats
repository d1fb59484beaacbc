#!/usr/bin/env bats
# The client: what it sends, what it refuses, how it waits for the door, joins
# it to stdin and stdout, and what it finds in the user's profiles.

load lib

# --- what arrives at the server ----------------------------------------------

# capture [FILTER]: records what arrives at S from now on; without a filter SYNs
# and datagrams.
capture() {
	need tcpdump
	in_s tcpdump -i eth0 -Q in -nlqtt --immediate-mode \
		"${1:-udp or tcp[13] & 2 != 0 or (ip6 proto 6 and ip6[53] & 2 != 0)}" \
		>"$T/seen" 2>"$T/tcpdump" 3>&- &
	wait_for_line "$T/tcpdump" 'listening on'
}

# end_of_capture: whatever was sent before is in the record now.
end_of_capture() {
	in_b bash -c 'echo >/dev/udp/10.77.0.1/9'
	wait_for_line "$T/seen" '10\.77\.0\.3\..* 10\.77\.0\.1\.9:'
}

# hits: the SYNs and datagrams from A, in order, as `tcp 7000` or `udp 7000`.
hits() {
	end_of_capture
	sed -nE \
		-e '/ (10\.77\.0\.3|fd77::3)\./d' \
		-e 's/.* > [0-9a-f.:]+\.([0-9]+): tcp 0$/tcp \1/p' \
		-e 's/.* > [0-9a-f.:]+\.([0-9]+): UDP, length 1$/udp \1/p' "$T/seen"
}

# nothing_seen: not one packet came from A.
nothing_seen() {
	end_of_capture
	is "$(grep -E ' (10\.77\.0\.2|fd77::2)\.' "$T/seen")" ''
}

# no_retry_left: no socket of A is still trying to connect.
no_retry_left() {
	! grep -E '^ *[0-9]+: [^ ]+ [^ ]+ 02 ' "/proc/$A/net/tcp" "/proc/$A/net/tcp6"
}

# fails MESSAGE ARG...: knock ends with 1 and this on stderr, stdout is empty.
fails() {
	local message=$1 rc=0

	shift
	knock_a "$@" >"$T/out" 2>"$T/err" || rc=$?
	is "$rc" 1
	is "$(cat "$T/out")" ''
	matches "$(cat "$T/err")" "$message"
}

# --- doors ---------------------------------------------------------------------

# shut PORT HOW: S rejects or drops connections to this port.
shut() {
	need iptables
	in_s iptables -w -A INPUT -p tcp --dport "$1" -j "$2" ||
		skip "iptables does not work with this kernel"
}

# tried PORT N: whether the shut door was tried so often.
tried() {
	[ "$(in_s iptables -w -nvxL INPUT | awk -v p="dpt:$1" '$0 ~ p { print $1 }')" -ge "$2" ]
}

unshut() {
	in_s iptables -w -D INPUT -p tcp --dport "$1" -j "$2"
}

# peer: S takes one connection on port 5000, and a Python program on stdin says
# what it does with it, c.
peer() {
	need python3
	{
		printf '%s\n' 'import os, socket, struct' \
			's = socket.create_server(("10.77.0.1", 5000))' 'c, a = s.accept()'
		cat
	} >"$T/peer.py"
	in_s python3 "$T/peer.py" 2>"$T/peer" 3>&- &
	until_true "$WAIT" listens "$S" tcp 5000
}

# half_closing_peer: one that ends its own side at once, and then takes the rest
# into $T/all.
half_closing_peer() {
	peer <<-EOF2
	c.sendall(b"bye\n")
	c.shutdown(socket.SHUT_WR)
	with open("$T/part", "wb") as f:
	    while d := c.recv(65536):
	        f.write(d)
	os.rename("$T/part", "$T/all")
	EOF2
}

# --- the knock -------------------------------------------------------------------

@test "one SYN a port, in order, and no second one, answered or not" {
	shut 8000 DROP
	serve 9000 EXEC:cat
	capture
	knock_a 10.77.0.1 7000 8000 9000 7000
	no_retry_left
	is "$(hits)" $'tcp 7000\ntcp 8000\ntcp 9000\ntcp 7000'
}

@test "no second SYN during a long delay either" {
	shut 8000 DROP
	capture
	knock_a -d 1500 10.77.0.1 8000
	is "$(hits)" 'tcp 8000'
}

@test "the first packets ever to a host are not lost" {
	in_a ip neigh del 10.77.0.1 dev br0
	capture
	knock_a 10.77.0.1 7001 7002 7003:udp 7004 7005 7006 7007 7008
	is "$(hits)" "$(printf '%s\n' tcp\ 700{1,2} udp\ 7003 tcp\ 700{4..8})"
}

@test "one datagram with a NUL byte a UDP port" {
	capture '(udp[4:2] = 9 and udp[8] = 0) or udp dst port 9'
	knock_a 10.77.0.1 7000:udp 8000:UDP 9000:Udp
	is "$(hits)" $'udp 7000\nudp 8000\nudp 9000'
}

@test "TCP and UDP ports in one knock, the words in any case" {
	capture
	knock_a 10.77.0.1 1001:TCP 1002:udp 1003 1004:tcp 1005:uDP
	is "$(hits)" $'tcp 1001\nudp 1002\ntcp 1003\ntcp 1004\nudp 1005'
}

@test "-u makes every port UDP, whatever the operand says" {
	capture
	knock_a -u 10.77.0.1 1001 1002:tcp 1003:udp
	knock_a 10.77.0.1 1004:tcp --udp
	is "$(hits)" $'udp 1001\nudp 1002\nudp 1003\nudp 1004'
}

@test "PORT/PROTOCOL, as scanners write it" {
	capture
	knock_a 10.77.0.1 7000/udp 8000/tcp 9000/UDP
	profile .knockrc <<<$'[home]\nhost = 10.77.0.1\nports = 1001/udp, 1002/tcp'
	at_home home
	is "$(hits)" $'udp 7000\ntcp 8000\nudp 9000\nudp 1001\ntcp 1002'
	fails "protocol 'sctp' is not tcp or udp" 10.77.0.1 7000/sctp
}

@test "names of services are ports" {
	grep -q '^ssh[[:blank:]]*22/tcp' /etc/services || skip "no services here"
	capture
	knock_a 10.77.0.1 ssh domain:udp
	is "$(hits)" $'tcp 22\nudp 53'
}

@test "options stand before, between or behind the operands, short or long" {
	capture
	knock_a -v 10.77.0.1 7000 >"$T/1"
	knock_a 10.77.0.1 7000 -v >"$T/2"
	knock_a 10.77.0.1 --verbose 7000 >"$T/3"
	knock_a --verb --delay=1 10.77.0.1 --ipv4 7000 >"$T/4"
	is "$(cat "$T"/[1-4] | sort -u)" 'hitting tcp 10.77.0.1:7000'
	is "$(hits)" $'tcp 7000\ntcp 7000\ntcp 7000\ntcp 7000'
}

@test "-v prints what 0.8 printed" {
	local args=(-v 10.77.0.1 7000 8000:udp 9000:tcp)

	is "$(knock_a "${args[@]}")" \
		$'hitting tcp 10.77.0.1:7000\nhitting udp 10.77.0.1:8000\nhitting tcp 10.77.0.1:9000'
	is "$(knock_a -v -6 fd77::1 7000)" 'hitting tcp fd77::1:7000'
	old_or_skip
	is "$(knock_a "${args[@]}")" "$(in_a "${OLD_KNOCK[@]}" "${args[@]}")"
	is "$(knock_a -uv fd77::1 7 8:udp)" "$(in_a "${OLD_KNOCK[@]}" -uv fd77::1 7 8:udp)"
}

@test "the delay follows each port, the last one too" {
	local start

	capture
	start=$(uptime_ms)
	knock_a -d 500 10.77.0.1 7000 8000 9000:udp
	[ $(($(uptime_ms) - start)) -ge 1490 ]
	is "$(hits)" $'tcp 7000\ntcp 8000\nudp 9000'
	# Less, as a packet may have been seen late.
	awk '/ 10\.77\.0\.2\./ {
		if (last && $1 - last < 0.1) exit 1
		last = $1 }' "$T/seen"
}

@test "10 ms follow each port unless -d says otherwise" {
	local start

	start=$(uptime_ms)
	knock_a 10.77.0.1 $(seq 7001 7050)
	[ $(($(uptime_ms) - start)) -ge 490 ]
	# Each packet of which the first is a neighbour's answer is seen late: not
	# every gap is 10 ms, but most are.
	capture
	knock_a 10.77.0.1 $(seq 7001 7010)
	hits >/dev/null
	[ "$(awk '/ 10\.77\.0\.2\./ { n += last && $1 - last > 0.005; last = $1 }
		END { print n }' "$T/seen")" -ge 5 ]
}

@test "whoever reads -v's lines may leave: all ports are hit" {
	capture
	{ rc=0; knock_a -v -d 50 10.77.0.1 7000 8000 9000:udp 7001 7002 7003 || rc=$?
		echo $rc >"$T/rc"; } | true
	is "$(cat "$T/rc")" 0
	is "$(hits)" $'tcp 7000\ntcp 8000\nudp 9000\ntcp 7001\ntcp 7002\ntcp 7003'
}

@test "--both: the host's IPv4 and its IPv6 address, each the whole knock" {
	[ -e /etc/hosts ] || skip "no /etc/hosts here"
	printf '%s\n' '10.77.0.1 both' 'fd77::1 both' \
		'10.77.0.1 one' '2001:db8::1 one' >"$T/hosts"
	is "$(knock_named -v --both both 7000 8000 | sort)" \
		"$(printf 'hitting tcp %s\n' 10.77.0.1:{7,8}000 fd77::1:{7,8}000)"
	# The one that has no route is left out; -4 leaves the other out.
	is "$(knock_named -v --both one 7000)" 'hitting tcp 10.77.0.1:7000'
	is "$(knock_named -v -4 --both both 7000)" 'hitting tcp 10.77.0.1:7000'
	is "$(knock_named -v both 7000 | wc -l)" 1
	mkdir -p "$T/home/.config"
	printf '[home]\nhost = both\nports = 7000\nboth = yes\nverbose\n' >"$T/home/.knockrc"
	chmod 600 "$T/home/.knockrc"
	is "$(HOME=$T/home XDG_CONFIG_HOME='' knock_named home | wc -l)" 2
	capture
	knock_named --both both 7000:udp 8000
	end_of_capture
	is "$(grep -c ' fd77::1\.[78]000: ' "$T/seen")" 2
	is "$(grep -c ' 10\.77\.0\.1\.[78]000: ' "$T/seen")" 2
}

@test "IPv6, and a family by option" {
	capture
	knock_a fd77::1 7000 8000:udp
	knock_a -6 fd77::1 9000
	is "$(hits)" $'tcp 7000\nudp 8000\ntcp 9000'
}

# --- names ------------------------------------------------------------------------

# knock_named ARG...: from A, where /etc/hosts and resolv.conf are $T's.
knock_named() {
	# shellcheck disable=SC2016
	in_a unshare -m --propagation private sh -c 'dir=$1; shift
		for f in hosts resolv.conf; do
			[ ! -e "$dir/$f" ] || mount --bind "$dir/$f" "/etc/$f" || exit 99
		done
		exec "$@"' - "$T" "$KNOCK" "$@"
}

@test "a name: the first address that has a route" {
	[ -e /etc/hosts ] || skip "no /etc/hosts here"
	printf '%s\n' '2001:db8::1 server' '10.77.0.1 server' 'fd77::1 six' \
		'10.77.0.1 both' 'fd77::1 both' >"$T/hosts"
	is "$(knock_named -v server 7000)" 'hitting tcp 10.77.0.1:7000'
	is "$(knock_named -v six 7000)" 'hitting tcp fd77::1:7000'
	is "$(knock_named -4 -v both 7000)" 'hitting tcp 10.77.0.1:7000'
	is "$(knock_named -6 -v both 7000)" 'hitting tcp fd77::1:7000'
}

@test "a name is looked up once for all ports" {
	need python3
	[ -e /etc/resolv.conf ] || skip "no /etc/resolv.conf here"
	cat >"$T/dns.py" <<-EOF2
	import socket
	s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
	s.bind(("10.77.0.1", 53))
	print("ready", flush=True)
	while True:
	    q, a = s.recvfrom(512)
	    n = 12 + q[12:].index(0) + 5
	    print("query", q[12:n], flush=True)
	    s.sendto(q[:2] + b"\x81\x80\0\1\0\1\0\0\0\0" + q[12:n] +
	        b"\xc0\x0c\0\1\0\1\0\0\0\1\0\4\x0a\x4d\0\1", a)
	EOF2
	in_s python3 "$T/dns.py" >"$T/dns" 3>&- &
	wait_for_line "$T/dns" ready
	echo 'nameserver 10.77.0.1' >"$T/resolv.conf"
	capture
	knock_named -4 door.example 7000 8000 9000:udp 1001
	is "$(hits | grep -v 53)" $'tcp 7000\ntcp 8000\nudp 9000\ntcp 1001'
	is "$(count "$T/dns" query)" 1
}

# --- what is wrong ------------------------------------------------------------------

@test "a mistake is named, and found before the first packet" {
	capture 'ip or ip6'
	fails "port '80x' is not a whole number" 10.77.0.1 7000 8000 80x
	fails "port '70000' is not" 10.77.0.1 7000 70000
	fails "port '0' is not" 10.77.0.1 7000 0
	fails "port '' is not" 10.77.0.1 7000 ''
	fails "port '' is not" 10.77.0.1 7000 :udp
	fails "port '-1' is not" 10.77.0.1 7000 -- -1
	fails "port '\+7' is not" 10.77.0.1 7000 +7
	fails "port ' 7' is not" 10.77.0.1 7000 ' 7'
	fails "port '7000,8000' is not" 10.77.0.1 7000,8000
	fails "port 'nosuchservice' is not" 10.77.0.1 7000 nosuchservice
	fails "port '99999999999999999999' is not" 10.77.0.1 7000 99999999999999999999
	fails "protocol 'foo' is not tcp or udp" 10.77.0.1 7000 8000:foo
	fails "protocol '' is not tcp or udp" 10.77.0.1 7000 8000:
	fails "protocol 'udp:tcp' is not" 10.77.0.1 7000 8000:udp:tcp
	fails "--delay: milliseconds '-5' is not a whole number" -d -5 10.77.0.1 7000
	fails "--delay: milliseconds 'abc' is not" -d abc 10.77.0.1 7000
	fails "--delay: milliseconds '5s' is not" 10.77.0.1 7000 -d 5s
	fails "--delay: milliseconds '' is not" -d '' 10.77.0.1 7000
	fails "--delay: milliseconds '0.5' is not a whole number" -d 0.5 10.77.0.1 7000
	fails "--wait: port '99999' is not" -w 99999 10.77.0.1 7000
	fails "port 'x' is not" -W x 10.77.0.1 7000
	fails "--timeout: seconds '0' is not" -t 0 -w 22 10.77.0.1 7000
	fails '^knock: eth9: ' -i eth9 10.77.0.1 7000
	fails '^knock: 10.99.0.1: ' -i 10.99.0.1 10.77.0.1 7000
	nothing_seen
}

@test "an unknown host, no route: message and status 1" {
	fails "^knock: 'nosuch.invalid' was looked up, but has no address: " nosuch.invalid 7000
	fails '^knock: 192.0.2.1: .*unreachable' 192.0.2.1 7000
	fails '^knock: 192.0.2.1: .*unreachable' 192.0.2.1 7000:udp
	fails '^knock: 2001:db8::1: .*unreachable' 2001:db8::1 7000
	in_a ip route add unreachable 198.51.100.0/24
	fails '^knock: 198.51.100.1: .*(unreachable|No route)' 198.51.100.1 7000
}

@test "a host that can't be one: what is wrong" {
	fails "^knock: '10.77.0.1:7000' is not a host: the port is a word of its own$" 10.77.0.1:7000
	fails "^knock: '10.77.0.1:7000' is not a host: " 10.77.0.1:7000 8000
	fails "^knock: 'server:22' is not a host: " server:22 7000
	fails "^knock: '10.77.0.1' was looked up, but has no IPv6 address: " -6 10.77.0.1 7000
	fails "^knock: 'fd77::1' was looked up, but has no IPv4 address: " -4 fd77::1 7000
	fails "^knock: 'fd77::1' was looked up, but has no IPv4 address: " -i 10.77.0.2 fd77::1 7000
}

@test "a refusal does not matter, on the loopback either" {
	knock_a 127.0.0.1 7000 8000:udp 9000
	knock_a ::1 7000 8000:udp 9000
	shut 7000 REJECT
	knock_a 10.77.0.1 7000 8000 -d 50
}

@test "usage errors: the usage on stderr, status 1" {
	fails 'usage: knock '
	fails 'usage: knock ' --nosuch 10.77.0.1 7000
	fails 'usage: knock ' -x 10.77.0.1 7000
	fails 'usage: knock ' -v
}

@test "an option without its value, or with one too many: which, and what it needs" {
	local option

	for option in -d --delay -w --wait -W -i -t --generate; do
		fails "knock: --[a-z]+ needs [a-z]+" 10.77.0.1 7000 "$option"
		not grep usage "$T/err"
	done
	fails 'knock: --wait needs a port$' 10.77.0.1 7000 -w
	fails 'knock: --delay needs milliseconds$' 10.77.0.1 7000 -d
	fails 'knock: --udp needs no value$' --udp=5 10.77.0.1 7000
}

@test "-h and -V: stdout, status 0, no network needed" {
	for o in -h --help; do
		in_a "$KNOCK" $o >"$T/help" 2>"$T/err"
		is "$(cat "$T/err")" ''
		matches "$(head -n 1 "$T/help")" '^usage: knock '
		[ "$(wc -l <"$T/help")" -le 24 ]
		is "$(grep -E '.{80}' "$T/help")" ''
		[ "$(grep -cE '^(examples:)? .* ?(knock|ssh) .*7000 8000' "$T/help")" = 3 ]
	done
	is "$(knock_a -V)" "$(knock_a --version)"
	matches "$(knock_a -V)" '^knock [0-9]+\.[0-9]'
	not knock_a -h >/dev/full
}

# --- the way out ----------------------------------------------------------------------

@test "-i: an interface or an address to leave from" {
	need tcpdump
	in_a ip addr add 10.77.0.22/24 dev br0
	in_a ip addr add fd77::22/64 dev br0 nodad
	capture
	knock_a -i 10.77.0.22 10.77.0.1 7000 7001:udp
	knock_a --interface fd77::22 fd77::1 7002
	knock_a -i br0 10.77.0.1 7003
	is "$(hits)" $'tcp 7000\nudp 7001\ntcp 7002\ntcp 7003'
	grep -E ' 10\.77\.0\.22\.[0-9]+ > 10\.77\.0\.1\.7000:' "$T/seen"
	grep -E ' 10\.77\.0\.22\.[0-9]+ > 10\.77\.0\.1\.7001:' "$T/seen"
	grep -E ' fd77::22\.[0-9]+ > fd77::1\.7002:' "$T/seen"
}

@test "-i chooses among two ways" {
	need tcpdump
	in_s ip link add index 19 eth1 address 02:00:00:00:00:09 type veth \
		peer name a1 netns "$A"
	in_s ip link set eth1 up
	in_a ip link set a1 up
	in_a ip addr add 10.88.0.2/24 dev a1
	in_a ip route add 10.77.0.1 dev a1 metric 100
	in_a ip neigh replace 10.77.0.1 lladdr 02:00:00:00:00:09 dev a1 nud permanent
	in_s tcpdump -c 1 -i eth1 -nl --immediate-mode 'tcp dst port 7000' \
		>"$T/eth1" 2>"$T/tcpdump" 3>&- &
	wait_for_line "$T/tcpdump" 'listening on'
	knock_a -i a1 10.77.0.1 7000
	wait_for_line "$T/eth1" '10\.88\.0\.2\..* 10\.77\.0\.1\.7000:'
}

# --- -w -----------------------------------------------------------------------------

@test "-w: ends when the door opens, which refused before" {
	serve 22 EXEC:cat
	shut 22 REJECT
	capture
	knock_a -w 22 -t 60 10.77.0.1 7000 8000 3>&- &
	until_true "$WAIT" tried 22 2
	unshut 22 REJECT
	ended $! 0
	is "$(hits | head -n 3)" $'tcp 7000\ntcp 8000\ntcp 22'
}

@test "-w: ends when the door opens, which was silent before" {
	serve 22 EXEC:cat
	shut 22 DROP
	knock_a fd77::1 --wait=22 -t 60 7000 >"$T/out6" 3>&- &
	ended $! 0
	knock_a 10.77.0.1 --wait=22 -t 60 7000 8000 3>&- &
	until_true "$WAIT" tried 22 2
	unshut 22 DROP
	ended $! 0
}

@test "-w: ends with 1 and the reason when the door stays shut" {
	fails '^knock: 10.77.0.1:22 did not open: Connection refused' -w 22 -t 3 10.77.0.1 7000
	shut 22 DROP
	fails '^knock: 10.77.0.1:22 did not open: .*timed out' -w 22 -t 1 10.77.0.1 7000
	no_retry_left
}

# --- -W -----------------------------------------------------------------------------

@test "-W: knocks, waits for the door, then talks" {
	serve 22 EXEC:cat
	shut 22 REJECT
	echo hello >"$T/in"
	knock_a -v -W 22 -t 60 10.77.0.1 7000 8000 <"$T/in" >"$T/out" 2>"$T/err" 3>&- &
	until_true "$WAIT" tried 22 2
	unshut 22 REJECT
	ended $! 0
	is "$(cat "$T/out")" hello
	# stdout is the peer's alone.
	is "$(cat "$T/err")" $'hitting tcp 10.77.0.1:7000\nhitting tcp 10.77.0.1:8000'
}

@test "-W: a door that stays shut: nothing on stdout, status 1" {
	fails 'did not open' -W 22 -t 1 10.77.0.1 7000 </dev/null
}

@test "-W: the end of stdin reaches the peer, whose answer is still read" {
	serve 5000 EXEC:sha256sum
	head -c 1000000 /dev/urandom >"$T/in"
	knock_a -W 5000 10.77.0.1 7000 <"$T/in" >"$T/out"
	is "$(cat "$T/out")" "$(sha256sum <"$T/in")"
}

@test "-W: much data both ways at once arrives whole" {
	serve 5000 EXEC:cat
	head -c 33554432 /dev/urandom >"$T/in"
	head -c 33554432 "$T/in" | knock_a -W 5000 10.77.0.1 7000 | cat >"$T/out"
	cmp "$T/in" "$T/out"
	knock_a -W 5000 fd77::1 7000 <"$T/in" >"$T/out"
	cmp "$T/in" "$T/out"
}

@test "-W: a peer that ends its side first still gets all of stdin" {
	half_closing_peer
	head -c 8388608 /dev/urandom >"$T/in"
	{ cat "$T/in"; pause 0.2; echo the end; } |
		knock_a -W 5000 10.77.0.1 7000 >"$T/out"
	until_true "$WAIT" test -e "$T/all"
	is "$(cat "$T/out")" bye
	cmp <(cat "$T/in"; echo the end) "$T/all"
}

@test "-W: the end of the peer's side is the end of stdout, not of stdin" {
	half_closing_peer
	mkfifo "$T/fifo"
	# Without a break until the end: silence would be an end as well.
	bash -c 'while [ ! -e "$1" ]; do echo more; done; echo last' x "$T/eof" \
		3>&- >"$T/fifo" 2>/dev/null &
	# Not knock_a: its shell would hold the pipe open.
	nsenter -t "$A" -n -- "$KNOCK" -W 5000 10.77.0.1 7000 <"$T/fifo" 3>&- |
		{ cat; : >"$T/eof"; } >"$T/out" &
	until_true "$WAIT" test -e "$T/all"
	is "$(cat "$T/out") $(tail -n 1 "$T/all")" 'bye last'
}

@test "-W: the peer leaves, stdin stays open: stdout ends, then knock" {
	serve 5000 'SYSTEM:echo bye'
	mkfifo "$T/fifo"
	exec {FIFO}<>"$T/fifo"
	knock_a -W 5000 10.77.0.1 7000 <"$T/fifo" 3>&- | cat >"$T/out" &
	ended $! 0
	is "$(cat "$T/out")" bye
	knock_a -W 5000 10.77.0.1 7000 <"$T/fifo" >"$T/out" 3>&- &
	ended $! 0
	exec {FIFO}>&-
}

@test "-W: nobody reads stdout any more: status 1" {
	serve 5000 'SYSTEM:yes'
	knock_a -W 5000 10.77.0.1 7000 </dev/null 2>"$T/err" |
		head -c 5 >"$T/out" || :
	is "$(cat "$T/out")" $'y\ny\ny'
	mkfifo "$T/fifo"
	head -c 5 3>&- <"$T/fifo" >"$T/out" &
	knock_a -W 5000 10.77.0.1 7000 3>&- </dev/null >"$T/fifo" 2>"$T/err" &
	ended $! 1
	matches "$(cat "$T/err")" '^knock: standard output: Broken pipe$'
}

@test "-W: an end of ours that fails is named, not the peer" {
	serve 5000 'SYSTEM:echo bye'
	not knock_a -W 5000 10.77.0.1 7000 </dev/null >/dev/full 2>"$T/err"
	is "$(cat "$T/err")" 'knock: standard output: No space left on device'
	not knock_a -W 5000 10.77.0.1 7000 <"$T" >"$T/out" 2>"$T/err"
	is "$(cat "$T/out")" bye
	is "$(cat "$T/err")" 'knock: standard input: Is a directory'
}

@test "-W: a connection that is reset is an error" {
	peer <<-EOF2
	c.sendall(b"half\n")
	c.recv(1)
	c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
	c.close()
	EOF2
	mkfifo "$T/fifo"
	exec {FIFO}<>"$T/fifo"
	knock_a -W 5000 10.77.0.1 7000 <"$T/fifo" >"$T/out" 2>"$T/err" 3>&- &
	wait_for_line "$T/out" half
	echo x >&"$FIFO"
	ended $! 1
	matches "$(cat "$T/err")" '^knock: receiving from 10.77.0.1: Connection reset'
	exec {FIFO}>&-
}

@test "knock -W without stdin does not echo to the host" {
	need python3
	cat >"$T/host" <<-E
	import socket
	s = socket.socket(); s.setsockopt(1, 2, 1); s.bind(("", 22)); s.listen(9)
	c, a = s.accept(); c.sendall(b"SSH-2.0-hello\r\n"); c.settimeout(2)
	try: got = c.recv(99)
	except OSError: got = b""
	open("$T/got", "wb").write(got + b".")
	c.close()
	E
	bg "$S" python3 "$T/host"
	until_true "$WAIT" listens "$S" tcp 22
	in_a timeout 30 bash -c '"$@" <&-' x "$KNOCK" -W 22 10.77.0.1 7000 || :
	until_true "$WAIT" test -s "$T/got"
	is "$(cat "$T/got")" "."
}

# --- ssh ------------------------------------------------------------------------

# ssh_door: a real knockd and a real sshd in S, port 22 shut.
ssh_door() {
	shut 22 REJECT
	conf <<-EOF2
	[ssh]
	sequence = 7000,8000,9000
	tcpflags = syn
	command = iptables -w -I INPUT -s %IP% -p tcp --dport 22 -j ACCEPT
	EOF2
	start
	start_sshd
	PATH=$(dirname "$KNOCK"):$PATH
}

# manual TEXT: the lines of the manual that have it, as a user would type them.
manual() {
	grep -e "$1" "$ROOT/man/knock.1" | sed "s/^\.Dl //; s/\\\\(aq/'/g; s/\\\\-/-/g"
}

@test "ssh's ProxyCommand, as in the manual" {
	local recipe

	ssh_door
	recipe=$(manual '^\.Dl ssh .*ProxyCommand')
	matches "$recipe" 'knock -W %p %h'
	recipe=${recipe/ssh /ssh -F $T/ssh_config }
	recipe=${recipe/%host.example.org/10.77.0.1}
	not in_a ssh -F "$T/ssh_config" 10.77.0.1 true 2>/dev/null
	in_a bash -c "$recipe echo it works" >"$T/out" 2>"$T/err"
	is "$(cat "$T/out")" 'it works'
	is "$(cat "$T/err")" ''
	head -c 16777216 /dev/urandom >"$T/in"
	in_a bash -c "$recipe cat" <"$T/in" >"$T/out"
	cmp "$T/in" "$T/out"
	not in_b ssh -F "$T/ssh_config" 10.77.0.1 true 2>/dev/null
	stop_knockd
}

@test "ssh_config's ProxyCommand, as in the manual" {
	ssh_door
	{
		printf 'Host home\n\tHostName 10.77.0.1\n'
		manual '^[[:blank:]]*ProxyCommand knock'
		printf 'Host *\n'
		cat "$T/ssh_config"
	} >"$T/config"
	grep ProxyCommand "$T/config"
	is "$(in_a ssh -F "$T/config" home echo it works)" 'it works'
	stop_knockd
}

@test "knock -w && ssh, as in the manual" {
	local recipe

	ssh_door
	recipe=$(manual '^\.Dl knock -w 22')
	matches "$recipe" '&& ssh '
	recipe=${recipe/ssh /ssh -F $T/ssh_config }
	recipe=${recipe//host.example.org/10.77.0.1}
	is "$(in_a bash -c "$recipe echo it works")" 'it works'
	stop_knockd
}

# --- profiles ---------------------------------------------------------------------

@test "knock PROFILE: host, ports, delay, udp, and other profiles beside it" {
	local start

	profile .config/knock.conf <<-'EOF2'
	# my hosts
	[work]
	host = 10.77.0.9
	nonsense here
	[home]
	Host=10.77.0.1	# the server
	PORTS = 7000, 8000:udp 9000:TCP,1001
	  delay = 100

	[nas]
	host 10.77.0.1
	sequence = 1,2
	udp = yes
	EOF2
	capture
	start=$(uptime_ms)
	at_home home
	[ $(($(uptime_ms) - start)) -ge 390 ]
	at_home nas
	is "$(hits)" $'tcp 7000\nudp 8000\ntcp 9000\ntcp 1001\nudp 1\nudp 2'
}

@test "the manual's profile" {
	sed -n '/^\[home\]/,/^\.Ed/p' "$ROOT/man/knock.1" | grep -v '^\.' |
		sed 's/home.example.org/10.77.0.1/' | profile .config/knock.conf
	grep -q '^host' "$T/home/.config/knock.conf"
	matches "$(at_home -v home -d 1)" '^hitting (tcp|udp) 10.77.0.1:[0-9]+'
}

@test "profiles may come from a file with CRLF, without a last newline" {
	printf '[home]\r\nhost = 10.77.0.1\r\nports = 7000 8000\r\ndelay = 1' |
		profile .knockrc
	is "$(at_home -v home)" $'hitting tcp 10.77.0.1:7000\nhitting tcp 10.77.0.1:8000'
}

@test "a profile's host is its name if it has no other" {
	profile .knockrc <<<$'[10.77.0.1]\nports = 7000'
	is "$(at_home -v 10.77.0.1)" 'hitting tcp 10.77.0.1:7000'
}

@test "options beat the profile, ports beat the name" {
	profile .config/knock.conf <<-'EOF2'
	[10.77.0.1]
	host = 10.77.0.3
	ports = 7000:tcp
	delay = 86400000
	timeout = 86400
	EOF2
	at_home -v -d 0 -u 10.77.0.1 >"$T/out"
	is "$(cat "$T/out")" 'hitting udp 10.77.0.3:7000'
	is "$(at_home -v 10.77.0.1 9000)" 'hitting tcp 10.77.0.1:9000'
}

@test "a profile may hold -w, -i, -t and -v as well" {
	serve 22 EXEC:cat
	profile .knockrc <<-'EOF2'
	[home]
	host = 10.77.0.1
	ports = 7000
	wait = 22
	timeout = 60
	interface = br0
	verbose
	[shut]
	host = 10.77.0.1
	ports = 7000
	wait = 23
	timeout = 1
	EOF2
	is "$(at_home home)" 'hitting tcp 10.77.0.1:7000'
	not at_home shut
	is "$(at_home -W 22 home <<<hello 2>/dev/null)" hello
}

@test "where profiles are: XDG_CONFIG_HOME, ~/.config, ~/.knockrc, in this order" {
	local xdg=(in_a env HOME="$T/home" XDG_CONFIG_HOME="$T/home/xdg" "$KNOCK" -v)

	profile .knockrc <<<$'[a]\nhost=10.77.0.1\nports=1\n[b]\nhost=10.77.0.1\nports=2'
	is "$(at_home -v a)" 'hitting tcp 10.77.0.1:1'
	profile .config/knock.conf <<<$'[a]\nhost=10.77.0.1\nports=3'
	is "$(at_home -v a)" 'hitting tcp 10.77.0.1:3'
	is "$(at_home -v b)" 'hitting tcp 10.77.0.1:2'
	profile xdg/knock.conf <<<$'[a]\nhost=10.77.0.1\nports=4'
	is "$("${xdg[@]}" a)" 'hitting tcp 10.77.0.1:4'
	is "$("${xdg[@]}" b)" 'hitting tcp 10.77.0.1:2'
}

# wrong LINE MESSAGE TEXT: a profile that has this mistake in this line.
wrong() {
	local rc=0

	printf '%s\n' "$3" | profile .knockrc
	at_home home >"$T/out" 2>"$T/err" || rc=$?
	is "$rc" 1
	is "$(head -n 1 "$T/err")" "knock: $T/home/.knockrc:$1: $2"
}

@test "a mistake in a profile: file, line, word, and no packet" {
	local ok=$'[home]\nhost = 10.77.0.1\nports = 7000'

	capture 'ip or ip6'
	wrong 3 "port '80x' is not a whole number from 1 to 65535" $'[home]\nhost = x\nports = 7000, 80x'
	wrong 3 "protocol 'foo' is not tcp or udp" $'[home]\nhost = x\nports = 7000:foo'
	wrong 4 "milliseconds '5s' is not a whole number from 0 to 86400000" "$ok"$'\ndelay = 5s'
	wrong 4 "'delay' with '' is not understood" "$ok"$'\ndelay ='
	wrong 4 "'delay' has too many words" "$ok"$'\ndelay = 5 6'
	wrong 5 "'prots' is not understood" "$ok"$'\n\nprots = 7000'
	wrong 4 "'udp' with 'maybe' is not understood" "$ok"$'\nudp = maybe'
	wrong 4 "'host' with '' is not understood" "$ok"$'\nhost ='
	wrong 4 "port '0' is not a whole number from 1 to 65535" "$ok"$'\nwait = 0'
	wrong 4 "'help' is not understood" "$ok"$'\nhelp'
	nothing_seen
}

@test "a profile that is not there: the files, the profiles in them, no usage" {
	local home=$T/home

	fails '^knock: no ports, and no profile \[home\] with ports:' home
	fails '^knock: no ports, and no profile \[10.77.0.1\] with ports:' 10.77.0.1
	profile .config/knock.conf <<<$'[work]\nhost = 10.77.0.1\nports = 7\n[nas]\nports = 1'
	not at_home home 2>"$T/err"
	is "$(cat "$T/err")" "knock: no ports, and no profile [home] with ports:
  $home/.config/knock.conf: [work][nas]
  $home/.knockrc: there is no such file"
	profile .knockrc <<<$'[home]\nhost = 10.77.0.1\n[away]\nports = 1'
	not at_home home 2>"$T/err"
	matches "$(cat "$T/err")" "$home/.knockrc: \[home\]\[away\]"
	not grep usage "$T/err"
	in_a env -u HOME -u XDG_CONFIG_HOME "$KNOCK" home 2>"$T/err" || :
	matches "$(cat "$T/err")" 'no ports, and no profile \[home\]'
}

@test "files of profiles that can't be read" {
	profile .knockrc <<<$'[home]\nhost = 10.77.0.1\nports =\n[away]\nports = 1'
	not at_home home 2>"$T/err"
	matches "$(cat "$T/err")" ":3: 'ports' with '' is not understood"
	mkdir -p "$T/home/.config/knock.conf"
	not at_home home 2>"$T/err"
	matches "$(cat "$T/err")" "^knock: $T/home/.config/knock.conf: Is a directory"
}

@test "profiles that others can read: a warning, and the knock" {
	profile .knockrc <<<$'[home]\nhost = 10.77.0.1\nports = 7000'
	is "$(at_home home 2>&1)" ''
	for mode in 640 604; do
		chmod $mode "$T/home/.knockrc"
		is "$(at_home -v home 2>"$T/err")" 'hitting tcp 10.77.0.1:7000'
		is "$(cat "$T/err")" "knock: warning: others can use $T/home/.knockrc"
	done
}

# --- new sequences -----------------------------------------------------------------

@test "--generate: a line for each side, the same ports, neither up nor down all the way" {
	local a b n i

	for n in 1 2 3 4 32; do
		for ((i = 0; i < 60; i++)); do
			{ read -r a; read -r b; } < <("$KNOCK" --generate $n)
			matches "$a" '^sequence = [0-9]+(,[0-9]+)*$'
			a=${a#sequence = }
			is "$b" "knock HOST ${a//,/ }"
			tr , '\n' <<<"$a" >"$T/ports"
			is "$(sort -u "$T/ports" | wc -l)" "$n"
			awk '$1 < 1024 || $1 > 65535 { exit 1 }' "$T/ports"
			[ "$n" -lt 3 ] || not sort -nc "$T/ports" 2>/dev/null
			[ "$n" -lt 3 ] || not sort -rnc "$T/ports" 2>/dev/null
		done
	done
	a=$("$KNOCK" --generate 4)
	[ "$a" != "$("$KNOCK" --generate 4)" ]
	fails "'0' is not a whole number from 1 to 32" --generate 0
	fails "'33' is not a whole number from 1 to 32" --generate 33
	fails "'x' is not a whole number from 1 to 32" --generate=x
	not "$KNOCK" --generate 4 >/dev/full
}

@test "--generate: both lines work as they are" {
	{ read -r sequence; read -r line; } < <("$KNOCK" --generate 4)
	profile .knockrc <<<$'[home]\nhost = 10.77.0.1\n'"$sequence"
	is "$(at_home -v home)" \
		"$(in_a bash -c "${line/knock HOST/$KNOCK -v 10.77.0.1}")"
}
