"""What was acknowledged by an fsync is there after a kill and after a power cut, bit for bit.

The stores of the power cuts lie on forgetfs (tests/powercut), which keeps what was fsynced and a seeded part of the rest.
"""

import errno
import os
import pathlib
import random
import sys
import time

import cluster as cl
import numpy as np
import pytest

POWERCUT = cl.REPO / "tests" / "powercut"
sys.path.insert(0, str(POWERCUT))
import writer  # noqa: E402

NOSYNC = ("env", f"LD_PRELOAD={cl.BUILD}/powercut/nosync.so")


class Disk:
    """A forgetfs, and the directory that holds what survived its last power cut."""

    def __init__(self, root, name, scattered=False):
        self.root, self.name, self.scattered, self.cuts = pathlib.Path(root), name, scattered, 0
        self.path = self.root / name
        self.path.mkdir()
        self.state.mkdir()
        self.start()

    @property
    def state(self):
        return self.root / f"{self.name}-after-{self.cuts}"

    def start(self):
        argv = [cl.BUILD / "powercut" / "forgetfs", *(["-s"] if self.scattered else []), self.state, self.path]
        self.process = cl.Process(argv, self.root / f"{self.name}.log")
        self.process.wait_line("^forgetfs: ready")

    def command(self, text):
        fd = os.open(self.path / ".forget", os.O_WRONLY)
        try:
            os.write(fd, text.encode())
        finally:
            os.close(fd)

    def unsynced(self):
        """Names of files of which something is not durable."""
        return set((self.path / ".forget").read_text().split())

    def cut(self, seed):
        self.cuts += 1
        self.state.mkdir()
        self.command(f"cut {seed} {self.state}")

    def unmount(self):
        if cl.is_mounted(self.path):
            cl.run("umount", "-l", self.path)
        self.process.wait()


class Rig:
    """A cluster that is killed again and again, and what was promised to its users."""

    def __init__(self, root, nodes=2, powercut=None, prefix=()):
        self.root = pathlib.Path(root)
        self.disks = [Disk(root, f"d{i + 1}", powercut == "scattered") for i in range(nodes)] if powercut else []
        stores = [d.path / "s" for d in self.disks] or None
        self.cluster = cl.Cluster(root, nodes, mounts=0, fixed_ports=True, stores=stores, prefixes=[prefix] * nodes)
        self.mount = None
        self.rounds = []

    def write_until(self, rng):
        """Starts a writer and lets it work for a while."""
        seed = len(self.rounds)
        name, journal = f"round{seed}", self.root / f"journal{seed}"
        os.mkdir(self.mount / name)
        fd = os.open(self.mount.path, os.O_RDONLY)
        os.fsync(fd)
        os.close(fd)
        self.rounds.append((name, journal, seed))
        self.writer = cl.Process(["/usr/bin/python3", POWERCUT / "writer.py", self.mount / name, journal, seed],
                                 self.root / f"writer{seed}.log")
        self.writer.wait_line("^writer: ready")
        time.sleep(rng.random() ** 2)

    def start_mount(self):
        self.mount = cl.Mount(self.cluster.nodes[0].store, self.root / "m", self.root / "slabfs.log")

    def end_mount(self):
        """-f, because a killed mount may wait for a page that a reader has locked, who waits for the mount."""
        self.mount.process.signal(cl.signal.SIGKILL)
        cl.run("umount", "-f", self.mount.path)
        cl.run("umount", "-l", self.mount.path)
        self.mount.process.wait()
        self.writer.kill()

    def kill(self, nodes):
        for node in nodes:
            node.process.signal(cl.signal.SIGKILL)
        for node in nodes:
            node.process.wait()

    def check(self, rounds):
        promised = 0
        for name, journal, seed in rounds:
            n, wrong = writer.check(str(self.mount / name), journal, seed)
            assert not wrong, f"round {seed}: " + "; ".join(wrong[:8])
            promised += n
        return promised

    def stop(self):
        problems = self.mount.unmount() if self.mount else ""
        problems = [problems] * bool(problems) + self.cluster.stop()
        for disk in self.disks:
            disk.unmount()
        return problems


@pytest.fixture
def rig(request, tmp):
    made = []

    def make(**kwargs):
        made.append(Rig(tmp, **kwargs))
        request.node.clusters = [made[-1].cluster]
        return made[-1]

    yield make
    for r in made:
        problems = r.stop()
        assert not problems or getattr(r, "lossy", False), problems


def survives_kills(rig, seeds):
    """Any process, or all of them, are killed while a writer works."""
    r, promised = rig(), 0
    r.start_mount()
    for seed in seeds:
        rng = random.Random(seed)
        r.write_until(rng)
        nodes = [n for n in r.cluster.nodes if rng.randrange(2)]
        for kill in rng.sample([lambda: r.kill(nodes), r.end_mount], 2):
            kill()
        for node in nodes:
            node.start()
        r.start_mount()
        promised += r.check(r.rounds[-2:])
    return promised + r.check(r.rounds)


def survives_cuts(r, seeds):
    """The power goes, for all stores or for one, while a writer works."""
    promised = 0
    r.start_mount()
    for seed in seeds:
        rng = random.Random(seed)
        r.write_until(rng)
        victims = rng.choice([r.disks, r.disks[:1], r.disks[1:]])
        for disk in victims:
            disk.cut(rng.randrange(2**32))
        r.kill(r.cluster.nodes)
        r.end_mount()
        for disk in victims:
            disk.unmount()
            disk.start()
        for node in r.cluster.nodes:
            node.start()
        r.start_mount()
        promised += r.check(r.rounds[-2:])
    return promised + r.check(r.rounds)


def test_kills(rig):
    assert survives_kills(rig, range(8)) > 100


