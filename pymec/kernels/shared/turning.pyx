"""Matrices transposed: how arrays come from n-c-h-w to n-h-w-c, kernels from o-i-h-w to h-w-i-o, and back.

Of an image, the planes of its channels are the rows of a matrix, and its pixels the columns.  Of a kernel, each
input channel has a matrix: output channels by taps.  Channels last, it is the other way round.
"""

from cython cimport floating
from cython.parallel import prange

from pymec.kernels.shared.geometry cimport check_threads
from pymec.kernels.shared.spans cimport ceil_div, innermost

cdef enum:
    TILE = 64  # rows and columns of a task: several blocks, so that lines are written several at a time

cdef struct Matrices:
    Py_ssize_t rows, columns  # of the source
    Py_ssize_t source_step, source_pitch, target_step, target_pitch  # elements from matrix to matrix, row to row


cdef void transpose_task(
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


def transpose_kernel(kernel, transposed, shape, int n_threads=1):
    """K with its filters one after the other: (k_c, k_h, k_w, i_c/G) from (k_h, k_w, i_c/G, k_c)."""
    lines = shape.kernel_size // shape.k_c
    target = transposed[:shape.kernel_size].reshape(1, shape.k_c, lines)
    transpose(kernel.reshape(1, lines, shape.k_c), target, n_threads)


def transpose_back(transposed, kernel, shape):
    """K again from that."""
    lines = shape.kernel_size // shape.k_c
    transpose(transposed.reshape(1, shape.k_c, lines), kernel.reshape(1, lines, shape.k_c))
