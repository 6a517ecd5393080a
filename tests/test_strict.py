"""-o strict: every operation sees all that completed before it, on any mount."""

import concurrent.futures
import errno
import json
import mmap
import os
import random

import cluster as cl
import numpy as np
import pytest
from exerciser import Exerciser


@pytest.fixture
def strict(fresh):
    """Two nodes with a mount each, and a mount without a store."""
    c = fresh(2, options="strict")
    c.remote_mount()
    yield c
    assert not [line for text in c.logs().values() for line in text.splitlines() if "cut off" in line]


def places(c):
    c.mounts[0].path.joinpath("d").mkdir()
    os.setxattr(c.mounts[0] / "d", "user.slabfs.partition_bytes", b"65536")
    return [m / "d" for m in c.mounts]


@pytest.mark.parametrize("seed", range(3))
def test_an_exerciser_that_changes_mounts(strict, tmp, seed):
    e = Exerciser(places(strict), tmp / "shadow", seed)
    e.run(400)
    e.close()


@pytest.mark.long
@pytest.mark.watchdog(600 * cl.SLOWER)
@pytest.mark.parametrize("seed", range(100, 110))
def test_an_exerciser_for_longer(strict, tmp, seed):
    e = Exerciser(places(strict), tmp / "shadow", seed)
    e.run(5000 // cl.SLOWER)
    e.close()


def test_the_exerciser_finds_that_mounts_are_not_strict(fresh, tmp):
    c = fresh(2)
    e = Exerciser(places(c), tmp / "shadow", 0)
    with pytest.raises(AssertionError):
        e.run(2000)
    e.close()


def test_an_exerciser_on_one_mount_of_any_kind(fresh, tmp):
    for options in ("", "strict"):
        c = fresh(1, options=options)
        e = Exerciser([places(c)[0]], tmp / "shadow", 7)
        e.run(300)
        e.close()


def test_appenders_on_several_mounts_lose_nothing(strict):
    where = places(strict)
    (where[0] / "log").touch()

    def append(i, n):
        fd = os.open(where[i % len(where)] / "log", os.O_WRONLY | os.O_APPEND)
        for k in range(n):
            record = f"{i} {k} ".encode()
            os.write(fd, record + b"." * (1 + (i * 7 + k * 13) % 300) + b"\n")
        os.close(fd)

    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        for each in [pool.submit(append, i, 100) for i in range(6)]:
            each.result()
    for place in where:
        lines = (place / "log").read_bytes().split(b"\n")
        assert lines.pop() == b""
        seen = {i: [] for i in range(6)}
        for line in lines:
            i, k, dots = line.split(b" ")
            assert dots == b"." * (1 + (int(i) * 7 + int(k) * 13) % 300)
            seen[int(i)].append(int(k))
        assert all(seen[i] == list(range(100)) for i in seen)


def test_a_record_that_is_appended_goes_behind_the_last_of_any_mount(strict):
    where = places(strict)
    fds = [os.open(p / "f", os.O_CREAT | os.O_RDWR | os.O_APPEND) for p in where]
    for turn in range(12):
        os.write(fds[turn % 3], b"%03d" % turn)
        for fd in fds:
            assert os.pread(fd, 100, 0) == b"".join(b"%03d" % t for t in range(turn + 1))
    for fd in fds:
        os.close(fd)


def test_names_are_seen_at_once(strict):
    where = places(strict)
    for turn in range(60):
        a, b, c = (where[(turn + k) % 3] for k in range(3))
        assert not os.path.exists(b / "n") and not os.path.exists(c / "m")
        (a / "n").write_bytes(b"%d" % turn)
        assert (b / "n").read_bytes() == b"%d" % turn
        os.rename(c / "n", c / "m")
        assert not os.path.exists(b / "n") and os.listdir(b) == ["m"]
        (b / "s").mkdir()
        (c / "s" / "x").touch()
        with cl.expect_errno(errno.ENOTEMPTY):
            os.rmdir(a / "s")
        os.unlink(a / "s" / "x")
        os.rmdir(b / "s")
        os.unlink(c / "m")
        assert os.listdir(a) == []


def test_views_of_an_array_agree_at_once(strict):
    """Views on all mounts, held open: each write through one is in all of them when it returns."""
    where, rng = places(strict), random.Random(3)
    np.save(where[0] / "data.npy", np.zeros(40000, np.uint8))
    header = os.stat(where[0] / "data.npy").st_size - 40000
    chunk = json.loads((where[0] / "zarr.json").read_text())["chunk_grid"]["configuration"]["chunk_shape"][0]
    assert 40000 % chunk == 0 or chunk > 40000
    views = [(p / "data", 0) for p in where] + [(p / "data.npy", header) for p in where]
    opened = [(os.open(path, os.O_RDWR), skip) for path, skip in views] + [(os.open(path, os.O_WRONLY), skip) for path, skip in views]
    maps = [mmap.mmap(fd, 0, access=mmap.ACCESS_READ) for fd, _ in opened[:6]]
    want = bytearray(40000)
    for _ in range(150):
        fd, skip = rng.choice(opened)
        at, piece = rng.randrange(39000), rng.randbytes(rng.randrange(1, 1000))
        os.pwrite(fd, piece, skip + at)
        want[at:at + len(piece)] = piece
        at = max(0, at - 100)
        k = rng.randrange(6)
        assert os.pread(opened[k][0], 1300, opened[k][1] + at) == want[at:at + 1300]
        assert maps[k][opened[k][1] + at:opened[k][1] + at + 1200] == want[at:at + 1200]
    for m in maps:
        m.close()
    for fd, _ in opened:
        os.close(fd)
    assert all(np.array_equal(np.load(p / "data.npy"), np.frombuffer(want, np.uint8)) for p in where)


def test_rows_that_are_written_behind_the_end_are_seen_at_once(strict):
    where = places(strict)
    np.save(where[0] / "data.npy", np.zeros((2, 10), np.int64))
    with open(where[1] / "data", "r+b", buffering=0) as f:
        for row in range(2, 30):
            os.pwrite(f.fileno(), np.full(10, row, np.int64).tobytes(), row * 80)
            for p in where:
                assert os.stat(p / "data").st_size == 80 * (row + 1)
                assert np.load(p / "data.npy")[-1, 0] == row
    assert float((where[2] / "compute" / "max").read_text()) == 29


def test_two_who_truncate_what_both_have_mapped_do_not_wait_for_each_other(strict):
    """Each truncation waits for the pages of the other mount, which wait for its truncation."""
    where = places(strict)
    (where[0] / "f").write_bytes(bytes(200_000))

    def work(i):
        fd = os.open(where[i] / "f", os.O_RDWR)
        rng = random.Random(i)
        for _ in range(60):
            with mmap.mmap(fd, 4096) as m:
                m[rng.randrange(4096)] = 1
                os.ftruncate(fd, rng.randrange(4096, 200_000))
                os.pwrite(fd, b"x" * 100, rng.randrange(4096, 100_000))
        os.close(fd)

    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        for each in [pool.submit(work, i) for i in range(3)]:
            each.result()


def test_strict_and_passthrough_exclude_each_other(tmp):
    done = cl.run(cl.program("slabfs"), tmp, tmp, "-o", "strict,passthrough", check=2)
    assert "exclude" in done.stderr
