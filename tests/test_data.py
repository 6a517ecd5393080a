"""What programs do to the bytes of files: a seeded exerciser that knows what must be there, fallocate, holes, copies in the kernel."""

import ctypes
import errno
import hashlib
import mmap
import os

import cluster as cl
import numpy as np
import pytest

KEEP, PUNCH, COLLAPSE, ZERO, INSERT = 1, 2, 8, 16, 32
MIB = 1 << 20

_libc = ctypes.CDLL(None, use_errno=True)


def fallocate(f, mode, offset, length):
    if _libc.fallocate(f.fileno(), mode, ctypes.c_long(offset), ctypes.c_long(length)):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def exercise(directory, *options, operations=1500, seed=1, timeout=120):
    done = cl.run("timeout", timeout * cl.SLOWER, cl.program("exerciser"), "--seed", seed, "--operations", operations, *options, directory,
                  timeout=timeout + 10)
    assert done.returncode == 0, done.stderr[-6000:]
    assert f"{operations} operations" in done.stdout


def cut_at(directory, size):
    os.setxattr(directory, "user.slabfs.partition_bytes", str(size).encode())
    return directory


# ---- the exerciser ----


def test_the_exerciser_finds_nothing_on_another_file_system(tmp):
    exercise(tmp, operations=3000)


def test_the_exerciser_finds_what_is_wrong(tmp):
    with open(tmp / "exercised-0", "wb") as f, open(tmp / "exercised-1", "wb") as g:
        f.write(bytes(100000))
        g.write(bytes(1000))
    (tmp / "other").mkdir()
    for name in "exercised-0", "exercised-1":
        (tmp / "other" / name).write_bytes((tmp / name).read_bytes())  # not the same files: changes of one are missed in the other
    done = cl.run(cl.program("exerciser"), "--fixed", "--other", tmp / "other", tmp)
    assert done.returncode == 1 and "seed 1, operation" in done.stderr and "differs" in done.stderr


@pytest.mark.parametrize("seed", range(1, 5))
def test_random_operations_on_files_of_many_partitions(spot, seed):
    exercise(cut_at(spot, 65536), "--cut", 65536, seed=seed)


@pytest.mark.parametrize("seed", range(11, 13))
def test_random_operations_on_files_of_one_partition(spot, seed):
    exercise(spot, seed=seed)


def test_random_operations_on_files_whose_partitions_cut_through_blocks_of_sums(spot):
    exercise(cut_at(spot, 69632), "--cut", 69632, seed=21)


def test_random_operations_from_a_machine_without_a_store(fresh):
    c = fresh(2, mounts=0)
    m = c.remote_mount()
    exercise(cut_at(m.path, 65536), "--cut", 65536, seed=31)


@pytest.mark.parametrize("files", ["data", "data.npy", "chunks"])
def test_random_operations_on_arrays(spot, tmp, files):
    for i, shape in enumerate([(3000, 40), (70000,)]):
        directory = cut_at(spot / str(i), 65536) if not (spot / str(i)).mkdir() else None
        np.save(directory / "data.npy", np.arange(np.prod(shape), dtype="<f4").reshape(shape))
        name = directory / files if files != "chunks" else next(p for p in (directory / "c").rglob("0") if p.is_file())
        (tmp / f"exercised-{i}").symlink_to(name)
    without = "map-write,write,copy,punch,zero" if files == "data.npy" else ""  # the header is not for any bytes
    exercise(tmp, "--fixed", "--without", without + ",nothing", operations=600, seed=41)


@pytest.mark.long
@pytest.mark.watchdog(600)
@pytest.mark.parametrize("seed", range(101, 105))
def test_many_random_operations(spot, seed):
    exercise(cut_at(spot, 65536 * (1 + seed % 2)), "--cut", 65536 * (1 + seed % 2), seed=seed, operations=8000, timeout=300)


# ---- appending ----


@pytest.mark.parametrize("close", [True, False])
def test_what_is_appended_goes_to_the_end_as_it_is_now(elsewhere, close):
    here, there = elsewhere[0] / "log", elsewhere[1] / "log"
    here.write_bytes(b"a" * 5000)
    with open(here, "ab", buffering=0) as f, open(here, "r+b", buffering=0) as reader:
        f.write(b"b" * 3000)
        os.fsync(f.fileno())
        with open(there, "ab", buffering=0) as g:
            g.write(b"c" * 4000)
        f.write(b"d" * 2000)  # the kernel here may think that the file has 8000 bytes
        want = b"a" * 5000 + b"b" * 3000 + b"c" * 4000 + b"d" * 2000
        close and f.close()
        cl.until(lambda: reader.seek(0) == 0 and reader.read(20000) == want, what="the reader on this mount to see it")
        assert os.fstat(reader.fileno()).st_size == len(want)
    assert there.read_bytes() == want


