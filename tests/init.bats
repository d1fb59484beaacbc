#!/usr/bin/env bats
# The init scripts after `make install`, in a copy of this machine's file system
# that is thrown away: a run level of System V's init starts and ends knockd, and
# each start that starts nothing says why; OpenRC the same. (The unit: systemd.bats.)
#
# sysv-rc, startpar and OpenRC come from Debian's packages, which are unpacked
# into the copy and never installed.

load lib

M=''

setup() {
	need dpkg-deb apt-get make
	net_up
	copy_of_machine
	conf <<<''
	sed 's,logfile = .*,logfile = /run/knockd.log,' "$T/knockd.conf" >"$T/conf"
	in_s install -m 600 "$T/conf" "$M/etc/knockd.conf"
	LOG=$T/init.log
	ln -s "/proc/$S/root/run/knockd.log" "$LOG"
}

# copy_of_machine: mounts in S a copy of / that forgets what is written.
copy_of_machine() {
	M=$T/machine
	mkdir -p "$M" "$T/over"
	in_s mount -t tmpfs none "$T/over"
	in_s mkdir "$T/over/u" "$T/over/w"
	in_s mount -t overlay overlay \
		-o "lowerdir=/,upperdir=$T/over/u,workdir=$T/over/w" "$M" ||
		skip "no overlay file system here"
	for d in proc sys dev run; do in_s mount --rbind "/$d" "$M/$d"; done
	in_m sh -c 'rm -rf /etc/init.d/* /etc/rc?.d /etc/default/knockd /run/systemd'
}

in_m() {
	in_s chroot "$M" env -i PATH=/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin "$@" 3>&-
}

# debian PACKAGE...: unpacks them into the copy; they are in build/debs, or are
# fetched there.
debian() {
	local p

	mkdir -p "$ROOT/build/debs"
	for p; do
		compgen -G "$ROOT/build/debs/${p}_*.deb" >/dev/null ||
			(cd "$ROOT/build/debs" && timeout 120 apt-get -q download "$p") \
				>"$T/apt" 2>&1 || skip "Debian's package $p is not to be had here"
		dpkg-deb --fsys-tarfile "$ROOT"/build/debs/"$p"_*.deb |
			in_s tar -x --keep-directory-symlink -C "$M"
	done
}

# install_init INIT: `make install`, of the tree as it is, into the copy.
install_init() {
	make -s -C "$ROOT" install DESTDIR="$T/dest" INIT="$1" >"$T/make" 2>&1
	rm "$T/dest/etc/knockd.conf"
	tar -c -C "$T/dest" . | in_s tar -x --keep-directory-symlink -C "$M"
	in_s install -m 755 "$KNOCKD" "$M/usr/local/sbin/knockd"
}

script() {
	in_m timeout 60 /etc/init.d/knockd "$@" </dev/null
}

# says STATUS REGEX COMMAND...: what the command's exit status and output are.
says() {
	local s=$1 re=$2

	shift 2
	run "$@"
	is "$* status $status: $output" "$* status $s: $output"
	matches "$output" "$re"
	until_true "$WAIT" no_daemon_left
}

pidfile() {
	in_m cat /run/knockd.pid
}

@test "System V: make install, update-rc.d, and a run level starts and ends knockd" {
	local pid

	debian sysv-rc startpar
	install_init sysv
	in_m sed -i 's/^START_KNOCKD=.*/START_KNOCKD=1/; s/^#\(KNOCKD_OPTS=\).*/\1"-i eth0"/' \
		/etc/default/knockd
	in_m update-rc.d knockd defaults
	in_m rm -rf /var/lib/knockd
	in_m sh -c 'RUNLEVEL=2 PREVLEVEL=N runlevel=2 previous=N timeout 60 /etc/init.d/rc 2' \
		>"$T/out" 2>&1 </dev/null
	pid=$(pidfile)
	running "$pid"
	mark
	is "$(in_m stat -c %a /var/lib/knockd)" 700
	# the tools of such a host find it
	is "$(in_m readlink "/proc/$pid/exe")" /usr/local/sbin/knockd
	in_m start-stop-daemon --status --pidfile /run/knockd.pid \
		--exec /usr/local/sbin/knockd
	says_running=$(script status)
	matches "$says_running" "running \\($pid\\)"
	run script start
	is "$status $output" "0 knockd is running already ($pid)"
	script reload
	logged 're-reading config file'
	mark
	in_m sh -c 'RUNLEVEL=0 PREVLEVEL=2 runlevel=0 previous=2 timeout 60 /etc/init.d/rc 0' \
		>"$T/out" 2>&1 </dev/null
	until_true "$WAIT" no_daemon_left
	[ -z "$(in_m sh -c 'ls /run/knockd.pid 2>/dev/null')" ]
}

