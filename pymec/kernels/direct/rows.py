"""The rows of the definition, its plain register tile, depthwise convolution, and planes times single numbers."""

from __future__ import annotations

from pymec.algorithm import (
    Algorithm,
    Schedule,
    any_shape,
    no_workspace,
    reads_slices,
    reads_strides,
    thread_slices,
)
from pymec.kernels.direct import blocked, depthwise, depthwise_windows, direct, smm
from pymec.kernels.direct.depthwise_windows import n_windows, window_size
from pymec.kernels.register_tiles.grouped import whole_vectors
from pymec.kernels.register_tiles.tile import register_nbytes
from pymec.kernels.shared.blocking import even_part
from pymec.kernels.shared.machine import (
    CACHE_LINE,
    FEW_TAPS_BYTES,
    HALF_L1_BYTES,
    HALF_L2_BYTES,
    LONG_TAP_ROW,
    NARROW_TILE,
    WINDOW_SHARE,
    WINDOW_SHARE_OF_LARGE,
    WINDOW_TAPS,
)
from pymec.shapes import ConvShape


def _depthwise_limit(shape: ConvShape) -> str | None:
    if shape.i_cg > 1:
        return f"each of its groups has {shape.i_cg} input channels, not one"
    return None


def _depthwise_windows(shape: ConvShape, n_threads: int, limit: int | None) -> Schedule:
    """Tiles as wide as the output, if one row of it has room in half of a level-2 cache, and otherwise no narrower
    than a vector; and as many rows as half of a level-1 cache has room for, but some for every thread.
    """
    planes = max(shape.i_n, 1) * shape.i_c
    narrow = min(shape.o_w, NARROW_TILE)
    slices = thread_slices(planes * shape.o_h, n_threads, window_size(shape, 1, narrow), limit)
    room = HALF_L2_BYTES // shape.itemsize
    if limit is not None:
        room = min(room, limit // slices)
    columns = shape.o_w
    if window_size(shape, 1, columns) > room:
        most = _most(room, window_size(shape, 1, 1), window_size(shape, 1, 2))
        columns = max(even_part(columns, most), narrow)
    room = min(room, HALF_L1_BYTES // shape.itemsize)
    most = _most(room, window_size(shape, 1, columns), window_size(shape, 2, columns))
    rows = even_part(shape.o_h, min(most, -(-shape.o_h * planes // slices)))
    slices = min(slices, planes * -(-shape.o_h // rows) * -(-shape.o_w // columns))
    options = {"slices": slices, "rows": rows, "columns": columns}
    return Schedule(slices * window_size(shape, rows, columns), options)


def windows_have_room(shape: ConvShape) -> bool:
    """Whether the least tile of ``depthwise_windows``, as large as its taps reach, has room in a level-2 cache."""
    return window_size(shape, 1, min(shape.o_w, NARROW_TILE)) * shape.itemsize <= HALF_L2_BYTES


def depthwise_algorithm(shape: ConvShape) -> str:
    """The fastest algorithm for one channel per group, of images in n-h-w-c.

    That is ``depthwise`` if there are channels for one of its blocks, two cache lines.  With fewer, vectors of
    pixels are fuller (``depthwise_windows``); but to gather them pays only if every number meets several taps, and
    not where a register is a cache line of channels, which are the vectors of ``direct_grouped``.  Of a long row
    of taps that loads less than ``depthwise``, too: three taps share what they read.
    """
    vectors = whole_vectors(shape)
    if shape.i_c * shape.itemsize < 2 * CACHE_LINE:
        many_taps = shape.k_h * shape.k_w >= WINDOW_TAPS * n_windows(shape)
        pays = many_taps and register_nbytes() < CACHE_LINE
        if windows_have_room(shape) and (pays or not vectors):
            return "depthwise_windows"
        return "direct_grouped" if vectors else "depthwise"
    long_row = shape.k_w >= LONG_TAP_ROW and (shape.k_w % 3 == 0 or shape.k_w >= 2 * LONG_TAP_ROW)
    return "direct_grouped" if vectors and long_row else "depthwise"


def few_filters_per_channel(shape: ConvShape) -> bool:
    """Whether each channel meets so few filters, of several taps, that ``depthwise_windows`` is fastest.

    Vectors of pixels are full whatever the number of filters, vectors of outputs are not.
    """
    share, taps = shape.k_cg * shape.itemsize / CACHE_LINE, shape.k_h * shape.k_w
    large = shape.groups == 1 and taps * shape.itemsize > FEW_TAPS_BYTES
    few = share <= (WINDOW_SHARE_OF_LARGE if large else WINDOW_SHARE)
    return shape.i_cg == 1 < taps and few and windows_have_room(shape)


def _most(room: int, one: int, two: int) -> int:
    """How many have room, at least one, if the first takes ``one`` and every other ``two - one``."""
    return 1 + max(0, room - one) // (two - one)


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
        reading=reads_slices,
        uses_blas=False,
    ),
    Algorithm(
        name="depthwise_windows",
        idea="channel by channel: the rows under a tile are one long row in a window; vectors of pixels",
        source="the definition of a depthwise convolution",
        formula="slices·(windows·lines·pitch + 96)",
        order="bounded",
        unsupported=_depthwise_limit,
        schedule=_depthwise_windows,
        run=depthwise_windows.run,
        reading=reads_strides,
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
