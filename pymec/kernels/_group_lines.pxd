# A line of output channels, one register, that belong to several groups: which input channels it wants, and where.

from pymec.kernels._geometry cimport Geometry

cdef enum:
    PLACES = 16                  # of four bytes in a line of 64


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
    return 0 if distance <= 0 else (distance + stride - 1) / stride
