"""The fastest algorithm on this machine, found by timing them within a budget.

All algorithms that may be taken are first timed on a part of the convolution, a few of its images or a piece of
one.  Those within ``CLOSE`` times of the fastest go on to a part ``GROWTH`` times as large, and in the end to the
whole.  So most of the time is spent on algorithms that may win (successive halving; Jamieson & Talwalkar,
*Non-stochastic Best Arm Identification and Hyperparameter Optimization*, AISTATS 2016).

A call fills its workspace and the prepared kernel with numbers, which bounds its time from below.  Where filling
alone takes longer than the fastest call, or than is left, an algorithm is not called; nor where memory is short.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import numpy as np

from pymec import registry
from pymec.address_space import available_memory
from pymec.execution import execute
from pymec.kept_kernels import keep
from pymec.kernels.shared.machine import FILL_RATE
from pymec.operations import KERNEL_GRAD
from pymec.recipes import Recipe, recipe_of
from pymec.shapes import ConvShape

SECONDS = 1.0
"""The budget where none is given."""

FIRST_PART = 4_000_000
"""Multiply-adds of the first part: the slowest algorithm does them in some milliseconds."""

LEAST_EXTENT = 12
"""Output rows and columns that a part has, unless the whole has fewer: two of Winograd's largest tiles."""

GROWTH = 16
"""How many times larger the next part is."""

CLOSE = 2.0
"""An algorithm goes on to the next part if it took no more than this many times as long as the fastest."""

CALLS = 4
"""Calls of one algorithm on one part, of which the best counts."""

Tell = Callable[[str, int, int], None]


class Tuned(NamedTuple):
    """What was found: the algorithm to take, and the seconds of every algorithm that was timed last.

    Where the budget did not last to the whole, they were timed on a part, and are given in proportion.  A part
    tells which algorithms are far behind, not which is best: the choice is then "auto"'s, if it is not far behind.
    """

    algorithm: str
    seconds: dict[str, float]
    on_the_whole: bool


def tune(
    auto: Recipe, accuracy: str, limit: int | None, seconds: float, tell: Tell = lambda name, done, total: None
) -> Tuned:
    """Time the algorithms that may do what the recipe of "auto" does.

    Parameters
    ----------
    auto : Recipe
        What "auto" takes.  It is called first, so there is an answer however short the time.
    accuracy : {"exact", "fast"}
    limit : int or None
        The most workspace, in bytes.
    seconds : float
        The budget.  No call begins that is expected to end later.
    tell : callable
        Told the algorithm that is timed next, and how many of how many were timed before it on this part.

    Returns
    -------
    Tuned
    """
    end = time.perf_counter() + seconds
    auto = recipe_of(auto.algorithm, auto.run_shape, limit, auto.n_threads, auto.operation)
    rows = registry.TABLES[auto.operation.name].values()
    names = [row.name for row in rows if row.accuracy in (accuracy, "exact")]
    part = _part(auto.shape, FIRST_PART)
    took = _timed_on(part, dict.fromkeys(names, 0.0), auto, limit, end, tell)
    while part != auto.shape:
        larger = _part(auto.shape, GROWTH * part.multiply_adds)
        best, growth = min(took.values()), larger.multiply_adds / part.multiply_adds
        if best * growth > end - time.perf_counter():
            break
        close = (name for name in took if took[name] <= CLOSE * best or name == auto.algorithm.name)
        found = _timed_on(larger, {name: took[name] * growth for name in close}, auto, limit, end, tell)
        if not found:
            break
        part, took = larger, found
    fastest = min(took, key=lambda name: took[name])
    if part != auto.shape and took.get(auto.algorithm.name, math.inf) <= CLOSE * took[fastest]:
        fastest = auto.algorithm.name
    scale = 1.0 if part == auto.shape else auto.shape.multiply_adds / part.multiply_adds
    ordered = {name: took[name] * scale for name in sorted(took, key=lambda name: took[name])}
    return Tuned(fastest, ordered, part == auto.shape)


