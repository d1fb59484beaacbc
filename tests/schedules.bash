#!/usr/bin/env bash
# Schedules of knocks, kills, reloads and ends against a model: whatever happens,
# no door stays open that nobody will close, and none shuts too early.
#
#	tests/schedules.bash KNOCKD DIR opening|ending|starting kills
#		kills the monitor at each system call in turn
#	tests/schedules.bash KNOCKD DIR sealing kills
#		kills both processes at each system call of a sealed knock, and
#		sends the same bytes to their successors
#	tests/schedules.bash KNOCKD DIR opening|ending|... faults
#		makes each system call in turn fail, once
#		With FULL set: also the many calls of the start, and in turn with
#		all errors; else every third, and one.
#	SCHEDULES=100 SEED=1 tests/schedules.bash KNOCKD DIR random
#		anything at any time; schedule N has the seed SEED + N - 1, so
#		SEED=that SCHEDULES=1 repeats it
#
# To be run as a pid namespace's first process, with a network of its own (see
# killed.bats). The firewall is a journal: the start command of a door appends
# `+ ADDRESS DOOR`, its stop command `-`. A `-` takes one `+` of before, if there
# is one.
set -u

KNOCKD=$1 DIR=$2 MODE=$3 ACTION=${4:-}
SCHEDULES=${SCHEDULES:-100} SEED=${SEED:-1}
LOG=$DIR/log JOURNAL=$DIR/journal FILE=$DIR/knockd.conf CONF='' LONG='' STATE=$DIR/k.state
ADDRESSES=(192.0.2.1 192.0.2.2 192.0.2.3 fd88::1 fd88::2)
PORTS=([7000]=now [7001]=one [7002]=long [7003]=slow [7004]=fails)
OPENED=0 KILLED=0 ENDED=0 MONITOR=''

mkfifo "$DIR/.schedules"
exec {PAUSE}<>"$DIR/.schedules"
pause() { read -rt "$1" _ <&"$PAUSE" || :; }

failed() {
	local p

	echo "seed $NOW: $*"
	echo "schedule: ${OPS[*]}"
	sed 's/^/journal: /' "$JOURNAL"
	sed 's/^/log: /' "$LOG"
	[ ! -e "$STATE" ] || sed 's/^/state: /' "$STATE"
	for p in /proc/[0-9]*; do
		[ "$p" = /proc/1 ] || echo "process: $(tr '\0' ' ' <"$p/cmdline") $(<"$p/stat")"
	done 2>/dev/null
	exit 1
}

# wait_for COMMAND...: until it succeeds; half a minute is for ever.
wait_for() {
	local end=$((SECONDS + 30))

	until "$@"; do
		[ "$SECONDS" -le "$end" ] || failed "waited in vain: $*"
		pause 0.002
	done
}

configure() {
	local line

	while read -r line; do
		[ "$line" != '[long]' ] || [ "$1" != gone ] || line='[renamed]'
		[ "$line" != 'sequence = 7002:udp' ] || [ "$1" != gone ] || line='sequence = 7999:udp'
		echo "$line"
	done >"$FILE.new" <<-EOF2
	[options]
	logfile = $LOG
	[now]
	sequence = 7000:udp
	start_command = echo + %IP% now >> $JOURNAL
	cmd_timeout = 0
	stop_command = echo - %IP% now >> $JOURNAL
	[one]
	sequence = 7001:udp
	start_command = echo + %IP% one >> $JOURNAL
	cmd_timeout = 1
	stop_command = echo - %IP% one >> $JOURNAL
	[long]
	sequence = 7002:udp
	start_command = echo + %IP% long >> $JOURNAL
	cmd_timeout = 3600
	stop_command = echo - %IP% long >> $JOURNAL
	[slow]
	sequence = 7003:udp
	start_command = sleep 0.02; echo + %IP% slow >> $JOURNAL
	cmd_timeout = 0
	stop_command = sleep 0.02; echo - %IP% slow >> $JOURNAL
	[fails]
	sequence = 7004:udp
	start_command = echo + %IP% fails >> $JOURNAL; exit 3
	cmd_timeout = 0
	stop_command = echo - %IP% fails >> $JOURNAL; [ \$((\$\$ % 4)) != 0 ] || kill \$\$
	[close]
	sequence = 7005:udp
	command = echo -c %IP% long >> $JOURNAL
	EOF2
	[ "$MODE" != sealing ] || cat >>"$FILE.new" <<-EOF2
	[keys]
	sequence = 7006:udp
	keys = $DIR/keys
	start_command = echo + %IP% keys >> $JOURNAL
	cmd_timeout = 0
	stop_command = echo - %IP% keys >> $JOURNAL
	EOF2
	[ "$1" != bad ] || echo 'nonsense = 1' >>"$FILE.new"
	mv "$FILE.new" "$FILE"
	[ "$1" != gone ] || LONG=perhaps
	CONF=$1
}

