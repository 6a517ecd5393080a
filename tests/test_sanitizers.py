"""The whole suite once more with the programs built for the sanitizers (but for what is slow, and what does not run them)."""

import os
import re
import subprocess
import sys

import cluster as cl
import pytest

OPTIONS = {
    "ASAN_OPTIONS": "detect_leaks=1:abort_on_error=1:detect_stack_use_after_return=1",
    "UBSAN_OPTIONS": "print_stacktrace=1",
    "TSAN_OPTIONS": "second_deadlock_stack=1:history_size=4",
}

pytestmark = [pytest.mark.slow, pytest.mark.watchdog(3600)]


@pytest.mark.parametrize("sanitizers", ["address,undefined", "thread"])
def test_suite_under(sanitizers):
    build = cl.REPO / "build" / sanitizers.replace(",", "-")
    made = subprocess.run(["make", "-C", cl.REPO, "-s", f"-j{os.cpu_count()}", f"SANITIZE={sanitizers}", f"BUILD={build}", "all", "units"],
                          capture_output=True, text=True)
    assert made.returncode == 0, made.stderr[-4000:]
    env = dict(os.environ, SLABFS_BUILD=str(build), SLABFS_SANITIZE=sanitizers, **OPTIONS)
    # The thread sanitizer's shadow needs an address space that is not randomised as widely as new kernels do.
    done = subprocess.run(["setarch", "-R", sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "not slow", "--tb=short",
                           "tests"], cwd=cl.REPO, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, errors="replace")
    print(done.stdout[-30000:])
    assert done.returncode == 0, done.stdout[-30000:]
    assert int(re.search(r"(\d+) passed", done.stdout)[1]) > 150
