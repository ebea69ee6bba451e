"""The input's gradient as forward convolutions, by register tiles (ours; the identity is textbook knowledge).

As in :mod:`pymec.kernels.gradients.mec_conv`, dI is a convolution of dO with the kernel turned by 180 degrees
and its channels swapped.  A stride would spread dO out, and most products would be of the zeros between its
pixels.  Here they are left out: a pixel of dI has only some of the taps, a stride apart (less with dilation).
So the pixels (h, w) of one phase, h mod s_h and w mod s_w, are a convolution with stride 1 of dO as it lies with
the taps of that phase; its outputs are s_h rows and s_w columns apart in dI.  The tiles of ``direct_blocked``
compute each; with a channel a group and stride 1 ``depthwise`` does.  Nothing is lowered, the turned kernel is
all that is kept.

==========  ==============================  =====================================================
array       shape                           role
==========  ==============================  =====================================================
grad_out    (i_n, o_h, o_w, k_c)            the output's gradient dO
kernel      (k_h, k_w, i_c/G, k_c)          kernel K
turned      (k_h, k_w, k_c/G, i_c)          K turned and swapped, group by group, phase after phase: K'
grad_x      (i_n, i_h, i_w, i_c)            the input's gradient dI
==========  ==============================  =====================================================

Workspace, in elements:  |K|, which a plan keeps as K'.

Any stride, padding, dilation and number of groups.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pymec.kernels.direct import depthwise
from pymec.kernels.gradients import flipped_kernel as _turned
from pymec.kernels.register_tiles import convolution as direct_blocked
from pymec.kernels.register_tiles.schedule import TileSchedule, tile_schedule
from pymec.shapes import ConvShape


@dataclass(frozen=True)
class CroppedShape(ConvShape):
    """A convolution that may leave the first or last rows or columns of its input unread: negative padding."""

    def __post_init__(self) -> None:
        """Nothing is refused: these are no arguments of a user's."""


class Axis(NamedTuple):
    """One phase of the rows, or of the columns: pixels first, first + s, ... of dI."""

    first: int
    first_tap: int
    taps: int
    step: int
    """Taps first_tap, first_tap + step, ... are those of the phase."""
    dilation: int
    before: int
    after: int


class Phase(NamedTuple):
    """The pixels of dI that are a convolution with the same taps."""

    rows: slice
    columns: slice
    shape: ConvShape
    first: int
    """Where its kernel begins in K', in elements."""


def _axis(first: int, k: int, s: int, d: int, p: int, i: int, o: int) -> Axis:
    """Which taps a have y·s = h + p - a·d for h = first, first + s, ... and whole y, and where these y lie.

    With g = gcd(s, d) they are s/g apart, and the pixels y of dO d/g: a convolution with that dilation.  It reads
    ``before`` pixels that would be before dO, and ``after`` behind it; below zero, so many of dO are left unread.
    """
    common = math.gcd(s, d)
    step, dilation = s // common, d // common
    pixels = -(-(i - first) // s)
    tap = next(a for a in range(min(step, k)) if (first + p - a * d) % s == 0)
    reach = (-(-(k - tap) // step) - 1) * dilation  # from the first to the last pixel that an output reads
    before = reach - (first + p - tap * d) // s
    return Axis(first, tap, reach // dilation + 1, step, dilation, before, pixels + reach - before - o)


def _axes(k: int, s: int, d: int, p: int, i: int, o: int) -> list[Axis]:
    """The phases that some tap has: no more than there are taps."""
    firsts = {(a * d - p) % s for a in range(k)}
    return [_axis(first, k, s, d, p, i, o) for first in sorted(firsts) if first < i]


def _down_and_across(s: ConvShape) -> tuple[list[Axis], list[Axis]]:
    """The phases of the rows and those of the columns."""
    down = _axes(s.k_h, s.s_h, s.d_h, s.p_t, s.i_h, s.o_h)
    return down, _axes(s.k_w, s.s_w, s.d_w, s.p_l, s.i_w, s.o_w)


@lru_cache(maxsize=256)
def phases(shape: ConvShape) -> tuple[Phase, ...]:
    """The convolutions that compute the input's gradient: one for each phase of the stride that a tap has."""
    s = shape
    down, across = _down_and_across(shape)
    found, first = [], 0
    for v in down:
        for h in across:
            turned = CroppedShape(
                i_n=s.i_n, i_h=s.o_h, i_w=s.o_w, i_c=s.k_c, k_h=v.taps, k_w=h.taps, k_c=s.i_c, s_h=1, s_w=1,
                p_t=v.before, p_b=v.after, p_l=h.before, p_r=h.after, d_h=v.dilation, d_w=h.dilation,
                groups=s.groups, dtype=s.dtype,
            )  # fmt: skip
            found.append(Phase(slice(v.first, None, s.s_h), slice(h.first, None, s.s_w), turned, first))
            first += turned.kernel_size
    return tuple(found)


def leaves_pixels_out(shape: ConvShape) -> bool:
    """Whether some pixels of dI are of no phase: no tap has them, and their gradient is zero."""
    return len(phases(shape)) < min(shape.s_h, shape.i_h) * min(shape.s_w, shape.i_w)


@lru_cache(maxsize=256)
def places(shape: ConvShape) -> NDArray[np.intp]:
    """Where in K' each tap of K comes to lie: phase after phase, and turned in each."""
    count = shape.k_h * shape.k_w
    tap = np.arange(count).reshape(shape.k_h, shape.k_w)
    down, across = _down_and_across(shape)
    order: list[int] = []
    for v in down:
        for h in across:
            order += tap[v.first_tap :: v.step, h.first_tap :: h.step][::-1, ::-1].ravel().tolist()
    order += sorted(set(range(count)).difference(order))  # taps that no pixel has
    found = np.empty(count, np.intp)
    found[order] = np.arange(count)
    found.flags.writeable = False
    return found


def cuts(shape: ConvShape, n_threads: int) -> tuple[TileSchedule, ...]:
    """How each phase is cut."""
    return tuple(tile_schedule(phase.shape, n_threads, in_panels=False) for phase in phases(shape))


def turn_kernel(
    kernel: NDArray, turned: NDArray, shape: ConvShape, n_threads: int = 1, cuts: object = None
) -> None:
    """K', phase after phase; how these are cut is of no matter to it."""
    _turned.turn(kernel, turned, shape, n_threads, places(shape))


def run_input_grad(
    grad_out: NDArray,
    kernel: NDArray,
    grad_x: NDArray,
    workspace: NDArray,
    shape: ConvShape,
    n_threads: int = 1,
    prepared: NDArray | None = None,
    cuts: tuple[TileSchedule, ...] | None = None,
) -> None:
    """Convolve dO with the taps of each phase (:func:`turn_kernel` has written them into ``prepared``).

    ``workspace`` is not used.
    """
    if prepared is None:
        raise ValueError("prepared= (see turn_kernel) is missing")
    if leaves_pixels_out(shape):
        grad_x[...] = 0
    for i, (rows, columns, turned, first) in enumerate(phases(shape)):
        taps = prepared[first : first + turned.kernel_size].reshape(turned.kernel_shape)
        if shape.s_h == shape.s_w == turned.i_cg == turned.k_cg == 1:
            depthwise.run(grad_out, taps, grad_x, workspace, turned, n_threads)
        else:
            pixels = grad_x[:, rows, columns]
            schedule = tile_schedule(turned, n_threads, in_panels=False) if cuts is None else cuts[i]
            direct_blocked.run(grad_out, taps, pixels, workspace, turned, n_threads, schedule)
