#!/usr/bin/env bats
# Real clients whose SYNs a firewall drops, so that their kernels send them again
# and again; the packets of real connections beside a knock; neighbours. A knock
# opens once, and one closing knock closes.

load lib
load packets

# pair: the example's two doors, with a rule for each opening; and a firewall
# that drops what is not let in, and counts the SYNs to each of their ports.
pair() {
	local p t

	need iptables nc
	conf <<-EOF
	[openSSH]
		sequence    = 7000,8000,9000
		seq_timeout = 15
		tcpflags    = syn
		command     = iptables -w -I INPUT -s %IP% -p tcp --dport 22 -j ACCEPT
		command_6   = ip6tables -w -I INPUT -s %IP% -p tcp --dport 22 -j ACCEPT
	[closeSSH]
		sequence    = 9000,8000,7000
		seq_timeout = 15
		tcpflags    = syn
		command     = iptables -w -D INPUT -s %IP% -p tcp --dport 22 -j ACCEPT
		command_6   = ip6tables -w -D INPUT -s %IP% -p tcp --dport 22 -j ACCEPT
		message     = CLOSE SESAME
	EOF
	for t in iptables ip6tables; do
		for p in 7000 8000 9000; do
			in_s $t -w -A INPUT -p tcp --dport $p -j DROP ||
				skip "$t does not work with this kernel"
		done
	done
	start
}

# dropped: for each port and family, how many SYNs the firewall has dropped.
dropped() {
	{ in_s iptables -w -xvnL INPUT; in_s ip6tables -w -xvnL INPUT; } |
		awk '/DROP/ { print $1 }'
}

# again N: every port of both families has dropped N SYNs.
again() {
	is "$(dropped | awk -v n="$1" '$1 >= n' | wc -l)" 6 >/dev/null
}

rules() {
	{ in_s iptables -w -S; in_s ip6tables -w -S; } | grep -c 'dport 22 -j ACCEPT' || :
}

no_rules() {
	[ "$(rules)" = 0 ]
}

# tries GAP PORT...: a connection to each port from A by IPv4 and from B by IPv6,
# GAP seconds apart; none waits for the one before.
tries() {
	local gap=$1 p

	shift
	for p; do
		# shellcheck disable=SC2217
		bg "$A" nc -w 60 "$ME4" "$p" </dev/null >/dev/null 2>&1
		# shellcheck disable=SC2217
		bg "$B" nc -w 60 "$ME6" "$p" </dev/null >/dev/null 2>&1
		pause "$gap"
	done
}

# once_open_once_closed GAP: what is to come of nc's connections.
once_open_once_closed() {
	pair
	tries "$1" 7000 8000 9000
	logged 'openSSH: OPEN SESAME' 2
	until_true "$WAIT" again 4
	mark
	is "opened $(count "$LOG" 'openSSH: OPEN SESAME') times, $(rules) rules" \
		"opened 2 times, 2 rules"
	is "closed $(count "$LOG" 'closeSSH: CLOSE SESAME') times" "closed 0 times"
	tries "$1" 9000 8000 7000
	logged 'closeSSH: CLOSE SESAME' 2
	until_true "$WAIT" again 9
	mark
	until_true "$WAIT" no_rules
	is "opened $(count "$LOG" 'openSSH: OPEN SESAME'), closed $(count "$LOG" 'closeSSH: CLOSE SESAME')" \
		"opened 2, closed 2"
	not_logged 'non-zero'
}

@test "nc through a firewall that drops, 0.3 s apart: opens once, closes once" {
	once_open_once_closed 0.3
}

@test "nc through a firewall that drops, 1.5 s apart: opens once, closes once" {
	once_open_once_closed 1.5
}

@test "a lost packet and a retry: the closing knock closes, and only that" {
	pair
	for c in "knock_a $ME4" "knock_b $ME6"; do
		$c 7000 8000
		$c 7000 8000 9000
	done
	logged 'openSSH: OPEN SESAME' 2
	logged 'running command: ip6?tables -w -I' 2
	for c in "knock_a $ME4" "knock_b $ME6"; do $c 9000 8000 7000; done
	logged 'closeSSH: CLOSE SESAME' 2
	mark
	until_true "$WAIT" no_rules
	is "$(count "$LOG" 'openSSH: OPEN SESAME')" 2
}

