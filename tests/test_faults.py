"""Every allocation of every call fails once: MemoryError, nothing written or kept, and the next call is right."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

FAILING_MALLOC = r"""
// The C library's malloc and its kin; once armed, the n-th call of this thread for a block of some size fails.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stddef.h>

static __thread long countdown = 0;
static const size_t SMALLEST = 1 << 16;  // arrays, not objects; NumPy's iterators crash without their 32 KiB

void arm(long n) { countdown = n; }
long disarm(void) { long left = countdown; countdown = 0; return left; }

static int fails(size_t size) { return size >= SMALLEST && countdown > 0 && --countdown == 0; }

void *malloc(size_t size) {
    static void *(*real)(size_t) = NULL;
    if (!real) real = dlsym(RTLD_NEXT, "malloc");
    return fails(size) ? NULL : real(size);
}

void *realloc(void *block, size_t size) {
    static void *(*real)(void *, size_t) = NULL;
    if (!real) real = dlsym(RTLD_NEXT, "realloc");
    return fails(size) ? NULL : real(block, size);
}

extern void *__libc_calloc(size_t, size_t);  // dlsym itself calls calloc
void *calloc(size_t count, size_t size) { return fails(count * size) ? NULL : __libc_calloc(count, size); }

int posix_memalign(void **block, size_t alignment, size_t size) {
    static int (*real)(void **, size_t, size_t) = NULL;
    if (!real) real = dlsym(RTLD_NEXT, "posix_memalign");
    return fails(size) ? 12 : real(block, alignment, size);
}

void *aligned_alloc(size_t alignment, size_t size) {
    static void *(*real)(size_t, size_t) = NULL;
    if (!real) real = dlsym(RTLD_NEXT, "aligned_alloc");
    return fails(size) ? NULL : real(alignment, size);
}
"""

EVERY_CALL = """
import ctypes, gc, sys
import numpy as np
import pymec
from cases import suited
from pymec import ConvShape, registry

library = ctypes.CDLL(None)
failures = 0


def resident():
    with open("/proc/self/statm") as pages:
        return int(pages.read().split()[1]) * 4096


def every_allocation_fails_once(call, out, workspace, name):
    global failures
    expected = call().copy()
    for n in range(1, 200):
        for array in (out, workspace):
            array.fill(7)
        library.arm(n)
        try:
            call()
        except MemoryError as error:
            left = library.disarm()
            told = error
        else:
            left = library.disarm()
            if left:  # the call made fewer allocations than this: all have failed once
                break
            np.testing.assert_array_equal(out, expected)  # it did without: NumPy and SciPy may
            continue
        failures += 1
        # Fourier transforms ask for memory while they run, and have written their workspace by then.
        # fft_lean asks for every output channel anew.
        kept = [(out == 7).all() or name == "fft_lean", (workspace == 7).all() or name.startswith("fft")]
        if not all(kept):
            raise AssertionError(f"{name} has written before allocation {n} failed") from told
        del told
        np.testing.assert_array_equal(call(), expected)
    else:
        sys.exit(f"{name} allocates 200 times")
    assert n > 0


for operation, table in registry.TABLES.items():
    for name in table:
        x_shape = (1, 32, 33, 16)
        if operation == "conv2d":
            kernel_shape, groups = suited(name, x_shape, 32)
        else:
            small = name in ("direct_grouped", "depthwise")
            kernel_shape, groups = ((3, 3, 1, 16), 16) if small else ((3, 3, 16, 32), 1)
        stride = 2 if name == "depthwise" else 1
        shape = ConvShape.from_shapes(x_shape, kernel_shape, groups=groups, stride=stride)
        if registry.get(name, operation).unsupported(shape):
            raise SystemExit(f"no shape for {name}")
        rng = np.random.default_rng(0)
        x, kernel, grad_out = (
            rng.standard_normal(extents, np.float32)
            for extents in (shape.input_shape, shape.kernel_shape, shape.output_shape)
        )
        nbytes = pymec.workspace_size(
            x_shape, kernel_shape, algorithm=name, operation=operation, n_threads=2, **shape.arguments
        )
        options = {"algorithm": name, "n_threads": 2, **shape.arguments}
        function, operands, result = {
            "conv2d": (pymec.conv2d, (x, kernel), shape.output_shape),
            "conv2d_input_grad": (pymec.conv2d_input_grad, (grad_out, kernel, x_shape), x_shape),
            "conv2d_kernel_grad": (pymec.conv2d_kernel_grad, (x, grad_out, kernel_shape), kernel_shape),
        }[operation]
        out, workspace = np.empty(result, np.float32), np.empty(nbytes, np.uint8)
        # once with arrays of the caller's, once with arrays that the call allocates
        every_allocation_fails_once(
            lambda: function(*operands, out=out, workspace=workspace, **options), out, workspace, name
        )
        every_allocation_fails_once(lambda: function(*operands, out=out, **options), out, np.empty(0), name)
        before = failures
        kept = resident()
        for _ in range(50):
            library.arm(1)
            try:
                function(*operands, **options)
            except MemoryError:
                failures += 1
            library.disarm()
        gc.collect()
        assert failures - before == (50 if max(out.nbytes, nbytes) >= 2**16 else 0), name
        assert resident() - kept < 2**20, (name, resident() - kept)
print(failures)
"""


@pytest.mark.skipif(
    sys.platform != "linux" or not shutil.which("cc"), reason="needs Linux's loader and a C compiler"
)
def test_every_allocation_fails_once(tmp_path):
    source, library = tmp_path / "failing.c", tmp_path / "failing.so"
    source.write_text(FAILING_MALLOC)
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", str(source), "-o", str(library), "-ldl"], check=True)
    tests = Path(__file__).parent
    environment = {
        **os.environ, "LD_PRELOAD": str(library),
        "PYTHONPATH": os.pathsep.join(filter(None, [str(tests), os.environ.get("PYTHONPATH")])),
    }  # fmt: skip
    command = [sys.executable, "-c", EVERY_CALL]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 2000
