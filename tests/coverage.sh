#!/bin/bash
# ./tests/coverage.sh: how many lines and branches of knockd.c the unit tests run and
# how many of knock.c tests/knock.bats does, and which they do not. A branch is one
# way that a condition can go. 95 % of the lines and 92 % of the branches must be
# run, and each line that is not must be explained in tests/uncovered; else the exit
# status is 1. Branches that are not explained there are listed.
set -u
cd "$(dirname "$0")/.." || exit 1
root=$PWD dir=$root/build/coverage failed=0
LINES_GOAL=95 BRANCHES_GOAL=92
rm -rf "$dir"
mkdir -p "$dir" || exit 1
flags='-std=c11 -D_GNU_SOURCE -g -O0 --coverage -DCOVERAGE'

# reason FILE TEXT: why such a line is not run, from tests/uncovered.
reason() {
	awk -F '\t' -v f="$1" -v t="$2" '$1 == f && index(t, $2) { print $3; exit }' \
		"$root/tests/uncovered"
}

# share FILE WORD: of FILE, from gcov's summary, and the goal that it must reach.
share() {
	local percent

	percent=$(sed -n "/^File '.*\/$1'/,/^\$/s/^$2:\\([0-9.]*\\)% of .*/\\1/p" "$dir/gcov.log")
	sed -n "/^File '.*\/$1'/,/^\$/s/^$2:\\([0-9.]*\\)% of \\([0-9]*\\)/\\1 % of \\2/p" "$dir/gcov.log"
	[ "${percent%%.*}" -ge "$3" ] 2>/dev/null
}

# report FILE COUNTS: its shares, its lines that were not run, and its lines with
# branches that were not taken.
report() {
	local line text why

	(cd "$dir" && gcov -b -o . "$2" >gcov.log 2>/dev/null)
	echo "$1: lines $(share "$1" 'Lines executed' $LINES_GOAL)"
	share "$1" 'Lines executed' $LINES_GOAL >/dev/null || failed=1
	echo "$1: branches $(share "$1" 'Taken at least once' $BRANCHES_GOAL)"
	share "$1" 'Taken at least once' $BRANCHES_GOAL >/dev/null || failed=1
	while IFS= read -r line; do
		text=$(sed 's/^ *#####: *[0-9]*: *//' <<<"$line")
		why=$(reason "$1" "$text")
		[ -n "$why" ] || failed=1
		printf '  %s\n      %s\n' "${line#*#####: }" "${why:-NOT EXPLAINED}"
	done < <(grep -E '^ +#####:' "$dir/$1.gcov")
	echo "$1: lines of which some branch was never taken (not taken, of all):"
	while IFS= read -r line; do
		[ -n "$(reason "$1" "$line")" ] || echo "  $line"
	done < <(awk '
		function flush() {
			if (missed) print at " (" missed "/" all ") " text
			missed = all = 0
		}
		/^ *[0-9]+\*?: *[0-9]+:/ {
			flush()
			text = $0; sub(/^ *[0-9*]+: *[0-9]+: */, "", text)
			at = $0; sub(/^ *[0-9*]+: */, "", at); sub(/:.*/, "", at)
		}
		/^ *[-#=]+:/ { flush() }
		/^branch/ { all++; if (/taken 0%|never/) missed++ }
		END { flush() }' "$dir/$1.gcov")
}

# shellcheck disable=SC2086
gcc $flags -I"$root" -o "$dir/unit" "$root/tests/unit.c" &&
	gcc $flags -o "$dir/knock" -Dknock_main=main "$root/knock.c" || exit 1
"$dir/unit" >"$dir/unit.log" 2>&1 || { grep -A 3 '^not ok' "$dir/unit.log"; failed=1; }
KNOCK=$dir/knock timeout 600 bats tests/knock.bats >"$dir/knock.log" 2>&1 ||
	{ grep '^not ok' "$dir/knock.log"; failed=1; }
report knockd.c unit.gcda
report knock.c knock.gcda
exit $failed
