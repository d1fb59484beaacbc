#!/usr/bin/env bats
# contrib/Dockerfile, compose.yaml and game/ with a real container engine, podman:
# the images are built, and run by the command lines that stand in these files.
#
# The engine runs in the box S, with a store, /run and /var/lib of its own, and
# without any control group: nothing of the machine's is touched. Alpine is not to be
# had on a machine without network, so the image of that name is a small Debian whose
# apk says that everything is there.

load lib

setup_file() {
	[ "$(id -u)" = 0 ] || return 0
	debian_root image-root gcc make musl-tools iptables nftables ipset libcap2-bin \
		busybox-static >&3
}

setup() {
	need podman
	net_up
	[ -e "$ROOT/build/image-root/.made" ] || skip "debootstrap made no root file system"
	engine_up
	images
	W=$T/work
	mkdir "$W"
	(cd "$ROOT" && git ls-files --cached --others --exclude-standard |
		tar -c -T -) | tar -x -C "$W"
	conf_for_image "$W/knockd.conf"
}

# engine_up: S is made fit for podman; $T/bin/docker and podman are it.
engine_up() {
	local d=$BATS_FILE_TMPDIR

	in_s bash -ec '
		umount -R /sys/fs/cgroup 2>/dev/null || :
		mount -t tmpfs none /sys/fs/cgroup
		mkdir /dev/shm; mount -t tmpfs none /dev/shm
		mount -t tmpfs none /var/lib'
	# The last test took its processes and mounts with it, like a reboot.
	rm -rf --one-file-system "$d/run" "$d/tmp"
	mkdir -p "$T/bin" "$d/tmp"
	cat >"$T/containers.conf" <<-END
	[engine]
	cgroup_manager = "cgroupfs"
	events_logger = "file"
	[containers]
	cgroups = "disabled"
	default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
	END
	cat >"$T/bin/podman" <<-END
	#!/bin/sh
	export CONTAINERS_CONF=$T/containers.conf TMPDIR=$d/tmp BUILDAH_ISOLATION=chroot
	exec $(type -P podman) --root $d/store --runroot $d/run --tmpdir $d/tmp "\$@"
	END
	ln -s podman "$T/bin/docker"
	chmod 755 "$T/bin/podman"
}

podman() {
	in_s "$T/bin/podman" "$@"
}

# images: alpine:3.20, made once.
images() {
	local root=$ROOT/build/image-root

	podman rm -af >/dev/null 2>&1 || :
	! podman image exists alpine:3.20 || return 0
	mkdir -p "$T/more/usr/sbin" "$T/more/usr/bin"
	# shellcheck disable=SC2016
	printf '#!/bin/sh\n[ "$1" = add ] && echo "$* is there"\n' >"$T/more/usr/sbin/apk"
	chmod 755 "$T/more/usr/sbin/apk"
	cp "$root/bin/busybox" "$T/more/usr/bin/busybox.static"
	tar -c -C "$root" --exclude=./.made --exclude='./var/cache/*' --exclude='./var/lib/apt/*' \
		--exclude='./usr/share/locale/*' --exclude='./usr/share/doc/*' . -C "$T/more" \
		usr/sbin/apk usr/bin/busybox.static |
		podman import -q -c 'CMD ["/bin/sh"]' - alpine:3.20
}

# conf_for_image FILE: the shipped configuration, with other ports.
conf_for_image() {
	sed 's/7000,8000,9000/4001,4004,4002/; s/9000,8000,7000/4002,4004,4001/' \
		"$ROOT/knockd.conf.example" >"$1"
	chmod 600 "$1"
}

# commands FILE: the docker command lines in a file's comments, but logs.
commands() {
	awk '{ sub(/^# +/, "") }
		/^docker (build|run) / { on = 1 }
		on { print; on = /\\$/ }' "$ROOT/$1"
}

# in_work CODE: a shell in a clone, where docker is podman.
in_work() {
	in_s env -C "$W" PATH="$T/bin:$PATH" bash -ec "$1" >"$T/out" 2>&1 </dev/null ||
		{ tail -n 30 "$T/out"; return 1; }
}

container_log() {
	podman logs "$1" >"$T/log" 2>&1
	[ "$(count "$T/log" "$2")" -ge "${3:-1}" ]
}

# container_logged NAME REGEX [COUNT]
container_logged() {
	until_true "$WAIT" container_log "$@" || { tail -n 20 "$T/log"; echo "no line: $2"; return 1; }
}

