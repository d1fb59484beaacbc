#!/bin/sh
# A sealed knock without knock: needs openssl and nc. The format: docs/knock1.md.
#
#	knock1.sh HOST PORT KEYFILE [ADDRESS]
#
# KEYFILE: one line DOOR:KEY, the key as 64 hex digits, readable by its owner alone.
# ADDRESS: 32 hex digits, the IPv6 address to open for (IPv4: 00000000000000000000ffff
# and 8 digits); without it, the one that the knock comes from.
# `print` in place of HOST prints the datagram in hex. MS: ms since 1970, not the clock.
#
# The key is in the arguments of openssl while it runs: other users of this machine can
# read it there. knock and knock1.py keep it to themselves.
set -eu

[ $# -ge 3 ] || { sed -n '4,7s/^# \{0,1\}//p' "$0" >&2; exit 1; }
line=$(head -n 1 "$3")
door=${line%:*} key=${line##*:}
case $key in *[!0-9a-fA-F]*) key='' ;; esac
[ ${#key} = 64 ] || { echo "knock1.sh: $3: the key has to have 64 hex digits" >&2; exit 1; }

# bytes HEX: as bytes.
bytes() {
	# shellcheck disable=SC2059 # it is octal escapes and nothing else
	printf "$(printf %s "$1" | sed 's/../& /g' | tr ' ' '\n' | while read -r x; do
		[ -z "$x" ] || printf '\\%03o' "0x$x"
	done)"
}

# hmac KEY TEXT HEX: HMAC-SHA256 of the text and the bytes, in hex.
hmac() {
	{ printf %s "$2"; bytes "$3"; } |
		openssl dgst -sha256 -mac HMAC -macopt "hexkey:$1" -r | cut -c 1-64
}

zeros=0000000000000000
ms=${MS:-$(date +%s)000}
sealer=$(hmac "$key" "knock1 door$door" "")
period=$(printf %016x $((ms >> 20)))
id=$(hmac "$(hmac "$sealer" "knock1 id" "")" "" "$period" | cut -c 1-16)
plain=$(printf %016x "$ms")${4:-$zeros$zeros}$zeros
tag=$(hmac "$sealer" "knock1 tag" "$id$plain" | cut -c 1-32)
mask=$(hmac "$sealer" "knock1 mask" "$tag")
sealed=''
while [ -n "$plain" ]; do
	sealed=$sealed$(printf %02x $((0x${plain%"${plain#??}"} ^ 0x${mask%"${mask#??}"})))
	plain=${plain#??}
	mask=${mask#??}
done
if [ "$1" = print ]; then
	echo "$id$tag$sealed"
else
	bytes "$id$tag$sealed" | nc -u -w 1 "$1" "$2"
fi
