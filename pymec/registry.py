"""The one table that names every algorithm: what it needs, what it can't do, and what runs it.

To add an algorithm, write its kernel file and its row here; the public door, the formulas' tests, the
memory measurements and the report find it by themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pymec.kernels import direct, im2col, im2col_blocked, mec, mec_banded
from pymec.kernels._blas import BLAS_INT_MAX
from pymec.kernels._pieces import small_products
from pymec.shapes import ConvShape
from pymec.threads import blas_multiplies_small_products_unpacked

SLICE_BYTES = 512 * 1024
"""What a thread's slice of a bounded algorithm may take without a limit: half of a 1 MiB level-2 cache."""


@dataclass(frozen=True)
class Schedule:
    """What one call of an algorithm takes: elements of workspace, and options for its ``run``."""

    size: int
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Algorithm:
    """A row of the table.

    Attributes
    ----------
    name, idea, source, formula : str
        What it is called, does, comes from; its workspace in elements, in the paper's symbols.
    order : {"none", "bounded", "k", "k²"}
        How the workspace grows: not at all, with a chosen tile, with one or both kernel extents.
    ours : bool
        Whether it goes beyond what its source describes.
    unsupported : callable
        ``unsupported(shape)`` gives the reason why the algorithm can't do a shape, or None.
    schedule : callable
        ``schedule(shape, n_threads, limit)`` gives a :class:`Schedule`.  ``limit`` is in elements, or None;
        bounded algorithms keep to it if they can and give their smallest schedule if not.
    run : callable
        ``run(x, kernel, out, workspace, shape, n_threads, **options)``: n-h-w-c, h-w-i-o, all C-contiguous.
    uses_blas : bool
        Whether BLAS must be held to one thread while it runs.
    """

    name: str
    idea: str
    source: str
    formula: str
    order: str
    unsupported: Callable[[ConvShape], str | None]
    schedule: Callable[[ConvShape, int, int | None], Schedule]
    run: Callable[..., None]
    uses_blas: bool = True
    ours: bool = False


# What BLAS can't count ----------------------------------------------------------------------------------


def _blas_limit(**extents: int) -> str | None:
    """The reason why a product is too large for BLAS's integer, if one of its extents is."""
    name, largest = max(extents.items(), key=lambda item: item[1])
    if largest <= BLAS_INT_MAX:
        return None
    return f"its {name.replace('_', ' ')} of {largest} is more than BLAS's integer counts ({BLAS_INT_MAX})"


def _nothing(shape: ConvShape) -> None:
    return None


def _im2col_limit(shape: ConvShape) -> str | None:
    return _blas_limit(
        GEMM_row_count=shape.i_n * shape.o_h * shape.o_w,
        GEMM_reduction=shape.k_h * shape.k_w * shape.i_cg,
        GEMM_column_count=shape.k_c,
    )


def _per_image_limit(shape: ConvShape) -> str | None:
    return _im2col_limit(shape.single_image())


def _blocked_limit(shape: ConvShape) -> str | None:
    return _blas_limit(GEMM_reduction=shape.k_h * shape.k_w * shape.i_cg, GEMM_column_count=shape.k_c)


def _mec_limit(shape: ConvShape) -> str | None:
    return _blas_limit(
        GEMM_row_count=shape.o_w,
        GEMM_leading_dimension=max(shape.lowered_rows(), shape.k_h) * shape.k_w * shape.i_cg,
        GEMM_column_count=shape.k_c,
    )


def _mec_cut_limit(shape: ConvShape) -> str | None:
    return _mec_a_limit(shape) if mec.choose_solution(shape, mec.T_CUT) == "A" else _mec_limit(shape)


def _mec_a_limit(shape: ConvShape) -> str | None:
    return _blas_limit(GEMM_row_count=shape.i_n * shape.o_w) or _mec_limit(shape)


def _banded_limit(shape: ConvShape) -> str | None:
    return _blas_limit(
        GEMM_row_count=shape.o_w,
        GEMM_leading_dimension=shape.k_h * shape.k_w * shape.i_cg,
        GEMM_column_count=shape.k_c,
    )


