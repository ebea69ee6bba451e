# A tile of the output of a direct convolution.

from cython cimport floating

from pymec.kernels.shared.geometry cimport Geometry
from pymec.kernels.register_tiles.pixels cimport Chunk, Pixels, Runs
from pymec.kernels.register_tiles.tile cimport Tile


cdef struct Lines:         # where K's lines are
    Py_ssize_t ldk         # elements from one to the next
    Py_ssize_t panel       # from one panel to the next; 0 if K is read in place
    Py_ssize_t width       # channels of a panel; 0 without


cdef struct Steps:         # elements of O from one of these to the next
    Py_ssize_t image, row, pixel


cdef struct Part:          # of the work
    Steps out
    Py_ssize_t first, end              # output pixels of all images
    Py_ssize_t group
    Py_ssize_t first_block, end_block  # blocks of the group's output channels, a panel each


cdef void add_panel(
    const floating* K, const Lines* lines, floating* O, const Part* part, Py_ssize_t block, const Chunk* chunk,
    const floating** pixel, const Runs* runs, const Tile* tile, const Pixels* pixels, bint begins,
    const floating* bias, int ending, const Geometry* g
) noexcept nogil

cdef bint leaves_zeros_out(
    const Pixels* pixels, const Tile* tile, Py_ssize_t channels, const Geometry* g
) noexcept nogil

cdef void add_without_zeros(
    const floating* I, const floating* K, const Lines* lines, floating* O, const Part* part, const Chunk* chunk,
    const Tile* tile, const Pixels* pixels, const floating** pixel, floating* window, bint begins,
    const floating* bias, int ending, const Geometry* g
) noexcept nogil
