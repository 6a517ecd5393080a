"""Names, permissions, owners and times: scripts of system calls do on a mount what they do on a tmpfs, call by call.

What is compared after each call: its result or errno, and of every path that the script has named the type, mode, link count, owner, size and which
times have changed.
"""

import json
import subprocess
import sys

import cluster as cl
import pytest

SCRIPT = cl.REPO / "tests" / "syscalls.py"
TYPES = {"file": "create {} {m}", "dir": "mkdir {} {m}", "fifo": "mkfifo {} {m}", "socket": "mknod {} {m} socket",
        "char": "mknod {} {m} char 259", "block": "mknod {} {m} block 259", "symlink": "symlink nowhere {}"}
U, V = "1001:1001", "1002:1002"  # two who are nobody to each other


def make(kind, name, mode="0644"):
    return TYPES[kind].format(name, m=mode)


def errors_of_paths():
    """A bad path gives the same error wherever it is given."""
    calls = ["open {} O_RDONLY", "open {} O_CREAT|O_RDWR", "create {} 0644", "mkdir {} 0755", "mkfifo {} 0644",
            "mknod {} 0644 char 259", "symlink x {}", "readlink {}", "link f {}", "link {} new", "unlink {}", "rmdir {}",
            "rename f {}", "rename {} new", "chmod {} 0600", "chown {} 1 1", "lchown {} 1 1", "truncate {} 0", "utimens {} 1 1",
            "stat {}", "list {}", "getxattr {} user.x"]
    paths = ["f/under", "missing", "missing/under", "@255", "@256", "@256/x", "d/@255", "d/@256", "@path/4095", "@path/4096",
            "loop", "loop/x", "dangling", "dangling/x", "d/", "f/", "new/", "d/.", "d/..", ".", "..", "ld/", "ld/.", ""]
    for call in calls:
        for path in paths:
            yield f"{call.format(path or 'nothing')}", ["~create f 0644", "~mkdir d 0755", "~symlink loop loop",
                    "~symlink nowhere dangling", "~symlink d ld", call.format(path)]


def permissions():
    """Search, write and owner's rights, of the user and the other's, with and without sticky bits."""
    for mode in ["0700", "0755", "0777", "01777", "0733", "0711", "0555"]:
        steps = ["mkdir d 0755", f"{U} mkdir d/no 0755", "chmod d 0777", f"{U} create d/f 0644", f"{U} mkdir d/sub 0777",
                f"{V} create d/g 0666", f"{U} symlink f d/l", "chown d 1001 1001", f"chmod d {mode}"]
        for who in [V, U]:
            steps += [f"{who} {c}" for c in ["create d/new 0644", "mkdir d/newd 0755", "symlink x d/newl", "mkfifo d/newp 0644",
                    "link d/f d/newh", "rename d/f d/f2", "rename d/f2 d/f", "rename d/g d/f", "rename d/sub d/sub2", "unlink d/l",
                    "rmdir d/sub", "unlink d/g", "unlink d/new", "rmdir d/newd", "stat d/f", "list d", "open d/f O_RDONLY",
                    "open d/f O_WRONLY", "open d/f O_RDWR|O_TRUNC", "truncate d/f 10", "chmod d/f 0600", "chmod d/f 0644",
                    "utimens d/f 5 6", "utimens d/f NOW NOW", "chown d/f 1002 1002", "chown d/f -1 1002", "access d/f 4",
                    "eaccess d/f 2", "unlink d/f"]]
        yield f"in a directory of {mode}", steps
    for kind in TYPES:
        for place in ["01777", "0777"]:
            yield f"sticky {place} {kind}", ["mkdir d 0755", f"chmod d {place}", "chown d 1001 1001", make(kind, "d/x"),
                    "lchown d/x 1002 1002", f"1003:1003 rename d/x d/y", f"1003:1003 {'rmdir' if kind == 'dir' else 'unlink'} d/x",
                    f"1003:1003 rename d/x x", f"{V} rename d/x d/y", f"{U} rename d/y d/x",
                    f"{V} {'rmdir' if kind == 'dir' else 'unlink'} d/x"]


