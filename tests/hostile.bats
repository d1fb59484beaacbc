#!/usr/bin/env bats
# What an attack on the running daemon and its surroundings had found.

load lib

in_s_knockd() {
	nsenter -t "$S" -m -n -r -w -- "$@" </dev/null 3>&-
}

@test "two daemons started at once never share a state file" {
	local i j p n

	conf </dev/null
	for i in {1..20}; do
		rm -f "$T"/k.state*
		: >"$LOG"
		in_s_knockd bash -c '"$@" & "$@" & wait' x "$KNOCKD" \
			-c "$T/knockd.conf" -p "$T/k.pid" -i eth0 >/dev/null 2>&1 &
		j=$!
		logged "$READY" 2
		n=$(count "$LOG" 'is used by another knockd')
		for p in $(pids_in "$S" knockd); do kill "$p" 2>/dev/null || :; done
		wait "$j" || :
		is "round $i: $n refused, $(count "$LOG" 'could not write') not written" \
			"round $i: 1 refused, 0 not written"
	done
}

@test "one address whose command hangs does not fill the queue of all" {
	need python3
	conf <<-EOF2
	[d]
	sequence = 7000:udp,7001:udp
	start_command = [ %IP% = 10.77.0.3 ] || exec sleep 1000
	EOF2
	start
	in_a python3 - 3>&- <<-'E'
	import socket, time
	for i in range(4300):
	    for p in (7000, 7001):
	        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
	        s.sendto(b"\0", ("10.77.0.1", p)); s.close()
	    time.sleep(0.001)
	E
	mark
	knock_b -u -d 50 10.77.0.1 7000 7001
	logged '10.77.0.3: d: OPEN SESAME'
	mark
	not_logged '10.77.0.3: d: refused'
}

# rule_door SECONDS: a daemon whose door d is a real rule for so long.
rule_door() {
	need iptables
	conf <<-EOF2
	[d]
	sequence = 7000:udp,7001:udp
	start_command = iptables -I INPUT -s %IP% -p tcp --dport 22 -j ACCEPT
	cmd_timeout = $1
	stop_command = iptables -D INPUT -s %IP% -p tcp --dport 22 -j ACCEPT
	EOF2
	start
}

@test "who knocks again and again before the deadline does not pile up openings" {
	local i n

	rule_door 2
	for i in {1..80}; do knock_a -u -d 100 10.77.0.1 7000 7001; done
	n=$(in_s iptables -S INPUT | grep -c 'dport 22')
	# knockd 0.8 has 10 here
	[ "$n" -le 40 ] || { echo "$n rules for one address"; return 1; }
}

@test "more openings than may stand: each knock still runs, and all are closed at the end" {
	local i

	rule_door 600
	for i in {1..20}; do
		knock_a -u -d 50 10.77.0.1 7000 7001
		logged 'd: running command: iptables -I' "$i"
	done
	logged 'd: CLOSE SESAME' 4
	stop_knockd
	is "$(count "$LOG" 'd: CLOSE SESAME')" 20
	is "$(in_s iptables -S INPUT | grep -c 'dport 22')" 0
}

@test "a file size limit: what strangers do does not end the daemon" {
	local i

	conf <<-EOF2
	[d]
	sequence = 7000,7001
	EOF2
	: >"$T/out"; : >"$T/err"
	in_s_knockd bash -c 'ulimit -f 1; exec "$@"' x "$KNOCKD" \
		-c "$T/knockd.conf" -p "$T/k.pid" -i eth0 >"$T/out" 2>"$T/err" &
	PID=$!
	until_true "$WAIT" started 0
	for i in {1..25}; do knock_a -d 5 10.77.0.1 7000; knock_b -d 5 10.77.0.1 7000 7001; done
	pause 0.5
	running "$PID"
}

@test "SIGHUP with an emptied file: said, and everything stays as it is" {
	grant_door 600
	start
	: >"$T/knockd.conf"
	kill -HUP "$PID"
	logged 're-reading config file'
	pause 1
	knock_a -d 50 10.77.0.1 7000 8000
	WAIT=5 wait_for_line "$T/did" start
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

@test "no /dev and descriptors 0-2 closed: -d still hears signals" {
	local p t

	mkdir "$T/root" "$T/root/run"
	cp "$KNOCKD" "$T/root/knockd"
	printf '[d]\nsequence = 7000,7001\n' >"$T/root/c"
	in_s_knockd bash -c 'exec chroot "$1" /knockd -c /c -d -p /k.pid <&- >&- 2>&-' x "$T/root"
	p=$(cat "$T/root/k.pid")
	t=$(awk '{ print $14 + $15 }' "/proc/$p/stat")
	pause 2
	t=$(($(awk '{ print $14 + $15 }' "/proc/$p/stat") - t))
	kill "$p"
	until_true 5 gone "$p" || { echo "SIGTERM ignored, $t ticks of CPU in 2 s"; return 1; }
}

@test "SIGHUP with a FIFO for a configuration does not hang the daemon" {
	conf </dev/null
	start
	mv "$T/knockd.conf" "$T/old"
	mkfifo "$T/knockd.conf"
	kill -HUP "$PID"
	logged 're-reading config file'
	kill "$PID"
	until_true 5 gone "$PID" || { echo "hangs in $(cat "/proc/$PID/wchan")"; return 1; }
}

@test "a configuration from a descriptor, as in 0.8" {
	conf </dev/null
	export T KNOCKD
	# shellcheck disable=SC2016
	in_s_knockd bash -c '"$KNOCKD" -t -c <(cat "$T/knockd.conf")'
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
	in_a timeout 5 bash -c '"$@" <&-' x "$KNOCK" -W 22 10.77.0.1 7000 || :
	until_true "$WAIT" test -s "$T/got"
	is "$(cat "$T/got")" "."
}

@test "completion runs nothing out of a profile" {
	mkdir -p "$T/h/.config"
	printf '[$(>$HOME/ran)]\nports 7000\n' >"$T/h/.config/knock.conf"
	# shellcheck disable=SC2016
	HOME=$T/h XDG_CONFIG_HOME='' bash --norc -c '. "$1"; COMP_WORDS=(knock ""); COMP_CWORD=1; _knock' \
		x "$ROOT/contrib/knock.bash"
	not test -e "$T/h/ran"
}
