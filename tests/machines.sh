#!/bin/bash
# Real kernels: boots Debian's kernels under qemu with nothing but a static busybox and
# our static binary, knocks over each kind of network interface, and prints a table.
#
#	tests/machines.sh			x86-64 and arm64 of the newest release
#	tests/machines.sh all			all machines of the table below
#	tests/machines.sh amd64-6.1 ...		these
#
# The guest (tests/machines/init) is a server and, in a network namespace of its own, a
# client, joined by a veth pair, two virtio network cards and a VLAN on each. qemu
# emulates the processor; KVM is not needed. Kernels and busybox come as packages by apt
# configurations of their own in build/machines; nothing is installed from them.
#
# Needs as root: qemu-system-* of the machines, cpio, kmod, xz-utils; installs them if
# they are missing. LIMIT: seconds for a machine, from its start to its end (400). The last
# line is `N passed, N failed`.
set -u
cd "$(dirname "$0")/.." || exit 1

# name, release, Debian's architecture, qemu's, package of the kernel
TABLE='
amd64-5.10   bullseye amd64   x86_64  linux-image-cloud-amd64
amd64-6.1    bookworm amd64   x86_64  linux-image-cloud-amd64
amd64-6.12   trixie   amd64   x86_64  linux-image-cloud-amd64
amd64-newest sid      amd64   x86_64  linux-image-cloud-amd64
i386-6.1     bookworm i386    i386    linux-image-686
arm64-5.10   bullseye arm64   aarch64 linux-image-cloud-arm64
arm64-6.12   trixie   arm64   aarch64 linux-image-cloud-arm64
armhf-6.12   trixie   armhf   arm     linux-image-armmp
riscv64-6.12 trixie   riscv64 riscv64 linux-image-riscv64
ppc64le-6.12 trixie   ppc64el ppc64   linux-image-powerpc64le
s390x-6.12   trixie   s390x   s390x   linux-image-s390x
'
DEFAULT='amd64-6.12 arm64-6.12'
# nf_tables wants a crc32c to be there.
MODULES='virtio_pci virtio_net veth 8021q crc32c_generic nfnetlink nf_tables af_packet ipv6'
OUT=$PWD/build/machines

need() {
	local p missing=()
	for p; do
		dpkg-query -W -f '${Status}' "$p" 2>/dev/null | grep -q 'ok installed' || missing+=("$p")
	done
	[ ${#missing[@]} != 0 ] || return 0
	DEBIAN_FRONTEND=noninteractive apt-get -qy install --no-install-recommends "${missing[@]}" >"$OUT/install.log" 2>&1
}

# world RELEASE ARCHITECTURE: sets APT_CONFIG to a configuration for that release, made
# from this machine's sources.
world() {
	local w=$OUT/apt/$1-$2 f now
	export APT_CONFIG=$w/apt.conf
	[ ! -e "$w/updated" ] || return 0
	now=$(. /etc/os-release && echo "$VERSION_CODENAME")
	mkdir -p "$w/state/lists/partial" "$w/cache/archives/partial" "$w/sources"
	: >"$w/status"
	for f in /etc/apt/sources.list /etc/apt/sources.list.d/*.sources /etc/apt/sources.list.d/*.list; do
		[ -s "$f" ] || continue
		sed -E "s/\\b$now(-updates|-security)?\\b/$1/g; s/^(Suites: [a-z]+) .*/\\1/" "$f" >"$w/sources/x-${f##*/}"
	done
	cat >"$APT_CONFIG" <<-END
		Dir::State "$w/state";
		Dir::State::status "$w/status";
		Dir::Cache "$w/cache";
		Dir::Etc::sourcelist "/dev/null";
		Dir::Etc::sourceparts "$w/sources";
		APT::Architecture "$2";
		APT::Architectures "$2";
		APT::Sandbox::User "root";
		Acquire::Languages "none";
		Acquire::Check-Valid-Until "false";
	END
	# A security archive has no such release: what matters is that the package is found.
	apt-get -q update >"$w/log" 2>&1
	apt-cache show "busybox-static" >/dev/null 2>&1 && : >"$w/updated"
}

# get PACKAGE DIRECTORY: downloads it and unpacks it there.
get() {
	local d=$OUT/debs
	mkdir -p "$d" "$2"
	(cd "$d" && rm -f "${1}"_*_"$arch".deb && apt-get -q download "$1" >>"$OUT/apt.log" 2>&1) &&
		dpkg-deb -x "$d/$1"_*.deb "$2" && rm -f "$d/$1"_*.deb
}

# The packages with the kernel and its modules that a metapackage leads to.
kernel_packages() {
	apt-cache depends --recurse --no-recommends --no-suggests --no-conflicts --no-breaks \
		--no-replaces --no-enhances "$1" 2>/dev/null |
		grep -oE '^linux-(image|binary|modules)-[0-9][^ ]*' | sort -u
}

# All kernels of that kind, the newest first.
older_kernels() {
	apt-cache search --names-only "^linux-image-[0-9].*${1#linux-image}\$" |
		awk '{ print $1 }' | sort -rV
}

# The modules with what they need, in the order of loading, as $root/lib/N-NAME.ko.
modules() {
	local tree=$1 root=$2 version=$3 n=100 m file line done=' '
	for m in $MODULES; do
		line=$(grep -m1 -E "/${m//[-_]/[-_]}\\.ko[.a-z0-9]*:" "$tree/modules.dep") || continue
		for file in $(tr ' ' '\n' <<<"${line#*:}" | tac) "${line%%:*}"; do
			case $done in *" $file "*) continue ;; esac
			done="$done$file "
			n=$((n + 1))
			m=$(basename "$file")
			case $file in
			*.xz) xz -dc "$tree/$file" ;;
			*.gz) gzip -dc "$tree/$file" ;;
			*.zst) zstd -dqc "$tree/$file" ;;
			*) cat "$tree/$file" ;;
			esac >"$root/lib/$n-${m%%.ko*}.ko"
		done
	done
}

