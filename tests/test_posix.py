"""Regular files and directories behave as POSIX says, on one mount and across mounts."""

import errno
import mmap
import os
import random
import socket
import stat
import subprocess

import cluster as cl
import pytest


def test_create_read_rename_unlink(spot, elsewhere):
    (spot / "a").write_text("hello\n")
    assert (elsewhere[1] / "a").read_text() == "hello\n"
    os.rename(spot / "a", spot / "b")
    assert os.listdir(elsewhere[1]) == ["b"]
    (elsewhere[1] / "c").write_text("other")
    os.rename(elsewhere[1] / "c", elsewhere[1] / "b")
    assert (spot / "b").read_text() == "other"
    os.unlink(elsewhere[2] / "b")
    assert os.listdir(spot) == []
    with cl.expect_errno(errno.ENOENT):
        open(spot / "b")


def test_rename_flags(spot):
    (spot / "a").write_text("a")
    (spot / "b").write_text("b")
    with cl.expect_errno(errno.EEXIST):
        cl.renameat2(spot / "a", spot / "b", cl.RENAME_NOREPLACE)
    cl.renameat2(spot / "a", spot / "b", cl.RENAME_EXCHANGE)
    assert (spot / "a").read_text() == "b" and (spot / "b").read_text() == "a"
    cl.renameat2(spot / "a", spot / "c", cl.RENAME_NOREPLACE)
    assert sorted(os.listdir(spot)) == ["b", "c"]


def test_rename_of_directories(spot, elsewhere):
    (spot / "d" / "e").mkdir(parents=True)
    (spot / "d" / "e" / "f").write_text("x")
    (spot / "empty").mkdir()
    os.rename(spot / "d", spot / "empty")
    assert (elsewhere[1] / "empty" / "e" / "f").read_text() == "x"
    (spot / "full").mkdir()
    (spot / "full" / "x").touch()
    with cl.expect_errno(errno.ENOTEMPTY, errno.EEXIST):
        os.rename(spot / "empty", spot / "full")
    with cl.expect_errno(errno.EINVAL):
        os.rename(spot / "empty", spot / "empty" / "e" / "inside")
    with cl.expect_errno(errno.ENOTEMPTY):
        os.rmdir(spot / "full")
    with cl.expect_errno(errno.ENOTDIR):
        os.rename(spot / "empty", spot / "full" / "x")


def test_hard_links(spot, elsewhere):
    (spot / "a").write_text("one")
    os.link(spot / "a", spot / "b")
    assert (spot / "a").stat().st_nlink == 2 and os.path.samefile(spot / "a", spot / "b")
    (elsewhere[1] / "b").write_text("two")
    assert (spot / "a").read_text() == "two"
    os.unlink(spot / "a")
    assert (elsewhere[2] / "b").read_text() == "two" and (spot / "b").stat().st_nlink == 1


def test_symbolic_links(spot, elsewhere):
    os.symlink("target/" + "x" * 900, spot / "l")
    assert os.readlink(elsewhere[1] / "l") == "target/" + "x" * 900
    (spot / "t").write_text("t")
    os.symlink("t", spot / "m")
    assert (elsewhere[1] / "m").read_text() == "t"
    with cl.expect_errno(errno.EEXIST):
        os.symlink("t", spot / "m")


def test_unlinked_while_open(spot, elsewhere):
    with open(spot / "a", "w+b", buffering=0) as f:
        f.write(b"x" * 100000)
        os.unlink(spot / "a")
        assert not (elsewhere[1] / "a").exists()
        assert os.fstat(f.fileno()).st_nlink == 0
        f.write(b"y" * 10)
        f.seek(99990)
        assert f.read() == b"x" * 10 + b"y" * 10
    with open(spot / "b", "w+b") as f:
        f.write(b"old")
        f.flush()
        (spot / "c").write_text("new")
        os.rename(spot / "c", spot / "b")
        f.seek(0)
        assert f.read() == b"old"
    assert (spot / "b").read_text() == "new"


def test_truncate(spot, elsewhere):
    (spot / "a").write_bytes(b"x" * 10000)
    os.truncate(spot / "a", 5000)
    assert (elsewhere[1] / "a").read_bytes() == b"x" * 5000
    os.truncate(elsewhere[1] / "a", 9000)
    assert (spot / "a").read_bytes() == b"x" * 5000 + bytes(4000)
    os.truncate(spot / "a", 0)
    assert (elsewhere[2] / "a").stat().st_size == 0
    with open(spot / "a", "r+b") as f:
        f.seek(1 << 30)
        f.write(b"end")
    assert (elsewhere[1] / "a").stat().st_size == (1 << 30) + 3
    with open(elsewhere[1] / "a", "rb") as f:
        assert f.read(4096) == bytes(4096)
        f.seek(1 << 30)
        assert f.read() == b"end"


