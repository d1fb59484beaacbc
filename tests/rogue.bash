# shellcheck shell=bash
# What the tests share that turn the sniffer against the monitor or make system
# calls fail: rogue.c, a sniffer's process, a strace that comes and goes.

ROGUE_BIN=${BATS_FILE_TMPDIR:-$T}/rogue

# build_rogue: once for a file of tests.
build_rogue() {
	local cc=cc

	! command -v musl-gcc >/dev/null || cc=musl-gcc
	"$cc" -std=c11 -D_GNU_SOURCE -O1 -static -o "$ROGUE_BIN" "$ROOT/tests/rogue.c"
}

# order DEED [SECONDS]: what the sniffer is to do at the next order, and how wrong
# the clocks of the wall are.
order() {
	printf '%-96s%-32s' "$1" "${2:-0}" 1<>"$T/orders"
}

# rogue DEED ARG...: starts rogue.c's daemon on eth0 with a first deed.
rogue() {
	KNOCKD=$ROGUE_BIN
	order "$1"
	ROGUE=$T/orders start "${@:2}"
}

# deed DEED: makes the sniffer do it, when it hears of one more address.
deed() {
	order "$1"
	poke
}

# once DEED: makes the sniffer do it once, and waits until it is done.
once() {
	order "once $1"
	poke
	until_true "$WAIT" is_done || { echo "not done: $1"; return 1; }
}

is_done() {
	local first

	IFS= read -rN 1 first <"$T/orders"
	[ "$first" = ' ' ]
}

poke() {
	DEEDS=$((${DEEDS:-0} + 1))
	in_s ip addr add "10.98.$((DEEDS / 250)).$((DEEDS % 250))/32" dev eth0
}

# sniffer: its process id, when there is one.
sniffer() {
	local p

	for p in $(pids_in "$S" "$(basename "$KNOCKD")"); do
		[ "$p" = "$PID" ] || [ "$(ppid_of "$p")" != "$PID" ] || echo "$p"
	done
}

# holds PID WHAT...: which of these its memory has: texts, or knocks (7000,8000) as
# they are kept there.
holds() {
	# shellcheck disable=SC2016
	perl -e '
		my $pid = shift;
		my (%bytes, %found);
		$bytes{$_} = /^[\d,]+$/ ? pack("L*", split /,/) : $_ for @ARGV;
		open my $maps, "<", "/proc/$pid/maps" or die;
		open my $memory, "<:raw", "/proc/$pid/mem" or die;
		while (<$maps>) {
			/^([0-9a-f]+)-([0-9a-f]+) r/ or next;
			my ($at, $end) = map { no warnings; hex } $1, $2;
			my ($all, $piece) = "";
			sysseek $memory, $at, 0 or next;
			$all .= $piece while length $all < $end - $at and
				sysread $memory, $piece, $end - $at - length $all;
			$found{$_} ||= index($all, $bytes{$_}) >= 0 for @ARGV;
		}
		print join(" ", grep { $found{$_} } @ARGV), "\n"' "$@"
}

ppid_of() {
	sed 's/.*) [A-Z] //; s/ .*//' "/proc/$1/stat" 2>/dev/null
}

# has_sniffer: waits for one that is locked in, and so listens; sets SNIFFER.
has_sniffer() {
	one_sniffer() {
		SNIFFER=$(sniffer)
		[[ $SNIFFER =~ ^[0-9]+$ ]] || return 1
		grep -qs '^Max processes *0 *0 ' "/proc/$SNIFFER/limits"
	}
	until_true "$WAIT" one_sniffer
}

# schedules MODE [ACTION]: tests/schedules.bash as init of a pid namespace, in a
# network of its own.
schedules() {
	local dir status=0

	dir=$(mktemp -d "$T/w.XXXXXX")
	# shellcheck disable=SC2016
	unshare -n -p -f --mount-proc --kill-child bash -c '
		ip link set lo up
		mount -t tmpfs none /run
		mount -t tmpfs none /var/lib
		for a in 192.0.2.1 192.0.2.2 192.0.2.3; do ip addr add $a/32 dev lo; done
		for a in fd88::1 fd88::2; do ip addr add $a/128 dev lo nodad; done
		exec bash "$@"' - "$ROOT/tests/schedules.bash" "$KNOCKD" "$dir" "$@" 3>&- || status=$?
	# Of sniffers that were killed before they had removed theirs.
	rmdir /tmp/knockd.* 2>/dev/null || :
	return $status
}
