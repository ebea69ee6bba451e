"""From a recipe and arrays to a result: checks of the arrays, then the allocations, then the kernel.

Everything that can fail comes first, so that ``out`` is unchanged after an error; not so after an interrupt.
"""

from __future__ import annotations

import math
from contextlib import nullcontext
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pymec import layouts
from pymec.address_space import find_room_for_threads
from pymec.kept_kernels import KeptKernel
from pymec.kernels.shared import interrupts
from pymec.kernels.shared.bias_relu import finish
from pymec.operations import CONV2D
from pymec.recipes import Recipe
from pymec.shapes import ConvShape, dtype_name
from pymec.spelling import shown
from pymec.threads import single_threaded_blas
from pymec.workspace import allocate_output, allocate_workspace

ACTIVATIONS = (None, "relu")

_CPU_DEVICES = (1, 3, 11, 13)  # of DLPack: the CPU, and memory of CUDA, ROCm and CUDA's managed that it can read


def execute(
    recipe: Recipe,
    first: Any,
    second: Any,
    bias: Any,
    out: Any,
    workspace: Any,
    activation: str | None = None,
) -> NDArray:
    """Check the arrays, allocate what was not given, run the kernel, return ``out``.

    ``first`` and ``second`` are the operands that ``recipe.operation`` names.  A plan passes as ``second`` the
    :class:`KeptKernel` that it has checked, turned and prepared before.
    """
    if not (activation is None or isinstance(activation, str)) or activation not in ACTIVATIONS:
        raise ValueError(f"activation must be None or 'relu', got {shown(activation)}")
    recipe = recipe.for_this_process()
    shape, row, operation = recipe.shape, recipe.algorithm, recipe.operation
    operands = [checked_operand(recipe, 0, first)]
    kept = second if isinstance(second, KeptKernel) else None
    if kept is None:
        operands.append(checked_operand(recipe, 1, second))
    needed = recipe.workspace_nbytes if kept is None else recipe.planned_nbytes
    if bias is not None:
        bias = checked("bias", bias, shape, (shape.k_c,))
    if out is not None:
        check_written("out", out)
        checked("out", out, shape, recipe.extents[operation.result], f"{operation.operands[0].name} is")
    unaligned = layouts.unaligned(shape, *operands)
    if unaligned:
        needed += sum(operand.nbytes for operand in unaligned)
    if workspace is not None:
        workspace = _checked_workspace(workspace, recipe, needed)
    check_apart(
        {"out": out, "workspace": workspace},
        {
            operation.operands[0].name: operands[0],
            operation.operands[1].name: operands[1] if kept is None else kept.given,
            "bias": bias,
        },
    )

    if out is None:
        out = _allocated(recipe, "output", math.prod(recipe.extents[operation.result]) * shape.itemsize)
    if recipe.computes_nothing:
        return out
    if workspace is None:
        workspace = _allocated(recipe, "workspace", needed)
    scratch = workspace.view(shape.dtype)
    if unaligned:
        operands, scratch = _aligned(operands, scratch)
    inner_out = out
    if shape.layout == "NCHW":
        by_role = dict(zip(operation.roles, operands, strict=False))
        inner, scratch = layouts.enter(by_role, operation.result, scratch, shape)
        *operands, inner_out = inner.values()
    find_room_for_threads(recipe.n_threads, recipe.calls_blas)
    with single_threaded_blas() if recipe.guards_blas else nullcontext():
        options = recipe.schedule.options
        second, prepared = (operands[1], None) if kept is None else (kept.kernel, kept.prepared)
        if row.prepare is not None:
            if prepared is None:
                prepared, scratch = np.split(scratch, [recipe.schedule.prepared])
                recipe.prepare(second, prepared)
            options = {**options, "prepared": prepared}
        relu = activation == "relu"
        if operation == CONV2D and row.fuses_bias_relu:
            options = {**options, "bias": bias, "relu": relu}
        arrays = [operands[0], second, inner_out]
        if recipe.run_shape is not shape:
            arrays = list(map(recipe.as_run, operation.roles, arrays))
        interrupts.run(
            shape.multiply_adds, row.run, *arrays, scratch, recipe.run_shape, recipe.n_threads, **options
        )
    if not row.fuses_bias_relu and (bias is not None or relu):
        finish(inner_out, bias, relu, recipe.n_threads)
    if inner_out is not out:
        layouts.leave(inner_out, out, operation.result)
    return out


