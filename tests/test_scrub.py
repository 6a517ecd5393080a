"""slabctl scrub: everything that is durable is read from the disks and compared, at a set rate, with a memory of how far it is."""

import json
import os
import pty
import re
import signal

import cluster as cl
import numpy as np
from test_integrity import PARTITION, VALUES, drop_caches, flip, lose, numbered, partitions, read, save, sync


def scrub(c, *argv, **kwargs):
    return cl.run(cl.program("slabctl"), "--store", c.nodes[-1].store, "scrub", *argv, **kwargs)


def state(node):
    path = node.store / "scrub.json"
    return json.loads(path.read_text()) if path.exists() else {"state": "idle", "partitions": 0}


def start(c, *argv, stdout=cl.subprocess.PIPE):
    return cl.subprocess.Popen([cl.program("slabctl"), "--store", c.nodes[0].store, "scrub", *argv], stdout=stdout,
                               stderr=cl.subprocess.STDOUT, text=True, preexec_fn=cl.die_with_parent)


def test_damage_is_found_and_named(fresh):
    c = fresh(2, mounts=1)
    m = c.mounts[0]
    a, b = numbered(6), numbered(6, 1)
    (m / "climate").mkdir()
    save(m / "climate" / "temps", a)
    save(m / "y", b)
    (m / "notes").write_bytes(os.urandom(300000))
    sync(m / "notes")
    done = scrub(c, check=0)
    assert re.search(r"100% of 13 partitions, [\d.]+ MiB, 0 damaged", done.stdout), done.stdout
    x, y = partitions(c, a), partitions(c, b)
    notes = next(p for p in c.find_partition() if p.stat().st_size == 300000)
    for p in (x[2], y[5], notes):
        drop_caches(p)
    flip(x[2], 70000)
    lose(y[5])
    flip(notes, 299999)
    done = scrub(c)
    assert done.returncode == 1
    damaged = sorted(line for line in done.stdout.splitlines() if line.startswith("damaged: "))
    assert len(damaged) == 3, done.stdout
    assert re.match(r"damaged: /climate/temps partition 2 on node \d: .*block 1: checksum mismatch", damaged[0])
    assert re.match(r"damaged: /notes partition 0 on node \d: .*block 4", damaged[1])
    assert re.match(r"damaged: /y partition 5 on node \d: .*(lost|gone)", damaged[2])
    for i in range(6):  # the rest is as it was
        if i != 2:
            assert read(m / "climate" / "temps", i) == a[VALUES * i:VALUES * (i + 1)].tobytes()
    os.unlink(m / "climate" / "temps" / "c" / "2")
    os.unlink(m / "y" / "c" / "5")
    os.unlink(m / "notes")
    cl.until(lambda: scrub(c).returncode == 0, what="the removed to be gone")
    one = scrub(c, "--node", "2", "--rate", "1000", check=0)
    assert "0 damaged" in one.stdout and scrub(c, "--node", "7").returncode == 1
    for argv in (["--rate", "0"], ["--rate", "x"], ["--node", "0"], ["--node"], ["more"]):
        assert scrub(c, *argv).returncode == 2


def test_an_interrupted_scrub_goes_on(fresh):
    """After Ctrl-C of slabctl, after a kill of the daemon, and after its restart."""
    c = fresh(1, fixed_ports=True)
    node, n = c.nodes[0], 60
    save(c.mounts[0] / "x", numbered(n))
    running = start(c, "--rate", "1")
    cl.until(lambda: json.loads(status_of(c))["partitions"] >= 3, what="the scrub to have begun")
    running.send_signal(signal.SIGINT)
    out, _ = running.communicate(timeout=20 * cl.SLOWER)
    assert running.returncode == 1 and "goes on from here" in out
    first = state(node)
    assert first["state"] == "stopped" and 3 <= first["partitions"] < n
    running = start(c, "--rate", "1")
    cl.until(lambda: state(node)["partitions"] > first["partitions"], what="the scrub to go on")
    running.kill()
    running.communicate()
    assert state(node)["state"] == "running"
    node.process.kill()
    before = state(node)
    node.start()
    cl.until(lambda: json.loads(status_of(c))["partitions"] > before["partitions"], what="the daemon to go on by itself")
    done = scrub(c, "--rate", "100000", check=0)
    assert f"100% of {n} partitions" in done.stdout, done.stdout
    last = state(node)
    assert last["state"] == "done" and last["partitions"] == n and last["bytes"] == n * PARTITION
    node.process.kill()
    (node.store / "scrub.json").write_text("{ damaged")
    node.start()
    assert scrub(c, check=0)


def status_of(c):
    """What the first node's daemon says of its scrub: as scrub.json, of this moment."""
    done = scrub(c, "--status", check=0)
    found = re.search(r"(\d+)% of (\d+) partitions", done.stdout)
    return json.dumps({"partitions": round(int(found[1]) * int(found[2]) / 100)})


def test_a_bar_on_a_terminal(fresh):
    c = fresh(1)
    save(c.mounts[0] / "x", numbered(4))
    ours, theirs = pty.openpty()
    running = start(c, stdout=theirs)
    os.close(theirs)
    text = b""
    try:
        while piece := os.read(ours, 1000):
            text += piece
    except OSError:  # the other side of a terminal is closed
        pass
    assert running.wait(20 * cl.SLOWER) == 0
    assert re.search(rb"\r\[#{30}\] 100%", text)


def test_readers_go_on_beside_it(fresh):
    """A scrub as fast as it can be, over and over, while arrays are read, written and reduced: nothing is wrong, nothing is reported."""
    c = fresh(2, mounts=1)
    m = c.mounts[0]
    a = numbered(16)
    save(m / "x", a)
    save(m / "y", a)
    running = [start(c, "--rate", "100000") for _ in range(2)]
    for k in range(6):
        b = a + k
        with open(m / "y" / "data", "r+b") as f:
            f.write(b.tobytes())
        sync(m / "y" / "data") if k % 2 else None
        assert np.array_equal(np.load(m / "x" / "data.npy"), a)
        assert np.array_equal(np.load(m / "y" / "data.npy"), b)
        assert float((m / "x" / "compute" / "max").read_text()) == a.max()
        running.append(start(c, "--rate", "100000"))
    for process in running:
        out, _ = process.communicate(timeout=60 * cl.SLOWER)
        assert process.returncode == 0, out
    assert m.errors() == []
