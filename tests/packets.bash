# shellcheck shell=bash disable=SC2034
# What the packet, scan, flood and differential tests share beside lib.bash:
# the generator, and sending many cases before asking once what came of them.

GEN=${GEN:-$ROOT/build/gen}
ME4=10.77.0.1 ME6=fd77::1

need_gen() {
	[ -x "$GEN" ] || skip "build/gen is not built"
}

# build_loud: a daemon that logs every line about a door, and not 20 a second, for
# tests with many openings at once; in setup_file. use_loud: in setup.
build_loud() {
	(cd "$ROOT" && cc -std=c11 -O2 -D_GNU_SOURCE -DLINES_PER_SECOND=1000000 \
		-o "$BATS_FILE_TMPDIR/knockd" knockd.c knock.c)
}

use_loud() {
	[ "$KNOCKD" != "$ROOT/knockd" ] || KNOCKD=$BATS_FILE_TMPDIR/knockd
}

# gen_a WORD...: packets from A straight into S's eth0; gen_b: from B, by way
# of the bridge.
gen_a() { in_a "$GEN" if=s0 "$@" >/dev/null; }
gen_b() { in_b "$GEN" if=eth0 "$@" >/dev/null; }

# me FAMILY: the address that a knock of this family goes to.
me() {
	[ "$1" = 6 ] && echo "$ME6" || echo "$ME4"
}

# from ADDR WORD...: packets with this sender to S.
from() {
	local f=4

	[[ $1 != *:* ]] || f=6
	gen_a src="$1" dst="$(me $f)" "${@:2}"
}

# opens ADDR DOOR: how often the door has opened for it up to now.
opens() {
	count "$LOG" "[] ]$1: $2: OPEN SESAME\$"
}

# doors_opened REGEX: how often the doors have opened for anybody.
doors_opened() {
	count "$LOG" "[] ][0-9a-f.:]+: ($1): OPEN SESAME\$"
}

# The cases of a test: each sends from an address of its own, all in one run
# of the generator. A case has a door, a name and the times it should open;
# the lines that follow hold words for the generator. A line that begins with
# @2 is sent in the second phase, and so on. $FAMILY: 4 (the default) or 6.
CASES=0

