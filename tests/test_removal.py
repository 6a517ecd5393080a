"""What was removed leaves the nodes: many files at once, and others than the one that cannot go."""

import os
import pathlib
import subprocess

import pytest

from cluster import until


def below(c):
    """What is in the stores' parts/, while it goes."""
    return [pathlib.Path(top, name) for node in c.nodes for top, dirs, files in os.walk(node.store / "parts") for name in dirs + files
            if len(pathlib.Path(top, name).relative_to(node.store).parts) > 2]


def partitions(c):
    return [p for p in below(c) if p.relative_to(p.parents[3]).parts[0] == "parts"]


def fill(directory, n):
    directory.mkdir()
    for i in range(n):
        (directory / str(i)).write_text(str(i))


def test_many_files(fresh):
    c = fresh(3, mounts=1)
    d = c.mounts[0].path / "d"
    fill(d, 600)
    assert len(partitions(c)) >= 600
    for i in range(600):
        (d / str(i)).unlink()
    until(lambda: not partitions(c), 30, "all partitions to go")
    until(lambda: not below(c), 10, "their directories to go")


def test_one_that_cannot_go(fresh):
    c = fresh(1)
    d = c.mounts[0].path / "d"
    fill(d, 1)
    stuck = c.find_partition()[0]
    if subprocess.run(["chattr", "+i", stuck], capture_output=True).returncode:
        pytest.skip("the store's file system has no immutable files")
    try:
        fill(d / "more", 100)
        for p in [d / "0", *(d / "more").iterdir()]:
            p.unlink()
        until(lambda: {p for p in partitions(c) if p.suffix != ".gone"} <= {stuck, stuck.with_suffix(".sum")}, 30, "the others to go")
    finally:
        subprocess.run(["chattr", "-i", stuck], check=True)
    until(lambda: not partitions(c), 30, "it to go as well")
