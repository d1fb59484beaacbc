#!/usr/bin/env bats
# Set: doors that the kernel opens and closes, in real nft sets and ipsets.

load lib

# --- sets --------------------------------------------------------------------------

# nft_sets: a table with a set for each family, and what lets them in to port 22.
nft_sets() {
	need nft
	in_s nft -f - <<-EOF2
	table inet knock {
		set ssh4 { type ipv4_addr; flags timeout; }
		set ssh6 { type ipv6_addr; flags timeout; }
		chain input {
			type filter hook input priority filter; policy accept;
			ct state established,related accept
			tcp dport 22 ip saddr @ssh4 accept
			tcp dport 22 ip6 saddr @ssh6 accept
			tcp dport 22 reject with tcp reset
		}
	}
	EOF2
}

need_ipset() {
	need ipset
	in_s ipset list >/dev/null 2>&1 || skip "no ip_set in this kernel"
}

ipsets() {
	need_ipset
	in_s ipset create ssh4 hash:ip timeout 0
	in_s ipset create ssh6 hash:ip family inet6 timeout 0
}

# sets KIND: nft or ipset.
sets() {
	if [ "$1" = nft ]; then nft_sets; else ipsets; fi
}

# words KIND: what stands before the name in Set.
words() {
	[ "$1" = ipset ] && echo ipset || echo 'nft inet knock'
}

# set_door KIND [SECONDS] [MORE]: the door d, for both families.
set_door() {
	conf <<-EOF2
	[d]
	sequence = 7000,8000
	set = $(words "$1") ssh4
	set_6 = $(words "$1") ssh6
	cmd_timeout = ${2:-3600}
	${3:-}
	EOF2
}

# members KIND SET: the addresses in it, each with its seconds left.
members() {
	if [ "$1" = nft ]; then
		in_s nft -j list set inet knock "$2" | python3 -c '
import json, sys
for o in json.load(sys.stdin)["nftables"]:
    for e in o.get("set", {}).get("elem", []):
        print(e["elem"]["val"], e["elem"]["timeout"], e["elem"]["expires"])' | sort
	else
		in_s ipset list "$2" | sed -n 's/^\([0-9a-f.:]*\) timeout \([0-9]*\)$/\1 - \2/p' | sort
	fi
}

# member KIND ADDRESS: is it in the set of its family?
member() {
	local set=ssh4

	[[ $2 != *:* ]] || set=ssh6
	members "$1" "$set" | grep -q "^$2 "
}

not_member() {
	! member "$@"
}

# left KIND ADDRESS: its seconds left.
left() {
	local set=ssh4

	[[ $2 != *:* ]] || set=ssh6
	members "$1" "$set" | awk -v a="$2" '$1 == a { print $3 }'
}

# between N LOW HIGH
between() {
	[ "$1" -ge "$2" ] && [ "$1" -le "$3" ] || { echo "$1 is not in $2 to $3"; return 1; }
}

status() {
	in_s "$KNOCKD" -S -c "$T/knockd.conf" -p "$T/k.pid"
}

status_has() {
	status | grep -q "$1"
}

# knocks: from A, IPv4 and IPv6.
knocks() {
	knock_a 10.77.0.1 7000 8000
	knock_a fd77::1 7000 8000
}

# opens KIND: knocks, and the addresses are in the sets; for a door whose time lasts.
opens() {
	knocks
	until_true "$WAIT" member "$1" 10.77.0.2
	until_true "$WAIT" member "$1" fd77::2
}

empty() {
	not_member "$1" 10.77.0.2 && not_member "$1" fd77::2
}

# --- from the knock to the end ----------------------------------------------------------

