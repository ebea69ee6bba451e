# What a tile of the kernel's gradient reads of I, copied so that pixels are adjacent.

from cython cimport floating

from pymec.kernels.register_tiles.outer_tiles cimport Pixels
from pymec.kernels.shared.geometry cimport Geometry
from pymec.kernels.shared.patch cimport clip, copy, zero
from pymec.kernels.shared.spans cimport Span


cdef inline void copy_inputs(
    const Pixels* over, const floating* I, floating* copied, Py_ssize_t inputs, Py_ssize_t step
) noexcept nogil:
    """A few input channels of all pixels, `step` elements apart."""
    cdef Py_ssize_t image, row, _
    cdef const floating* pixel
    for image in range(over.images):
        for row in range(over.rows):
            pixel = I + image * over.I.image + row * over.I.row
            for _ in range(over.columns):
                copy(copied, pixel, inputs)
                copied += step
                pixel += over.I.column


cdef inline void copy_taps(
    const Pixels* over, const floating* I, floating* copied, Span part, Py_ssize_t step, Py_ssize_t x,
    const Geometry* g
) noexcept nogil:
    """The same for adjacent taps: `part` of the kernel row at every output from column x on, zeros on padding."""
    cdef Py_ssize_t inputs = part.end - part.first, image, row, column, first, before, end
    cdef const floating* image_row
    for image in range(over.images):
        for row in range(over.rows):
            image_row = I + image * over.I.image + row * over.I.row
            for column in range(x, x + over.columns):
                first = (column * g.s_w - g.p_l) * g.i_c + part.first
                before = clip(-first, 0, inputs)
                end = clip(g.i_w * g.i_c - first, before, inputs)
                if end - before < inputs:
                    zero(copied, inputs)
                if before < end:
                    copy(copied + before, image_row + first + before, end - before)
                copied += step
