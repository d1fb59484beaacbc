# shellcheck shell=bash
# Many reloads under a stream of knocks; for reload.bats and soak.sh.

# reloads_conf WHICH: good and other have the same doors "d" and "e" and one of
# their own, whose ports differ: each brings a new sniffer. bad is no configuration.
reloads_conf() {
	local port=7300

	[ "$1" = good ] || port=7301
	{
		printf '[options]\n\tlogfile = %s\n' "$LOG"
		printf '[mark]\n\tsequence = 65000:udp\n'
		printf '[e]\n\tsequence = 7100:udp\n'
		printf '[%s]\n\tsequence = 7200,%s\n\tallow = 10.0.0.0/8\n' "$1" "$port"
		printf '[d]\n\tsequence = 7000,8000,9000\n'
		printf '\tstart_command = echo %%IP%% >> %s\n' "$T/opened"
		printf '\tcmd_timeout = 0\n\tstop_command = true\n'
		[ "$1" != bad ] || echo 'nonsense = 1'
	} >"$T/conf.new"
	chmod 600 "$T/conf.new"
	mv "$T/conf.new" "$T/knockd.conf"
}

# stream COUNT: as many hits from B at the one-port door "e", each of which opens
# it, some ten thousand a minute; nothing is asked in between.
STREAM='exec 3>/dev/udp/10.77.0.1/7100 4<>"$2"
	for ((i = 0; i < $1; i++)); do
		# "Refused" is the answer to the one before: this one was not sent.
		until echo >&3; do :; done 2>/dev/null
		read -rt 0.005 _ <&4
	done; :'
stream() {
	mkfifo "$T/.stream"
	bg "$B" bash -c "$STREAM" stream "$1" "$T/.stream"
	STREAMING=$!
}

# size: descriptors of the monitor and its sniffer, and their memory in KiB.
size() {
	local p

	has_sniffer
	FDS='' KIB=''
	for p in "$PID" "$SNIFFER"; do
		FDS+="$(find "/proc/$p/fd/" -type l | wc -l) "
		KIB+="$(awk '/^RssAnon/ { print $2 }' "/proc/$p/status") "
	done
}

# What is open is on record.
all_shut() {
	[ "$(on_record "$T/k.state")" = 0 ]
}

# All commands have ended: their pipes are closed.
at_rest() {
	size
	[ "$FDS" = "$REST_FDS" ]
}

# reloads COUNT: so many, a third of them bad, each followed by a knock from A that
# opens, while B's hits arrive all the time. Sets LOST: of B's hits; GREW: KiB that
# monitor and sniffer have more at the end than after a tenth of them.
reloads() {
	local i n=$1 first last

	reloads_conf good
	start "${@:2}"
	size
	REST_FDS=$FDS
	stream $((n * 10))
	for ((i = 1; i <= n; i++)); do
		case $((i % 3)) in
		0) reloads_conf bad ;;
		1) reloads_conf other ;;
		2) reloads_conf good ;;
		esac
		kill -HUP "$PID"
		if ((i % 3)); then
			logged 're-opening log file' $((i - i / 3)) || return
		else
			logged 'nothing changes$' $((i / 3)) || return
		fi
		knock_a 10.77.0.1 7000 8000 9000
		# The log has no more than 20 lines a second about a door.
		wait_for_line "$T/opened" '^10.77.0.2$' "$i" || return
		if [ "$i" = $((n / 10)) ]; then
			size
			first=$KIB
		fi
	done
	size
	last=$KIB
	wait "$STREAMING"
	mark || return
	# shellcheck disable=SC2086
	set -- $first $last
	GREW="$(($3 - $1)) $(($4 - $2))"
	kill -USR1 "$PID"
	logged 'counters: .*, opens ' || return
	LOST=$((n * 11 + 1 - $(sed -n 's/.*counters: .*, opens \([0-9]*\),.*/\1/p' "$LOG" | tail -n 1)))
	until_true "$WAIT" all_shut || { echo "d is open still"; return 1; }
	until_true "$WAIT" at_rest || { echo "descriptors: $FDS, at first: $REST_FDS"; return 1; }
	echo "$n reloads: $LOST of $((n * 10)) hits lost, grown by $GREW KiB, $FDS descriptors"
}
