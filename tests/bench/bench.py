"""bench.py - one table of what slabfs costs against the plain thing, measured side by side in one run.

Each row alternates the two measurements a few times and takes the medians.  Everything runs on this machine: loopback sockets, its disk and
its page cache.  Environment: SLABFS_BUILD, SLABFS_TMP (where the stores go), BENCH_MIB (size of the array, default 512).
"""

import json
import mmap
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import cluster as cl  # noqa: E402
import oracle  # noqa: E402

MIB = int(os.environ.get("BENCH_MIB", "512"))
SIZE = MIB << 20
REPEAT = 5
BLOCK = 1 << 20


def clock(action, *args):
    start = time.perf_counter()
    action(*args)
    return time.perf_counter() - start


def alternate(ours, plain, repeat=REPEAT, before=lambda: None):
    """Medians of the seconds of both, taken in turns."""
    taken = [], []
    for _ in range(repeat):
        before()
        taken[0].append(ours())
        before()
        taken[1].append(plain())
    return statistics.median(taken[0]), statistics.median(taken[1])


def drop_caches():
    os.sync()
    with open("/proc/sys/vm/drop_caches", "w") as f:
        f.write("3")


def evict(path):
    """Takes one file out of the page cache."""
    fd = os.open(path, os.O_RDONLY)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(fd)


def read_all(path):
    buffer = bytearray(BLOCK)
    with open(path, "rb", buffering=0) as f:
        while f.readinto(buffer):
            pass


def map_all(path):
    """Adds up every byte of a shared mapping, eight at a time."""
    with open(path, "rb") as f, mmap.mmap(f.fileno(), 0, mmap.MAP_SHARED, mmap.PROT_READ) as m:
        a = np.frombuffer(m, "<u8")
        a.sum()
        del a


def write_all(path, data):
    fd = os.open(path, os.O_WRONLY)
    view = memoryview(data).cast("B")
    for at in range(0, len(view), BLOCK):
        os.write(fd, view[at:at + BLOCK])
    os.fsync(fd)
    os.close(fd)


class Mapped:
    """A mapping that stays, as an np.memmap does in a session: read again and again."""

    def __init__(self, path):
        self.array = np.memmap(path, "<u8", "r")
        self.read()

    def read(self):
        self.array.sum()


class Table:
    def __init__(self):
        self.rows = []

    def add(self, name, value, baseline, ratio, target, ok):
        self.rows.append((name, value, baseline, ratio, target, "" if ok is None else "ok" if ok else "miss"))
        print(f"bench: {name}: {value}", file=sys.stderr, flush=True)

    def rate(self, name, ours, plain, target=None):
        """Seconds for SIZE bytes, as rates; the ratio is ours over the plain one's."""
        ratio = plain / ours
        self.add(name, f"{SIZE / ours / 1e6:.0f} MB/s", f"{SIZE / plain / 1e6:.0f} MB/s", f"{ratio:.2f}",
                 f">= {target:.2f}" if target else "", ratio >= target if target else None)

    def latency(self, name, seconds, target_ms=None):
        self.add(name, f"{seconds * 1e3:.2f} ms", "", "", f"<= {target_ms} ms" if target_ms else "", seconds * 1e3 <= target_ms if target_ms else None)

    def print(self):
        head = ("what", "slabfs", "baseline", "ratio", "target", "")
        widths = [max(len(r[i]) for r in [head, *self.rows]) for i in range(6)]
        for r in [head, *self.rows]:
            print("  ".join([r[0].ljust(widths[0])] + [r[i].rjust(widths[i]) for i in range(1, 5)] + [r[5]]).rstrip())


