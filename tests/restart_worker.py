"""restart_worker.py DIRECTORY SEED KINDS... - works in DIRECTORY until its standard input ends, and takes each result at its word.

It keeps a model of what must be there and compares; whatever a program would not see on a local disk ends it with a traceback.
Prints a line for each step, and at last how many it made of each kind and what its files must hold, as JSON.
"""

import errno
import json
import mmap
import os
import random
import select
import sys

import numpy as np

PART = 65536
SIZE = 5 * PART + 777


def fails(code, action, *args):
    try:
        action(*args)
    except OSError as e:
        assert e.errno == code, f"{action.__name__}{args}: {e!r} instead of {errno.errorcode[code]}"
        return
    raise AssertionError(f"{action.__name__}{args}: worked instead of {errno.errorcode[code]}")


def create(path, data):
    fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o640)
    assert os.write(fd, data) == len(data)
    os.close(fd)


def content(path):
    with open(path, "rb") as f:
        return f.read()


class Worker:
    def __init__(self, base, seed):
        self.base, self.random, self.steps = base, random.Random(seed), {}
        self.files, self.n = {}, 0
        os.mkdir(base)
        os.setxattr(base, "user.slabfs.partition_bytes", str(PART).encode())

    def path(self, name):
        return os.path.join(self.base, name)

    def new_name(self):
        self.n += 1
        return f"{self.n}-{self.random.getrandbits(24):x}"

    def some(self):
        if not self.files:
            self.make()
        return self.random.choice(sorted(self.files))

    def make(self):
        name = self.new_name()
        data = self.random.randbytes(self.random.randrange(2000))
        create(self.path(name), data)
        self.files[name] = data
        fails(errno.EEXIST, create, self.path(name), b"")

    def names(self):
        r = self.random
        what = r.choice(["make", "make", "unlink", "rename", "replace", "link", "dir", "xattr", "symlink", "truncate", "list"])
        if what == "make" and len(self.files) < 60:
            self.make()
        elif what == "unlink":
            name = self.some()
            os.unlink(self.path(name))
            del self.files[name]
            fails(errno.ENOENT, os.unlink, self.path(name))
        elif what == "rename":
            old, new = self.some(), self.new_name()
            os.rename(self.path(old), self.path(new))
            self.files[new] = self.files.pop(old)
            fails(errno.ENOENT, os.stat, self.path(old))
        elif what == "replace":
            old, new = self.some(), self.some()
            os.rename(self.path(old), self.path(new))
            data = self.files.pop(old)
            self.files[new] = data
            assert content(self.path(new)) == data
        elif what == "link":
            old, new = self.some(), self.new_name()
            os.link(self.path(old), self.path(new))
            assert os.stat(self.path(old)).st_nlink == 2 and os.path.samefile(self.path(old), self.path(new))
            fails(errno.EEXIST, os.link, self.path(old), self.path(new))
            os.unlink(self.path(new))
            assert os.stat(self.path(old)).st_nlink == 1
        elif what == "dir":
            name = self.new_name()
            os.mkdir(self.path(name))
            fails(errno.EEXIST, os.mkdir, self.path(name))
            create(self.path(name + "/x"), b"x")
            fails(errno.ENOTEMPTY, os.rmdir, self.path(name))
            os.unlink(self.path(name + "/x"))
            os.rmdir(self.path(name))
            fails(errno.ENOENT, os.rmdir, self.path(name))
        elif what == "xattr":
            path = self.path(self.some())
            os.setxattr(path, "user.x", b"1", os.XATTR_CREATE)
            fails(errno.EEXIST, os.setxattr, path, "user.x", b"2", os.XATTR_CREATE)
            os.setxattr(path, "user.x", b"3", os.XATTR_REPLACE)
            assert os.getxattr(path, "user.x") == b"3"
            os.removexattr(path, "user.x")
            fails(errno.ENODATA, os.removexattr, path, "user.x")
        elif what == "symlink":
            path = self.path(self.new_name())
            os.symlink("somewhere", path)
            fails(errno.EEXIST, os.symlink, "somewhere", path)
            assert os.readlink(path) == "somewhere"
            os.unlink(path)
        elif what == "truncate":
            name = self.some()
            data = self.files[name] + bytes(100)
            cut = r.randrange(len(data))
            os.truncate(self.path(name), cut)
            self.files[name] = data[:cut]
            assert os.stat(self.path(name)).st_size == cut
        elif what == "list":
            assert sorted(n for n in os.listdir(self.base) if not n.startswith("kept")) == sorted(self.files)
            name = self.some()
            assert content(self.path(name)) == self.files[name], name

    def bytes(self):
        """Writes in place, over all nodes, with fsync now and then."""
        r = self.random
        if "kept-bytes" not in self.steps:
            self.steps["kept-bytes"] = 0
            self.shadow = bytearray(SIZE)
            create(self.path("kept-bytes"), bytes(SIZE))
            self.fd = os.open(self.path("kept-bytes"), os.O_RDWR)
        for _ in range(r.randrange(1, 5)):
            at = r.randrange(SIZE - 9000)
            data = r.randbytes(r.randrange(1, 9000))
            assert os.pwrite(self.fd, data, at) == len(data)
            self.shadow[at:at + len(data)] = data
        if r.random() < 0.3:
            os.fsync(self.fd)
        if r.random() < 0.2:
            os.close(self.fd)
            self.fd = os.open(self.path("kept-bytes"), os.O_RDWR)
        at = r.randrange(SIZE - 9000)
        assert os.pread(self.fd, 9000, at) == self.shadow[at:at + 9000]

    def map(self):
        r = self.random
        if "kept-map" not in self.steps:
            self.steps["kept-map"] = 0
            create(self.path("kept-map"), bytes(SIZE))
            with open(self.path("kept-map"), "r+b") as f:
                self.map_ = mmap.mmap(f.fileno(), SIZE)
            self.map_shadow = bytearray(SIZE)
        for _ in range(5):
            at = r.randrange(SIZE - 100)
            data = r.randbytes(100)
            self.map_[at:at + 100] = data
            self.map_shadow[at:at + 100] = data
        if r.random() < 0.5:
            self.map_.flush()
        assert self.map_[:] == self.map_shadow

    def open_unlinked(self):
        r = self.random
        if not getattr(self, "unlinked", None):
            path, data = self.path("kept-unlinked"), r.randbytes(2 * PART)
            create(path, data)
            fd = os.open(path, os.O_RDWR)
            os.unlink(path)
            self.unlinked = [fd, bytearray(data)]
        fd, data = self.unlinked
        at = r.randrange(len(data) - 100)
        assert os.pread(fd, 100, at) == data[at:at + 100]
        data[at:at + 100] = r.randbytes(100)
        assert os.pwrite(fd, data[at:at + 100], at) == 100
        assert os.fstat(fd).st_nlink == 0
        if r.random() < 0.1:
            os.fsync(fd)
            assert os.pread(fd, len(data) + 1, 0) == data
            os.close(fd)
            self.unlinked = None

    def array(self):
        """An array: written by name, by chunks that are renamed, and reduced."""
        r = self.random
        where = self.path("kept-array")
        if "kept-array" not in self.steps:
            self.steps["kept-array"] = 0
            os.mkdir(where)
            self.values = np.arange(6 * PART // 8, dtype="<i8")
            np.save(where + "/data.npy", self.values)
        part = r.randrange(6)
        rows = slice(part * PART // 8, (part + 1) * PART // 8)
        how = r.choice(["renamed", "mapped"])
        if how == "renamed":
            self.values[rows] += part
            temporary = f"{where}/c/{part}.{r.getrandbits(32):x}.partial"
            with open(temporary, "xb") as f:
                f.write(self.values[rows].tobytes())
            os.rename(temporary, f"{where}/c/{part}")
            fails(errno.ENOENT, os.stat, temporary)
        else:
            m = np.memmap(where + "/data", "<i8", "r+")
            at = rows.start + r.randrange(1000)
            m[at:at + 10] = self.values[at:at + 10] = r.getrandbits(20)
            m.flush()
            del m
        if r.random() < 0.3:
            assert int(content(where + "/compute/sum")) == int(self.values.sum())
        got, want = np.frombuffer(content(f"{where}/c/{part}"), "<i8"), self.values[rows]
        if not np.array_equal(got, want):
            wrong = np.flatnonzero(got != want)
            again = [np.array_equal(np.frombuffer(content(f"{where}/c/{part}"), "<i8"), want),
                     np.array_equal(np.fromfile(where + "/data", "<i8")[rows], want)]
            raise AssertionError(f"partition {part}: elements {wrong[0]} to {wrong[-1]} are wrong: {got[wrong[0]]}; {how}; read again: {again}")

    def run(self, kinds):
        while not select.select([0], [], [], 0)[0]:
            kind = self.random.choice(kinds)
            getattr(self, kind)()
            self.steps[kind] = self.steps.get(kind, 0) + 1
            print(kind, flush=True)
        model = {name: data.hex() for name, data in self.files.items()}
        if hasattr(self, "fd"):
            os.close(self.fd)
            model["kept-bytes"] = self.shadow.hex()
        if hasattr(self, "map_"):
            self.map_.flush()
            self.map_.close()
            model["kept-map"] = self.map_shadow.hex()
        print(json.dumps({"steps": self.steps, "model": model}))


if __name__ == "__main__":
    Worker(sys.argv[1], int(sys.argv[2])).run(sys.argv[3:])
