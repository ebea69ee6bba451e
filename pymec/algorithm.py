"""A row of the table of algorithms, and the few functions that rows of several families share."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from numpy.typing import NDArray

from pymec import reference
from pymec.kernels.shared.blas import BLAS_INT_MAX
from pymec.layouts import Reading
from pymec.shapes import ConvShape


@dataclass(frozen=True)
class Schedule:
    """What one call of an algorithm takes: elements of workspace, and options for its ``run``.

    The first ``prepared`` elements of the workspace depend on the kernel alone: a plan keeps them.  ``uses_blas``
    is False if no product of this shape needs BLAS, although products of other shapes do.
    """

    size: int
    options: Mapping[str, Any] = field(default_factory=dict)
    prepared: int = 0
    uses_blas: bool = True


ORDERS = {
    "none": "nothing: there is no workspace",
    "bounded": "a tile, whose size is chosen",
    "plane": "the pixels of an image, not the kernel",
    "k": "one of the kernel's extents",
    "k²": "both of the kernel's extents",
    "transform": "the transformed input and kernel",
}
"""What a workspace grows with, by :attr:`Algorithm.order`."""


def any_batch(shape: ConvShape) -> Hashable:
    """For ``kernel_form``: the prepared kernel may depend on all sizes but the batch."""
    return replace(shape, i_n=1)


def reads_pixels(shape: ConvShape) -> Reading:
    """For ``reading``: whole images in n-h-w-c."""
    return Reading.PIXELS


def reads_slices(shape: ConvShape) -> Reading:
    """For ``reading``: images in n-h-w-c, or slices of them."""
    return Reading.SLICES


def reads_planes(shape: ConvShape) -> Reading:
    """For ``reading``: whole images in n-c-h-w."""
    return Reading.PLANES


def reads_strides(shape: ConvShape) -> Reading:
    """For ``reading``: images and kernels however they lie."""
    return Reading.STRIDES


@dataclass(frozen=True)
class Algorithm:
    """A row of the table.

    Attributes
    ----------
    name, idea, source, formula : str
        Its name, its idea, its publication, and its workspace in elements, in the paper's symbols.
    order : str
        What the workspace grows with: a key of :data:`ORDERS`.
    ours : bool
        Whether it goes beyond what its source describes.
    unsupported : callable
        ``unsupported(shape)`` gives the reason why the algorithm can't do a shape, or None if it can.
    schedule : callable
        ``schedule(shape, n_threads, limit)`` gives a :class:`Schedule`.  ``limit`` is in elements, or None;
        bounded algorithms keep to it if they can and give their smallest schedule if not.
    run : callable
        ``run(x, kernel, out, workspace, shape, n_threads, **options)``: n-h-w-c, h-w-i-o, all C-contiguous, if
        ``reading`` says nothing else.  With ``prepare``, also ``prepared=``; its elements are then not part of
        ``workspace``.  With ``fuses_bias_relu`` also ``bias=`` and ``relu=``.
    reading : callable
        ``reading(shape)`` is the :class:`pymec.layouts.Reading` of ``run``: how its arrays may lie.
    fuses_bias_relu : bool
        Whether ``run`` applies the bias and ReLU itself, in its last write or while a block of outputs is in a
        cache.  Otherwise they are applied in one pass over the output after ``run``.
    prepare : callable, optional
        ``prepare(kernel, prepared, shape, n_threads, **options)`` writes what depends on the kernel alone.
    read_back : callable, optional
        ``read_back(prepared, kernel, shape)`` writes the kernel again, where ``prepare`` only puts its elements in
        another order.
    kernel_form : callable
        ``kernel_form(shape)`` is equal for shapes that have the same prepared kernel.
    uses_blas : bool
        Whether ``run`` calls BLAS, which must then be held to one thread.
    accuracy : {"exact", "fast"}
        "exact" sums the products of the definition; "fast" computes with other products (Winograd, FFT).
    bound : str
        The largest rounding error of an output; u is the unit roundoff.
    error_bound : callable
        ``error_bound(x, kernel, shape)`` is that bound for given arrays, element by element.
    """

    name: str
    idea: str
    source: str
    formula: str
    order: str
    unsupported: Callable[[ConvShape], str | None]
    schedule: Callable[[ConvShape, int, int | None], Schedule]
    run: Callable[..., None]
    reading: Callable[[ConvShape], Reading] = reads_pixels
    prepare: Callable[..., None] | None = None
    read_back: Callable[[NDArray, NDArray, ConvShape], None] | None = None
    kernel_form: Callable[[ConvShape], Hashable] = any_batch
    uses_blas: bool = True
    ours: bool = False
    fuses_bias_relu: bool = True
    accuracy: str = "exact"
    bound: str = "(k_h·k_w·i_c/G + 1)·u·Σ|I·K|"
    error_bound: Callable[[NDArray, NDArray, ConvShape], NDArray] = reference.error_bound


def blas_limit(**extents: int) -> str | None:
    """The reason why a product is too large for BLAS's integer, if one of its extents is."""
    name, largest = max(extents.items(), key=lambda item: item[1])
    if largest <= BLAS_INT_MAX:
        return None
    return f"its {name.replace('_', ' ')} of {largest} is more than BLAS's integer counts ({BLAS_INT_MAX})"


def any_shape(shape: ConvShape) -> None:
    """For ``unsupported``: the algorithm can do every shape."""
    return None


def no_workspace(shape: ConvShape, n_threads: int, limit: int | None) -> Schedule:
    """For ``schedule``: zero bytes, whatever the shape."""
    return Schedule(0)


def thread_slices(units: int, n_threads: int, smallest: int, limit: int | None) -> int:
    """Slices of workspace: one per thread, but no more than units of work, nor than ``limit`` has room for."""
    slices = max(1, min(n_threads, units))
    return slices if limit is None else max(1, min(slices, limit // max(smallest, 1)))
