"""Matrices transposed: how arrays come from n-c-h-w to n-h-w-c, kernels from o-i-h-w to h-w-i-o, and back.

Of an image, the planes of its channels are the rows of a matrix, and its pixels the columns.  Of a kernel, each
input channel has a matrix: output channels by taps.  Channels last, it is the other way round.
"""

import numpy as np

from cython cimport floating
from cython.parallel import prange

from pymec.kernels.shared.geometry cimport check_threads
from pymec.kernels.shared.per_cpu cimport compiled_per_cpu
from pymec.kernels.shared.spans cimport ceil_div, innermost

cdef enum:
    TILE = 64  # rows and columns of a task: several blocks, so that lines are written several at a time

cdef struct Matrices:
    Py_ssize_t rows, columns  # of the source
    Py_ssize_t source_step, source_pitch, target_step, target_pitch  # elements from matrix to matrix, row to row


cdef compiled_per_cpu transpose_task(
    const floating* source, floating* target, Py_ssize_t task, const Matrices* of
) noexcept nogil:
    """A tile of one matrix, block by block."""
    cdef Py_ssize_t first = innermost(&task, ceil_div(of.rows, TILE)) * TILE
    cdef Py_ssize_t j = innermost(&task, ceil_div(of.columns, TILE)) * TILE, m = task, i
    cdef Py_ssize_t rows_end = min(first + TILE, of.rows), columns_end = min(j + TILE, of.columns)
    source += m * of.source_step
    target += m * of.target_step
    while j < columns_end:
        i = first
        while i < rows_end:
            transpose_block(
                source + i * of.source_pitch + j, of.source_pitch, min(rows_end - i, BLOCK),
                min(columns_end - j, BLOCK), target + j * of.target_pitch + i, of.target_pitch,
            )
            i += BLOCK
        j += BLOCK


def transpose(const floating[:, :, :] source, floating[:, :, :] target, int n_threads=1):
    """target[m, j, i] = source[m, i, j] for every matrix m.

    Parameters
    ----------
    source : array (count, rows, columns)
    target : array (count, columns, rows)
        Both with adjacent elements in their rows, which may lie anywhere.
    n_threads : int
    """
    cdef Py_ssize_t size = sizeof(floating), task, tasks
    cdef Matrices of = Matrices(
        source.shape[1], source.shape[2], source.strides[0] // size, source.strides[1] // size,
        target.strides[0] // size, target.strides[1] // size,
    )
    check_threads(n_threads)
    if source.shape[0] != target.shape[0] or of.rows != target.shape[2] or of.columns != target.shape[1]:
        raise ValueError(
            f"target must have shape {(source.shape[0], of.columns, of.rows)}, got "
            f"{(target.shape[0], target.shape[1], target.shape[2])}"
        )
    if (of.columns > 1 and source.strides[2] != size) or (of.rows > 1 and target.strides[2] != size):
        raise ValueError("the rows of source and target must have adjacent elements")
    if source.shape[0] * of.rows * of.columns == 0:
        return
    cdef const floating* first = &source[0, 0, 0]
    cdef floating* to = &target[0, 0, 0]
    tasks = source.shape[0] * ceil_div(of.rows, TILE) * ceil_div(of.columns, TILE)
    with nogil:
        for task in prange(tasks, num_threads=n_threads, schedule="static"):
            transpose_task(first, to, task, &of)


# Images and kernels from one order to another --------------------------------------------------------------


def copy_images(source, target, int n_threads=1):
    """target[...] = source, both seen as n-h-w-c.

    Parameters
    ----------
    source, target : array (i_n, h, w, c)
        If one of them has adjacent channels and the other adjacent columns, as n-c-h-w has, blocks are transposed.
    n_threads : int
    """
    if rows_can_be_joined(source) and rows_can_be_joined(target):  # each image is one matrix, pixels by channels
        i_n, h, w, c = source.shape
        pairs = [(source.reshape(i_n, h * w, c), target.reshape(i_n, h * w, c))]
    else:  # each row of an image is one
        pairs = zip(source, target)
    for pixels, copied in pairs:
        if adjacent(pixels, 1) and adjacent(copied, 2):
            transpose(pixels.transpose(0, 2, 1), copied, n_threads)
        elif adjacent(pixels, 2) and adjacent(copied, 1):
            transpose(pixels, copied.transpose(0, 2, 1), n_threads)
        else:
            np.copyto(copied, pixels)


def rows_can_be_joined(images):
    """Whether the pixels of an image in n-h-w-c are equally far apart, across its rows, too."""
    return images.shape[1] == 1 or images.shape[2] == 1 or images.strides[1] == images.shape[2] * images.strides[2]


def adjacent(array, axis):
    """Whether the elements along an axis are aligned and adjacent in memory."""
    return array.flags.aligned and (array.shape[axis] == 1 or array.strides[axis] == array.itemsize)


def copy_kernel(source, target, int n_threads=1):
    """target[...] = source, both seen as h-w-i-o.

    Parameters
    ----------
    source, target : array (k_h, k_w, i_c/G, k_c)
        If one of them lies in memory so, and the other as o-i-h-w, blocks are transposed.
    n_threads : int
    """
    aligned = source.flags.aligned and target.flags.aligned
    if aligned and has_filters(source) and target.flags.c_contiguous:
        transpose(filters_of(source), taps_of(target), n_threads)
    elif aligned and source.flags.c_contiguous and has_filters(target):
        transpose(taps_of(source), filters_of(target), n_threads)
    else:
        np.copyto(target, source)


def has_filters(kernel):
    """Whether a kernel, seen as h-w-i-o, lies in memory as o-i-h-w."""
    return kernel.transpose(3, 2, 0, 1).flags.c_contiguous


def filters_of(kernel):
    """Of such a kernel a matrix for each input channel, output channels by taps; of 1×1 one matrix for all."""
    k_h, k_w, i_cg, k_c = kernel.shape
    filters = kernel.transpose(3, 2, 0, 1)
    return filters.reshape(1, k_c, i_cg) if k_h * k_w == 1 else filters.reshape(k_c, i_cg, -1).transpose(1, 0, 2)


def taps_of(kernel):
    """The same matrices of a kernel in h-w-i-o, transposed."""
    k_h, k_w, i_cg, k_c = kernel.shape
    return kernel.reshape(1, i_cg, k_c) if k_h * k_w == 1 else kernel.reshape(-1, i_cg, k_c).transpose(1, 0, 2)


def transpose_kernel(kernel, transposed, shape, int n_threads=1):
    """K with its filters one after the other: (k_c, k_h, k_w, i_c/G) from (k_h, k_w, i_c/G, k_c)."""
    lines = shape.kernel_size // shape.k_c
    target = transposed[:shape.kernel_size].reshape(1, shape.k_c, lines)
    transpose(kernel.reshape(1, lines, shape.k_c), target, n_threads)


def transpose_back(transposed, kernel, shape):
    """K again from that."""
    lines = shape.kernel_size // shape.k_c
    transpose(transposed.reshape(1, shape.k_c, lines), kernel.reshape(1, lines, shape.k_c))
