#!/usr/bin/env bats
# What counts as a knock, packet by packet: header fields, tags, extension
# headers, fragments, addresses, flags; and the rules of matching, for IPv4
# and IPv6, on every type of interface to be had.

# FAMILY is read by packets.bash.
# shellcheck disable=SC2034

load lib
load packets

setup_file() {
	build_loud
}

setup() {
	need_gen
	use_loud
	net_up
}

SEQ='ports=7000,8000,9000'
TCP='topts=8' # a real TCP sends options
UDP='ports=7000,8000,9000 proto=udp'

# door NAME SEQUENCE [LINE...]: one more door for conf.
door() {
	printf '[%s]\n\tsequence = %s\n\tseq_timeout = 60\n' "$1" "$2"
	shift 2
	[ $# = 0 ] || printf '\t%s\n' "$@"
}

three() {
	conf <<-EOF
	$(door tcp 7000,8000,9000 'tcpflags = syn')
	$(door udp 7000:udp,8000:udp,9000:udp)
	EOF
	start
}

# ----------------------------------------------------------- one packet --

@test "well-formed packets of all shapes open" {
	three
	for w in '' payload=1 payload=1400 topts=20 topts=40 ttl=1 flags=SEC pad=18 \
		seq=0 seq=0xffffffff sport=1 sport=65535; do
		both yes tcp "tcp $w" "$SEQ $w"
	done
	for w in '' payload=1 payload=1400 ttl=1 sport=1 pad=18; do
		both yes udp "udp $w" "$UDP $w"
	done
	for w in opts=4 opts=40 'opts=40 topts=40'; do
		yes tcp "IP options: $w" "$SEQ $w"
		yes udp "IP options: $w" "$UDP opts=4"
	done
	both no tcp 'icmp' "$SEQ proto=icmp"
	both no tcp 'sctp' "$SEQ proto=132"
	both no tcp 'udp to a tcp door' "$UDP"
	both no udp 'tcp to a udp door' "$SEQ"
	verdict
}

@test "truncated packets: nothing short of the whole header counts" {
	three
	for ((n = 0; n < 40; n++)); do
		no tcp "IPv4 cut at $n" "$SEQ cut=$n"
		no tcp "IPv4 $n bytes, and says so" "$SEQ cut=$n totlen=$n"
	done
	for ((n = 0; n < 28; n++)); do
		no udp "IPv4 udp cut at $n" "$UDP cut=$n"
		no udp "IPv4 udp $n bytes, and says so" "$UDP cut=$n totlen=$n"
	done
	FAMILY=6
	for ((n = 0; n < 60; n++)); do
		no tcp "IPv6 cut at $n" "$SEQ cut=$n"
		m=$((n < 40 ? 0 : n - 40))
		no tcp "IPv6 $n bytes, and says so" "$SEQ cut=$n plen=$m"
	done
	for ((n = 0; n < 48; n++)); do
		no udp "IPv6 udp cut at $n" "$UDP cut=$n"
	done
	for ((n = 40; n < 100; n++)); do
		no tcp "IPv6 with headers cut at $n" "$SEQ ext=hop,rt,ah cut=$n"
	done
	yes tcp 'IPv6 with headers, whole' "$SEQ ext=hop,rt,ah cut=100"
	both yes tcp 'whole' "$SEQ cut=60"
	verdict
}

@test "lying headers: no length is believed" {
	three
	for w in ihl=0 ihl=1 ihl=2 ihl=3 ihl=4 ihl=6 ihl=15 'ihl=15 payload=8' \
		'ihl=4 opts=4' ver=0 ver=5 ver=6 ver=15 totlen=0 totlen=19 \
		totlen=20 totlen=39 totlen=41 totlen=1000 totlen=65535 \
		etype=0x86dd etype=0x0806 etype=0x1234; do
		no tcp "$w" "$SEQ $w"
	done
	for w in ver=0 ver=4 ver=15 plen=0 plen=1 plen=19 plen=21 plen=1000 \
		plen=65535 etype=0x0800; do
		FAMILY=6 no tcp "$w" "$SEQ $w"
	done
	for w in doff=0 doff=1 doff=4 doff=6 doff=15 'doff=15 payload=39'; do
		both no tcp "$w" "$SEQ $w"
	done
	for w in ulen=1 ulen=7 ulen=9 ulen=1000 ulen=65535 'ulen=40 payload=31'; do
		both no udp "$w" "$UDP $w"
	done
	no udp 'ulen=0' "$UDP ulen=0"
	no udp 'totlen=27' "$UDP totlen=27"
	both yes udp 'less data than the packet' "$UDP ulen=12 payload=20"
	yes tcp 'padding behind the packet' "$SEQ pad=6 totlen=40"
	both yes tcp 'options that are data' "$SEQ doff=15 payload=40"
	verdict
}

@test "fragments: the first counts, a later one never" {
	three
	yes tcp 'first fragment' "$SEQ mf=1 payload=12"
	yes udp 'first fragment' "$UDP mf=1 payload=16"
	for o in 1 2 3 185 0x1fff; do
		no tcp "fragment at $o" "$SEQ fragoff=$o payload=12"
		no tcp "fragment at $o, more to come" "$SEQ fragoff=$o mf=1 payload=12"
		no udp "fragment at $o" "$UDP fragoff=$o mf=1 payload=16"
	done
	FAMILY=6
	yes tcp 'atomic' "$SEQ ext=frag"
	yes tcp 'first fragment' "$SEQ ext=fragm payload=12"
	yes udp 'first fragment' "$UDP ext=hop,fragm payload=16"
	no tcp 'later fragment' "$SEQ ext=fragl payload=12"
	no tcp 'later fragment behind others' "$SEQ ext=hop,dst,fragl payload=12"
	no udp 'later fragment' "$UDP ext=fragl payload=16"
	no tcp 'later fragment, with headers in it' "$SEQ ext=fragl,dst"
	verdict
}

@test "IPv6 extension headers are walked" {
	three
	FAMILY=6
	for e in hop dst rt ah frag hop,dst,rt,frag,ah,dst dst/3 hop/10 ah/2 ah/6 \
		'dst*2' 'dst*4' hop,ah,ah; do
		yes tcp "$e" "$SEQ ext=$e"
		yes udp "$e" "$UDP ext=$e payload=5"
	done
	for e in 'dst!1' 'dst!255' 'ah!255' 'rt!255' 'hop!100' rt1 hop,rt1 59 50 \
		253 4 41 132 58; do
		no tcp "$e" "$SEQ ext=$e"
		no udp "$e" "$UDP ext=$e"
	done
	# Long chains: either answer is right, a crash or a wrong reading is not.
	from fd88::ffff ports=7000,8000,9000 'ext=dst*40'
	from fd88::ffff ports=7000,8000,9000 'ext=dst*160'
	from fd88::ffff ports=7000,8000,9000 'ext=dst*160,rt1'
	verdict
}

@test "VLAN tags: number 0 counts here, any other does not" {
	three
	for w in vlan=0 vlan=0xe000 vlan=0x1000 svlan=0; do
		both yes tcp "$w" "$SEQ $w"
		both yes udp "$w" "$UDP $w payload=9"
	done
	for w in vlan=1 vlan=5 vlan=4095 vlan=0xe005 svlan=5 'vlan=5 vlan=0' \
		'svlan=5 vlan=0' 'vlan=0 vlan=5' 'svlan=0 vlan=5'; do
		both no tcp "$w" "$SEQ $w"
		both no udp "$w" "$UDP $w"
	done
	FAMILY=6 yes tcp 'VLAN 0 and extension headers' "$SEQ vlan=0 ext=hop,dst"
	verdict
}

@test "only packets to this host count" {
	in_s ip addr add 10.77.0.50/32 dev eth0
	in_s ip addr add fd77::50/128 dev eth0 nodad
	in_s ip addr add 10.99.0.1/32 dev lo
	in_s ip addr add fd99::1/128 dev lo
	three
	yes tcp 'second address' "$SEQ dst=10.77.0.50"
	FAMILY=6 yes tcp 'second address' "$SEQ dst=fd77::50"
	both no tcp 'frame to another host' "$SEQ dmac=02:00:00:00:00:77"
	for d in 10.77.0.9 10.77.0.255 10.77.0.0 255.255.255.255 224.0.0.1 \
		10.99.0.1; do
		no tcp "to $d" "$SEQ dst=$d"
		no udp "to $d" "$UDP dst=$d"
		no udp "broadcast to $d" "$UDP dst=$d dmac=ff:ff:ff:ff:ff:ff"
	done
	FAMILY=6
	for d in fd77::9 ff02::1 ff02::1:ff00:1 fd77:: :: ::ffff:10.77.0.1 fd99::1; do
		no tcp "to $d" "$SEQ dst=$d"
		no udp "to $d" "$UDP dst=$d"
	done
	verdict
}

@test "any: every interface's addresses count, whatever the way in" {
	in_s ip addr add 10.99.0.1/32 dev lo
	in_s ip link add d0 type veth peer name d1
	in_s ip addr add 10.98.0.1/24 dev d0
	in_s ip link set d0 up
	conf <<<"$(door tcp 7000,8000,9000 'tcpflags = syn')"
	start_knockd -i any
	both yes tcp 'own address' "$SEQ"
	yes tcp "another interface's" "$SEQ dst=10.98.0.1"
	yes tcp "loopback's other address" "$SEQ dst=10.99.0.1"
	no tcp 'nobody there' "$SEQ dst=10.97.0.1"
	verdict
}

@test "addresses that cannot be a sender's never open anything" {
	three
	for a in 0.0.0.0 255.255.255.255 224.0.0.5 239.1.2.3; do
		from $a ports=7000,8000,9000
		from $a ports=7000,8000,9000 proto=udp
	done
	for a in :: ff02::1 ff0e::5 ::ffff:10.77.0.2 ::ffff:0.0.0.0; do
		from $a ports=7000,8000,9000
		from $a ports=7000,8000,9000 proto=udp
	done
	mark
	is "$(doors_opened 'tcp|udp')" 0
	not_logged 'Stage [23]'
}

@test "TCPFlags: all must hold, the others are free" {
	conf <<-EOF
	$(door none 7000,8000,9000)
	$(door syn 7000,8000,9000 'tcpflags = syn')
	$(door only 7000,8000,9000 'tcpflags = syn,!ack')
	$(door synack 7000,8000,9000 'tcpflags = syn,ack')
	$(door fin 7000,8000,9000 'tcpflags = fin,!syn')
	$(door xmas 7000,8000,9000 'tcpflags = fin,psh,urg')
	$(door null 7000,8000,9000 'tcpflags = !fin,!syn,!rst,!psh,!ack,!urg')
	EOF
	start
	# SYN and ACK together answer a connection: only where ack is required.
	for want in S:none,syn,only SA:synack F:none,fin FA:none,fin \
		FPU:none,fin,xmas -:none,null A:none PA:none R:none RA:none \
		SEC:none,syn,only E:none,null SF:none,syn,only FSRPAU:synack; do
		for d in none syn only synack fin xmas null; do
			[[ ,${want#*:}, == *,$d,* ]] && answer=yes || answer=no
			both "$answer" "$d" "flags ${want%:*}" "$SEQ flags=${want%:*}"
		done
	done
	verdict
}

@test "doors of UDP, of both, and data in the packets" {
	conf <<-EOF
	$(door mixed 7000,8000:udp,9000:tcp 'tcpflags = syn')
	$(door udp 5000:udp,5001:UDP,5002:udp 'tcpflags = syn')
	$(door one 6000:udp)
	$(door same 4000,4000:udp,4000:tcp 'tcpflags = syn')
	EOF
	start
	both yes mixed 'in order' ports=7000:tcp,8000:udp,9000:tcp
	both no mixed 'all tcp' "$SEQ"
	both no mixed 'all udp' "$UDP"
	both no mixed 'swapped' ports=7000:udp,8000:tcp,9000:udp
	both yes udp 'in order' 'ports=5000-5002 proto=udp payload=200'
	both no udp 'all tcp' ports=5000-5002
	both yes one 'one packet' 'ports=6000 proto=udp'
	both no one 'one packet of tcp' ports=6000
	both case_is 5 one 'five packets' 'ports=6000 proto=udp n=5'
	both yes same 'one port, three packets' ports=4000,4000:udp,4000
	both no same 'one port, wrong protocol' ports=4000,4000,4000
	verdict
}

@test "a door without TCPFlags: every packet of a connection is a hit" {
	conf <<-EOF
	$(door one 7000)
	$(door two 8000,8001)
	EOF
	start
	both case_is 4 one 'four packets' 'ports=7000 flags=S' 'ports=7000 flags=A' \
		'ports=7000 flags=PA payload=5' 'ports=7000 flags=FA'
	both yes two 'data packets alone' 'ports=8000 flags=PA payload=100' \
		'ports=8001 flags=A'
	both yes two 'whole connections' 'ports=8000 flags=S' 'ports=8000 flags=A' \
		'ports=8000 flags=FA' 'ports=8001 flags=S'
	verdict
}

# -------------------------------------------------------------- matching --

@test "rule 1: hits with other flags are not seen" {
	conf <<<"$(door tcp 7000,8000,9000 'tcpflags = syn')"
	start
	both yes tcp 'ACK, FIN, RST to the door in between' ports=7000 \
		'ports=7000,9000 flags=A' 'ports=9000 flags=F' ports=8000 \
		'ports=7000-9000 flags=RA' ports=9000
	verdict
}

@test "rules 3 and 6: in order; a wrong port of the door cancels" {
	conf <<-EOF
	$(door tcp 7000,8000,9000 'tcpflags = syn')
	$(door other 5555,5556 'tcpflags = syn')
	EOF
	start
	both yes tcp 'in order' "$SEQ"
	both no tcp 'backwards' ports=9000,8000,7000
	both no tcp 'last two swapped' ports=7000,9000,8000
	both no tcp 'own port cancels' ports=7000,9000,8000,9000
	both no tcp 'first one missing' ports=8000,9000
	both yes tcp "another door's port is a stray" ports=7000,5556,8000,9000
	both yes other 'and may begin that door' ports=7000,5555,5556
	both yes tcp 'and the other way' ports=5555,7000,8000,9000
	both yes tcp 'a second try' ports=7000,9000,7000,8000,9000
	both case_is 3 tcp 'three knocks' "$SEQ n=3"
	verdict
}

@test "rules 2 and 4: repeats are ignored, retransmissions are nothing" {
	conf <<-EOF
	$(door tcp 7000,8000,9000 'tcpflags = syn')
	$(door twice 6000,6000,6001 'tcpflags = syn')
	$(door udp 5000:udp,5001:udp)
	$(door udptwice 5100:udp,5100:udp,5101:udp)
	$(door back 4000,4001,4000,4002 'tcpflags = syn')
	EOF
	start
	both yes tcp 'each knock twice' ports=7000,7000,8000,8000,9000
	both yes tcp 'each knock five times' 'ports=7000 n=5' 'ports=8000 n=5' \
		ports=9000
	both yes tcp 'true retransmissions of earlier knocks' \
		"ports=7000 sport=1000 seq=1 $TCP" "ports=8000 sport=1001 seq=2 $TCP" \
		"ports=7000 sport=1000 seq=1 $TCP" "ports=8000 sport=1001 seq=2 $TCP" \
		"ports=7000 sport=1000 seq=1 $TCP" 'ports=9000'
	both yes udp 'each datagram twice' 'ports=5000,5000,5001 proto=udp'
	both yes twice 'a port that comes twice' ports=6000,6000,6001
	both yes udptwice 'a UDP port that comes twice' 'ports=5100,5100,5101 proto=udp'
	both no udptwice 'but once is not twice' 'ports=5100,5101 proto=udp'
	both yes twice 'and is repeated' ports=6000,6000,6000,6001
	both no twice 'but once is not twice' ports=6000,6001
	both no twice 'a retransmission is not the next knock' \
		"ports=6000 sport=1000 seq=7 n=2 $TCP" ports=6001
	both no twice 'not even the third' \
		"ports=6000 sport=1000 seq=7 n=3 $TCP" ports=6001
	both yes twice 'a fresh one behind it is' \
		"ports=6000 sport=1000 seq=7 n=2 $TCP" 'ports=6000 sport=1001 seq=8' ports=6001
	both yes twice 'one without options is made by hand' \
		'ports=6000 sport=1000 seq=7 n=2' ports=6001
	both yes twice 'so is one with number 0' \
		"ports=6000 sport=20 seq=0 n=2 $TCP" ports=6001
	both yes back 'first port again in the middle' ports=4000,4001,4000,4002
	both no back 'retransmission of the first in the middle' \
		"ports=4000 sport=1000 seq=7 $TCP" ports=4001 \
		"ports=4000 sport=1000 seq=7 $TCP" ports=4002
	both case_is 1 tcp 'all of a knock once more, behind its end' \
		"ports=7000,8000,9000 sport=1000 seq=7 n=2 $TCP"
	both case_is 2 tcp 'the same, made by hand' \
		"ports=7000,8000,9000 sport=20 seq=0 n=2"
	verdict
}

@test "rules 5 and 8: several people behind one address" {
	conf <<<"$(door tcp 7000,8000,9000 'tcpflags = syn')"
	start
	both yes tcp 'one begins while another is under way: it is open' \
		ports=7000,8000 ports=7000 ports=9000 ports=8000,9000
	both yes tcp 'two in step' ports=7000,7000,8000,8000,9000,9000
	both yes tcp 'a fresh start does not spoil the old' ports=7000,8000,7000,9000
	case_is 0 other 'no such door' ports=1
	from 10.89.0.1 ports=7000,8000 n=20
	from 10.89.0.1 ports=9000 n=20
	verdict
	is "20 attempts at once: $(opens 10.89.0.1 tcp)" '20 attempts at once: 1'
}

@test "doors that share knocks: same first one, one the beginning of another" {
	conf <<-EOF
	$(door short 7000,8000 'tcpflags = syn')
	$(door long 7000,8000,9000 'tcpflags = syn')
	$(door long2 5000,5001,5002 'tcpflags = syn')
	$(door short2 5000,5001 'tcpflags = syn')
	$(door fork 7000,9000 'tcpflags = syn')
	$(door twin 7000,8000,9000 'tcpflags = syn')
	$(door tail 8000,9000 'tcpflags = syn')
	EOF
	start
	for d in short long twin; do
		both yes $d 'one knock, three doors' "$SEQ"
	done
	both no fork 'but not one that skips a knock' "$SEQ"
	both no tail 'nor one that is only the end' "$SEQ"
	both yes tail 'by itself' ports=8000,9000
	both yes fork 'the other way' ports=7000,9000
	both no long 'the other way' ports=7000,9000
	for d in long2 short2; do
		both yes $d 'beginning behind the whole' ports=5000-5002
	done
	both no long2 'only the beginning' ports=5000,5001
	verdict
}

@test "what strangers do does not touch an attempt" {
	conf <<<"$(door tcp 7000,8000,9000 'tcpflags = syn')"
	start
	both yes tcp 'first' '@1 ports=7000' '@3 ports=8000' '@5 ports=9000'
	both yes tcp 'second' '@2 ports=7000' '@4 ports=8000' '@6 ports=9000'
	both no tcp 'wrong in between' '@2 ports=7000' '@3 ports=9000' '@6 ports=8000,9000'
	both no tcp 'scan in between' '@2 ports=7000' '@4 ports=1-1000' '@5 ports=8000,9000'
	both no tcp 'never finished' '@1 ports=7000,8000'
	verdict
}

@test "rule 7: strays up to the limit are forgiven, more are not" {
	conf <<-EOF
	$(door tcp 7000,8000,9000 'tcpflags = syn')
	$(door none 7000,8000,9000 'tcpflags = syn' 'stray_limit = 0')
	$(door two 7000,8000,9000 'tcpflags = syn' 'stray_limit = 2')
	$(door all 7000,8000,9000 'tcpflags = syn' 'stray_limit = 63')
	EOF
	start
	for d in tcp all none; do
		both yes $d 'eight strays' ports=7000 ports=100-103 ports=8000 \
			ports=104-107 ports=9000
		both yes $d 'eight strays many times' ports=7000 \
			'ports=100-107 n=50' ports=8000 ports=9000
	done
	both no two 'eight strays' ports=7000 ports=100-107 ports=8000,9000
	both yes two 'two strays' ports=7000 'ports=80,443 n=9' ports=8000,9000
	both yes all '63 strays' ports=7000 ports=100-162 ports=8000,9000
	both no tcp '63 strays' ports=7000 ports=100-162 ports=8000,9000
	for f in S F - FPU R; do
		for d in tcp none all; do
			[ $d = none ] && answer=yes || answer=no
			both "$answer" $d "scan with $f at stage 1" ports=7000 \
				"ports=10000-11999 flags=$f" ports=8000,9000
			both "$answer" $d "scan with $f at stage 2" ports=7000,8000 \
				"ports=10000-11999 flags=$f" ports=9000
		done
	done
	both yes tcp 'data, answers and datagrams are no strays' ports=7000 \
		'ports=10000-11999 flags=A' 'ports=10000-11999 flags=PA' \
		'ports=10000-11999 flags=SA' \
		'ports=10000-11999 proto=udp' ports=8000,9000
	yes tcp 'strays to other hosts are none' ports=7000 \
		'ports=10000-11999 dst=10.77.0.9' ports=8000,9000
	FAMILY=6 yes tcp 'strays to other hosts are none' ports=7000 \
		'ports=10000-11999 dst=fd77::9' ports=8000,9000
	verdict
}

@test "rule 7: Stray_Limit in [options] holds for all doors" {
	conf <<-EOF
	[options]
	stray_limit = 1
	$(door tcp 7000,8000,9000 'tcpflags = syn')
	$(door own 7000,8000,9000 'tcpflags = syn' 'stray_limit = 20')
	EOF
	start
	both no tcp 'ten strays' ports=7000 ports=100-109 ports=8000,9000
	both yes own 'ten strays' ports=7000 ports=100-109 ports=8000,9000
	both yes tcp 'one stray' ports=7000 'ports=100 n=3' ports=8000,9000
	verdict
}

@test "rule 7: at doors with UDP or without TCPFlags, UDP and ACK are strays too" {
	conf <<-EOF
	$(door udp 7000:udp,8000:udp,9000:udp)
	$(door free 7001,8001,9001)
	EOF
	start
	for f in 4 6; do
		net=10.88.0.
		[ $f = 4 ] || net=fd88::
		from "${net}1" ports=7000 proto=udp
		from "${net}2" ports=7001
		from "${net}3" ports=7000 proto=udp
		from "${net}4" ports=7001
		mark
		from "${net}1" ports=10000-11999 proto=udp
		from "${net}2" ports=10000-11999 flags=A
		from "${net}3" ports=100-103 proto=udp n=3
		from "${net}4" ports=100-103 flags=A n=3
		for n in 1 3; do
			from "$net$n" ports=8000,9000 proto=udp
		done
		for n in 2 4; do
			from "$net$n" ports=8001,9001
		done
		mark
		is "udp, scanned: $(opens "${net}1" udp)" 'udp, scanned: 0'
		is "free, scanned: $(opens "${net}2" free)" 'free, scanned: 0'
		is "udp, four strays: $(opens "${net}3" udp)" 'udp, four strays: 1'
		is "free, four strays: $(opens "${net}4" free)" 'free, four strays: 1'
	done
}

@test "rule 9: the whole sequence within Seq_Timeout, from its first knock" {
	conf <<-EOF
	[tcp]
		sequence = 7000,8000,9000
		seq_timeout = 10
		tcpflags = syn
	EOF
	start
	both yes tcp 'in time' '@1 ports=7000' '@2 ports=8000,9000'
	both no tcp 'too slow' '@1 ports=7000' '@2 ports=8000' '@3 ports=9000'
	both yes tcp 'a repeated first knock begins anew' \
		'@1 ports=7000' '@2 ports=7000' '@3 ports=8000,9000'
	both no tcp 'its retransmission does not' \
		"@1 ports=7000 sport=9 seq=9 $TCP" "@2 ports=7000 sport=9 seq=9 $TCP" \
		'@3 ports=8000,9000'
	both no tcp 'nor does a repeat of the second' \
		'@1 ports=7000,8000' '@2 ports=8000' '@3 ports=9000'
	verdict 6000
}

@test "an attempt that ends says so, without another packet" {
	conf <<-EOF
	[tcp]
		sequence = 7000,8000,9000
		seq_timeout = 3
		tcpflags = syn
	EOF
	start
	from 10.88.0.1 ports=7000,8000
	from fd88::1 ports=7000
	from 10.88.0.2 ports=7000,8000,9000
	logged '10\.88\.0\.1: tcp: Stage 1$'
	logged '10\.88\.0\.1: tcp: Stage 2$'
	logged '10\.88\.0\.1: tcp: sequence timeout \(stage 2\)$'
	logged 'fd88::1: tcp: sequence timeout \(stage 1\)$'
	logged '10\.88\.0\.2: tcp: Stage 3$'
	logged '10\.88\.0\.2: tcp: OPEN SESAME$'
	from 10.88.0.1 ports=9000
	mark
	is "$(opens 10.88.0.1 tcp)" 0
	not_logged '10\.88\.0\.2: tcp: sequence timeout'
}

@test "one-port doors open at each hit" {
	conf <<-EOF
	$(door one 7000 'tcpflags = syn')
	$(door same 7001,7001 'tcpflags = syn')
	$(door begin 7002 'tcpflags = syn')
	$(door long 7002,7002 'tcpflags = syn')
	EOF
	start
	both case_is 3 one 'three hits' 'ports=7000 n=3'
	both case_is 1 one 'three times the same packet of a TCP' \
		"ports=7000 sport=9 seq=9 n=3 $TCP"
	both case_is 2 same 'four hits' 'ports=7001 n=4'
	both case_is 2 long 'as in 0.8: each second hit' 'ports=7002 n=4'
	both case_is 2 begin 'as in 0.8: the others' 'ports=7002 n=4'
	verdict
}

@test "a sequence of 32 ports" {
	ports=$(seq -s, 20000 77 22387)
	conf <<<"$(door long "$ports" 'tcpflags = syn')"
	start
	both yes long 'all' "ports=$ports"
	both no long 'one left out' "ports=${ports/20077,/}"
	both no long 'two swapped' "ports=20077,20000,${ports#20000,20077,}"
	verdict
}

# ---------------------------------------------------- targets, interfaces --

@test "Target: a door for an address that is not ours" {
	conf <<-EOF
	$(door four 7000,8000,9000 'tcpflags = syn' 'target = 10.50.0.1')
	$(door six 7000,8000,9000 'tcpflags = syn' 'target = FD50:0:0::1')
	$(door udp 7000:udp,8000:udp 'target = 10.50.0.1')
	$(door own 7000,8000,9000 'tcpflags = syn')
	EOF
	start
	yes four 'to the target' "$SEQ dst=10.50.0.1"
	yes udp 'to the target' 'ports=7000,8000 proto=udp dst=10.50.0.1'
	no four 'to this host' "$SEQ"
	no own 'to the target' "$SEQ dst=10.50.0.1"
	yes own 'to this host' "$SEQ"
	no four 'to both' ports=7000 "ports=8000 dst=10.50.0.1" ports=9000
	no four "to another's target" "$SEQ dst=10.50.0.2"
	FAMILY=6
	yes six 'to the target' "$SEQ dst=fd50::1"
	no six 'to this host' "$SEQ"
	no own 'to the target' "$SEQ dst=fd50::1"
	verdict
}

@test "loopback: each packet counts once" {
	conf <<-EOF
	$(door tcp 7000,8000,9000 'tcpflags = syn')
	$(door one 6000:udp)
	EOF
	start_knockd -i lo
	in_s "$GEN" if=lo dmac=00:00:00:00:00:00 src=127.0.0.2 dst=127.0.0.1 \
		ports=7000,8000,9000,6000:udp
	in_s "$GEN" if=lo dmac=00:00:00:00:00:00 src=::1 dst=::1 \
		ports=7000,8000,9000,6000:udp
	in_s "$KNOCK" ::1 7000 8000 9000 6000:udp
	in_s "$KNOCK" 127.0.0.1 7000 8000 9000 6000:udp
	logged '[] ]127\.0\.0\.1: one: OPEN SESAME'
	is "$(opens 127.0.0.2 tcp) $(opens ::1 tcp) $(opens 127.0.0.1 tcp)" '1 2 1'
	is "$(opens 127.0.0.2 one) $(opens ::1 one) $(opens 127.0.0.1 one)" '1 2 1'
}

tun_is_up() {
	in_s ip -o link show tun0 | grep -q LOWER_UP
}

@test "tun: bare IP packets" {
	[ -e /dev/net/tun ] || skip "no /dev/net/tun here"
	in_s ip tuntap add dev tun0 mode tun 2>/dev/null || skip "no tun devices here"
	in_s ip addr add 10.66.0.1/24 dev tun0
	in_s ip addr add fd66::1/64 dev tun0 nodad
	in_s ip link set tun0 up
	conf <<-EOF
	$(door tcp 7000,8000,9000 'tcpflags = syn')
	$(door one 6000:udp)
	EOF
	# The generator holds the device from before the daemon's start on.
	mkfifo "$T/script"
	in_s "$GEN" tun=tun0 script="$T/script" >/dev/null 3>&- &
	exec {tun}>"$T/script"
	until_true "$WAIT" tun_is_up
	start_knockd -i tun0
	cat >&$tun <<-EOF
	src=10.66.0.2 dst=10.66.0.1 ports=7000,8000,9000 ihl=4
	src=10.66.0.2 dst=10.66.0.1 ports=7000,8000,9000 fragoff=1
	src=10.66.0.2 dst=10.66.0.1 ports=7000,8000,9000 cut=30
	src=fd66::2 dst=fd66::1 ports=7000,8000,9000 ext=fragl
	src=10.66.0.3 dst=10.66.0.1 ports=7000,8000,9000
	src=fd66::3 dst=fd66::1 ports=7000,8000,9000
	src=10.66.0.4 dst=10.66.0.1 ports=7000,8000,9000 opts=8
	src=fd66::4 dst=fd66::1 ports=7000,8000,9000 ext=dst
	src=10.66.0.3 dst=10.66.0.1 ports=6000:udp n=3
	src=fd66::3 dst=fd66::1 ports=6000:udp n=3
	EOF
	exec {tun}>&-
	logged '[] ]fd66::3: one: OPEN SESAME' 3
	for n in 3 4; do
		is "10.66.0.$n $(opens 10.66.0.$n tcp)" "10.66.0.$n 1"
		is "fd66::$n $(opens fd66::$n tcp)" "fd66::$n 1"
	done
	is "$(opens 10.66.0.2 tcp) $(opens fd66::2 tcp)" '0 0'
	is "$(opens 10.66.0.3 one)" 3
}

@test "a VLAN interface takes the frames of its VLAN" {
	in_s ip link add link eth0 name eth0.5 type vlan id 5 2>/dev/null ||
		skip "this kernel has no VLAN interfaces"
	in_s ip addr add 10.55.0.1/24 dev eth0.5
	in_s ip addr add fd55::1/64 dev eth0.5 nodad
	in_s ip link set eth0.5 up
	conf <<<"$(door tcp 7000,8000,9000 'tcpflags = syn')"
	start_knockd -i eth0,eth0.5
	yes tcp 'VLAN 5' "$SEQ vlan=5 dst=10.55.0.1"
	FAMILY=6 yes tcp 'VLAN 5' "$SEQ vlan=5 dst=fd55::1"
	no tcp 'VLAN 6' "$SEQ vlan=6 dst=10.55.0.1"
	no tcp "VLAN 5, the parent's address" "$SEQ vlan=6"
	yes tcp 'no VLAN' "$SEQ"
	verdict
}

@test "a bridge and its port show each packet twice: it counts once" {
	in_s ip -batch - <<-EOF
	link add br1 address 02:00:00:00:00:01 type bridge stp_state 0 forward_delay 0
	addr flush dev eth0
	link set eth0 master br1
	link set br1 up
	addr add 10.77.0.1/24 dev br1
	addr add fd77::1/64 dev br1 nodad
	EOF
	conf <<-EOF
	$(door one 6000:udp)
	$(door two 6001:udp,6001:udp)
	$(door tcp 7000,7000,8000 'tcpflags = syn')
	EOF
	start_knockd -i any
	both case_is 1 one 'one datagram' 'ports=6000 proto=udp'
	both case_is 3 one 'three datagrams' 'ports=6000 proto=udp n=3'
	both no two 'one datagram' 'ports=6001 proto=udp'
	both yes tcp 'in order' ports=7000,7000,8000
	both no tcp 'once is not twice' ports=7000,8000
	verdict
}

@test "packets that this host sends are no knocks" {
	conf <<-EOF
	$(door tcp 7000,8000,9000 'tcpflags = syn')
	$(door far 7000,8000 'tcpflags = syn' 'target = 10.77.0.2')
	EOF
	start
	in_s "$GEN" if=eth0 qdisc=1 src=10.77.0.1 dst=10.77.0.2 \
		dmac=02:00:00:00:00:02 ports=7000,8000,9000
	in_s "$GEN" if=eth0 qdisc=1 src=10.77.0.2 dst=10.77.0.1 \
		dmac=02:00:00:00:00:02 ports=7000,8000,9000
	mark
	is "$(doors_opened 'tcp|far')" 0
	not_logged 'tcp: Stage|far: Stage'
}
