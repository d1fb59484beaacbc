#!/usr/bin/env bats
# The unit and the drop-in under a real systemd, which is process 1 of a
# namespace, in a copy of this machine's file system that is thrown away. It
# starts nothing but knockd.

load lib

G='' P=''

setup() {
	need iptables
	[ -x /lib/systemd/systemd ] || skip "systemd is not installed"
	net_up
	boot
	printf '%s\n' 'KNOCKD_OPTS="-i eth0"' | in_m tee /etc/default/knockd >/dev/null
	LOG=$T/knockd.log
	ln -s "/proc/$P/root/run/knockd.log" "$LOG"
	in_m sh -c 'cat > /etc/knockd.conf; chmod 600 /etc/knockd.conf' <<-EOF
	[options]
		logfile = /run/knockd.log
	[mark]
		sequence = 65000:udp
	[SSH]
		sequence      = 4001,4004,4002
		tcpflags      = syn
		start_command = /sbin/iptables -I INPUT -s %IP% -p tcp --dport 22 -j ACCEPT
		cmd_timeout   = 3600
		stop_command  = /sbin/iptables -D INPUT -s %IP% -p tcp --dport 22 -j ACCEPT
	EOF
}

teardown() {
	say_why
	net_down
	[ -z "$G" ] || until_true "$WAIT" no_cgroup
}

no_cgroup() {
	[ ! -e "$G" ] || find "$G" -depth -type d -exec rmdir {} + 2>/dev/null
}

