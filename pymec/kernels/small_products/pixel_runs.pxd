# Lines of output pixels, in a row or in a column: the rows of a product that reads I where it lies.
#
# For one tap the input pixels of a line are a stride apart, but some lie on padding: its products leave these
# outputs out.  So what a sum begins and ends with is written piece by piece around its first and last product, and
# by itself where the first or the last tap of the line does not reach.

from cython cimport floating

from pymec.kernels.shared.blas cimport gemm_rowmajor
from pymec.kernels.shared.bias_relu cimport BiasRelu, write_bias, apply_relu
from pymec.kernels.shared.geometry cimport Geometry
from pymec.kernels.shared.patch cimport clip, zero
from pymec.kernels.shared.blocking cimport GemmBlocking


cdef struct Line:
    Py_ssize_t first, end                  # those of the unit at work
    Py_ssize_t m0, m1                      # its output channels, all of one group
    Py_ssize_t taps, stride, dilation, padding
    Py_ssize_t extent                      # input pixels along the line
    Py_ssize_t i_step, o_step              # elements from one pixel to the next, in I and in O


cdef struct Span:
    Py_ssize_t first, end


cdef inline Line row_line(
    Py_ssize_t first, Py_ssize_t block, Py_ssize_t m0, Py_ssize_t m1, const Geometry* g
) noexcept nogil:
    """Pixels of an output row, from ``first`` on."""
    return Line(first, min(first + block, g.o_w), m0, m1, g.k_w, g.s_w, g.d_w, g.p_l, g.i_w, g.i_c, g.k_c)


cdef inline Line column_line(
    Py_ssize_t first, Py_ssize_t block, Py_ssize_t m0, Py_ssize_t m1, const Geometry* g
) noexcept nogil:
    """Pixels of an output column, from ``first`` on."""
    return Line(first, min(first + block, g.o_h), m0, m1, g.k_h, g.s_h, g.d_h, g.p_t, g.i_h,
                g.i_w * g.i_c, g.o_w * g.k_c)


cdef inline Py_ssize_t outputs_before(Py_ssize_t position, const Line* line) noexcept nogil:
    """Where the outputs end whose tap lies before a position, counted from the tap under output 0."""
    return clip(0 if position <= 0 else (position + line.stride - 1) / line.stride, line.first, line.end)


cdef inline Span under_image(Py_ssize_t tap, const Line* line) noexcept nogil:
    """The outputs of the line for which a tap lies on the image, not on its padding; none beyond the last tap."""
    cdef Py_ssize_t position = tap * line.dilation - line.padding
    if tap >= line.taps:
        return Span(line.end, line.end)
    return Span(outputs_before(-position, line), outputs_before(line.extent - position, line))


cdef inline Py_ssize_t first_tap(const Line* line) noexcept nogil:
    """The first tap that lies on the image for any output of the line; the last one if none does."""
    cdef Py_ssize_t tap
    cdef Span span
    for tap in range(line.taps):
        span = under_image(tap, line)
        if span.first < span.end:
            return tap
    return line.taps - 1


cdef inline void begin_outputs(
    floating* O, Py_ssize_t first, Py_ssize_t end, const Line* line, const BiasRelu* bias_relu
) noexcept nogil:
    """The bias, or zeros, in some outputs of the line."""
    cdef Py_ssize_t pixel
    write_bias(O + first * line.o_step, end - first, line.o_step, line.m0, line.m1, bias_relu)
    for pixel in range(first, end if bias_relu.bias == NULL else first):
        zero(O + pixel * line.o_step + line.m0, line.m1 - line.m0)


cdef inline void begin_beside(floating* O, Py_ssize_t tap, const Line* line, const BiasRelu* bias_relu) noexcept nogil:
    """What sums begin with in the outputs that the first tap leaves out: all, if there is no such tap."""
    cdef Span span = under_image(tap, line)
    begin_outputs(O, line.first, span.first, line, bias_relu)
    begin_outputs(O, span.end, line.end, line, bias_relu)


cdef inline void end_beside(floating* O, Py_ssize_t tap, const Line* line, const BiasRelu* bias_relu) noexcept nogil:
    """The end of the sums that the last tap leaves out: of all, if there is no such tap."""
    cdef Span span = under_image(tap, line)
    apply_relu(O + line.first * line.o_step, span.first - line.first, line.o_step, line.m0, line.m1, bias_relu)
    apply_relu(O + span.end * line.o_step, line.end - span.end, line.o_step, line.m0, line.m1, bias_relu)


cdef inline void add_tap(
    const floating* I, const floating* K, floating* O, Py_ssize_t tap, Py_ssize_t reduction, bint first, bint last,
    const Line* line, const GemmBlocking* blocking, const BiasRelu* bias_relu, const Geometry* g
) noexcept nogil:
    """One tap's products: I and O point at position 0 of the line, K at the tap's first row.

    The ``first`` ones begin sums, the ``last`` ones end them.
    """
    cdef Span span = under_image(tap, line)
    cdef Py_ssize_t pixel = span.first
    cdef Py_ssize_t n_pixels
    cdef floating* target
    while pixel < span.end:
        n_pixels = min(blocking.columns, span.end - pixel)
        target = O + pixel * line.o_step
        if first:
            write_bias(target, n_pixels, line.o_step, line.m0, line.m1, bias_relu)
        # O_line (n_pixels × k_c) = I_line (n_pixels × reduction) · K_tap (reduction × k_c) + beta · O_line;
        # I_line steps by the stride from pixel to pixel, O_line by one.
        gemm_rowmajor(n_pixels, line.m1 - line.m0, reduction,
                      I + (pixel * line.stride + tap * line.dilation - line.padding) * line.i_step,
                      line.stride * line.i_step, K + line.m0, g.k_c,
                      <floating> (not first or bias_relu.bias != NULL), target + line.m0, line.o_step)
        if last:
            apply_relu(target, n_pixels, line.o_step, line.m0, line.m1, bias_relu)
        pixel += n_pixels
