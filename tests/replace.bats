#!/usr/bin/env bats
# What a setup made for knockd 0.8 met when ours took its place.

load lib

pair() {
	conf <<-EOF2
	[open]
	sequence = 7000,8000,9000
	seq_timeout = 4
	tcpflags = syn
	[close]
	sequence = 9000,8000,7000
	seq_timeout = 4
	tcpflags = syn
	EOF2
}

@test "a closing knock soon after the opening one: its first port, hit again, begins anew" {
	pair
	start
	knock_a 10.77.0.1 7000 8000 9000
	logged ' open: OPEN SESAME'
	# 9000 has begun an attempt at [close], which is nearly over now.
	pause 3
	knock_a -d 700 10.77.0.1 9000 8000 7000
	logged ' close: OPEN SESAME'
	stop_knockd
}

@test "an attempt given up, then the whole knock: its first port begins anew" {
	pair
	start
	knock_a 10.77.0.1 7000
	logged ' open: Stage 1'
	pause 3
	knock_a -d 700 10.77.0.1 7000 8000 9000
	logged ' open: OPEN SESAME'
	stop_knockd
}

@test "an address label (eth0:1) as the interface, by option and in the file" {
	in_s ip addr add 10.77.0.50/24 dev eth0 label eth0:1
	conf <<-EOF2
	[d]
	sequence = 7000
	EOF2
	start_knockd -i eth0:1
	not_logged 'waiting:'
	knock_a 10.77.0.1 7000
	mark_label
	not_logged ' d: OPEN'
	knock_a 10.77.0.50 7000
	logged ' d: OPEN SESAME'
	stop_knockd
	sed -i '1a interface = eth0:1' "$T/knockd.conf"
	start_knockd
	knock_a 10.77.0.50 7000
	logged ' d: OPEN SESAME' 2
	stop_knockd
}

# As mark, to the address with the label.
mark_label() {
	local n

	n=$(count "$LOG" 'mark: OPEN SESAME')
	in_a bash -c 'echo >/dev/udp/10.77.0.50/65000'
	logged 'mark: OPEN SESAME' $((n + 1))
}

@test "an empty -i, Interface, LogFile or PidFile is none, as if not given" {
	conf <<-EOF2
	[d]
	sequence = 7000
	EOF2
	start_knockd -i ''
	knock_a 10.77.0.1 7000
	logged ' d: OPEN SESAME'
	stop_knockd
	printf '[options]\ninterface =\nlogfile = \npidfile =\n[d]\nsequence = 7000\n' \
		>"$T/knockd.conf"
	start_knockd -g "$LOG"
	knock_a 10.77.0.1 7000
	logged ' d: OPEN SESAME' 2
	stop_knockd
}

@test "a door's name with a # in it" {
	conf <<-EOF2
	[ssh #1]   # the first
	sequence = 7000
	EOF2
	start
	knock_a 10.77.0.1 7000
	logged ' ssh #1: OPEN SESAME$'
	stop_knockd
}

@test "a tab in a command is one in the log" {
	conf <<-EOF2
	[d]
	sequence = 7000
	command = true	%IP%
	EOF2
	start
	knock_a 10.77.0.1 7000
	logged $'running command: true\t10.77.0.2$'
	stop_knockd
}
