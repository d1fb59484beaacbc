#!/bin/sh
# The how-to's walk-through on the screen, between network namespaces of its own:
# port 22 is shut, a knock opens it for one address, the reversed knock shuts it.
# As root. Exit status 0 only if every step did what it should.
#
# On Debian and Alpine it first installs what is missing.
if [ -z "${BASH_VERSION:-}" ] || [ -z "${DEMO_READY:-}" ]; then
	cd "$(dirname "$0")/.." || exit 1
	[ "$(id -u)" = 0 ] || { echo "make demo needs root, for its network namespaces"; exit 1; }
	debian='' alpine=''
	tool() {
		command -v "$1" >/dev/null 2>&1 || { debian="$debian $2" alpine="$alpine $3"; }
	}
	tool bash bash bash
	tool make make make
	tool cc gcc gcc
	[ -e /usr/include/stdio.h ] || tool stdio.h libc6-dev musl-dev
	command -v apk >/dev/null 2>&1 || tool musl-gcc musl-tools musl-dev
	tool ip iproute2 iproute2
	tool iptables iptables iptables
	tool unshare util-linux util-linux
	tool nsenter util-linux util-linux
	tool socat socat socat
	if [ -n "$debian" ]; then
		mkdir -p build
		if command -v apt-get >/dev/null 2>&1; then
			echo "installing:$debian"
			export DEBIAN_FRONTEND=noninteractive
			# shellcheck disable=SC2086
			{ apt-get -q update && apt-get -qy install --no-install-recommends $debian; } \
				>build/install.log 2>&1 || { tail -n 5 build/install.log; exit 1; }
		elif command -v apk >/dev/null 2>&1; then
			echo "installing:$alpine"
			# shellcheck disable=SC2086
			apk add --update-cache $alpine >build/install.log 2>&1 ||
				{ tail -n 5 build/install.log; exit 1; }
		else
			echo "missing, please install:$debian"
			exit 1
		fi
	fi
	make >build.log 2>&1 || { cat build.log; rm -f build.log; exit 1; }
	rm -f build.log
	DEMO_READY=1 exec bash tests/demo.sh
fi

set -eu
T=$(mktemp -d)
ROOT=$PWD
export T ROOT
skip() { echo "Cannot be shown here: $*"; exit 1; }
# shellcheck source=tests/lib.bash
. tests/lib.bash

if [ -t 1 ]; then BOLD=$'\e[1m' DIM=$'\e[2m' RED=$'\e[31m' END=$'\e[0m'; else BOLD='' DIM='' RED='' END=''; fi
STEP=0

