#!/usr/bin/env bats
# knockd where there is nothing else: the root file system of an image FROM
# scratch, the capabilities of a container, a rescue shell.
#
# No container engine is needed: chroot, a capability bounding set and a user
# id are what an engine makes of a root file system.

load lib

R=$T/root
CAP_NET_ADMIN=12 CAP_NET_RAW=13
# exec where the process is to be that of the shell: its pid is wanted.
EXEC=

setup() {
	need capsh
	net_up
	mkdir "$R"
	cp "$KNOCKD" "$R/knockd"
}

# as_root PROGRAM ARG...: in the root, uid 0, with two capabilities.
as_root() {
	local program=$1

	shift
	$EXEC nsenter -t "$S" -m -n -- capsh --chroot="$R" --shell="$program" \
		--drop="$(all_but $CAP_NET_ADMIN $CAP_NET_RAW)" -- "$@"
}

# as_1000 PROGRAM ARG...: in the root, uid 1000, ambient CAP_NET_RAW alone.
as_1000() {
	local program=$1

	shift
	$EXEC nsenter -t "$S" -m -n -- capsh --chroot="$R" --shell="$program" \
		--drop="$(all_but $CAP_NET_RAW)" --keep=1 --gid=1000 --uid=1000 \
		--inh=cap_net_raw --addamb=cap_net_raw -- "$@"
}

# as_nobody PROGRAM ARG...: in the root, uid 65534, no capability.
as_nobody() {
	local program=$1

	shift
	$EXEC nsenter -t "$S" -m -n -- capsh --chroot="$R" --shell="$program" --drop=all \
		--gid=65534 --uid=65534 -- "$@"
}

# ready AS ARG...: starts it in the foreground and waits until it is ready.
ready() {
	local as=$1

	shift
	: >"$T/out"; : >"$T/err"
	# shellcheck disable=SC2030,SC2209
	(EXEC=exec; "$as" /knockd -c /knockd.conf "$@") </dev/null >"$T/out" \
		2>"$T/err" 3>&- &
	PID=$!
	until_true "$WAIT" started 0
	running "$PID"
}

# The files in the root, with nothing that a test did not put there.
files() {
	(cd "$R" && find . -type f | sort | tr '\n' ' ')
}

status_of() {
	grep -E '^(Uid|Gid|Groups|Cap...|NoNewPrivs|Seccomp):' "/proc/$1/status"
}

door() {
	printf '%s\n' '[door]' 'sequence = 4001,4004:udp,4002' 'tcpflags = syn' \
		'seq_timeout = 60' "$@" >"$R/knockd.conf"
	chmod 644 "$R/knockd.conf"
}

# --- an image with nothing in it --------------------------------------------

@test "empty root, uid 0, NET_RAW and NET_ADMIN only: opens" {
	# the one program that is there is the command
	door 'command = /knockd -V'
	ready as_root
	is "$(files)" './knockd ./knockd.conf '
	grep -qi warn "$T/err"
	knock_a 10.77.0.1 4001 4004:udp 4002
	wait_for_line "$T/err" '10\.77\.0\.2: door: OPEN SESAME'
	wait_for_line "$T/err" 'door: knockd [0-9]'
	knock_a fd77::1 4001 4004:udp 4002
	wait_for_line "$T/err" 'fd77::2: door: OPEN SESAME'
	not grep 'status code' "$T/err"
	stop_knockd
}

@test "empty root, uid 1000, ambient NET_RAW alone: opens" {
	door 'command = /knockd -V'
	ready as_1000
	status_of "$PID" | grep -q '^Uid:.1000'
	status_of "$PID" | grep -q '^CapBnd:.*2000$'
	knock_a 10.77.0.1 4001 4004:udp 4002
	wait_for_line "$T/err" '10\.77\.0\.2: door: OPEN SESAME'
	wait_for_line "$T/err" 'door: knockd [0-9]'
	is "$(files)" './knockd ./knockd.conf '
	stop_knockd
}