@pytest.mark.long
@pytest.mark.watchdog(1800)
@pytest.mark.parametrize("first", range(0, 200, 50))
def test_many_kills(rig, first):
    survives_kills(rig, range(1000 + first, 1050 + first))


@pytest.mark.parametrize("order", ["ordered", "scattered"])
def test_power_cuts(rig, order):
    assert survives_cuts(rig(powercut=order), range(10)) > 100


@pytest.mark.long
@pytest.mark.watchdog(1800)
@pytest.mark.parametrize("first", range(0, 200, 50))
@pytest.mark.parametrize("order", ["ordered", "scattered"])
def test_many_power_cuts(rig, order, first):
    survives_cuts(rig(powercut=order), range(1000 + first, 1050 + first))


def survives_cuts_of_a_node(r, seeds):
    """The power goes for a node that is not the head, while the mount and the writer go on: what they are told is true."""
    promised = 0
    r.start_mount()
    for seed in seeds:
        rng = random.Random(seed)
        r.write_until(rng)
        r.disks[1].cut(rng.randrange(2**32))
        r.kill(r.cluster.nodes[1:])
        r.disks[1].unmount()
        r.disks[1].start()
        r.cluster.nodes[1].start()
        time.sleep(rng.random() / 2)
        r.end_mount()
        r.start_mount()
        promised += r.check(r.rounds[-2:])
    return promised + r.check(r.rounds)


@pytest.mark.parametrize("order", ["ordered", "scattered"])
def test_power_cuts_of_a_node(rig, order):
    assert survives_cuts_of_a_node(rig(powercut=order), range(4)) > 50


@pytest.mark.long
@pytest.mark.watchdog(1800)
def test_many_power_cuts_of_a_node(rig):
    survives_cuts_of_a_node(rig(powercut="scattered"), range(1000, 1050))


def failing(disk, suffix, n=1):
    disk.command(f"fail {n} {suffix}")


def power_cycle(r, seed):
    """Everything is lost that was not fsynced."""
    for disk in r.disks:
        disk.cut(seed)
    r.kill(r.cluster.nodes)
    r.mount.process.signal(cl.signal.SIGKILL)
    cl.run("umount", "-f", r.mount.path)
    r.mount.process.wait()
    for disk in r.disks:
        disk.unmount()
        disk.start()
    for node in r.cluster.nodes:
        node.start()
    r.start_mount()


def fsync(path):
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


# Seeds with which forgetfs keeps none of the bytes that were not fsynced would do; a few are tried, for it does not say.
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("suffix", ["0", "0.sum"])
def test_a_failed_fsync_of_a_partition(rig, suffix, seed):
    """It is said, and a later one succeeds only when the bytes are on the disk all the same."""
    r = rig(nodes=1, powercut="ordered")
    r.start_mount()
    body = os.urandom(300000) + b"end"
    with open(r.mount / "f", "wb", buffering=0) as f:
        f.write(body)
        failing(r.disks[0], suffix)
        with cl.expect_errno(errno.EIO):
            os.fsync(f.fileno())
        f.write(b"more")  # of which alone the kernel would know
        os.fsync(f.fileno())
    power_cycle(r, seed)
    assert (r.mount / "f").read_bytes() == body + b"more"


@pytest.mark.parametrize("seed", range(2))
def test_a_failed_fsync_of_the_names(rig, seed):
    """Nothing is promised after it, until the daemon is started anew and has what is on the disk."""
    r = rig(nodes=1, powercut="ordered")
    r.start_mount()
    (r.mount / "before").mkdir()
    fsync(r.mount.path)
    (r.mount / "after").mkdir()
    failing(r.disks[0], "meta.db-wal")
    with cl.expect_errno(errno.EIO):
        fsync(r.mount.path)
    for _ in range(2):
        with cl.expect_errno(errno.EIO):
            fsync(r.mount.path)
    with cl.expect_errno(errno.EIO):
        (r.mount / "never").mkdir()
    assert sorted(os.listdir(r.mount.path)) == ["after", "before"]
    assert r.cluster.nodes[0].stop() == ""
    r.cluster.nodes[0].start()
    cl.until(lambda: _fsynced(r.mount.path), 20 * cl.SLOWER, "the head to be back")
    seen = sorted(os.listdir(r.mount.path))
    power_cycle(r, seed)
    assert "before" in seen and sorted(os.listdir(r.mount.path)) == seen


def _fsynced(path):
    try:
        fsync(path)
        return True
    except OSError:
        return False


@pytest.mark.long
@pytest.mark.parametrize("seed", range(2))
def test_what_was_closed_is_durable_before_long(rig, seed):
    """Without any fsync: names, data, sizes."""
    r = rig(powercut="scattered")
    r.start_mount()
    a = np.arange(5000.)
    (r.mount / "x").mkdir()
    np.save(r.mount / "x" / "data.npy", a)
    (r.mount / "f").write_bytes(b"x" * 100000)
    os.rename(r.mount / "f", r.mount / "g")
    spared = {"catalog.db", "catalog.db-wal", "meta.reserve"}
    cl.until(lambda: not any(d.unsynced() - spared for d in r.disks), 20 * cl.SLOWER, "everything to be durable")
    power_cycle(r, seed)
    assert np.array_equal(np.load(r.mount / "x" / "data.npy"), a)
    assert sorted(os.listdir(r.mount.path)) == ["g", "x"] and (r.mount / "g").read_bytes() == b"x" * 100000


@pytest.mark.skipif(cl.SANITIZED != "", reason="a sanitizer wants to be the first that is loaded")
def test_the_tests_find_losses(rig):
    """The control: without fsyncs the same test fails."""
    r = rig(powercut="ordered", prefix=NOSYNC)
    r.lossy = True
    with pytest.raises(AssertionError):
        survives_cuts(r, range(20))