def test_append_mode(spot, elsewhere):
    for i in range(20):
        with open(elsewhere[i % 3] / "log", "a") as f:
            f.write(f"line {i}\n")
    assert (spot / "log").read_text() == "".join(f"line {i}\n" for i in range(20))


def test_attributes(spot, elsewhere):
    (spot / "a").write_text("x")
    os.chmod(spot / "a", 0o4751)
    os.chown(spot / "a", 1234, 4321)
    os.utime(spot / "a", ns=(1_000_000_000_123_456_789, -5_000_000_001))
    st = (elsewhere[1] / "a").stat()
    assert st.st_uid == 1234 and st.st_gid == 4321 and stat.S_IMODE(st.st_mode) & 0o777 == 0o751
    assert st.st_atime_ns == 1_000_000_000_123_456_789 and st.st_mtime_ns == -5_000_000_001
    os.chmod(spot, 0o2775)
    assert stat.S_IMODE(elsewhere[1].stat().st_mode) == 0o2775


def test_permissions_are_enforced(spot, cluster3):
    """default_permissions: the kernel asks the mode (root is let through by allow_other alone)."""
    (spot / "secret").write_text("x")
    code = "import os,sys\nos.setgid(65534); os.setuid(65534)\ntry: open(sys.argv[1]).read()\nexcept PermissionError: sys.exit(7)"
    for mode, result in [(0o604, 0), (0o640, 7)]:
        os.chmod(spot / "secret", mode)
        assert cl.run("/usr/bin/python3", "-c", code, "secret", cwd=spot).returncode == result


def test_xattrs(spot, elsewhere):
    (spot / "a").touch()
    os.setxattr(spot / "a", "user.one", b"1")
    os.setxattr(spot / "a", "user.big", bytes(range(256)) * 16)
    assert os.getxattr(elsewhere[1] / "a", "user.big") == bytes(range(256)) * 16
    assert sorted(os.listxattr(elsewhere[1] / "a")) == ["user.big", "user.one"]
    with cl.expect_errno(errno.EEXIST):
        os.setxattr(spot / "a", "user.one", b"2", os.XATTR_CREATE)
    with cl.expect_errno(errno.ENODATA):
        os.setxattr(spot / "a", "user.two", b"2", os.XATTR_REPLACE)
    os.removexattr(elsewhere[2] / "a", "user.one")
    assert os.listxattr(spot / "a") == ["user.big"]
    with cl.expect_errno(errno.ENODATA):
        os.getxattr(spot / "a", "user.one")


def test_statfs(spot):
    s = os.statvfs(spot)
    assert s.f_blocks * s.f_frsize > 1 << 30 and 0 < s.f_bavail <= s.f_blocks and s.f_namemax == 255
    cl.run("df", spot, check=0)


def test_special_files(spot, elsewhere):
    os.mkfifo(spot / "fifo", 0o640)
    assert stat.S_ISFIFO((elsewhere[1] / "fifo").stat().st_mode)
    reader = subprocess.Popen(["cat", spot / "fifo"], stdout=subprocess.PIPE, preexec_fn=cl.die_with_parent)
    (spot / "fifo").write_text("through")
    assert reader.communicate(timeout=20)[0] == b"through"
    with socket.socket(socket.AF_UNIX) as s:
        here = os.getcwd()
        os.chdir(spot)
        try:
            s.bind("sock")
        finally:
            os.chdir(here)
    assert stat.S_ISSOCK((elsewhere[1] / "sock").stat().st_mode)


def test_names(spot, elsewhere):
    names = ["x" * 255, "with space", "new\nline", "ünïcödé", "-dash", ".hidden", "c", "data", "compute", "zarr"]
    for name in names:
        (spot / name).write_text(name)
    assert sorted(os.listdir(elsewhere[1])) == sorted(names)
    assert all((elsewhere[1] / name).read_text() == name for name in names)
    with cl.expect_errno(errno.ENAMETOOLONG):
        (spot / ("x" * 256)).touch()


@pytest.mark.slow
def test_many_entries(spot, elsewhere):
    n = 10000
    for i in range(n):
        os.close(os.open(spot / f"f{i}", os.O_CREAT | os.O_WRONLY))
    assert sorted(os.listdir(elsewhere[1])) == sorted(f"f{i}" for i in range(n))
    assert cl.run("sh", "-c", f"ls -l {elsewhere[2]} | wc -l", check=0).stdout.strip() == str(n + 1)
    cl.run("rm", "-r", spot, check=0)
    assert not spot.exists()


def test_readdir_while_deleting(spot):
    for i in range(700):
        (spot / f"f{i}").touch()
    seen = []
    with os.scandir(spot) as entries:
        for entry in entries:
            seen.append(entry.name)
            os.unlink(entry.path)
    assert len(seen) == len(set(seen)) == 700 and os.listdir(spot) == []


