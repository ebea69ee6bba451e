"""From a recipe and arrays to a result: checks of the arrays, then the allocations, then the kernel.

All checks of the arguments come first, so that ``out`` is unchanged after an error; not so after an interrupt.
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
from pymec.recipes import Recipe, said_of_copies
from pymec.shapes import ConvShape, dtype_name
from pymec.spelling import shown
from pymec.threads import single_threaded_blas
from pymec.workspace import allocate_output, allocate_workspace

ACTIVATIONS = (None, "relu")

_UNGUARDED = nullcontext()

_OR_SLICES = ", or name an algorithm that reads slices, such as direct_blocked"

_NO_ROOM = (MemoryError, ValueError)  # NumPy's ValueError: the size overflows its integers

_CPU_DEVICES = (1, 3, 11, 13)  # of DLPack: the CPU, and memory of CUDA, ROCm and CUDA's managed that it can read


def execute(
    recipe: Recipe,
    first: Any,
    second: Any,
    bias: Any,
    out: Any,
    workspace: Any,
    activation: str | None = None,
    limit: int | None = None,
) -> NDArray:
    """Check the arrays, allocate what was not given, run the kernel, return ``out``.

    ``first`` and ``second`` are the operands that ``recipe.operation`` names.  A plan passes as ``second`` the
    :class:`KeptKernel` that it has checked, turned and prepared before; and as ``limit`` the bytes that its calls
    may take, since it was chosen before anybody knew which arrays must be copied.
    """
    if not (activation is None or isinstance(activation, str)) or activation not in ACTIVATIONS:
        raise ValueError(f"activation must be None or 'relu', got {shown(activation)}")
    recipe = recipe.for_this_process()
    shape, row, operation = recipe.shape, recipe.algorithm, recipe.operation
    operands = [checked_operand(recipe, 0, first)]
    kept = second if isinstance(second, KeptKernel) else None
    if kept is None:
        operands.append(checked_operand(recipe, 1, second))
    if bias is not None:
        bias = checked_bias(bias, shape)
    if out is not None:
        check_out(out, operation.result, shape, f"{operation.operands[0].name} is")
    roles = operation.roles if kept is None else operation.planned_roles
    places = layouts.places_of(shape, roles, operands, out, recipe.reading)
    needed = recipe.scratch_nbytes(places.copies, planned=kept is not None)
    if limit is not None and needed > limit:
        recipe = recipe.beside(places.copies, limit)
        needed = recipe.scratch_nbytes(places.copies, planned=kept is not None)
        if needed > limit:
            raise ValueError(
                f"workspace_limit is too small for a call that copies {places.copies * shape.itemsize} bytes of "
                f"its arrays: it needs {needed} bytes, and the plan leaves {limit}; pass arrays that are "
                f"C-contiguous and aligned{_OR_SLICES if shape.layout == 'NHWC' else ''}"
            )
    if workspace is not None:
        told_by = "pymec.workspace_size" if kept is None else "plan.workspace_size"
        workspace = _checked_workspace(workspace, recipe, needed, places.copies * shape.itemsize, told_by)
    if out is not None or workspace is not None:
        read = {
            operation.operands[0].name: operands[0],
            operation.operands[1].name: operands[1] if kept is None else kept.given,
            "bias": bias,
        }
        check_apart({"out": out, "workspace": workspace}, read)

    if out is None:
        out = _new_output(recipe, places.lies_last)
    if recipe.computes_nothing:
        return out
    if workspace is None:
        workspace = _new_workspace(recipe, needed)
    scratch = workspace  # what is left of it, as copies and the prepared kernel take their parts
    find_room_for_threads(recipe.n_threads, recipe.calls_blas)
    inner = []
    for operand, role, lies_well in zip(operands, roles, places.operands, strict=False):
        if lies_well:
            view = layouts.inner_view(operand, role, shape, recipe.reading)
        else:
            view, scratch = layouts.enter(operand, role, scratch, shape, recipe.reading, recipe.n_threads)
        inner.append(view)
    if places.result:
        inner_out = layouts.inner_view(out, operation.result, shape, recipe.reading)
    else:
        inner_out, scratch = layouts.place(operation.result, scratch, shape, recipe.reading)
    with single_threaded_blas() if recipe.guards_blas else _UNGUARDED:
        options = {**recipe.schedule.options}
        second, prepared = (inner[1], None) if kept is None else (kept.kernel, kept.prepared)
        if row.prepare is not None:
            if prepared is None:
                size = recipe.schedule.prepared
                prepared, scratch = scratch[:size], scratch[size:]
                recipe.prepare(second, prepared)
            options["prepared"] = prepared
        relu = activation == "relu"
        if recipe.fuses_bias_relu:
            options.update(bias=bias, relu=relu)
        arrays = [inner[0], second, inner_out]
        if recipe.run_shape is not shape:
            arrays = list(map(recipe.as_run, operation.roles, arrays))
        interrupts.run(
            shape.multiply_adds, row.run, *arrays, scratch, recipe.run_shape, recipe.n_threads, **options
        )
    if not recipe.fuses_bias_relu and (bias is not None or relu):
        finish(inner_out, bias, relu, recipe.n_threads)
    if not places.result:
        layouts.leave(inner_out, out, operation.result, shape, recipe.reading, recipe.n_threads)
    return out


def as_array(argument: str, value: Any) -> NDArray:
    """``value`` as an array that shares its memory: NumPy arrays, and what offers ``__array__`` or DLPack."""
    if isinstance(value, np.ndarray):
        if isinstance(value, np.ma.MaskedArray):
            raise TypeError(
                f"{argument} is a masked array, and its mask would be lost; pass {argument}.filled(...)"
            )
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
    """``value`` as an array of these extents and the shape's dtype, or an error.

    In a dtype error ``partner``, such as "x is", names the array that sets the dtype.
    """
    array = as_array(argument, value)
    if array.shape != extents:
        raise ValueError(f"{argument} must have shape {extents}, got {array.shape}")
    if array.dtype != shape.dtype:
        name = dtype_name(argument, array.dtype)
        raise TypeError(f"{argument} is {name}, but {partner} {shape.dtype}; convert one of them")
    return array


def checked_read(
    argument: str, value: Any, role: str, shape: ConvShape, extents: tuple[int, ...], partner: str = "x is"
) -> NDArray:
    """The same for an operand.  With NCHW its strides may be any, as it is copied unless kernels can read it."""
    array = checked(argument, value, shape, extents, partner)
    if shape.layout == "NHWC" and not (array.flags.c_contiguous or layouts.is_slice(array, role, shape)):
        raise _not_contiguous(argument, array, role, "numpy.ascontiguousarray of it")
    return array


def checked_operand(recipe: Recipe, which: int, value: Any, planned: bool = False) -> NDArray:
    """The first or second operand as an array of the recipe's extents and dtype, or an error."""
    operand = recipe.operation.operands[which]
    extents = recipe.extents[operand.role]
    if (
        type(value) is np.ndarray
        and value.shape == extents
        and value.dtype == recipe.dtype
        and (value.flags.c_contiguous or recipe.shape.layout == "NCHW")
    ):
        return value  # nearly always; what follows finds out what is wrong
    alone = planned or which == 0  # no other array has been checked yet
    partner = "the plan was made for" if alone else f"{recipe.operation.operands[0].name} is"
    return checked_read(operand.name, value, operand.role, recipe.shape, extents, partner)


