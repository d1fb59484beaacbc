#!/usr/bin/env bats
# The how-to's walk-through: port 22 rejected, a knock opens it for one address,
# the reversed knock closes it again. Real iptables, syslog, and sshd.

load lib

# --- the server's side -------------------------------------------------------

# use_iptables nft|legacy: makes /sbin/iptables that back end, in S alone.
use_iptables() {
	local real

	need "iptables-$1"
	real=$(in_s readlink -f "$(command -v "iptables-$1")")
	IPT=/sbin/iptables
	[ -e $IPT ] || IPT=$(command -v iptables)
	in_s mount --bind "$real" "$IPT"
	in_s "$IPT" -V | grep -q "${1/nft/nf_tables}" || { in_s "$IPT" -V; return 1; }
	in_s "$IPT" -w -A INPUT -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT ||
		skip "iptables-$1 does not work with this kernel"
	in_s "$IPT" -w -A INPUT -p tcp --dport 22 -j REJECT
}

# gets_in BOX: whether a new session comes about, from A or B.
gets_in() {
	nsenter -t "$1" -n -- ssh -F "$T/ssh_config" 10.77.0.1 true 2>"$T/ssh"
}

# refused BOX: a new session does not, and is told so at once.
refused() {
	! gets_in "$1" || { echo "got in"; return 1; }
	grep -q 'Connection refused' "$T/ssh"
}

# start_syslog: takes what arrives at S's /dev/log.
start_syslog() {
	need socat
	bg "$S" socat -u UNIX-RECV:/dev/log,mode=666 "CREATE:$T/syslog.raw"
	until_true "$WAIT" in_s test -S /dev/log
}

# syslog_of DOOR: what syslog got about a door, only the text.
syslog_of() {
	sed 's/<\([0-9]*\)>/\n<\1>/g' "$T/syslog.raw" >"$T/syslog"
	sed -n 's/^<29>[A-Z][a-z][a-z] [ 0-9][0-9] [0-9:]\{8\} knockd: //p' "$T/syslog" |
		grep -E "(^| )$1: " || :
}

said() {
	[ "$(syslog_of "$1" | tail -n 1)" = "$2" ]
}

# --- the walk ----------------------------------------------------------------

walk() {
	local before cmd

	use_iptables "$1"
	start_syslog
	start_sshd
	before=$(in_s "$IPT" -S)
	in_s tee /etc/knockd.conf >/dev/null <<-EOF2
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
	in_s "$KNOCKD" -d -i eth0 3>&-
	PID=$(in_s cat /var/run/knockd.pid)

	refused "$A"

	knock_a 10.77.0.1 7000 8000 9000 -d 500
	cmd="openSSH: running command: $IPT -I INPUT -s 10.77.0.2 -p tcp --dport 22 -j ACCEPT"
	until_true "$WAIT" said openSSH "$cmd"
	is "$(syslog_of openSSH)" "10.77.0.2: openSSH: Stage 1
10.77.0.2: openSSH: Stage 2
10.77.0.2: openSSH: Stage 3
10.77.0.2: openSSH: OPEN SESAME
$cmd"
	until_true "$WAIT" in_s "$IPT" -w -C INPUT -s 10.77.0.2 -p tcp --dport 22 -j ACCEPT 2>/dev/null
	gets_in "$A"
	refused "$B"
	session ssh -F "$T/ssh_config" 10.77.0.1 cat
	session_lives first

	knock_a 10.77.0.1 9000 8000 7000 -d 500
	cmd="closeSSH: running command: $IPT -D INPUT -s 10.77.0.2 -p tcp --dport 22 -j ACCEPT"
	until_true "$WAIT" said closeSSH "$cmd"
	is "$(syslog_of closeSSH | grep -v 'sequence timeout')" "10.77.0.2: closeSSH: Stage 1
10.77.0.2: closeSSH: Stage 2
10.77.0.2: closeSSH: Stage 3
10.77.0.2: closeSSH: OPEN SESAME
$cmd"
	until_true "$WAIT" refused "$A"
	session_lives second
	is "$(in_s "$IPT" -S)" "$before"

	kill "$PID"
	until_true "$WAIT" no_daemon_left
	grep -q 'knockd: shutting down' <(syslog_of '' >/dev/null; cat "$T/syslog")
	exec {SAY}>&-
}

@test "the how-to, with iptables-nft" {
	walk nft
}

@test "the how-to, with iptables-legacy" {
	walk legacy
}

@test "one knock opens, and shuts again by itself; the session goes on" {
	need iptables
	use_iptables nft
	start_sshd
	conf <<-EOF2
	[SSH]
	sequence      = 2222:udp,3333:tcp,4444:udp
	seq_timeout   = 15
	tcpflags      = syn
	start_command = $IPT -w -I INPUT -s %IP% -p tcp --dport 22 -j ACCEPT
	cmd_timeout   = 3
	stop_command  = $IPT -w -D INPUT -s %IP% -p tcp --dport 22 -j ACCEPT
	EOF2
	before=$(in_s "$IPT" -S)
	start
	refused "$A"
	knock_a 10.77.0.1 2222:udp 3333:tcp 4444:udp -d 50
	until_true "$WAIT" in_s "$IPT" -w -C INPUT -s 10.77.0.2 -p tcp --dport 22 -j ACCEPT 2>/dev/null
	session ssh -F "$T/ssh_config" 10.77.0.1 cat
	session_lives first
	logged '10.77.0.2: SSH: command timeout'
	logged "SSH: running command: $IPT -w -D INPUT"
	until_true "$WAIT" refused "$A"
	session_lives second
	is "$(in_s "$IPT" -S)" "$before"
	exec {SAY}>&-
	stop_knockd
}
