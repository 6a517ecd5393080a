"""The unit tests in C, each a program that exits with 0."""

import cluster as cl
import pytest

SOURCES = sorted((cl.REPO / "tests" / "unit").glob("test_*.c"))


@pytest.mark.parametrize("source", SOURCES, ids=lambda p: p.stem)
def test_unit(source, tmp):
    cl.run(cl.BUILD / "unit" / source.stem, check=0, timeout=120, cwd=tmp)
