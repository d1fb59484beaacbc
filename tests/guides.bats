#!/usr/bin/env bats
# The guides in docs/ show what works: their lines are typed here as they are
# printed there.

load lib

setup() {
	cd "$ROOT" || return
	net_up
}

teardown() {
	say_why
	net_down ${H:-}
}

# code PAGE HEADING: the indented lines under that heading, without the indent.
code() {
	awk -v want="## $2" '/^## / { on = $0 == want } on && /^    / {
		print substr($0, 5); next } on { print "" }' "docs/$1.md"
}

# block PAGE HEADING WORD: of these, the block that begins with that word.
block() {
	code "$1" "$2" | awk -v w="$3" -v RS= 'index($0, w) == 1 { print; exit }'
}

three_ports() {
	conf <<-'EOF2'
	[d]
	sequence = 7000,8000,9000
	tcpflags = syn
	[u]
	sequence = 8000:udp
	EOF2
	start
}

@test "clients: each line for Linux opens the door" {
	local line n=0 lines=() text=''

	need nc curl python3
	three_ports
	# an empty line ends a command
	while IFS= read -r line; do
		[ -n "$line" ] || { [ -z "$text" ] || lines+=("$text"); text=''; continue; }
		text+=$line$'\n'
	done < <(code clients Linux)
	is "${#lines[@]}" 7
	for line in "${lines[@]}"; do
		line=${line//HOST/10.77.0.1}
		case $line in
		knock*) in_a "$KNOCK" ${line#knock }; n=$((n + 1)) ;;
		*udp* | *-u*) in_a bash -c "$line"; continue ;;
		*) in_a bash -c "$line" 2>/dev/null || :; n=$((n + 1)) ;;
		esac
		logged '10.77.0.2: d: OPEN SESAME' "$n"
	done
	is "$n" 5
	logged '10.77.0.2: u: OPEN SESAME' 2
	stop_knockd
}

# behind S: H, 192.168.1.10, whose way out is S.
house() {
	H=''
	box H '' -n
	in_s ip link add in0 type veth peer name eth0 netns "$H"
	in_s ip addr add "$1/24" dev in0
	in_s ip link set in0 up
	nsenter -t "$H" -n -- ip -batch - <<-EOF2
	link set lo up
	addr add $2/24 dev eth0
	link set eth0 up
	route add default via $1
	EOF2
	in_s sysctl -qw net.ipv4.ip_forward=1
}

in_h() {
	nsenter -t "$H" -n -- "$@"
}

@test "routers: a knock arrives through the forwards, with the client's address" {
	need iptables nc
	house 192.168.1.1 192.168.1.10
	in_s iptables -P FORWARD DROP
	in_s iptables -A FORWARD -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT
	code routers 'Behind a home router' | sed 's/eth1/eth0/' >"$T/rules"
	is "$(grep -c iptables "$T/rules")" 2
	in_s sh -e "$T/rules"
	in_h nc -lk 22 >/dev/null 2>&1 3>&- &
	until_true "$WAIT" listens "$H" tcp 22
	conf <<-'EOF2'
	[d]
	sequence = 7000,8000,9000
	tcpflags = syn
	EOF2
	in_h "$KNOCKD" -c "$T/knockd.conf" -p "$T/k.pid" </dev/null >"$T/out" 2>"$T/err" 3>&- &
	PID=$!
	logged "$READY"
	knock_a 10.77.0.1 7000 8000 9000
	logged '10.77.0.2: d: OPEN SESAME'
	in_a nc -z -w 2 10.77.0.1 22
	kill "$PID"
	until_true "$WAIT" gone "$PID"
}

web() {
	"in_$1" nc -z -w 2 10.77.0.1 "$2"
}

web_not() {
	! web "$@"
}

@test "routers: a door on the router opens a forward" {
	need iptables nc
	house 192.168.1.1 192.168.1.10
	in_s iptables -P FORWARD DROP
	in_s iptables -A FORWARD -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT
	in_s iptables -t nat -A PREROUTING -i eth0 -p tcp --dport 80 -j DNAT \
		--to-destination 192.168.1.10
	in_h nc -lk 80 >/dev/null 2>&1 3>&- &
	until_true "$WAIT" listens "$H" tcp 80
	block routers 'knockd on the router' '[web]' | sed 's/= 3600/= 3/' | conf
	start
	web_not a 80
	knock_a 10.77.0.1 23811 4172 51266 9345
	until_true "$WAIT" web a 80
	web_not b 80
	logged 'CLOSE SESAME'
	web_not a 80
	stop_knockd
}