def as_array(argument: str, value: Any) -> NDArray:
    """``value`` as an array that shares its memory: NumPy arrays, and what offers ``__array__`` or DLPack."""
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError(f"{argument} is a masked array, and its mask would be lost; pass {argument}.filled(...)")
    if isinstance(value, np.ndarray):
        return value
    if hasattr(value, "__dask_graph__"):
        raise TypeError(
            f"{argument} is a dask collection, which would be computed whole; pass {argument}.compute(), or "
            "convolve its blocks with dask.array.map_overlap"
        )
    try:
        if hasattr(value, "__dlpack_device__") and value.__dlpack_device__()[0] not in _CPU_DEVICES:
            raise TypeError("it lies on another device; copy it to the CPU")
        if hasattr(value, "__array__") or hasattr(value, "__array_interface__"):
            return np.asarray(value)
        if hasattr(value, "__dlpack__"):
            return np.from_dlpack(value)
    except (TypeError, ValueError, RuntimeError, BufferError) as error:
        raise TypeError(f"{argument} can't be read as a NumPy array: {error}") from error
    raise TypeError(f"{argument} must be an array, got {type(value).__name__}; use numpy.asarray")


def checked(
    argument: str, value: Any, shape: ConvShape, extents: tuple[int, ...], partner: str = "x is"
) -> NDArray:
    """``value`` as an array that a kernel can read, once it is aligned: extents, dtype and order are checked.

    In a dtype error ``partner``, such as "x is", names the array that sets the dtype.
    """
    array = as_array(argument, value)
    if array.shape != extents:
        raise ValueError(f"{argument} must have shape {extents}, got {array.shape}")
    if array.dtype != shape.dtype:
        name = dtype_name(argument, array.dtype)
        raise TypeError(f"{argument} is {name}, but {partner} {shape.dtype}; convert one of them")
    flags = array.flags
    if not flags.aligned and argument in ("out", "bias"):  # operands are copied
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


def _aligned(operands: list[NDArray], scratch: NDArray) -> tuple[list[NDArray], NDArray]:
    """Operands, of which those that are not aligned have been copied into ``scratch``; and the rest of it."""
    found = []
    for operand in operands:
        if not operand.flags.aligned:
            room, scratch = np.split(scratch, [operand.size])
            copy = room.reshape(operand.shape)
            np.copyto(copy, operand)
            operand = copy
        found.append(operand)
    return found, scratch


def check_written(argument: str, value: Any) -> None:
    """Refuse an argument that can't be written: not an array, or a read-only one."""
    if not isinstance(value, np.ndarray):
        remedy = "; numpy.asarray of it may share its memory" if hasattr(value, "__array__") else ""
        raise TypeError(f"{argument} must be a numpy.ndarray, got {type(value).__name__}{remedy}")
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
    start = workspace.__array_interface__["data"][0]
    if start % itemsize:
        raise ValueError(f"workspace must be aligned to {itemsize} bytes; it starts at {start:#x}")
    return workspace.reshape(-1).view(np.uint8)[:needed]


def check_apart(written: dict[str, NDArray | None], read: dict[str, NDArray | None]) -> None:
    """No array that is written may share memory with another one."""
    others = [(name, array) for name, array in read.items() if array is not None]
    for name, array in written.items():
        if array is not None:
            for other, partner in others:
                if np.may_share_memory(array, partner):
                    raise ValueError(f"{name} overlaps {other} in memory; pass an array of its own")
            others.append((name, array))


def _allocated(recipe: Recipe, what: str, nbytes: int) -> NDArray:
    try:
        if what == "output":
            return allocate_output(recipe.extents[recipe.operation.result], recipe.shape.dtype)
        return allocate_workspace(nbytes)
    except (MemoryError, ValueError):  # NumPy's ValueError: the size overflows its integers
        hint = "; pass workspace_limit= for an algorithm that needs less" if what == "workspace" else ""
        raise MemoryError(f"no room for {nbytes} bytes of {what} for {recipe.algorithm.name}{hint}") from None
