"""What a forward pass keeps for the kernel's gradient: MEC's lowered matrix."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pymec.execution import check_apart, check_out, checked_read
from pymec.kernels.gradients import mec as mec_grad
from pymec.kernels.gradients.rows import mec_kernel_grad_blocking
from pymec.kernels.shared import interrupts
from pymec.shapes import ConvShape
from pymec.threads import effective_n_threads, single_threaded_blas
from pymec.workspace import allocate_output


class SavedLowering:
    """MEC's lowered matrix, kept by :meth:`pymec.ConvPlan.forward_saved`.

    For a 1×1 kernel it is the caller's ``x`` itself, which must not change until the gradient is computed, or a
    copy of it, if ``x`` is a slice.

    Attributes
    ----------
    shape : ConvShape
    nbytes : int
        Bytes kept beside the caller's input: |L|, and none for a 1×1 kernel, whose L is the input itself.
    """

    def __init__(self, shape: ConvShape, lowered: NDArray, nbytes: int, n_threads: int) -> None:
        self.shape = shape
        self.nbytes = nbytes
        self._lowered = lowered
        self._n_threads = n_threads

    def __repr__(self) -> str:
        return f"<SavedLowering of {self.nbytes} bytes>"

    def kernel_grad(self, grad_out: Any, *, out: Any = None) -> NDArray:
        """The kernel's gradient, as :func:`pymec.conv2d_kernel_grad` computes it, without lowering again.

        Parameters
        ----------
        grad_out : array (i_n, o_h, o_w, k_c)
            A slice is copied.
        out : array (k_h, k_w, i_c/G, k_c), optional

        Returns
        -------
        numpy.ndarray
        """
        shape = self.shape
        partner = "the forward pass was in"
        grad_out = checked_read("grad_out", grad_out, "output", shape, shape.output_shape, partner)
        grad_out = np.require(grad_out, requirements=["C", "A"])
        if out is None:
            out = allocate_output(shape.kernel_shape, shape.dtype)
        else:
            check_out(out, "kernel", shape, partner)
            check_apart({"out": out}, {"grad_out": grad_out, "the saved lowering": self._lowered})
        if shape.is_pointwise:
            shape = shape.rows_as_images()
            grad_out = grad_out.reshape(shape.output_shape)
        with single_threaded_blas():
            n_threads = effective_n_threads(self._n_threads)  # one in a forked child
            blocking = mec_kernel_grad_blocking(shape, n_threads)
            interrupts.run(
                shape.multiply_adds, mec_grad.kernel_grad, self._lowered, grad_out, out, shape, n_threads,
                blocking=blocking,
            )  # fmt: skip
        return out
