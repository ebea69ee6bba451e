"""The table's rows of the paper's algorithms and of ours after them: tuned, in bands, in tiles, transposed.

Each row says which shapes it can do, what workspace it takes, and hands its kernel the solution and the blocking.
How bands and tiles are sized: ``bands.py``.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from pymec.algorithm import Algorithm, Schedule, any_shape, blas_limit
from pymec.kernels.mec import banded, column_bands, im2win, paper, split, transposed, tuned
from pymec.kernels.mec.bands import banded_schedule, channel_split_schedule, column_split_schedule
from pymec.kernels.register_tiles.schedule import gemm_blocking, preferred_multiply
from pymec.kernels.shared.arrays import Array
from pymec.kernels.shared.machine import T_PAPER, T_TUNED
from pymec.shapes import ConvShape

PAPER = "Cho & Brand, MEC: Memory-efficient Convolution for Deep Neural Network, ICML 2017"


# As published -------------------------------------------------------------------------------------------


def _not_in_the_paper(shape: ConvShape) -> str | None:
    """The reason why the paper's algorithms can't do a shape, if they can't."""
    if shape.d_h > 1 or shape.d_w > 1:
        return f"its dilation is {shape.d_h}×{shape.d_w} and the paper's algorithms have none; mec takes any"
    if shape.groups > 1:
        return f"it has {shape.groups} groups and the paper's algorithms have none; mec takes any"
    return blas_limit(
        GEMM_row_count=shape.o_w,
        GEMM_leading_dimension=(shape.i_h + shape.p_t + shape.p_b) * shape.k_w * shape.i_c,
        GEMM_column_count=shape.k_c,
    )


def _paper_a_limit(shape: ConvShape) -> str | None:
    return _not_in_the_paper(shape) or blas_limit(GEMM_row_count=shape.i_n * shape.o_w)


def _paper_limit(shape: ConvShape) -> str | None:
    return _paper_a_limit(shape) if paper.choose_solution(shape) == "A" else _not_in_the_paper(shape)


def _paper(shape: ConvShape, n_threads: int, limit: int | None) -> Schedule:
    return Schedule(shape.paper_mec_size)


def _paper_vanilla(shape: ConvShape, n_threads: int, limit: int | None) -> Schedule:
    return Schedule(shape.single_image().paper_mec_size)


def _paper_a(shape: ConvShape, n_threads: int, limit: int | None) -> Schedule:
    repaired = shape.output_size if shape.i_n > 1 else 0
    return Schedule(max(shape.paper_mec_size, repaired))


# Tuned --------------------------------------------------------------------------------------------------


def choose_solution(shape: ConvShape, T: int = T_TUNED) -> Literal["A", "B"]:
    """Line 8 for the L of ``mec``: ``"A"`` if o_w <= T and \\|O\\| <= \\|L\\|, else ``"B"``, also without L."""
    return "A" if shape.o_w <= T and shape.output_size <= shape.mec_size and not shape.is_pointwise else "B"


def _solution(shape: ConvShape) -> Literal["A", "B"]:
    return choose_solution(shape, T_PAPER if preferred_multiply(shape) == "blas" else T_TUNED)


def products(shape: ConvShape, n_threads: int, solution: Literal["A", "B"] | None = None) -> dict[str, Any]:
    """The options of ``tuned.run``: the solution, by line 8 if none is given, and the blocking for it."""
    solution = solution or _solution(shape)
    columns = shape.o_w * (shape.i_n if solution == "A" else 1)
    blocking = gemm_blocking(preferred_multiply(shape), shape, columns, n_threads)
    return {"solution": solution, "blocking": blocking}


def mec_limit(shape: ConvShape) -> str | None:
    """Why BLAS can't do Solution B's products on the L of ``mec``, if it can't."""
    return blas_limit(
        GEMM_row_count=shape.o_w,
        GEMM_leading_dimension=max(shape.lowered_rows(), shape.k_h) * shape.k_w * shape.i_cg,
        GEMM_column_count=shape.k_c,
    )


