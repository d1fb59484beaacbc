#!/bin/bash
# ./tests/fuzz.sh [RUNS [TARGET...]]: the fuzz targets of tests/fuzz.c, so many
# runs each (default 200000; FUZZ_SECONDS: 60 at most), two at a time, with the
# sanitizers and the corpus in tests/corpus-fuzz/. What is new stays in
# build/corpus-fuzz/, what fails in build/fuzz-TARGET-*. FUZZ_SEED=1: the same
# runs each time. MERGE=1: then takes what is new, minimised, into the corpus.
#
# One line a target; the last line is `N passed, N failed`.
set -u
cd "$(dirname "$0")/.." || exit 1
runs=${1:-200000}
shift
targets=${*:-packet config state onetime event knock}

# The longest input that makes sense, in bytes.
longest() {
	case $1 in
	packet) echo 300 ;;
	config) echo 2048 ;;
	*) echo 512 ;;
	esac
}

build() {
	clang -std=c11 -D_GNU_SOURCE -DNO_SECCOMP -g -O2 -I. \
		-fsanitize=fuzzer,address,undefined \
		-fno-sanitize-recover=undefined "-DTARGET_${1^^}" \
		-o "build/fuzz-$1" tests/fuzz.c
}

# one TARGET: builds and runs it; its line, and its end if it fails.
one() {
	local new=build/corpus-fuzz/$1 kept=tests/corpus-fuzz/$1
	local log=build/fuzz-$1.log start=$SECONDS

	mkdir -p "$new" "$kept"
	if ! build "$1" > "$log" 2>&1; then
		echo "not ok: $1 does not build"
		tail -n 20 "$log"
		return
	fi
	# What is new goes into the first corpus.
	if ! "build/fuzz-$1" -runs="$runs" -max_len="$(longest "$1")" \
		-timeout=30 -seed="${FUZZ_SEED:-0}" -max_total_time="${FUZZ_SECONDS:-60}" \
		-rss_limit_mb=4096 -print_final_stats=1 \
		-artifact_prefix="build/fuzz-$1-" "$new" "$kept" > "$log" 2>&1; then
		echo "not ok: $1"
		tail -n 40 "$log"
		return
	fi
	echo "ok: $1, $(sed -n 's/^stat::number_of_executed_units: *//p' "$log")" \
		"runs, $(grep -o 'cov: [0-9]*' "$log" | tail -n 1 | cut -c6-) edges," \
		"$((SECONDS - start)) s"
	[ -z "${MERGE:-}" ] || merge "$1" "$new" "$kept"
}

# merge TARGET NEW KEPT: the smallest set of both that reaches as much.
merge() {
	local small

	small=$(mktemp -d) || return
	"build/fuzz-$1" -merge=1 -max_len="$(longest "$1")" "$small" "$3" "$2" \
		> /dev/null 2>&1 && rm -f "$3"/* && cp "$small"/* "$3"/
	rm -rf "$small"
}

mkdir -p build
: > build/fuzz.log
for target in $targets; do
	one "$target" >> build/fuzz.log &
	while [ "$(jobs -pr | wc -l)" -ge 2 ]; do
		wait -n
	done
done
wait
cat build/fuzz.log
failed=$(grep -c '^not ok: ' build/fuzz.log)
echo "$(grep -c '^ok: ' build/fuzz.log) passed, $failed failed"
[ "$failed" = 0 ]
