#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# No structure of the interface may have a hole or padding, for either ABI:
# bytes that nobody names are bytes that leak, or that cannot be given a
# meaning later.
#
# usage: pahole.sh object...	objects with debug information that use every
#				structure (abi, built for 64 and for 32 bits)

[ $# -gt 0 ] || set -- "$(dirname "$0")/abi"

if ! command -v pahole > /dev/null; then
	echo "SKIP: there is no pahole"
	exit 4
fi

bad=0
for object in "$@"; do
	seen=0
	for struct in $(pahole -F dwarf --sizes "$object" 2> /dev/null |
			awk '$1 ~ /^accel_/ { print $1 }' | sort -u); do
		case $struct in
		accel_target|accel_call|accel_pci) continue ;; # the tests' own
		esac
		seen=$((seen + 1))
		text=$(pahole -F dwarf -C "$struct" "$object" 2> /dev/null)
		case $text in
		"")
			echo "$object: pahole does not show $struct"
			bad=1
			;;
		*"XXX"*|*"padding:"*|*"holes:"*)
			echo "$object: $struct has a hole or padding:"
			echo "$text"
			bad=1
			;;
		esac
	done
	# What cannot be seen cannot be judged.
	want=$(grep -hc '^struct accel_.* {$' \
	       "$(dirname "$0")"/../../../../include/uapi/accel/*.h 2> /dev/null |
	       awk '{ n += $1 } END { print n + 0 }')
	if [ "$seen" -lt "${want:-0}" ] || [ "$seen" -eq 0 ]; then
		echo "$object: $seen structures of $want have debug information"
		bad=1
	else
		echo "$object: $seen structures"
	fi
done
exit $bad
