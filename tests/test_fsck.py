"""slabctl fsck: the names, what the nodes hold, and a head that is made anew from the stores."""

import errno
import json
import os
import re
import shutil
import sqlite3

import cluster as cl
import numpy as np
import pytest
from test_integrity import PARTITION, VALUES, drop_caches, lose, numbered, partitions, read, save, sync


def fsck(c, *argv, **kwargs):
    return cl.run(cl.program("slabctl"), "--store", c.nodes[0].store, "fsck", *argv, **kwargs)


def told(c):
    """The stores have been told of all arrays."""
    done = cl.run(cl.program("slabctl"), "--store", c.nodes[0].store, "status", "--json", check=0)
    return json.loads(done.stdout)["undescribed"] == 0


def stop_all(c):
    for m in list(c.mounts):
        assert c.unmount(m) == ""
    for node in c.nodes:
        assert node.stop() == ""


def query(path, sql, *values):
    db = sqlite3.connect(path)
    try:
        rows = db.execute(sql, values).fetchall()
        db.commit()
        return rows
    finally:
        db.close()


def tell_all(c):
    cl.until(lambda: told(c), what="the stores to be told")
    stop_all(c)
    assert query(c.nodes[0].store / "meta.db", "SELECT count(*) FROM describe") == [(0,)]


def busy_tree(m):
    """Everything that a tree can hold, moved about."""
    rng = np.random.default_rng(3)
    (m / "plain").mkdir()
    (m / "plain" / "deep").mkdir()
    for i in range(20):
        (m / "plain" / f"f{i}").write_bytes(rng.bytes(1000 * i))
    os.symlink("f1", m / "plain" / "link")
    os.link(m / "plain" / "f2", m / "plain" / "deep" / "hard")
    os.rename(m / "plain" / "f3", m / "plain" / "deep" / "moved")
    os.rename(m / "plain" / "f4", m / "plain" / "f5")
    os.unlink(m / "plain" / "f6")
    (m / "climate").mkdir()
    arrays = {}
    for i, name in enumerate(["climate/temps", "climate/winds", "other"]):
        arrays[name] = numbered(5, i)
        save(m / name, arrays[name])
    save(m / "gone", numbered(3, 9))
    shutil.rmtree(m / "gone")
    os.rename(m / "climate", m / "weather")
    os.rename(m / "weather" / "winds", m / "weather" / "gales")
    os.setxattr(m / "other", "user.unit", b"kelvin \xff\0")
    os.chmod(m / "other", 0o750)
    os.chown(m / "other", 1234, 5678)
    renamed = {"climate/temps": "weather/temps", "climate/winds": "weather/gales", "other": "other"}
    return {renamed[name]: a for name, a in arrays.items()}


def check_arrays(m, arrays):
    for name, a in arrays.items():
        assert np.array_equal(np.load(m / name / "data.npy"), a), name
        assert float((m / name / "compute" / "sum").read_text()) == float(a.sum())
        assert (m / name / "zarr.json").read_text()
    assert os.getxattr(m / "other", "user.unit") == b"kelvin \xff\0"
    st = os.stat(m / "other")
    assert (st.st_mode & 0o7777, st.st_uid, st.st_gid) == (0o750, 1234, 5678)


def test_a_healthy_cluster(fresh):
    c = fresh(2, mounts=1)
    busy_tree(c.mounts[0])
    done = cl.until(lambda: (d := fsck(c)).returncode == 0 and d, what="a cluster without findings")
    healthy = r"fsck: \d+ objects; 0 restored, 0 dropped, 0 left\n"
    assert re.fullmatch(healthy, done.stdout), done.stdout
    done = fsck(c, "--repair", check=0)
    assert re.fullmatch(healthy, done.stdout), done.stdout
    assert fsck(c, "--drop-unknown").returncode == 2 and fsck(c, "--wrong").returncode == 2 and fsck(c, "more").returncode == 2


def test_damaged_partitions_are_named(fresh):
    c = fresh(2, mounts=1)
    a = numbered(6)
    save(c.mounts[0] / "x", a)
    files = partitions(c, a)
    lose(files[2])  # nobody has read it yet
    done = fsck(c)
    assert done.returncode == 1 and re.search(r"^/x: partition 2 on node \d is quarantined$", done.stdout, re.M), done.stdout
    assert fsck(c, "--repair").returncode == 1  # what is lost cannot be mended
    os.unlink(c.mounts[0] / "x" / "c" / "2")
    assert fsck(c, check=0)