def checked_bias(bias: Any, shape: ConvShape) -> NDArray:
    """The bias as an array that kernels can read."""
    array = checked("bias", bias, shape, (shape.k_c,))
    if not array.flags.aligned:
        raise ValueError("bias is not aligned to its element size; pass a copy")
    if not array.flags.c_contiguous:
        raise _not_contiguous("bias", array, "bias", "numpy.ascontiguousarray of it")
    return array


def check_out(out: Any, role: str, shape: ConvShape, partner: str) -> None:
    """Refuse an ``out`` that a result of that role can't be written to."""
    check_written("out", out)
    checked("out", out, shape, layouts.outer_extents(role, shape), partner)
    if not out.flags.aligned:
        raise ValueError("out is not aligned to its element size; pass an array from numpy.empty")
    if out.flags.c_contiguous:
        return
    if layouts.in_place(out, role, shape, layouts.Reading.SLICES) is None or layouts.overlaps_itself(out):
        raise _not_contiguous("out", out, role, "an array from numpy.empty")


def check_written(argument: str, value: Any) -> None:
    """Refuse an argument that can't be written: not an array, or a read-only one."""
    if not isinstance(value, np.ndarray):
        remedy = "; numpy.asarray of it may share its memory" if hasattr(value, "__array__") else ""
        raise TypeError(f"{argument} must be a numpy.ndarray, got {type(value).__name__}{remedy}")
    if not value.flags.writeable:
        raise ValueError(f"{argument} is read-only; pass an array that may be written")


