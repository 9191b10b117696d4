#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# The rules of tools/udev under a real udevd, beside systemd's own and those that
# vendors ship: group and mode of both nodes, whatever the class is called.

here=$(dirname "$0")
rules=/usr/lib/udev/rules.d
ours=49-accel.rules

if [ ! -x /usr/lib/systemd/systemd-udevd ]; then
	echo "1..0 # SKIP there is no udevd"
	exit 4
fi
export LD_LIBRARY_PATH=/usr/lib/x86_64-linux-gnu/systemd

echo "TAP version 13"
echo "1..9"
number=0
bad=0

# result NAME STATUS WHAT
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

# nodes GLOB: mode and group of each.
nodes() {
	# shellcheck disable=SC2086 # the pattern is one
	stat -c '%n %a %G' /dev/accel/$1
}

# are GLOB MODE GROUP: whether that is so of all, of which there must be some.
are() {
	nodes "$1" | grep -q . && ! nodes "$1" | grep -qv " $2 $3\$"
}

# rule NUMBER TEXT: another's rule of everything that has our name.
rule() {
	echo "$2" >"$rules/$1-other.rules"
}

# As if all devices came anew.
apply() {
	udevadm control --reload
	udevadm trigger --action=add --subsystem-match=accel --subsystem-match=accel_core
	udevadm settle --timeout=30
}

# expect NAME COMPUTE CONTROL: "MODE GROUP" of each kind of node.
expect() {
	apply
	# shellcheck disable=SC2086 # two words each
	are 'accel[0-9]*' $2 && are 'accel_control[0-9]*' $3
	result "$1" $? "$(nodes '*')"
}

cat >>/etc/group <<END
tty:x:5:
disk:x:6:
lp:x:7:
kmem:x:15:
dialout:x:20:
cdrom:x:24:
tape:x:26:
audio:x:29:
video:x:44:
kvm:x:104:
render:x:105:
input:x:106:
sgx:x:107:
clock:x:108:
accel-monitor:x:200:
END
mkdir -p /run/udev
said=$(/usr/lib/systemd/systemd-udevd --daemon 2>&1)
result udevd $? "$said"

cp "$here/$ours" "$rules/"
said=$(udevadm verify "$rules/$ours" 2>&1)
result verify $? "$said"

expect ours "660 render" "440 accel-monitor"

rule 40 'KERNEL=="accel*", GROUP="video", MODE="0666"'
expect vendor_before "660 render" "440 accel-monitor"
rm "$rules/40-other.rules"

# As vendors have it, in both classes: control nodes are not theirs.
rule 60 'SUBSYSTEM=="accel|accel_core", KERNEL=="accel*", GROUP="render", MODE="0660"'
rule 99 'SUBSYSTEM=="accel|accel_core", KERNEL=="accel*", GROUP="video", MODE="0660"'
expect vendor_after "660 video" "440 accel-monitor"
rm "$rules/60-other.rules" "$rules/99-other.rules"

# A device that comes gets them from its own uevent.
apply
modprobe -r accel_mock
modprobe accel_mock
udevadm settle --timeout=30
are 'accel[0-9]*' 660 render && are 'accel_control[0-9]*' 440 accel-monitor
result comes $? "$(nodes '*')"

# What the rules go by is there when the uevent is.
said=
for node in /dev/accel/*; do
	said="$said$(udevadm info --query=property "$node" 2>&1)
"
done
echo "$said" | grep -q '^DEVNAME=/dev/accel/accel_control' &&
	echo "$said" | grep -q '^DEVNAME=/dev/accel/accel[0-9]' &&
	! echo "$said" | grep '^SUBSYSTEM=' | grep -qvE '^SUBSYSTEM=accel(_core)?$'
result environment $? "$said"

# Limits by rule, for devices as they come.
rule 80 'SUBSYSTEM=="accel|accel_core", KERNEL=="accel[0-9]*", ATTR{limits/user_contexts}="16"'
udevadm control --reload
modprobe -r accel_mock
modprobe accel_mock
udevadm settle --timeout=30
said=$(cat /sys/bus/faux/devices/accel_mock.0/accel*/accel[0-9]*/limits/user_contexts)
verdict=0
[ "$said" = 16 ] || verdict=1
result limit_by_rule $verdict "$said"
rm "$rules/80-other.rules"

# A file of the same name in /etc replaces ours.
mkdir -p /etc/udev/rules.d
echo 'SUBSYSTEM=="accel|accel_core", KERNEL=="accel_control*", GROUP:="audio", MODE:="0640"' \
	>"/etc/udev/rules.d/$ours"
apply
are 'accel_control[0-9]*' 640 audio
result replaced $? "$(nodes '*')"

udevadm control --exit
exit $bad
