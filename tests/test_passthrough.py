"""-o passthrough: the kernel reads a partition file of this machine without asking the mount, where libfuse and the kernel can."""

import errno
import mmap
import os
import re
import select
import signal

import numpy as np
import pytest

from cluster import program, run


def text_of(mount):
    return mount.process.text()


@pytest.fixture
def through(fresh):
    c = fresh(1)
    m = c.mount(options="passthrough")
    return c.mounts[0], m


@pytest.fixture
def able(through):
    plain, m = through
    if "passthrough: the kernel" in text_of(m):
        pytest.skip("libfuse or the kernel here has no passthrough")
    return plain, m


def test_a_mount_without_it_says_so_and_goes_on(through):
    plain, m = through
    version = run(program("slabfs"), "--version", check=0).stdout
    found = re.search(r"libfuse (\d+)\.(\d+)", version)
    assert found, version
    if (int(found[1]), int(found[2])) < (3, 17):
        assert "-o passthrough: " in text_of(m)
    (plain.path / "f").write_bytes(b"some bytes")
    assert (m.path / "f").read_bytes() == b"some bytes"


def read_while_stopped(m, path, length):
    """Reads an open file while the mount's process sleeps: only the kernel can serve it.  The reader ends after the mount goes on: its
    close is a request."""
    fd = os.open(path, os.O_RDONLY)
    said, say = os.pipe()
    mapped = mmap.mmap(fd, length, prot=mmap.PROT_READ)  # asks for the size, so before the mount sleeps
    os.kill(m.process.pid, signal.SIGSTOP)
    try:
        pid = os.fork()
        if pid == 0:
            got = os.pread(fd, length, 0)
            os.write(say, b"y" if got == mapped[:] and got == b"x" * length else b"n")
            os._exit(0)
        answer = os.read(said, 1) if select.select([said], [], [], 20)[0] else b"nothing"
    finally:
        os.kill(m.process.pid, signal.SIGCONT)
    os.waitpid(pid, 0)
    for f in (fd, said, say):
        os.close(f)
    return answer


def test_the_kernel_reads_alone(able):
    plain, m = able
    (plain.path / "f").write_bytes(b"x" * 100_000)
    assert read_while_stopped(m, m.path / "f", 100_000) == b"y"


def test_a_chunk_and_data_of_one_partition(able):
    plain, m = able
    (plain.path / "a").mkdir()
    np.save(plain.path / "a" / "data.npy", np.frombuffer(b"x" * 65536, dtype="u1").reshape(16, 4096))
    assert read_while_stopped(m, m.path / "a" / "c" / "0" / "0", 65536) == b"y"
    assert read_while_stopped(m, m.path / "a" / "data", 65536) == b"y"


def test_writers_wait_for_the_last_reader(able):
    plain, m = able
    path = m.path / "f"
    path.write_bytes(b"x" * 5000)
    with open(path, "rb"):
        for flags in (os.O_WRONLY, os.O_RDWR, os.O_RDONLY | os.O_TRUNC):
            with pytest.raises(OSError) as e:
                os.open(path, flags)
            assert e.value.errno == errno.ETXTBSY
        with pytest.raises(OSError) as e:
            os.truncate(path, 10)
        assert e.value.errno == errno.ETXTBSY
    with open(path, "r+b", buffering=0) as f:
        f.seek(4998)
        f.write(b"yyzz")
        with open(path, "rb") as g:  # beside a writer everybody is served as usual
            assert g.read() == b"x" * 4998 + b"yyzz"
    os.truncate(path, 3)
    assert path.read_bytes() == b"xxx"


def test_another_mount_is_seen(able):
    plain, m = able
    (plain.path / "f").write_bytes(b"x" * 5000)
    with open(m.path / "f", "rb", buffering=0) as f:
        assert f.read(4) == b"xxxx"
        with open(plain.path / "f", "r+b", buffering=0) as w:
            w.write(b"abcd")
        f.seek(0)
        assert f.read(4) == b"abcd"
        (plain.path / "f").write_bytes(b"new")
    assert (m.path / "f").read_bytes() == b"new"


def test_many_openers_at_once(able):
    plain, m = able
    (plain.path / "f").write_bytes(b"x" * 4096)
    pids = []
    for i in range(8):
        pid = os.fork()
        if pid == 0:
            ok = True
            for _ in range(100):
                with open(m.path / "f", "rb") as f:
                    ok = ok and f.read() == b"x" * 4096
            os._exit(0 if ok else 1)
        pids.append(pid)
    assert [os.waitpid(p, 0)[1] for p in pids] == [0] * 8
    (m.path / "f").write_bytes(b"free again")
