"""What the answers must be: random arrays, and reductions in exact rational arithmetic, rounded once.

Float sums, means, variances and standard deviations of slabfs are the correctly rounded results of exact arithmetic; NumPy's own are
not, so the oracle for these is fractions.Fraction.  Everything else is NumPy's.
"""

import cmath
import math
from fractions import Fraction

import numpy as np

DTYPES = ["|b1", "|i1", "|u1"] + [e + t for e in "<>" for t in
                                  ("i2", "i4", "i8", "u2", "u4", "u8", "f2", "f4", "f8", "c8", "c16")]
ZARR_NAMES = {"b1": "bool", "c8": "complex64", "c16": "complex128"} | {
    f"{k}{n}": f"{name}{8 * n}" for k, name in (("i", "int"), ("u", "uint"), ("f", "float")) for n in (1, 2, 4, 8)}
_FORMATS = {2: (11, -14, 15), 4: (24, -126, 127), 8: (53, -1022, 1023)}  # bits of precision, least and greatest exponent


def random_array(rng, dtype, shape, special=False):
    """Any bits for integers; moderate numbers for floats, with some NaN, infinities and signed zeros when special."""
    dtype = np.dtype(dtype)
    n = math.prod(shape)
    if dtype.kind == "b":
        a = rng.integers(0, 2, n).astype(dtype)
    elif dtype.kind in "iu":
        info = np.iinfo(dtype)
        a = rng.integers(info.min, info.max, n, dtype=dtype.newbyteorder("="), endpoint=True).astype(dtype)
    else:
        def real():
            scale = rng.integers(-4, 5, n) if dtype == np.dtype("f2").newbyteorder(dtype.byteorder) else rng.integers(-18, 19, n)
            return rng.standard_normal(n) * 2.0 ** scale
        a = real() + 1j * real() if dtype.kind == "c" else real()
        a = a.astype(dtype)
        if special and n:
            for value in (np.nan, np.inf, -np.inf, -0.0):
                if rng.integers(2):
                    a[rng.integers(n)] = value
    return a.reshape(shape)


def random_shape(rng, rank=None):
    rank = int(rng.integers(0, 5)) if rank is None else rank
    return tuple(int(x) for x in rng.integers(1, (1, 5000, 90, 18, 9)[rank] + 1, rank))


def round_fraction(value, item_bytes):
    """The nearest float of that size, ties to even, as a Python float."""
    precision, least, greatest = _FORMATS[item_bytes]
    if value == 0:
        return 0.0
    sign, value = (-1, -value) if value < 0 else (1, value)
    exponent = value.numerator.bit_length() - value.denominator.bit_length()
    if value < Fraction(2) ** exponent:
        exponent -= 1
    unit = max(exponent, least) - precision + 1
    mantissa = round(value / Fraction(2) ** unit)
    if Fraction(mantissa) * Fraction(2) ** unit >= Fraction(2) ** (greatest + 1):
        return sign * math.inf
    return sign * math.ldexp(mantissa, unit)


def round_sqrt(value, item_bytes):
    if value == 0:
        return 0.0
    shift = 160 + max(0, value.denominator.bit_length() - value.numerator.bit_length()) // 2 * 2
    scaled = value * Fraction(2) ** (2 * shift)
    whole = scaled.numerator // scaled.denominator
    root = math.isqrt(whole)
    exact = Fraction(root * root) == scaled
    return round_fraction(Fraction(2 * root + (not exact), 2 ** (shift + 1)), item_bytes)


def _real_sum(x):
    """Exact sum of finite numbers as a Fraction, or nan or an infinity as a float."""
    values = x.tolist()
    special = [v for v in values if not math.isfinite(v)]
    return sum(special) if special else sum((Fraction(v) for v in values), Fraction(0))


def _rounded(value, item_bytes):
    return value if isinstance(value, float) else round_fraction(value, item_bytes)


def _exact_float(op, x, ddof, item_bytes):
    n = x.size
    total = _real_sum(x)
    if op == "sum":
        return _rounded(total, item_bytes)
    if op == "mean":
        return math.nan if n == 0 else _rounded(total if isinstance(total, float) else total / n, item_bytes)
    if n == 0 or isinstance(total, float):
        return math.nan
    mean = total / n
    squares = sum(((Fraction(v) - mean) ** 2 for v in x.tolist()), Fraction(0))
    return _spread(op, squares, n, ddof, item_bytes)


def _spread(op, squares, n, ddof, item_bytes):
    if n <= ddof:
        return math.nan if squares == 0 else math.inf
    variance = squares / (n - ddof)
    return round_fraction(variance, item_bytes) if op == "var" else round_sqrt(variance, item_bytes)


def expected(op, a, ddof=0):
    """The answer of compute/OP as a NumPy scalar (an exact Python int for integer sums), or ValueError as NumPy has it."""
    x = a.ravel().astype(a.dtype.newbyteorder("="))
    kind = x.dtype.kind
    if op == "count":
        return np.int64(x.size)
    if op in ("any", "all"):
        return np.bool_(getattr(x.astype(bool), op)())
    if op in ("min", "max", "argmin", "argmax"):
        return getattr(x, op)()
    if kind in "biu":
        if op == "sum":
            return sum(map(int, x.tolist()))
        return np.float64(_exact_float(op, x.astype(object).astype(int) if kind == "b" else x, ddof, 8))
    if kind == "f":
        with np.errstate(over="ignore"):
            return x.dtype.type(_exact_float(op, x, ddof, x.dtype.itemsize))
    half = x.dtype.itemsize // 2
    if op in ("sum", "mean"):
        parts = [_exact_float(op, part, 0, half) for part in (x.real, x.imag)]
        return x.dtype.type(complex(*parts))
    real = np.dtype(f"f{half}").type
    if x.size == 0 or not all(map(cmath.isfinite, x.tolist())):
        return real(math.nan)
    squares = Fraction(0)
    for part in (x.real, x.imag):
        mean = _real_sum(part) / x.size
        squares += sum(((Fraction(v) - mean) ** 2 for v in part.tolist()), Fraction(0))
    return real(_spread(op, squares, x.size, ddof, half))


def parse(text, like):
    """The text of a view as the type of `like`."""
    assert text.endswith("\n") and text.count("\n") == 1, repr(text)
    text = text.strip()
    if isinstance(like, int):
        return int(text)
    if isinstance(like, np.bool_):
        return np.bool_({"True": True, "False": False}[text])
    if isinstance(like, np.integer):
        return type(like)(int(text))
    return type(like)(complex(text)) if isinstance(like, np.complexfloating) else type(like)(text)


def same(a, b):
    """Equal bits; any NaN is a NaN."""
    a, b = np.asarray(a), np.asarray(b)
    if a.dtype != b.dtype:
        return False
    if a.dtype.kind == "c":
        return same(a.real, b.real) and same(a.imag, b.imag)
    if a.dtype.kind == "f" and np.isnan(a) and np.isnan(b):
        return True
    return a.tobytes() == b.tobytes()


def document(a_dtype, shape, chunk, fill=0, **changes):
    """A zarr.json as a dict."""
    dtype = np.dtype(a_dtype)
    big = dtype.byteorder == ">"
    codec = {"name": "bytes"} | ({"configuration": {"endian": "big" if big else "little"}} if dtype.itemsize > 1 else {})
    return {"zarr_format": 3, "node_type": "array", "shape": list(shape), "data_type": ZARR_NAMES[dtype.str[1:]],
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(chunk)}},
            "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
            "fill_value": fill, "codecs": [codec], "attributes": {}} | changes