@test "empty root: the process that reads packets has nothing left" {
	local child

	door
	for as in as_root as_1000; do
		ready $as
		child=$(pgrep -P "$PID")
		status_of "$child" >"$T/status"
		for set in Inh Prm Eff Amb; do
			grep -q "^Cap$set:.0000000000000000$" "$T/status" ||
				{ echo "$as"; cat "$T/status"; return 1; }
		done
		grep -q '^NoNewPrivs:.1$' "$T/status"
		grep -q '^Seccomp:.2$' "$T/status"
		stop_knockd
	done
}

@test "empty root: a start and a stop command, both run" {
	door 'start_command = /knockd -V' 'cmd_timeout = 1' \
		'stop_command = /knockd -V'
	ready as_root
	knock_a 10.77.0.1 4001 4004:udp 4002
	wait_for_line "$T/err" 'door: command timeout'
	wait_for_line "$T/err" 'door: knockd [0-9]' 2
	wait_for_line "$T/err" '10\.77\.0\.2: door: CLOSE SESAME'
	stop_knockd
}

@test "empty root: a command with shell syntax fails by name" {
	door 'command = echo %IP% > /x'
	ready as_root
	knock_a 10.77.0.1 4001 4004:udp 4002
	wait_for_line "$T/err" 'door: .*(/bin/sh|could not run|status code)'
	running "$PID"
	knock_a 10.77.0.1 4001 4004:udp 4002
	wait_for_line "$T/err" 'OPEN SESAME' 2
	stop_knockd
}

@test "no capability: says which one is missing, and exits 1" {
	door
	run as_nobody /knockd -c /knockd.conf
	is "$status" 1
	matches "$output" 'CAP_NET_RAW'
	run as_nobody /knockd -c /knockd.conf -d
	is "$status" 1
	matches "$output" 'CAP_NET_RAW'
}

@test "no capability: -V, --version, -h, -t work" {
	local o

	door
	for o in -V --version -h --help; do
		run as_nobody /knockd $o
		is "$o $status" "$o 0"
		[ -n "$output" ]
	done
	run as_nobody /knockd -t -c /knockd.conf
	is "$status" 0
	matches "$output" '\[door\]'
}

# --- as the images of game servers use it -----------------------------------

# game LOGFILE: doors of one port, as there.
game() {
	mkdir -p "$R/dev" "$R/run"
	[ -e "$R/dev/null" ] || mknod -m 666 "$R/dev/null" c 1 3
	[ -e "$R/dev/stdout" ] || ln -s /proc/self/fd/1 "$R/dev/stdout"
	mkdir -p "$R/proc"
	in_s mount -t proc proc "$R/proc"
	chmod 777 "$R/run"
	cat >"$R/knockd.conf" <<-EOF
	[options]
	 logfile = $1
	[unpauseMinecraftServer-server]
	 sequence = 25565
	 seq_timeout = 1
	 command = /knockd -V
	 tcpflags = syn
	[unpauseMinecraftServer-bedrock]
	 sequence = 19132:udp
	 seq_timeout = 1
	 seq_cooldown = 5
	 command = /knockd -V
	EOF
}

daemon_gone() {
	not running "$1" && no_daemon_left
}

