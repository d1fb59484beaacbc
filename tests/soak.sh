#!/usr/bin/env bash
# The long tests, at full size: scans, floods, kills and reloads of the real
# daemon, and a million scans of the matcher alone. Prints one table; ends with
# `N passed, N failed`, exit status 1 if any failed. Takes about two hours.
#
#	tests/soak.sh [PART...]		parts: scans sweeps browsing floods
#					schedules reloads matcher
#
# SWEEPS=1000 is the number of random sweeps of all ports, SCHEDULES=10000 that of
# random schedules of kills, SEED=1 the first one's seed, RELOADS=1000 that of
# reloads.
# What is set here is read in lib.bash and packets.bash, and the other way round.
# shellcheck disable=SC1091,SC2034,SC2153
set -u
cd "$(dirname "$0")/.." || exit 1

BATS_TEST_DIRNAME=$PWD/tests
BATS_TEST_TMPDIR=$(mktemp -d) || exit 1
skip() { echo "soak: $*" >&2; exit 1; }
. tests/lib.bash
. tests/packets.bash
. tests/rogue.bash
. tests/reloads.bash
SWEEPS=${SWEEPS:-1000} SCHEDULES=${SCHEDULES:-10000} SEED=${SEED:-1} RELOADS=${RELOADS:-1000}

finish() {
	net_down
	rm -rf "$T"
}
trap finish EXIT
trap 'exit 1' INT TERM

TABLE=$T/table PASSED=0 FAILED=0

# result WHAT RUNS FIGURE WANTED: one line of the table.
result() {
	local verdict=ok

	[ "$3" = "$4" ] || verdict=FAILED
	[ $verdict = ok ] && PASSED=$((PASSED + 1)) || FAILED=$((FAILED + 1))
	printf '%-58s %8s  %-22s %s\n' "$1" "$2" "$3" "$verdict" | tee -a "$TABLE"
}

# scanned WHAT RUNS COMMAND...: no guarded door opens; the unguarded ones show
# what the scan would have done.
scanned() {
	local what=$1 runs=$2 guarded bare i

	shift 2
	guarded=$(doors_opened "$GUARDED")
	bare=$(doors_opened 'bare_.*')
	for ((i = 0; i < runs; i++)); do "$@"; done
	mark
	result "$what (unguarded: $(($(doors_opened 'bare_.*') - bare)))" "$runs" \
		"$(($(doors_opened "$GUARDED") - guarded)) opened" '0 opened'
}

# two COMMAND: itself and a random sweep from the same address.
two() {
	from 10.77.0.2 ports=1-65535 order=shuffle &
	"$@"
	wait $!
}

soak_scans() {
	local r f KNOCKD=$LOUD

	scan_conf
	start_knockd -i eth0
	if command -v nmap >/dev/null; then
		scanned 'nmap -r' 20 nmap_a -sS -r -p- "$ME4"
		scanned 'nmap -r, IPv6' 10 nmap_a -6 -sS -r -p- "$ME6"
		scanned 'nmap -sT -r' 5 nmap_a -sT -r -p- "$ME4"
		scanned 'nmap, random order' 30 nmap_a -sS -p- "$ME4"
		for f in F N X M A; do
			scanned "nmap -s$f -r" 5 nmap_a -s$f -r -p- "$ME4"
		done
		scanned 'nmap -r over 10 seconds' 1 nmap_a -sS -r -p6500-9500 --max-rate 300 "$ME4"
		scanned 'nmap -sU -r' 2 nmap_a -sU -r -p6500-9500 --min-rate 3000 "$ME4"
	fi
	if command -v masscan >/dev/null; then
		for r in 10000 30000 100000; do
			scanned "masscan at $((r / 1000)) kpps" 5 masscan_a --adapter-ip 10.77.0.20 \
				--rate $r -p1-65535
			scanned "masscan of UDP at $((r / 1000)) kpps" 2 masscan_a \
				--adapter-ip 10.77.0.20 --rate $r -pU:1-64999
		done
	fi
	for r in 1000 20000 1000000; do
		scanned "ascending sweep at $r packets a second" 3 from 10.77.0.2 ports=5000-10000 rate=$r
		scanned "descending sweep at $r packets a second" 3 from 10.77.0.2 \
			ports=5000-10000 order=desc rate=$r
		scanned "ascending UDP sweep at $r packets a second" 3 from 10.77.0.2 \
			ports=5000-10000 proto=udp rate=$r
	done
	for f in F - FPU SF A SA FA; do
		scanned "ascending sweep, flags $f" 10 from 10.77.0.2 ports=1-65535 flags=$f
		scanned "random sweep, flags $f" 30 from 10.77.0.2 ports=1-65535 order=shuffle flags=$f
	done
	scanned 'two scanners, one address: random' 20 two from 10.77.0.2 ports=1-65535 order=shuffle
	scanned 'two scanners, one address: ascending' 20 two from 10.77.0.2 ports=1-65535
	scanned 'two scanners, one address: descending' 20 two from 10.77.0.2 ports=1-65535 order=desc
	stop_knockd TERM
}

