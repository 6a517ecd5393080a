"""Locks of processes on files, on one mount and between mounts: flock, fcntl and open file description locks."""

import errno
import fcntl
import json
import os
import pathlib
import random
import select
import signal
import subprocess
import sys
import time

import cluster as cl
import numpy as np
import pytest

WORKER = pathlib.Path(__file__).with_name("lock_worker.py")
SH, EX, UN, NB = fcntl.LOCK_SH, fcntl.LOCK_EX, fcntl.LOCK_UN, fcntl.LOCK_NB
AGAIN = -errno.EAGAIN


class Worker:
    """A process of its own; w.setlk(fd, "w", 0, 10) and so on run there."""

    def __init__(self):
        self.popen = subprocess.Popen([sys.executable, WORKER], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                      preexec_fn=cl.die_with_parent)
        self.text = b""

    def start(self, *command):
        self.popen.stdin.write(json.dumps(command).encode() + b"\n")
        self.popen.stdin.flush()

    def answer(self, timeout=60.0):
        deadline = time.monotonic() + timeout * cl.SLOWER
        while b"\n" not in self.text:
            ready = select.select([self.popen.stdout], [], [], max(0, deadline - time.monotonic()))[0]
            assert ready, f"a worker did not answer in {timeout} s"
            piece = os.read(self.popen.stdout.fileno(), 4096)
            assert piece, "the worker has died"
            self.text += piece
        line, self.text = self.text.split(b"\n", 1)
        return json.loads(line)

    def __getattr__(self, name):
        def call(*args):
            self.start(name, *args)
            return self.answer()
        return call

    def opened(self, path, flags=os.O_RDWR | os.O_CREAT):
        fd = self.open(str(path), flags)
        assert fd >= 0, os.strerror(-fd)
        return fd

    def kill(self):
        self.popen.kill()
        self.popen.wait()


def until_waiting(mount, n=1):
    """n requests of this mount wait for a lock, and the head knows."""
    cl.until(lambda: mount.metrics()["slabfs_lock_waits", ""] == n, what="a request that waits for a lock")


@pytest.fixture
def workers():
    made = []

    def make(n):
        made.extend(Worker() for _ in range(n))
        return made[-n:]

    yield make
    for worker in made:
        worker.kill()


@pytest.fixture
def mounts(cluster3):
    return cluster3.mounts


@pytest.fixture
def pair(workers, elsewhere):
    """Two processes on two mounts of the same file: (worker, fd), (worker, fd)."""
    (elsewhere[0] / "f").write_bytes(b"x" * 1000)
    return [(w, w.opened(where / "f")) for w, where in zip(workers(2), elsewhere)]


@pytest.mark.parametrize("here", [True, False], ids=["one mount", "two mounts"])
@pytest.mark.parametrize("ofd", [False, True], ids=["process", "description"])
def test_conflicts(workers, elsewhere, here, ofd):
    a, b = workers(2)
    fa, fb = a.opened(elsewhere[0] / "f"), b.opened(elsewhere[0 if here else 1] / "f")
    assert a.setlk(fa, "r", 0, 100, False, ofd) == 0
    assert b.setlk(fb, "r", 50, 100, False, ofd) == 0
    assert a.setlk(fa, "w", 0, 100, False, ofd) == AGAIN
    assert a.setlk(fa, "w", 0, 50, False, ofd) == 0
    pid = -1 if ofd else a.popen.pid
    assert b.getlk(fb, "r", 0, 0, ofd) == ["w", 0, 50, pid]
    assert b.getlk(fb, "r", 50, 0, ofd)[0] == "u"
    assert b.getlk(fb, "w", 60, 10, ofd) == ["r", 50, 50, pid]
    assert b.setlk(fb, "u", 0, 0, False, ofd) == 0
    assert a.setlk(fa, "w", 0, 0, False, ofd) == 0, "a lock of one's own is no conflict"
    assert b.setlk(fb, "r", 1 << 40, 1, False, ofd) == AGAIN, "to the end of all files"
    assert a.setlk(fa, "r", 0, 0, False, ofd) == 0, "a downgrade"
    assert b.setlk(fb, "r", 0, 0, False, ofd) == 0
    assert a.close(fa) is None
    cl.until(lambda: b.setlk(fb, "w", 0, 0, False, ofd) == 0)