@test "game server: -c F -d -i eth0 -p PID, log to /dev/stdout, as uid 1000" {
	local pid n

	game /dev/stdout
	as_1000 /knockd -c /knockd.conf -d -i eth0 -p /run/k.pid \
		>"$T/out" 2>"$T/err" </dev/null 3>&-
	pid=$(<"$R/run/k.pid")
	running "$pid"
	knock_a 10.77.0.1 25565
	wait_for_line "$T/out" '10\.77\.0\.2: unpauseMinecraftServer-server: OPEN SESAME'
	# a client sends one datagram after another: one command
	for n in {1..100}; do in_a bash -c "echo >/dev/udp/10.77.0.1/19132"; done
	wait_for_line "$T/out" 'bedrock: OPEN SESAME'
	knock_b 10.77.0.1 25565
	wait_for_line "$T/out" '10\.77\.0\.3: unpauseMinecraftServer-server: OPEN SESAME'
	n=$(count "$T/out" 'bedrock: OPEN SESAME')
	# more than one only if this took more than 5 s
	[ "$n" -le $((1 + SECONDS / 5)) ]
	kill "$pid"
	until_true "$WAIT" daemon_gone "$pid"
	[ ! -e "$R/run/k.pid" ]
}

@test "game server: logfile = /dev/null, uid 0; killed by pidfile, started again" {
	local pid

	game /dev/null
	as_root /knockd -c /knockd.conf -d -i eth0 -p /run/k.pid >"$T/out" \
		2>"$T/err" </dev/null 3>&-
	pid=$(<"$R/run/k.pid")
	running "$pid"
	kill -KILL "$pid"
	until_true "$WAIT" daemon_gone "$pid"
	as_root /knockd -c /knockd.conf -d -i eth0 -p /run/k.pid >"$T/out" \
		2>"$T/err" </dev/null 3>&-
	pid=$(<"$R/run/k.pid")
	running "$pid"
	kill "$pid"
	until_true "$WAIT" daemon_gone "$pid"
}

@test "game server: without -p, one for each interface with -p" {
	local pid lo

	game /dev/null
	as_root /knockd -c /knockd.conf -d -i eth0 -p /run/eth0.pid 3>&-
	as_root /knockd -c /knockd.conf -d -i lo -p /run/lo.pid 3>&-
	pid=$(<"$R/run/eth0.pid")
	lo=$(<"$R/run/lo.pid")
	running "$pid"
	running "$lo"
	# the same pidfile again is refused and stays
	run as_root /knockd -c /knockd.conf -d -i eth0 -p /run/eth0.pid 3>&-
	is "$status" 1
	is "$(<"$R/run/eth0.pid")" "$pid"
	kill "$pid" "$lo"
	until_true "$WAIT" daemon_gone "$pid"
	until_true "$WAIT" daemon_gone "$lo"
	# -d alone: the default pidfile, if there is a place for it
	mkdir -p "$R/var/run"
	as_root /knockd -c /knockd.conf -d -i eth0 3>&-
	pid=$(<"$R/var/run/knockd.pid")
	running "$pid"
	kill "$pid"
	until_true "$WAIT" daemon_gone "$pid"
}

@test "game server: \$? after -d tells of a wrong interface or configuration" {
	game /dev/null
	run as_root /knockd -c /knockd.conf -d -i eth9 -p /run/k.pid
	is "$status" 1
	matches "$output" 'eth9'
	matches "$output" 'eth0'
	[ ! -e "$R/run/k.pid" ]
	echo 'sequence = x' >>"$R/knockd.conf"
	run as_root /knockd -c /knockd.conf -d -i eth0 -p /run/k.pid
	is "$status" 1
	matches "$output" "port 'x'"
	until_true "$WAIT" no_daemon_left
}

@test "game server: -d without a place for the pidfile says so" {
	game /dev/null
	as_1000 /knockd -c /knockd.conf -d -i eth0 -p /nowhere/k.pid >"$T/out" \
		2>"$T/err" </dev/null 3>&- || :
	grep -q '/nowhere/k.pid' "$T/err"
}

# --- a rescue shell ----------------------------------------------------------

# static_busybox: the first of those that may be here that needs no library.
static_busybox() {
	local b

	for b in "$ROOT/build/busybox/bin/busybox" busybox.static busybox; do
		b=$(command -v "$b") || continue
		ldd "$b" >/dev/null 2>&1 || { echo "$b"; return; }
	done
	return 1
}