# All ports in random order, from so many addresses, at the highest rate.
soak_sweeps() {
	local KNOCKD=$LOUD

	scan_conf
	start_knockd -i eth0
	scanned "$SWEEPS sweeps in random order" 1 from 100.70.0.1 ports=1-65535 order=shuffle \
		sources="$SWEEPS" time=3600 seed=1
	scanned "$((SWEEPS / 10)) sweeps of UDP in random order" 1 from 100.71.0.1 ports=1-64999 \
		proto=udp order=shuffle sources=$((SWEEPS / 10)) time=3600 seed=2
	scanned "$((SWEEPS / 10)) sweeps in random order, IPv6" 1 from fd99::1 ports=1-65535 \
		order=shuffle sources=$((SWEEPS / 10)) time=3600 seed=3
	stop_knockd TERM
}

soak_browsing() {
	local f a i g KNOCKD=$LOUD

	scan_conf
	start_knockd -i eth0
	browsing >"$T/script"
	for f in 4 6; do
		[ $f = 4 ] && a=10.77.0.3 || a=fd77::3
		gen_b src=$a dst="$(me $f)" script="$T/script" n=1 & g=$!
		for ((i = 1; i <= 100; i++)); do
			running $g || { gen_b src=$a dst="$(me $f)" script="$T/script" & g=$!; }
			knock_b -d $((i % 3 * 10)) "$(me $f)" 7000 8000 9000
		done
		mark
		result "knocks while browsing, IPv$f" 100 "$(opens $a openSSH) opened" '100 opened'
		kill $g 2>/dev/null
		wait $g
	done
	stop_knockd TERM
}

# flooded WHAT ADDR WORD...: 10 seconds, with 20 honest knocks from B.
flooded() {
	local what=$1 addr=$2 before opened i d before_drops

	shift 2
	before=$(opens 10.77.0.3 openSSH)
	before_drops=$(drops)
	flood "$addr" "$@"
	for ((i = 0; i < 20; i++)); do
		case $((i % 3)) in 0) d=0 ;; 1) d=50 ;; *) d=200 ;; esac
		knock_b -d $d "$ME4" 7000 8000 9000
		pause 0.2
	done
	wait "$FLOOD"
	mark
	opened=$(($(opens 10.77.0.3 openSSH) - before))
	result "$what (packets dropped: $(($(drops) - before_drops)), $(rss) KiB)" 20 \
		"$opened opened" '20 opened'
}

soak_floods() {
	local r a w lines

	flood_conf
	start_knockd -i eth0
	no_answers
	FLOOD_TIME=10
	for r in 20000 100000 10000000; do
		for a in 100.64.0.1 fd99::1; do
			for w in 7000 8000 7000,8000; do
				flooded "flood of $w from $a at $r" $a ports=$w rate=$r
			done
		done
	done
	flooded 'first knocks from behind the same address' 10.77.0.3 sources=1 ports=7000 rate=20000
	flooded 'noise SYNs' 100.64.0.1 ports=10000-60000 order=rand
	flooded 'data packets' 100.64.0.1 sources=64 ports=443 flags=A payload=1360
	lines=$(wc -l <"$LOG")
	result "lines in the log after $((21 * 10)) seconds of flood: $lines" 1 \
		"$([ "$lines" -lt 40000 ] && echo bounded)" bounded
	result "KiB resident after all floods: $(rss)" 1 \
		"$([ "$(rss)" -le 20480 ] && echo bounded)" bounded
	until_true 60 asleep
	result 'wake-ups afterwards' 1 "$(asleep && echo 0)" 0
	stop_knockd TERM
}

