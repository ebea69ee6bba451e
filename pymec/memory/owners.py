"""Who asked for a block of memory: read from the Python stack, and from the native stack where that says nothing.

The innermost frames decide.  A block that NumPy asks for inside :func:`pymec.workspace.allocate_workspace` is
pymec's workspace, the same block asked for by a line of the user's is NumPy's.
"""

from __future__ import annotations

import os
import sysconfig
from collections.abc import Sequence
from functools import cache
from pathlib import Path, PurePath
from typing import Any, NamedTuple

OWNERS = {
    "workspace": "pymec: workspace",
    "output": "pymec: outputs",
    "plans": "pymec: kernels that plans keep",
    "blas": "BLAS",
    "fft": "Fourier transforms",
    "numpy": "NumPy",
    "torch": "PyTorch",
    "python": "Python's objects",
    "other": "other",
}
"""Every owner, and what a table calls it."""

ALLOCATORS = {"allocate_workspace": "workspace", "allocate_output": "output"}
"""The functions of :mod:`pymec.workspace`, and what is made in them."""

SMALL_BYTES = 4096
"""The owner of smaller blocks is read from the Python stack alone: to read a process's symbols takes a second."""

_PACKAGE = Path(__file__).parent.parent
_INSTALLED = ("site-packages", "dist-packages")
_KEPT = str(_PACKAGE / "kept_kernels.py")
_WORKSPACE = str(_PACKAGE / "workspace.py")
_NATIVE = (
    ("gemm_rowmajor", "blas"),
    ("openblas", "blas"),
    ("blas_memory_alloc", "blas"),
    ("blas_thread", "blas"),
    ("cblas_", "blas"),
    ("gemm_thread", "blas"),
    ("pocketfft", "fft"),
    ("c10::", "torch"),
    ("at::", "torch"),
    ("PyDataMem", "numpy"),
    ("npy_alloc", "numpy"),
)
"""What a native stack is searched for, in this order: BLAS is called by NumPy, too, and arrays are made by all."""

_FOURIER = str(_PACKAGE / "kernels" / "fourier") + os.sep

_UFUNCS = ("_matmul", "PyUFunc_")
"""The innermost functions of what a ufunc asks for itself, as a copy of what BLAS can't take as it lies."""

_PYTHONS_OWN = ("PyObject_", "PyMem_", "PyUnicode_New", "list_resize", "dictresize")

Frame = tuple[str, str, int]


class Line(NamedTuple):
    """A line of somebody's program."""

    file: str
    number: int
    function: str

    def __str__(self) -> str:
        return f"{PurePath(self.file).name}:{self.number}" if self.number else self.file


NOBODY = Line("(no line of the program)", 0, "")
"""Of blocks that nothing but a library asks for: its threads have no Python stack, or one of packages alone."""


def owner_of(stack: Sequence[Frame], symbols: Sequence[str]) -> str:
    """A key of :data:`OWNERS`.

    Parameters
    ----------
    stack : frames (function, file, line)
        Python's, the innermost first.
    symbols : names of functions
        The native stack's, the innermost first; may be empty, if the Python stack is to decide alone.
    """
    function, file, _ = stack[0] if stack else ("", "", 0)
    if file == _WORKSPACE and function in ALLOCATORS:
        return ALLOCATORS[function]
    if file == _KEPT:
        return "plans"
    calling = next((file for _, file, _ in stack if package_of(file) != "numpy"), "")
    if calling.startswith(_FOURIER) or (package_of(calling) == "scipy" and "fft" in PurePath(calling).parts):
        return "fft"
    for part, owner in _NATIVE:
        if any(part in symbol for symbol in symbols):
            return owner
    if package_of(file) in ("numpy", "torch"):
        return package_of(file)
    if any(part in symbol for symbol in symbols[:2] for part in _UFUNCS):
        return "numpy"
    if any(own in symbol for symbol in symbols[:6] for own in _PYTHONS_OWN):
        return "python"
    return "other"


def line_of(stack: Sequence[Frame]) -> Line:
    """The innermost line that is the user's own: of no installed package, nor of Python's library or pymec."""
    for function, file, number in stack:
        if is_users(file):
            return Line(file, number, function)
    return NOBODY


@cache
def package_of(file: str) -> str:
    """The installed package that a file belongs to, or nothing."""
    parts = PurePath(file).parts
    return next((parts[i + 1] for i in range(len(parts) - 1) if parts[i] in _INSTALLED), "")


@cache
def is_users(file: str) -> bool:
    """Whether a file is the user's own: not installed, nor a part of Python."""
    paths = sysconfig.get_paths()
    folders = [paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")] + [str(_PACKAGE)]
    return not (package_of(file) or file.startswith(("<frozen", *(folder + os.sep for folder in folders))))


def symbols_of(record: Any) -> list[str]:
    """The names of the native functions on the way to a block; none if the record has no native stacks."""
    return [symbol for symbol, _, _ in record.native_stack_trace()]