# A read-only root with busybox, without /etc, /dev, /run, /var, /tmp.
rescue() {
	mkdir "$R/bin"
	cp "$(static_busybox)" "$R/bin/busybox" || skip "no busybox without libraries"
	[ -z "${1:-}" ] || ln -s busybox "$R/bin/sh"
	in_s mount --bind "$R" "$R"
	in_s mount -o remount,bind,ro "$R"
}

in_rescue() {
	# shellcheck disable=SC2031
	$EXEC nsenter -t "$S" -m -n -- chroot "$R" "$@"
}

@test "rescue root, read-only, without a shell: says what it does without, opens" {
	door 'start_command = /bin/busybox echo open %IP%' 'cmd_timeout = 1' \
		'stop_command = /bin/busybox echo shut %IP%'
	rescue
	ready in_rescue
	matches "$(cat "$T/err")" 'state'
	knock_a 10.77.0.1 4001 4004:udp 4002
	wait_for_line "$T/err" '10\.77\.0\.2: door: OPEN SESAME'
	wait_for_line "$T/err" 'door: open 10\.77\.0\.2$'
	wait_for_line "$T/err" 'door: shut 10\.77\.0\.2$'
	is "$(files)" './bin/busybox ./knockd ./knockd.conf '
	stop_knockd
}

@test "rescue root with a shell and UseSyslog, but no syslog" {
	# shellcheck disable=SC2016
	printf '%s\n' '[options]' 'UseSyslog' '[door]' \
		'sequence = 4001,4004:udp,4002' 'tcpflags = syn' \
		'command = /bin/busybox echo "open" $KNOCKD_IP' >"$R/knockd.conf"
	rescue sh
	# The log itself goes nowhere.
	# shellcheck disable=SC2034
	READY='^listening on'
	ready in_rescue -v
	knock_a 10.77.0.1 4001 4004:udp 4002
	wait_for_line "$T/out" 'door: open 10\.77\.0\.2$'
	stop_knockd
}

@test "rescue root, a writable /tmp: the command line of \"Copy one file\"" {
	local cmd

	cmd=$(sed -n 's/^    ssh root@rescue //p' "$ROOT/docs/containers.md")
	matches "$cmd" '^/tmp/knockd -c '
	door 'command = /bin/busybox echo open %IP%'
	mkdir "$R/tmp"
	rescue
	in_s mount -t tmpfs none "$R/tmp"
	in_s cp "$R/knockd" "$R/knockd.conf" "$R/tmp/"
	# shellcheck disable=SC2030,SC2086,SC2209
	(EXEC=exec; in_rescue $cmd) </dev/null >"$T/out" 2>"$T/err" 3>&- &
	PID=$!
	wait_for_line "$T/err" 'listening on'
	knock_a 10.77.0.1 4001 4004:udp 4002
	wait_for_line "$T/err" 'door: open 10\.77\.0\.2$'
	not grep -i 'state' "$T/err"
	stop_knockd
}

@test "no /dev and descriptors 0-2 closed: -d still hears signals" {
	local p t

	mkdir "$R/run"
	printf '[d]\nsequence = 7000,7001\n' >"$R/c"
	in_s bash -c 'exec chroot "$1" /knockd -c /c -d -p /k.pid <&- >&- 2>&- 3>&-' x "$R"
	p=$(cat "$R/k.pid")
	t=$(awk '{ print $14 + $15 }' "/proc/$p/stat")
	pause 2
	t=$(($(awk '{ print $14 + $15 }' "/proc/$p/stat") - t))
	kill "$p"
	until_true "$WAIT" gone "$p" || { echo "SIGTERM ignored, $t ticks of CPU in 2 s"; return 1; }
}

@test "rescue root: the client, one file, too" {
	cp "$KNOCK" "$R/knock"
	door
	rescue
	ready in_rescue -i lo,eth0
	# over the loopback, from the same root
	in_rescue /knock 127.0.0.1 4001 4004:udp 4002
	wait_for_line "$T/err" '127\.0\.0\.1: door: OPEN SESAME'
	stop_knockd
}