# asleep: no process of the daemon has run for two seconds.
asleep() {
	local n

	n=$(switches)
	pause 2
	[ "$(switches)" = "$n" ]
}

# scheduled WHAT MODE [ACTION]: tests/schedules.bash, see there. What it prints of a
# schedule that failed is kept.
scheduled() {
	local what=$1 out

	shift
	out=$(mktemp "${TMPDIR:-/tmp}/soak.XXXXXX")
	if schedules "$@" >"$out" 2>&1; then
		result "$what" "$(grep -oE '[0-9]+ (schedules|kills|faults)' "$out" | head -n 1 | cut -d' ' -f1)" \
			'none left open' 'none left open'
		rm "$out"
	else
		result "$what (see $out)" 1 failed 'none left open'
	fi
}

soak_schedules() {
	local m first=$SEED half=$(((SCHEDULES + 1) / 2)) p

	command -v strace >/dev/null || skip 'strace is not installed'
	for m in opening ending starting sealing; do
		FULL=1 scheduled "a kill at each system call: $m" $m kills
	done
	for m in opening sniffing reloading ending starting sandboxing; do
		FULL=1 scheduled "each system call fails with each error: $m" $m faults
	done
	# Two at a time; most of the time they wait.
	SCHEDULES=$half SEED=$first scheduled "random schedules from seed $first" random &
	p=$!
	SCHEDULES=$((SCHEDULES - half)) SEED=$((first + half)) \
		scheduled "random schedules from seed $((first + half))" random
	wait $p
	# The other one counted in a process of its own.
	if grep -q "^random schedules from seed $first .* ok$" "$TABLE"; then
		PASSED=$((PASSED + 1))
	else
		FAILED=$((FAILED + 1))
	fi
}

soak_reloads() {
	reloads "$RELOADS"
	result 'reloads, a third bad: the knock after each opens' "$RELOADS" "$? failed" '0 failed'
	result 'hits at another door meanwhile' $((RELOADS * 10)) "${LOST:-all} lost" '0 lost'
	result "both processes grew by so many KiB: ${GREW:-}" "$RELOADS" \
		"$([ "${GREW% *}" -le 64 ] && [ "${GREW#* }" -le 64 ] && echo bounded)" bounded
	stop_knockd TERM
}

# A million simulated scans of all ports, and what else the unit tests do with the
# matcher alone.
soak_matcher() {
	cc -std=c11 -D_GNU_SOURCE -O2 -w -I. -o build/unit-fast tests/unit.c || return
	SOAK=1 build/unit-fast 'scans: ' >"$T/matcher" 2>&1
	sed -n 's/^# //p' "$T/matcher"
	result 'simulated scans: tests' "$(grep -c '^ok' "$T/matcher")" \
		"$(grep -c '^not ok' "$T/matcher") failed" '0 failed'
}

[ "$KNOCKD" != "$ROOT/knockd" ] || make -s knockd knock || exit 1
mkdir -p build
cc -O2 -o build/gen tests/gen.c || exit 1
# Where openings are counted by their lines: no line is left out.
LOUD=$T/knockd
cc -std=c11 -O2 -D_GNU_SOURCE -DLINES_PER_SECOND=1000000 -o "$LOUD" knockd.c knock.c || exit 1
net_up
[ $# -gt 0 ] || set -- scans sweeps browsing floods schedules reloads matcher
for part; do
	"soak_$part"
done
echo "$PASSED passed, $FAILED failed"
[ "$FAILED" = 0 ]
