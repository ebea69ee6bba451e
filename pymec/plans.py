"""A convolution that is checked, chosen and sized once, to be called many times.

A plan's forward pass may also keep MEC's lowered matrix for the kernel's gradient.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pymec import layouts, planning, registry, tuning
from pymec.execution import check_apart, check_written, checked, checked_operand, execute
from pymec.kernels.gradients import mec as mec_grad
from pymec.kernels.gradients.rows import mec_kernel_grad_blocking
from pymec.kernels.mec.rows import tuned_schedule
from pymec.operations import CONV2D, KERNEL_GRAD, operation_named
from pymec.recipes import Recipe, parse_bytes, recipe_of
from pymec.shapes import ConvShape, Padding, Pair
from pymec.spelling import shown
from pymec.threads import effective_n_threads, single_threaded_blas
from pymec.workspace import allocate_output, allocate_workspace


class ConvPlan:
    """A convolution, or a gradient of one, checked once and ready to be called; made by :func:`plan`.

    It can be copied, pickled and sent to other processes and machines.  A copy takes the same algorithm and
    prepares its kernel where it arrives: ``copy.copy`` shares the kernel's array, ``copy.deepcopy`` and ``pickle``
    give it one of its own.

    Attributes
    ----------
    operation, algorithm : str
    workspace_nbytes : int
        Scratch that each call needs.
    prepared_nbytes : int
        Bytes that :meth:`prepare` keeps beside the caller's kernel (for Winograd, a transformed copy of it).
    shape : ConvShape
    n_threads : int
    """

    def __init__(self, recipe: Recipe, limit: int | None = None, n_threads: int | None = None) -> None:
        self._recipe = recipe
        self._arguments = (
            recipe.shape, recipe.operation.name, recipe.algorithm.name, recipe.run_shape, limit, n_threads
        )  # fmt: skip
        self._kernel: NDArray | None = None
        self._prepared: NDArray | None = None
        self.shape = recipe.shape
        self.operation = recipe.operation.name
        self.algorithm = recipe.algorithm.name
        self.workspace_nbytes = recipe.workspace_nbytes - recipe.prepared_nbytes
        self.n_threads = recipe.n_threads
        self.prepared_nbytes = recipe.prepared_nbytes

    def __repr__(self) -> str:
        return (
            f"<ConvPlan {self.algorithm}, {self.workspace_nbytes} bytes of workspace, "
            f"{self.n_threads} threads, kernel {'kept' if self._kernel is not None else 'not yet given'}>"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        """For ``copy`` and ``pickle``: the arguments, the algorithm chosen and the kernel.

        The prepared kernel is left out: it begins at a cache line, and its panels are as wide as this CPU's
        vectors.  A copy has another address and perhaps another CPU, so it prepares the kernel anew.
        """
        return _copied, (type(self), *self._arguments, self._kernel)

    def prepare(self, kernel: Any) -> ConvPlan:
        """Keep the kernel for the calls to come and return the plan.

        The kernel is not copied, unless it is not aligned to its element size, and must not change until it is
        prepared again.  The packed or transformed form that some algorithms multiply with takes
        ``prepared_nbytes`` more.
        """
        kernel = np.require(checked_operand(self._recipe, 1, kernel, planned=True), requirements="A")
        nchw = self.shape.layout == "NCHW"
        if self._recipe.prepared_nbytes:
            inner = np.ascontiguousarray(kernel.transpose(layouts.INNER_AXES["kernel"]) if nchw else kernel)
            prepared = np.empty(self._recipe.schedule.prepared, self.shape.dtype)
            self._recipe.for_this_process().prepare(inner, prepared)
            self._prepared = prepared
        self._kernel = kernel
        return self

    def __call__(
        self, x: Any, bias: Any = None, *, activation: str | None = None, out: Any = None, workspace: Any = None
    ) -> NDArray:
        """Convolve ``x``, which has the shape and dtype the plan was made for; see :func:`pymec.conv2d`.

        A plan of the input's gradient takes ``grad_out`` in the place of ``x``, and neither bias nor activation.
        """
        if self._kernel is None:
            raise ValueError("the plan has no kernel yet; call plan.prepare(kernel) first")
        if self._recipe.operation != CONV2D:
            for name, value in (("bias", bias), ("activation", activation)):
                if value is not None:
                    raise ValueError(f"{name} must be None: the gradient with respect to the input has none")
        return execute(self._recipe, x, self._kernel, bias, out, workspace, self._prepared, activation)

    def forward_saved(self, x: Any, bias: Any = None, *, out: Any = None) -> tuple[NDArray, SavedLowering]:
        """Convolve, and keep MEC's lowered matrix for the kernel's gradient.

        Only for plans with ``algorithm="mec"`` or ``"mec_b"`` and NHWC arrays.  Both keep L as ``mec`` stores
        it, without the rows that no output reads, and multiply by Solution B, as Solution A overwrites L at
        the end.

        Returns
        -------
        out : numpy.ndarray
            As from calling the plan.
        saved : SavedLowering
            ``saved.kernel_grad(grad_out)`` is the kernel's gradient, ``saved.nbytes`` what is kept.

        Examples
        --------
        >>> plan = pymec.plan(x.shape, kernel.shape, algorithm="mec").prepare(kernel)
        >>> out, saved = plan.forward_saved(x)
        >>> grad_kernel = saved.kernel_grad(grad_out)
        """
        shape = self.shape
        if self.operation != "conv2d" or self.algorithm not in ("mec", "mec_b") or shape.layout != "NHWC":
            raise ValueError(
                f"forward_saved keeps the lowered matrix of conv2d by 'mec' or 'mec_b' with layout='NHWC'; "
                f"this plan has {self.operation} by {self.algorithm!r} with {shape.layout!r}"
            )
        if self._kernel is None:
            raise ValueError("the plan has no kernel yet; call plan.prepare(kernel) first")
        row = registry.get("mec")
        schedule = tuned_schedule(shape, self.n_threads, None, solution="B")
        made = replace(self._recipe, algorithm=row, schedule=schedule, run_shape=shape)
        x = np.require(checked_operand(made, 0, x), requirements="A")
        lowered = allocate_workspace(made.workspace_nbytes)
        out = execute(made, x, self._kernel, bias, out, lowered)
        kept = x.reshape(-1) if shape.is_pointwise else lowered.view(shape.dtype)
        return out, SavedLowering(shape, kept, made.workspace_nbytes, self.n_threads)


class SavedLowering:
    """MEC's lowered matrix, kept by :meth:`pymec.ConvPlan.forward_saved`.

    For a 1×1 kernel it is the caller's ``x`` itself, which must not change until the gradient is computed.

    Attributes
    ----------
    shape : ConvShape
    nbytes : int
        Bytes kept beside the caller's input: |L|, and none for a 1×1 kernel, whose L is the input.
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
        out : array (k_h, k_w, i_c/G, k_c), optional

        Returns
        -------
        numpy.ndarray
        """
        shape = self.shape
        grad_out = checked("grad_out", grad_out, shape, shape.output_shape, "the forward pass was in")
        grad_out = np.require(grad_out, requirements="A")
        if out is None:
            out = allocate_output(shape.kernel_shape, shape.dtype)
        else:
            check_written("out", out)
            checked("out", out, shape, shape.kernel_shape, "the forward pass was in")
            check_apart({"out": out}, {"grad_out": grad_out, "the saved lowering": self._lowered})
        if shape.is_pointwise:
            shape = shape.rows_as_images()
            grad_out = grad_out.reshape(shape.output_shape)
        with single_threaded_blas():
            n_threads = effective_n_threads(self._n_threads)  # one in a forked child
            blocking = mec_kernel_grad_blocking(shape, n_threads)
            mec_grad.kernel_grad(self._lowered, grad_out, out, shape, n_threads, blocking=blocking)
        return out


def plan(
    x_shape: Sequence[int],
    kernel_shape: Sequence[int],
    *,
    stride: Pair = 1,
    padding: Padding = 0,
    dilation: Pair = 1,
    groups: int = 1,
    dtype: Any = "float32",
    layout: str = "NHWC",
    operation: str = "conv2d",
    algorithm: str = "auto",
    accuracy: str = "exact",
    workspace_limit: int | str | None = None,
    n_threads: int | None = None,
    tune: bool | float = False,
) -> ConvPlan:
    """Check, choose and size a convolution once, to call it many times.

    Parameters
    ----------
    x_shape, kernel_shape, stride, padding, dilation, groups, dtype, layout
        As in :meth:`pymec.ConvShape.from_shapes`.
    operation : {"conv2d", "conv2d_input_grad"}
        What is computed.  The kernel's gradient has no kernel to prepare: call
        :func:`pymec.conv2d_kernel_grad`, or keep L with :meth:`ConvPlan.forward_saved`.
    algorithm, accuracy, workspace_limit, n_threads
        As in :func:`pymec.conv2d`.
    tune : bool or float
        Time the algorithms on this machine and take the fastest, within so many seconds, or one if True; only with
        ``algorithm="auto"``.  Memory that is not there is not asked for.

    Returns
    -------
    ConvPlan

    Examples
    --------
    >>> plan = pymec.plan(x.shape, kernel.shape, padding=1, workspace_limit="1MiB")
    >>> plan.prepare(kernel)(x)
    """
    shape = ConvShape.from_shapes(
        x_shape, kernel_shape, stride=stride, padding=padding, dilation=dilation, groups=groups,
        dtype=dtype, layout=layout,
    )  # fmt: skip
    limit = parse_bytes("workspace_limit", workspace_limit)
    if tune and algorithm != "auto":
        raise ValueError(f"tune chooses the algorithm, so algorithm must be 'auto', got {shown(algorithm)}")
    wanted = operation_named(operation)
    if wanted == KERNEL_GRAD:
        raise ValueError(
            "operation must be 'conv2d' or 'conv2d_input_grad': a plan keeps a kernel, and the kernel's gradient "
            "reads none; call pymec.conv2d_kernel_grad, or ConvPlan.forward_saved"
        )
    made = planning.recipe(shape, algorithm, accuracy, limit, n_threads, wanted, planned=True)
    if tune:
        tuned = tuning.tune(made, accuracy, limit, _budget(tune))
        row = registry.get(tuned.algorithm, operation)
        made = recipe_of(row, shape, limit, made.n_threads, wanted, made.run_shape)
    return ConvPlan(made, limit, n_threads)


def _budget(tune: Any) -> float:
    """The seconds that ``tune`` grants."""
    if isinstance(tune, (bool, np.bool_)):
        return tuning.SECONDS
    if isinstance(tune, (int, float, np.integer, np.floating)) and 0 < tune < math.inf:
        return float(tune)
    raise ValueError(f"tune must be a bool, or a positive number of seconds, got {shown(tune)}")


def _copied(
    kind: type[ConvPlan],
    shape: ConvShape,
    operation: str,
    algorithm: str,
    run_shape: ConvShape,
    limit: int | None,
    n_threads: int | None,
    kernel: NDArray | None,
) -> ConvPlan:
    """A plan by the same algorithm, made by this process for this machine; prepared if there is a kernel."""
    wanted = operation_named(operation)
    threads = effective_n_threads(n_threads, shape.multiply_adds)
    made = recipe_of(registry.get(algorithm, operation), shape, limit, threads, wanted, run_shape)
    copied = kind(planning.within_limit(made, limit), limit, n_threads)
    return copied if kernel is None else copied.prepare(kernel)
