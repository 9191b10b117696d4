#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# The way into the build root: checks the host, makes the root if it is not in
# the cache yet, builds accel-dev in it and runs accel-dev there with this
# script's arguments. Only what has to run before the root exists is in here.
#
# Nothing is written to the host outside the cache folder; every mount lives in
# a mount namespace of this process and goes with it.

set -eu

# What the root is made of. A change here makes a new root.
suite=trixie
backports=$suite-backports
packages=build-essential,gcc-multilib,bc,bison,flex,libelf-dev,libssl-dev,kmod
packages=$packages,cpio,xz-utils,zstd,pahole,libclang-dev,bindgen,rustc,rust-src
packages=$packages,rustfmt,rust-clippy,cargo,busybox-static,clang-format
packages=$packages,ca-certificates,util-linux,shellcheck,python3-minimal
newer_packages=qemu-system-x86
recipe="3 $suite $packages $newer_packages"

# What a first run needs; measured, rounded up.
need_mb=7000
fetch_mb=750
fetch_minutes=4

started=$(date +%s)
self=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd -P)/bootstrap.sh
tree=${self%/tools/dev/bootstrap.sh}

say() {
	printf '[%4d s] %s\n' "$(($(date +%s) - started))" "$*" >&2
}

die() {
	printf 'accel: %s\n' "$1" >&2
	shift
	for line in "$@"; do
		printf '       %s\n' "$line" >&2
	done
	exit 1
}

have() {
	command -v "$1" >/dev/null 2>&1
}

check_host() {
	[ "$(uname -s)" = Linux ] ||
		die "this needs a Linux host; this is $(uname -s)." \
			"Run it in a Linux virtual machine (Debian 12 or newer does)."
	[ "$(uname -m)" = x86_64 ] ||
		die "this needs an x86-64 host; this is $(uname -m)." \
			"The kernels and compilers of the build root are x86-64 ones."
	case $tree in
	*[!A-Za-z0-9/._+@~,-]*)
		die "the checkout's path '$tree' has a character that kbuild cannot handle." \
			"Move it to a path of letters, digits and . _ + - only." ;;
	esac
	for tool in unshare chroot mount flock sha256sum df awk; do
		have "$tool" ||
			die "'$tool' is missing (on Debian: packages util-linux, coreutils, mount, mawk)."
	done
}

find_cache() {
	if [ -n "${ACCEL_CACHE:-}" ]; then
		cache=$ACCEL_CACHE
	elif [ -n "${XDG_CACHE_HOME:-}" ]; then
		cache=$XDG_CACHE_HOME/accel
	elif [ -n "${HOME:-}" ]; then
		cache=$HOME/.cache/accel
	else
		die "no place for the cache: set ACCEL_CACHE to a folder with $need_mb MB of room."
	fi
	# The folder is marked as ours when it is made, so that removing the
	# cache never removes somebody's other files.
	if [ ! -e "$cache/.accel-cache" ] && [ -n "$(ls -A -- "$cache" 2>/dev/null)" ]; then
		die "the cache folder '$cache' has other files in it." \
			"Set ACCEL_CACHE to a new or empty folder."
	fi
	if ! { mkdir -p -- "$cache" && : >"$cache/.accel-cache"; } 2>/dev/null; then
		die "cannot write the cache folder '$cache'." \
			"Set ACCEL_CACHE to a folder of yours with $need_mb MB of room."
	fi
	cache=$(CDPATH='' cd -- "$cache" && pwd -P)
	case $cache in
	*[!A-Za-z0-9/._+@~,-]*)
		die "the cache's path '$cache' has a character that kbuild cannot handle." \
			"Set ACCEL_CACHE to a path of letters, digits and . _ + - only." ;;
	esac
	root=$cache/root
	logs=$cache/log
	mkdir -p "$logs"
}

root_key() {
	printf '%s\n' "$recipe" | sha256sum | cut -c1-16
}

root_ready() {
	[ "$(cat "$root/.accel-root" 2>/dev/null)" = "$(root_key)" ]
}

# mmdebstrap is the one tool that a host has to have besides make, sh and git.
check_mmdebstrap() {
	have mmdebstrap && return
	if [ "$(id -u)" = 0 ] && have apt-get; then
		say "installing mmdebstrap on this host (apt-get)"
		if { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq \
			--no-install-recommends mmdebstrap debian-archive-keyring; } \
			>"$logs/mmdebstrap.log" 2>&1 && have mmdebstrap; then
			return
		fi
		explain "$logs/mmdebstrap.log"
		die "mmdebstrap could not be installed. By hand:" \
			"apt-get install mmdebstrap debian-archive-keyring"
	fi
	if have apt-get; then
		how="sudo apt-get install mmdebstrap debian-archive-keyring uidmap"
	elif have dnf; then
		how="sudo dnf install mmdebstrap debian-keyring shadow-utils"
	elif have pacman; then
		how="sudo pacman -S mmdebstrap debian-archive-keyring"
	else
		how="install mmdebstrap and Debian's archive keyring with your package manager"
	fi
	die "mmdebstrap is missing. Install it:" "$how"
}

