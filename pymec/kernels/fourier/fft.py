"""Convolution by the fast Fourier transform: the whole image at once, lean, and in tiles.

Mathieu, Henaff & LeCun, *Fast Training of Convolutional Networks through FFTs*, 2013, arXiv:1312.5851; in tiles
Highlander & Rodriguez, *Very Efficient Training of Convolutional Neural Networks using Fast Fourier Transform and
Overlap-and-Add*, 2016, arXiv:1601.06815.

A correlation is, frequency by frequency, a product of the image's spectrum with the conjugate of the kernel's.  So
a plane of F_h·F_w numbers takes the same time whatever the size of the kernel, and input channels are summed as
spectra: one transform back per output channel.  :func:`one_image` is the whole method; the rest does the same in a
workspace.  Transforms are SciPy's; :mod:`pymec.kernels.fourier.products` calls BLAS for every frequency.

=========  ====================================  ==================================================
array      shape                                 role
=========  ====================================  ==================================================
x          (i_n, i_h, i_w, i_c)                  input I
kernel     (k_h, k_w, i_c/G, k_c)                kernel K
X          (F_h, ⌊F_w/2⌋ + 1, n, i_c)            spectra of planes of I, complex
Q          (F_h, ⌊F_w/2⌋ + 1, i_c/G, k_c)        conjugate spectra of planes of K
Y          (F_h, ⌊F_w/2⌋ + 1, n, k_c)            X · Q, a matrix product for every frequency
out        (i_n, o_h, o_w, k_c)                  output O
=========  ====================================  ==================================================

Workspace, in elements, S = 2·F_h·(⌊F_w/2⌋ + 1) being one spectrum:

* ``run``, everything kept: S·(i_c·k_c/G + i_n·i_c + i_n·k_c), the first part being Q, which a plan keeps
* ``run_lean``, one kernel spectrum at a time: S·(i_c/G + 2)
* ``run_overlap_save`` and ``run_overlap_add``, tiles: S·(i_c·k_c/G + i_c + k_c), the first part being Q

The grid F_h × F_w is that of the padded image, or of a tile, each length rounded up to one that factors well.
Periodic correlation on it is already right wherever no tap wraps around.  Channels stay adjacent, as they are in
x and in the kernel.  SciPy's own arrays come on top: about twice half a megabyte, or twice the spectra of
eight planes (of one, for ``run_lean``) where these are larger.

Any stride, padding, dilation and number of groups, but a stride saves nothing: every position is computed, and
those between the outputs are dropped.  Rounding is relative to the norm of a plane, not of a patch
(:mod:`pymec.kernels.fourier.bound`); a NaN fills the plane.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import product

import numpy as np
import scipy  # scipy.fft is loaded where it is first used: that takes a fifth of a second
from numpy.typing import NDArray

from pymec.kernels.fourier import products
from pymec.kernels.fourier.tiles import Grid, Tile, add_tiles, image_grid, on_plane, save_tiles
from pymec.kernels.shared.machine import FFT_BYTES, FFT_CHANNELS, FFT_SMALL_WORK
from pymec.shapes import ConvShape

# The method ---------------------------------------------------------------------------------------------


def one_image(image: NDArray, kernel: NDArray, shape: ConvShape) -> NDArray:
    """Convolve one image (i_h, i_w, i_c): the method in full, with arrays of its own, for reading and testing."""
    s, grid = shape, image_grid(shape)
    padded = np.pad(image, ((s.p_t, s.p_b), (s.p_l, s.p_r), (0, 0)))
    X = scipy.fft.rfft2(padded, s=grid, axes=(0, 1))
    Q = scipy.fft.rfft2(dilated(kernel, s), s=grid, axes=(0, 1)).conj()
    X = X.reshape(*X.shape[:2], s.groups, s.i_cg)
    Q = Q.reshape(*Q.shape[:2], s.i_cg, s.groups, s.k_cg)
    Y = np.einsum("hwgc,hwcgm->hwgm", X, Q)  # for every frequency a product, summed over input channels
    planes = scipy.fft.irfft2(Y, s=grid, axes=(0, 1))
    outputs = planes[: s.o_h * s.s_h : s.s_h, : s.o_w * s.s_w : s.s_w]  # every s_h-th row and s_w-th column
    return outputs.reshape(s.o_h, s.o_w, s.k_c)


def dilated(taps: NDArray, shape: ConvShape) -> NDArray:
    """Planes (e_h, e_w, ...) of taps (k_h, k_w, ...), with zeros between them."""
    if shape.d_h == shape.d_w == 1:
        return taps
    planes = np.zeros((shape.e_h, shape.e_w, *taps.shape[2:]), taps.dtype)
    planes[:: shape.d_h, :: shape.d_w] = taps
    return planes


# Sizes ------------------------------------------------------------------------------------------------


def spectrum_size(grid: Grid) -> int:
    """S, the real numbers in one spectrum."""
    return 2 * grid[0] * (grid[1] // 2 + 1)


def spectra_of(workspace: NDArray, grid: Grid, *counts: tuple[int, int]) -> tuple[list[NDArray], NDArray]:
    """Cut arrays (F_h, F_w/2 + 1, ...) of spectra off the front of a workspace; return them and the rest.

    A complex number needs no more alignment than its real part: any workspace of the right dtype will do.
    """
    found = []
    for count in counts:
        size = math.prod(count) * spectrum_size(grid)
        if workspace.size < size:
            raise ValueError(f"workspace has {workspace.size} elements left, but {size} are needed")
        spectra = workspace[:size].view(np.result_type(workspace, np.complex64))
        found.append(spectra.reshape(grid[0], grid[1] // 2 + 1, *count))
        workspace = workspace[size:]
    return found, workspace


def at_a_time(channels: int, grid: Grid, dtype: np.dtype, together: int = FFT_CHANNELS) -> Iterator[slice]:
    """Blocks of channels, each of which SciPy transforms in one call."""
    step = max(together, FFT_BYTES // (spectrum_size(grid) * dtype.itemsize))
    return (slice(first, min(first + step, channels)) for first in range(0, channels, step))


# Stage 1: planes to spectra ----------------------------------------------------------------------------


def spectra(planes: NDArray, grid: Grid, n_threads: int) -> NDArray:
    """The spectra (F_h, F_w/2 + 1, c) of planes (h, w, c), which SciPy extends with zeros, in a new array."""
    workers = n_threads if math.prod(grid) * planes.shape[2] >= FFT_SMALL_WORK else 1
    return scipy.fft.rfft2(planes, s=grid, axes=(0, 1), workers=workers)


def transform(planes: NDArray, X: NDArray, grid: Grid, n_threads: int = 1, together: int = FFT_CHANNELS) -> None:
    """X (F_h, F_w/2 + 1, c) from planes (h, w, c)."""
    for c in at_a_time(planes.shape[2], grid, planes.dtype, together):
        X[..., c] = spectra(planes[..., c], grid, n_threads)


def transform_kernel(kernel: NDArray, Q: NDArray, shape: ConvShape, grid: Grid, n_threads: int = 1) -> None:
    """Q (F_h, F_w/2 + 1, i_c/G, k_c), the conjugate spectra of a kernel's taps."""
    taps, flat = kernel.reshape(*kernel.shape[:2], -1), Q.reshape(*Q.shape[:2], -1)
    for c in at_a_time(taps.shape[2], grid, taps.dtype):
        transform(dilated(taps[..., c], shape), flat[..., c], grid, n_threads)
    np.conjugate(Q, out=Q)