# no child process: with nothing in PATH, and by what strace sees.
opens_alone() {
	need strace nc socat python3
	sets "$1"
	set_door "$1"
	mkdir "$T/bin"
	printf '#!/bin/sh\nexec env PATH=/nonexistent %s "$@"\n' "$KNOCKD" >"$T/bin/knockd"
	chmod 755 "$T/bin/knockd"
	KNOCKD=$T/bin/knockd start
	strace -qq -o "$T/trace" -p "$PID" -e trace='?fork,?vfork,clone,?clone3,execve' 3>&- &
	TRACER=$!
	joined() { grep -q "^TracerPid:.*$TRACER$" "/proc/$PID/status"; }
	until_true "$WAIT" joined
	opens "$1"
	mark
	logged '10.77.0.2: d: OPEN SESAME'
	between "$(left "$1" 10.77.0.2)" 3500 3600
	between "$(left "$1" fd77::2)" 3500 3600
	is "$(status | sed -E 's/\t3[56][0-9][0-9]\t/\tLEFT\t/' | sort)" \
		"d	10.77.0.2	-	LEFT	$1
d	fd77::2	-	LEFT	$1"
	kill -INT "$TRACER"
	wait "$TRACER" || :
	not grep -E 'fork|clone|execve' "$T/trace"
	# SIGTERM takes them out, without a process as well.
	stop_knockd
	empty "$1"
	is "$(count "$LOG" 'd: CLOSE SESAME')" 2
	not_logged 'running command|set '
	[ ! -e "$T/k.state" ]
}

@test "nft: a knock puts the address into the set, without any process" {
	opens_alone nft
	in_s nft list set inet knock ssh4 | not grep elements
}

@test "ipset: a knock puts the address into the set, without any process" {
	opens_alone ipset
}

@test "nft: the port lets in whoever has knocked, and nobody else" {
	need nc socat
	nft_sets
	set_door nft
	serve 22 EXEC:cat
	start
	reaches_not a 10.77.0.1
	reaches_not a fd77::1
	opens nft
	until_true "$WAIT" reaches a 10.77.0.1
	until_true "$WAIT" reaches a fd77::1
	reaches_not b 10.77.0.1
	stop_knockd
	reaches_not a 10.77.0.1
}

# A second knock: the whole time again, from then on.
refreshes() {
	local end4 end6

	need python3
	sets "$1"
	set_door "$1" 100
	start
	opens "$1"
	# Not after this, by what the kernel says before the next knocks.
	end4=$(left "$1" 10.77.0.2)
	end6=$(left "$1" fd77::2)
	end4=$((end4 + $(uptime_ms) / 1000 + 2))
	end6=$((end6 + $(uptime_ms) / 1000 + 2))
	later() {
		local now=$(($(uptime_ms) / 1000))

		opens "$1"
		mark
		[ $((now + $(left "$1" 10.77.0.2))) -gt "$end4" ] &&
			[ $((now + $(left "$1" fd77::2))) -gt "$end6" ]
	}
	until_true "$WAIT" later "$1"
	is "$(status | wc -l)" 2
	not_logged 'CLOSE SESAME|set '
	stop_knockd
}

@test "nft: a second knock, and the time begins again" { refreshes nft; }
@test "ipset: a second knock, and the time begins again" { refreshes ipset; }

# At its time: one line, and it is forgotten.
ends() {
	need python3
	sets "$1"
	set_door "$1" 2
	start
	knocks
	logged 'd: CLOSE SESAME' 2
	empty "$1"
	nothing() { [ -z "$(status)" ]; }
	until_true "$WAIT" nothing
	mark
	is "$(count "$LOG" 'CLOSE SESAME')" 2
	not_logged 'command timeout'
	stop_knockd
}

@test "nft: at its time the address is gone, CLOSE SESAME" { ends nft; }
@test "ipset: at its time the address is gone, CLOSE SESAME" { ends ipset; }

# SIGKILL for all, no later start.
vanishes() {
	local t0 in4 in6

	need python3
	sets "$1"
	set_door "$1" 4
	start
	t0=$(uptime_ms)
	knocks
	logged 'd: OPEN SESAME' 2
	mark
	crash
	in4=$(left "$1" 10.77.0.2)
	in6=$(left "$1" fd77::2)
	# On a slow machine they may have left by now.
	[[ -n $in4 && -n $in6 ]] || [ $(($(uptime_ms) - t0)) -gt 3900 ]
	until_true "$WAIT" empty "$1"
}

