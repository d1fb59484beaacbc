#!/usr/bin/env bats
# Sealed knocks: keys, what the client sends, what the daemon makes of it.

load lib
load rogue

K=000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f

# --- the client ------------------------------------------------------------------

# receiver: S writes each datagram to port 62201 to $T/got: ms, source, hex.
receiver() {
	need python3
	cat >"$T/receiver.py" <<-EOF2
	import socket, time
	s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
	s.bind(("::", 62201))
	print("ready", flush=True)
	while True:
	    d, a = s.recvfrom(2048)
	    print(int(time.time() * 1000), a[0].replace("::ffff:", ""), d.hex(), flush=True)
	EOF2
	bg "$S" python3 "$T/receiver.py" >"$T/got" 2>"$T/receiver"
	wait_for_line "$T/got" ready
}

# received N: after N datagrams: their sources and what the reference says of each
# different one, judged in turn by a server that has the key at the door ssh.
received() {
	wait_for_line "$T/got" '^[0-9]' "$1"
	python3 - "$T/got" "$ROOT/tests/knock1" <<-EOF2
	import sys
	sys.path.insert(0, sys.argv[2])
	sys.dont_write_bytecode = True
	import knock1
	key = bytes.fromhex("$K")
	lines = [l.split() for l in open(sys.argv[1]) if l[0].isdigit()]
	server = knock1.Server([(key, "ssh"), (key, "my dör: x")], int(lines[0][0]) - 60000)
	seen = {}
	for ms, source, packet in lines:
	    seen.setdefault(packet, [source, 0, server.judge(bytes.fromhex(packet), source, int(ms))
	        if packet not in seen else ""])[1] += 1
	for source, n, verdict in seen.values():
	    print(source, "x", n, verdict)
	EOF2
}

# key_file [TEXT]: $T/key, mode 600.
key_file() {
	printf '%s\n' "${1:-ssh:$K}" >"$T/key"
	chmod 600 "$T/key"
}

# refused MESSAGE ARG...: knock sends nothing, ends with 1 and this.
refused() {
	local message=$1 rc=0

	shift
	at_home "$@" >"$T/out" 2>"$T/err" || rc=$?
	is "$rc" 1
	is "$(cat "$T/out")" ''
	matches "$(cat "$T/err")" "$message"
}

@test "--keygen: the server's line and the profile's, a new key each time" {
	local a b name

	{ read -r a; read -r b; } < <("$KNOCK" --keygen anna ssh)
	matches "$a" '^anna [0-9a-f]{64}$'
	is "$b" "key = ssh:${a#anna }"
	is "$("$KNOCK" --keygen anna ssh | wc -l)" 2
	is "$(for _ in {1..50}; do "$KNOCK" --keygen a b; done | sort -u | wc -l)" 100
	is "$("$KNOCK" --keygen a.B_c-d@e 'my dör: x' | sed -n 's/:[^:]*$//; 2p')" 'key = my dör: x'
	for name in '' .a -- -a a:b 'a b' 01234567890123456789012345678901; do
		not "$KNOCK" "--keygen=$name" ssh 2>"$T/err"
		matches "$(cat "$T/err")" "^knock: '$name' can't be a client: up to 31 letters, "
	done
	not "$KNOCK" --keygen anna 2>"$T/err"
	matches "$(cat "$T/err")" "needs a door's name"
	# A profile ends at a line's end, and each of its lines at a #.
	for name in '' "$(printf %0128d 1)" 'a#b' $'ssh\nssh2' $'s\rsh'; do
		not "$KNOCK" --keygen anna "$name" >"$T/out" 2>"$T/err"
		is "$(cat "$T/out")" ''
		matches "$(cat "$T/err")" "^knock: --keygen anna needs a door's name: up to 127 bytes, without #\$"
	done
	not "$KNOCK" --keygen anna ssh >/dev/full
}

@test "-k: one datagram of 56 bytes, three times, as the reference reads it" {
	receiver
	key_file
	knock_a -k "$T/key" 10.77.0.1 62201
	is "$(received 3)" '10.77.0.2 x 3 open 10.77.0.2'
	is "$(awk '/^[0-9]/ { print length($3) }' "$T/got" | sort -u)" 112
	knock_a --key="$T/key" fd77::1 62201
	is "$(received 6 | tail -n 1)" 'fd77::2 x 3 open fd77::2'
	# 50 ms apart; less, as a datagram may have been seen late
	awk '/^[0-9]/ { if (n++ && n < 4) d += $1 - last; last = $1 }
		END { exit d < 60 }' "$T/got"
}

