#!/bin/bash
# ./tests/fuzz.sh [RUNS [TARGET...]]: the fuzz targets of tests/fuzz.c, so many
# runs each (default 200000; FUZZ_SECONDS: 60 at most), two at a time, with the
# sanitizers and the corpus in tests/corpus-fuzz/. What is new stays in
# build/corpus-fuzz/, what fails in build/fuzz-TARGET-*. FUZZ_SEED=1: the same
# runs each time. MERGE=1: then takes what is new, minimised, into the corpus.
#
# ./tests/fuzz.sh long [TARGET...]: for FUZZ_SECONDS (default 600), in turns of a
# minute (FUZZ_TURN), and goes on where the last such run stopped. All runs are
# added up in build/fuzz-statistics; the table of them is printed. FUZZ_JOBS: how
# many at a time. make fuzz-long SECONDS=N is this.
#
# One line a target; the last line is `N passed, N failed`.
set -u
cd "$(dirname "$0")/.." || exit 1
long=''
[ "${1:-}" != long ] || long=1
runs=${1:-200000}
shift
targets=${*:-packet world config state onetime event keys sealed knock}
statistics=build/fuzz-statistics

# The longest input that makes sense, in bytes.
longest() {
	case $1 in
	packet) echo 128 ;;
	world) echo 300 ;;
	config) echo 2048 ;;
	keys) echo 1024 ;;
	*) echo 512 ;;
	esac
}

# How many executions are wanted in the long run.
goal() {
	[ "$1" = packet ] && echo 1000000000 || echo 100000000
}

# Comparisons are not traced where whole packets are among the choices: they cost
# more than all the rest.
build() {
	local untraced=trace-cmp

	[ "$1" = packet ] || untraced=''
	clang -std=c11 -D_GNU_SOURCE -DNO_SECCOMP -g -O2 -I. \
		-fsanitize=fuzzer,address,undefined \
		${untraced:+"-fno-sanitize-coverage=$untraced"} \
		-fno-sanitize-recover=undefined "-DTARGET_${1^^}" \
		-o "build/fuzz-$1" tests/fuzz.c
}

# built TARGET: says so if it is not.
built() {
	mkdir -p "build/corpus-fuzz/$1" "tests/corpus-fuzz/$1"
	build "$1" > "build/fuzz-$1.log" 2>&1 && return
	echo "not ok: $1 does not build"
	tail -n 20 "build/fuzz-$1.log"
	return 1
}

# run TARGET OPTION...: what is new goes into the first corpus.
run() {
	local target=$1

	shift
	"build/fuzz-$target" -max_len="$(longest "$target")" -timeout=30 \
		-rss_limit_mb=4096 -print_final_stats=1 \
		-artifact_prefix="build/fuzz-$target-" "$@" \
		"build/corpus-fuzz/$target" "tests/corpus-fuzz/$target" \
		> "build/fuzz-$target.log" 2>&1 && return
	echo "not ok: $target"
	tail -n 40 "build/fuzz-$target.log"
	return 1
}

# figure TARGET WORD: of the last run's statistics.
figure() {
	sed -n "s/^stat::$2: *//p" "build/fuzz-$1.log"
}

# one TARGET: builds and runs it; its line, and its end if it fails.
one() {
	local start=$SECONDS

	built "$1" || return
	run "$1" -runs="$runs" -seed="${FUZZ_SEED:-0}" \
		-max_total_time="${FUZZ_SECONDS:-60}" || return
	echo "ok: $1, $(figure "$1" number_of_executed_units) runs," \
		"$(grep -o 'cov: [0-9]*' "build/fuzz-$1.log" | tail -n 1 | cut -c6-) edges," \
		"$((SECONDS - start)) s"
	[ -z "${MERGE:-}" ] || merge "$1"
}

# merge TARGET: the smallest set of both that reaches as much.
merge() {
	local small kept=tests/corpus-fuzz/$1

	small=$(mktemp -d) || return
	"build/fuzz-$1" -merge=1 -max_len="$(longest "$1")" "$small" "$kept" \
		"build/corpus-fuzz/$1" > /dev/null 2>&1 &&
		rm -f "$kept"/* && cp "$small"/* "$kept"/
	rm -rf "$small"
}

# turns TARGET: a turn after the other until the time is up.
turns() {
	local left begin until

	built "$1" || return
	until=$((SECONDS + share))
	while left=$((until - SECONDS)) && [ $left -gt 0 ]; do
		[ $left -lt "$turn" ] || left=$turn
		begin=$SECONDS
		run "$1" -max_total_time="$left" || return
		echo "$1 $(figure "$1" number_of_executed_units)" \
			"$(figure "$1" packets) $((SECONDS - begin))" >> "$statistics"
	done
	[ -z "${MERGE:-}" ] || merge "$1"
	echo "ok: $1"
}

# table: what all long runs add up to.
table() {
	local target

	printf '%-8s %14s %14s %9s %9s %12s\n' \
		target executions packets seconds per-s 's to goal'
	for target in $targets; do
		awk -v t="$target" -v goal="$(goal "$target")" '
			$1 == t && NF == 3 { n += $2; s += $3 }
			$1 == t && NF == 4 { n += $2; packets += $3; s += $4 }
			END {
				if (!s) exit
				left = goal > n ? (goal - n) / n * s : 0
				printf "%-8s %14d %14s %9d %9d %12d\n", t, n,
					packets ? sprintf("%d", packets) : "-", s, n / s, left
			}' "$statistics"
	done
}

mkdir -p build
: > build/fuzz.log
jobs=${FUZZ_JOBS:-2}
if [ -n "$long" ]; then
	# Each has its share of the time, jobs of them at once.
	n=$(wc -w <<< "$targets")
	share=$((${FUZZ_SECONDS:-600} * jobs / (n > jobs ? n : jobs)))
	turn=${FUZZ_TURN:-60}
fi
for target in $targets; do
	if [ -n "$long" ]; then
		turns "$target"
	else
		one "$target"
	fi >> build/fuzz.log &
	while [ "$(jobs -pr | wc -l)" -ge "$jobs" ]; do
		wait -n
	done
done
wait
cat build/fuzz.log
[ -z "$long" ] || table
failed=$(grep -c '^not ok: ' build/fuzz.log)
echo "$(grep -c '^ok: ' build/fuzz.log) passed, $failed failed"
[ "$failed" = 0 ]
