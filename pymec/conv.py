"""The public door: check, plan, allocate, run."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from pymec import planning
from pymec.execution import as_array, execute
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
        Input, float32 or float64, C-contiguous.  With ``layout="NCHW"``: (i_n, i_c, i_h, i_w), any strides.
    kernel : array (k_h, k_w, i_c/groups, k_c)
        Of the same dtype.  With ``layout="NCHW"``: (k_c, i_c/groups, k_h, k_w), any strides.
    bias : array (k_c,), optional
        Added to every output pixel.
    stride, dilation : int or pair of ints
        Vertical and horizontal.
    padding : int, pair, two pairs, "valid" or "same"
        Zeros around the input: p, (p_h, p_w) or ((top, bottom), (left, right)).  "valid" is none; "same"
        gives o = ceil(i / s), the odd zero at the end as in JAX and ONNX's SAME_UPPER.
    groups : int
        Input and output channels are split into so many independent convolutions.
    layout : {"NHWC", "NCHW"}
        NHWC is native.  NCHW arrays are converted in the workspace, and counted there.
    algorithm : str
        "auto" (:func:`pymec.explain` shows its choice), or one of :func:`pymec.algorithms`.
    accuracy : {"exact", "fast"}
        What ``algorithm="auto"`` may take.  "exact": only algorithms that add up the very products of the
        definition, in some order.  "fast": also Winograd and FFT, with the error bound of their registry row.
    workspace_limit : int or str, optional
        Bytes, or a text like "64MiB".  The call allocates no more scratch than that, or raises.
    workspace : array, optional
        Scratch to use instead of allocating: contiguous, at least :func:`pymec.workspace_size` bytes.
    out : array, optional
        Where to write the result: C-contiguous, (i_n, o_h, o_w, k_c) or, with NCHW, (i_n, k_c, o_h, o_w).
    n_threads : int, optional
        By default all the CPUs this process may use, and one for very small work.

    Returns
    -------
    numpy.ndarray
        ``out``, or a new array of its shape.

    Raises
    ------
    ValueError, TypeError
        For an argument that can't be: the message names it, what came, and what would do.
    pymec.UnsupportedShape
        (A ValueError.)  For a valid convolution that the named algorithm can't do.

    Notes
    -----
    The zeros of the padding are multiplied by some algorithms and left out by others.  That is the same unless
    the kernel holds an infinity or NaN: a padded pixel then gives NaN with the former and nothing with the latter.

    Examples
    --------
    >>> x = np.random.default_rng(0).standard_normal((1, 227, 227, 3), dtype=np.float32)
    >>> kernel = np.random.default_rng(1).standard_normal((11, 11, 3, 96), dtype=np.float32)
    >>> pymec.conv2d(x, kernel, stride=4, workspace_limit="1MiB").shape
    (1, 55, 55, 96)
    """
    x = as_array("x", x)
    kernel = as_array("kernel", kernel)
    if x.ndim != 4 or kernel.ndim != 4:
        name, array = ("x", x) if x.ndim != 4 else ("kernel", kernel)
        raise ValueError(f"{name} must have four dimensions, got shape {array.shape}; add the missing axis")
    shape = ConvShape.from_shapes(
        x.shape, kernel.shape, stride=stride, padding=padding, dilation=dilation, groups=groups,
        dtype=dtype_name("x", x.dtype), layout=layout,
    )  # fmt: skip
    limit = planning.parse_bytes("workspace_limit", workspace_limit)
    recipe = planning.recipe(shape, algorithm, accuracy, limit, n_threads)
    return execute(recipe, x, kernel, bias, out, workspace)
