"""The programs as an administrator meets them: making, joining, stopping, crashing, and asking."""

import json
import os
import re
import signal
import socket
import stat

import cluster as cl
import numpy as np
import pytest

PROGRAMS = ["mkfs.slabfs", "slabfsd", "slabfs", "slabctl"]


@pytest.mark.parametrize("name", PROGRAMS)
def test_help_version_and_usage(name):
    helped = cl.run(cl.program(name), "--help", check=0)
    assert "sage" in helped.stdout and name in helped.stdout and helped.stderr == ""
    version = cl.run(cl.program(name), "--version", check=0)
    assert re.match(rf"{re.escape(name)} \d+\.\d+\.\d+\b", version.stdout) and version.stdout.count("\n") == 1
    assert cl.run(cl.program(name)).returncode == 2
    wrong = cl.run(cl.program(name), "--no-such-option")
    assert wrong.returncode == 2 and wrong.stderr


@pytest.mark.parametrize("page", ["mkfs.slabfs.8", "slabfsd.8", "slabfs.1", "slabctl.1"])
def test_man_pages(page):
    done = cl.run("man", "--warnings", "-E", "UTF-8", "-l", cl.REPO / "docs" / "man" / page, check=0,
                  env=dict(os.environ, MANWIDTH="80", LC_ALL="C.UTF-8"))
    assert done.stderr == "" and "SYNOPSIS" in done.stdout


def test_mkfs_makes_a_store(tmp):
    cl.run(cl.program("mkfs.slabfs"), "--listen", "127.0.0.1:0", tmp / "s", check=0)
    superblock = json.loads((tmp / "s" / "superblock.json").read_text())
    assert superblock
    key = tmp / "s" / "cluster.key"
    assert key.stat().st_size == 32 and stat.S_IMODE(key.stat().st_mode) == 0o600


def test_mkfs_refusals(tmp, cluster1):
    mkfs = cl.program("mkfs.slabfs")
    node = cluster1.nodes[0]
    (tmp / "full").mkdir()
    (tmp / "full" / "thesis.txt").write_text("x")
    (tmp / "file").write_text("x")
    (tmp / "bad.key").write_bytes(bytes(32))
    (tmp / "open.key").write_bytes(node.key.read_bytes())
    (tmp / "short.key").write_bytes(bytes(31))
    os.chmod(tmp / "open.key", 0o644)
    os.chmod(tmp / "bad.key", 0o600)
    os.chmod(tmp / "short.key", 0o600)
    cases = [
        (1, [tmp / "full"]), (1, [tmp / "file"]), (1, [tmp / "no" / "such"]), (1, [node.store]),
        (2, ["--listen", "host:99999", tmp / "a"]), (2, ["--join", node.address, tmp / "a"]), (2, [tmp / "a", tmp / "b"]),
        (1, ["--join", node.address, "--key", tmp / "bad.key", tmp / "a"]),
        (1, ["--join", node.address, "--key", tmp / "open.key", tmp / "a"]),
        (1, ["--join", node.address, "--key", tmp / "short.key", tmp / "a"]),
        (1, ["--join", node.address, "--key", tmp / "missing.key", tmp / "a"]),
        (1, ["--join", f"127.0.0.1:{cl.free_port()}", "--key", node.key, tmp / "a"]),
    ]
    for code, argv in cases:
        done = cl.run(mkfs, *argv)
        assert done.returncode == code and done.stderr.startswith("mkfs.slabfs: "), (argv, done)
        assert len(done.stderr.strip().splitlines()) == 1 or code == 2, done.stderr
        assert not (tmp / "a" / "superblock.json").exists()
    assert (tmp / "full" / "thesis.txt").exists()


def test_nodes_and_status(cluster3):
    done = cluster3.ctl("nodes", check=0)
    lines = done.stdout.splitlines()
    for node in cluster3.nodes:
        assert any(node.address in line and "up" in line for line in lines), done.stdout
    nodes = json.loads(cluster3.ctl("nodes", "--json", check=0).stdout)
    nodes = nodes if isinstance(nodes, list) else nodes["nodes"]
    assert [n["id"] for n in nodes] == [1, 2, 3]
    assert cluster3.ctl("status", check=0).stdout
    json.loads(cl.run(cl.program("slabctl"), "--store", cluster3.nodes[1].store, "status", "--json", check=0).stdout)
    by_store = cl.run(cl.program("slabctl"), "--store", cluster3.nodes[1].store, "nodes", check=0)
    assert cluster3.nodes[2].address in by_store.stdout
    assert cluster3.ctl("no-such-command").returncode == 2
    for name in ("status", "nodes", "version", "metrics"):
        assert cluster3.mounts[1].control(name)
    assert all(node.address in cluster3.mounts[2].control("nodes") for node in cluster3.nodes)


