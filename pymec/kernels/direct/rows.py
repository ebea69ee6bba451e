"""The rows of the definition, its plain register tile, depthwise convolution, and planes times single numbers."""

from __future__ import annotations

from pymec.algorithm import Algorithm, Schedule, any_shape, no_workspace, slices_of_images, thread_slices
from pymec.kernels.direct import blocked, depthwise, direct, smm
from pymec.shapes import ConvShape


def _depthwise_limit(shape: ConvShape) -> str | None:
    if shape.i_cg > 1:
        return f"each of its groups has {shape.i_cg} input channels and depthwise takes one"
    return None


def _smm(shape: ConvShape, n_threads: int, limit: int | None) -> Schedule:
    plane = shape.i_h * shape.o_w
    slices = thread_slices(smm.n_tasks(shape), n_threads, plane, limit)
    return Schedule(slices * plane, {"slices": slices})


ROWS = (
    Algorithm(
        name="direct",
        idea="the definition: seven loops, sums in double precision",
        source="the definition of a convolution layer",
        formula="0",
        order="none",
        unsupported=any_shape,
        schedule=no_workspace,
        run=direct.run,
        fuses_bias_relu=False,
        uses_blas=False,
    ),
    Algorithm(
        name="direct_blocked_plain",
        idea="direct_blocked's tile in plain loops, to be read: 6 pixels by 16 channels in registers",
        source=(
            "after Zhang, Franchetti & Low, High Performance Zero-Memory Overhead Direct Convolutions, ICML 2018"
        ),
        formula="0",
        order="none",
        unsupported=any_shape,
        schedule=no_workspace,
        run=blocked.run,
        uses_blas=False,
    ),
    Algorithm(
        name="depthwise",
        idea="one input channel per group: vectors of channels, no product of matrices",
        source="the definition of a depthwise convolution",
        formula="0",
        order="none",
        unsupported=_depthwise_limit,
        schedule=no_workspace,
        run=depthwise.run,
        reads_slices=slices_of_images,
        uses_blas=False,
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
        fuses_bias_relu=False,
        uses_blas=False,
    ),
)
