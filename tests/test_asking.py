"""What a mount asks the head for and what it knows by itself: it must save requests, and never at the price of old names."""

import json
import os
import time

import cluster as cl
import numpy as np
from cluster import expect_errno, until
import errno


def sent_to_head(mount):
    """Bytes that the mount has sent to its head by now."""
    return sum(v for (name, labels), v in mount.metrics().items() if name == "slabfs_bytes_sent_total" and 'node="1"' in labels)


class Quiet:
    """A context in which the mount may send the head a few bytes (its metrics are read through it), but no request for each of n names."""

    def __init__(self, mount, n=100):
        self.mount, self.limit = mount, 40 * n // 2

    def __enter__(self):
        sent_to_head(self.mount)
        self.before = sent_to_head(self.mount)

    def __exit__(self, kind, error, trace):
        sent = sent_to_head(self.mount) - self.before
        assert kind or sent < self.limit, f"{sent} bytes were sent"


def let_kernel_forget():
    """The kernel keeps names and attributes for a second; nothing tells when it has let them go."""
    time.sleep(1.1)


def test_known_names_are_not_asked_for(fresh):
    c = fresh(1, mounts=1)
    mount = c.mounts[0]
    d = mount.path / "d"
    d.mkdir()
    for i in range(100):
        (d / f"f{i}").write_text("x")
    let_kernel_forget()
    with Quiet(mount):
        for i in range(100):
            assert (d / f"f{i}").stat().st_size == 1
            with expect_errno(errno.ENOENT):
                (d / f"no{i}").stat()


def test_names_that_others_change(cluster3, spot, elsewhere):
    here, there = spot / "d", elsewhere[1] / "d"
    here.mkdir()
    for i in range(20):
        with expect_errno(errno.ENOENT):
            (here / f"n{i}").stat()
        (there / f"n{i}").write_text(str(i))
        assert (here / f"n{i}").read_text() == str(i)
    os.link(there / "n0", there / "linked")
    os.symlink("n1", there / "symbolic")
    os.rename(there / "n2", there / "renamed")
    (there / "sub").mkdir()
    assert (here / "linked").stat().st_ino == (here / "n0").stat().st_ino
    assert (here / "symbolic").read_text() == "1" and (here / "renamed").read_text() == "2" and (here / "sub").is_dir()
    until(lambda: not (here / "n2").exists(), 3)
    os.rename(there / "n3", there / "n4")
    until(lambda: (here / "n4").read_text() == "3", 3)
    os.unlink(there / "n5")
    until(lambda: not (here / "n5").exists(), 3)
    (there / "n5").write_text("anew")
    assert (here / "n5").read_text() == "anew"


def test_names_that_this_mount_changes(spot):
    d = spot / "d"
    d.mkdir()
    for i in range(50):
        name = d / f"n{i % 5}"
        with expect_errno(errno.ENOENT):
            name.stat()
        name.write_text(str(i))
        assert name.read_text() == str(i)
        os.rename(name, d / "other")
        with expect_errno(errno.ENOENT):
            name.stat()
        os.link(d / "other", name)
        assert name.stat().st_nlink == 2
        os.unlink(name)
        os.unlink(d / "other")
    (d / "a").mkdir()
    (d / "b").write_text("b")
    cl.renameat2(d / "a", d / "b", cl.RENAME_EXCHANGE)
    assert (d / "a").is_file() and (d / "b").is_dir()


def test_names_after_the_head_was_away(fresh):
    c = fresh(2, mounts=2, fixed_ports=True)
    here, there = c.mounts[0].path / "d", c.mounts[1].path / "d"
    here.mkdir()
    (here / "old").write_text("old")
    with expect_errno(errno.ENOENT):
        (here / "new").stat()
    c.nodes[0].process.kill()
    c.nodes[0].start()
    until(lambda: there.is_dir(), 30)
    (there / "new").write_text("new")
    os.unlink(there / "old")
    until(lambda: (here / "new").exists() and (here / "new").read_text() == "new", 10)
    until(lambda: not (here / "old").exists(), 10)


def test_known_files_are_opened_without_asking(fresh):
    c = fresh(2)
    elsewhere, mount = c.mounts  # the second one's node is not the head, and has the bytes of what is made there
    d = mount.path / "d"
    d.mkdir()
    for i in range(100):
        (d / f"f{i}").write_text(str(i))
    let_kernel_forget()
    with Quiet(mount):
        for i in range(100):
            assert (d / f"f{i}").read_text() == str(i)
    (elsewhere.path / "d" / "f7").write_text("other")
    assert (d / "f7").read_text() == "other"
    os.truncate(elsewhere.path / "d" / "f8", 0)
    assert (d / "f8").read_text() == ""


