"""Convolution by the fast Fourier transform: the whole image at once, lean, and in tiles.

Mathieu, Henaff & LeCun, *Fast Training of Convolutional Networks through FFTs*, 2013, arXiv:1312.5851; in tiles
Highlander & Rodriguez, *Very Efficient Training of Convolutional Neural Networks using Fast Fourier Transform and
Overlap-and-Add*, 2016, arXiv:1601.06815.

A correlation is, frequency by frequency, a product of the image's spectrum with the conjugate of the kernel's.  So
a plane of F_h·F_w numbers takes the same time whatever the size of the kernel, and input channels are summed as
spectra: one transform back per output channel.  Transforms are SciPy's and products NumPy's: this is Python.

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

The grid F_h × F_w is that of the padded image, or of a tile, up to the next length that factors well; periodic
correlation on it is already right wherever no tap wraps around.  Channels stay adjacent, as they are in x and in
the kernel.  What SciPy needs for its results is its own and not part of this: about three times
half a megabyte, or three times the spectra of eight planes (of one, for ``run_lean``) where these are larger.

Any stride, padding, dilation and number of groups, but a stride saves nothing: every position is computed, and
those between are left out.  Rounding is relative to the norm of a plane, not of a patch
(:mod:`pymec.kernels.fourier.bound`); a NaN fills the plane.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from itertools import product

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from pymec.kernels.fourier.tiles import Grid, Span, add_tiles, image_grid, on_plane, save_tiles, tile_grid
from pymec.shapes import ConvShape

LIBRARY_BYTES = 512 * 1024
"""Spectra that one call of SciPy returns together, unless fewer planes than ``together`` are larger."""

LINE_CHANNELS = 8
"""Planes that are transformed together however large they are: a cache line of adjacent channels."""

SMALL_WORK = 2**20
"""Multiply-adds, or numbers to transform, below which one thread is faster than waking others."""


# Sizes ------------------------------------------------------------------------------------------------


def spectrum_size(grid: Grid) -> int:
    """S, the real numbers in one spectrum."""
    return 2 * grid[0] * (grid[1] // 2 + 1)


def spectra_of(workspace: NDArray, grid: Grid, *counts: tuple[int, int]) -> tuple[list[NDArray], NDArray]:
    """Cut arrays (F_h, F_w/2 + 1, ...) of spectra off the front of a workspace; give them and what is left.

    A complex number needs no more alignment than its real part, so any workspace of the right dtype will do.
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


