#!/usr/bin/env bats
# Configurations found in the wild (corpus/): what 0.8 accepts, ours reads with the
# same meaning. The meaning is read here by an awk program of 0.8's rules, from the
# file itself and from what knockd -t prints.

load lib

setup() {
	CORPUS=$BATS_TEST_DIRNAME/corpus
	echo ' 1001,1002' >"$T/seq"
}

teardown() {
	say_why
}

# 0.8 makes port 0 of these: placeholders, brackets around a sequence.
NONSENSE=' 013 071 122 '
# 0.8 refuses these, ours takes them: inline comments, seq_cooldown.
TAKEN=' 037 112 113 '

# numbers REGEX: of the files for which 0.8's verdict matches.
numbers() {
	awk -F '\t' -v re="$1" 'NR > 1 && $4 ~ re { print $1 }' "$CORPUS/INDEX.tsv"
}

# copy N: $T/N.conf, its one-time file being one that exists.
copy() {
	sed "s,^\\([ 	]*one_time_sequences[ 	]*=\\).*,\\1 $T/seq," "$CORPUS/$1.conf" >"$T/$1.conf"
	chmod 600 "$T/$1.conf"
}

# meaning FILE: its options and doors, one fact a line, defaults filled in.
meaning() {
	LC_ALL=C awk '
	function trim(s) { sub(/^[ \t\r]+/, "", s); sub(/[ \t\r]+$/, "", s); return s }
	function flush() {
		if (name == "") return
		print "door " name
		print " sequence " seq
		print " seq_timeout " st
		print " flags" flags
		print " target " target
		print " start " start
		print " start6 " (has6 ? start6 : start)
		print " cmd_timeout " ct
		print " stop " stop
		print " stop6 " (hass6 ? stop6 : stop)
		print " cooldown " cool
	}
	function ports(v, i, n, p, q, out) {
		n = split(v, p, ",")
		for (i = 1; i <= n; i++) {
			split(p[i], q, ":")
			out = out " " (trim(q[1]) + 0) "/" (trim(q[2]) == "" ? "tcp" : tolower(trim(q[2])))
			q[2] = ""
		}
		return out
	}
	NR == 1 { sub(/^\357\273\277/, "") }
	{
		line = trim($0)
		if (line == "" || line ~ /^#/) next
		if (line ~ /^\[.*\]$/) {
			flush()
			name = trim(substr(line, 2, length(line) - 2))
			options = tolower(name) == "options"
			if (options) name = ""
			seq = target = start = start6 = stop = stop6 = flags = ""
			has6 = hass6 = 0; st = 25; ct = 10; cool = 0
			next
		}
		eq = index(line, "=")
		key = tolower(eq ? trim(substr(line, 1, eq - 1)) : line)
		value = eq ? trim(substr(line, eq + 1)) : ""
		if (key !~ /command/) sub(/[ \t]+#.*/, "", value)
		if (key == "usesyslog") syslog = "yes"
		else if (key == "logfile") log_ = value
		else if (key == "pidfile") pid = value
		else if (key == "interface") { gsub(/[ \t]*,[ \t]*/, ",", value); dev = value }
		else if (key == "sequence") seq = ports(value)
		else if (key == "one_time_sequences") seq = " from " value
		else if (key == "seq_timeout" || key == "timeout") st = value + 0
		else if (key == "seq_cooldown" || key == "cooldown") cool = value + 0
		else if (key == "cmd_timeout") ct = value + 0
		else if (key == "target") target = value
		else if (key == "command" || key == "start_command") start = value
		else if (key == "command_6" || key == "start_command_6") { start6 = value; has6 = 1 }
		else if (key == "stop_command") stop = value
		else if (key == "stop_command_6") { stop6 = value; hass6 = 1 }
		else if (key == "tcpflags") {
			n = split(tolower(value), f, ",")
			for (i = 1; i <= n; i++) { gsub(/[ \t]/, "", f[i]); set[f[i]] = 1 }
			split("fin syn rst psh ack urg !fin !syn !rst !psh !ack !urg", order, " ")
			flags = ""
			for (i = 1; i <= 12; i++) if (order[i] in set) flags = flags " " order[i]
			split("", set)
			if (flags == "") flags = " ?"
		}
		else if (key != "stray_limit" && key !~ /^allowdup/) print "unknown " key
	}
	END {
		flush()
		print "syslog " syslog; print "log " log_; print "pid " pid; print "interface " dev
	}' "$1"
}

@test "what 0.8 accepts is read with the same meaning" {
	local n failed=0 seen=0

	for n in $(numbers '^accepted'); do
		[[ $NONSENSE != *" $n "* ]] || continue
		seen=$((seen + 1))
		copy "$n"
		if ! "$KNOCKD" -t -i lo -c "$T/$n.conf" >"$T/o" 2>"$T/e"; then
			echo "$n.conf is refused:"
			grep -v warning: "$T/e"
			failed=1
		elif ! diff <(meaning "$T/$n.conf") <(meaning "$T/o"); then
			echo "$n.conf has another meaning"
			failed=1
		fi
	done
	[ "$seen" -ge 100 ] || { echo "only $seen files"; failed=1; }
	return "$failed"
}

@test "0.8's refusals that are mended: inline comments, seq_cooldown" {
	local n

	for n in $TAKEN; do
		copy "$n"
		"$KNOCKD" -t -i lo -c "$T/$n.conf" >"$T/o" 2>"$T/e" || { echo "$n:"; cat "$T/e"; return 1; }
		diff <(meaning "$T/$n.conf") <(meaning "$T/o")
	done
}

@test "all other refusals stay, each with line and word" {
	local n rc failed=0

	for n in $(numbers '^rejected') $NONSENSE; do
		[[ $TAKEN != *" $n "* ]] || continue
		copy "$n"
		rc=0
		"$KNOCKD" -t -i lo -c "$T/$n.conf" >"$T/o" 2>"$T/e" || rc=$?
		if [ "$rc" != 1 ] || ! grep -qE "^knockd: $T/$n.conf:[0-9]+: " "$T/e"; then
			echo "$n.conf: exit status $rc"
			cat "$T/e"
			failed=1
		fi
	done
	word() { grep -qE "^knockd: $T/$1.conf:$2: .*$3" "$T/e.$1"; }
	for n in 010:24:acl 013:6:KNOCKD_PORTS 182:3:on_start 190:25:ipset 191:23:key; do
		IFS=: read -r n line word <<<"$n"
		"$KNOCKD" -t -i lo -c "$T/$n.conf" 2>"$T/e.$n" >/dev/null || :
		word "$n" "$line" "$word" || { echo "$n: no word $word in line $line"; cat "$T/e.$n"; failed=1; }
	done
	return "$failed"
}

@test "what -t prints of each accepted file, -t reads and prints again" {
	local n

	for n in $(numbers '^accepted'); do
		[[ $NONSENSE != *" $n "* ]] || continue
		copy "$n"
		"$KNOCKD" -t -i lo -c "$T/$n.conf" >"$T/first.conf" 2>"$T/e"
		chmod 600 "$T/first.conf"
		"$KNOCKD" -t -i lo -c "$T/first.conf" >"$T/second" 2>"$T/e" || { echo "$n:"; cat "$T/e"; return 1; }
		diff "$T/first.conf" "$T/second" || { echo "$n"; return 1; }
	done
}

@test "with its doors in an included file, each means the same" {
	local n failed=0

	mkdir "$T/doors"
	for n in $(numbers '^accepted'); do
		[[ $NONSENSE != *" $n "* ]] || continue
		copy "$n"
		# The lines of all [options], an Include behind them, and all other sections.
		sed '1s/^\xef\xbb\xbf//' "$T/$n.conf" | LC_ALL=C awk -v options="$T/$n.main" -v doors="$T/doors/$n" '
			BEGIN { print "[options]" >options; printf "" >doors }
			/^[ \t]*\[/ { where = tolower($0) ~ /^[ \t]*\[[ \t]*options[ \t]*\]/ ? options : doors
				if (where == options) next }
			{ if (where == "") where = options; print >where }
			END { print "Include = doors/" substr(doors, length(doors) - 2) >options }'
		chmod 600 "$T/$n.main" "$T/doors/$n"
		if ! "$KNOCKD" -t -i lo -c "$T/$n.main" >"$T/o" 2>"$T/e" ||
			! diff <(meaning "$T/$n.conf") <(meaning "$T/o"); then
			echo "$n.conf:"
			cat "$T/e"
			failed=1
		fi
	done
	return "$failed"
}

# facts: what 0.8's -D and the reading above have in common, the same lines from both.
facts_of_old() {
	LC_ALL=C awk '
	/: sequence: / {
		sub(/.*: sequence: /, ""); n = split($0, p, ","); s = ""
		for (i = 1; i <= n; i++) { split(p[i], q, ":"); s = s " " q[1] "/" q[2] }
		print "sequence " s
	}
	/: (seq|cmd)_timeout: / { if ($NF != 25 && $NF != 10) print $(NF - 1) " " $NF }
	/: (start|stop)_command: / { sub(/^config: [^ ]* /, ""); print }
	/tcp flag: / { print "flag " tolower($NF) }' | sort
}

facts_of_meaning() {
	LC_ALL=C awk '
	$1 == "sequence" && $2 != "from" { sub(/^ sequence  /, ""); print "sequence  " $0 }
	($1 == "seq_timeout" || $1 == "cmd_timeout") && $2 != 25 && $2 != 10 { print $1 ": " $2 }
	($1 == "start" || $1 == "stop") && NF > 1 { k = $1; sub(/^ *[a-z]+ /, ""); print k "_command: " $0 }
	$1 == "flags" { for (i = 2; i <= NF; i++) print "flag " $i }' | sort
}

@test "0.8 itself understands of them what the awk program does" {
	local n failed=0

	old_or_skip
	for n in $(numbers '^accepted'); do
		# Those with a one-time file show its sequence instead.
		! grep -qi one_time "$CORPUS/$n.conf" || continue
		copy "$n"
		"${OLD_KNOCKD[@]}" -D -i nosuch0 -c "$T/$n.conf" 2>/dev/null >"$T/old" || :
		diff <(grep -a '^config: ' "$T/old" | facts_of_old) \
			<(meaning "$T/$n.conf" | facts_of_meaning) || { echo "$n.conf"; failed=1; }
	done
	return "$failed"
}