def chmod_and_chown():
    for kind in TYPES:
        modes = ["0", "0111", "0777", "01777", "02755", "04755", "06755", "07777"]
        yield f"chmod of a {kind}", [make(kind, "x")] + [f"chmod x {m}"
                for m in modes] + ["lchown x 1001 1002"] + [f"{U} chmod x {m}" for m in modes] + [f"1001:1002 chmod x {m}"
                for m in modes] + [f"1003:1002 chmod x 0600"]
        for who in ["", f"1001:1001,1002 "]:
            steps = ["~" + make(kind, "x"), "~lchown x 1001 1001"]
            for m in ["06777", "06767", "02755", "04711", "06555", "01777"]:
                for call in ["lchown x -1 1002", "lchown x 1001 -1", "lchown x 1001 1001", "chown x -1 -1", "lchown x 1002 -1"]:
                    steps += ["~lchown x 1001 1001"] + ["~chmod x " + m] * (kind != "symlink") + [who + call]
            yield f"chown of a {kind} by '{who}'", steps
    yield "setgid is lost where the group is not one's own", ["create f 0644", "chown f 1001 1005", f"{U} chmod f 02777",
            "1001:1001,1005 chmod f 02777", "mkdir d 0755", "chown d 1001 1005", f"{U} chmod d 02777"]
    for mode in ["04777", "02777", "06777", "06755"]:
        writes = [f"{V} hold a f O_WRONLY", "write a hello", f"{V} write a hello", "close a"]
        yield f"a write to {mode}", ["create f 0644", "hold w f O_WRONLY", f"chmod f {mode}", f"{U} write w x", f"chmod f {mode}",
                "write w y", f"chmod f {mode}", f"{U} ftruncate w 0", f"chmod f {mode}", "ftruncate w 3", f"chmod f {mode}",
                f"{U} pwrite w zzz 100", "close w", f"chmod f {mode}", f"{U} truncate f 5", f"chmod f {mode}",
                f"{U} open f O_WRONLY|O_TRUNC", f"chmod f {mode}", "open f O_WRONLY|O_TRUNC", f"chmod f {mode}",
                f"{U} hold w f O_WRONLY", f"{U} fallocate w 0 4096"] + writes
    yield "groups of what is made", ["mkdir d 0755", "chown d 7 8", "chmod d 0777", f"{U} create d/f 0666", f"{U} mkdir d/e 0777",
            "chmod d 02777", f"{U} create d/f2 02666", f"{U} mkdir d/e2 0777", f"{U} mkfifo d/p 0666", f"{U} symlink x d/l",
            f"{U} create d/e2/f 02777", f"{U} mknod d/n 0644 socket", "1001:8 create d/own 02777", f"{U} mkdir d/e2/deep 02755"]
    yield "umask", ["umask 077", "create a 0666", "mkdir b 0777", "mkfifo c 0666", "umask 0", "create d 0666", "mkdir e 01777",
            "create g 07777", "mkdir h 07777", "mknod i 07777 fifo", "umask 0777", "create j 0777"]