@test "nft: after SIGKILL of every process the address leaves by itself" { vanishes nft; }
@test "ipset: after SIGKILL of every process the address leaves by itself" { vanishes ipset; }

# A restart keeps it on its timer; and closes what was its.
restarts() {
	need python3
	sets "$1"
	set_door "$1" 100
	start
	opens "$1"
	both() { status_has "10.77.0.2.*$1" && status_has "fd77::2.*$1"; }
	until_true "$WAIT" both
	crash
	status_has "10.77.0.2.*$1"
	start
	logged '10.77.0.2: d: left open by an earlier run'
	status_has "10.77.0.2.*$1"
	member "$1" 10.77.0.2
	between "$(left "$1" 10.77.0.2)" 50 100
	stop_knockd
	empty "$1"
	is "$(count "$LOG" 'd: CLOSE SESAME')" 2
}

@test "nft: a restart after SIGKILL keeps the opening, SIGTERM ends it" { restarts nft; }
@test "ipset: a restart after SIGKILL keeps the opening, SIGTERM ends it" { restarts ipset; }

@test "a restart after SIGKILL: what is due is forgotten, the rest in its time" {
	need python3
	nft_sets
	set_door nft 5
	start
	knocks
	until_true "$WAIT" status_has fd77::2
	crash
	until_true "$WAIT" empty nft
	start
	logged 'd: CLOSE SESAME' 2
	is "$(status)" ''
	stop_knockd
}

# closes KIND: another door closes it.
closed_by_door() {
	need python3
	sets "$1"
	set_door "$1" 3600 '[close]
	sequence = 8000,7000
	close = d'
	start
	opens "$1"
	knock_b 10.77.0.1 7000 8000
	until_true "$WAIT" member "$1" 10.77.0.3
	knock_a 10.77.0.1 8000 7000
	knock_a fd77::1 8000 7000
	until_true "$WAIT" empty "$1"
	logged '(10.77.0.2|fd77::2): d: CLOSE SESAME' 2
	member "$1" 10.77.0.3
	# Nothing to close is no error.
	knock_a 10.77.0.1 8000 7000
	mark
	not_logged 'set '
	stop_knockd
}

@test "nft: Close takes the address out" { closed_by_door nft; }
@test "ipset: Close takes the address out" { closed_by_door ipset; }

# A sealed door: open, close, for another address.
sealed() {
	local key

	need python3
	sets "$1"
	conf <<-EOF2
	[ssh]
	sequence = 62201:udp
	keys = $T/keys
	set = $(words "$1") ssh4
	set_6 = $(words "$1") ssh6
	cmd_timeout = 3600
	EOF2
	"$KNOCK" --keygen anna ssh >"$T/made"
	head -n 1 "$T/made" >"$T/keys"
	key=$(sed -n 's/^key = //p' "$T/made")
	echo "$key" >"$T/key"
	chmod 600 "$T/keys" "$T/key"
	start
	sealed_until() {
		knock_a -k "$T/key" "${@:3}" "$1" 62201
		"${2%%:*}" "$KIND" "${2#*:}"
	}
	KIND=$1
	until_true "$WAIT" sealed_until 10.77.0.1 member:10.77.0.2
	until_true "$WAIT" sealed_until fd77::1 member:fd77::2
	until_true "$WAIT" status_has "ssh	10.77.0.2	anna	.*$1"
	until_true "$WAIT" sealed_until 10.77.0.1 member:10.99.0.9 --for 10.99.0.9
	until_true "$WAIT" sealed_until 10.77.0.1 not_member:10.77.0.2 --close
	member "$1" fd77::2
	until_true "$WAIT" sealed_until fd77::1 not_member:fd77::2 --close
	member "$1" 10.99.0.9
	# A client who is one no more.
	: >"$T/keys"
	kill -HUP "$PID"
	until_true "$WAIT" not_member "$1" 10.99.0.9
	stop_knockd
}

@test "nft: a sealed door opens and closes" { sealed nft; }
@test "ipset: a sealed door opens and closes" { sealed ipset; }

# --- beside commands ------------------------------------------------------------------

