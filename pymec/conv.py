"""The public door: check, plan, allocate, run; for a convolution and for both of its gradients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pymec import layouts, planning
from pymec.execution import as_array, execute
from pymec.operations import CONV2D, INPUT_GRAD, KERNEL_GRAD, Operation
from pymec.recipes import Recipe, parse_bytes
from pymec.shapes import ConvShape, Padding, Pair, dtype_name


def conv2d(
    x: Any,
    kernel: Any,
    bias: Any = None,
    *,
    stride: Pair = 1,
    padding: Padding = 0,
    dilation: Pair = 1,
    groups: int = 1,
    activation: str | None = None,
    layout: str = "NHWC",
    algorithm: str = "auto",
    accuracy: str = "exact",
    workspace_limit: int | str | None = None,
    workspace: Any = None,
    out: Any = None,
    n_threads: int | None = None,
) -> NDArray:
    """Cross-correlate a batch of images with a kernel, as deep learning's convolution layers do.

    For a convolution in the mathematical sense, pass ``kernel[::-1, ::-1]`` made contiguous.

    Parameters
    ----------
    x : array (i_n, i_h, i_w, i_c)
        Input, float32 or float64, C-contiguous or a slice of such an array.  With ``layout="NCHW"``:
        (i_n, i_c, i_h, i_w), any strides.
    kernel : array (k_h, k_w, i_c/groups, k_c)
        Of the same dtype, C-contiguous.  With ``layout="NCHW"``: (k_c, i_c/groups, k_h, k_w), any strides.
    bias : array (k_c,), optional
        Added to every output pixel.
    stride, dilation : int or pair of ints
        Vertical and horizontal.
    padding : int, pair, two pairs, "valid" or "same"
        Zeros around the input: p, (p_h, p_w) or ((top, bottom), (left, right)).  "valid" is none; "same"
        gives o = ceil(i / s), the odd zero at the end as in JAX and ONNX's SAME_UPPER.
    groups : int
        Number of independent convolutions into which the input and output channels are split.
    activation : {None, "relu"}
        Applied to each output after the bias: nothing, or ReLU.
    layout : {"NHWC", "NCHW"}
        NHWC is native.  NCHW arrays are converted in the workspace, and counted there, unless they lie in memory
        as NHWC (a kernel: as h-w-i-o).  If ``x`` lies so and is not C-contiguous as well, a new output does, too.
        For ``pointwise_planes`` it is NHWC that is converted; ``depthwise_windows`` and ``direct_planes`` take
        both as they lie.
        Slices of images, with positive steps and a contiguous range of channels, are read and written where they
        lie by ``direct_blocked``, ``direct_packed``, ``direct_panels``, ``direct_planes``, ``direct_dots``,
        ``direct_grouped``, ``depthwise`` and ``depthwise_windows``, and in the gradients by ``direct_conv``, too.
        They are copied in the workspace by other algorithms; so are operands that are not aligned to their
        element size.
        :func:`pymec.workspace_size` sees no arrays and takes them for aligned and C-contiguous.
    algorithm : str
        "auto" (:func:`pymec.explain` shows its choice), or one of :func:`pymec.algorithms`.
    accuracy : {"exact", "fast"}
        What ``algorithm="auto"`` may take.  "exact": only algorithms that sum the products of the definition, in
        some order.  "fast": also Winograd and FFT, with the error bound of their registry row.
    workspace_limit : int or str, optional
        Bytes, or a text like "64MiB".  The call allocates no more scratch than that, or raises.  (Scratch
        that SciPy's Fourier transforms allocate comes on top, if such an algorithm is named.)
    workspace : array, optional
        Scratch to use instead of allocating: contiguous, at least :func:`pymec.workspace_size` bytes.
    out : array, optional
        Where to write the result: (i_n, o_h, o_w, k_c), C-contiguous or a slice of such an array.  With NCHW:
        (i_n, k_c, o_h, o_w), C-contiguous, or an image that lies in memory as NHWC, or a slice of one.
    n_threads : int, optional
        By default all the CPUs this process may use, and one for very small work.

    Returns
    -------
    numpy.ndarray
        ``out``, or a new array of its shape.

    Raises
    ------
    ValueError, TypeError
        For an invalid argument: the message names it, the value given, and valid ones.
    pymec.UnsupportedShape
        (A ValueError.)  For a valid convolution that the named algorithm can't do.
    MemoryError
        If there is no room for the output, the workspace or the threads.  After any of these errors ``out`` is as
        it was, with one exception: "fft_lean" asks SciPy for memory for every output channel anew.

    Notes
    -----
    Ctrl-C ends a long call within a second; ``out`` and ``workspace`` may then hold anything.

    Some algorithms multiply the zeros of the padding, others skip them.  The results are the same unless the
    kernel holds an infinity or NaN: then the former give NaN where a padded pixel is read, and the latter don't.

    With exact algorithms an infinity or NaN in the input reaches the outputs that read it, and no others.
    Winograd (with ``accuracy="fast"``) spreads it over a tile of outputs, a Fourier transform over an image.

    Examples
    --------
    >>> x = np.random.default_rng(0).standard_normal((1, 227, 227, 3), dtype=np.float32)
    >>> kernel = np.random.default_rng(1).standard_normal((11, 11, 3, 96), dtype=np.float32)
    >>> pymec.conv2d(x, kernel, stride=4, workspace_limit="1MiB").shape
    (1, 55, 55, 96)
    """
    x, kernel = _operand("x", x), _operand("kernel", kernel)
    shape = ConvShape.from_shapes(
        x.shape, kernel.shape, stride=stride, padding=padding, dilation=dilation, groups=groups,
        dtype=dtype_name("x", x.dtype), layout=layout, names=("x", "kernel"),
    )  # fmt: skip
    recipe = _recipe(CONV2D, shape, [x, kernel], out, algorithm, accuracy, workspace_limit, n_threads)
    return execute(recipe, x, kernel, bias, out, workspace, activation=activation)


def conv2d_input_grad(
    grad_out: Any,
    kernel: Any,
    input_shape: Sequence[int],
    *,
    stride: Pair = 1,
    padding: Padding = 0,
    dilation: Pair = 1,
    groups: int = 1,
    layout: str = "NHWC",
    algorithm: str = "auto",
    workspace_limit: int | str | None = None,
    workspace: Any = None,
    out: Any = None,
    n_threads: int | None = None,
) -> NDArray:
    """The gradient of :func:`conv2d` with respect to its input, also called transposed convolution.

    With out = conv2d(x, kernel) and a scalar function of ``out`` whose gradient is ``grad_out``, this is that
    function's gradient with respect to ``x``.

    Parameters
    ----------
    grad_out : array (i_n, o_h, o_w, k_c)
        Gradient of the output, float32 or float64.  With ``layout="NCHW"``: (i_n, k_c, o_h, o_w).
    kernel : array (k_h, k_w, i_c/groups, k_c)
        Of the same dtype, as in the forward pass.
    input_shape : four ints
        Shape of the forward pass's ``x``; with a stride above 1 ``grad_out`` alone does not tell it.
    stride, padding, dilation, groups, layout
        Of the forward pass, as in :func:`conv2d`.
    algorithm : str
        "auto", or one of ``pymec.algorithms("conv2d_input_grad")``.
    workspace_limit, workspace, n_threads
        As in :func:`conv2d`; :func:`workspace_size` tells the bytes with ``operation="conv2d_input_grad"``.
    out : array, optional
        Where to write the result, of ``input_shape``: laid out as :func:`conv2d` allows it.

    Returns
    -------
    numpy.ndarray
        Of ``input_shape``.  Elements that no output reads are zero.

    Raises
    ------
    ValueError, TypeError, pymec.UnsupportedShape
        As :func:`conv2d`.

    Notes
    -----
    Some pairs of an input element and a kernel tap meet in no output: near a border, or between the steps of
    a stride.  Some algorithms multiply the tap of such a pair by zero, others skip it.  If the tap is
    infinity or NaN, the former give NaN at that element, and the latter don't.
    """
    grad_out, kernel = _operand("grad_out", grad_out), _operand("kernel", kernel)
    shape = ConvShape.from_shapes(
        input_shape, kernel.shape, stride=stride, padding=padding, dilation=dilation, groups=groups,
        dtype=dtype_name("grad_out", grad_out.dtype), layout=layout, names=("input_shape", "kernel"),
    )  # fmt: skip
    operands = [grad_out, kernel]
    recipe = _recipe(INPUT_GRAD, shape, operands, out, algorithm, "exact", workspace_limit, n_threads)
    return execute(recipe, grad_out, kernel, None, out, workspace)


def conv2d_kernel_grad(
    x: Any,
    grad_out: Any,
    kernel_shape: Sequence[int],
    *,
    stride: Pair = 1,
    padding: Padding = 0,
    dilation: Pair = 1,
    groups: int = 1,
    layout: str = "NHWC",
    algorithm: str = "auto",
    workspace_limit: int | str | None = None,
    workspace: Any = None,
    out: Any = None,
    n_threads: int | None = None,
) -> NDArray:
    """The gradient of :func:`conv2d` with respect to its kernel, summed over the batch.

    Parameters
    ----------
    x : array (i_n, i_h, i_w, i_c)
        The forward pass's input, float32 or float64.  With ``layout="NCHW"``: (i_n, i_c, i_h, i_w).
    grad_out : array (i_n, o_h, o_w, k_c)
        Gradient of the output, of the same dtype.  With ``layout="NCHW"``: (i_n, k_c, o_h, o_w).
    kernel_shape : four ints
        Shape of the forward pass's ``kernel``.
    stride, padding, dilation, groups, layout
        Of the forward pass, as in :func:`conv2d`.
    algorithm : str
        "auto", or one of ``pymec.algorithms("conv2d_kernel_grad")``.
    workspace_limit, workspace, n_threads
        As in :func:`conv2d`; :func:`workspace_size` tells the bytes with ``operation="conv2d_kernel_grad"``.
    out : array, optional
        Where to write the result: C-contiguous, of ``kernel_shape``; with NCHW it may also lie as h-w-i-o.

    Returns
    -------
    numpy.ndarray
        Of ``kernel_shape``; zeros if there is no image.  The bias's gradient is ``grad_out`` summed over all
        axes but the channels'.

    Raises
    ------
    ValueError, TypeError, pymec.UnsupportedShape
        As :func:`conv2d`.

    Notes
    -----
    Where a tap lies on padding, some algorithms multiply ``grad_out`` by zero, others skip it.  If ``grad_out`` is
    infinity or NaN there, the former give NaN for that tap, and the latter don't.

    See Also
    --------
    pymec.ConvPlan.forward_saved : keeps MEC's lowered matrix from the forward pass for this.
    """
    x, grad_out = _operand("x", x), _operand("grad_out", grad_out)
    shape = ConvShape.from_shapes(
        x.shape, kernel_shape, stride=stride, padding=padding, dilation=dilation, groups=groups,
        dtype=dtype_name("x", x.dtype), layout=layout, names=("x", "kernel_shape"),
    )  # fmt: skip
    operands = [x, grad_out]
    recipe = _recipe(KERNEL_GRAD, shape, operands, out, algorithm, "exact", workspace_limit, n_threads)
    return execute(recipe, x, grad_out, None, out, workspace)


def _recipe(
    operation: Operation,
    shape: ConvShape,
    operands: list[NDArray],
    out: Any,
    algorithm: str,
    accuracy: str,
    workspace_limit: int | str | None,
    n_threads: int | None,
) -> Recipe:
    """The recipe for these arrays: what must be copied decides between layouts, and is kept within a limit."""
    limit = parse_bytes("workspace_limit", workspace_limit)
    copies = None
    if (limit is not None or shape.layout == "NCHW") and not layouts.lie_plainly(operands, out):
        written = out if isinstance(out, np.ndarray) and out.ndim == 4 else None  # another is refused later
        copies = layouts.copies_of(shape, operation.roles, operands, written)
    return planning.recipe(shape, algorithm, accuracy, limit, n_threads, operation, copies=copies)


def _operand(name: str, value: Any) -> NDArray:
    """An array of four dimensions."""
    array = value if type(value) is np.ndarray else as_array(name, value)
    if array.ndim != 4:
        raise ValueError(f"{name} must have four dimensions, got shape {array.shape}; add the missing axis")
    return array
