# bash completion for knock and knockd
# Install as /usr/share/bash-completion/completions/knock, with a link knockd.
# shellcheck shell=bash disable=SC2207

# the names of the sections in the user's profiles, one in a line; compgen -W
# would run what others may hold
_knock_profiles() {
	local file
	for file in "${XDG_CONFIG_HOME:-$HOME/.config}/knock.conf" \
		~/.config/knock.conf ~/.knockrc
	do
		[[ -r $file ]] || continue
		sed -n 's/^[[:blank:]]*\[\([[:alnum:]._-]*\)\][[:blank:]]*$/\1/p' "$file"
	done
}

_knock() {
	local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]}
	COMPREPLY=()
	case $prev in
	-d | --delay) COMPREPLY=($(compgen -W "50 200 500" -- "$cur")); return ;;
	-W | --connect | -w | --wait) COMPREPLY=($(compgen -W "22 443" -- "$cur")); return ;;
	-t | --timeout) COMPREPLY=($(compgen -W "5 10 30" -- "$cur")); return ;;
	-k | --key) COMPREPLY=($(compgen -f -- "$cur")); return ;;
	--for) COMPREPLY=($(compgen -W "own" -- "$cur")); return ;;
	--generate) COMPREPLY=($(compgen -W "4 5 6" -- "$cur")); return ;;
	-i | --interface)
		COMPREPLY=($(compgen -W "$(cd /sys/class/net && printf "%q " *)" \
			-- "$cur"))
		return
		;;
	esac
	case $cur in
	-*)
		COMPREPLY=($(compgen -W "-u --udp -d --delay -4 --ipv4
			-6 --ipv6 --both -k --key --for --close -i --interface -w --wait -W --connect
			-t --timeout --generate --keygen -v --verbose -V --version
			-h --help" -- "$cur"))
		;;
	*)
		COMPREPLY=($(compgen -A hostname \
			-W "$(_knock_profiles)" -- "$cur"))
		;;
	esac
}

_knockd() {
	local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]}
	COMPREPLY=()
	case $prev in
	-c | --config | -g | --logfile | -p | --pidfile)
		COMPREPLY=($(compgen -f -- "$cur"))
		return
		;;
	-i | --interface)
		COMPREPLY=($(compgen -W "any $(cd /sys/class/net && printf "%q " *)" \
			-- "$cur"))
		return
		;;
	esac
	COMPREPLY=($(compgen -W "-4 --only-ip-v4 -c --config -D --debug
		-d --daemon -g --logfile -h --help -i --interface -l --lookup
		-p --pidfile -S --status -s --save-mem -t --test -V --version
		-v --verbose" -- "$cur"))
}

complete -F _knock knock
complete -o filenames -F _knockd knockd
