#!/bin/sh
# All tests. ./test.sh runs them all, ./test.sh config.bats reload those files whose
# name has such a part (unit is one, too); ./test.sh --check the unit tests and the
# corpus, without root, network or anything to install.
#
# On Debian and Alpine it first installs what is missing, as root, and says so;
# NO_INSTALL=1 keeps it from that. What it makes is in build/. JOBS: files tested at
# the same time. FILE_TIMEOUT: seconds that a file may take (900). KNOCKD, KNOCK: other
# binaries than ./knockd and ./knock to test.
#
# A test that fails, and then passes alone, is named as unsteady and counts as passed.
# The last line is `N passed, N failed, N skipped`; exit status 1 if any failed.
set -u
cd "$(dirname "$0")" || exit 1
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin # where servers are, for a user too
unset MAKEFLAGS MFLAGS MAKELEVEL # `make -C DIR test`: not for the tests' own make

# --session COMMAND...: as the leader of a session; for ourselves, see below. On
# SIGTERM it says what processes there are and ends those of its process group; what
# is left in a test's namespaces then ends by itself (box() in tests/lib.bash).
if [ "${1:-}" = --session ]; then
	shift
	trap 'timeout 10 ps -o pid,ppid,etime,stat,args -e 2>&1 | sed "s/^/# /"; kill -KILL 0' TERM
	"$@" </dev/null &
	wait $!
	exit
fi

# --one FILE: one file's tests, as TAP in $TAPS; for ourselves, see below.
if [ "${1:-}" = --one ]; then
	name=$(basename "$2" .bats)
	tap=$TAPS/$name.tap
	start=$(date +%s)
	case $2 in
	*.bats) run='bats --tap' ;;
	*) run='' ;;
	esac
	# A test that hangs where bats has no limit (setup_file, a process that keeps the
	# output open) must not hang all others. (A packager's build may lack setsid.)
	guard="timeout -k 30 ${FILE_TIMEOUT:-900} setsid ./test.sh --session"
	command -v setsid >/dev/null || guard=''
	pid=''
	trap '[ -z "$pid" ] || kill "$pid"; exit 1' INT TERM HUP QUIT
	# shellcheck disable=SC2086
	$guard $run "./$2" >"$tap" 2>&1 &
	pid=$!
	wait "$pid"
	status=$?
	trap - INT TERM HUP QUIT
	# A run that broke off is a failure of its own.
	planned=$(sed -n 's/^1\.\.\([0-9]*\).*/\1/p' "$tap" | head -n 1)
	ran=$(grep -cE '^(not )?ok ' "$tap")
	if [ "${planned:-none}" != "$ran" ] || [ "$ran" = 0 ]; then
		echo "not ok $((ran + 1)) $name: ${planned:-no} tests planned, $ran run, exit status $status"
		tail -n 200 "$tap" | sed 's/^/# /'
	elif [ "$status" != 0 ] && ! grep -q '^not ok' "$tap"; then
		echo "not ok $((ran + 1)) $name: exit status $status"
	fi >"$tap.end"
	cat "$tap.end" >>"$tap"
	rm "$tap.end"
	echo "$name: $(grep -c '^ok ' "$tap") ok, $(grep -c '^not ok ' "$tap") not ok," \
		"$(($(date +%s) - start)) s"
	exit 0
fi

# --check: what a packager's build can run. Without bats the corpus is skipped.
check=''
if [ "${1:-}" = --check ]; then
	check=yes NO_INSTALL=1
	set -- unit corpus
fi

# --- what is missing -------------------------------------------------------------

# tool COMMAND DEBIAN-PACKAGE ALPINE-PACKAGE [WORD]: must be there, and if a WORD is
# given, say it for -V: busybox has small ones of the same names. `-`: no package.
missing='' packages=''
tool() {
	if command -v "$1" >/dev/null 2>&1; then
		[ -n "${4:-}" ] || return 0
		"$1" -V 2>&1 | grep -q "$4" && return
	fi
	missing="$missing $1"
	case $system in
	debian) p=$2 ;;
	alpine) p=$3 ;;
	*) p=- ;;
	esac
	for q in $p; do
		case "$packages " in *" $q "*) continue ;; esac
		[ "$q" = - ] || packages="$packages $q"
	done
}

if command -v apt-get >/dev/null 2>&1; then
	system=debian
elif command -v apk >/dev/null 2>&1; then
	system=alpine
else
	system=other
fi

