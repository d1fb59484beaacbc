#!/bin/bash
# ./tests/fuzz.sh [RUNS]: every fuzz target of tests/fuzz.c, so many runs each
# (default 200000), with the sanitizers and the corpus in tests/corpus-fuzz/.
# What was found new stays in build/corpus-fuzz/; a crash in build/fuzz-crash-*.
# Last line: N passed, N failed.
set -u
cd "$(dirname "$0")/.." || exit 1
runs=${1:-200000}
passed=0 failed=0

for target in packet config onetime state event; do
	mkdir -p "build/corpus-fuzz/$target" "tests/corpus-fuzz/$target"
	if ! clang -std=c11 -D_GNU_SOURCE -DNO_SECCOMP -g -O1 -I. \
		-fsanitize=fuzzer,address,undefined \
		-fno-sanitize-recover=undefined "-DTARGET=$target" \
		-o "build/fuzz-$target" tests/fuzz.c; then
		failed=$((failed + 1))
		continue
	fi
	# The new corpus comes first: libFuzzer writes there.
	if "build/fuzz-$target" -runs="$runs" -max_len=4096 -timeout=20 \
		-rss_limit_mb=4096 -artifact_prefix="build/fuzz-crash-$target-" \
		"build/corpus-fuzz/$target" "tests/corpus-fuzz/$target" \
		> "build/fuzz-$target.log" 2>&1; then
		passed=$((passed + 1))
		echo "$target: $(tail -n 1 "build/fuzz-$target.log")"
	else
		failed=$((failed + 1))
		echo "$target: FAILED"
		tail -n 30 "build/fuzz-$target.log"
	fi
done
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
