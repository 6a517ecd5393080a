"""wave.py write DATA - fills a 1024 x 131072 float64 array, slab by slab.
wave.py compare DATA.NPY MEAN - the mean of slabfs beside NumPy's."""

import math
import sys
import time

import numpy as np

ROWS, COLUMNS, SLAB = 1024, 131072, 16


def write(path):
    x = np.linspace(0, 8 * np.pi, COLUMNS)
    start = time.monotonic()
    with open(path, "r+b", buffering=0) as f:
        for row in range(0, ROWS, SLAB):
            t = np.arange(row, row + SLAB)[:, None]
            slab = memoryview(np.ascontiguousarray(280 + 15 * np.sin(x + t / 50) * np.cos(t / 200), "<f8")).cast("B")
            while slab:
                slab = slab[f.write(slab):]
            if sys.stdout.isatty() or row + SLAB == ROWS:
                print(f"\r      {100 * (row + SLAB) // ROWS:3d} %", end="", flush=True)
    seconds = time.monotonic() - start
    print(f", {ROWS * COLUMNS * 8 / seconds / 1e6:.0f} MB/s")


def compare(path, text):
    a = np.load(path, mmap_mode="r")
    start = time.monotonic()
    numpy_mean = a.mean()
    seconds = time.monotonic() - start
    print(f"      slabfs {float(text)!r}   NumPy {float(numpy_mean)!r} ({seconds:.2f} s, reading the array)")
    if not math.isclose(float(text), numpy_mean, rel_tol=1e-12):
        sys.exit("      they differ by more than rounding")


if __name__ == "__main__":
    {"write": write, "compare": compare}[sys.argv[1]](*sys.argv[2:])
