"""Stores, daemons and mounts for tests.

A Cluster lives in one directory: stores 1, 2, ..., mount points m1, m2, ..., and a log for each process.  Every wait is for an
explicit event and has a deadline; every process that is started dies with the tests; words of a sanitizer in a log are a failure.
"""

import ctypes
import errno
import os
import pathlib
import random
import re
import shutil
import signal
import socket
import subprocess
import time

REPO = pathlib.Path(__file__).resolve().parent.parent
BUILD = pathlib.Path(os.environ.get("SLABFS_BUILD", REPO / "build")).resolve()
SANITIZED = os.environ.get("SLABFS_SANITIZE", "")
SLOWER = 8 if SANITIZED else 1  # for what the tests measure in seconds
BAD_WORDS = re.compile(r"(Address|Thread|Leak|Memory|UndefinedBehavior)Sanitizer|runtime error:|[Aa]ssert|buffer overflow detected")

_libc = ctypes.CDLL(None, use_errno=True)
_alive = set()


def program(name):
    return str(BUILD / name)


def die_with_parent():
    _libc.prctl(1, signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # a suite in the background of a shell inherits it as ignored


def until(condition, timeout=20.0, what="a condition"):
    """Polls until condition() is true and returns its value; fails after timeout seconds."""
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout} s for {what}")
        time.sleep(0.01)


def run(*argv, timeout=60, check=None, **kwargs):
    """Runs a program to its end and returns it with stdout and stderr as text.  check: the exit code that it must have."""
    done = subprocess.run([str(a) for a in argv], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          text=True, timeout=timeout * SLOWER, preexec_fn=die_with_parent, **kwargs)
    found = BAD_WORDS.search(done.stderr)
    assert not found, f"{argv}: {done.stderr}"
    if check is not None:
        assert done.returncode == check, f"{argv}: exit code {done.returncode}\n{done.stdout}{done.stderr}"
    return done


def free_port():
    """A port below the ephemeral range that is free now, for daemons that must come back at the same address."""
    while True:
        port = random.randint(20000, 32000)
        with socket.socket() as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                s.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue


class Process:
    """A program in the foreground, whose output goes to a log."""

    def __init__(self, argv, log, prefix=()):
        self.argv = [str(a) for a in argv]
        self.log = pathlib.Path(log)
        with open(self.log, "ab") as out:
            self.start_offset = out.tell()
            self.popen = subprocess.Popen([*map(str, prefix), *self.argv], stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                                          preexec_fn=die_with_parent)
        _alive.add(self)

    @property
    def pid(self):
        return self.popen.pid

    def text(self):
        return self.log.read_bytes()[self.start_offset:].decode(errors="replace")

    def running(self):
        return self.popen.poll() is None

    def wait_line(self, pattern, timeout=20.0):
        """The match of pattern in the output; fails at once when the process dies."""
        deadline = time.monotonic() + timeout * SLOWER
        while True:
            running = self.running()
            found = re.search(pattern, self.text(), re.MULTILINE)
            if found:
                return found
            assert running, f"{self.argv} ended with {self.popen.returncode}:\n{self.text()}"
            assert time.monotonic() < deadline, f"{self.argv}: no line like {pattern!r} in {timeout} s:\n{self.text()}"
            time.sleep(0.01)

    def signal(self, number):
        self.popen.send_signal(number)

    def wait(self, timeout=20.0):
        try:
            return self.popen.wait(timeout * SLOWER)
        finally:
            if self.popen.returncode is not None:
                _alive.discard(self)

    def kill(self):
        if self.running():
            self.signal(signal.SIGKILL)
        self.wait()

    def stop(self, timeout=20.0):
        """SIGTERM and the exit code; a process that does not end is killed and gives None."""
        if self.running():
            self.signal(signal.SIGCONT)
            self.signal(signal.SIGTERM)
        try:
            return self.wait(timeout)
        except subprocess.TimeoutExpired:
            self.signal(signal.SIGABRT)
            self.wait()
            return None

    def cpu_seconds(self):
        fields = pathlib.Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def kill_all():
    """Ends whatever still runs: for the watchdog and for the end of the session."""
    for process in list(_alive):
        if process.running():
            process.signal(signal.SIGKILL)


def is_mounted(path):
    path = str(path)
    return any(line.split()[4] == path for line in open("/proc/self/mountinfo"))


class Mount:
    def __init__(self, source, path, log, options="", prefix=()):
        self.path = pathlib.Path(path)
        self.path.mkdir(exist_ok=True)
        argv = [program("slabfs"), source, path, "-f"] + (["-o", options] if options else [])
        self.process = Process(argv, log, prefix)
        self.process.wait_line(r"^slabfs: mounted ")

    def __truediv__(self, name):
        return self.path / name

    def control(self, name):
        return (self.path / ".slabfs" / name).read_text()

    def errors(self):
        return self.control("errors").splitlines()

    def unmount(self):
        """Empty, or what went wrong."""
        if is_mounted(self.path):
            done = run("fusermount3", "-u", self.path)
            if done.returncode:
                run("umount", "-l", self.path)
                done.stderr and print(done.stderr)
        try:
            code = self.process.wait()
        except subprocess.TimeoutExpired:
            self.process.signal(signal.SIGABRT)
            self.process.wait()
            run("umount", "-l", self.path)
            return f"{self.path}: slabfs did not end when unmounted"
        return f"{self.path}: slabfs ended with {code}" if code else ""

    def kill(self):
        self.process.kill()
        run("umount", "-l", self.path)

    def metrics(self):
        """Prometheus samples: {(name, label text): value}."""
        samples = {}
        for line in self.control("metrics").splitlines():
            if line and not line.startswith("#"):
                key, value = line.rsplit(" ", 1)
                name, _, labels = key.partition("{")
                samples[name, labels.rstrip("}")] = float(value)
        return samples

    def bytes_received(self, transport="tcp"):
        return sum(v for (name, labels), v in self.metrics().items()
                   if name == "slabfs_bytes_received_total" and f'transport="{transport}"' in labels)


