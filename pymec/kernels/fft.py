"""Convolution by the fast Fourier transform: the whole image at once, lean, and in tiles.

Mathieu, Henaff & LeCun, *Fast Training of Convolutional Networks through FFTs*, 2013, arXiv:1312.5851; in tiles
Highlander & Rodriguez, *Very Efficient Training of Convolutional Neural Networks using Fast Fourier Transform and
Overlap-and-Add*, 2016, arXiv:1601.06815.

A correlation is, frequency by frequency, a product of the image's spectrum with the conjugate of the kernel's.  So
a plane of F_h·F_w numbers takes the same time whatever the size of the kernel, and input channels are summed as
spectra: one transform back per output channel.  The transforms are SciPy's, a well-kept library; this is Python.

=========  ==========================  ==================================================================
array      shape                       role
=========  ==========================  ==================================================================
x          (i_n, i_h, i_w, i_c)        input I
kernel     (k_h, k_w, i_c/G, k_c)      kernel K
X          (…, F_h, ⌊F_w/2⌋ + 1)       spectra of planes of I, complex
Q          (…, F_h, ⌊F_w/2⌋ + 1)       conjugate spectra of planes of K
Y          (…, F_h, ⌊F_w/2⌋ + 1)       Σ_c X_c · Q_c for an output channel
out        (i_n, o_h, o_w, k_c)        output O
=========  ==========================  ==================================================================

Workspace, in elements, S = 2·F_h·(⌊F_w/2⌋ + 1) being one spectrum:

* ``run``, everything kept: S·(i_c·k_c/G + i_n·i_c + i_n·k_c), the first part being Q, which a plan keeps
* ``run_lean``, one kernel spectrum at a time: S·(i_c/G + 2)
* ``run_overlap_save`` and ``run_overlap_add``, tiles: S·(i_c·k_c/G + i_c/G + 1), the first part being Q

The grid F_h × F_w is that of the padded image, or of a tile, up to the next length that factors well; periodic
correlation on it is already right wherever no tap wraps around.  A plane of numbers lies in the room of its
spectrum and is transformed there, so that nothing else is needed but what SciPy takes itself for its results,
half a megabyte or one plane at a time.

Any stride, padding, dilation and number of groups, but a stride saves nothing: every position is computed, and
those between are left out.  Rounding is relative to the norm of a plane, not of a patch
(:mod:`pymec.kernels._fft_bound`); a NaN fills the plane.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from pymec.shapes import ConvShape

LIBRARY_BYTES = 512 * 1024
"""Planes transformed in one call of SciPy: as many as this, or one."""

Grid = tuple[int, int]


# Grids and sizes ---------------------------------------------------------------------------------------


def fast_length(extent: int) -> int:
    """The next length with no prime factor above 5."""
    return scipy.fft.next_fast_len(extent, real=True)


def image_grid(shape: ConvShape) -> Grid:
    """F_h × F_w for the whole padded image."""
    return fast_length(shape.i_h + shape.p_t + shape.p_b), fast_length(shape.i_w + shape.p_l + shape.p_r)


def tile_grid(shape: ConvShape) -> Grid:
    """F_h × F_w for a tile: about three times the kernel's extent, at least 16, at most what the image takes."""

    def length(extent: int, image: int) -> int:
        return fast_length(min(max(3 * extent - 1, 16), image + extent - 1))

    return (
        length(shape.e_h, shape.i_h + shape.p_t + shape.p_b),
        length(shape.e_w, shape.i_w + shape.p_l + shape.p_r),
    )


