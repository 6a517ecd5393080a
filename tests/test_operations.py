"""The commands of docs/operations.md do what it says: each of its blocks is run, in its situation."""

import errno
import os
import re
import shutil

import cluster as cl
import numpy as np
from test_fsck import stop_all, told
from test_integrity import VALUES, drop_caches, flip, numbered, partitions, save, sync

PAGE = (cl.REPO / "docs" / "operations.md").read_text()
BLOCKS = {}
for title, text in re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", PAGE, re.M | re.S):
    BLOCKS[title] = [block.strip().splitlines() for block in re.findall(r"```sh\n(.*?)```", text, re.S)]
done_blocks = set()


def block(title, n=0):
    done_blocks.add((title, n))
    return BLOCKS[title][n]


def shell(c, line, check=0, **names):
    """Runs one line with its placeholders filled in; slabfsd in the foreground, so that it ends with the tests."""
    for name, value in names.items():
        line = re.sub(rf"\b{name}\b", str(value), line)
    assert not re.search(r"\b(STORE|MOUNT|HEAD|OTHER|KEY|COPY|PID|ARRAY|FILE)\b", line), line
    return cl.run("bash", "-c", line, check=check, env={**os.environ, "PATH": f"{cl.BUILD}:{os.environ['PATH']}"})


def serve(c, line, store):
    """`slabfsd ... STORE` of the page."""
    node = next(n for n in c.nodes if n.store == store)
    argv = [a for a in line.split()[1:-1] if a != "--daemonize"]
    node.process = cl.Process([cl.program("slabfsd"), *argv, store], node.log)
    node.address = node.process.wait_line(r"^slabfsd: node \d+ ready on (\S+)$")[1]


def test_looking_and_preventing(fresh):
    c = fresh(2, fixed_ports=True)
    m, head = c.mounts[0], c.nodes[0]
    save(m / "x", numbered(4))
    out = [shell(c, line, STORE=head.store, MOUNT=m.path).stdout for line in block("Look")]
    assert out[0].count(" up ") == 2 and "quarantined" in out[1] and "undescribed" in out[1] and "0 damaged" in out[2]
    for line in block("Prevent", 0):
        shell(c, line, STORE=head.store)
    kill, copy, start = block("Prevent", 1)
    shell(c, kill, PID=head.process.pid)
    assert head.process.wait() == 0
    shell(c, copy, STORE=head.store, COPY=c.root / "copy")
    serve(c, start, head.store)
    assert np.array_equal(np.load(m / "x" / "data.npy"), numbered(4))


def test_a_node_that_is_away_and_one_whose_disk_dies(fresh):
    c = fresh(3, fixed_ports=True, mounts=1, options="timeout=2")
    m, victim = c.mounts[0], c.nodes[2]
    a = numbered(6)
    save(m / "x", a)
    victim.process.kill()
    serve(c, block("A node is away")[0], victim.store)
    cl.until(lambda: _loads(m / "x", a), what="its partitions to be back")
    key = c.root / "key"
    shutil.copy(victim.key, key)
    victim.process.kill()
    shutil.rmtree(victim.store)
    mkfs, start = block("A node's disk dies", 0)
    shell(c, mkfs, HEAD=c.nodes[0].address, KEY=key, OTHER=f"127.0.0.1:{cl.free_port()}", STORE=c.root / "new")
    c.nodes.append(cl.Node(4, c.root / "new", c.root / "slabfsd-4.log"))
    serve(c, start, c.root / "new")
    with cl.expect_errno(errno.EIO, errno.ETIMEDOUT):
        (m / "x" / "compute" / "sum").read_text()
    cl.until(lambda: re.search(r"\b3\b.*down", c.ctl("nodes").stdout), what="the lost node to be given up")
    save(m / "y", a)
    for line in block("A node's disk dies", 1):
        shell(c, line, MOUNT=m.path, ARRAY="x")
    assert os.listdir(m.path) == ["y"] and _loads(m / "y", a)
    save(m / "x", a)
    assert _loads(m / "x", a)


