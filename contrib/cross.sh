#!/bin/sh
# cross.sh - static knockd and knock for other processors, with Debian's cross
# compilers, and their unit tests under qemu-user
#
#     contrib/cross.sh [ARCH...]      default: all of the table below
#
# Result: build/cross/ARCH/knockd, stripped, with a link knock; at the end a table
# of sizes. musl where Debian has it for the processor, else glibc. Installs
# compilers and qemu if it is root and they are missing; foreign musl is unpacked
# under build/cross, the system's list of architectures stays as it is.
# CFLAGS: in place of -Os. UNIT: the unit test's source.
set -eu
cd "$(dirname "$0")/.."

# arch, compiler, Debian's package of the C library, its triple, qemu
table='
amd64   x86_64-linux-gnu      musl-dev:amd64  x86_64-linux-musl    x86_64
i386    i686-linux-gnu        musl-dev:i386   i386-linux-musl      i386
arm64   aarch64-linux-gnu     musl-dev:arm64  aarch64-linux-musl   aarch64
armhf   arm-linux-gnueabihf   musl-dev:armhf  arm-linux-musleabihf arm
s390x   s390x-linux-gnu       musl-dev:s390x  s390x-linux-musl     s390x
ppc64le powerpc64le-linux-gnu -               -                    ppc64le
riscv64 riscv64-linux-gnu     -               -                    riscv64
'
CFLAGS=${CFLAGS:--Os}
UNIT=${UNIT:-tests/unit.c}
out=$PWD/build/cross
mkdir -p "$out/apt/lists/partial" "$out/apt/cache/archives/partial"

need() {
	for p; do
		dpkg-query -W -f '${Status}' "$p" 2> /dev/null |
			grep -q 'ok installed' || missing="${missing:-} $p"
	done
}

# apt with lists of its own that know the foreign architectures
foreign_apt() {
	set -- -q -o APT::Sandbox::User=root -o Dir::State::lists="$out/apt/lists" \
		-o Dir::Cache="$out/apt/cache" "$@"
	for a in amd64 i386 arm64 armhf s390x; do
		set -- -o APT::Architectures::="$a" "$@"
	done
	apt-get "$@"
}

# musl PACKAGE TRIPLE DIR: unpacks Debian's musl and turns its specs to DIR
musl() {
	[ -e "$3/specs" ] && return
	if [ ! -e "$out/apt/updated" ]; then
		# some of the lists may be missing; what matters is the package
		foreign_apt update > "$out/apt/log" 2>&1 || :
		: > "$out/apt/updated"
	fi
	mkdir -p "$3"
	(cd "$out/apt" && rm -f musl-dev_*.deb &&
		foreign_apt download "$1" >> log 2>&1 &&
		dpkg -x musl-dev_*.deb "$3") || {
		rm -f "$out/apt/updated"
		return 1
	}
	sed "s,/usr/lib/$2,$3/usr/lib/$2,g; s,/usr/include/$2,$3/usr/include/$2,g" \
		"$3/usr/lib/$2/musl-gcc.specs" > "$3/specs"
}

one() {
	arch=$1 compiler=$2 package=$3 triple=$4 qemu=$5
	d=$out/$arch gcc=$compiler-gcc libc=glibc
	mkdir -p "$d"
	if [ "$package" != - ] && musl "$package" "$triple" "$d/musl"; then
		gcc="$gcc -specs=$d/musl/specs" libc=musl
	fi
	make -s CC="$gcc" CFLAGS="$CFLAGS -Werror" OUT="$d/" all || return 1
	$(make -s --no-print-directory CC="$gcc" strip-program) "$d/knockd"
	# does it run at all, on a kernel of another kind
	[ "$(uname -m)" = "$qemu" ] && run= || run=qemu-$qemu-static
	$run "$d/knockd" -V > /dev/null || return 1
	$run "$d/knock" --generate 4 > /dev/null || return 1
	result="no unit test"
	if [ -e "$UNIT" ]; then
		# shellcheck disable=SC2086 # flags are meant to be split
		$gcc -std=c11 -D_GNU_SOURCE $CFLAGS -static -I. -o "$d/unit" \
			"$UNIT" || return 1
		# shellcheck disable=SC2086
		(cd tests && QUICK=1 $run "$d/unit" > "$d/unit.log" 2>&1) || {
			tail -n 20 "$d/unit.log"
			echo "cross: the unit test fails on $arch" >&2
			return 1
		}
		result=$(tail -n 1 "$d/unit.log")
	fi
	printf '%-8s %-6s %8d  %s\n' "$arch" "$libc" \
		"$(wc -c < "$d/knockd")" "$result" >> "$out/table"
}

want=${*:-$(echo "$table" | awk 'NF { print $1 }')}
if [ "$(id -u)" = 0 ] && command -v apt-get > /dev/null; then
	for a in $want; do
		case $a in
		amd64) need gcc libc6-dev ;;
		i386) need gcc-i686-linux-gnu libc6-dev-i386-cross ;;
		arm64) need gcc-aarch64-linux-gnu libc6-dev-arm64-cross ;;
		armhf) need gcc-arm-linux-gnueabihf libc6-dev-armhf-cross ;;
		s390x) need gcc-s390x-linux-gnu libc6-dev-s390x-cross ;;
		ppc64le) need gcc-powerpc64le-linux-gnu libc6-dev-ppc64el-cross ;;
		riscv64) need gcc-riscv64-linux-gnu libc6-dev-riscv64-cross ;;
		*) echo "cross: no such processor: $a" >&2; exit 1 ;;
		esac
	done
	need qemu-user-static
	if [ -n "${missing:-}" ]; then
		echo "installing:$missing"
		apt-get -q update > "$out/install.log" 2>&1 || :
		# shellcheck disable=SC2086
		DEBIAN_FRONTEND=noninteractive apt-get -qy install \
			--no-install-recommends $missing >> "$out/install.log" 2>&1
	fi
fi

rm -f "$out/table"
failed=0
for a in $want; do
	# shellcheck disable=SC2046
	one $(echo "$table" | awk -v a="$a" '$1 == a') || failed=1
done
printf '%-8s %-6s %8s  %s\n' processor libc bytes "unit test"
cat "$out/table"
exit $failed
