#!/usr/bin/env bats
# Other clients and other daemons: Debian's knock and knockd 0.8, nc, hping3, nmap,
# curl, bash; retransmissions; knock ports on which something listens.

load lib

OPEN='10.77.0.2: d: OPEN SESAME'

door() {
	conf <<-EOF2
	[d]
	sequence = ${1:-7000,8000,9000}
	tcpflags = syn
	seq_timeout = 20
	command = echo d %IP% >> $T/did
	[end]
	sequence = 6000,6000,6001
	tcpflags = syn
	EOF2
}

# drop PORT...: packets to these ports vanish, and are counted.
drop() {
	local p

	need iptables
	for p; do
		in_s iptables -w -A INPUT -p tcp --dport "$p" -j DROP ||
			skip "iptables does not work with this kernel"
	done
}

# dropped PORT N: at least N packets to the port have vanished.
dropped() {
	local n

	n=$(in_s iptables -w -nvxL INPUT | awk -v p="dpt:$1" '$NF == p { print $1 }')
	[ "${n:-0}" -ge "$2" ]
}

# --- Debian's 0.8 ----------------------------------------------------------------

@test "Debian's knock opens our door" {
	old_or_skip
	door 7000,8000:udp,9000:tcp
	start
	in_a "${OLD_KNOCK[@]}" 10.77.0.1 7000 8000:udp 9000
	opened d
	in_a "${OLD_KNOCK[@]}" -d 30 -v 10.77.0.1 7000:tcp 8000:udp 9000:tcp
	opened d 2
	in_a "${OLD_KNOCK[@]}" -6 fd77::1 7000 8000:udp 9000
	logged 'fd77::2: d: OPEN SESAME'
	stop_knockd
	door 7000:udp,8000:udp
	start
	in_a "${OLD_KNOCK[@]}" -u 10.77.0.1 7000 8000
	opened d 4
	stop_knockd
}

@test "our knock opens the door of Debian's knockd" {
	old_or_skip
	door 7000,8000:udp,9000:tcp
	# The old one opens at its next look after up to 50 ms; the rest is the same.
	bg "$S" "${OLD_KNOCKD[@]}" -i eth0 -c "$T/knockd.conf" -p "$T/k.pid"
	OLD=$!
	logged "$READY"
	knock_a 10.77.0.1 7000 8000:udp 9000
	opened d
	knock_a 10.77.0.1 7000:tcp 8000:UDP 9000:Tcp -d 30
	opened d 2
	knock_a -6 fd77::1 7000 8000:udp 9000
	logged 'fd77::2: d: OPEN SESAME'
	kill "$OLD"
	until_true "$WAIT" gone "$OLD"
}

# --- other clients -----------------------------------------------------------------

@test "nc -z, port by port and all in one" {
	need nc
	door
	start
	for p in 7000 8000 9000; do in_a nc -z -w 5 10.77.0.1 $p 2>/dev/null || :; done
	opened d
	in_a nc -z -n -v -w 5 10.77.0.1 7000 2>/dev/null || :
	for p in 8000 9000; do in_a nc -z -w 5 10.77.0.1 $p 2>/dev/null || :; done
	opened d 2
	stop_knockd
}

@test "nc -u" {
	need nc
	door 7000:udp,8000,9000:udp
	start
	echo x | in_a timeout 20 nc -u -w 1 10.77.0.1 7000 2>/dev/null || :
	in_a nc -z -w 5 10.77.0.1 8000 2>/dev/null || :
	echo x | in_a timeout 20 nc -u -w 1 10.77.0.1 9000 2>/dev/null || :
	opened d
	stop_knockd
}

@test "hping3" {
	need hping3
	door
	start
	for p in 7000 8000 9000; do
		in_a hping3 -q -S -c 1 -p $p 10.77.0.1 >/dev/null 2>&1 || :
	done
	opened d
	stop_knockd
}

