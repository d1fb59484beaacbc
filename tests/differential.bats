#!/usr/bin/env bats
# The same packets to knockd 0.8 and to ours, at the same time on the same
# interface: whatever opens a door of 0.8 opens it here. Random doors, random
# clients; the seeds are fixed, DIFF_SEEDS="1 2 3" chooses others.

load lib
load packets

DIFF_SEEDS=${DIFF_SEEDS:-11 12 13 14 15 16}
OLD_LOG=$T/old.log

# Openings are counted in the log.
setup_file() {
	build_loud
}

setup() {
	need_gen
	old_or_skip
	use_loud
	net_up
}

# both_start: the configuration on standard input for both daemons.
both_start() {
	conf
	sed "s|$LOG|$OLD_LOG|" "$T/knockd.conf" >"$T/old.conf"
	rm -f "$LOG" "$OLD_LOG"
	start
	bg "$S" "${OLD_KNOCKD[@]}" -i eth0 -c "$T/old.conf" -p "$T/old.pid" \
		>"$T/old.out" 2>&1
	OLD=$!
	wait_for_line "$OLD_LOG" "$READY"
}

both_stop() {
	kill "$OLD"
	wait "$OLD" || :
	stop_knockd
}

# both_done: everything sent up to now has been dealt with by both.
both_done() {
	mark
	wait_for_line "$OLD_LOG" 'mark: OPEN SESAME' "$(count "$LOG" 'mark: OPEN SESAME')"
}

# openings FILE: "address: door count" for every door that opened.
openings() {
	sed -n 's/^\[[^]]*\] \(.*\): OPEN SESAME$/\1/p' "$1" | grep -v ': mark$' |
		sort | uniq -c | awk '{ print $2, $3, $1 }'
}

# ours_opens_all: every opening of 0.8's is one of ours.
ours_opens_all() {
	openings "$OLD_LOG" >"$T/old.opens"
	openings "$LOG" >"$T/our.opens"
	awk 'NR == FNR { ours[$1 $2] = $3; next }
		ours[$1 $2] + 0 < $3 {
			print $1, $2, "opened", $3, "times in 0.8,", ours[$1 $2] + 0, "in ours"
			bad = 1
		}
		END { exit bad }' "$T/our.opens" "$T/old.opens"
}

# ours_opens_as_many: nobody opens less here than in 0.8, all doors together. When
# somebody errs, the two may open different doors: where a packet opens a door
# here that 0.8 has missed, it is used up, and begins no attempt as it does there.
ours_opens_as_many() {
	openings "$OLD_LOG" >"$T/old.opens"
	openings "$LOG" >"$T/our.opens"
	awk 'NR == FNR { ours[$1] += $3; next }
		{ old[$1] += $3 }
		END {
			for (a in old)
				if (ours[a] + 0 < old[a]) {
					print a, "opened", old[a], "times in 0.8,", ours[a] + 0, "in ours"
					bad = 1
				}
			exit bad
		}' "$T/our.opens" "$T/old.opens"
}