@test "a sealed knock: --close, --for, and one stamp after the other" {
	receiver
	key_file
	knock_a -k "$T/key" --close 10.77.0.1 62201
	knock_a -k "$T/key" --for 192.0.2.7 10.77.0.1 62201
	knock_a -k "$T/key" --for 2001:db8::7 --close 10.77.0.1 62201
	knock_a -k "$T/key" --for own 10.77.0.1 62201
	knock_a -k "$T/key" --for own fd77::1 62201
	is "$(received 15)" "10.77.0.2 x 3 close 10.77.0.2
10.77.0.2 x 3 open 192.0.2.7
10.77.0.2 x 3 close 2001:db8::7
10.77.0.2 x 3 open 10.77.0.2
fd77::2 x 3 open fd77::2"
}

@test "a sealed knock: --both seals one for each family, 300 ms apart" {
	[ -e /etc/hosts ] || skip "no /etc/hosts here"
	receiver
	key_file
	printf '%s\n' '10.77.0.1 server' 'fd77::1 server' >"$T/hosts"
	# shellcheck disable=SC2016
	in_a unshare -m --propagation private sh -c 'mount --bind "$1" /etc/hosts && shift &&
		exec "$@"' - "$T/hosts" "$KNOCK" --both -k "$T/key" server 62201
	is "$(received 6 | sort)" $'10.77.0.2 x 3 open 10.77.0.2\nfd77::2 x 3 open fd77::2'
	awk '/^[0-9]/ { if (!n++) first = $1; if (n == 4) exit $1 - first < 290 }' "$T/got"
}

@test "the key in a profile, or in a file that the profile names" {
	receiver
	profile .config/knock.conf <<-EOF2
	[home]
	host = 10.77.0.1
	ports = 62201
	key = ssh:$K	# of the server
	[file]
	host = 10.77.0.1
	ports = 62201
	key = $T/key	# of the server
	[blanks]
	host = 10.77.0.1
	ports = 62201:udp
	  KEY=my dör: x:$K
	EOF2
	at_home -v home >"$T/out"
	is "$(cat "$T/out")" 'hitting udp 10.77.0.1:62201'
	# As --keygen prints it, on a file with CRLF.
	key_file "key = ssh:${K^^}"$'\r'
	at_home file
	at_home blanks
	key_file
	at_home -k "$T/key" --close blanks
	is "$(received 12)" "10.77.0.2 x 3 open 10.77.0.2
10.77.0.2 x 3 open 10.77.0.2
10.77.0.2 x 3 open 10.77.0.2
10.77.0.2 x 3 close 10.77.0.2"
}

# written: somebody writes the key to $T/fifo, and waits for a reader already.
written() {
	cat "$T/key" 3>&- >"$T/fifo" &
	until_true "$WAIT" grep -q '^State:.*S' "/proc/$!/status"
}

@test "-k: a pipe is read if somebody writes it, and hangs nobody" {
	receiver
	# Late, and in two pieces, as a program writes them.
	knock_a -k <(pause 0.3; printf 'key = ssh:'; pause 0.3; echo "$K") 10.77.0.1 62201
	key_file
	cat "$T/key" | knock_a -k /dev/stdin 10.77.0.1 62201
	mkfifo -m 600 "$T/fifo"
	written
	knock_a -k "$T/fifo" 10.77.0.1 62201
	is "$(received 9 | grep -c open)" 3
	refused "^knock: --key: $T/fifo: nobody writes to this pipe$" -k "$T/fifo" 10.77.0.1 62201
	refused '^knock: --key: /dev/fd/[0-9]+: nobody writes to this pipe$' -k <(:) 10.77.0.1 62201
	chmod 640 "$T/fifo"
	written
	refused '^knock: --key: others may use this file: chmod 600$' -k "$T/fifo" 10.77.0.1 62201
	mkdir -p "$T/home"
	mkfifo "$T/home/.knockrc"
	refused "^knock: .*/.knockrc: nobody writes to this pipe$" home
	# A terminal, which is asked for nothing. (Nor does its user end anything.)
	need script
	in_a script -qec "'$KNOCK' -k /dev/tty 10.77.0.1 62201" /dev/null <&"$PAUSE" >"$T/err" || :
	matches "$(cat "$T/err")" '^knock: --key: /dev/tty: Resource temporarily unavailable'
}

