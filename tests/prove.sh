#!/bin/sh
# Proofs with CBMC, a bounded model checker, on the code as it is.
#
#	tests/prove.sh [NAME...]	all of tests/prove/*.c, or these
#
# Each harness includes knockd.c and is proved for all its inputs: no access outside
# of an object, no overflow, no undefined shift, no division by zero, no loop beyond
# its bound, and its own assertions. Its head names CBMC's options and mistakes to
# plant (sed expressions on knockd.c and knock.c): with each of them the proof must
# fail, or the harness proves nothing. It may name functions that are left out (stub):
# they return any value, and have a harness of their own or are explained there;
# constants of config.h that are made small; other expressions for sed (with) that
# make a table small or a function's name free.
#
# A harness that says `run` is not for CBMC: it goes through all its inputs one by
# one, and is compiled and run.
#
# CBMC 6 is taken from PATH, or comes as a package of Debian's next release, which is
# unpacked in build/cbmc and run with its own C library; nothing is installed.
# MINUTES: of processor time for a step of a proof (default 4). JOBS: at the same time.
# The last line is `N passed, N failed`.
set -u
cd "$(dirname "$0")/.." || exit 1

MINUTES=${MINUTES:-4}
DIR=build/cbmc
CHECKS='--bounds-check --pointer-check --pointer-overflow-check
	--pointer-primitive-check --signed-overflow-check --undefined-shift-check
	--div-by-zero-check --enum-range-check --unwinding-assertions
	--drop-unused-functions'

