"""Arrays through every door: data, data.npy, c/..., zarr.json; NumPy is the oracle."""

import errno
import json
import os
import subprocess
import time

import cluster as cl
import numpy as np
import oracle
import pytest

PARTITION_BYTES = [4096, 8192, 20480, 1 << 20]


def set_partition_bytes(directory, n):
    os.setxattr(directory, "user.slabfs.partition_bytes", str(n).encode())


def write_document(directory, *args, **kwargs):
    doc = oracle.document(*args, **kwargs)
    (directory / "zarr.json").write_text(json.dumps(doc, indent=2))
    return doc


def chunk_shape(directory):
    return json.loads((directory / "zarr.json").read_text())["chunk_grid"]["configuration"]["chunk_shape"]


def flat(a):
    return np.ascontiguousarray(a).tobytes()


def check_array(directory, a):
    """Every view of the array holds a."""
    assert (directory / "data").stat().st_size == a.nbytes
    assert (directory / "data").read_bytes() == flat(a)
    loaded = np.load(directory / "data.npy")
    assert loaded.dtype == a.dtype and loaded.shape == a.shape and flat(loaded) == flat(a)
    doc = json.loads((directory / "zarr.json").read_text())
    assert doc["zarr_format"] == 3 and doc["shape"] == list(a.shape) and doc["data_type"] == oracle.ZARR_NAMES[a.dtype.str[1:]]