# logged TEXT N: whether the log has it N times; also on standard error, where it
# goes when its file can't be opened.
logged() {
	local text err=''

	IFS= read -rd '' text <"$LOG" || :
	{ IFS= read -rd '' err <"$DIR/out" || :; } 2>/dev/null
	text+=$err
	text=${text//"$1"/$'\1'}
	text=${text//[!$'\1']/}
	FOUND=${#text}
	[ "$FOUND" -ge "$2" ]
}

# Only this shell is left in its pid namespace, apart from zombies.
alone() {
	local p s

	for p in /proc/[0-9]*; do
		[ "$p" != /proc/1 ] && [ "$p" != "/proc/$BASHPID" ] || continue
		read -r s 2>/dev/null <"$p/stat" || continue
		[[ $s == *') Z '* ]] || return 1
	done
}

is_knockd() {
	local name

	read -r name <"/proc/$MONITOR/comm" && [ "$name" = "${KNOCKD##*/}" ]
} 2>/dev/null

# begin [COMMAND...]: starts the daemon, when nothing of the one before runs any
# more; by that command, and does not wait for it.
begin() {
	local n

	[ -z "$MONITOR" ] || return 0
	wait_for alone
	[ "$CONF" != bad ] || configure good
	[ "$CONF" != good ] || LONG=there
	: >"$DIR/out"
	logged 'starting up' 1 || :
	n=$FOUND
	"$@" "$KNOCKD" -i lo -c "$FILE" -p "$DIR/k.pid" </dev/null >>"$DIR/out" 2>&1 &
	MONITOR=$!
	if [ $# != 0 ]; then
		# A signal before its execve() would be for that command.
		wait_for over is_knockd
		return
	fi
	ready() { logged 'starting up' $((n + 1)) || [ ! -d "/proc/$MONITOR" ]; }
	wait_for ready
	[ -d "/proc/$MONITOR" ] || failed "it did not start: $(cat "$DIR/out")"
}

# killed monitor|sniffer|both|group: how a machine kills.
killed() {
	local SNIFFER=''

	[ -n "$MONITOR" ] || return 0
	KILLED=$((KILLED + 1))
	has_sniffer || :
	[ "$1" = monitor ] || [ -z "$SNIFFER" ] || kill -KILL "$SNIFFER" 2>/dev/null
	if [ "$1" = sniffer ]; then # what comes before there is another is lost
		local killed=$SNIFFER
		another() { has_sniffer && [ "$SNIFFER" != "$killed" ]; }
		wait_for another
		return
	fi
	kill -KILL "$MONITOR" 2>/dev/null
	wait "$MONITOR" 2>/dev/null
	MONITOR=''
}

# The monitor's child that is locked in, which sets SNIFFER. The others are commands;
# some are older than it, after a reload.
has_sniffer() {
	local child children=''

	{ read -r children <"/proc/$MONITOR/task/$MONITOR/children"; } 2>/dev/null || :
	for child in $children; do
		is_sniffer "$child" && SNIFFER=$child && return
	done
	return 1
}

is_sniffer() {
	local status=''

	{ IFS= read -rd '' status <"/proc/$1/status"; } 2>/dev/null || :
	[[ $status == *'NoNewPrivs:'[[:space:]]1* ]]
}

# What the journal says of the firewall; CLOSING: a daemon was told to end, so
# stop commands may run before their time. R: a reboot, after which it is empty.
replay() {
	local sign ip door closing=0
	declare -A rules=()

	while read -r sign ip door; do
		case $sign in
		+) rules[$ip $door]=$((${rules[$ip $door]:-0} + 1)); continue ;;
		T) closing=1; continue ;;
		E) closing=0; continue ;;
		R) rules=(); continue ;;
		esac
		[ "$sign $door $closing" != '- long 0' ] || failed "closed too early: $ip $door"
		[ "${rules[$ip $door]:-0}" = 0 ] || rules[$ip $door]=$((${rules[$ip $door]} - 1))
	done <"$JOURNAL"
	OPEN=''
	for ip in "${!rules[@]}"; do
		[ "${rules[$ip]}" = 0 ] || OPEN+="$ip "
	done
	[ -z "$OPEN" ]
}

