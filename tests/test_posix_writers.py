"""Programs that know nothing of slabfs write into it as they are, and another mount reads what they meant."""

import errno
import fcntl
import os
import shutil
import stat
import subprocess

import cluster as cl
import numpy as np
import pytest

GIT = dict(os.environ, GIT_CONFIG_GLOBAL="/dev/null", GIT_CONFIG_NOSYSTEM="1", HOME="/nonexistent")


def needs(tool):
    if not shutil.which(tool):
        pytest.skip(f"{tool} is not installed")


def make_tree(top):
    """A bit of everything: modes, owners, times, links, attributes, a sparse file, odd names."""
    top.mkdir()
    (top / "d" / "e").mkdir(parents=True)
    (top / "d" / "f").write_bytes(os.urandom(100000))
    (top / "d" / "empty").touch()
    (top / "odd \n\\ name \xff").write_text("odd")
    os.symlink("d/f", top / "l")
    os.symlink("nowhere/at all", top / "dangling")
    os.link(top / "d" / "f", top / "d" / "e" / "second")
    os.mkfifo(top / "p", 0o640)
    os.mknod(top / "dev", 0o600 | stat.S_IFCHR, os.makedev(1, 3))
    with open(top / "sparse", "wb") as f:
        f.truncate(1 << 22)
        f.seek(3 << 20)
        f.write(b"middle")
    os.setxattr(top / "d" / "f", "user.note", b"kept")
    os.setxattr(top / "d", "user.of a directory", b"\0\1\2")
    os.setxattr(top / "d" / "empty", "trusted.t", b"t")
    os.chmod(top / "d" / "f", 0o4751)
    os.chmod(top / "d" / "e", 0o2775)
    os.chown(top / "d" / "f", 1001, 1002)
    os.chmod(top / "d" / "f", 0o4751)
    os.chown(top / "l", 1003, 1004, follow_symlinks=False)
    for i, p in enumerate([*sorted(top.rglob("*"), reverse=True), top]):  # what is below first
        os.utime(p, ns=(10 ** 18 + i, 10 ** 18 + 1234567890 * i), follow_symlinks=False)
    return top


def told(top, xattrs=True):
    """All that a copy should have kept."""
    result, first = {}, {}
    for p in sorted([top, *top.rglob("*")]):
        st = p.lstat()
        name = str(p.relative_to(top))
        content = os.readlink(p) if p.is_symlink() else p.read_bytes() if p.is_file() else st.st_rdev
        attributes = {a: os.getxattr(p, a, follow_symlinks=False) for a in os.listxattr(p, follow_symlinks=False)} if xattrs else {}
        result[name] = (oct(st.st_mode), st.st_uid, st.st_gid, st.st_nlink, st.st_mtime_ns, content, attributes,
                first.setdefault(st.st_ino, name))
    return result


def tree_there(tmp):
    """A tree on this machine's own disk.  Not every one of them keeps attributes of users."""
    try:
        return make_tree(tmp / "src")
    except OSError as e:
        pytest.skip(f"{tmp} does not keep what is to be copied: {e}")


def same_elsewhere(src, elsewhere, name, **kwargs):
    """The file system's own nanoseconds may be coarser than a copy's."""
    want = told(src, **kwargs)
    for mount in elsewhere[:2]:
        got = told(mount / name, **kwargs)
        assert got.keys() == want.keys()
        assert not [(n, got[n], want[n]) for n in want if got[n] != want[n]]


def test_rsync(tmp, spot, elsewhere):
    needs("rsync")
    src = tree_there(tmp)
    argv = ["rsync", "-aHAX", "--specials", "--devices", "--itemize-changes", f"{src}/", f"{spot}/copy/"]
    assert cl.run(*argv, check=0).stdout
    same_elsewhere(src, elsewhere, "copy")
    assert cl.run(*argv, check=0).stdout == ""
    assert cl.run(*argv[:-2], "--checksum", f"{elsewhere[1]}/copy/", f"{src}/", check=0).stdout == ""
    (src / "d" / "f").write_bytes(b"changed")
    os.unlink(src / "l")
    for name in ["d/f", "."]:
        os.utime(src / name, ns=(0, 10 ** 17 + 1))  # a change within the same second would be none to rsync
    cl.run(*argv, "--delete", check=0)
    same_elsewhere(src, elsewhere, "copy")
    cl.run("rsync", "-a", "--inplace", f"{src}/d/", f"{elsewhere[1]}/inplace/", check=0)
    cl.run("rsync", "-a", "--partial", "--append", f"{src}/sparse", f"{spot}/inplace/", check=0)
    assert (spot / "inplace" / "sparse").read_bytes() == (src / "sparse").read_bytes()


