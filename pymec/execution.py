"""From a recipe and arrays to a result: checks of the arrays, then the allocations, then the kernel.

Everything that can fail comes first, so that ``out`` is unchanged after an error.
"""

from __future__ import annotations

import math
from contextlib import nullcontext
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pymec import layouts
from pymec.address_space import find_room_for_threads
from pymec.kernels.shared.bias_relu import finish
from pymec.operations import CONV2D
from pymec.recipes import Recipe
from pymec.shapes import ConvShape, dtype_name
from pymec.threads import single_threaded_blas
from pymec.workspace import allocate_output, allocate_workspace

ACTIVATIONS = (None, "relu")


def execute(
    recipe: Recipe,
    first: Any,
    second: Any,
    bias: Any,
    out: Any,
    workspace: Any,
    prepared: NDArray | None = None,
    activation: str | None = None,
) -> NDArray:
    """Check the arrays, allocate what was not given, run the kernel, return ``out``.

    ``first`` and ``second`` are the operands that ``recipe.operation`` names; ``prepared`` is what
    :meth:`Recipe.prepare` wrote, if the caller kept it.
    """
    if not (activation is None or isinstance(activation, str)) or activation not in ACTIVATIONS:
        raise ValueError(f"activation must be None or 'relu', got {activation!r}")
    recipe = recipe.for_this_process()
    shape, row, operation = recipe.shape, recipe.algorithm, recipe.operation
    needed = recipe.workspace_nbytes - (0 if prepared is None else recipe.prepared_nbytes)
    first, second = checked_operand(recipe, 0, first), checked_operand(recipe, 1, second)
    if bias is not None:
        bias = checked("bias", bias, shape, (shape.k_c,))
    if out is not None:
        check_written("out", out)
        checked("out", out, shape, recipe.extents[operation.result], f"{operation.operands[0].name} is")
    if workspace is not None:
        workspace = _checked_workspace(workspace, recipe, needed)
    names = [operand.name for operand in operation.operands]
    check_apart(
        {"out": out, "workspace": workspace}, dict(zip([*names, "bias"], [first, second, bias], strict=True))
    )

    if out is None:
        out = _allocated(recipe, "output", math.prod(recipe.extents[operation.result]) * shape.itemsize)
    if out.size == 0:
        return out
    if workspace is None:
        workspace = _allocated(recipe, "workspace", needed)
    scratch = workspace.view(shape.dtype)
    conversion = layouts.conversion_size(shape)
    inner_out = out
    if conversion:
        roles = [operand.role for operand in operation.operands]
        inner = layouts.enter(dict(zip(roles, (first, second), strict=True)), scratch, shape)
        first, second, inner_out = inner[roles[0]], inner[roles[1]], inner[operation.result]
        scratch = scratch[conversion:]
    find_room_for_threads(recipe.n_threads, recipe.calls_blas)
    with single_threaded_blas() if recipe.guards_blas else nullcontext():
        options = recipe.schedule.options
        if row.prepare is not None:
            if prepared is None:
                prepared, scratch = np.split(scratch, [recipe.schedule.prepared])
                recipe.prepare(second, prepared)
            options = {**options, "prepared": prepared}
        relu = activation == "relu"
        if operation == CONV2D and row.fuses_bias_relu:
            options = {**options, "bias": bias, "relu": relu}
        row.run(first, second, inner_out, scratch, shape, recipe.n_threads, **options)
    if not row.fuses_bias_relu and (bias is not None or relu):
        finish(inner_out, bias, relu, recipe.n_threads)
    if inner_out is not out:
        layouts.leave(inner_out, out, operation.result)
    return out


def as_array(argument: str, value: Any) -> NDArray:
    """``value`` as an array that shares its memory: NumPy arrays, and what offers ``__array__`` or a buffer."""
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError(f"{argument} is a masked array, and its mask would be lost; pass {argument}.filled(...)")
    if isinstance(value, np.ndarray):
        return value
    if not any(hasattr(value, name) for name in ("__array__", "__array_interface__", "__dlpack__")):
        raise TypeError(f"{argument} must be an array, got {type(value).__name__}; use numpy.asarray")
    try:
        return np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"{argument} can't be read as a NumPy array: {error}") from error


