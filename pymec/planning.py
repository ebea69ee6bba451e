"""Which algorithm a call takes, and what fits a limit: arithmetic on shapes, no arrays."""

from __future__ import annotations

from functools import lru_cache

from pymec import auto_rules, registry, threads
from pymec.layouts import Copies, conversion_size
from pymec.operations import CONV2D, Operation
from pymec.recipes import Recipe, recipe_of, said_of_copies
from pymec.shapes import ConvShape, UnsupportedShape
from pymec.spelling import shown

ACCURACIES = ("exact", "fast")


# Choosing -----------------------------------------------------------------------------------------------


def recipe(
    shape: ConvShape,
    algorithm: str,
    accuracy: str,
    limit: int | None,
    n_threads: int | None,
    operation: Operation = CONV2D,
    planned: bool = False,
    copies: Copies | None = None,
) -> Recipe:
    """Choose the algorithm, its threads and its workspace; raise if it can't be done within ``limit`` bytes.

    ``planned`` is whether the kernel will be prepared once and used often; ``copies`` is what of the arrays must
    be copied, or None if arrays are C-contiguous.
    """
    # Outside the cache: the default number of threads may change between calls, and as a key True equals 1.
    threads_used = threads.effective_n_threads(n_threads, shape.multiply_adds)
    if not isinstance(algorithm, str):
        registry.get(algorithm, operation.name)
    if not isinstance(accuracy, str):
        raise ValueError(f"accuracy must be 'exact' or 'fast', got {shown(accuracy)}")
    return cached_recipe(shape, algorithm, accuracy, limit, threads_used, operation, planned, copies)


@lru_cache(maxsize=256)
def cached_recipe(
    shape: ConvShape,
    algorithm: str,
    accuracy: str,
    limit: int | None,
    n_threads: int,
    operation: Operation,
    planned: bool,
    copies: Copies | None,
) -> Recipe:
    """:func:`recipe` for arguments that are checked."""
    if accuracy not in ACCURACIES:
        raise ValueError(f"accuracy must be 'exact' or 'fast', got {shown(accuracy)}")
    if algorithm != "auto":
        row = registry.get(algorithm, operation.name)
        check_supported(row, shape, operation)
        return within_limit(recipe_of(row, shape, limit, n_threads, operation, copies=copies), limit, copies)
    run_shape = auto_rules.as_row(shape)
    order = auto_rules.order_of(operation, shape, auto_rules.Request(n_threads, planned, accuracy, copies))
    tried = []
    for name in order:
        row = registry.get(name, operation.name)
        if row.unsupported(run_shape) is None:
            made = recipe_of(row, shape, limit, n_threads, operation, run_shape, copies)
            if limit is None or made.workspace_nbytes <= limit:
                return made
            tried.append(made)
    least = min(tried, key=lambda made: made.workspace_nbytes)
    layout = "" if least.copies > conversion_size(shape, least.reading) else "NHWC "
    raise ValueError(
        f"workspace_limit of {limit} bytes is too small: {least.algorithm.name} needs at least "
        f"{least.workspace_nbytes} bytes{said_of_copies(least.copies * shape.itemsize)}; pass {layout}arrays that "
        "are C-contiguous and aligned"
    )


def within_limit(made: Recipe, limit: int | None, copies: Copies | None = None) -> Recipe:
    """The recipe, unless the least that its algorithm needs is more than the limit."""
    if limit is not None and made.workspace_nbytes > limit:
        of_these = said_of_copies(made.copies * made.shape.itemsize)
        raise ValueError(
            f"workspace_limit of {limit} bytes is too small: {made.algorithm.name} needs at least "
            f"{made.workspace_nbytes} bytes for this shape{of_these}; {_smallest_hint(made, copies)}"
        )
    return made


def check_supported(row: registry.Algorithm, shape: ConvShape, operation: Operation) -> None:
    """Raise if the algorithm can't do the shape, naming those that can."""
    reason = row.unsupported(shape)
    if reason is not None:
        rows = registry.TABLES[operation.name].values()
        able = [other.name for other in rows if other.unsupported(shape) is None]
        raise UnsupportedShape(f"{row.name} can't do this shape: {reason}; {', '.join(able)} can")


def _smallest_hint(made: Recipe, copies: Copies | None) -> str:
    shape, operation = made.shape, made.operation
    needs = {
        row.name: recipe_of(row, shape, 0, made.n_threads, operation, copies=copies).workspace_nbytes
        for row in registry.TABLES[operation.name].values()
        if row.unsupported(shape) is None
    }
    name = min(needs, key=lambda key: needs[key])
    if name == made.algorithm.name:
        return "no other algorithm needs less"
    return f"the smallest is {name} with {needs[name]}"