def _timed_on(
    part: ConvShape, expected: dict[str, float], auto: Recipe, limit: int | None, end: float, tell: Tell
) -> dict[str, float]:
    """Seconds of the best call on a part of each algorithm that can do it and is worth calling.

    "auto"'s is the first of them, then those that are expected to take the least time, or the least memory.
    """
    made = {name: _recipe(auto, part, name, limit) for name in expected}
    able = {name: recipe for name, recipe in made.items() if recipe is not None}
    first = auto.algorithm.name
    order = sorted(able, key=lambda name: (name != first, expected[name], able[name].workspace_nbytes))
    found: dict[str, float] = {}
    for done, name in enumerate(order):
        tell(name, done, len(order))
        best, left = min(found.values(), default=float("inf")), end - time.perf_counter()
        nothing_is_known = name == first and expected[name] == 0
        if nothing_is_known or _worth_calling(able[name], best, expected[name], left):
            try:
                found[name] = _best_call(able[name], best, end)
            except MemoryError:  # under a limit on the address space, say
                if name == first:
                    raise
    return found


def _part(shape: ConvShape, multiply_adds: int) -> ConvShape:
    """The same convolution of fewer images, or of a piece of one: about so many multiply-adds.

    A piece is as wide for its height as the image, if that leaves ``LEAST_EXTENT`` output rows and columns.
    """
    if shape.multiply_adds <= 2 * multiply_adds:
        return shape
    image = shape.multiply_adds // shape.i_n
    if image <= multiply_adds:
        return replace(shape, i_n=multiply_adds // image)
    share = multiply_adds / image
    least_rows, least_columns = min(shape.o_h, LEAST_EXTENT), min(shape.o_w, LEAST_EXTENT)
    columns = max(least_columns, round(shape.o_w * math.sqrt(share)))
    rows = max(least_rows, round(shape.o_h * share * shape.o_w / columns))
    columns = max(least_columns, round(shape.o_w * share * shape.o_h / rows))
    i_h = (rows - 1) * shape.s_h + (shape.k_h - 1) * shape.d_h + 1 - shape.p_t - shape.p_b
    i_w = (columns - 1) * shape.s_w + (shape.k_w - 1) * shape.d_w + 1 - shape.p_l - shape.p_r
    return replace(shape, i_n=1, i_h=min(max(i_h, 1), shape.i_h), i_w=min(max(i_w, 1), shape.i_w))


def _recipe(auto: Recipe, part: ConvShape, name: str, limit: int | None) -> Recipe | None:
    """The algorithm's recipe for a part, if it can do the whole within the limit."""
    row = registry.get(name, auto.operation.name)
    if row.unsupported(auto.shape) is not None or row.unsupported(part) is not None:
        return None
    whole = recipe_of(row, auto.shape, limit, auto.n_threads, auto.operation)
    if limit is not None and whole.workspace_nbytes > limit:
        return None
    return whole if part == auto.shape else recipe_of(row, part, limit, auto.n_threads, auto.operation)


def _worth_calling(made: Recipe, best: float, expected: float, left: float) -> bool:
    """Whether a call may be the fastest, ends in time, and has the memory it needs."""
    filling = made.workspace_nbytes / FILL_RATE
    arrays = made.shape.input_size + made.shape.kernel_size + made.shape.output_size
    needed = made.workspace_nbytes + 2 * arrays * made.shape.itemsize
    return filling < CLOSE * best and max(expected, filling) < left and needed < available_memory()


def _best_call(made: Recipe, best: float, end: float) -> float:
    """Seconds of the best of some calls, as a plan makes them; of one, if it is far behind."""
    shape, operation = made.shape, made.operation
    first, ones = (np.ones(made.extents[operand.role], shape.dtype) for operand in operation.operands)
    second = ones if operation == KERNEL_GRAD else keep(made, ones, take_over=False)
    call = partial(execute, made, first, second, None, None, None)
    took = float("inf")
    for _ in range(CALLS):
        start = time.perf_counter()
        call()
        took = min(took, time.perf_counter() - start)
        best = min(best, took)
        if took > CLOSE * best or start + 2 * took > end:
            break
    return took
