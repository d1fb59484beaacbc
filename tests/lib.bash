# shellcheck shell=bash
# What the system tests share: a small network of namespaces for each test,
# starting and stopping the daemon, waiting for log lines.
#
#	S  the server: eth0 10.77.0.1 fd77::1, own /dev (so own /dev/log), /run, /var/lib
#	   and /etc
#	A  a client: br0 10.77.0.2 fd77::2, its bridge joins S and B
#	B  another client: eth0 10.77.0.3 fd77::3; also sends the marks (see mark)
#
# The namespaces have no names: they live as long as their processes, and
# teardown ends every process in them. Nothing outside is touched.

ROOT=${ROOT:-$(cd "${BATS_TEST_DIRNAME:-.}/.." && pwd)}
KNOCKD=${KNOCKD:-$ROOT/knockd}
KNOCK=${KNOCK:-$ROOT/knock}
OLD_DIR=${OLD_DIR:-$ROOT/build/knockd-0.8}

# What SIGTERM makes of the daemon's exit status.
TERM_STATUS=${TERM_STATUS:-0}
# Seconds to wait for an event that must come. Only a failing test waits so long.
WAIT=${WAIT:-30}

S='' A='' B='' PID=''
T=${BATS_TEST_TMPDIR:-}
LOG=$T/log

# --- waiting ---------------------------------------------------------------

# A pipe that nobody writes to: reading it with a timeout is a pause without a
# process of its own.
[ -z "$T" ] || { mkfifo "$T/.pause" 2>/dev/null || :; exec {PAUSE}<>"$T/.pause"; }

pause() {
	read -rt "$1" _ <&"$PAUSE" || :
}

# until_true SECONDS COMMAND...: repeats the command until it succeeds, often at
# first, then every tenth of a second.
until_true() {
	local end=$((SECONDS + $1)) ms=10

	shift
	until "$@"; do
		[ "$SECONDS" -le "$end" ] || return 1
		pause "0.0$ms"
		ms=$((ms < 90 ? ms + 5 : 99))
	done
}

# count FILE REGEX: the number of lines that match.
count() {
	local n

	n=$(grep -cE -e "$2" -- "$1" 2>/dev/null) || :
	echo "${n:-0}"
}

has_lines() {
	[ "$(count "$1" "$2")" -ge "$3" ]
}

# wait_for_line FILE REGEX [COUNT]: until so many lines of the file match.
wait_for_line() {
	until_true "$WAIT" has_lines "$1" "$2" "${3:-1}" && return
	echo "no line (or not ${3:-1}) in $1 matched: $2"
	return 1
}

# logged REGEX [COUNT]: the same for the daemon's log.
logged() {
	wait_for_line "$LOG" "$1" "${2:-1}"
}

# not_logged REGEX: no such line up to now; mark makes now a defined time.
not_logged() {
	! grep -E -e "$1" -- "$LOG" || { echo "in the log, should not be: $1"; return 1; }
}

# not COMMAND...: it must fail. (A line that begins with ! fails no test.)
not() {
	! "$@" || { echo "should have failed: $*"; return 1; }
}

is() {
	[ "$1" = "$2" ] || { printf 'got:    %s\nwanted: %s\n' "$1" "$2"; return 1; }
}

matches() {
	[[ $1 =~ $2 ]] || { printf 'got: %s\nnot matched by: %s\n' "$1" "$2"; return 1; }
}

