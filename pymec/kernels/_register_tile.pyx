"""The inner loop of everything that multiplies without BLAS: an outer product whose sums stay in registers.

At every step of the reduction some output pixels meet a line of output channels, and all their sums are in registers.
How many pixels and channels depends on the CPU's registers:

===========================  =====================  ==================  ==================
CPU                          pixels of a tile       channels, float32   channels, float64
===========================  =====================  ==================  ==================
AVX-512: 32 of 64 bytes      12, 10 or 8            32                  16
AVX2: 16 of 32 bytes         6 or 4                 16                  8
any                          4                      16                  8
fewer channels than that     4                      all there are
===========================  =====================  ==================  ==================

Nothing here is an instruction of one CPU.  A register is a C type, an array of numbers that gcc and clang know to add
and multiply element by element (their vector extension), and a function says for which CPUs it is compiled.  Every
sum is a variable with a name, because of an array compilers only sometimes make registers.
"""

from cython cimport floating

cdef extern from *:
    """
    #if defined(__GNUC__)
    #define PYMEC_INLINED __attribute__((always_inline)) void
    #define PYMEC_REGISTER(type, bytes) type __attribute__((vector_size(bytes), aligned(sizeof(type)), may_alias))
    #else
    #define PYMEC_INLINED void
    #define PYMEC_REGISTER(type, bytes) type  /* never used: such a build has the plain tile alone */
    #endif
    typedef PYMEC_REGISTER(float, 64) pymec_wide_floats;
    typedef PYMEC_REGISTER(double, 64) pymec_wide_doubles;
    typedef PYMEC_REGISTER(float, 32) pymec_narrow_floats;
    typedef PYMEC_REGISTER(double, 32) pymec_narrow_doubles;

    /* On x86-64 with glibc, gcc compiles a function for CPUs that the build is not for, and the program asks the CPU
       whether it may call it.  Elsewhere, and where the whole build is for newer CPUs anyway, nothing is asked. */
    #if defined(__x86_64__) && defined(__GLIBC__) && !defined(__AVX__) && !defined(__clang__) && __GNUC__ >= 12
    #define PYMEC_WIDE __attribute__((target("arch=x86-64-v4"))) void
    #define PYMEC_NARROW __attribute__((target("arch=x86-64-v3"))) void
    #define PYMEC_HAS_WIDE (__builtin_cpu_supports("x86-64-v4") != 0)
    #define PYMEC_HAS_NARROW (__builtin_cpu_supports("x86-64-v3") != 0)
    #else
    #define PYMEC_WIDE void
    #define PYMEC_NARROW void
    #if defined(__AVX512F__)
    #define PYMEC_HAS_WIDE 1
    #else
    #define PYMEC_HAS_WIDE 0
    #endif
    #if defined(__AVX2__) && defined(__FMA__)
    #define PYMEC_HAS_NARROW 1
    #else
    #define PYMEC_HAS_NARROW 0
    #endif
    #endif
    """
    ctypedef void inlined "PYMEC_INLINED"                  # a function that is made part of its callers
    ctypedef void compiled_wide "PYMEC_WIDE"               # one for CPUs with AVX-512
    ctypedef void compiled_narrow "PYMEC_NARROW"           # one for CPUs with AVX2
    bint PYMEC_HAS_WIDE, PYMEC_HAS_NARROW
    ctypedef float wide_floats "pymec_wide_floats"         # registers; what Cython thinks is one number
    ctypedef double wide_doubles "pymec_wide_doubles"
    ctypedef float narrow_floats "pymec_narrow_floats"
    ctypedef double narrow_doubles "pymec_narrow_doubles"

ctypedef fused wide:
    wide_floats
    wide_doubles

ctypedef fused narrow:
    narrow_floats
    narrow_doubles

cdef bint has_wide = PYMEC_HAS_WIDE
cdef bint has_narrow = PYMEC_HAS_NARROW


cdef Tile widest_tile(Py_ssize_t channels, Py_ssize_t itemsize) noexcept nogil:
    """The tile for a group's output channels on this CPU."""
    if has_wide and channels >= 128 / itemsize:
        return Tile(12, 8, 128 / itemsize)
    if channels < 64 / itemsize:
        return Tile(4, 4, channels)
    return Tile(6 if has_narrow else 4, 4, 64 / itemsize)


def tile_for(Py_ssize_t channels, Py_ssize_t itemsize):
    """The most pixels and the channels of the tile that a group of so many output channels gets on this CPU."""
    cdef Tile tile = widest_tile(channels, itemsize)
    return tile.pixels, tile.channels