# binary ARCHITECTURE: our static binary for it.
binary() {
	local b=build/cross/${1/ppc64el/ppc64le}/knockd
	if [ "$1" = "$(dpkg --print-architecture)" ]; then
		make -s knockd >&2 && echo knockd
		return
	fi
	[ -x "$b" ] && [ "$b" -nt knockd.c ] && [ "$b" -nt knock.c ] ||
		UNIT=none APT_CONFIG='' contrib/cross.sh "${1/ppc64el/ppc64le}" >"$OUT/cross.log" 2>&1
	[ ! -x "$b" ] || echo "$b"
}

# compiled ARCHITECTURE SOURCE FILE: a static program of the tests.
compiled() {
	local cc specs=build/cross/${1/ppc64el/ppc64le}/musl/specs
	cc=$(dpkg-architecture -a "$1" -q DEB_HOST_GNU_TYPE 2>/dev/null)-gcc
	[ -e "$specs" ] && cc="$cc -specs=$specs"
	# shellcheck disable=SC2086
	$cc -std=c11 -D_GNU_SOURCE -O1 -static -o "$3" "$2" >"$OUT/compiler.log" 2>&1
}

# prepare: kernel and initramfs in $OUT/$name.
prepare() {
	local d=$OUT/$name root=$OUT/$name/root knockd p tree version
	knockd=$(binary "$arch")
	[ -n "$knockd" ] || { echo "FAILED: $name: no binary for $arch" && return 1; }
	if [ ! -e "$d/kernel" ]; then
		rm -rf "$d"
		# One for all: the ip of Debian 11's busybox knows no netns.
		world trixie "$arch"
		get busybox-static "$d/busybox"
		world "$release" "$arch"
		for p in $(kernel_packages "$package"); do get "$p" "$d/packages"; done
		# A mirror may lack the newest one of a processor.
		for p in $(older_kernels "$package"); do
			! find "$d/packages" -name 'vmlinu*' 2>/dev/null | grep -q . || break
			get "$p" "$d/packages"
		done
		p=$(find "$d/packages" -type f -name 'vmlinu*' | head -n 1)
		[ -n "$p" ] || { echo "FAILED: $name: no kernel" && return 1; }
		cp "$p" "$d/kernel"
	fi
	for p in rogue.c machines/nft.c; do
		compiled "$arch" tests/$p "$d/$(basename $p .c)" ||
			{ echo "FAILED: $name: $p can't be compiled" && tail -n 5 "$OUT/compiler.log" && return 1; }
	done
	tree=$(dirname "$(find "$d/packages" -type d -path '*/modules/*' -name kernel | head -n 1)")
	version=$(basename "$tree")
	mkdir -p "$d/depmod/lib/modules"
	ln -sfn "$tree" "$d/depmod/lib/modules/$version"
	depmod -b "$d/depmod" "$version" 2>/dev/null
	rm -rf "$root"
	mkdir -p "$root"/{bin,sbin,dev,proc,sys,tmp,run,etc,lib,var/run}
	install -m 755 "$(find "$d/busybox" -type f -path '*bin/busybox')" "$root/bin/busybox"
	install -m 755 "$knockd" "$root/bin/knockd"
	install -m 755 "$d/rogue" "$d/nft" "$root/bin/"
	ln -s knockd "$root/bin/knock"
	install -m 755 tests/machines/init "$root/init"
	sed -n 's/^    ssh root@rescue //p' docs/containers.md >"$root/rescue"
	modules "$tree" "$root" "$version"
	(cd "$root" && find . | cpio -o -H newc --quiet | gzip -1) >"$d/initrd.gz"
}

