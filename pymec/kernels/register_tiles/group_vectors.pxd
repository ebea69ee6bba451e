# A vector (a register) of output channels of several groups: which input channels they need, and where.

from cython cimport floating

from pymec.kernels.shared.geometry cimport Geometry
from pymec.kernels.shared.patch cimport copy
from pymec.kernels.shared.spans cimport Span, ceil_div, inside

cdef enum:
    PLACES = 16            # of four bytes in a vector of 64
    FEW_SETS = 2048        # bytes between pixels that leave one or two of the 64 sets of a level-1 cache
    MANY_CHANNELS = 8      # input channels per group; each one reloads the tile's part of I
    WINDOW = 256           # the most vectors that a tile copies: half of a level-1 cache


cdef struct ChannelVector:       # of one pixel
    Py_ssize_t m                 # its first output channel
    Py_ssize_t c                 # the first input channel that is loaded
    Py_ssize_t shift             # from there to the first input channel of the first group
    Py_ssize_t overlap           # output channels that the vector before has, too


cdef inline Py_ssize_t n_vectors(Py_ssize_t width, const Geometry* g) noexcept nogil:
    """Vectors of ``width`` output channels in a pixel."""
    return ceil_div(g.k_c, width)


cdef inline ChannelVector vector_at(Py_ssize_t i, Py_ssize_t width, const Geometry* g) noexcept nogil:
    """Vector i.  The last one overlaps the one before it, so that all are whole.

    Where the image has fewer than ``width`` channels from the first one on, loading begins before it.
    """
    cdef ChannelVector vector
    vector.m = min(i * width, g.k_c - width)
    vector.overlap = i * width - vector.m
    vector.c = vector.m // g.k_cg * g.i_cg
    vector.shift = max(vector.c + width - g.i_c, 0)
    vector.c -= vector.shift
    return vector


cdef inline void place_groups(int* place, Py_ssize_t size, const Geometry* g) noexcept nogil:
    """For every four bytes of a vector of output channels: the place of their group's first input channel."""
    cdef Py_ssize_t parts = size // sizeof(int), i
    for i in range(PLACES):
        place[i] = <int> (i // parts // g.k_cg * g.i_cg * parts + i % parts)


cdef inline Py_ssize_t columns_before(Py_ssize_t distance, Py_ssize_t stride) noexcept nogil:
    """The number of columns 0, stride, 2 stride, ... before ``distance``: ``steps_to`` without its division."""
    if distance <= 0 or stride == 1:  # a division takes as long as a dozen multiply-adds
        return max(distance, 0)
    return ceil_div(distance, stride)


cdef inline bint gathers(Py_ssize_t vectors, Py_ssize_t channels, Py_ssize_t nbytes) noexcept nogil:
    """Whether a tile's vectors of I are first copied next to each other.

    Pixels of ``nbytes`` bytes, a multiple of many cache lines, share few sets of a level-1 cache: their vectors
    would be loaded from further away for every channel of the group.
    """
    return channels >= MANY_CHANNELS and nbytes % FEW_SETS == 0 and vectors <= WINDOW


cdef inline void gather(
    const floating* I, floating* window, Py_ssize_t width, Py_ssize_t left, Py_ssize_t columns, Py_ssize_t pitch,
    Py_ssize_t rows, Py_ssize_t row, Py_ssize_t i_w, Py_ssize_t i_c
) noexcept nogil:
    """Copy one vector of every column inside the image into rows of ``pitch`` vectors.

    I points at column ``left``, inside the image or not; its rows are ``row`` elements apart.
    """
    cdef Span span = inside(left, 1, i_w, columns)
    cdef Py_ssize_t a, i
    for a in range(rows):
        for i in range(span.first, span.end):
            copy(window + (a * pitch + i) * width, I + a * row + i * i_c, width)


cdef inline int check_groups(Py_ssize_t many, str outputs, Py_ssize_t few, str inputs) except -1:
    """Refuse groups whose channels don't fill vectors evenly, or need input channels from more than one."""
    if many not in (1, 2, 4, 8, 16) or few > many:
        raise ValueError(
            f"each group must have 1, 2, 4, 8 or 16 {outputs} channels and no more {inputs} channels, "
            f"got {many} and {few}"
        )
    return 0
