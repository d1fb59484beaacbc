#!/bin/bash
# debian_root.sh - a small root file system of this machine's own Debian release,
# and a command in it
#
#	tests/debian_root.sh make DIR [PACKAGE...]	essential packages, apt, and these;
#							ARCH: another architecture
#	tests/debian_root.sh run DIR COMMAND...		as root, in namespaces of its own
#
# apt works in it as it does on this machine: the same sources, keys and proxies.
# `run` gives the command a mount, process, IPC and host
# name namespace in which DIR is the root (by pivot_root; a plain chroot breaks
# nsenter); when the command ends, all its processes end. The network is this
# machine's, for apt.
set -eu

# mirror: where this machine gets its release from.
mirror() {
	apt-get indextargets --format '$(CODENAME) $(COMPONENT) $(REPO_URI)' \
		'Created-By: Packages' | awk -v release="$1" '$1 == release && $2 == "main" { print $3; exit }'
}

make_root() {
	local dir=$1 packages release

	shift
	packages=$(IFS=,; echo "$*")
	# shellcheck source=/dev/null
	release=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
	# shellcheck disable=SC2046 # no mirror found: debootstrap's own
	debootstrap --variant=minbase ${ARCH:+--arch="$ARCH"} ${packages:+--include="$packages"} \
		"$release" "$dir" $(mirror "$release") </dev/null
	rm -f "$dir/etc/apt/sources.list"
	cp -a /etc/apt/. "$dir/etc/apt/"
	mkdir -p "$dir/usr/share/keyrings" "$dir/etc/ssl/certs"
	cp -a /usr/share/keyrings/. "$dir/usr/share/keyrings/"
	[ ! -e /etc/ssl/certs/ca-certificates.crt ] ||
		cp -L /etc/ssl/certs/ca-certificates.crt "$dir/etc/ssl/certs/"
	for f in /etc/resolv.conf /etc/hosts; do
		[ ! -e $f ] || cp -L --remove-destination $f "$dir$f"
	done
}

# shellcheck disable=SC2016
ENTER='set -eu
	dir=$1
	shift
	mount --bind "$dir" "$dir"
	cd "$dir"
	mount -t proc proc proc
	mount --rbind /sys sys
	mount --rbind /dev dev
	mount -t tmpfs -o mode=755 none run
	mkdir run/lock run/old
	pivot_root . run/old
	cd /
	umount -l /run/old
	rmdir /run/old
	hostname minimal
	exec env -i HOME=/root TERM=dumb \
		PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$@"'

case ${1:-} in
make)
	shift
	make_root "$@"
	;;
run)
	shift
	exec unshare --mount --pid --ipc --uts --propagation private --fork --kill-child \
		bash -c "$ENTER" run "$@"
	;;
*)
	sed -n '2,7s/^# \{0,1\}//p' "$0" >&2
	exit 2
	;;
esac