# A normal user is root in a user namespace, with a range of subordinate ids
# for the users that Debian's packages make.
check_userns() {
	have newuidmap ||
		die "a normal user needs newuidmap (package uidmap). Install it:" \
			"sudo apt-get install uidmap" \
			"or run this as root."
	unshare --help 2>&1 | grep -q -- --map-auto ||
		die "this host's unshare is older than util-linux 2.38 and cannot map user ids." \
			"Run this as root, or on a newer host."
	unshare --user --map-root-user --map-auto --mount true 2>"$logs/userns.log" || {
		sed 's/^/       /' "$logs/userns.log" >&2
		die "user namespaces do not work for $(id -un) here. One of these is missing:" \
			"lines for $(id -un) in /etc/subuid and /etc/subgid (sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 $(id -un))" \
			"permission (sysctl kernel.unprivileged_userns_clone=1, kernel.apparmor_restrict_unprivileged_userns=0, user.max_user_namespaces)" \
			"or run this as root."
	}
}

enter_namespace() {
	if [ "$(id -u)" = 0 ]; then
		unshare --mount --propagation private true 2>/dev/null ||
			die "this process may not make mounts (a container without the right?)." \
				"Start the container with --privileged (or CAP_SYS_ADMIN and no seccomp/AppArmor limit)," \
				"or run this on the machine itself."
		ACCEL_NS=$started exec unshare --mount --propagation private sh "$self" "$@"
	fi
	check_userns
	ACCEL_NS=$started exec unshare --user --map-root-user --map-auto \
		--mount --propagation private sh "$self" "$@"
}

# Prints what a log says is wrong, in words of ours where the cause is known.
explain() {
	if grep -q -i -E 'No space left' "$1"; then
		cause="The disk is full: '$cache' needs $need_mb MB in all. Set ACCEL_CACHE to a folder with room."
	elif grep -q -i -E 'resolv|could not connect|connection (refused|timed out|failed)|network is unreachable|unable to connect|failed to (fetch|download)' "$1"; then
		cause="The package mirror cannot be reached. Check the network and the proxy settings, or name another mirror with ACCEL_MIRROR=<URL>."
	else
		cause=
	fi
	tail -n 12 "$1" | sed 's/^/       | /' >&2
	[ -z "$cause" ] || printf 'accel: %s\n' "$cause" >&2
	printf '       The whole log: %s\n' "$1" >&2
}

# The mirror that the host itself uses, if it is a Debian one; else nothing,
# and mmdebstrap takes its own default.
find_mirror() {
	if [ -n "${ACCEL_MIRROR:-}" ]; then
		printf '%s\n' "$ACCEL_MIRROR"
	elif have apt-get; then
		# shellcheck disable=SC2016 # apt-get's own placeholders
		apt-get indextargets --format '$(LABEL) $(REPO_URI)' \
			'Created-By: Packages' 'Component: main' 2>/dev/null |
			awk '$1 == "Debian" && $2 ~ /^https?:/ { print $2; exit }'
	fi
}

ca_bundle() {
	for bundle in "${SSL_CERT_FILE:-}" /etc/ssl/certs/ca-certificates.crt \
		/etc/pki/tls/certs/ca-bundle.crt /etc/ssl/cert.pem; do
		if [ -n "$bundle" ] && [ -r "$bundle" ]; then
			printf '%s\n' "$bundle"
			return
		fi
	done
}

