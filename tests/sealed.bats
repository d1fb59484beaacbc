#!/usr/bin/env bats
# Sealed knocks: keys, what the client sends, what the daemon makes of it.

load lib

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

# profile FILE: a file of profiles under the user's home, from stdin.
profile() {
	mkdir -p "$(dirname "$T/home/$1")"
	cat >"$T/home/$1"
	chmod 600 "$T/home/$1"
}

at_home() {
	in_a env -u XDG_CONFIG_HOME HOME="$T/home" timeout 60 "$KNOCK" "$@"
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
		matches "$(cat "$T/err")" "^knock: '$name' can't be a client"
	done
	not "$KNOCK" --keygen anna 2>"$T/err"
	matches "$(cat "$T/err")" 'needs the name of a door'
	not "$KNOCK" --keygen anna "$(printf %128s x)" 2>"$T/err"
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
	key = $T/key
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

@test "a key that is not good: what is wrong, and no packet" {
	local mode

	receiver
	key_file
	for mode in 640 604 620 602 610 700; do
		chmod $mode "$T/key"
		[ $mode = 700 ] ||
			refused '^knock: --key: others may use this file: chmod 600$' -k "$T/key" 10.77.0.1 62201
	done
	refused '^knock: --key: there is no such file$' -k "$T/nokey" 10.77.0.1 62201
	refused '^knock: --key: there is no such file$' -k "ssh:$K" 10.77.0.1 62201
	refused "^knock: $T: Is a directory$" -k "$T" 10.77.0.1 62201
	for text in "$K" ":$K" 'ssh' '' '#'; do
		printf '%s' "$text" >"$T/key"
		chmod 600 "$T/key"
		refused '^knock: --key: no DOOR before the key$' -k "$T/key" 10.77.0.1 62201
	done
	for text in "ssh:${K}0" "ssh:${K%?}" "ssh:g${K#?}" 'ssh:' "$K:ssh" "ssh: $K"; do
		key_file "$text"
		refused '^knock: --key: the key is not 64 hex digits$' -k "$T/key" 10.77.0.1 62201
		not grep -q "$K" "$T/err"
	done
	key_file
	refused '^knock: a sealed knock has one port$' -k "$T/key" 10.77.0.1 62201 62202
	refused "^knock: --for: 'nobody' is not an address, or own$" -k "$T/key" --for nobody 10.77.0.1 62201
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
