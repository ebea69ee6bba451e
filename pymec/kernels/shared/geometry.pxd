# Every size of one convolution, by the paper's symbols, filled once from a pymec.ConvShape.
#
# A group is a convolution of its own on i_cg = i_c / groups input and k_cg = k_c / groups output channels.

cdef struct PixelStrides:       # elements of I, or of O, from one of these to the next
    Py_ssize_t image, row, pixel, channel

cdef struct Geometry:
    Py_ssize_t i_n, i_h, i_w, i_c
    Py_ssize_t k_h, k_w, k_c
    Py_ssize_t o_h, o_w
    Py_ssize_t s_h, s_w
    Py_ssize_t d_h, d_w
    Py_ssize_t p_t, p_l
    Py_ssize_t H                # rows of the padded image: i_h + p_t + p_b
    Py_ssize_t groups, i_cg, k_cg
    PixelStrides image, out     # those of whole arrays, unless a kernel asks where slices lie

cdef Geometry geometry(object shape) except *
cdef Geometry sizes_of(object shape) except *
cdef int check_stage(const Geometry* g, int n_threads, const Py_ssize_t* x, const Py_ssize_t* kernel,
                     const Py_ssize_t* out) except -1
cdef int check_operands(const Geometry* g, const Py_ssize_t* x, const Py_ssize_t* kernel,
                        const Py_ssize_t* out) except -1
cdef int find_pixels(Geometry* g, const Py_ssize_t* x, const Py_ssize_t* x_strides, const Py_ssize_t* out,
                     const Py_ssize_t* out_strides, Py_ssize_t itemsize, bint any_channels=*) except -1
cdef int check_strides(
    str name, const Py_ssize_t* extents, const Py_ssize_t* strides, Py_ssize_t itemsize
) except -1
cdef int check_extents(str name, const Py_ssize_t* given, tuple wanted) except -1
cdef int check_threads(int n_threads) except -1
cdef int check_room(str name, Py_ssize_t given, Py_ssize_t needed) except -1
