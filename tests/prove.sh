#!/bin/sh
# Proofs with CBMC, a bounded model checker, on the code as it is.
#
#	tests/prove.sh [NAME...]	all of tests/prove/*.c, or these
#
# Each harness includes knockd.c and is proved for all its inputs: no access outside
# of an object, no overflow, no undefined shift, no division by zero, no loop beyond
# its bound, and its own assertions. Its head names CBMC's options and mistakes to
# plant (sed expressions on knockd.c and knock.c): with each of them the proof must
# fail, or the harness proves nothing.
#
# CBMC 6 is taken from PATH, or comes as a package of Debian's next release, which is
# unpacked in build/cbmc and run with its own C library; nothing is installed.
# MINUTES: for one proof (default 4). The last line is `N passed, N failed`.
set -u
cd "$(dirname "$0")/.." || exit 1

MINUTES=${MINUTES:-4}
DIR=build/cbmc
CHECKS='--c11 -D_GNU_SOURCE --bounds-check --pointer-check --pointer-overflow-check
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

run_cbmc() {
	if [ -n "$own" ]; then
		timeout "$((MINUTES * 60))" cbmc "$@"
	else
		lib=$DIR/root/usr/lib/$(uname -m)-linux-gnu
		timeout "$((MINUTES * 60))" "$(find "$DIR/root/usr/" -name 'ld-linux*.so*' | head -n 1)" \
			--library-path "$lib:$DIR/root/usr/lib" "$DIR/root/usr/bin/cbmc" "$@"
	fi
}

# prove SOURCES HARNESS: CBMC's result on the harness with these sources.
prove() {
	# shellcheck disable=SC2046,SC2086
	run_cbmc "$2" --function harness -I "$1" -I tests/prove $CHECKS \
		$(sed -n 's/^ \* options: //p' "$2") >"build/prove/$name.log" 2>&1
}

ok() { passed=$((passed + 1)); echo "ok: $*"; }
not_ok() { failed=$((failed + 1)); echo "FAILED: $*"; }

passed=0 failed=0 own=''
mkdir -p build/prove
command -v cbmc >/dev/null 2>&1 && own=$(command cbmc --version | grep '^[6-9]')
if [ -z "$own" ] && [ ! -x "$DIR/root/usr/bin/cbmc" ] && ! get_cbmc >build/prove/get.log 2>&1; then
	tail -n 3 build/prove/get.log
	echo "0 passed, 1 failed"
	exit 1
fi
[ $# != 0 ] || set -- $(ls tests/prove/*.c)
for harness; do
	name=$(basename "$harness" .c)
	harness=tests/prove/$name.c
	start=$(date +%s)
	if prove . "$harness"; then
		ok "$name: $(sed -n 's/^\*\* 0 of \([0-9]*\) failed.*/\1 properties/p' "build/prove/$name.log"), $(($(date +%s) - start)) s"
	else
		not_ok "$name"
		grep -E 'FAILURE|error|ERROR' "build/prove/$name.log" | head -n 20
		continue
	fi
	sed -n 's/^ \* plant: //p' "$harness" >"build/prove/$name.plants"
	while read -r plant; do
		rm -rf build/prove/planted
		mkdir build/prove/planted
		cp knockd.c knock.c config.h build/prove/planted
		sed -i "$plant" build/prove/planted/knockd.c build/prove/planted/knock.c
		if cmp -s knockd.c build/prove/planted/knockd.c &&
			cmp -s knock.c build/prove/planted/knock.c; then
			not_ok "$name: nothing to plant: $plant"
		elif prove build/prove/planted "$harness" ||
			! grep -q '^VERIFICATION FAILED' "build/prove/$name.log"; then
			not_ok "$name: not found: $plant"
		else
			ok "$name: found: $plant"
		fi
	done <"build/prove/$name.plants"
done
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
