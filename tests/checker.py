"""A randomised checker of coherence: many workers on several mounts write, map, truncate and read the same files and the views and partitions of the same
array, all at once, and every word that is read is compared with what the contract allows (docs/coherence.md).

Each block is a register.  What is written is a tag of who and which, repeated over the block, so a read tells whose write it saw.  A write
has a start, and a time by which it must be seen: when it returns under -o strict; else when the file is closed, fsynced or msynced.  A read sees
what completed before its beginning: the call under -o strict; else the open, or a second before for what is held open.  A read may return a
write's tag if the write had started when the read ended, unless another write that started after it must be seen was itself to be seen when
the read began.  (Blocks are pages: what is written to a mapping goes to the file by pages.)
"""

import collections
import json
import mmap
import os
import random
import struct
import threading
import time

import numpy as np

BLOCK = mmap.PAGESIZE
BLOCKS = 48
CHUNK = 16
MAPPED_S = 1.0  # after which the contract lets nobody see old pages
NEVER = float("inf")
WORDS = BLOCK // 8

Write = collections.namedtuple("Write", "tag start seen how fuzzy")


class Violation(AssertionError):
    pass


class Object:
    """A file or an array: paths under which its bytes are, each with the blocks that it holds and where they begin."""

    def __init__(self, name, paths, cuts=False):
        self.name, self.paths, self.cuts = name, paths, cuts
        self.writes = [[Write(0, -NEVER, -NEVER, "made", False)] for _ in range(BLOCKS)]

    def pick(self, rng, mappable=False):
        """A path, its offset of block 0, and a run of blocks in it."""
        path, offset, first, n = rng.choice([p for p in self.paths if not mappable or p[1] % BLOCK == 0])
        at = rng.randrange(n)
        return path, offset, first + at, rng.randint(1, min(3, n - at))


def make_file(place, name, cuts):
    (place / name).write_bytes(bytes(0 if cuts else BLOCK * BLOCKS))
    return Object(name, [(name, 0, 0, BLOCKS)], cuts)