@pytest.mark.parametrize("here", [True, False], ids=["one mount", "two mounts"])
def test_flock(workers, elsewhere, here):
    a, b = workers(2)
    fa, fb = a.opened(elsewhere[0] / "f"), b.opened(elsewhere[0 if here else 1] / "f")
    assert a.flock(fa, SH) == 0 and b.flock(fb, SH | NB) == 0
    assert a.flock(fa, EX | NB) == AGAIN
    assert b.flock(fb, EX | NB) == 0, "a refused change gives up the old lock, as on every Linux file system"
    assert a.flock(fa, SH | NB) == AGAIN
    assert a.setlk(fa, "w") == 0, "the two kinds do not meet"
    other = b.dup(fb)
    b.close(fb)
    assert a.flock(fa, SH | NB) == AGAIN, "it is the description's, not the descriptor's"
    b.close(other)
    cl.until(lambda: a.flock(fa, EX | NB) == 0)
    assert a.flock(fa, UN) == 0


@pytest.mark.parametrize("kind", ["process", "description", "flock"])
def test_closed_and_locked_anew(pair, elsewhere, kind):
    """The kernel tells of a last close late, and may then use the file's number again: neither may be seen."""
    (a, fa), (b, fb) = pair
    a.close(fa)

    def lock(w, fd):
        return w.flock(fd, EX | NB) if kind == "flock" else w.setlk(fd, "w", 0, 10, False, kind == "description")

    for i in range(200):
        fa = a.opened(elsewhere[0] / "f")
        assert lock(a, fa) == 0, i
        if i % 10 == 9:
            assert lock(b, fb) == AGAIN, i
        a.close(fa)


def test_a_child_keeps_flock_but_not_fcntl(pair):
    (a, fa), (b, fb) = pair
    assert a.setlk(fa, "w", 0, 10) == 0 and a.flock(fa, EX) == 0
    pid = a.child(fa)
    a.close(fa)
    assert b.setlk(fb, "w", 0, 10) == 0
    assert b.flock(fb, EX | NB) == AGAIN
    a.reap(pid)
    cl.until(lambda: b.flock(fb, EX | NB) == 0)


def test_any_close_ends_the_locks_of_a_process(workers, elsewhere):
    a, b = workers(2)
    first, second, mine = a.opened(elsewhere[0] / "f"), a.opened(elsewhere[0] / "f"), b.opened(elsewhere[1] / "f")
    assert a.setlk(first, "w", 0, 10) == 0 and a.setlk(first, "w", 100, 10, False, True) == 0
    a.close(second)
    assert b.setlk(mine, "w", 0, 10) == 0, "POSIX"
    assert b.setlk(mine, "w", 100, 10) == AGAIN, "that of the description stays"
    second = a.dup(first)
    a.close(first)
    assert b.setlk(mine, "w", 100, 10) == AGAIN
    a.close(second)
    cl.until(lambda: b.setlk(mine, "w", 100, 10) == 0)


@pytest.mark.parametrize("ofd", [False, True], ids=["process", "description"])
@pytest.mark.parametrize("seed", [1, 2])
def test_against_the_kernels_locks(workers, elsewhere, tmp, seed, ofd):
    """Each process does the same to a file of the tree and to one of a local file system; the answers must be the same."""
    rng = random.Random(seed)
    many = [(w, w.opened(elsewhere[i % 3] / "f"), w.opened(tmp / "shadow")) for i, w in enumerate(workers(4))]
    for step in range(250):
        w, ours, theirs = rng.choice(many)
        start, length, kind = rng.randrange(60), rng.choice([0, 1, 5, rng.randrange(1, 40)]), rng.choice("rwwuu")
        if rng.random() < 0.7:
            assert w.setlk(ours, kind, start, length, False, ofd) == w.setlk(theirs, kind, start, length, False, ofd), step
        kind, at = rng.choice("rw"), rng.randrange(100)
        got, want = w.getlk(ours, kind, at, 1, ofd), w.getlk(theirs, kind, at, 1, ofd)
        if want[0] == "w":
            assert got[:3] == want[:3] and (ofd or got[3] == want[3]), step
        else:
            assert got[0] == want[0], step


