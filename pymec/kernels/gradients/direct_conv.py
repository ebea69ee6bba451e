"""The input's gradient as forward convolutions, by register tiles (ours; the identity is textbook knowledge).

dI is a convolution of dO with K flipped by 180 degrees, its channels swapped, so every pixel of dI is one sum.
But a stride s would spread dO out, with s - 1 zeros between its pixels, and most products would be of these
zeros.  Here they are left out.  With stride 2, three taps and padding 1, row h of dI meets tap a where
(h + 1 - a)/2 is a whole number y, a row of dO::

    row of dI      0   1   2   3   4   5
                   ------------------------
    tap 0              1       2       3      y, the row of dO under the tap
    tap 1          0       1       2
    tap 2              0       1       2

Even rows meet tap 1 alone, odd rows taps 2 and 0, which lie on neighbouring rows of dO.  These are the two
*phases* of the rows, h mod s_h; the columns have theirs.  The pixels of a phase of both are a convolution of dO
as it lies, with stride 1, by the taps of that phase; its outputs are s_h rows and s_w columns apart in dI.  Each
tap is in one phase, so no product is with a zero between pixels.  (With dilation and g = gcd(s, d), the taps of a
phase are s/g apart, on rows of dO that are d/g apart.)  The tiles of ``direct_blocked`` compute each phase, or
``depthwise`` if every channel is a group and the stride is 1.

==========  ==============================  =====================================================
array       shape                           role
==========  ==============================  =====================================================
grad_out    (i_n, o_h, o_w, k_c)            the output's gradient dO
kernel      (k_h, k_w, i_c/G, k_c)          kernel K
flipped     (k_h, k_w, k_c/G, i_c)          K flipped and swapped, group by group, phase after phase
grad_x      (i_n, i_h, i_w, i_c)            the input's gradient dI
==========  ==============================  =====================================================

Workspace, in elements:  |K|, the flipped kernel, which a plan keeps; where its rows are wide, room for blocks of
it, as the forward ``direct_packed`` has.  The gradient's ``direct_packed`` (:func:`run_packed`) has these blocks
alone: it flips K as it packs it.

Any stride, padding, dilation and number of groups, with up to :data:`MOST_PHASES` phases.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pymec.kernels.direct import depthwise
from pymec.kernels.gradients.flipped_kernel import flip_and_swap
from pymec.kernels.register_tiles import convolution
from pymec.kernels.shared.arrays import Array
from pymec.shapes import ConvShape

MOST_PHASES = 256
"""Phases up to which a schedule is made: 16×16 taps with stride 16 have as many."""


@dataclass(frozen=True)
class CroppedShape(ConvShape):
    """A convolution that may leave the first or last rows or columns of its input unread: negative padding."""

    def __post_init__(self) -> None:
        """No check: the sizes are computed here."""


class AxisPhase(NamedTuple):
    """One phase of the rows, or of the columns: pixels first, first + s, ... of dI."""

    first: int
    first_tap: int
    taps: int
    step: int
    """Taps first_tap, first_tap + step, ... are those of the phase that meet dO."""
    dilation: int
    before: int
    after: int

    @property
    def flipped(self) -> slice:
        """Its taps, the last one first."""
        end = self.first_tap - self.step
        return slice(end + self.taps * self.step, end if end >= 0 else None, -self.step)


class Phase(NamedTuple):
    """The pixels of dI that are a convolution with the same taps."""

    rows: slice
    columns: slice
    taps: tuple[slice, slice]
    """The taps of K, in the order of the convolution."""
    shape: ConvShape
    first: int
    """Where its kernel begins in the flipped kernel, in elements."""


def _axis_phase(first: int, k: int, s: int, d: int, p: int, i: int, o: int) -> AxisPhase | None:
    """Which taps a have y·s = h + p - a·d for h = first, first + s, ... and whole y, and where these y lie.

    With g = gcd(s, d), the taps are s/g apart and their rows y of dO d/g: a convolution with that dilation.  It
    has ``before`` rows of padding above dO and ``after`` below; negative padding leaves rows of dO unread.  Of a
    kernel that is larger than the image, some taps meet no row of dO: the last ones, all above it, and the first
    ones, all below.  They are left out, and if none is left, there is no phase.
    """
    common = math.gcd(s, d)
    step, dilation = s // common, d // common
    pixels = -(-(i - first) // s)
    tap = (first + p) // common * pow(dilation, -1, step) % step  # the first a with first + p - a·d = 0 modulo s
    reach = (-(-(k - tap) // step) - 1) * dilation  # from the first to the last pixel that an output reads
    before = reach - (first + p - tap * d) // s
    above = max(-((pixels - 1 - before) // dilation), 0)
    below = max(reach // dilation - (o - 1 + before) // dilation, 0)
    taps = reach // dilation + 1 - above - below
    if taps < 1:
        return None
    before -= above * dilation
    after = pixels + (taps - 1) * dilation - before - o
    return AxisPhase(first, tap + below * step, taps, step, dilation, before, after)


def _axis_phases(k: int, s: int, d: int, p: int, i: int, o: int) -> list[AxisPhase]:
    """The phases that some tap has: no more than there are taps, and s/gcd(s, d) of them at most."""
    firsts = {(a * d - p) % s for a in range(min(k, s // math.gcd(s, d)))}
    found = [_axis_phase(first, k, s, d, p, i, o) for first in sorted(firsts) if first < i]
    return [phase for phase in found if phase is not None]


def _down_and_across(s: ConvShape) -> tuple[list[AxisPhase], list[AxisPhase]]:
    """The phases of the rows and those of the columns."""
    down = _axis_phases(s.k_h, s.s_h, s.d_h, s.p_t, s.i_h, s.o_h)
    return down, _axis_phases(s.k_w, s.s_w, s.d_w, s.p_l, s.i_w, s.o_w)


def most_phases(shape: ConvShape) -> int:
    """As many phases as there may be, before any of them is looked for."""
    down = min(shape.k_h, shape.s_h // math.gcd(shape.s_h, shape.d_h))
    return down * min(shape.k_w, shape.s_w // math.gcd(shape.s_w, shape.d_w))


@lru_cache(maxsize=256)
def phases(shape: ConvShape) -> tuple[Phase, ...]:
    """The convolutions that compute the input's gradient: one for each phase of the stride that a tap has."""
    s = shape
    down, across = _down_and_across(shape)
    found, first = [], 0

    @lru_cache
    def convolution_of(
        k_h: int, d_h: int, p_t: int, p_b: int, k_w: int, d_w: int, p_l: int, p_r: int
    ) -> CroppedShape:
        """One object for all phases of the same sizes: only their places differ."""
        return CroppedShape(
            i_n=s.i_n, i_h=s.o_h, i_w=s.o_w, i_c=s.k_c, k_h=k_h, k_w=k_w, k_c=s.i_c, s_h=1, s_w=1,
            p_t=p_t, p_b=p_b, p_l=p_l, p_r=p_r, d_h=d_h, d_w=d_w, groups=s.groups, dtype=s.dtype,
        )  # fmt: skip

    for v in down:
        for h in across:
            forward = convolution_of(
                v.taps, v.dilation, v.before, v.after, h.taps, h.dilation, h.before, h.after
            )  # fmt: skip
            rows, columns = slice(v.first, None, s.s_h), slice(h.first, None, s.s_w)
            found.append(Phase(rows, columns, (v.flipped, h.flipped), forward, first))
            first += forward.kernel_size
    return tuple(found)