make_root() {
	check_mmdebstrap
	free=$(df -Pk "$cache" | awk 'NR == 2 { print int($4 / 1024) }')
	[ "$free" -ge "$need_mb" ] ||
		die "not enough room: '$cache' has $free MB free, $need_mb MB are needed." \
			"Set ACCEL_CACHE to a folder on a larger disk."
	cat >&2 <<-END
	First run. A Debian 13 build root with Rust, gcc and QEMU, and Debian's newest
	suitable kernel, are set up in
	    $cache
	To fetch: about $fetch_mb MB. On disk: under $need_mb MB. Time: about $fetch_minutes minutes on two cores.
	Nothing else on this machine is changed; 'make distclean' removes it all.
	END

	new=$cache/root.new
	rm -rf --one-file-system "$new"
	set -- --mode=root --format=directory --variant=apt \
		--aptopt='Acquire::Languages "none"' \
		--aptopt='Acquire::GzipIndexes "true"' \
		--aptopt='APT::Sandbox::User "root"' \
		--aptopt='Acquire::Retries "3"' \
		--dpkgopt='path-exclude=/usr/share/man/*' \
		--dpkgopt='path-exclude=/usr/share/doc/*' \
		--dpkgopt='path-exclude=/usr/share/locale/*' \
		--dpkgopt='path-exclude=/usr/share/info/*' \
		--skip=cleanup/apt/lists \
		--include="$packages"
	for proto in http https; do
		proxy=
		have apt-config &&
			eval "$(apt-config shell proxy "Acquire::$proto::Proxy" 2>/dev/null)"
		[ -z "$proxy" ] || set -- "$@" --aptopt="Acquire::$proto::Proxy \"$proxy\""
	done
	bundle=$(ca_bundle)
	# The hooks get the new root's path as $1.
	# shellcheck disable=SC2016
	set -- "$@" \
		--setup-hook='for list in "$1"/etc/apt/sources.list "$1"/etc/apt/sources.list.d/*.list; do
			[ -e "$list" ] && sed -n "s/^\(deb .*\) '"$suite"' main.*/\1 '"$backports"' main/p" "$list"
		done | head -n 1 > "$1/etc/apt/sources.list.d/backports.list"
		[ -s "$1/etc/apt/sources.list.d/backports.list" ]' \
		--customize-hook='[ -z "'"$bundle"'" ] || cat "'"$bundle"'" > "$1/etc/ssl/certs/ca-certificates.crt"' \
		--customize-hook='chroot "$1" apt-get install -y --no-install-recommends -t '"$backports $newer_packages" \
		--customize-hook='chroot "$1" apt-get clean; rm -rf "$1"/usr/share/doc/* "$1"/usr/share/man/* "$1"/usr/libx32 "$1"/var/log/*.log'
	mirror=$(find_mirror)
	# shellcheck disable=SC2086 # no mirror is no argument
	run_step "$logs/root.log" "Debian 13 build root" \
		mmdebstrap "$@" "$suite" "$new" $mirror
	mkdir -p "$new/host" "$new/proc" "$new/sys" "$new/dev"
	root_key >"$new/.accel-root"

	# An old root goes only when nobody is in it any more.
	if [ -e "$root" ]; then
		flock -n -x 8 || {
			say "waiting for other runs to leave the old build root"
			flock -x 8
		}
		rm -rf --one-file-system "$root"
	fi
	mv "$new" "$root"
}

# run_step LOG WHAT COMMAND...: one line when it begins, one when it is done.
run_step() {
	log=$1 what=$2
	shift 2
	say "$what ..."
	if ! "$@" >"$log" 2>&1 </dev/null; then
		explain "$log"
		die "$what: failed."
	fi
	say "$what: done"
}

# Network settings that may have changed since the root was made.
refresh_network() {
	if [ -r /etc/resolv.conf ]; then
		rm -f "$root/etc/resolv.conf"
		cat /etc/resolv.conf >"$root/etc/resolv.conf"
	fi
	bundle=$(ca_bundle)
	[ -z "$bundle" ] || cat "$bundle" >"$root/etc/ssl/certs/ca-certificates.crt"
	# Where crates come from is the host's choice; how they are built is not.
	mkdir -p "$cache/cargo"
	for config in "${CARGO_HOME:-${HOME:-/nonexistent}/.cargo}"/config.toml /dev/null; do
		[ -r "$config" ] || continue
		awk '/^[[:space:]]*\[/ { keep = /^[[:space:]]*\[+(source|registries|registry|http|net)[].]/ } keep' \
			"$config" >"$cache/cargo/config.toml"
		break
	done
}

bind() {
	mkdir -p "$root$1"
	mount --rbind "$1" "$root$1" || die "cannot mount $1 into the build root."
}

mount_root() {
	# A mount of its own: what runs inside can make mount namespaces too.
	mount --bind "$root" "$root" || die "cannot mount the build root."
	bind /proc
	bind /sys
	bind /dev
	# Paths that the user names are seen below /host.
	mkdir -p "$root/host"
	mount --rbind / "$root/host" || die "cannot mount / into the build root."
	mount -t tmpfs -o mode=1777 tmpfs "$root/tmp" || die "cannot mount /tmp of the build root."
	# The checkout and the cache keep their paths, so that what tools print
	# is true outside as well.
	bind "$tree"
	bind "$cache"
}

# in_root DIR COMMAND...: with a known environment, whatever the host's is.
in_root() {
	dir=$1
	shift
	for name in http_proxy https_proxy no_proxy HTTP_PROXY HTTPS_PROXY NO_PROXY \
		TERM COLUMNS LINES NO_COLOR ACCEL_KVM ACCEL_LIMIT ACCEL_MIRROR RUN PUT T FLAVOUR DIR CYCLES \
		MINUTES REPLAY; do
		eval "value=\${$name-}"
		[ -z "$value" ] || set -- "$name=$value" "$@"
	done
	set -- env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/tmp LC_ALL=C.UTF-8 \
		CARGO_HOME="$cache/cargo" CARGO_TARGET_DIR="$target" \
		CARGO_HTTP_CAINFO=/etc/ssl/certs/ca-certificates.crt \
		ACCEL_TREE="$tree" ACCEL_CACHE="$cache" ACCEL_WORK="$work" \
		ACCEL_CALLER_DIR="$caller" ACCEL_STARTED="$started" "$@"
	# shellcheck disable=SC2016 # expanded by the inner shell
	set -- chroot "$root" /bin/sh -c 'cd "$0" && exec "$@"' "$dir" "$@"
	"$run" "$@"
}

replace() {
	exec "$@"
}

call() {
	"$@"
}

# A checkout that has built nothing yet begins with what another has built of other
# people's crates. Its own it builds itself: cargo would take the other's for them if
# these were built later than this checkout's files were written.
borrow_target() {
	[ ! -d "$target" ] || return 0
	for other in "$cache/work"/*/target/release; do
		[ -d "$other" ] || continue
		borrowed=$work/target.$$
		mkdir "$borrowed"
		if cp -a "$other" "$borrowed" &&
			rm -rf "$borrowed"/release/.fingerprint/*accel* && mv -T "$borrowed" "$target" 2>/dev/null; then
			return 0
		fi
		rm -rf "$borrowed"
	done
}

# What decides which crates are needed: a member of the workspace that is new, or asks
# for more, is not in Cargo.lock before the fetch.
crates_hash() {
	cat "$tree/tools/Cargo.lock" "$tree/tools/Cargo.toml" "$tree"/tools/*/Cargo.toml |
		sha256sum | cut -c1-16
}