def test_tar(tmp, spot, elsewhere):
    src = tree_there(tmp)
    tar = ["tar", "--xattrs", "--xattrs-include=*", "--acls", "--sparse", "--numeric-owner", "--format=posix"]
    cl.run(*tar, "-C", src, "-cf", spot / "t.tar", ".", check=0)
    (spot / "out").mkdir()
    cl.run(*tar, "-xpf", elsewhere[1] / "t.tar", "-C", spot / "out", check=0)
    same_elsewhere(src, elsewhere, "out")
    cl.run(*tar, "-C", elsewhere[1] / "out", "-cf", tmp / "again.tar", ".", check=0)
    (tmp / "again").mkdir()
    cl.run(*tar, "-xpf", tmp / "again.tar", "-C", tmp / "again", check=0)
    assert told(tmp / "again") == told(src)
    assert cl.run(*tar, "-C", src, "-df", elsewhere[1] / "t.tar", check=0).stdout == ""


def test_cp_and_mv(tmp, spot, elsewhere):
    src = tree_there(tmp)
    cl.run("cp", "-a", src, spot / "copy", check=0)
    same_elsewhere(src, elsewhere, "copy")
    cl.run("cp", "-a", elsewhere[1] / "copy", elsewhere[1] / "second", check=0)
    same_elsewhere(src, elsewhere, "second")
    (spot / "deep" / "er").mkdir(parents=True)
    cl.run("mv", spot / "second", spot / "deep" / "er", check=0)
    same_elsewhere(src, elsewhere, "deep/er/second")
    before = told(src)
    cl.run("mv", src, spot / "moved", check=0)
    assert not src.exists()
    cl.run("mv", elsewhere[1] / "moved", tmp / "src", check=0)
    assert told(src) == before and not (spot / "moved").exists()
    cl.run("cp", "--sparse=always", spot / "copy" / "sparse", spot / "s2", check=0)
    cl.run("cp", "--reflink=auto", spot / "copy" / "sparse", spot / "s3", check=0)
    cl.run("cmp", elsewhere[1] / "s2", elsewhere[1] / "s3", check=0)
    cl.run("install", "-D", "-m", "0751", "-o", "1001", spot / "s2", spot / "usr" / "bin" / "tool", check=0)
    assert oct((elsewhere[1] / "usr/bin/tool").stat().st_mode) == "0o100751"
    cl.run("rm", "-r", spot / "copy", spot / "deep", check=0)
    assert not (elsewhere[1] / "copy").exists()


def test_dd(spot, elsewhere):
    block = os.urandom(1 << 20)
    (spot / "in").write_bytes(block * 5)
    for options in [["conv=fsync"], ["oflag=sync", "bs=64k"], ["conv=fdatasync", "oflag=append", "conv=notrunc"],
            ["bs=1000", "conv=sparse"]]:
        os.path.exists(spot / "out") and os.unlink(spot / "out")
        cl.run("dd", f"if={elsewhere[1]}/in", f"of={spot}/out", *options, check=0)
        cl.run("cmp", elsewhere[1] / "in", elsewhere[2] / "out", check=0)
    cl.run("dd", "if=/dev/zero", f"of={elsewhere[1]}/out", "bs=1", "count=3", "seek=1000", "conv=notrunc,fsync", check=0)
    want = bytearray(block * 5)
    want[1000:1003] = bytes(3)
    assert (spot / "out").read_bytes() == want


