#!/usr/bin/env bash
# The bench: ours and knockd 0.8, run in turn, on real packets between network
# namespaces of its own. Prints the report and writes it, with a plot, to
# docs/bench.md and docs/bench.svg (quick: to build/).
#
#	tests/bench.sh [quick] [noise] [ROW...]		rows: the functions row_* below
#
# noise: ours against ours, as if one were 0.8: what the ratios differ from 1 is
# noise. Into build/bench-noise.md.
#
# Needs root, nft, strace, and build/knockd-0.8 (./test.sh fetches it on Debian;
# without it the columns of 0.8 stay empty). Each figure is the median of runs
# that alternate between the two daemons, in an order that alternates too; in
# brackets its interval, see interval().
# What is set here is read in lib.bash and packets.bash, and the other way round.
# shellcheck disable=SC1091,SC2034,SC2153
set -u
cd "$(dirname "$0")/.." || exit 1

BATS_TEST_DIRNAME=$PWD/tests
BATS_TEST_TMPDIR=$(mktemp -d) || exit 1
skip() { echo "bench: $*" >&2; exit 1; }
. tests/lib.bash
. tests/packets.bash

QUICK='' NOISE='' ONLY=''
[ "${1:-}" != quick ] || { QUICK=1; shift; }
[ "${1:-}" != noise ] || { NOISE=1; shift; }
[ $# = 0 ] || ONLY=" $* "

# by QUICK-VALUE FULL-VALUE
by() { [ -n "$QUICK" ] && echo "$1" || echo "$2"; }

ROUNDS=$(by 1 5)	# 5: the fewest with an interval of the median
OUT=$(by build docs)	# where the report goes
PROBE=$PWD/build/bench_probe STAMP=$PWD/build/bench_stamp
R=$T/results		# R/ROW.WHO: the samples, one a line
TABLE=$T/table		# lines of: figure|0.8|ours|ratio|target|met
mkdir "$R"
: >"$TABLE"

build() {
	{ [ "$KNOCKD" != "$ROOT/knockd" ] || make -s knockd knock; } &&
		cc -O2 -o build/gen tests/gen.c &&
		cc -O2 -o "$PROBE" tests/bench_probe.c &&
		{ musl-gcc -O2 -static -o "$STAMP" tests/bench_stamp.c 2>/dev/null ||
			cc -O2 -static -o "$STAMP" tests/bench_stamp.c; } || return
	cc -std=c11 -w -Os -I. -o build/hotpath tests/bench_hotpath.c 2>build/hotpath.log ||
		{ rm -f build/hotpath; echo "bench: no build/hotpath, see build/hotpath.log" >&2; }
}

# --- the network --------------------------------------------------------------

# Besides what net_up makes: addresses to knock from in A, no answers of S to
# the floods' spoofed ones (the daemons see packets before that), and room for
# 0.8's Stage lines on a RAM disk.
network() {
	net_up
	in_a ip route add local 10.78.0.0/16 dev lo
	in_s ip route add 10.78.0.0/16 via 10.77.0.2
	no_answers
}

finish() {
	net_down
	rm -rf "$T"
}
trap finish EXIT
trap 'exit 1' INT TERM

# --- the daemons ----------------------------------------------------------------

have_old() { [ "${#OLD_KNOCKD[@]}" -gt 0 ]; }

# doors N [LINE...]: N doors of three ports, scattered, the ports all = 2 mod 6;
# the first has 7000,8000,9000 and the lines.
doors() {
	local n=$1

	shift
	echo '[first]'
	echo 'sequence = 7000,8000,9000'
	echo 'seq_timeout = 300'
	echo 'tcpflags = syn'
	[ $# = 0 ] || printf '%s\n' "$@"
	awk -v n="$n" 'BEGIN {
		for (i = 1; i < n; i++) {
			a = (i * 7919) % 10900; b = (a + 3571) % 10900; c = (b + 2003) % 10900
			printf "[door%d]\nsequence = %d:udp,%d:udp,%d:udp\nseq_timeout = 300\n",
				i, 20 + a * 6, 20 + b * 6, 20 + c * 6
		}
	}'
}

# daemons_for N: those to run with N doors. From about 300 on 0.8 loses its
# kernel filter, and 1,000 take it many seconds and gigabytes to start.
daemons_for() {
	[ "$1" -gt 100 ] && echo new || echo "$DAEMONS"
}

# config: from standard input; both read it.
config() {
	{ printf '[options]\nlogfile = %s\n' "$LOG"; cat; } >"$T/knockd.conf"
	chmod 600 "$T/knockd.conf"
}

# up old|new|floor: starts it, returns when it is ready. The floor is bench_probe's.
up() {
	local cmd=("$KNOCKD") options=(-i eth0 -c "$T/knockd.conf" -p /run/bench.pid)

	[ "$1" != old ] || cmd=("${OLD_KNOCKD[@]}")
	[ "$1" != floor ] || { cmd=("$PROBE" floor); options=(eth0 9000
		"$(sed -n 's/^command = //p' "$T/knockd.conf")"); }
	rm -f "$LOG"
	bg "$S" "${cmd[@]}" "${options[@]}" >"$T/out" 2>&1
	PID=$!
	until_true 30 grep -qsE "$READY|^listening on" "$LOG" "$T/out" && return
	echo "bench: $1 did not start: $(tail -n 3 "$T/out")" >&2
	down
	return 1
}

# down: ends the daemon; one that is lost in a flood's backlog is killed.
down() {
	kill "$PID"
	until_true 3 gone "$PID" || for p in $(daemon_pids); do kill -KILL "$p"; done
	wait "$PID" 2>/dev/null
	until_true 10 no_daemon_left
}

# cpu: nanoseconds of CPU that its processes have had, to the nanosecond.
cpu() {
	local p

	for p in $(daemon_pids); do cat "/proc/$p/schedstat"; done |
		awk '{ n += $1 } END { printf "%.0f\n", n }'
}

# settle: until it has nothing more to do, 3 seconds at most.
settle() {
	local n='' m end=$((SECONDS + 3))

	while m=$(cpu) && [ "$m" != "$n" ] && [ $SECONDS -lt $end ]; do
		n=$m
		pause 0.15
	done
}

# field NAME: of the generator's line on standard input.
field() { sed -n "s/.*$1=\([0-9.]*\).*/\1/p"; }

# load WORD...: runs the generator from A, on the first CPU; sets SENT.
load() {
	in_a taskset -c 0 "$GEN" if=s0 dst="$ME4" "$@" >"$T/gen"
	SENT=$(field sent <"$T/gen")
}

# loaded NAME.WHO WORD...: seconds of the daemon's CPU per million packets.
loaded() {
	local name=$1 before

	shift
	settle
	before=$(cpu)
	load "$@"
	settle
	echo "$before $(cpu) $SENT" | awk '{ printf "%.4f\n", ($2 - $1) / $3 / 1e3 }' >>"$R/$name"
}

# --- figures ----------------------------------------------------------------------

# percentile P FILE: of its numbers.
percentile() {
	grep -v '^-$' "$2" 2>/dev/null | sort -g | awk -v p="$1" '{ v[NR] = $1 }
		END { if (NR) { i = int(p / 100 * NR + 0.9999); print v[i < 1 ? 1 : i] } else print "-" }'
}

# number X: with as many digits as mean something.
number() {
	awk -v x="$1" 'BEGIN {
		if (x !~ /^[-0-9.e+]+$/ || x == "-") print x
		else if (x == int(x)) print x + 0
		else if (x < 0) printf "%.2f\n", x
		else if (x >= 100) printf "%.0f\n", x
		else if (x >= 10) printf "%.1f\n", x
		else if (x >= 0.1) printf "%.2f\n", x
		else printf "%.3f\n", x }'
}