def test_tables_that_disagree(fresh):
    """Each table is damaged behind the head's back; --repair mends it, and what no name leads to is in /lost+found."""
    c = fresh(1, fixed_ports=True)
    m = c.mounts[0]
    for name in ("a", "b", "ring", "ring/one", "ring/one/two"):
        (m / name).mkdir()
    for name in ("a/f", "a/g", "a/dangling", "b/kept", "ring/one/two/far"):
        (m / name).write_text(name)
        sync(m / name)
    ino = {name: os.stat(m / name).st_ino for name in ("a", "b", "a/f", "a/g", "a/dangling", "b/kept", "ring", "ring/one",
                                                       "ring/one/two")}
    save(m / "x", numbered(2))
    save(m / "recordless", numbered(3, 1))
    cl.until(lambda: told(c), what="the store to be told")
    ino["recordless"] = os.stat(m / "recordless").st_ino
    stop_all(c)
    db = c.nodes[0].store / "meta.db"
    query(db, "DELETE FROM arrays WHERE ino = ?", ino["recordless"])
    query(db, "DELETE FROM inodes WHERE ino = ?", ino["a/dangling"])
    query(db, "DELETE FROM dirents WHERE ino = ?", ino["a/f"])
    query(db, "DELETE FROM dirents WHERE ino = ?", ino["b"])
    query(db, "UPDATE inodes SET nlink = 7 WHERE ino = ?", ino["a/g"])
    query(db, "UPDATE inodes SET nlink = 9 WHERE ino = ?", ino["a"])
    query(db, "UPDATE dirents SET parent = ? WHERE ino = ?", ino["ring/one/two"], ino["ring/one"])  # a ring
    query(db, "INSERT INTO xattrs VALUES(999999, x'61', x'62')")
    query(db, "INSERT INTO contents VALUES(999999, x'62')")
    query(db, "INSERT INTO orphans SELECT object, layout, epoch FROM inodes WHERE ino = ?", ino["b/kept"])
    c.nodes[0].start()
    done = fsck(c)
    assert done.returncode == 1
    for words in ("/a/dangling: a name of nothing", "no name leads to it", "number of links is wrong", "an attribute of nothing",
                  "contents of nothing", "/recordless: an array without its record"):
        assert words in done.stdout, done.stdout
    done = fsck(c, "--repair")
    assert "mended" in done.stdout and "restored: /recordless " in done.stdout, done.stdout
    assert fsck(c, check=0)
    m = c.mount(c.nodes[0].store)
    assert sorted(os.listdir(m / "a")) == ["g"] and os.stat(m / "a" / "g").st_nlink == 1 and os.stat(m / "a").st_nlink == 2
    lost = {p.name: p for p in (m / "lost+found").iterdir()}
    assert lost[f"inode-{ino['a/f']}"].read_text() == "a/f"
    assert os.stat(m / "lost+found").st_mode & 0o777 == 0o700
    far = [p for p in (m / "lost+found").rglob("far")]
    assert len(far) == 1 and far[0].read_text() == "ring/one/two/far"
    assert np.array_equal(np.load(m / "x" / "data.npy"), numbered(2))
    assert np.array_equal(np.load(m / "recordless" / "data.npy"), numbered(3, 1))
    assert os.stat(m / "recordless").st_ino == ino["recordless"]
    stop_all(c)
    assert query(db, "PRAGMA integrity_check") == [("ok",)]
    c.nodes[0].start()


def test_objects_without_a_name(fresh):
    """An older copy of the names is put back: what was made since is found, and numbers are not given again."""
    c = fresh(2, fixed_ports=True, mounts=1)
    save(c.mounts[0] / "before", numbered(3))
    tell_all(c)
    db = c.nodes[0].store / "meta.db"
    shutil.copy(db, c.root / "older")
    for node in c.nodes:
        node.start()
    m = c.mount(c.nodes[0].store)
    save(m / "since", numbered(4, 1))
    (m / "small").write_bytes(b"small" * 1000)
    os.mkdir(m / "cut")
    os.setxattr(m / "cut", "user.slabfs.partition_bytes", b"131072")
    big = os.urandom(1000000)
    (m / "cut" / "big").write_bytes(big)
    sync(m / "cut" / "big")
    sync(m / "small")
    tell_all(c)
    shutil.copy(c.root / "older", db)
    c.nodes[0].start()
    # Which of the two is the older one cannot be told: the operator says that the store is right.
    other = c.nodes[1]
    other.process = cl.Process([cl.program("slabfsd"), "--accept-copy", other.store], other.log)
    other.process.wait_line(r"^slabfsd: node 2 ready")
    done = fsck(c)
    assert done.returncode == 1 and len(re.findall("no name leads to it", done.stdout)) == 3 and ", was /since" in done.stdout
    done = fsck(c, "--repair")
    assert len(re.findall("^restored: /lost.found/", done.stdout, re.M)) == 3, done.stdout
    assert fsck(c, check=0)
    m = c.mount(c.nodes[0].store)
    assert np.array_equal(np.load(m / "before" / "data.npy"), numbered(3))
    lost = list((m / "lost+found").iterdir())
    arrays = [p for p in lost if p.name.startswith("array-")]
    files = sorted((p for p in lost if p.name.startswith("file-")), key=lambda p: p.stat().st_size)
    assert len(arrays) == 1 and np.array_equal(np.load(arrays[0] / "data.npy"), numbered(4, 1))
    assert [p.read_bytes() for p in files] == [b"small" * 1000, big]
    save(m / "new", numbered(4, 2))
    assert np.array_equal(np.load(arrays[0] / "data.npy"), numbered(4, 1))
    os.rename(arrays[0], m / "since")
    assert np.array_equal(np.load(m / "since" / "data.npy"), numbered(4, 1))