rule_for_a() {
	in_s iptables -S INPUT | grep -q -e '-s 10.77.0.2/32 .*--dport 22 -j ACCEPT'
}

# opens_for_a NAME: a knock opens, a knock backwards closes.
opens_for_a() {
	container_logged "$1" '^listening on'
	knock_a 10.77.0.1 4001 4004 4002
	until_true "$WAIT" rule_for_a
	knock_a 10.77.0.1 4002 4004 4001
	until_true "$WAIT" not rule_for_a
	podman logs "$1" >"$T/log" 2>&1
	not grep 'status code' "$T/log"
}

# reload_and_stop NAME: it reads its configuration again, and ends by itself.
reload_and_stop() {
	podman kill -s HUP "$1"
	container_logged "$1" 're-reading config file'
	podman stop -t 10 "$1"
	is "$(podman inspect "$1" --format '{{.State.ExitCode}}')" 0
}

@test "Dockerfile: built, run by its own lines; what the shipped configuration runs is there" {
	local p

	commands contrib/Dockerfile | grep -v -e --target >"$T/lines"
	is "$(grep -c ^docker "$T/lines")" 2
	in_work "$(<"$T/lines")"
	is "$(podman inspect knockd --format '{{.HostConfig.RestartPolicy.Name}}')" unless-stopped
	opens_for_a knockd
	# all that locks up the reader of packets is there
	not grep -i warn "$T/log"
	# every program that the example names, in comments as well
	for p in $(grep -oE '/(usr/)?sbin/(ip6?tables|nft|ipset)' "$ROOT/knockd.conf.example" | sort -u); do
		podman exec knockd test -x "$p" || { echo "lacks $p"; return 1; }
	done
	# with a read-only root, too
	podman exec knockd touch /var/lib/knockd/stamps
	reload_and_stop knockd
}

@test "compose.yaml: up, opens, reload, down" {
	local name

	need docker-compose
	in_work "podman build -q -t knockd -f contrib/Dockerfile ."
	# docker-compose speaks to podman as to Docker's daemon
	bg "$S" "$T/bin/podman" system service -t 0 "unix://$T/sock" >"$T/service" 2>&1
	until_true "$WAIT" test -S "$T/sock"
	compose() {
		in_work "DOCKER_HOST=unix://$T/sock docker-compose -f contrib/compose.yaml $*"
	}
	compose up -d --no-build
	name=$(podman ps --format '{{.Names}}')
	is "$(podman inspect "$name" --format '{{.HostConfig.RestartPolicy.Name}} {{.HostConfig.ReadonlyRootfs}}')" \
		'unless-stopped true'
	opens_for_a "$name"
	not grep -i warn "$T/log"
	podman exec "$name" touch /var/lib/knockd/stamps
	reload_and_stop "$name"
	compose down
	is "$(podman ps -aq)" ''
}

# empty_image: the image of the stage "empty", made by its line.
empty_image() {
	in_work "$(commands contrib/Dockerfile | grep -e --target)"
	printf '%s\n' '[door]' 'sequence = 4001,4004:udp,4002' 'tcpflags = syn' \
		'command = /knock -V' >"$T/k.conf"
	chmod 644 "$T/k.conf"
}

# setting NAME ARG...: the empty image runs with these, and opens.
setting() {
	local name=$1

	shift
	podman run -d --name "$name" --network host "$@" \
		-v "$T/k.conf:/etc/knockd.conf:ro" knockd-empty >/dev/null
	container_logged "$name" '^listening on'
	knock_a 10.77.0.1 4001 4004:udp 4002
	container_logged "$name" '10\.77\.0\.2: door: OPEN SESAME'
	container_logged "$name" 'door: knock [0-9]'
	reload_and_stop "$name"
	podman logs "$name" >"$T/$name.log" 2>&1
}

@test "the empty image: NET_RAW alone; an ordinary user; the whole sandbox" {
	empty_image
	setting raw --cap-drop ALL --cap-add NET_RAW
	grep -q 'warning' "$T/raw.log"
	setting user --user 1000 --cap-drop ALL --cap-add NET_RAW
	grep -q 'warning' "$T/user.log"
	setting sandbox --read-only --tmpfs /run --cap-drop ALL --cap-add NET_RAW \
		--cap-add SETUID --cap-add SETGID --cap-add SETPCAP --cap-add SYS_CHROOT
	not grep -i 'warning' "$T/sandbox.log"
	# for what is remembered of sealed knocks, in an image without a shell
	podman cp sandbox:/var/lib/knockd "$T/remembered"
	is "$(stat -c %a "$T/remembered")" 700
}

