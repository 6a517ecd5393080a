"""Failures made to happen: each has the right errno, and one line that says what and where; nothing is lost, nothing hangs."""

import errno
import json
import os
import signal
import socket
import struct
import threading
import time

import cluster as cl
import numpy as np
import oracle
import pytest

LOST = (errno.EIO, errno.ETIMEDOUT)


def save(directory, a, partition_bytes=4096):
    directory.mkdir(exist_ok=True)
    os.setxattr(directory, "user.slabfs.partition_bytes", str(partition_bytes).encode())
    np.save(directory / "data.npy", a)


def said(mount, *words):
    """One line of .slabfs/errors has all the words."""
    lines = mount.errors()
    assert any(all(w.lower() in line.lower() for w in words) for line in lines), f"no line with {words} in {lines[-8:]}"


def timed(limit, action, *args):
    start = time.monotonic()
    result = action(*args)
    took = time.monotonic() - start
    assert took < limit * cl.SLOWER, f"took {took:.1f} s"
    return result


def partition_owner(c, directory, index):
    """The node that holds partition `index` of an int64 array in which each partition is full of its own number."""
    for node in c.nodes:
        for p in node.store.glob("parts/*/*/*"):
            if p.suffix != ".sum" and p.stat().st_size == 4096 and np.fromfile(p, "<i8")[0] == index:
                return node, p
    raise AssertionError(f"nobody holds partition {index}")


def numbered(n):
    return np.repeat(np.arange(n, dtype="<i8"), 512)


def read_partition(directory, i):
    with open(directory / "data", "rb") as f:
        f.seek(4096 * i)
        return f.read(4096)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_a_dead_or_hung_node(fresh, how):
    c = fresh(3, options="timeout=2", fixed_ports=True)
    m = c.mounts[0]
    directory = m.path / "x"
    save(directory, numbered(12))
    node, _ = partition_owner(c, directory, 0)
    victim = node if node.number != 1 else partition_owner(c, directory, 1)[0]
    lost = [i for i in range(12) if partition_owner(c, directory, i)[0] is victim]
    victim.process.signal(how)
    if how == signal.SIGKILL:
        victim.process.wait()
    for i in range(12):
        if i in lost:
            with cl.expect_errno(*LOST):
                timed(5, read_partition, directory, i)
        else:
            assert timed(5, read_partition, directory, i) == numbered(12)[512 * i:512 * i + 512].tobytes()
    said(m, f"node {victim.number}")
    with cl.expect_errno(*LOST):
        timed(5, (directory / "compute" / "mean").read_text)
    said(m, f"node {victim.number}", "mean")
    assert timed(1, os.listdir, m.path) == ["x"]
    timed(4, (m.path / "other").mkdir)
    assert 0 < len(lost) < 12
    if how == signal.SIGSTOP:
        victim.process.signal(signal.SIGCONT)
    else:
        victim.start()
    cl.until(lambda: _readable(directory, numbered(12)), 20 * cl.SLOWER, "the node's data to be back")
    assert float((directory / "compute" / "mean").read_text()) == 5.5


def _readable(directory, a):
    try:
        return np.array_equal(np.load(directory / "data.npy"), a)
    except (OSError, ValueError):  # numpy.load takes a read that fails for the end of the file
        return False


def test_a_hung_head(fresh):
    c = fresh(2, options="timeout=2")
    m = c.mounts[1]
    (m.path / "f").write_text("x")
    c.nodes[0].process.signal(signal.SIGSTOP)
    with cl.expect_errno(*LOST):
        timed(6, (m.path / "new").mkdir)
    c.nodes[0].process.signal(signal.SIGCONT)
    said(m, "node 1") if any("node 1" in line for line in m.errors()) else said(m, "head")
    cl.until(lambda: _exists(m.path / "f"), 15 * cl.SLOWER, "the head to be back")


def _exists(path):
    try:
        return path.read_text() == "x"
    except OSError:
        return False