# Workspaces ---------------------------------------------------------------------------------------------


def _no_workspace(shape: ConvShape, n_threads: int, limit: int | None) -> Schedule:
    return Schedule(0)


def _im2col(shape: ConvShape, n_threads: int, limit: int | None) -> Schedule:
    return Schedule(0 if shape.is_pointwise else shape.im2col_size)


def _im2col_per_image(shape: ConvShape, n_threads: int, limit: int | None) -> Schedule:
    return _im2col(shape.single_image(), n_threads, limit)


def _mec(shape: ConvShape, n_threads: int, limit: int | None) -> Schedule:
    return Schedule(0 if shape.is_pointwise else shape.mec_size)


def _mec_vanilla(shape: ConvShape, n_threads: int, limit: int | None) -> Schedule:
    return _mec(shape.single_image(), n_threads, limit)


def _mec_a(shape: ConvShape, n_threads: int, limit: int | None) -> Schedule:
    if shape.is_pointwise or shape.i_n <= 1:
        return _mec(shape, n_threads, limit)
    return Schedule(max(shape.mec_size, shape.output_size))


def _mec_cut(shape: ConvShape, n_threads: int, limit: int | None) -> Schedule:
    return Schedule(_mec(shape, n_threads, limit).size, {"cut": blas_multiplies_small_products_unpacked()})