def check_partitions(directory, a):
    """The native partition files, byte for byte (padding may be anything)."""
    if a.ndim == 0:
        assert (directory / "c").read_bytes() == flat(a)
        return
    rows = chunk_shape(directory)[0]
    assert chunk_shape(directory)[1:] == [max(1, n) for n in a.shape[1:]]
    row_bytes = a[:1].nbytes
    for i in range(0, a.shape[0], rows):
        key = directory / "c" / "/".join([str(i // rows)] + ["0"] * (a.ndim - 1))
        stored = key.read_bytes()
        assert len(stored) == rows * row_bytes
        assert stored[:a[i:i + rows].nbytes] == flat(a[i:i + rows])
    assert len(os.listdir(directory / "c")) == -(-a.shape[0] // rows)


@pytest.mark.parametrize("seed", range(28))
def test_random_save(spot, elsewhere, seed):
    rng = np.random.default_rng(seed)
    a = oracle.random_array(rng, oracle.DTYPES[seed % len(oracle.DTYPES)], oracle.random_shape(rng))
    set_partition_bytes(spot, rng.choice(PARTITION_BYTES))
    np.save(spot / "data.npy", a)
    for directory in elsewhere:
        check_array(directory, a)
        check_partitions(directory, a)


@pytest.mark.parametrize("shape", [(), (1,), (1, 1, 1), (0,), (0, 5), (5, 0), (3, 0, 2), (1000003,), (4097, 3)])
def test_shapes(spot, elsewhere, shape):
    a = oracle.random_array(np.random.default_rng(1), "<f4", shape)
    set_partition_bytes(spot, 65536)
    np.save(spot / "data.npy", a)
    for directory in elsewhere:
        check_array(directory, a)
    if a.size:
        check_partitions(elsewhere[1], a)


def test_partitions_are_spread(spot, cluster3):
    set_partition_bytes(spot, 4096)
    np.save(spot / "data.npy", np.arange(30 * 512, dtype="<i8"))
    found = {n.number: [p for p in n.store.glob("parts/*/*/*") if p.suffix != ".sum" and p.stat().st_size == 4096]
             for n in cluster3.nodes}
    assert all(len(files) >= 10 for files in found.values())


@pytest.mark.parametrize("dtype", ["<f8", ">i2", "|b1", ">c16"])
def test_cp_is_byte_identical(spot, elsewhere, tmp, dtype):
    a = oracle.random_array(np.random.default_rng(2), dtype, (777, 13))
    set_partition_bytes(spot, 8192)
    np.save(tmp / "a.npy", a)
    cl.run("cp", tmp / "a.npy", spot / "data.npy", check=0)
    for directory in elsewhere:
        cl.run("cmp", tmp / "a.npy", directory / "data.npy", check=0)
        cl.run("cp", directory / "data.npy", tmp / "back.npy", check=0)
        cl.run("cmp", tmp / "a.npy", tmp / "back.npy", check=0)


def test_cp_of_old_npy_formats(spot, tmp):
    a = np.arange(3000, dtype="<i4").reshape(30, 100)
    for version in ((1, 0), (2, 0), (3, 0)):
        with open(tmp / "a.npy", "wb") as f:
            np.lib.format.write_array(f, a, version=version)
        directory = spot / f"v{version[0]}"
        directory.mkdir()
        cl.run("cp", tmp / "a.npy", directory / "data.npy", check=0)
        cl.run("cmp", tmp / "a.npy", directory / "data.npy", check=0)


def test_save_replaces_an_array(spot, elsewhere):
    for a in (np.arange(5000.), np.arange(12, dtype="i2").reshape(3, 4), np.ones((2, 900), "c8"), np.arange(10000.)):
        np.save(spot / "data.npy", a)
        check_array(elsewhere[2], a)


def test_open_memmap_creates(spot, elsewhere):
    set_partition_bytes(spot, 16384)
    m = np.lib.format.open_memmap(spot / "data.npy", "w+", "<f8", (1000, 33))
    expected = np.arange(33000.).reshape(1000, 33)
    m[:] = expected
    m.flush()
    del m
    check_array(elsewhere[1], expected)


def test_memmap_reads_and_writes(spot, elsewhere):
    set_partition_bytes(spot, 8192)
    a = np.arange(40000, dtype="<i4").reshape(400, 100)
    np.save(spot / "data.npy", a)
    m = np.memmap(spot / "data", "<i4", "r", shape=a.shape)
    assert (m == a).all() and m[399, 99] == 39999
    del m
    m = np.memmap(spot / "data", "<i4", "r+", shape=a.shape)
    m[7] = -7
    m[::50, 3] += 5
    a[7] = -7
    a[::50, 3] += 5
    m.flush()
    del m
    for directory in elsewhere:
        check_array(directory, a)
    m = np.load(elsewhere[1] / "data.npy", mmap_mode="r+")
    m[-1] *= 3
    a[-1] *= 3
    m.flush()
    del m
    check_array(elsewhere[0], a)
    assert (np.load(elsewhere[2] / "data.npy", mmap_mode="r")[100:200] == a[100:200]).all()
    assert (np.load(elsewhere[2] / "data.npy", mmap_mode="c")[::-1] == a[::-1]).all()


def test_pwrite_into_data_against_a_shadow(spot, elsewhere):
    set_partition_bytes(spot, 4096)
    rng = np.random.default_rng(3)
    shadow = bytearray(rng.bytes(100000))
    np.save(spot / "data.npy", np.frombuffer(shadow, "u1"))
    with open(spot / "data", "r+b", buffering=0) as f:
        for _ in range(200):
            at, n = int(rng.integers(100000)), int(rng.integers(1, 20000))
            piece = rng.bytes(min(n, 100000 - at))
            assert os.pwrite(f.fileno(), piece, at) == len(piece)
            shadow[at:at + len(piece)] = piece
            at, n = int(rng.integers(100000)), int(rng.integers(1, 20000))
            assert os.pread(f.fileno(), n, at) == shadow[at:at + n]
    for directory in elsewhere:
        assert (directory / "data").read_bytes() == shadow
        assert (directory / "data.npy").read_bytes()[-100000:] == shadow


def test_append(spot, elsewhere):
    set_partition_bytes(spot, 4096)
    a = np.arange(1000 * 6, dtype="<f4").reshape(1000, 6)
    np.save(spot / "data.npy", a[:300])
    for i, directory in enumerate([elsewhere[1], elsewhere[0], elsewhere[2], elsewhere[1]]):
        rows = a[300 + 100 * i:400 + 100 * i]
        subprocess.run(["sh", "-c", f"cat >> {directory}/data"], input=rows.tobytes(), check=True)
        check_array(elsewhere[(i + 1) % 3], a[:400 + 100 * i])
    with open(spot / "data", "ab") as f:
        f.write(a[700:].tobytes())
    check_array(elsewhere[2], a)
    check_partitions(elsewhere[2], a)


def test_truncate_data(spot, elsewhere):
    set_partition_bytes(spot, 4096)
    a = np.arange(4000, dtype="<i8").reshape(2000, 2)
    np.save(spot / "data.npy", a)
    os.truncate(spot / "data", 700 * 16)
    check_array(elsewhere[1], a[:700])
    os.truncate(spot / "data", 900 * 16)
    check_array(elsewhere[2], np.concatenate([a[:700], np.zeros((200, 2), "<i8")]))


def test_chunks_by_hand(spot, elsewhere):
    """As zarr-python writes: a .partial beside the chunk, then rename over it; or link and unlink."""
    write_document(spot, "<i2", (10, 10), (4, 10), fill=-5)
    a = np.full((10, 10), -5, "<i2")
    check_array(elsewhere[1], a)
    (spot / "c" / "1").mkdir(parents=True, exist_ok=True)
    rows = np.arange(40, dtype="<i2").reshape(4, 10)
    partial = spot / "c" / "1" / "0.5f2e.partial"
    partial.write_bytes(rows.tobytes())
    os.rename(partial, spot / "c" / "1" / "0")
    a[4:8] = rows
    check_array(elsewhere[1], a)
    assert sorted(os.listdir(elsewhere[1] / "c" / "1")) == ["0"]
    (spot / "c" / "2").mkdir(exist_ok=True)
    partial = spot / "c" / "2" / "0.77.partial"
    partial.write_bytes(rows[::-1].tobytes())
    os.link(partial, spot / "c" / "2" / "0")
    os.unlink(partial)
    a[8:] = rows[::-1][:2]
    check_array(elsewhere[2], a)
    (spot / "c" / "1" / "0").write_bytes((rows * 2).tobytes())
    a[4:8] = rows * 2
    check_array(elsewhere[0], a)
    os.unlink(spot / "c" / "1" / "0")
    a[4:8] = -5
    check_array(elsewhere[2], a)


@pytest.mark.parametrize("dtype,fill,value", [
    ("<f4", "NaN", np.nan), ("<f8", "-Infinity", -np.inf), (">f8", 2.5, 2.5), ("|b1", True, True), (">i4", -2, -2),
    ("<u8", 2**64 - 1, 2**64 - 1), ("<c8", [1.5, "NaN"], complex(1.5, np.nan)), ("<f4", "0x7fc00001", np.nan)])
def test_missing_chunks_are_fill_value(spot, elsewhere, dtype, fill, value):
    write_document(spot, dtype, (50, 7), (8, 7), fill)
    for directory in elsewhere:
        a = np.load(directory / "data.npy")
        assert a.dtype == np.dtype(dtype)
        np.testing.assert_array_equal(a, np.full((50, 7), value, dtype))


def test_writing_one_element_fills_the_rest_of_its_partition(spot, elsewhere):
    write_document(spot, "<f8", (100,), (10,), 7.5)
    with open(spot / "data", "r+b") as f:
        f.seek(8 * 33)
        f.write(np.float64(-1).tobytes())
    a = np.full(100, 7.5)
    a[33] = -1
    check_array(elsewhere[1], a)
    assert np.array_equal(np.fromfile(elsewhere[2] / "c" / "3"), a[30:40])


def test_other_grids_by_chunk(spot, elsewhere):
    write_document(spot, "<f4", (7, 11, 5), (3, 4, 5), fill=1.0)
    rng = np.random.default_rng(4)
    a = np.ones((9, 12, 5), "<f4")
    for i in range(3):
        for j in range(3):
            if (i, j) == (1, 1):
                continue
            chunk = oracle.random_array(rng, "<f4", (3, 4, 5))
            path = spot / "c" / str(i) / str(j)
            path.mkdir(parents=True, exist_ok=True)
            (path / "0").write_bytes(chunk.tobytes())
            a[3 * i:3 * i + 3, 4 * j:4 * j + 4] = chunk
    for directory in elsewhere:
        assert sorted(os.listdir(directory / "c")) == ["0", "1", "2"]
        assert (directory / "c" / "2" / "1" / "0").read_bytes() == a[6:9, 4:8].tobytes()
        assert not (directory / "c" / "1" / "1" / "0").exists()
        assert np.array_equal(np.load(directory / "data.npy"), a[:7, :11])


def test_a_chunk_must_have_its_size(spot):
    write_document(spot, "<f8", (100,), (10,))
    (spot / "c").mkdir(exist_ok=True)
    with cl.expect_errno(errno.EINVAL, errno.ENOSPC, errno.EFBIG):
        (spot / "c" / "0").write_bytes(bytes(81))
    with cl.expect_errno(errno.ENOENT, errno.EINVAL, errno.EPERM, errno.ENOTSUP):
        (spot / "c" / "10").write_bytes(bytes(80))


def test_dot_separator_is_refused(spot, cluster3):
    with cl.expect_errno(errno.ENOTSUP):
        write_document(spot, "<u2", (6, 6), (2, 6), chunk_key_encoding={"name": "default", "configuration": {"separator": "."}})
    assert any("separator: '.'" in line for line in cluster3.mounts[0].errors())


def test_unknown_keys_are_kept(spot, elsewhere):
    doc = oracle.document("<f8", (10,), (5,), attributes={"units": "K", "nested": {"a": [1, 2.5, None]}})
    doc["dimension_names"] = ["time"]
    doc["my_extension"] = {"must_understand": False, "x": 1}
    text = json.dumps(doc, indent=3)
    (spot / "zarr.json").write_text(text)
    assert (elsewhere[1] / "zarr.json").read_text() == text
    subprocess.run(["sh", "-c", f"cat >> {spot}/data"], input=bytes(16), check=True)
    changed = json.loads((elsewhere[2] / "zarr.json").read_text())
    assert changed == doc | {"shape": [12]}


def test_resizing_by_document(spot, elsewhere):
    np.save(spot / "data.npy", np.arange(20.))
    doc = json.loads((spot / "zarr.json").read_text())
    doc["shape"] = [25]
    partial = spot / "zarr.json.abc.partial"
    partial.write_text(json.dumps(doc))
    os.rename(partial, spot / "zarr.json")
    np.testing.assert_array_equal(np.load(elsewhere[1] / "data.npy"), np.concatenate([np.arange(20.), np.zeros(5)]))


def test_groups(spot, elsewhere):
    (spot / "g").mkdir()
    (spot / "g" / "zarr.json").write_text(json.dumps({"zarr_format": 3, "node_type": "group", "attributes": {"a": 1}}))
    (spot / "g" / "x").mkdir()
    np.save(spot / "g" / "x" / "data.npy", np.arange(5))
    assert sorted(os.listdir(elsewhere[1] / "g")) == ["x", "zarr.json"]
    assert not (elsewhere[1] / "g" / "data").exists()


def test_larger_than_memory(spot, elsewhere):
    """64 GiB of fill_value, of which one element is written."""
    n = 1 << 33
    write_document(spot, "<f8", (n,), (1 << 19,), 1.5)
    start = time.monotonic()
    assert (elsewhere[1] / "compute" / "mean").read_text() == "1.5\n"
    assert (elsewhere[1] / "compute" / "count").read_text() == f"{n}\n"
    assert time.monotonic() - start < 5 * cl.SLOWER
    m = np.memmap(spot / "data", "<f8", "r+")
    assert m.shape == (n,) and (m[n // 2:n // 2 + 100] == 1.5).all()
    m[n - 3] = -2
    m.flush()
    del m
    m = np.load(elsewhere[2] / "data.npy", mmap_mode="r")
    assert m[n - 3] == -2 and m[n - 2] == 1.5
    assert (elsewhere[2] / "compute" / "argmin").read_text() == f"{n - 3}\n"
    assert int(cl.run("du", "-s", "--block-size=1", spot, check=0).stdout.split()[0]) < 64 << 20


def test_fortran_order_is_refused(spot, cluster3):
    with cl.expect_errno(errno.EINVAL, errno.ENOTSUP):
        np.save(spot / "data.npy", np.asfortranarray(np.arange(12.).reshape(3, 4)))
    assert any("ortran" in line for line in cluster3.mounts[0].errors())


def test_views_are_hidden(spot, elsewhere):
    np.save(spot / "data.npy", np.arange(4000.).reshape(40, 100))
    for directory in elsewhere:
        assert sorted(os.listdir(directory)) == ["c", "zarr.json"]
        assert (directory / "data").is_file() and (directory / "data.npy").is_file() and (directory / "compute").is_dir()
    assert not (spot / "nonsense").exists()
    root = spot.parent
    assert ".slabfs" not in os.listdir(root) and (root / ".slabfs" / "version").read_text().strip()


def test_show_views(fresh):
    c = fresh(1, options="show_views")
    directory = c.mounts[0].path / "x"
    directory.mkdir()
    np.save(directory / "data.npy", np.arange(10.))
    assert {"c", "compute", "data", "data.npy", "zarr.json"} <= set(os.listdir(directory))


def test_tools_copy_an_array(spot, elsewhere, tmp):
    set_partition_bytes(spot, 8192)
    source = spot / "x"
    source.mkdir()
    a = oracle.random_array(np.random.default_rng(5), "<f8", (999, 7))
    np.save(source / "data.npy", a)
    expected = cl.run("sh", "-c", f"cd {source} && find . -type f | sort | xargs sha256sum", check=0).stdout

    def check_copy(directory):
        assert cl.run("sh", "-c", f"cd {directory} && find . -type f | sort | xargs sha256sum", check=0).stdout == expected

    cl.run("cp", "-r", source, tmp / "x", check=0)
    check_copy(tmp / "x")
    cl.run("cp", "-a", tmp / "x", spot / "y", check=0)
    check_copy(elsewhere[1] / "y")
    check_array(elsewhere[1] / "y", a)
    cl.run("sh", "-c", f"tar -C {elsewhere[1]} -cf - x | tar -C {tmp} -xf - --transform s/x/z/", check=0)
    check_copy(tmp / "z")
    cl.run("rsync", "-a", f"{tmp}/x", f"{spot}/r", check=0)
    check_array(elsewhere[2] / "r" / "x", a)
    again = cl.run("rsync", "-ac", "--itemize-changes", f"{elsewhere[2]}/r/x", f"{tmp}/", check=0)
    assert ">f" not in again.stdout
    used = int(cl.run("du", "-s", "--block-size=1", source, check=0).stdout.split()[0])
    assert a.nbytes <= used <= 2 * a.nbytes + (1 << 20)
    cl.run("rm", "-r", source, check=0)
    assert not source.exists() and not (elsewhere[1] / "x").exists()


def test_removal_frees_the_stores(fresh):
    c = fresh(2, mounts=1)
    directory = c.mounts[0].path / "x"
    directory.mkdir()
    np.save(directory / "data.npy", np.arange(1 << 20))
    assert c.find_partition()
    cl.run("rm", "-r", directory, check=0)
    cl.until(lambda: not c.find_partition(), 20 * cl.SLOWER, "the partitions to go")


def test_close_to_open(spot, elsewhere):
    a = np.zeros(5000)
    np.save(spot / "data.npy", a)
    assert (np.load(elsewhere[1] / "data.npy") == 0).all()
    for i in range(10):
        writer, reader = elsewhere[i % 3] / "data", elsewhere[(i + 1) % 3]
        a[i * 400:i * 400 + 700] = i + 1
        with open(writer, "r+b") as f:
            f.seek(i * 3200)
            f.write(np.full(700, i + 1.).tobytes())
        assert (reader / "data").read_bytes() == a.tobytes()
        assert (np.load(reader / "data.npy") == a).all()
        assert float((reader / "compute" / "max").read_text()) == i + 1


def test_disjoint_writers_lose_nothing(spot, elsewhere):
    """Two mounts write interleaved pieces of one partition at the same time."""
    np.save(spot / "data.npy", np.zeros(200000, "u1"))
    files = [open(elsewhere[k] / "data", "r+b", buffering=0) for k in (0, 1)]
    for at in range(0, 200000, 1000):
        k = at // 1000 % 2
        os.pwrite(files[k].fileno(), bytes([k + 1]) * 1000, at)
    for f in files:
        f.close()
    a = np.load(elsewhere[2] / "data.npy").reshape(-1, 1000)
    assert (a[::2] == 1).all() and (a[1::2] == 2).all()


def test_an_open_shared_mapping_follows_within_a_second(spot, elsewhere):
    np.save(spot / "data.npy", np.zeros(10000))
    m = np.memmap(elsewhere[1] / "data", "<f8", "r")
    assert m[5000] == 0
    with open(spot / "data", "r+b") as f:
        f.seek(40000)
        f.write(np.float64(4).tobytes())
    cl.until(lambda: m[5000] == 4, 1.5 * cl.SLOWER, "the mapping to follow")


def test_a_remote_mount(cluster3, spot):
    a = np.arange(30000, dtype=">f4").reshape(300, 100)
    set_partition_bytes(spot, 4096)
    np.save(spot / "data.npy", a)
    m = cluster3.remote_mount()
    try:
        check_array(m.path / spot.name, a)
        check_partitions(m.path / spot.name, a)
        np.save(m.path / spot.name / "data.npy", a[:100] * 2)
        check_array(spot, a[:100] * 2)
    finally:
        assert not cluster3.unmount(m)


@pytest.mark.parametrize("order", [1, 2])
def test_zarr_v2_like_reader_of_partitions(spot, elsewhere, order):
    """The partition files alone, with what zarr.json says, rebuild the array."""
    set_partition_bytes(spot, 4096)
    a = oracle.random_array(np.random.default_rng(order), ">f8", (500, 3, 2))
    np.save(spot / "data.npy", a)
    doc = json.loads((elsewhere[order] / "zarr.json").read_text())
    assert doc["codecs"] == [{"name": "bytes", "configuration": {"endian": "big"}}]
    rows = doc["chunk_grid"]["configuration"]["chunk_shape"][0]
    parts = [np.fromfile(elsewhere[order] / "c" / str(i) / "0" / "0", ">f8").reshape(-1, 3, 2)
             for i in range(-(-500 // rows))]
    assert np.array_equal(np.concatenate(parts)[:500], a)