# Of the numbers on standard input, `low value high`: the percentile P, and an
# interval that is below it, and above it, with a probability of 5 % each at most,
# whatever the distribution: the k-th smallest of n is above the percentile with
# the probability of fewer than k of n below it, a binomial one. A bound that n is too
# small for is "-": a median needs 5 runs.
interval() {
	grep -v '^-$' | sort -g | awk -v p="$(awk -v p="$1" 'BEGIN { print p / 100 }')" '
		{ v[NR] = $1 }
		END {
			n = NR
			if (!n) { print "- - -"; exit }
			term = n * log(1 - p)	# the logarithm of: none of n below it
			low = high = "-"
			for (k = 1; k <= n; k++) {
				sum += exp(term)	# of fewer than k
				term += log((n - k + 1) / k * p / (1 - p))
				if (sum <= 0.05) low = v[k]
				if (sum >= 0.95 && high == "-") high = v[k]
			}
			i = int(p * n + 0.9999)
			print low, v[i < 1 ? 1 : i], high
		}'
}

# spread FILE [P [SCALE]]: the percentile (default: the median), divided by SCALE,
# and its interval in brackets. Of too few runs: the smallest and the largest, in
# other brackets.
spread() {
	local n low value high scale=${3:-1}

	n=$(grep -cv '^-$' "$1" 2>/dev/null)
	[ "${n:-0}" -gt 0 ] || { echo -; return; }
	read -r low value high < <(interval "${2:-50}" <"$1")
	value=$(scaled "$value" "$scale")
	if [ "$low" = - ] && [ "${2:-50}" = 50 ] || [ "$high" = - ]; then
		echo "$value [$(scaled "$(percentile 0 "$1")" "$scale")..$(scaled "$(percentile 100 "$1")" "$scale")]"
	else
		echo "$value ($(scaled "$low" "$scale")..$(scaled "$high" "$scale"))"
	fi
}

# scaled X SCALE: X / SCALE, as number() writes it.
scaled() {
	number "$(awk -v x="$1" -v s="$2" 'BEGIN { print x == "-" ? x : x / s }')"
}

# ratio NAME: of the pairs of samples of 0.8 and ours, the median and its interval.
ratio() {
	[ -s "$R/$1.old" ] && [ "$(wc -l <"$R/$1.old")" = "$(wc -l <"$R/$1.new")" ] || return
	paste "$R/$1.old" "$R/$1.new" |
		awk '$1 > 0 && $2 > 0 { print $1 / $2 }' >"$T/ratios"
	[ ! -s "$T/ratios" ] || spread "$T/ratios"
}

# add FIGURE OLD NEW TARGET [more|'' [NAME]]: a line of the table from plain numbers
# or spreads; the target is the most it may be (the least, with "more"). It is met if
# the whole interval is on the right side, and open if it is on both, or if there
# were too few runs. A number without brackets is a count. NAME: of the samples that
# the ratio is made of; else it is that of the two figures.
add() {
	awk -v f="$1" -v o="$2" -v n="$3" -v t="$4" -v more="${5:-}" \
		-v pairs="$([ -z "${6:-}" ] || ratio "$6")" 'BEGIN {
		on = o; nn = n; tt = t
		sub(/ .*/, "", on); sub(/ .*/, "", nn); sub(/[^0-9.].*/, "", tt)
		ratio = (on + 0 > 0 && nn + 0 > 0) ? sprintf("%.3g", on / nn) : "-"
		if (pairs != "") ratio = pairs
		low = high = nn
		if (match(n, /[(].*[)]/)) {
			split(substr(n, RSTART + 1, RLENGTH - 2), bound, /[.][.]/)
			low = bound[1]; high = bound[2]
		}
		met = ""
		if (tt != "" && nn != "-" && nn != "") {
			best = more ? high : low; worst = more ? low : high
			met = "open"
			if (n !~ /[[]/ && worst != "-" && (more ? worst + 0 >= tt + 0 : worst + 0 <= tt + 0))
				met = "yes"
			if (n !~ /[[]/ && best != "-" && (more ? best + 0 < tt + 0 : best + 0 > tt + 0))
				met = "no"
		}
		printf "%s|%s|%s|%s|%s|%s\n", f, o, n, ratio, t, met }' >>"$TABLE"
	tail -n 1 "$TABLE" | tr '|' '\t' >&2
}

# median NAME [SCALE]: of the samples, alone, for what is counted and not measured.
median() {
	scaled "$(percentile 50 "$R/$1")" "${2:-1}"
}

# counted FIGURE NAME TARGET: counts of both.
counted() {
	add "$1" "$(median "$2.old")" "$(median "$2.new")" "$3"
}

# parted FIGURE NAME OF TARGET: the samples of NAME as a part of those of OF, pair by
# pair.
parted() {
	paste "$R/$2" "$R/$3" | awk '$1 > 0 && $2 > 0 { print $1 / $2 }' >"$R/$2.part"
	add "$1" - "$(spread "$R/$2.part")" "$4"
}

# compared FIGURE NAME TARGET [more]: the samples of both.
compared() {
	add "$1" "$(spread "$R/$2.old")" "$(spread "$R/$2.new")" "$3" "${4:-}" "$2"
}

# timed FIGURE NAME TARGET P: the same of microseconds, in ms.
timed() {
	add "$1" "$(ms "$4" "$2.old")" "$(ms "$4" "$2.new")" "$3" '' "$([ "$4" != 50 ] || echo "$2")"
}

# ms P NAME: the percentile of microseconds, in milliseconds, and its interval.
ms() {
	spread "$R/$2" "$1" 1000
}

# in_turn ROUND WORD...: the words, in each second round backwards.
in_turn() {
	local round=$1 all=''

	shift
	for word; do
		if ((round % 2)); then all="$word $all"; else all="$all $word"; fi
	done
	echo "$all"
}

# --- the rows ---------------------------------------------------------------------

row_latency() {
	local n who

	n=$(by 30 100)
	for ((i = 0; i < ROUNDS; i++)); do
		for who in $(in_turn "$i" $DAEMONS floor); do
			config < <(doors 1 "command = $STAMP $T/sock %IP%")
			up "$who"
			in_a "$PROBE" knock "$T/sock" "$ME4" 7000,8000,9000 "$n" >>"$R/latency.$who"
			down
			[ -z "$QUICK" ] && [ "$who" != floor ] || continue
			config < <(doors 1 "command = $STAMP $T/sock %IP%; true")
			up "$who"
			in_a "$PROBE" knock "$T/sock" "$ME4" 7000,8000,9000 30 >>"$R/shell.$who"
			down
		done
	done
	for p in 50 99; do
		timed "last knock to the command's first action, p$p, ms" latency \
			"$([ $p = 50 ] && echo 0.4 || echo 2)" $p
	done
	add 'its floor here: one process that does nothing else, p50, ms' - "$(ms 50 latency.floor)" ''
	add 'its floor here, p99, ms' - "$(ms 99 latency.floor)" ''
	[ -n "$QUICK" ] || timed 'the same through /bin/sh, p50, ms' shell '' 50
}

# From the last knock to a datagram that gets in: iptables and nft.
row_rule() {
	local n who ipt

	n=$(by 10 20)
	ipt=$(command -v iptables)
	for ((i = 0; i < ROUNDS; i++)); do
		for who in $(in_turn "$i" $DAEMONS floor); do
			in_s "$ipt" -F INPUT
			in_s "$ipt" -A INPUT -p udp --dport 2222 -j DROP
			config < <(doors 1 "command = $ipt -I INPUT -s %IP% -p udp --dport 2222 -j ACCEPT")
			up "$who"
			in_a "$PROBE" rule "/proc/$S/ns/net" "$ME4" 7000,8000,9000 "$n" "10.78.$i.1" \
				>>"$R/iptables.$who"
			down
			in_s "$ipt" -F INPUT
			[ -z "$QUICK" ] && [ "$who" != floor ] || continue
			in_s nft -f - <<-EOT
			table inet bench {
				set open { type ipv4_addr; }
				chain in {
					type filter hook input priority 5; policy accept;
					udp dport 2222 ip saddr != @open drop
				}
			}
			EOT
			config < <(doors 1 "command = $(command -v nft) add element inet bench open { %IP% }")
			up "$who"
			in_a "$PROBE" rule "/proc/$S/ns/net" "$ME4" 7000,8000,9000 "$n" "10.78.$i.1" \
				>>"$R/nft.$who"
			down
			in_s nft delete table inet bench
		done
	done
	timed 'last knock to the iptables -I rule in place, p50, ms' iptables 2.0 50
	add 'its floor here: one process that does nothing else, p50, ms' - "$(ms 50 iptables.floor)" ''
	[ -n "$QUICK" ] || timed 'the same, nft add element, p50, ms' nft '' 50
}

# bench_set nft|ipset|iptables: what shuts UDP port 2222 but for a set, or for rules;
# set_lines: what a door has to open it.
bench_set() {
	in_s iptables -F INPUT
	in_s nft delete table inet bench 2>/dev/null
	case $1 in
	nft)
		in_s nft -f - <<-EOT
		table inet bench {
			set open { type ipv4_addr; flags timeout; }
			chain in {
				type filter hook input priority 5; policy accept;
				udp dport 2222 ip saddr != @open drop
			}
		}
		EOT
		;;
	ipset)
		in_s ipset -exist create open hash:ip timeout 0
		in_s ipset flush open
		in_s iptables -A INPUT -p udp --dport 2222 -m set ! --match-set open src -j DROP
		;;
	iptables) in_s iptables -A INPUT -p udp --dport 2222 -j DROP ;;
	esac
}

