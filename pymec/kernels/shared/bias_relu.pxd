# The bias of the output channels, and ReLU: max(sum + bias, 0).
#
# Where sums are kept in registers they begin with the bias, and ReLU is part of the last store.  Algorithms that
# multiply by BLAS finish a block of outputs while it is in a cache, or leave both to the plain pass, `finish`.

from cython cimport floating

from pymec.kernels.shared.geometry cimport Geometry


cdef struct BiasRelu:
    const void* bias            # of all output channels, or NULL for zeros
    bint relu


cdef inline BiasRelu bias_relu_of(const floating[::1] bias, bint relu, const Geometry* g) except *:
    """A stage's ``bias=`` and ``relu=`` as a struct; an error where the bias is not as long as K has channels."""
    cdef BiasRelu bias_relu = BiasRelu(NULL, relu)
    if bias is not None:
        if bias.shape[0] != g.k_c:
            raise ValueError(f"bias has {bias.shape[0]} elements, but shape= speaks of {g.k_c} output channels")
        bias_relu.bias = &bias[0]
    return bias_relu


cdef inline void finish_pixels(
    floating* O, Py_ssize_t pixels, Py_ssize_t step, Py_ssize_t m0, Py_ssize_t m1, const BiasRelu* bias_relu
) noexcept nogil:
    """Add the bias to channels m0 .. m1 of some pixels, then apply ReLU; NaN stays NaN."""
    cdef const floating* bias = <const floating*> bias_relu.bias
    cdef Py_ssize_t i, m
    for i in range(pixels):
        if bias_relu.bias != NULL:
            for m in range(m0, m1):
                O[i * step + m] += bias[m]
        if bias_relu.relu:
            for m in range(m0, m1):
                O[i * step + m] = 0 if O[i * step + m] < 0 else O[i * step + m]
