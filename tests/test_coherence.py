"""What is open on one mount while another one, or the head, changes under it."""

import concurrent.futures
import errno
import json
import mmap
import os
import random

import cluster as cl
import numpy as np
import pytest


def array_json(**changes):
    document = {"zarr_format": 3, "node_type": "array", "shape": [8], "data_type": "uint8", "fill_value": 0,
                "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [4]}},
                "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
                "codecs": [{"name": "bytes"}], "attributes": {}}
    return json.dumps({**document, **changes})


def test_a_file_held_open_is_opened_anew(elsewhere):
    for holder in elsewhere:
        for writer in elsewhere:
            if writer == holder:
                continue
            (holder / "f").write_bytes(b"old" * 1000)
            with open(holder / "f", "rb", buffering=0) as held:
                assert held.read(3) == b"old"
                (writer / "f").write_bytes(b"new" * 1000)
                assert (holder / "f").read_bytes() == b"new" * 1000
                assert os.pread(held.fileno(), 3, 0) == b"new"
            os.unlink(holder / "f")


def test_a_mapping_follows_a_file_that_was_written_anew(elsewhere):
    for holder in elsewhere:
        (holder / "f").write_bytes(b"old" * 4096)
        with open(holder / "f", "rb") as f, mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ) as m:
            assert m[:3] == b"old"
            for writer in elsewhere:
                if writer != holder:
                    (writer / "f").write_bytes(b"new" * 4096)
            cl.until(lambda: m[:3] == b"new" and m[-3:] == b"new", 2)
        os.unlink(holder / "f")


def test_a_document_held_open_is_opened_anew(elsewhere):
    (elsewhere[0] / "zarr.json").write_text(array_json(attributes={"n": 1}))
    with open(elsewhere[0] / "zarr.json") as held:
        held.read(1)
        (elsewhere[1] / "zarr.json").write_text(array_json(attributes={"n": 2, "longer": True}))
        assert json.loads((elsewhere[0] / "zarr.json").read_text())["attributes"]["n"] == 2
        assert (elsewhere[0] / "zarr.json").stat().st_size == (elsewhere[1] / "zarr.json").stat().st_size


@pytest.mark.parametrize("temporary", ["zarr.json.5e.partial", "tmp5e"])
@pytest.mark.parametrize("how", [os.rename, os.link])
def test_a_document_takes_its_name_while_it_is_open(spot, elsewhere, temporary, how):
    with open(spot / temporary, "w+") as f:
        f.write(array_json())
        f.flush()
        os.fsync(f.fileno())
        how(spot / temporary, spot / "zarr.json")
        assert (spot / "zarr.json").read_text() == array_json()
        f.seek(0)
        assert f.read() == array_json()
    assert np.array_equal(np.fromfile(spot / "data", np.uint8), np.zeros(8, np.uint8))
    (spot / "zarr.json").write_text(array_json(shape=[16]))
    assert (elsewhere[1] / "data").stat().st_size == 16


def test_copies_keep_the_times_of_a_document(spot, tmp):
    (tmp / "zarr.json").write_text(array_json())
    os.utime(tmp / "zarr.json", ns=(1_500_000_000_000_000_001, 1_500_000_000_000_000_002))
    cl.run("cp", "-p", tmp / "zarr.json", spot / "zarr.json", check=0)
    assert (spot / "zarr.json").stat().st_mtime_ns == 1_500_000_000_000_000_002


def test_a_writer_goes_on_after_another_mount_has_cut_the_file(elsewhere):
    """As a log does that is rotated by copying and truncating it."""
    for writer in elsewhere:
        for cutter in elsewhere:
            if writer == cutter:
                continue
            with open(writer / "log", "wb", buffering=0) as f:
                f.write(b"before" * 1000)
                os.fsync(f.fileno())
                f.write(b"more")
                os.truncate(cutter / "log", 0)
                os.pwrite(f.fileno(), b"after", 0)
            assert (cutter / "log").read_bytes()[:5] == b"after"
            os.unlink(writer / "log")


def test_small_partitions(spot, elsewhere):
    os.setxattr(spot, "user.slabfs.partition_bytes", b"4096")
    content = os.urandom(1 << 20)
    (spot / "f").write_bytes(content)
    for where in elsewhere:
        assert (where / "f").read_bytes() == content
        assert (where / "f").stat().st_size == len(content)


def test_sizes_grow_while_others_look(spot):
    with open(spot / "f", "wb", buffering=0) as f, concurrent.futures.ThreadPoolExecutor(4) as pool:
        stop = False

        def look():
            last = 0
            while not stop:
                now = os.stat(spot / "f").st_size
                assert now >= last
                last = now

        looking = [pool.submit(look) for _ in range(4)]
        for i in range(300):
            f.write(b"x" * 100)
            if i % 3 == 0:
                os.close(os.dup(f.fileno()))
                assert os.stat(spot / "f").st_size == 100 * (i + 1)
        stop = True
        for each in looking:
            each.result()