# boot: systemd in S's network; P is its pid, in_m runs something beside it.
boot() {
	local c

	c=$(awk '$3 == "cgroup2" { print $2; exit }' /proc/mounts)
	[ -n "$c" ] || skip "no cgroup2 here"
	G=$c/knockd-test-$$
	mkdir "$G" 2>/dev/null || { G=''; skip "no cgroup of its own to be had"; }
	cat >"$T/boot" <<-'EOF'
	set -e
	T=$1 M=$T/m
	mkdir -p "$T/over" "$M"
	mount -t tmpfs none "$T/over"
	mkdir "$T/over/u" "$T/over/w"
	mount -t overlay overlay -o "lowerdir=/,upperdir=$T/over/u,workdir=$T/over/w" "$M"
	mount -t proc proc "$M/proc"
	mount --bind -o ro "$M/proc/sys" "$M/proc/sys"
	mount -o remount,bind,ro "$M/proc/sys"
	mount -t sysfs -o ro sysfs "$M/sys"
	mount -t cgroup2 cgroup2 "$M/sys/fs/cgroup" || {
		mount -t tmpfs none "$M/sys/fs/cgroup"
		mount -t cgroup2 cgroup2 "$M/sys/fs/cgroup"
	}
	mount -t tmpfs -o mode=755 none "$M/dev"
	for n in null zero full random urandom tty; do
		touch "$M/dev/$n"
		mount --bind "/dev/$n" "$M/dev/$n"
	done
	mkdir "$M/dev/pts" "$M/dev/shm" "$M/dev/mqueue" "$M/dev/hugepages"
	mount -t devpts -o newinstance,ptmxmode=666 devpts "$M/dev/pts"
	ln -s pts/ptmx "$M/dev/ptmx"
	ln -s /proc/self/fd "$M/dev/fd"
	mount -t tmpfs -o mode=755 none "$M/run"
	mount -t tmpfs none "$M/tmp"
	rm -rf "$M"/lib/systemd/system/*.wants "$M"/etc/systemd/system/*
	for t in sysinit basic shutdown umount network none; do
		printf '[Unit]\nDefaultDependencies=no\n' > "$M/etc/systemd/system/$t.target"
	done
	cp "$2" "$M/usr/sbin/knockd"
	cp "$3/contrib/knockd.service" "$M/etc/systemd/system/"
	cd "$M"
	exec chroot "$M" env -i container=test PATH=/usr/sbin:/usr/bin:/sbin:/bin \
		/lib/systemd/systemd --system --unit=none.target \
		--log-target=console --show-status=no
	EOF
	(
		echo "$BASHPID" >"$G/cgroup.procs"
		exec nsenter -t "$S" -n unshare -mpuiC --propagation private \
			--fork --kill-child bash "$T/boot" "$T" "$KNOCKD" "$ROOT"
	) >"$T/systemd" 2>&1 </dev/null 3>&- &
	until_true "$WAIT" booted || { cat "$T/systemd"; skip "systemd does not start here"; }
}

booted() {
	P=$(pids_in "$S" systemd | head -n 1)
	[ -n "$P" ] && in_m systemctl is-system-running >/dev/null 2>&1
}

in_m() {
	nsenter -t "$P" -m -p -n -u -i -C -r -w -- \
		env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin "$@" 3>&-
}

rule() {
	in_s iptables -S INPUT | grep -q -e '-s 10.77.0.2/32 .*--dport 22 -j ACCEPT'
}

main_pid() {
	in_m systemctl show -P MainPID knockd
}

# whole_life: start, knock, reload, stop.
whole_life() {
	local pid child

	in_m systemctl start knockd
	# Type=notify: it is ready when start returns
	is "$(in_m systemctl is-active knockd)" active
	grep -q "$READY" "$LOG"
	pid=$(main_pid)
	knock_a 10.77.0.1 4001 4004 4002
	until_true "$WAIT" rule
	in_m systemctl reload knockd
	logged 're-reading config file'
	mark
	is "$(main_pid)" "$pid"
	# nothing of the sandbox had to be left out
	for child in $(pids_in "$S" knockd); do
		grep -q '^CapEff:.0*$' "/proc/$child/status" || continue
		grep -q '^Seccomp:.2$' "/proc/$child/status"
		grep -q '^CapBnd:.0*$' "/proc/$child/status"
		! grep -q '^Uid:.0' "/proc/$child/status"
		child=found
		break
	done
	is "$child" found
	not_logged 'warn|status code|killed by'
	in_m systemctl stop knockd
	until_true "$WAIT" eval '! rule'
	is "$(in_m systemctl show -P Result knockd)" success
	is "$(in_m systemctl show -P ExecMainStatus knockd)" 0
	grep -q 'running command: /sbin/iptables -D' "$LOG"
}

@test "the unit: ready, opens, reloads, closes at stop" {
	whole_life
}

@test "the tight drop-in: the same" {
	in_m mkdir -p /etc/systemd/system/knockd.service.d
	in_m sh -c 'cat > /etc/systemd/system/knockd.service.d/tight.conf' \
		<"$ROOT/contrib/knockd-tight.conf"
	in_m systemctl daemon-reload
	whole_life
}

@test "README: make install, then the commands that start knockd at boot" {
	in_m rm /etc/systemd/system/knockd.service /usr/sbin/knockd
	make -s -C "$ROOT" install DESTDIR="$T/dest" >/dev/null
	install -m 755 "$KNOCKD" "$T/dest/usr/local/sbin/knockd"
	tar -c -C "$T/dest" ./usr | in_m tar -x -C /
	readme_step 6 | sed '/^journalctl/d' >"$T/step"
	matches "$(<"$T/step")" 'systemctl enable --now knockd'
	# what multi-user.target wants is a link in /etc
	in_m sh -ec "$(<"$T/step")" >"$T/out" 2>&1 || { cat "$T/out"; return 1; }
	is "$(in_m systemctl is-active knockd)" active
	is "$(in_m systemctl is-enabled knockd)" enabled
	matches "$(in_m readlink "/proc/$(main_pid)/exe")" /usr/local/sbin/knockd$
	knock_a 10.77.0.1 4001 4004 4002
	until_true "$WAIT" rule
	in_m systemctl stop knockd
	until_true "$WAIT" eval '! rule'
}

@test "an interface that comes later: systemd tries until it is there" {
	printf '%s\n' 'KNOCKD_OPTS="-i late0"' | in_m tee /etc/default/knockd >/dev/null
	in_m sh -c 'mkdir -p /etc/systemd/system/knockd.service.d
		printf "[Service]\nRestartSec=1\n" > /etc/systemd/system/knockd.service.d/r.conf'
	in_m systemctl daemon-reload
	run in_m systemctl start knockd
	[ "$status" != 0 ]
	until_true "$WAIT" restarted
	in_s ip link add late0 type veth peer name late1
	in_s ip link set late0 up
	until_true "$WAIT" active
}

restarted() {
	[ "$(in_m systemctl show -P NRestarts knockd)" -ge 1 ]
}

active() {
	[ "$(in_m systemctl is-active knockd)" = active ]
}