def links_and_removals():
    for a in TYPES:
        for b in TYPES:
            setup = ["~mkdir src 0755", "~mkdir dst 0755", "~" + make(a, "src/a"), "~" + make(b, "dst/b")]
            yield f"rename {a} onto {b}", setup + ["rename src/a dst/b", "list src", "list dst"]
            yield f"rename {a} onto {b} noreplace", setup + ["renameat2 src/a dst/b 1", "renameat2 src/a dst/new 1", "list src",
                    "list dst"]
            yield f"rename {a} onto {b} exchange", setup + ["renameat2 src/a dst/b 2", "renameat2 src/a dst/new 2", "list src",
                    "list dst", "renameat2 src/a src/a 2", "renameat2 src/a dst/b 3"]
            yield f"link {a} at {b}", setup + ["link src/a dst/b", "link src/a dst/new", "stat src/a", "unlink src/a"]
    for kind in TYPES:
        yield f"life of a {kind}", [make(kind, "x"), make(kind, "x"), "lstat x", "rename x y", "rename y y", "mkdir d 0755",
                "rename y d/z", "list d", "unlink d/z", "rmdir d/z", "rmdir d"]
        yield f"a {kind} with several names", [make(kind, "x"), "link x y", "link y z", "rename x y", "rename x w", "rename w y",
                "unlink x", "chmod y 0600", "unlink y", "unlink z", "unlink w"]
        yield f"open a {kind}", [make(kind, "x"), "open x O_CREAT|O_EXCL|O_RDWR", "open x O_RDONLY|O_NOFOLLOW|O_NONBLOCK",
                "open x O_DIRECTORY", "open x O_PATH|O_NOFOLLOW", "open x O_DIRECTORY|O_NOFOLLOW",
                "open x O_RDWR|O_TRUNC|O_NONBLOCK", "open x/ O_RDONLY|O_NONBLOCK", "truncate x 5", "truncate x -1"]
    full = ["mkdir d 0755", "create d/f 0644", "mkdir e 0755", "mkdir e/s 0755", "mkdir empty 0755"]
    yield "directories that are not empty", full + ["rmdir d", "unlink d", "rename e d", "renameat2 d e 2", "rename empty d",
            "rename d empty", "list .", "renameat2 empty d 2", "list empty", "rmdir d", "rmdir ."]
    yield "into itself", ["mkdir a 0755", "mkdir a/b 0755", "mkdir a/b/c 0755", "rename a a/b/c/d", "rename a a/b", "rename a/b a",
            "renameat2 a a/b/c 2", "renameat2 a/b/c a 2", "rename a a", "rename a/b/c a/b", "rename a/b/c a/x"]
    yield "link counts of directories", ["mkdir a 0755", "mkdir b 0755", "mkdir a/x 0755", "mkdir a/y 0755", "rename a/x b/x",
            "create b/f 0644", "renameat2 b/f a/y 2", "renameat2 a/f b/x 2", "mkdir a/z 0755", "rename a/z b/x", "list a", "list b",
            "rmdir b/x", "stat a", "stat b", "mkdir b/q 0755", "renameat2 a b/q 2"]
    yield "dots", ["mkdir d 0755", "mkdir d/e 0755", "rename d/. x", "rename d/.. x", "rename . x", "rename x d/..", "rmdir d/.",
            "rmdir d/..", "unlink d/..", "unlink .", "mkdir d/. 0755", "link . x", "symlink x d/.", "create d/.. 0644",
            "rmdir d/e/.", "rmdir d/e/.."]
    yield "rename a file onto another's link", ["create a 0644", "link a b", "create c 0644", "rename c a", "stat a", "stat b",
            "renameat2 a b 2", "renameat2 a a 1", "rename b a"]
    yield "slashes", ["mkdir d/ 0755", "create f/ 0644", "symlink d l/", "mkfifo p/ 0644", "create f 0644", "rename f/ g",
            "rename f g/", "rename d/ e/", "rename e f", "rename f e", "link f g/", "unlink e/", "rmdir e/", "mkdir d 0755",
            "symlink d l", "rmdir l/", "rmdir l", "rename l/ m", "unlink l/", "unlink l", "mkdir d/ 0755"]
    yield "symbolic links", ["symlink @255 a", "readlink a", f"symlink {'@255/' * 15}@255 b", "lstat b", "symlink @4095 c",
            "lstat c", "symlink @4096 d", "symlink x a", "create t 0644", "symlink t l", "chmod l 0600", "chown l 5 6",
            "lchown l 7 8", "utimens l 10 20", "lutimens l 30 40", "truncate l 10", "link l h", "linkat l hf 1024", "lstat h",
            "lstat hf", "open l O_RDONLY|O_NOFOLLOW", "open l O_RDONLY|O_CREAT|O_EXCL", "rename l l2", "lstat l2", "unlink l2",
            "stat t", "symlink new dang", "open dang O_CREAT|O_WRONLY", "stat new", "open dang O_CREAT|O_EXCL|O_WRONLY"]


def times():
    for kind in TYPES:
        yield f"times of a {kind}", [make(kind, "x"), "lutimens x 100.5 200.7", "times x", "lutimens x OMIT 300.999999999",
                "times x", "lutimens x 400 OMIT", "times x", "lutimens x OMIT OMIT", "lutimens x -1.5 -2.999999999", "times x",
                "lutimens x -5000000000 5000000000", "times x", "lutimens x 2147483648 4294967296.1", "times x", "lutimens x 0 0",
                "times x", "lutimens x NOW OMIT", "lutimens x OMIT NOW", "lutimens x NOW NOW", "lutimens x 1.1000000000 1",
                "lutimens x -9000000000.123456789 9000000000.123456789", "times x"]
    yield "who may set times", ["create f 0644", "chown f 1001 1001", f"{U} utimens f 1 1", f"{U} utimens f NOW NOW",
            f"{V} utimens f 1 1", f"{V} utimens f NOW NOW", f"{V} utimens f OMIT NOW", f"{V} utimens f OMIT OMIT", "chmod f 0666",
            f"{V} utimens f 1 1", f"{V} utimens f NOW NOW", f"{V} utimens f NOW OMIT", "chmod f 0444", f"{U} utimens f 2 2",
            f"{V} utimens f NOW NOW"]
    yield "through a descriptor", ["hold a f O_RDWR|O_CREAT", "futimens a 1 2", "times f", "write a data", "fstat a",
            "futimens a 3 4", "times f", "close a", "times f", "stat f"]
    yield "writes and times", ["hold a f O_RDWR|O_CREAT", "write a hello", "fsync a", "utimens f 10 20", "pwrite a x 0", "fsync a",
            "ftruncate a 5", "ftruncate a 5", "ftruncate a 2", "ftruncate a 100", "truncate f 100", "truncate f 7", "pread a 10 0",
            "close a", "open f O_WRONLY|O_TRUNC", "open f O_WRONLY|O_TRUNC", "open f O_CREAT|O_WRONLY",
            "hold b f O_WRONLY|O_APPEND", "write b x", "close b"]