tools() {
	# To build.
	tool make make make
	tool cc gcc gcc
	[ $system = alpine ] || tool musl-gcc musl-tools -
	# The headers of the libc, for the tests' own programs.
	[ -e /usr/include/stdio.h ] || tool stdio.h libc6-dev musl-dev
	tool git git git
	# To test at all.
	tool bash bash bash
	tool bats bats bats
	tool ip iproute2 iproute2 iproute2
	tool unshare util-linux util-linux util-linux
	tool nsenter util-linux util-linux util-linux
	tool setpriv util-linux setpriv util-linux
	tool ps procps procps
	# Firewalls.
	tool iptables iptables iptables
	tool iptables-legacy iptables iptables-legacy
	tool nft nftables nftables
	tool ipset ipset ipset
	tool conntrack conntrack conntrack-tools
	tool ufw ufw ufw
	tool firewalld firewalld -
	tool dbus-daemon dbus-daemon dbus
	# Clients, servers, scanners.
	tool socat socat socat
	tool nc netcat-openbsd netcat-openbsd
	tool nmap nmap nmap
	tool masscan masscan masscan
	tool hping3 hping3 hping3
	tool tcpdump tcpdump tcpdump
	tool curl curl curl
	tool ssh openssh-client openssh-client
	tool sshd openssh-server openssh-server
	tool python3 python3 python3
	tool redis-server redis-server redis
	tool redis-cli redis-tools redis
	# What knockd is looked at with, and what stands beside it.
	tool strace strace strace
	tool valgrind 'valgrind libc6-dbg' 'valgrind musl-dbg'
	tool capsh libcap2-bin libcap-utils
	if [ $system = alpine ]; then
		tool busybox.static - busybox-static
	else
		tool busybox busybox-static -
	fi
	[ $system = alpine ] || tool systemctl systemd -
	tool logrotate logrotate logrotate
	tool fail2ban-regex fail2ban fail2ban
	tool zsh zsh zsh
	tool docker-compose docker-compose docker-cli-compose
	tool podman podman podman
	# Documents, scripts, packages, other machines.
	if [ $system = debian ]; then
		tool dpkg-buildpackage dpkg-dev -
		tool dh debhelper -
		tool lintian lintian -
		tool fakeroot fakeroot -
		tool makepkg makepkg -
		tool pacman-conf pacman-package-manager -
		tool bsdtar libarchive-tools -
		tool nix-instantiate nix-bin -
	fi
	tool mandoc mandoc mandoc
	tool xmllint libxml2-utils libxml2-utils
	tool shellcheck shellcheck shellcheck
	tool debootstrap debootstrap -
	tool s390x-linux-gnu-gcc 'gcc-s390x-linux-gnu libc6-dev-s390x-cross' -
	tool i686-linux-gnu-gcc 'gcc-i686-linux-gnu libc6-dev-i386-cross' -
	tool arm-linux-gnueabihf-gcc 'gcc-arm-linux-gnueabihf libc6-dev-armhf-cross' -
	tool qemu-s390x-static qemu-user-static -
}

# forbid_starts, allow_starts: between the two no package starts a service of its
# (Debian's policy-rc.d, which is put back as it was).
policy=/usr/sbin/policy-rc.d
forbid_starts() {
	"$policy" knockd-tests start >/dev/null 2>&1
	[ $? != 101 ] || return 0
	[ ! -e "$policy" ] || mv "$policy" "$policy.of-before"
	printf '#!/bin/sh\nexit 101\n' >"$policy"
	chmod 755 "$policy"
	forbidden=1
}

allow_starts() {
	[ -n "${forbidden:-}" ] || return 0
	rm -f "$policy"
	[ ! -e "$policy.of-before" ] || mv "$policy.of-before" "$policy"
	forbidden=''
}

# boot_links: what systemd or init starts at the next boot.
boot_links() {
	find /etc/systemd/system /etc/rc[S2-5].d -type l \( -path '*.wants/*' -o -name 'S*' \) \
		2>/dev/null | sort
}

