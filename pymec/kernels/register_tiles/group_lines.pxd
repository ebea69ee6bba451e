# A line of output channels, one register, that belong to several groups: which input channels it wants, and where.

from cython cimport floating

from pymec.kernels.shared.geometry cimport Geometry
from pymec.kernels.shared.patch cimport clip, copy

cdef enum:
    PLACES = 16            # of four bytes in a line of 64
    FEW_SETS = 2048        # bytes from line to line that leave 2 of the 64 sets of a level-1 cache, or 1
    MANY_CHANNELS = 8      # of a group, for each of which a tile's lines of I are loaded once more
    WINDOW = 256           # lines that a tile copies at most: half of such a cache


cdef struct Line:                # of channels of a pixel
    Py_ssize_t m                 # the first output channel
    Py_ssize_t c                 # the first input channel that is loaded
    Py_ssize_t shift             # and how many after it the first group's first is
    Py_ssize_t skip              # output channels that the line before has, too


cdef inline Py_ssize_t lines_of(Py_ssize_t width, const Geometry* g) noexcept nogil:
    """How many lines of so many output channels a pixel has."""
    return (g.k_c + width - 1) / width


cdef inline Line line_at(Py_ssize_t i, Py_ssize_t width, const Geometry* g) noexcept nogil:
    """The last line reaches back over the one before it, so that no number of channels leaves a rest.

    Where an image has not so many channels after a line's first, what is loaded begins some before it.
    """
    cdef Line line
    line.m = min(i * width, g.k_c - width)
    line.skip = i * width - line.m
    line.c = line.m / g.k_cg * g.i_cg
    line.shift = max(line.c + width - g.i_c, 0)
    line.c -= line.shift
    return line


cdef inline void place_groups(int* place, Py_ssize_t size, const Geometry* g) noexcept nogil:
    """For every four bytes of a line of output channels: where the first input channel of their group is."""
    cdef Py_ssize_t parts = size / sizeof(int), i
    for i in range(PLACES):
        place[i] = <int> (i / parts / g.k_cg * g.i_cg * parts + i % parts)


cdef inline Py_ssize_t columns_before(Py_ssize_t distance, Py_ssize_t stride) noexcept nogil:
    """How many of the columns 0, stride, 2 stride, ... lie before that distance."""
    if distance <= 0 or stride == 1:  # a division takes as long as a dozen multiply-adds
        return max(distance, 0)
    return (distance + stride - 1) / stride


cdef inline bint gathers(Py_ssize_t lines, Py_ssize_t channels, Py_ssize_t nbytes) noexcept nogil:
    """Whether a tile's lines of I are copied next to each other before they are used.

    Pixels (of so many bytes) a multiple of many cache lines apart share few sets of a level-1 cache, and would
    come from further away for every channel of the group.
    """
    return channels >= MANY_CHANNELS and nbytes % FEW_SETS == 0 and lines <= WINDOW


cdef inline void gather(
    const floating* I, floating* window, Py_ssize_t width, Py_ssize_t left, Py_ssize_t columns, Py_ssize_t pitch,
    Py_ssize_t rows, Py_ssize_t row, Py_ssize_t i_w, Py_ssize_t i_c
) noexcept nogil:
    """Copy a line of every column that is on the image, rows ``pitch`` lines long.

    I points at the first column, ``left``, on the image or not, and its rows are ``row`` elements apart.
    """
    cdef Py_ssize_t begin = clip(-left, 0, columns), end = clip(i_w - left, begin, columns), a, i
    for a in range(rows):
        for i in range(begin, end):
            copy(window + (a * pitch + i) * width, I + a * row + i * i_c, width)


cdef inline int check_groups(Py_ssize_t many, str outputs, Py_ssize_t few, str inputs) except -1:
    """Refuse groups whose channels do not fill lines evenly, or come from more than a line."""
    if many not in (1, 2, 4, 8, 16) or few > many:
        raise ValueError(
            f"each group must have 1, 2, 4, 8 or 16 {outputs} channels and no more {inputs} channels, "
            f"got {many} and {few}"
        )
    return 0