# docker's own rules for `docker run -p 8080:80` of a container 172.17.0.2.
docker_rules() {
	in_s sh -e <<-'EOF2'
	iptables -t nat -N DOCKER
	iptables -t nat -A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
	iptables -t nat -A DOCKER ! -i in0 -p tcp --dport 8080 -j DNAT --to-destination 172.17.0.2:80
	iptables -P FORWARD DROP
	iptables -N DOCKER-USER
	iptables -N DOCKER
	iptables -A FORWARD -j DOCKER-USER
	iptables -A FORWARD -o in0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
	iptables -A FORWARD -o in0 -j DOCKER
	iptables -A FORWARD -i in0 ! -o in0 -j ACCEPT
	iptables -A DOCKER -d 172.17.0.2/32 ! -i in0 -o in0 -p tcp --dport 80 -j ACCEPT
	iptables -A DOCKER-USER -j RETURN
	EOF2
}

@test "docker: a published port is shut, and opens for one address, by commands" {
	docker_recipe 'With commands' 1
}

@test "docker: a published port is shut, and opens for one address, by an ipset" {
	need ipset
	in_s ipset list >/dev/null 2>&1 || skip "no ip_set in this kernel"
	docker_recipe 'With an ipset' 2
}

docker_recipe() {
	need iptables nc socat
	house 172.17.0.1 172.17.0.2
	docker_rules
	in_h socat TCP-LISTEN:80,fork,reuseaddr EXEC:cat 2>/dev/null 3>&- &
	until_true "$WAIT" listens "$H" tcp 80
	until_true "$WAIT" web a 8080
	code docker "$1" | grep -E '^ip(tables|set)' >"$T/rules"
	is "$(wc -l <"$T/rules")" "$2"
	in_s sh -e "$T/rules"
	in_s iptables -S DOCKER-USER >"$T/before"
	web_not a 8080
	block docker "$1" '[web]' | sed 's/= 3600/= 4/' | conf
	start
	knock_a 10.77.0.1 23811 4172 51266 9345
	until_true "$WAIT" web a 8080
	web_not b 8080
	mkfifo "$T/say"
	exec {SAY}<>"$T/say"
	# shellcheck disable=SC2217
	bg "$A" socat - TCP:10.77.0.1:8080 <"$T/say" >"$T/heard"
	echo one >&"$SAY"
	wait_for_line "$T/heard" '^one$'
	logged 'CLOSE SESAME'
	until_true "$WAIT" web_not a 8080
	in_s iptables -S DOCKER-USER | diff - "$T/before"
	# whoever is in stays in
	echo two >&"$SAY"
	wait_for_line "$T/heard" '^two$'
	stop_knockd
}

@test "start-a-server: the first packet starts it, those that follow do not" {
	# in place of systemctl, what it would be told
	printf '#!/bin/sh\necho "$@" >> "%s"\n' "$T/did" >"$T/systemctl"
	chmod 755 "$T/systemctl"
	block start-a-server 'A game server' '[game]' |
		sed "s,/usr/bin/systemctl,$T/systemctl," | conf
	start
	for _ in 1 2 3; do in_a bash -c ': </dev/tcp/10.77.0.1/25565' 2>/dev/null || :; done
	in_b bash -c ': </dev/tcp/10.77.0.1/25565' 2>/dev/null || :
	mark
	is "$(cat "$T/did")" '--no-block start game.service'
	stop_knockd
}

@test "start-a-server: it is stopped when nobody is connected" {
	local cmd

	need ss socat
	printf '#!/bin/sh\necho "$@" >> "%s"\n' "$T/did" >"$T/systemctl"
	chmod 755 "$T/systemctl"
	cmd=$(sed -n "s/^    ExecStart=.*-c '\(.*\)'\$/\1/p" docs/start-a-server.md)
	matches "$cmd" 'ss -Htn'
	bg "$S" socat TCP-LISTEN:25565,fork,reuseaddr EXEC:cat
	until_true "$WAIT" listens "$S" tcp 25565
	bg "$A" socat TCP:10.77.0.1:25565 EXEC:'sleep 600'
	until_true "$WAIT" eval '[ -n "$(in_s ss -Htn state established)" ]'
	in_s env PATH="$T:$PATH" sh -c "$cmd"
	[ ! -e "$T/did" ]
	# shellcheck disable=SC2046
	kill -KILL $(pids_in "$A")
	until_true "$WAIT" eval '[ -z "$(in_s ss -Htn state established)" ]'
	in_s env PATH="$T:$PATH" sh -c "$cmd"
	is "$(cat "$T/did")" 'stop game.service'
}

