"""What one call will take: a shape, the algorithm for it, its threads and its bytes."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from pymec import layouts
from pymec.address_space import find_room_for_threads
from pymec.algorithm import Algorithm, Schedule
from pymec.kernels.shared import interrupts
from pymec.operations import CONV2D, Operation
from pymec.shapes import ConvShape
from pymec.spelling import shown
from pymec.threads import blas_multiplies_alone, forked

_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


@dataclass(frozen=True, eq=False)
class Recipe:
    """A shape, the algorithm chosen for it, threads and schedule: all that a call needs beside its arrays.

    ``run_shape`` is what the algorithm is told: the shape, or its transpose, if a column is run as a row.
    ``copies`` are the elements of arrays that the algorithm can't read or write where they lie.
    """

    shape: ConvShape
    algorithm: Algorithm
    n_threads: int
    schedule: Schedule
    operation: Operation
    run_shape: ConvShape
    copies: int

    @cached_property
    def computes_nothing(self) -> bool:
        """Whether the result has no elements: a batch of no images.  Such a call returns before it allocates."""
        return 0 in self.extents[self.operation.result]

    @cached_property
    def workspace_nbytes(self) -> int:
        """Bytes of one call that is given the kernel: the algorithm's formula and copies of arrays."""
        return self.scratch_nbytes(self.copies)

    @cached_property
    def planned_nbytes(self) -> int:
        """Bytes of one call of a plan, which keeps the kernel in the form that the algorithm reads."""
        copied = layouts.conversion_size(self.shape, self.reading, ("input", "output"))
        return self.scratch_nbytes(copied, planned=True)

    @cached_property
    def prepared_nbytes(self) -> int:
        """Bytes of that form: the algorithm's own; otherwise a copy in the order it reads, if it needs one."""
        size = self.schedule.prepared or layouts.conversion_size(self.shape, self.reading, ("kernel",))
        return size * self.shape.itemsize

    @cached_property
    def guards_blas(self) -> bool:
        """Whether BLAS must be held to one thread: the call uses it, and BLAS may split its largest product.

        No algorithm has a larger product than one of all taps and channels with every pixel of I or O.
        """
        s = self.shape
        pixels = s.i_n * max(s.i_h * s.i_w, s.o_h * s.o_w)
        largest = pixels * s.k_h * s.k_w * s.i_cg * s.k_c
        return self.calls_blas and largest > blas_multiplies_alone()

    @cached_property
    def fuses_bias_relu(self) -> bool:
        """Whether the algorithm itself applies the bias and ReLU, which gradients have not."""
        return self.operation == CONV2D and self.algorithm.fuses_bias_relu

    @cached_property
    def reading(self) -> layouts.Reading:
        """How the algorithm reads and writes its arrays."""
        return self.algorithm.reading(self.run_shape)

    @cached_property
    def calls_blas(self) -> bool:
        """Whether a call multiplies by BLAS."""
        return self.algorithm.uses_blas and self.schedule.uses_blas

    def scratch_nbytes(self, copies: int, planned: bool = False) -> int:
        """Bytes of a call that copies so many elements of its arrays."""
        size = self.schedule.size - (self.schedule.prepared if planned else 0)
        return 0 if self.computes_nothing else (size + copies) * self.shape.itemsize

    def for_this_process(self) -> Recipe:
        """This recipe; in a forked child that has no OpenMP threads, the same for one thread.

        The prepared kernel is the same for any number of threads, and one thread needs no more workspace.
        """
        if self.n_threads == 1 or not forked():
            return self
        return replace(self, n_threads=1, schedule=self.algorithm.schedule(self.run_shape, 1, self.schedule.size))

    def for_batch(self, i_n: int, limit: int | None, n_threads: int) -> Recipe:
        """The same algorithm for a batch of another size: its prepared kernel is the same."""
        shape = replace(self.shape, i_n=i_n)
        run_shape = shape if self.run_shape is self.shape else replace(self.run_shape, i_n=i_n)
        return recipe_of(self.algorithm, shape, limit, n_threads, self.operation, run_shape)

    def beside(self, copies: int, limit: int) -> Recipe:
        """This recipe for a planned call that must copy so many elements of its arrays.

        Workspace and copies together take no more than ``limit`` bytes, if the algorithm can do with so little.
        """
        room = max(0, limit // self.shape.itemsize - copies) + self.schedule.prepared
        return replace(self, schedule=self.algorithm.schedule(self.run_shape, self.n_threads, room), copies=copies)

    def prepare(self, kernel: NDArray, prepared: NDArray) -> None:
        """Write the form of the kernel (h-w-i-o) that the algorithm multiplies with into ``prepared``."""
        assert self.algorithm.prepare is not None
        find_room_for_threads(self.n_threads, self.calls_blas)
        arrays = self.as_run("kernel", kernel), prepared
        options = self.schedule.options
        interrupts.run(0, self.algorithm.prepare, *arrays, self.run_shape, self.n_threads, **options)

    def as_run(self, role: str, array: NDArray) -> NDArray:
        """An array in the order that the algorithm reads, with the extents that it is told."""
        return array.reshape(layouts.inner_extents(role, self.run_shape, self.reading))

    @cached_property
    def dtype(self) -> np.dtype:
        """The shape's dtype, as arrays have it."""
        return np.dtype(self.shape.dtype)

    @cached_property
    def extents(self) -> dict[str, tuple[int, ...]]:
        """The extents of the layer's three arrays, by role, in the layout of the call."""
        return {role: layouts.outer_extents(role, self.shape) for role in layouts.INNER_AXES}


def recipe_of(
    row: Algorithm,
    shape: ConvShape,
    limit: int | None,
    n_threads: int,
    operation: Operation = CONV2D,
    run_shape: ConvShape | None = None,
    copies: layouts.Copies | None = None,
) -> Recipe:
    """The recipe of an algorithm that can do the shape: within ``limit`` bytes, or with the least it needs.

    ``copies`` are counted by :func:`pymec.layouts.copies_of`; without it, those of C-contiguous arrays.
    """
    run_shape = run_shape or shape
    reading = row.reading(run_shape)
    copied = layouts.conversion_size(shape, reading) if copies is None else copies[reading]
    room = None if limit is None else max(0, limit // shape.itemsize - copied)
    return Recipe(shape, row, n_threads, row.schedule(run_shape, n_threads, room), operation, run_shape, copied)


def said_of_copies(nbytes: int) -> str:
    """What an error adds to the bytes that a call needs, if it must copy arrays."""
    return f", {nbytes} of them for copies of arrays that it can't read or write" if nbytes else ""


def parse_bytes(argument: str, value: int | str | None) -> int | None:
    """Bytes as an int, from an int or a text such as ``"64MiB"``; None stays None."""
    if value is None:
        return None
    if isinstance(value, str):
        match = re.fullmatch(r"\s*([0-9]{1,30}(?:\.[0-9]{1,30})?)\s*([KMG]?i?B?)\s*", value, re.IGNORECASE)
        unit = match and match[2].upper()
        if unit in ("K", "M", "G", "KI", "MI", "GI"):
            unit += "B"
        if match and unit in _UNITS:
            return math.floor(Fraction(match[1]) * _UNITS[unit])
    elif isinstance(value, (int, np.integer)) and not isinstance(value, bool) and value >= 0:
        return int(value)
    raise ValueError(
        f"{argument} must be a whole number of bytes or a text like '64MiB' (B, KB, MB, GB, KiB, MiB or GiB), "
        f"got {shown(value)}"
    )
