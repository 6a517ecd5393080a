#!/usr/bin/python3
"""Writes npy_headers.h and texts.h: what NumPy 1.24 and Python say, for the unit tests to compare with."""
import io
import os
import struct

import numpy as np

HERE = os.path.dirname(os.path.abspath(__file__))
DTYPES = ["|b1", "|i1", "<i2", "<i4", "<i8", "|u1", "<u2", "<u4", "<u8", "<f2", "<f4", "<f8", "<c8", "<c16"]


def header(descr, fortran, shape):
    out = io.BytesIO()
    np.lib.format.write_array_header_1_0(out, {"descr": descr, "fortran_order": fortran, "shape": shape})
    return out.getvalue()


def npy_headers():
    shapes = [(), (0,), (1,), (3,), (3, 4), (3, 0, 4), (10**6, 1), (2**63 - 1,), (7,) * 5, (1,) * 32, (10**18, 9) + (1,) * 12]
    cases = [(d, False, (12, 5)) for d in DTYPES] + [(">f8", False, (3,)), (">c8", True, (3, 4)), (">u2", False, ())]
    cases += [("<f8", f, s) for s in shapes for f in (False, True)]
    # Every length of the dict modulo the alignment.
    cases += [("|u1", False, (5,) + (10**k,) + (1,) * r) for k in range(3) for r in range(23)]
    for descr, fortran, shape in cases:
        text = header(descr, fortran, shape).hex()
        lengths = ", ".join(str(n) + "u" for n in shape) or "0"
        yield f'\t{{ "{descr}", {str(fortran).lower()}, {len(shape)}, {{ {lengths} }},\n\t  "{text}" }},\n'


def bits_of(value, dtype):
    return int.from_bytes(np.array(value, dtype).tobytes(), "little")


def float_texts():
    doubles = [0.0, -0.0, 1.0, -3.0, 0.1, 1 / 3, 1e15, 1e16, 123456789012345680.0, 1e-4, 1e-5, 0.00012345, 5e-324, 1e22, 1e23,
               1.7976931348623157e308, 2.0**-44, 2.0**-1074, 9007199254740993.0, float("inf"), float("-inf"), float("nan"), 2.5e-5]
    doubles += [struct.unpack("<d", struct.pack("<Q", (i * 0x9E3779B97F4A7C15) % 2**64))[0] for i in range(1, 60)]
    for v in doubles:
        yield "DTYPE_FLOAT64", bits_of(v, "f8"), 0, repr(v)
    for v, text in [(0.1, "0.1"), (1.0, "1.0"), (16777216, "16777216.0"), (1e16, "1e+16"), (1 / 3, "0.33333334"),
                    (3.4028235e38, "3.4028235e+38"), (1e-45, "1e-45"), (-2.5, "-2.5"), (0.3, "0.3")]:
        assert np.float32(text) == np.float32(v)
        yield "DTYPE_FLOAT32", bits_of(v, "f4"), 0, text
    for v, text in [(0.1, "0.1"), (65504, "65500.0"), (6e-8, "6e-08"), (1 / 3, "0.3333"), (2049, "2048.0"), (float("nan"), "nan")]:
        yield "DTYPE_FLOAT16", bits_of(v, "f2"), 0, text
    parts = [0.0, -0.0, 1.0, -1.5, float("inf"), float("-inf"), float("nan"), 1e16, 1e-5]
    for re in parts:
        for im in parts:
            yield "DTYPE_COMPLEX128", bits_of(re, "f8"), bits_of(im, "f8"), repr(complex(re, im))


def main():
    with open(os.path.join(HERE, "npy_headers.h"), "w") as out:
        out.writelines(npy_headers())
    with open(os.path.join(HERE, "texts.h"), "w") as out:
        for dtype, lo, hi, text in float_texts():
            out.write(f'\t{{ {dtype}, {{ .words = {{ 0x{lo:x}u, 0x{hi:x}u }} }}, "{text}" }},\n')


if __name__ == "__main__":
    main()