def leaves_pixels_out(shape: ConvShape) -> bool:
    """Whether some pixels of dI are in no phase: no tap meets them, and their gradient is zero."""
    return len(phases(shape)) < min(shape.s_h, shape.i_h) * min(shape.s_w, shape.i_w)


@lru_cache(maxsize=256)
def taps_of_phases(shape: ConvShape) -> tuple[NDArray[np.intp], ...]:
    """The taps of K, counted row by row, that each phase convolves dO with, in its order: flipped."""
    tap = np.arange(shape.k_h * shape.k_w).reshape(shape.k_h, shape.k_w)
    found = tuple(tap[phase.taps].ravel() for phase in phases(shape))
    for taps in found:
        taps.flags.writeable = False
    return found


@lru_cache(maxsize=256)
def places(shape: ConvShape) -> NDArray[np.intp]:
    """Where in the flipped kernel each tap of K comes to lie: phase after phase, and flipped in each."""
    count = shape.k_h * shape.k_w
    order = [tap for taps in taps_of_phases(shape) for tap in taps.tolist()]
    order += sorted(set(range(count)).difference(order))  # taps that meet no pixel
    found = np.empty(count, np.intp)
    found[order] = np.arange(count)
    found.flags.writeable = False
    return found


def flip_kernel(kernel: Array, flipped: Array, shape: ConvShape, n_threads: int = 1) -> None:
    """Write the flipped kernel, phase after phase."""
    flip_and_swap(kernel, flipped, shape, n_threads, places(shape))


def run_input_grad(
    grad_out: Array,
    kernel: Array,
    grad_x: Array,
    workspace: Array,
    shape: ConvShape,
    n_threads: int = 1,
    *,
    prepared: Array,
    schedules: Sequence[Mapping[str, Any]],
) -> None:
    """Convolve dO with the taps of each phase; ``schedules`` are the options of ``convolution.run`` for each.

    ``prepared`` is what :func:`flip_kernel` has written.
    """
    if leaves_pixels_out(shape):
        grad_x[...] = 0
    for phase, options in zip(phases(shape), schedules, strict=True):
        forward, pixels = phase.shape, grad_x[:, phase.rows, phase.columns]
        taps = prepared[phase.first : phase.first + forward.kernel_size].reshape(forward.kernel_shape)
        if shape.s_h == shape.s_w == forward.i_cg == forward.k_cg == 1:
            depthwise.run(grad_out, taps, grad_x, workspace, forward, n_threads)
        else:
            convolution.run(grad_out, taps, pixels, workspace, forward, n_threads, **options)


def run_packed(
    grad_out: Array,
    kernel: Array,
    grad_x: Array,
    workspace: Array,
    shape: ConvShape,
    n_threads: int = 1,
    *,
    schedules: Sequence[Mapping[str, Any]],
) -> None:
    """The same from K itself, whose taps are transposed as they are packed, block by block in ``workspace``."""
    if leaves_pixels_out(shape):
        grad_x[...] = 0
    for phase, taps, options in zip(phases(shape), taps_of_phases(shape), schedules, strict=True):
        pixels = grad_x[:, phase.rows, phase.columns]
        convolution.run(grad_out, kernel, pixels, workspace, phase.shape, n_threads, taps=taps, **options)
