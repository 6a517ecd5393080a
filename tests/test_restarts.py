"""Daemons that are killed and started again are a pause, never an error, for who works on a mount meanwhile."""

import errno
import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import time

import cluster as cl
import pytest

WORKER = pathlib.Path(__file__).parent / "restart_worker.py"
NAMES = ["names", "names", "open_unlinked"]
BYTES = ["bytes", "map", "array", "names"]


class Worker:
    def __init__(self, c, mount, number, kinds):
        self.mount, self.name = mount, f"worker{number}"
        self.log = open(c.root / f"{self.name}.out", "w+")
        self.popen = subprocess.Popen([sys.executable, WORKER, mount.path / self.name, str(number), *kinds], stdin=subprocess.PIPE,
                                      stdout=self.log, stderr=self.log, preexec_fn=cl.die_with_parent)

    def text(self):
        self.log.seek(0)
        return self.log.read()

    def steps(self):
        self.check()
        return os.fstat(self.log.fileno()).st_size

    def check(self):
        assert self.popen.poll() is None, f"{self.name} ended with {self.popen.returncode}:\n{self.text()}"

    def finish(self):
        """The steps that it made, and what must be in its directory now."""
        self.popen.stdin.close()
        code = self.popen.wait(60 * cl.SLOWER)
        assert code == 0, f"{self.name} ended with {code}:\n{self.text()}"
        result = json.loads(self.text().splitlines()[-1])
        return result["steps"], {name: bytes.fromhex(data) for name, data in result["model"].items()}


def torment(c, workers, victims, times, seed):
    """Kills one of the victims at a random moment and starts it again, so many times."""
    chance = random.Random(seed)
    for _ in range(times):
        time.sleep(chance.random() * 0.3)  # the moment of the kill is what the test is about
        node = chance.choice(victims)
        node.process.kill()
        time.sleep(chance.random() * 0.2)
        before = [w.steps() for w in workers]
        node.start()
        cl.until(lambda: all(w.steps() > b for w, b in zip(workers, before)), 30 * cl.SLOWER, "the work to go on")


def check_all(c, workers, times):
    for w in workers:
        steps, model = w.finish()
        assert sum(steps.values()) >= times, steps
        for mount in c.mounts:
            where = mount.path / w.name
            assert sorted(n for n in os.listdir(where) if n != "kept-array") == sorted(model)
            for name, data in model.items():
                assert (where / name).read_bytes() == data, f"{where}/{name}"
    for mount in c.mounts:
        assert not mount.errors(), mount.errors()


def work_through(c, kinds, victims, times, seed):
    workers = [Worker(c, m, i, kinds) for i, m in enumerate(c.mounts)]
    torment(c, workers, victims, times, seed)
    check_all(c, workers, times)


def test_the_head_is_killed_while_names_change(fresh):
    c = fresh(3, mounts=2, fixed_ports=True, options="timeout=60")
    work_through(c, NAMES, c.nodes[:1], 12, 1)


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_node_is_killed_while_it_is_written_to(fresh, number):
    """Node 1 is the head and the node of the first mount; 2 that of the second; 3 of none."""
    c = fresh(3, mounts=2, fixed_ports=True, options="timeout=60")
    work_through(c, BYTES, [c.nodes[number - 1]], 12, number)


def test_any_daemon_is_killed_at_any_moment(fresh):
    c = fresh(3, mounts=2, fixed_ports=True, options="timeout=60")
    work_through(c, NAMES + BYTES, c.nodes, 30, 7)


PART = 65536
LOST = (errno.EIO, errno.ETIMEDOUT)


def spread(c, mount, n=6):
    """A file of n partitions, one after the other on the nodes in turn, and on which node each of them is."""
    where = mount.path / "spread"
    where.mkdir()
    os.setxattr(where, "user.slabfs.partition_bytes", str(PART).encode())
    data = b"".join(bytes([65 + i]) * PART for i in range(n))
    (where / "f").write_bytes(data)
    fd = os.open(where / "f", os.O_RDWR)
    os.fsync(fd)
    os.close(fd)
    owners = {}
    for node in c.nodes:
        for p in node.store.glob("parts/*/*/*"):
            if p.suffix != ".sum" and p.stat().st_size == PART:
                owners[p.read_bytes()[0] - 65] = node
    return where / "f", data, [owners[i] for i in range(n)]


