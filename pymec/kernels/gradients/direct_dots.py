"""The input's gradient as dot products along the output channels, with K read where it lies (ours).

For each phase of the stride (:mod:`pymec.kernels.gradients.direct_conv`) dI is a convolution of dO with K flipped:

    dI[n, h, w, c] = sum over a, b, m of dO[n, y, x, m] · K[a, b, c, m]

In both factors the output channels m are adjacent: those of a pixel of dO, and those of a tap and an input channel
of K.  So the forward ``direct_dots`` can take its filters from K as it lies.  From one tap of the convolution to
the next the step in K is negative, which flips it.

That is for few input channels, as the gradient of a first layer has, or the output of a decoder's last transposed
convolution; and for few pixels, where to re-lay K would take longer than to multiply it.

==========  ==============================  =====================================================
array       shape                           role
==========  ==============================  =====================================================
grad_out    (i_n, o_h, o_w, k_c)            the output's gradient dO
kernel      (k_h, k_w, i_c/G, k_c)          kernel K
grad_x      (i_n, i_h, i_w, i_c)            the input's gradient dI
==========  ==============================  =====================================================

Workspace, in elements:  0

Any stride, padding and dilation with no more phases than ``direct_conv`` takes; groups of at least 64 bytes of
output channels.
"""

from __future__ import annotations

from collections.abc import Sequence

from pymec.kernels.gradients.direct_conv import leaves_pixels_out, phases
from pymec.kernels.register_tiles import dots
from pymec.kernels.shared.arrays import Array
from pymec.shapes import ConvShape


def run_input_grad(
    grad_out: Array,
    kernel: Array,
    grad_x: Array,
    workspace: Array,
    shape: ConvShape,
    n_threads: int = 1,
    *,
    columns: Sequence[int],
) -> None:
    """Convolve dO with the taps of each phase, by blocks of ``columns`` for each; ``workspace`` is not used."""
    if leaves_pixels_out(shape):
        grad_x[...] = 0
    filters = kernel.reshape(shape.k_h, shape.k_w, shape.i_cg, shape.groups, shape.k_cg).swapaxes(2, 3)
    for phase, together in zip(phases(shape), columns, strict=True):
        pixels = grad_x[:, phase.rows, phase.columns]
        dots.convolve(grad_out, filters[phase.taps], pixels, phase.shape, n_threads, together)
