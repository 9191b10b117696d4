#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# Networks that others have trained, run on the NPU by accel-run: every layer
# must be what the CPU makes of the same input, and the answer the right one.

if ! command -v accel-run > /dev/null; then
	echo "1..0 # SKIP there is no accel-run"
	exit 4
fi

echo "TAP version 13"
echo "1..5"
number=0
bad=0

# result NAME STATUS OUTPUT
result() {
	number=$((number + 1))
	if [ "$2" = 0 ]; then
		echo "ok $number $1"
	else
		echo "$3" | sed 's/^/# /'
		echo "not ok $number $1"
		bad=1
	fi
}

# model MODEL SAMPLE FIRST: the check succeeds, and the output's greatest
# element is FIRST.
model() {
	said=$(accel-run --check "$1" "$2" 2>&1) &&
		echo "$said" | grep -q '^every layer is right$' &&
		echo "$said" | grep -m1 -A1 '^the tensor' | tail -n1 | grep -q "^  $3 "
	result "$1.$2" $? "$said"
}

model person_detect astronaut somebody
model person_detect coffee nobody
model speech ramp no
model sine ramp 0

said=$(accel-run --check person_detect /dev/null 2>&1)
[ $? = 1 ] && echo "$said" | grep -q 'it has 0 bytes'
result refused $? "$said"

exit "$bad"