def test_rows_that_are_appended_go_to_the_end_as_it_is_now(elsewhere):
    np.save(elsewhere[0] / "data.npy", np.zeros(1000, "<f4"))
    with open(elsewhere[0] / "data", "ab", buffering=0) as f:
        f.write(np.full(100, 1, "<f4").tobytes())
        os.fsync(f.fileno())
        with open(elsewhere[1] / "data", "ab", buffering=0) as g:
            g.write(np.full(200, 2, "<f4").tobytes())
        f.write(np.full(300, 3, "<f4").tobytes())
    want = np.repeat(np.array([0, 1, 2, 3], "<f4"), [1000, 100, 200, 300])
    for d in elsewhere:
        assert np.array_equal(np.load(d / "data.npy"), want)


def test_a_mapping_through_an_appending_handle_changes_bytes_in_place(spot):
    (spot / "f").write_bytes(b"x" * 10000)
    with open(spot / "f", "a+b", buffering=0) as f:
        a = mmap.mmap(f.fileno(), 10000)
        a[5:8] = b"abc"
        a.flush()
        f.write(b"y" * 10)
        a.close()
    assert (spot / "f").read_bytes() == b"x" * 5 + b"abc" + b"x" * 9992 + b"y" * 10


# ---- fallocate ----


def test_allocating_makes_room_and_a_size(spot, cluster3):
    cut_at(spot, 65536)
    with open(spot / "f", "wb", buffering=0) as f:
        f.write(b"x" * 1000)
        fallocate(f, KEEP, 0, 300000)
        assert os.fstat(f.fileno()).st_size == 1000
        fallocate(f, 0, 0, 300000)
        assert os.fstat(f.fileno()).st_size == 300000
    assert (spot / "f").read_bytes() == b"x" * 1000 + bytes(299000)
    with open(spot / "f", "r+b") as f:
        os.posix_fallocate(f.fileno(), 299999, 10)
    assert all((m.path / spot.name / "f").stat().st_size == 300009 for m in cluster3.mounts)


def on_disk(c):
    return sum(p.stat().st_blocks * 512 for p in c.find_partition())


def test_punching_gives_the_room_back_and_every_mount_sees_zeros(fresh):
    c = fresh(2)
    size = 8 * MIB
    cut_at(c.mounts[0].path, MIB)
    data = os.urandom(size)
    with open(c.mounts[0] / "f", "wb", buffering=0) as f:
        f.write(data)
        os.fsync(f.fileno())
    assert (c.mounts[1] / "f").read_bytes() == data
    before = on_disk(c)
    with open(c.mounts[0] / "f", "r+b", buffering=0) as f:
        fallocate(f, PUNCH | KEEP, MIB + 5, 5 * MIB)
        assert f.read(100) == data[:100]
    want = data[:MIB + 5] + bytes(5 * MIB) + data[6 * MIB + 5:]
    assert [hashlib.sha256((m / "f").read_bytes()).hexdigest() for m in c.mounts] == [hashlib.sha256(want).hexdigest()] * 2
    assert on_disk(c) < before - 4 * MIB
    for node in c.nodes:  # the sums followed: what is read after a start is compared with them
        node.stop()
        node.start()
    cl.until(lambda: "lost" not in c.mounts[0].control("status"), what="the mounts to come back")
    assert (c.mounts[0] / "f").read_bytes() == want


def test_modes_that_move_bytes_are_refused(spot):
    with open(spot / "f", "w+b", buffering=0) as f:
        f.write(bytes(8192))
        for mode in COLLAPSE, INSERT, PUNCH:
            with cl.expect_errno(errno.EOPNOTSUPP):
                fallocate(f, mode, 0, 4096)
        with cl.expect_errno(errno.EFBIG, errno.EINVAL):
            fallocate(f, 0, (1 << 63) - 10, 100)


@pytest.fixture
def small_disk(tmp):
    (tmp / "disk").mkdir()
    cl.run("mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", tmp / "disk", check=0)
    yield tmp / "disk" / "s"
    cl.run("umount", "-l", tmp / "disk")


def test_what_does_not_fit_is_refused_when_it_is_allocated(fresh, small_disk):
    c = fresh(1, stores=[small_disk])
    cut_at(c.mounts[0].path, MIB)
    with open(c.mounts[0] / "f", "w+b", buffering=0) as f:
        with cl.expect_errno(errno.ENOSPC):
            fallocate(f, 0, 0, 1 << 40)
        assert os.fstat(f.fileno()).st_size == 0
        assert c.find_partition() == []  # not even a part of it was made
        fallocate(f, 0, 0, 10 * MIB)
        assert on_disk(c) >= 10 * MIB
        with cl.expect_errno(errno.ENOSPC):
            fallocate(f, KEEP, 0, 40 * MIB)
        f.write(b"x" * (10 * MIB))
        os.fsync(f.fileno())


# ---- holes ----