cdef Py_ssize_t pixels_of_tile(Py_ssize_t left, const Tile* widest) noexcept nogil:
    """How many pixels the next tile takes, if so many are left: all alike, and even, so that few are in vain."""
    cdef Py_ssize_t tiles = (left + widest.pixels - 1) / widest.pixels
    cdef Py_ssize_t pixels = (left + tiles - 1) / tiles
    return max(widest.least, pixels + pixels % 2)


# Registers of 64 bytes: 24 of 32 hold sums --------------------------------------------------------------


cdef inline inlined load_wide(wide* l, wide* r, const wide* line, Py_ssize_t step) noexcept nogil:
    """A line of channels, some bytes further on."""
    line = <const wide*> (<const char*> line + step)
    l[0], r[0] = line[0], line[1]


cdef inline inlined add_wide(
    wide* l, wide* r, floating number, const wide* left, const wide* right
) noexcept nogil:
    """A pixel's sums: its number times a line of K."""
    if floating is double and wide is wide_floats:
        return  # Cython writes this pair of types, too
    else:
        l[0] += number * left[0]
        r[0] += number * right[0]


cdef inline inlined store_wide(wide* C, Py_ssize_t step, const wide* l, const wide* r) noexcept nogil:
    C = <wide*> (<char*> C + step)
    C[0], C[1] = l[0], r[0]


cdef compiled_wide twelve_wide(
    const floating** pixel, Py_ssize_t taps, Py_ssize_t length, const wide* K, Py_ssize_t k_step,
    const wide* start, Py_ssize_t s_step, wide* C, Py_ssize_t c_step
) noexcept nogil:
    cdef wide l0, l1, l2, l3, l4, l5, l6, l7, l8, l9, l10, l11
    cdef wide r0, r1, r2, r3, r4, r5, r6, r7, r8, r9, r10, r11
    cdef wide left, right
    cdef Py_ssize_t c, _
    load_wide(&l0, &r0, start, 0 * s_step)
    load_wide(&l1, &r1, start, 1 * s_step)
    load_wide(&l2, &r2, start, 2 * s_step)
    load_wide(&l3, &r3, start, 3 * s_step)
    load_wide(&l4, &r4, start, 4 * s_step)
    load_wide(&l5, &r5, start, 5 * s_step)
    load_wide(&l6, &r6, start, 6 * s_step)
    load_wide(&l7, &r7, start, 7 * s_step)
    load_wide(&l8, &r8, start, 8 * s_step)
    load_wide(&l9, &r9, start, 9 * s_step)
    load_wide(&l10, &r10, start, 10 * s_step)
    load_wide(&l11, &r11, start, 11 * s_step)
    for _ in range(taps):
        for c in range(length):
            load_wide(&left, &right, K, 0)
            add_wide(&l0, &r0, pixel[0][c], &left, &right)
            add_wide(&l1, &r1, pixel[1][c], &left, &right)
            add_wide(&l2, &r2, pixel[2][c], &left, &right)
            add_wide(&l3, &r3, pixel[3][c], &left, &right)
            add_wide(&l4, &r4, pixel[4][c], &left, &right)
            add_wide(&l5, &r5, pixel[5][c], &left, &right)
            add_wide(&l6, &r6, pixel[6][c], &left, &right)
            add_wide(&l7, &r7, pixel[7][c], &left, &right)
            add_wide(&l8, &r8, pixel[8][c], &left, &right)
            add_wide(&l9, &r9, pixel[9][c], &left, &right)
            add_wide(&l10, &r10, pixel[10][c], &left, &right)
            add_wide(&l11, &r11, pixel[11][c], &left, &right)
            K = <const wide*> (<const char*> K + k_step)
        pixel += 12
    store_wide(C, 0 * c_step, &l0, &r0)
    store_wide(C, 1 * c_step, &l1, &r1)
    store_wide(C, 2 * c_step, &l2, &r2)
    store_wide(C, 3 * c_step, &l3, &r3)
    store_wide(C, 4 * c_step, &l4, &r4)
    store_wide(C, 5 * c_step, &l5, &r5)
    store_wide(C, 6 * c_step, &l6, &r6)
    store_wide(C, 7 * c_step, &l7, &r7)
    store_wide(C, 8 * c_step, &l8, &r8)
    store_wide(C, 9 * c_step, &l9, &r9)
    store_wide(C, 10 * c_step, &l10, &r10)
    store_wide(C, 11 * c_step, &l11, &r11)