def _slices(units: int, n_threads: int, smallest: int, limit: int | None) -> int:
    """Threads with a slice of workspace each: no more than there is work for, or room."""
    slices = max(1, min(n_threads, units))
    return slices if limit is None else max(1, min(slices, limit // max(smallest, 1)))


def _im2col_blocked(shape: ConvShape, n_threads: int, limit: int | None) -> Schedule:
    patch = shape.k_h * shape.k_w * shape.i_cg
    pixels = max(1, shape.i_n * shape.o_h * shape.o_w)
    slices = _slices(shape.groups * pixels, n_threads, patch, limit)
    room = SLICE_BYTES // shape.itemsize if limit is None else limit // slices
    # All slices together never hold more pixels than there are: no more than im2col.
    block = max(1, min(room // patch, pixels * shape.groups // slices, pixels, BLAS_INT_MAX))
    return Schedule(slices * block * patch, {"block": block, "slices": slices})


def _mec_banded(shape: ConvShape, n_threads: int, limit: int | None) -> Schedule:
    bands = shape.groups * max(1, shape.i_n) * shape.o_h
    slices = _slices(bands, n_threads, shape.band_size(1), limit)
    room = SLICE_BYTES // shape.itemsize if limit is None else limit // slices
    room = min(room, shape.mec_size // slices)  # all slices together: no more than MEC, if they can
    room = min(room, shape.o_w * BLAS_INT_MAX)  # a strip of a band is the products' leading dimension
    most = min(-(-bands // slices), shape.o_h)  # no band larger than a thread's share
    # A band of b rows keeps at least (b - 1)·min(s_h, k_h) image rows: no more than these need be tried.
    strip_rows = room // (shape.o_w * shape.k_w * shape.i_cg)
    band_rows = max(1, min(most, strip_rows // min(shape.s_h, shape.k_h) + 1))
    low = 1
    while low < band_rows:
        middle = (low + band_rows + 1) // 2
        if shape.band_size(middle) <= room:
            low = middle
        else:
            band_rows = middle - 1
    pieces = small_products(shape, shape.o_w, n_threads) if blas_multiplies_small_products_unpacked() else None
    options = {"band_rows": band_rows, "slices": slices, "pieces": pieces}
    return Schedule(slices * shape.band_size(band_rows), options)


_MEC_PAPER = "Cho & Brand, MEC: Memory-efficient Convolution for Deep Neural Network, ICML 2017"
_IM2COL_PAPER = (
    "Chellapilla, Puri & Simard, High Performance Convolutional Neural Networks for Document Processing, "
    "IWFHR 2006"
)

ALGORITHMS: dict[str, Algorithm] = {
    row.name: row
    for row in (
        Algorithm(
            name="direct",
            idea="the definition: seven loops, sums in double precision",
            source="the definition of a convolution layer",
            formula="0",
            order="none",
            unsupported=_nothing,
            schedule=_no_workspace,
            run=direct.run,
            uses_blas=False,
        ),
        Algorithm(
            name="im2col",
            idea="a row of the lowered matrix per output pixel, whole batch, one product",
            source=_IM2COL_PAPER,
            formula="i_n·o_h·o_w·k_h·k_w·i_c",
            order="k²",
            unsupported=_im2col_limit,
            schedule=_im2col,
            run=im2col.run,
        ),
        Algorithm(
            name="im2col_per_image",
            idea="im2col, one image at a time through the same lowered matrix",
            source="Jia et al., Caffe: Convolutional Architecture for Fast Feature Embedding, 2014",
            formula="o_h·o_w·k_h·k_w·i_c",
            order="k²",
            unsupported=_per_image_limit,
            schedule=_im2col_per_image,
            run=im2col.run_per_image,
        ),
        Algorithm(
            name="im2col_blocked",
            idea="im2col, a block of m_b output pixels at a time",
            source="after Zhao et al., ECBC: Efficient Convolution via Blocked Columnizing, TNNLS 2023",
            formula="slices·m_b·k_h·k_w·i_c/G",
            order="bounded",
            unsupported=_blocked_limit,
            schedule=_im2col_blocked,
            run=im2col_blocked.run,
        ),
        Algorithm(
            name="mec_vanilla",
            idea="Algorithm 1, one image at a time",
            source=f"{_MEC_PAPER}, Algorithm 1",
            formula="o_w·r_h·k_w·i_c",
            order="k",
            unsupported=_mec_limit,
            schedule=_mec_vanilla,
            run=mec.run_vanilla,
        ),
        Algorithm(
            name="mec_a",
            idea="Algorithm 2, Solution A: o_h products of i_n·o_w rows, then the repair",
            source=f"{_MEC_PAPER}, Algorithm 2, lines 9-19",
            formula="i_n·o_w·r_h·k_w·i_c, with i_n > 1 at least i_n·o_h·o_w·k_c",
            order="k",
            unsupported=_mec_a_limit,
            schedule=_mec_a,
            run=mec.run_a,
        ),
        Algorithm(
            name="mec_b",
            idea="Algorithm 2, Solution B: i_n·o_h products of o_w rows",
            source=f"{_MEC_PAPER}, Algorithm 2, lines 21-25",
            formula="i_n·o_w·r_h·k_w·i_c",
            order="k",
            unsupported=_mec_limit,
            schedule=_mec,
            run=mec.run_b,
        ),
        Algorithm(
            name="mec",
            idea="Algorithm 2 with line 8's choice, its products cut to the size BLAS runs fastest",
            source=f"{_MEC_PAPER}, Algorithm 2",
            formula="i_n·o_w·r_h·k_w·i_c",
            order="k",
            unsupported=_mec_cut_limit,
            schedule=_mec_cut,
            run=mec.run,
        ),
        Algorithm(
            name="mec_banded",
            idea="MEC on a band of b output rows at a time",
            source=f"ours, after {_MEC_PAPER}",
            formula="slices·o_w·r_b·k_w·i_c/G",
            order="bounded",
            unsupported=_banded_limit,
            schedule=_mec_banded,
            run=mec_banded.run,
            ours=True,
        ),
    )
}


def names() -> tuple[str, ...]:
    """The names of all algorithms, in the table's order."""
    return tuple(ALGORITHMS)


def get(name: str) -> Algorithm:
    """The row of that name, or a ValueError that lists the names."""
    try:
        return ALGORITHMS[name]
    except (KeyError, TypeError):
        raise ValueError(f"algorithm must be 'auto' or one of {', '.join(ALGORITHMS)}; got {name!r}") from None
