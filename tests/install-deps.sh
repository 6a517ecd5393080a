#!/bin/sh
# install-deps.sh build|demo|test|bench - what that needs, installed through apt; elsewhere than on Debian: says what is missing.
set -eu

build="gcc make pkg-config libc6-dev libfuse3-dev fuse3 libjson-c-dev libsodium-dev libxxhash-dev libsqlite3-dev"
demo="$build python3 python3-numpy proj-data"
bench="$build python3 python3-numpy"
test="$demo python3-pytest clang clang-format-14 git rsync sqlite3 man-db groff iproute2 util-linux attr acl python3-zarr strace fiu-utils fio"

case ${1:-} in
build) wanted=$build ;;
demo) wanted=$demo ;;
test) wanted=$test ;;
bench) wanted=$bench ;;
*)
	echo "usage: $0 build|demo|test|bench" >&2
	exit 2
	;;
esac

if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
	echo "install-deps: not a Debian: make sure that you have what these Debian packages hold: $wanted"
	for tool in gcc make pkg-config fusermount3 python3; do
		command -v "$tool" >/dev/null || echo "install-deps: missing: $tool"
	done
	for library in fuse3 json-c libsodium libxxhash sqlite3; do
		pkg-config --exists "$library" 2>/dev/null || echo "install-deps: missing: the development files of $library"
	done
	exit 0
fi

installed()
{
	test "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed
}

available()
{
	apt-cache show "$1" >/dev/null 2>&1
}

if [ "$1" = test ] && installed clang; then
	runtime=libclang-rt-$(clang --version | sed -n 's/.*version \([0-9]*\).*/\1/p' | head -n 1)-dev
	wanted="$wanted $runtime"
elif [ "$1" = test ]; then
	wanted="$wanted libclang-rt-dev"
fi

missing=
for package in $wanted; do
	installed "$package" || missing="$missing $package"
done
if [ -z "$missing" ]; then
	echo "install-deps: nothing is missing"
	exit 0
fi
if [ "$(id -u)" != 0 ]; then
	echo "install-deps: missing:$missing (run as root to have them installed)" >&2
	exit 1
fi
apt-get update -qq || echo "install-deps: apt-get update failed; going on with the lists that are here"
chosen=
for package in $missing; do
	if available "$package"; then
		chosen="$chosen $package"
	else
		echo "install-deps: this Debian has no package $package; going on without"
	fi
done
echo "install-deps: installing$chosen"
# shellcheck disable=SC2086
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $chosen </dev/null >/dev/null