# uptime_ms: milliseconds since the boot, cut to 10.
uptime_ms() {
	local up

	read -r up _ </proc/uptime
	echo $((10#${up//./} * 10))
}

# need TOOL...: skips the test when one is not installed.
need() {
	local t

	for t; do
		command -v "$t" >/dev/null || skip "$t is not installed"
	done
}

# --- namespaces ------------------------------------------------------------

need_namespaces() {
	[ "$(id -u)" = 0 ] || skip "needs root"
	unshare -mn true 2>/dev/null || skip "may not make namespaces here"
}

# box VAR SCRIPT OPTION...: sets VAR to a process that holds new namespaces. Should
# the test be killed, with its process group, it ends what is left in them.
# shellcheck disable=SC2016
HOLD='
	echo $$
	exec <&- >&- 2>&-
	exec {pause}<>"$T/.pause"
	while [ -e "/proc/$TEST" ]; do read -rt 2 _ <&$pause || :; done
	for p in /proc/[0-9]*; do
		[ "$p" = /proc/$$ ] || [ ! "$p/ns/net" -ef /proc/$$/ns/net ] || kill -KILL "${p#/proc/}"
	done'

box() {
	local fd pid var=$1 script=$2

	shift 2
	exec {fd}< <(TEST=$$ exec setsid unshare "$@" bash -c "$script$HOLD" 3>&-)
	read -r pid <&"$fd" || { echo "no namespace: unshare $*"; return 1; }
	exec {fd}<&-
	printf -v "$var" %s "$pid"
}

# The server's own /dev, /run and /etc.
# shellcheck disable=SC2016
PRIVATE_DIRS='set -e
	d=$T/.dev; mkdir "$d" "$T/.etc"
	mount -t tmpfs -o mode=755 none "$d"
	for n in null zero full random urandom tty; do
		touch "$d/$n"; mount --bind "/dev/$n" "$d/$n"
	done
	if [ -d /dev/net ]; then mkdir "$d/net"; mount --bind /dev/net "$d/net"; fi
	if [ -d /dev/pts ]; then mkdir "$d/pts"; mount --rbind /dev/pts "$d/pts"; fi
	ln -s pts/ptmx "$d/ptmx"; ln -s /proc/self/fd "$d/fd"
	ln -s fd/0 "$d/stdin"; ln -s fd/1 "$d/stdout"; ln -s fd/2 "$d/stderr"
	mount --rbind "$d" /dev
	mount -t tmpfs -o mode=755 none /run; mkdir /run/sshd /run/lock
	mount -t tmpfs -o mode=755 none /var/lib
	mount -t tmpfs -o mode=755 none "$T/.etc"; mkdir "$T/.etc/u" "$T/.etc/w"
	if ! mount -t overlay -o "lowerdir=/etc,upperdir=$T/.etc/u,workdir=$T/.etc/w" etc /etc 2>/dev/null; then
		cp -a /etc/. "$T/.etc/u"
		mount --bind "$T/.etc/u" /etc
	fi
	rm -f /etc/resolv.conf /etc/knockd.conf
	'

in_s() { nsenter -t "$S" -m -n -r -w -- "$@"; }
in_a() { nsenter -t "$A" -n -- "$@"; }
in_b() { nsenter -t "$B" -n -- "$@"; }

# bg BOX COMMAND...: runs it there beside the test; $! is its process. In S if BOX is S.
bg() {
	local box=$1

	shift
	if [ "$box" = "$S" ]; then
		nsenter -t "$box" -m -n -r -w -- "$@" <&0 3>&- &
	else
		nsenter -t "$box" -n -- "$@" <&0 3>&- &
	fi
}

# net_up: makes S, A and B and joins them.
net_up() {
	local s=02:00:00:00:00:01 a=02:00:00:00:00:02 b=02:00:00:00:00:03

	need_namespaces
	export T
	box S "$PRIVATE_DIRS" -m --propagation private -n
	box A '' -n
	box B '' -n
	# Not the same index on both ends: the kernel then takes up to a second
	# to notice that the link is up.
	in_s ip -batch - <<-EOF
	link set lo up
	link add index 9 eth0 address $s type veth peer name s0 netns $A
	addr add 10.77.0.1/24 dev eth0
	addr add fd77::1/64 dev eth0 nodad
	link set eth0 up
	neigh replace 10.77.0.2 lladdr $a dev eth0 nud permanent
	neigh replace 10.77.0.3 lladdr $b dev eth0 nud permanent
	neigh replace fd77::2 lladdr $a dev eth0 nud permanent
	neigh replace fd77::3 lladdr $b dev eth0 nud permanent
	EOF
	in_a ip -batch - <<-EOF
	link set lo up
	link add br0 address $a type bridge stp_state 0 forward_delay 0 mcast_snooping 0
	link add b0 type veth peer name eth0 address $b netns $B
	link set s0 master br0 up
	link set b0 master br0 up
	addr add 10.77.0.2/24 dev br0
	addr add fd77::2/64 dev br0 nodad
	link set br0 up
	neigh replace 10.77.0.1 lladdr $s dev br0 nud permanent
	neigh replace fd77::1 lladdr $s dev br0 nud permanent
	EOF
	in_b ip -batch - <<-EOF
	link set lo up
	addr add 10.77.0.3/24 dev eth0
	addr add fd77::3/64 dev eth0 nodad
	link set eth0 up
	neigh replace 10.77.0.1 lladdr $s dev eth0 nud permanent
	neigh replace fd77::1 lladdr $s dev eth0 nud permanent
	EOF
}

# listens BOX tcp|udp PORT: whether something does.
listens() {
	local st=0A

	[ "$2" = tcp ] || st=07
	grep -qE "^ *[0-9]+: [0-9A-F]+:$(printf %04X "$3") [0-9A-F:]+ $st " \
		"/proc/$1/net/$2" "/proc/$1/net/${2}6"
}

# pids_in BOX [NAME]: the processes in a box's network but its holder; the daemon's
# name means its sniffer, too. (In a shell of its own, since bats traces every
# command of this one.)
# shellcheck disable=SC2016
PIDS_IN='for p in /proc/[0-9]*; do
	[ "$p/ns/net" -ef "/proc/$1/ns/net" ] || continue
	[ "${p#/proc/}" != "$1" ] || continue
	read -r comm 2>/dev/null <"$p/comm" || continue
	[ "$comm" != "knockd: sniffer" ] || [ "${2:-}" != "$3" ] || comm=$2
	[ -n "${2:-}" ] && [ "$comm" != "$2" ] || echo "${p#/proc/}"
done'

pids_in() {
	bash -c "$PIDS_IN" pids_in "$1" "${2:-}" "$(basename "$KNOCKD")" 3>&-
}

# Ends every process in the boxes but the holders, until none is left.
# shellcheck disable=SC2016
EMPTY='for ((i = 0; i < 500; i++)); do
	none=1
	for box; do
		for p in /proc/[0-9]*; do
			[ "$p/ns/net" -ef "/proc/$box/ns/net" ] && [ "${p#/proc/}" != "$box" ] || continue
			kill -KILL "${p#/proc/}" 2>/dev/null
			none=0
		done
	done
	[ $none = 0 ] || exit 0
	[ $i = 0 ] || sleep 0.02
done
exit 1'

# shellcheck disable=SC2086,SC2120
# net_down BOX...: ends every process in S, A, B and the other boxes, and so these.
net_down() {
	local all="$S $A $B $*" rc=0

	[ -n "${all// /}" ] || return 0
	bash -c "$EMPTY" empty $all 3>&- || { echo "processes are left in a box"; rc=1; }
	kill -KILL $all $PID 2>/dev/null || :
	# The shell would tell of each.
	{ wait $all $PID; } 2>/dev/null || :
	return $rc
}

# --- the daemon ------------------------------------------------------------

# conf: writes $T/knockd.conf: logs to $LOG, has a door for mark; the rest
# comes from standard input.
conf() {
	{
		printf '[options]\n\tlogfile = %s\n' "$LOG"
		printf '[mark]\n\tsequence = 65000:udp\n'
		cat
	} >"$T/knockd.conf"
	chmod 600 "$T/knockd.conf"
}

READY='starting up, listening on '

# on_record FILE [times]: how many openings a state file holds, or how many start
# commands of theirs.
on_record() {
	awk -v times="${2:-}" '
		/^open / { n[++at] = times ? $4 : 1 }
		/^gone / { n[$2] = 0 }
		END { for (i in n) sum += n[i]; print sum + 0 }' "$1"
}

# A door "d" with a stop command after $1 seconds; what runs goes to $T/did.
grant_door() {
	conf <<-EOF2
	[d]
	sequence = 7000,8000
	start_command = echo start %IP% >> $T/did
	cmd_timeout = $1
	stop_command = echo stop %IP% >> $T/did
	EOF2
}

# did TEXT [N]: waits until N lines (1) of $T/did are this one.
did() {
	wait_for_line "$T/did" "^$1\$" "${2:-1}"
}

times_did() {
	count "$T/did" "^$1\$"
}

# opened DOOR [N]: waits until the log has N openings (1) of the door, and $T/did N
# lines that begin with its name.
opened() {
	logged " $1: OPEN SESAME" "${2:-1}"
	wait_for_line "$T/did" "^$1 " "${2:-1}"
}

ready_lines() {
	cat "$LOG" "$T/out" "$T/err" "$T/syslog" 2>/dev/null | grep -c "$READY" || :
}

# started N: more than N ready lines, or the daemon has gone.
started() {
	[ "$(ready_lines)" -gt "$1" ] || ! running "$PID"
}

running() {
	local s

	s=$(sed 's/.*) //; s/ .*//' "/proc/$1/stat" 2>/dev/null) || return 1
	[ -n "$s" ] && [ "$s" != Z ]
}

# all_but CAPABILITY...: every other one, by number, with commas.
all_but() {
	local last n out=

	read -r last </proc/sys/kernel/cap_last_cap
	for ((n = 0; n <= last; n++)); do
		[[ " $* " == *" $n "* ]] || out+=,$n
	done
	echo "${out#,}"
}

# launch ARG...: starts the daemon in S and does not wait; sets PID.
launch() {
	: >"$T/out"; : >"$T/err"
	nsenter -t "$S" -m -n -r -w -- "$KNOCKD" -c "$T/knockd.conf" -p "$T/k.pid" \
		"$@" </dev/null >"$T/out" 2>"$T/err" 3>&- &
	PID=$!
}

# start_knockd ARG...: starts the daemon in S, returns when it is ready.
start_knockd() {
	local n

	n=$(ready_lines)
	launch "$@"
	until_true "$WAIT" started "$n" && running "$PID" && return
	echo "knockd $* did not start:"
	cat "$T/out" "$T/err"
	return 1
}

# start ARG...: the usual case, on eth0.
start() {
	start_knockd -i eth0 "$@"
}

gone() {
	! running "$1"
}

# ended PID STATUS: waits for the child and checks how it ended.
ended() {
	local rc=0

	until_true "$WAIT" gone "$1" || { echo "process $1 does not end"; return 1; }
	wait "$1" || rc=$?
	is "exit status $rc" "exit status $2"
}

no_daemon_left() {
	[ -z "$(pids_in "$S" "$(basename "$KNOCKD")")" ]
}

# stop_knockd [SIGNAL]: ends the daemon; exit status 0 and no process is left.
stop_knockd() {
	kill -"${1:-TERM}" "$PID"
	ended "$PID" "$TERM_STATUS"
	until_true "$WAIT" no_daemon_left || { echo "a process is left"; return 1; }
	PID=''
}

# crash: SIGKILL for the monitor and its sniffer.
crash() {
	local p

	for p in $(pids_in "$S" "$(basename "$KNOCKD")"); do
		kill -KILL "$p" 2>/dev/null || :
	done
	wait "$PID" || :
	until_true "$WAIT" no_daemon_left
	PID=''
}

# mark: B hits the door "mark" and waits for the log line: whatever was sent
# before has been dealt with.
mark() {
	local n

	n=$(count "$LOG" 'mark: OPEN SESAME')
	in_b bash -c 'echo >/dev/udp/10.77.0.1/65000'
	logged 'mark: OPEN SESAME' $((n + 1))
}

# reloaded [COUNT]: until the daemon has so many new configurations. (It has a log file,
# which it opens again.) What is sent from here on, the new sniffer reads.
reloaded() {
	logged 're-opening log file' "${1:-1}"
}

# knock_a, knock_b ARG...: the client from A and from B.
knock_a() { in_a "$KNOCK" "$@"; }
knock_b() { in_b "$KNOCK" "$@"; }

# profile FILE: a file of profiles under the home of a user of A, from stdin.
profile() {
	mkdir -p "$(dirname "$T/home/$1")"
	cat >"$T/home/$1"
	chmod 600 "$T/home/$1"
}

# at_home ARG...: the client of that user.
at_home() {
	in_a env -u XDG_CONFIG_HOME HOME="$T/home" timeout 60 "$KNOCK" "$@"
}

# knock_until REGEX COUNT ARG...: knocks from A, again each second, until the log
# has so many such lines: for when it is not known when a change takes effect.
knock_until() {
	local re=$1 n=$2 end=$((SECONDS + WAIT))

	shift 2
	while [ "$SECONDS" -le "$end" ]; do
		knock_a "$@" || :
		! until_true 0 has_lines "$LOG" "$re" "$n" || return 0
	done
	echo "knocks $* did not lead to: $re"
	return 1
}

# copy_for_all: $T/copy, a daemon's binary that any user may run; $T is open to all.
copy_for_all() {
	chmod 711 "$BATS_RUN_TMPDIR" "$BATS_RUN_TMPDIR/test"
	chmod 755 "$T"
	cp "$KNOCKD" "$T/copy"
	chmod 755 "$T/copy"
}

# log_text: the daemon's log without the times.
log_text() {
	sed 's/^\[[0-9-]* [0-9:]*\] //' "$LOG"
}

# help_options: the options of a --help text on standard input, a word each: what stands in
# its first column.
help_options() {
	sed -n 's/^ *\(-.*\)/\1/p' | sed 's/  .*//' |
		grep -oE '(^|[ ,])--?[A-Za-z0-9][A-Za-z0-9-]*' | tr -d ' ,' | sort -u
}

# debian_root NAME PACKAGE...: build/NAME is a small Debian with these packages and
# nothing else; made once, kept for the next time. NAME/.made is there if it is.
debian_root() {
	local dir=$ROOT/build/$1 log=$BATS_FILE_TMPDIR/debootstrap

	shift
	command -v debootstrap >/dev/null || return 0
	mkdir -p "$ROOT/build"
	(
		flock 9
		[ "$(cat "$dir/.made" 2>/dev/null)" != "$*" ] || exit 0
		rm -rf "$dir"
		if timeout 280 "$ROOT/tests/debian_root.sh" make "$dir" "$@" >"$log" 2>&1 9>&-; then
			echo "$*" >"$dir/.made"
		else
			tail -n 3 "$log"
		fi
	) 9>"$dir.lock"
}

# copy_of_machine ROOT: mounts in S, at $M, a copy of that root file system which
# forgets what is written.
copy_of_machine() {
	local d

	M=$T/machine
	mkdir -p "$M" "$T/over"
	in_s mount -t tmpfs none "$T/over"
	in_s mkdir "$T/over/u" "$T/over/w"
	in_s mount -t overlay overlay \
		-o "lowerdir=$1,upperdir=$T/over/u,workdir=$T/over/w" "$M" ||
		skip "no overlay file system here"
	for d in proc sys dev run; do in_s mount --rbind "/$d" "$M/$d"; done
}

# in_m COMMAND...: there, as root, with root's PATH and nothing else of ours; with
# process numbers of its own if PIDS names their namespace.
in_m() {
	in_s ${PIDS:+nsenter --pid="$PIDS"} chroot "$M" env -i HOME=/root TERM=dumb DEBIAN_FRONTEND=noninteractive \
		PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
		"$@" 3>&-
}

# readme_step N: the commands of that step of README's "Install".
readme_step() {
	awk -v n="$1" '/^[^ 0-9]/ { on = 0 } /^[0-9]\. / { on = $1 == n "." }
		on && /^       / { print substr($0, 8) }' "$ROOT/README.md" |
		sed 's/^sudo //'
}

# old_or_skip: sets OLD_KNOCKD and OLD_KNOCK to Debian's knockd 0.8.
old_or_skip() {
	local l

	[ -x "$OLD_DIR/usr/sbin/knockd" ] || skip "no knockd 0.8 in build/ (test.sh fetches it on Debian)"
	# shellcheck disable=SC2034
	for l in "$OLD_DIR"/usr/lib/*/libpcap.so.0.8; do
		OLD_KNOCKD=(env LD_LIBRARY_PATH="${l%/*}" "$OLD_DIR/usr/sbin/knockd")
		OLD_KNOCK=(env LD_LIBRARY_PATH="${l%/*}" "$OLD_DIR/usr/bin/knock")
	done
	"${OLD_KNOCKD[@]}" -V >/dev/null 2>&1 || skip "knockd 0.8 does not run here"
}

# --- servers and sessions in S --------------------------------------------------

# serve PORT ADDRESS: S answers there, IPv4 and IPv6, with socat's other ADDRESS.
serve() {
	need socat
	in_s socat "TCP6-LISTEN:$1,ipv6only=0,reuseaddr,fork" "$2" 2>"$T/serve" 3>&- &
	until_true "$WAIT" listens "$S" tcp "$1"
}

# start_sshd: a real sshd in S, which says on $T/sshd what it does. `ssh -F
# $T/ssh_config 10.77.0.1` gets in as root.
start_sshd() {
	need sshd ssh ssh-keygen
	ssh-keygen -q -t ed25519 -N '' -f "$T/hostkey"
	ssh-keygen -q -t ed25519 -N '' -f "$T/key"
	in_s sed -i 's/^root:[^:]*:/root:*:/' /etc/shadow
	cat >"$T/sshd_config" <<-EOF2
	HostKey $T/hostkey
	AuthorizedKeysFile $T/key.pub
	PermitRootLogin yes
	StrictModes no
	PidFile none
	UseDNS no
	EOF2
	cat >"$T/ssh_config" <<-EOF2
	User root
	IdentityFile $T/key
	StrictHostKeyChecking no
	UserKnownHostsFile /dev/null
	LogLevel ERROR
	BatchMode yes
	ConnectTimeout 20
	EOF2
	in_s "$(command -v sshd)" -D -e -f "$T/sshd_config" 2>"$T/sshd" 3>&- &
	until_true "$WAIT" listens "$S" tcp 22
}

# reaches BOX ADDRESS: port 22 of the address lets a or b in.
reaches() {
	"in_$1" nc -z -w 2 "$2" 22 2>/dev/null
}

reaches_not() {
	! reaches "$@"
}

# session COMMAND...: begins one from A that lasts; the command's other end repeats
# what it is told. session_lives WORD proves that it still does.
session() {
	mkfifo "$T/say"
	exec {SAY}<>"$T/say"
	# shellcheck disable=SC2217
	bg "$A" "$@" <"$T/say" >"$T/heard"
}

session_lives() {
	echo "$1" >&"$SAY"
	wait_for_line "$T/heard" "^$1\$"
}

# --- the end of a test ---------------------------------------------------------

# say_why: after a failed test, what the daemon said.
say_why() {
	local f

	[ -z "${BATS_TEST_COMPLETED:-}" ] || return 0
	[ -z "${BATS_TEST_SKIPPED:-}" ] || return 0
	for f in "$T/knockd.conf" "$LOG" "$T/syslog" "$T/out" "$T/err"; do
		[ -s "$f" ] || continue
		echo "--- ${f##*/}"
		tail -n 40 "$f"
	done
}

# The same for every file, unless it has its own.
setup() {
	net_up
}

teardown() {
	say_why
	net_down
}