# The packages of the next release, by an apt configuration of its own.
get_cbmc() {
	root=$PWD/$DIR
	mkdir -p "$DIR/state/lists/partial" "$DIR/cache/archives/partial" "$DIR/sources" \
		"$DIR/debs" "$DIR/root"
	: >"$DIR/status"
	now=$(. /etc/os-release && echo "$VERSION_CODENAME")
	for f in /etc/apt/sources.list /etc/apt/sources.list.d/*.sources /etc/apt/sources.list.d/*.list; do
		[ ! -s "$f" ] || sed "s/\\b$now\\b/trixie/g" "$f" >"$DIR/sources/${f##*/}"
	done
	[ ! -e "$DIR/sources/sources.list" ] || mv "$DIR/sources/sources.list" "$DIR/sources/all.list"
	cat >"$DIR/apt.conf" <<-END
		Dir::State "$root/state";
		Dir::State::status "$root/status";
		Dir::Cache "$root/cache";
		Dir::Etc::sourcelist "/dev/null";
		Dir::Etc::sourceparts "$root/sources";
		Acquire::Languages "none";
		APT::Sandbox::User "root";
	END
	export APT_CONFIG="$root/apt.conf"
	apt-get -q update && (cd "$DIR/debs" && apt-get -q download \
		cbmc minisat libc6 libstdc++6 libgcc-s1 zlib1g) || return
	for d in "$DIR"/debs/*.deb; do
		dpkg-deb -x "$d" "$DIR/root" || return
	done
}

# limited COMMAND...: for MINUTES at most, however busy the machine is.
limited() {
	# shellcheck disable=SC3045 # dash and busybox have -t, too
	(ulimit -t "$((MINUTES * 60))" && exec "$@")
}

# tool NAME ARGUMENT...: one of CBMC's programs.
tool() {
	if [ -n "$own" ]; then
		limited "$@"
		return
	fi
	program=$DIR/root/usr/bin/$1
	shift
	loader=$(find "$DIR/root/usr/" -name 'ld-linux*.so*' | head -n 1)
	# shellcheck disable=SC3045 # where it is unknown, there is no limit
	(ulimit -v 8000000; limited "$loader" \
		--library-path "$DIR/root/usr/lib/$(uname -m)-linux-gnu:$DIR/root/usr/lib" \
		"$program" "$@")
}

# said WORD HARNESS: what its head says behind that word.
said() {
	sed -n "s/^ \* $1: //p" "$2"
}

# copy DIRECTORY HARNESS: the sources, as its head wants them.
copy() {
	rm -rf "$1"
	mkdir "$1"
	cp knockd.c knock.c config.h "$1"
	{ said with "$2" && said small "$2" |
		sed 's/\(.*\) \(.*\)/s|^\\(#define \1\\) .*|\\1 \2|/'; } >"$1/expressions"
	while read -r expression; do
		change "$1" "$expression" || return
	done <"$1/expressions"
}

# change DIRECTORY EXPRESSION: sed on the sources; false if that changes nothing.
change() {
	cat "$1"/*.[ch] >"$1/before"
	sed -i "$2" "$1"/*.[ch]
	! cat "$1"/*.[ch] | cmp -s - "$1/before"
}

# translate SOURCES HARNESS: the program for CBMC, without the functions left out.
translate() {
	tool goto-cc "$2" --function harness -I "$1" -I tests/prove -std=c11 -D_GNU_SOURCE \
		-o "$binary" || return
	for f in $(said stub "$2"); do
		tool goto-instrument --remove-function-body "$f" "$binary" "$binary" &&
			tool goto-instrument --generate-function-body "$f" \
				--generate-function-body-options nondet-return "$binary" "$binary" ||
			return
	done
}

# run SOURCES HARNESS: compiled and run.
run() {
	client=$1/knock.c
	! grep -q '^#include "knock.c"' "$2" || client='' # the harness has it
	# The sources' own warnings are the build's business.
	cc -O2 -w -std=c11 -D_GNU_SOURCE -I "$1" -I tests/prove -o "$binary" "$2" \
		${client:+"$client"} && limited "$binary"
}

# prove SOURCES HARNESS [OPTION...]: the result on the harness with these sources.
prove() {
	sources=$1 binary=build/prove/$name.gb source=$2
	shift 2
	if grep -q '^ \* run:' "$source"; then
		run "$sources" "$source"
	else
		# shellcheck disable=SC2046,SC2086
		translate "$sources" "$source" &&
			tool cbmc "$binary" $CHECKS $(said options "$source") "$@"
	fi >"build/prove/$name.log" 2>&1
}

# one HARNESS: its proof and its planted mistakes, a line each.
one() {
	name=$1 harness=tests/prove/$1.c copy=build/prove/$1.sources
	start=$(date +%s)
	if ! copy "$copy" "$harness"; then
		echo "FAILED: $name: changes nothing: $expression"
		return
	fi
	if ! prove "$copy" "$harness"; then
		echo "FAILED: $name"
		grep -E 'FAILURE|error|ERROR' "build/prove/$name.log" | head -n 20
		return
	fi
	echo "ok: $name: $(sed -n 's/^\*\* 0 of \([0-9]*\) failed.*/\1 properties/p; s/^all: //p' \
		"build/prove/$name.log"), $(($(date +%s) - start)) s"
	said plant "$harness" >"build/prove/$name.plants"
	while read -r plant; do
		copy "$copy" "$harness"
		if ! change "$copy" "$plant"; then
			echo "FAILED: $name: nothing to plant: $plant"
		elif prove "$copy" "$harness" --stop-on-fail ||
			! grep -qE '^(VERIFICATION FAILED|FAILURE: )' "build/prove/$name.log"; then
			echo "FAILED: $name: not found: $plant"
		else
			echo "ok: $name: found: $plant"
		fi
	done <"build/prove/$name.plants"
}

own=''
mkdir -p build/prove
command -v cbmc >/dev/null 2>&1 && own=$(command cbmc --version | grep '^[6-9]')
if [ "${1:-}" = --one ]; then
	one "$2"
	exit 0
fi
if [ -z "$own" ] && [ ! -x "$DIR/root/usr/bin/cbmc" ] && ! get_cbmc >build/prove/get.log 2>&1; then
	tail -n 3 build/prove/get.log
	echo "0 passed, 1 failed"
	exit 1
fi
# shellcheck disable=SC2046
[ $# != 0 ] || set -- $(ls -S tests/prove/*.c)
for harness; do basename "$harness" .c; done |
	xargs -P "${JOBS:-2}" -n 1 "$0" --one | tee build/prove/result
failed=$(grep -c '^FAILED: ' build/prove/result)
echo "$(grep -c '^ok: ' build/prove/result) passed, $failed failed"
[ "$failed" = 0 ]
