"""The folders are the architecture: who may include whom, and how the code looks."""

import collections
import re
import shutil
import subprocess

import cluster as cl
import pytest

FOLDERS = {"fs/lib": {"fs/lib"}, "fs/mount": {"fs/mount", "fs/lib"}, "fs/ctl": {"fs/ctl", "fs/lib"},
           "daemon": {"daemon", "fs/lib"}, "mkfs": {"mkfs", "fs/lib"}}
THIRD_PARTY = ["fuse", "json-c", "sodium", "sqlite3", "xxhash", "libssh2", "lz4", "zstd", "blosc", "zlib", "libpq"]
SOURCES = sorted(p for folder in FOLDERS for p in (cl.REPO / folder).glob("*.[ch]"))
TEST_SOURCES = sorted(p for p in (cl.REPO / "tests").rglob("*.[ch]") if "golden" not in p.parts)

pytestmark = pytest.mark.slow


def includes(path):
    return re.findall(r'^\s*#\s*include\s+([<"][^>"]+)[>"]', path.read_text(), re.MULTILINE)


def test_the_top_level_is_what_it_should_be():
    listed = subprocess.run(["git", "-c", "safe.directory=*", "-C", cl.REPO, "ls-files"], capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    top = {name.split("/")[0] for name in listed.stdout.split("\n") if name}
    assert {name for name in top if not name.startswith(".")} <= {"fs", "daemon", "mkfs", "tests", "docs", "Makefile", "README.md", "LICENSE"}


@pytest.mark.parametrize("folder", FOLDERS)
def test_dependencies_run_one_way(folder):
    headers = {p.name: name for name in FOLDERS for p in (cl.REPO / name).glob("*.h")}
    for path in (cl.REPO / folder).glob("*.[ch]"):
        for include in includes(path):
            if include.startswith('"'):
                name = include[1:]
                assert (path.parent / name).exists() or headers.get(name) in FOLDERS[folder], f"{path} includes {name}"


def test_each_third_party_header_is_included_once():
    users = collections.defaultdict(set)
    for path in SOURCES:
        for include in includes(path):
            for library in THIRD_PARTY:
                if include.startswith("<" + library):
                    users[library].add(path.relative_to(cl.REPO).as_posix())
    assert users, "found no includes at all"
    assert all(len(paths) == 1 for paths in users.values()), dict(users)


def test_files_are_short():
    long = {p.name: n for p in SOURCES + TEST_SOURCES if (n := len(p.read_text().splitlines())) > 600}
    assert not long


def test_formatting():
    tool = shutil.which("clang-format-14") or shutil.which("clang-format")
    if not tool:
        pytest.skip("no clang-format here")
    version = re.search(r"version (\d+)", subprocess.run([tool, "--version"], capture_output=True, text=True).stdout)[1]
    if version != "14":
        pytest.skip(f"the formatting is that of clang-format 14, this is {version}")
    done = subprocess.run([tool, "--dry-run", "--Werror", *SOURCES, *TEST_SOURCES], capture_output=True, text=True, cwd=cl.REPO)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.watchdog(600)
@pytest.mark.parametrize("compiler", ["gcc", "clang"])
def test_no_warnings(compiler, tmp):
    done = subprocess.run(["make", "-C", cl.REPO, "-s", "-j4", f"CC={compiler}", "WERROR=-Werror", f"BUILD={tmp}/build", "all", "units"],
                          capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr == "", done.stderr[-4000:]


def test_no_unfinished_work():
    marks = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")
    found = [f"{p}:{i}" for p in SOURCES for i, line in enumerate(p.read_text().splitlines(), 1) if marks.search(line)]
    assert not found


def test_install(tmp):
    done = subprocess.run(["make", "-C", cl.REPO, "-s", f"BUILD={cl.BUILD}", "install", f"DESTDIR={tmp}", "PREFIX=/usr"],
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    installed = {p.relative_to(tmp).as_posix() for p in tmp.rglob("*") if p.is_file()}
    assert {"usr/sbin/slabfsd", "usr/sbin/mkfs.slabfs", "usr/bin/slabfs", "usr/bin/slabctl"} <= installed
    assert {"usr/share/man/man8/slabfsd.8", "usr/share/man/man8/mkfs.slabfs.8", "usr/share/man/man1/slabfs.1",
            "usr/share/man/man1/slabctl.1"} <= installed
    cl.run(tmp / "usr/bin/slabfs", "--version", check=0)