@test "commands beside a set run after it" {
	need python3
	nft_sets
	set_door nft 3 "start_command = nft list set inet knock ssh4 | grep -o '%IP%' >> $T/did
	stop_command = echo stop %IP% >> $T/did"
	start
	knock_a 10.77.0.1 7000 8000
	did 10.77.0.2
	did 'stop 10.77.0.2'
	not_member nft 10.77.0.2
	logged '10.77.0.2: d: CLOSE SESAME'
	# Taken out first, when it closes before its time.
	set_door nft 3600 "start_command = echo again >> $T/did
	stop_command = nft list set inet knock ssh4 | grep -c '%IP%' >> $T/did || :"
	kill -HUP "$PID"
	reloaded
	mark
	knock_a 10.77.0.1 7000 8000
	did again
	until_true "$WAIT" status_has 'd	10.77.0.2	-	3.*	nft'
	stop_knockd
	is "$(tail -n 1 "$T/did")" 0
	not_member nft 10.77.0.2
}

@test "a start command beside a set, no stop command: closed at the set's time" {
	need python3
	nft_sets
	set_door nft 6 "start_command = echo start %IP% >> $T/did"
	start
	knock_a 10.77.0.1 7000 8000
	did 'start 10.77.0.2'
	member nft 10.77.0.2
	knock_a 10.77.0.1 7000 8000
	did 'start 10.77.0.2' 2
	logged '10.77.0.2: d: CLOSE SESAME'
	until_true "$WAIT" not_member nft 10.77.0.2
	stop_knockd
	is "$(count "$LOG" 'CLOSE SESAME')" 1
}

@test "two doors with one set, however it is spelled: the last knock decides" {
	need python3
	nft_sets
	conf <<-EOF2
	[short]
	sequence = 7000
	set = nft inet knock ssh4
	cmd_timeout = 2
	[long]
	sequence = 7001
	set = nft  inet	knock   ssh4
	cmd_timeout = 600
	EOF2
	start
	knock_a 10.77.0.1 7000 7001
	until_true "$WAIT" status_has 'long	10.77.0.2	-	.*	nft'
	logged '10.77.0.2: short: CLOSE SESAME'
	mark
	member nft 10.77.0.2
	stop_knockd
}

@test "without Set_6 an IPv6 knock puts nothing, and the log says so" {
	need python3
	nft_sets
	set_door nft
	sed -i '/set_6/d' "$T/knockd.conf"
	start
	knock_a fd77::1 7000 8000
	logged 'fd77::2: d: put into no set: the door has no Set_6'
	knock_a 10.77.0.1 7000 8000
	until_true "$WAIT" member nft 10.77.0.2
	is "$(status | wc -l)" 1
	in_s "$KNOCKD" -t -c "$T/knockd.conf" >"$T/out" 2>&1
	has_lines "$T/out" 'knockd.conf:7: warning: an IPv6 knock puts nothing: add Set_6' 1
	stop_knockd
}

# --- the firewall's ways ----------------------------------------------------------------

# missing KIND REMEDY: a warning at the start, with what makes it; then it is there,
# without a restart.
missing() {
	need python3
	set_door "$1"
	start
	has_lines "$T/err" "warning: set $(words "$1") ssh4: there is no such set; it is made by: $2" 1
	knock_a 10.77.0.1 7000 8000
	logged "10.77.0.2: d: set $(words "$1") ssh4: there is no such set"
	mark
	is "$(status)" ''
	sed -n '/warning/s/.*; it is made by: //p' "$T/err" | in_s sh -e
	[ "$1" = ipset ] || sets nft # the chain as well
	opens "$1"
	until_true "$WAIT" status_has fd77::2
	stop_knockd
	empty "$1"
}

@test "nft: a set that is missing at the start and made later works" {
	missing nft "nft 'add table inet knock; add set inet knock ssh4 \\{ type ipv4_addr; flags timeout; \\}'"
}

@test "ipset: a set that is missing at the start and made later works" {
	need_ipset
	missing ipset 'ipset create ssh4 hash:ip timeout 0'
}

