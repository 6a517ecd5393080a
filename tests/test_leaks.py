"""A mount and its daemons after much work hold no more than before: memory, descriptors, threads, partitions."""

import os

import cluster as cl
import numpy as np
import pytest

ROUNDS = 40  # of about 200 requests each
KIB_MORE = 12 << 10  # heaps grow in steps, and caches that are bounded fill


def holds(pid):
    status = dict(line.split(":", 1) for line in open(f"/proc/{pid}/status"))
    return int(status["VmRSS"].split()[0]), len(os.listdir(f"/proc/{pid}/fd")), int(status["Threads"])


def work(path, i):
    d = path / f"d{i}"
    d.mkdir()
    for k in range(20):
        (d / f"f{k}").write_bytes(bytes([k]) * 3000)
    for k in range(20):
        assert (d / f"f{k}").read_bytes() == bytes([k]) * 3000
    os.rename(d / "f0", d / "g0")
    os.link(d / "g0", d / "h0")
    os.symlink("g0", d / "s0")
    os.setxattr(d / "g0", "user.x", b"y" * 100)
    os.listdir(d)
    (d / "a").mkdir()
    np.save(d / "a" / "data.npy", np.arange(20_000))
    assert np.load(d / "a" / "data.npy", mmap_mode="r")[-1] == 19_999
    assert (d / "a" / "compute" / "max").read_text() == "19999\n"
    for name in ("nothing", "var,ddof=x"):
        with cl.expect_errno(2, 22):
            (d / "a" / "compute" / name).read_text()
    cl.remove_tree(d)


@pytest.mark.skipif(cl.SANITIZED != "", reason="a sanitizer keeps what was freed; it looks for leaks itself")
def test_much_work_leaves_nothing(fresh):
    c = fresh(2)
    paths = [m.path for m in c.mounts]
    processes = {"node 1": c.nodes[0].process.pid, "node 2": c.nodes[1].process.pid, "mount 1": c.mounts[0].process.pid,
                 "mount 2": c.mounts[1].process.pid}
    for i in range(ROUNDS // 2):
        work(paths[i % 2], i)
    before = {name: holds(pid) for name, pid in processes.items()}
    for i in range(ROUNDS // 2, 3 * ROUNDS):
        work(paths[i % 2], i)

    def settled():
        after = {name: holds(pid) for name, pid in processes.items()}
        return all(a[0] - b[0] < KIB_MORE and a[1] <= b[1] + 16 and a[2] <= b[2] + 16
                   for a, b in ((after[n], before[n]) for n in after))

    try:
        cl.until(settled, 20, "memory, descriptors and threads to be as before")
    except AssertionError:
        raise AssertionError(f"before {before}, after { {n: holds(p) for n, p in processes.items()} }")
    cl.until(lambda: all(not list(n.store.glob("parts/*/*/*")) for n in c.nodes), 30, "the partitions of removed files to go")
