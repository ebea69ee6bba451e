# A product of a few pixels with a line of channels, its sums in registers: what multiplies without BLAS.
#
# A pixel is a pointer to its channels, and the pixels of a tile may lie anywhere: a tile goes on from the end of
# one row to the start of the next, and a pixel on padding is a pointer to zeros.

from cython cimport floating

cdef enum:
    MOST_PIXELS = 14
    MOST_CHANNELS = 32
    MOST_SUMS = 448   # MOST_PIXELS times MOST_CHANNELS
    SHORT = 600       # products of a sum, for which smaller tiles are better
    SHORT_TILE = 8    # pixels
    SAME_SET = 4096   # bytes from one line to the next in the same set of a level-1 cache: 64 sets, lines of 64
    IN_A_SET = 7      # pixels
    CACHE_LINE = 64   # bytes


cdef struct Tile:
    Py_ssize_t pixels     # the most that a call takes, or those that this one does
    Py_ssize_t least      # and the fewest
    Py_ssize_t channels


cdef inline floating* at_cache_line(const floating* array) noexcept nogil:
    """The first element on that starts a cache line: a register loaded across two of them takes twice the time."""
    return <floating*> ((<size_t> array + CACHE_LINE - 1) / CACHE_LINE * CACHE_LINE)


cdef Tile widest_tile(Py_ssize_t channels, Py_ssize_t itemsize) noexcept nogil

cdef Tile panel_tile(Py_ssize_t channels, Py_ssize_t itemsize) noexcept nogil

cdef Tile tile_for_sums(
    Py_ssize_t channels, Py_ssize_t itemsize, Py_ssize_t length, Py_ssize_t step
) noexcept nogil

cdef Py_ssize_t pixels_of_tile(Py_ssize_t left, const Tile* widest) noexcept nogil

cdef Py_ssize_t tiles_alike(Py_ssize_t left, const Tile* widest) noexcept nogil

cdef void multiply_tile(
    const Tile* tile, const floating** pixel, Py_ssize_t runs, Py_ssize_t length,
    const floating* K, Py_ssize_t ldk,
    const floating* start, Py_ssize_t lds, floating* C, Py_ssize_t ldc, int ending
) noexcept nogil

cdef void multiply_row(
    const Tile* tile, Py_ssize_t tiles, const floating* pixel, Py_ssize_t step, Py_ssize_t runs,
    Py_ssize_t run_step, Py_ssize_t length, const floating* K, Py_ssize_t ldk,
    const floating* start, Py_ssize_t lds, floating* C, Py_ssize_t ldc, int ending
) noexcept nogil
