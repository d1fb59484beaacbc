# What zsh offers at the end of a command line, a word each:
#
#	zsh -f zsh_offers.zsh DIRECTORY 'knock --'
#
# A zsh on a terminal of its own loads the completions of the directory by
# compinit, gets the line and a tab, and prints what it would show.
zmodload zsh/zpty || exit 1
zpty offers zsh -f -i
zpty -w offers "fpath=(${(q)1} \$fpath) PS1= PS2= RPS1="
zpty -w offers 'autoload -U compinit && compinit -u -D
unsetopt zle_bracketed_paste 2>/dev/null
stty -echo -onlcr
offered() {
	local -a hits

	if [[ " ${@[1,(i)(-|--)]} " == *" -"[OAD]" "* ]]; then
		builtin compadd "$@"
		return
	fi
	builtin compadd -O hits "$@"
	print -lr -- "offer "$^hits
	builtin compadd "$@"
}
complete_it() {
	compadd() { offered "$@" }
	print
	_main_complete
	print -r -- end of offers
	exit
}
zle -C complete_it complete-word complete_it
bindkey "^I" complete_it
print ready for" "it'
zpty -r offers text '*ready for it*' || exit 1
zpty -n -w offers "$2"$'\t'
zpty -r offers text '*end of offers*' || exit 1
for line in ${(f)text}; do
	[[ $line != *'offer '* ]] || print -r -- ${${line##*offer }%$'\r'}
done
