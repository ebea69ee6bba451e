"""Convolutions worth testing, each with its motive; every algorithm meets every one of them."""

from __future__ import annotations

import gc
import itertools
import signal
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest

import pymec
from pymec import ConvShape, layouts, reference, registry
from pymec.kernels.shared.blocking import GemmBlocking


@dataclass(frozen=True)
class Case:
    motive: str
    x: tuple[int, int, int, int]
    kernel: tuple[int, int, int, int]
    options: dict[str, Any] = field(default_factory=dict)

    def shape(self, dtype="float32") -> ConvShape:
        return ConvShape.from_shapes(self.x, self.kernel, dtype=dtype, **self.options)


def case(motive, x, kernel, **options):
    return Case(motive, x, kernel, options)


CASES = [
    # the paper
    case("the paper's figure 1: 7x7, 3x3, one channel", (1, 7, 7, 1), (3, 3, 1, 1)),
    case("the paper's figure 3: three images, five rows", (3, 7, 7, 2), (3, 3, 2, 4)),
    # degenerate
    case("one pixel", (1, 1, 1, 1), (1, 1, 1, 1)),
    case("kernel as large as the input", (2, 5, 4, 3), (5, 4, 3, 6)),
    case("one row", (2, 1, 9, 3), (1, 3, 3, 4)),
    case("one column", (2, 9, 1, 3), (3, 1, 3, 4)),
    case("pointwise: the input is its own lowered matrix", (3, 5, 7, 4), (1, 1, 4, 6)),
    case("1x1 with a stride: gathers, not pointwise", (2, 7, 8, 4), (1, 1, 4, 6), stride=2),
    case("1x1 with padding: a border of zeros", (2, 4, 3, 4), (1, 1, 4, 6), padding=1),
    case("no image", (0, 6, 6, 3), (3, 3, 3, 4)),
    # what implementations of MEC got wrong
    case("kernel not square, tall", (2, 11, 9, 3), (5, 2, 3, 4)),
    case("kernel not square, wide", (2, 9, 11, 3), (2, 5, 3, 4)),
    case("tall kernel with a wide stride: k_h > s_h, k_w <= s_w", (1, 12, 13, 2), (5, 2, 2, 3), stride=(2, 3)),
    case("strides differ", (2, 11, 13, 3), (3, 3, 3, 4), stride=(2, 3)),
    case("stride does not divide i - k", (2, 12, 12, 3), (5, 5, 3, 4), stride=(3, 4)),
    case("stride beyond the kernel: rows nobody reads", (2, 17, 16, 3), (2, 3, 3, 4), stride=(5, 4)),
    case("stride equals the kernel", (1, 12, 12, 3), (3, 3, 3, 4), stride=3),
    case("image not square, output not square", (2, 6, 17, 3), (3, 3, 3, 5)),
    case("horizontal padding counts i_c elements a column", (2, 6, 6, 5), (3, 3, 5, 4), padding=(0, 2)),
    case("vertical padding: rows that are not stored", (2, 6, 6, 5), (3, 3, 5, 4), padding=(2, 0)),
    case("four different sides", (2, 7, 6, 3), (4, 3, 3, 4), padding=((3, 1), (0, 2))),
    case("padding beyond the kernel: rows of nothing but zeros", (1, 4, 4, 2), (2, 2, 2, 3), padding=4),
    case("a kernel taller than the image: every output row has taps on the padding", (1, 6, 5, 2), (20, 2, 2, 3),
         padding=((19, 19), (0, 1))),
    case("padding with a stride beyond the kernel", (2, 9, 9, 2), (2, 2, 2, 3), padding=(3, 5), stride=(4, 3)),
    case("same, even kernel: the odd zero at the end", (2, 7, 8, 3), (4, 2, 3, 4), padding="same"),
    case("same with a stride", (2, 9, 10, 3), (3, 3, 3, 4), padding="same", stride=2),
    case("valid by name", (1, 6, 6, 2), (3, 3, 2, 3), padding="valid"),
    # dilation: rows by residue
    case("dilation", (2, 12, 13, 3), (3, 3, 3, 4), dilation=2),
    case("dilations differ", (2, 14, 13, 2), (3, 2, 2, 4), dilation=(3, 4)),
    case("dilation and stride without common factor", (1, 17, 12, 2), (3, 3, 2, 3),
         dilation=(3, 2), stride=(2, 3)),
    case("dilation and stride with a common factor", (1, 23, 14, 2), (3, 2, 2, 3), dilation=(4, 2), stride=(6, 4)),
    case("more residues than output rows", (1, 12, 9, 2), (2, 3, 2, 3), dilation=(9, 1)),
    case("dilation, stride and padding at once", (2, 15, 14, 2), (3, 3, 2, 4),
         dilation=(2, 3), stride=(3, 2), padding=4),
    # groups
    case("two groups", (2, 8, 9, 6), (3, 3, 3, 4), groups=2),
    case("three groups, all at once", (2, 9, 10, 6), (3, 2, 2, 9), groups=3, stride=2, padding=2, dilation=(1, 2)),
    case("depthwise", (2, 9, 9, 8), (3, 3, 1, 8), groups=8, padding=1),
    case("depthwise with a multiplier", (1, 9, 9, 4), (3, 3, 1, 12), groups=4, padding="same"),
    case("groups that share a line", (2, 9, 20, 32), (3, 3, 4, 32), groups=8, padding=1),
    case("and take a number of inputs of their own", (1, 9, 9, 24), (3, 3, 3, 32), groups=8, stride=2),
    case("depthwise past a block of channels: the last one reaches back", (2, 6, 7, 40), (3, 3, 1, 40), groups=40,
         padding=1),
    case("and with taps that no row of three has", (1, 9, 8, 41), (2, 5, 1, 41), groups=41, stride=2),
    case("groups past a line of channels: the last one reaches back", (2, 6, 7, 72), (3, 3, 2, 72), groups=36,
         padding=1),
    case("one channel, wider than a tile: the last tile reaches back", (2, 5, 230, 1), (3, 5, 1, 1), padding=1),
    case("one column of one channel, in memory a row", (2, 230, 1, 1), (5, 1, 1, 1), padding=(2, 0),
         stride=(2, 1)),
    case("few channels that do not divide a tile", (1, 4, 120, 5), (3, 3, 1, 5), groups=5, padding="same"),
    case("and more columns of taps than one turn takes", (1, 4, 100, 3), (2, 40, 1, 3), groups=3, padding=(0, 30)),
    case("and a stride, and dilation", (1, 9, 130, 3), (3, 4, 1, 3), groups=3, padding=2, stride=(2, 3),
         dilation=2),
    case("pointwise in groups: channels of a group are apart", (2, 5, 5, 6), (1, 1, 3, 4), groups=2),
    # few filters of many channels
    case("few filters of many channels", (2, 9, 10, 20), (3, 4, 20, 3), padding=(1, 2)),
    case("and in groups, with a stride and dilation", (2, 9, 14, 48), (3, 3, 24, 8), groups=2, stride=(1, 2),
         dilation=(2, 1), padding=3),
    # sizes
    case("primes", (3, 13, 17, 5), (3, 7, 5, 11), stride=(2, 1), padding=(1, 3)),
    case("channels past a block of 32 and one more", (1, 6, 6, 7), (3, 3, 7, 65)),
    case("more channels than stay together in a piece", (1, 7, 7, 96), (3, 3, 96, 200)),
    case("a product longer than BLAS's small path: pieces of the sum", (2, 6, 6, 512), (3, 3, 512, 16)),
    case("wide output, few channels: pieces of the columns", (1, 5, 600, 9), (5, 5, 9, 32)),
    case("one output channel", (2, 9, 9, 6), (3, 3, 6, 1)),
]  # fmt: skip

