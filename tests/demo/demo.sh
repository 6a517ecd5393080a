#!/bin/sh
# demo.sh - three nodes on this machine, one mount each, and what a user would do with them.  Cleans up, or with KEEP=1 stays up
# until `demo.sh stop`.  Everything lives in $DEMO_DIR.
set -eu
cd "$(dirname "$0")/../.."

dir=${DEMO_DIR:-/var/tmp/slabfs-demo}
build=${BUILD:-build}
python=${PYTHON:-/usr/bin/python3}
steps=9
step=0

say()
{
	step=$((step + 1))
	printf '[%d/%d] %s\n' "$step" "$steps" "$*"
}

show()
{
	printf '      $ %s\n' "$1"
	sh -c "$1" 2>&1 | sed 's/^/      /'
}

fail()
{
	echo "demo: $*" >&2
	for log in "$dir"/*.log; do
		[ -s "$log" ] && tail -n 5 "$log" | sed "s|^|demo: $(basename "$log"): |" >&2
	done
	exit 1
}

stop_all()
{
	[ -d "$dir" ] || return 0
	for i in 1 2 3; do
		! mountpoint -q "$dir/mnt$i" 2>/dev/null || fusermount3 -u "$dir/mnt$i" || umount -l "$dir/mnt$i"
	done
	for i in 3 2 1; do
		pid=$(cat "$dir/node$i.pid" 2>/dev/null) || continue
		# The pid may belong to another program by now, after a restart of the machine.
		if tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null | grep -q "slabfsd .*/node$i "; then
			kill "$pid"
			waited=0
			while [ -d "/proc/$pid" ] && [ $waited -lt 100 ]; do
				sleep 0.1
				waited=$((waited + 1))
			done
		fi
	done
	rm -rf "$dir/node1" "$dir/node2" "$dir/node3"
	rm -f "$dir"/*.pid "$dir"/*.log
	rmdir "$dir"/mnt1 "$dir"/mnt2 "$dir"/mnt3 "$dir" 2>/dev/null || true
}

wait_for() # file pattern pid
{
	waited=0
	until grep -q "$2" "$1" 2>/dev/null; do
		kill -0 "$3" 2>/dev/null || fail "a program ended while starting"
		[ $waited -lt 200 ] || fail "no line \"$2\" in $1 after 20 seconds"
		waited=$((waited + 1))
		sleep 0.1
	done
}

start_node() # number
{
	setsid "$build/slabfsd" "$dir/node$1" >"$dir/node$1.log" 2>&1 </dev/null &
	echo $! >"$dir/node$1.pid"
	wait_for "$dir/node$1.log" "^slabfsd: node $1 ready" "$(cat "$dir/node$1.pid")"
}

received() # bytes that mount 1 has had from other nodes so far
{
	sed -n 's/^slabfs_bytes_received_total{.*transport="tcp".*} //p' "$dir/mnt1/.slabfs/metrics" |
		awk '{ n += $1 } END { printf "%d", n }'
}

if [ "${1:-}" = stop ]; then
	stop_all
	echo "demo: stopped, and removed from $dir"
	exit 0
fi

if [ -e "$dir/node1.pid" ]; then
	echo "demo: removing what an earlier demo left in $dir"
	stop_all
fi
mkdir -p "$dir"
free=$(df -Pk "$dir" | awk 'NR == 2 { print $4 }')
[ "$free" -gt 1700000 ] || fail "$dir has $((free / 1024)) MiB free, the demo needs 1700 (DEMO_DIR=... puts it elsewhere)"
[ -e /dev/fuse ] || modprobe fuse 2>/dev/null || fail "there is no /dev/fuse: load the kernel's module fuse"

on_exit()
{
	code=$?
	trap - EXIT INT TERM
	if [ "$code" != 0 ] || [ -z "${KEEP:-}" ]; then
		stop_all
	fi
	exit "$code"
}
trap on_exit EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

say "installing what is missing"
tests/install-deps.sh demo | sed 's/^/      /'

say "building the programs into $build/"
make -s -j"$(nproc)" BUILD="$build" all

say "making three stores and starting a node on each"
"$build/mkfs.slabfs" --listen 127.0.0.1:0 "$dir/node1" >/dev/null || fail "mkfs.slabfs failed"
start_node 1
head=$(sed -n 's/^slabfsd: node 1 ready on //p' "$dir/node1.log")
for i in 2 3; do
	"$build/mkfs.slabfs" --join "$head" --key "$dir/node1/cluster.key" --listen 127.0.0.1:0 "$dir/node$i" >/dev/null || fail "mkfs.slabfs failed"
	start_node $i
done

say "mounting one tree per node: $dir/mnt1, mnt2, mnt3"
for i in 1 2 3; do
	mkdir -p "$dir/mnt$i"
	"$build/slabfs" "$dir/node$i" "$dir/mnt$i" -o log="$dir/mnt$i.log" 2>"$dir/mnt$i.start.log" || fail "slabfs could not mount $dir/mnt$i"
done
show "$build/slabctl --mount $dir/mnt1 nodes"

geoid=/usr/share/proj/egm96_15.gtx
if [ -e $geoid ]; then
	say "importing a real array: the EGM96 geoid, 721 x 1440 big-endian float32 after a 40-byte header"
	show "$build/slabctl --mount $dir/mnt1 import $geoid $dir/mnt1/geoid --dtype '>f4' --shape 721,1440 --offset 40"
	show "ls $dir/mnt2/geoid $dir/mnt2/geoid/compute"
	show "cat $dir/mnt2/geoid/compute/min $dir/mnt2/geoid/compute/max   # metres: south of India, and New Guinea"
else
	say "the geoid grid is not here ($geoid, of Debian's package proj-data): going on without"
fi

say "writing a 1 GiB float64 array through mount 1"
"$build/slabctl" --mount "$dir/mnt1" create "$dir/mnt1/wave" --dtype float64 --shape 1024,131072 >/dev/null || fail "slabctl create failed"
"$python" tests/demo/wave.py write "$dir/mnt1/wave/data"

say "reading it through mount 2 with NumPy, without copying it"
show "$python -c \"import numpy as np; a = np.load('$dir/mnt2/wave/data.npy', mmap_mode='r'); print(a.shape, a.dtype, a[1000, ::30000])\""
show "cat $dir/mnt2/wave/compute/describe.json"

say "its mean, computed where the data lies, and by NumPy on mount 1"
before=$(received)
show "cat $dir/mnt1/wave/compute/mean"
middle=$(received)
"$python" tests/demo/wave.py compare "$dir/mnt1/wave/data.npy" "$(cat "$dir/mnt1/wave/compute/mean")"
after=$(received)

say "bytes that mount 1 had from the other nodes"
printf '      %15d  for compute/mean\n' $((middle - before))
printf '      %15d  for NumPy reading the array, as a copy would move it\n' $((after - middle))

if [ -n "${KEEP:-}" ]; then
	echo "demo: still up, in $dir/mnt1, mnt2 and mnt3; stop it with: sudo make demo-stop"
else
	echo "demo: done; cleaning up (KEEP=1 leaves it up)"
fi
