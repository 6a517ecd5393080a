"""soak_worker.py DIRECTORY SEED SECONDS - writes, maps, reads, renames, removes and lists the same few names as others do, until the time is over.

Prints how often it did something.  What is mapped is neither cut, made longer nor removed.
"""

import errno
import mmap
import os
import pathlib
import random
import sys
import time

place, rng = pathlib.Path(sys.argv[1]), random.Random(sys.argv[2])
names = [place / f"n{i}" for i in range(6)]
kept = [place / f"kept{i}" for i in range(2)]
EXPECTED = {errno.ENOENT, errno.EEXIST, errno.ENOTEMPTY, errno.EISDIR, errno.ENOTDIR, errno.ESTALE}


def write():
    fd = os.open(rng.choice(names + kept), os.O_CREAT | rng.choice([os.O_WRONLY, os.O_RDWR]))
    try:
        os.pwrite(fd, rng.randbytes(rng.choice([10, 5000, 20000])), rng.randrange(40000))
        if rng.random() < 0.2:
            os.fsync(fd)
    finally:
        os.close(fd)


def replace():
    new = place / f"new{os.getpid()}"
    new.write_bytes(rng.randbytes(rng.randrange(1, 60000)))
    os.rename(new, rng.choice(names))


def read():
    with open(rng.choice(names), "rb") as f:
        f.read()


def map_it():
    with open(rng.choice(kept), "r+b") as f, mmap.mmap(f.fileno(), 60000) as m:
        for _ in range(5):
            at = rng.randrange(len(m))
            if rng.random() < 0.5:
                m[at] = rng.randrange(256)
            else:
                m[at]
        if rng.random() < 0.3:
            m.flush()


def array():
    fd = os.open(place / "x" / rng.choice(["data", "c/0", "c/1"]), os.O_RDWR)
    try:
        at = rng.randrange(4000)
        os.pwrite(fd, rng.randbytes(90), at)
        os.pread(fd, 4096, 0)
        if rng.random() < 0.3:
            with mmap.mmap(fd, 0) as m:
                m[at] = 1
    finally:
        os.close(fd)


def reduce():
    (place / "x" / "compute" / "sum").read_text()


actions = [write, write, replace, read, read, map_it, map_it, array, array, reduce,
           lambda: os.rename(rng.choice(names), rng.choice(names)), lambda: os.unlink(rng.choice(names)),
           lambda: [os.stat(place / name) for name in os.listdir(place)], lambda: os.stat(rng.choice(names)),
           lambda: os.mkdir(place / "s"), lambda: os.rmdir(place / "s")]
done, end = 0, time.monotonic() + float(sys.argv[3])
while time.monotonic() < end:
    try:
        rng.choice(actions)()
    except OSError as e:
        if e.errno not in EXPECTED:
            raise
    done += 1
print(done)