# case_is TIMES DOOR NAME LINE...
case_is() {
	local addr me phase record line

	CASES=$((CASES + 1))
	addr=10.88.$((CASES / 250)).$((CASES % 250 + 1)) me=$ME4
	if [ "${FAMILY:-4}" = 6 ]; then
		printf -v addr 'fd88::%x' "$CASES"
		me=$ME6
	fi
	printf -v record '%s\t' "$1" "$2" "$addr"
	echo "$record$3" >>"$T/cases"
	shift 3
	for line; do
		phase=1
		[[ $line != @* ]] || { phase=${line%% *} line=${line#* }; }
		echo "${phase#@} src=$addr dst=$me $line" >>"$T/script"
	done
}

yes() { case_is 1 "$@"; }
no() { case_is 0 "$@"; }

# both yes|no ...: the same case in IPv4 and in IPv6.
both() {
	FAMILY=4 "$@"
	FAMILY=6 "$@"
}

# send_cases MS: all packets of the cases up to now, MS between two phases.
send_cases() {
	sort -s -n -k1,1 "$T/script" | awk -v ms="$1" '
		NR > 1 && $1 != last && ms {
			print "src=::1 dst=::1 sources=0 wait=" ms
		}
		{ last = $1; sub(/^[0-9]+ /, ""); print }' >"$T/packets"
	gen_a rate=20000 script="$T/packets"	# a busy machine must keep up
	: >"$T/script"
}

# verdict [MS]: sends, waits until all has been dealt with, and compares.
verdict() {
	send_cases "${1:-0}"
	mark
	awk -F '\t' '
	NR == FNR {
		n = split($0, word, " ")
		if ($0 ~ /: OPEN SESAME$/)
			opened[word[n - 3] word[n - 2]]++
		next
	}
	opened[$3 ":" $2 ":"] + 0 != $1 {
		printf "%s: %s opened %d times for %s, not %d\n",
			$4, $2, opened[$3 ":" $2 ":"], $3, $1
		bad = 1
	}
	END { exit bad }' "$LOG" "$T/cases" || return 1
	: >"$T/cases"
}

daemon_pids() {
	pids_in "$S" "$(basename "$KNOCKD")"
}

# status_sum FIELD: the sum of a field of /proc/PID/status over the daemon's
# processes, for fields that match the pattern.
status_sum() {
	local p

	for p in $(daemon_pids); do
		cat "/proc/$p/status"
	done | awk -v field="$1" '$1 ~ field { sum += $2 } END { print sum + 0 }'
}

# rss: resident memory of the daemon's processes, KiB.
rss() {
	status_sum '^VmRSS:'
}

# switches: how often they have been given a CPU: what wake-ups there were.
switches() {
	status_sum '_ctxt_switches:'
}

# --- scans -----------------------------------------------------------------------

# Doors for the scans: the example's and others, guarded; and unguarded ones
# that an ascending or descending scan has to open.
GUARDED='openSSH|closeSSH|shuffled|free|null|udp|udpshuffled'
scan_conf() {
	conf <<-EOF
	[openSSH]
		sequence = 7000,8000,9000
		seq_timeout = 15
		tcpflags = syn
	[closeSSH]
		sequence = 9000,8000,7000
		seq_timeout = 15
		tcpflags = syn
	[shuffled]
		sequence = 31337,2222,48111
		tcpflags = syn
	[free]
		sequence = 7000,8000,9000
	[null]
		sequence = 7000,8000,9000
		tcpflags = !syn,!ack,!rst
	[udp]
		sequence = 7000:udp,8000:udp,9000:udp
	[udpshuffled]
		sequence = 31337:udp,2222:udp,48111:udp
	[bare_syn]
		sequence = 7000,8000,9000
		tcpflags = syn
		stray_limit = 0
	[bare_syn_down]
		sequence = 9000,8000,7000
		tcpflags = syn
		stray_limit = 0
	[bare_null]
		sequence = 7000,8000,9000
		tcpflags = !syn,!ack,!rst
		stray_limit = 0
	[bare_ack]
		sequence = 7000,8000,9000
		tcpflags = ack
		stray_limit = 0
	[bare_udp]
		sequence = 7000:udp,8000:udp,9000:udp
		stray_limit = 0
	EOF
}

MASSCAN='--router-mac 02-00-00-00-00-01 -e s0 --wait 0 --open-only'

# nmap_a OPTION...: as fast as it goes, no ping, no names.
nmap_a() {
	in_a nmap -n -Pn -T5 --max-retries 0 "$@" >"$T/nmap" 2>&1 || { cat "$T/nmap"; return 1; }
}

# masscan_a OPTION...: a minute at most; on a busy machine it takes its time.
masscan_a() {
	local rc=0

	# shellcheck disable=SC2086
	in_a timeout -s INT -k 5 60 masscan "$ME4" $MASSCAN "$@" >"$T/masscan" 2>&1 || rc=$?
	[ $rc = 0 ] || [ $rc = 124 ] || { cat "$T/masscan"; return 1; }
}

# browsing: a script for the generator, 5 seconds of somebody who uses the host:
# 80 and 443, QUIC, ssh that retries.
browsing() {
	local i

	for ((i = 0; i < 100; i++)); do
		cat <<-EOF
		ports=80,443,443:udp,22,443 n=2
		ports=443 flags=PA payload=300 n=5
		ports=443:udp payload=1200 n=5
		ports=22,22,80 flags=S wait=50
		EOF
	done
}

# --- floods ----------------------------------------------------------------------

# no_answers: S does not answer the floods' spoofed addresses, which would cost
# the generator its rate. The daemon sees packets before netfilter does.
no_answers() {
	! command -v nft >/dev/null || in_s nft -f - <<-EOF
	table netdev quiet {
		chain in {
			type filter hook ingress device eth0 priority 0; policy accept;
			ip saddr 100.64.0.0/10 drop
			ip6 saddr fd99::/16 drop
		}
	}
	EOF
}

flood_conf() {
	conf <<-EOF
	[openSSH]
		sequence = 7000,8000,9000
		seq_timeout = 5
		tcpflags = syn
	[udp]
		sequence = 6000:udp,6001:udp,6002:udp
		seq_timeout = 5
	[shuffled]
		sequence = 31337,2222,48111
		seq_timeout = 5
		tcpflags = syn
	EOF
}

FLOOD_TIME=3

# flood ADDR WORD...: $FLOOD_TIME seconds of packets from a million sources,
# counted up from ADDR, in the background; FLOOD is its process.
flood() {
	from "$1" n=1000000 sources=1000000 time="$FLOOD_TIME" "${@:2}" &
	FLOOD=$!
}

# drops: packets that the kernel had no room for, by the daemon's own count.
drops() {
	local n

	n=$(count "$LOG" ' counters: ')
	kill -USR1 "$PID"
	logged ' counters: ' $((n + 1))
	sed -n 's/.* counters: .*drops \([0-9]*\).*/\1/p' "$LOG" | tail -n 1
}
