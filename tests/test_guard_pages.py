"""No algorithm touches a byte before or behind an array: pages that may not be touched lie at both ends."""

import ctypes
import mmap
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from geometries import shapes
from hypothesis import given, settings
from hypothesis import strategies as st

import pymec
from pymec import registry
from pymec.layouts import outer_extents
from pymec.operations import OPERATIONS

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="mprotect is called through Linux's libc")

EXAMPLES = max(1, settings.default.max_examples // 5)


class Guarded:
    """Memory between two pages without access: arrays begin behind the first, or end before the second."""

    def __init__(self, nbytes):
        page = mmap.PAGESIZE
        room = -(-max(nbytes, 1) // page) * page
        self.pages = mmap.mmap(-1, room + 2 * page)
        self.first = ctypes.addressof(ctypes.c_char.from_buffer(self.pages)) + page
        self.last = self.first + room
        libc = ctypes.CDLL(None, use_errno=True)
        for address in (self.first - page, self.last):
            if libc.mprotect(ctypes.c_void_p(address), ctypes.c_size_t(page), 0):
                raise OSError(ctypes.get_errno(), "mprotect")

    def array(self, extents, dtype, at_end):
        size = int(np.prod(extents))
        address = self.last - size * np.dtype(dtype).itemsize if at_end else self.first
        array = np.frombuffer((ctypes.c_char * (size * np.dtype(dtype).itemsize)).from_address(address), dtype)
        array.flags.writeable = True
        return array.reshape(extents)


def guarded(array, at_end, kept):
    """A copy of the array beside a page without access."""
    memory = Guarded(array.nbytes)
    kept.append(memory)
    copy = memory.array(array.shape, array.dtype, at_end)
    copy[...] = array
    return copy


@given(shape=shapes(), n_threads=st.integers(1, 3), at_end=st.booleans(), seed=st.integers(0, 2**32 - 1))
def every_algorithm_between_guard_pages(shape, n_threads, at_end, seed):
    """Every algorithm of every operation on one shape; a byte too far ends the process."""
    rng = np.random.default_rng(seed)
    kept = []
    bias = guarded(rng.standard_normal(shape.k_c).astype(shape.dtype), at_end, kept)
    for layout in ("NHWC", "NCHW"):
        seen = replace(shape, layout=layout)
        arrays, results = (
            {
                role: guarded(rng.standard_normal(outer_extents(role, seen)).astype(shape.dtype), at_end, kept)
                for role in ("input", "kernel", "output")
            }
            for _ in range(2)
        )
        for operation in OPERATIONS.values():
            for row in registry.TABLES[operation.name].values():
                if row.unsupported(shape) is None and row.reading(shape).layout == layout:
                    print(operation.name, row.name, n_threads, at_end, shape, file=sys.stderr, flush=True)
                    first, second, result = (arrays[role] for role in operation.roles)
                    options = {"algorithm": row.name, "n_threads": n_threads, "layout": layout, **shape.arguments}
                    nbytes = pymec.workspace_size(
                        arrays["input"].shape, arrays["kernel"].shape, operation=operation.name, dtype=shape.dtype,
                        **options,
                    )  # fmt: skip
                    options["workspace"] = guarded(np.empty(nbytes, np.uint8), at_end, kept)
                    options["out"] = results[operation.result]
                    if operation.name == "conv2d":
                        pymec.conv2d(first, second, bias, activation="relu", **options)
                    else:
                        getattr(pymec, operation.name)(first, second, result.shape, **options)


def in_a_process(code, folder_to_run_in):
    """Run code beside these tests in a process of its own, which a byte too far may end."""
    folder = os.path.dirname(os.path.abspath(__file__))
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {folder!r})\n{code}"]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder_to_run_in)


def test_the_guard_guards(tmp_path):
    for index, at_end in ((-1, False), (16, True)):
        done = in_a_process(
            f"import ctypes, test_guard_pages as t\n"
            f"array = t.Guarded(64).array((16,), 'float32', {at_end})\n"
            f"array[:] = 1\n"
            f"ctypes.c_float.from_address(array.ctypes.data + 4 * {index}).value = 2\n",
            tmp_path,
        )
        assert done.returncode < 0


def test_no_algorithm_leaves_its_arrays(tmp_path):
    done = in_a_process(
        "import conftest, test_guard_pages as t\n"
        "from hypothesis import settings\n"
        f"settings(max_examples={EXAMPLES}, database=None)(t.every_algorithm_between_guard_pages)()\n",
        tmp_path,
    )
    calls = done.stderr.splitlines()
    assert done.returncode == 0, "\n".join(calls[-20:])
    assert len(calls) > 10 * EXAMPLES


def test_lines_of_small_groups_end_with_the_image(tmp_path):
    """A vector of 16 outputs of three-channel groups begins less than 16 channels before the image's end."""
    done = in_a_process(
        "import numpy as np, pymec, test_guard_pages as t\n"
        "kept = []\n"
        "x = t.guarded(np.ones((1, 3, 9, 24), np.float32), True, kept)\n"
        "kernel = t.guarded(np.ones((3, 3, 3, 32), np.float32), True, kept)\n"
        "pymec.conv2d(x, kernel, groups=8, algorithm='direct_grouped')\n"
        "grad = t.guarded(np.ones((1, 1, 7, 24), np.float32), True, kept)\n"
        "kernel = t.guarded(np.ones((3, 3, 4, 24), np.float32), True, kept)\n"
        "pymec.conv2d_input_grad(grad, kernel, (1, 3, 9, 32), groups=8, algorithm='direct_grouped')\n",
        tmp_path,
    )
    assert done.returncode == 0, done.stderr