def start_head(c, *argv):
    node = c.nodes[0]
    node.process = cl.Process([cl.program("slabfsd"), *argv, node.store], node.log)
    node.address = node.process.wait_line(r"^slabfsd: node 1 ready on (\S+)$")[1]


def test_the_names_are_lost(fresh):
    """meta.db is gone.  The head does not start without being told; from the stores every array is as it was."""
    c = fresh(3, fixed_ports=True, mounts=1)
    arrays = busy_tree(c.mounts[0])
    small = (c.mounts[0] / "plain" / "f19").read_bytes()
    sync(c.mounts[0] / "plain" / "f19")
    inos = {name: os.stat(c.mounts[0] / name).st_ino for name in arrays}
    tell_all(c)
    for path in c.nodes[0].store.glob("meta.db*"):
        path.unlink()
    done = cl.run(cl.program("slabfsd"), c.nodes[0].store)
    assert done.returncode == 1 and "is lost" in done.stderr and "--rebuild" in done.stderr
    done = cl.run(cl.program("slabfsd"), c.nodes[0].store)
    assert done.returncode == 1 and "is lost" in done.stderr
    assert cl.run(cl.program("slabfsd"), "--rebuild", c.nodes[1].store).returncode == 1
    start_head(c, "--rebuild")
    for node in c.nodes[1:]:
        node.start()
    m = c.mount(c.nodes[0].store)
    with cl.expect_errno(errno.EROFS):
        (m / "too early").write_text("x")
    done = fsck(c, "--rebuild")
    assert len(re.findall(r"^restored: /(weather/temps|weather/gales|other) ", done.stdout, re.M)) == 3, done.stdout
    assert "0 left" in done.stdout and done.returncode == 0, done.stdout
    check_arrays(m, arrays)
    assert {name: os.stat(m / name).st_ino for name in arrays} == inos
    assert small in [p.read_bytes() for p in (m / "lost+found").glob("file-*")]
    for i in range(5):
        save(m / f"new{i}", numbered(4, 10 + i))
    check_arrays(m, arrays)
    again = c.add_node()
    assert again.number == 4
    c.ctl("nodes", check=0)
    stop_all(c)
    for node in c.nodes:
        node.start()
    m = c.mount(c.nodes[2].store)
    check_arrays(m, arrays)
    for i in range(5):
        assert np.array_equal(np.load(m / f"new{i}" / "data.npy"), numbered(4, 10 + i))
    assert fsck(c, check=0)
    done = cl.run(cl.program("slabfsd"), "--rebuild", c.nodes[0].store)
    assert done.returncode == 1


def test_the_heads_disk_is_lost(fresh):
    """A new store takes its place.  What lay on the others is as it was; what lay on the head is lost, and says so."""
    c = fresh(3, fixed_ports=True, mounts=1)
    a = numbered(9)
    save(c.mounts[0] / "x", a)
    on_head = [i for i, p in partitions(c, a).items() if p.is_relative_to(c.nodes[0].store)]
    tell_all(c)
    head = c.nodes[0]
    key = c.nodes[1].key
    shutil.rmtree(head.store)
    for node in c.nodes[1:]:
        node.process = cl.Process([cl.program("slabfsd"), node.store], node.log)
    cl.until(lambda: _listens(c.nodes[1].address), what="a node that waits for its head")
    cl.run(cl.program("mkfs.slabfs"), "--rebuild", c.nodes[1].address, "--key", key, "--listen", head.address, head.store, check=0)
    done = cl.run(cl.program("slabfsd"), head.store)
    assert done.returncode == 1 and "--rebuild" in done.stderr
    start_head(c, "--rebuild")
    for node in c.nodes[1:]:
        node.process.wait_line(r"^slabfsd: node \d ready")
    assert "restored: /x " in fsck(c, "--rebuild").stdout
    m = c.mount(head.store)
    assert 0 < len(on_head) < 9
    for i in range(9):
        if i in on_head:
            with cl.expect_errno(errno.EIO):
                read(m / "x", i)
        else:
            assert read(m / "x", i) == a[VALUES * i:VALUES * (i + 1)].tobytes()
    assert any("lost with the store" in line for line in m.errors())
    with cl.expect_errno(errno.EIO):
        (m / "x" / "compute" / "sum").read_text()
    for i in on_head:
        os.unlink(m / "x" / "c" / str(i))
        assert read(m / "x", i) == bytes(PARTITION)
    assert head.stop() == ""
    head.start()
    cl.until(lambda: c.ctl("nodes", mount=m).stdout.count(" up ") == 3, what="the nodes to be back")
    assert read(m / "x", on_head[0]) == bytes(PARTITION)
    with open(m / "x" / "data", "r+b") as f:
        f.write(a.tobytes())
    assert np.array_equal(np.load(m / "x" / "data.npy"), a)
    save(m / "y", numbered(6, 1))
    assert np.array_equal(np.load(m / "y" / "data.npy"), numbered(6, 1))


def _listens(address):
    host, port = address.rsplit(":", 1)
    with cl.socket.socket() as s:
        return s.connect_ex((host, int(port))) == 0
