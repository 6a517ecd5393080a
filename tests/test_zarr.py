"""zarr-python 3 on the mounted paths, where it is installed (Debian 13 has it), and its way of writing where it is not."""

import os

import cluster as cl
import numpy as np
import oracle
import pytest
from test_arrays import check_array, write_document


@pytest.fixture
def zarr():
    return pytest.importorskip("zarr", minversion="3")


def create(zarr, path, shape, chunks, dtype="f8", **kwargs):
    store = zarr.storage.LocalStore(path)
    return zarr.create_array(store, shape=shape, chunks=chunks, dtype=dtype, compressors=None, zarr_format=3, **kwargs)


def test_write_and_read(zarr, spot, elsewhere):
    a = oracle.random_array(np.random.default_rng(8), "<f8", (100, 70))
    create(zarr, spot / "x", a.shape, (30, 40))[:] = a
    check_array(elsewhere[1] / "x", a)
    there = zarr.open(zarr.storage.LocalStore(elsewhere[2] / "x"), mode="r+")
    there[5:50, 3:60] = a[5:50, 3:60] = 7
    check_array(elsewhere[1] / "x", a)
    assert np.array_equal(zarr.open(str(spot / "x"), mode="r")[:], a)


def test_overwrite(zarr, spot, elsewhere):
    create(zarr, spot / "x", (64,), (16,))[:] = 3
    a = np.arange(100, dtype="i4").reshape(10, 10)
    create(zarr, spot / "x", (10, 10), (5, 10), "i4", overwrite=True)[:] = a
    check_array(elsewhere[1] / "x", a)


def test_resize_and_append(zarr, spot, elsewhere):
    z = create(zarr, spot / "x", (32,), (16,), "f4", fill_value=4)
    z.resize((50,))
    z[32:] = 1
    z.append(np.full(5, 2, "f4"))
    check_array(elsewhere[1] / "x", np.array([4] * 32 + [1] * 18 + [2] * 5, "f4"))
    z.resize((10,))
    check_array(elsewhere[1] / "x", np.full(10, 4, "f4"))


def test_group(zarr, spot, elsewhere):
    group = zarr.open_group(str(spot / "g"), mode="w", zarr_format=3)
    x = group.create_array("x", shape=(8, 8), chunks=(4, 4), dtype="i2", compressors=None, fill_value=9)
    x[:4, :4] = 1
    there = zarr.open_group(str(elsewhere[1] / "g"), mode="r")
    assert list(there.array_keys()) == ["x"] and there["x"][:].sum() == 16 + 48 * 9
    assert (elsewhere[1] / "g" / "x" / "compute" / "sum").read_text().strip() == str(16 + 48 * 9)
    del group["x"]
    assert os.listdir(elsewhere[1] / "g") == ["zarr.json"]


def test_native_arrays_are_zarr(zarr, spot, elsewhere):
    a = np.arange(3000.).reshape(100, 30)
    np.save(spot / "data.npy", a)
    assert np.array_equal(zarr.open(str(elsewhere[1]), mode="r")[:], a)


def test_scalar(zarr, spot, elsewhere):
    create(zarr, spot / "x", (), ())[...] = 5.5
    check_array(elsewhere[1] / "x", np.array(5.5))


def test_rank_0_by_hand(spot, elsewhere):
    """The only chunk is the file c: made, replaced, removed, made again."""
    write_document(spot, "<f8", (), ())
    for value in (1.5, 2.5):
        (spot / "c").write_bytes(np.array(value).tobytes())
        check_array(elsewhere[1], np.array(value))
    with pytest.raises(FileExistsError):
        open(spot / "c", "xb")
    (spot / "c").unlink()
    assert os.listdir(elsewhere[1]) == ["zarr.json"]
    check_array(elsewhere[1], np.array(0.))
    (spot / "c").write_bytes(np.array(3.5).tobytes())
    cl.run("cp", "-r", spot, spot.parent / f"{spot.name}.copy", check=0)
    copy = elsewhere[2].parent / f"{spot.name}.copy"
    check_array(copy, np.array(3.5))
    cl.run("rm", "-r", copy, check=0)
    assert not copy.exists()


def test_rank_0_renamed(spot, elsewhere):
    """A writer's temporary takes the place of c."""
    write_document(spot, "<f8", (), ())
    for value in (1.5, 2.5):
        (spot / "c.4f2a.partial").write_bytes(np.array(value).tobytes())
        os.replace(spot / "c.4f2a.partial", spot / "c")
        check_array(elsewhere[1], np.array(value))
        assert sorted(os.listdir(elsewhere[1])) == ["c", "zarr.json"]
    (spot / "c.0b1c.partial").write_bytes(np.array(3.5).tobytes())
    with pytest.raises(FileExistsError):
        os.link(spot / "c.0b1c.partial", spot / "c")
    (spot / "c").unlink()
    os.link(spot / "c.0b1c.partial", spot / "c")
    (spot / "c.0b1c.partial").unlink()
    check_array(elsewhere[1], np.array(3.5))
    assert sorted(os.listdir(spot)) == ["c", "zarr.json"]