set_lines() {
	case $1 in
	nft) printf 'set = nft inet bench open\ncmd_timeout = 3600\n' ;;
	ipset) printf 'set = ipset open\ncmd_timeout = 3600\n' ;;
	iptables) echo "command = $(command -v iptables) -I INPUT -s %IP% -p udp --dport 2222 -j ACCEPT" ;;
	esac
}

# lost: the daemon is killed, and what it had open forgotten.
lost() {
	for p in $(daemon_pids); do kill -KILL "$p"; done
	wait "$PID" 2>/dev/null
	in_s rm -f /run/bench.state /run/bench.pid
	until_true 10 no_daemon_left
}

# From the last knock to a datagram that gets in: Set beside iptables -I, of 0.8 and
# of ours; and what knocks cost then.
row_set() {
	local how i n words='set.old set.new'

	n=$(by 10 64)	# 64: five rounds are enough for p99
	[ -n "$NOISE" ] || words="$words set.nft set.ipset"
	have_old || words=${words#* }
	for ((i = 0; i < ROUNDS; i++)); do
		for how in $(in_turn "$i" $words); do set_rule "${how#*.}" "$n" "10.78.$i.1"; done
	done
	for p in 50 99; do timed "last knock to open, iptables -I, p$p, ms" set '' $p; done
	if [ -z "$NOISE" ]; then
		for how in nft ipset; do set_rows $how; done
	fi
	bench_set none
}

# set_rule old|new|nft|ipset COUNT FROM: the times of knocks from as many addresses, and
# their median; the first two with iptables.
set_rule() {
	local who=new how=$1

	case $1 in old | new) who=$1 how=iptables ;; esac
	bench_set "$how"
	config < <(doors 1 "$(set_lines "$how")")
	up "$who"
	in_a "$PROBE" rule "/proc/$S/ns/net" "$ME4" 7000,8000,9000 "$2" "$3" >"$R/now"
	lost
	cat "$R/now" >>"$R/set.$1"
	percentile 50 "$R/now" >>"$R/set.$1.50"
}

# set_rows nft|ipset: what is measured of a set alone.
set_rows() {
	local how=$1 i

	for p in 50 99; do
		add "last knock to open, Set $how, p$p, ms" "$(ms $p set.old)" "$(ms $p set.$how)" ''
	done
	parted "the same as a part of ours with iptables -I, p50" set.$how.50 set.new.50 0.45
	for ((i = 0; i < $(by 1 9); i++)); do set_crowd $how "10.78.$((100 + 4 * i)).0"; done
	add "1,000 knocks in a second, the last one to open, Set $how, ms" - \
		"$(ms 50 crowd.$how)" 5
	add 'addresses then in the set, the least, of 1,000' - \
		"$(percentile 0 "$R/crowd.$how.members")" "$(by 100 1000)" more
	bench_set $how
	config < <(doors 1 "$(set_lines $how)")
	up new
	calls_of in_a "$PROBE" rule "/proc/$S/ns/net" "$ME4" 7000,8000,9000 20 10.78.90.1
	lost
	add "system calls of the daemon per knock, Set $how" - \
		"$(wc -l <"$T/calls" | awk '{ printf "%.1f", $1 / 20 }')" 20
	for ((i = 0; i < $(by 1 9); i++)); do set_many $how "$i"; done
	add "last knock to open with $(percentile 0 "$R/many.$how.open") doors open, Set $how, p50, ms" - \
		"$(ms 50 many.$how)" ''
	parted 'the same as a multiple of that with one door open' many.$how.50 one.$how.50 1.5
}

# set_crowd nft|ipset FROM: 1,000 addresses knock in a second.
set_crowd() {
	local n

	n=$(by 100 1000)
	bench_set "$1"
	config < <(doors 1 "$(set_lines "$1")")
	up new
	in_a "$PROBE" crowd "/proc/$S/ns/net" "$ME4" 7000,8000,9000 "$n" "$2" >>"$R/crowd.$1"
	settle
	members "$1" | wc -l >>"$R/crowd.$1.members"
	lost
}

# members nft|ipset: the addresses in the set.
members() {
	if [ "$1" = nft ]; then in_s nft list set inet bench open; else in_s ipset list open; fi |
		grep -oE '10\.[0-9.]+ (timeout|expires)'
}

# set_many nft|ipset ROUND: the times of knocks with one door open, then with 10,000:
# two doors, each for 5,000 addresses.
set_many() {
	local n

	n=$(by 10 40)
	bench_set "$1"
	config < <(
		doors 1 "$(set_lines "$1")"
		printf '[second]\nsequence = 7001,8001,9001\n%s\n' "$(set_lines "$1")"
	)
	up new
	in_a "$PROBE" rule "/proc/$S/ns/net" "$ME4" 7000,8000,9000 "$n" 10.78.80.1 >"$R/now"
	percentile 50 "$R/now" >>"$R/one.$1.50"
	for ports in 7000,8000,9000 7001,8001,9001; do
		load src=10.88.0.1 sources="$(by 500 5000)" ports=$ports rate=2700
		settle
	done
	in_s "$KNOCKD" -S -c "$T/knockd.conf" -p /run/bench.pid | wc -l >>"$R/many.$1.open"
	in_a "$PROBE" rule "/proc/$S/ns/net" "$ME4" 7000,8000,9000 "$n" 10.78.99.1 >"$R/now"
	cat "$R/now" >>"$R/many.$1"
	percentile 50 "$R/now" >>"$R/many.$1.50"
	lost
}

