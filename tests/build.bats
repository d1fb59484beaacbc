#!/usr/bin/env bats
# make and make install, as packagers call them: the compiler and flags of the
# environment, static or not, where files go.

load lib

setup() {
	need git make readelf
	# what is built here goes into a copy, not into the tree
	W=$T/work
	mkdir "$W"
	(cd "$ROOT" && git ls-files --cached --others --exclude-standard |
		tar -c -T -) | tar -x -C "$W"
	cd "$W" || return
	unset CC CFLAGS CPPFLAGS LDFLAGS
	CCS=/usr/bin/musl-gcc
	[ -x $CCS ] || CCS=cc
}

teardown() {
	say_why
}

# compiler NAME CODE: a compiler of that name, which runs the code first.
compiler() {
	printf '#!/bin/bash\n%s\nexec %s "$@"\n' "$2" "$CCS" >"$T/$1"
	chmod 755 "$T/$1"
}

built() {
	"$@" >"$T/out" 2>&1 || { echo "failed: $*"; return 1; }
}

is_static() {
	readelf -lW "$1" >"$T/headers"
	not grep INTERP "$T/headers"
}

@test "make: static, with its symbols; without a warning" {
	built make
	not grep -i warning "$T/out"
	is_static knockd
	readelf -SW knockd | grep -q '\.symtab'
	[ knock -ef knockd ]
	./knockd -V
}

@test "make: CC, CFLAGS, CPPFLAGS and LDFLAGS of the environment count" {
	compiler mine 'echo "mine: $*" >>'"$T/mine.log"
	built env CC="$T/mine" CFLAGS='-O1 -g' CPPFLAGS=-DSOME_WORD=7 \
		LDFLAGS=-Wl,--no-as-needed make
	for f in -O1 -g -DSOME_WORD=7 -Wl,--no-as-needed; do
		grep -q "^mine: .* $f .*knockd\.c" "$T/mine.log" || { echo "lacks $f"; return 1; }
	done
	not grep -q -e '-O2' "$T/mine.log"
}

@test "make: -D_FORTIFY_SOURCE once, and none where it only warns" {
	local f

	compiler mine 'echo "mine: $*" >>'"$T/mine.log"
	for f in CFLAGS=-O2 CFLAGS='-O2 -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=3' \
		CPPFLAGS=-D_FORTIFY_SOURCE=3; do
		rm -f knockd "$T/mine.log"
		built env CC="$T/mine" "$f" make
		is "$f: $(grep 'knockd\.c' "$T/mine.log" | grep -oE -e '-D_FORTIFY_SOURCE=[0-9]' | wc -l)" \
			"$f: 1"
	done
	rm -f knockd "$T/mine.log"
	built env CC="$T/mine" CFLAGS=-O0 make
	not grep _FORTIFY_SOURCE "$T/mine.log"
}

@test "make: a compiler that has one way alone is asked for it; without any, make fails" {
	# -static-pie is taken for a dynamic program, as musl-gcc does; no parts
	CCS=gcc
	compiler half 'for a; do case $a in
		-static-pie) ;; *rcrt1.o) exit 1 ;; *) n+=("$a") ;; esac; done; set -- "${n[@]}"'
	built make CC="$T/half"
	is_static knockd
	rm knockd
	compiler none 'for a; do case $a in
		-static*) ;; *rcrt1.o) exit 1 ;; *) n+=("$a") ;; esac; done; set -- "${n[@]}"'
	run make CC="$T/none"
	[ "$status" != 0 ]
	matches "$output" 'makes no static program.*STATIC=0'
	[ ! -e knockd ]
	is "$(ls ./*.try* ./*.headers 2>/dev/null)" ''
}

@test "make STATIC=0: a dynamic program of the usual compiler" {
	built make STATIC=0
	readelf -lW knockd | grep -q INTERP
	./knockd -V
}

@test "Debian i386, with musl-tools: builds, is static, runs" {
	local root=$ROOT/build/clean-root-i386 suite

	need debootstrap setarch
	[ "$(uname -m)" = x86_64 ] || skip "this machine runs no i386 programs"
	need_namespaces
	if [ ! -e "$root/.made" ]; then
		# shellcheck source=/dev/null
		suite=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
		rm -rf "$root"
		timeout 280 debootstrap --arch=i386 --variant=minbase \
			--include=gcc,make,musl-tools "$suite" "$root" >"$T/out" 2>&1 \
			</dev/null || skip "debootstrap made no i386 root file system"
		: >"$root/.made"
	fi
	chroot "$root" /bin/true || skip "this kernel runs no i386 programs"
	# shellcheck disable=SC2016
	unshare -m bash -c 'mount --bind "$2" "$1/mnt"
		exec chroot "$1" setarch i386 sh -c "cd /mnt && make && ./knockd -V"' \
		in "$root" "$W" >"$T/out" 2>&1
	matches "$(tail -n 3 "$T/out")" 'knockd [0-9]'
	matches "$(readelf -h knockd)" 'Intel 80386'
	is_static knockd
}
