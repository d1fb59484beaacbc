#!/bin/bash
# ./tests/coverage.sh: how many lines of knockd.c the unit tests run and how many
# of knock.c tests/knock.bats does, and which they do not. Each of those must be
# explained in tests/uncovered, and 95 % must be run; else the exit status is 1.
set -u
cd "$(dirname "$0")/.." || exit 1
root=$PWD dir=$root/build/coverage failed=0
rm -rf "$dir"
mkdir -p "$dir" || exit 1
flags='-std=c11 -D_GNU_SOURCE -g -O0 --coverage -DCOVERAGE'

# report FILE: of FILE.gcov, its share and its lines that were not run.
report() {
	local share line reason text

	gcov -o "$dir" "$dir/$2" >"$dir/gcov.log" 2>/dev/null
	mv ./*.gcov "$dir"
	share=$(sed -n "/^File '$1'/{n;s/Lines executed:\([0-9.]*\)% of \([0-9]*\)/\1 % of \2 lines/p}" \
		"$dir/gcov.log")
	echo "$1: $share"
	[ "${share%%.*}" -ge 95 ] 2>/dev/null || failed=1
	while IFS= read -r line; do
		text=$(sed 's/^ *#####: *[0-9]*: *//' <<<"$line")
		reason=$(awk -F '\t' -v f="$1" -v t="$text" \
			'$1 == f && index(t, $2) { print $3; exit }' "$root/tests/uncovered")
		[ -n "$reason" ] || failed=1
		printf '  %s\n      %s\n' "${line#*#####: }" "${reason:-NOT EXPLAINED}"
	done < <(grep -E '^ +#####:' "$dir/$1.gcov")
}

# shellcheck disable=SC2086
gcc $flags -I. -o "$dir/unit" tests/unit.c && gcc $flags -o "$dir/knock" -Dknock_main=main knock.c || exit 1
"$dir/unit" >"$dir/unit.log" 2>&1 || { grep -A 3 '^not ok' "$dir/unit.log"; failed=1; }
KNOCK=$dir/knock timeout 600 bats tests/knock.bats >"$dir/knock.log" 2>&1 ||
	{ grep '^not ok' "$dir/knock.log"; failed=1; }
report knockd.c unit.gcda
report knock.c knock.gcda
exit $failed