PAPER = [
    Case(name, (1, layer.i_h, layer.i_w, layer.i_c), (layer.k_h, layer.k_w, layer.i_c, layer.k_c),
         {"stride": (layer.s_h, layer.s_w)})
    for name in pymec.layers.PAPER
    for layer in [pymec.layers.get(name)]
]  # fmt: skip


def able(x, kernel, accuracy="fast", **options):
    """The algorithms that can do a convolution; with ``accuracy="exact"``, the exact ones among them."""
    shape = ConvShape.from_shapes(x, kernel, **options)
    return [
        name
        for name, row in registry.ALGORITHMS.items()
        if row.unsupported(shape) is None and accuracy in (row.accuracy, "fast")
    ]


def pairs(algorithms, cases=CASES, able=True):
    """(algorithm, case) for each case that the algorithm can do, or can't."""
    names = list(algorithms)
    return [
        (name, case)
        for case in cases
        for name in names
        if (registry.get(name).unsupported(case.shape()) is None) == able
    ]


def named(value):
    """A test's name for a case, an algorithm or a dtype."""
    return getattr(value, "motive", value)


def blocks_for(shape: ConvShape, blockings, blocks):
    """Each blocking with each block, except where the products become so many that they take seconds."""
    for blocking in itertools.starmap(GemmBlocking, blockings):
        if shape.multiply_adds < 300_000 * blocking.reduction * blocking.columns * blocking.channels:
            yield from itertools.product([blocking], blocks)


def suited(algorithm, x, k_c):
    """A kernel shape and a number of groups that the algorithm can do on input ``x``: 3×3 if possible."""
    shape = suited_layer(algorithm, x, k_c, padding=0)
    return shape.kernel_shape, shape.groups