def partitions(c):
    return [name for node in c.nodes for _, _, files in os.walk(node.store / "parts") for name in files if not name.endswith(".gone")]


def test_removal_elsewhere_of_a_file_that_was_closed_here(fresh):
    c = fresh(2)
    here, there = (m.path / "d" for m in c.mounts)
    here.mkdir()
    for i in range(20):
        (here / f"f{i}").write_text("x" * 1000)
        assert (there / f"f{i}").read_text() == "x" * 1000
    for i in range(10):
        (there / f"f{i}").unlink()
    (there / "f10").rename(there / "f11")
    for i in range(12, 15):
        (here / f"f{i}").unlink()
    (here / "f15").rename(here / "f16")
    for i in range(11, 20):
        (there / f"f{i}").unlink(missing_ok=True)
    until(lambda: not partitions(c), 10, "the partitions to go")


def test_removal_of_what_is_open_leaves_nothing(fresh):
    c = fresh(2)
    here, there = (m.path for m in c.mounts)
    for i, remover in enumerate((here, there)):
        (here / "f").write_text("x" * 1000)
        (here / "other").write_text("y")
        (here / "g").write_text("z")
        with open(here / "f", "r+") as f, open(here / "g") as g:
            os.unlink(remover / "f")
            os.rename(remover / "other", remover / "g")
            f.write("after")
            f.flush()
            assert os.fstat(f.fileno()).st_nlink == os.fstat(g.fileno()).st_nlink == 0 and g.read() == "z"
        os.unlink(remover / "g")
    until(lambda: not partitions(c), 10, "the partitions to go")


def test_removal_of_a_file_that_is_open(spot, elsewhere):
    here, there = spot, elsewhere[1]
    for remover in (here, there):
        (here / "f").write_text("kept")
        with open(here / "f") as f:
            os.unlink(remover / "f")
            assert f.read() == "kept"
        (here / "g").write_text("x")
        os.link(here / "g", here / "h")
        os.unlink(remover / "g")
        assert (here / "h").read_text() == "x"
        os.unlink(here / "h")


def test_more_files_than_are_kept_open(fresh):
    c = fresh(1, mounts=1)
    d = c.mounts[0].path / "d"
    d.mkdir()
    names = [d / f"f{i}" for i in range(4300)]
    for p in names:
        p.touch()
    names[0].write_text("first")
    assert names[0].read_text() == "first" and names[-1].read_text() == ""
    for p in names:
        p.unlink()
    until(lambda: not partitions(c), 10, "the partitions to go")


def test_a_partition_that_was_just_replaced(spot):
    """For a moment the kernel takes the new name for the temporary's inode, which is gone, though it was open at the head until then."""
    array = spot / "a"
    array.mkdir()
    np.save(array / "data.npy", np.arange(64, dtype="u1"))
    name, size = next((p.name, p.stat().st_size) for p in (array / "c").iterdir())
    for i in range(200):
        temporary = array / "c" / f"{name}.{i:x}.partial"
        temporary.write_bytes(bytes([i]) * size)
        os.rename(temporary, array / "c" / name)
        assert (array / "c" / name).read_bytes() == bytes([i]) * size


def held(c):
    status = cl.run(cl.program("slabctl"), "--store", c.nodes[0].store, "status", "--json", check=0).stdout
    return json.loads(status)["held_inodes"]


def test_what_was_looked_at_is_forgotten(fresh):
    """The head notes which inodes a mount caches, and the kernel's forgetting ends it, but for what the mount goes on using."""
    c = fresh(2)
    first, second = c.mounts
    (first.path / "d").mkdir()
    for i in range(3000):
        (first.path / "d" / f"d{i}").mkdir()
    for i in range(3):
        (first.path / "d" / f"f{i}").write_text("old")
    d = second.path / "d"
    for i in range(3000):
        os.stat(d / f"d{i}")
    assert held(c) >= 3000

    def forgotten():
        """The kernel gives back inodes that are unused when it is asked to."""
        with open("/proc/sys/vm/drop_caches", "w") as f:
            f.write("2")
        return held(c) < 1500

    with open(d / "f1") as kept:
        until(forgotten, 30, "the head to hear of it")
        for name in ("f0", "f1", "f2"):
            (first.path / "d" / name).write_text("new")
            assert (d / name).read_text() == "new"
        assert kept.read() == "new"
