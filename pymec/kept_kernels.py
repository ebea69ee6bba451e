"""A kernel as a plan keeps it: the caller's array, the form that the algorithm multiplies with, or both."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pymec import layouts
from pymec.recipes import Recipe


@dataclass(frozen=True, eq=False)
class KeptKernel:
    """A kernel that a recipe's algorithm can multiply with at once.

    Attributes
    ----------
    given : array, optional
        The caller's array, in the layout of the call; None if the plan holds the kernel in ``prepared`` alone.
    kernel : array (k_h, k_w, i_c/G, k_c)
        What the algorithm is given as its kernel.  Where it multiplies with ``prepared`` it reads none of it:
        then this is the beginning of ``prepared``, which takes no memory of its own.
    prepared : array, optional
        What :meth:`Recipe.prepare` wrote.
    """

    given: NDArray | None
    kernel: NDArray
    prepared: NDArray | None

    def read_back(self, recipe: Recipe) -> NDArray:
        """The kernel in the layout of the call: the caller's array, or a new one with the same bits."""
        if self.given is not None:
            return self.given
        kernel = np.empty(recipe.shape.kernel_shape, recipe.shape.dtype)
        if recipe.schedule.prepared:
            assert recipe.algorithm.read_back is not None
            assert self.prepared is not None
            recipe.algorithm.read_back(self.prepared, recipe.as_run("kernel", kernel), recipe.run_shape)
        else:
            np.copyto(kernel, self.kernel)
        return np.ascontiguousarray(layouts.outer_view(kernel, "kernel", recipe.shape))


def keep(recipe: Recipe, kernel: NDArray, take_over: bool) -> KeptKernel:
    """Prepare a checked kernel, and keep the caller's array beside it or, with ``take_over``, only one of them."""
    row, shape = recipe.algorithm, recipe.shape
    relaid = recipe.schedule.prepared > 0
    if take_over and relaid and row.read_back is None:
        raise ValueError(
            f"take_over must be False with {row.name}: it multiplies with a transform of the kernel, from which "
            "the kernel can't be read back to the last bit"
        )
    inner = layouts.in_place(kernel, "kernel", shape)
    if inner is None:
        room = np.empty(shape.kernel_size, shape.dtype)
        inner, _ = layouts.enter(kernel, "kernel", room, shape, recipe.n_threads)
    prepared = None
    if row.prepare is not None:
        prepared = np.empty(recipe.schedule.prepared, shape.dtype)
        recipe.for_this_process().prepare(inner, prepared)
    if relaid:
        assert prepared is not None
        inner = prepared[: shape.kernel_size].reshape(shape.kernel_shape)
    keeps_another = not np.may_share_memory(inner, kernel)
    return KeptKernel(None if take_over and keeps_another else kernel, inner, prepared)
