"""A short run of each fuzz target from its corpus; what it finds is written into the message."""

import os
import shutil
import subprocess

import cluster as cl
import pytest

SOURCES = sorted((cl.REPO / "tests" / "fuzz").glob("fuzz_*.c"))
SECONDS = int(os.environ.get("SLABFS_FUZZ_SECONDS", "10"))

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def fuzzers():
    build = cl.REPO / "build"
    done = subprocess.run(["make", "-C", cl.REPO, "-s", f"BUILD={build}", "fuzzers"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return build / "fuzz"


@pytest.mark.watchdog(600)
@pytest.mark.parametrize("source", SOURCES, ids=lambda p: p.stem)
def test_fuzz(fuzzers, source, tmp):
    seeds = cl.REPO / "tests" / "fuzz" / "corpus" / source.stem.removeprefix("fuzz_")
    if seeds.is_dir():
        shutil.copytree(seeds, tmp / "corpus")
    else:
        (tmp / "corpus").mkdir()
    done = subprocess.run([fuzzers / source.stem, f"-max_total_time={SECONDS}", "-timeout=10", "-rss_limit_mb=2048", "-seed=1",
                           "-print_final_stats=0", "corpus"], cwd=tmp, capture_output=True, text=True, errors="replace")
    crashes = {p.name: p.read_bytes()[:500] for p in tmp.glob("*-*") if p.is_file()}
    assert done.returncode == 0, f"{crashes}\n{done.stderr[-6000:]}"
