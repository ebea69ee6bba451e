"""No Python inside the kernels: Cython's own annotation, read line by line.  ``make lint`` runs this file."""

import html
import re
import shutil
from pathlib import Path

import pytest
import scipy
from Cython.Build import cythonize

import pymec

KERNELS = Path(pymec.__file__).parent / "kernels"
SOURCES = sorted(KERNELS.glob("*/*.pyx"))
DIRECTIVES = {
    "language_level": 3, "boundscheck": False, "wraparound": False, "initializedcheck": False, "cdivision": True,
}  # fmt: skip


@pytest.fixture(scope="module")
def copied(tmp_path_factory):
    """A copy of the sources, to put annotated pages beside."""
    root = tmp_path_factory.mktemp("annotated")
    package = root / "pymec"
    shutil.copytree(
        KERNELS, package / "kernels", ignore=shutil.ignore_patterns("*.so", "*.c", "*.html", "__pycache__")
    )
    (package / "__init__.py").touch()
    pxi = package / "kernels" / "shared" / "_blas_int.pxi"
    # Written at build time, not installed, perhaps for the SciPy of another environment: as setup.py does it.
    exported = "blas_int" in (Path(scipy.__file__).parent / "linalg" / "cython_blas.pxd").read_text()
    pxi.write_text("from scipy.linalg.cython_blas cimport blas_int\n" if exported else "ctypedef int blas_int\n")
    return root


def annotated(root, source):
    """The annotated page of one kernel."""
    kernel = Path("pymec", "kernels", source.relative_to(KERNELS))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        cythonize([str(kernel)], annotate=True, quiet=True, compiler_directives=DIRECTIVES)
    return root / kernel.with_suffix(".html")


def scores(page):
    """Line number -> score: how many calls into Python a line makes."""
    lines = re.findall(r'<pre class="cython line score-(\d+)"[^>]*>(.*?)</pre>', page, re.DOTALL)
    found = {}
    for score, text in lines:
        number = re.match(r"[+\s]*(\d+)", html.unescape(re.sub(r"<[^>]+>", "", text)))
        found[int(number[1])] = int(score)
    return found


def nogil_lines(source):
    """Numbers of the lines inside ``nogil`` functions and ``with nogil`` blocks, heads not counted."""
    inside, head = None, False
    for number, line in enumerate(source.splitlines(), 1):
        code = line.split("#")[0].rstrip()
        if not code:
            continue
        indent = len(code) - len(code.lstrip())
        if inside is not None and indent <= inside and not head:
            inside = None
        head = False
        if inside is None:
            if re.search(r"\bnogil:$", code):
                # a signature over several lines ends in ") noexcept nogil:", at its own indent
                inside = indent
        else:
            yield number, line


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_no_python_inside_nogil(copied, source):
    page = annotated(copied, source)
    found = scores(page.read_text())
    guilty = [line for number, line in nogil_lines(source.read_text()) if found.get(number, 0)]
    assert not guilty
    assert max(found.values()) > 0, "a page without any score was not read rightly"


def test_the_reader_of_pages_finds_python():
    source = "cdef void f() noexcept nogil:\n    g()\n\n    with gil:\n        print(1)\ndef h():\n    x()\n"
    assert [number for number, _ in nogil_lines(source)] == [2, 4, 5]


def test_kernels_have_work_without_the_gil():
    counted = sum(1 for source in SOURCES for _ in nogil_lines(source.read_text()))
    assert counted > 150
