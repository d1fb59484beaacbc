#!/usr/bin/env bats
# The documents say what the programs do, and what they show works.

load lib

setup() {
	cd "$ROOT" || return
}

# The directives that the daemon knows: of all strings in its source, those
# that it does not call unknown.
directives() {
	local words

	# A message quotes 20 characters of a word.
	words=$(grep -oE '"[A-Za-z0-9_]+(\\0[A-Za-z0-9_]+)?"' knockd.c |
		tr -d '"' | sed 's/\\0/\n/' | grep -E '^.{1,20}$' | sort -u)
	{ echo '[door]'; awk '{ print $0, "= x" }' <<<"$words"; } >"$T/words"
	./knockd -t -c "$T/words" 2>&1 >/dev/null |
		sed -n "s/.*unknown directive '\([^ ']*\).*/\1/p" | sort >"$T/unknown"
	comm -23 <(sort <<<"$words") "$T/unknown" | grep '^[A-Z].*[a-z]'
}

# conf_of HEADING: the configurations under a heading of knockd.conf.5.
conf_of() {
	awk -v want="$1" '
	/^\.S[sh] / { on = substr($0, 5) == want }
	/^\.Bd/ { n = 0; block = ""; inside = 1; next }
	/^\.Ed/ { if (on && block ~ /^\[/) printf "%s", block; inside = 0 }
	inside { gsub(/\\e/, "\\"); gsub(/\\-/, "-"); block = block $0 "\n" }
	' man/knockd.conf.5
}

# text_of HEADING: the rest, such as rules.
text_of() {
	awk -v want="$1" '
	/^\.S[sh] / { on = substr($0, 5) == want }
	/^\.Bd/ { block = ""; inside = 1; next }
	/^\.Ed/ { if (on && block !~ /^(\[|command)/) printf "%s", block; inside = 0 }
	inside { gsub(/\\e/, "\\"); block = block $0 "\n" }
	' man/knockd.conf.5
}

# A session of A's from before there were rules, which has been idle since. The
# kernel knows nothing of it if nothing asked it to track connections.
session_before() {
	serve 22 EXEC:cat
	session socat - TCP:10.77.0.1:22
	session_lives before
}

# spares COMMAND...: the rules that it loads in S shut port 22 and leave such a
# session alone.
spares() {
	net_up
	session_before
	in_s "$@"
	session_lives after
	reaches_not a 10.77.0.1
}

@test "iptables' rules in the man page spare sessions from before" {
	need iptables nc socat
	text_of iptables >"$T/rules"
	spares sh -e "$T/rules"
}

@test "nftables' rules in the man page spare sessions from before" {
	need nft nc socat
	text_of nftables >"$T/rules"
	spares nft -f "$T/rules"
}

@test "contrib/nftables.conf spares sessions from before" {
	need nft nc socat
	spares nft -f "$ROOT/contrib/nftables.conf"
}

# A server on port 22 that both families reach.
serve_both() {
	serve 22 EXEC:cat
	until_true "$WAIT" reaches a 10.77.0.1
	until_true "$WAIT" reaches a fd77::1
}

# ports FILE: the ports of its first sequence, as operands for knock.
ports() {
	sed -n 's/^[[:space:]]*sequence[[:space:]]*= *//p' "$1" | head -n 1 | tr , ' '
}

# --- man pages and README say all ------------------------------------------

@test "every option of --help stands in man page and README" {
	local o prog page

	need mandoc
	for prog in knockd:man/knockd.8 knock:man/knock.1; do
		page=${prog#*:} prog=${prog%%:*}
		"./$prog" --help >"$T/help"
		mandoc -T ascii "$page" | sed 's/.\x08//g' >"$T/page"
		[ -s "$T/help" ]
		while read -r o; do
			grep -qE -e "(^|[^A-Za-z0-9-])$o([^A-Za-z0-9-]|\$)" "$T/page" ||
				{ echo "$page lacks $o"; return 1; }
			grep -qE -e "\`${o}[\` ]" README.md ||
				{ echo "README lacks $o of $prog"; return 1; }
		done < <(help_options <"$T/help")
	done
}

@test "every option of the tables in README is known" {
	local prog o out

	for prog in knockd knock; do
		while read -r o; do
			out=$("./$prog" "$o" 2>&1 </dev/null) || :
			! grep -qiE 'unrecognized|invalid|unknown option' <<<"$out" ||
				{ echo "$prog does not know $o"; return 1; }
		done < <(sed -n "/^### $prog\$/,/^##/s/^| \(\`-[^|]*\) |.*/\1/p" README.md |
			grep -oE '`--?[A-Za-z0-9-]+' | tr -d '`' | grep -v -e -d -e -daemon)
	done
}

@test "--help fits on a screen" {
	local prog

	for prog in knockd knock; do
		"./$prog" --help >"$T/help"
		[ "$(wc -l <"$T/help")" -le 24 ]
		[ "$(awk '{ if (length > n) n = length } END { print n }' "$T/help")" -le 80 ]
	done
}

@test "every directive stands in man page and README" {
	local d

	[ "$(directives | wc -l)" -ge 20 ]
	while read -r d; do
		grep -qE "^\.(It|Op)? ?.*Cm $d( |\$)" man/knockd.conf.5 ||
			{ echo "knockd.conf.5 lacks $d"; return 1; }
		grep -qE "^\|.*\`$d\`" README.md ||
			{ echo "README lacks $d"; return 1; }
	done < <(directives)
}

@test "every directive of the man page is known" {
	local d known

	known=$(directives)
	while read -r d; do
		grep -qx "$d" <<<"$known" || { echo "unknown: $d"; return 1; }
	done < <(sed -n 's/^\.It Cm \([A-Za-z0-9_]*\).*/\1/p' man/knockd.conf.5)
}

@test "a directive is added as CONTRIBUTING says: a field, a line in keywords[]" {
	cp config.h "$T/"
	sed 's/^struct door {$/&\n    const char *nickname; unsigned patience;/
		s/^} keywords\[\] = {$/&\n    { "Nickname", "", DOOR, TEXT, D(nickname), 0 },\
    { "Patience", "Pat", DOOR, NUMBER, D(patience), 10 },/' \
		knockd.c >"$T/knockd.c"
	is "$(diff knockd.c "$T/knockd.c" | grep -c '^>')" 3
	cc -std=c11 -D_GNU_SOURCE -Wall -Wextra -Werror -o "$T/knockd" "$T/knockd.c" knock.c
	printf '%s\n' '[x]' 'sequence = 1,3,2,4' 'nickname = joe' 'pat = 7' >"$T/c"
	"$T/knockd" -t -c "$T/c" >"$T/out" 2>/dev/null
	grep -qx 'Nickname = joe' "$T/out"
	grep -qx 'Patience = 7' "$T/out"
	echo 'pat = 11' >>"$T/c"
	run "$T/knockd" -t -c "$T/c"
	is "$status" 1
	matches "$output" 'c:5: .*11'
}

@test "the defaults in the man page are those of config.h" {
	local name word

	for name in SEQ_TIMEOUT:Seq_Timeout CMD_TIMEOUT:Cmd_Timeout \
		STRAY_LIMIT:Stray_Limit; do
		word=${name#*:}
		name=$(awk -v n="${name%%:*}" '$2 == n { print $3 }' config.h)
		awk -v w="$word" '/^\.It Cm/ { on = on && prev ~ /^\.It/ || $3 == w }
			{ prev = $0 } on && /^Default: / { print $2 }' \
			man/knockd.conf.5 | grep -qx "$name\." ||
			{ echo "$word: not $name"; return 1; }
	done
	grep -q "from 1 to $(awk '$2 == "SEQUENCE_MAX" { print $3 }' config.h) ports" \
		man/knockd.conf.5
	grep -q "131,072" docs/scans-and-floods.md
	[ "$(awk '$2 == "ATTEMPTS_MAX" { print $3 }' config.h)" = 131072 ]
}

@test "the numbers in docs/scans-and-floods.md follow from its formulas and from config.h" {
	need python3
	python3 - docs/scans-and-floods.md "$(awk '$2 == "ATTEMPTS_MAX" { print $3 }' config.h)" \
		"$(awk '$2 == "STRAY_LIMIT" { print $3 }' config.h)" <<-'EOF'
	import re, sys
	from math import comb, factorial
	text = open(sys.argv[1]).read()
	table, limit, N = int(sys.argv[2]), int(sys.argv[3]), 65535

	def q(k):   # k strays fall on so few of 64 bits
	    p = [1.0] + [0.0] * 64
	    for _ in range(k):
	        p = [p[i] * i / 64 + (p[i - 1] * (65 - i) / 64 if i else 0)
	             for i in range(65)]
	    return sum(p[:limit + 1])

	def chance(n, q):
	    p = sum((N - n - k + 1) * comb(n + k - 2, n - 2) * q(k)
	            for k in range(150))
	    for i in range(n):
	        p /= N - i
	    return p

	def shown(words, value, what):
	    f = float(words[0].replace(',', ''))
	    f *= 1e6 ** words.count('million')
	    assert abs(f / value - 1) < 0.05, (what, words, value)

	rows = [r.split('|') for r in re.findall(r'^\| [2-4] \|(.*)\|$', text, re.M)]
	assert len(rows) == 3
	for n, row in enumerate(rows, 2):
	    assert row[0].strip() == '1/%d' % factorial(n)
	    shown(row[1].split(), chance(n, lambda k: k <= limit), n)
	    shown(row[2].split(), chance(n, q), n)
	    shown(row[3].split(), 1 / chance(n, q), n)
	rows = re.findall(r'^\| ([0-9,]+) \| ([0-9.]+) s \| ([0-9.]+) s \|$', text, re.M)
	assert len(rows) == 3
	for row in rows:
	    rate = int(row[0].replace(',', ''))
	    shown([row[1]], table / rate, rate)
	    shown([row[2]], table / 2 / rate, rate)
	EOF
}

@test "man pages are clean" {
	local f

	need mandoc
	for f in man/*; do
		mandoc -T lint -W all "$f" 2>/dev/null |
			grep -v 'referenced manual not found' >"$T/lint" || :
		[ ! -s "$T/lint" ] || { cat "$T/lint"; return 1; }
	done
}

@test "links in the documents lead somewhere" {
	local f link bad=0

	for f in ./*.md docs/*.md contrib/fleet/*.md; do
		while read -r link; do
			case $link in *://* | '#'*) continue ;; esac
			[ -e "$(dirname "$f")/${link%%#*}" ] ||
				{ echo "$f: $link"; bad=1; }
		done < <(grep -v '^    ' "$f" | grep -oE '\]\([^)]+\)' | sed 's/^](//; s/)$//')
	done
	[ $bad = 0 ]
}

@test "files that the documents name are there" {
	local f bad=0

	while read -r f; do
		[ -e "$f" ] || { echo "$f"; bad=1; }
	done < <(grep -ohE '(contrib|docs|tests|man)/[A-Za-z0-9_./-]+[A-Za-z0-9]' \
		./*.md docs/*.md | sort -u)
	[ $bad = 0 ]
}

@test "every file of tests/ is in tests/README.md" {
	local f bad=0

	for f in tests/*.*; do
		f=${f#tests/}
		case $f in README.md) continue ;; unit_*) f='unit_*.c' ;; bench_*) f='bench_*.c' ;; esac
		grep -qF -e "| $f" -e ", $f" tests/README.md || { echo "$f"; bad=1; }
	done
	[ $bad = 0 ]
}

@test "every promise in SECURITY names a test that is there" {
	local file name bad=0

	while IFS=: read -r file name; do
		grep -qF -e "@test \"${name# }" -e "static void ${name# }(" "tests/$file" ||
			{ echo "$file: no test begins with '${name# }'"; bad=1; }
	done < <(sed -n 's/^| .* | \([a-z_]*\.[a-z]*: .*\) |$/\1/p' SECURITY.md)
	is "$(grep -c '^| [^|]* | [a-z_]*\.[a-z]*: [^|]* |$' SECURITY.md)" \
		"$(sed -n '/^## What is promised/,/^## What is not/p' SECURITY.md | grep -c '^| [A-Z]')"
	[ $bad = 0 ]
}

@test "the test vector in docs/knock1.md follows from its key" {
	need python3
	python3 - docs/knock1.md <<-'EOF2'
	import hashlib, hmac, re, sys
	text = open(sys.argv[1]).read()
	H = lambda key, message: hmac.new(key, message, hashlib.sha256).digest()
	K, D, I = (bytes.fromhex(re.search(r"^    %s +(\w+)$" % n, text, re.M)[1]) for n in "KDI")
	packet = bytes.fromhex("".join(re.search(r"^    packet +(\w+)\n +(\w+)$", text, re.M).groups()))
	stamp = int(re.search(r"^    stamp +(\d+), address zero, request 0$", text, re.M)[1])
	P = stamp.to_bytes(8, "big") + bytes(24)
	id = H(I, (stamp >> 20).to_bytes(8, "big"))[:8]
	tag = H(D, b"knock1 tag" + id + P)[:16]
	mask = H(D, b"knock1 mask" + tag)
	assert D == H(K, b"knock1 door" + b"ssh") and I == H(D, b"knock1 id")
	assert packet == id + tag + bytes(a ^ b for a, b in zip(P, mask))
	EOF2
}

@test "the version stands in config.h alone, and is the newest of CHANGELOG.md" {
	local v

	v=$(sed -n 's/^#define VERSION *"\(.*\)"/\1/p' config.h)
	[ -n "$v" ]
	matches "$(./knockd -V)" "^knockd $v"
	matches "$(./knock -V)" "^knock $v"
	is "$(grep -m 1 '^## ' CHANGELOG.md)" "## $v"
	not grep -rnF "$v" knockd.c knock.c Makefile man contrib docs README.md packaging
}

@test "pictures are well-formed" {
	need xmllint
	xmllint --noout docs/*.svg
}

@test "every picture is shown" {
	local f

	for f in docs/*.svg; do
		grep -qF "]($f)" README.md || grep -qF "](${f#docs/})" docs/*.md ||
			{ echo "in no document: $f"; return 1; }
	done
}

# without_times: syslog's times on standard input are taken out.
without_times() {
	sed -E 's/[A-Z][a-z]{2} [ 0-9][0-9] [0-9:]{8} knockd: /knockd: /'
}

@test "docs/demo.txt is what make demo prints, and README shows a part of it" {
	local line

	need_namespaces
	need iptables sshd ssh ssh-keygen socat
	make -s demo >"$T/demo" 2>&1 </dev/null || { cat "$T/demo"; return 1; }
	# two lines of one moment may change places
	diff <(without_times <"$T/demo" | sort) \
		<(without_times <docs/demo.txt | sort) ||
		{ echo "renew it: make -s demo > docs/demo.txt"; return 1; }
	sed -n '/^    \$ 10.77.0.2: knock/,/^$/s/^    //p' README.md >"$T/shown"
	[ "$(wc -l <"$T/shown")" -ge 8 ]
	while read -r line; do
		grep -qF -e "$line" docs/demo.txt || { echo "not so: $line"; return 1; }
	done <"$T/shown"
}

# --- configurations that are shown -----------------------------------------

@test "the shipped configuration is read, and all that is commented out too" {
	./knockd -t -c knockd.conf.example >"$T/out"
	for door in openSSH closeSSH; do grep -qxF "[$door]" "$T/out"; done
	grep -q 'CLOSE SESAME' "$T/out"
	sed 's/^#\([[	]\)/\1/' knockd.conf.example >"$T/all"
	printf ' 1,2,3,4\n' >"$T/once"
	sed -i "s,/etc/knockd-once,$T/once," "$T/all"
	./knockd -t -c "$T/all" >"$T/out" 2>"$T/err"
	not grep -E 'each knock adds|IPv6 addresses|behind the rules' "$T/err"
	[ "$(grep -c '^\[' "$T/out")" = "$(grep -c '^\[' "$T/all")" ]
	[ "$(grep -c '^\[' "$T/out")" -ge 8 ]
}

rules_for_a() {
	is "$(in_s "$1" -S INPUT | grep -c "$2.*ACCEPT")" "$3"
}

@test "the shipped doors: two knocks add one rule, the closing knock removes it" {
	local a ip t=iptables

	need iptables
	net_up
	grep -v UseSyslog knockd.conf.example | sed 1,/^.options/d | conf
	start
	for ip in 10.77.0.1 fd77::1; do
		a=${ip%1}2
		knock_a $ip 7000 8000 9000 -d 100
		until_true "$WAIT" rules_for_a $t $a 1 >/dev/null
		knock_a $ip 7000 8000 9000 -d 100
		knock_a $ip 9000 8000 7000 -d 100
		logged "$a: closeSSH: CLOSE SESAME"
		until_true "$WAIT" rules_for_a $t $a 0 >/dev/null
		is "$(count "$LOG" "$a: openSSH: OPEN SESAME")" 2
		t=ip6tables
	done
	not_logged 'status code'
	stop_knockd
}

@test "the examples of the man page and of the other documents are read" {
	local h

	printf ' 1,2,3,4\n' >"$T/once"
	for h in iptables 'iptables and ipset' nftables ufw firewalld 'One-time sequences' 'A router'; do
		conf_of "$h" | sed "s,/etc/knockd-once,$T/once," >"$T/c"
		grep -q '^\[' "$T/c" || { echo "no example for $h"; return 1; }
		./knockd -t -c "$T/c" >/dev/null
	done
	# an indented [door] ends where the indented block ends
	awk '/^    \[SSH\]/ { on = 1 } on && /^[^ ]|^    [^ []/ { on = 0 }
		on { sub(/^    /, ""); print }' contrib/fleet/README.md |
		sed 's/four ports.*/1,2,3,4/' >"$T/c"
	grep -q command_6 "$T/c"
	./knockd -t -c "$T/c" >/dev/null
	sed -n '/^#     \[SSH\]/,/^# No program/s/^#     //p' contrib/nftables.conf |
		sed "s/four ports.*/1,2,3,4/; s,/etc/knockd.keys,$T/keys," >"$T/c"
	is "$(grep -c set_6 "$T/c")" 2
	: >"$T/keys"
	chmod 600 "$T/keys"
	./knockd -t -c "$T/c" >/dev/null
}

@test "the file of one-time sequences is made as the man page says" {
	text_of 'One-time sequences' | sed "s,/etc/knockd-once,$T/once," >"$T/make"
	sh "$T/make"
	is "$(grep -cE '^ [0-9]+(,[0-9]+){3}$' "$T/once")" 50
	is "$(stat -c %a "$T/once")" 600
}

# opens_both CONF: knocks from A open port 22 for A, over IPv4 and IPv6.
opens_both() {
	until_true "$WAIT" reaches_not a 10.77.0.1
	until_true "$WAIT" reaches_not a fd77::1
	# shellcheck disable=SC2046
	knock_a 10.77.0.1 $(ports "$1")
	until_true "$WAIT" reaches a 10.77.0.1
	not in_b nc -z -w 2 10.77.0.1 22
	# shellcheck disable=SC2046
	knock_a fd77::1 $(ports "$1")
	until_true "$WAIT" reaches a fd77::1
	not in_b nc -z -w 2 fd77::1 22
	not_logged 'status code|killed by'
}

@test "example: iptables" {
	need iptables nc
	net_up
	serve_both
	text_of iptables >"$T/rules"
	in_s sh -e "$T/rules"
	in_s sh -ec "$(sed 's/iptables/ip6tables/' "$T/rules")"
	in_s iptables -S INPUT >"$T/before"
	conf_of iptables | sed 's/\(cmd_timeout *= \).*/\12/' >"$T/c"
	conf <"$T/c"
	start
	opens_both "$T/c"
	logged 'running command: /sbin/iptables -D'
	logged 'running command: /sbin/ip6tables -D'
	until_true "$WAIT" reaches_not a 10.77.0.1
	until_true "$WAIT" reaches_not a fd77::1
	in_s iptables -S INPUT | diff - "$T/before"
	stop_knockd
}

@test "example: nftables, of the man page" {
	need nft nc
	net_up
	serve_both
	text_of nftables | in_s nft -f -
	conf_of nftables >"$T/c"
	conf <"$T/c"
	start
	opens_both "$T/c"
	stop_knockd
}

@test "example: nftables, contrib/nftables.conf, closed by the kernel" {
	need nft nc
	net_up
	serve_both
	in_s nft -f "$ROOT/contrib/nftables.conf"
	# twice: what is there is replaced
	in_s nft -f "$ROOT/contrib/nftables.conf"
	sed -n '/^#     \[SSH\]/,/^# No program/s/^#     //p' contrib/nftables.conf |
		sed "s/four ports.*/4001,4004,4002/; s/= 3600/= 15/; s,/etc/knockd.keys,$T/keys," >"$T/c"
	"$KNOCK" --keygen anna sealed >"$T/new"
	(umask 077; head -n 1 "$T/new" >"$T/keys"; sed -n 's/^key = //p' "$T/new" >"$T/key")
	conf <"$T/c"
	start
	opens_both "$T/c"
	# whoever is in stays in
	in_a bash -c 'exec 5<>/dev/tcp/10.77.0.1/22; exec sleep 600' >/dev/null 2>&1 3>&- &
	until_true "$WAIT" established
	crash
	until_true "$WAIT" reaches_not a 10.77.0.1
	until_true "$WAIT" reaches_not a fd77::1
	established
	# the sealed door, for both families
	start
	for ip in 10.77.0.1 fd77::1; do
		sealed_reaches() {
			knock_a -k "$T/key" "$ip" 62201
			reaches a "$ip"
		}
		until_true "$WAIT" sealed_reaches
		knock_a -k "$T/key" --close "$ip" 62201
		until_true "$WAIT" reaches_not a "$ip"
	done
	stop_knockd
}

# established: a session to port 22 of S is there.
established() {
	grep -qE ' [0-9A-F]+:0016 [0-9A-F]+:[0-9A-F]{4} 01 ' "/proc/$S/net/tcp" "/proc/$S/net/tcp6"
}

@test "example: iptables and ipset, closed by the kernel" {
	need iptables ipset nc
	net_up
	in_s ipset list >/dev/null 2>&1 || skip "no ip_set in this kernel"
	serve_both
	text_of 'iptables and ipset' >"$T/rules"
	in_s sh -e "$T/rules"
	in_s sh -ec "$(sed 's/iptables/ip6tables/; s/knock4/knock6/; s/hash:ip/& family inet6/' "$T/rules")"
	conf_of 'iptables and ipset' | sed 's/= 3600/= 15/' >"$T/c"
	conf <"$T/c"
	start
	opens_both "$T/c"
	crash
	until_true "$WAIT" reaches_not a 10.77.0.1
	until_true "$WAIT" reaches_not a fd77::1
}

@test "example: ufw" {
	need ufw nc
	net_up
	serve_both
	in_s ufw default deny incoming
	in_s ufw --force enable
	conf_of ufw | sed 's/\(cmd_timeout *= \).*/\15/' >"$T/c"
	conf <"$T/c"
	start
	opens_both "$T/c"
	logged 'running command: /usr/sbin/ufw delete' 2
	until_true "$WAIT" reaches_not a 10.77.0.1
	until_true "$WAIT" reaches_not a fd77::1
	not_logged 'status code|killed by'
	stop_knockd
}

@test "example: firewalld" {
	need firewalld firewall-cmd dbus-daemon nc
	net_up
	serve_both
	in_s mkdir -p /run/dbus
	in_s dbus-daemon --system --nofork --nopidfile >"$T/dbus" 2>&1 3>&- &
	until_true "$WAIT" in_s test -S /run/dbus/system_bus_socket
	in_s firewall-offline-cmd --remove-service=ssh
	in_s firewalld --nofork --nopid >"$T/firewalld" 2>&1 3>&- &
	until_true 60 firewalld_runs
	conf_of firewalld | sed 's/--timeout=30/--timeout=8/' >"$T/c"
	conf <"$T/c"
	start
	opens_both "$T/c"
	until_true "$WAIT" reaches_not a 10.77.0.1
	until_true "$WAIT" reaches_not a fd77::1
	stop_knockd
}

firewalld_runs() {
	[ "$(in_s firewall-cmd --state 2>&1)" = running ]
}