@test "a configuration of another user, mode 600: the message says so" {
	empty_image
	chown 1000 "$T/k.conf"
	chmod 600 "$T/k.conf"
	run podman run --network host --cap-drop ALL --cap-add NET_RAW \
		-v "$T/k.conf:/etc/knockd.conf:ro" knockd-empty
	is "$status" 1
	matches "$output" '/etc/knockd.conf: Permission denied: its owner is user 1000, its mode 0600, and this is user 0'
	# a file that is not there becomes a directory, by docker's -v
	mkdir "$T/dir"
	run podman run --network host --cap-drop ALL --cap-add NET_RAW \
		-v "$T/dir:/etc/knockd.conf:ro" knockd-empty
	is "$status" 1
	matches "$output" 'could not open /etc/knockd.conf: Is a directory'
}

@test "killed: the engine starts it again, and it closes what stood open" {
	local pid

	empty_image
	printf '%s\n' '[door]' 'sequence = 4001' 'tcpflags = syn' 'start_command = /knock -V' \
		'cmd_timeout = 3600' 'stop_command = /knock -h' >"$T/k.conf"
	podman run -d --name again --network host --restart unless-stopped --cap-drop ALL \
		--cap-add NET_RAW -v "$T/k.conf:/etc/knockd.conf:ro" knockd-empty >/dev/null
	container_logged again '^listening on'
	knock_a 10.77.0.1 4001
	container_logged again 'door: knock [0-9]'
	pid=$(podman inspect again --format '{{.State.Pid}}')
	kill -KILL "$pid"
	container_logged again '^listening on' 2
	knock_a 10.77.0.1 4001
	container_logged again 'door: OPEN SESAME' 2
	podman stop -t 10 again
	container_logged again 'door: CLOSE SESAME'
}

# --- contrib/game: a server that its first player starts ---------------------------

# answers BOX ADDRESS: the game's server, reached from there.
answers() {
	# shellcheck disable=SC2016
	[ "$("in_$1" bash -c 'exec 5<>/dev/tcp/$1/25565 && echo hi >&5 &&
		read -t 10 line <&5 && echo "$line"' answers "$2" 2>/dev/null)" = hi ]
}

game_runs() {
	listens "$S" tcp 25565
}

@test "game: the first player starts it, idle it stops, docker stop ends it in order" {
	local n

	mkdir "$W/game"
	# a server that a shell and busybox are enough for; it says when it is told to end
	cat >"$W/game/server" <<-'END'
	#!/bin/busybox sh
	trap 'kill $nc; echo saved; exit' TERM
	echo "up as $(/bin/busybox id -u)"
	/bin/busybox nc -ll -p 25565 -e /bin/busybox cat &
	nc=$!
	wait $nc
	END
	chmod 755 "$W/game/server"
	commands contrib/game/Dockerfile |
		sed 's/-p 25565:25565/--network host -e IDLE=3/' >"$T/lines"
	is "$(grep -c ^docker "$T/lines")" 2
	in_work "$(<"$T/lines")"
	container_logged game '^listening on'
	not game_runs
	# the first try is refused, and starts it
	not answers a 10.77.0.1
	until_true "$WAIT" answers a 10.77.0.1
	container_logged game 'game: up as 1000'
	# while somebody is connected it stays; further players start nothing
	bg "$A" bash -c 'exec 5<>/dev/tcp/10.77.0.1/25565; exec sleep 60'
	n=$!
	pause 6
	answers b 10.77.0.1
	podman logs game >"$T/log" 2>&1
	is "$(count "$T/log" 'up as')" 1
	not grep 'nobody has been connected' "$T/log"
	kill "$n"
	container_logged game 'nobody has been connected for 3 seconds'
	container_logged game 'saved'
	until_true "$WAIT" not game_runs
	# again, for a player on this host; and it ends in order with the container
	until_true "$WAIT" answers s 127.0.0.1
	podman stop -t 10 game
	container_logged game 'saved' 2
	is "$(podman inspect game --format '{{.State.ExitCode}}')" 0
}