@pytest.mark.parametrize("how", ["unlock", "close", "kill"])
@pytest.mark.parametrize("here", [True, False], ids=["one mount", "two mounts"])
def test_a_waiter_is_woken(workers, elsewhere, mounts, here, how):
    a, b, c = workers(3)
    fa, fb, fc = a.opened(elsewhere[0] / "f"), b.opened(elsewhere[0 if here else 1] / "f"), c.opened(elsewhere[2] / "f")
    assert a.setlk(fa, "w", 0, 100) == 0 and a.flock(fa, EX) == 0
    b.start("setlk", fb, "r", 50, 10, True)
    c.start("flock", fc, SH)
    until_waiting(mounts[0 if here else 1])
    until_waiting(mounts[2])
    if how == "unlock":
        assert a.setlk(fa, "u", 50, 20) == 0 and a.flock(fa, UN) == 0
    elif how == "close":
        a.close(fa)
    else:
        a.kill()
    assert b.answer() == 0 and c.answer() == 0


def test_many_wait_for_one_lock(workers, elsewhere):
    many = [(w, w.opened(elsewhere[i % 3] / "f")) for i, w in enumerate(workers(6))]
    for i, (w, fd) in enumerate(many):
        w.start("add", fd, 20, i % 2 == 1)
    assert [w.answer() for w, _ in many] == [20] * 6
    assert int((elsewhere[0] / "f").read_bytes()) == 120


@pytest.mark.parametrize("kind", ["setlk", "flock"])
def test_a_signal_interrupts_a_waiter(pair, mounts, kind):
    (a, fa), (b, fb) = pair
    assert a.setlk(fa, "w") == 0 and a.flock(fa, EX) == 0
    b.start(*(("setlk", fb, "w", 0, 0, True) if kind == "setlk" else ("flock", fb, EX)))
    until_waiting(mounts[1])
    b.popen.send_signal(signal.SIGUSR1)
    assert b.answer() == -errno.EINTR
    assert a.setlk(fa, "u") == 0 and a.flock(fa, UN) == 0
    assert a.setlk(fa, "w") == 0 and a.flock(fa, EX | NB) == 0, "the interrupted one has left nothing behind"


def test_a_waiter_that_is_killed_leaves_nothing(pair, mounts):
    (a, fa), (b, fb) = pair
    assert a.setlk(fa, "w") == 0
    b.start("setlk", fb, "w", 0, 0, True)
    until_waiting(mounts[1])
    b.kill()
    assert a.setlk(fa, "u") == 0 and a.setlk(fa, "w") == 0


def test_deadlock(workers, elsewhere, mounts):
    three = [(w, w.opened(where / "f")) for w, where in zip(workers(3), elsewhere)]
    for i, (w, fd) in enumerate(three):
        assert w.setlk(fd, "w", i, 1) == 0
    for i, (w, fd) in enumerate(three[:2]):
        w.start("setlk", fd, "w", i + 1, 1, True)
        until_waiting(mounts[i])
    (a, _), (b, _), (c, fc) = three
    assert c.setlk(fc, "w", 0, 1, True) == -errno.EDEADLK
    assert c.setlk(fc, "u", 2, 1) == 0
    assert b.answer() == 0
    b.setlk(three[1][1], "u", 1, 1)
    assert a.answer() == 0


def test_a_thousand_locks_of_one_owner(pair):
    (a, fa), (b, fb) = pair
    for i in range(1000):
        assert a.setlk(fa, "w", 2 * i, 1) == 0
    assert b.getlk(fb, "r", 998, 1)[:3] == ["w", 998, 1]
    assert b.setlk(fb, "w", 999, 1) == 0
    assert b.setlk(fb, "w", 1998, 0) == AGAIN
    assert a.setlk(fa, "u") == 0
    assert b.setlk(fb, "w", 0, 0) == 0


def test_lockf_over_the_whole_file(spot, pair):
    (a, fa), _ = pair
    assert a.setlk(fa, "w", 10, 10) == 0
    with open(spot / "f", "r+b") as f:
        with cl.expect_errno(errno.EAGAIN, errno.EACCES):
            fcntl.lockf(f, EX | NB)
        fcntl.lockf(f, EX | NB, 10, 0)
        fcntl.lockf(f, UN)


