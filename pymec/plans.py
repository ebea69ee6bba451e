"""The door to plans: check, choose, tune."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypedDict, overload

import numpy as np

from pymec import planning, registry, tuning
from pymec.conv_plans import ConvPlan, KernelGradPlan
from pymec.operations import KERNEL_GRAD, operation_named
from pymec.recipes import parse_bytes, recipe_of
from pymec.shapes import ConvShape, Padding, Pair
from pymec.spelling import shown

if TYPE_CHECKING:
    from typing_extensions import Unpack


class _Options(TypedDict, total=False):
    """The options of :func:`plan`, for type checkers: which plan it returns depends on ``operation`` alone."""

    stride: Pair
    padding: Padding
    dilation: Pair
    groups: int
    dtype: Any
    layout: str
    algorithm: str
    accuracy: str
    workspace_limit: int | str | None
    n_threads: int | None
    tune: bool | float


_Extents: TypeAlias = Sequence[int]
_WithKernel: TypeAlias = Literal["conv2d", "conv2d_input_grad"]


@overload
def plan(
    x_shape: _Extents, kernel_shape: _Extents, *, operation: _WithKernel = ..., **options: Unpack[_Options]
) -> ConvPlan: ...
@overload
def plan(
    x_shape: _Extents,
    kernel_shape: _Extents,
    *,
    operation: Literal["conv2d_kernel_grad"],
    **options: Unpack[_Options],
) -> KernelGradPlan: ...
@overload
def plan(
    x_shape: _Extents, kernel_shape: _Extents, *, operation: str, **options: Unpack[_Options]
) -> ConvPlan | KernelGradPlan: ...
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
) -> ConvPlan | KernelGradPlan:
    """Check, choose and size a convolution once, to call it many times.

    Parameters
    ----------
    x_shape, kernel_shape, stride, padding, dilation, groups, dtype, layout
        As in :meth:`pymec.ConvShape.from_shapes`.
    operation : {"conv2d", "conv2d_input_grad", "conv2d_kernel_grad"}
        What is computed.
    algorithm, accuracy, n_threads
        As in :func:`pymec.conv2d`.
    workspace_limit : int or str, optional
        As there: what a call without the plan may take.  A plan takes no more, workspace and prepared kernel
        together, for every batch that it is called with.
    tune : bool or float
        Time the algorithms on this machine and take the fastest, within so many seconds, or one if True; only with
        ``algorithm="auto"``.  Memory that is not there is not asked for.

    Returns
    -------
    ConvPlan or KernelGradPlan
        The latter for the kernel's gradient, which reads no kernel: it has no ``prepare``.

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
    seconds = _budget(tune)
    if seconds and algorithm != "auto":
        raise ValueError(f"tune chooses the algorithm, so algorithm must be 'auto', got {shown(algorithm)}")
    wanted = operation_named(operation)
    # A batch of no images needs nothing, whatever the algorithm: one image decides what suits later batches.
    some = shape if shape.i_n else replace(shape, i_n=1)
    made = planning.recipe(some, algorithm, accuracy, limit, n_threads, wanted, planned=True)
    if seconds:
        tuned = tuning.tune(made, accuracy, limit, seconds)
        row = registry.get(tuned.algorithm, operation)
        made = recipe_of(row, some, limit, made.n_threads, wanted, made.run_shape)
    if some is not shape:
        made = made.for_batch(0, limit, made.n_threads)
    kind = KernelGradPlan if wanted == KERNEL_GRAD else ConvPlan
    return kind(made, limit, n_threads)


def _budget(tune: Any) -> float:
    """The seconds that ``tune`` grants: none if it is False."""
    if isinstance(tune, (bool, np.bool_)):
        return tuning.SECONDS if tune else 0
    if isinstance(tune, (int, float, np.integer, np.floating)) and 0 < tune < math.inf:
        return float(tune)
    raise ValueError(f"tune must be a bool, or a positive number of seconds, got {shown(tune)}")
