"""Extended attributes and access control lists."""

import errno
import os
import shutil
import struct

import cluster as cl
import pytest
from test_posix_names import oracle, outcomes  # noqa: F401 (a fixture)

U = "1001:1001"


def results(spot, steps):
    """The results of [(step, result)], beside those that they should have."""
    done = outcomes({"x": [s for s, _ in steps]}, spot / "x")["x"]
    return [f"{step}: {got[1]} instead of {want}" for got, (step, want) in zip(done, steps) if (got[1] or None) != (want or None)]


def test_names_flags_and_sizes(spot):
    """XATTR_CREATE is 1, XATTR_REPLACE 2."""
    long, longer = "user." + "n" * 250, "user." + "n" * 251
    wrong = results(spot, [ ("create f 0644", None), ("getxattr f user.a", "ENODATA"), ("setxattr f user.a 3131 2", "ENODATA"),
            ("setxattr f user.a 3131 1", None), ("setxattr f user.a 3232 1", "EEXIST"), ("setxattr f user.a 3232 2", None),
            ("getxattr f user.a", "3232"), ("setxattr f user.e ", None), ("getxattr f user.e", ""),
            ("listxattr f", ["user.a", "user.e"]), ("removexattr f user.a", None), ("removexattr f user.a", "ENODATA"),
            ("listxattr f", ["user.e"]), (f"setxattr f {long} 01", None), (f"getxattr f {long}", "01"),
            (f"setxattr f {longer} 01", "ERANGE"), ("setxattr f user.big " + "5a" * 65536, None),
            ("getxattr f user.big", "5a" * 65536), ("setxattr f user.big " + "5a" * 65537, "E2BIG"),
            ("setxattr f trusted.t 01", None), ("setxattr f security.s 02", None), ("setxattr f system.other 01", "ENOTSUP"),
            ("setxattr f other.a 01", "ENOTSUP"), ("setxattr f user. 01", "ENOTSUP"), ("getxattr f trusted.t", "01"),
            ("getxattr f security.s", "02"), ("listxattr f", sorted([long, "security.s", "trusted.t", "user.big", "user.e"]))])
    assert not wrong, "\n".join(wrong)


def test_who_may(spot):
    wrong = results(spot, [ ("create f 0644", None), ("chown f 1001 1001", None), (f"{U} setxattr f user.a 01", None),
            ("1002:1002 setxattr f user.a 02", "EACCES"), ("1002:1002 getxattr f user.a", "01"), ("chmod f 0600", None),
            ("1002:1002 getxattr f user.a", "EACCES"), ("setxattr f trusted.a 01", None), (f"{U} setxattr f trusted.a 02", "EPERM"),
            (f"{U} getxattr f trusted.a", "ENODATA"), (f"{U} setxattr f security.a 02", "EPERM"), (f"{U} listxattr f", ["user.a"]),
            ("listxattr f", ["trusted.a", "user.a"]), ("mkfifo p 0666", None), ("setxattr p user.a 01", "EPERM"),
            ("setxattr p trusted.a 01", None), ("symlink f l", None), ("setxattr l user.a 01", "EPERM"),
            ("setxattr l trusted.a 01", None), ("getxattr l trusted.a", "01"), ("mkdir d 01777", None), ("chmod d 01777", None),
            (f"{U} setxattr d user.a 01", "EPERM")])
    assert not wrong, "\n".join(wrong)


def test_changes_are_seen(spot, elsewhere):
    """ctime moves with each change, here and on another mount; attributes go with the name that they were given."""
    (spot / "f").touch()
    before = (spot / "f").stat()
    for change in [lambda: os.setxattr(spot / "f", "user.a", b"1"), lambda: os.removexattr(spot / "f", "user.a"),
            lambda: os.setxattr(spot / "f", "security.a", b"1"), lambda: os.setxattr(elsewhere[1] / "f", "user.b", b"2")]:
        change()
        after = [(p / "f").stat() for p in elsewhere]
        assert after[0].st_ctime_ns == after[1].st_ctime_ns > before.st_ctime_ns and after[0].st_mtime_ns == before.st_mtime_ns
        before = after[0]
    assert os.getxattr(elsewhere[2] / "f", "security.a") == b"1"
    os.link(spot / "f", spot / "g")
    os.rename(spot / "g", spot / "h")
    assert os.getxattr(elsewhere[1] / "h", "user.b") == b"2"
    os.removexattr(elsewhere[1] / "f", "security.a")
    with cl.expect_errno(errno.ENODATA):
        os.getxattr(spot / "h", "security.a")


CAPABILITY = struct.pack("<IIIII", 0x02000001, 1 << 10, 0, 0, 0)  # cap_net_bind_service=ep


@pytest.mark.parametrize("change", ["write", "truncate", "open", "chown", "write elsewhere"])
def test_a_capability_does_not_outlive_a_change(spot, elsewhere, change):
    path = spot / "program"
    path.write_text("x")
    os.chmod(path, 0o777)
    os.setxattr(path, "security.capability", CAPABILITY)
    assert os.getxattr(elsewhere[1] / "program", "security.capability") == CAPABILITY
    where = elsewhere[1] / "program" if change.endswith("elsewhere") else path
    if change == "chown":
        os.chown(path, 5, -1)
    elif change == "truncate":
        os.truncate(path, 0)
    elif change == "open":
        os.close(os.open(path, os.O_WRONLY | os.O_TRUNC))
    else:
        with open(where, "r+b", buffering=0) as f:
            f.write(b"y")
    for mount in elsewhere:
        with cl.expect_errno(errno.ENODATA):
            os.getxattr(mount / "program", "security.capability")