# --- sealed knocks -----------------------------------------------------------------

# sealed_door N [LINE...]: a door with the keys of N clients, new ones; KEY is the first,
# `knock -k $T/key` knocks with it. The lines are more of the door.
sealed_door() {
	od -An -v -tx1 -w32 -N$((32 * $1)) /dev/urandom | tr -d ' ' |
		awk '{ print "client" NR, $0 }' >"$T/keys"
	KEY=$(sed -n '1s/.* //p' "$T/keys")
	echo "ssh:$KEY" >"$T/key"
	chmod 600 "$T/keys" "$T/key"
	shift
	config < <(
		printf '[ssh]\nsequence = 62201:udp\nkeys = %s\n' "$T/keys"
		[ $# = 0 ] || printf '%s\n' "$@"
	)
}

# sealed KEY N AHEAD PORT...: N sealed knocks, for each port a line PORT HEX, in an order
# that alternates; the first stamp is so many ms ahead.
sealed() {
	python3 - "$ROOT/tests/knock1" "$@" <<-'EOT'
	import sys, time
	sys.dont_write_bytecode = True
	sys.path.insert(0, sys.argv[1])
	import knock1
	key, n, ahead, ports = bytes.fromhex(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), sys.argv[5:]
	stamp = time.time_ns() // 1000000 + ahead
	for i in range(n):
	    datagram = knock1.make(key, "ssh", stamp + i).hex()
	    for port in ports if i % 2 else reversed(ports):
	        print(port, datagram)
	EOT
}

# unsealed KIND: the generator's words for 56 bytes that do not open: garbage; forged with
# the id of KEY; or one that was good and is replayed, which is sent first.
unsealed() {
	local good

	read -r _ good < <(sealed "$KEY" 1 0 62201)
	case $1 in
	garbage) WORDS='noise=56' ;;
	forgeries) WORDS="data=${good::16} noise=48" ;;
	replays)
		WORDS="data=$good"
		load src=10.77.0.2 ports=62201:udp payload=56 count=1 "$WORDS"
		;;
	esac
	WORDS="$WORDS src=100.64.0.1 sources=1000000 n=1000 ports=62201:udp payload=56"
}

# sealed_flood KIND RATE SECONDS KNOCKS: a flood from a million addresses, and honest
# sealed knocks from B meanwhile.
sealed_flood() {
	local name=sealed.$1.$2 before flood k opened

	unsealed "$1"
	settle
	opened=$(opens 10.77.0.3 ssh)
	before=$(cpu)
	# shellcheck disable=SC2086
	load $WORDS rate="$2" time="$3" &
	flood=$!
	pause 0.1
	for ((k = 0; k < $4; k++)); do knock_b -k "$T/key" "$ME4" 62201; done
	kill -0 $flood 2>/dev/null || echo "bench: the flood ended before the knocks" >&2
	wait $flood
	settle
	echo "$before $(cpu) $(field sent <"$T/gen")" |
		awk '{ printf "%.4f\n", ($2 - $1) / $3 / 1e3 }' >>"$R/$name.cpu"
	echo $(($(opens 10.77.0.3 ssh) - opened)) >>"$R/$name.opened"
}

row_sealed() {
	local i kind rate knocks name time kinds='garbage forgeries replays'

	[ -z "$NOISE" ] || return 0
	knocks=$(by 5 20) time=$(by 2 5)	# s; a knock needs 0.17
	for ((i = 0; i < ROUNDS; i++)); do
		for kind in $(in_turn "$i" $kinds); do
			sealed_door 1
			up new
			for rate in $(in_turn "$i" 50000 250000 10000000); do
				sealed_flood "$kind" $rate "$time" "$knocks"
			done
			down
		done
	done
	for kind in $kinds; do
		for rate in 50000 250000 10000000; do
			name=sealed.$kind.$rate
			add "honest sealed knocks opened, of $knocks, under $kind, $(rate_name $rate)" - \
				"$(spread "$R/$name.opened")" "$knocks" more
			add "daemon CPU, s per million $kind, $(rate_name $rate)" - \
				"$(spread "$R/$name.cpu")" ''
		done
	done
	for ((i = 0; i < ROUNDS; i++)); do sealed_memory; done
	add 'resident memory after a second of each at full rate, KiB' - \
		"$(spread "$R/sealed.rss")" 'fixed bound'
	add 'what another second of each adds, KiB' - "$(spread "$R/sealed.grown")" 0
}

rate_name() {
	[ "$1" = 10000000 ] && echo 'full rate' || echo "$(($1 / 1000)) kpps"
}

# sealed_memory: resident memory after each kind of flood, and how much more it is after
# the same once more.
sealed_memory() {
	local kind round before

	sealed_door 1
	up new
	for round in first second; do
		before=$(rss)
		for kind in garbage forgeries replays; do
			unsealed "$kind"
			# shellcheck disable=SC2086
			load $WORDS time=1
			settle
		done
		[ $round = second ] || rss >>"$R/sealed.rss"
	done
	echo $(($(rss) - before)) >>"$R/sealed.grown"
	down
}

# From the datagram to the command, beside a plain door of one port.
row_sealed_time() {
	local i n

	[ -z "$NOISE" ] || return 0
	n=$(by 20 40)
	for ((i = 0; i < $(by 2 11); i++)); do
		sealed_door 1 "command = $STAMP $T/sock %IP%" '[plain]' \
			'sequence = 62202:udp' "command = $STAMP $T/sock %IP%"
		up new
		settle
		sealed "$KEY" "$n" 0 62201 62202 >"$T/lines"
		in_a "$PROBE" datagrams "$T/sock" "$ME4" "$T/lines" | paste -d ' ' "$T/lines" - >"$T/times"
		down
		for port in 62201 62202; do
			awk -v port=$port '$1 == port { print $3 }' "$T/times" >"$R/now"
			cat "$R/now" >>"$R/datagram.$port"
			percentile 50 "$R/now" >>"$R/datagram.$port.50"
		done
	done
	add 'sealed knock to the command, p50, ms' - "$(ms 50 datagram.62201)" ''
	add 'sealed knock to the command, p99, ms' - "$(ms 99 datagram.62201)" ''
	add 'the same of a plain door of one port, p50, ms' - "$(ms 50 datagram.62202)" ''
	add 'the same of a plain door of one port, p99, ms' - "$(ms 99 datagram.62202)" ''
	parted 'sealed as a multiple of plain, p50' datagram.62201.50 datagram.62202.50 1.15
}

# What the number of clients changes.
row_keys() {
	local i n last

	[ -z "$NOISE" ] || return 0
	for ((i = 0; i < $(by 1 31); i++)); do
		for n in $(in_turn "$i" 1 100 10000); do
			sealed_door $n "command = $STAMP $T/sock %IP%"
			start_us new >>"$R/keys$n.start"
			until_true 10 no_daemon_left
			up new
			unsealed garbage
			# shellcheck disable=SC2086
			loaded keys$n.cpu $WORDS count="$(by 100000 1000000)"
			last=$(od -An -v -tx1 -w32 -N32 /dev/urandom | tr -d ' ')
			echo "last $last" >>"$T/keys"
			sealed "$last" 8000 5000 62201 >"$T/lines"
			in_a "$PROBE" reload "$T/sock" "$ME4" "$T/lines" "$PID" >>"$R/keys$n.reload"
			down
		done
	done
	for n in 1 100 10000; do
		add "daemon CPU, s per million garbage, full rate, keys: $n" - "$(spread "$R/keys$n.cpu")" ''
		add "exec to ready, keys: $n, ms" - "$(ms 50 keys$n.start)" ''
		add "SIGHUP to a new client's first opening, keys: $n, ms" - "$(ms 50 keys$n.reload)" ''
	done
	parted 'CPU per garbage with 10,000 keys as a multiple of that with 1' keys10000.cpu keys1.cpu 1.15
}

