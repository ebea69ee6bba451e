"""The input's gradient as a forward convolution, by register tiles (ours; the identity is textbook knowledge).

As in :mod:`pymec.kernels.mec_conv_grad`, dI is the convolution of dO, spread out by the stride, with the kernel
turned by 180 degrees and its channels swapped.  Here the tiles of ``direct_blocked`` compute it, or with one
channel per group ``depthwise``: nothing is lowered, and with stride 1 the turned kernel is all that is kept.

==========  ==============================================  ==================================================
array       shape                                           role
==========  ==============================================  ==================================================
grad_out    (i_n, o_h, o_w, k_c)                            the output's gradient dO
kernel      (k_h, k_w, i_c/G, k_c)                          kernel K
turned      (k_h, k_w, k_c/G, i_c)                          K turned and swapped, group by group: K'
spread      (i_n, (o_h-1)·s_h + 1, (o_w-1)·s_w + 1, k_c)    dO with zeros between its pixels; dO itself if s = 1
grad_x      (i_n, i_h, i_w, i_c)                            the input's gradient dI
==========  ==============================================  ==================================================

Workspace, in elements:  |K|, which a plan keeps as K'; if a stride is not 1 also the spread gradient's
i_n·((o_h-1)·s_h + 1)·((o_w-1)·s_w + 1)·k_c.

Shapes as for ``mec_conv``.  With a stride most of what is multiplied are its zeros.
"""

from __future__ import annotations

from numpy.typing import NDArray

from pymec.kernels import depthwise, direct_blocked
from pymec.kernels._tile_cut import TileCut
from pymec.kernels.mec_conv_grad import as_convolution, spread
from pymec.shapes import ConvShape


def run_input_grad(
    grad_out: NDArray,
    kernel: NDArray,
    grad_x: NDArray,
    workspace: NDArray,
    shape: ConvShape,
    n_threads: int = 1,
    prepared: NDArray | None = None,
    cut: TileCut | None = None,
) -> None:
    """Spread dO, then convolve it with the turned kernel (:func:`pymec.kernels.mec_conv_grad.turn_kernel`)."""
    forward = as_convolution(shape)
    if forward is None or prepared is None:
        raise ValueError("shape has no such convolution, or prepared= (see turn_kernel) is missing")
    inner = grad_out if shape.s_h == shape.s_w == 1 else spread(grad_out, workspace, shape)
    turned = prepared.reshape(forward.kernel_shape)
    if forward.i_cg == forward.k_cg == 1:
        depthwise.run(inner, turned, grad_x, workspace, forward, n_threads)
    else:
        direct_blocked.run(inner, turned, grad_x, workspace, forward, n_threads, cut)
