"""Listings of directories that change meanwhile: what stays is seen exactly once, what comes or goes at most once."""

import ctypes
import os
import random

import cluster as cl
import numpy as np
import pytest

libc = ctypes.CDLL(None, use_errno=True)
libc.opendir.restype = ctypes.c_void_p
libc.readdir.restype = ctypes.c_void_p
libc.telldir.restype = ctypes.c_long


class Listing:
    """A DIR of the C library, with places that one can come back to."""

    def __init__(self, path):
        self.dir = ctypes.c_void_p(libc.opendir(os.fsencode(path)))
        assert self.dir, path

    def __enter__(self):
        return self

    def __exit__(self, *_):
        libc.closedir(self.dir)

    def next(self):
        """A name other than . and .., or None."""
        while (entry := libc.readdir(self.dir)):
            name = os.fsdecode(ctypes.string_at(entry + 19))
            if name not in (".", ".."):
                return name
        return None

    def rest(self):
        return list(iter(self.next, None))

    def tell(self):
        return libc.telldir(self.dir)

    def seek(self, place):
        libc.seekdir(self.dir, ctypes.c_long(place))

    def rewind(self):
        libc.rewinddir(self.dir)


def fill(path, names):
    for name in names:
        os.close(os.open(path / name, os.O_CREAT | os.O_WRONLY))


@pytest.mark.parametrize("n", [3, 700, 3000])
def test_changes_during_a_listing(spot, elsewhere, n):
    """By this mount and by another, before and behind where the reader is."""
    rng = random.Random(n)
    stay, go, come = ([f"{kind}{i}" for i in range(n)] for kind in ("stay", "go", "come"))
    mixed = [name for pair in zip(stay, go) for name in pair]
    fill(spot, mixed)
    seen = []
    with Listing(spot) as listing:
        for i in range(n):
            seen.append(listing.next())
            where = elsewhere[rng.randrange(2)]
            if i % 3 == 0:
                fill(where, [come[i]])
            elif i % 3 == 1:
                os.unlink(where / go.pop(rng.randrange(len(go))))
            else:
                os.rename(where / go[0], where / go[0])
        seen += listing.rest()
    assert len(seen) == len(set(seen))
    assert set(stay) <= set(seen) <= set(mixed) | set(come)
    now = {f for f in os.listdir(elsewhere[2])}
    assert now == set(stay) | set(go) | set(come[:n:3])


def test_replacing_and_renaming_during_a_listing(spot, elsewhere):
    """A name that is always there, whatever it stands for, is seen exactly once."""
    names = [f"f{i}" for i in range(500)]
    fill(spot, names)
    (spot / "other").mkdir()
    seen = []
    with Listing(spot) as listing:
        for i in range(250):
            seen.append(listing.next())
            where = elsewhere[i % 2]
            if i % 2:
                fill(where / "other", ["new"])
                os.rename(where / "other" / "new", where / names[(i * 7) % 500])
            else:
                cl.renameat2(where / names[i], where / names[499 - i], cl.RENAME_EXCHANGE)
        seen += listing.rest()
    assert sorted(seen) == sorted([*names, "other"])


def test_places_in_a_listing(spot, elsewhere):
    """telldir and seekdir, also after entries before and behind the place have gone."""
    names = {f"n{i}" for i in range(1000)}
    fill(spot, names)
    with Listing(spot) as listing:
        places, order = [], []
        while True:
            place = listing.tell()
            name = listing.next()
            if name is None:
                break
            places.append(place)
            order.append(name)
        assert set(order) == names and len(order) == 1000
        for at in [0, 1, 500, 999, 7, 300]:
            listing.seek(places[at])
            assert listing.rest() == order[at:]
        for name in order[100:200] + order[600:650]:
            os.unlink(elsewhere[1] / name)
        fill(elsewhere[1], ["late"])
        listing.seek(places[150])
        assert listing.rest() == order[200:600] + order[650:] + ["late"]
        listing.rewind()
        assert listing.rest() == order[:100] + order[200:600] + order[650:] + ["late"]


def test_types_and_numbers_in_a_listing(spot):
    """d_type and d_ino are those that stat gives, of . and .. as well."""
    (spot / "d").mkdir()
    (spot / "f").touch()
    os.symlink("f", spot / "l")
    os.mkfifo(spot / "p")
    np.save(spot / "d" / "data.npy", np.zeros(3))
    for top in [spot, spot / "d", spot / "d" / "c"]:
        with os.scandir(top) as entries:
            for e in entries:
                st = os.lstat(e.path)
                assert e.inode() == st.st_ino and (e.is_dir(follow_symlinks=False), e.is_symlink(),
                        e.is_file(follow_symlinks=False)) == ( os.path.isdir(e.path), os.path.islink(e.path),
                        e.name in ("f", "zarr.json", "0")), e.path
    lines = cl.run("ls", "-aif", spot / "d", check=0).stdout.split()
    numbers = dict(zip(lines[1::2], lines[::2]))
    assert numbers["."] == str(os.stat(spot / "d").st_ino) and numbers[".."] == str(os.stat(spot).st_ino)


def test_a_removed_directory_lists_nothing(spot, elsewhere):
    (spot / "d").mkdir()
    fill(spot / "d", ["a", "b"])
    with Listing(spot / "d") as listing:
        assert listing.next() in ("a", "b")
        cl.run("rm", "-r", elsewhere[1] / "d", check=0)
        listing.rewind()
        assert listing.rest() == []


DOCUMENT = """{"zarr_format": 3, "node_type": "array", "shape": [600, 2], "data_type": "int16",
"chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [1, 2]}},
"chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
"fill_value": 7, "codecs": [{"name": "bytes", "configuration": {"endian": "little"}}], "attributes": {}}"""


def test_chunks_during_a_listing(spot, elsewhere):
    """c/ lists the partitions that exist."""
    (spot / "zarr.json").write_text(DOCUMENT)
    (spot / "c").mkdir()
    for i in range(0, 600, 2):
        (spot / "c" / str(i)).mkdir()
        (spot / "c" / str(i) / "0").write_bytes(bytes(4))
    seen = []
    with Listing(spot / "c") as listing:
        for i in range(100):
            seen.append(listing.next())
            if i % 2:
                (elsewhere[1] / "c" / str(6 * i + 1)).mkdir()
                (elsewhere[1] / "c" / str(6 * i + 1) / "0").write_bytes(bytes(4))
            else:
                os.unlink(elsewhere[1] / "c" / str(6 * i) / "0")
        seen += listing.rest()
    gone, late = {str(6 * i) for i in range(0, 100, 2)}, {str(6 * i + 1) for i in range(1, 100, 2)}
    first = {str(i) for i in range(0, 600, 2)}
    assert len(seen) == len(set(seen)) and first - gone <= set(seen) <= first | late
    assert set(os.listdir(elsewhere[2] / "c")) == (first - gone) | late