class Node:
    def __init__(self, number, store, log, prefix=()):
        self.number, self.store, self.log, self.prefix = number, pathlib.Path(store), log, prefix
        self.process = None
        self.address = None

    def start(self):
        self.process = Process([program("slabfsd"), self.store], self.log, self.prefix)
        found = self.process.wait_line(r"^slabfsd: node (\d+) ready on (\S+)$")
        assert int(found[1]) == self.number
        self.address = found[2]
        return self

    def stop(self):
        code = self.process.stop()
        return "" if code == 0 else f"node {self.number}: slabfsd ended with {code}"

    @property
    def key(self):
        return self.store / "cluster.key"


class Cluster:
    """fixed_ports: daemons that are restarted come back at the same address.  prefixes: for each node, what to run it under
    (a network namespace), and hosts: the address to listen on."""

    def __init__(self, root, nodes=3, mounts=None, options="", fixed_ports=False, stores=None, prefixes=None, hosts=None):
        self.root = pathlib.Path(root)
        self.options, self.fixed_ports = options, fixed_ports
        self.nodes, self.mounts = [], []
        self.prefixes, self.hosts = prefixes or [()] * nodes, hosts or ["127.0.0.1"] * nodes
        try:
            for i in range(nodes):
                self.add_node(stores[i] if stores else None)
            for i in range(nodes if mounts is None else mounts):
                self.mount(self.nodes[i].store, prefix=self.prefixes[i])
        except BaseException:
            self.stop()
            raise

    def add_node(self, store=None):
        number = len(self.nodes) + 1
        store = store or self.root / str(number)
        host = self.hosts[number - 1] if number <= len(self.hosts) else "127.0.0.1"
        prefix = self.prefixes[number - 1] if number <= len(self.prefixes) else ()
        argv = [*prefix, program("mkfs.slabfs"), "--listen", f"{host}:{free_port() if self.fixed_ports else 0}"]
        if self.nodes:
            argv += ["--join", self.nodes[0].address, "--key", self.nodes[0].key]
        run(*argv, store, check=0)
        node = Node(number, store, self.root / f"slabfsd-{number}.log", prefix)
        self.nodes.append(node)
        return node.start()

    def mount(self, source=None, options=None, prefix=()):
        number = len(self.mounts) + 1
        options = ",".join(o for o in (self.options, options) if o)
        mount = Mount(source or self.nodes[0].store, self.root / f"m{number}", self.root / f"slabfs-{number}.log", options, prefix)
        self.mounts.append(mount)
        return mount

    def remote_mount(self, options=None):
        """A mount of a machine without a store: everything over TCP."""
        options = f"key={self.nodes[0].key}" + (f",{options}" if options else "")
        return self.mount(self.nodes[0].address, options)

    def unmount(self, mount):
        self.mounts.remove(mount)
        return mount.unmount()

    def ctl(self, *argv, mount=None, **kwargs):
        return run(program("slabctl"), "--mount", (mount or self.mounts[0]).path, *argv, **kwargs)

    def logs(self):
        return {log.name: log.read_text(errors="replace") for log in sorted(self.root.glob("*.log"))}

    def log_tails(self, lines=40):
        return "\n".join(f"--- {name}\n" + "\n".join(text.splitlines()[-lines:]) for name, text in self.logs().items())

    def bad_words(self):
        return [f"{name}: {text[max(0, found.start() - 200):found.start() + 4000]}"
                for name, text in self.logs().items() if (found := BAD_WORDS.search(text))]

    def healthy(self):
        return (all(m.process.running() for m in self.mounts) and all(n.process.running() for n in self.nodes)
                and not self.bad_words())

    def stop(self):
        """Unmounts and ends everything; the list of what was wrong (killed daemons are not: their tests end them themselves)."""
        problems = []
        for node in self.nodes:
            if node.process.running():
                node.process.signal(signal.SIGCONT)
        for mount in reversed(self.mounts):
            dead = not mount.process.running()
            problems.append(mount.unmount() or (dead and f"{mount.path}: slabfs died"))
        for node in reversed(self.nodes):
            if node.process.running():
                problems.append(node.stop())
            elif node.process.popen.returncode not in (0, -signal.SIGKILL):
                problems.append(f"node {node.number}: slabfsd died with {node.process.popen.returncode}")
        self.nodes, self.mounts = [], []
        return [p for p in problems if p] + self.bad_words()

    def find_partition(self, *words):
        """Partition files (without their sums) of all stores, largest first."""
        files = [p for node in self.nodes for p in node.store.glob("parts/*/*/*") if p.suffix != ".sum" and p.is_file()]
        return sorted(files, key=lambda p: -p.stat().st_size)


def expect_errno(*codes):
    """A context that wants an OSError with one of these codes and keeps it in .error."""

    class Expect:
        def __enter__(self):
            return self

        def __exit__(self, kind, error, trace):
            names = [errno.errorcode[c] for c in codes]
            assert error is not None, f"succeeded, but should fail with {names}"
            if not isinstance(error, OSError):
                return False
            self.error = error
            assert error.errno in codes, f"{error!r} instead of {names}"
            return True

    return Expect()


def renameat2(old, new, flags):
    if _libc.renameat2(-100, os.fsencode(str(old)), -100, os.fsencode(str(new)), flags):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), str(old), None, str(new))


RENAME_NOREPLACE, RENAME_EXCHANGE = 1, 2


def remove_tree(path):
    shutil.rmtree(path, ignore_errors=True)