@test "the firewall is loaded again while a door is open: the next knock opens" {
	need python3
	nft_sets
	set_door nft
	start
	opens nft
	in_s nft flush ruleset
	nft_sets
	empty nft
	opens nft
	until_true "$WAIT" status_has fd77::2
	is "$(status | wc -l)" 2
	# And what is gone already is no error at the end.
	in_s nft flush ruleset
	stop_knockd
	is "$(count "$LOG" 'd: CLOSE SESAME')" 2
	not_logged 'set nft'
}

# wrong SET-DEFINITION TEXT: such a set is an error at the start and under -t; made
# so later it is one at each knock, and nothing is put.
wrong() {
	in_s nft "add table inet knock; add set inet knock s $1"
	for o in -t ''; do
		rc=0
		# shellcheck disable=SC2086
		in_s timeout 60 "$KNOCKD" $o -i eth0 -c "$T/knockd.conf" -p "$T/x.pid" >"$T/out" 2>&1 || rc=$?
		is "$1: $o: $rc" "$1: $o: 1"
		has_lines "$T/out" "knockd.conf:6: set nft inet knock s: $2" 1 ||
			{ cat "$T/out"; return 1; }
	done
	: >"$LOG"
	knock_a 10.77.0.1 7000 8000
	logged "10.77.0.2: d: set nft inet knock s: $2"
	kill -HUP "$PID"
	logged 'has errors: nothing changes'
	is "$(in_s nft list set inet knock s | grep -c '10.77')" 0
	in_s nft delete table inet knock
}

# has_bitmask: the line for such a set, or nothing where there is none.
has_bitmask() {
	! in_s ipset create bits hash:ip bitmask 255.255.255.0 timeout 0 2>/dev/null ||
		echo 'hash:ip bitmask 255.255.255.0 timeout 0|with a mask an address would stand for its whole network'
}

s_door() {
	conf <<-EOF2
	[d]
	set = $1
	sequence = 7000,8000
	cmd_timeout = 60
	EOF2
}

@test "nft: a set of another kind is an error that says which" {
	local make="; it is made by: nft 'add table inet knock; add set inet knock s { type ipv4_addr; flags timeout; }'"

	need nft
	s_door 'nft inet knock s'
	start
	wrong '{ type ipv4_addr; flags interval,timeout; }' "with flag interval an address would stand for a whole range$make"
	wrong '{ type ipv4_addr; flags constant; }' "with flag constant it takes no address$make"
	wrong '{ type mark; flags timeout; }' "its type is another$make"
	wrong '{ type ipv6_addr; flags timeout; }' "its type is another$make"
	wrong '{ type ipv4_addr . inet_service; flags timeout; }' "its type is another$make"
	wrong '{ type ipv4_addr; }' "without timeout an address would stay for ever$make"
	in_s nft 'add table inet knock; add map inet knock s { type ipv4_addr : verdict; flags timeout; }'
	knock_a 10.77.0.1 7000 8000
	logged "d: set nft inet knock s: it is a map$make"
	stop_knockd
}

@test "ipset: a set of another kind is an error that says which" {
	local definition text rc

	need_ipset
	s_door 'ipset s'
	start
	while IFS='|' read -r definition text; do
		[ -n "$definition" ] || continue
		# shellcheck disable=SC2086
		in_s ipset create s $definition
		rc=0
		in_s "$KNOCKD" -t -i eth0 -c "$T/knockd.conf" >"$T/out" 2>&1 || rc=$?
		is "$definition: $rc" "$definition: 1"
		: >"$LOG"
		knock_a 10.77.0.1 7000 8000
		logged "10.77.0.2: d: set ipset s: $text; it is made by: ipset create s hash:ip timeout 0"
		has_lines "$T/out" "knockd.conf:6: set ipset s: $text" 1
		in_s ipset list s | not grep '^10'
		in_s ipset destroy s
	done <<-EOF2
	hash:ip|without timeout an address would stay for ever
	hash:ip family inet6 timeout 0|its type is another
	hash:ip,port timeout 0|its type is another
	list:set timeout 0|its type is another
	hash:ip netmask 24 timeout 0|with a mask an address would stand for its whole network
	$(has_bitmask)
	EOF2
	in_s ipset create s hash:net timeout 0
	knock_a 10.77.0.1 7000 8000
	holds() { in_s ipset list s | grep -q '^10.77.0.2 timeout'; }
	until_true "$WAIT" holds
	stop_knockd
}

