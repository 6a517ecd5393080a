"""Whatever happens to the files of a store: it is noticed before a byte of it is served or reduced, and the rest is unaffected."""

import errno
import os
import shutil

import cluster as cl
import numpy as np
import pytest

PARTITION = 131072  # two blocks of checksums
VALUES = PARTITION // 8


def numbered(n, seed=0):
    """Partition i holds numbers that say so."""
    return np.concatenate([np.arange(VALUES, dtype="<i8") + (i + 1000 * seed) * VALUES for i in range(n)])


def save(directory, a):
    directory.mkdir(exist_ok=True)
    os.setxattr(directory, "user.slabfs.partition_bytes", str(PARTITION).encode())
    np.save(directory / "data.npy", a)
    sync(directory / "data")


def sync(path):
    fd = os.open(path, os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)


def partitions(c, a):
    """The files of the partitions of an array: by what they hold."""
    first = {int(a[VALUES * i]): i for i in range(len(a) // VALUES)}
    found = {}
    for node in c.nodes:
        for p in node.store.glob("parts/*/*/*"):
            if p.name.isdigit() and p.is_file() and p.stat().st_size == PARTITION:
                value = int(np.fromfile(p, "<i8", 1)[0])
                if value in first:
                    found[first[value]] = p
    return found


def sums(path):
    return path.with_name(path.name + ".sum")


def drop_caches(path):
    """What is read next comes off the disk."""
    for p in (path, sums(path)):
        if p.is_file():
            fd = os.open(p, os.O_RDONLY)
            os.fsync(fd)
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(fd)


def flip(path, offset):
    with open(path, "r+b") as f:
        f.seek(offset, 0 if offset >= 0 else 2)
        byte = f.read(1)
        f.seek(-1, 1)
        f.write(bytes([byte[0] ^ 4]))


def swap(a, b):
    cl.renameat2(a, b, cl.RENAME_EXCHANGE)


def lose(path):
    path.unlink()
    sums(path).unlink()


def place_directory(path):
    path.unlink()
    path.mkdir()
    (path / "strange").write_text("x")


def place_link(path):
    aside = path.with_name("aside-" + path.name)
    path.rename(aside)
    path.symlink_to(aside)


def place_hard_link(path, other):
    path.unlink()
    os.link(other, path)


def put_back(path, older):
    for p in (path, sums(path)):
        shutil.copyfile(older / p.name, p)


# Each takes the files of a partition, of another that is undamaged, and the directory with older copies.
DEEDS = {
    "a bit of the data": lambda p, q, old: flip(p, 70000),
    "the first bit": lambda p, q, old: flip(p, 0),
    "the last bit": lambda p, q, old: flip(p, -1),
    "a sum": lambda p, q, old: flip(sums(p), 66),
    "the header of the sums": lambda p, q, old: flip(sums(p), 30),
    "short data": lambda p, q, old: os.truncate(p, 70000),
    "longer data": lambda p, q, old: os.truncate(p, PARTITION + 4096),
    "no data": lambda p, q, old: p.unlink(),
    "no sums": lambda p, q, old: sums(p).unlink(),
    "neither": lambda p, q, old: lose(p),
    "empty data": lambda p, q, old: os.truncate(p, 0),
    "empty sums": lambda p, q, old: os.truncate(sums(p), 0),
    "both empty": lambda p, q, old: (os.truncate(p, 0), os.truncate(sums(p), 0)),
    "short sums": lambda p, q, old: os.truncate(sums(p), 72),
    "an older copy": lambda p, q, old: put_back(p, old),
    "a directory": lambda p, q, old: place_directory(p),
    "a directory for sums": lambda p, q, old: place_directory(sums(p)),
    "a symbolic link": lambda p, q, old: place_link(p),
    "a link to another": lambda p, q, old: place_hard_link(p, q),
    "sums that are a link": lambda p, q, old: place_hard_link(sums(p), sums(q)),
}
# What a running daemon has verified, and whose pages have not left its memory, may be served: of the sums only, it is right.
ONLY_SUMS = {"a sum", "the header of the sums", "no sums", "empty sums", "short sums", "a directory for sums", "sums that are a link"}


def read(directory, i):
    with open(directory / "data", "rb", buffering=0) as f:
        f.seek(PARTITION * i)
        got = b""
        while len(got) < PARTITION:
            got += f.read(PARTITION - len(got))
        return got


def prepared(fresh, arrays, mounts=1):
    """A cluster whose arrays were written twice, with the first version of all files beside it, and no mount."""
    c = fresh(2, mounts=mounts, fixed_ports=True)
    old = c.root / "old"
    old.mkdir()
    for name, a in arrays.items():
        save(c.mounts[0] / name, a)
        for p in partitions(c, a).values():
            (old / p.parent.name).mkdir(exist_ok=True)
            shutil.copyfile(p, old / p.parent.name / p.name)
            shutil.copyfile(sums(p), old / p.parent.name / sums(p).name)
        with open(c.mounts[0] / name / "data", "r+b") as f:
            f.write((a + 1).tobytes())
        sync(c.mounts[0] / name / "data")
    for m in list(c.mounts):
        assert c.unmount(m) == ""
    return c, old


def check_damage(c, a, damaged, array="x", skip=()):
    """On a mount of each node: the damaged give EIO with their names, all else its bytes; no reduction of the array."""
    for n in c.nodes:
        m = c.mount(n.store)
        for i in range(len(a) // VALUES):
            if i in skip:
                continue
            if i in damaged:
                with cl.expect_errno(errno.EIO):
                    read(m / array, i)
                with cl.expect_errno(errno.EIO):
                    (m / array / "c" / str(i)).read_bytes()
            else:
                assert read(m / array, i) == a[VALUES * i:VALUES * (i + 1)].tobytes(), i
        if damaged:
            with cl.expect_errno(errno.EIO):
                (m / array / "compute" / "sum").read_text()
            lines = m.errors()
            for i in damaged:
                assert any(f"partition {i}:" in line and "quarantined" in line for line in lines), (i, damaged[i], lines)
        assert c.unmount(m) == ""


@pytest.mark.parametrize("running", [False, True], ids=["stopped", "running"])
def test_every_damage_is_noticed(fresh, running):
    n = 2 * len(DEEDS)
    a = numbered(n)
    c, old = prepared(fresh, {"x": a})
    a = a + 1
    files = partitions(c, a)
    assert len(files) == n
    damaged = {}
    if not running:
        for node in c.nodes:
            assert node.stop() == ""
    for i, (what, deed) in enumerate(DEEDS.items()):
        p, other = files[i], files[i + len(DEEDS)]
        if other.parent != p.parent:
            other = next(files[k] for k in range(len(DEEDS), n) if files[k].parent == p.parent)
        drop_caches(p)
        deed(p, other, old / p.parent.name)
        damaged[i] = what
    if not running:
        for node in c.nodes:
            node.start()
    maybe = {i for i, what in damaged.items() if running and what in ONLY_SUMS}
    check_damage(c, a, {i: what for i, what in damaged.items() if i not in maybe}, skip=maybe)
    said = [line for node in c.nodes for line in node.process.text().splitlines() if "quarantined" in line]
    assert len(said) >= len(damaged) - len(maybe)
    for node in c.nodes:  # and it is remembered
        assert node.stop() == ""
        node.start()
    check_damage(c, a, damaged)


@pytest.mark.parametrize("running", [False, True], ids=["stopped", "running"])
def test_files_that_were_swapped(fresh, running):
    """With another partition of the array, and with one of another array; only the data, only the sums, and both."""
    a, b = numbered(12), numbered(12, 1)
    c, _ = prepared(fresh, {"x": a, "y": b})
    a, b = a + 1, b + 1
    x, y = partitions(c, a), partitions(c, b)
    assert len(x) == len(y) == 12
    by_node = [[i for i in range(12) if x[i].is_relative_to(node.store)] for node in c.nodes]
    mine, theirs = by_node
    if not running:
        for node in c.nodes:
            assert node.stop() == ""
    for p in [*x.values(), *y.values()]:
        drop_caches(p)
    other = [i for i in range(12) if y[i].is_relative_to(c.nodes[0].store)]
    swap(x[mine[0]], x[mine[1]])
    swap(sums(x[mine[2]]), sums(x[mine[3]]))
    swap(x[mine[4]], y[other[0]]), swap(sums(x[mine[4]]), sums(y[other[0]]))
    swap(x[theirs[0]], x[theirs[1]]), swap(sums(x[theirs[0]]), sums(x[theirs[1]]))
    if not running:
        for node in c.nodes:
            node.start()
    damaged = {i: "swapped" for i in mine[:5] + theirs[:2]}
    check_damage(c, a, damaged)
    check_damage(c, b, {other[0]: "swapped"}, "y")


@pytest.mark.parametrize("running", [False, True], ids=["stopped", "running"])
def test_a_directory_that_is_gone(fresh, running):
    """All partitions of an array on one node: none of them reads as fill_value, and the other array is untouched."""
    a, b = numbered(8), numbered(4, 1)
    c, _ = prepared(fresh, {"x": a, "y": b})
    x = partitions(c, a + 1)
    gone = {i: "gone" for i in x if x[i].is_relative_to(c.nodes[1].store)}
    assert 0 < len(gone) < 8
    if not running:
        assert c.nodes[1].stop() == ""
    shutil.rmtree(x[min(gone)].parent)
    if not running:
        c.nodes[1].start()
    check_damage(c, a + 1, gone)
    check_damage(c, b + 1, {}, "y")
    m = c.mount(c.nodes[0].store)
    for i in gone:  # what is lost can be removed, and written anew
        os.unlink(m / "x" / "c" / str(i))
        assert read(m / "x", i) == bytes(PARTITION)
    with open(m / "x" / "data", "r+b") as f:
        f.write(a.tobytes())
    sync(m / "x" / "data")
    assert np.array_equal(np.load(m / "x" / "data.npy"), a)
    assert c.unmount(m) == ""
    for node in c.nodes:
        assert node.stop() == ""
        node.start()
    check_damage(c, a, {})


def test_what_was_removed_is_not_missed(fresh):
    """Chunks that were removed, cut off or replaced read as they should, also after the daemons were killed."""
    c = fresh(2, mounts=1, fixed_ports=True)
    m = c.mounts[0]
    a = numbered(8)
    save(m / "x", a)
    (m / "f").write_bytes(os.urandom(100000))
    sync(m / "f")
    os.unlink(m / "x" / "c" / "1")
    os.truncate(m / "f", 0)
    (m / "x" / "c" / "2.part").write_bytes(a[:VALUES].tobytes())
    os.rename(m / "x" / "c" / "2.part", m / "x" / "c" / "2")
    assert c.unmount(m) == ""
    for node in c.nodes:
        node.process.kill()
    for node in c.nodes:
        node.start()
    a[VALUES:2 * VALUES] = 0
    a[2 * VALUES:3 * VALUES] = a[:VALUES]
    check_damage(c, a, {})
    m = c.mount(c.nodes[0].store)
    assert (m / "f").read_bytes() == b""
    assert float((m / "x" / "compute" / "sum").read_text()) == float(a.sum())
    (m / "f").write_bytes(b"again")
    sync(m / "f")
    assert (m / "f").read_bytes() == b"again"
