# Which output has a given tap on a given image row (or column).

cdef inline Py_ssize_t output_at(Py_ssize_t position, Py_ssize_t stride, Py_ssize_t outputs) noexcept nogil:
    """The output y with y*stride == position, or -1 if there is none.

    The output row that has tap a on image row h: output_at(h + p_t - a*d_h, s_h, o_h).
    """
    cdef Py_ssize_t y = position // stride
    return y if position >= 0 and y * stride == position and y < outputs else -1


cdef inline int check_blocks(object blocking) except -1:
    """Refuse blocks that no loop would end with."""
    if min(blocking) < 1 or max(blocking) > 2**62:
        raise ValueError(f"blocking must be numbers from 1 to 2**62, got {blocking!r}")
    return 0
