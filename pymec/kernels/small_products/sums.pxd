# Sums of products whose first one overwrites and whose others add: outputs that the first one does not reach begin
# with zeros.

from cython cimport floating

from pymec.kernels.shared.patch cimport zero
from pymec.kernels.shared.spans cimport Span


cdef inline void zero_beside(
    floating* O, Py_ssize_t step, Span reached, Py_ssize_t first, Py_ssize_t end, Py_ssize_t channels
) noexcept nogil:
    """Zeros in pixels first .. end, `step` elements apart, but not in the `reached` ones among them."""
    cdef Py_ssize_t pixel
    for pixel in range(first, end):
        if not reached.first <= pixel < reached.end:
            zero(O + pixel * step, channels)