cdef compiled_wide ten_wide(
    const floating** pixel, Py_ssize_t taps, Py_ssize_t length, const wide* K, Py_ssize_t k_step,
    const wide* start, Py_ssize_t s_step, wide* C, Py_ssize_t c_step
) noexcept nogil:
    cdef wide l0, l1, l2, l3, l4, l5, l6, l7, l8, l9
    cdef wide r0, r1, r2, r3, r4, r5, r6, r7, r8, r9
    cdef wide left, right
    cdef Py_ssize_t c, _
    load_wide(&l0, &r0, start, 0 * s_step)
    load_wide(&l1, &r1, start, 1 * s_step)
    load_wide(&l2, &r2, start, 2 * s_step)
    load_wide(&l3, &r3, start, 3 * s_step)
    load_wide(&l4, &r4, start, 4 * s_step)
    load_wide(&l5, &r5, start, 5 * s_step)
    load_wide(&l6, &r6, start, 6 * s_step)
    load_wide(&l7, &r7, start, 7 * s_step)
    load_wide(&l8, &r8, start, 8 * s_step)
    load_wide(&l9, &r9, start, 9 * s_step)
    for _ in range(taps):
        for c in range(length):
            load_wide(&left, &right, K, 0)
            add_wide(&l0, &r0, pixel[0][c], &left, &right)
            add_wide(&l1, &r1, pixel[1][c], &left, &right)
            add_wide(&l2, &r2, pixel[2][c], &left, &right)
            add_wide(&l3, &r3, pixel[3][c], &left, &right)
            add_wide(&l4, &r4, pixel[4][c], &left, &right)
            add_wide(&l5, &r5, pixel[5][c], &left, &right)
            add_wide(&l6, &r6, pixel[6][c], &left, &right)
            add_wide(&l7, &r7, pixel[7][c], &left, &right)
            add_wide(&l8, &r8, pixel[8][c], &left, &right)
            add_wide(&l9, &r9, pixel[9][c], &left, &right)
            K = <const wide*> (<const char*> K + k_step)
        pixel += 10
    store_wide(C, 0 * c_step, &l0, &r0)
    store_wide(C, 1 * c_step, &l1, &r1)
    store_wide(C, 2 * c_step, &l2, &r2)
    store_wide(C, 3 * c_step, &l3, &r3)
    store_wide(C, 4 * c_step, &l4, &r4)
    store_wide(C, 5 * c_step, &l5, &r5)
    store_wide(C, 6 * c_step, &l6, &r6)
    store_wide(C, 7 * c_step, &l7, &r7)
    store_wide(C, 8 * c_step, &l8, &r8)
    store_wide(C, 9 * c_step, &l9, &r9)


cdef compiled_wide eight_wide(
    const floating** pixel, Py_ssize_t taps, Py_ssize_t length, const wide* K, Py_ssize_t k_step,
    const wide* start, Py_ssize_t s_step, wide* C, Py_ssize_t c_step
) noexcept nogil:
    cdef wide l0, l1, l2, l3, l4, l5, l6, l7
    cdef wide r0, r1, r2, r3, r4, r5, r6, r7
    cdef wide left, right
    cdef Py_ssize_t c, _
    load_wide(&l0, &r0, start, 0 * s_step)
    load_wide(&l1, &r1, start, 1 * s_step)
    load_wide(&l2, &r2, start, 2 * s_step)
    load_wide(&l3, &r3, start, 3 * s_step)
    load_wide(&l4, &r4, start, 4 * s_step)
    load_wide(&l5, &r5, start, 5 * s_step)
    load_wide(&l6, &r6, start, 6 * s_step)
    load_wide(&l7, &r7, start, 7 * s_step)
    for _ in range(taps):
        for c in range(length):
            load_wide(&left, &right, K, 0)
            add_wide(&l0, &r0, pixel[0][c], &left, &right)
            add_wide(&l1, &r1, pixel[1][c], &left, &right)
            add_wide(&l2, &r2, pixel[2][c], &left, &right)
            add_wide(&l3, &r3, pixel[3][c], &left, &right)
            add_wide(&l4, &r4, pixel[4][c], &left, &right)
            add_wide(&l5, &r5, pixel[5][c], &left, &right)
            add_wide(&l6, &r6, pixel[6][c], &left, &right)
            add_wide(&l7, &r7, pixel[7][c], &left, &right)
            K = <const wide*> (<const char*> K + k_step)
        pixel += 8
    store_wide(C, 0 * c_step, &l0, &r0)
    store_wide(C, 1 * c_step, &l1, &r1)
    store_wide(C, 2 * c_step, &l2, &r2)
    store_wide(C, 3 * c_step, &l3, &r3)
    store_wide(C, 4 * c_step, &l4, &r4)
    store_wide(C, 5 * c_step, &l5, &r5)
    store_wide(C, 6 * c_step, &l6, &r6)
    store_wide(C, 7 * c_step, &l7, &r7)


