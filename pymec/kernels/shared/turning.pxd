# A block of a matrix, transposed on its way.

from cython cimport floating
from libc.string cimport memcpy

from pymec.kernels.shared.patch cimport copy

cdef enum:
    BLOCK = 16  # rows and columns of a block


cdef inline void transpose_block(
    const floating* source, Py_ssize_t source_pitch, Py_ssize_t rows, Py_ssize_t columns,
    floating* target, Py_ssize_t target_pitch
) noexcept nogil:
    """target[j, i] = source[i, j], for at most BLOCK rows and columns whose pitches are in elements.

    Through a copy: lines that are a multiple of 4 KiB apart would evict each other from a level-1 cache, so each
    line of the source is read once, and each line of the target written once.
    """
    cdef floating block[BLOCK * BLOCK]
    cdef Py_ssize_t i, j
    if rows == BLOCK and columns == BLOCK:  # known sizes: the compiler leaves the loops out
        for i in range(BLOCK):
            memcpy(block + i * BLOCK, source + i * source_pitch, BLOCK * sizeof(floating))
        for j in range(BLOCK):
            for i in range(BLOCK):
                target[j * target_pitch + i] = block[i * BLOCK + j]
        return
    for i in range(rows):
        copy(block + i * BLOCK, source + i * source_pitch, columns)
    for j in range(columns):
        for i in range(rows):
            target[j * target_pitch + i] = block[i * BLOCK + j]
