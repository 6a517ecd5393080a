"""Rows of the databases in a store that say what cannot be: the daemon answers with errors or refuses to start; it neither dies nor hangs."""

import os
import random
import shutil
import sqlite3

import cluster as cl
import numpy as np
import pytest

ODD = [0, 1, -1, 2, 7, 255, 2**31 - 1, 2**31, 2**32, 2**63 - 1, -2**63, b"", b"\0", b"\xff" * 16, b"x" * 70000, "text"]


def change_rows(path, rng, n):
    """Puts odd values into n cells, and removes or doubles some rows."""
    db = sqlite3.connect(path)
    try:
        tables = [t for (t,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%'")]
        for _ in range(n):
            table = rng.choice(tables)
            columns = [r[1] for r in db.execute(f"PRAGMA table_info({table})")]
            rows = db.execute(f"SELECT * FROM {table}").fetchall()
            if not rows:
                continue
            row = rng.choice(rows)
            where = " AND ".join(f"{c} IS ?" for c in columns)
            try:
                if rng.random() < 0.1:
                    db.execute(f"DELETE FROM {table} WHERE {where}", row)
                else:
                    db.execute(f"UPDATE {table} SET {rng.choice(columns)} = ? WHERE {where}", (rng.choice(ODD), *row))
            except (sqlite3.IntegrityError, sqlite3.OperationalError, OverflowError):
                continue
        db.commit()
    finally:
        db.close()


def use(path, depth=0):
    """Everything that a user may do with what is there; errors are fine."""
    try:
        names = os.listdir(path)[:50]
    except OSError:
        return
    for name in names:
        p = path / name
        for action in (lambda: os.lstat(p), lambda: os.listxattr(p, follow_symlinks=False), lambda: os.readlink(p),
                       lambda: p.read_bytes()[:10], lambda: np.load(p / "data.npy"), lambda: (p / "compute" / "sum").read_text(),
                       lambda: os.chmod(p, 0o700), lambda: os.rename(p, path / (name + "x")), lambda: os.rename(path / (name + "x"), p)):
            try:
                action()
            except (OSError, ValueError, MemoryError):
                pass
        if depth < 3 and os.path.isdir(p):
            use(p, depth + 1)
    for action in (lambda: (path / "new").write_text("x"), lambda: os.unlink(path / "new"), lambda: (path / "newdir").mkdir()):
        try:
            action()
        except OSError:
            pass


@pytest.fixture
def filled(fresh):
    c = fresh(1, mounts=1, options="timeout=5")
    m = c.mounts[0]
    (m.path / "d" / "e").mkdir(parents=True)
    for i in range(5):
        (m.path / "d" / f"f{i}").write_bytes(bytes(i * 1000))
    os.symlink("f1", m.path / "d" / "link")
    os.link(m.path / "d" / "f2", m.path / "d" / "hard")
    os.setxattr(m.path / "d", "user.slabfs.partition_bytes", b"65536")
    (m.path / "d" / "a").mkdir()
    np.save(m.path / "d" / "a" / "data.npy", np.arange(50_000))
    os.setxattr(m.path / "d" / "a", "user.note", b"a note")
    c.unmount(m)
    c.nodes[0].stop()
    return c


@pytest.mark.parametrize("name", ["meta.db", "catalog.db"])
@pytest.mark.parametrize("seed", range(6))
def test_odd_rows(filled, tmp, name, seed):
    node = filled.nodes[0]
    if not (node.store / name).exists():
        pytest.skip(f"no {name}")
    shutil.copytree(node.store, tmp / "good")
    change_rows(node.store / name, random.Random(seed), 12)
    process = cl.Process([cl.program("slabfsd"), node.store], node.log)
    try:
        process.wait_line(r"^slabfsd: node 1 ready", timeout=20)
    except AssertionError:
        assert not process.running() and process.wait() == 1, "neither ready nor ended with a message"
        assert "error" in process.text() or "slabfsd:" in process.text()
        return
    mount = None
    try:
        try:
            mount = cl.Mount(node.store, filled.root / "odd", filled.root / "slabfs-odd.log", "timeout=5")
        except AssertionError:
            assert "error: " in (filled.root / "slabfs-odd.log").read_text()
            return
        use(mount.path)
        assert process.running(), process.text()[-2000:]
        assert mount.process.running()
    finally:
        if mount:
            mount.unmount()
        process.signal(cl.signal.SIGTERM)
        assert process.wait() == 0
