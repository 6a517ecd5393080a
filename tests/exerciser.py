"""An exerciser of files in the manner of fsx: each turn does one thing to one file, through any of several directories that should be the same,
and compares what it sees with a shadow file on a local disk.

Only what is complete when the next turn begins is compared, so one directory, or several mounts under -o strict, must never differ.
A failure names the seed and prints the last turns.
"""

import mmap
import os
import random

PAGE = mmap.PAGESIZE


class Exerciser:
    def __init__(self, places, shadow, seed, largest=200_000):
        self.places, self.seed, self.largest = list(places), seed, largest
        self.rng = random.Random(seed)
        self.name, self.renames = "x0", 0
        self.history = []
        self.shadow = os.open(shadow, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        self.places[0].joinpath(self.name).touch()
        self.open_all()

    def open_all(self):
        flags = [os.O_RDWR, os.O_WRONLY, os.O_WRONLY | os.O_APPEND]
        self.fds, self.writers, self.appenders = ([os.open(p / self.name, f) for p in self.places] for f in flags)

    def close_all(self):
        for fd in self.fds + self.writers + self.appenders:
            os.close(fd)

    def close(self):
        self.close_all()
        os.close(self.shadow)

    def size(self):
        return os.fstat(self.shadow).st_size

    def span(self, limit):
        at = self.rng.randrange(limit + 1)
        return at, min(limit - at, self.rng.choice([1, 100, 5000, 70000]))

    def same(self, got, want, what):
        if got == want:
            return
        at = next((i for i, (a, b) in enumerate(zip(got, want)) if a != b), min(len(got), len(want)))
        turns = "\n".join(map(str, self.history[-15:]))
        raise AssertionError(f"seed {self.seed}: {what}: {len(got)} bytes, expected {len(want)}, differ at {at}: "
                             f"{got[at:at + 8]!r} instead of {want[at:at + 8]!r}\n{turns}")

    def read(self, i):
        at, n = self.span(self.size() + 1000)
        self.history.append(("read", i, at, n))
        self.same(os.pread(self.fds[i], n, at), os.pread(self.shadow, n, at), "read")

    def write(self, i):
        at, n = self.span(self.largest)
        piece = self.rng.randbytes(n)
        self.history.append(("write", i, at, n))
        fd = self.rng.choice([self.fds, self.writers])[i]
        assert os.pwrite(fd, piece, at) == os.pwrite(self.shadow, piece, at)

    def append(self, i):
        piece = self.rng.randbytes(self.rng.randrange(1, 5000))
        if self.size() + len(piece) > self.largest:
            return
        self.history.append(("append", i, self.size(), len(piece)))
        os.write(self.appenders[i], piece)
        os.pwrite(self.shadow, piece, self.size())

    def map(self, i):
        """What is behind the end in a mapping is no part of the file."""
        if self.size() == 0:
            return
        at, n = self.span(self.size())
        self.history.append(("map", i, at, n))
        start = at - at % PAGE
        assert os.fstat(self.fds[i]).st_size == self.size(), (self.seed, self.history[-15:])
        with mmap.mmap(self.fds[i], at + n - start or 1, access=mmap.ACCESS_READ, offset=start) as m:
            self.same(m[at - start:at - start + n], os.pread(self.shadow, n, at), "mapped read")

    def map_write(self, i):
        if self.size() == 0:
            return
        at, n = self.span(self.size())
        start = at - at % PAGE
        piece = self.rng.randbytes(n)
        self.history.append(("map write", i, at, n))
        assert os.fstat(self.fds[i]).st_size == self.size(), (self.seed, self.history[-15:])
        with mmap.mmap(self.fds[i], at + n - start or 1, offset=start) as m:
            m[at - start:at - start + n] = piece
            m.flush()
        os.pwrite(self.shadow, piece, at)

    def truncate(self, i):
        size = self.rng.choice([0, self.rng.randrange(self.largest), self.size() // 2])
        self.history.append(("truncate", i, self.size(), size))
        if self.rng.random() < 0.5:
            os.ftruncate(self.fds[i], size)
        else:
            os.truncate(self.places[i] / self.name, size)
        os.ftruncate(self.shadow, size)

    def stat(self, i):
        self.history.append(("stat", i, self.size()))
        assert os.fstat(self.fds[i]).st_size == self.size(), (self.seed, self.history[-15:])
        assert os.stat(self.places[i] / self.name).st_size == self.size(), (self.seed, self.history[-15:])

    def rename(self, i):
        self.renames += 1
        new = f"x{self.renames}"
        self.history.append(("rename", i, self.name, new))
        os.rename(self.places[i] / self.name, self.places[i] / new)
        old, self.name = self.name, new
        for place in self.places:
            assert not os.path.exists(place / old), (self.seed, self.history[-15:])

    def replace(self, i):
        """A new file under the name; the old one stays open for a look."""
        self.history.append(("replace", i))
        piece = self.rng.randbytes(self.rng.randrange(5000))
        other = self.rng.randrange(len(self.places))
        (self.places[i] / "new").write_bytes(piece)
        os.rename(self.places[other] / "new", self.places[other] / self.name)
        self.same(os.pread(self.fds[i], 1 << 20, 0), os.pread(self.shadow, 1 << 20, 0), "read of what was replaced")
        self.close_all()
        os.ftruncate(self.shadow, 0)
        os.pwrite(self.shadow, piece, 0)
        self.open_all()

    def reopen(self, i):
        self.history.append(("reopen",))
        self.close_all()
        self.open_all()

    def list(self, i):
        self.history.append(("list", i))
        assert os.listdir(self.places[i]) == [self.name], (self.seed, self.history[-15:])

    def run(self, turns, without=()):
        weights = {"read": 6, "write": 6, "append": 3, "map": 4, "map_write": 4, "truncate": 2, "stat": 3, "rename": 1, "replace": 1,
                   "reopen": 1, "list": 1}
        names = [n for n in weights if n not in without]
        for _ in range(turns):
            what = self.rng.choices(names, [weights[n] for n in names])[0]
            getattr(self, what)(self.rng.randrange(len(self.places)))
        content = os.pread(self.shadow, self.size(), 0)
        for place in self.places:
            self.same((place / self.name).read_bytes(), content, f"at the end, in {place}")
