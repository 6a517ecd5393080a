"""Faults from outside the process: calls that fail (libfiu), slow disks (strace), clocks that jump (libfaketime), peers and stores that
are not what they were.  Each gives a documented errno within the timeout; when the cause goes, work goes on and nothing acknowledged is lost."""

import errno
import os
import pathlib
import random
import re
import shutil
import signal
import socket
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
    assert points is not DISK or who == "mount" or work.failed > 0, "no call failed"  # others are made up for
    before = work.failed
    work.rounds(40)
    assert work.failed == before, m.errors()[-3:]
    work.check()
    assert all(v.running() for v in victims)


@pytest.fixture(scope="session")
def preload(tmp_path_factory):
    """preload(name): the library that tests/name.c makes."""
    def make(name):
        if cl.SANITIZED:
            pytest.skip("a sanitizer wants to be the first that is loaded")
        library = tmp_path_factory.mktemp(name) / f"{name}.so"
        cl.run("cc", "-O1", "-shared", "-fPIC", "-o", library, cl.REPO / "tests" / f"{name}.c", check=0)
        return library

    return make


@pytest.mark.parametrize("every", [200, 31, 7])
@pytest.mark.parametrize("who", ["daemons", "mount"])
def test_allocations_that_fail(fresh, tmp, preload, who, every):
    control = tmp / "every"
    control.write_bytes(bytes(4))
    prefix = ("env", f"LD_PRELOAD={preload('failmalloc')}", f"FAILMALLOC={control}")
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


# ---- stores and peers that are not what they were ----

def ends(node, timeout=20):
    """Starts the node's daemon, which is to give up by itself, and returns what it said."""
    process = cl.Process([cl.program("slabfsd"), node.store], node.log)
    assert process.wait(timeout) == 1
    return process.text()


def reads(work):
    try:
        for name in work.arrays:
            (work.path / name / "data.npy").read_bytes()
        return True
    except OSError:
        return False


def test_an_old_store_comes_back(fresh, tmp):
    c = fresh(2, fixed_ports=True)
    m, node = c.mounts[0], c.nodes[1]
    work = Work(m.path / "w", 5)
    work.rounds(30)
    c.unmount(c.mounts[1])
    node.stop()
    old = tmp / "old"
    shutil.copytree(node.store, old)
    node.start()
    work.rounds(30)
    work.check()
    node.stop()
    shutil.move(node.store, tmp / "current")
    shutil.copytree(old, node.store)
    assert "older copy" in ends(node)
    with cl.expect_errno(errno.EIO, errno.ETIMEDOUT):
        for name in work.arrays:
            (m.path / "w" / name / "data.npy").read_bytes()
            (m.path / "w" / name / "compute" / "sum").read_text()
    shutil.rmtree(node.store)
    shutil.move(tmp / "current", node.store)
    node.start()
    cl.until(lambda: serves(m.path) and reads(work), 20, "the node to be asked again")
    work.check()
    assert work.failed == 0


def test_an_old_store_is_taken_on_demand(fresh, tmp):
    c = fresh(2, mounts=1, fixed_ports=True)
    node = c.nodes[1]
    node.stop()
    shutil.copytree(node.store, tmp / "old")
    node.start()
    node.stop()
    shutil.rmtree(node.store)
    shutil.copytree(tmp / "old", node.store)
    assert "older copy" in ends(node)
    process = cl.Process([cl.program("slabfsd"), "--accept-copy", node.store], node.log)
    process.wait_line(r"^slabfsd: node 2 ready")
    process.signal(signal.SIGTERM)
    assert process.wait() == 0
    node.start()
    Work(c.mounts[0].path / "w", 6).rounds(10)


def test_starts_that_the_head_does_not_hear_of(fresh):
    """They are no reason to take the store for a copy."""
    c = fresh(2, mounts=1, fixed_ports=True)
    head, node = c.nodes
    head.stop()
    node.process.kill()
    for _ in range(3):
        process = cl.Process([cl.program("slabfsd"), node.store], node.log)
        cl.until(lambda: (node.store / "lineage").read_text().count("announced") > _, 20)
        process.kill()
    head.start()
    node.start()
    node.process.kill()
    node.start()
    Work(c.mounts[0].path / "w", 7).rounds(10)


def test_two_nodes_with_one_identity(fresh, tmp):
    c = fresh(2, mounts=1, fixed_ports=True)
    m, node = c.mounts[0], c.nodes[1]
    node.stop()
    twin = tmp / "twin"
    shutil.copytree(node.store, twin)
    node.start()
    work = Work(m.path / "w", 8)
    work.rounds(20)
    text = (twin / "superblock.json").read_text().replace(node.address, f"127.0.0.1:{cl.free_port()}")
    (twin / "superblock.json").write_text(text)
    process = cl.Process([cl.program("slabfsd"), twin], tmp / "twin.log")
    assert process.wait() == 1
    assert "older copy" in process.text()
    work.rounds(20)
    work.check()
    assert work.failed == 0


# ---- the disk ----

