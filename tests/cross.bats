#!/usr/bin/env bats
# make cross: for a processor whose bytes are in the other order it is built, runs under
# both names, and the unit tests pass, under qemu-user; also for one of 32 bits; for
# armhf it is static.

load lib

# The unit tests under an emulated processor, on a slow machine.
export BATS_TEST_TIMEOUT=900

setup() {
	cd "$ROOT" || return
}

teardown() {
	say_why
}

# crosses PROCESSOR COMPILER EMULATOR OFFSET BYTE: builds, runs and passes; and the
# byte of its ELF header that tells such processors from others.
crosses() {
	need "$2" "$3"
	timeout 880 contrib/cross.sh "$1" >"$T/out" 2>&1 </dev/null ||
		{ tail -n 20 "$T/out"; return 1; }
	matches "$(tail -n 1 "$T/out")" "^$1 +(musl|glibc) +[0-9]+  ok [0-9]+"
	is "$(od -An -j "$4" -N 1 -t u1 "build/cross/$1/knockd" | tr -d ' ')" "$5"
}

@test "make cross: s390x, big-endian, builds, runs and passes the unit tests" {
	crosses s390x s390x-linux-gnu-gcc qemu-s390x-static 5 2
}

@test "make cross: i386, 32 bits, builds, runs and passes the unit tests" {
	crosses i386 i686-linux-gnu-gcc qemu-i386-static 4 1
}

@test "make cross: armhf is static, at any address where musl is to be had, and runs" {
	local f=build/cross/armhf/knockd

	need arm-linux-gnueabihf-gcc qemu-arm-static readelf
	UNIT=/none timeout 880 contrib/cross.sh armhf >"$T/out" 2>&1 </dev/null ||
		{ tail -n 20 "$T/out"; return 1; }
	readelf -hlW $f >"$T/headers"
	grep -q 'Machine: *ARM' "$T/headers"
	not grep INTERP "$T/headers"
	! grep -q '^armhf *musl' "$T/out" || grep -q 'Type: *DYN' "$T/headers"
}