def checked(
    argument: str, value: Any, shape: ConvShape, extents: tuple[int, ...], partner: str = "x is"
) -> NDArray:
    """``value`` as an array that a kernel can read: extents, dtype, alignment and C order are checked.

    In a dtype error ``partner``, such as "x is", names the array that sets the dtype.
    """
    array = as_array(argument, value)
    if array.shape != extents:
        raise ValueError(f"{argument} must have shape {extents}, got {array.shape}")
    if array.dtype != shape.dtype:
        name = dtype_name(argument, array.dtype)
        raise TypeError(f"{argument} is {name}, but {partner} {shape.dtype}; convert one of them with astype")
    flags = array.flags
    if not flags.aligned:
        remedy = "an array from numpy.empty" if argument == "out" else "a copy"
        raise ValueError(f"{argument} is not aligned to its element size; pass {remedy}")
    # With NCHW the operands are copied anyway, whatever their strides.
    if not flags.c_contiguous and (shape.layout == "NHWC" or argument in ("out", "bias")):
        remedy = "an array from numpy.empty" if argument == "out" else "numpy.ascontiguousarray of it"
        raise ValueError(
            f"{argument} must be C-contiguous, got strides {array.strides} for shape {array.shape}; "
            f"pass {remedy} (pymec makes no silent copies)"
        )
    return array


def checked_operand(recipe: Recipe, which: int, value: Any, planned: bool = False) -> NDArray:
    """The first or second operand as an array of the recipe's extents and dtype, or an error."""
    operand = recipe.operation.operands[which]
    alone = planned or which == 0  # no other array has been checked yet
    partner = "the plan was made for" if alone else f"{recipe.operation.operands[0].name} is"
    return checked(operand.name, value, recipe.shape, recipe.extents[operand.role], partner)


def check_written(argument: str, value: Any) -> None:
    """Refuse an argument that can't be written: not an array, or a read-only one."""
    if not isinstance(value, np.ndarray):
        raise TypeError(f"{argument} must be a numpy.ndarray, got {type(value).__name__}")
    if not value.flags.writeable:
        raise ValueError(f"{argument} is read-only; pass an array that may be written")


def _checked_workspace(workspace: Any, recipe: Recipe, needed: int) -> NDArray[np.uint8]:
    """The part of the caller's workspace that will be used, as bytes."""
    check_written("workspace", workspace)
    itemsize = recipe.shape.itemsize
    if not workspace.flags.c_contiguous:
        raise ValueError("workspace must be C-contiguous; pass for instance numpy.empty(nbytes, numpy.uint8)")
    if workspace.nbytes < needed:
        raise ValueError(
            f"workspace has {workspace.nbytes} bytes, but {recipe.algorithm.name} needs {needed} for this call "
            f"(pymec.workspace_size tells, with n_threads={recipe.n_threads})"
        )
    if workspace.dtype.hasobject:
        raise TypeError(
            "workspace must not hold Python objects; pass for instance numpy.empty(nbytes, numpy.uint8)"
        )
    if workspace.ctypes.data % itemsize:
        raise ValueError(f"workspace must be aligned to {itemsize} bytes; it starts at {workspace.ctypes.data:#x}")
    return workspace.reshape(-1).view(np.uint8)[:needed]


def check_apart(written: dict[str, NDArray | None], read: dict[str, NDArray | None]) -> None:
    """No array that is written may share memory with another one."""
    outputs = [(name, array) for name, array in written.items() if array is not None]
    if not outputs:
        return
    inputs = [(name, array) for name, array in read.items() if array is not None]
    for name, array in outputs:
        for other, partner in (*inputs, *outputs):
            if name != other and np.may_share_memory(array, partner):
                raise ValueError(f"{name} overlaps {other} in memory; pass an array of its own")


def _allocated(recipe: Recipe, what: str, nbytes: int) -> NDArray:
    try:
        if what == "output":
            return allocate_output(recipe.extents[recipe.operation.result], recipe.shape.dtype)
        return allocate_workspace(nbytes)
    except (MemoryError, ValueError):  # NumPy's ValueError: the size overflows its integers
        hint = "; pass workspace_limit= for an algorithm that needs less" if what == "workspace" else ""
        raise MemoryError(f"no room for {nbytes} bytes of {what} for {recipe.algorithm.name}{hint}") from None