@test "nmap: SYN scan, connect scan, UDP; on closed ports and on dropped ones" {
	need nmap
	door
	start
	for p in 7000 8000 9000; do
		in_a nmap -n -Pn --host-timeout 20 --max-retries 0 -p $p 10.77.0.1 >/dev/null
	done
	opened d
	for p in 7000 8000 9000; do in_a nmap -n -Pn -sT -p $p 10.77.0.1 >/dev/null; done
	opened d 2
	drop 7000 8000 9000
	# Retries come from other source ports here.
	for p in 7000 8000 9000; do
		in_a nmap -n -Pn --max-retries 2 --max-rtt-timeout 200ms -p $p 10.77.0.1 >/dev/null
	done
	opened d 3
	stop_knockd
	door 7000:udp,8000:udp
	start
	for p in 7000 8000; do
		in_a nmap -n -Pn -sU --max-retries 0 -p $p 10.77.0.1 >/dev/null
	done
	opened d 4
	stop_knockd
}

@test "bash's /dev/tcp and /dev/udp" {
	door 7000,8000:udp,9000
	start
	in_a bash -c 'exec 2>/dev/null
		(: >/dev/tcp/10.77.0.1/7000); (echo >/dev/udp/10.77.0.1/8000); (: >/dev/tcp/10.77.0.1/9000)' || :
	opened d
	stop_knockd
}

@test "curl" {
	need curl
	door
	start
	for p in 7000 8000 9000; do
		in_a curl -s -m 10 "http://10.77.0.1:$p/" || :
	done
	opened d
	stop_knockd
}

@test "ssh and socat as clients" {
	need ssh socat
	door
	start
	in_a ssh -F none -o BatchMode=yes -o StrictHostKeyChecking=no -o ConnectTimeout=10 \
		-p 7000 10.77.0.1 2>/dev/null || :
	in_a socat -u OPEN:/dev/null TCP:10.77.0.1:8000 2>/dev/null || :
	in_a ssh -F none -o BatchMode=yes -o StrictHostKeyChecking=no -o ConnectTimeout=10 \
		-p 9000 10.77.0.1 2>/dev/null || :
	opened d
	stop_knockd
}

@test "another network stack's order of options, window and no options at all" {
	need hping3
	door
	start
	in_a hping3 -q -S -c 1 -w 64240 -p 7000 --tcp-timestamp 10.77.0.1 >/dev/null 2>&1 || :
	in_a hping3 -q -S -c 1 -w 1 -t 1 -d 100 -p 8000 10.77.0.1 >/dev/null 2>&1 || :
	# ECE and CWR, as a stack with ECN sends them.
	in_a hping3 -q -S -X -Y -c 1 -p 9000 10.77.0.1 >/dev/null 2>&1 || :
	opened d
	stop_knockd
}

# --- retransmissions ---------------------------------------------------------------

@test "dropped knock ports and clients that keep retrying, one after another" {
	need nc
	door
	drop 7000 8000 9000
	start
	for p in 7000 8000 9000; do
		bg "$A" nc -z -w 30 10.77.0.1 $p 2>/dev/null
		until_true "$WAIT" dropped $p 2
	done
	opened d
	mark
	is "$(count "$LOG" "$OPEN")" 1
	stop_knockd
}

@test "retransmissions of earlier knocks among the later ones" {
	need nc
	door
	drop 7000 8000 9000
	start
	bg "$A" nc -z -w 30 10.77.0.1 7000 2>/dev/null
	logged 'd: Stage 1'
	bg "$A" nc -z -w 30 10.77.0.1 8000 2>/dev/null
	logged 'd: Stage 2'
	# Both come again, 7000 while 9000 is due.
	until_true "$WAIT" dropped 7000 2
	until_true "$WAIT" dropped 8000 2
	until_true "$WAIT" dropped 7000 3
	bg "$A" nc -z -w 1 10.77.0.1 9000 2>/dev/null
	opened d
	mark
	is "$(count "$LOG" "$OPEN")" 1
	stop_knockd
}