@test "System V: each start that starts nothing says why" {
	local d=/etc/default/knockd

	install_init sysv
	says 0 "^knockd is not started: START_KNOCKD=0 disables it in $d\$" script start
	in_m sh -c "echo > $d"
	says 0 "^knockd is not started: $d does not say START_KNOCKD=1\$" script start
	in_m sh -c "echo START_KNOCKD=yes > $d"
	says 6 "^knockd is not started: START_KNOCKD is 'yes' in $d, not 1\$" script start
	in_m rm $d
	says 6 "^knockd is not started: $d is missing; .*START_KNOCKD=1\$" script start
	in_m sh -c "echo START_KNOCKD=1 > $d"
	in_m mv /usr/local/sbin/knockd /k
	says 5 "^knockd is not started: there is no program /usr/local/sbin/knockd\$" \
		script start
	in_m mv /k /usr/local/sbin/knockd
	# the daemon's own words
	in_m sh -c 'cp /etc/knockd.conf /good; echo no such word >> /etc/knockd.conf'
	says 1 "knockd.conf:[0-9]+: no '=' in 'no'.*knockd is not started" script start
	in_m rm /etc/knockd.conf
	says 1 "knockd.conf.*knockd is not started" script start
	in_m mv /good /etc/knockd.conf
	in_m sh -c "echo 'KNOCKD_OPTS=\"-i nosuch0\"' >> $d"
	says 1 "nosuch0.*knockd is not started" script start
}

@test "System V: a defaults file with carriage returns counts" {
	install_init sysv
	in_m sh -c 'printf "\r\nSTART_KNOCKD=1\r\nKNOCKD_OPTS=\"-i eth0\"\r\n" > /etc/default/knockd'
	is "$(script start 2>&1)" 'Starting knockd'
	running "$(pidfile)"
	mark
	script stop
	until_true "$WAIT" no_daemon_left
}

# openrc: its files, and what the boot would have made.
openrc() {
	debian openrc librc1 libeinfo1
	in_m sh -c 'rm -rf /etc/init.d/*
		for d in starting started stopping inactive wasinactive failed \
			hotplugged daemons options exclusive scheduled tmp; do
			mkdir -p "/run/openrc/$d"
		done
		touch /run/openrc/softlevel'
}

@test "OpenRC: make install, then rc-service starts and stops it; conf.d counts" {
	openrc
	install_init openrc
	in_m sh -c 'printf "\r\nKNOCKD_OPTS=\"-i eth0\"\r\n" > /etc/conf.d/knockd'
	in_m rm -rf /var/lib/knockd
	in_m timeout 60 rc-service -D knockd start </dev/null
	is "$(in_m stat -c %a /var/lib/knockd)" 700
	is "$(in_m readlink "/proc/$(pidfile)/exe")" /usr/local/sbin/knockd
	grep -q 'listening on eth0$' "$LOG"
	mark
	in_m timeout 60 rc-service -D knockd stop </dev/null
	until_true "$WAIT" no_daemon_left
}

@test "OpenRC: each start that starts nothing says why" {
	openrc
	install_init openrc
	in_m sh -c 'echo START_KNOCKD=0 > /etc/default/knockd'
	says 1 'disabled in /etc/default/knockd: START_KNOCKD is 0' script -D start
	in_m rm /etc/default/knockd
	in_m mv /usr/local/sbin/knockd /k
	says 1 'there is no program /usr/local/sbin/knockd' script -D start
	in_m mv /k /usr/local/sbin/knockd
	in_m sh -c 'echo no such word >> /etc/knockd.conf'
	says 1 "knockd.conf:[0-9]+: no '=' in 'no'.*knockd is not started" script -D start
}
