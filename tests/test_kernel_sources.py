"""What the kernels' sources may not hold: allocations, BLAS by another door, names with two meanings."""

import re
from pathlib import Path

import pytest

import pymec

KERNELS = Path(pymec.__file__).parent / "kernels"
SOURCES = sorted(KERNELS.glob("*/*.pyx"))


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_kernel_files_are_short_and_allocate_nothing(source):
    text = source.read_text()
    template = source.with_name(f"{source.name}.in")  # the template, if there is one, is what people read
    assert len((template if template.exists() else source).read_text().splitlines()) <= 300
    assert not re.search(r"\b(malloc|calloc|realloc|alloca|PyMem_\w+|np\.(empty|zeros))\b", text)


def test_only_one_module_calls_blas():
    users = [
        path.stem
        for path in KERNELS.glob("*/*")
        if path.name.endswith((".py", ".pyx", ".pxd", ".pyx.in"))
        and re.search(r"cimport.*cython_blas|cython_blas cimport", path.read_text())
    ]
    assert set(users) <= {"blas", "_blas_int"}
    assert "blas" in users


def test_a_struct_name_has_one_meaning():
    texts = [path.read_text() for path in KERNELS.rglob("*") if path.name.endswith((".pyx", ".pxd", ".pyx.in"))]
    names = [name for text in texts for name in re.findall(r"^cdef struct (\w+)", text, re.MULTILINE)]
    written = [path for path in KERNELS.rglob("*.pyx") if path.with_name(f"{path.name}.in").exists()]
    assert not any("cdef struct" in path.read_text() for path in written), "a struct counted twice"
    assert len(names) > 20
    assert len(names) == len(set(names))


def test_a_measured_number_has_one_meaning():
    text = (KERNELS / "shared" / "machine.py").read_text()
    names = re.findall(r"^([A-Z][A-Z0-9_]*)(?:: \w+)? = ", text, re.MULTILINE)
    assert len(names) > 40
    assert len(names) == len(set(names))
