#!/usr/bin/env bash
# The walk-through on the screen; demo.sh runs it when everything is there.
set -eu
cd "$(dirname "$0")/.."
ROOT=$PWD
BATS_TEST_TMPDIR=$(mktemp -d)
skip() { echo "Cannot be shown here: $*"; exit 1; }
# shellcheck source=tests/lib.bash
. "$ROOT/tests/lib.bash"

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

# syslog_lines: what knockd has said by now, as a log file would show it.
syslog_lines() {
	sed 's/<[0-9]*>/\n/g' "$T/raw" | grep ' knockd: ' >"$T/syslog" || :
}

in_syslog() {
	syslog_lines
	has_lines "$T/syslog" "$1" 1
}

# show_syslog FROM REGEX: waits for a line, then shows those from line FROM on.
show_syslog() {
	until_true "$WAIT" in_syslog "$2" || wrong "no line in syslog: $2"
	sed -n "$1,\$p" "$T/syslog" | sed 's/^./    &/'
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
	"Its firewall accepts established connections, rejects port 22, and makes an" \
	"exception of the addresses in a set:"
shown iptables -A INPUT -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT
in_s "$IPT" -w -A INPUT -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT ||
	wrong "iptables does not work with this kernel"
shown ipset create knock hash:ip timeout 0
in_s ipset create knock hash:ip timeout 0 || wrong "ipset does not work with this kernel"
shown iptables -A INPUT -p tcp --dport 22 -m set --match-set knock src -j ACCEPT
in_s "$IPT" -w -A INPUT -p tcp --dport 22 -m set --match-set knock src -j ACCEPT
shown iptables -A INPUT -p tcp --dport 22 -j REJECT
in_s "$IPT" -w -A INPUT -p tcp --dport 22 -j REJECT
BEFORE=$(rules)

tell "/etc/knockd.conf: two doors, one the other's sequence reversed."
in_s tee /etc/knockd.conf <<-EOF2 | sed 's/^./    &/'
	[options]
	        UseSyslog

	[openSSH]
	        sequence    = 7000,8000,9000
	        seq_timeout = 15
	        command     = $IPT -C INPUT -s %IP% -p tcp --dport 22 -j ACCEPT 2>/dev/null || $IPT -I INPUT -s %IP% -p tcp --dport 22 -j ACCEPT
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
	# shellcheck disable=SC2217
	bg "$A" "${SSH[@]}" root@10.77.0.1 cat <"$T/say" >"$T/heard" 2>/dev/null
else
	# shellcheck disable=SC2217
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

tell "A sealed knock: one datagram, made with a key. The key is for the client anna." \
	"The address is put into the set for an hour; no program runs."
shown knock --keygen anna sealed
"$KNOCK" --keygen anna sealed >"$T/new"
sed -E 's/[0-9a-f]{64}$/64 hexadecimal digits/; s/^/    /' "$T/new"
in_s tee -a /etc/knockd.conf <<-EOF2 | sed 's/^./    &/'

	[sealed]
	        sequence      = 62201:udp
	        keys          = /etc/knockd.keys
	        set           = ipset knock
	        cmd_timeout   = 3600
EOF2
head -n 1 "$T/new" | in_s sh -c 'umask 077; cat >/etc/knockd.keys'
mkdir -p "$T/.config"
(umask 077; printf '[home]\nhost = 10.77.0.1\nports = 62201\n%s\n' "$(sed -n 2p "$T/new")" >"$T/.config/knock.conf")
shown 'kill -HUP $(cat /run/knockd.pid)'
# shellcheck disable=SC2016
in_s bash -c 'kill -HUP "$(cat /run/knockd.pid)"'
until_true "$WAIT" in_syslog 're-reading config file' || wrong "it did not read the file"
bg "$S" tcpdump -i eth0 -U -c 1 -w "$T/seen" udp port 62201 2>"$T/tcpdump"
wait_for_line "$T/tcpdump" 'listening on' || wrong "tcpdump does not listen"
from=$(($(wc -l <"$T/syslog") + 1))
shown 10.77.0.2: knock home
in_a env -u XDG_CONFIG_HOME HOME="$T" "$KNOCK" home || wrong "knock failed"
show_syslog "$from" 'sealed: OPEN SESAME'
until_true "$WAIT" in_s ipset -q test knock 10.77.0.2 || wrong "the address is not in the set"
lets_in "$A" 10.77.0.2

tell "10.77.0.3 has seen the datagram and sends it again. The door stays shut for it."
from=$(($(wc -l <"$T/syslog") + 1))
until_true "$WAIT" eval '[ "$(wc -c <"$T/seen")" -ge 100 ]' || wrong "nothing was seen"
tail -c 56 "$T/seen" >"$T/datagram"
shown '10.77.0.3: cat datagram > /dev/udp/10.77.0.1/62201'
in_b bash -c "cat $T/datagram >/dev/udp/10.77.0.1/62201"
show_syslog "$from" 'sealed: anna: replayed'
refused "$B" 10.77.0.3

tell "The daemon ends, and closes what is open. The rules are what they were at the start."
# shellcheck disable=SC2016
in_s bash -c 'kill "$(cat /run/knockd.pid)"'
until_true "$WAIT" no_daemon_left || wrong "it does not"
show_syslog "$(wc -l <"$T/syslog")" 'shutting down' >/dev/null
[ "$(rules)" = "$BEFORE" ] || wrong "the rules are: $(rules)"
rules | sed 's/^./    &/'
printf '\n%sEvery step did what it should.%s\n' "$BOLD" "$END"