# pick WORD...: sets PICKED to one of them.
pick() {
	local n=$((RANDOM % $# + 1))

	PICKED=${!n}
}

POOL=(7000 7001 8000 8001:udp 9000 9001:udp 5000 5001)
STRAYS=(80 443 443:udp 22 8443)

# random_doors [LEAST]: four doors of the pool; no port twice but side by side, where
# 0.8's and our idea of a repeat differ (rule 4); LEAST ports or more, 1 if not
# given. LOOSE: the ports of those without TCPFlags.
random_doors() {
	local d n p seq last ports least=${1:-1}

	DOORS=() LOOSE=()
	for d in 0 1 2 3; do
		seq='' last=''
		n=$((RANDOM % (6 - least) + least))
		while [ $n -gt 0 ]; do
			pick "${POOL[@]}"
			p=$PICKED
			[[ ,$seq != *,$p,* ]] || [ "$p" = "$last" ] || continue
			seq+=$p,
			last=$p
			n=$((n - 1))
		done
		DOORS+=("${seq%,}")
		printf '[door%d]\n\tsequence = %s\n\tseq_timeout = 300\n' $d "${seq%,}"
		if [ $((RANDOM % 2)) = 0 ]; then
			IFS=, read -ra ports <<<"${seq%,}"
			LOOSE+=("${ports[@]}")
		else
			printf '\ttcpflags = syn\n'
		fi
	done
}

# client ADDR KNOCKS ERRORS: the packets of somebody who knocks that often at
# some door; of a hundred packets so many are wrong ones. Data packets go only to
# doors that they can knock on: to the others' ports 0.8 does not see them, while
# here they are wrong knocks for a door that sees all flags (rule 6).
client() {
	local addr=$1 n=$2 errors=$3 dst p

	dst=$(me 4)
	[[ $addr != *:* ]] || dst=$(me 6)
	while [ "$n" -gt 0 ]; do
		pick "${DOORS[@]}"
		for p in ${PICKED//,/ }; do
			if [ $((RANDOM % 100)) -lt "$errors" ]; then
				case $((RANDOM % 4)) in
				0) pick "${POOL[@]}"; echo "src=$addr dst=$dst ports=$PICKED" ;;
				1) pick "${STRAYS[@]}"; echo "src=$addr dst=$dst ports=$PICKED" ;;
				2) [ ${#LOOSE[@]} -gt 0 ] || continue
					pick "${LOOSE[@]}"
					echo "src=$addr dst=$dst ports=$PICKED flags=PA" ;;
				3) continue ;;
				esac
			fi
			echo "src=$addr dst=$dst ports=$p"
		done
		n=$((n - 1))
	done
}

@test "honest knocks, one after another: both open the same" {
	local seed

	for seed in $DIFF_SEEDS; do
		echo "seed $seed"
		RANDOM=$seed
		random_doors >"$T/doors"
		both_start <"$T/doors"
		for ((i = 1; i <= 20; i++)); do
			client 10.88.0.$i 1 0
			client fd88::$i 1 0
		done >"$T/packets"
		gen_a script="$T/packets"
		both_done
		ours_opens_all
		both_stop
	done
	[ -s "$T/old.opens" ]
}

@test "clients that err, one after another" {
	local seed total=0

	for seed in $DIFF_SEEDS; do
		echo "seed $seed"
		RANDOM=$seed
		random_doors >"$T/doors"
		both_start <"$T/doors"
		for ((i = 1; i <= 10; i++)); do
			client 10.88.0.$i 12 8
			client fd88::$i 12 15
		done >"$T/packets"
		gen_a script="$T/packets"
		both_done
		ours_opens_as_many
		total=$((total + $(wc -l <"$T/old.opens")))
		both_stop
	done
	[ "$total" -gt 20 ]
}

# 0.8 forgets everybody's attempts when one ends. A door of one port then opens
# for what was the last knock at another; here it does not (rule 8).
@test "clients that err, all at once" {
	local seed total=0

	for seed in $DIFF_SEEDS; do
		echo "seed $seed"
		RANDOM=$seed
		random_doors 2 >"$T/doors"
		both_start <"$T/doors"
		for i in 1 2 3 4; do
			client 10.88.0.$i 30 5 >"$T/client.$i"
			client fd88::$i 30 10 >"$T/client6.$i"
		done
		# One line of each in turn.
		paste -d '\n' "$T"/client*.? >"$T/packets"
		gen_a script="$T/packets"
		both_done
		ours_opens_as_many
		total=$((total + $(wc -l <"$T/old.opens")))
		both_stop
	done
	[ "$total" -gt 10 ]
}

@test "their knock to ours, our knock to theirs" {
	both_start <<-EOF
	[tcp]
		sequence = 7000,8000,9000
		tcpflags = syn
	[mixed]
		sequence = 5000:udp,5001:tcp,5002:udp
	EOF
	in_a "${OLD_KNOCK[@]}" "$ME4" 7000 8000 9000
	in_b "${OLD_KNOCK[@]}" "$ME6" 5000:udp 5001:tcp 5002:udp
	both_done
	knock_b "$ME4" 7000 8000 9000
	knock_a "$ME6" 5000:udp 5001 5002:udp
	both_done
	is "$(openings "$LOG")" "$(openings "$OLD_LOG")"
	is "$(openings "$LOG" | wc -l)" 4
}
