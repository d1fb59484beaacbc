#!/bin/sh
# make-dist.sh - the source archive, the same bytes each time
#
#     contrib/make-dist.sh            dist/knockd-VERSION.tar.gz
#
# Holds what git knows of, as it lies in the working tree; without git, what
# lies there but results of a build. Times are those of the last commit, or
# SOURCE_DATE_EPOCH. Needs GNU tar.
set -eu
cd "$(dirname "$0")/.."
umask 022

version=$(sed -n 's/^#define VERSION *"\(.*\)"/\1/p' config.h)
name=knockd-$version
files=$(mktemp)
trap 'rm -f "$files"' EXIT
mkdir -p dist

if git rev-parse --is-inside-work-tree > /dev/null 2>&1; then
	git ls-files --cached --others --exclude-standard > "$files"
	: "${SOURCE_DATE_EPOCH:=$(git log -1 --format=%ct 2> /dev/null || echo 0)}"
else
	find . -type f ! -path './build/*' ! -path './dist/*' ! -path ./knockd \
		! -path ./knock ! -name '*.o' | sed 's,^\./,,' > "$files"
	: "${SOURCE_DATE_EPOCH:=$(stat -c %Y config.h)}"
fi
LC_ALL=C sort -u "$files" | tar -c --no-recursion --format=ustar \
	--owner=0 --group=0 --numeric-owner --mode=u=rwX,go=rX \
	--mtime="@$SOURCE_DATE_EPOCH" --transform="s,^,$name/," -T - |
	gzip -9n > "dist/$name.tar.gz"
echo "dist/$name.tar.gz"