# end: SIGTERM; everything is closed when it has ended.
end() {
	[ -n "$MONITOR" ] || return 0
	ENDED=$((ENDED + 1))
	echo T >>"$JOURNAL"
	kill -TERM "$MONITOR"
	wait "$MONITOR" || failed "exit status $?"
	MONITOR=''
	echo E >>"$JOURNAL"
	replay || failed "still open after SIGTERM: $OPEN"
	[ ! -e "$STATE" ] || failed 'it left its state file behind'
}

# An opening; every second one is waited for: it must be there in the end, also if
# the sniffer was killed or the daemon reads its configuration.
open_() {
	local a=${ADDRESSES[RANDOM % ${#ADDRESSES[@]}]} port=$((7000 + RANDOM % 6)) door n

	door=${PORTS[$port]:-close}
	logged "$a: $door: OPEN SESAME" 1 || :
	n=$FOUND
	echo >"/dev/udp/$a/$port"
	[ -n "$MONITOR" ] && ((RANDOM % 2)) || return 0
	# A reload may still be under way.
	[ "$door $LONG" != 'long perhaps' ] || return 0
	OPENED=$((OPENED + 1))
	wait_for logged "$a: $door: OPEN SESAME" $((n + 1))
}

reload() {
	configure "$1"
	[ -z "$MONITOR" ] || kill -HUP "$MONITOR"
}

# A daemon that is told to end and killed while it closes.
end_killed() {
	[ -n "$MONITOR" ] || return 0
	echo T >>"$JOURNAL"
	kill -TERM "$MONITOR"
	pause "0.00$((RANDOM % 10))"
	killed monitor
}

step() {
	local ms=$((RANDOM % 40))

	OPS+=("$1")
	case $1 in
	open) open_ ;;
	kill-*) killed "${1#*-}" ;;
	end) end ;;
	end-killed) end_killed ;;
	begin) begin ;;
	reload-*) reload "${1#*-}" ;;
	esac
	[ $ms -ge 10 ] || pause "0.00$ms"
}

WORDS=(open open open open open open open open begin begin begin kill-monitor
	kill-sniffer kill-both end end-killed reload-good reload-bad reload-gone)

# nothing_open: the firewall is empty, but for those that are open for an hour.
short_closed() {
	replay || [ -z "$(printf '%s\n' "$OPEN" | sed -E 's/[^ ]+ long //g')" ]
}

