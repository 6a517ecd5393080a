"""compute/: every operation over every dtype, against NumPy and exact rational arithmetic."""

import errno
import json
import os
import signal
import subprocess
import time

import cluster as cl
import numpy as np
import oracle
import pytest

OPS = ["count", "sum", "mean", "var", "std", "min", "max", "argmin", "argmax", "any", "all"]


def save(directory, a, partition_bytes=4096):
    directory.mkdir(exist_ok=True)
    os.setxattr(directory, "user.slabfs.partition_bytes", str(partition_bytes).encode())
    np.save(directory / "data.npy", a)


def answer(directory, question):
    return (directory / "compute" / question).read_text()


def check(directory, op, a, **params):
    question = ",".join([op] + [f"{k}={v}" for k, v in params.items()])
    want = oracle.expected(op, a, **params)
    text = answer(directory, question)
    got = oracle.parse(text, want)
    # Which of two zeros is the least is not NumPy's to say: it depends on its vector instructions.
    fine = got == want if isinstance(want, int) or want == 0 and op in ("min", "max") else oracle.same(got, want)
    assert fine, f"{question}: {text!r} instead of {want!r}"


@pytest.mark.parametrize("dtype", oracle.DTYPES)
def test_every_operation(spot, elsewhere, dtype):
    rng = np.random.default_rng(oracle.DTYPES.index(dtype))
    a = oracle.random_array(rng, dtype, (61, 53))
    save(spot, a)
    listed = os.listdir(spot / "compute")
    for i, op in enumerate(OPS):
        assert op in listed
        check(elsewhere[i % 3], op, a)
    for ddof in (0, 1, 3):
        check(elsewhere[ddof % 3], "var", a, ddof=ddof)
        check(elsewhere[ddof % 3], "std", a, ddof=ddof)


@pytest.mark.parametrize("dtype", ["<f2", ">f2", "<f4", ">f4", "<f8", ">f8"])
@pytest.mark.parametrize("seed", range(3))
def test_special_floats(spot, elsewhere, dtype, seed):
    a = oracle.random_array(np.random.default_rng(seed), dtype, (3000,), special=True)
    save(spot, a)
    for i, op in enumerate(OPS):
        check(elsewhere[i % 3], op, a)


@pytest.mark.parametrize("values", [
    [1e308, 1e308, -1e308], [1e16, 1, -1e16], [5e-324] * 3, [1e308] * 4, [2.0**53, 1, 2.0**-60], [0.1] * 10,
    [1e300, 1e-300, -1e300], [-0.0, 0.0], [np.inf, 1], [np.inf, -np.inf], [np.nan, 1], [1 + 2.0**-52, 1]])
def test_hard_sums(spot, elsewhere, values):
    for name, dtype in (("f8", "<f8"), ("f4", "<f4")):
        with np.errstate(over="ignore"):
            a = np.array(values).astype(dtype)
        save(spot / name, a)
        for op in ("sum", "mean", "var", "std", "min", "max"):
            check(elsewhere[1] / name, op, a)


def test_the_sign_of_zero(spot):
    save(spot, np.array([-0.0, -0.0]))
    assert answer(spot, "sum") == f"{np.sum(np.array([-0.0, -0.0]))}\n"
    assert answer(spot, "min") == "-0.0\n"


@pytest.mark.parametrize("dtype,top", [("i8", 2**63 - 1), ("i8", -2**63), ("u8", 2**64 - 1), ("i1", -128), ("u4", 2**32 - 1)])
def test_integer_sums_do_not_wrap(spot, dtype, top):
    a = np.full(10000, top, dtype)
    save(spot, a)
    assert int(answer(spot, "sum")) == 10000 * top
    check(spot, "mean", a)
    check(spot, "var", a)


@pytest.mark.parametrize("shape", [(), (1,), (1, 1, 1)])
@pytest.mark.parametrize("dtype", ["<f8", ">i2", "|b1", "<c8"])
def test_single_elements(spot, elsewhere, shape, dtype):
    a = oracle.random_array(np.random.default_rng(9), dtype, shape)
    save(spot, a)
    for op in OPS:
        check(elsewhere[1], op, a)


@pytest.mark.parametrize("dtype", ["<f8", "<i4", "|b1", "<c16", "<f2"])
@pytest.mark.parametrize("shape", [(0,), (4, 0, 3)])
def test_empty_arrays(spot, cluster3, dtype, shape):
    a = np.zeros(shape, dtype)
    save(spot, a)
    for op in ("count", "sum", "mean", "var", "std", "any", "all"):
        check(spot, op, a)
    for op, name in (("min", "minimum"), ("argmax", "argmax")):
        with cl.expect_errno(errno.EINVAL):
            answer(spot, op)
        assert any(name in line or "empty" in line for line in cluster3.mounts[0].errors()[-1:])