# Registers of 32 bytes: 12 of 16 hold sums --------------------------------------------------------------


cdef inline inlined load_narrow(narrow* l, narrow* r, const narrow* line, Py_ssize_t step) noexcept nogil:
    """A line of channels, some bytes further on."""
    line = <const narrow*> (<const char*> line + step)
    l[0], r[0] = line[0], line[1]


cdef inline inlined add_narrow(
    narrow* l, narrow* r, floating number, const narrow* left, const narrow* right
) noexcept nogil:
    """A pixel's sums: its number times a line of K."""
    if floating is double and narrow is narrow_floats:
        return  # Cython writes this pair of types, too
    else:
        l[0] += number * left[0]
        r[0] += number * right[0]


cdef inline inlined store_narrow(narrow* C, Py_ssize_t step, const narrow* l, const narrow* r) noexcept nogil:
    C = <narrow*> (<char*> C + step)
    C[0], C[1] = l[0], r[0]


cdef compiled_narrow six_narrow(
    const floating** pixel, Py_ssize_t taps, Py_ssize_t length, const narrow* K, Py_ssize_t k_step,
    const narrow* start, Py_ssize_t s_step, narrow* C, Py_ssize_t c_step
) noexcept nogil:
    cdef narrow l0, l1, l2, l3, l4, l5
    cdef narrow r0, r1, r2, r3, r4, r5
    cdef narrow left, right
    cdef Py_ssize_t c, _
    load_narrow(&l0, &r0, start, 0 * s_step)
    load_narrow(&l1, &r1, start, 1 * s_step)
    load_narrow(&l2, &r2, start, 2 * s_step)
    load_narrow(&l3, &r3, start, 3 * s_step)
    load_narrow(&l4, &r4, start, 4 * s_step)
    load_narrow(&l5, &r5, start, 5 * s_step)
    for _ in range(taps):
        for c in range(length):
            load_narrow(&left, &right, K, 0)
            add_narrow(&l0, &r0, pixel[0][c], &left, &right)
            add_narrow(&l1, &r1, pixel[1][c], &left, &right)
            add_narrow(&l2, &r2, pixel[2][c], &left, &right)
            add_narrow(&l3, &r3, pixel[3][c], &left, &right)
            add_narrow(&l4, &r4, pixel[4][c], &left, &right)
            add_narrow(&l5, &r5, pixel[5][c], &left, &right)
            K = <const narrow*> (<const char*> K + k_step)
        pixel += 6
    store_narrow(C, 0 * c_step, &l0, &r0)
    store_narrow(C, 1 * c_step, &l1, &r1)
    store_narrow(C, 2 * c_step, &l2, &r2)
    store_narrow(C, 3 * c_step, &l3, &r3)
    store_narrow(C, 4 * c_step, &l4, &r4)
    store_narrow(C, 5 * c_step, &l5, &r5)


cdef compiled_narrow four_narrow(
    const floating** pixel, Py_ssize_t taps, Py_ssize_t length, const narrow* K, Py_ssize_t k_step,
    const narrow* start, Py_ssize_t s_step, narrow* C, Py_ssize_t c_step
) noexcept nogil:
    cdef narrow l0, l1, l2, l3
    cdef narrow r0, r1, r2, r3
    cdef narrow left, right
    cdef Py_ssize_t c, _
    load_narrow(&l0, &r0, start, 0 * s_step)
    load_narrow(&l1, &r1, start, 1 * s_step)
    load_narrow(&l2, &r2, start, 2 * s_step)
    load_narrow(&l3, &r3, start, 3 * s_step)
    for _ in range(taps):
        for c in range(length):
            load_narrow(&left, &right, K, 0)
            add_narrow(&l0, &r0, pixel[0][c], &left, &right)
            add_narrow(&l1, &r1, pixel[1][c], &left, &right)
            add_narrow(&l2, &r2, pixel[2][c], &left, &right)
            add_narrow(&l3, &r3, pixel[3][c], &left, &right)
            K = <const narrow*> (<const char*> K + k_step)
        pixel += 4
    store_narrow(C, 0 * c_step, &l0, &r0)
    store_narrow(C, 1 * c_step, &l1, &r1)
    store_narrow(C, 2 * c_step, &l2, &r2)
    store_narrow(C, 3 * c_step, &l3, &r3)


# Whatever the CPU ---------------------------------------------------------------------------------------