# first_knocks NAME.WHO SECONDS KNOCKS [rate=...]: a flood of first knocks from a
# million addresses, and honest knocks from B meanwhile. Appends to NAME.opened,
# .lost (per cent) and .cpu.
first_knocks() {
	local name=${1%.*} who=${1#*.} time=$2 knocks=$3 before after flood stages

	shift 3
	settle
	before=$(cpu)
	load src=100.64.0.1 sources=1000000 n=1000 ports=7000 time="$time" "$@" &
	flood=$!
	pause 0.3
	for ((k = 0; k < knocks; k++)); do
		knock_b -d 30 "$ME4" 7000 8000 9000
	done
	wait $flood
	SENT=$(field sent <"$T/gen")
	settle
	after=$(cpu)
	opens 10.77.0.3 first >>"$R/$name.opened.$who"
	if [ "$who" = new ] || [ -n "$NOISE" ]; then
		kill -USR1 "$PID"
		logged ' counters: '
		sed -n 's/.* packets \([0-9]*\), drops \([0-9]*\).*/\1 \2/p' "$LOG" | tail -n 1 |
			awk '{ printf "%.4f\n", 100 * $2 / ($1 + $2) }'
	else
		stages=$(count "$LOG" 'Stage 1')
		echo "$stages $SENT" | awk '{ printf "%.4f\n", 100 * (1 - $1 / $2) }'
	fi >>"$R/$name.lost.$who"
	echo "$before $after $SENT" |
		awk '{ printf "%.4f\n", ($2 - $1) / $3 / 1e3 }' >>"$R/$name.cpu.$who"
}

row_flood() {
	local knocks time rate who

	knocks=$(by 10 20)
	time=$(by 1 3)
	for ((i = 0; i < ROUNDS; i++)); do
		for rate in 50000 250000 10000000; do
			[ -z "$QUICK" ] || [ $rate != 250000 ] || continue
			for who in $(in_turn "$i" $DAEMONS); do
				config < <(doors 1)
				up "$who"
				[ "$who" = new ] && [ $i = 0 ] && rss_row before
				first_knocks f$rate."$who" "$time" "$knocks" rate=$rate
				[ "$who" = new ] && [ $i = 0 ] && rss_row "$rate"
				[ "$who" = old ] && rss >>"$R/rss$rate.old"
				down
			done
		done
	done
	for rate in 50000 250000 10000000; do
		name="$((rate / 1000)) kpps"
		[ $rate != 10000000 ] || name='full rate'
		[ -s "$R/f$rate.opened.new" ] || continue
		add "honest knocks opened, of $knocks, under first knocks, $name" \
			"$(spread "$R/f$rate.opened.old")" "$(spread "$R/f$rate.opened.new")" "$knocks" more
	done
	for rate in 250000 10000000; do
		[ -s "$R/f$rate.lost.new" ] || continue
		add "lost in the socket in that flood, $([ $rate = 250000 ] && echo '250 kpps' || echo 'full rate'), %" \
			"$(spread "$R/f$rate.lost.old")" "$(spread "$R/f$rate.lost.new")" \
			"$([ $rate = 250000 ] && echo 0.1)"
	done
	compared 'daemon CPU, s per million first knocks, full rate' f10000000.cpu 0.2
	compared 'daemon CPU, s per million first knocks, 50 kpps' f50000.cpu 0.8
}

# rss_row before|RATE: notes ours' memory, with and without the mapped ring.
rss_row() {
	local p

	for p in $(daemon_pids); do cat "/proc/$p/smaps"; done | awk '
		/^[0-9a-f]+-[0-9a-f]+ / { ring = /socket:/ }
		/^Rss:/ { all += $2; if (!ring) own += $2 }
		END { print all, own }' >"$R/rss.$1"
}

row_memory() {
	local who

	for who in $DAEMONS; do
		config < <(doors 1)
		up "$who"
		settle
		if [ "$who" = old ]; then rss >"$R/rssidle.old"; else rss_row idle; fi
		down
	done
	add 'resident memory idle, all processes, KiB' "$(median rssidle.old)" \
		"$(cut -d' ' -f1 "$R/rss.idle")" 1600
	add 'the same without the mapped ring, KiB' - "$(cut -d' ' -f2 "$R/rss.idle")" 500
	[ ! -s "$R/rss.10000000" ] || add 'resident after a million sources, KiB' \
		"$(spread "$R/rss10000000.old")" "$(cut -d' ' -f1 "$R/rss.10000000")" 'fixed bound'
}

# What is no first knock: noise to other ports, data, datagrams, egress.
row_noise() {
	local who all some noise

	all=$(by 150000 400000) some=$(by 20000 50000)
	for ((i = 0; i < ROUNDS; i++)); do
		for who in $(in_turn "$i" $DAEMONS); do
			config < <(doors 1)
			up "$who"
			noise="src=100.64.0.1 sources=1000000 ports=10000-60000 order=rand"
			# shellcheck disable=SC2086
			{
				loaded syn."$who" $noise count=$all
				loaded syn50."$who" $noise rate=50000 count=$some
				load src=10.77.0.2 ports=7000
				loaded synon."$who" $noise count=$all
				loaded synon50."$who" $noise rate=50000 count=$some
				load src=10.77.0.2 ports=9000
			}
			switches >"$T/switches"
			loaded ack."$who" src=100.64.0.1 sources=64 n=100000000 ports=443 \
				flags=A payload=1360 count="$all"
			loaded udp."$who" src=100.64.0.1 sources=64 n=100000000 ports=443 \
				proto=udp payload=1200 count="$all"
			settle
			echo $(($(switches) - $(cat "$T/switches"))) >>"$R/bulkwakes.$who"
			down
		done
	done
	compared 'daemon CPU, s per million noise SYNs, full rate' syn 0.12
	compared 'the same at 50 kpps' syn50 0.7
	compared 'the same with an attempt in progress, full rate' synon 0.12
	compared 'the same with an attempt in progress, 50 kpps' synon50 0.7
	compared 'daemon CPU, s per million data packets (ACK)' ack 0
	compared 'daemon CPU, s per million UDP packets' udp 0
	compared 'wake-ups in those two' bulkwakes 0
}

# cost NAME WORD...: seconds of the generator's own CPU per million packets;
# on a veth pair that holds the receiver's way to the packet socket.
cost() {
	local name=$1

	shift
	load src=100.64.0.1 sources=1000 n=1000000 time=10 count="$(by 100000 200000)" "$@"
	echo "$(field cpu <"$T/gen") $SENT" | awk '{ printf "%.4f\n", $1 / $2 * 1e6 }' >>"$R/$name"
}

# added NAME WHO BASE: writes the difference of the paired samples.
added() {
	paste "$R/$1.$2" "$R/$3" | awk '{ printf "%.4f\n", $1 - $2 }' >"$R/added.$1.$2"
}

# The kernel's part: the same packets without a daemon, and with it.
# kernel_pairs NAME WHO ROUNDS WORD...
kernel_pairs() {
	local name=$1 who=$2 rounds=$3

	shift 3
	for ((i = 0; i < rounds; i++)); do
		cost "base.$name.$who" "$@"
		up "$who" || return
		cost "$name.$who" "$@"
		down
	done
	added "$name" "$who" "base.$name.$who"
}

row_kernel() {
	local n who rounds i ports

	rounds=$(by 3 7)
	# Datagrams to ports that no door has, in between those of the doors.
	ports=$(seq -s, 21 6 65400)
	for n in 1 100 1000 10000; do
		[ -z "$QUICK" ] || [ $n = 1 ] || [ $n = 1000 ] || continue
		config < <(doors $n)
		for who in $(daemons_for $n); do
			kernel_pairs k$n "$who" "$rounds" ports="$ports" proto=udp order=rand
		done
		add "in-kernel CPU added, s per million packets, $n door$([ $n = 1 ] || echo s)" \
			"$(spread "$R/added.k$n.old")" "$(spread "$R/added.k$n.new")" \
			"$(case $n in 1) echo 0.25 ;; 10000) echo 0.4 ;; *) echo 0.3 ;; esac)"
	done
	config < <(doors 1)
	for who in $DAEMONS; do
		kernel_pairs probes "$who" "$rounds" ports=10000-60000 order=rand
	done
	compared 'in-kernel CPU added, s per million noise SYNs, idle' added.probes 0.16
	for ((i = 0; i < rounds; i++)); do
		for who in $(in_turn "$i" $DAEMONS); do
			egress_cost "out0.$who"
			up "$who"
			egress_cost "out.$who"
			down
		done
	done
	for who in $DAEMONS; do added out "$who" "out0.$who"; done
	compared 'in-kernel CPU added, s per million outgoing packets' added.out ''
}

egress_cost() {
	in_s taskset -c 0 "$GEN" if=eth0 qdisc=1 src="$ME4" dst=10.77.0.2 ports=443 flags=A \
		payload=1000 n=100000000 count="$(by 50000 100000)" >"$T/gen"
	echo "$(field cpu <"$T/gen") $(field sent <"$T/gen")" |
		awk '{ printf "%.4f\n", $1 / $2 * 1e6 }' >>"$R/$1"
}

# What the kernel alone takes for such a door: sets with a timeout.
row_nft_only() {
	local i

	in_s nft delete table netdev quiet
	in_s nft -f - <<-EOT
	table netdev quiet {
		chain in {
			type filter hook ingress device eth0 priority 0; policy accept;
		}
	}
	table inet floor {
		set s1 { type ipv4_addr; size 1000000; flags dynamic,timeout; timeout 60s; }
		set s2 { type ipv4_addr; size 1000000; flags dynamic,timeout; timeout 60s; }
		set s3 { type ipv4_addr; size 1000000; flags dynamic,timeout; timeout 600s; }
		chain in {
			type filter hook prerouting priority raw; policy accept;
			udp dport 2222 ip saddr @s3 accept
			udp dport 2222 drop
			tcp flags & (syn | ack) != syn return
			tcp dport 7000 add @s1 { ip saddr } drop
			tcp dport 8000 ip saddr @s1 add @s2 { ip saddr } drop
			tcp dport 9000 ip saddr @s2 add @s3 { ip saddr } drop
			ip saddr 100.64.0.0/10 drop
		}
	}
	EOT
	for ((i = 0; i < $(by 1 3); i++)); do
		in_a "$PROBE" rule "/proc/$S/ns/net" "$ME4" 7000,8000,9000 10 "10.78.$((i + 50)).1" >>"$R/floor.rule"
		cost floor.first ports=7000 sources=300000
	done
	in_s nft delete table inet floor
	in_s nft -f - <<-EOT
	table inet floor {
		chain in {
			type filter hook prerouting priority raw; policy accept;
			ip saddr 100.64.0.0/10 drop
		}
	}
	EOT
	for ((i = 0; i < $(by 1 3); i++)); do
		cost floor.base ports=7000 sources=300000
	done
	paste "$R/floor.first" "$R/floor.base" | awk '{ printf "%.4f\n", $1 - $2 }' >"$R/floor.added"
	in_s nft delete table inet floor
	in_s nft delete table netdev quiet
	no_answers
	add 'nftables alone: last knock to open, p50, ms' - "$(ms 50 floor.rule)" ''
	add 'nftables alone: CPU, s per million first knocks' - "$(spread "$R/floor.added")" ''
}

# start_us WHO CONFIG-FILE: exec to "listening on", microseconds.
start_us() {
	local cmd=("$KNOCKD")

	[ "$1" = new ] || cmd=("${OLD_KNOCKD[@]}")
	in_s "$PROBE" start 'listening on' "${cmd[@]}" -v -i eth0 -c "$T/knockd.conf" -p /run/bench.pid
}

row_start() {
	local n who

	for n in 1 100 1000 10000; do
		config < <(doors $n)
		for ((i = 0; i < $(by 3 7); i++)); do
			for who in $(daemons_for $n); do
				start_us "$who" >>"$R/start$n.$who"
				until_true 10 no_daemon_left
			done
		done
		timed "exec to ready, $n door$([ $n = 1 ] || echo s), ms" start$n \
			"$(case $n in 1) echo 15 ;; 10000) echo 35 ;; *) echo 20 ;; esac)" 50
	done
}

row_idle() {
	local who before

	for who in $DAEMONS; do
		config < <(doors 1)
		up "$who"
		settle
		before=$(switches)
		pause "$(by 1 5)"
		echo $(($(switches) - before)) >"$R/idle.$who"
		down
	done
	counted 'wake-ups while idle' idle 0
}

# calls_of COMMAND...: the daemon's system calls while it runs, a name a line, into
# $T/calls. Each call where it begins; neither signals nor exits.
calls_of() {
	local tracer pids

	settle
	pids=$(daemon_pids | sed 's/^/-p /' | tr '\n' ' ')
	# shellcheck disable=SC2086
	strace -q -o "$T/strace" $pids &
	tracer=$!
	until_true 10 traced
	"$@" >/dev/null
	settle
	kill -INT $tracer
	wait $tracer 2>/dev/null
	sed -E 's/^[0-9]+ +//; /^(<\.\.\.|---|\+\+\+)/d; s/\(.*//' "$T/strace" >"$T/calls"
}

row_syscalls() {
	local who n=20

	command -v strace >/dev/null || return 0
	for who in $DAEMONS; do
		config < <(doors 1 "command = $STAMP $T/sock %IP%")
		up "$who"
		settle
		calls_of in_a "$PROBE" knock "$T/sock" "$ME4" 7000,8000,9000 $n
		wc -l <"$T/calls" | awk -v n=$n '{ printf "%.1f\n", $1 / n }' >"$R/syscalls.$who"
		sort "$T/calls" | uniq -c | sort -rn >"$T/calls.$who"
		down
	done
	counted 'system calls of the daemon per knock (3 packets)' syscalls 14
}

traced() {
	local p

	for p in $(daemon_pids); do
		grep -q '^TracerPid:[^0-9]0$' "/proc/$p/status" && return 1
	done
	return 0
}

# with_libs PROGRAM...: bytes of the programs and of the libraries they load.
with_libs() {
	local p

	for p; do
		readlink -f "$p"
		ldd "$p" 2>/dev/null |
			sed -n 's/.*=> \(\/[^ ]*\).*/\1/p; s/^[^=]*[[:blank:]]\(\/[^ ]*\) (.*/\1/p'
	done | sort -u | xargs cat | wc -c
}

row_size() {
	local old=-

	! have_old || old=$(number "$(($("${OLD_KNOCKD[@]:0:2}" bash -c "$(declare -f with_libs)
		with_libs \"\$@\"" with_libs "$OLD_DIR/usr/sbin/knockd" "$OLD_DIR/usr/bin/knock") / 1024))")
	# without its symbols, as a package has it; knock is the same file
	strip -o "$T/stripped" "$KNOCKD"
	add 'knockd + knock and all they need at run time, KiB' "$old" \
		"$(number $(($(with_libs "$T/stripped") / 1024)))" 160
}

