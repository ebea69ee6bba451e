"""Convolution with neither lowered matrix nor BLAS: tiles of the output, summed up in registers."""

from __future__ import annotations

from numpy.typing import NDArray

from pymec.families._row import SLICE_BYTES, Algorithm, Schedule, any_shape, thread_slices
from pymec.kernels import _panels, direct_blocked, indirect, smm, yaconv
from pymec.kernels._tile_cut import tile_cut
from pymec.shapes import ConvShape

_INDIRECT = "Dukhan, The Indirect Convolution Algorithm, 2019"


_DIRECT = (
    "Georganas et al., Anatomy of High-Performance Deep Learning Convolutions on SIMD Architectures, SC 2018, and "
    "Zhang, Franchetti & Low, High Performance Zero-Memory Overhead Direct Convolutions, ICML 2018"
)


def _direct_blocked(shape: ConvShape, n_threads: int, limit: int | None) -> Schedule:
    return Schedule(0, {"cut": tile_cut(shape, n_threads, in_panels=False)})


def _direct_panels(shape: ConvShape, n_threads: int, limit: int | None) -> Schedule:
    size = _panels.panels_size(shape)
    return Schedule(size, {"cut": tile_cut(shape, n_threads, in_panels=True)}, prepared=size)


def _pack(kernel: NDArray, panels: NDArray, shape: ConvShape, n_threads: int, cut: object) -> None:
    _panels.pack(kernel, panels, shape, n_threads)


def _offsets_limit(shape: ConvShape) -> str | None:
    pixels = shape.i_h * shape.i_w
    return None if pixels < 2**31 else f"its images of {pixels} pixels are more than 31 bits count"


def _indirect(shape: ConvShape, n_threads: int, limit: int | None) -> Schedule:
    return Schedule(indirect.buffer_size(shape, shape.o_h * shape.o_w, indirect.POINTER_BYTES) + shape.i_c)


def _indirect_offsets(shape: ConvShape, n_threads: int, limit: int | None) -> Schedule:
    return Schedule(indirect.buffer_size(shape, shape.o_h * shape.o_w, indirect.OFFSET_BYTES) + shape.i_c)


def _indirect_tiled(shape: ConvShape, n_threads: int, limit: int | None) -> Schedule:
    def size(pixels: int) -> int:
        return indirect.buffer_size(shape, pixels, indirect.POINTER_BYTES)

    pixels = shape.o_h * shape.o_w
    room = None if limit is None else max(0, limit - shape.i_c)
    slices = thread_slices(shape.i_n * pixels, n_threads, size(1), room)
    room = SLICE_BYTES // shape.itemsize if room is None else room // slices
    share = -(-pixels // slices)  # as many runs of pixels in every image as there are threads, or more
    block = max(1, min(room * shape.itemsize // (shape.k_h * shape.k_w * indirect.POINTER_BYTES), share))
    return Schedule(slices * size(block) + shape.i_c, {"block": block, "slices": slices})


def _smm(shape: ConvShape, n_threads: int, limit: int | None) -> Schedule:
    plane = shape.i_h * shape.o_w
    slices = thread_slices(smm.units(shape), n_threads, plane, limit)
    return Schedule(slices * plane, {"slices": slices})


def _stride_one(shape: ConvShape) -> str | None:
    if shape.s_h == shape.s_w == 1:
        return None
    return f"its stride is {shape.s_h}×{shape.s_w} and YaConv needs 1×1"


def _yaconv(shape: ConvShape, n_threads: int, limit: int | None) -> Schedule:
    above = max(0, shape.e_h - 1 - shape.p_t)
    below = max(0, shape.e_h - 1 - shape.p_b)
    extra = -shape.i_h % yaconv.ROWS
    return Schedule((above + below + extra) * shape.o_w * shape.k_c)


ROWS = (
    Algorithm(
        name="direct_blocked",
        idea="the definition, up to 14 pixels by a line of channels at a time in registers",
        source=f"after {_DIRECT}",
        formula="0",
        order="none",
        unsupported=any_shape,
        schedule=_direct_blocked,
        run=direct_blocked.run,
        uses_blas=False,
    ),
    Algorithm(
        name="direct_panels",
        idea="direct_blocked with K re-laid once, so that what a tile reads of it is one piece of memory",
        source=f"ours, after {_DIRECT}",
        formula="⌈k_c/(G·m_b)⌉·m_b·k_h·k_w·i_c + 64/itemsize, kept by a plan",
        order="k²",
        unsupported=any_shape,
        schedule=_direct_panels,
        run=direct_blocked.run,
        prepare=_pack,
        uses_blas=False,
        ours=True,
    ),
    Algorithm(
        name="indirect",
        idea="a pointer per output pixel of an image and tap in place of what it points to",
        source=_INDIRECT,
        formula="⌈8·k_h·k_w·o_h·o_w / itemsize⌉ + i_c",
        order="k²",
        unsupported=any_shape,
        schedule=_indirect,
        run=indirect.run,
        uses_blas=False,
    ),
    Algorithm(
        name="indirect_offsets",
        idea="indirect, with the number of a pixel in four bytes in place of its address",
        source=f"ours, after {_INDIRECT}",
        formula="⌈4·k_h·k_w·o_h·o_w / itemsize⌉ + i_c",
        order="k²",
        unsupported=_offsets_limit,
        schedule=_indirect_offsets,
        run=indirect.run_offsets,
        uses_blas=False,
        ours=True,
    ),
    Algorithm(
        name="indirect_tiled",
        idea="indirect, with the pointers of m_b output pixels at a time",
        source=f"ours, after {_INDIRECT}",
        formula="slices·⌈8·k_h·k_w·m_b / itemsize⌉ + i_c",
        order="bounded",
        unsupported=any_shape,
        schedule=_indirect_tiled,
        run=indirect.run_tiled,
        uses_blas=False,
        ours=True,
    ),
    Algorithm(
        name="smm",
        idea="planes of one input channel, packed once per kernel column, times numbers of K",
        source=(
            "Ofir & Ben-Artzi, SMM-Conv: Scalar Matrix Multiplication with Zero Packing for Accelerated "
            "Convolution, CVPR Workshops 2022"
        ),
        formula="slices·i_h·o_w",
        order="bounded",
        unsupported=any_shape,
        schedule=_smm,
        run=smm.run,
        uses_blas=False,
    ),
    Algorithm(
        name="yaconv",
        idea="six image rows times one kernel row, column by column; sums without a place are spilled",
        source=(
            "after Korostelev, de Carvalho, Moreira & Amaral, YaConv: Convolution with Low Cache Footprint, "
            "ACM TACO 20(1), 2023"
        ),
        formula="(max(0, e_h-1-p_t) + max(0, e_h-1-p_b) + (-i_h mod 6))·o_w·k_c, e_h = (k_h-1)·d_h + 1",
        order="k",
        unsupported=_stride_one,
        schedule=_yaconv,
        run=yaconv.run,
        uses_blas=False,
    ),
)
