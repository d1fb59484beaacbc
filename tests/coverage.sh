#!/bin/bash
# ./tests/coverage.sh: which lines and branches of knockd.c and knock.c are run by the
# unit tests, and by the client in tests/knock.bats and a part of tests/sealed.bats. A
# branch is one way that a condition can go. 95 % of the lines and 92 % of the branches
# must be run, and each line that is not must be explained in tests/uncovered; else the
# exit status is 1. Branches that are not explained there are listed.
set -u
cd "$(dirname "$0")/.." || exit 1
root=$PWD dir=$root/build/coverage failed=0
rm -rf "$dir"
mkdir -p "$dir/unit" "$dir/client" || exit 1
flags='-std=c11 -D_GNU_SOURCE -w -g -O0 --coverage -DCOVERAGE'

# tests FILE [NAMES]: runs the client through system tests.
tests() {
	KNOCK=$dir/client/knock timeout 600 bats -f "${2:-.}" "tests/$1.bats" \
		>"$dir/$1.log" 2>&1 || { grep '^not ok' "$dir/$1.log"; failed=1; }
}

# shellcheck disable=SC2086
gcc $flags -I"$root" -o "$dir/unit/unit" "$root/tests/unit.c" &&
	gcc $flags -o "$dir/client/knock" "$root/knockd.c" "$root/knock.c" || exit 1
QUICK=1 "$dir/unit/unit" >"$dir/unit.log" 2>&1 || { grep -A 3 '^not ok' "$dir/unit.log"; failed=1; }
tests knock
tests sealed '^(--keygen|-k:|a sealed knock: |the key in a profile|a key that)'
for part in unit client; do
	(cd "$dir/$part" && gcov -b -c -o . ./*.gcda >gcov.log 2>&1)
done
python3 - "$dir" tests/uncovered <<'EOF2' || failed=1
import os, re, sys

GOALS = {'lines': 95, 'branches': 92}
reasons = [line.rstrip('\n').split('\t') for line in open(sys.argv[2])]


def reason(name, text):
    return next((why for file, part, why in reasons if file == name and part in text), None)


def read(path):
    """By line: how often it ran, its text, how often each branch was taken."""
    lines = {}
    for row in open(path, errors='replace'):
        if match := re.match(r' *([-#=0-9]+)\*?: *(\d+):(.*)', row):
            count, at, text = match.groups()
            text, ran = text.strip(), int(re.sub(r'\D', '', count) or 0)
            # No function returns from there, if its last line is not run.
            counts = count != '-' and (ran or text != '}')
            lines[int(at)] = [ran if counts else None, text, []]
        elif match := re.match(r'branch +\d+ (?:taken (\d+)|never)', row):
            lines[int(at)][2].append(int(match.group(1) or 0))
    return lines


def merged(a, b):
    """What either ran. A line that is other code in one of them counts by the better: it
    may be none in the unit tests, where a macro replaces a system call."""
    for at, (count, text, branches) in b.items():
        if at not in a or (a[at][0] is None and count):
            a[at] = [count, text, branches]
        elif None not in (a[at][0], count):
            old = a[at][2]
            if len(old) == len(branches):
                old = [x + y for x, y in zip(old, branches)]
            else:
                old = max(old, branches, key=lambda l: sum(n > 0 for n in l) / max(len(l), 1))
            a[at] = [a[at][0] + count, text, old]
    return a


for name, part, _ in reasons:
    if part not in open(name).read():
        print('tests/uncovered: %s has no line with %s any more' % (name, part))
bad = False
for name in 'knockd.c', 'knock.c':
    lines = {}
    for part in 'unit', 'client':
        path = '%s/%s/%s.gcov' % (sys.argv[1], part, name)
        if os.path.exists(path):
            lines = merged(lines, read(path))
    run = [count > 0 for count, _, _ in lines.values() if count is not None]
    taken = [n > 0 for count, _, branches in lines.values() for n in branches]
    for what, all_of in ('lines', run), ('branches', taken):
        percent = 100 * sum(all_of) / len(all_of)
        bad |= percent < GOALS[what]
        print('%s: %s %.2f %% of %d' % (name, what, percent, len(all_of)))
    for at, (count, text, _) in sorted(lines.items()):
        if count == 0:
            why = reason(name, text)
            bad |= not why
            print('  %d: %s\n      %s' % (at, text, why or 'NOT EXPLAINED'))
    print('%s: lines of which some branch was never taken (not taken, of all):' % name)
    for at, (count, text, branches) in sorted(lines.items()):
        missed = sum(n == 0 for n in branches)
        if count and missed and not reason(name, text):
            print('  %d (%d/%d) %s' % (at, missed, len(branches), text))
sys.exit(bad)
EOF2
exit $failed