# --- contrib/Dockerfile and contrib/compose.yaml ------------------------------------

# stage STAGE WORD: what stands behind the word in that stage of the Dockerfile.
stage() {
	awk -v stage="$1" -v word="$2" '
	$1 == "FROM" { on = $4 == stage }
	on && $1 == word { sub(/^[A-Z]+ +/, ""); print }
	' "$ROOT/contrib/Dockerfile"
}

# capabilities: numbers of the names on standard input, in one line.
capabilities() {
	local n

	while read -r n; do
		capsh --explain="cap_${n,,}" | sed -n 's/^cap_[a-z_]* (\([0-9]*\)).*/\1/p'
	done | tr '\n' ' '
}

# image: makes the root of the image FROM scratch in R, out of what the Dockerfile
# says, with the build stage done in a copy of the source.
image() {
	local from made to w=$T/src

	# COPY . . heeds .dockerignore
	is "$(stage build COPY)" '. .'
	mkdir "$w"
	sed -n 's,^[^#].*,./&,p' "$ROOT/.dockerignore" >"$T/ignored"
	tar -c -C "$ROOT" --anchored -X "$T/ignored" . | tar -x -C "$w"
	for from in knockd knock build .git; do [ ! -e "$w/$from" ]; done
	mkdir "$T/out-dir"
	while read -r made; do
		# shellcheck disable=SC2086
		(cd "$w" && ${made/\/out/$T/out-dir} >"$T/make" 2>&1)
	done < <(stage build RUN | grep -v '^apk ')
	matches "$(stage empty FROM)" '^scratch '
	is "$(stage empty RUN)" ''
	rm "$R/knockd"
	while read -r _ from to; do
		cp -r --preserve=mode,xattr "${from/#\/out/$T/out-dir}" "$R$to"
	done < <(stage empty COPY)
	is "$(files)" './knock ./knockd '
	is "$(stat -c %a "$R/var/lib/knockd")" 700
	is "$(stage empty ENTRYPOINT)" '["/knockd"]'
	is "$(stage empty CMD)" '["-v"]'
}

@test "the image of contrib/Dockerfile, built from its own lines, with its own capabilities" {
	local caps

	need make awk
	image
	caps=$(grep -oE -e '--cap-add [A-Z_]+' "$ROOT/contrib/Dockerfile" |
		sed 's/.* //' | capabilities)
	matches "$caps" '12 .*13|13 .*12'
	mkdir "$R/etc"
	printf '%s\n' '[options]' 'UseSyslog' '[door]' 'sequence = 4001,4004,4002' \
		'tcpflags = syn' 'command = /knock -V' >"$R/etc/knockd.conf"
	chmod 600 "$R/etc/knockd.conf"
	# shellcheck disable=SC2086
	nsenter -t "$S" -m -n -- capsh --chroot="$R" --shell=/knockd \
		--drop="$(all_but $caps)" -- -v \
		</dev/null >"$T/out" 2>"$T/err" 3>&- &
	PID=$!
	wait_for_line "$T/out" '^listening on'
	# all that locks up the reader of packets is there, and nothing else
	not grep -i warn "$T/out" "$T/err"
	knock_a 10.77.0.1 4001 4004 4002
	wait_for_line "$T/out" '10\.77\.0\.2: door: OPEN SESAME'
	wait_for_line "$T/out" 'door: knock [0-9]'
	stop_knockd
	is "$(chroot "$R" /knock -V)" "$("$KNOCK" -V)"
}