build_dev() {
	# One fetch per set of crates; everything after that is offline.
	if [ ! -e "$cache/cargo/.fetched-$(crates_hash)" ]; then
		in_root "$tree/tools" cargo fetch --offline >/dev/null 2>&1 ||
			run_step "$work/log/crates.log" "crates" in_root "$tree/tools" cargo fetch
		: >"$cache/cargo/.fetched-$(crates_hash)"
	fi
	if [ ! -x "$target/release/accel-dev" ]; then
		say "the developer's tool (accel-dev) ..."
		first=1
	fi
	if ! in_root "$tree/tools" cargo build --offline --release --quiet -p accel-dev \
		>"$work/log/accel-dev.log" 2>&1; then
		cat "$work/log/accel-dev.log" >&2
		die "tools/dev does not build."
	fi
	[ -z "${first:-}" ] || say "the developer's tool (accel-dev): done"
}

remove_cache() {
	exec 7>"$cache/setup.lock" 8>"$cache/use.lock"
	if ! { flock -n -x 7 && flock -n -x 8; }; then
		die "the cache is in use by another run; try again when it has ended."
	fi
	rm -rf --one-file-system "$cache"
	say "removed $cache"
	exit 0
}

if [ -z "${ACCEL_NS:-}" ]; then
	check_host
	find_cache
	[ "$(id -u)" = 0 ] || root_ready || check_mmdebstrap
	enter_namespace "$@"
fi
started=$ACCEL_NS
caller=$(pwd -P)
find_cache
[ "${1:-}" != remove-cache ] || remove_cache
work=$cache/work/$(printf '%s' "$tree" | sha256sum | cut -c1-12)
target=$work/target
if [ "${1:-}" = clean ]; then
	rm -rf --one-file-system "$work"
	exit 0
fi
mkdir -p "$work/log"
printf '%s\n' "$tree" >"$work/checkout"
borrow_target
# Outputs of checkouts that are gone only take room.
for other in "$cache/work"/*/checkout; do
	[ -d "$(cat "$other" 2>/dev/null || printf /)" ] || rm -rf --one-file-system "${other%/checkout}"
done

exec 7>"$cache/setup.lock" 8>"$cache/use.lock"
if ! root_ready; then
	flock -n 7 || {
		say "waiting for another run that is setting the cache up"
		flock 7
	}
	root_ready || make_root
	flock -u 7
fi
exec 7>&-
flock -s 8
refresh_network
mount_root
run=call
build_dev
run=replace
in_root "$tree" "$target/release/accel-dev" "$@"
