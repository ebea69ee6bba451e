# A product of a few pixels with a line of channels, its sums in registers: what multiplies without BLAS.
#
# A pixel is a pointer to its channels, and the pixels of a tile may lie anywhere: a tile goes on from the end of
# one row to the start of the next, and a pixel on padding is a pointer to zeros.

from cython cimport floating

cdef enum:
    MOST_PIXELS = 14
    MOST_CHANNELS = 32
    MOST_SUMS = 448         # MOST_PIXELS times MOST_CHANNELS
    SHORT_SUM = 600         # products of a sum up to which smaller tiles are faster, by hand
    SHORT_SUM_PIXELS = 8    # of such a tile
    SET_PITCH = 4096        # bytes between lines of the same set of a level-1 cache: 64 sets, lines of 64
    SET_PIXELS = 7          # pixels of a tile that share one set
    CACHE_LINE = 64         # bytes, as in shared/machine.py


cdef struct Tile:
    Py_ssize_t pixels       # the size of this tile
    Py_ssize_t most, least  # the largest and the smallest size that a call takes
    Py_ssize_t channels


cdef inline floating* at_cache_line(const floating* array) noexcept nogil:
    """The first element that starts a cache line: loading a register across two lines takes twice the time."""
    return <floating*> ((<size_t> array + CACHE_LINE - 1) // CACHE_LINE * CACHE_LINE)


cdef Tile widest_tile(Py_ssize_t channels, Py_ssize_t itemsize) noexcept nogil

cdef Tile panel_tile(Py_ssize_t channels, Py_ssize_t itemsize) noexcept nogil

cdef Tile tile_for_sums(
    Py_ssize_t channels, Py_ssize_t itemsize, Py_ssize_t length, Py_ssize_t step
) noexcept nogil

cdef Py_ssize_t pixels_of_tile(Py_ssize_t left, const Tile* tile) noexcept nogil

cdef Py_ssize_t n_equal_tiles(Py_ssize_t left, const Tile* tile) noexcept nogil

# Both multiply as BLAS does, operands one by one: their callers have them in different places.

cdef void multiply_tile(
    const Tile* tile, const floating** pixel, Py_ssize_t runs, Py_ssize_t length,
    const floating* K, Py_ssize_t ldk,
    const floating* start, Py_ssize_t lds, floating* C, Py_ssize_t ldc, bint relu
) noexcept nogil

cdef void multiply_row(
    const Tile* tile, Py_ssize_t tiles, const floating* pixel, Py_ssize_t step, Py_ssize_t runs,
    Py_ssize_t run_step, Py_ssize_t length, const floating* K, Py_ssize_t ldk,
    const floating* start, Py_ssize_t lds, floating* C, Py_ssize_t ldc, bint relu
) noexcept nogil