def open_files():
    yield "open but unlinked", ["hold a f O_RDWR|O_CREAT", "write a hello", "unlink f", "fstat a", "pwrite a world 5",
            "pread a 100 0", "fchmod a 0600", "fchown a 5 6", "fstat a", "ftruncate a 3", "fstat a", "flink a g", "futimens a 1 2",
            "stat g", "close a", "stat g"]
    yield "open with another name", ["hold a f O_RDWR|O_CREAT", "link f g", "unlink f", "fstat a", "write a x", "flink a h",
            "fstat a", "close a", "stat h"]
    yield "open and replaced", ["hold a f O_RDWR|O_CREAT", "write a old", "create g 0644", "rename g f", "fstat a", "pread a 10 0",
            "pwrite a new 0", "stat f", "flink a again", "close a"]
    yield "a directory that is removed while open", ["mkdir d 0755", "hold a d O_RDONLY", "rmdir d", "fstat a", "close a"]
    yield "in a removed working directory", ["mkdir d 0755", "chdir d", "rmdir ../d", "list .", "create f 0644", "mkdir e 0755",
            "symlink x l", "stat .", "link ../x y", "rename ../y z"]
    yield "modes of opening", ["create f 0400", f"chown f 1001 1001", f"{U} open f O_RDONLY", f"{U} open f O_WRONLY",
            f"{U} open f O_RDWR", f"{U} hold a new O_RDWR|O_CREAT 0", f"{U} write a x", "close a", f"{U} open new O_RDONLY",
            f"{V} open f O_RDONLY", "chmod f 0200", f"{U} open f O_RDONLY", f"{U} open f O_WRONLY|O_APPEND", "mkdir d 0755",
            "open d O_WRONLY", "open d O_RDWR", "open d O_CREAT|O_RDONLY", "open d O_CREAT|O_RDONLY|O_DIRECTORY",
            "open d O_RDONLY|O_TRUNC", "open f O_RDONLY|O_TRUNC", f"{U} open f O_RDONLY|O_TRUNC"]
    yield "sizes", ["hold a f O_RDWR|O_CREAT", "ftruncate a 4611686018427387904", "ftruncate a 0", "ftruncate a -1",
            "truncate f -1", "pwrite a x 1099511627776", "fstat a", "ftruncate a 0", "fallocate a 0 10000", "fstat a",
            "fallocate a 5000 1", "fstat a", "fallocate a 20000 5", "fstat a", "close a", "hold b f O_RDONLY", "ftruncate b 0",
            "fallocate b 0 5"]


FAMILIES = [errors_of_paths, permissions, chmod_and_chown, links_and_removals, times, open_files]


@pytest.fixture(scope="session")
def oracle(tmp_path_factory):
    path = tmp_path_factory.mktemp("oracle")
    cl.run("mount", "-t", "tmpfs", "-o", "nodev,nosuid", "tmpfs", path, check=0)
    yield path
    cl.run("umount", "-l", path)


def outcomes(scripts, directory):
    directory.mkdir()
    done = subprocess.run([sys.executable, str(SCRIPT), str(directory)], input=json.dumps(scripts), stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True, timeout=120 * cl.SLOWER, preexec_fn=cl.die_with_parent)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def difference(ours, theirs):
    """The first steps that went differently, for a person; empty: none did."""
    told = []
    for i, (a, b) in enumerate(zip(ours, theirs)):
        if a != b:
            paths = {p: (a[2].get(p), b[2].get(p)) for p in {**a[2], **b[2]} if a[2].get(p) != b[2].get(p)}
            told.append(f"step {i}: {a[0]}: {a[1]} instead of {b[1]}; {paths}")
    return "; ".join(told[:3])


@pytest.mark.parametrize("family", FAMILIES, ids=lambda f: f.__name__)
def test_calls_do_what_they_do_elsewhere(spot, oracle, family):
    scripts = dict(family())
    ours, theirs = outcomes(scripts, spot / "x"), outcomes(scripts, oracle / family.__name__)
    wrong = [f"{name}: {d}" for name in scripts if (d := difference(ours[name], theirs[name]))]
    assert not wrong, "\n".join(wrong)
