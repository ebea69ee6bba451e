"""The gradients: a table for the input's, a table for the kernel's."""

from __future__ import annotations

from functools import partial

import numpy as np

from pymec import reference
from pymec.algorithm import Algorithm, Schedule, any_shape, blas_limit, no_workspace, reads_slices
from pymec.kernels.gradients import (
    blocked,
    depthwise,
    direct,
    direct_conv,
    direct_dots,
    flipped_kernel,
    grouped,
    im2col,
    mec,
    pixel_gemm,
)
from pymec.kernels.im2col.rows import PAPER as IM2COL_PAPER
from pymec.kernels.im2col.rows import im2col_limit
from pymec.kernels.mec.rows import PAPER as MEC_PAPER
from pymec.kernels.mec.rows import mec_limit
from pymec.kernels.register_tiles.grouped import whole_vectors
from pymec.kernels.register_tiles.rows import (
    dot_columns,
    no_line_of_channels,
    packed_by_block,
    read_in_place,
    small_groups,
)
from pymec.kernels.register_tiles.schedule import packing_pays
from pymec.kernels.shared.arrays import Array
from pymec.kernels.shared.blocking import GradBlocking, grad_blocking, input_grad_blocking
from pymec.kernels.shared.machine import CACHE_LINE, HALF_L2_BYTES
from pymec.kernels.shared.turning import transpose_back, transpose_kernel
from pymec.layouts import Reading
from pymec.shapes import ConvShape

# What they read -----------------------------------------------------------------------------------------


def _reading_of_vectors(shape: ConvShape, swapped: bool = False) -> Reading:
    """Slices, where small groups fill vectors."""
    return Reading.SLICES if whole_vectors(shape, swapped) else Reading.PIXELS


def _reading_of_depthwise(shape: ConvShape) -> Reading:
    """Slices, but for the definition, which takes its place where this CPU has no vectors."""
    return Reading.SLICES if depthwise.has_vectors() else Reading.PIXELS


# What can't be done -------------------------------------------------------------------------------------


def _pixel_limit(shape: ConvShape) -> str | None:
    return blas_limit(GEMM_leading_dimension=shape.s_w * shape.i_c, GEMM_channel_count=shape.k_c)


def _too_many_phases(shape: ConvShape) -> str | None:
    count = direct_conv.most_phases(shape)
    if count <= direct_conv.MOST_PHASES:
        return None
    return f"its strides have {count} phases with taps; it takes up to {direct_conv.MOST_PHASES}"


def _no_dots(shape: ConvShape) -> str | None:
    return no_line_of_channels(shape, inputs="output") or _too_many_phases(shape)


def _no_network_depthwise(shape: ConvShape) -> str | None:
    if not shape.i_cg == shape.k_cg == 1:
        return f"its groups have {shape.i_cg} input and {shape.k_cg} output channels, not one of each"
    if shape.i_c * shape.itemsize < CACHE_LINE:
        return f"its {shape.i_c} channels are fewer than {CACHE_LINE} bytes"
    if (shape.k_h, shape.k_w) != (3, 3) or (shape.d_h, shape.d_w) != (1, 1):
        return "its taps are not 3×3 side by side"
    return None


def _no_network_depthwise_of_stride_2(shape: ConvShape) -> str | None:
    if (shape.s_h, shape.s_w) == (2, 2):
        return _no_network_depthwise(shape)
    return f"its stride is {shape.s_h}×{shape.s_w}, not 2×2"


def _swapped_groups(shape: ConvShape) -> str | None:
    return small_groups(shape, outputs="input", inputs="output")


# Workspaces, blocking and schedules ---------------------------------------------------------------------


def _im2col(shape: ConvShape, n_threads: int, limit: int | None) -> Schedule:
    return Schedule(0 if shape.is_pointwise else shape.im2col_size)


def _mec_input_grad(shape: ConvShape, n_threads: int, limit: int | None) -> Schedule:
    lowered = 0 if shape.is_pointwise else shape.mec_size
    blocking = input_grad_blocking(shape, shape.k_h * shape.k_w * shape.i_cg)
    return Schedule(shape.kernel_size + lowered, {"blocking": blocking}, prepared=shape.kernel_size)