def test_attributes_of_views_are_refused_with_a_reason(spot, cluster3):
    import numpy as np
    np.save(spot / "data.npy", np.zeros(10))
    for name in ["data", "data.npy", "c", "c/0"]:
        with cl.expect_errno(errno.EOPNOTSUPP):
            os.setxattr(spot / name, "user.a", b"1")
        assert os.listxattr(spot / name) == []
    assert "a view has no attributes of its own" in cluster3.mounts[0].errors()[-1]
    os.setxattr(spot, "user.a", b"1")
    os.setxattr(spot / "zarr.json", "user.a", b"1")


needs_acl = pytest.mark.skipif(not shutil.which("setfacl"), reason="setfacl is not installed (package acl)")


def acl(path):
    lines = cl.run("getfacl", "-nE", "--omit-header", "--absolute-names", path, check=0).stdout.splitlines()
    return [line for line in lines if line], oct(path.stat().st_mode)


ACL_SCRIPT = """
setfacl -m u:1001:r f; setfacl -m u:1001:rw,g:1005:rx,m::rx f; chmod 640 f; chmod 070 f; setfacl -x u:1001 f; setfacl -b f
chmod 2755 d; setfacl -m u:1001:rwx,g:1005:r d; setfacl -d -m u:1001:rwx,g:1005:rx,o::- d; touch d/f; mkdir d/sub; mkfifo d/p
umask 077; touch d/g; mkdir d/sub/deep; umask 0; touch d/h; mkdir d/sub/wide; ln -s f d/l; umask 022; setfacl -d -m m::r d; touch d/i
setfacl -k d; touch d/j; chmod 700 d; chmod 777 d; setfacl -d -m u::rwx,g::rx,o::x d; mkdir d/plain; touch d/plain/f; setfacl -b d
setfacl -m u:1001:rwx d/sub/deep; cp -p d/f d/copy; cp -a d/sub d/subcopy; setfacl --set u::rw,g::r,o::- f; setfacl -R -m u:7:x d
setfacl -m u:1001:rwx d/p; rm d/f; mv d/g f; setfacl -d -m u:1:r f; cp f d/plaincopy; install -m 600 f d/inst
"""


@needs_acl
def test_lists_are_as_on_a_tmpfs(spot, oracle):  # noqa: F811
    theirs = oracle / "acl"
    theirs.mkdir()
    done = [cl.run("sh", "-c", "umask 022; touch f; mkdir d; " + ACL_SCRIPT.replace("\n", "; ").strip("; ") + "; :", cwd=where)
            for where in [spot, theirs]]
    if "not supported" in done[1].stderr:
        pytest.skip("this kernel's tmpfs keeps no access control lists")
    assert done[0].stderr == done[1].stderr
    names = sorted(p.relative_to(theirs) for p in theirs.rglob("*") if not p.is_symlink())
    assert names == sorted(p.relative_to(spot) for p in spot.rglob("*") if not p.is_symlink())
    for name in names:
        assert acl(spot / name) == acl(theirs / name), name


@needs_acl
def test_lists_are_enforced_on_every_mount(spot, elsewhere):
    """Names are relative: what is above the mounts is root's alone."""
    (spot / "f").write_text("text")
    os.chmod(spot / "f", 0o600)
    read = "import os,sys\nos.setgroups([]); os.setgid(1001); os.setuid(1001)\nopen(sys.argv[1]).read()"

    def may(mount):
        return cl.run("/usr/bin/python3", "-c", read, "f", cwd=mount).returncode == 0

    assert not any(may(m) for m in elsewhere)
    cl.run("setfacl", "-m", "u:1001:r", spot / "f", check=0)
    assert all(may(m) for m in elsewhere)
    cl.run("setfacl", "-x", "u:1001", elsewhere[1] / "f", check=0)
    assert not any(may(m) for m in elsewhere)


@needs_acl
def test_views_follow_the_list_of_their_array(spot, elsewhere):
    """The group's bits of the directory's mode are then the mask's: the list says who may really."""
    import numpy as np
    np.save(spot / "data.npy", np.arange(10))
    os.chmod(spot, 0o750)
    os.chown(spot, 0, 1005)
    cl.run("setfacl", "-m", "u:1001:rwx,g::-", spot, check=0)
    read = "import os,sys\nos.setgroups([]); os.setgid(int(sys.argv[2])); os.setuid(int(sys.argv[3]))\nopen(sys.argv[1], 'rb').read(1)"
    for where in elsewhere[:2]:
        for name in ["data", "c/0"]:
            assert cl.run("/usr/bin/python3", "-c", read, name, 1001, 1001, cwd=where).returncode == 0
            denied = cl.run("/usr/bin/python3", "-c", read, name, 1005, 1002, cwd=where)
            assert denied.returncode == 1 and "PermissionError" in denied.stderr
