from cython cimport floating

from pymec.kernels.register_tiles.group_vectors cimport PLACES


cdef struct GroupTile:           # what the tiles of a convolution have in common; distances in bytes
    Py_ssize_t column, row, block        # in I: from a tile's column to the next, kernel row, block of taps
    Py_ssize_t channel, tap, kernel_row  # in K
    Py_ssize_t pixel                     # in O
    Py_ssize_t taps, blocks              # taps of a block, three or one, and blocks of a kernel row
    Py_ssize_t block_columns             # image columns from block to block
    Py_ssize_t stride                    # image columns from output to output
    Py_ssize_t i_w, i_cg
    int place[PLACES]                    # of each output channel: where the first channel of its group is


cdef Py_ssize_t vector_bytes() noexcept nogil

cdef Py_ssize_t most_outputs() noexcept nogil

cdef void add_groups(
    const GroupTile* tile, const floating* I, Py_ssize_t first, Py_ssize_t shift, const floating* K,
    Py_ssize_t rows, const void* bias, floating* O, Py_ssize_t outputs, bint relu
) noexcept nogil