def test_ctl_create_and_import(cluster3, spot, elsewhere, tmp):
    cluster3.ctl("create", spot / "x", "--dtype", "float32", "--shape", "100,50", check=0)
    a = np.load(elsewhere[1] / "x" / "data.npy")
    assert a.dtype == "<f4" and a.shape == (100, 50) and not a.any()
    raw = np.arange(721 * 144, dtype=">f4").reshape(721, 144)
    (tmp / "grid").write_bytes(b"h" * 40 + raw.tobytes())
    cluster3.ctl("import", tmp / "grid", spot / "geoid", "--dtype", ">f4", "--shape", "721,144", "--offset", "40", check=0)
    assert np.array_equal(np.load(elsewhere[2] / "geoid" / "data.npy"), raw)
    np.save(tmp / "a.npy", raw)
    cluster3.ctl("import", tmp / "a.npy", spot / "again", check=0)
    cl.run("cmp", tmp / "a.npy", elsewhere[1] / "again" / "data.npy", check=0)
    for argv in (["create", spot / "y", "--dtype", "float31", "--shape", "3"], ["create", spot / "y", "--dtype", "f8", "--shape", "3,x"],
                 ["import", tmp / "missing.npy", spot / "y"], ["import", tmp / "grid", spot / "y"],
                 ["import", tmp / "grid", spot / "y", "--dtype", ">f4", "--shape", "10000,1000"]):
        done = cluster3.ctl(*argv)
        assert done.returncode in (1, 2) and done.stderr, argv


def test_restart_of_everything(fresh):
    c = fresh(3, fixed_ports=True)
    directory = c.mounts[0].path / "x"
    directory.mkdir()
    os.setxattr(directory, "user.slabfs.partition_bytes", b"8192")
    a = np.arange(20000.)
    np.save(directory / "data.npy", a)
    (c.mounts[1].path / "notes.txt").write_text("kept")
    while c.mounts:
        assert c.unmount(c.mounts[-1]) == ""
    for node in reversed(c.nodes):
        assert node.stop() == ""
    for node in c.nodes:
        node.start()
    for node in c.nodes:
        m = c.mount(node.store)
        assert np.array_equal(np.load(m.path / "x" / "data.npy"), a) and (m.path / "notes.txt").read_text() == "kept"
        assert float((m.path / "x" / "compute" / "sum").read_text()) == a.sum()


def test_nodes_start_in_any_order(fresh):
    c = fresh(3, fixed_ports=True, mounts=0)
    for node in c.nodes:
        assert node.stop() == ""
    processes = [cl.Process([cl.program("slabfsd"), node.store], node.log) for node in reversed(c.nodes)]
    for node, process in zip(reversed(c.nodes), processes):
        node.process = process
    for process in processes:
        process.wait_line(r"^slabfsd: node \d ready on ")
    assert cl.run(cl.program("slabctl"), "--store", c.nodes[0].store, "nodes").stdout.count("up") >= 3


@pytest.mark.parametrize("number", [1, 2])
def test_a_killed_daemon_comes_back(fresh, number):
    """Everything that was closed is still there; the mounts go on."""
    c = fresh(3, fixed_ports=True, options="timeout=5")
    directory = c.mounts[0].path / "x"
    directory.mkdir()
    os.setxattr(directory, "user.slabfs.partition_bytes", b"8192")
    a = np.arange(30000.)
    np.save(directory / "data.npy", a)
    with open(c.mounts[0].path / "f", "w") as f:
        f.write("durable")
        f.flush()
        os.fsync(f.fileno())
    node = c.nodes[number - 1]
    node.process.kill()
    node.start()

    def answers(m):
        try:
            return np.array_equal(np.load(m.path / "x" / "data.npy"), a) and (m.path / "f").read_text() == "durable"
        except (OSError, ValueError):  # numpy.load takes a read that fails for the end of the file
            return False

    for m in c.mounts:
        cl.until(lambda: answers(m), 15 * cl.SLOWER, f"{m.path} to go on")
    np.save(c.mounts[1].path / "x" / "data.npy", a * 2)
    assert float((c.mounts[2].path / "x" / "compute" / "sum").read_text()) == 2 * a.sum()


def test_a_node_leaves_and_comes_back(fresh):
    c = fresh(3, fixed_ports=True, mounts=1)
    assert c.nodes[2].stop() == ""

    def state(number):
        lines = c.ctl("nodes", check=0).stdout.splitlines()
        return next(line for line in lines if c.nodes[number - 1].address in line)

    cl.until(lambda: "up" not in state(3).split(), 10 * cl.SLOWER, "node 3 to be away")
    assert "up" in state(1).split()
    directory = c.mounts[0].path / "x"
    directory.mkdir()
    np.save(directory / "data.npy", np.arange(1000.))
    c.nodes[2].start()
    cl.until(lambda: "up" in state(3).split(), 10 * cl.SLOWER, "node 3 to be back")


def test_a_node_joins_a_running_cluster(fresh):
    c = fresh(1)
    c.add_node()
    m = c.mount(c.nodes[1].store)
    directory = m.path / "x"
    directory.mkdir()
    os.setxattr(directory, "user.slabfs.partition_bytes", b"4096")
    np.save(directory / "data.npy", np.arange(5120.))
    assert all(any(p.stat().st_size == 4096 for p in n.store.glob("parts/*/*/*")) for n in c.nodes)
    assert float((c.mounts[0].path / "x" / "compute" / "sum").read_text()) == np.arange(5120.).sum()


