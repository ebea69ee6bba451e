# Which outputs have a tap inside the image, which taps of an output do, and how loops are divided among threads.

from pymec.kernels.shared.patch cimport clip


cdef struct Span:
    Py_ssize_t first, end       # the indices first <= i < end; none if they are equal


cdef inline Py_ssize_t ceil_div(Py_ssize_t a, Py_ssize_t b) noexcept nogil:
    """a / b rounded up, for a >= 0 and b > 0."""
    return (a + b - 1) // b


cdef inline Py_ssize_t steps_to(Py_ssize_t distance, Py_ssize_t step) noexcept nogil:
    """The number of steps 0, step, 2 step, ... that fall short of `distance`."""
    if distance <= 0 or step == 1:  # most steps are 1, and a division takes longer than this question
        return max(distance, 0)
    return ceil_div(distance, step)


cdef inline Span inside(Py_ssize_t offset, Py_ssize_t step, Py_ssize_t extent, Py_ssize_t count) noexcept nogil:
    """The indices i < count with 0 <= offset + i*step < extent.

    The outputs that have tap b inside a row of the image: inside(b*d_w - p_l, s_w, i_w, o_w).
    The taps that output x has inside it:                  inside(x*s_w - p_l, d_w, i_w, k_w).
    """
    cdef Span span
    span.first = clip(steps_to(-offset, step), 0, count)
    span.end = clip(steps_to(extent - offset, step), span.first, count)
    return span


cdef inline Span both(Span one, Span other) noexcept nogil:
    """What lies in both spans."""
    cdef inline Span span
    span.first = max(one.first, other.first)
    span.end = max(span.first, min(one.end, other.end))
    return span


cdef inline Span share_of(Py_ssize_t count, Py_ssize_t share, Py_ssize_t shares) noexcept nogil:
    """One of `shares` contiguous shares of `count` items; their sizes differ by at most one."""
    cdef Span span
    span.first = share * count // shares
    span.end = (share + 1) * count // shares
    return span


cdef inline Span share_of_blocks(
    Py_ssize_t rows, Py_ssize_t channels, Py_ssize_t width, Py_ssize_t share, Py_ssize_t shares
) noexcept nogil:
    """A share of the blocks of `width` channels of all rows; a row's last block may overlap the one before it.

    Both of these store the channels that they have in common.  No share begins between them: two threads would
    store the same numbers at the same addresses, which C calls a data race.
    """
    cdef Py_ssize_t blocks = ceil_div(channels, width)
    cdef Span span = share_of(rows * blocks, share, shares)
    if channels > width and channels % width != 0:
        span.first += span.first % blocks == blocks - 1
        span.end += span.end % blocks == blocks - 1
    return span


cdef inline Py_ssize_t innermost(Py_ssize_t* task, Py_ssize_t count) noexcept nogil:
    """The index of the innermost of the loops that `task` counts through, a loop of `count`; it is divided out.

    Taken from the inside out, a task of n*rows*blocks gives block = innermost(&task, blocks),
    row = innermost(&task, rows), and what is left of it is n.
    """
    cdef Py_ssize_t index = task[0] % count
    task[0] //= count
    return index
