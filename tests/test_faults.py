"""Faults from outside the process: calls that fail (libfiu), slow disks (strace), clocks that jump (libfaketime), peers and stores that
are not what they were.  Each gives a documented errno within the timeout; when the cause goes, work goes on and nothing acknowledged is lost."""

import errno
import os
import pathlib
import random
import shutil
import signal
import threading
import time

import cluster as cl
import numpy as np
import pytest

FIU = ["/usr/lib/fiu/fiu_run_preload.so", "/usr/lib/fiu/fiu_posix_preload.so"]
FAULTS = (errno.EIO, errno.ENOMEM, errno.ENOSPC, errno.ETIMEDOUT)

needs_fiu = pytest.mark.skipif(cl.SANITIZED != "" or not all(map(os.path.exists, FIU)),
                               reason="libfiu is not here, or a sanitizer does not go with its preloading")


class Fiu:
    """Programs that are run under `prefix` fail the calls that are asked for, by libfiu's remote control over named pipes."""

    def __init__(self, root):
        self.base = pathlib.Path(root) / "fiu"
        self.prefix = ("env", "LD_PRELOAD=" + " ".join(FIU), f"FIU_CTRL_FIFO={self.base}")

    def order(self, process, command):
        with open(f"{self.base}-{process.pid}.in", "w") as f:
            f.write(command + "\n")
        with open(f"{self.base}-{process.pid}.out") as f:
            assert f.read().strip() == "0", command

    def fail(self, process, points, probability, number=5):
        for p in points:
            self.order(process, f"enable_random name={p},probability={probability},failnum=1,failinfo={number}")

    def heal(self, process, points):
        for p in points:
            self.order(process, f"disable name={p}")


class Work:
    """Files, arrays and names on a mount; what was acknowledged is remembered and checked at the end."""

    def __init__(self, path, seed):
        self.path, self.rng = path, random.Random(seed)
        self.files, self.arrays, self.n, self.failed = {}, {}, 0, 0
        path.mkdir(exist_ok=True)

    def attempt(self, action):
        try:
            action()
        except OSError as e:
            assert e.errno in FAULTS, f"{action.__name__}: {e!r}"
            self.failed += 1

    def new_file(self):
        self.n += 1
        name, content = f"f{self.n}", self.rng.randbytes(self.rng.choice([10, 5000, 200_000]))
        fd = os.open(self.path / name, os.O_CREAT | os.O_WRONLY | os.O_EXCL, 0o644)
        try:
            done = 0
            while done < len(content):
                done += os.write(fd, content[done:])
            os.fsync(fd)
            self.files[name] = content
        finally:
            os.close(fd)

    def rename(self):
        if self.files:
            name = self.rng.choice(sorted(self.files))
            content = self.files.pop(name)  # a failed rename may have happened or not
            self.n += 1
            os.rename(self.path / name, self.path / f"r{self.n}")
            self.files[f"r{self.n}"] = content

    def remove(self):
        if len(self.files) > 5:
            name = self.rng.choice(sorted(self.files))
            del self.files[name]
            os.unlink(self.path / name)

    def read(self):
        if self.files:
            name = self.rng.choice(sorted(self.files))
            with open(self.path / name, "rb", buffering=0) as f:
                got = b""
                while piece := f.read(1 << 20):
                    got += piece
            assert got == self.files[name], f"{name}: {len(got)} bytes differ from what was acknowledged"

    def array(self):
        self.n += 1
        d = self.path / f"a{self.n}"
        d.mkdir()
        os.setxattr(d, "user.slabfs.partition_bytes", b"65536")
        a = np.frombuffer(self.rng.randbytes(200_000), "<i4")
        with open(d / "data.npy", "wb") as f:
            np.lib.format.write_array_header_1_0(f, np.lib.format.header_data_from_array_1_0(a))
            f.write(a.tobytes())
            f.flush()
            os.fsync(f.fileno())
        self.arrays[d.name] = a

    def reduce(self):
        if self.arrays:
            name = self.rng.choice(sorted(self.arrays))
            got = int((self.path / name / "compute" / "sum").read_text())
            assert got == int(self.arrays[name].sum(dtype="i8"))

    def list(self):
        os.listdir(self.path)

    def rounds(self, n):
        actions = [self.new_file, self.rename, self.remove, self.read, self.read, self.array, self.reduce, self.list]
        for _ in range(n):
            self.attempt(self.rng.choice(actions))

    def check(self):
        for name, content in self.files.items():
            assert (self.path / name).read_bytes() == content, name
        for name, a in self.arrays.items():
            assert np.array_equal(np.load(self.path / name / "data.npy"), a), name