def _tuned_limit(shape: ConvShape) -> str | None:
    too_wide = blas_limit(GEMM_row_count=shape.i_n * shape.o_w) if _solution(shape) == "A" else None
    return too_wide or mec_limit(shape)


def tuned_schedule(
    shape: ConvShape, n_threads: int, limit: int | None, solution: Literal["A", "B"] | None = None
) -> Schedule:
    """L, the solution, by line 8 if none is given, and the blocking.  After Solution B L is as it was lowered."""
    options = products(shape, n_threads, solution)
    size = 0 if shape.is_pointwise else shape.mec_size  # a 1×1 kernel may find its L in the input
    return Schedule(size, options, uses_blas=not options["blocking"].registers)


# Bands and tiles ----------------------------------------------------------------------------------------


def _banded_limit(shape: ConvShape) -> str | None:
    return blas_limit(
        GEMM_row_count=shape.o_w,
        GEMM_leading_dimension=shape.k_h * shape.k_w * shape.i_cg,
        GEMM_column_count=shape.k_c,
    )


def run_banded(
    x: Array, kernel: Array, out: Array, workspace: Array, shape: ConvShape, n_threads: int, **options: Any
) -> None:
    """``mec_banded`` in the bands that its schedule chose: of columns or of rows."""
    run = column_bands.run if "band_columns" in options else banded.run
    run(x, kernel, out, workspace, shape, n_threads, **options)


def _column_split_limit(shape: ConvShape) -> str | None:
    return blas_limit(
        GEMM_leading_dimension=shape.k_h * shape.k_w * shape.i_cg,
        GEMM_column_count=shape.k_c,
    )


def _channel_split_limit(shape: ConvShape) -> str | None:
    return blas_limit(GEMM_leading_dimension=max(shape.k_h * shape.k_w, shape.i_cg * shape.k_c))


# The other axis -----------------------------------------------------------------------------------------


def _transposed_limit(shape: ConvShape) -> str | None:
    return blas_limit(
        GEMM_row_count=shape.i_n * shape.o_h,
        GEMM_leading_dimension=max(
            max(shape.lowered_columns(), shape.k_w) * shape.k_h * shape.i_cg, shape.o_w * shape.k_c
        ),
    )


def _transposed_size(shape: ConvShape) -> int:
    """K' and the lowered matrix."""
    return shape.permuted_kernel_size + (0 if shape.is_row_of_taps else shape.mec_w_size)


def _transposed(shape: ConvShape, n_threads: int, limit: int | None) -> Schedule:
    columns = shape.i_n * shape.o_h
    blocking = gemm_blocking(preferred_multiply(shape), shape.transposed(), columns, n_threads)
    return Schedule(
        _transposed_size(shape),
        {"blocking": blocking},
        prepared=shape.permuted_kernel_size,
        uses_blas=not blocking.registers,
    )


def _im2win(shape: ConvShape, n_threads: int, limit: int | None) -> Schedule:
    return Schedule(_transposed_size(shape), prepared=shape.permuted_kernel_size)


# The table ----------------------------------------------------------------------------------------------


def _exchange_taps(prepared: Array, kernel: Array, shape: ConvShape) -> None:
    """K from K', whose columns of taps come before its rows."""
    permuted = prepared.reshape(shape.k_w, shape.k_h, shape.i_cg, shape.k_c)
    np.copyto(kernel, permuted.transpose(1, 0, 2, 3))