def test_a_dead_node_is_waited_for_once(fresh):
    """For the timeout, and not by each request anew; what lies elsewhere is there all the time."""
    c = fresh(3, mounts=1, fixed_ports=True, options="timeout=4")
    path, data, owners = spread(c, c.mounts[0])
    path = c.mount(c.nodes[2].store).path / path.relative_to(c.mounts[0].path)  # where no page of it is in memory
    lost = [i for i in range(6) if owners[i] is c.nodes[1]]
    c.nodes[1].process.kill()
    fd = os.open(path, os.O_RDWR)
    with cl.expect_errno(*LOST):
        os.pread(fd, 10, lost[0] * PART)
    start = time.monotonic()
    for _ in range(10):
        with cl.expect_errno(*LOST):
            os.pread(fd, 10, lost[1] * PART)
        with cl.expect_errno(*LOST):
            os.pwrite(fd, b"x", lost[1] * PART)
    assert time.monotonic() - start < 30 * cl.SLOWER, "each of them waited"
    for i in range(6):
        if i not in lost:
            assert os.pread(fd, PART, i * PART) == data[i * PART:(i + 1) * PART]
    c.nodes[1].start()
    cl.until(lambda: _reads(fd, lost[1] * PART, data[lost[1] * PART:][:10]), 20 * cl.SLOWER, "the node to be back")
    assert os.pwrite(fd, b"x", lost[1] * PART) == 1
    os.fsync(fd)
    os.close(fd)


def _reads(fd, at, want):
    try:
        return os.pread(fd, len(want), at) == want
    except OSError:
        return False


WAITERS = {
    "write": "fd = os.open(path, os.O_RDWR)\nprint('begins', flush=True)\nos.pwrite(fd, b'x' * 65536, at)",
    "mkdir": "print('begins', flush=True)\nos.mkdir(path + '-d')",
    "open": "print('begins', flush=True)\nos.open(path, os.O_RDWR)",
}


@pytest.mark.parametrize("what", WAITERS)
def test_who_waits_can_be_interrupted(fresh, what):
    c = fresh(3, mounts=1, fixed_ports=True, options="timeout=40")
    m = c.mount(c.nodes[2].store)
    path, data, owners = spread(c, m)
    victim = c.nodes[0] if what in ("mkdir", "open") else c.nodes[1]
    at = owners.index(victim) * PART
    victim.process.kill()
    code = f"import os, sys, time\npath, at = {str(path)!r}, {at}\n{WAITERS[what]}"
    waiter = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                              preexec_fn=cl.die_with_parent)
    assert waiter.stdout.readline() == b"begins\n"
    cl.until(lambda: "request_wait" in open(f"/proc/{waiter.pid}/wchan").read(), 20 * cl.SLOWER, "it to wait")
    time.sleep(0.5)  # to be well within the waiting for the daemon
    waiter.send_signal(signal.SIGINT)
    assert waiter.wait(20 * cl.SLOWER) != 0
    victim.start()
    cl.until(lambda: _exists(path), 20 * cl.SLOWER, "the daemon to be back")
    assert not m.errors(), m.errors()


def _exists(path):
    try:
        return path.stat().st_size == 6 * PART
    except OSError:
        return False


@pytest.fixture
def other_disk(tmp):
    cl.run("mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", tmp, check=0)
    yield tmp
    cl.run("umount", "-l", tmp)


WRITER = """
import os, sys
fd = os.open(sys.argv[1], os.O_RDWR)
at = int(sys.argv[2])
for text in (b"x", b"y"):
    os.pwrite(fd, text, at)
    print("written", flush=True)
    sys.stdin.readline()
    try:
        os.fsync(fd)
        print("durable", flush=True)
    except OSError as e:
        print(e.errno, flush=True)
os.close(fd)
"""


def test_a_machine_that_was_restarted_is_told_once(fresh, other_disk):
    """Another file system under the store stands for another boot: what was not fsynced may be lost, and whoever wrote it hears so."""
    c = fresh(3, mounts=1, fixed_ports=True, options="timeout=60")
    path, data, owners = spread(c, c.mounts[0])
    node, at = c.nodes[1], owners.index(c.nodes[1]) * PART
    # A process of its own: one that starts others closes their copies of what it has open, and each close waits for the node.
    writer = subprocess.Popen([sys.executable, "-c", WRITER, path, str(at)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                              preexec_fn=cl.die_with_parent)

    def says():
        return writer.stdout.readline().strip()

    def goes_on():
        writer.stdin.write("\n")
        writer.stdin.flush()

    assert says() == "written"
    node.process.kill()
    cl.run("cp", "-a", node.store, other_disk / "store", check=0)
    cl.run("mount", "--bind", other_disk / "store", node.store, check=0)
    try:
        node.start()
        goes_on()
        assert says() == str(errno.EIO) and says() == "written"
        assert any("machine was restarted" in line for line in c.mounts[0].errors())
        goes_on()
        assert says() == "durable" and writer.wait(20 * cl.SLOWER) == 0
        assert path.read_bytes()[at:at + 2] == b"y" + data[at + 1:at + 2]
        assert node.stop() == ""
    finally:
        cl.run("umount", "-l", node.store, check=0)