def suited_layer(algorithm, x, k_c, padding):
    """The first of a few layers on input ``x`` that the algorithm can do: 3×3 with the padding, if possible."""
    i_c = x[3]
    candidates = (
        ((3, 3, i_c, k_c), 1, padding),
        ((1, 1, i_c, k_c), 1, padding),
        ((1, 1, i_c, k_c), 1, 0),
        ((3, 3, 1, -(-k_c // i_c) * i_c), i_c, padding),
        ((3, 3, 1, i_c), i_c, padding),
    )
    row = registry.get(algorithm)
    layers = (
        ConvShape.from_shapes(x, kernel, groups=groups, padding=zeros) for kernel, groups, zeros in candidates
    )
    return next(layer for layer in layers if row.unsupported(layer) is None)


def operands(shape: ConvShape, seed: int = 0):
    """Random input and kernel in n-h-w-c and h-w-i-o: no two elements alike."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(shape.input_shape).astype(shape.dtype)
    kernel = rng.standard_normal(shape.kernel_shape).astype(shape.dtype)
    return x, kernel


def turned(array, role):
    """A copy of an n-h-w-c or h-w-i-o array with its axes in the other order."""
    return np.ascontiguousarray(array.transpose(layouts.OUTER_AXES[role]))


def as_pixels(array, role):
    return array, array


def as_planes(array, role):
    """The same array, lying in memory in the other order."""
    there = turned(array, role)
    return there.transpose(layouts.INNER_AXES[role]), there


def as_slice(array, role):
    """The same array as a part of a larger one, which holds NaN elsewhere."""
    room = np.full([2 * extent + 1 for extent in array.shape], np.nan, array.dtype)
    part = room[tuple(slice(1, None, 2) for _ in array.shape)]
    part[...] = array
    return part, room


@lru_cache(maxsize=256)
def answer(shape: ConvShape):
    """Operands of a shape, their convolution and how far rounding may take it: one oracle for all algorithms."""
    x, kernel = operands(shape)
    return read_only(x, kernel, reference.conv2d(x, kernel, shape), reference.error_bound(x, kernel, shape))


def is_right(out, shape: ConvShape):
    """Whether ``out`` is the convolution of the shape's operands, within rounding: NaN left in it is not."""
    *_, exact, bound = answer(shape)
    return (np.abs(out - exact) <= bound).all()


def measured(shape: ConvShape, algorithm: str, operation: str = "conv2d", n_threads: int = 1):
    """The MemoryReport of a call.

    It is made in this process, as a new one takes two seconds to begin and to find its symbols.  Where the peak
    was without the workspace, as when a table of pytest's or Hypothesis's grew just then, a new process measures
    the call.
    """
    pytest.importorskip("memray", reason="memray exists for Linux and macOS only")
    from pymec.memory import MemoryReport, child, measure_shape

    with TemporaryDirectory() as folder:
        job = {
            "shape": asdict(shape), "algorithm": algorithm, "operation": operation, "limit": None,
            "n_threads": n_threads, "record": f"{folder}/record.bin",
        }  # fmt: skip
        set_apart()
        room = room_for_objects()
        try:
            report = MemoryReport(**child.measured(job))
        finally:
            del room
    if report.workspace or not report.predicted:
        return report
    return measure_shape(shape, algorithm, operation=operation, n_threads=n_threads)


def set_apart():
    """What exists now stays out of later garbage collections, and a measurement begins with one.

    Nothing is lost: what pytest has made of the tests lives to the end.
    """
    gc.collect()
    gc.freeze()


@contextmanager
def signal_raises(number, handler):
    """``handler`` answers signal ``number``, and what it raises reaches the test.

    No garbage is collected meanwhile: Hypothesis is called at every collection, and Python drops what a handler
    raises there.
    """
    before = signal.signal(number, handler)
    gc.disable()
    try:
        yield
    finally:
        signal.signal(number, before)
        gc.enable()


def room_for_objects():
    """Two free megabytes in Python's heap, while the result is held: within a call it would grow by one at once.

    A measuring process needs none: its Python allocates by malloc.
    """
    return [bytes(400) for _ in range(6000)][::500]  # the few that stay keep the pages of the others in the heap


def read_only(*arrays):
    """The arrays, which several tests share."""
    for array in arrays:
        array.flags.writeable = False
    return arrays


def bound_of(row, x, kernel, shape):
    """The algorithm's rounding bound; most have the oracle's, which is kept."""
    return answer(shape)[3] if row.error_bound is reference.error_bound else row.error_bound(x, kernel, shape)


def bound_with(bias, x, kernel, shape):
    """The exact result with a bias, and its error bound: the bias is one more term, anywhere in the sum."""
    exact = reference.conv2d(x, kernel, shape) + bias
    terms = shape.k_h * shape.k_w * shape.i_cg + 1
    size = np.abs(exact) + np.abs(bias)
    return exact, reference.error_bound(x, kernel, shape) + terms * np.finfo(shape.dtype).eps * size
