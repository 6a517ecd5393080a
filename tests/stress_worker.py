"""stress_worker.py DIRECTORY SEED OPERATIONS - random operations on names and bytes in a tree that others work in at the same time.

What others may cause (a name that is gone, that exists, that has become a directory) is expected; any other error ends it with exit code 1.
"""

import ctypes
import errno
import os
import pathlib
import random
import sys

EXPECTED = {errno.ENOENT, errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR, errno.EISDIR, errno.EINVAL, errno.ELOOP, errno.ESTALE,
            errno.ENODATA, errno.ENXIO, errno.EXDEV, errno.EPERM, errno.ETXTBSY}
KEEP, PUNCH = 1, 2

top, seed, operations = pathlib.Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
chance = random.Random(seed)
libc = ctypes.CDLL(None, use_errno=True)


def name():
    parts = [f"d{chance.randrange(3)}" for _ in range(chance.randrange(3))]
    return top.joinpath(*parts, f"f{chance.randrange(8)}")


def directory():
    return top.joinpath(*[f"d{chance.randrange(3)}" for _ in range(chance.randint(1, 2))])


def write(flags):
    fd = os.open(name(), os.O_WRONLY | os.O_CREAT | flags, 0o644)
    try:
        for _ in range(chance.randint(1, 3)):
            os.pwrite(fd, chance.randbytes(chance.randrange(1, 100000)), chance.randrange(300000))
        if chance.random() < 0.1:
            os.fsync(fd)
    finally:
        os.close(fd)


def read():
    with open(name(), "rb") as f:
        size = sum(len(piece) for piece in iter(lambda: f.read(65536), b""))
        os.lseek(f.fileno(), size // 2, os.SEEK_HOLE)


def unlinked():
    path = top / f"own-{seed}"
    data = chance.randbytes(90000)
    with open(path, "w+b", buffering=0) as f:
        f.write(data)
        os.unlink(path)
        f.seek(0)
        assert f.read() == data, "an open file lost its bytes with its name"


def allocate():
    fd = os.open(name(), os.O_RDWR)
    try:
        libc.fallocate(fd, chance.choice([0, KEEP, KEEP | PUNCH]), ctypes.c_long(chance.randrange(200000)), ctypes.c_long(70000))
    finally:
        os.close(fd)


def copy():
    with open(name(), "rb") as a, open(name(), "r+b") as b:
        if not os.path.sameopenfile(a.fileno(), b.fileno()):
            os.copy_file_range(a.fileno(), b.fileno(), 200000)


OPERATIONS = [
    lambda: write(0), lambda: write(0), lambda: write(os.O_APPEND), lambda: write(os.O_TRUNC), lambda: write(os.O_EXCL), read, read, read,
    unlinked, allocate, copy, lambda: os.truncate(name(), chance.randrange(400000)), lambda: os.unlink(name()),
    lambda: os.rename(name(), name()), lambda: os.rename(name(), name()), lambda: os.link(name(), name()),
    lambda: os.symlink("f1", name()), lambda: os.mkdir(directory()), lambda: os.mkdir(directory()), lambda: os.rmdir(directory()),
    lambda: os.rename(directory(), directory()), lambda: os.listdir(directory()), lambda: [e.stat() for e in os.scandir(top)],
    lambda: os.chmod(name(), 0o600 | chance.randrange(0o100)), lambda: os.utime(name()), lambda: os.setxattr(name(), "user.x", b"1" * 50),
    lambda: os.stat(name()),
]

for i in range(operations):
    operation = chance.choice(OPERATIONS)
    try:
        operation()
    except OSError as e:
        if e.errno not in EXPECTED:
            raise