def test_ddof_of_few(spot):
    for n in (1, 2):
        a = np.arange(1.0, n + 1)
        save(spot / str(n), a)
        for ddof in (0, 1, 2, 5):
            check(spot / str(n), "var", a, ddof=ddof)
            check(spot / str(n), "std", a, ddof=ddof)


def test_describe(spot, elsewhere):
    a = oracle.random_array(np.random.default_rng(10), "<f8", (5000,))
    save(spot, a)
    said = json.loads(answer(elsewhere[1], "describe.json"))
    assert said["count"] == 5000
    for op in ("mean", "std", "min", "max"):
        assert said[op] == oracle.expected(op, a)
    b = np.arange(100, dtype="i4")
    save(spot / "b", b)
    assert json.loads(answer(spot / "b", "describe.json"))["max"] == 99


@pytest.mark.parametrize("dtype,fill", [("<f8", 2.5), (">i4", -3), ("|b1", True), ("<f4", "NaN"), ("<c8", [1.0, -1.0])])
def test_missing_partitions_count_as_fill(spot, elsewhere, dtype, fill):
    (spot / "zarr.json").write_text(json.dumps(oracle.document(dtype, (10, 60), (3, 60), fill)))
    rows = oracle.random_array(np.random.default_rng(11), dtype, (3, 60))
    (spot / "c" / "1").mkdir(parents=True, exist_ok=True)
    (spot / "c" / "1" / "0").write_bytes(rows.tobytes())
    value = complex(*fill) if isinstance(fill, list) else np.nan if fill == "NaN" else fill
    a = np.full((10, 60), value, dtype)
    a[3:6] = rows
    for i, op in enumerate(OPS):
        check(elsewhere[i % 3], op, a)


def test_padding_is_left_out(spot, elsewhere):
    """Edge chunks whose padding would change every answer."""
    (spot / "zarr.json").write_text(json.dumps(oracle.document("<f8", (7, 10), (4, 6))))
    a = oracle.random_array(np.random.default_rng(12), "<f8", (7, 10))
    padded = np.full((8, 12), np.nan)
    padded[:7, :10] = a
    for i in range(2):
        for j in range(2):
            (spot / "c" / str(i)).mkdir(parents=True, exist_ok=True)
            (spot / "c" / str(i) / str(j)).write_bytes(padded[4 * i:4 * i + 4, 6 * j:6 * j + 6].tobytes())
    for i, op in enumerate(OPS):
        check(elsewhere[i % 3], op, a)


@pytest.mark.parametrize("dtype", ["<f8", ">f4", "<f2", "<i8", "<c8"])
def test_same_bits_for_any_cut(spot, elsewhere, cluster1, dtype):
    a = oracle.random_array(np.random.default_rng(13), dtype, (200000,))
    alone = cluster1.mounts[0].path / spot.name
    save(alone, a, 1 << 20)
    for n in (4096, 28672, 1 << 22):
        save(spot / str(n), a, n)
    for op in OPS:
        answers = {answer(alone, op)} | {answer(elsewhere[2] / str(n), op) for n in (4096, 28672, 1 << 22)}
        assert len(answers) == 1, f"{op}: {answers}"
    cl.remove_tree(alone)


def test_argmin_takes_the_first(spot, elsewhere):
    a = np.zeros(20000, "<i2")
    a[[7000, 12000, 19999]] = -4
    a[[6000, 15000]] = 9
    save(spot, a)
    assert answer(elsewhere[1], "argmin") == "7000\n" and answer(elsewhere[1], "argmax") == "6000\n"
    b = np.arange(20000.)
    b[[9000, 15000]] = np.nan
    save(spot / "b", b)
    assert answer(elsewhere[1] / "b", "argmin") == "9000\n" and answer(elsewhere[1] / "b", "argmax") == "9000\n"


@pytest.mark.parametrize("dtype", ["<f8", ">f4", "<i2", "|b1", "<c16", "<f2", "<u8"])
def test_npy_results(spot, elsewhere, dtype):
    a = oracle.random_array(np.random.default_rng(14), dtype, (900,))
    save(spot, a)
    for op in OPS:
        path = elsewhere[1] / "compute" / f"{op}.npy"
        want = oracle.expected(op, a)
        if isinstance(want, int):
            result = np.iinfo("u8" if a.dtype.kind == "u" else "i8")
            if not result.min <= want <= result.max:
                with cl.expect_errno(errno.EOVERFLOW):
                    path.read_bytes()
                continue
            want = result.dtype.type(want)
        size = path.stat().st_size
        got = np.load(path)
        assert got.shape == () and oracle.same(got[()], want), op
        assert size == len(path.read_bytes())
        assert oracle.same(np.load(path, mmap_mode="r")[()], want)