def mec_kernel_grad_blocking(shape: ConvShape, n_threads: int) -> GradBlocking:
    """How ``mec`` cuts the kernel's gradient; the same from a matrix that a forward pass has kept."""
    return grad_blocking(shape, shape.k_h * shape.k_w * shape.i_cg, 1, n_threads)


def _mec_kernel_grad(shape: ConvShape, n_threads: int, limit: int | None) -> Schedule:
    lowered = 0 if shape.is_pointwise else shape.mec_size
    return Schedule(lowered, {"blocking": mec_kernel_grad_blocking(shape, n_threads)})


def _pixel_input_grad(shape: ConvShape, n_threads: int, limit: int | None) -> Schedule:
    return Schedule(0, {"blocking": input_grad_blocking(shape, shape.i_cg)})


def _pixel_kernel_grad(shape: ConvShape, n_threads: int, limit: int | None) -> Schedule:
    return Schedule(0, {"blocking": grad_blocking(shape, shape.i_cg, shape.k_h * shape.k_w, n_threads)})


def _direct_conv(shape: ConvShape, n_threads: int, limit: int | None) -> Schedule:
    phases = direct_conv.phases(shape)
    left = None if limit is None else limit - shape.kernel_size
    scheduled = {forward: _phase(forward, n_threads, left) for forward in {p.shape for p in phases}}
    options = {"schedules": tuple(scheduled[phase.shape].options for phase in phases)}
    size = shape.kernel_size + max((found.size for found in scheduled.values()), default=0)
    return Schedule(size, options, prepared=shape.kernel_size)


def _phase(forward: ConvShape, n_threads: int, limit: int | None) -> Schedule:
    """The flipped kernel packed block by block where its rows are wide, if there is room; else where it lies."""
    packed = packed_by_block(forward, n_threads, limit) if packing_pays(forward) else None
    if packed is None or (limit is not None and packed.size > limit):
        return read_in_place(forward, n_threads, limit)
    return packed


def _packed_phases(shape: ConvShape, n_threads: int, limit: int | None) -> Schedule:
    """Each phase as the forward ``direct_packed``; they share a workspace, one after the other."""
    phases = direct_conv.phases(shape)
    scheduled = {forward: packed_by_block(forward, n_threads, limit) for forward in {p.shape for p in phases}}
    options = {"schedules": tuple(scheduled[phase.shape].options for phase in phases)}
    return Schedule(max((found.size for found in scheduled.values()), default=0), options)


def _dots(shape: ConvShape, n_threads: int, limit: int | None) -> Schedule:
    return Schedule(0, {"columns": tuple(dot_columns(phase.shape) for phase in direct_conv.phases(shape))})


def _blocked_kernel_grad(shape: ConvShape, n_threads: int, limit: int | None) -> Schedule:
    size = n_threads * blocked.slice_size(shape) + CACHE_LINE // shape.itemsize
    copies = limit is None or size <= limit
    return Schedule(size if copies else 0, {"copies": copies})