def _loads(directory, a):
    try:
        return np.array_equal(np.load(directory / "data.npy"), a)
    except (OSError, ValueError):
        return False


def test_names_that_are_lost(fresh):
    c = fresh(2, fixed_ports=True, mounts=1)
    head, other = c.nodes
    a, b = numbered(4), numbered(4, 1)
    save(c.mounts[0] / "x", a)
    cl.until(lambda: told(c), what="the stores to be told")
    stop_all(c)
    shutil.copy(head.store / "meta.db", c.root / "copy")
    for node in c.nodes:
        node.start()
    save(c.mount(head.store) / "y", b)
    cl.until(lambda: told(c), what="the stores to be told")
    stop_all(c)
    for path in head.store.glob("meta.db*"):
        path.unlink()
    copy, start, repair = block("The names are lost", 0)
    shell(c, copy, COPY=c.root / "copy", STORE=head.store)
    serve(c, start, head.store)
    serve(c, "slabfsd --accept-copy STORE", other.store)
    assert "restored: /lost+found/" in shell(c, repair, STORE=head.store).stdout
    cl.until(lambda: told(c), what="the stores to be told")
    stop_all(c)
    for path in head.store.glob("meta.db*"):
        path.unlink()
    start, rebuild = block("The names are lost", 1)
    serve(c, start, head.store)
    other.start()
    shell(c, rebuild, STORE=head.store)
    m = c.mount(head.store)
    assert _loads(m / "x", a) and _loads(next((m / "lost+found").glob("array-*")), b)


def test_the_heads_disk(fresh):
    c = fresh(2, fixed_ports=True, mounts=1)
    head, other = c.nodes
    a = numbered(6)
    save(c.mounts[0] / "x", a)
    cl.until(lambda: told(c), what="the stores to be told")
    stop_all(c)
    shutil.rmtree(head.store)
    other.process = cl.Process([cl.program("slabfsd"), other.store], other.log)
    mkfs, start, rebuild = block("The head's disk dies")
    names = {"OTHER": other.address, "KEY": other.key, "HEAD": head.address, "STORE": head.store}
    cl.until(lambda: shell(c, mkfs, check=None, **names).returncode == 0, what="a node that waits for its head")
    serve(c, start, head.store)
    other.process.wait_line(r"^slabfsd: node 2 ready")
    shell(c, rebuild, STORE=head.store)
    m = c.mount(head.store)
    assert os.listdir(m.path) == ["x"] and not _loads(m / "x", a)
    np.save(m / "x" / "data.npy", a)
    assert _loads(m / "x", a)


def test_damage_and_what_no_name_leads_to(fresh):
    c = fresh(2, mounts=1)
    m, store = c.mounts[0], c.nodes[0].store
    a = numbered(4)
    save(m / "x", a)
    path = partitions(c, a)[2]
    drop_caches(path)
    flip(path, 5)
    find, remove, again = block("Damage is reported")
    assert "damaged: /x partition 2" in shell(c, find, check=1, STORE=store).stdout
    shell(c, remove, MOUNT=m.path, ARRAY="x")
    assert "0 damaged" in shell(c, again, STORE=store).stdout
    for line in block("What no name leads to"):
        shell(c, line, STORE=store)
    (m / "big").write_bytes(bytes(100000))
    sync(m / "big")
    for line in block("A disk is full"):
        shell(c, line, STORE=store, MOUNT=m.path, FILE="big")
    a[2 * VALUES:3 * VALUES] = 0
    assert _loads(m / "x", a)


def test_every_block_was_run():
    """Runs last in this file; alone it has nothing to say."""
    if len(done_blocks) > 1:
        assert done_blocks == {(title, n) for title, blocks in BLOCKS.items() for n in range(len(blocks))}