def test_changes_are_seen(spot, elsewhere):
    a = np.zeros(10000)
    save(spot, a)
    for i in range(1, 5):
        assert float(answer(elsewhere[1], "sum")) == a.sum()
        with open(elsewhere[i % 3] / "data", "r+b") as f:
            f.seek(8 * 1000 * i)
            f.write(np.float64(i).tobytes())
        a[1000 * i] = i
        assert float(answer(elsewhere[1], "sum")) == a.sum()


def test_bad_questions(spot, cluster3):
    save(spot, np.arange(100.))
    save(spot / "z", np.ones(4, "c8"))
    errors = cluster3.mounts[0].errors
    for name in ("nonsense", "Mean", "mean2", "mean.txt"):
        with cl.expect_errno(errno.ENOENT, errno.EINVAL):
            answer(spot, name)
    with cl.expect_errno(errno.ENOENT):
        answer(spot, "nonsense")
    for name, word in (("var,ddof=x", "ddof"), ("var,ddof=-1x", "ddof"), ("mean,ddof=1", "ddof"), ("var,colour=1", "colour"),
                       ("var,ddof", "ddof"), ("var,ddof=1,ddof=2", "ddof")):
        with cl.expect_errno(errno.EINVAL):
            answer(spot, name)
        assert any(word in line and "EINVAL" in line for line in errors()[-3:]), (name, errors()[-3:])


def test_stat_does_not_compute(spot, cluster3):
    save(spot, np.arange(100000.))

    def reductions():
        return sum(v for (name, _), v in cluster3.mounts[0].metrics().items() if "reduc" in name or "compute" in name)

    before = reductions()
    for op in OPS:
        assert (spot / "compute" / op).exists()
        (spot / "compute" / f"{op}.npy").stat()
    cl.run("ls", "-l", spot / "compute", check=0)
    cl.run("find", spot / "compute", check=0)
    assert reductions() == before


def slow_array(directory):
    """4 GiB of float16 zeros on the disk (allocated, never written): a variance of it takes seconds."""
    directory.mkdir()
    n, chunk = 1 << 31, 1 << 25
    (directory / "zarr.json").write_text(json.dumps(oracle.document("<f2", (n,), (chunk,))))
    with open(directory / "data", "r+b", buffering=0) as f:
        for at in range(0, 2 * n, 2 * chunk):
            os.pwrite(f.fileno(), b"\x00\x3c", at)


@pytest.mark.slow
def test_interrupt_and_latency(fresh):
    c = fresh(3, mounts=1, options="timeout=60")
    directory = c.mounts[0].path / "slow"
    slow_array(directory)

    def cpu():
        return sum(n.process.cpu_seconds() for n in c.nodes)

    busy = cpu()
    reader = subprocess.Popen(["cat", directory / "compute" / "var"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                              preexec_fn=cl.die_with_parent)
    cl.until(lambda: cpu() > busy + 0.3, 10, "the nodes to compute")
    worst = 0
    for i in range(20):
        start = time.monotonic()
        os.listdir(c.mounts[0].path)
        (c.mounts[0].path / f"new{i}").write_text("x")
        worst = max(worst, time.monotonic() - start)
    assert reader.poll() is None, "the reduction was over too soon to test anything"
    assert worst < 0.5 * cl.SLOWER, f"ls and a small write took {worst} s beside a reduction"
    start = time.monotonic()
    reader.send_signal(signal.SIGINT)
    assert reader.wait(5) == -signal.SIGINT
    assert time.monotonic() - start < 2
    time.sleep(0.5)  # what is measured is that the nodes are idle after a while
    before = cpu()
    time.sleep(0.5)
    assert cpu() - before < 0.2, "the nodes compute on"


def test_many_questions_at_once(spot, elsewhere):
    a = np.arange(300000.)
    save(spot, a)
    readers = [subprocess.Popen(["cat", elsewhere[i % 3] / "compute" / op], stdout=subprocess.PIPE, text=True)
               for i in range(6) for op in OPS]
    answers = [r.communicate(timeout=60 * cl.SLOWER)[0] for r in readers]
    assert answers == [answer(spot, op) for op in OPS] * 6


def test_a_mean_moves_few_bytes(spot, cluster3):
    a = np.ones(1 << 20)
    save(spot, a, 1 << 18)
    before = cluster3.mounts[0].bytes_received()
    assert answer(spot, "mean") == "1.0\n"
    assert cluster3.mounts[0].bytes_received() - before < 100000
    np.load(spot / "data.npy")
    assert cluster3.mounts[0].bytes_received() - before > 4 << 20