def test_a_store_is_served_once(cluster1):
    done = cl.run(cl.program("slabfsd"), cluster1.nodes[0].store, timeout=10)
    assert done.returncode == 1 and done.stderr.strip()


def test_a_taken_port(tmp):
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        cl.run(cl.program("mkfs.slabfs"), "--listen", f"127.0.0.1:{s.getsockname()[1]}", tmp / "s", check=0)
        done = cl.run(cl.program("slabfsd"), tmp / "s", timeout=10)
        assert done.returncode == 1 and "in use" in done.stderr


def test_daemons_in_the_background(tmp):
    cl.run(cl.program("mkfs.slabfs"), "--listen", "127.0.0.1:0", tmp / "s", check=0)
    with open(tmp / "d.log", "w") as log:
        done = cl.subprocess.run([cl.program("slabfsd"), "--daemonize", tmp / "s"], stdin=cl.subprocess.DEVNULL,
                                 stdout=log, stderr=log, timeout=30)
    assert done.returncode == 0
    pid = cl.until(lambda: [int(p) for p in os.listdir("/proc") if p.isdigit() and _command(p) == [cl.program("slabfsd"), "--daemonize", str(tmp / "s")]],
                   5, "the daemon")[0]
    (tmp / "m").mkdir()
    try:
        cl.run(cl.program("slabfs"), tmp / "s", tmp / "m", check=0)
        assert cl.is_mounted(tmp / "m")
        (tmp / "m" / "f").write_text("x")
        cl.run("fusermount3", "-u", tmp / "m", check=0)
    finally:
        os.kill(pid, signal.SIGTERM)
        cl.until(lambda: not os.path.exists(f"/proc/{pid}"), 15, "the daemon to end")


def _command(pid):
    try:
        return open(f"/proc/{pid}/cmdline").read().split("\0")[:-1]
    except OSError:
        return []


def test_mount_refusals(tmp, cluster1):
    node = cluster1.nodes[0]
    (tmp / "m").mkdir()
    (tmp / "wrong.key").write_bytes(os.urandom(32))
    os.chmod(tmp / "wrong.key", 0o600)
    (tmp / "empty").mkdir()
    cases = [(1, [tmp / "empty", tmp / "m"]), (2, [node.store, tmp / "no" / "mountpoint"]),
             (1, [node.address, tmp / "m", "-o", f"key={tmp}/wrong.key"]), (1, [node.address, tmp / "m", "-o", f"key={tmp}/missing"]),
             (1, [f"127.0.0.1:{cl.free_port()}", tmp / "m", "-o", f"key={node.key}"]),
             (2, [node.store, tmp / "m", "-o", "timeout=soon"]), (2, [node.store, tmp / "m", "-o", "no_such_option"])]
    for code, argv in cases:
        for extra in ([], ["-f"]):
            done = cl.run(cl.program("slabfs"), *argv, *extra, timeout=30)
            assert done.returncode == code and done.stderr.strip(), (argv, done)
            assert not cl.is_mounted(tmp / "m")


def test_a_subtree_by_path(cluster3, spot):
    (spot / "inside").write_text("x")
    m = cluster3.mount(f"{cluster3.nodes[0].address}:/{spot.name}", f"key={cluster3.nodes[0].key}")
    try:
        assert os.listdir(m.path) == ["inside"] and m.control("version")
    finally:
        assert cluster3.unmount(m) == ""


def test_three_hosts(fresh, hosts):
    """Each node in a network namespace of its own; one of them loses its cable and gets it back."""
    spaces = hosts(3)
    c = fresh(3, prefixes=[s[0] for s in spaces], hosts=[s[1] for s in spaces], options="timeout=2")
    directory = c.mounts[0].path / "x"
    directory.mkdir()
    os.setxattr(directory, "user.slabfs.partition_bytes", b"4096")
    a = np.arange(512 * 30.)
    np.save(directory / "data.npy", a)
    assert np.array_equal(np.load(c.mounts[2].path / "x" / "data.npy"), a)
    hosts.cut(3)
    before = cl.time.monotonic()
    with cl.expect_errno(cl.errno.EIO, cl.errno.ETIMEDOUT):
        (c.mounts[0].path / "x" / "compute" / "mean").read_text()
    assert cl.time.monotonic() - before < 6 * cl.SLOWER
    assert os.listdir(c.mounts[1].path) == ["x"]
    hosts.join(3)

    def mean():
        try:
            return float((c.mounts[0].path / "x" / "compute" / "mean").read_text())
        except OSError:
            return None

    assert cl.until(mean, 20 * cl.SLOWER, "the cable") == a.mean()
    cl.until(lambda: _same(c.mounts[2].path / "x" / "data.npy", a), 20 * cl.SLOWER, "the third mount")


def _same(path, a):
    try:
        return np.array_equal(np.load(path), a)
    except (OSError, ValueError):
        return False
