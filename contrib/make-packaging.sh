#!/bin/sh
# make-packaging.sh - what packagers of distributions need, for this version
#
#     make packaging          dist/packaging/: debian alpine arch openwrt nix
#
# Fills in the version, the date and the sums of dist/knockd-VERSION.tar.gz, which
# `make dist` makes. From the environment: MAINTAINER, as NAME <ADDRESS>; HOMEPAGE,
# where the release is found.
set -eu
cd "$(dirname "$0")/.."
umask 022

version=$(sed -n 's/^#define VERSION *"\(.*\)"/\1/p' config.h)
archive=dist/knockd-$version.tar.gz
out=dist/packaging
: "${SOURCE_DATE_EPOCH:=$(git log -1 --format=%ct 2> /dev/null || stat -c %Y config.h)}"
: "${MAINTAINER:=The knockd authors <knockd@knockd.example>}"
: "${HOMEPAGE:=https://knockd.example}"

sum() {
	"$1" "$archive" | cut -d ' ' -f 1
}

# filled FILE: its text with the values in place of their names.
filled() {
	sed "s|@VERSION@|$version|g
		s|@MAINTAINER@|$MAINTAINER|g
		s|@HOMEPAGE@|$HOMEPAGE|g
		s|@DATE@|$(LC_ALL=C TZ=UTC date -R -d "@$SOURCE_DATE_EPOCH")|g
		s|@SHA256@|$(sum sha256sum)|g
		s|@SHA512@|$(sum sha512sum)|g
		s|@COPYRIGHT@|$(sed -n 's/^Copyright (c) //p' LICENSE)|g
		/^@LICENSE@/{
			r $license
			d
		}" "$1"
}

# The license as debian/copyright has it: without its heading, indented.
license=$(mktemp)
trap 'rm -f "$license"' EXIT
sed '1,4d; s/^$/./; s/^/ /' LICENSE > "$license"

rm -rf "$out"
(cd packaging && find . -type f) | while read -r f; do
	mkdir -p "$out/${f%/*}"
	filled "packaging/$f" > "$out/$f"
	[ ! -x "packaging/$f" ] || chmod 755 "$out/$f"
done
echo "$out"
