# Where sums begin and end: with the bias, or zeros, and at zero, if ReLU is asked for.

from cython cimport floating

from pymec.kernels.shared.geometry cimport Geometry
from pymec.kernels.shared.patch cimport copy, zero


cdef struct Ends:
    const void* bias            # of all output channels, or NULL for zeros
    bint relu


cdef inline Ends ends_of(const floating[::1] bias, bint relu, const Geometry* g) except *:
    """A stage's ``bias=`` and ``relu=`` as a struct; an error where the bias is not as long as K has channels."""
    cdef Ends ends = Ends(NULL, relu)
    if bias is not None:
        if bias.shape[0] != g.k_c:
            raise ValueError(f"bias has {bias.shape[0]} elements, but shape= speaks of {g.k_c} output channels")
        ends.bias = &bias[0]
    return ends


cdef inline void begin_pixels(
    floating* O, Py_ssize_t pixels, Py_ssize_t step, Py_ssize_t m0, Py_ssize_t m1, const Ends* ends
) noexcept nogil:
    """The bias in channels m0 .. m1 of some pixels; nothing, where sums begin with zeros."""
    cdef Py_ssize_t i
    for i in range(0 if ends.bias == NULL else pixels):
        copy(O + i * step + m0, <const floating*> ends.bias + m0, m1 - m0)


cdef inline void fill_pixels(
    floating* O, Py_ssize_t pixels, Py_ssize_t step, Py_ssize_t m0, Py_ssize_t m1, const Ends* ends
) noexcept nogil:
    """The bias, or zeros, in channels m0 .. m1 of some pixels: for sums whose products are all added."""
    cdef Py_ssize_t i
    if ends.bias != NULL:
        begin_pixels(O, pixels, step, m0, m1, ends)
    elif m1 - m0 == step:
        zero(O + m0, pixels * step)
    else:
        for i in range(pixels):
            zero(O + i * step + m0, m1 - m0)


cdef inline void end_pixels(
    floating* O, Py_ssize_t pixels, Py_ssize_t step, Py_ssize_t m0, Py_ssize_t m1, const Ends* ends
) noexcept nogil:
    """With ReLU, what is below zero becomes zero in channels m0 .. m1 of some pixels; NaN is not below."""
    cdef Py_ssize_t i, m
    for i in range(pixels if ends.relu else 0):
        for m in range(m0, m1):
            O[i * step + m] = 0 if O[i * step + m] < 0 else O[i * step + m]
