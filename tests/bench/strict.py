"""strict.py - what -o strict costs: operations a second on one file, without it and with it, with one mount and with two that hold the file.

Two nodes and their mounts on this machine; the file's one partition is the first node's.  Environment: SLABFS_BUILD, SLABFS_TMP.
"""

import os
import pathlib
import statistics
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import cluster as cl  # noqa: E402

MIB = 1 << 20
SIZE = 16 * MIB
SECONDS = 0.5
ROUNDS = 5


def rate(action):
    """Calls a second."""
    n, start = 0, time.perf_counter()
    while time.perf_counter() - start < SECONDS:
        for _ in range(8):
            action(n)
            n += 1
    return n / (time.perf_counter() - start)


def measure(options, holders):
    root = tempfile.mkdtemp(prefix="slabfs-bench-", dir=os.environ.get("SLABFS_TMP", "/var/tmp"))
    c = cl.Cluster(root, 2, options=options)
    path = c.mounts[0] / "f"
    path.write_bytes(os.urandom(SIZE))
    others = [os.open(m / "f", os.O_RDWR) for m in c.mounts[1:holders]]
    for fd in others:
        os.pread(fd, SIZE, 0)
    fd, only = os.open(path, os.O_RDWR), os.open(path, os.O_WRONLY)
    small, large = os.urandom(4096), os.urandom(MIB)
    actions = {
        "stat": lambda n: os.stat(path),
        "read 4 KiB": lambda n: os.pread(fd, 4096, n * 4096 % SIZE),
        "read 1 MiB": lambda n: os.pread(fd, MIB, n * MIB % SIZE),
        "write 4 KiB": lambda n: os.pwrite(fd, small, n * 4096 % SIZE),
        "write 1 MiB": lambda n: os.pwrite(fd, large, n * MIB % SIZE),
        "write 4 KiB, O_WRONLY": lambda n: os.pwrite(only, small, n * 4096 % SIZE),
        "write 4 KiB, read on another mount": lambda n: (os.pwrite(fd, small, n * 4096 % SIZE), [os.pread(o, 4096, n * 4096 % SIZE) for o in others]),
    }
    rates = {}
    for name, action in actions.items():
        os.pread(fd, SIZE, 0)
        rates[name] = statistics.median(rate(action) for _ in range(ROUNDS))
    for each in [fd, only, *others]:
        os.close(each)
    c.stop()
    cl.remove_tree(root)
    return rates


def main():
    columns = {f"{name}, {holders}": measure(options, holders) for name, options in (("plain", ""), ("strict", "strict")) for holders in (1, 2)}
    print("| operations a second | " + " | ".join(columns) + " |")
    print("|---|" + "---|" * len(columns))
    for what in next(iter(columns.values())):
        print(f"| {what} | " + " | ".join(f"{rates[what]:.0f}" for rates in columns.values()) + " |")


if __name__ == "__main__":
    main()
