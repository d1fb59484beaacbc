#!/usr/bin/env bats
# make and make install, as packagers call them: the compiler and flags of the
# environment, static or not, where files go.

load lib

setup() {
	need git make readelf
	# what is built here goes into a copy, not into the tree
	W=$T/work
	mkdir "$W"
	(cd "$ROOT" && git ls-files --cached --others --exclude-standard |
		tar -c -T -) | tar -x -C "$W"
	cd "$W" || return
	unset CC CFLAGS CPPFLAGS LDFLAGS
	CCS=/usr/bin/musl-gcc
	[ -x $CCS ] || CCS=cc
}

teardown() {
	say_why
}

# compiler NAME CODE: a compiler of that name, which runs the code first.
compiler() {
	printf '#!/bin/bash\n%s\nexec %s "$@"\n' "$2" "$CCS" >"$T/$1"
	chmod 755 "$T/$1"
}

built() {
	"$@" >"$T/out" 2>&1 || { echo "failed: $*"; return 1; }
}

is_static() {
	readelf -lW "$1" >"$T/headers"
	not grep INTERP "$T/headers"
}

@test "make: static, with its symbols; without a warning" {
	built make
	not grep -i warning "$T/out"
	is_static knockd
	readelf -SW knockd | grep -q '\.symtab'
	[ knock -ef knockd ]
	./knockd -V
}

@test "make: CC, CFLAGS, CPPFLAGS and LDFLAGS of the environment count" {
	compiler mine 'echo "mine: $*" >>'"$T/mine.log"
	built env CC="$T/mine" CFLAGS='-O1 -g' CPPFLAGS=-DSOME_WORD=7 \
		LDFLAGS=-Wl,--no-as-needed make
	for f in -O1 -g -DSOME_WORD=7 -Wl,--no-as-needed; do
		grep -q "^mine: .* $f .*knockd\.c" "$T/mine.log" || { echo "lacks $f"; return 1; }
	done
	not grep -q -e '-Os' "$T/mine.log"
}

@test "make: -D_FORTIFY_SOURCE once, and none where it only warns" {
	local f

	compiler mine 'echo "mine: $*" >>'"$T/mine.log"
	for f in CFLAGS=-O2 CFLAGS='-O2 -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=3' \
		CPPFLAGS=-D_FORTIFY_SOURCE=3; do
		rm -f knockd "$T/mine.log"
		built env CC="$T/mine" "$f" make
		is "$f: $(grep 'knockd\.c' "$T/mine.log" | grep -oE -e '-D_FORTIFY_SOURCE=[0-9]' | wc -l)" \
			"$f: 1"
	done
	rm -f knockd "$T/mine.log"
	built env CC="$T/mine" CFLAGS=-O0 make
	not grep _FORTIFY_SOURCE "$T/mine.log"
}

@test "make: a compiler that has one way alone is asked for it; without any, make fails" {
	# -static-pie is taken for a dynamic program, as musl-gcc does; no parts
	CCS=gcc
	compiler half 'for a; do case $a in
		-static-pie) ;; *rcrt1.o) exit 1 ;; *) n+=("$a") ;; esac; done; set -- "${n[@]}"'
	built make CC="$T/half"
	is_static knockd
	rm knockd
	compiler none 'for a; do case $a in
		-static*) ;; *rcrt1.o) exit 1 ;; *) n+=("$a") ;; esac; done; set -- "${n[@]}"'
	run make CC="$T/none"
	[ "$status" != 0 ]
	matches "$output" 'makes no static program.*STATIC=0'
	[ ! -e knockd ]
	is "$(ls ./*.try* ./*.headers 2>/dev/null)" ''
}

@test "make STATIC=0: a dynamic program of the usual compiler" {
	built make STATIC=0
	readelf -lW knockd | grep -q INTERP
	./knockd -V
}

@test "Debian i386, with musl-tools: builds, is static, runs" {
	local root=$ROOT/build/clean-root-i386

	need debootstrap setarch
	[ "$(uname -m)" = x86_64 ] || skip "this machine runs no i386 programs"
	need_namespaces
	ARCH=i386 debian_root clean-root-i386 gcc make musl-tools
	[ -e "$root/.made" ] || skip "debootstrap made no i386 root file system"
	chroot "$root" /bin/true || skip "this kernel runs no i386 programs"
	# shellcheck disable=SC2016
	unshare -m bash -c 'mount --bind "$2" "$1/mnt"
		exec chroot "$1" setarch i386 sh -c "cd /mnt && make && ./knockd -V"' \
		in "$root" "$W" >"$T/out" 2>&1
	matches "$(tail -n 3 "$T/out")" 'knockd [0-9]'
	matches "$(readelf -h knockd)" 'Intel 80386'
	is_static knockd
}