def make_array(place, name):
    (place / name).mkdir()
    np.save(place / name / "data.npy", np.zeros(BLOCK * BLOCKS, np.uint8))
    header = os.stat(place / name / "data.npy").st_size - BLOCK * BLOCKS
    rows = json.loads((place / name / "zarr.json").read_text())["chunk_grid"]["configuration"]["chunk_shape"][0]
    assert rows == BLOCK * CHUNK, rows
    chunks = [(f"{name}/c/{i}", -i * CHUNK * BLOCK, i * CHUNK, CHUNK) for i in range(BLOCKS // CHUNK)]
    return Object(name, [(f"{name}/data", 0, 0, BLOCKS), (f"{name}/data.npy", header, 0, BLOCKS), *chunks])


class Worker(threading.Thread):
    def __init__(self, checker, number, turns):
        super().__init__(daemon=True)
        self.checker, self.number, self.turns = checker, number, turns
        self.place = checker.places[number % len(checker.places)]
        self.rng = random.Random(f"{checker.seed} {number}")
        self.sequence, self.held, self.maps, self.error = 0, {}, {}, None

    def run(self):
        try:
            for _ in range(self.turns):
                if self.checker.stop:
                    break
                self.turn(self.rng.choice(self.checker.objects))
        except BaseException as e:  # noqa: B902 - handed to the thread that waits
            self.error = e
            self.checker.stop = True
        for m in self.maps.values():
            m.close()
        for fd in self.held.values():
            os.close(fd)

    def turn(self, obj):
        choices = [self.write_fresh, self.write_held, self.read_fresh, self.read_fresh, self.read_held, self.read_held]
        choices += [self.cut] if obj.cuts else [self.write_map, self.read_map]
        self.rng.choice(choices)(obj)

    # ---- writing ----

    def tag(self):
        self.sequence += 1
        return self.number + 1 << 32 | self.sequence

    def begin(self, obj, blocks, how, tag, fuzzy=False):
        """A write counts as started before it is, and as never to be seen until it is."""
        write = Write(tag, time.monotonic(), NEVER, f"{how} on {self.place.parent.name}", fuzzy)
        for b in blocks:
            obj.writes[b].append(write)
        return write

    def end(self, obj, blocks, write):
        done = write._replace(seen=time.monotonic())
        for b in blocks:
            obj.writes[b][obj.writes[b].index(write)] = done

    def fd(self, path):
        if path not in self.held:
            self.held[path] = os.open(self.place / path, os.O_RDWR)
        return self.held[path]

    def map(self, path):
        if path not in self.maps:
            self.maps[path] = mmap.mmap(self.fd(path), 0)
        return self.maps[path]

    def write_fresh(self, obj):
        path, offset, first, n = obj.pick(self.rng)
        blocks, tag = range(first, first + n), self.tag()
        flags = self.rng.choice([os.O_RDWR, os.O_WRONLY])
        write = self.begin(obj, blocks, f"write {path}", tag)
        fd = os.open(self.place / path, flags)
        os.pwrite(fd, struct.pack("<Q", tag) * (WORDS * n), offset + first * BLOCK)
        if self.checker.strict:
            self.end(obj, blocks, write)
            os.close(fd)
        else:
            os.close(fd)
            self.end(obj, blocks, write)

    def write_held(self, obj):
        path, offset, first, n = obj.pick(self.rng)
        blocks, tag, fd = range(first, first + n), self.tag(), self.fd(path)
        write = self.begin(obj, blocks, f"held write {path}", tag)
        os.pwrite(fd, struct.pack("<Q", tag) * (WORDS * n), offset + first * BLOCK)
        if not self.checker.strict:
            os.fsync(fd)
        self.end(obj, blocks, write)

    def write_map(self, obj):
        """Other blocks' old words may go back to the file with a page that is half written, until the write is over."""
        path, offset, first, n = obj.pick(self.rng, mappable=True)
        blocks, tag, at = range(first, first + n), self.tag(), offset + first * BLOCK
        m = self.map(path)
        write = self.begin(obj, blocks, f"mapped write {path}", tag, fuzzy=True)
        m[at:at + n * BLOCK] = struct.pack("<Q", tag) * (WORDS * n)
        m.flush(at, n * BLOCK)
        self.end(obj, blocks, write)

    def cut(self, obj):
        size = self.rng.randrange(BLOCKS + 1)
        blocks = range(size, BLOCKS)
        write = self.begin(obj, blocks, f"cut {obj.name} to {size}", 0)
        if self.rng.random() < 0.5:
            os.truncate(self.place / obj.name, size * BLOCK)
        else:
            os.ftruncate(self.fd(obj.name), size * BLOCK)
        self.end(obj, blocks, write)

    # ---- reading ----

    def read_fresh(self, obj):
        path, offset, first, n = obj.pick(self.rng)
        begin = time.monotonic()
        fd = os.open(self.place / path, os.O_RDONLY)
        got = os.pread(fd, n * BLOCK, offset + first * BLOCK)
        os.close(fd)
        self.check(obj, first, n, got, begin, time.monotonic(), f"read {path}")

    def read_held(self, obj):
        path, offset, first, n = obj.pick(self.rng)
        fd, begin = self.fd(path), time.monotonic()
        got = os.pread(fd, n * BLOCK, offset + first * BLOCK)
        end = time.monotonic()
        self.check(obj, first, n, got, begin if self.checker.strict else begin - self.checker.late, end, f"held read {path}")

    def read_map(self, obj):
        path, offset, first, n = obj.pick(self.rng, mappable=True)
        m, begin, at = self.map(path), time.monotonic() - self.checker.late, offset + first * BLOCK
        got = m[at:at + n * BLOCK]
        self.check(obj, first, n, got, begin, time.monotonic(), f"mapped read {path}")

    def check(self, obj, first, n, got, begin, end, what):
        if obj.cuts:  # the kernel may have taken the size of a moment before, while this mount changes it
            begin -= self.checker.late
        words = set
        got = got.ljust(n * BLOCK, b"\0")  # behind the end are zeros for whoever makes the file longer
        for i in range(n):
            tags = words(np.frombuffer(got, np.uint64, WORDS, i * BLOCK).tolist())
            self.checker.check_block(obj, first + i, tags, begin, end, f"{what} on {self.place.parent.name}")


class Checker:
    def __init__(self, places, strict, seed, late=MAPPED_S):
        self.places, self.strict, self.seed, self.late = places, strict, seed, late
        os.setxattr(places[0], "user.slabfs.partition_bytes", str(BLOCK * CHUNK).encode())
        self.objects = [make_file(places[0], "kept", False), make_file(places[0], "cut", True), make_array(places[0], "x")]
        self.stop, self.reads = False, 0

    def check_block(self, obj, block, tags, begin, end, what):
        self.reads += 1
        writes = list(obj.writes[block])
        last = max((w for w in writes if w.seen < begin), key=lambda w: w.start)
        if any(w.fuzzy and w.start <= end and w.seen >= last.start for w in writes):
            return
        allowed = {w.tag for w in writes if w.start <= end and w.seen >= last.start}
        if tags <= allowed:
            return
        lines = [f"  {w.start:.6f}..{w.seen:.6f} {w.tag:#x} {w.how}" for w in writes[-12:]]
        raise Violation(f"seed {self.seed}: {what}, block {block} of {obj.name}, {begin:.6f}..{end:.6f}: saw {[hex(t) for t in tags]}, "
                        f"allowed are {[hex(t) for t in allowed]} of the writes\n" + "\n".join(lines))

    def run(self, workers, turns):
        threads = [Worker(self, i, turns) for i in range(workers)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        errors = [t.error for t in threads if t.error]
        if errors:
            raise errors[0]
        self.check_all()

    def check_all(self):
        """At the end nothing is under way: all mounts show the same."""
        for place in self.places:
            for obj in self.objects:
                for path, offset, first, n in obj.paths:
                    begin = time.monotonic()
                    with open(place / path, "rb") as f:
                        f.seek(offset + first * BLOCK)
                        got = f.read(n * BLOCK).ljust(n * BLOCK, b"\0")
                    for i in range(n):
                        tags = set(np.frombuffer(got, np.uint64, WORDS, i * BLOCK).tolist())
                        self.check_block(obj, first + i, tags, begin, time.monotonic(), f"read of {path} at the end, {place.parent.name}")
