"""What a file system does and an array does not: a clear errno, a line in .slabfs/errors, and nothing has changed."""

import errno
import os

import cluster as cl
import numpy as np
import pytest

VALUES = np.arange(12.0).reshape(4, 3)
TABLE = [  # (what, on which path of the array, errno, words of the reason)
    ("unlink", "data", errno.EPERM, "removed with the array's directory"),
    ("unlink", "data.npy", errno.EPERM, "removed with the array's directory"),
    ("rmdir", "compute", errno.EPERM, "removed with the array's directory"),
    ("unlink", "compute/mean", errno.EPERM, "there are answers"),
    ("rmdir", "c", errno.ENOTEMPTY, ""), ("rmdir", "c/0", errno.ENOTEMPTY, ""),
    ("move away", "data", errno.EXDEV, "moved and removed with the array's directory"),
    ("move away", "c", errno.EXDEV, "moved and removed with the array's directory"),
    ("move away", "c/0", errno.EXDEV, "under c/ there are partitions"), ("move away", "c/0/0", errno.EXDEV, "not moved away"),
    ("move away", "compute/mean", errno.EPERM, "there are answers"), ("move onto", "data", errno.EXDEV, "it shows the array"),
    ("move onto", "compute/mean", errno.EPERM, "there are answers"), ("move a directory onto", "compute", errno.EXDEV, "it shows the array"),
    ("exchange with", "data.npy", errno.EXDEV, "it shows the array"), ("exchange with", "c/0/0", errno.EINVAL, "change places"),
    ("link", "data", errno.EPERM, "one name only"), ("link", "c/0/0", errno.EPERM, "one name only"),
    ("link at", "data", errno.EEXIST, ""), ("link at", "c/0/0", errno.EEXIST, ""), ("mkdir", "c/x", errno.EPERM, "under c/ there are"),
    ("mkdir", "c/9", errno.EINVAL, "no such partition"), ("mkdir", "compute/x", errno.EPERM, "there are answers"),
    ("create", "c/9", errno.EINVAL, "no such partition"), ("create", "c/0/7", errno.EINVAL, "no such partition"),
    ("symlink", "c/0/7", errno.EINVAL, "no such partition"), ("symlink", "data", errno.EEXIST, ""), ("mkfifo", "c/0/1", errno.EINVAL, ""),
    ("chmod", "compute", errno.EPERM, "cannot be set"), ("chmod", "compute/mean", errno.EPERM, "cannot be set"),
    ("truncate", "data", errno.EINVAL, "whole number of rows"), ("truncate", "data.npy", errno.EINVAL, "follows from its header"),
    ("truncate", "c/0/0", errno.EINVAL, "full size or none"), ("truncate", "compute/mean", errno.EPERM, "cannot be set"),
    ("write far", "c/0/0", errno.EFBIG, "a partition of this array has"), ("open for writing", "compute/mean", errno.EACCES, ""),
    ("setxattr", "data", errno.EOPNOTSUPP, "no attributes of its own"),
]


def write_far(path):
    fd = os.open(path, os.O_WRONLY)
    try:
        os.pwrite(fd, b"x", 1 << 30)
    finally:
        os.close(fd)


@pytest.fixture
def array(spot):
    (spot / "a").mkdir()
    np.save(spot / "a" / "data.npy", VALUES)
    (spot / "file").write_text("x")
    (spot / "directory").mkdir()
    return spot / "a"