cdef void four_plain(
    const floating** pixel, Py_ssize_t taps, Py_ssize_t length, const floating* K, Py_ssize_t ldk,
    const floating* start, Py_ssize_t lds, floating* C, Py_ssize_t ldc
) noexcept nogil:
    """Four pixels by 64 bytes of channels, in loops of fixed length that the compiler makes of them what it can."""
    cdef floating total[4][16]
    cdef floating v0, v1, v2, v3
    cdef Py_ssize_t c, m, p, _
    for p in range(4):
        for m in range(64 / sizeof(floating)):
            total[p][m] = start[p * lds + m]
    for _ in range(taps):
        for c in range(length):
            v0, v1, v2, v3 = pixel[0][c], pixel[1][c], pixel[2][c], pixel[3][c]
            for m in range(64 / sizeof(floating)):
                total[0][m] += v0 * K[m]
                total[1][m] += v1 * K[m]
                total[2][m] += v2 * K[m]
                total[3][m] += v3 * K[m]
            K += ldk
        pixel += 4
    for p in range(4):
        for m in range(64 / sizeof(floating)):
            C[p * ldc + m] = total[p][m]


cdef void few_channels(
    const Tile* tile, const floating** pixel, Py_ssize_t taps, Py_ssize_t length, const floating* K,
    Py_ssize_t ldk, const floating* start, Py_ssize_t lds, floating* C, Py_ssize_t ldc
) noexcept nogil:
    """Any tile, sum by sum."""
    cdef floating total
    cdef Py_ssize_t p, m, t, c
    for p in range(tile.pixels):
        for m in range(tile.channels):
            total = start[p * lds + m]
            for t in range(taps):
                for c in range(length):
                    total += pixel[t * tile.pixels + p][c] * K[(t * length + c) * ldk + m]
            C[p * ldc + m] = total


cdef inline inlined multiply_wide(
    Py_ssize_t pixels, const floating** pixel, Py_ssize_t taps, Py_ssize_t length, const wide* K,
    Py_ssize_t k_step, const wide* start, Py_ssize_t s_step, wide* C, Py_ssize_t c_step
) noexcept nogil:
    if pixels == 12:
        twelve_wide(pixel, taps, length, K, k_step, start, s_step, C, c_step)
    elif pixels == 10:
        ten_wide(pixel, taps, length, K, k_step, start, s_step, C, c_step)
    else:
        eight_wide(pixel, taps, length, K, k_step, start, s_step, C, c_step)


cdef inline inlined multiply_narrow(
    Py_ssize_t pixels, const floating** pixel, Py_ssize_t taps, Py_ssize_t length, const narrow* K,
    Py_ssize_t k_step, const narrow* start, Py_ssize_t s_step, narrow* C, Py_ssize_t c_step
) noexcept nogil:
    if pixels == 6:
        six_narrow(pixel, taps, length, K, k_step, start, s_step, C, c_step)
    else:
        four_narrow(pixel, taps, length, K, k_step, start, s_step, C, c_step)


cdef void multiply_tile(
    const Tile* tile, const floating** pixel, Py_ssize_t taps, Py_ssize_t length,
    const floating* K, Py_ssize_t ldk,
    const floating* start, Py_ssize_t lds, floating* C, Py_ssize_t ldc
) noexcept nogil:
    """C[p, m] = start[p, m] + sum over t < taps and c < length of pixel[t, p][c] · K[t·length + c, m].

    ``start`` may be C itself, or with lds = 0 one line for all pixels: a bias, or zeros.
    """
    cdef Py_ssize_t size = sizeof(floating)
    if tile.channels * size == 128:
        if floating is float:
            multiply_wide(tile.pixels, pixel, taps, length, <const wide_floats*> K, ldk * size,
                          <const wide_floats*> start, lds * size, <wide_floats*> C, ldc * size)
        else:
            multiply_wide(tile.pixels, pixel, taps, length, <const wide_doubles*> K, ldk * size,
                          <const wide_doubles*> start, lds * size, <wide_doubles*> C, ldc * size)
    elif tile.channels * size < 64:
        few_channels(tile, pixel, taps, length, K, ldk, start, lds, C, ldc)
    elif not has_narrow:
        four_plain(pixel, taps, length, K, ldk, start, lds, C, ldc)
    elif floating is float:
        multiply_narrow(tile.pixels, pixel, taps, length, <const narrow_floats*> K, ldk * size,
                        <const narrow_floats*> start, lds * size, <narrow_floats*> C, ldc * size)
    else:
        multiply_narrow(tile.pixels, pixel, taps, length, <const narrow_doubles*> K, ldk * size,
                        <const narrow_doubles*> start, lds * size, <narrow_doubles*> C, ldc * size)
