"""ConvShape as a C struct, and the checks every stage makes before it takes an address.

The public door, :func:`pymec.conv2d`, has checked everything long before a kernel runs.  Stages are
public too, so each repeats the few checks that stand between a slip and memory that is not ours.
"""

from cython cimport auto_pickle

from pymec.kernels.shared.interrupts cimport enter_stage

cdef bint threads_started = False


def several_threads_ran():
    """Whether any kernel of this process was asked for more than one thread."""
    return threads_started


cdef Geometry geometry(object shape) except *:
    """What every stage begins with: the sizes of a :class:`pymec.ConvShape`, read with the GIL before any loop."""
    enter_stage()
    return sizes_of(shape)


@auto_pickle(False)
cdef class KeptGeometry:
    """The struct as a Python object, which a shape keeps beside its other derived sizes."""

    cdef Geometry sizes


cdef Geometry sizes_of(object shape) except *:
    """The same for functions that compute nothing but sizes, which no call has to wait for."""
    cdef dict derived = shape.__dict__
    cdef KeptGeometry kept = derived.get("_geometry")
    if kept is None:
        kept = KeptGeometry.__new__(KeptGeometry)
        kept.sizes = read_sizes(shape)
        derived["_geometry"] = kept
    return kept.sizes


cdef Geometry read_sizes(object shape) except *:
    """The sizes, one attribute of the shape after the other: as long as a small convolution takes."""
    cdef Geometry g
    g.i_n, g.i_h, g.i_w, g.i_c = shape.i_n, shape.i_h, shape.i_w, shape.i_c
    g.k_h, g.k_w, g.k_c = shape.k_h, shape.k_w, shape.k_c
    g.o_h, g.o_w = shape.o_h, shape.o_w
    g.s_h, g.s_w = shape.s_h, shape.s_w
    g.d_h, g.d_w = shape.d_h, shape.d_w
    g.p_t, g.p_l = shape.p_t, shape.p_l
    g.H = shape.i_h + shape.p_t + shape.p_b
    g.groups, g.i_cg, g.k_cg = shape.groups, shape.i_cg, shape.k_cg
    g.image = PixelStrides(g.i_h * g.i_w * g.i_c, g.i_w * g.i_c, g.i_c, 1)
    g.out = PixelStrides(g.o_h * g.o_w * g.k_c, g.o_w * g.k_c, g.k_c, 1)
    return g


cdef int find_pixels(Geometry* g, const Py_ssize_t* x, const Py_ssize_t* x_strides, const Py_ssize_t* out,
                     const Py_ssize_t* out_strides, Py_ssize_t itemsize, bint any_channels=False) except -1:
    """Note where the pixels of I and of O lie: a constant distance apart, as those of slices do.

    The channels of a pixel must be adjacent, unless the kernel takes ``any_channels``.
    """
    g.image = pixel_strides("x", x, x_strides, itemsize, any_channels)
    g.out = pixel_strides("out", out, out_strides, itemsize, any_channels)
    return 0


cdef PixelStrides pixel_strides(
    str name, const Py_ssize_t* extents, const Py_ssize_t* strides, Py_ssize_t itemsize, bint any_channels
) except *:
    """The strides of an image.

    An axis of one element may have any stride, because nothing is a step away: it gets that of a whole array.
    """
    cdef PixelStrides found
    check_strides(name, extents, strides, itemsize)
    if extents[3] > 1 and strides[3] != itemsize and not any_channels:
        raise ValueError(f"{name} must have the channels of a pixel adjacent, got a stride of {strides[3]} bytes")
    found.channel = strides[3] // itemsize if extents[3] > 1 else 1
    found.pixel = strides[2] // itemsize if extents[2] > 1 else extents[3] * found.channel
    found.row = strides[1] // itemsize if extents[1] > 1 else extents[2] * found.pixel
    found.image = strides[0] // itemsize if extents[0] > 1 else extents[1] * found.row
    return found


cdef int check_strides(
    str name, const Py_ssize_t* extents, const Py_ssize_t* strides, Py_ssize_t itemsize
) except -1:
    """Refuse strides that go backward, or by parts of an element."""
    cdef Py_ssize_t i
    for i in range(4):
        if extents[i] > 1 and (strides[i] <= 0 or strides[i] % itemsize):
            raise ValueError(
                f"{name} must have positive strides of whole elements, got {strides[i]} for {itemsize} bytes"
            )
    return 0


cdef int check_extents(str name, const Py_ssize_t* given, tuple wanted) except -1:
    """Refuse an array whose four extents are not those that the shape speaks of."""
    cdef tuple extents = (given[0], given[1], given[2], given[3])
    if extents != wanted:
        raise ValueError(f"{name} has shape {extents}, but shape= speaks of {wanted}")
    return 0


cdef int check_operands(const Geometry* g, const Py_ssize_t* x, const Py_ssize_t* kernel,
                        const Py_ssize_t* out) except -1:
    """Check the extents of those operands a stage takes; NULL for one it does not."""
    if x != NULL:
        check_extents("x", x, (g.i_n, g.i_h, g.i_w, g.i_c))
    if kernel != NULL:
        check_extents("kernel", kernel, (g.k_h, g.k_w, g.i_cg, g.k_c))
    if out != NULL:
        check_extents("out", out, (g.i_n, g.o_h, g.o_w, g.k_c))
    return 0


cdef int check_stage(const Geometry* g, int n_threads, const Py_ssize_t* x, const Py_ssize_t* kernel,
                     const Py_ssize_t* out) except -1:
    """What every stage checks: the number of threads, and the extents of its operands (NULL for what it lacks)."""
    check_threads(n_threads)
    return check_operands(g, x, kernel, out)


cdef int check_room(str name, Py_ssize_t given, Py_ssize_t needed) except -1:
    """Refuse a scratch array, or a prepared kernel, that is too small."""
    if given < needed:
        raise ValueError(f"{name} has {given} elements, but this stage needs {needed}")
    return 0


cdef int check_threads(int n_threads) except -1:
    """Refuse a number of threads that OpenMP gives no meaning to, or BLAS no buffers; note several."""
    global threads_started
    if not 1 <= n_threads <= 64:
        raise ValueError(f"n_threads must be from 1 to 64, got {n_threads}")
    threads_started = threads_started or n_threads > 1
    return 0
