#!/usr/bin/env bats
# Reloads, one after another, while knocks arrive.

load lib
load rogue
load reloads

@test "90 reloads, a third of them bad, in a stream of knocks: none is lost, nothing grows" {
	reloads 90
	is "$LOST" 0
	[ "${GREW% *}" -le 64 ]
	[ "${GREW#* }" -le 64 ]
	not_logged 'died'
	stop_knockd
}