@test "make install: SBINDIR, BINDIR, UNITDIR; knock is a link that leads to knockd" {
	local d link

	built make
	while read -r b s link; do
		d=$T/dest$b$s
		built make install DESTDIR="$d" PREFIX=/usr BINDIR="$b" SBINDIR="$s" \
			UNITDIR=/units INIT=systemd
		[ -x "$d$s/knockd" ]
		is "$(readlink "$d$b/knock")" "$link"
		grep -q "^ExecStart=$s/knockd " "$d/units/knockd.service"
		[ -x "$d$b/knockd-log" ]
	done <<-'END'
	/usr/bin /usr/bin knockd
	/usr/bin /usr/sbin ../sbin/knockd
	/opt/b /usr/local/sbin /usr/local/sbin/knockd
	END
}

@test "make install: the license, the pages and what they link to" {
	local d=$T/dest f link

	built make install DESTDIR="$d" PREFIX=/usr
	cmp LICENSE "$d/usr/share/doc/knockd/LICENSE"
	cmp contrib/nftables.conf "$d/usr/share/doc/knockd/contrib/nftables.conf"
	# each link between the pages leads somewhere there
	cd "$d/usr/share/doc/knockd"
	for f in ./*.md docs/*.md; do
		while read -r link; do
			[ -e "${f%/*}/$link" ] || [[ $link =~ (^https?$|Dockerfile|compose|CONTRIBUTING|tests/|packaging) ]] ||
				{ echo "$f: $link"; return 1; }
		done < <(grep -v '^    ' "$f" | grep -oE '\]\([^):#]+' | cut -c 3-)
	done
}

@test "make install strips nothing, make install-strip does" {
	built make install DESTDIR="$T/dest" PREFIX=/usr
	cmp knockd "$T/dest/usr/sbin/knockd"
	built make install-strip DESTDIR="$T/dest" PREFIX=/usr
	readelf -SW "$T/dest/usr/sbin/knockd" >"$T/sections"
	not grep '\.symtab' "$T/sections"
	"$T/dest/usr/sbin/knockd" -V
	# what was built keeps its symbols
	readelf -SW knockd | grep -q '\.symtab'
}

@test "make install INIT=: the files of that init system, with the daemon's path; uninstall" {
	local d init

	built make
	for init in systemd sysv openrc none; do
		d=$T/$init
		built make install DESTDIR="$d" INIT=$init
		(cd "$d" && find . -path '*init.d*' -o -path '*conf.d*' -o -path '*default/*' \
			-o -name '*.service') | sort >"$T/files"
		case $init in
		systemd) echo ./usr/local/lib/systemd/system/knockd.service ;;
		sysv) printf '%s\n' ./etc/default/knockd ./etc/init.d ./etc/init.d/knockd ;;
		openrc) printf '%s\n' ./etc/conf.d ./etc/conf.d/knockd ./etc/init.d \
			./etc/init.d/knockd ;;
		none) ;;
		esac | diff - "$T/files"
		not grep -rn /usr/sbin/knockd "$d/etc/init.d" "$d/usr/local/lib" 2>/dev/null
		# what the owner has changed stays
		for f in default conf.d; do
			[ ! -d "$d/etc/$f" ] || echo mine >"$d/etc/$f/knockd"
		done
		built make install DESTDIR="$d" INIT=$init
		for f in default conf.d; do
			[ ! -d "$d/etc/$f" ] || is "$(<"$d/etc/$f/knockd")" mine
		done
		built make uninstall DESTDIR="$d" INIT=$init
		(cd "$d" && find . ! -type d) | grep -v './etc/\(default\|conf.d\)/knockd' >"$T/left"
		is "$init: $(<"$T/left")" "$init: ./etc/knockd.conf"
		[ ! -e "$d/usr/local/share/doc/knockd" ]
	done
	run make install DESTDIR="$T/x" INIT=upstart
	[ "$status" != 0 ]
	matches "$output" "not 'upstart'"
}

# here INIT MADE...: INIT is chosen where these directories and programs are.
here() {
	local init=$1 p r=$T/here

	shift
	need_namespaces
	rm -rf "$r"
	mkdir -p "$r/usr/bin" "$r/run" "$r/etc" "$r/sbin" "$r/lib" "$r/lib64" "$r/dev" "$r/w"
	for p; do
		case $p in
		*/) mkdir -p "$r$p" ;;
		*) install -D /bin/true "$r$p" ;;
		esac
	done
	# shellcheck disable=SC2016
	is "$* $(unshare -m bash -c 'r=$1
		mount --bind "$2" "$r/w"
		mount -t tmpfs none "$r/dev"; : >"$r/dev/null"
		for d in /lib /lib64; do mount --rbind $d "$r$d"; done
		mkdir -p "$r/usr/lib" "$r/bin"; mount --bind /usr/lib "$r/usr/lib"
		cp -L "$(type -P make)" "$(type -P sh)" "$r/bin/"
		exec env -i PATH=/bin:/usr/bin "$(type -P chroot)" "$r" make -s -C /w CC=cc print-init' \
		in "$r" "$W")" "$* $init"
}