@test "a full set, a table with an owner: said, and the door is not open" {
	need nft python3
	s_door 'nft inet knock s'
	start
	in_s nft 'add table inet knock; add set inet knock s { type ipv4_addr; flags timeout; size 1; elements = { 192.0.2.1 timeout 1h }; }'
	knock_a 10.77.0.1 7000 8000
	logged '10.77.0.2: d: set nft inet knock s: it has no room: make its size, maxelem or range larger'
	mark
	is "$(status)" ''
	in_s nft flush ruleset
	# It lives as long as that nft.
	mkfifo "$T/nft"
	exec {OWNER}<>"$T/nft"
	# shellcheck disable=SC2217
	bg "$S" nft -i <"$T/nft" >"$T/owner" 2>&1
	echo 'add table inet knock { flags owner; }' >&"$OWNER"
	echo 'add set inet knock s { type ipv4_addr; flags timeout; }' >&"$OWNER"
	made() { in_s nft list set inet knock s >/dev/null 2>&1; }
	until_true "$WAIT" made
	knock_a 10.77.0.1 7000 8000
	logged '10.77.0.2: d: set nft inet knock s: its table has an owner: load the table without flag owner'
	mark
	is "$(status)" ''
	exec {OWNER}>&-
	stop_knockd
}

@test "a full ipset: said, and the door is not open" {
	need_ipset
	s_door 'ipset s'
	start
	in_s ipset create s hash:ip timeout 0 maxelem 1
	in_s ipset add s 192.0.2.1
	knock_a 10.77.0.1 7000 8000
	logged '10.77.0.2: d: set ipset s: it has no room'
	mark
	is "$(status)" ''
	stop_knockd
}

@test "an ipset whose range lacks the address: said, and the door is not open" {
	need_ipset
	s_door 'ipset s'
	start
	in_s ipset create s bitmap:ip range 192.0.2.0/24 timeout 0
	knock_a 10.77.0.1 7000 8000
	logged '10.77.0.2: d: set ipset s: it has no room: make its size, maxelem or range larger'
	mark
	is "$(status)" ''
	stop_knockd
}

@test "without CAP_NET_ADMIN: an error at the start, and -t has not checked the set" {
	local rc=0

	need setpriv
	nft_sets
	s_door 'nft inet knock ssh4'
	in_s setpriv --bounding-set -net_admin --inh-caps -net_admin \
		"$KNOCKD" -i eth0 -c "$T/knockd.conf" -p "$T/k.pid" >"$T/out" 2>&1 || rc=$?
	is "$rc" 1
	has_lines "$T/out" 'knockd.conf:6: set nft inet knock ssh4: no CAP_NET_ADMIN: run knockd as root, or see capabilities\(7\)' 1
	in_s setpriv --bounding-set -net_admin --inh-caps -net_admin \
		"$KNOCKD" -t -i eth0 -c "$T/knockd.conf" >"$T/out" 2>&1
	has_lines "$T/out" 'knockd.conf:6: warning: not checked: set nft inet knock ssh4: no CAP_NET_ADMIN' 1
	has_lines "$T/out" '^# OK' 1
	has_lines "$T/out" '^Set = nft inet knock ssh4' 1
}

@test "a kernel without nf_tables: an error that says so" {
	local rc=0

	need strace
	s_door 'nft inet knock s'
	# musl tries again without SOCK_CLOEXEC
	in_s timeout 60 strace -qq -o "$T/trace" -e trace=socket \
		-e inject=socket:error=EPROTONOSUPPORT:when=1..2 \
		"$KNOCKD" -i eth0 -p "$T/k.pid" -c "$T/knockd.conf" >"$T/out" 2>&1 || rc=$?
	grep NETLINK_NETFILTER "$T/trace" | grep INJECTED
	is "$rc" 1
	has_lines "$T/out" 'set nft inet knock s: the kernel lacks nf_tables or ip_set: load the module' 1
}