def at_a_time(channels: int, grid: Grid, dtype: np.dtype, together: int = LINE_CHANNELS) -> Iterator[slice]:
    """Channels in portions that SciPy transforms in one call."""
    step = max(together, LIBRARY_BYTES // (spectrum_size(grid) * dtype.itemsize))
    return (slice(first, min(first + step, channels)) for first in range(0, channels, step))


# Stage 1: planes to spectra ----------------------------------------------------------------------------


def spectra(planes: NDArray, grid: Grid, n_threads: int) -> NDArray:
    """The spectra (F_h, F_w/2 + 1, c) of planes (h, w, c), in an array of SciPy's, which fills up with zeros."""
    workers = n_threads if math.prod(grid) * planes.shape[2] >= SMALL_WORK else 1
    return scipy.fft.rfft2(planes, s=grid, axes=(0, 1), workers=workers)


def transform(planes: NDArray, X: NDArray, grid: Grid, n_threads: int = 1, together: int = LINE_CHANNELS) -> None:
    """X (F_h, F_w/2 + 1, c) from planes (h, w, c)."""
    for c in at_a_time(planes.shape[2], grid, planes.dtype, together):
        X[..., c] = spectra(planes[..., c], grid, n_threads)


def dilated(taps: NDArray, shape: ConvShape) -> NDArray:
    """Planes (e_h, e_w, c) of taps (k_h, k_w, c), with zeros between them."""
    if shape.d_h == shape.d_w == 1:
        return taps
    planes = np.zeros((shape.e_h, shape.e_w, taps.shape[2]), taps.dtype)
    planes[:: shape.d_h, :: shape.d_w] = taps
    return planes


def transform_kernel(kernel: NDArray, Q: NDArray, shape: ConvShape, grid: Grid, n_threads: int = 1) -> None:
    """Q (F_h, F_w/2 + 1, i_c/G, k_c), the conjugate spectra of a kernel's taps."""
    taps, flat = kernel.reshape(*kernel.shape[:2], -1), Q.reshape(*Q.shape[:2], -1)
    for c in at_a_time(taps.shape[2], grid, taps.dtype):
        transform(dilated(taps[..., c], shape), flat[..., c], grid, n_threads)
    np.conjugate(Q, out=Q)


# Stage 2: the sum over input channels ------------------------------------------------------------------


def multiply(
    X: NDArray, Q: NDArray, Y: NDArray, groups: int = 1, n_threads: int = 1, pool: Executor | None = None
) -> None:
    """Y (n × k_c) = X (n × i_c) · Q (i_c × k_c) for every frequency, group by group; a pool has the threads."""
    i_cg, k_cg = Q.shape[2], Q.shape[3] // groups
    if pool is None or Q.size * X.shape[2] < SMALL_WORK:
        n_threads = 1

    def share(i: int) -> None:
        rows = slice(i * len(X) // n_threads, (i + 1) * len(X) // n_threads)
        with np.errstate(all="ignore"):  # infinities are results, not errors; each thread has a state of its own
            for group in range(groups):
                c = slice(group * i_cg, (group + 1) * i_cg)
                m = slice(group * k_cg, (group + 1) * k_cg)
                np.matmul(X[rows, :, :, c], Q[rows, :, :, m], out=Y[rows, :, :, m])

    if pool is None or n_threads == 1:
        share(0)
    else:
        list(pool.map(share, range(n_threads)))


# Stage 3: back -----------------------------------------------------------------------------------------


def transform_back(Y: NDArray, grid: Grid, n_threads: int = 1) -> Iterator[tuple[slice, NDArray]]:
    """The planes (F_h, F_w, c) of spectra (F_h, F_w/2 + 1, k_c), some output channels after the other."""
    for m in at_a_time(Y.shape[2], grid, Y.real.dtype):
        workers = n_threads if Y[..., m].size >= SMALL_WORK else 1
        yield m, scipy.fft.irfft2(Y[..., m], s=grid, axes=(0, 1), workers=workers)


# Both ends of a sum ------------------------------------------------------------------------------------


def begin(out: NDArray, shape: ConvShape, bias: NDArray | None) -> None:
    """What the tiles' outputs are added to: the bias, or zeros."""
    check_bias(shape, bias)
    out[...] = 0 if bias is None else bias


def check_bias(shape: ConvShape, bias: NDArray | None) -> None:
    """Refuse a bias that is not as long as K has channels; NumPy would repeat a single number."""
    if bias is not None and bias.shape != (shape.k_c,):
        raise ValueError(f"bias has shape {bias.shape}, but shape= speaks of {shape.k_c} output channels")


def closings(spans: list[Span], count: int) -> list[slice]:
    """Along one axis: the outputs that each tile is the last to touch.  Together they are all of them."""
    starts = [span.outputs.start for span in spans[1:]]
    return [slice(first, end) for first, end in zip([0, *starts], [*starts, count], strict=True)]


# The four of them --------------------------------------------------------------------------------------


def prepare(kernel: NDArray, prepared: NDArray, shape: ConvShape, n_threads: int, grid: Grid) -> None:
    """All kernel spectra, for :func:`run` and the tiles."""
    (Q,), _ = spectra_of(prepared, grid, (shape.i_cg, shape.k_c))
    transform_kernel(kernel, Q, shape, grid, n_threads)


@np.errstate(all="ignore")
def run_tiles(
    x: NDArray, kernel: NDArray, out: NDArray, workspace: NDArray, shape: ConvShape, n_threads: int,
    grid: Grid, prepared: NDArray | None, images: int, tiles: Callable[..., Iterator[Span]],
    bias: NDArray | None, relu: bool,
) -> None:  # fmt: skip
    """All spectra of the kernel, and of the input those of one tile of some images.

    Sums begin with the bias.  ReLU follows each addition to the output, of some channels of a tile, where no later
    tile adds to it.  Where a tile is the whole image, such a piece may be larger than the caches.
    """
    s = shape
    if prepared is None:
        size = s.i_cg * s.k_c * spectrum_size(grid)
        prepared, workspace = workspace[:size], workspace[size:]
        prepare(kernel, prepared, s, n_threads, grid)
    (Q,), _ = spectra_of(prepared, grid, (s.i_cg, s.k_c))
    (X, Y), _ = spectra_of(workspace, grid, (images, s.i_c), (images, s.k_c))
    rows = list(tiles(grid[0], s.e_h, s.s_h, s.p_t, s.i_h, s.o_h))
    columns = list(tiles(grid[1], s.e_w, s.s_w, s.p_l, s.i_w, s.o_w))
    if relu and bias is not None and not (rows and columns):
        bias = np.maximum(bias, 0)  # all outputs are of padding
    begin(out, s, bias)
    spans = list(
        product(
            range(0, s.i_n, max(images, 1)),
            zip(rows, closings(rows, s.o_h), strict=True) if rows else (),
            zip(columns, closings(columns, s.o_w), strict=True) if columns else (),
        )
    )
    with ThreadPoolExecutor(n_threads) as pool:
        for first, (vertical, closed_rows), (horizontal, closed_columns) in spans:
            for n in range(images):
                transform(x[first + n, vertical.inputs, horizontal.inputs], X[:, :, n], grid, n_threads)
            multiply(X, Q, Y, s.groups, n_threads, pool)
            for n in range(images):
                for m, planes in transform_back(Y[:, :, n], grid, n_threads):
                    for y, f_h in on_plane(vertical, s.s_h, grid[0]):
                        for z, f_w in on_plane(horizontal, s.s_w, grid[1]):
                            out[first + n, y, z, m] += planes[f_h, f_w]
                    if relu:
                        closed = out[first + n, closed_rows, closed_columns, m]
                        np.maximum(closed, 0, out=closed)


def run(
    x: NDArray, kernel: NDArray, out: NDArray, workspace: NDArray, shape: ConvShape, n_threads: int = 1,
    grid: Grid | None = None, prepared: NDArray | None = None, bias: NDArray | None = None, relu: bool = False,
) -> None:  # fmt: skip
    """All spectra at once, of every image and channel: a single tile, the padded image.

    Sums begin with the bias.
    """
    grid = grid or image_grid(shape)
    run_tiles(x, kernel, out, workspace, shape, n_threads, grid, prepared, shape.i_n, save_tiles, bias, relu)


def run_overlap_save(
    x: NDArray, kernel: NDArray, out: NDArray, workspace: NDArray, shape: ConvShape, n_threads: int = 1,
    grid: Grid | None = None, prepared: NDArray | None = None, bias: NDArray | None = None, relu: bool = False,
) -> None:  # fmt: skip
    """Tiles of the input that overlap, one after another.  Sums begin with the bias."""
    grid = grid or tile_grid(shape)
    run_tiles(x, kernel, out, workspace, shape, n_threads, grid, prepared, 1, save_tiles, bias, relu)


def run_overlap_add(
    x: NDArray, kernel: NDArray, out: NDArray, workspace: NDArray, shape: ConvShape, n_threads: int = 1,
    grid: Grid | None = None, prepared: NDArray | None = None, bias: NDArray | None = None, relu: bool = False,
) -> None:  # fmt: skip
    """Tiles of the input side by side, one after another.  Sums begin with the bias."""
    grid = grid or tile_grid(shape)
    run_tiles(x, kernel, out, workspace, shape, n_threads, grid, prepared, 1, add_tiles, bias, relu)


@np.errstate(all="ignore")
def run_lean(
    x: NDArray, kernel: NDArray, out: NDArray, workspace: NDArray, shape: ConvShape, n_threads: int = 1,
    grid: Grid | None = None, bias: NDArray | None = None, relu: bool = False,
) -> None:  # fmt: skip
    """One group of one image, one output channel at a time: kernel spectra are made again for each.

    Outputs get the bias, and ReLU, as they are written.
    """
    s = shape
    check_bias(s, bias)
    grid = grid or image_grid(s)
    (X, P, Y), _ = spectra_of(workspace, grid, (1, s.i_cg), (1, 1), (1, 1))
    (vertical,) = save_tiles(grid[0], s.e_h, s.s_h, s.p_t, s.i_h, s.o_h)
    (horizontal,) = save_tiles(grid[1], s.e_w, s.s_w, s.p_l, s.i_w, s.o_w)
    for n in range(s.i_n):
        for m in range(s.k_c):
            if m % s.k_cg == 0:
                group = slice(m // s.k_cg * s.i_cg, (m // s.k_cg + 1) * s.i_cg)
                transform(x[n, :, :, group], X[:, :, 0], grid, n_threads, together=1)
            Y.fill(0)
            for c in at_a_time(s.i_cg, grid, x.dtype, together=1):
                Q = spectra(dilated(kernel[:, :, c, m], s), grid, n_threads)
                np.conjugate(Q, out=Q)
                np.einsum("hwc,hwc->hw", X[:, :, 0, c], Q, out=P[..., 0, 0])
                np.add(Y, P, out=Y)
                del Q  # before the next ones are there
            for _, plane in transform_back(Y[:, :, 0], grid, n_threads):
                for y, f_h in on_plane(vertical, s.s_h, grid[0]):
                    for z, f_w in on_plane(horizontal, s.s_w, grid[1]):
                        piece = out[n, y, z, m]
                        if bias is None:
                            piece[...] = plane[f_h, f_w, 0]
                        else:
                            np.add(plane[f_h, f_w, 0], bias[m], out=piece)
                        if relu:
                            np.maximum(piece, 0, out=piece)