@test "the same as an ordinary user with NET_RAW, as Docker gives it: by the file alone" {
	# as_docker PROGRAM ARG...: uid 1000, NET_RAW in the bounding set, none ambient
	as_docker() {
		local program=$1

		shift
		$EXEC nsenter -t "$S" -m -n -- capsh --chroot="$R" --shell="$program" \
			--drop="$(all_but $CAP_NET_RAW)" --gid=1000 --uid=1000 -- "$@"
	}

	need make awk setcap
	image
	door 'command = /knock -V'
	ready as_docker
	is "$(grep -E '^Cap(Eff|Amb|Bnd):' "/proc/$PID/status" | tr -s '\t\n' ' ')" \
		'CapEff: 0000000000002000 CapBnd: 0000000000002000 CapAmb: 0000000000000000 '
	knock_a 10.77.0.1 4001 4004:udp 4002
	wait_for_line "$T/err" '10\.77\.0\.2: door: OPEN SESAME'
	wait_for_line "$T/err" 'door: knock [0-9]'
	stop_knockd
	# without the capability the file runs all the same
	run as_nobody /knockd -c /knockd.conf
	is "$status" 1
	matches "$output" 'CAP_NET_RAW'
	run as_nobody /knockd -t -c /knockd.conf
	is "$status" 0
	is "$(as_nobody /knock -V)" "$("$KNOCK" -V)"
}

rule_for_a() {
	in_s iptables -S INPUT | grep -q -e '-s 10.77.0.2/32 .*--dport 22 -j ACCEPT'
}

@test "contrib/compose.yaml: its capabilities, a read-only root and a /run open a real door" {
	local caps m=$T/machine y=$ROOT/contrib/compose.yaml

	need iptables
	caps=$(sed -n 's/^    cap_add: \[\(.*\)\]/\1/p' "$y" | tr -d ' ' | tr , '\n' |
		capabilities)
	[ -n "$caps" ]
	grep -qx '    read_only: true' "$y"
	grep -qx '    tmpfs: /run' "$y"
	# this machine's root in place of Alpine's
	mkdir "$m"
	in_s mount --bind / "$m"
	in_s mount -o remount,bind,ro "$m"
	for d in proc dev etc; do in_s mount --rbind "/$d" "$m/$d"; done
	in_s mount -t tmpfs none "$m/run"
	in_s cp "$KNOCKD" "$m/run/knockd"
	sed 's/7000,8000,9000/4001,4004,4002/' "$ROOT/knockd.conf.example" |
		in_s tee /etc/knockd.conf >/dev/null
	in_s chmod 600 /etc/knockd.conf
	# shellcheck disable=SC2086
	nsenter -t "$S" -m -n -- capsh --chroot="$m" --shell=/run/knockd \
		--drop="$(all_but $caps)" -- -v </dev/null >"$T/out" 2>"$T/err" 3>&- &
	PID=$!
	wait_for_line "$T/out" '^listening on'
	not grep -i warn "$T/out" "$T/err"
	knock_a 10.77.0.1 4001 4004 4002
	until_true "$WAIT" rule_for_a
	not grep 'status code' "$T/out"
	stop_knockd
}

@test "contrib/compose.yaml is one, with what is commented out too" {
	need docker-compose
	cp -r "$ROOT/contrib" "$T/contrib"
	docker-compose -f "$T/contrib/compose.yaml" config >"$T/out" 2>"$T/err" ||
		{ cat "$T/err"; return 1; }
	grep -q 'dockerfile: contrib/Dockerfile' "$T/out"
	sed -i 's/^  # \(knock-log:\|  *\)/  \1/' "$T/contrib/compose.yaml"
	docker-compose -f "$T/contrib/compose.yaml" config >"$T/out" 2>"$T/err" ||
		{ cat "$T/err"; return 1; }
	is "$(grep -c 'dockerfile: contrib/Dockerfile' "$T/out")" 2
	# the targets that it names are stages
	sed -n 's/^ *target: //p' "$T/contrib/compose.yaml" >"$T/targets"
	while read -r t; do [ -n "$(stage "$t" FROM)" ]; done <"$T/targets"
}