def test_interrupting_a_hung_read(fresh):
    c = fresh(2, mounts=1, options="timeout=60")
    directory = c.mounts[0].path / "x"
    save(directory, numbered(6))
    c.nodes[1].process.signal(signal.SIGSTOP)
    reader = cl.subprocess.Popen(["cat", directory / "compute" / "mean"], stdout=cl.subprocess.DEVNULL, preexec_fn=cl.die_with_parent)
    copier = cl.subprocess.Popen(["cat", directory / "data"], stdout=cl.subprocess.DEVNULL, preexec_fn=cl.die_with_parent)
    cl.until(lambda: _waits_in_kernel(reader.pid) and _waits_in_kernel(copier.pid), 10, "both to wait")
    for process in (reader, copier):
        start = time.monotonic()
        process.send_signal(signal.SIGINT)
        process.wait(5 * cl.SLOWER)
        assert time.monotonic() - start < 2 * cl.SLOWER
    c.nodes[1].process.signal(signal.SIGCONT)


def _waits_in_kernel(pid):
    where = open(f"/proc/{pid}/wchan").read()
    return "request_wait" in where or "folio_wait" in where or "wait_on_page" in where


def test_a_wrong_key_is_refused(tmp, cluster1):
    node = cluster1.nodes[0]
    wrong = tmp / "wrong.key"
    wrong.write_bytes(os.urandom(32))
    os.chmod(wrong, 0o600)
    (tmp / "m").mkdir()
    done = cl.run(cl.program("slabfs"), node.address, tmp / "m", "-o", f"key={wrong}")
    assert done.returncode == 1 and "key" in done.stderr and node.address in done.stderr
    cl.until(lambda: "key" in node.process.text(), 5, "the daemon's log line about the key")
    assert (cluster1.mounts[0].path / ".slabfs" / "version").read_text()


def test_a_node_of_another_cluster(fresh):
    a, b = fresh(1, fixed_ports=True), fresh(1, fixed_ports=True, mounts=0)
    joined = b.add_node()
    assert joined.stop() == ""
    superblock = json.loads((joined.store / "superblock.json").read_text())
    text = (joined.store / "superblock.json").read_text().replace(b.nodes[0].address, a.nodes[0].address)
    assert superblock and a.nodes[0].address in text
    (joined.store / "superblock.json").write_text(text)
    (joined.store / "cluster.key").write_bytes(a.nodes[0].key.read_bytes())
    process = cl.Process([cl.program("slabfsd"), joined.store], b.root / "stranger.log")
    process.wait_line("belongs to cluster .*, not to ")
    process.stop()
    assert joined.address not in a.ctl("nodes", check=0).stdout


def connect(node):
    host, port = node.address.rsplit(":", 1)
    s = socket.create_connection((host, int(port)), 5)
    return s


def test_garbage_on_the_port(fresh):
    """Noise, huge lengths and half-open connections: the daemon lives, says so, and serves others meanwhile."""
    c = fresh(2)
    m = c.mounts[0]
    save(m.path / "x", numbered(6))
    rng = np.random.default_rng(1)
    for node in c.nodes:
        held = [connect(node) for _ in range(20)]
        for s in held[::2]:
            s.send(b"SLBK")
        for n in (1, 3, 39, 40, 41, 1000, 100000):
            with connect(node) as s:
                _send(s, rng.bytes(n))
        with connect(node) as s:
            _send(s, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 10)
        header = struct.pack("<IHHQIIIIQQ", 0x31424C53, 1, 81, 1, 0, 0, 0xFFFFFFFF, 0, 2**64 - 1, 0)
        with connect(node) as s:
            _send(s, header)
        with connect(node) as s:
            _send(s, b"SLBK" + struct.pack("<I", 1) + bytes(32) + bytes(32) + header * 100)
        with socket.socket(socket.AF_UNIX) as s:
            s.connect(str(node.store / "slabfsd.sock"))
            _send(s, header)
            s.settimeout(10)
            while s.recv(4096):
                pass
        with socket.socket(socket.AF_UNIX) as s:
            s.connect(str(node.store / "slabfsd.sock"))
            _send(s, rng.bytes(50000))
        assert np.array_equal(np.load(m.path / "x" / "data.npy"), numbered(6))
        assert float((m.path / "x" / "compute" / "mean").read_text()) == 2.5
        (m.path / f"while-held-{node.number}").write_text("x")
        for s in held:
            s.close()
        assert node.process.running()
        cl.until(lambda: len(node.process.text().splitlines()) > 1, 10, "a line about it in the log")
    assert sorted(os.listdir(c.mounts[1].path)) == ["while-held-1", "while-held-2", "x"]


def _send(s, data):
    try:
        s.sendall(data)
    except OSError:
        pass


