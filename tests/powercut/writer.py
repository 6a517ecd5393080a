"""Writes to a mount in many ways until it is killed, and notes what was promised to it; `check` says what is missing afterwards.

    writer.py DIRECTORY JOURNAL SEED

Each way is a class: run() goes on for ever, calling begin(key, n) before step n of what `key` names and done(key, n) when an fsync (or msync, or fsync of
the directory) after it has returned.  After a crash, whatever `key` names must be as after one of the steps from the last one done to
the last one begun.  Lines of the journal: "b WAY KEY STEP" and "d WAY KEY STEP".
"""

import os
import random
import sys
import threading

import numpy as np

ITEMS, CHUNK = 4096, 1024  # of the arrays: int64 in four partitions
NEVER = -1


def fsync_path(path):
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def text_of(*words):
    """Bytes that no other words give, never zero, of a length that varies."""
    rng = random.Random(repr(words))
    return bytes(rng.randrange(1, 256) for _ in range(rng.choice((1, 100, 700, 5000))))


def versioned(version, size):
    """Bytes that tell their version: none is zero."""
    return bytes([1 + version % 255]) * size


class Way:
    def __init__(self, directory, seed, journal=None):
        self.directory, self.rng, self.journal, self.seed = directory, random.Random(f"{type(self).__name__} {seed}"), journal, seed

    def note(self, what, key, n):
        os.write(self.journal, f"{what} {type(self).__name__} {key} {n}\n".encode())

    def begin(self, key, n):
        self.note("b", key, n)

    def done(self, key, n):
        self.note("d", key, n)

    def path(self, *names):
        return os.path.join(self.directory, *map(str, names))

    def setup(self):
        """Before the clock runs."""


class Append(Way):
    """Records at the end of a file, each with an fsync.  Key: the file."""

    def run(self):
        for f in range(1000):
            fd = os.open(self.path(f"log{f}"), os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o644)
            for n in range(25):
                self.begin(f, n)
                os.write(fd, text_of(self.seed, f, n))
                os.fsync(fd)
                self.done(f, n)
            os.close(fd)

    def check(self, key, done, begun):
        try:
            got = open(self.path(f"log{key}"), "rb").read()
        except FileNotFoundError:
            return done != NEVER and "the file is gone"
        sure = b"".join(text_of(self.seed, key, n) for n in range(done + 1))
        rest = b"".join(text_of(self.seed, key, n) for n in range(done + 1, begun + 1))
        if got[:len(sure)] != sure:
            return f"{len(got)} bytes, of {len(sure)} that were fsynced"
        tail = got[len(sure):]
        return (len(tail) > len(rest) or any(a not in (b, 0) for a, b in zip(tail, rest))) and "bytes that nobody wrote"


