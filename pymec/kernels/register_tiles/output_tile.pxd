# One tile of the output of a direct convolution, and what a thread's part of the work is made of.

from cython cimport floating

from pymec.kernels.register_tiles.pixels cimport PatchRuns, ReductionBlock, TilePixels
from pymec.kernels.register_tiles.tile cimport Tile
from pymec.kernels.shared.geometry cimport Geometry, PixelStrides


cdef struct KernelStrides:  # elements of K
    Py_ssize_t line        # from one line of channels to the next
    Py_ssize_t panel       # from one panel to the next; 0 if K is read in place
    Py_ssize_t width       # channels of a panel; 0 if K is read in place
    Py_ssize_t first_line, first_panel  # where what is read begins: not with all of K, if it is one block


cdef struct OutputPart:
    Py_ssize_t first, end              # output pixels, counted through all images
    Py_ssize_t group
    Py_ssize_t first_panel, end_panel  # of the group's output channels
    PixelStrides image, out
    KernelStrides kernel


cdef struct TileEnds:      # how sums begin and end
    const void* bias                   # of all output channels, or NULL for zeros
    bint begins                        # the first block: sums begin with the bias; with others they go on from O
    bint relu                          # with the last block ReLU is applied


cdef struct TileBlock:     # one tile, and its repeats, in one block of the reduction
    Tile tile
    TilePixels pixels
    ReductionBlock reduction
    PatchRuns runs
    TileEnds ends


cdef void add_panel(
    const floating* K, floating* O, const floating** pixel, Py_ssize_t panel, const TileBlock* block,
    const OutputPart* part, const Geometry* g
) noexcept nogil

cdef bint goes_tap_by_tap(const TileBlock* block, Py_ssize_t padding_products, const Geometry* g) noexcept nogil

cdef void add_tap_by_tap(
    const floating* I, const floating* K, floating* O, const floating** pixel, const TileBlock* block,
    const OutputPart* part, const Geometry* g
) noexcept nogil