def test_kinds_of_files(workers, elsewhere):
    spot = elsewhere[0]
    np.save(spot / "data.npy", np.arange(1000))
    a, b = workers(2)
    for name in ["data", "data.npy", "zarr.json", "c/0"]:
        fa, fb = a.opened(spot / name, os.O_RDWR), b.opened(elsewhere[1] / name, os.O_RDWR)
        assert a.setlk(fa, "w", 0, 10) == 0 and b.setlk(fb, "w", 5, 10) == AGAIN, name
        assert a.flock(fa, EX) == 0 and b.flock(fb, EX | NB) == AGAIN, name
        a.close(fa)
        cl.until(lambda: b.setlk(fb, "w", 5, 10) == 0 and b.flock(fb, EX | NB) == 0)
        b.close(fb)


def test_directories_on_one_mount(workers, spot):
    a, b = workers(2)
    fa, fb = a.opened(spot, os.O_RDONLY), b.opened(spot, os.O_RDONLY)
    assert a.flock(fa, EX) == 0 and b.flock(fb, EX | NB) == AGAIN
    a.close(fa)
    cl.until(lambda: b.flock(fb, EX | NB) == 0)


def test_a_file_without_a_name(pair, elsewhere):
    (a, fa), (b, fb) = pair
    assert a.setlk(fa, "w", 0, 10) == 0
    os.unlink(elsewhere[2] / "f")
    assert b.setlk(fb, "w", 0, 10) == AGAIN
    assert a.setlk(fa, "u", 0, 10) == 0 and b.setlk(fb, "w", 0, 10) == 0
    (elsewhere[2] / "f").write_bytes(b"another")
    other = a.opened(elsewhere[0] / "f")
    assert a.setlk(other, "w", 0, 10) == 0


@pytest.mark.parametrize("name", ["f", "data"])
def test_what_was_written_under_a_lock_is_seen_under_the_next(workers, elsewhere, name):
    spot = elsewhere[0]
    np.save(spot / "data.npy", np.zeros(2, np.int64))
    (spot / "f").write_bytes(bytes(16))
    a, b = ((w, w.opened(where / name, os.O_RDWR)) for w, where in zip(workers(2), elsewhere))
    for i in range(20):
        (w, fd), (r, fr) = (a, b) if i % 2 else (b, a)
        assert w.setlk(fd, "w", 0, 0, True) == 0
        assert w.pwrite(fd, f"{i:8d}", 0) == 8
        r.start("setlk", fr, "r", 0, 0, True)
        assert w.setlk(fd, "u") == 0
        assert r.answer() == 0
        assert r.pread(fr, 8, 0) == f"{i:8d}"
        assert r.setlk(fr, "u") == 0


# ---- mounts and heads that die ----


@pytest.fixture
def two(fresh, workers):
    """A cluster of its own: (cluster, (worker, fd) on the head's machine, (worker, fd) elsewhere)."""
    c = fresh(2, fixed_ports=True)
    (c.mounts[0] / "f").write_bytes(b"x" * 1000)
    return (c, *((w, w.opened(m / "f")) for w, m in zip(workers(2), c.mounts)))


@pytest.mark.parametrize("which", [0, 1], ids=["on the head", "elsewhere"])
def test_a_killed_mount_frees_its_locks(two, which):
    c, *both = two
    (a, fa), (b, fb) = both[which], both[1 - which]
    assert a.setlk(fa, "w") == 0 and a.flock(fa, EX) == 0
    b.start("setlk", fb, "w", 0, 0, True)
    until_waiting(c.mounts[1 - which])
    c.mounts.pop(which).kill()
    assert b.answer() == 0
    cl.until(lambda: b.flock(fb, EX | NB) == 0)


def test_a_mount_that_is_told_to_end_frees_its_locks(two):
    c, (a, fa), (b, fb) = two
    assert b.setlk(fb, "w") == 0
    assert c.mounts.pop().process.stop() == 0
    assert a.setlk(fa, "w") == 0, "at once, and not after the lease"