# A thousand addresses knock within a second.
row_thousand() {
	local who

	for ((i = 0; i < ROUNDS; i++)); do
		for who in $(in_turn "$i" $DAEMONS); do
			config < <(doors 1 "command = $STAMP $T/sock %IP%")
			up "$who"
			# shellcheck disable=SC2086
			in_a "$PROBE" many "$T/sock" 1000 "$GEN" if=s0 src=10.88.0.1 dst="$ME4" \
				sources=1000 ports=7000,8000,9000 rate=3000 >"$T/many"
			awk '{ print $1 == "-" ? "-" : $1 / 1000 }' "$T/many" >>"$R/many.$who"
			down
		done
	done
	compared '1,000 knocks in a second: the last command, s' many 1.05
}

# --- growth: what a figure does when a number grows -----------------------------

GROWTH=$T/growth	# lines of: what|of what|value|figure
: >"$GROWTH"

grown() {
	printf '%s|%s|%s|%s\n' "$@" >>"$GROWTH"
	tail -n 1 "$GROWTH" | tr '|' '\t' >&2
}

row_growth() {
	local n ports

	[ -z "$QUICK" ] || return 0
	for n in 1 100 10000; do
		config < <(doors $n "command = $STAMP $T/sock %IP%")
		up new
		rm -f "$R/g".*
		in_a "$PROBE" knock "$T/sock" "$ME4" 7000,8000,9000 25 >"$R/g.latency"
		grown 'last knock to command, p50, ms' doors $n "$(median g.latency 1000)"
		loaded g.noise src=100.64.0.1 sources=1000000 n=1000 ports=10001 time=1
		grown 'daemon CPU, s per million noise SYNs' doors $n "$(median g.noise)"
		loaded g.first src=100.64.0.1 sources=1000000 n=1000 ports=7000 time=1
		grown 'daemon CPU, s per million first knocks' doors $n "$(median g.first)"
		down
	done
	for n in 1 3 10 32; do
		ports=$(seq -s, 7000 100 $((6900 + n * 100)))
		config <<-EOT
		[first]
		sequence = $ports
		seq_timeout = 300
		tcpflags = syn
		EOT
		up new
		rm -f "$R/g".*
		loaded g.hits src=10.88.0.1 sources=20000 ports="$ports" n=1 time=5
		grown 'daemon CPU, s per million hits of whole knocks' 'ports a sequence' $n "$(median g.hits)"
		down
	done
	for n in 1 1000 100000 1000000; do
		config < <(doors 1)
		up new
		rm -f "$R/g".*
		loaded g.fill src=100.64.0.1 sources=$n ports=7000
		loaded g.hit src=100.64.0.1 sources=$n n=100000 ports=7000 time=1
		grown 'daemon CPU, s per million first knocks' 'sources with attempts' $n "$(median g.hit)"
		down
	done
	for n in 0 100 10000; do
		config < <(doors 1 "command = $STAMP $T/sock %IP%" 'cmd_timeout = 3600' 'stop_command = /bin/true')
		up new
		rm -f "$R/g".*
		[ $n = 0 ] || in_a "$PROBE" many "$T/sock" $n "$GEN" if=s0 src=10.88.0.1 dst="$ME4" \
			sources=$n ports=7000,8000,9000 rate=1500 >"$T/many"
		settle
		in_a "$PROBE" knock "$T/sock" "$ME4" 7000,8000,9000 25 >"$R/g.latency"
		grown 'last knock to command, p50, ms' 'open grants' $n "$(median g.latency 1000)"
		grown 'resident memory, KiB' 'open grants' $n "$(rss)"
		for p in $(daemon_pids); do kill -KILL "$p"; done
		wait "$PID" 2>/dev/null
		in_s rm -f /run/bench.state /run/bench.pid
		until_true 10 no_daemon_left
	done
}