# Stage 2: a product for every frequency ----------------------------------------------------------------


def multiply(X: NDArray, Q: NDArray, Y: NDArray, groups: int = 1, n_threads: int = 1) -> None:
    """Y (n × k_c/G) = X (n × i_c/G) · Q (i_c/G × k_c/G) for every frequency and group."""
    products.multiply(X, Q, Y, groups, n_threads if Q.size * X.shape[2] >= FFT_SMALL_WORK else 1)


# Stage 3: back -----------------------------------------------------------------------------------------


def transform_back(Y: NDArray, grid: Grid, n_threads: int = 1) -> Iterator[tuple[slice, NDArray]]:
    """The planes (F_h, F_w, c) of spectra (F_h, F_w/2 + 1, k_c), one block of output channels after the other."""
    for m in at_a_time(Y.shape[2], grid, Y.real.dtype):
        workers = n_threads if Y[..., m].size >= FFT_SMALL_WORK else 1
        yield m, scipy.fft.irfft2(Y[..., m], s=grid, axes=(0, 1), workers=workers)


def add_outputs(planes: NDArray, out: NDArray, row: Tile, column: Tile, shape: ConvShape, grid: Grid) -> None:
    """Add a tile's outputs, picked from planes (F_h, F_w, c), to those of one image (o_h, o_w, c)."""
    for y, f_h in on_plane(row, shape.s_h, grid[0]):
        for x, f_w in on_plane(column, shape.s_w, grid[1]):
            out[y, x] += planes[f_h, f_w]


# The algorithms ----------------------------------------------------------------------------------------


def prepare(kernel: NDArray, prepared: NDArray, shape: ConvShape, n_threads: int, grid: Grid) -> None:
    """All kernel spectra, for :func:`run` and the tiles."""
    (Q,), _ = spectra_of(prepared, grid, (shape.i_cg, shape.k_c))
    transform_kernel(kernel, Q, shape, grid, n_threads)