@test "several: two daemons, each with its own pidfile, state file and doors" {
	local line

	in_s ip link add eth1 type veth peer name eth2
	printf '[options]\nlogfile = %s\n[%s]\nsequence = 7000,7002,7001\n' \
		"$T/lan.log" lan | in_s tee /etc/knockd-lan.conf >/dev/null
	printf '[options]\nlogfile = %s\n[%s]\nsequence = 8000,8002,8001\n' \
		"$T/wan.log" wan | in_s tee /etc/knockd-wan.conf >/dev/null
	code several 'Several daemons' | grep '^knockd ' >"$T/lines"
	is "$(wc -l <"$T/lines")" 2
	while read -r line; do
		in_s "$KNOCKD" ${line#knockd } </dev/null 3>&-
	done <"$T/lines"
	for line in lan wan; do in_s test -s "/run/knockd-$line.state"; done
	knock_a 10.77.0.1 7000 7002 7001
	wait_for_line "$T/lan.log" 'lan: OPEN SESAME'
	run in_s "$KNOCKD" -d -c /etc/knockd-lan.conf -p /run/knockd-lan.pid -i eth0 3>&-
	is "$status" 1
	matches "$output" knockd-lan.pid
	in_s sh -c 'kill $(cat /run/knockd-*.pid)'
	until_true "$WAIT" no_daemon_left
}

@test "several: the template unit is clean" {
	local d=$T/root

	need systemd-analyze
	[ -d /lib/systemd/system ] || skip "no systemd units here"
	mkdir -p "$d/etc/systemd/system" "$d/usr/local/sbin" "$d/usr/lib" "$d/bin"
	cp -r /lib/systemd "$d/usr/lib/"
	ln -s usr/lib "$d/lib"
	cp knockd "$d/usr/local/sbin/knockd"
	cp /bin/true "$d/bin/kill"
	code several 'Several daemons' | sed -n '/^\[Unit\]/,$p' \
		>"$d/etc/systemd/system/knockd@.service"
	systemd-analyze verify --man=no --root="$d" knockd@lan.service >"$T/v" 2>&1
	is "$(grep knockd "$T/v")" ''
}

@test "log-and-status: the lines of the table are those that knockd writes" {
	local text n=0

	# strings in one piece, a number for what is filled in
	tr '\n' ' ' <knockd.c | sed -E 's/" +"//g; s/%(ll)?[a-z]/7/g; s/[0-9]+/7/g' \
		>"$T/source"
	while read -r text; do
		text=$(sed -E 's/^(192.0.2.7|fd00::7): //; s/^ssh: //; s/[ (]*\.\.\.$//; s/ \(.*//
			s/ any$//; s/ ppp0.*//; s/^set nft .*/set 7: 7/; s/ Set_6$/ 7/; s/[0-9]+/7/g' <<<"$text")
		case $text in iptables:*) continue ;; esac
		grep -qF -- "$text" "$T/source" || { echo "not in knockd.c: $text"; return 1; }
		n=$((n + 1))
	done < <(sed -n 's/^| `\([^`]*\)` | .*/\1/p' docs/log-and-status.md | grep ' ' |
		grep -v = )
	[ "$n" -ge 13 ]
}

@test "uninstall: the rules of README's step 3 are gone" {
	local t

	need iptables
	for t in iptables ip6tables; do
		in_s $t -I INPUT 1 -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT
		in_s $t -A INPUT -p tcp --dport 22 --syn -j REJECT
	done
	awk '/^1\. / { on = 1 } /^2\. / { on = 0 } on && /^       / { print substr($0, 8) }' \
		docs/uninstall.md >"$T/c"
	in_s sh -e "$T/c"
	for t in iptables ip6tables; do not grep REJECT <(in_s $t -S INPUT); done
}

@test "every door in the guides is read" {
	local page n=0

	for page in docs/*.md; do
		# an indented [door] ends where the indented block ends
		awk '/^    \[/ { on = 1 } on && !/^    ./ { on = 0 }
			on { sub(/^ +/, ""); print }' "$page" |
			awk -v RS='\n\\[' '/Sequence/ { print (NR > 1 ? "[" : "") $0 }' >"$T/c"
		[ -s "$T/c" ] || continue
		./knockd -t -c "$T/c" >/dev/null 2>"$T/err" || { echo "$page"; cat "$T/err"; return 1; }
		n=$((n + 1))
	done
	[ "$n" -ge 4 ]
}