@pytest.mark.slow
def test_large_file_against_a_shadow(spot, elsewhere, tmp):
    size, rng = 200 << 20, random.Random(1)
    block = os.urandom(1 << 20)
    with open(spot / "big", "wb") as a, open(tmp / "big", "wb") as b:
        for i in range(size >> 20):
            piece = block[i * 5000:] + block[:i * 5000]
            a.write(piece)
            b.write(piece)
    cl.run("cmp", tmp / "big", elsewhere[1] / "big", check=0)
    with open(elsewhere[1] / "big", "r+b", buffering=0) as a, open(tmp / "big", "r+b", buffering=0) as b:
        for _ in range(150):
            at, n = rng.randrange(size), rng.randrange(1, 3 << 20)
            assert os.pread(a.fileno(), n, at) == os.pread(b.fileno(), n, at)
            at, piece = rng.randrange(size), rng.randbytes(rng.randrange(1, 200000))
            os.pwrite(a.fileno(), piece, at)
            os.pwrite(b.fileno(), piece, at)
        os.fsync(a.fileno())
    cl.run("cmp", tmp / "big", elsewhere[2] / "big", check=0)


def test_shared_mapping(spot, elsewhere):
    (spot / "m").write_bytes(bytes(100000))
    with open(spot / "m", "r+b") as f, mmap.mmap(f.fileno(), 100000) as m:
        m[5000:5010] = b"0123456789"
        m[99999] = 7
        m.flush()
    data = (elsewhere[1] / "m").read_bytes()
    assert data[5000:5010] == b"0123456789" and data[99999] == 7 and data.count(0) == 100000 - 11


def test_fallocate_and_seek(spot):
    with open(spot / "a", "w+b") as f:
        f.write(b"abc")
        f.flush()
        assert os.lseek(f.fileno(), 0, os.SEEK_END) == 3
        assert os.pread(f.fileno(), 10, 100) == b""


def test_fsync(spot):
    with open(spot / "a", "w") as f:
        f.write("x")
        f.flush()
        os.fsync(f.fileno())
        os.fdatasync(f.fileno())
    fd = os.open(spot, os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)


def test_asking_for_a_capability_costs_nothing(elsewhere, cluster3):
    """The kernel asks for security.capability before each write: the mount knows that there is none."""
    path, mount = elsewhere[1] / "f", cluster3.mounts[1]
    with open(path, "wb", buffering=0) as f:
        for name in ["security.other", "system.posix_acl_access"]:
            with cl.expect_errno(errno.ENODATA):
                os.getxattr(path, name)
        f.write(b"x")
        before = mount.bytes_received()
        for _ in range(300):
            os.pwrite(f.fileno(), b"y", 0)  # through a descriptor: the file was made near the mount
            with cl.expect_errno(errno.ENODATA):
                os.getxattr(path, "security.other")
        assert mount.bytes_received() - before < 300 * 40


def test_inode_numbers_are_stable(fresh):
    c = fresh(2, fixed_ports=True, mounts=2)
    (c.mounts[0].path / "d").mkdir()
    (c.mounts[0].path / "d" / "f").write_text("x")

    def numbers(m):
        return [os.stat(m.path / p).st_ino for p in (".", "d", "d/f")]

    first = numbers(c.mounts[0])
    assert numbers(c.mounts[1]) == first and len(set(first)) == 3
    assert c.unmount(c.mounts[0]) == "" and c.unmount(c.mounts[0]) == ""
    for node in c.nodes:
        assert node.stop() == ""
    for node in c.nodes:
        node.start()
    assert numbers(c.mount()) == first


def test_names_of_any_bytes(spot, elsewhere):
    """All but / and NUL, alone and at the ends of a name."""
    names = {b"x" + bytes([b]) + b"y" for b in range(1, 256) if b != ord("/")} | {bytes([b]) for b in range(1, 256) if b not in b"/."}
    top, other = os.fsencode(spot), os.fsencode(elsewhere[1])
    for name in names:
        os.mknod(top + b"/" + name)
    assert set(os.listdir(other)) == names and all(os.path.exists(other + b"/" + name) for name in names)
    for name in names:
        os.rename(other + b"/" + name, other + b"/" + name + b"'")
    assert set(os.listdir(top)) == {name + b"'" for name in names}


def test_devices_where_the_mount_allows_them(fresh):
    c = fresh(1, mounts=1, options="dev")
    top = c.mounts[0].path
    os.mknod(top / "null", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    os.mknod(top / "zero", 0o666 | stat.S_IFCHR, os.makedev(1, 5))
    assert (top / "null").write_bytes(b"gone") == 4 and (top / "null").read_bytes() == b""
    with open(top / "zero", "rb", buffering=0) as f:
        assert f.read(1000) == bytes(1000)
    assert os.major((top / "zero").stat().st_rdev) == 1 and os.minor((top / "zero").stat().st_rdev) == 5
