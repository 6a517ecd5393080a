#!/bin/sh
# run-tests.sh [pytest arguments] - builds the programs and the unit tests, then runs all tests; as root.
set -eu
cd "$(dirname "$0")/.."

if [ "$(id -u)" != 0 ]; then
	echo "run-tests: the tests mount file systems and make network namespaces: sudo make test" >&2
	exit 1
fi
[ -e /dev/fuse ] || modprobe fuse 2>/dev/null || true
build=${BUILD:-build}
echo "run-tests: building into $build"
make -s -j"$(nproc)" BUILD="$build" all units
echo "run-tests: running the tests (the last two run most of them again under sanitizers)"
SLABFS_BUILD=$build exec "${PYTHON:-/usr/bin/python3}" -m pytest -p no:cacheprovider "$@" tests </dev/null
