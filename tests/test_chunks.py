"""The files under c/: written by hand as Zarr's writers do, on grids that are not native, before and after their zarr.json."""

import errno
import json
import os
import shutil

import cluster as cl
import numpy as np
import oracle
import pytest


def grid_document(shape, chunk, dtype, fill):
    doc = oracle.document(dtype, shape, chunk)
    doc["fill_value"] = fill
    return json.dumps(doc)


def put_by_rename(path, data):
    partial = path.with_name(path.name + ".5f2e.partial")
    partial.write_bytes(data)
    assert partial.name in os.listdir(path.parent)
    partial.rename(path)
    assert partial.name not in os.listdir(path.parent)


def put_by_link(path, data):
    partial = path.with_name(path.name + ".77aa.partial")
    partial.write_bytes(data)
    os.link(partial, path)
    with cl.expect_errno(errno.EEXIST):
        os.link(partial, path)
    partial.unlink()


def put_in_place(path, data):
    path.write_bytes(data)


@pytest.mark.parametrize("put", [put_by_rename, put_by_link, put_in_place])
def test_a_grid_cut_along_every_axis(spot, elsewhere, put):
    shape, chunk = (10, 10, 7), (4, 5, 3)
    (spot / "zarr.json").write_text(grid_document(shape, chunk, "<i4", 7))
    want = np.full(shape, 7, "<i4")
    rng = np.random.default_rng(0)
    for i, j, k in [(0, 0, 0), (2, 1, 2), (1, 1, 1)]:
        data = rng.integers(-1000, 1000, chunk, "<i4")
        path = spot / "c" / str(i) / str(j) / str(k)
        path.parent.mkdir(parents=True, exist_ok=True)
        put(path, data.tobytes())
        assert path.stat().st_size == data.nbytes
        inside = want[4 * i:4 * i + 4, 5 * j:5 * j + 5, 3 * k:3 * k + 3]
        inside[...] = data[:inside.shape[0], :inside.shape[1], :inside.shape[2]]
    for directory in elsewhere:
        assert np.array_equal(np.load(directory / "data.npy"), want)
        assert int((directory / "compute" / "sum").read_text()) == want.sum()
        assert int((directory / "compute" / "argmin").read_text()) == want.argmin()
        assert sorted(os.listdir(directory / "c")) == ["0", "1", "2"]
    mapped = np.memmap(elsewhere[-1] / "data", dtype="<i4", mode="r+", shape=shape)
    mapped[3] = 11
    mapped.flush()
    want[3] = 11
    assert np.array_equal(np.fromfile(spot / "data", "<i4").reshape(shape), want)


def _chunks_first(spot, name, a, rows):
    source, target = spot / "source", spot / name
    if not source.exists():
        source.mkdir()
        os.setxattr(source, "user.slabfs.partition_bytes", str(rows * a[0].nbytes).encode())
        np.save(source / "data.npy", a)
    shutil.copytree(source / "c", target / "c")
    return source / "zarr.json", target


@pytest.mark.parametrize("how", ["written", "renamed", "linked"])
def test_chunks_that_come_before_their_document(spot, elsewhere, how):
    a = np.random.default_rng(1).random((3000, 100))
    document, target = _chunks_first(spot, "target", a, 256)
    if how == "written":
        shutil.copyfile(document, target / "zarr.json")
    else:
        shutil.copyfile(document, target / "zarr.json.a1.partial")
        (os.rename if how == "renamed" else os.link)(target / "zarr.json.a1.partial", target / "zarr.json")
    assert len(os.listdir(elsewhere[1] / "target" / "c")) == -(-3000 // 256)
    for directory in elsewhere:
        assert np.array_equal(np.load(directory / "target" / "data.npy"), a)
        assert len(os.listdir(directory / "target" / "c")) == -(-3000 // 256)
    assert float((target / "compute" / "max").read_text()) == a.max()


@pytest.mark.parametrize("junk", ["junk", "007"])
def test_a_file_that_is_no_chunk_is_in_the_way(spot, cluster3, junk):
    a = np.random.default_rng(2).random((1000, 64))
    document, target = _chunks_first(spot, "target", a, 128)
    (target / "c" / junk).write_text("x")
    shutil.copyfile(document, target / "zarr.json")
    with cl.expect_errno(errno.EINVAL):
        np.load(target / "data.npy")
    assert any(f"{junk!r}" in line for line in cluster3.mounts[0].errors())
    assert os.listdir(target / "c") == [junk]
    (target / "c" / junk).unlink()
    assert np.array_equal(np.load(target / "data.npy"), a)
    assert len(os.listdir(target / "c")) == -(-1000 // 128)


def test_directories_of_the_grid(spot):
    (spot / "zarr.json").write_text(grid_document((8, 8), (4, 4), "<u2", 0))
    c = spot / "c"
    assert not c.exists()
    c.mkdir()
    assert not (c / "1").exists()
    (c / "1").mkdir()
    with cl.expect_errno(errno.EEXIST):
        (c / "1").mkdir()
    with cl.expect_errno(errno.EINVAL):
        (c / "2").mkdir()
    (c / "1" / "0").write_bytes(bytes(32))
    with cl.expect_errno(errno.ENOTEMPTY):
        (c / "1").rmdir()
    with cl.expect_errno(errno.ENOTEMPTY):
        c.rmdir()
    (c / "1" / "0").unlink()
    (c / "1").rmdir()
    assert not (c / "1").exists()
    c.rmdir()
    assert os.listdir(spot) == ["zarr.json"]
    with cl.expect_errno(errno.EFBIG):
        c.mkdir()
        (c / "0").mkdir()
        (c / "0" / "0").write_bytes(bytes(33))