# keep_boot_links FILE: those that are not in the file of links are removed: what is
# installed for the tests starts at no boot either. (systemd's own may stay.)
keep_boot_links() {
	boot_links | comm -13 "$1" - | while read -r link; do
		case ${link##*/} in systemd-* | getty@* | *.target) continue ;; esac
		rm -f "$link"
	done
}

# apt_install PACKAGE...: nothing that is installed has to go for it.
apt_install() {
	apt-get -qy -o DPkg::Lock::Timeout=120 install --no-install-recommends \
		--no-remove "$@" >>build/install.log 2>&1 </dev/null
}

# install PACKAGE...: all at once, or one by one if one is not to be had.
install() {
	case $system in
	debian)
		export DEBIAN_FRONTEND=noninteractive
		boot_links >build/boot-links
		forbid_starts
		apt-get -q update >build/install.log 2>&1
		apt_install "$@" || for p; do
			apt_install "$p" || echo "not installed: $p (see build/install.log)"
		done
		allow_starts
		keep_boot_links build/boot-links
		;;
	alpine)
		apk update >build/install.log 2>&1
		apk add "$@" >>build/install.log 2>&1 ||
			for p; do
				apk add "$p" >>build/install.log 2>&1 || echo "not installed: $p"
			done
		;;
	esac
}

# unpacked DIR PACKAGE...: Debian's packages unpacked in build/DIR, not installed.
unpacked() {
	dir=build/$1
	shift
	[ ! -d "$dir" ] || return 0
	mkdir -p build/debs
	for p; do
		ls build/debs/"$p"_*.deb >/dev/null 2>&1 ||
			(cd build/debs && apt-get -q download "$p") >build/download.log 2>&1 || {
			echo "no $p: $(tail -n 1 build/download.log)"
			return
		}
	done
	for p; do dpkg -x build/debs/"$p"_*.deb "$dir"; done
}

# Debian's knockd 0.8, to compare with; and a busybox that needs no library, where
# the one that is installed does.
unpack() {
	[ $system = debian ] || return 0
	! ldd "$(command -v busybox)" >/dev/null 2>&1 || unpacked busybox busybox-static
	[ ! -d build/knockd-0.8 ] || return 0
	pcap=$(apt-cache depends knockd 2>/dev/null |
		sed -n 's/.*Depends: \(libpcap0[^ ]*\).*/\1/p' | head -n 1)
	[ -n "$pcap" ] || { apt-get -q update >/dev/null 2>&1; pcap=libpcap0.8; }
	unpacked knockd-0.8 knockd "$pcap"
}

# A directory of its own, should two run at the same time, each perhaps as process 1
# of a container; kept as build/test.
mkdir -p build || exit 1
TAPS=$(mktemp -d build/test.XXXXXX) || exit 1
export TAPS
trap 'allow_starts; rm -rf "$TAPS"' EXIT
trap 'exit 1' INT TERM HUP
[ -n "$check" ] || tools
if [ -n "$missing" ]; then
	if [ -n "${NO_INSTALL:-}" ] || [ "$(id -u)" != 0 ] || [ -z "$packages" ]; then
		echo "missing:$missing${packages:+ (packages:$packages)}"
	else
		echo "missing:$missing; installing:$packages"
		start=$(date +%s)
		# shellcheck disable=SC2086
		install $packages
		echo "the installation took $(($(date +%s) - start)) s"
	fi
fi
[ -n "${NO_INSTALL:-}" ] || unpack
[ "$(id -u)" = 0 ] || [ -n "$check" ] || echo "not root: what needs network namespaces is skipped"

# --- build ------------------------------------------------------------------------

# step WHAT COMMAND...: silent unless it fails.
failed_steps=''
step() {
	what=$1
	shift
	"$@" >"$TAPS/step" 2>&1 && return
	echo "$what failed: $*"
	cat "$TAPS/step"
	failed_steps=$((${failed_steps:-0} + 1))
	return 1
}

step "the build" make || { echo "0 passed, 1 failed, 0 skipped"; exit 1; }

# unit: with the sanitizers where the compiler has them (not on Alpine).
unit() {
	flags='-std=c11 -D_GNU_SOURCE -g -O1 -I.'
	# shellcheck disable=SC2086
	if echo 'int main(void) { return 0; }' | gcc -fsanitize=address,undefined -x c - \
		-o build/sanitizers 2>/dev/null && build/sanitizers; then
		gcc $flags -fsanitize=address,undefined -fno-sanitize-recover=undefined -o build/unit tests/unit.c
	else
		cc $flags -o build/unit tests/unit.c
	fi
}

[ ! -e tests/gen.c ] || [ -n "$check" ] || step "the packet generator" cc -O2 -std=c11 -D_GNU_SOURCE -o build/gen tests/gen.c

# --- run --------------------------------------------------------------------------

chosen() {
	[ -n "$wanted" ] || return 0
	for w in $wanted; do
		case $1 in *"$w"*) return 0 ;; esac
	done
	return 1
}