# --- what does not depend on the machine ----------------------------------------

# code_size: bytes of machine code by the parts of knockd.c.
code_size() {
	local o=$T/knockd.o

	"$(command -v musl-gcc || echo cc)" -std=c11 -D_GNU_SOURCE -Os -ffunction-sections \
		-c -o "$o" knockd.c || return 0
	{
		awk '/^\/\* -+ / { part = $0; gsub(/^\/\* -+ | -+ \*\/$/, "", part) }
			/^[a-z].*\(/ && !/;$/ { f = $0; sub(/\(.*/, "", f); sub(/.*[ *]/, "", f); print "P", f, part }' knockd.c
		nm -S "$o" | awk '$3 ~ /^[tT]$/ { print "S", $4, $2 }'
	} | awk '
		function hex(s, n, i) {
			for (i = 1; i <= length(s); i++)
				n = n * 16 + index("0123456789abcdef", substr(s, i, 1)) - 1
			return n
		}
		$1 == "P" { f = $2; $1 = $2 = ""; sub(/^ +/, ""); if (!(f in part)) part[f] = $0; next }
		{ sub(/\..*/, "", $2); p = ($2 in part) ? part[$2] : "other"; if (!(p in size)) order[++n] = p; size[p] += hex($3) }
		END { for (i = 1; i <= n; i++) printf "%s|%d\n", order[i], size[order[i]] }' | sort -t'|' -k2 -rn
}

# instructions: of the cases of bench_hotpath, by callgrind; beside them what
# the report that is there already says.
instructions() {
	local c a b

	[ -x build/hotpath ] && command -v valgrind >/dev/null || return 0
	for c in $(build/hotpath); do
		a=$(callgrind "$c" 1000)
		b=$(callgrind "$c" 11000)
		echo "$c|$(((b - a) / 10000))|$(awk -F'[| ]+' -v c="$c" '$2 == c { print $3 }' docs/bench.md 2>/dev/null)"
	done
}

callgrind() {
	valgrind --tool=callgrind --callgrind-out-file=/dev/null build/hotpath "$@" 2>&1 |
		sed -n 's/.*Collected *: *\([0-9]*\).*/\1/p'
}

# --- the report --------------------------------------------------------------------

# table: the lines of a file with | between, as Markdown; the head is given.
table() {
	local head=$1

	shift
	{ echo "$head"; echo "${head//[^|]/}" | sed 's/|/-|/g; s/$/-/'; cat "$@"; } |
		sed 's/|/ | /g; s/^/| /; s/$/ |/'
}

report() {
	local cpu

	cpu=$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)
	cat <<-EOT
	# Bench

	Made by \`make bench\`$([ -z "$QUICK" ] || echo ' (this time: bench-quick)'), $(date -u +%Y-%m-%d), Linux $(uname -r), $(nproc) CPUs${cpu:+ ($cpu)}.
	knockd 0.8 is Debian's package. Both daemons ran in turn, on the same packets
	over a veth pair; a figure is the median of the runs (or p99), in brackets an
	interval that misses it with a probability of 10 %, whatever the distribution;
	in square brackets the smallest and the largest of too few runs for that. "Ratio"
	is the median of 0.8 divided by ours, run by run. A target is met if the whole
	interval is on its right side, open if it is on both sides. Absolute figures
	drift from run to run: compare within one table. \`make bench-noise\` prints what
	the ratios are when both columns are ours. "s per
	million" is CPU seconds per million packets, over all processes of the daemon,
	from /proc/PID/schedstat; "in-kernel" is what the sender of the packets pays
	more when the daemon runs, for on a veth pair the sender does the receiver's
	work up to the packet socket.

	![last knock to command; honest knocks under a flood](bench.svg)

	EOT
	table 'figure|0.8|ours|ratio|target|met' "$TABLE"
	if [ -s "$GROWTH" ]; then
		printf '\n## Growth\n\nOurs alone; the figure at each value of what grows.\n\n'
		awk -F'|' '{ k = $1 "|" $2; if (!(k in v)) order[++n] = k
			v[k] = v[k] (v[k] == "" ? "" : ", ") $3 ": " $4 }
			END { for (i = 1; i <= n; i++) print order[i] "|" v[order[i]] }' "$GROWTH" |
			table 'figure|what grows|values'
	fi
	if [ -s "$T/size" ]; then
		printf '\n## Code\n\nBytes of machine code by the parts of knockd.c (x86-64: -Os); the rest of the\nfile is libc, tables and text.\n\n'
		table 'part|bytes' "$T/size"
	fi
	if [ -s "$T/instructions" ]; then
		printf '\n## Instructions\n\nOf the hot path, per case, counted by callgrind; they do not depend on the\nmachine. "Before" is the last report.\n\n'
		table 'case|instructions|before' "$T/instructions"
	fi
	if [ -s "$T/calls.new" ]; then
		printf '\n## System calls\n\nOf ours in 20 knocks: %s.\n' \
			"$(awk '{ printf "%s%s %s", (NR > 1 ? ", " : ""), $2, $1 }' "$T/calls.new")"
	fi
}

# svg: left, the share of knocks whose command has begun after so many ms; right,
# honest knocks opened under floods. Blue is ours, red 0.8.
svg() {
	awk -v quick="$QUICK" -v dir="$R" '
	function samples(file, v,  n) {
		n = 0
		while ((getline line < (dir "/" file)) > 0)
			if (line != "-") v[++n] = line / 1000
		close(dir "/" file)
		return n
	}
	function sort(v, n,  i, j, t) {
		for (i = 2; i <= n; i++) {
			t = v[i]
			for (j = i - 1; j > 0 && v[j] > t; j--) v[j + 1] = v[j]
			v[j + 1] = t
		}
	}
	function x_of(ms) { return ms > 100 ? 360 : 60 + 100 * log(ms / 0.1) / log(10) }
	function text(x, y, s, more) {
		printf "<text x=\"%.1f\" y=\"%.1f\" %s>%s</text>\n", x, y, more, s
	}
	function curve(file, color,  n, v, i, p) {
		n = samples(file, v)
		if (!n) return
		sort(v, n)
		p = sprintf("M%.1f,230", x_of(v[1]))
		for (i = 1; i <= n; i++)
			p = p sprintf(" L%.1f,%.1f", x_of(v[i]), 230 - 170 * i / n)
		printf "<path d=\"%s\" fill=\"none\" stroke=\"%s\" stroke-width=\"2\"/>\n", p, color
	}
	function median(file,  v, n) {
		n = samples(file, v)
		sort(v, n)
		return n ? v[int((n + 1) / 2)] * 1000 : -1
	}
	function bar(x, value, color) {
		if (value < 0) return
		printf "<rect x=\"%.1f\" y=\"%.1f\" width=\"30\" height=\"%.1f\" fill=\"%s\"/>\n",
			x, 230 - 170 * value / most, 170 * value / most + 0.5, color
		text(x + 15, 224 - 170 * value / most, value, "text-anchor=\"middle\"")
	}
	BEGIN {
		most = quick ? 10 : 20
		ours = "#1b6ca8"; old = "#c0392b"
		print "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 760 290\" font-family=\"sans-serif\" font-size=\"12\">"
		print "<rect width=\"760\" height=\"290\" fill=\"white\"/>"
		text(60, 28, "last knock to the command, share of knocks", "font-size=\"14\"")
		text(430, 28, "honest knocks opened under a flood", "font-size=\"14\"")
		for (i = 0; i <= 4; i++) {
			y = 230 - 42.5 * i
			printf "<path d=\"M60,%.1f H360 M430,%.1f H730\" stroke=\"#ddd\"/>\n", y, y
			text(54, y + 4, i * 25 "%", "text-anchor=\"end\"")
		}
		for (ms = 0.1; ms < 101; ms *= 10)
			text(x_of(ms), 248, ms " ms", "text-anchor=\"middle\"")
		curve("latency.old", old)
		curve("latency.new", ours)
		split("50000 250000 10000000", rate); split("50 kpps|250 kpps|full rate", label, "|")
		for (i = 1; i <= 3; i++) {
			x = 445 + (i - 1) * 100
			bar(x, median("f" rate[i] ".opened.old"), old)
			bar(x + 34, median("f" rate[i] ".opened.new"), ours)
			text(x + 32, 248, label[i], "text-anchor=\"middle\"")
		}
		text(424, 64, most, "text-anchor=\"end\"")
		printf "<rect x=\"300\" y=\"262\" width=\"12\" height=\"12\" fill=\"%s\"/>", ours
		text(318, 272, "knockd", "")
		printf "<rect x=\"390\" y=\"262\" width=\"12\" height=\"12\" fill=\"%s\"/>", old
		text(408, 272, "knockd 0.8", "")
		print "</svg>"
	}'
}

# noise: of the ratios that should be 1: how many have 1 in their interval, and how
# far off the medians are.
noise() {
	awk -F'|' '$4 ~ /[0-9]/ {
		n++
		x = $4; sub(/ .*/, "", x)
		d = x > 1 ? x - 1 : 1 - x
		sum += d
		if (d > most) most = d
		if (match($4, /[(].*[)]/)) {
			split(substr($4, RSTART + 1, RLENGTH - 2), b, /[.][.]/)
			with++
			if (b[1] <= 1 && b[2] >= 1) hold++
		}
	}
	END { if (n) printf "noise: %d ratios, off by %.0f %% on average, %.0f %% at most; %d of %d intervals have 1 in them\n",
		n, 100 * sum / n, 100 * most, hold, with }' "$TABLE" | tee -a build/bench-noise.md
}

# --- all of it ---------------------------------------------------------------------

build || exit 1
OLD_KNOCKD=()
[ ! -x "$OLD_DIR/usr/sbin/knockd" ] || old_or_skip
DAEMONS=new
! have_old || DAEMONS='old new'
[ -z "$NOISE" ] || { OLD_KNOCKD=("$KNOCKD"); DAEMONS='old new'; }
have_old || echo "bench: no knockd 0.8 in $OLD_DIR: its columns stay empty" >&2
network
for row in latency rule set flood sealed sealed_time keys memory noise kernel nft_only start idle syscalls size thousand growth; do
	[ -z "$ONLY" ] || [[ $ONLY == *" $row "* ]] || continue
	begin=$SECONDS
	"row_$row"
	echo "bench: $row took $((SECONDS - begin)) s" >&2
done
[ -n "$ONLY$NOISE" ] || code_size >"$T/size"
[ -n "$ONLY$NOISE" ] || instructions >"$T/instructions"
if [ -n "$NOISE" ]; then
	table 'figure|A|the same A|ratio|target|met' "$TABLE" | tee build/bench-noise.md
	noise
elif [ -z "$ONLY" ]; then
	report >"$OUT/bench.md"
	svg >"$OUT/bench.svg"
	cat "$OUT/bench.md"
else
	report
fi