# A has an open port, to which S connects again and again, 100 times while A knocks:
# some 40 times a second, or fewer.
@test "the server's own connections to the knocker's address end no knock" {
	need socat
	scan_conf
	start
	for f in 4 6; do
		[ $f = 4 ] && a=10.77.0.2 || a=fd77::2
		bg "$A" socat "TCP$f-LISTEN:500$f,reuseaddr,fork" /dev/null
		until_true "$WAIT" listens "$A" tcp 500$f
		# shellcheck disable=SC2016
		bg "$S" bash -c 'while :; do : <>/dev/tcp/$0/$3; read -rt 0.02 _ <>"$1"; echo >>"$2"; done' \
			$a "$T/.pause" "$T/connected$f" 500$f
		c=$!
		wait_for_line "$T/connected$f" '' 20
		for ((i = 1; i <= 5 || $(wc -l <"$T/connected$f") < 120; i++)); do
			knock_a -d 300 "$(me $f)" 7000 8000 9000
			logged "] $a: openSSH: OPEN SESAME" $i
		done
		kill $c
		wait $c || :
	done
}

# B has an open port. A sends SYNs to it as if they were S's, from the ports of
# the knock: B answers S from its own address to these.
@test "SYNs forged with the server's address to another host open nothing for it" {
	local a f lladdr=02:00:00:00:00:03

	need socat iptables
	scan_conf
	start
	for f in 4 6; do
		[ $f = 4 ] && a=10.77.0.3 t=iptables || a=fd77::3 t=ip6tables
		in_s $t -w -A INPUT -p tcp --tcp-flags SYN,ACK SYN,ACK --dport 9000 ||
			skip "$t does not work with this kernel"
		bg "$B" socat "TCP$f-LISTEN:500$f,reuseaddr,fork" /dev/null
		until_true "$WAIT" listens "$B" tcp 500$f
		for p in 7000 8000 9000; do
			in_a "$GEN" if=b0 dmac=$lladdr src="$(me $f)" dst=$a sport=$p \
				ports=500$f topts=8 >/dev/null
			pause 0.05
		done
		answered() { in_s $t -w -xvnL INPUT | awk '/flags/ { exit !$1 }'; }
		until_true "$WAIT" answered
		mark
		not_logged "] $a: (openSSH|closeSSH|free|null):"
		knock_b "$(me $f)" 7000 8000 9000
		logged "] $a: openSSH: OPEN SESAME"
	done
}

@test "two people behind one address at two doors; SYNs for a game beside a knock" {
	local a f i

	conf <<-EOF
	[game]
		sequence = 25565
		tcpflags = syn
	[ssh]
		sequence = 7000,8000,9000
		tcpflags = syn
	[web]
		sequence = 1234,5678,4321
		tcpflags = syn
	EOF
	start
	for f in 4 6; do
		[ $f = 4 ] && a=10.77.0.3 || a=fd77::3
		# 16 openings of the game in all: 20 lines a second are logged.
		for ((i = 1; i <= 4; i++)); do
			from $a ports=7000,1234,25565,5678,8000,25565,9000,4321
			logged "] $a: ssh: OPEN SESAME" $i
			logged "] $a: web: OPEN SESAME" $i
			logged "] $a: game: OPEN SESAME" $((2 * i))
		done
	done
}

@test "what has opened a door is used up" {
	conf <<-EOF
	[open]
		sequence = 2000,3000,4000
		tcpflags = syn
	[close]
		sequence = 4000,2000,3000
		tcpflags = syn
	[ssh]
		sequence = 8000:udp,7000,9000:udp
	[webopen]
		sequence = 9000,8000:udp,7000
	[webclose]
		sequence = 7000,8000:udp,9000
	[short]
		sequence = 5000,5001
		tcpflags = syn
	[long]
		sequence = 5002,5000,5001
		tcpflags = syn
	EOF
	start
	K='ports=2000,3000,4000' L='ports=4000,2000,3000'
	both yes open 'open, close, one more packet' "$K" "$L" ports=4000
	both yes close 'open, close, one more packet' "$K" "$L" ports=4000
	W='ports=9000,8000:udp,7000' X='ports=7000,8000:udp,9000'
	for d in webopen webclose ssh; do
		both yes $d 'open the web, close it, ssh' "$W" "$X" 'ports=8000:udp,7000,9000:udp'
	done
	both yes long 'a door whose end is another one' ports=5002,5000,5001
	both no short 'a door whose end is another one' ports=5002,5000,5001
	both yes short 'by itself' ports=5000,5001
	verdict
}
