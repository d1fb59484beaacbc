#!/usr/bin/env bats
# Port scans never open a door: real scanners and sweeps of the generator
# against the example's doors and others. Beside each guarded door stands an
# unguarded one (Stray_Limit 0) that an ascending scan has to open, so that a
# scan that did not arrive is not taken for a defence.

load lib
load packets

setup() {
	need_gen
	net_up
	scan_conf
	start
}

# refused WHAT: no guarded door has opened up to now.
refused() {
	mark
	is "$1: $(doors_opened "$GUARDED") opened" "$1: 0 opened"
}

# bare DOOR COMMAND...: scans until the unguarded door has opened; five times
# at most, for a busy machine loses packets.
bare() {
	local n door=$1

	shift
	n=$(doors_opened "$door")
	for _ in 1 2 3 4 5; do
		"$@"
		refused "$*"
		[ "$(doors_opened "$door")" = "$n" ] || return 0
	done
	echo "did not open even $door: $*"
	return 1
}

# honest [COUNT]: that many knocks from B after all that: each opens.
honest() {
	local n

	n=$(doors_opened openSSH)
	knock_b "$ME4" 7000 8000 9000
	logged 'openSSH: OPEN SESAME' $((n + 1))
}

@test "nmap, all ports in order" {
	need nmap
	bare bare_syn nmap_a -sS -r -p- "$ME4"
	bare bare_syn nmap_a -6 -sS -r -p- "$ME6"
	bare bare_syn nmap_a -sT -r -p- "$ME4"
	honest
}

@test "nmap, random order" {
	need nmap
	for n in 1 2 3; do
		nmap_a -sS -p- "$ME4"
		refused "nmap, run $n"
	done
	honest
}

@test "nmap: FIN, NULL, Xmas, Maimon and ACK scans in order" {
	need nmap
	for t in F N X; do
		bare bare_null nmap_a -s$t -r -p6000-10000 "$ME4"
	done
	for t in M A; do
		bare bare_ack nmap_a -s$t -r -p6000-10000 "$ME4"
	done
	honest
}

@test "nmap: a slow scan, and one of UDP" {
	need nmap
	bare bare_syn nmap_a -sS -r -p6990-9010 --max-rate 500 "$ME4"
	bare bare_udp nmap_a -sU -r -p6500-9500 --min-rate 3000 "$ME4"
	honest
}

@test "masscan at 10, 30 and 100 kpps, TCP and UDP" {
	need masscan
	# Together: each has to rest some seconds at its end.
	masscan_a --adapter-ip 10.77.0.20 --rate 10000 -p1-65535 & a=$!
	masscan_a --adapter-ip 10.77.0.21 --rate 30000 -p1-65535 & b=$!
	masscan_a --adapter-ip 10.77.0.22 --rate 100000 -p1-65535 & c=$!
	masscan_a --adapter-ip 10.77.0.23 --rate 30000 -pU:1-64999 & d=$!
	wait $a; wait $b; wait $c; wait $d
	refused masscan
	logged 'Stage 1'
	honest
}

@test "sweeps at the highest rate, up and down, IPv4 and IPv6" {
	for a in 10.77.0.2 fd77::2; do
		for _ in 1 2 3; do
			bare bare_syn from $a ports=1-65535
			bare bare_syn_down from $a ports=1-65535 order=desc
		done
	done
	honest
}

@test "sweeps in random order: forty of all ports" {
	from 10.77.1.1 ports=1-65535 order=shuffle sources=20 seed=1
	refused 'random order'
	from 10.77.0.2 ports=1-65535 order=shuffle n=10 seed=2
	refused 'random order, one address'
	from fd77:1::1 ports=1-65535 order=shuffle sources=10 seed=3
	refused 'random order, IPv6'
	honest
}

@test "sweeps with FIN, NULL, Xmas, SYN+ACK and ACK" {
	for f in F - FPU; do
		bare bare_null from 10.77.0.2 ports=1-65535 flags=$f
	done
	for f in A SA FA; do
		bare bare_ack from 10.77.0.2 ports=1-65535 flags=$f
	done
	bare bare_syn from 10.77.0.2 ports=1-65535 flags=SF
	honest
}

@test "sweeps of UDP ports" {
	for r in 20000 1000000; do
		bare bare_udp from 10.77.0.2 ports=1-64999 proto=udp rate=$r
		from 10.77.0.2 ports=1-64999 proto=udp rate=$r order=desc
		refused "UDP, down, $r a second"
	done
	from 10.77.1.1 ports=1-64999 proto=udp order=shuffle sources=10 seed=1
	refused 'UDP, random order'
	honest
}

@test "two scanners from one address" {
	for o in as desc shuffle; do
		from 10.77.0.2 ports=1-65535 order=$o & a=$!
		from 10.77.0.2 ports=1-65535 order=shuffle & b=$!
		wait $a; wait $b
		refused "random order beside $o"
	done
	from 10.77.0.2 ports=6000-9500 rate=1000 & a=$!
	from 10.77.0.2 ports=7900-9500 rate=1000 & b=$!
	wait $a; wait $b
	refused 'one ahead of the other'
	honest
}

@test "who knocks while browsing this host gets in every time" {
	browsing >"$T/script"
	for f in 4 6; do
		me=$(me $f)
		[ $f = 4 ] && a=10.77.0.3 || a=fd77::3
		gen_b src=$a dst="$me" script="$T/script" & g=$!
		for ((i = 1; i <= 10; i++)); do
			knock_b -d $((i % 3 * 20)) "$me" 7000 8000 9000
			knock_b -d $((i % 3 * 20)) "$me" 31337 2222 48111
			knock_b -u -d $((i % 3 * 20)) "$me" 7000 8000 9000
		done
		mark
		is "$a: $(opens $a openSSH), $(opens $a shuffled), $(opens $a udp)" \
			"$a: 10, 10, 10"
		kill $g 2>/dev/null || :
		wait $g || :
	done
}