schedule() {
	local n

	OPS=()
	: >"$LOG"; : >"$JOURNAL"
	configure good
	step begin
	for ((n = RANDOM % 12 + 3; n > 0; n--)); do
		step "${WORDS[RANDOM % ${#WORDS[@]}]}"
	done
	step begin
	# Every fiftieth closes by time before the end, where it can.
	if ((NOW % 50 == 0)); then
		OPS+=(wait)
		wait_for short_closed
	fi
	step end
	wait_for alone
	rm -f "$DIR/k.state.refused"
}

random() {
	local i

	for ((i = 0; i < SCHEDULES; i++)); do
		NOW=$((SEED + i))
		RANDOM=$NOW
		schedule
	done
	echo "$SCHEDULES schedules from seed $SEED: $OPENED openings waited for, $KILLED kills," \
		"$ENDED ends: none open at the end"
}

# --- at each system call ----------------------------------------------------------

in_journal() {
	local text

	IFS= read -rd '' text <"$JOURNAL" || :
	[[ $text == *"$1"* ]]
}

in_state() {
	local text=''

	{ IFS= read -rd '' text <"$STATE"; } 2>/dev/null || :
	[[ $text == *"$1"* ]]
}

over() {
	[ ! -d "/proc/$MONITOR" ] || "$@"
}

# traced PID OPTION...: strace joins that process.
traced() {
	local pid=$1

	shift
	strace -qq -p "$pid" "$@" 2>/dev/null &
	TRACER=$!
	joined() {
		[ ! -d "/proc/$pid" ] || grep -q "^TracerPid:.*$TRACER" "/proc/$pid/status" 2>/dev/null
	}
	wait_for joined
}

untraced() {
	kill -INT "$TRACER" 2>/dev/null
	wait "$TRACER" 2>/dev/null
}