# boot: runs the guest until it powers off; its console is in $OUT/$name/console.
boot() {
	local d=$OUT/$name machine terminal=ttyS0 card=virtio-net-pci
	case $qemu in
	i386) machine='-M q35 -cpu qemu32,+sse2' ;;
	x86_64) machine='-M q35 -cpu max' ;;
	aarch64) machine='-M virt -cpu cortex-a57' terminal=ttyAMA0 ;;
	arm) machine='-M virt,highmem=off -cpu cortex-a15' terminal=ttyAMA0 ;;
	riscv64) machine='-M virt' ;;
	ppc64) machine='-M pseries' terminal=hvc0 ;;
	# The vector unit of qemu 7.2 breaks IPv6 checksums.
	s390x) machine='-M s390-ccw-virtio -cpu max,vx=off' terminal=ttysclp0 card=virtio-net-ccw ;;
	esac
	# shellcheck disable=SC2086
	timeout "${LIMIT:-400}" "qemu-system-$qemu" $machine -m 512 -smp 1 -nographic -no-reboot \
		-kernel "$d/kernel" -initrd "$d/initrd.gz" \
		-append "console=$terminal panic=-1 loglevel=3 net.ifnames=0" \
		-netdev hubport,id=a,hubid=0 -device $card,netdev=a \
		-netdev hubport,id=b,hubid=0 -device $card,netdev=b \
		</dev/null >"$d/console" 2>&1
}

mkdir -p "$OUT"
[ "$(id -u)" = 0 ] || { echo "needs root"; exit 1; }
case ${1:-} in
'') names=$DEFAULT ;;
all) names=$(awk 'NF { print $1 }' <<<"$TABLE") ;;
*) names=$* ;;
esac
# qemu PROCESSOR: the package that has its emulator.
qemu() {
	case $1 in
	x86_64 | i386) echo qemu-system-x86 ;;
	aarch64 | arm) echo qemu-system-arm ;;
	ppc64) echo qemu-system-ppc ;;
	*) echo qemu-system-misc ;;
	esac
}
need cpio kmod xz-utils
passed=0 failed=0
printf '%-14s %-28s %7s  %s\n' machine kernel seconds result
for name in $names; do
	read -r _ release arch qemu package <<<"$(grep "^$name " <<<"$TABLE")"
	[ -n "${package:-}" ] || { echo "no such machine: $name"; exit 1; }
	need "$(qemu "$qemu")"
	if ! prepare; then
		failed=$((failed + 1))
		continue
	fi
	start=$SECONDS
	boot
	tr -d '\r' <"$OUT/$name/console" | sed 's/.*\(kernel [0-9]\)/\1/' | grep -aE '^(ok|FAILED|skipped|kernel)' >"$OUT/$name/result"
	good=$(grep -c '^ok' "$OUT/$name/result") bad=$(grep -c '^FAILED' "$OUT/$name/result")
	grep -q '^ok: the end' "$OUT/$name/result" || {
		bad=$((bad + 1))
		echo "FAILED: the end, within ${LIMIT:-400} s" >>"$OUT/$name/result"
	}
	printf '%-14s %-28s %7d  %d ok, %d failed, %d skipped\n' "$name" \
		"$(sed -n 's/^kernel //p' "$OUT/$name/result")" $((SECONDS - start)) "$good" "$bad" \
		"$(grep -c '^skipped' "$OUT/$name/result")"
	sed -n "s/^skipped: /&$name: /p" "$OUT/$name/result"
	[ "$bad" = 0 ] || { sed -n "s/^FAILED: /&$name: /p" "$OUT/$name/result"; tail -n 15 "$OUT/$name/console"; }
	passed=$((passed + good)) failed=$((failed + bad))
done
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