def test_two_mounts_against_a_shadow(elsewhere, tmp):
    """Close-to-open: each turn opens on another mount, changes something at random, and closes."""
    rng = random.Random(5)
    (elsewhere[0] / "f").touch()
    with open(tmp / "f", "w+b") as shadow:
        held = [os.open(where / "f", os.O_RDONLY) for where in elsewhere]
        for turn in range(300):
            at, n = rng.randrange(300000), rng.randrange(1, 70000)
            fd = os.open(rng.choice(elsewhere) / "f", os.O_RDWR)
            shadow.flush()
            assert os.pread(fd, n, at) == os.pread(shadow.fileno(), n, at), turn
            what = rng.randrange(10)
            if what == 0:
                os.ftruncate(fd, at)
                os.ftruncate(shadow.fileno(), at)
            elif what == 1:
                os.close(fd)
                fd = os.open(rng.choice(elsewhere) / "f", os.O_RDWR | os.O_TRUNC)
                os.ftruncate(shadow.fileno(), 0)
            else:
                piece = rng.randbytes(n)
                os.pwrite(fd, piece, at)
                os.pwrite(shadow.fileno(), piece, at)
            assert os.fstat(fd).st_size == os.fstat(shadow.fileno()).st_size, turn
            os.close(fd)
        for fd in held:
            os.close(fd)
    for where in elsewhere:
        assert (where / "f").read_bytes() == (tmp / "f").read_bytes()


def test_an_open_file_outlives_a_restart_of_the_head(fresh):
    c = fresh(2, fixed_ports=True)
    a, b = (m.path for m in c.mounts)
    (a / "f").write_bytes(b"kept" * 1000)
    with open(a / "f", "r+b", buffering=0) as f:
        os.pwrite(f.fileno(), b"more", 4000)
        os.fsync(f.fileno())
        c.nodes[0].process.kill()
        c.nodes[0].start()
        cl.until(lambda: os.path.exists(b / "f"))
        cl.until(lambda: a.joinpath("f").stat().st_size == 4004)
        os.pwrite(f.fileno(), b"last", 4004)
        os.unlink(b / "f")
        assert os.pread(f.fileno(), 5000, 0) == b"kept" * 1000 + b"morelast"
    assert not [line for line in c.mounts[0].errors() if "EBADF" in line]


def test_a_short_restart_of_the_head_is_waited_out(fresh):
    c = fresh(2, fixed_ports=True, options="timeout=60")
    path = c.mounts[1].path
    (path / "f").write_bytes(b"x" * 100000)
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        stop = False

        def work():
            n = 0
            while not stop:
                with open(path / "f", "r+b") as f:
                    f.write(n.to_bytes(4, "little"))
                assert int.from_bytes((path / "f").read_bytes()[:4], "little") == n
                n += 1
            return n

        working = pool.submit(work)
        for _ in range(3):
            c.nodes[0].process.kill()
            c.nodes[0].start()
            cl.until(lambda: os.path.exists(path / "f"))
        stop = True
        assert working.result() > 0


def test_the_document_follows_the_array_on_the_same_mount(spot):
    np.save(spot / "data.npy", np.arange(9))
    with open(spot / "zarr.json") as held:
        assert json.loads(held.read())["shape"] == [9]
        with open(spot / "data", "ab") as f:
            f.write(bytes(8 * 91))
        assert json.loads((spot / "zarr.json").read_text())["shape"] == [100]
    np.save(spot / "data.npy", np.arange(1000))
    assert json.loads((spot / "zarr.json").read_text())["shape"] == [1000]
    os.truncate(spot / "data", 8)
    assert json.loads((spot / "zarr.json").read_text())["shape"] == [1]


def test_a_mount_that_is_told_to_end_leaves_what_was_written(fresh):
    c = fresh(2)
    ending, other = c.mounts.pop(0), c.mounts[0].path
    (ending / "x").mkdir()
    np.save(ending / "x" / "data.npy", np.zeros(1000))
    fds = [os.open(ending / "f", os.O_CREAT | os.O_WRONLY), os.open(ending / "x" / "data", os.O_WRONLY)]
    os.write(fds[0], b"written" * 1000)
    os.write(fds[1], np.ones(1000).tobytes())
    assert ending.process.stop() == 0
    assert (other / "f").read_bytes() == b"written" * 1000
    assert np.array_equal(np.fromfile(other / "x" / "data"), np.ones(1000))
    for fd in fds:
        with cl.expect_errno(errno.ENOTCONN):
            os.close(fd)