def serves(path):
    try:
        (path / "probe").write_text("x")
        os.unlink(path / "probe")
        return True
    except OSError:
        return False


DISK = ["posix/io/rw/pread", "posix/io/rw/pwrite", "posix/io/rw/ftruncate", "posix/io/oc/open", "posix/io/dir/rename",
        "posix/io/dir/unlink", "posix/io/sync/fsync", "posix/io/sync/fdatasync"]
SHORT = ["posix/io/rw/pread/reduce", "posix/io/rw/pwrite/reduce"]
NET = ["posix/io/net/recvmsg", "posix/io/net/sendmsg", "posix/io/net/connect", "posix/io/net/poll"]


@needs_fiu
@pytest.mark.parametrize("points,probability", [(DISK, 0.03), (SHORT, 0.3), (NET, 0.01)], ids=["disk", "short", "network"])
@pytest.mark.parametrize("who", ["daemons", "mount"])
def test_calls_that_fail(fresh, tmp, who, points, probability):
    fiu = Fiu(tmp)
    c = fresh(2, mounts=0, options="timeout=3", fixed_ports=True, prefixes=[fiu.prefix if who == "daemons" else ()] * 2)
    m = c.mount(c.nodes[0].store, prefix=fiu.prefix if who == "mount" else ())
    work = Work(m.path / "w", 1)
    work.rounds(20)
    assert work.failed == 0
    victims = [n.process for n in c.nodes] if who == "daemons" else [m.process]
    for v in victims:
        fiu.fail(v, points, probability)
    work.rounds(150)
    for v in victims:
        fiu.heal(v, points)
    cl.until(lambda: serves(m.path), 20, "the cluster to serve again")
    assert points in (SHORT, NET) or work.failed > 0, "no call failed"  # those are tried again
    before = work.failed
    work.rounds(40)
    assert work.failed == before, m.errors()[-3:]
    work.check()
    assert all(v.running() for v in victims)


@pytest.fixture(scope="session")
def failmalloc(tmp_path_factory):
    if cl.SANITIZED:
        pytest.skip("a sanitizer has its own malloc")
    library = tmp_path_factory.mktemp("failmalloc") / "failmalloc.so"
    cl.run("cc", "-O1", "-shared", "-fPIC", "-o", library, cl.REPO / "tests" / "failmalloc.c", check=0)
    return library


@pytest.mark.parametrize("every", [200, 31, 7])
@pytest.mark.parametrize("who", ["daemons", "mount"])
def test_allocations_that_fail(fresh, tmp, failmalloc, who, every):
    control = tmp / "every"
    control.write_bytes(bytes(4))
    prefix = ("env", f"LD_PRELOAD={failmalloc}", f"FAILMALLOC={control}")
    c = fresh(2, mounts=0, options="timeout=3", fixed_ports=True, prefixes=[prefix if who == "daemons" else ()] * 2)
    m = c.mount(c.nodes[0].store, prefix=prefix if who == "mount" else ())
    work = Work(m.path / "w", every)
    work.rounds(20)
    assert work.failed == 0

    def fail(n):
        with open(control, "r+b") as f:
            f.write(n.to_bytes(4, "little"))

    fail(every)
    work.rounds(150)
    fail(0)
    cl.until(lambda: serves(m.path), 20, "the cluster to serve again")
    assert work.failed > 0
    before = work.failed
    work.rounds(40)
    assert work.failed == before, m.errors()[-3:]
    work.check()
    assert m.process.running() and all(n.process.running() for n in c.nodes)