@pytest.mark.parametrize("what, name, code, words", TABLE, ids=[f"{w} {n}".replace("/", ":") for w, n, _, _ in TABLE])
def test_refused(array, spot, elsewhere, cluster3, what, name, code, words):
    path = array / name
    calls = { "unlink": lambda: os.unlink(path), "rmdir": lambda: os.rmdir(path), "mkdir": lambda: os.mkdir(path),
            "move away": lambda: os.rename(path, spot / "away"), "move onto": lambda: os.rename(spot / "file", path),
            "move a directory onto": lambda: os.rename(spot / "directory", path),
            "exchange with": lambda: cl.renameat2(spot / "file", path, cl.RENAME_EXCHANGE),
            "link": lambda: os.link(path, spot / "linked"), "link at": lambda: os.link(spot / "file", path),
            "create": lambda: os.close(os.open(path, os.O_CREAT | os.O_WRONLY)), "symlink": lambda: os.symlink("x", path),
            "mkfifo": lambda: os.mkfifo(path), "chmod": lambda: os.chmod(path, 0o600), "truncate": lambda: os.truncate(path, 7),
            "write far": lambda: write_far(path), "open for writing": lambda: os.close(os.open(path, os.O_WRONLY | os.O_TRUNC)),
            "setxattr": lambda: os.setxattr(path, "user.x", b"1")}
    with cl.expect_errno(errno.ENOENT):  # adds a line, so that the next one is no repetition
        os.stat(array / "compute" / f"none{os.urandom(3).hex()}")
    with cl.expect_errno(code):
        calls[what]()
    last = cluster3.mounts[0].errors()[-1]
    if words:
        assert words in last and errno.errorcode[code].replace("ENOTSUP", "EOPNOTSUPP") in last and str(spot.name) in last, (before,
                last)
    assert (np.load(elsewhere[1] / "a" / "data.npy") == VALUES).all()
    assert sorted(os.listdir(spot)) == ["a", "directory", "file"] and sorted(os.listdir(array)) == ["c", "zarr.json"]
    assert (spot / "file").read_text() == "x"


def test_the_mounts_own_directory_is_not_covered(cluster3, spot):
    top = cluster3.mounts[0].path
    (spot / "d").mkdir()
    for call in [lambda: os.rename(spot / "d", top / ".slabfs"), lambda: os.rename(top / ".slabfs", spot / "x"),
            lambda: os.rmdir(top / ".slabfs"), lambda: os.unlink(top / ".slabfs" / "status"),
            lambda: cl.renameat2(spot / "d", top / ".slabfs", cl.RENAME_EXCHANGE),
            lambda: os.close(os.open(top / ".slabfs" / "new", os.O_CREAT | os.O_WRONLY)),
            lambda: os.mkdir(top / ".slabfs" / "new")]:
        with cl.expect_errno(errno.EPERM):
            call()
        assert cluster3.mounts[0].control("version")
    assert ".slabfs belongs to the mount" in "\n".join(cluster3.mounts[0].errors())
    assert os.listdir(spot) == ["d"]


def test_array_directories_are_renamed_as_others_are(array, spot, elsewhere):
    (spot / "b").mkdir()
    np.save(spot / "b" / "data.npy", VALUES + 100)
    cl.renameat2(array, spot / "b", cl.RENAME_EXCHANGE)
    assert np.load(elsewhere[1] / "a" / "data.npy")[0, 0] == 100 and np.load(elsewhere[1] / "b" / "data.npy")[0, 0] == 0
    with cl.expect_errno(errno.EEXIST):
        cl.renameat2(array, spot / "b", cl.RENAME_NOREPLACE)
    with cl.expect_errno(errno.ENOTEMPTY, errno.EEXIST):
        os.rename(array, spot / "b")
    with cl.expect_errno(errno.EINVAL):
        os.rename(array, array / "c" / "x")
    cl.renameat2(elsewhere[1] / "a", elsewhere[1] / "directory", cl.RENAME_EXCHANGE)
    assert os.listdir(spot / "a") == [] and np.load(spot / "directory" / "data.npy")[0, 0] == 100
    os.rename(spot / "directory", spot / "a")
    os.rename(spot / "a" / "zarr.json", spot / "document")
    assert not (elsewhere[1] / "a" / "data").exists()
    os.rename(spot / "document", spot / "a" / "zarr.json")
    assert np.load(elsewhere[1] / "a" / "data.npy")[0, 0] == 100
    cl.run("rm", "-r", spot / "a", check=0)
    assert sorted(os.listdir(elsewhere[1])) == ["b", "file"]