# soon COMMAND...: until it succeeds or the monitor is dead; after a fault not for
# ever: a line of the log may be what failed.
soon() {
	local end=$((${EPOCHREALTIME/[.,]/} + 300000))

	[ "$ACTION" = faults ] && [ ${#OPS[@]} = 2 ] || { wait_for over "$@"; return; }
	until over "$@"; do
		[ "${EPOCHREALTIME/[.,]/}" -le "$end" ] || return
		pause 0.002
	done
}

# What happens while strace counts; it is over when the monitor is dead or done.
# shellcheck disable=SC2317
opening() {
	traced "$MONITOR" "$@"
	echo >/dev/udp/192.0.2.1/7000
	soon logged '192.0.2.1: now: CLOSE SESAME' 1
	untraced
}

stand() {
	echo >/dev/udp/192.0.2.1/7002
	wait_for in_journal '+ 192.0.2.1 long'
	# Its deadline, in place of the record from before its start command.
	wait_for in_state 'gone '
}

ending() {
	stand
	traced "$MONITOR" "$@"
	echo T >>"$JOURNAL"
	kill -TERM "$MONITOR"
	wait_for over false
	untraced
}

# With a grant of a daemon that was killed, and to its end.
starting() {
	stand
	killed both
	# It may close before it is told to.
	[ "$ACTION" = kills ] || echo T >>"$JOURNAL"
	begin strace -D -qq "$@"
	soon logged 'starting up' 2 || soon logged 'starting up' 2
	echo T >>"$JOURNAL"
	kill -TERM "$MONITOR" 2>/dev/null
	wait_for over false
}

# The same, and what its sniffer does.
sandboxing() {
	starting -f "$@"
}

reloading() {
	stand
	traced "$MONITOR" "$@"
	kill -HUP "$MONITOR"
	soon logged 're-opening log file' 1
	pause 0.01
	untraced
}

sniffing() {
	local children

	read -r children <"/proc/$MONITOR/task/$MONITOR/children"
	traced "${children%% *}" "$@"
	echo >/dev/udp/192.0.2.1/7000
	soon logged '192.0.2.1: now: CLOSE SESAME' 1
	untraced
}

# sealed ADDRESS: a sealed knock of now for it, to standard output. (A daemon that
# has just read the key refuses a stamp of that millisecond, and may refuse one of the
# next: both clocks are cut to milliseconds.)
KEY=5ea1ed0000000000000000000000000000000000000000000000000000000001
sealed() {
	local hex

	pause 0.003
	hex=$(python3 -S "${BASH_SOURCE%/*}/knock1/knock1.py" make "$KEY" keys \
		$((${EPOCHREALTIME/[.,]/} / 1000)) "$1")
	# shellcheck disable=SC2059
	printf "$(sed 's/../\\x&/g' <<<"$hex")"
}

# What has been seen opens nothing more: from the same address, from another. A
# later knock, which the monitor judges after it, does.
opens_once() {
	local n

	logged '192.0.2.3: keys: OPEN SESAME' 1 || :
	n=$FOUND
	cat "$DIR/seen" >/dev/udp/192.0.2.1/7006
	cat "$DIR/seen" >/dev/udp/192.0.2.2/7006
	sealed 192.0.2.3 >"$DIR/fresh"
	cat "$DIR/fresh" >/dev/udp/192.0.2.1/7006
	wait_for logged '192.0.2.3: keys: OPEN SESAME' $((n + 1))
	! logged '192.0.2.1: keys: OPEN SESAME' 2 || failed 'it opened again'
	! logged '192.0.2.2: keys: OPEN SESAME' 1 || failed 'it opened for another'
}

# A sealed knock without an address in it. All of it is killed; then there are
# successors: one that has all files, one after a reboot, which has no state file,
# and one that has lost the stamps, too.
sealing() {
	sealed '' >"$DIR/seen"
	traced "$MONITOR" "$@"
	cat "$DIR/seen" >/dev/udp/192.0.2.1/7006
	soon logged '192.0.2.1: keys: CLOSE SESAME' 1
	untraced
	killed both
	begin
	opens_once
	killed both
	wait_for alone
	rm -f "$STATE"
	echo R >>"$JOURNAL"
	begin
	opens_once
	killed both
	rm /var/lib/knockd/*stamps
	begin
	opens_once
}

# one OPTION...: the schedule, with these options for strace; in the end all is
# closed.
one() {
	local status=0

	: >"$LOG"; : >"$JOURNAL"; rm -f "$STATE"
	begin
	"$MODE" "$@"
	if [ "$ACTION" = kills ]; then
		killed monitor
		begin
	elif [ ! -d "/proc/$MONITOR" ]; then
		# It may end by itself, but never by a crash.
		# (143: SIGTERM came before it was ready for that.)
		wait "$MONITOR" || status=$?
		[ $status -le 1 ] || [ $status = 143 ] || failed "exit status $status"
		[ $status = 0 ] || GAVE_UP+="${OPS[1]:-no fault}; "
		MONITOR=''
		begin
	fi
	# A knock may be lost only with the process that had it.
	if [ "$ACTION" = faults ]; then
		clean
		[ "$MODE" = sniffing ] || [ $status != 0 ] || wait_for in_journal '+ 192.0.2.1'
		in_journal '+ 192.0.2.1' || LOST+="${OPS[1]:-}; "
	fi
	end
}

# A knock without a fault opens, and it closes. One that comes when the sniffer has
# just died is lost: then another.
clean() {
	local n

	logged '192.0.2.2: now: CLOSE SESAME' 1 || :
	n=$FOUND
	knocked() {
		echo >/dev/udp/192.0.2.2/7000
		soon logged '192.0.2.2: now: CLOSE SESAME' $((n + 1))
		logged '192.0.2.2: now: CLOSE SESAME' $((n + 1))
	}
	wait_for knocked
}

# errors CALL: those it may well return.
errors() {
	case $1 in
	close | exit* | fstat | rt_sig* | set_tid_address | arch_prctl | getp*id | geteuid | *alarm) ;;
	clone | fork | vfork | clone3) echo EAGAIN ENOMEM ;;
	poll | ppoll) echo EINTR ENOMEM ;;
	mmap | brk | mprotect | munmap | mremap) echo ENOMEM ;;
	recvfrom | recvmsg | sendto | sendmsg) echo ENOBUFS EINTR ;;
	read | pread64) echo EIO EINTR ;;
	write | writev | pwrite64) echo ENOSPC EINTR ;;
	open | openat | pipe2 | pipe | socketpair | socket | signalfd4) echo EMFILE ENOMEM ;;
	renameat | renameat2 | unlinkat | unlink | rename) echo ENOSPC EIO ;;
	flock) echo ENOLCK ;;
	# (While it ends, that costs it ten seconds.)
	wait4) [ "$MODE" = ending ] && [ -z "${FULL:-}" ] || echo ECHILD ;;
	setsockopt) echo ENOMEM ;;
	*) echo EPERM ;;
	esac
}

# The trace's calls, without the numbers of processes, and only those of the
# sniffer that the monitor does not make, too.
calls_of() {
	if [ "$MODE" = sandboxing ]; then
		awk '{ pid = $1; sub(/^[0-9]+ +/, ""); name = $0; sub(/\(.*/, "", name) }
			NR == 1 { monitor = pid }
			pid == monitor { his[name] = 1; next }
			sniffer == "" { sniffer = pid }
			pid == sniffer { all[++n] = $0; names[n] = name }
			END { for (i = 1; i <= n; i++) if (!his[names[i]]) print all[i] }' "$DIR/trace"
	else
		cat "$DIR/trace"
	fi >"$DIR/calls"
}