def new_array(directory, shape, partition_bytes=64 << 20):
    directory.mkdir()
    rows = max(1, partition_bytes // (8 * int(np.prod(shape[1:], dtype=int))))
    (directory / "zarr.json").write_text(json.dumps(oracle.document("<f8", shape, (min(rows, shape[0]), *shape[1:]))))
    return directory / "data"


def bench_local(table, c, root, a):
    """One node, all its partitions on this machine: the mount against the file system below."""
    data = new_array(c.mounts[0].path / "local", a.shape)
    native = root / "native"
    with open(native, "wb") as f:
        f.truncate(a.nbytes)
    table.rate("write of data, with fsync (1 node)", *alternate(lambda: clock(write_all, data, a), lambda: clock(write_all, native, a), 3), 0.5)
    table.rate("first read of data (1 node)", *alternate(lambda: clock(read_all, data), lambda: clock(read_all, native), 3, drop_caches), 0.35)
    map_all(data), map_all(native)
    ours, plain = Mapped(data), Mapped(native)
    table.rate("warm read of data through mmap, mapped before (1 node)", *alternate(lambda: clock(ours.read), lambda: clock(plain.read)), 0.95)
    del ours, plain
    table.rate("warm read of data through mmap, mapped anew (1 node)",
               *alternate(lambda: clock(map_all, data), lambda: clock(map_all, native)), 0.95)
    table.rate("warm read of data through read (1 node)", *alternate(lambda: clock(read_all, data), lambda: clock(read_all, native)))
    return native


def bench_remote(table, c, native, root):
    """A mount without a store: all bytes over loopback TCP, from the page cache of the node, against one sendfile of the same bytes."""
    helper = root / "sendfile"
    subprocess.run(["cc", "-O2", "-D_GNU_SOURCE", "-pthread", "-o", helper, pathlib.Path(__file__).with_name("sendfile.c")], check=True)
    mount = c.remote_mount()
    data = mount.path / "local" / "data"

    def plain():
        return float(subprocess.run([helper, native], check=True, capture_output=True).stdout)

    read_all(data), plain()
    table.rate("remote read of data against sendfile", *alternate(lambda: clock(read_all, data), plain, before=lambda: evict(data)), 0.5)
    return mount


def bench_mean(table, c, a):
    view = c.mounts[0].path / "local" / "compute" / "mean"
    data = c.mounts[0].path / "local" / "data"
    memory = np.array(a)

    def ours():
        with open(data, "r+b", buffering=0) as f:  # a new generation: no answer of before will do
            f.write(a[0, :1].tobytes())
        return clock(view.read_text)

    ours()
    table.rate("mean of float64 against NumPy's in memory", *alternate(ours, lambda: clock(memory.mean), 3 * REPEAT), 1.0)


def small_mean(c, n_nodes, repeat=200):
    """The median latency of a mean of 3000 elements, spread over all nodes, from open to close, never from a cache."""
    directory = c.mounts[0].path / "small"
    rows = 3000 // n_nodes
    directory.mkdir()
    (directory / "zarr.json").write_text(json.dumps(oracle.document("<f8", (3000,), (rows,))))
    (directory / "data").open("r+b").write(np.arange(3000.).tobytes())
    view, data = directory / "compute" / "mean", directory / "data"
    taken = []
    for i in range(repeat):
        with open(data, "r+b", buffering=0) as f:
            f.write(np.float64(i).tobytes())
        taken.append(clock(view.read_text))
    return statistics.median(taken)


def for_each(paths, action):
    for p in paths:
        action(p)


def in_processes(paths, action, n=16):
    """The same by n processes at once, each with its share."""
    children = []
    for i in range(n):
        pid = os.fork()
        if pid == 0:
            try:
                for_each(paths[i::n], action)
                os._exit(0)
            finally:
                os._exit(1)
        children.append(pid)
    assert not any([os.waitpid(pid, 0)[1] for pid in children])


def make_file(path):
    fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
    os.write(fd, bytes(1024))
    os.close(fd)


def read_file(path):
    fd = os.open(path, os.O_RDONLY)
    assert len(os.read(fd, 4096)) == 1024
    os.close(fd)


def bench_metadata(table, c, root, n=1000):
    """Small files made, looked at, read and removed per second, by one process and by 16, against the file system below."""
    taken = {}
    steps = [("create, write 1 KiB, close", make_file, 5000), ("stat", os.stat, 50000), ("open, read, close", read_file, 10000), ("unlink", os.unlink, 10000)]
    for round_ in range(3):
        for runs, run in (("", for_each), (", 16 processes", in_processes)):
            for where, base in (("ours", c.mounts[0].path), ("plain", root)):
                directory = base / f"meta{round_}{len(runs)}"
                directory.mkdir()
                paths = [str(directory / str(i)) for i in range(n)]
                for name, action, _ in steps:
                    taken.setdefault((name + runs, where), []).append(clock(run, paths, action))
    for runs in ("", ", 16 processes"):
        for name, _, target in steps:
            ours, plain = (n / statistics.median(taken[name + runs, where]) for where in ("ours", "plain"))
            table.add(f"{name}{runs}", f"{ours:.0f} /s", f"{plain:.0f} /s", f"{ours / plain:.2f}", "" if runs else f">= {target} /s",
                      None if runs else ours >= target)


def bench_listing(table, c, root, n=20000):
    """The names of a directory, by a mount that has not seen it."""
    for base in (c.mounts[0].path, root):
        (base / "many").mkdir()
        for_each([str(base / "many" / str(i)) for i in range(n)], lambda p: os.close(os.open(p, os.O_CREAT | os.O_WRONLY)))
    ours, plain = alternate(lambda: clock(os.listdir, c.mounts[1].path / "many"), lambda: clock(os.listdir, root / "many"), 3, drop_caches)
    table.add(f"list {n} names", f"{ours * 1e3:.0f} ms", f"{plain * 1e3:.0f} ms", f"{plain / ours:.2f}", "<= 100 ms", ours <= 0.1)


def with_cluster(root, name, nodes, action, **kwargs):
    directory = root / name
    directory.mkdir()
    c = cl.Cluster(directory, nodes, **kwargs)
    try:
        return action(c)
    finally:
        for problem in c.stop():
            print(f"bench: {problem}", file=sys.stderr)
        shutil.rmtree(directory, ignore_errors=True)


def main():
    if os.geteuid():
        sys.exit("bench: needs root (it mounts, and drops caches): sudo make bench")
    root = pathlib.Path(tempfile.mkdtemp(prefix="slabfs-bench-", dir=os.environ.get("SLABFS_TMP", "/var/tmp")))
    table = Table()
    a = np.random.default_rng(1).standard_normal((SIZE // 8192, 1024))

    def one_node(c):
        native = bench_local(table, c, root, a)
        bench_remote(table, c, native, root)
        bench_mean(table, c, a)

    def three_nodes(c):
        table.latency("mean of 3000 elements, 3 nodes", small_mean(c, 3), 1)
        bench_metadata(table, c, root)
        bench_listing(table, c, root)

    try:
        with_cluster(root, "one", 1, one_node, mounts=1)
        with_cluster(root, "three", 3, three_nodes, mounts=2)
        table.latency("mean of 3000 elements, 64 nodes", with_cluster(root, "many", 64, lambda c: small_mean(c, 64, 100), mounts=1), 10)
    finally:
        shutil.rmtree(root, ignore_errors=True)
    print(f"\n{MIB} MiB of float64, {os.cpu_count()} cores, medians of alternated repetitions; ratio: slabfs over baseline, higher is better")
    table.print()


if __name__ == "__main__":
    main()