tell() {
	STEP=$((STEP + 1))
	printf '\n%s%d. %s%s\n' "$BOLD" "$STEP" "$1" "$END"
	shift
	[ $# = 0 ] || printf '%s\n' "$@"
}

# shown COMMAND: as it would be typed.
shown() { printf '%s$ %s%s\n' "$DIM" "$*" "$END"; }

wrong() {
	printf '%sThis step did not do what it should: %s%s\n' "$RED" "$*" "$END"
	[ ! -s "$T/syslog" ] || cat "$T/syslog"
	exit 1
}

over() {
	local status=$?

	trap - EXIT
	exec 2>/dev/null
	net_down || status=1
	rm -rf "$T"
	exit "$status"
}
trap over EXIT
trap 'exit 1' INT TERM HUP

# syslog_lines: what has come by now, as a log file would show it.
syslog_lines() {
	sed 's/<29>/\n/g' "$T/raw" | sed '/^$/d' >"$T/syslog"
}

in_syslog() {
	syslog_lines
	has_lines "$T/syslog" "$1" 1
}

# show_syslog FROM REGEX: waits for a line, then shows those from line FROM on.
show_syslog() {
	until_true "$WAIT" in_syslog "$2" || wrong "no line in syslog: $2"
	sed -n "$1,\$p" "$T/syslog" | sed 's/^/    /'
}

# gets_in BOX: whether that client can begin a session.
gets_in() {
	if [ -n "$SSHD" ]; then
		nsenter -t "$1" -n -- "${SSH[@]}" root@10.77.0.1 true 2>"$T/ssh"
	else
		nsenter -t "$1" -n -- bash -c ': </dev/tcp/10.77.0.1/22' 2>"$T/ssh"
	fi
}

refused() {
	shown "$2: ssh root@10.77.0.1"
	! gets_in "$1" || wrong "it got in"
	grep -q 'Connection refused' "$T/ssh" || wrong "$(cat "$T/ssh")"
	echo "    Connection refused"
}

lets_in() {
	shown "$2: ssh root@10.77.0.1"
	gets_in "$1" || wrong "$(cat "$T/ssh")"
	echo "    logged in"
}

rules() {
	in_s "$IPT" -S INPUT
}

# --- the server ---------------------------------------------------------------

WAIT=10
net_up
IPT=/sbin/iptables
[ -x $IPT ] || IPT=$(command -v iptables)
SSHD=$(command -v sshd) || SSHD=''
SSH=(ssh -F none -i "$T/key" -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null
	-o LogLevel=ERROR -o BatchMode=yes -o ConnectTimeout=10)
if [ -n "$SSHD" ] && command -v ssh >/dev/null; then
	ssh-keygen -q -t ed25519 -N '' -f "$T/hostkey"
	ssh-keygen -q -t ed25519 -N '' -f "$T/key"
	in_s sed -i 's/^root:[^:]*:/root:*:/' /etc/shadow
	printf '%s\n' "HostKey $T/hostkey" "AuthorizedKeysFile $T/key.pub" 'PermitRootLogin yes' \
		'StrictModes no' 'PidFile none' 'UseDNS no' >"$T/sshd_config"
	bg "$S" "$SSHD" -D -f "$T/sshd_config" 2>/dev/null
	server=sshd
else
	SSHD=''
	bg "$S" socat TCP-LISTEN:22,fork,reuseaddr EXEC:cat
	server="a small listener on port 22 (no sshd is installed)"
fi
bg "$S" socat -u UNIX-RECV:/dev/log "CREATE:$T/raw"
until_true "$WAIT" listens "$S" tcp 22
until_true "$WAIT" in_s test -S /dev/log

tell "A server, 10.77.0.1, with $server, and two clients, 10.77.0.2 and 10.77.0.3." \
	"Each is a network namespace; nothing here touches this machine's own network." \
	"Its firewall accepts established connections and rejects port 22:"
shown iptables -A INPUT -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT
in_s "$IPT" -w -A INPUT -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT ||
	wrong "iptables does not work with this kernel"
shown iptables -A INPUT -p tcp --dport 22 -j REJECT
in_s "$IPT" -w -A INPUT -p tcp --dport 22 -j REJECT
BEFORE=$(rules)

tell "/etc/knockd.conf: two doors, one the other's sequence reversed."
in_s tee /etc/knockd.conf <<-EOF2 | sed 's/^/    /'
	[options]
	        UseSyslog

	[openSSH]
	        sequence    = 7000,8000,9000
	        seq_timeout = 15
	        command     = $IPT -I INPUT -s %IP% -p tcp --dport 22 -j ACCEPT
	        tcpflags    = syn

	[closeSSH]
	        sequence    = 9000,8000,7000
	        seq_timeout = 15
	        command     = $IPT -D INPUT -s %IP% -p tcp --dport 22 -j ACCEPT
	        tcpflags    = syn
EOF2
shown knockd -d
in_s "$KNOCKD" -d || wrong "knockd did not start"
show_syslog 1 'starting up, listening on'

tell "Nobody gets in."
refused "$A" 10.77.0.2

tell "10.77.0.2 knocks: three packets, half a second apart. This is what syslog says:"
from=$(($(wc -l <"$T/syslog") + 1))
shown 10.77.0.2: knock 10.77.0.1 7000 8000 9000 -d 500
in_a "$KNOCK" 10.77.0.1 7000 8000 9000 -d 500 || wrong "knock failed"
show_syslog "$from" 'openSSH: running command: '
until_true "$WAIT" in_s "$IPT" -w -C INPUT -s 10.77.0.2 -p tcp --dport 22 -j ACCEPT 2>/dev/null ||
	wrong "there is no rule"

tell "The door is open for that address, and for no other."
lets_in "$A" 10.77.0.2
refused "$B" 10.77.0.3
mkfifo "$T/say"
exec {SAY}<>"$T/say"
if [ -n "$SSHD" ]; then
	bg "$A" "${SSH[@]}" root@10.77.0.1 cat <"$T/say" >"$T/heard"
else
	bg "$A" bash -c 'exec 4<>/dev/tcp/10.77.0.1/22; cat <&4 & cat >&4' <"$T/say" >"$T/heard"
fi
echo hello >&"$SAY"
wait_for_line "$T/heard" '^hello$' || wrong "the session does not answer"

tell "The reversed knock shuts it. The session that runs goes on."
from=$(($(wc -l <"$T/syslog") + 1))
shown 10.77.0.2: knock 10.77.0.1 9000 8000 7000 -d 500
in_a "$KNOCK" 10.77.0.1 9000 8000 7000 -d 500 || wrong "knock failed"
show_syslog "$from" 'closeSSH: running command: '
shut() { ! in_s "$IPT" -w -C INPUT -s 10.77.0.2 -p tcp --dport 22 -j ACCEPT 2>/dev/null; }
until_true "$WAIT" shut || wrong "the rule is still there"
refused "$A" 10.77.0.2
echo 'still there' >&"$SAY"
wait_for_line "$T/heard" '^still there$' || wrong "the session has died"
echo "    the session from before still answers"

tell "The rules are what they were at the start; the daemon ends."
[ "$(rules)" = "$BEFORE" ] || wrong "the rules are: $(rules)"
rules | sed 's/^/    /'
in_s bash -c 'kill "$(cat /run/knockd.pid)"'
until_true "$WAIT" no_daemon_left || wrong "it does not"
show_syslog "$(wc -l <"$T/syslog")" 'shutting down' >/dev/null
printf '\n%sEvery step did what it should.%s\n' "$BOLD" "$END"