def test_holes_are_found(fresh):
    c = fresh(2)
    cut_at(c.mounts[0].path, MIB)
    with open(c.mounts[0] / "f", "wb", buffering=0) as f:
        os.pwrite(f.fileno(), b"x" * 65536, 3 * MIB + 65536)
        os.pwrite(f.fileno(), b"x" * 65536, 9 * MIB)
        os.ftruncate(f.fileno(), 12 * MIB + 5)
    for m in c.mounts:
        with open(m / "f", "rb", buffering=0) as f:
            at, found = 0, []
            while True:
                try:
                    at = os.lseek(f.fileno(), at, os.SEEK_DATA)
                except OSError as e:
                    assert e.errno == errno.ENXIO
                    break
                end = os.lseek(f.fileno(), at, os.SEEK_HOLE)
                found.append((at, end))
                at = end
            assert found == [(3 * MIB + 65536, 3 * MIB + 131072), (9 * MIB, 9 * MIB + 65536)]
            assert os.lseek(f.fileno(), 12 * MIB, os.SEEK_HOLE) == 12 * MIB
            with cl.expect_errno(errno.ENXIO):
                os.lseek(f.fileno(), 12 * MIB + 5, os.SEEK_HOLE)


def test_a_mapped_write_is_never_called_a_hole(spot):
    with open(spot / "f", "w+b") as f:
        f.truncate(MIB)
        a = np.memmap(f, dtype="u1", mode="r+")
        a[300000] = 1  # still a dirty page of the kernel's
        assert os.lseek(f.fileno(), 0, os.SEEK_DATA) <= 300000
        del a


def test_arrays_are_all_data(spot):
    np.save(spot / "data.npy", np.zeros(1000))
    with open(spot / "data", "rb") as f:
        assert os.lseek(f.fileno(), 5, os.SEEK_DATA) == 5 and os.lseek(f.fileno(), 5, os.SEEK_HOLE) == 8000


# ---- copies ----


def sent(mount):
    return sum(v for (name, _), v in mount.metrics().items() if name in ("slabfs_bytes_sent_total", "slabfs_bytes_received_total"))


@pytest.mark.parametrize("command", [["cp"], ["cp", "--reflink=auto"], ["cp", "--sparse=never"]])
def test_cp_moves_no_bytes_where_the_nodes_are_the_same(fresh, command):
    c = fresh(2, mounts=1)
    m = c.mounts[0]  # its files begin on its own node
    cut_at(m.path, MIB)
    data = os.urandom(9 * MIB + 77)
    (m / "a").write_bytes(data)
    before = sent(m)
    cl.run(*command, m / "a", m / "b", check=0)
    moved = sent(m) - before
    assert (m / "b").read_bytes() == data
    other = c.mount(c.nodes[1].store)
    assert (other / "b").read_bytes() == data and (other / "a").read_bytes() == data
    assert moved < MIB, moved


def test_copies_between_any_places(spot, elsewhere):
    cut_at(spot, 65536)
    data = os.urandom(700001)
    (spot / "a").write_bytes(data)
    with open(spot / "a", "rb") as a, open(spot / "b", "w+b") as b:
        assert os.copy_file_range(a.fileno(), b.fileno(), 10, len(data), 5) == 0
        got = os.copy_file_range(a.fileno(), b.fileno(), 300000, 100001, 65530)
        assert 0 < got <= 300000
        assert os.fstat(b.fileno()).st_size == 65530 + got
        assert os.copy_file_range(a.fileno(), b.fileno(), 100, 65530, 0) == 100
    want = bytearray(65530 + got)
    want[65530:] = data[100001:100001 + got]
    want[:100] = data[65530:65630]
    assert all((d / "b").read_bytes() == want for d in elsewhere)


def test_copies_of_arrays_and_documents_go_through_the_kernel(spot):
    np.save(spot / "data.npy", np.arange(5000.0))
    for name in "data", "zarr.json", "data.npy":
        cl.run("cp", spot / name, spot.parent / f"{spot.name}-copy", check=0)
        assert (spot.parent / f"{spot.name}-copy").read_bytes() == (spot / name).read_bytes()
        os.unlink(spot.parent / f"{spot.name}-copy")


def test_mv_onto_data_npy(spot):
    (spot / "x").mkdir()
    np.save(spot / "a.npy", np.arange(5000.0))
    with cl.expect_errno(errno.EXDEV):
        os.rename(spot / "a.npy", spot / "x" / "data.npy")
    cl.run("mv", spot / "a.npy", spot / "x" / "data.npy", check=0)  # copies, and the copy is an array
    assert np.array_equal(np.load(spot / "x" / "data.npy"), np.arange(5000.0)) and not (spot / "a.npy").exists()
    assert float((spot / "x" / "compute" / "sum").read_text()) == 4999 * 2500
    np.save(spot / "b.npy", np.ones(3))
    with cl.expect_errno(errno.EXDEV):
        os.rename(spot / "b.npy", spot / "x" / "data.npy")
    assert cl.run("mv", spot / "b.npy", spot / "x" / "data.npy").returncode == 1  # it would remove the array first, and may not
    assert np.load(spot / "b.npy").sum() == 3 and np.load(spot / "x" / "data.npy")[7] == 7
    cl.run("cp", spot / "b.npy", spot / "x" / "data.npy", check=0)
    assert np.array_equal(np.load(spot / "x" / "data.npy"), np.ones(3))