def _checked_workspace(workspace: Any, recipe: Recipe, needed: int, copied: int, told_by: str) -> NDArray:
    """The part of the caller's workspace that will be used, as elements."""
    check_written("workspace", workspace)
    if not workspace.flags.c_contiguous:
        raise ValueError("workspace must be C-contiguous; pass for instance numpy.empty(nbytes, numpy.uint8)")
    if workspace.nbytes < needed:
        raise ValueError(
            f"workspace has {workspace.nbytes} bytes, but {recipe.algorithm.name} needs {needed} for this call"
            f"{said_of_copies(copied)} ({told_by} tells what C-contiguous arrays need, with "
            f"n_threads={recipe.n_threads})"
        )
    if workspace.dtype.hasobject:
        raise TypeError(
            "workspace must not hold Python objects; pass for instance numpy.empty(nbytes, numpy.uint8)"
        )
    used = workspace.reshape(-1).view(np.uint8)[:needed].view(recipe.dtype)
    if not used.flags.aligned:
        start, itemsize = workspace.ctypes.data, recipe.shape.itemsize
        raise ValueError(f"workspace must be aligned to {itemsize} bytes; it starts at {start:#x}")
    return used


def check_apart(written: dict[str, NDArray | None], read: dict[str, NDArray | None]) -> None:
    """No array that is written may share memory with another one."""
    others = [(name, array) for name, array in read.items() if array is not None]
    for name, array in written.items():
        if array is not None:
            for other, partner in others:
                if _share_memory(array, partner):
                    raise ValueError(f"{name} overlaps {other} in memory; pass an array of its own")
            others.append((name, array))


def _not_contiguous(argument: str, array: NDArray, role: str, remedy: str) -> ValueError:
    is_image = role in ("input", "output")
    or_slice = ", or have adjacent channels and positive steps between pixels" if is_image else ""
    return ValueError(
        f"{argument} must be C-contiguous{or_slice}, got strides {array.strides} for shape {array.shape}; "
        f"pass {remedy} (pymec makes no silent copies)"
    )


def _share_memory(array: NDArray, other: NDArray) -> bool:
    """Whether two arrays have a byte in common; yes, where that would take long to find out.

    Slices of one array may lie between each other's pixels and share nothing.
    """
    if not np.may_share_memory(array, other):
        return False
    try:
        return np.shares_memory(array, other, max_work=10_000)  # type: ignore[arg-type]  # any number will do
    except np.exceptions.TooHardError:
        return True


def _new_output(recipe: Recipe, lies_last: bool) -> NDArray:
    """An array for the result, in the layout of the call; perhaps with its channels last in memory."""
    shape, result = recipe.shape, recipe.operation.result
    extents = shape.extents(result) if lies_last else recipe.extents[result]
    try:
        array = allocate_output(extents, recipe.dtype)
    except _NO_ROOM:
        nbytes = math.prod(extents) * shape.itemsize
        raise MemoryError(f"no room for {nbytes} bytes of output for {recipe.algorithm.name}") from None
    return layouts.outer_view(array, result, shape) if lies_last else array


def _new_workspace(recipe: Recipe, nbytes: int) -> NDArray:
    try:
        return allocate_workspace(nbytes).view(recipe.dtype)
    except _NO_ROOM:
        raise MemoryError(
            f"no room for {nbytes} bytes of workspace for {recipe.algorithm.name}; pass workspace_limit= for an "
            "algorithm that needs less"
        ) from None