@test "make install: without INIT, the init system that runs, else the one that is there" {
	printf '\nprint-init:\n\t@:; echo $(INIT)\n' >>Makefile
	here systemd /run/systemd/system/ /etc/init.d/
	here openrc /run/openrc/ /etc/init.d/ /usr/bin/systemctl
	here systemd /usr/bin/systemctl /etc/init.d/
	here openrc /sbin/openrc-run /etc/init.d/
	here sysv /etc/init.d/
	here none
}

# --- ./test.sh itself ---------------------------------------------------------------

# runner: what ./test.sh makes of these tests alone, without a build. In them "test"
# stands for bats' own word, which would make them tests of this file.
runner() {
	rm -r tests
	mkdir tests
	printf 'all:\n\t:\n' >Makefile
	sed 's/^test/@test/' >tests/a.bats
	# Without what this bats tells its tests, its own directory in PATH, too.
	env -i PATH=/usr/local/bin:/usr/bin:/bin NO_INSTALL=1 ./test.sh >"$T/out" 2>&1
}

@test "test.sh: a test that fails once is named and counts as passed, one that fails twice fails" {
	runner <<-EOF
	test "passes" { :; }
	test "fails (once) + [1]" { echo why; echo >>"$T/tries"; [ "\$(wc -l <"$T/tries")" = 2 ]; }
	EOF
	tail -n 1 "$T/out" | grep -qx '2 passed, 0 failed, 0 skipped'
	grep -qFx 'unsteady, failed and then passed alone: a: fails (once) + [1]' "$T/out"
	grep -qx '# why' "$T/out"
	not runner <<-EOF
	test "passes" { :; }
	test "fails" { false; }
	EOF
	tail -n 1 "$T/out" | grep -qx '1 passed, 1 failed, 0 skipped'
	not grep unsteady "$T/out"
}

@test "test.sh: three tests that fail have a second try, of four none has" {
	runner <<-EOF
	test "1" { echo >>"$T/1"; [ "\$(wc -l <"$T/1")" = 2 ]; }
	test "2" { echo >>"$T/2"; [ "\$(wc -l <"$T/2")" = 2 ]; }
	test "3" { echo >>"$T/3"; [ "\$(wc -l <"$T/3")" = 2 ]; }
	EOF
	tail -n 1 "$T/out" | grep -qx '3 passed, 0 failed, 0 skipped'
	is "$(grep -c unsteady "$T/out")" 3
	not runner <<-EOF
	test "4" { echo >>"$T/4"; [ "\$(wc -l <"$T/4")" = 2 ]; }
	test "5" { false; }
	test "6" { false; }
	test "7" { false; }
	EOF
	tail -n 1 "$T/out" | grep -qx '0 passed, 4 failed, 0 skipped'
	is "$(wc -l <"$T/4")" 1
}

@test "test.sh: a second try that is skipped is no success" {
	not runner <<-EOF
	test "fails, then is skipped" { [ ! -e "$T/tried" ] || skip; : >"$T/tried"; false; }
	EOF
	tail -n 1 "$T/out" | grep -qx '0 passed, 1 failed, 0 skipped'
}

@test "test.sh: a file without a test fails" {
	not runner <<-EOF
	# nothing
	EOF
	tail -n 1 "$T/out" | grep -qx '0 passed, 1 failed, 0 skipped'
}