def test_git(spot, elsewhere):
    needs("git")
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "safe.directory=*", "-c", "protocol.file.allow=always"]
    cl.run(*git, "-c", "init.defaultBranch=main", "init", "-q", spot / "first", check=0, env=GIT)
    for i in range(3):
        (spot / "first" / f"file{i}").write_text("text\n" * 500 * (i + 1))
        cl.run(*git, "-C", spot / "first", "add", ".", check=0, env=GIT)
        cl.run(*git, "-C", spot / "first", "commit", "-q", "-m", f"commit {i}", check=0, env=GIT)
    cl.run(*git, "clone", "-q", elsewhere[1] / "first", elsewhere[1] / "second", check=0, env=GIT)
    assert cl.run(*git, "-C", spot / "second", "status", "--porcelain", check=0, env=GIT).stdout == ""
    (elsewhere[1] / "second" / "more").write_text("more\n")
    second = [*git, "-C", elsewhere[1] / "second"]
    for argv in [["add", "."], ["commit", "-q", "-m", "more"], ["gc", "-q", "--prune=now"], ["fsck", "--strict"],
            ["branch", "side"], ["mv", "more", "less"], ["commit", "-q", "-a", "-m", "moved"], ["checkout", "-q", "side"],
            ["push", "-q", "origin", "side"]]:
        cl.run(*second, *argv, check=0, env=GIT)
    assert cl.run(*git, "-C", spot / "first", "show", "side:more", check=0, env=GIT).stdout == "more\n"
    cl.run(*git, "-C", elsewhere[2] / "first", "fsck", "--strict", check=0, env=GIT)


def test_sqlite_with_a_rollback_journal(spot, elsewhere):
    needs("sqlite3")
    db = spot / "t.db"
    cl.run("sqlite3", db, "pragma journal_mode=delete; pragma synchronous=full; create table t(a integer primary key, b text);",
            check=0)
    insert = "pragma busy_timeout=20000; begin immediate; insert into t(b) values(hex(randomblob(500))); commit;"
    writers = [subprocess.Popen(["sqlite3", db, insert * 8], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            preexec_fn=cl.die_with_parent) for _ in range(3)]
    assert [(w.communicate(timeout=100)[1], w.returncode) for w in writers] == [(b"", 0)] * 3
    assert cl.run("sqlite3", elsewhere[1] / "t.db", "pragma integrity_check; select count(*) from t;", check=0).stdout == "ok\n24\n"
    cl.run("sqlite3", elsewhere[1] / "t.db", "begin; delete from t; rollback; delete from t where a > 20; vacuum;", check=0)
    assert cl.run("sqlite3", db, "pragma integrity_check; select count(*) from t;", check=0).stdout == "ok\n20\n"
    assert os.listdir(spot) == ["t.db"]


def test_zarr_2_directory_store(spot, elsewhere):
    zarr = pytest.importorskip("zarr", reason="zarr-python is not installed (package python3-zarr)")
    if not zarr.__version__.startswith("2."):
        pytest.skip("zarr-python is not version 2")
    values = np.arange(60 * 50, dtype="f4").reshape(60, 50)
    group = zarr.open_group(zarr.DirectoryStore(str(spot / "g")), mode="w")
    array = group.create_dataset("a", data=values, chunks=(16, 20), compressor=None)
    array.attrs["units"] = "K"
    group.create_dataset("z", data=values, chunks=(30, 50))
    for mount in elsewhere[1:]:
        other = zarr.open_group(zarr.DirectoryStore(str(mount / "g")), mode="r")
        assert (other["a"][:] == values).all() and (other["z"][:] == values).all() and other["a"].attrs["units"] == "K"
    array.append(values)
    array[3:7] = -1
    other = zarr.open_group(zarr.DirectoryStore(str(elsewhere[1] / "g")), mode="r+")
    assert other["a"].shape == (120, 50) and (other["a"][3:7] == -1).all()
    other["a"].resize(10, 10)
    assert (zarr.open(str(spot / "g" / "a"), mode="r")[:3] == values[:3, :10]).all()
    del group["z"]
    assert sorted(zarr.open_group(str(elsewhere[1] / "g"), mode="r")) == ["a"]


DOCUMENT = """{"zarr_format": 3, "node_type": "array", "shape": [4, 6], "data_type": "int16",
"chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [2, 3]}},
"chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
"fill_value": 7, "codecs": [{"name": "bytes", "configuration": {"endian": "little"}}], "attributes": {}}"""


def write_file(path, data):
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    try:
        os.write(fd, data)
    finally:
        os.close(fd)


def by_rename(path, data):
    """zarr-python 3, overwriting: a temporary beside it, renamed over it."""
    write_file(f"{path}.5d41402abc4b2a76.partial", data)
    os.replace(f"{path}.5d41402abc4b2a76.partial", path)


