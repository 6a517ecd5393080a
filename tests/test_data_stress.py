"""fio's verification, and many processes at once in one tree: afterwards all is readable, the same on every mount, and nothing stays behind."""

import os
import json
import shutil
import subprocess
import sys

import cluster as cl
import pytest

MIB = 1 << 20


def fio(directory, engine, *options, jobs=3, size="6m", timeout=120):
    if not shutil.which("fio"):
        pytest.skip("no fio here")
    done = cl.run("fio", "--name=verify", f"--directory={directory}", f"--ioengine={engine}", "--rw=randwrite", "--bsrange=512-64k",
                  "--bs_unaligned", f"--size={size}", f"--numjobs={jobs}", "--verify=crc32c", "--verify_state_save=0", "--do_verify=1", "--verify_fatal=1", "--fallocate=none",
                  "--randseed=7", "--group_reporting", "--output-format=json", *options, timeout=timeout)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert not any(job["error"] for job in json.loads(done.stdout[done.stdout.index("{"):])["jobs"])


@pytest.mark.parametrize("engine", ["psync", "mmap"])
def test_fio_finds_what_it_wrote(spot, cluster3, engine):
    options = [] if engine == "psync" else ["--bs=4k"]
    fio(spot, engine, *options)
    for f in spot.glob("verify.*"):  # and other mounts find it too
        other = cluster3.mounts[1].path / spot.name / f.name
        assert other.read_bytes() == f.read_bytes()


def test_fio_finds_what_it_wrote_in_allocated_files(spot):
    cl.run("setfattr", "-n", "user.slabfs.partition_bytes", "-v", str(MIB), spot)
    fio(spot, "psync", "--fallocate=native", "--fsync=200")


@pytest.mark.long
@pytest.mark.watchdog(400)
@pytest.mark.parametrize("engine", ["psync", "mmap"])
def test_fio_for_a_while(fresh, engine):
    c = fresh(3, mounts=2)
    remote = c.remote_mount()
    for mount, size in (c.mounts[0], "64m"), (remote, "32m"):
        directory = mount / f"{engine}-{size}"
        directory.mkdir()
        fio(directory, engine, *([] if engine == "psync" else ["--bs=4k"]), jobs=4, size=size, timeout=300)


def partition_files(c):
    return [name for node in c.nodes for _, _, files in os.walk(node.store / "parts") for name in files]  # they go while one looks


def stress(c, operations, workers):
    top = c.mounts[0] / "tree"
    top.mkdir()
    cl.run("setfattr", "-n", "user.slabfs.partition_bytes", "-v", "65536", top)
    worker = cl.REPO / "tests" / "stress_worker.py"
    running = [subprocess.Popen([sys.executable, worker, c.mounts[i % len(c.mounts)] / "tree", str(i), str(operations)], stdin=subprocess.DEVNULL,
                                stderr=subprocess.PIPE, text=True, preexec_fn=cl.die_with_parent) for i in range(workers)]
    failed = [text for p in running if (text := p.communicate(timeout=200 * cl.SLOWER)[1]) or p.returncode]
    assert not failed, "\n".join(failed)
    sums = [cl.run("sh", "-c", f"cd '{m.path}/tree' && find . -type f -print0 | sort -z | xargs -0 -r sha256sum", timeout=120, check=0).stdout
            for m in c.mounts]
    assert all(s == sums[0] for s in sums), sums
    left = [line for m in c.mounts for line in m.errors() if "EIO" in line or "quarantined" in line]
    assert not left, left
    cl.run("rm", "-rf", top, check=0, timeout=120)
    assert not top.exists()
    cl.until(lambda: not partition_files(c), timeout=40, what="the nodes to drop all partitions")


@pytest.mark.parametrize("mounts", [1, 2])
def test_many_processes_in_one_tree(fresh, mounts):
    stress(fresh(2, mounts=mounts), operations=150, workers=6)


@pytest.mark.long
@pytest.mark.watchdog(600)
def test_many_processes_in_one_tree_for_a_while(fresh):
    stress(fresh(3), operations=1500, workers=9)
