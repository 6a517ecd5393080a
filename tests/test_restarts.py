"""Daemons that are killed and started again are a pause, never an error, for who works on a mount meanwhile."""

import json
import os
import pathlib
import random
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
        node.start()
        for w in workers:
            w.check()


def check_all(c, workers):
    for w in workers:
        steps, model = w.finish()
        assert sum(steps.values()) > 20, steps
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
    check_all(c, workers)


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