def test_many_idle_strangers(cluster1):
    """Connections that never say who they are do not keep others out."""
    held = [connect(cluster1.nodes[0]) for _ in range(50)]
    try:
        m = cluster1.remote_mount()
        assert m.control("version")
        assert cluster1.unmount(m) == ""
    finally:
        for s in held:
            s.close()


@pytest.fixture
def small_disk(tmp):
    (tmp / "disk").mkdir()
    cl.run("mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", tmp / "disk", check=0)
    yield tmp / "disk" / "s"
    cl.run("umount", "-l", tmp / "disk")


def test_a_full_disk(fresh, small_disk):
    c = fresh(1, stores=[small_disk])
    m = c.mounts[0]
    (m.path / "kept").write_text("kept")
    (m.path / "x").mkdir()
    with cl.expect_errno(errno.ENOSPC):
        np.lib.format.open_memmap(m.path / "x" / "data.npy", "w+", "<f8", (10 << 20,))
    said(m, "ENOSPC")
    with cl.expect_errno(errno.ENOSPC):
        np.save(m.path / "x" / "data.npy", np.zeros(10 << 20))
    with cl.expect_errno(errno.ENOSPC):
        with open(m.path / "big", "wb", buffering=0) as f:
            for _ in range(64):
                f.write(os.urandom(1 << 20))
            os.fsync(f.fileno())
    assert (m.path / "kept").read_text() == "kept"
    os.unlink(m.path / "big")
    a = np.arange(1 << 20, dtype="<f8")
    (m.path / "y").mkdir()

    def fits():
        try:
            np.save(m.path / "y" / "data.npy", a)
            return True
        except OSError as e:
            assert e.errno == errno.ENOSPC
            return False

    cl.until(fits, 20 * cl.SLOWER, "the space to be free again")
    assert np.array_equal(np.load(m.path / "y" / "data.npy"), a)


def test_a_full_disk_under_mmap(fresh, small_disk):
    """An error of a call, never a SIGBUS."""
    c = fresh(1, stores=[small_disk])
    directory = c.mounts[0].path / "x"
    directory.mkdir()
    (directory / "zarr.json").write_text(json.dumps(oracle.document("<f8", (8 << 20,), (1 << 17,))))
    code = ("import numpy as np, sys\n"
            "try:\n m = np.memmap(sys.argv[1], '<f8', 'r+')\n m[:] = 1\n m.flush()\nexcept OSError as e: sys.exit(e.errno)")
    done = cl.run("/usr/bin/python3", "-c", code, directory / "data")
    assert done.returncode in (errno.ENOSPC, errno.EIO), done
    said(c.mounts[0], "ENOSPC")


def damage(c, directory, index, how):
    """Stops the mount's caches from hiding it: the file is changed behind the daemon's back."""
    node, path = partition_owner(c, directory, index)
    if how == "flip":
        with open(path, "r+b") as f:
            f.seek(1234)
            byte = f.read(1)
            f.seek(1234)
            f.write(bytes([byte[0] ^ 16]))
    elif how == "cut":
        os.truncate(path, 1000)
    elif how == "lose":
        os.unlink(path)
    elif how == "flip sum":
        with open(str(path) + ".sum", "r+b") as f:
            f.seek(64)
            byte = f.read(1)
            f.seek(64)
            f.write(bytes([byte[0] ^ 16]))
    elif how == "cut sum":
        os.truncate(str(path) + ".sum", 10)
    return node


@pytest.mark.parametrize("how,restart", [("flip", False), ("cut", False), ("lose", False), ("flip", True), ("cut", True),
                                         ("lose", True), ("flip sum", True), ("cut sum", True)])
