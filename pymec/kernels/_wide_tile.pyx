"""Register tiles for CPUs with 32 registers of 64 bytes (AVX-512): 24 of them hold the sums.

Twelve pixels anywhere, or ten or eight, by a line of two registers: 32 channels in single precision, 16 in double.
"""

from cython cimport floating

from pymec.kernels._registers cimport (
    add_wide, compiled_wide, inlined, load_wide, store_wide, wide, wide_doubles, wide_floats,
)


cdef compiled_wide twelve_pixels(
    const floating** pixel, Py_ssize_t runs, Py_ssize_t length, const wide* K, Py_ssize_t k_step,
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
    for _ in range(runs):
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


cdef compiled_wide ten_pixels(
    const floating** pixel, Py_ssize_t runs, Py_ssize_t length, const wide* K, Py_ssize_t k_step,
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
    for _ in range(runs):
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


cdef compiled_wide eight_pixels(
    const floating** pixel, Py_ssize_t runs, Py_ssize_t length, const wide* K, Py_ssize_t k_step,
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
    for _ in range(runs):
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


cdef inline inlined choose_tile(
    Py_ssize_t pixels, const floating** pixel, Py_ssize_t runs, Py_ssize_t length,
    const wide* K, Py_ssize_t k_step, const wide* start, Py_ssize_t s_step, wide* C, Py_ssize_t c_step
) noexcept nogil:
    if pixels == 12:
        twelve_pixels(pixel, runs, length, K, k_step, start, s_step, C, c_step)
    elif pixels == 10:
        ten_pixels(pixel, runs, length, K, k_step, start, s_step, C, c_step)
    else:
        eight_pixels(pixel, runs, length, K, k_step, start, s_step, C, c_step)


cdef void wide_tile(
    Py_ssize_t pixels, const floating** pixel, Py_ssize_t runs, Py_ssize_t length,
    const floating* K, Py_ssize_t ldk, const floating* start, Py_ssize_t lds, floating* C, Py_ssize_t ldc
) noexcept nogil:
    """:c:func:`multiply_tile`."""
    cdef Py_ssize_t size = sizeof(floating)
    if floating is float:
        choose_tile(pixels, pixel, runs, length, <const wide_floats*> K, ldk * size,
                    <const wide_floats*> start, lds * size, <wide_floats*> C, ldc * size)
    else:
        choose_tile(pixels, pixel, runs, length, <const wide_doubles*> K, ldk * size,
                    <const wide_doubles*> start, lds * size, <wide_doubles*> C, ldc * size)
