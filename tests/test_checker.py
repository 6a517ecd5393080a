"""The contract of docs/coherence.md against random concurrent use, and that invalidations under load end."""

import os
import subprocess
import sys

import cluster as cl
import numpy as np
import pytest
from checker import Checker, Violation

LATE = 1.0 * cl.SLOWER


def check(c, strict, seed, turns):
    (c.mounts[0] / f"d{seed}").mkdir()
    Checker([m / f"d{seed}" for m in c.mounts], strict, seed, LATE).run(2 * len(c.mounts), turns)


def cut_off(c):
    return [line for text in c.logs().values() for line in text.splitlines() if "cut off" in line]


@pytest.fixture
def three(fresh):
    """Two nodes with a mount each, and a mount without a store."""

    def make(options):
        c = fresh(2, options=options)
        c.remote_mount()
        return c

    return make


@pytest.mark.parametrize("options, turns", [("timeout=10", 150), ("strict", 60)])
def test_random_use(three, options, turns):
    c = three(options)
    for seed in range(2):
        check(c, options == "strict", seed, turns)
    assert not cut_off(c)


@pytest.mark.long
@pytest.mark.watchdog(900 * cl.SLOWER)
@pytest.mark.parametrize("options", ["timeout=10", "strict"])
def test_more_random_use(three, options):
    c = three(options)
    for seed in range(1000, 1020):
        check(c, options == "strict", seed, 400 // cl.SLOWER)
    assert not cut_off(c)


def test_the_checker_finds_that_mounts_are_not_strict(three):
    c = three("")
    with pytest.raises(Violation):
        for seed in range(20):
            check(c, True, seed, 300)


def soak(c, seconds, workers):
    place = c.mounts[0] / "d"
    (place / "x").mkdir(parents=True)
    os.setxattr(place / "x", "user.slabfs.partition_bytes", b"4096")
    np.save(place / "x" / "data.npy", np.zeros(8192, np.uint8))
    for name in ("kept0", "kept1"):
        (c.mounts[0] / "d" / name).write_bytes(bytes(60000))
    running = [subprocess.Popen([sys.executable, cl.REPO / "tests" / "soak_worker.py", c.mounts[i % len(c.mounts)] / "d", str(i), str(seconds)],
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=cl.die_with_parent)
               for i in range(workers)]
    try:
        for each in running:
            out, err = each.communicate(timeout=seconds + 60 * cl.SLOWER)
            assert each.returncode == 0 and int(out) > 0, (each.returncode, err)
    finally:
        for each in running:
            each.kill()
    assert not cut_off(c)
    seen = [{p.relative_to(m / "d").as_posix(): p.read_bytes() if p.is_file() else None for p in sorted((m / "d").rglob("*"))}
            for m in c.mounts]
    seen += [{**s, "data": (m / "d" / "x" / "data").read_bytes()} for s, m in zip(seen, c.mounts)]
    n = len(c.mounts)
    assert all(s == seen[0] for s in seen[:n]) and all(s == seen[n] for s in seen[n:])
    assert seen[n]["data"] == seen[0]["x/c/0"] + seen[0]["x/c/1"]


@pytest.mark.parametrize("options", ["", "strict"])
def test_changes_of_the_same_names_by_all_end(three, options):
    soak(three(options), 4, 6)


@pytest.mark.long
@pytest.mark.watchdog(600 * cl.SLOWER)
@pytest.mark.parametrize("options", ["", "strict"])
def test_changes_of_the_same_names_by_all_end_for_longer(three, options):
    soak(three(options), 120, 9)