def _depthwise_kernel_grad(shape: ConvShape, n_threads: int, limit: int | None) -> Schedule:
    """As many rows of outputs as fit into half of a level-2 cache, with the rows of the image under them."""
    row = (shape.s_h * shape.i_w + shape.o_w) * shape.i_c * shape.itemsize
    return Schedule(0, {"rows_at_once": max(HALF_L2_BYTES // row, 1)})


def _grouped_input_grad(shape: ConvShape, n_threads: int, limit: int | None) -> Schedule:
    size = shape.kernel_size if whole_vectors(shape, swapped=True) else 0  # without vectors K is read as it is
    return Schedule(size, prepared=size)


# What depends on the kernel alone -----------------------------------------------------------------------


def _transpose(kernel: Array, prepared: Array, shape: ConvShape, n_threads: int, blocking: object) -> None:
    transpose_kernel(kernel, prepared, shape, n_threads)


def _flip_by_phase(kernel: Array, prepared: Array, shape: ConvShape, n_threads: int, schedules: object) -> None:
    direct_conv.flip_kernel(kernel, prepared, shape, n_threads)


def _flip_for_vectors(kernel: Array, prepared: Array, shape: ConvShape, n_threads: int) -> None:
    if whole_vectors(shape, swapped=True):
        flipped_kernel.flip_and_swap(kernel, prepared, shape, n_threads)


# And the kernel again from that -------------------------------------------------------------------------


def _swap_back(flipped: Array, kernel: Array, shape: ConvShape) -> None:
    """K from its flipped form, whose taps are in the order of K again."""
    s = shape
    grouped = flipped.reshape(s.k_h, s.k_w, s.k_cg, s.groups, s.i_cg)
    np.copyto(kernel, grouped.transpose(0, 1, 4, 3, 2).reshape(s.kernel_shape))


def _flip_back(prepared: Array, kernel: Array, shape: ConvShape) -> None:
    taps = prepared.reshape(shape.k_h * shape.k_w, -1)
    _swap_back(taps[::-1], kernel, shape)


def _flip_back_by_phase(prepared: Array, kernel: Array, shape: ConvShape) -> None:
    taps = prepared.reshape(shape.k_h * shape.k_w, -1)
    _swap_back(taps[direct_conv.places(shape)], kernel, shape)


# The tables ---------------------------------------------------------------------------------------------

_InputGrad = partial(Algorithm, bound="(k_h·k_w·k_c/G + 1)·u·Σ|dO·K|", error_bound=reference.input_grad_bound)
_KernelGrad = partial(Algorithm, bound="(i_n·o_h·o_w + 1)·u·Σ|I·dO|", error_bound=reference.kernel_grad_bound)

INPUT_GRAD_ROWS = (
    _InputGrad(
        name="direct",
        idea="the definition: a sum per input element, in double precision",
        source="the definition of a convolution layer",
        formula="0",
        order="none",
        unsupported=any_shape,
        schedule=no_workspace,
        run=direct.run_input_grad,
        uses_blas=False,
    ),
    _InputGrad(
        name="im2col",
        idea="one product into the lowered matrix, then col2im adds up its copies",
        source=IM2COL_PAPER,
        formula="i_n·o_h·o_w·k_h·k_w·i_c",
        order="k²",
        unsupported=im2col_limit,
        schedule=_im2col,
        run=im2col.run_input_grad,
    ),
    _InputGrad(
        name="mec",
        idea="products into the overlapping windows of L, colour by colour, then mec2im adds up the strips",
        source=f"ours, after {MEC_PAPER}",
        formula="i_n·o_w·r_h·k_w·i_c + |K|",
        order="k",
        unsupported=mec_limit,
        schedule=_mec_input_grad,
        prepare=_transpose,
        read_back=transpose_back,
        run=mec.run_input_grad,
        ours=True,
    ),
    _InputGrad(
        name="direct_conv",
        idea="a convolution of dO by register tiles for each phase of the stride: nothing is lowered or spread",
        source="ours",
        formula="|K|, and where packing K pays the blocks of direct_packed",
        order="k²",
        unsupported=_too_many_phases,
        schedule=_direct_conv,
        prepare=_flip_by_phase,
        read_back=_flip_back_by_phase,
        run=direct_conv.run_input_grad,
        reading=reads_slices,
        uses_blas=False,
        ours=True,
    ),
    _InputGrad(
        name="direct_packed",
        idea="direct_conv without a flipped kernel: K is flipped as it is packed, block by block",
        source="ours",
        formula="slices·lines·channels + 64/itemsize, lines at most 512 and channels at most 512/itemsize of K",
        order="bounded",
        unsupported=_too_many_phases,
        schedule=_packed_phases,
        run=direct_conv.run_packed,
        reading=reads_slices,
        uses_blas=False,
        ours=True,
    ),
    _InputGrad(
        name="direct_dots",
        idea="few input channels, or pixels: dot products along the output channels, K read where it lies",
        source="ours",
        formula="0",
        order="none",
        unsupported=_no_dots,
        schedule=_dots,
        run=direct_dots.run_input_grad,
        reading=reads_slices,
        uses_blas=False,
        ours=True,
    ),
    _InputGrad(
        name="pixel_gemm",
        idea="a product per image row and kernel tap, straight into the strided pixels under the tap",
        source="ours",
        formula="0",
        order="none",
        unsupported=_pixel_limit,
        schedule=_pixel_input_grad,
        run=pixel_gemm.run_input_grad,
        ours=True,
    ),
    _InputGrad(
        name="direct_grouped",
        idea="small groups: vectors of the channels of several groups, only taps that a stride leaves",
        source="ours",
        formula="|K|, or 0 if its groups fill no vector",
        order="k²",
        unsupported=_swapped_groups,
        schedule=_grouped_input_grad,
        prepare=_flip_for_vectors,
        read_back=_flip_back,
        run=grouped.run_input_grad,
        reading=partial(_reading_of_vectors, swapped=True),
        uses_blas=False,
        ours=True,
    ),
    _InputGrad(
        name="depthwise",
        idea="3×3 taps with stride 2: two rows at once, each pixel of dO loaded once for all that it meets there",
        source="ours",
        formula="0",
        order="none",
        unsupported=_no_network_depthwise_of_stride_2,
        schedule=no_workspace,
        run=depthwise.run_input_grad,
        reading=_reading_of_depthwise,
        uses_blas=False,
        ours=True,
    ),
)

KERNEL_GRAD_ROWS = (
    _KernelGrad(
        name="direct",
        idea="the definition: a sum per kernel element, in double precision",
        source="the definition of a convolution layer",
        formula="0",
        order="none",
        unsupported=any_shape,
        schedule=no_workspace,
        run=direct.run_kernel_grad,
        uses_blas=False,
    ),
    _KernelGrad(
        name="im2col",
        idea="the forward pass's lowered matrix, transposed, times the output's gradient: one product",
        source=IM2COL_PAPER,
        formula="i_n·o_h·o_w·k_h·k_w·i_c",
        order="k²",
        unsupported=im2col_limit,
        schedule=_im2col,
        run=im2col.run_kernel_grad,
    ),
    _KernelGrad(
        name="mec",
        idea="the forward pass's L, window by window, transposed, times the output's gradient, adding up",
        source=f"ours, after {MEC_PAPER}",
        formula="i_n·o_w·r_h·k_w·i_c",
        order="k",
        unsupported=mec_limit,
        schedule=_mec_kernel_grad,
        run=mec.run_kernel_grad,
        ours=True,
    ),
    _KernelGrad(
        name="direct_blocked",
        idea="the definition in register tiles: outer products of a pixel's channels, added up over the pixels",
        source="ours",
        formula="slices·(512·14 + 128·min(1024/itemsize, M)) + 64/itemsize, M = k_c/G up to whole 128 bytes; or 0",
        order="bounded",
        unsupported=any_shape,
        schedule=_blocked_kernel_grad,
        run=blocked.run_kernel_grad,
        reading=reads_slices,
        uses_blas=False,
        ours=True,
    ),
    _KernelGrad(
        name="pixel_gemm",
        idea="for each kernel tap, a product per output row with the pixels under the tap where they lie",
        source="ours",
        formula="0",
        order="none",
        unsupported=_pixel_limit,
        schedule=_pixel_kernel_grad,
        run=pixel_gemm.run_kernel_grad,
        ours=True,
    ),
    _KernelGrad(
        name="direct_grouped",
        idea="small groups: vectors of the channels of several groups, a row of outputs at a time",
        source="ours",
        formula="0",
        order="none",
        unsupported=small_groups,
        schedule=no_workspace,
        run=grouped.run_kernel_grad,
        reading=_reading_of_vectors,
        uses_blas=False,
        ours=True,
    ),
    _KernelGrad(
        name="depthwise",
        idea="3×3 taps: nine sums of a vector of channels stay in registers over rows of outputs",
        source="ours",
        formula="0",
        order="none",
        unsupported=_no_network_depthwise,
        schedule=_depthwise_kernel_grad,
        run=depthwise.run_kernel_grad,
        reading=_reading_of_depthwise,
        uses_blas=False,
        ours=True,
    ),
)