wanted=$*
run=''
if [ -e tests/unit.c ] && chosen tests/unit.c && step "the unit tests' build" unit; then
	run=build/unit
fi
# The longest first; the floods by themselves at the end, they want the machine.
alone=''
# shellcheck disable=SC2012,SC2045
for f in tests/scan.bats $(ls -S tests/*.bats); do
	{ [ -e "$f" ] && chosen "$f"; } || continue
	case "$run $alone " in *" $f "*) continue ;; esac
	case $f in
	*/flood.bats) alone="$alone $f" ;;
	*) run="$run $f" ;;
	esac
done
if [ -z "$run$alone$failed_steps" ]; then
	echo "no such tests: $*"
	exit 1
fi
if [ -z "$run$alone" ]; then
	:
elif command -v bats >/dev/null 2>&1; then
	BATS_TEST_TIMEOUT=${BATS_TEST_TIMEOUT:-300} export BATS_TEST_TIMEOUT
	# shellcheck disable=SC2086
	for group in "$run" "$alone"; do
		[ -n "$group" ] || continue
		printf '%s\n' $group | xargs -P "${JOBS:-4}" -n 1 ./test.sh --one ||
			failed_steps=$((${failed_steps:-0} + 1))
	done
else
	case $run in build/unit*) ./test.sh --one build/unit ;; esac
	if [ -n "$check" ]; then
		printf '1..1\nok 1 corpus # skip bats is not installed\n' >"$TAPS/corpus.tap"
	else
		echo "bats is not installed: only the unit tests can be run"
		failed_steps=$((${failed_steps:-0} + 1))
	fi
fi

# --- a second try -----------------------------------------------------------------

# One test of hundreds may fail because the machine was too busy for it. If no more
# than three failed, each runs once more, alone, for two minutes at most. What passes
# then counts as passed, and is named with what it printed: such a test, or the program,
# has a fault to be found. (Unit tests have no second try: they wait for nothing.)
: >"$TAPS/none.tap"
: >"$TAPS/unsteady"
second_try() {
	tap=$TAPS/$(basename "$1" .bats).tap
	[ -e "$tap" ] || return 0
	sed -n 's/^not ok \([0-9]* .*\)/\1/p' "$tap" | sed 's/ # timeout after .*//' >"$TAPS/failed"
	while read -r number name; do
		# In bats' --filter some characters mean more than themselves.
		# shellcheck disable=SC2016
		filter=$(printf '%s\n' "$name" | sed 's/[][\\.*^$(){}?+|]/\\&/g')
		BATS_TEST_TIMEOUT=100 timeout -k 10 120 setsid ./test.sh --session \
			bats --tap --filter "^$filter\$" "$1" >"$TAPS/second" 2>&1 </dev/null || continue
		grep '^ok 1 ' "$TAPS/second" | grep -qv '# skip' || continue
		echo "$(basename "$1" .bats): $name" >>"$TAPS/unsteady"
		awk -v n="$number" '/^(not )?ok |^1\.\./ { show = $1 == "not" && $3 == n; next } show' \
			"$tap" >>"$TAPS/unsteady.output"
		sed "s/^not ok $number /ok $number /" "$tap" >"$TAPS/second"
		mv "$TAPS/second" "$tap"
	done <"$TAPS/failed"
}

if [ "$(cat "$TAPS"/*.tap | grep -c '^not ok ')" -le 3 ]; then
	for file in $run $alone; do
		case $file in *.bats) second_try "$file" ;; esac
	done
fi

# --- say what came of it --------------------------------------------------------------

# Each failure with what it printed.
awk '/^not ok/ { show = 1; sub(/.*\//, "", FILENAME); print "\n" FILENAME ": " $0; next }
	/^ok|^1\.\./ { show = 0 } show' "$TAPS"/*.tap
awk '/^ok .*# skip/ { sub(/^.*# skip */, ""); why[$0]++ }
	END { for (w in why) print "skipped " why[w] ": " w }' "$TAPS"/*.tap
sed 's/^/unsteady, failed and then passed alone: /' "$TAPS/unsteady"
[ ! -s "$TAPS/unsteady" ] || cat "$TAPS/unsteady.output"
rm -rf build/test
cp -r "$TAPS" build/test
cat "$TAPS"/*.tap | awk -v failed="${failed_steps:-0}" '
	/^not ok / { failed++; next }
	/^ok .*# skip/ { skipped++; next }
	/^ok / { passed++ }
	END {
		printf "%d passed, %d failed, %d skipped\n", passed, failed, skipped
		exit failed > 0
	}'