def spectrum_size(grid: Grid) -> int:
    """S, the real numbers in one spectrum."""
    return 2 * grid[0] * (grid[1] // 2 + 1)


def spectra_of(workspace: NDArray, grid: Grid, *counts: int) -> tuple[list[NDArray], NDArray]:
    """Cut stacks of so many spectra off the front of a workspace; give them and what is left.

    A complex number needs no more alignment than its real part, so any workspace of the right dtype will do.
    """
    stacks = []
    for count in counts:
        size = count * spectrum_size(grid)
        if workspace.size < size:
            raise ValueError(f"workspace has {workspace.size} elements left, but {size} are needed")
        stacks.append(workspace[:size].view(np.result_type(workspace, np.complex64)).reshape(count, grid[0], -1))
        workspace = workspace[size:]
    return stacks, workspace


# Stage 1: planes to spectra ----------------------------------------------------------------------------


def planes_in(spectra: NDArray, grid: Grid) -> NDArray:
    """The real planes F_h × F_w that lie in the room of spectra, all zero."""
    spectra.fill(0)
    return spectra.view(spectra.real.dtype)[..., : grid[1]]


def transform(spectra: NDArray, grid: Grid, n_threads: int = 1) -> None:
    """The spectra of the planes in their room."""
    step = max(1, LIBRARY_BYTES // (spectra.itemsize * math.prod(spectra.shape[1:])))
    planes = spectra.view(spectra.real.dtype)[..., : grid[1]]
    for i in range(0, len(spectra), step):
        spectra[i : i + step] = scipy.fft.rfft2(planes[i : i + step], workers=n_threads)


def transform_kernel(kernel: NDArray, Q: NDArray, shape: ConvShape, grid: Grid, n_threads: int = 1) -> None:
    """Q[i·k_c + m] from the taps of input channel i and output channel m; dilation puts zeros between them."""
    taps = planes_in(Q, grid)[:, : shape.e_h : shape.d_h, : shape.e_w : shape.d_w]
    for i in range(kernel.shape[2]):
        taps[i * kernel.shape[3] : (i + 1) * kernel.shape[3]] = kernel[:, :, i].transpose(2, 0, 1)
    transform(Q, grid, n_threads)
    np.conjugate(Q, out=Q)


# Stage 2: the sum over channels ------------------------------------------------------------------------


def multiply(X: NDArray, Q: NDArray, Y: NDArray) -> None:
    """Y = Σ_c X_c · Q_c, frequency by frequency."""
    np.einsum("chw,chw->hw", X, Q, out=Y)


# Stage 3: back -----------------------------------------------------------------------------------------


def planes_of(Y: NDArray, grid: Grid, n_threads: int = 1) -> Iterator[tuple[int, NDArray]]:
    """The planes of spectra, one after another, each with its number."""
    for i in range(len(Y)):
        yield i, scipy.fft.irfft2(Y[i], s=grid, workers=n_threads)


# The four of them --------------------------------------------------------------------------------------


def prepare(kernel: NDArray, prepared: NDArray, shape: ConvShape, n_threads: int = 1, grid: Grid = (1, 1)) -> None:
    """All kernel spectra, for :func:`run` and the tiles."""
    (Q,), _ = spectra_of(prepared, grid, shape.i_cg * shape.k_c)
    transform_kernel(kernel, Q, shape, grid, n_threads)


def groups_of(shape: ConvShape) -> Iterator[tuple[int, slice, range]]:
    """Every image and group: the image, the group's input channels and its output channels."""
    for n in range(shape.i_n):
        for group in range(shape.groups):
            channels = slice(group * shape.i_cg, (group + 1) * shape.i_cg)
            yield n, channels, range(group * shape.k_cg, (group + 1) * shape.k_cg)


def kernel_spectra(
    kernel: NDArray, workspace: NDArray, shape: ConvShape, grid: Grid, n_threads: int, prepared: NDArray | None
) -> tuple[NDArray, NDArray]:
    """Q as (i_c/G, k_c, F_h, F_w/2 + 1), made at the front of the workspace unless it was before; and the rest."""
    if prepared is None:
        size = shape.i_cg * shape.k_c * spectrum_size(grid)
        prepared, workspace = workspace[:size], workspace[size:]
        prepare(kernel, prepared, shape, n_threads, grid)
    (Q,), _ = spectra_of(prepared, grid, shape.i_cg * shape.k_c)
    return Q.reshape(shape.i_cg, shape.k_c, *Q.shape[1:]), workspace


@np.errstate(all="ignore")  # infinities are results, not errors
def run(
    x: NDArray, kernel: NDArray, out: NDArray, workspace: NDArray, shape: ConvShape, n_threads: int = 1,
    grid: Grid | None = None, prepared: NDArray | None = None,
) -> None:  # fmt: skip
    """All spectra at once: of every image and channel, of every pair of channels, of every output."""
    s = shape
    grid = grid or image_grid(s)
    Q, workspace = kernel_spectra(kernel, workspace, s, grid, n_threads, prepared)
    (X, Y), _ = spectra_of(workspace, grid, s.i_n * s.i_c, s.i_n * s.k_c)
    planes = planes_in(X, grid).reshape(s.i_n, s.i_c, *grid)
    planes[:, :, s.p_t : s.p_t + s.i_h, s.p_l : s.p_l + s.i_w] = x.transpose(0, 3, 1, 2)
    transform(X, grid, n_threads)
    for nm in range(s.i_n * s.k_c):
        n, m = divmod(nm, s.k_c)
        first = m // s.k_cg * s.i_cg
        multiply(X[n * s.i_c + first : n * s.i_c + first + s.i_cg], Q[:, m], Y[nm])
    for nm, plane in planes_of(Y, grid, n_threads):
        out[nm // s.k_c, :, :, nm % s.k_c] = plane[: s.o_h * s.s_h : s.s_h, : s.o_w * s.s_w : s.s_w]


@np.errstate(all="ignore")
def run_lean(
    x: NDArray, kernel: NDArray, out: NDArray, workspace: NDArray, shape: ConvShape, n_threads: int = 1,
    grid: Grid | None = None,
) -> None:  # fmt: skip
    """One group of one image at a time, and of the kernel one spectrum, transformed again for every image."""
    s = shape
    grid = grid or image_grid(s)
    (X, Q, Y), _ = spectra_of(workspace, grid, s.i_cg, 1, 1)
    for n, channels, outputs in groups_of(s):
        planes = planes_in(X, grid)
        planes[:, s.p_t : s.p_t + s.i_h, s.p_l : s.p_l + s.i_w] = x[n, :, :, channels].transpose(2, 0, 1)
        transform(X, grid, n_threads)
        for m in outputs:
            Y.fill(0)
            for i in range(s.i_cg):
                transform_kernel(kernel[:, :, i : i + 1, m : m + 1], Q, s, grid, n_threads)
                np.multiply(X[i], Q[0], out=Q[0])
                np.add(Y, Q, out=Y)
            for _, plane in planes_of(Y, grid, n_threads):
                out[n, :, :, m] = plane[: s.o_h * s.s_h : s.s_h, : s.o_w * s.s_w : s.s_w]


def inside(start: int, length: int, extent: int) -> tuple[slice, slice]:
    """What of start .. start + length lies within an extent: where there, and where counted from start."""
    first = min(max(start, 0), extent)
    end = max(first, min(start + length, extent))
    return slice(first, end), slice(max(first - start, 0), max(first - start, 0) + end - first)


@np.errstate(all="ignore")
def run_overlap_save(
    x: NDArray, kernel: NDArray, out: NDArray, workspace: NDArray, shape: ConvShape, n_threads: int = 1,
    grid: Grid | None = None, prepared: NDArray | None = None,
) -> None:  # fmt: skip
    """Tiles of the input that overlap by the kernel's extent; what has wrapped around is not looked at."""
    s = shape
    grid = grid or tile_grid(s)
    Q, workspace = kernel_spectra(kernel, workspace, s, grid, n_threads, prepared)
    (X, Y), _ = spectra_of(workspace, grid, s.i_cg, 1)
    # Without wrapping, a tile has so many outputs.
    rows, columns = (grid[0] - s.e_h) // s.s_h + 1, (grid[1] - s.e_w) // s.s_w + 1
    for n, channels, outputs in groups_of(s):
        for y in range(0, s.o_h, rows):
            from_h, to_h = inside(y * s.s_h - s.p_t, grid[0], s.i_h)
            n_y = min(rows, s.o_h - y)
            for z in range(0, s.o_w, columns):
                from_w, to_w = inside(z * s.s_w - s.p_l, grid[1], s.i_w)
                n_z = min(columns, s.o_w - z)
                planes_in(X, grid)[:, to_h, to_w] = x[n, from_h, from_w, channels].transpose(2, 0, 1)
                transform(X, grid, n_threads)
                for m in outputs:
                    multiply(X, Q[:, m], Y[0])
                    for _, plane in planes_of(Y, grid, n_threads):
                        out[n, y : y + n_y, z : z + n_z, m] = plane[: n_y * s.s_h : s.s_h, : n_z * s.s_w : s.s_w]


def reached(start: int, axis: tuple[int, int, int, int, int]) -> tuple[slice, slice]:
    """The outputs along one axis that a tile of inputs from ``start`` on reaches, and where its plane has them.

    The axis is given by its grid, extent of the kernel, stride, padding before and outputs.  Position j of
    the plane is the kernel at ``start - (extent - 1) + j`` of the image.
    """
    grid, extent, stride, padding, outputs = axis
    base = start - (extent - 1) + padding  # of the padded image
    first = min(max(0, -(-base // stride)), outputs)
    end = max(first, min(outputs, (base + grid - 1) // stride + 1))
    begin = first * stride - base if end > first else 0
    return slice(first, end), slice(begin, begin + (end - first) * stride, stride)


@np.errstate(all="ignore")
def run_overlap_add(
    x: NDArray, kernel: NDArray, out: NDArray, workspace: NDArray, shape: ConvShape, n_threads: int = 1,
    grid: Grid | None = None, prepared: NDArray | None = None,
) -> None:  # fmt: skip
    """Tiles of the input that do not overlap; their outputs do, and are added up.  Padding is never looked at."""
    s = shape
    grid = grid or tile_grid(s)
    Q, workspace = kernel_spectra(kernel, workspace, s, grid, n_threads, prepared)
    (X, Y), _ = spectra_of(workspace, grid, s.i_cg, 1)
    rows, columns = grid[0] - s.e_h + 1, grid[1] - s.e_w + 1  # of a tile: nothing wraps but zeros
    out.fill(0)
    for n, channels, outputs in groups_of(s):
        for h in range(0, s.i_h, rows):
            to_h, of_h = reached(h, (grid[0], s.e_h, s.s_h, s.p_t, s.o_h))
            n_h = min(rows, s.i_h - h)
            for w in range(0, s.i_w, columns):
                to_w, of_w = reached(w, (grid[1], s.e_w, s.s_w, s.p_l, s.o_w))
                n_w = min(columns, s.i_w - w)
                tile = planes_in(X, grid)[:, s.e_h - 1 :, s.e_w - 1 :]
                tile[:, :n_h, :n_w] = x[n, h : h + n_h, w : w + n_w, channels].transpose(2, 0, 1)
                transform(X, grid, n_threads)
                for m in outputs:
                    multiply(X, Q[:, m], Y[0])
                    for _, plane in planes_of(Y, grid, n_threads):
                        out[n, to_h, to_w, m] += plane[of_h, of_w]
