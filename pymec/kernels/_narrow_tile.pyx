"""Register tiles for CPUs with 16 registers of 32 bytes (AVX2): twelve of them hold the sums.

Six pixels, or four, by a line of two registers: 16 channels in single precision, 8 in double.
"""

from cython cimport floating

from pymec.kernels._registers cimport (
    add_narrow, compiled_narrow, inlined, load_narrow, store_narrow, narrow, narrow_doubles, narrow_floats,
)


cdef compiled_narrow six_pixels(
    const floating** pixel, Py_ssize_t runs, Py_ssize_t length, const narrow* K, Py_ssize_t k_step,
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
    for _ in range(runs):
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


cdef compiled_narrow four_pixels(
    const floating** pixel, Py_ssize_t runs, Py_ssize_t length, const narrow* K, Py_ssize_t k_step,
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
    for _ in range(runs):
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


cdef inline inlined choose_tile(
    Py_ssize_t pixels, const floating** pixel, Py_ssize_t runs, Py_ssize_t length,
    const narrow* K, Py_ssize_t k_step, const narrow* start, Py_ssize_t s_step, narrow* C, Py_ssize_t c_step
) noexcept nogil:
    if pixels == 6:
        six_pixels(pixel, runs, length, K, k_step, start, s_step, C, c_step)
    else:
        four_pixels(pixel, runs, length, K, k_step, start, s_step, C, c_step)


cdef void narrow_tile(
    Py_ssize_t pixels, const floating** pixel, Py_ssize_t runs, Py_ssize_t length,
    const floating* K, Py_ssize_t ldk, const floating* start, Py_ssize_t lds, floating* C, Py_ssize_t ldc
) noexcept nogil:
    """:c:func:`multiply_tile`."""
    cdef Py_ssize_t size = sizeof(floating)
    if floating is float:
        choose_tile(pixels, pixel, runs, length, <const narrow_floats*> K, ldk * size,
                    <const narrow_floats*> start, lds * size, <narrow_floats*> C, ldc * size)
    else:
        choose_tile(pixels, pixel, runs, length, <const narrow_doubles*> K, ldk * size,
                    <const narrow_doubles*> start, lds * size, <narrow_doubles*> C, ldc * size)


# Pixels at one distance: one pointer finds them all ------------------------------------------------------


cdef compiled_narrow six_in_a_row(
    Py_ssize_t tiles, const floating* pixel, Py_ssize_t step, Py_ssize_t runs, Py_ssize_t run_step,
    Py_ssize_t length, const narrow* K, Py_ssize_t k_step, const narrow* start, Py_ssize_t s_step, narrow* C,
    Py_ssize_t c_step
) noexcept nogil:
    cdef narrow l0, l1, l2, l3, l4, l5
    cdef narrow r0, r1, r2, r3, r4, r5
    cdef narrow left, right
    cdef const floating * run
    cdef const floating* p
    cdef const narrow* line
    cdef Py_ssize_t _tile, _run, _
    for _tile in range(tiles):
        line, run = K, pixel
        load_narrow(&l0, &r0, start, 0 * s_step)
        load_narrow(&l1, &r1, start, 1 * s_step)
        load_narrow(&l2, &r2, start, 2 * s_step)
        load_narrow(&l3, &r3, start, 3 * s_step)
        load_narrow(&l4, &r4, start, 4 * s_step)
        load_narrow(&l5, &r5, start, 5 * s_step)
        for _run in range(runs):
            p = run
            for _ in range(length):
                load_narrow(&left, &right, line, 0)
                add_narrow(&l0, &r0, p[0 * step], &left, &right)
                add_narrow(&l1, &r1, p[1 * step], &left, &right)
                add_narrow(&l2, &r2, p[2 * step], &left, &right)
                add_narrow(&l3, &r3, p[3 * step], &left, &right)
                add_narrow(&l4, &r4, p[4 * step], &left, &right)
                add_narrow(&l5, &r5, p[5 * step], &left, &right)
                p += 1
                line = <const narrow*> (<const char*> line + k_step)
            run += run_step
        store_narrow(C, 0 * c_step, &l0, &r0)
        store_narrow(C, 1 * c_step, &l1, &r1)
        store_narrow(C, 2 * c_step, &l2, &r2)
        store_narrow(C, 3 * c_step, &l3, &r3)
        store_narrow(C, 4 * c_step, &l4, &r4)
        store_narrow(C, 5 * c_step, &l5, &r5)
        pixel += 6 * step
        start = <const narrow*> (<const char*> start + 6 * s_step)
        C = <narrow*> (<char*> C + 6 * c_step)


cdef compiled_narrow four_in_a_row(
    Py_ssize_t tiles, const floating* pixel, Py_ssize_t step, Py_ssize_t runs, Py_ssize_t run_step,
    Py_ssize_t length, const narrow* K, Py_ssize_t k_step, const narrow* start, Py_ssize_t s_step, narrow* C,
    Py_ssize_t c_step
) noexcept nogil:
    cdef narrow l0, l1, l2, l3
    cdef narrow r0, r1, r2, r3
    cdef narrow left, right
    cdef const floating * run
    cdef const floating* p
    cdef const narrow* line
    cdef Py_ssize_t _tile, _run, _
    for _tile in range(tiles):
        line, run = K, pixel
        load_narrow(&l0, &r0, start, 0 * s_step)
        load_narrow(&l1, &r1, start, 1 * s_step)
        load_narrow(&l2, &r2, start, 2 * s_step)
        load_narrow(&l3, &r3, start, 3 * s_step)
        for _run in range(runs):
            p = run
            for _ in range(length):
                load_narrow(&left, &right, line, 0)
                add_narrow(&l0, &r0, p[0 * step], &left, &right)
                add_narrow(&l1, &r1, p[1 * step], &left, &right)
                add_narrow(&l2, &r2, p[2 * step], &left, &right)
                add_narrow(&l3, &r3, p[3 * step], &left, &right)
                p += 1
                line = <const narrow*> (<const char*> line + k_step)
            run += run_step
        store_narrow(C, 0 * c_step, &l0, &r0)
        store_narrow(C, 1 * c_step, &l1, &r1)
        store_narrow(C, 2 * c_step, &l2, &r2)
        store_narrow(C, 3 * c_step, &l3, &r3)
        pixel += 4 * step
        start = <const narrow*> (<const char*> start + 4 * s_step)
        C = <narrow*> (<char*> C + 4 * c_step)


cdef inline inlined choose_row(
    Py_ssize_t pixels, Py_ssize_t tiles, const floating* pixel, Py_ssize_t step, Py_ssize_t runs,
    Py_ssize_t run_step, Py_ssize_t length,
    const narrow* K, Py_ssize_t k_step, const narrow* start, Py_ssize_t s_step, narrow* C, Py_ssize_t c_step
) noexcept nogil:
    if pixels == 6:
        six_in_a_row(tiles, pixel, step, runs, run_step, length, K, k_step, start, s_step, C, c_step)
    else:
        four_in_a_row(tiles, pixel, step, runs, run_step, length, K, k_step, start, s_step, C, c_step)


cdef void narrow_row(
    Py_ssize_t pixels, Py_ssize_t tiles, const floating* pixel, Py_ssize_t step, Py_ssize_t runs,
    Py_ssize_t run_step, Py_ssize_t length,
    const floating* K, Py_ssize_t ldk, const floating* start, Py_ssize_t lds, floating* C, Py_ssize_t ldc
) noexcept nogil:
    """:c:func:`multiply_row`."""
    cdef Py_ssize_t size = sizeof(floating)
    if floating is float:
        choose_row(pixels, tiles, pixel, step, runs, run_step, length, <const narrow_floats*> K, ldk * size,
                   <const narrow_floats*> start, lds * size, <narrow_floats*> C, ldc * size)
    else:
        choose_row(pixels, tiles, pixel, step, runs, run_step, length, <const narrow_doubles*> K, ldk * size,
                   <const narrow_doubles*> start, lds * size, <narrow_doubles*> C, ldc * size)
