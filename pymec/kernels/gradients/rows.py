"""The gradients: a table for the input's, a table for the kernel's."""

from __future__ import annotations

from functools import partial

from pymec import reference
from pymec.algorithm import Algorithm, Schedule, any_shape, blas_limit, no_workspace
from pymec.kernels.gradients import direct as direct_grad
from pymec.kernels.gradients import direct_conv as direct_conv_grad
from pymec.kernels.gradients import grouped as direct_grouped_grad
from pymec.kernels.gradients import im2col as im2col_grad
from pymec.kernels.gradients import mec as mec_grad
from pymec.kernels.gradients import mec_conv as mec_conv_grad
from pymec.kernels.gradients import pixel_gemm as pixel_gemm_grad
from pymec.kernels.im2col.rows import PAPER as IM2COL_PAPER
from pymec.kernels.im2col.rows import im2col_limit, im2col_schedule
from pymec.kernels.mec.rows import PAPER as MEC_PAPER
from pymec.kernels.mec.rows import mec_limit, mec_schedule, products
from pymec.kernels.register_tiles.rows import small_groups
from pymec.shapes import ConvShape

# What can't be done -------------------------------------------------------------------------------------


def _pixel_limit(shape: ConvShape) -> str | None:
    return blas_limit(GEMM_leading_dimension=shape.s_w * shape.i_c, GEMM_channel_count=shape.k_c)


def _conv_limit(shape: ConvShape) -> str | None:
    forward = mec_conv_grad.as_convolution(shape)
    if forward is None:
        return (
            f"its padding of {shape.p_t}, {shape.p_b} rows and {shape.p_l}, {shape.p_r} columns is more than the "
            f"kernel's reach of {shape.e_h - 1} and {shape.e_w - 1}, so the output's gradient would have to be cut"
        )
    return mec_limit(forward) or blas_limit(GEMM_row_count=forward.i_n * forward.o_w)


def _swapped_groups(shape: ConvShape) -> str | None:
    return small_groups(shape, outputs="input", inputs="output")


# Workspaces ---------------------------------------------------------------------------------------------


def _mec_input_grad(shape: ConvShape, n_threads: int, limit: int | None) -> Schedule:
    lowered = 0 if shape.is_pointwise else shape.mec_size
    return Schedule(shape.kernel_size + lowered, prepared=shape.kernel_size)


def _mec_conv(shape: ConvShape, n_threads: int, limit: int | None) -> Schedule:
    forward = mec_conv_grad.as_convolution(shape)
    assert forward is not None
    lowered = 0 if forward.is_pointwise else forward.mec_size
    size = shape.kernel_size + mec_conv_grad.spread_size(shape) + lowered
    return Schedule(size, products(forward, n_threads), prepared=shape.kernel_size)


def _direct_conv(shape: ConvShape, n_threads: int, limit: int | None) -> Schedule:
    return Schedule(shape.kernel_size, {"cuts": direct_conv_grad.cuts(shape, n_threads)}, shape.kernel_size)


def _grouped_input_grad(shape: ConvShape, n_threads: int, limit: int | None) -> Schedule:
    return Schedule(shape.kernel_size, prepared=shape.kernel_size)


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
        run=direct_grad.run_input_grad,
        uses_blas=False,
    ),
    _InputGrad(
        name="im2col",
        idea="one product into the lowered matrix, then col2im adds up its copies",
        source=IM2COL_PAPER,
        formula="i_n·o_h·o_w·k_h·k_w·i_c",
        order="k²",
        unsupported=im2col_limit,
        schedule=im2col_schedule,
        run=im2col_grad.run_input_grad,
    ),
    _InputGrad(
        name="mec",
        idea="products into the overlapping windows of L, colour by colour, then mec2im adds up the strips",
        source=f"ours, after {MEC_PAPER}",
        formula="i_n·o_w·r_h·k_w·i_c + |K|",
        order="k",
        unsupported=mec_limit,
        schedule=_mec_input_grad,
        prepare=mec_grad.transpose_kernel,
        run=mec_grad.run_input_grad,
        ours=True,
    ),
    _InputGrad(
        name="mec_conv",
        idea="MEC on the output's gradient, spread out by the stride, with the kernel turned by 180 degrees",
        source=f"ours, after {MEC_PAPER}",
        formula="|K| + |spread dO| + MEC's |L| of that convolution",
        order="k",
        unsupported=_conv_limit,
        schedule=_mec_conv,
        prepare=mec_conv_grad.turn_kernel,
        run=mec_conv_grad.run_input_grad,
        ours=True,
    ),
    _InputGrad(
        name="direct_conv",
        idea="that convolution by register tiles, one for each phase of the stride: nothing is lowered or spread",
        source="ours",
        formula="|K|",
        order="none",
        unsupported=any_shape,
        schedule=_direct_conv,
        prepare=direct_conv_grad.turn_kernel,
        run=direct_conv_grad.run_input_grad,
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
        schedule=no_workspace,
        run=pixel_gemm_grad.run_input_grad,
        ours=True,
    ),
    _InputGrad(
        name="direct_grouped",
        idea="small groups: vectors of the channels of several groups, only taps that a stride leaves",
        source="ours",
        formula="|K|",
        order="none",
        unsupported=_swapped_groups,
        schedule=_grouped_input_grad,
        prepare=mec_conv_grad.turn_kernel,
        run=direct_grouped_grad.run_input_grad,
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
        run=direct_grad.run_kernel_grad,
        uses_blas=False,
    ),
    _KernelGrad(
        name="im2col",
        idea="the forward pass's lowered matrix, transposed, times the output's gradient: one product",
        source=IM2COL_PAPER,
        formula="i_n·o_h·o_w·k_h·k_w·i_c",
        order="k²",
        unsupported=im2col_limit,
        schedule=im2col_schedule,
        run=im2col_grad.run_kernel_grad,
    ),
    _KernelGrad(
        name="mec",
        idea="the forward pass's L, window by window, transposed, times the output's gradient, adding up",
        source=f"ours, after {MEC_PAPER}",
        formula="i_n·o_w·r_h·k_w·i_c",
        order="k",
        unsupported=mec_limit,
        schedule=mec_schedule,
        run=mec_grad.run_kernel_grad,
        ours=True,
    ),
    _KernelGrad(
        name="pixel_gemm",
        idea="for each kernel tap, a product per output row with the pixels under the tap where they lie",
        source="ours",
        formula="0",
        order="none",
        unsupported=_pixel_limit,
        schedule=no_workspace,
        run=pixel_gemm_grad.run_kernel_grad,
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
        run=direct_grouped_grad.run_kernel_grad,
        uses_blas=False,
        ours=True,
    ),
)
