"""Fixtures: a shared cluster of three nodes for cheap tests, fresh ones for tests that break things, and a watchdog."""

import faulthandler
import os
import shutil
import subprocess
import tempfile
import threading

import cluster as cl
import pytest

WATCHDOG_S = 150 * cl.SLOWER


def pytest_configure(config):
    config.addinivalue_line("markers", "slow: left out of the runs under sanitizers")
    config.addinivalue_line("markers", "long: minutes of random work; only with SLABFS_LONG=1 (make soak)")
    config.addinivalue_line("markers", "watchdog(seconds): how long the test may take")
    if os.geteuid():
        pytest.exit("the tests mount file systems and make network namespaces: run them as root (sudo make test)", 1)
    if not os.path.exists("/dev/fuse"):
        pytest.exit("no /dev/fuse here: load the module fuse", 1)
    if not (cl.BUILD / "slabfsd").exists():
        pytest.exit(f"no programs in {cl.BUILD}: run make first", 1)


def pytest_collection_modifyitems(config, items):
    if not os.environ.get("SLABFS_LONG"):
        long = [i for i in items if i.get_closest_marker("long")]
        items[:] = [i for i in items if i not in long]
        config.hook.pytest_deselected(items=long)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    report = (yield).get_result()
    setattr(item, "report_" + report.when, report)
    if report.failed:
        for c in getattr(item, "clusters", []):
            report.sections.append(("logs", c.log_tails()))


@pytest.fixture(autouse=True)
def watchdog(request):
    """A test that hangs on a mount is freed by killing the mount, and then fails."""
    fired = []

    def fire():
        fired.append(True)
        faulthandler.dump_traceback(all_threads=True)
        cl.kill_all()

    marker = request.node.get_closest_marker("watchdog")
    timer = threading.Timer(marker.args[0] if marker else WATCHDOG_S, fire)
    timer.daemon = True
    timer.start()
    yield
    timer.cancel()
    assert not fired, "the test hung and its processes were killed"


def _fresh_directory():
    return tempfile.mkdtemp(prefix="slabfs-test-", dir=os.environ.get("SLABFS_TMP", "/var/tmp"))


def _remove(path):
    for line in reversed(open("/proc/self/mountinfo").readlines()):
        if line.split()[4].startswith(path + "/"):
            subprocess.run(["umount", "-l", line.split()[4]], check=False)
    if not os.environ.get("SLABFS_KEEP"):
        shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def tmp(request):
    path = _fresh_directory()
    yield cl.pathlib.Path(path)
    _remove(path)


class _Shared:
    """A cluster that many tests use; made anew when one of them has hurt it."""

    def __init__(self, nodes):
        self.nodes, self.cluster, self.path = nodes, None, None

    def get(self):
        if self.cluster is None:
            self.path = _fresh_directory()
            self.cluster = cl.Cluster(self.path, self.nodes)
        return self.cluster

    def stop(self):
        if self.cluster is None:
            return []
        problems = self.cluster.stop()
        _remove(self.path)
        self.cluster = None
        return problems


def _shared(nodes):
    shared = _Shared(nodes)
    yield shared
    problems = shared.stop()
    assert not problems, "\n".join(problems)


@pytest.fixture(scope="session")
def _shared3():
    yield from _shared(3)


@pytest.fixture(scope="session")
def _shared1():
    yield from _shared(1)


def _use(shared, request):
    c = shared.get()
    request.node.clusters = getattr(request.node, "clusters", []) + [c]
    yield c
    if not c.healthy():
        problems = shared.stop()
        pytest.fail("a process of the cluster died or complained:\n" + "\n".join(problems))


@pytest.fixture
def cluster3(_shared3, request):
    yield from _use(_shared3, request)


@pytest.fixture
def cluster1(_shared1, request):
    yield from _use(_shared1, request)


@pytest.fixture
def spot(cluster3, request):
    """A fresh directory on the shared cluster, as the first mount sees it; spot_of gives it elsewhere."""
    path = cluster3.mounts[0].path / f"t{os.urandom(6).hex()}"
    path.mkdir()
    yield path
    cl.remove_tree(path)


@pytest.fixture
def elsewhere(spot, cluster3):
    """The same directory on each mount."""
    return [m.path / spot.name for m in cluster3.mounts]


@pytest.fixture
def fresh(request):
    """fresh(nodes, ...) makes a cluster of the test's own."""
    made, roots = [], []

    def make(nodes=3, **kwargs):
        root = _fresh_directory()
        roots.append(root)
        c = cl.Cluster(root, nodes, **kwargs)
        made.append(c)
        request.node.clusters = getattr(request.node, "clusters", []) + [c]
        return c

    yield make
    problems = [p for c in made for p in c.stop()]
    for root in roots:
        _remove(root)
    assert not problems, "\n".join(problems)


@pytest.fixture
def hosts(request):
    """hosts(n): n network namespaces on one bridge, as (prefix to run under, address).  Needs CAP_NET_ADMIN; never skips."""
    names, bridge = [], f"sb{os.urandom(3).hex()}"

    def ip(*argv):
        cl.run("ip", *argv, check=0)

    def make(n):
        ip("link", "add", bridge, "type", "bridge")
        ip("addr", "add", "10.213.7.254/24", "dev", bridge)
        ip("link", "set", bridge, "up")
        result = []
        for i in range(1, n + 1):
            name = f"{bridge}-{i}"
            names.append(name)
            ip("netns", "add", name)
            ip("link", "add", f"{bridge}v{i}", "type", "veth", "peer", "name", "eth0", "netns", name)
            ip("link", "set", f"{bridge}v{i}", "master", bridge, "up")
            ip("-n", name, "addr", "add", f"10.213.7.{i}/24", "dev", "eth0")
            ip("-n", name, "link", "set", "eth0", "up")
            ip("-n", name, "link", "set", "lo", "up")
            result.append((("nsenter", f"--net=/run/netns/{name}", "--"), f"10.213.7.{i}"))
        return result

    make.cut = lambda i: ip("link", "set", f"{bridge}v{i}", "down")
    make.join = lambda i: ip("link", "set", f"{bridge}v{i}", "up")
    yield make
    for name in names:
        cl.run("ip", "netns", "del", name)
    cl.run("ip", "link", "del", bridge)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session):
    cl.kill_all()
