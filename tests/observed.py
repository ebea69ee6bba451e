"""Which products a call really makes: a process that observes BLAS and the register tiles at work.

Compiled modules hand their C functions to each other in capsules, once, as they are imported.  Here the capsules
of ``sgemm``, of ``tile_product`` and of the tiles themselves are replaced before anybody has asked for them, by
ones that point to functions of Python.  These note their arguments and call the original.

Standard input has a list of calls, as JSON: ``algorithm``, ``shape`` (the fields of a ConvShape), ``n_threads``,
``options`` in place of some that the schedule chooses, ``operands`` (whether to note the elements of A, too), and
``multiply`` (whether to multiply at all).  The input is full of ones.  Standard output has a list of products for
each.  A call of which everything is multiplied must have the right answer.
"""

from __future__ import annotations

import ctypes
import json
import sys
from importlib.abc import MetaPathFinder
from importlib.machinery import PathFinder
from types import ModuleType
from typing import Any

import numpy as np

SIZE, POINTER, INT = ctypes.c_ssize_t, ctypes.c_void_p, ctypes.c_int
OBSERVED = {  # module: function: what it takes
    "scipy.linalg.cython_blas": {"sgemm": (POINTER,) * 13},
    "pymec.kernels.register_tiles.product": {
        "tile_product": (SIZE, SIZE, SIZE, POINTER, SIZE, POINTER, SIZE, INT, POINTER, SIZE)
    },
    "pymec.kernels.register_tiles.tile": {
        "multiply_tile": (POINTER, POINTER, SIZE, SIZE, POINTER, SIZE, POINTER, SIZE, POINTER, SIZE, INT),
        "multiply_row": (
            POINTER, SIZE, POINTER, SIZE, SIZE, SIZE, SIZE, POINTER, SIZE, POINTER, SIZE, POINTER, SIZE, INT,
        ),
    },
}  # fmt: skip

products: list[dict[str, Any]] = []
job: dict[str, Any] = {}
base: dict[str, int] = {}
kept: list[Any] = []  # what C points to


def integer(address: int) -> int:
    """The number that BLAS is given the address of."""
    return INT.from_address(address).value


def note(kind: str, m: int, n: int, k: int, adds: bool, A: int = 0, lda: int = 0, C: int = 0, B: int = 0) -> None:
    """Remember a product; addresses become elements from the beginning of their array on."""
    product = {"kind": kind, "m": m, "n": n, "k": k, "adds": bool(adds), "lda": lda}
    product |= {"A": (A - base["A"]) // 4, "B": (B - base["B"]) // 4, "C": (C - base["C"]) // 4}
    if job.get("operands"):
        rows = [np.ctypeslib.as_array((ctypes.c_float * k).from_address(A + 4 * i * lda)) for i in range(m)]
        product["operand"] = [row.astype(int).tolist() for row in rows]
    products.append(product)


def observe_sgemm(*arguments: int) -> None:
    """BLAS is column-major: it gets B as its first matrix."""
    _, _, n, m, k, _, B, _, A, lda, beta, C, _ = arguments
    adds = ctypes.c_float.from_address(beta).value != 0
    note("sgemm", integer(m), integer(n), integer(k), adds, A, integer(lda), C, B)


def observe_tile_product(m, n, k, A, lda, B, ldb, add, C, ldc) -> None:
    note("tile_product", m, n, k, add, A, lda, C, B)


def observe_multiply_tile(tile, pixel, runs, length, K, ldk, start, lds, C, ldc, relu) -> None:
    pixels, _, _, channels = (SIZE * 4).from_address(tile)
    note("tile", pixels, channels, runs * length, start is not None, 0, 0, C, K)


def observe_multiply_row(
    tile, tiles, pixel, step, runs, run_step, length, K, ldk, start, lds, C, ldc, relu
) -> None:
    pixels, _, _, channels = (SIZE * 4).from_address(tile)
    note("tile", pixels * tiles, channels, runs * length, start is not None, 0, 0, C, K)


def replace_capsules(module: ModuleType) -> None:
    """Put an observer in the place of each function that is observed, for single precision."""
    python = ctypes.pythonapi
    python.PyCapsule_GetName.restype, python.PyCapsule_GetName.argtypes = ctypes.c_char_p, [ctypes.py_object]
    python.PyCapsule_GetPointer.restype = POINTER
    python.PyCapsule_GetPointer.argtypes = [ctypes.py_object, ctypes.c_char_p]
    python.PyCapsule_New.restype = ctypes.py_object
    python.PyCapsule_New.argtypes = [POINTER, ctypes.c_char_p, POINTER]
    capsules = module.__pyx_capi__
    for function, takes in OBSERVED[module.__name__].items():
        observer = globals()[f"observe_{function}"]
        names = [name for name in capsules if name in (function, f"__pyx_fuse_0{function}")]
        names += [name for name in capsules if name.startswith(f"{function}[const float ")]
        for name in names:
            signature = python.PyCapsule_GetName(capsules[name])
            prototype = ctypes.CFUNCTYPE(None, *takes)
            original = prototype(python.PyCapsule_GetPointer(capsules[name], signature))

            def observed(*arguments, observer=observer, original=original):
                observer(*arguments)
                if job.get("multiply", True):
                    original(*arguments)

            pointer = prototype(observed)
            kept.extend((pointer, signature))
            capsules[name] = python.PyCapsule_New(ctypes.cast(pointer, POINTER), signature, None)


class Observers(MetaPathFinder):
    """Replaces the capsules of a module as soon as it is imported."""

    def find_spec(self, name, path, target=None):
        """The usual spec of an observed module, whose loader does a little more."""
        if name not in OBSERVED:
            return None
        spec = PathFinder.find_spec(name, path)
        execute = spec.loader.exec_module

        def exec_module(module):
            execute(module)
            replace_capsules(module)

        spec.loader.exec_module = exec_module
        return spec


def call() -> list[dict[str, Any]]:
    """Make one call and return its products."""
    from pymec import ConvShape, reference, registry

    shape, n_threads = ConvShape(**job["shape"]), job["n_threads"]
    row = registry.get(job["algorithm"])
    schedule = row.schedule(shape, n_threads, None)
    options = {**schedule.options, **job.get("options", {})}
    x, kernel = np.ones(shape.input_shape, np.float32), np.zeros(shape.kernel_shape, np.float32)
    kernel.ravel()[:] = np.arange(kernel.size) % 7
    out = np.full(shape.output_shape, np.nan, np.float32)
    workspace = np.full(schedule.size, np.nan, np.float32)
    if row.prepare:
        options["prepared"], workspace = workspace[: schedule.prepared], workspace[schedule.prepared :]
        row.prepare(kernel, options["prepared"], shape, n_threads, **schedule.options)
    matrix = workspace if workspace.size else x
    base.update(A=matrix.ctypes.data, C=out.ctypes.data, B=options.get("prepared", kernel).ctypes.data)
    products.clear()
    row.run(x, kernel, out, workspace, shape, n_threads, **options)
    if job.get("multiply", True):
        expected = reference.conv2d(x, kernel, shape)
        assert np.all(np.abs(out - expected) <= row.error_bound(x, kernel, shape)), f"wrong answer: {job}"
    return list(products)


def main() -> None:
    """Answer all of standard input."""
    sys.meta_path.insert(0, Observers())
    answers = []
    for one in json.load(sys.stdin):
        job.clear()
        job.update(one)
        answers.append(call())
    json.dump(answers, sys.stdout)


if __name__ == "__main__":
    main()