def test_locks_outlive_the_head(two, workers):
    c, (a, fa), (b, fb) = two
    other, = workers(1)
    fo = other.opened(c.mounts[0] / "f")
    assert a.setlk(fa, "w", 0, 10) == 0 and b.setlk(fb, "r", 20, 10) == 0 and b.flock(fb, SH) == 0
    b.start("setlk", fb, "w", 0, 5, True)
    until_waiting(c.mounts[1])
    for _ in range(2):
        c.nodes[0].process.kill()
        c.nodes[0].start()
        assert other.setlk(fo, "w", 0, 10) == AGAIN and other.setlk(fo, "w", 20, 5) == AGAIN
        assert other.flock(fo, EX | NB) == AGAIN and other.flock(fo, SH | NB) == 0
        assert other.getlk(fo, "r", 0, 0)[:3] == ["w", 0, 10]
    assert a.setlk(fa, "u") == 0
    assert b.answer() == 0
    assert b.setlk(fb, "u") == 0 and other.setlk(fo, "w") == 0
    assert not [line for m in c.mounts for line in m.errors() if "lost" in line]


def test_a_waiter_is_interrupted_while_the_head_is_away(two):
    c, (a, fa), (b, fb) = two
    assert a.setlk(fa, "w") == 0
    b.start("setlk", fb, "w", 0, 0, True)
    until_waiting(c.mounts[1])
    c.nodes[0].process.kill()
    b.popen.send_signal(signal.SIGUSR1)
    assert b.answer() == -errno.EINTR
    c.nodes[0].start()
    assert a.setlk(fa, "u") == 0 and a.setlk(fa, "w") == 0


def test_locks_that_are_freed_while_the_head_is_away(fresh, workers):
    """A close does not wait for ever; the head hears of it when it is back."""
    c = fresh(2, fixed_ports=True, options="timeout=1")
    (a, fa), (b, fb) = ((w, w.opened(m / "f")) for w, m in zip(workers(2), c.mounts))
    assert a.setlk(fa, "w", 0, 10) == 0 and a.flock(fa, EX) == 0 and a.setlk(fa, "w", 20, 10, False, True) == 0
    c.nodes[0].process.kill()
    a.kill()
    c.nodes[0].start()
    b.start("setlk", fb, "w", 0, 0, True)
    assert b.answer() == 0
    cl.until(lambda: b.flock(fb, EX | NB) == 0)


def test_a_counter_while_the_head_is_killed_again_and_again(fresh, workers):
    c = fresh(2, fixed_ports=True, options="timeout=60")
    rng = random.Random(3)
    many = [(w, w.opened(c.mounts[i % 2] / "f")) for i, w in enumerate(workers(4))]
    counted = 0
    for _ in range(5):
        for i, (w, fd) in enumerate(many):
            w.start("add", fd, 40, i < 2)
        for _ in range(rng.randrange(3)):
            os.stat(c.mounts[0].path)
        c.nodes[0].process.kill()
        c.nodes[0].start()
        assert [w.answer(120) for w, _ in many] == [40] * 4
        counted += 160
        assert int((c.mounts[0] / "f").read_bytes()) == counted
    other, = workers(1)
    fd = other.opened(c.mounts[1] / "f")
    assert other.setlk(fd, "w") == 0, "nothing is left behind"


def cut_off(c, mount, other):
    """The mount does not answer; the head gives up on it when another mount changes what it has cached."""
    os.stat(mount / "f")
    mount.process.signal(signal.SIGSTOP)
    (other / "f").chmod(0o600)
    c.nodes[0].process.wait_line("is cut off")


@pytest.mark.parametrize("which", [0, 1], ids=["on the head", "elsewhere"])
def test_a_mount_that_is_cut_off_for_a_moment_keeps_its_locks(two, which):
    c, *both = two
    (a, fa), (b, fb) = both[which], both[1 - which]
    assert a.setlk(fa, "w", 0, 10) == 0
    cut_off(c, c.mounts[which], c.mounts[1 - which])
    assert b.setlk(fb, "w", 0, 10) == AGAIN
    c.mounts[which].process.signal(signal.SIGCONT)
    assert a.setlk(fa, "r", 5, 5) == 0, "nothing is lost"
    assert b.getlk(fb, "w", 0, 10)[:3] == ["w", 0, 5]
    assert a.setlk(fa, "u") == 0 and b.setlk(fb, "w", 0, 10) == 0