def test_a_corrupt_partition(fresh, how, restart):
    c = fresh(2, fixed_ports=True)
    directory = c.mounts[0].path / "x"
    save(directory, numbered(8))
    fd = os.open(directory / "data", os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)
    for m in c.mounts[::-1]:
        assert c.unmount(m) == ""
    node, _ = partition_owner(c, directory, 3)
    if restart:
        assert node.stop() == ""
    damage(c, directory, 3, how)
    if restart:
        node.start()
    for n in c.nodes:
        m = c.mount(n.store)
        d = m.path / "x"
        with cl.expect_errno(errno.EIO):
            read_partition(d, 3)
        with cl.expect_errno(errno.EIO):
            (d / "c" / "3").read_bytes()
        said(m, "EIO", "partition 3", f"node {node.number}")
        for i in (0, 1, 2, 4, 5, 6, 7):
            assert read_partition(d, i) == numbered(8)[512 * i:512 * i + 512].tobytes()
        with cl.expect_errno(errno.EIO):
            (d / "compute" / "mean").read_text()
        said(m, "mean", "partition 3")
    assert "partition 3" in node.process.text() or "/3" in node.process.text()
    d = c.mounts[0].path / "x"
    (d / "c" / "3").write_bytes(np.full(512, 3, "<i8").tobytes())
    assert np.array_equal(np.load(c.mounts[1].path / "x" / "data.npy"), numbered(8))
    assert float((d / "compute" / "mean").read_text()) == 3.5


BAD_DOCUMENTS = [
    ("not JSON", "{", "zarr.json"),
    ("empty object", "{}", "zarr_format"),
    ("version 2", dict(zarr_format=2), "zarr_format"),
    ("bad node type", dict(node_type="arrow"), "node_type"),
    ("negative shape", dict(shape=[-1]), "shape"),
    ("text shape", dict(shape=["3"]), "shape"),
    ("huge shape", dict(shape=[2**62, 2**62], chunk_grid={"name": "regular", "configuration": {"chunk_shape": [1, 1]}}), None),
    ("unknown dtype", dict(data_type="float31"), "data_type"),
    ("zero chunk", dict(chunk_grid={"name": "regular", "configuration": {"chunk_shape": [0]}}), "chunk"),
    ("rank of chunks", dict(chunk_grid={"name": "regular", "configuration": {"chunk_shape": [2, 2]}}), "chunk"),
    ("odd grid", dict(chunk_grid={"name": "hexagonal", "configuration": {}}), "chunk_grid"),
    ("gzip", dict(codecs=[{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "gzip"}]), "gzip"),
    ("no codec", dict(codecs=[]), "codecs"),
    ("fill value", dict(fill_value="green"), "fill_value"),
    ("no fill value", dict(fill_value=None), "fill_value"),
    ("must understand", dict(extra={"name": "x", "must_understand": True}), "extra"),
    ("storage transformers", dict(storage_transformers=[{"name": "x"}]), "storage_transformers"),
]


@pytest.mark.parametrize("name,change,word", BAD_DOCUMENTS, ids=[d[0] for d in BAD_DOCUMENTS])
def test_a_bad_document(spot, cluster3, name, change, word):
    text = change if isinstance(change, str) else json.dumps(oracle.document("<f8", (10,), (5,)) | change)
    with cl.expect_errno(errno.EINVAL, errno.ENOTSUP, errno.EFBIG):
        fd = os.open(spot / "zarr.json", os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o644)
        try:
            os.write(fd, text.encode())
            os.fsync(fd)
        finally:
            os.close(fd)
    said(cluster3.mounts[0], spot.name, word or "zarr.json")
    assert not (spot / "data").exists()


def test_a_bad_document_changes_nothing(spot, elsewhere):
    np.save(spot / "data.npy", np.arange(10.))
    before = (spot / "zarr.json").read_text()
    (spot / "zarr.json.partial").write_text("{")
    with cl.expect_errno(errno.EINVAL):
        os.rename(spot / "zarr.json.partial", spot / "zarr.json")
    assert (elsewhere[1] / "zarr.json").read_text() == before
    assert np.array_equal(np.load(elsewhere[1] / "data.npy"), np.arange(10.))


def npy(header, version=1, magic=b"\x93NUMPY"):
    body = header.encode() + b"\n"
    return magic + bytes([version, 0]) + struct.pack("<H" if version == 1 else "<I", len(body)) + body + bytes(80)