ROWS = (
    Algorithm(
        name="mec_vanilla",
        idea="Algorithm 1, one image at a time",
        source=f"{PAPER}, Algorithm 1",
        formula="o_w·H·k_w·i_c, H = i_h + p_t + p_b",
        order="k",
        unsupported=_not_in_the_paper,
        schedule=_paper_vanilla,
        run=paper.run_vanilla,
        fuses_bias_relu=False,
    ),
    Algorithm(
        name="mec_a",
        idea="Algorithm 2, Solution A: o_h products of i_n·o_w rows, then the repair",
        source=f"{PAPER}, Algorithm 2, lines 9-19",
        formula="i_n·o_w·H·k_w·i_c, H = i_h + p_t + p_b; with i_n > 1 at least i_n·o_h·o_w·k_c",
        order="k",
        unsupported=_paper_a_limit,
        schedule=_paper_a,
        run=paper.run_a,
        fuses_bias_relu=False,
    ),
    Algorithm(
        name="mec_b",
        idea="Algorithm 2, Solution B: i_n·o_h products of o_w rows",
        source=f"{PAPER}, Algorithm 2, lines 21-25",
        formula="i_n·o_w·H·k_w·i_c, H = i_h + p_t + p_b",
        order="k",
        unsupported=_not_in_the_paper,
        schedule=_paper,
        run=paper.run_b,
        fuses_bias_relu=False,
    ),
    Algorithm(
        name="mec_paper",
        idea="Algorithm 2 whole: Solution A or B by line 8 with T = 100",
        source=f"{PAPER}, Algorithm 2",
        formula="i_n·o_w·H·k_w·i_c, H = i_h + p_t + p_b",
        order="k",
        unsupported=_paper_limit,
        schedule=_paper,
        run=paper.run,
        fuses_bias_relu=False,
    ),
    Algorithm(
        name="mec",
        idea="Algorithm 2 tuned: fewer rows in L, its products by register tiles, or cut for BLAS",
        source=f"ours, after {PAPER}, Algorithm 2",
        formula="i_n·o_w·r_h·k_w·i_c",
        order="k",
        unsupported=_tuned_limit,
        schedule=tuned_schedule,
        run=tuned.run,
        ours=True,
    ),
    Algorithm(
        name="mec_banded",
        idea="tuned MEC on a band of b output rows, or w_b columns, at a time",
        source=f"ours, after {PAPER}",
        formula="slices·w_b·r_b·k_w·i_c/G",
        order="bounded",
        unsupported=_banded_limit,
        schedule=banded_schedule,
        run=run_banded,
        ours=True,
    ),
    Algorithm(
        name="mec_w",
        idea="tuned MEC's transposed twin: o_w products of i_n·o_h rows, n-h-w-c for any batch",
        source=f"ours, after {PAPER}",
        formula="i_n·o_h·r_w·k_h·i_c + k_h·k_w·i_c/G·k_c, the latter kept by a plan and 0 if k_h or k_w is 1",
        order="k",
        unsupported=_transposed_limit,
        schedule=_transposed,
        run=transposed.run,
        prepare=transposed.prepare,
        read_back=_exchange_taps,
        ours=True,
    ),
    Algorithm(
        name="mec_column_split",
        idea="tuned MEC on tiles of b output rows and w_b columns",
        source=f"ours, after {PAPER}",
        formula="slices·w_b·r_b·k_w·i_c/G",
        order="bounded",
        unsupported=_column_split_limit,
        schedule=column_split_schedule,
        run=split.run,
        ours=True,
    ),
    Algorithm(
        name="mec_channel_split",
        idea="tuned MEC on tiles, c_b input channels lowered at a time, a product for each",
        source=f"ours, after {PAPER}",
        formula="slices·c_b·w_b·r_b·k_w",
        order="bounded",
        unsupported=_channel_split_limit,
        schedule=channel_split_schedule,
        run=split.run,
        ours=True,
    ),
    Algorithm(
        name="im2win",
        idea="the lowered matrix of mec_w, its windows multiplied without BLAS",
        source="Lu, Chu & Liu, Im2win: Memory Efficient Convolution On SIMD Architectures, 2022",
        formula="i_n·o_h·r_w·k_h·i_c + k_h·k_w·i_c/G·k_c, the latter kept by a plan and 0 if k_h or k_w is 1",
        order="k",
        unsupported=any_shape,
        schedule=_im2win,
        run=im2win.run,
        prepare=transposed.prepare,
        read_back=_exchange_taps,
        uses_blas=False,
    ),
)
