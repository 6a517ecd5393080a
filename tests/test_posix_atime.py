"""atime as relatime keeps it: the first read after a change, then one a day; told to the head with others."""

import os
import time

import cluster as cl
import pytest

DAY = 86400 * 10 ** 9


def read(path, flags=0):
    fd = os.open(path, os.O_RDONLY | flags)
    os.read(fd, 100)
    os.close(fd)


def made(path):
    """A file whose three times are long ago, and equal."""
    path.write_text("text")
    os.utime(path, ns=(10 ** 18, 10 ** 18))
    return path


def test_a_read_counts_once(spot):
    f = made(spot / "f")
    before = f.stat()
    read(f)
    first = f.stat()
    assert first.st_atime_ns > before.st_ctime_ns and (first.st_mtime_ns, first.st_ctime_ns) == (before.st_mtime_ns, before.st_ctime_ns)
    read(f)
    assert f.stat().st_atime_ns == first.st_atime_ns
    os.utime(f, ns=(5, 10 ** 18))
    assert f.stat().st_atime_ns == 5
    f.write_text("other")
    read(f)
    assert f.stat().st_atime_ns > first.st_atime_ns


def test_times_that_are_set_stay(spot, elsewhere):
    f = made(spot / "f")
    read(f)
    os.utime(elsewhere[1] / "f", ns=(7, 10 ** 18))
    assert (spot / "f").stat().st_atime_ns == 7 == (elsewhere[2] / "f").stat().st_atime_ns


def test_once_a_day(spot, elsewhere):
    """A file that was read after its last change, and is read again."""
    now = time.time_ns()
    ages = [now + 3600 * 10 ** 9, now - DAY // 2, now - 2 * DAY]
    for i, atime in enumerate(ages):
        f = made(spot / f"f{i}")
        os.utime(f, ns=(atime, 10 ** 18))
        read(f)
    # utime sets ctime to now: only what is later than that, and not yet a day old, is left alone
    assert (spot / "f0").stat().st_atime_ns == ages[0]
    assert all((spot / f"f{i}").stat().st_atime_ns >= now for i in (1, 2))


def test_listings(spot):
    (spot / "d").mkdir()
    (spot / "d" / "f").touch()
    os.utime(spot / "d", ns=(10 ** 18, 10 ** 18))
    assert os.listdir(spot / "d") == ["f"]
    after = (spot / "d").stat()
    assert after.st_atime_ns > 10 ** 18 and after.st_mtime_ns == 10 ** 18
    os.listdir(spot / "d")
    assert (spot / "d").stat().st_atime_ns == after.st_atime_ns


def test_what_leaves_it_alone(fresh):
    c = fresh(1, mounts=1)
    f = made(c.mounts[0] / "f")
    read(f, os.O_NOATIME)
    os.stat(f)
    assert f.stat().st_atime_ns == 10 ** 18
    for options in ["noatime", "ro"]:
        m = c.mount(c.nodes[0].store, options)
        read(m / "f")
        assert os.listdir(m.path) == ["f"] and (m / "f").stat().st_atime_ns == 10 ** 18
        assert c.unmount(m) == ""
    assert f.stat().st_atime_ns == 10 ** 18


def test_others_learn_of_it(fresh):
    """With others, or when the mount ends; and it is still known to a mount that comes later."""
    c = fresh(1, mounts=1)
    two, one = c.mounts[0], c.mount(c.nodes[0].store)
    for i in range(100):
        made(one / f"f{i}")
    ctime = (one / "f0").stat().st_ctime_ns
    for i in range(100):
        read(one / f"f{i}")
    cl.until(lambda: (two / "f0").stat().st_atime_ns > 10 ** 18, what="the times of reading of the first 64 files")
    last = (one / "f99").stat().st_atime_ns
    assert last > 10 ** 18
    assert c.unmount(one) == ""
    late = c.mount(c.nodes[0].store)
    assert (late / "f99").stat().st_atime_ns == last and (late / "f0").stat().st_ctime_ns == ctime


@pytest.mark.slow
def test_reading_many_files_costs_no_request_each(fresh):
    """500 files that are read for the first time since they were written: the head hears of it in a few messages."""
    c = fresh(2, mounts=2)
    m = c.mounts[1]  # its head is another machine
    for i in range(500):
        made(m / f"f{i}")
    names = [m / f"f{i}" for i in range(500)]

    def sent(flags):
        before = m.bytes_received()
        for name in names:
            read(name, flags)
        return m.bytes_received() - before

    without = sent(os.O_NOATIME)
    assert sent(0) - without < 500 * 40