@np.errstate(all="ignore")
def run_tiles(
    x: NDArray, kernel: NDArray, out: NDArray, workspace: NDArray, shape: ConvShape, n_threads: int,
    grid: Grid, prepared: NDArray | None, images: int, tiles: Callable[..., Iterator[Tile]],
) -> None:  # fmt: skip
    """All spectra of the kernel, and of the input those of one tile of ``images`` images at a time."""
    s = shape
    if prepared is None:
        prepared, workspace = np.split(workspace, [s.i_cg * s.k_c * spectrum_size(grid)])
        prepare(kernel, prepared, s, n_threads, grid)
    (Q,), _ = spectra_of(prepared, grid, (s.i_cg, s.k_c))
    (X, Y), _ = spectra_of(workspace, grid, (images, s.i_c), (images, s.k_c))
    rows = list(tiles(grid[0], s.e_h, s.s_h, s.p_t, s.i_h, s.o_h))
    columns = list(tiles(grid[1], s.e_w, s.s_w, s.p_l, s.i_w, s.o_w))
    untouched = True
    for first, row, column in product(range(0, s.i_n, max(images, 1)), rows, columns):
        for n in range(images):
            transform(x[first + n, row.inputs, column.inputs], X[:, :, n], grid, n_threads)
        multiply(X, Q, Y, s.groups, n_threads)
        for n in range(images):
            for m, planes in transform_back(Y[:, :, n], grid, n_threads):
                if untouched:  # only now: had SciPy found no memory, out would be as it was
                    out.fill(0)
                    untouched = False
                add_outputs(planes, out[first + n, :, :, m], row, column, s, grid)
                del planes  # before the next ones are allocated
    if untouched:  # no tile: every output reads nothing but padding
        out.fill(0)


def run(
    x: NDArray, kernel: NDArray, out: NDArray, workspace: NDArray, shape: ConvShape, n_threads: int = 1, *,
    grid: Grid, prepared: NDArray | None = None,
) -> None:  # fmt: skip
    """All spectra at once, of every image and channel: the padded image is the only tile."""
    run_tiles(x, kernel, out, workspace, shape, n_threads, grid, prepared, shape.i_n, save_tiles)


def run_overlap_save(
    x: NDArray, kernel: NDArray, out: NDArray, workspace: NDArray, shape: ConvShape, n_threads: int = 1, *,
    grid: Grid, prepared: NDArray | None = None,
) -> None:  # fmt: skip
    """Tiles of the input that overlap, one after another."""
    run_tiles(x, kernel, out, workspace, shape, n_threads, grid, prepared, 1, save_tiles)


def run_overlap_add(
    x: NDArray, kernel: NDArray, out: NDArray, workspace: NDArray, shape: ConvShape, n_threads: int = 1, *,
    grid: Grid, prepared: NDArray | None = None,
) -> None:  # fmt: skip
    """Tiles of the input side by side, one after another; where their outputs overlap they are added up."""
    run_tiles(x, kernel, out, workspace, shape, n_threads, grid, prepared, 1, add_tiles)


@np.errstate(all="ignore")
def run_lean(
    x: NDArray, kernel: NDArray, out: NDArray, workspace: NDArray, shape: ConvShape, n_threads: int = 1, *,
    grid: Grid,
) -> None:  # fmt: skip
    """One output channel of one image at a time: the kernel's spectra are computed anew for each image."""
    s = shape
    (X, P, Y), _ = spectra_of(workspace, grid, (1, s.i_cg), (1, 1), (1, 1))
    (row,) = save_tiles(grid[0], s.e_h, s.s_h, s.p_t, s.i_h, s.o_h)
    (column,) = save_tiles(grid[1], s.e_w, s.s_w, s.p_l, s.i_w, s.o_w)
    untouched = True
    for n, m in product(range(s.i_n), range(s.k_c)):
        if m % s.k_cg == 0:  # a new group
            group = slice(m // s.k_cg * s.i_cg, (m // s.k_cg + 1) * s.i_cg)
            transform(x[n, :, :, group], X[:, :, 0], grid, n_threads, together=1)
        Y.fill(0)
        for c in at_a_time(s.i_cg, grid, x.dtype, together=1):
            Q = spectra(dilated(kernel[:, :, c, m], s), grid, n_threads)
            np.conjugate(Q, out=Q)
            np.einsum("hwc,hwc->hw", X[:, :, 0, c], Q, out=P[..., 0, 0])
            np.add(Y, P, out=Y)
            del Q  # before the next ones are allocated
        for _, plane in transform_back(Y[:, :, 0], grid, n_threads):
            if untouched:  # only now, as in run_tiles
                out.fill(0)
                untouched = False
            add_outputs(plane, out[n, :, :, m : m + 1], row, column, s, grid)
            del plane
