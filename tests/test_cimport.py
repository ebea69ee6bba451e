"""A package of somebody else's that cimports pymec's C functions, built with Cython's own defaults."""

import os
import subprocess
import sys
from pathlib import Path

import pymec

KERNELS = Path(pymec.__file__).parent / "kernels"

SETUP = """
from Cython.Build import cythonize
from setuptools import Extension, setup
setup(ext_modules=cythonize([Extension("downstream", ["downstream.pyx"])]))
"""

DOWNSTREAM = """# cython: language_level=3
from pymec.kernels.shared.blas cimport gemm_rowmajor
from pymec.kernels.shared.geometry cimport Geometry, geometry
from pymec.kernels.shared.spans cimport Span, inside, share_of

{all_of_them}

def product(const double[:, ::1] A, const double[:, ::1] B, double[:, ::1] C):
    with nogil:
        gemm_rowmajor(A.shape[0], B.shape[1], A.shape[1], &A[0, 0], A.shape[1], &B[0, 0], B.shape[1], <double> 0,
                      &C[0, 0], C.shape[1])

def output_size(shape):
    cdef Geometry g = geometry(shape)
    return g.o_h, g.o_w

def columns_inside(offset, step, extent, count):
    cdef Span span = inside(offset, step, extent, count)
    return span.first, span.end

def share(count, i, shares):
    cdef Span span = share_of(count, i, shares)
    return span.first, span.end
"""

USE = """
import downstream, numpy as np, pymec
A, B = np.arange(6.0).reshape(2, 3), np.arange(12.0).reshape(3, 4)
C = np.full((2, 4), np.nan)
downstream.product(A, B, C)
assert (C == A @ B).all()
assert downstream.output_size(pymec.ConvShape.from_shapes((1, 9, 8, 2), (3, 3, 2, 4), stride=2)) == (4, 3)
assert downstream.columns_inside(-3, 2, 9, 100) == (2, 6)
assert downstream.share(10, 1, 3) == (3, 6)
"""


def test_every_pxd_compiles_elsewhere(tmp_path):
    modules = sorted(f"pymec.kernels.{path.parent.name}.{path.stem}" for path in KERNELS.glob("*/*.pxd"))
    assert len(modules) > 20
    (tmp_path / "setup.py").write_text(SETUP)
    (tmp_path / "downstream.pyx").write_text(
        DOWNSTREAM.format(all_of_them="\n".join(f"cimport {module}" for module in modules))
    )
    # An editable pymec is found by a hook of Python's imports, which Cython does not ask.
    environment = {**os.environ, "PYTHONPATH": str(KERNELS.parent.parent), "CFLAGS": "-O0"}
    for command in ["setup.py", "build_ext", "--inplace"], ["-c", USE]:
        done = subprocess.run(
            [sys.executable, *command], cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
