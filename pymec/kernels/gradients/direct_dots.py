"""The input's gradient as dot products along the output channels, where there are few input channels (ours).

The gradient of a first layer has as many channels as its image: three, or one.  So has the output of a decoder's
last transposed convolution, which is such a gradient.  For each phase of the stride
(:mod:`pymec.kernels.gradients.direct_conv`) dI is a convolution of dO with as many filters, and few filters are
what ``direct_dots`` is for.

==========  ==============================  =====================================================
array       shape                           role
==========  ==============================  =====================================================
grad_out    (i_n, o_h, o_w, k_c)            the output's gradient dO
kernel      (k_h, k_w, i_c/G, k_c)          kernel K
prepared    phases of (i_c, taps, k_c/G)    K flipped, phase after phase, one filter for each input channel
grad_x      (i_n, i_h, i_w, i_c)            the input's gradient dI
==========  ==============================  =====================================================

Workspace, in elements:  |K|, the flipped kernel, which a plan keeps.

Any stride, padding and dilation with no more phases than ``direct_conv`` takes; groups of at least 64 bytes of
output channels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from pymec.kernels.gradients.direct_conv import leaves_pixels_out, phases, places
from pymec.kernels.register_tiles import dots
from pymec.kernels.shared.arrays import Array
from pymec.shapes import ConvShape


def _places_of_taps(prepared: Array, shape: ConvShape) -> Iterator[tuple[int, int, Array]]:
    """Each tap (a, b) of K with its place in ``prepared``: (G, i_c/G, k_c/G).

    Taps that are in no phase come last: they meet no pixel, but K can be read back.
    """
    s = shape
    order = np.argsort(places(shape)).tolist()
    counts = [phase.shape.k_h * phase.shape.k_w for phase in phases(shape)]
    counts.append(len(order) - sum(counts))
    taps = iter(order)
    for count in counts:
        size = s.i_c * count * s.k_cg
        block, prepared = prepared[:size].reshape(s.groups, s.i_cg, count, s.k_cg), prepared[size:]
        for t in range(count):
            yield *divmod(next(taps), s.k_w), block[:, :, t]


def flip_kernel(
    kernel: Array, prepared: Array, shape: ConvShape, n_threads: int = 1, columns: Sequence[int] = ()
) -> None:
    """Write the flipped kernel, phase after phase, on one thread."""
    for a, b, place in _places_of_taps(prepared, shape):
        place[...] = kernel[a, b].reshape(shape.i_cg, shape.groups, shape.k_cg).transpose(1, 0, 2)


def flip_back(prepared: Array, kernel: Array, shape: ConvShape) -> None:
    """Write K again."""
    for a, b, place in _places_of_taps(prepared, shape):
        kernel[a, b].reshape(shape.i_cg, shape.groups, shape.k_cg)[...] = place.transpose(1, 0, 2)


def run_input_grad(
    grad_out: Array,
    kernel: Array,
    grad_x: Array,
    workspace: Array,
    shape: ConvShape,
    n_threads: int = 1,
    *,
    prepared: Array,
    columns: Sequence[int],
) -> None:
    """Convolve dO with the taps of each phase, by blocks of ``columns`` for each; ``workspace`` is not used.

    ``prepared`` is what :func:`flip_kernel` has written.
    """
    if leaves_pixels_out(shape):
        grad_x[...] = 0
    for (rows, across, forward, first), together in zip(phases(shape), columns, strict=True):
        filters = prepared[first : first + forward.kernel_size]
        taps = filters.reshape(forward.kernel_shape)  # for its extents: direct_dots reads the filters alone
        dots.run(grad_out, taps, grad_x[:, rows, across], workspace, forward, n_threads, together, filters)