BAD_HEADERS = [
    ("magic", npy("{'descr': '<f8', 'fortran_order': False, 'shape': (10,), }", magic=b"\x92NUMPY"), "npy"),
    ("version", npy("{'descr': '<f8', 'fortran_order': False, 'shape': (10,), }", 9), "version"),
    ("text", b"hello, world\n" * 20, "npy"),
    ("not a dict", npy("[1, 2]"), "npy"),
    ("missing key", npy("{'descr': '<f8', 'shape': (10,), }"), "fortran_order"),
    ("code", npy("{'descr': __import__('os').abort(), 'fortran_order': False, 'shape': (10,), }"), "npy"),
    ("objects", npy("{'descr': '|O', 'fortran_order': False, 'shape': (10,), }"), "O"),
    ("structured", npy("{'descr': [('a', '<f8')], 'fortran_order': False, 'shape': (10,), }"), "npy"),
    ("negative", npy("{'descr': '<f8', 'fortran_order': False, 'shape': (-10,), }"), "shape"),
    ("huge", npy("{'descr': '<f8', 'fortran_order': False, 'shape': (99999999999999999999999, 10), }"), "shape"),
    ("overflow", npy("{'descr': '<f8', 'fortran_order': False, 'shape': (4294967296, 4294967296, 2), }"), None),
]


@pytest.mark.parametrize("name,content,word", BAD_HEADERS, ids=[h[0] for h in BAD_HEADERS])
def test_a_bad_npy_header(spot, cluster3, name, content, word):
    with cl.expect_errno(errno.EINVAL, errno.ENOTSUP, errno.EFBIG, errno.ENOSPC):
        fd = os.open(spot / "data.npy", os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o644)
        try:
            os.write(fd, content)
            os.fsync(fd)
        finally:
            os.close(fd)
    said(cluster3.mounts[0], spot.name, word or "shape")
    assert not (spot / "zarr.json").exists()


def test_a_header_cut_short(spot, cluster3):
    """Closing before the header is whole."""
    with cl.expect_errno(errno.EINVAL, errno.EIO):
        fd = os.open(spot / "data.npy", os.O_CREAT | os.O_WRONLY, 0o644)
        try:
            os.write(fd, b"\x93NUMPY\x01\x00v\x00{'descr'")
            os.fsync(fd)
        finally:
            os.close(fd)
    said(cluster3.mounts[0], spot.name, "header")


def test_bad_parameters(spot, cluster3):
    for value in (b"0", b"-1", b"a lot", b"99999999999999999999", b""):
        with cl.expect_errno(errno.EINVAL):
            os.setxattr(spot, "user.slabfs.partition_bytes", value)
    said(cluster3.mounts[0], "partition_bytes")
    np.save(spot / "data.npy", np.arange(10.))
    with cl.expect_errno(errno.EINVAL):
        (spot / "compute" / "var,ddof=x").read_text()
    said(cluster3.mounts[0], "EINVAL", "ddof", "x")
    with cl.expect_errno(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTSUP):
        (spot / "compute" / "mean").write_text("0")


def test_a_mount_that_dies_loses_nothing_sealed(fresh):
    c = fresh(2, mounts=2)
    a = np.arange(20000.)
    save(c.mounts[0].path / "x", a, 8192)
    fd = os.open(c.mounts[0].path / "x" / "data", os.O_RDWR)
    os.write(fd, np.full(100, -1.).tobytes())
    c.mounts.pop(0).kill()
    with cl.expect_errno(errno.ENOTCONN, errno.ECONNABORTED):
        os.close(fd)
    loaded = []
    cl.until(lambda: _load(c.mounts[0].path / "x" / "data.npy", loaded), 15 * cl.SLOWER, "the array")
    got = loaded[0]
    assert np.array_equal(got[100:], a[100:]) and (np.array_equal(got[:100], a[:100]) or (got[:100] == -1).all())
    float((c.mounts[0].path / "x" / "compute" / "sum").read_text())


def _load(path, loaded):
    try:
        loaded.append(np.load(path))
        return True
    except OSError:
        return False



def test_concurrent_failures_do_not_hang(fresh):
    """Many readers of a node that hangs all fail in time."""
    c = fresh(2, mounts=1, options="timeout=2")
    directory = c.mounts[0].path / "x"
    save(directory, numbered(40))
    c.nodes[1].process.signal(signal.SIGSTOP)
    results = []

    def read(i):
        try:
            results.append(len(read_partition(directory, i)))
        except OSError as e:
            results.append(e.errno)

    start = time.monotonic()
    threads = [threading.Thread(target=read, args=(i,)) for i in range(40)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    took = time.monotonic() - start
    c.nodes[1].process.signal(signal.SIGCONT)
    assert took < 10 * cl.SLOWER and set(results) <= {4096, *LOST}
    assert results.count(4096) >= 15
