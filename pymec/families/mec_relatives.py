"""Relatives of MEC: the other axis, smaller tiles, other ways to multiply the windows."""

from __future__ import annotations

from pymec.families._row import Algorithm, Schedule, blas_limit
from pymec.kernels import mec_w
from pymec.shapes import ConvShape
from pymec.threads import blas_multiplies_small_products_unpacked

_MEC = "Cho & Brand, MEC: Memory-efficient Convolution for Deep Neural Network, ICML 2017"


def _mec_w_limit(shape: ConvShape) -> str | None:
    return blas_limit(
        GEMM_row_count=shape.i_n * shape.o_h,
        GEMM_leading_dimension=max(
            max(shape.lowered_columns(), shape.k_w) * shape.k_h * shape.i_cg, shape.o_w * shape.k_c
        ),
    )


def _mec_w(shape: ConvShape, n_threads: int, limit: int | None) -> Schedule:
    lowered = 0 if shape.is_row_of_taps else shape.mec_w_size
    permuted = shape.permuted_kernel_size
    return Schedule(permuted + lowered, {"cut": blas_multiplies_small_products_unpacked()}, permuted)


ROWS = (
    Algorithm(
        name="mec_w",
        idea="MEC's transposed twin: o_w products of i_n·o_h rows, n-h-w-c for any batch",
        source=f"ours, after {_MEC}",
        formula="i_n·o_h·r_w·k_h·i_c + k_h·k_w·i_c/G·k_c, the latter kept by a plan",
        order="k",
        unsupported=_mec_w_limit,
        schedule=_mec_w,
        run=mec_w.run,
        prepare=mec_w.prepare,
        ours=True,
    ),
)