def test_no_inodes_left(fresh, tmp):
    store = tmp / "few"
    store.mkdir()
    cl.run("mount", "-t", "tmpfs", "-o", "size=64m,nr_inodes=400", "none", store, check=0)
    c = None
    try:
        c = fresh(1, stores=[store / "s"])
        d = c.mounts[0].path / "d"
        d.mkdir()
        made = 0
        with cl.expect_errno(errno.ENOSPC):
            while made < 1000:
                (d / f"f{made}").write_text(f"content {made}")
                made += 1
        assert 20 < made < 400
        assert all((d / f"f{i}").read_text() == f"content {i}" for i in range(made))
        for name in os.listdir(d):
            os.unlink(d / name)
        cl.until(lambda: serves(d), 20, "room for another file")
        Work(d / "w", 9).rounds(10)
    finally:
        if c:
            c.stop()
        cl.run("umount", "-l", store)


@pytest.mark.skipif(cl.SANITIZED != "" or not shutil.which("strace"), reason="needs strace, and the sanitizers' own tracing not")
def test_a_slow_disk(fresh):
    """One node's disk is slow: what lies there is late, not lost, and names and the other nodes do not wait for it."""
    slow = ("strace", "-D", "-f", "-qq", "-o", "/dev/null", "-e", "trace=pread64,pwrite64,fdatasync,fsync", "-e",
            "inject=pread64,pwrite64,fdatasync,fsync:delay_enter=50000")
    c = fresh(2, mounts=1, prefixes=[(), slow], options="timeout=20")
    m = c.mounts[0]
    work = Work(m.path / "w", 10)
    other = Work(m.path / "names", 11)
    thread = threading.Thread(target=work.rounds, args=(15,))
    thread.start()
    while thread.is_alive():
        other.list()
        (m.path / "names" / "d").mkdir()
        (m.path / "names" / "d").rmdir()
    thread.join()
    work.check()
    assert work.failed == 0


# ---- the clock ----

@pytest.mark.parametrize("who", ["head", "node", "mount"])
def test_the_clock_jumps(fresh, tmp, preload, who):
    """The time of day may jump; only the times that files show follow it."""
    shift = tmp / "shift"
    shift.write_bytes(bytes(8))
    fake = ("env", f"LD_PRELOAD={preload('shiftclock')}", f"SHIFTCLOCK={shift}")
    c = fresh(2, mounts=0, prefixes=[fake if who == "head" else (), fake if who == "node" else ()], options="timeout=5")
    m = c.mount(c.nodes[0].store, prefix=fake if who == "mount" else ())
    work = Work(m.path / "w", 12)
    for days in (0, 400, -300, 0):
        with open(shift, "r+b") as f:
            f.write((days * 86400).to_bytes(8, "little", signed=True))
        work.rounds(25)
        if who == "head":
            (m.path / f"made{days}").write_text("")
            assert abs(os.stat(m.path / f"made{days}").st_mtime - time.time() - days * 86400) < 60 * cl.SLOWER
    work.check()
    assert work.failed == 0, m.errors()[-3:]
    assert len(re.findall(r"\bup\b", c.ctl("nodes", check=0).stdout)) == 2


# ---- the wire ----

class Cutter:
    """A relay on a port of its own that cuts each connection after a random number of bytes, both ways at once."""

    def __init__(self, target, seed, most):
        host, port = target.rsplit(":", 1)
        self.target, self.rng, self.most = (host, int(port)), random.Random(seed), most
        self.cuts, self.on, self.lock = 0, True, threading.Lock()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = "127.0.0.1:%d" % self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                a, _ = self.listener.accept()
            except OSError:
                return
            b = socket.create_connection(self.target)
            with self.lock:
                budget = [self.rng.randrange(2000, self.most)]
            for x, y in ((a, b), (b, a)):
                threading.Thread(target=self.relay, args=(x, y, budget), daemon=True).start()

    def relay(self, x, y, budget):
        try:
            while piece := x.recv(65536):
                with self.lock:
                    if self.on:
                        piece = piece[:max(budget[0], 0)]
                        budget[0] -= len(piece)
                    over = self.on and budget[0] <= 0
                    self.cuts += over
                y.sendall(piece)
                if over:
                    break
        except OSError:
            pass
        for s in (x, y):
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def close(self):
        self.listener.close()


def test_connections_that_are_cut_in_frames(fresh):
    """The requests for names go through a relay that cuts them anywhere; each change happens once, and nobody hears of it."""
    c = fresh(1, mounts=0)
    relay = Cutter(c.nodes[0].address, 13, 100_000)
    try:
        m = c.mount(relay.address, options=f"key={c.nodes[0].key},timeout=10")
        work = Work(m.path / "w", 14)
        work.rounds(150)
        assert work.failed == 0, m.errors()[-3:]
        assert relay.cuts > 1
        work.check()
        on_mount = sorted(n for n in os.listdir(m.path / "w") if n[0] in "fr")
        assert on_mount == sorted(work.files)
    finally:
        relay.on = False
        relay.close()
