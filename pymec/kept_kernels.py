"""A kernel as a plan keeps it: the caller's array, the form that the algorithm multiplies with, or both."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pymec import layouts
from pymec.address_space import find_room_for_threads
from pymec.kernels.shared import interrupts
from pymec.recipes import Recipe


@dataclass(frozen=True, eq=False)
class KeptKernel:
    """A kernel that a recipe's algorithm can multiply with at once.

    Attributes
    ----------
    given : array, optional
        The caller's array, in the layout of the call; None if the plan has taken the kernel over.
    kernel : array (k_h, k_w, i_c/G, k_c), or (k_c, i_c/G, k_h, k_w) if the algorithm reads planes
        What the algorithm is given as its kernel.  If there is a prepared form, the algorithm does not read it; it
        is then a view of ``prepared``, and takes no memory.
    prepared : array, optional
        What :meth:`Recipe.prepare` wrote; it may have no elements.
    """

    given: NDArray | None
    kernel: NDArray
    prepared: NDArray | None

    def read_back(self, recipe: Recipe) -> NDArray:
        """The kernel in the layout of the call: the caller's array, or a new one with the same bits."""
        if self.given is not None:
            return self.given
        kernel = np.empty_like(self.kernel)
        if recipe.schedule.prepared:
            assert recipe.algorithm.read_back is not None
            assert self.prepared is not None
            arrays = self.prepared, recipe.as_run("kernel", kernel)
            interrupts.run(0, recipe.algorithm.read_back, *arrays, recipe.run_shape)
        else:
            np.copyto(kernel, self.kernel)
        return np.ascontiguousarray(layouts.outer_view(kernel, "kernel", recipe.shape, recipe.reading))


def keep(recipe: Recipe, kernel: NDArray, take_over: bool) -> KeptKernel:
    """Prepare a checked kernel, and keep the caller's array beside it or, with ``take_over``, only one of them."""
    recipe = recipe.for_this_process()
    row, shape = recipe.algorithm, recipe.shape
    has_form = recipe.schedule.prepared > 0
    if take_over and not can_take_over(recipe):
        raise ValueError(
            f"take_over must be False with {row.name}: it multiplies with a transform of the kernel, from which "
            "the kernel can't be read back to the last bit"
        )
    inner = layouts.in_place(kernel, "kernel", shape, recipe.reading)
    if inner is None:
        room = np.empty(shape.kernel_size, shape.dtype)
        find_room_for_threads(recipe.n_threads, uses_blas=False)
        inner, _ = layouts.enter(kernel, "kernel", room, shape, recipe.reading, recipe.n_threads)
    prepared = None
    if row.prepare is not None:
        prepared = np.empty(recipe.schedule.prepared, shape.dtype)
        recipe.prepare(inner, prepared)
    if has_form:
        assert prepared is not None
        inner = prepared[: shape.kernel_size].reshape(layouts.inner_extents("kernel", shape, recipe.reading))
    is_own_copy = not np.may_share_memory(inner, kernel)
    return KeptKernel(None if take_over and is_own_copy else kernel, inner, prepared)


def can_take_over(recipe: Recipe) -> bool:
    """Whether the kernel can be read back from what the algorithm multiplies with."""
    return recipe.schedule.prepared == 0 or recipe.algorithm.read_back is not None


def form_of(recipe: Recipe) -> tuple[Hashable, ...]:
    """Equal for two recipes if the kernel that one has kept serves the other as it is."""
    shape, row = recipe.shape, recipe.algorithm
    kernel = shape.layout, shape.dtype, shape.kernel_shape
    if recipe.schedule.prepared == 0:
        reading = recipe.reading
        return *kernel, layouts.Reading.PIXELS if reading is layouts.Reading.SLICES else reading
    return *kernel, recipe.operation.name, row.name, recipe.schedule.prepared, row.kernel_form(recipe.run_shape)
