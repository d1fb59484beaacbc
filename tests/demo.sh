#!/bin/sh
# The how-to's walk-through on the screen, between network namespaces of its own:
# port 22 is shut, a knock opens it for one address, the reversed knock shuts it.
# As root. Exit status 0 only if every step did what it should.
#
# On Debian and Alpine it first installs what is missing. The walk itself is in
# demo.bash.
set -u
cd "$(dirname "$0")/.." || exit 1
[ "$(id -u)" = 0 ] || { echo "make demo needs root, for its network namespaces"; exit 1; }
debian='' alpine=''
# tool COMMAND DEBIAN-PACKAGE ALPINE-PACKAGE [WORD]: must be there, and if a WORD is
# given, say it for -V: busybox has small ones of the same names.
tool() {
	if command -v "$1" >/dev/null 2>&1; then
		[ -n "${4:-}" ] || return 0
		"$1" -V 2>&1 | grep -q "$4" && return
	fi
	case "$debian " in *" $2 "*) return ;; esac
	debian="$debian $2" alpine="$alpine $3"
}
tool bash bash bash
tool make make make
tool cc gcc gcc
[ -e /usr/include/stdio.h ] || tool stdio.h libc6-dev musl-dev
command -v apk >/dev/null 2>&1 || tool musl-gcc musl-tools musl-dev
tool ip iproute2 iproute2 iproute2
tool iptables iptables iptables
tool ipset ipset ipset
tool unshare util-linux util-linux util-linux
tool nsenter util-linux util-linux util-linux
tool socat socat socat
tool tcpdump tcpdump tcpdump
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
mkdir -p build
make >build/make.log 2>&1 || { cat build/make.log; exit 1; }
exec bash tests/demo.bash