class Array(Way):
    """Versions of slices of an int64 array.  Key: the slice."""
    width = 100
    gap_is_zero = False

    def setup(self):
        self.array = self.path(type(self).__name__)
        os.mkdir(self.array)
        os.setxattr(self.array, "user.slabfs.partition_bytes", str(8 * CHUNK).encode())
        np.save(self.array + "/data.npy", np.zeros(ITEMS, "<i8"))
        fsync_path(self.array + "/data.npy")
        fsync_path(self.directory)

    def run(self):
        for n in range(1, 1000000):
            key = self.rng.randrange(ITEMS // self.width)
            self.begin(key, n)
            self.write(key * self.width, n)
            self.done(key, n)

    def check(self, key, done, begun):
        try:
            a = np.load(self.path(type(self).__name__, "data.npy"))[key * self.width:(key + 1) * self.width]
        except FileNotFoundError:
            return done != NEVER and "the array is gone"
        fine = (a >= max(done, 0)) & (a <= max(begun, 0))
        if self.gap_is_zero and begun > done:
            fine |= a == 0
        return not fine.all() and f"versions {sorted(set(a[~fine].tolist()))} instead of {done}..{begun}"


class Memmap(Array):
    width = 300

    def setup(self):
        super().setup()
        self.map = np.memmap(self.array + "/data", "<i8", "r+")

    def write(self, at, n):
        self.map[at:at + self.width] = n
        self.map.flush()


class Data(Array):
    width = 37

    def setup(self):
        super().setup()
        self.fd = os.open(self.array + "/data", os.O_RDWR)

    def write(self, at, n):
        os.pwrite(self.fd, np.full(self.width, n, "<i8").tobytes(), 8 * at)
        os.fsync(self.fd)


class Chunks(Array):
    """Whole chunks, cut to nothing first or not."""
    width = CHUNK
    gap_is_zero = True

    def write(self, at, n):
        with open(f"{self.array}/c/{at // CHUNK}", self.rng.choice(("wb", "r+b"))) as f:
            f.write(np.full(CHUNK, n, "<i8").tobytes())
            f.flush()
            os.fsync(f.fileno())


class Partial(Array):
    """As Zarr replaces a chunk, with fsyncs: all of it or nothing of it."""
    width = CHUNK

    def write(self, at, n):
        name = f"{self.array}/c/{at // CHUNK}"
        with open(f"{name}.{n:x}.partial", "wb") as f:
            f.write(np.full(CHUNK, n, "<i8").tobytes())
            f.flush()
            if self.rng.randrange(3):  # else the fsync of the directory is to do for it
                os.fsync(f.fileno())
        os.rename(f"{name}.{n:x}.partial", name)
        fsync_path(name)
        fsync_path(f"{self.array}/c")

    def check(self, key, done, begun):
        a = np.load(self.path("Partial", "data.npy"))[key * CHUNK:(key + 1) * CHUNK]
        return super().check(key, done, begun) or (len(set(a.tolist())) > 1 and f"a mixture of {sorted(set(a.tolist()))}")


class Names(Way):
    """The life of a file: made, given an attribute, renamed, linked into a new directory, removed.  Key: the file."""

    def run(self):
        for key in range(100000):
            steps = [self.make, self.attribute, self.rename, self.link, self.remove]
            for n, step in enumerate(steps[:self.rng.randrange(1, 6)]):
                self.begin(key, n)
                step(key)
                self.done(key, n)

    def make(self, key):
        with open(self.path(f"a{key}"), "wb") as f:
            f.write(text_of(self.seed, key))
            f.flush()
            os.fsync(f.fileno())

    def attribute(self, key):
        os.setxattr(self.path(f"a{key}"), "user.key", str(key).encode())
        os.chmod(self.path(f"a{key}"), 0o601)
        fsync_path(self.path(f"a{key}"))

    def rename(self, key):
        os.rename(self.path(f"a{key}"), self.path(f"b{key}"))
        fsync_path(self.directory)

    def link(self, key):
        os.mkdir(self.path(f"d{key}"))
        os.link(self.path(f"b{key}"), self.path(f"d{key}", "c"))
        os.symlink("c", self.path(f"d{key}", "s"))
        fsync_path(self.path(f"d{key}"))

    def remove(self, key):
        os.unlink(self.path(f"b{key}"))
        fsync_path(self.directory)

    def check(self, key, done, begun):
        a, b, c = (os.path.exists(self.path(*p)) for p in ([f"a{key}"], [f"b{key}"], [f"d{key}", "s"]))
        place = self.path(f"a{key}") if a else self.path(f"d{key}", "c") if c else self.path(f"b{key}") if b else None
        first, last = {(0, 0, 0): (-1, -1), (1, 0, 0): (0, 1), (0, 1, 0): (2, 2), (0, 1, 1): (3, 3),
                       (0, 0, 1): (4, 4)}.get((a, b, c), (9, 9))
        if last < done or first > begun:
            return f"the names are {a} {b} {c} after step {done}..{begun}"
        if place and done >= 0 and open(place, "rb").read() != text_of(self.seed, key):
            return "other bytes"
        if place and done >= 1 and (os.getxattr(place, "user.key") != str(key).encode() or os.stat(place).st_mode & 0o777 != 0o601):
            return "other attributes"
        return None


class Replace(Way):
    """A file that is written beside and renamed.  Key: the file."""

    def run(self):
        for n in range(1000000):
            key = self.rng.randrange(4)
            self.begin(key, n)
            with open(self.path(f"new{key}"), "wb") as f:
                f.write(versioned(n, 3000 + n))
                f.flush()
                os.fsync(f.fileno())
            os.rename(self.path(f"new{key}"), self.path(f"replaced{key}"))
            fsync_path(self.directory)
            self.done(key, n)

    def check(self, key, done, begun):
        try:
            got = open(self.path(f"replaced{key}"), "rb").read()
        except FileNotFoundError:
            return done != NEVER and "the file is gone"
        n = len(got) - 3000
        return not (done <= n <= begun and got == versioned(n, 3000 + n)) and f"version {n} instead of {done}..{begun}"


class Truncate(Way):
    """Files that are written, cut and made long again: what was cut off never comes back.  Key: the file."""
    size = 20000

    def run(self):
        for key in range(100000):
            fd = os.open(self.path(f"cut{key}"), os.O_CREAT | os.O_RDWR, 0o644)
            for n, step in enumerate((self.fill, self.cut, self.extend, self.fill_end)):
                self.begin(key, n)
                step(fd, key)
                os.fsync(fd)
                self.done(key, n)
            os.close(fd)

    def at(self, key):
        return random.Random(f"{self.seed} {key}").choice((0, 1, 4096, 8192, 9999))

    def fill(self, fd, key):
        os.pwrite(fd, versioned(1, self.size), 0)

    def cut(self, fd, key):
        os.ftruncate(fd, self.at(key))

    def extend(self, fd, key):
        os.ftruncate(fd, self.size)

    def fill_end(self, fd, key):
        os.pwrite(fd, versioned(2, 100), self.size - 100)

    def check(self, key, done, begun):
        path, at = self.path(f"cut{key}"), self.at(key)
        try:
            got = open(path, "rb").read()
        except FileNotFoundError:
            return done != NEVER and "the file is gone"
        if done >= 0 and got[:at] != versioned(1, at):
            return "what was fsynced and kept is gone"
        if done == 0 and begun == 0 and got != versioned(1, self.size):
            return "what was fsynced is gone"
        if (done == 1 and len(got) not in (at, self.size)) or (done >= 2 and len(got) != self.size):
            return f"{len(got)} bytes after step {done}"
        if (done >= 1 or (begun >= 1 and len(got) == at)) and 1 in self.extended(path, got)[at:]:
            return "what was cut off is back"
        return done == 3 and got[-100:] != versioned(2, 100) and "the end is gone"

    def extended(self, path, got):
        """The bytes as numbers of versions, after the file has been made long again."""
        os.truncate(path, self.size)
        return [b - 1 for b in open(path, "rb").read()]


class Save(Way):
    """np.save of a new array.  Key: the array."""

    def run(self):
        for key in range(100000):
            self.begin(key, 0)
            os.mkdir(self.path(f"saved{key}"))
            with open(self.path(f"saved{key}", "data.npy"), "wb") as f:
                np.save(f, np.arange(key, key + 700.))
                f.flush()
                os.fsync(f.fileno())
            fsync_path(self.path(f"saved{key}"))
            self.done(key, 0)

    def check(self, key, done, begun):
        if done == NEVER:
            return None
        return not np.array_equal(np.load(self.path(f"saved{key}", "data.npy")), np.arange(key, key + 700.)) and "other values"


WAYS = [Append, Memmap, Data, Chunks, Partial, Names, Replace, Truncate, Save]


def check(directory, journal, seed):
    """(number of keys, what is wrong)"""
    done, begun = {}, {}
    for line in open(journal):
        what, *key, n = line.split()
        (begun if what == "b" else done)[tuple(key)] = int(n)
    wrong = []
    for name, key in begun:
        way = next(w for w in WAYS if w.__name__ == name)(directory, seed)
        state = done.get((name, key), NEVER), begun[name, key]
        try:
            problem = way.check(int(key), *state)
        except (OSError, ValueError, EOFError) as e:
            problem = repr(e)
        if problem:
            wrong.append(f"{name} {key} after {state}: {problem}")
    return len(done), wrong


def main():
    directory, journal, seed = sys.argv[1], sys.argv[2], int(sys.argv[3])
    fd = os.open(journal, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o644)
    ways = [w(directory, seed, fd) for w in WAYS]
    for way in ways:
        way.setup()
    print("writer: ready", flush=True)

    def run(way):
        try:
            way.run()
        except OSError as e:
            print(f"{type(way).__name__}: {e!r}", flush=True)

    threads = [threading.Thread(target=run, args=(w,), daemon=True) for w in ways]
    for t in threads:
        t.start()
    for t in threads:
        t.join()


if __name__ == "__main__":
    main()