# Kills the monitor at each call in turn, or makes that call fail: the N-th of its
# name. (Not those close() that find nothing: there are a thousand at the start;
# and not those with which strace comes in.)
at_each_call() {
	local line name calls error errors n=0 nth=0
	declare -A seen=()

	NOW=$MODE OPS=("$MODE") LOST='' GAVE_UP=''
	echo "anna $KEY" >"$DIR/keys"
	chmod 600 "$DIR/keys"
	configure good
	one -o "$DIR/trace" -e trace=all
	[ -s "$DIR/trace" ] || failed 'nothing was traced'
	calls_of
	mapfile -t calls <"$DIR/calls"
	for line in "${calls[@]}"; do
		name=${line%%(*}
		[[ $name =~ ^[a-z_0-9]+$ ]] || continue
		case $name in restart_syscall | execve) continue ;; esac
		seen[$name]=$((${seen[$name]:-0} + 1))
		[[ $line != *EBADF* ]] || continue
		nth=$((nth + 1))
		[ -n "${FULL:-}" ] || [ "$MODE" != starting ] || ((nth % 3 == 0)) || continue
		if [ "$ACTION" = kills ]; then
			n=$((n + 1)) OPS=("$MODE" "killed at $name, ${seen[$name]}")
			one -o /dev/null -e trace="$name" -e inject="$name:signal=KILL:when=${seen[$name]}"
			continue
		fi
		read -ra errors <<<"$(errors "$name")"
		[ -n "${FULL:-}" ] || [ ${#errors[@]} -lt 2 ] ||
			errors=("${errors[${seen[$name]} % 2]}")
		for error in "${errors[@]}"; do
			n=$((n + 1)) OPS=("$MODE" "$name ${seen[$name]} $error")
			one -o /dev/null -e trace="$name" -e inject="$name:error=$error:when=${seen[$name]}"
		done
	done
	echo "$MODE: $n $ACTION, none open at the end"
	[ "$ACTION" = kills ] || printf 'not opened: %s\ngave up: %s\n' "$LOST" "$GAVE_UP"
}

case $MODE in
random) random ;;
opening | ending | starting | sealing | sandboxing | reloading | sniffing) at_each_call ;;
*) echo "no such mode: $MODE"; exit 1 ;;
esac