def test_a_mount_that_is_cut_off_for_long_is_told_of_what_it_lost(two):
    c, (a, fa), (b, fb) = two
    assert b.setlk(fb, "w", 0, 10) == 0 and b.flock(fb, EX) == 0
    cut_off(c, c.mounts[1], c.mounts[0])
    a.start("setlk", fa, "w", 0, 10, True)
    assert a.answer() == 0
    c.mounts[1].process.signal(signal.SIGCONT)
    c.mounts[1].process.wait_line("locks of 2 owners are lost")
    assert b.pread(fb, 1, 0) == "x", "reads and writes go on"
    assert b.setlk(fb, "w", 50, 10) == -errno.ENOLCK
    assert b.setlk(fb, "w", 50, 10) == 0 and b.setlk(fb, "w", 0, 10) == AGAIN
    assert b.flock(fb, UN) == -errno.ENOLCK
    assert b.flock(fb, EX) == 0


@pytest.mark.slow
def test_a_silent_network(fresh, hosts, workers):
    spaces = hosts(2)
    c = fresh(2, prefixes=[s[0] for s in spaces], hosts=[s[1] for s in spaces], options="timeout=2")
    (a, fa), (b, fb) = ((w, w.opened(m / "f")) for w, m in zip(workers(2), c.mounts))
    assert b.setlk(fb, "w", 0, 10) == 0
    hosts.cut(2)
    with cl.expect_errno(errno.EIO, errno.ETIMEDOUT):
        os.listdir(c.mounts[1].path)
    assert a.setlk(fa, "w", 0, 10) == AGAIN
    hosts.join(2)
    cl.until(lambda: b.setlk(fb, "r", 5, 5) == 0, 60)
    assert a.getlk(fa, "w", 0, 10)[:3] == ["w", 0, 5]
    hosts.cut(2)
    a.start("setlk", fa, "w", 0, 10, True)
    assert a.answer() == 0
    hosts.join(2)
    cl.until(lambda: b.setlk(fb, "w", 50, 10) == -errno.ENOLCK, 60)
    assert b.setlk(fb, "w", 0, 10) == AGAIN and b.setlk(fb, "w", 50, 10) == 0


# ---- a program that relies on them ----

SQLITE = """
import sqlite3, sys
path, journal, synchronous, n = sys.argv[1:]
db = sqlite3.connect(path, timeout=120, isolation_level=None)
assert db.execute(f"PRAGMA journal_mode={journal}").fetchone() == (journal,)
db.execute(f"PRAGMA synchronous={synchronous}")
for _ in range(int(n)):
    db.execute("BEGIN IMMEDIATE")
    value, = db.execute("SELECT max(n) FROM t").fetchone()
    db.execute("UPDATE t SET n = ?", (value + 1,))
    db.execute("INSERT INTO log VALUES(?, ?)", (value + 1, "x" * (value % 3000)))
    db.execute("COMMIT")
"""


@pytest.mark.parametrize("journal, synchronous", [("delete", "full"), ("truncate", "off"), ("persist", "normal")])
def test_sqlite_between_mounts(elsewhere, journal, synchronous):
    sqlite3 = pytest.importorskip("sqlite3")
    n, processes = 15, 4
    db = sqlite3.connect(elsewhere[0] / "db")
    db.executescript(f"PRAGMA journal_mode={journal}; CREATE TABLE t(n); INSERT INTO t VALUES(0);"
                     "CREATE TABLE log(n INTEGER PRIMARY KEY, text);")
    db.close()
    running = [subprocess.Popen([sys.executable, "-c", SQLITE, elsewhere[i % 2] / "db", journal, synchronous, str(n)],
                                stderr=subprocess.PIPE, text=True, preexec_fn=cl.die_with_parent) for i in range(processes)]
    said = [p.communicate(timeout=140 * cl.SLOWER)[1] for p in running]
    assert said == [""] * processes
    for where in elsewhere:
        db = sqlite3.connect(where / "db")
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert db.execute("SELECT n FROM t").fetchall() == [(n * processes,)]
        assert db.execute("SELECT count(*), sum(length(text)) FROM log").fetchone() == (
            n * processes, sum(i % 3000 for i in range(n * processes)))
        db.close()