@test "a retransmission does not stand for the next step of 7000,7000,8000" {
	need nc
	conf <<-EOF2
	[d]
	sequence = 7000,7000,8000
	tcpflags = syn
	seq_timeout = 60
	command = echo d %IP% >> $T/did
	EOF2
	drop 7000 8000
	start
	bg "$A" nc -z -w 30 10.77.0.1 7000 2>/dev/null
	until_true "$WAIT" dropped 7000 3
	in_a nc -z -w 1 10.77.0.1 8000 2>/dev/null 3>&- || :
	mark
	not_logged 'd: (Stage 2|OPEN)'
	in_a nc -z -w 1 10.77.0.1 7000 2>/dev/null || :
	in_a nc -z -w 1 10.77.0.1 7000 2>/dev/null || :
	in_a nc -z -w 1 10.77.0.1 8000 2>/dev/null || :
	opened d
	stop_knockd
}

@test "our knock on dropped ports: one packet each, and it does not wait" {
	door
	drop 7000 8000 9000
	start
	knock_a 10.77.0.1 7000 8000 9000
	opened d
	for p in 7000 8000 9000; do
		dropped $p 1
		not dropped $p 2
	done
	stop_knockd
}

# --- ports in use ---------------------------------------------------------------------

ANSWER='SYSTEM:read l; echo "you said $l"'

# talk PORT: a whole conversation.
talk() {
	in_a bash -c "exec 4<>/dev/tcp/10.77.0.1/$1; echo hello >&4; read -r l <&4; [ \"\$l\" = 'you said hello' ]"
}

@test "knock ports with a service behind them, tcpflags = syn" {
	door 80,443,9000
	serve 80 "$ANSWER"
	serve 443 "$ANSWER"
	start
	talk 80
	talk 443
	knock_a 10.77.0.1 9000
	opened d
	stop_knockd
}

@test "knock ports with a service behind them, without tcpflags" {
	conf <<-EOF2
	[d]
	sequence = 80,443,7000
	command = echo d %IP% >> $T/did
	EOF2
	serve 80 "$ANSWER"
	serve 443 "$ANSWER"
	start
	talk 80
	talk 443
	knock_a 10.77.0.1 7000
	opened d
	mark
	is "$(count "$LOG" "$OPEN")" 1
	stop_knockd
}

@test "a busy connection of the same address beside the knock" {
	door
	serve 5555 "$ANSWER"
	start
	bg "$A" bash -c 'exec 4<>/dev/tcp/10.77.0.1/5555; for ((i = 0; i < 200; i++)); do echo x >&4; done; cat <&4' >/dev/null 2>&1
	knock_a 10.77.0.1 7000 8000
	talk 5555
	knock_a 10.77.0.1 9000
	opened d
	stop_knockd
}

@test "a service on the last port: nothing is opened twice" {
	door 7000,8000,80
	serve 80 "$ANSWER"
	start
	knock_a 10.77.0.1 7000 8000
	talk 80
	opened d
	mark
	is "$(count "$LOG" "$OPEN")" 1
	stop_knockd
}

@test "an end that resets, closes or lingers is the same to the door" {
	need socat
	door 7000,8000,9000
	bg "$S" socat TCP-LISTEN:7000,fork,reuseaddr,linger=0 EXEC:true 2>/dev/null
	bg "$S" socat TCP-LISTEN:8000,fork,reuseaddr EXEC:true 2>/dev/null
	until_true "$WAIT" listens "$S" tcp 7000
	until_true "$WAIT" listens "$S" tcp 8000
	start
	in_a bash -c 'exec 4<>/dev/tcp/10.77.0.1/7000; cat <&4' >/dev/null 2>&1 || :
	in_a bash -c 'exec 4<>/dev/tcp/10.77.0.1/8000; cat <&4' >/dev/null 2>&1 || :
	knock_a 10.77.0.1 9000
	opened d
	stop_knockd
}