def by_link(path, data):
    """zarr-python 3, if it does not exist: a temporary beside it, linked, unlinked."""
    temporary = f"{path}.5d41402abc4b2a76.partial"
    write_file(temporary, data)
    try:
        os.link(temporary, path)
    finally:
        os.unlink(temporary)


def by_lock_file(path, data):
    """TensorStore: a lock file beside it, made for one writer, locked, written, renamed over it."""
    lock = f"{path}.__lock"
    fd = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        assert os.stat(lock).st_ino == os.fstat(fd).st_ino  # nobody has renamed it away meanwhile
        os.ftruncate(fd, 0)
        os.write(fd, data)
        os.fsync(fd)
        os.rename(lock, path)
        directory = os.open(os.path.dirname(path), os.O_RDONLY)
        os.fsync(directory)
        os.close(directory)
    finally:
        os.close(fd)


@pytest.mark.parametrize("way", [by_rename, by_link, by_lock_file, write_file], ids=lambda w: w.__name__)
def test_ways_of_writing_chunks(spot, elsewhere, way):
    way(str(spot / "zarr.json"), DOCUMENT.encode())
    want = np.full((4, 6), 7, "i2")
    for i, j in [(0, 0), (1, 1), (0, 1)]:
        mount = elsewhere[(i + j) % 2]
        os.makedirs(mount / "c" / str(i), exist_ok=True)
        chunk = np.arange(6, dtype="<i2").reshape(2, 3) + 10 * i + 100 * j
        way(str(mount / "c" / str(i) / str(j)), chunk.tobytes())
        want[2 * i:2 * i + 2, 3 * j:3 * j + 3] = chunk
    for mount in elsewhere:
        assert (np.load(mount / "data.npy") == want).all()
        assert sorted(os.listdir(mount / "c" / "0")) == ["0", "1"] and sorted(os.listdir(mount)) == ["c", "zarr.json"]
    if way is by_link:
        with cl.expect_errno(errno.EEXIST):
            way(str(elsewhere[1] / "c" / "0" / "0"), bytes(12))
        assert sorted(os.listdir(spot / "c" / "0")) == ["0", "1"] and (np.load(spot / "data.npy") == want).all()
    else:
        way(str(elsewhere[1] / "c" / "0" / "0"), bytes(12))
        want[:2, :3] = 0
        assert all((np.load(mount / "data.npy") == want).all() for mount in elsewhere)
    os.unlink(elsewhere[2] / "c" / "1" / "1")
    want[2:, 3:] = 7
    assert (np.load(spot / "data.npy") == want).all()


@pytest.mark.parametrize("way", [by_rename, by_link, by_lock_file], ids=lambda w: w.__name__)
def test_ways_of_writing_outside_an_array(spot, elsewhere, way):
    way(str(spot / "f"), b"one")
    assert (elsewhere[1] / "f").read_bytes() == b"one" and os.listdir(spot) == ["f"]
    if way is not by_link:
        way(str(elsewhere[1] / "f"), b"two")
        assert all((mount / "f").read_bytes() == b"two" for mount in elsewhere)


def test_copies_of_an_array(tmp, spot, elsewhere):
    """Whatever copies the directory copies the array: once, not three times."""
    needs("rsync")
    (spot / "a").mkdir()
    values = np.arange(6000.0).reshape(60, 100)
    np.save(spot / "a" / "data.npy", values)
    for name, argv in {"cp": ["cp", "-a"], "rsync": ["rsync", "-aHAX"]}.items():
        cl.run(*argv, f"{elsewhere[1] / 'a'}" + "/" * (name == "rsync"), spot / name, check=0)
        for mount in elsewhere:
            assert (np.load(mount / name / "data.npy") == values).all()
    cl.run("tar", "-C", spot, "-cf", tmp / "t.tar", "a", check=0)
    (spot / "tar").mkdir()
    cl.run("tar", "-C", elsewhere[1] / "tar", "-xf", tmp / "t.tar", check=0)
    assert (np.load(spot / "tar" / "a" / "data.npy") == values).all()
    assert cl.run("rsync", "-aHAX", "--itemize-changes", f"{spot}/a/", f"{elsewhere[2]}/rsync/", check=0).stdout == ""
    cl.run("mv", spot / "cp", spot / "moved", check=0)
    cl.run("rm", "-r", spot / "rsync", check=0)
    assert (np.load(elsewhere[1] / "moved" / "data.npy") == values).all() and sorted(os.listdir(spot)) == ["a", "moved", "tar"]