@test "a key that is not good: what is wrong, and no packet" {
	local mode text ports n

	receiver
	key_file
	for mode in 640 604 620 602 610 700; do
		chmod $mode "$T/key"
		[ $mode = 700 ] ||
			refused '^knock: --key: others may use this file: chmod 600$' -k "$T/key" 10.77.0.1 62201
	done
	refused '^knock: --key: there is no such file$' -k "$T/nokey" 10.77.0.1 62201
	refused '^knock: --key: there is no such file$' -k "ssh:$K" 10.77.0.1 62201
	refused "^knock: --key: $T: Is a directory$" -k "$T" 10.77.0.1 62201
	refused "^knock: --key: no DOOR before the key$" -k /dev/null 10.77.0.1 62201
	for text in "$K" ":$K" 'ssh' '' '#'; do
		printf '%s' "$text" >"$T/key"
		chmod 600 "$T/key"
		refused '^knock: --key: no DOOR before the key$' -k "$T/key" 10.77.0.1 62201
	done
	for n in 128 200 9999; do
		key_file "$(printf "%${n}s" | tr ' ' d):$K"
		refused '^knock: --key: DOOR is too long$' -k "$T/key" 10.77.0.1 62201
	done
	for text in "ssh:${K}0" "ssh:${K%?}" "ssh:g${K#?}" 'ssh:' "$K:ssh" "ssh: $K"; do
		key_file "$text"
		refused '^knock: --key: the key is not 64 hex digits$' -k "$T/key" 10.77.0.1 62201
		not grep -q "$K" "$T/err"
	done
	key_file
	need setpriv
	copy_for_all
	ln -s copy "$T/knock"
	not setpriv --reuid=65534 --clear-groups -- "$T/knock" -k "$T/key" 10.77.0.1 62201 2>"$T/err"
	is "$(cat "$T/err")" "knock: --key: $T/key: Permission denied"
	for ports in '62201 62202' 62201:tcp 62201/TCP; do
		# shellcheck disable=SC2086 # words
		refused '^knock: a sealed knock has one port, of UDP$' -k "$T/key" 10.77.0.1 $ports
	done
	for text in nobody 0.0.0.0 0.1.2.3 :: 255.255.255.255 224.0.0.1 ff02::1 1.2.3; do
		refused "^knock: --for: '$text' is not the address of a host, or own$" -k "$T/key" --for "$text" 10.77.0.1 62201
	done
	refused '^knock: --close and --for need a key' --close 10.77.0.1 62201
	refused '^knock: --close and --for need a key' --for own 10.77.0.1 62201
	profile .knockrc <<<$'[home]\nhost = 10.77.0.1\nports = 62201\nkey = ssh:'"${K%?}"
	refused "^knock: $T/home/.knockrc:4: the key is not 64 hex digits$" home
	profile .knockrc <<<$'[home]\nhost = 10.77.0.1\nports = 62201\nkey ='
	refused "^knock: $T/home/.knockrc:4: " home
	profile .knockrc <<<$'[home]\nhost = 10.77.0.1\nports = 62201\nkey = ssh:'"$K"
	chmod 640 "$T/home/.knockrc"
	refused "knock: $T/home/.knockrc:4: others may use this file: chmod 600" home
	is "$(grep '^[0-9]' "$T/got")" ''
}

@test "the vectors are those of the reference" {
	need python3
	cp "$ROOT/tests/knock1/knock1.py" "$T"
	(cd "$T" && python3 knock1.py >"$T/out")
	matches "$(cat "$T/out")" '9 packets, 63 cases, 541 steps'
	cmp "$T/vectors.inc" "$ROOT/tests/knock1/vectors.inc"
}

@test "making and reading a sealed knock branches on nothing secret" {
	need valgrind gcc
	[ -e /usr/include/valgrind/memcheck.h ] || skip "no valgrind/memcheck.h"
	gcc -std=c11 -D_GNU_SOURCE -O2 -g -I"$ROOT" -Wno-unused-function -o "$T/ct" \
		"$ROOT/tests/constant_time.c"
	valgrind -q --error-exitcode=9 "$T/ct"
	# The test itself sees a branch on the key.
	run valgrind -q --error-exitcode=9 "$T/ct" branch
	is "$status" 9
}

# --- the daemon ------------------------------------------------------------------

