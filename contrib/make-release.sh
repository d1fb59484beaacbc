#!/bin/sh
# make-release.sh - what a release consists of, out of what `make dist` and `make
# cross` have made
#
#     make release            dist/VERSION/
#
# The source archive, one static program for each processor, and their sums:
#
#     knockd-VERSION.tar.gz  knockd-VERSION-linux-ARCH...  SHA256SUMS
#
# The same source, compilers and libraries give the same bytes.
set -eu
cd "$(dirname "$0")/.."
umask 022

version=$(sed -n 's/^#define VERSION *"\(.*\)"/\1/p' config.h)
out=dist/$version
rm -rf "$out"
mkdir -p "$out"
cp "dist/knockd-$version.tar.gz" "$out/"
for d in build/cross/*/; do
	[ ! -x "$d/knockd" ] ||
		cp "$d/knockd" "$out/knockd-$version-linux-$(basename "$d")"
done
(cd "$out" && LC_ALL=C sha256sum knockd-* > SHA256SUMS)
cat "$out/SHA256SUMS"