# --- faults -----------------------------------------------------------------------------

# failing OPTION... -- COMMAND...: the command, while strace makes calls of the
# monitor fail.
failing() {
	local options=() tracer

	while [ "$1" != -- ]; do
		options+=("$1")
		shift
	done
	shift
	: >"$T/trace"
	strace -qq -o "$T/trace" -p "$PID" "${options[@]}" 3>&- &
	tracer=$!
	joined() { ! running "$PID" || grep -q "^TracerPid:.*$tracer$" "/proc/$PID/status"; }
	until_true "$WAIT" joined
	"$@"
	kill -INT "$tracer" 2>/dev/null || :
	wait "$tracer" || :
}

# knock_says TEXT
knock_says() {
	: >"$LOG"
	knock_a 10.77.0.1 7000 8000
	logged "10.77.0.2: d: set nft inet knock ssh4: $1"
}

@test "the kernel refuses, with each error: said, the door is not open, the next knock opens" {
	local error text

	need strace python3
	nft_sets
	set_door nft
	start
	while read -r error text; do
		failing -e trace=sendto -e inject="sendto:error=$error" -- knock_says "$text"
		grep -q INJECTED "$T/trace"
		mark
		is "$error: $(status)" "$error: "
		not_member nft 10.77.0.2
	done <<-EOF2
	EPERM no CAP_NET_ADMIN
	EINVAL the kernel lacks nf_tables
	ENOENT there is no such set
	ENOMEM [A-Z]
	ENOBUFS [A-Z]
	EINTR [A-Z]
	EAGAIN [A-Z]
	ECONNREFUSED [A-Z]
	EMSGSIZE [A-Z]
	EIO [A-Z]
	EOVERFLOW [A-Z]
	EOF2
	# Once is no error: what follows is asked once more.
	: >"$LOG"
	once() {
		knock_a 10.77.0.1 7000 8000
		until_true "$WAIT" member nft 10.77.0.2
	}
	failing -e trace=sendto -e inject=sendto:error=ENOBUFS:when=2 -- once
	grep -q INJECTED "$T/trace"
	not_logged 'set nft'
	stop_knockd
	empty nft
}

# Answers that are lost: who has not heard that the address is in takes it out all the
# same, and nothing hangs.
@test "answers are lost, the queue was full: no hang, and the address leaves at the end" {
	local fd error

	need strace python3
	nft_sets
	set_door nft
	start
	fd=$(in_s awk '$2 == 12 && $3 { print "socket:[" $10 "]" }' /proc/net/netlink)
	readlink "/proc/$PID/fd/"* | grep -qxF "$fd"
	for error in EAGAIN ENOBUFS ENOMEM EINTR; do
		failing -P "$fd" -e trace=recvfrom -e inject="recvfrom:error=$error" -- \
			knock_says 'the kernel has not answered: the address may be there'
		grep -q INJECTED "$T/trace"
		mark
		status_has '10.77.0.2.*nft'
		knock_a fd77::1 7000 8000
		until_true "$WAIT" member nft fd77::2
	done
	stop_knockd
	empty nft
}

# At each of its system calls in turn.
@test "SIGKILL at each system call of a knock: nothing stays open" {
	local n

	need strace python3
	nft_sets
	set_door nft 3
	for ((n = 1; n < 60; n++)); do
		: >"$LOG"
		start
		failing -e trace=all -e inject="all:signal=KILL:when=$n" -- knocked_or_killed
		running "$PID" || { crash; continue; }
		crash
		break
	done
	# It has gone through all of them.
	[ "$n" -gt 10 ] && [ "$n" -lt 60 ]
	until_true "$WAIT" empty nft
}

knocked_or_killed() {
	knock_a 10.77.0.1 7000 8000
	done_or_dead() { ! running "$PID" || grep -q '^set nft' "$T/k.state" 2>/dev/null; }
	until_true "$WAIT" done_or_dead
}