# sealed_door [LINES]: a door ssh with a new key of anna, which is in $T/keys for the
# server and in $T/key for knock; KEY is its digits. More lines of the door from the
# argument.
sealed_door() {
	local a b

	{ read -r a; read -r b; } < <("$KNOCK" --keygen anna ssh)
	KEY=${a#anna }
	echo "$a" >"$T/keys"
	chmod 600 "$T/keys"
	key_file "${b#key = }"
	conf <<-EOF2
	[ssh]
	sequence = 62201:udp
	keys = $T/keys
	start_command = echo start %IP% \$KNOCKD_CLIENT >> $T/did
	cmd_timeout = 3600
	stop_command = echo stop %IP% \$KNOCKD_CLIENT >> $T/did
	${1:-}
	EOF2
}

# now_ms: milliseconds since the epoch.
now_ms() {
	local t=${EPOCHREALTIME//[.,]/}

	echo $((t / 1000))
}

# packet STAMP [ADDRESS [REQUEST]]: of anna's key, in hex; STAMP: ms from now.
packet() {
	python3 "$ROOT/tests/knock1/knock1.py" make "$KEY" ssh $(($(now_ms) + $1)) "${@:2}"
}

# raw BOX HEX: the box, A or B, sends these bytes to port 62201 of S, or to $PORT.
raw() {
	"in_$1" python3 -c 'import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.sendto(bytes.fromhex(sys.argv[1]), ("10.77.0.1", int(sys.argv[2])))' "$2" "${PORT:-62201}"
}

# stamps NAME: the stamps file of the daemon with pidfile $T/NAME.pid.
stamps() {
	local path=$T/$1.stamps

	path=${path#/}
	path=${path//-/%}
	echo "/var/lib/knockd/${path//\//-}"
}

# opens N: the log has so many openings of ssh, and mark found no more.
opens() {
	mark
	is "$(count "$LOG" 'ssh: OPEN SESAME')" "$1"
}

@test "a sealed knock opens, another closes; log and environment name the client" {
	sealed_door
	start
	knock_a -k "$T/key" 10.77.0.1 62201
	did 'start 10.77.0.2 anna'
	is "$(log_text | grep -A 1 'key of')" '10.77.0.2: ssh: key of anna
10.77.0.2: ssh: OPEN SESAME'
	knock_a -k "$T/key" --close 10.77.0.1 62201
	logged '10.77.0.2: ssh: CLOSE SESAME'
	is "$(cat "$T/did")" $'start 10.77.0.2 anna\nstop 10.77.0.2 anna'
	knock_a -k "$T/key" --for 10.9.9.9 fd77::1 62201
	did 'start 10.9.9.9 anna'
	logged '^.*fd77::2: ssh: key of anna for 10.9.9.9$'
	logged '10.9.9.9: ssh: OPEN SESAME'
	knock_b -k "$T/key" --close --for 10.9.9.9 10.77.0.1 62201
	logged '10.9.9.9: ssh: CLOSE SESAME'
	opens 2
	stop_knockd
}

@test "-4: a sealed knock opens for no IPv6 address" {
	sealed_door
	start -4
	knock_a -k "$T/key" --for 2001:db8::7 10.77.0.1 62201
	logged '10.77.0.2: ssh: anna: no opening for 2001:db8::7$'
	knock_a -k "$T/key" --for 192.0.2.7 10.77.0.1 62201
	did 'start 192.0.2.7.*'
	is "$(times_did 'start .*')" 1
	stop_knockd
}

@test "a profile, -W and the port that opens" {
	need iptables socat
	serve 22 EXEC:cat
	in_s iptables -w -A INPUT -p tcp --dport 22 -j REJECT ||
		skip "iptables does not work with this kernel"
	sealed_door
	sed -i "s/^\(start_command = \).*/\1iptables -w -I INPUT -s %IP% -p tcp --dport 22 -j ACCEPT/
		s/^\(stop_command = \).*/\1iptables -w -D INPUT -s %IP% -p tcp --dport 22 -j ACCEPT/" "$T/knockd.conf"
	start
	profile .config/knock.conf <<-EOF2
	[home]
	host = 10.77.0.1
	ports = 62201
	wait = 22
	key = ssh:$KEY
	EOF2
	is "$(at_home -W 22 home <<<'it works')" 'it works'
	# Nothing that it could wait for opens.
	at_home --close home
	logged 'CLOSE SESAME'
	at_home home
	logged 'OPEN SESAME' 2
	stop_knockd
}

@test "ssh logs in with a sealed knock: ProxyCommand and a profile" {
	need iptables
	sealed_door
	rm "$T/key" # ssh's has this name now
	start_sshd
	in_s iptables -w -A INPUT -p tcp --dport 22 -j REJECT ||
		skip "iptables does not work with this kernel"
	sed -i "s/^\(start_command = \).*/\1iptables -w -I INPUT -s %IP% -p tcp --dport 22 -j ACCEPT/
		s/^\(stop_command = \).*/\1iptables -w -D INPUT -s %IP% -p tcp --dport 22 -j ACCEPT/" "$T/knockd.conf"
	start
	profile .config/knock.conf <<<$'[home]\nhost = 10.77.0.1\nports = 62201\nkey = ssh:'"$KEY"
	printf 'Host home\n\tHostName 10.77.0.1\n\tProxyCommand %s -W %%p home\n' "$KNOCK" >"$T/config"
	printf 'Host *\n' | cat - "$T/ssh_config" >>"$T/config"
	is "$(in_a env -u XDG_CONFIG_HOME HOME="$T/home" ssh -F "$T/config" home echo it works)" 'it works'
	logged '10.77.0.2: ssh: OPEN SESAME'
	not in_b ssh -F "$T/ssh_config" 10.77.0.1 true 2>/dev/null
	stop_knockd
}

@test "contrib/knock1.py and knock1.sh open the door" {
	need python3 openssl nc
	sealed_door
	start
	in_a python3 "$ROOT/contrib/knock1.py" 10.77.0.1 62201 "$T/key"
	logged '10.77.0.2: ssh: OPEN SESAME'
	in_a python3 "$ROOT/contrib/knock1.py" --close fd77::1 62201 "$T/key" --for 10.77.0.2
	logged '10.77.0.2: ssh: CLOSE SESAME'
	in_a env "MS=$(now_ms)" sh "$ROOT/contrib/knock1.sh" 10.77.0.1 62201 "$T/key"
	logged '10.77.0.2: ssh: OPEN SESAME' 2
	# A NAT's address, in hex.
	in_a env "MS=$(now_ms)" sh "$ROOT/contrib/knock1.sh" 10.77.0.1 62201 "$T/key" \
		00000000000000000000ffff0a090909
	logged '10.9.9.9: ssh: OPEN SESAME'
	stop_knockd
}

@test "what was seen is never good again: at once, reload, restart, crash, reboot" {
	local seen later

	need python3
	sealed_door
	start
	seen=$(packet 0)
	raw a "$seen"
	logged '10.77.0.2: ssh: OPEN SESAME'
	raw a "$seen" # as the client does: no line
	raw b "$seen"
	logged '10.77.0.3: ssh: anna: replayed, first from 10.77.0.2$'
	opens 1
	kill -HUP "$PID"
	reloaded
	raw b "$seen"
	opens 1
	stop_knockd
	start
	raw b "$seen"
	logged '10.77.0.3: ssh: anna: replayed$'
	opens 1
	crash
	start
	raw b "$seen"
	opens 1
	crash
	# A reboot, then one that lost the stamps.
	rm -f "$T/k.state"
	start
	raw b "$seen"
	opens 1
	stop_knockd
	in_s rm "$(stamps k)"
	start
	raw b "$seen"
	logged '10.77.0.3: ssh: anna: sent before the start: wait [0-9]+ s$'
	opens 1
	later=$(packet 0)
	raw b "$later"
	logged '10.77.0.3: ssh: OPEN SESAME'
	stop_knockd
}

@test "two daemons: each remembers its own knocks, and neither the other's" {
	local one two second

	need python3
	sealed_door
	sed "s/62201/62202/; s,$T/log,$T/log2," "$T/knockd.conf" >"$T/two.conf"
	chmod 600 "$T/two.conf"
	start_second() {
		bg "$S" "$KNOCKD" -c "$T/two.conf" -p "$T/two.pid" -i eth0 >"$T/out2" 2>&1
		second=$!
		wait_for_line "$T/log2" "$READY" "$1"
	}
	start
	start_second 1
	one=$(packet 0)
	raw a "$one"
	logged '10.77.0.2: ssh: OPEN SESAME'
	two=$(packet 0)
	PORT=62202 raw a "$two"
	wait_for_line "$T/log2" '10.77.0.2: ssh: OPEN SESAME'
	is "$(in_s find /var/lib/knockd -type f | sort)" "$(stamps k; stamps two)"
	# The second one has written last; the first one still knows its knock.
	kill "$second"
	until_true "$WAIT" gone "$second"
	stop_knockd
	start
	start_second 2
	raw b "$one"
	logged '10.77.0.3: ssh: anna: replayed$'
	PORT=62202 raw b "$two"
	wait_for_line "$T/log2" '10.77.0.3: ssh: anna: replayed$'
	kill "$second"
	until_true "$WAIT" gone "$second"
	stop_knockd
}

@test "a knock that came while knockd was down, or while the key was out" {
	local kept used

	need python3
	sealed_door
	kept=$(packet 0)
	start
	raw a "$kept"
	logged 'anna: sent before the start'
	used=$(packet 0)
	raw a "$used"
	logged '10.77.0.2: ssh: OPEN SESAME'
	cp "$T/keys" "$T/keys.in"
	echo '# nobody' >"$T/keys"
	kill -HUP "$PID"
	reloaded
	mark
	kept=$(packet 0)
	raw a "$kept"
	mark
	cp "$T/keys.in" "$T/keys"
	kill -HUP "$PID"
	reloaded 2
	mark
	raw b "$kept"
	logged 'anna: sent before the start' 2
	# What was used before the key was out is still used.
	raw b "$used"
	logged '10.77.0.3: ssh: anna: replayed'
	opens 1
	raw a "$(packet 0)"
	logged '10.77.0.2: ssh: OPEN SESAME' 2
	stop_knockd
}

@test "a clock that is wrong: which way and how much; the stamp is no use later" {
	local ahead file

	need python3
	sealed_door
	start
	raw a "$(packet -3720000)"
	logged '10.77.0.2: ssh: anna: clock 3,7[2-9][0-9] s behind$'
	raw a "$(packet -620000)"
	logged 'anna: clock 6[2-9][0-9] s behind$'
	ahead=$(packet 3600000)
	raw a "$ahead"
	logged 'anna: clock 3,(600|5[0-9]{2}) s ahead$'
	in_s cat "$(stamps k)"
	in_s grep -qE '^seen [0-9a-f]{16} 0 ([0-9]+)-\1$' "$(stamps k)"
	# Whoever has seen it can't keep the disk busy.
	file=$(in_s stat -c '%i %z' "$(stamps k)")
	raw b "$ahead"
	logged '10.77.0.3: ssh: anna: clock 3,(600|5[0-9]{2}) s ahead$'
	is "$(in_s stat -c '%i %z' "$(stamps k)")" "$file"
	# A minute ahead is fine; 27 hours are nobody's.
	raw a "$(packet 60000)"
	logged '10.77.0.2: ssh: OPEN SESAME'
	raw a "$(packet 97200000)"
	opens 1
	# An hour later, by rogue.c's clock, in another life of the daemon.
	stop_knockd
	build_rogue
	order '' 3590
	KNOCKD=$ROGUE_BIN ROGUE=$T/orders start
	raw b "$ahead"
	logged '10.77.0.3: ssh: anna: replayed$'
	is "$(count "$LOG" 'ssh: OPEN SESAME')" 1
	KNOCKD=$ROGUE_BIN stop_knockd
}

@test "the clock is set an hour back or forward, and put right: nothing opens again" {
	local first second

	need python3
	sealed_door
	build_rogue
	KNOCKD=$ROGUE_BIN
	order '' 0
	ROGUE=$T/orders start
	first=$(packet 0)
	raw a "$first"
	logged '10.77.0.2: ssh: OPEN SESAME'
	order '' -3600
	raw b "$first"
	logged 'anna: clock 3,(600|5[0-9]{2}) s ahead$'
	second=$(packet -3600000)
	raw b "$second"
	mark
	order '' 0
	raw b "$first"
	raw b "$second"
	mark
	order '' 3600
	raw b "$first"
	raw b "$second"
	mark
	order '' 0
	raw b "$first"
	raw b "$second"
	opens 1
	raw a "$(packet 10)"
	logged '10.77.0.2: ssh: OPEN SESAME' 2
	stop_knockd
}

@test "a copy is silent, but what the clock makes of it is kept, too" {
	local old

	need python3
	sealed_door
	build_rogue
	KNOCKD=$ROGUE_BIN
	order '' 0
	ROGUE=$T/orders start
	old=$(packet -660000)
	raw a "$old"
	logged 'anna: clock 6[0-9]{2} s behind$'
	order '' -3600 # now it is of the future
	raw a "$old"
	mark
	stop_knockd
	order '' -690 # and now half a minute ahead
	ROGUE=$T/orders start
	raw b "$old"
	logged '10.77.0.3: ssh: anna: replayed$'
	opens 0
	stop_knockd
}

@test "Allow and Deny hold for the address, Deny for the source; what they refuse is used up" {
	local p

	need python3
	sealed_door $'allow = 10.0.0.0/8\n\tdeny = 10.77.0.3'
	start
	p=$(packet 0)
	raw b "$p"
	logged '10.77.0.3: ssh: anna: no opening for 10.77.0.3$'
	raw a "$p"
	logged '10.77.0.2: ssh: anna: replayed, first from 10.77.0.3$'
	raw b "$(packet 0 10.9.9.9)"
	logged 'anna: no opening for 10.9.9.9$'
	raw a "$(packet 0 192.0.2.1)"
	logged 'anna: no opening for 192.0.2.1$'
	raw a "$(packet 0 127.0.0.1)"
	logged 'anna: no opening for 127.0.0.1$'
	raw a "$(packet 0 ::10.77.0.2)"
	logged 'anna: no opening for ::a4d:2$'
	opens 0
	knock_a -k "$T/key" --for 10.77.0.2 fd77::1 62201
	logged '10.77.0.2: ssh: OPEN SESAME'
	stop_knockd
}

@test "a new key beside the old one; a client whose line goes is out, and its doors close" {
	local old new

	sealed_door
	start
	old=$(cat "$T/keys")
	new=$("$KNOCK" --keygen anna ssh | head -n 1)
	knock_a -k "$T/key" 10.77.0.1 62201
	did 'start 10.77.0.2 anna'
	echo "$new" >>"$T/keys"
	kill -HUP "$PID"
	reloaded
	mark
	key_file "ssh:${new#anna }"
	knock_a -k "$T/key" --for 10.9.9.9 10.77.0.1 62201
	did 'start 10.9.9.9 anna'
	echo "$new" >"$T/keys"
	kill -HUP "$PID"
	reloaded 2
	mark
	not_logged 'CLOSE SESAME' # anna is still a client
	key_file "ssh:${old#anna }"
	knock_a -k "$T/key" --for 10.8.8.8 10.77.0.1 62201
	opens 2
	echo "bert ${new#anna }" >"$T/keys"
	kill -HUP "$PID"
	logged 'anna is not a client any more' 2
	did 'stop 10.77.0.2 anna'
	did 'stop 10.9.9.9 anna'
	stop_knockd
}

@test "a sniffer that turns against the monitor does not open a door with keys" {
	sealed_door
	"$KNOCK" --keygen bert web | head -n 1 >"$T/web.keys"
	chmod 600 "$T/web.keys"
	cat >>"$T/knockd.conf" <<-EOF2
	[web]
	sequence = 62201:udp
	keys = $T/web.keys
	[plain]
	sequence = 7000:udp
	EOF2
	build_rogue
	rogue ''
	# An opening of its own, of each door with keys: doors 1 and 2 of the file.
	once 'forge OPEN 1 1 10.77.0.2 0 5'
	logged 'bad record from the sniffer: door with keys'
	once 'forge OPEN 2 1 10.77.0.2 0 5'
	once 'forge STAGE 2 1 10.77.0.2 0 5'
	# Sealed knocks of its own, of each client and of none, from anywhere.
	once 'forge SEALED 0 0 10.77.0.2 0 1000'
	once 'forge SEALED 1 0 10.77.0.2 0 1000'
	once 'forge SEALED 2 0 10.77.0.2 0 5'
	once 'forge SEALED 4294967295 0 10.77.0.2 0 5'
	once 'forge SEALED 0 0 224.0.0.1 0 5'
	once 'garbage 1 200'
	mark
	is "$(grep -cE '(ssh|web): ' "$LOG")" 0
	kill -USR1 "$PID"
	logged 'counters: .* forged 2000$'
	# One that it has seen, again, from elsewhere and for another client.
	knock_a -k "$T/key" 10.77.0.1 62201
	logged '10.77.0.2: ssh: OPEN SESAME'
	once 'replay 0 10.77.0.9 5'
	logged '10.77.0.9: ssh: anna: replayed, first from 10.77.0.2$'
	once 'replay 1 10.77.0.9 5'
	once 'replay 2 10.77.0.9 5'
	# As many as it can write: honest knocks come through, at each door.
	order 'once forge SEALED 1 0 10.77.0.2 0 50000'
	poke
	knock_b 10.77.0.1 7000:udp
	logged '10.77.0.3: plain: OPEN SESAME'
	knock_b -k "$T/key" 10.77.0.1 62201
	logged '10.77.0.3: ssh: OPEN SESAME'
	until_true "$WAIT" is_done
	opens 2
	is "$(count "$LOG" 'web: ')" 0
	kill -USR1 "$PID"
	logged 'counters: .* forged 52005$'
	stop_knockd
}

@test "no key is in the memory of the sniffer, nor in a core of the monitor" {
	local p

	need python3 gcc
	sealed_door
	start
	knock_a -k "$T/key" 10.77.0.1 62201
	logged 'OPEN SESAME'
	has_sniffer
	cat >"$T/secrets.c" <<-'EOF2'
	#define knock_main client_main
	#include "../knock.c"
	int main(int argc, char **argv) {
	    uint8_t k[32], d[32];
	    struct hmac h;
	    key_parse(argv[1], k);
	    hmac_key(&h, k, 32);
	    hmac(&h, "knock1 door", "ssh", 3, d);
	    fwrite(k, 1, 32, stdout); fwrite(d, 1, 32, stdout); fwrite(&h, 1, 64, stdout);
	    hmac_key(&h, d, 32);
	    fwrite(&h, 1, 64, stdout);
	    for (int i = 0; i < 32; i++) { k[i] ^= 0x36; d[i] ^= 0x36; }
	    fwrite(k, 1, 32, stdout); fwrite(d, 1, 32, stdout);
	    for (int i = 0; i < 32; i++) { k[i] ^= 0x6a; d[i] ^= 0x6a; }
	    fwrite(k, 1, 32, stdout); fwrite(d, 1, 32, stdout);
	    fputs(argv[1], stdout);
	    return argc != 2;
	}
	EOF2
	# The client's functions are not called, nor are those of knockd.c that it calls.
	gcc -std=c11 -D_GNU_SOURCE -w -static -I"$ROOT/tests" \
		-Wl,--unresolved-symbols=ignore-all -o "$T/secrets" "$T/secrets.c"
	"$T/secrets" "$KEY" >"$T/secrets.bin"
	# Of each 16 bytes of a secret: in how many places of a process' memory.
	cat >"$T/search.py" <<-'EOF2'
	import sys
	secrets = open(sys.argv[2], "rb").read()
	pieces = [secrets[i:i + 16] for i in range(0, len(secrets), 16)]
	found = 0
	mem = open("/proc/%s/mem" % sys.argv[1], "rb", 0)
	dumped = True
	for line in open("/proc/%s/smaps" % sys.argv[1]):
	    words = line.split()
	    if "-" in words[0] and len(words) >= 5:
	        low, high = (int(x, 16) for x in words[0].split("-"))
	        try:
	            mem.seek(low); text = mem.read(high - low)
	        except (OSError, ValueError, OverflowError):
	            text = b""
	    elif words[0] == "VmFlags:":
	        if len(sys.argv) > 3 and "dd" in words: continue
	        found += sum(text.count(p) for p in pieces)
	print(found)
	EOF2
	p=$(python3 "$T/search.py" "$PID" "$T/secrets.bin")
	[ "$p" -gt 0 ] # so it can be found
	is "$(python3 "$T/search.py" "$SNIFFER" "$T/secrets.bin")" 0
	is "$(python3 "$T/search.py" "$PID" "$T/secrets.bin" core)" 0
	kill -HUP "$PID"
	reloaded
	mark
	is "$(python3 "$T/search.py" "$PID" "$T/secrets.bin" core)" 0
	stop_knockd
}

@test "datagrams of other lengths and unknown ids are nothing; other doors go on" {
	local n packet

	need python3
	sealed_door
	cat >>"$T/knockd.conf" <<-EOF2
	[plain]
	sequence = 7000,62201:udp,7001
	EOF2
	start
	packet=$(packet 0)$(printf %0112d 0)
	for n in 1 55 57 64 112; do
		raw a "${packet:0:2 * n}"
	done
	raw a "$(printf '%0112d' 0)"
	knock_a -v 10.77.0.1 7000 62201:udp 7001
	logged '10.77.0.2: plain: OPEN SESAME'
	opens 0
	kill -USR1 "$PID"
	logged 'forged 0$'
	stop_knockd
}

@test "key files: owner, mode, lines, clients, what a door with keys can't have" {
	local good bad=$K name

	good=${K//0/7}
	# conf_of_keys TEXT [LINES]: /etc/keys of S, and what -t says.
	said() {
		printf '%s' "$1" >"$T/keys"
		chmod 600 "$T/keys"
		printf '%s\nkeys = %s\n' "${2:-sequence = 62201:udp}" "$T/keys" >"$T/knockd.conf"
		grep -q '^\[' "$T/knockd.conf" || sed -i '1i [ssh]' "$T/knockd.conf"
		in_s "$KNOCKD" -t -c "$T/knockd.conf" -p "$T/k.pid" >"$T/out" 2>"$T/err" || :
		not grep -qi "$good\|$K" "$T/err" "$T/out"
		cat "$T/out" "$T/err"
	}
	matches "$(said "anna $good"$'\n# x\n\n  bert@home\t'"${good/7/8} # his")" \
		$'# client anna\n# client bert@home\n.*# OK'
	matches "$(said "anna ${good%?}")" 'keys:1: the key is not 64 hex digits'
	matches "$(said $'\n'"anna ${good%?}g")" 'keys:2: the key is not 64 hex digits'
	matches "$(said "$good anna")" 'keys:1: the name has other characters'
	matches "$(said "-a $good")" 'keys:1: the name has other characters'
	matches "$(said "anna")" 'keys:1: the key is not 64 hex digits'
	matches "$(said "anna $bad")" 'keys:1: everybody has this key'
	matches "$(said "anna $good"$'\n'"bert $good")" 'keys:2: anna and bert have the same key'
	matches "$(said '# nobody')" "warning: no client: door 'ssh' opens for nobody"
	matches "$(said "anna $good" 'sequence = 62201')" ':2: a door with Keys has one port: Sequence = PORT:udp'
	matches "$(said "anna $good" 'sequence = 62201:udp,62202:udp')" ':2: a door with Keys has one port'
	matches "$(said "anna $good" $'sequence = 1:udp\none_time_sequences = x')" 'Keys and One_Time_Sequences exclude'
	matches "$(said "anna $good" $'sequence = 1:udp\ntcpflags = syn')" 'warning: TCPFlags has no effect'
	matches "$(said "anna $good" $'[plain]\nsequence = 7,9,8\ncommand = true\n[ssh]\nsequence = 2:udp\ncommand = true')" \
		"warning: door 'plain' runs the same command without a key"
	said "anna $good" >"$T/all"
	not grep warning:.*guessed "$T/all"
	chmod 640 "$T/keys"
	matches "$(in_s "$KNOCKD" -t -c "$T/knockd.conf" 2>&1)" ':3: .*keys: others may use it: chmod 600'
	chmod 600 "$T/keys"
	chown 12345 "$T/keys"
	matches "$(in_s "$KNOCKD" -t -c "$T/knockd.conf" 2>&1)" ':3: .*keys: it belongs neither to root nor to this user'
	rm "$T/keys"
	matches "$(in_s "$KNOCKD" -t -c "$T/knockd.conf" 2>&1)" ':3: .*keys: No such file'
	mkdir "$T/keys"
	matches "$(in_s "$KNOCKD" -t -c "$T/knockd.conf" 2>&1)" ':3: .*keys: it is not a file of keys'
	in_s "$KNOCKD" -c "$T/knockd.conf" 2>"$T/err" && false
	matches "$(cat "$T/err")" ':3: .*keys: it is not a file of keys'
}

@test "a door with keys and a cooldown, and stamps that can't be written" {
	need python3
	sealed_door 'seq_cooldown = 3600'
	in_s mkdir -p "$(stamps k)/x"
	start
	raw a "$(packet 0)"
	logged "could not write $(stamps k): "
	logged '10.77.0.2: ssh: OPEN SESAME'
	raw b "$(packet 1)"
	opens 1
	matches "$(in_s "$KNOCKD" -t -c "$T/knockd.conf" -p "$T/k.pid" 2>&1)" \
		"warning: could not write $(stamps k)"
	stop_knockd
}
