"""The tiles of ``_wide_tile.pyx`` for pixels at one distance, as they lie in a row.

One pointer and a step find them all; a dozen pointers would leave no register for the loop.
"""

from cython cimport floating

from pymec.kernels._registers cimport (
    add_wide, compiled_wide, inlined, load_wide, store_wide, wide, wide_doubles, wide_floats,
)


cdef compiled_wide twelve_in_a_row(
    Py_ssize_t tiles, const floating* pixel, Py_ssize_t step, Py_ssize_t runs, Py_ssize_t run_step,
    Py_ssize_t length, const wide* K, Py_ssize_t k_step, const wide* start, Py_ssize_t s_step, wide* C,
    Py_ssize_t c_step
) noexcept nogil:
    cdef wide l0, l1, l2, l3, l4, l5, l6, l7, l8, l9, l10, l11
    cdef wide r0, r1, r2, r3, r4, r5, r6, r7, r8, r9, r10, r11
    cdef wide left, right
    cdef const floating * run
    cdef const floating* p
    cdef const wide* line
    cdef Py_ssize_t _tile, _run, _
    for _tile in range(tiles):
        line, run = K, pixel
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
        for _run in range(runs):
            p = run
            for _ in range(length):
                load_wide(&left, &right, line, 0)
                add_wide(&l0, &r0, p[0 * step], &left, &right)
                add_wide(&l1, &r1, p[1 * step], &left, &right)
                add_wide(&l2, &r2, p[2 * step], &left, &right)
                add_wide(&l3, &r3, p[3 * step], &left, &right)
                add_wide(&l4, &r4, p[4 * step], &left, &right)
                add_wide(&l5, &r5, p[5 * step], &left, &right)
                add_wide(&l6, &r6, p[6 * step], &left, &right)
                add_wide(&l7, &r7, p[7 * step], &left, &right)
                add_wide(&l8, &r8, p[8 * step], &left, &right)
                add_wide(&l9, &r9, p[9 * step], &left, &right)
                add_wide(&l10, &r10, p[10 * step], &left, &right)
                add_wide(&l11, &r11, p[11 * step], &left, &right)
                p += 1
                line = <const wide*> (<const char*> line + k_step)
            run += run_step
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
        pixel += 12 * step
        start = <const wide*> (<const char*> start + 12 * s_step)
        C = <wide*> (<char*> C + 12 * c_step)


cdef compiled_wide ten_in_a_row(
    Py_ssize_t tiles, const floating* pixel, Py_ssize_t step, Py_ssize_t runs, Py_ssize_t run_step,
    Py_ssize_t length, const wide* K, Py_ssize_t k_step, const wide* start, Py_ssize_t s_step, wide* C,
    Py_ssize_t c_step
) noexcept nogil:
    cdef wide l0, l1, l2, l3, l4, l5, l6, l7, l8, l9
    cdef wide r0, r1, r2, r3, r4, r5, r6, r7, r8, r9
    cdef wide left, right
    cdef const floating * run
    cdef const floating* p
    cdef const wide* line
    cdef Py_ssize_t _tile, _run, _
    for _tile in range(tiles):
        line, run = K, pixel
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
        for _run in range(runs):
            p = run
            for _ in range(length):
                load_wide(&left, &right, line, 0)
                add_wide(&l0, &r0, p[0 * step], &left, &right)
                add_wide(&l1, &r1, p[1 * step], &left, &right)
                add_wide(&l2, &r2, p[2 * step], &left, &right)
                add_wide(&l3, &r3, p[3 * step], &left, &right)
                add_wide(&l4, &r4, p[4 * step], &left, &right)
                add_wide(&l5, &r5, p[5 * step], &left, &right)
                add_wide(&l6, &r6, p[6 * step], &left, &right)
                add_wide(&l7, &r7, p[7 * step], &left, &right)
                add_wide(&l8, &r8, p[8 * step], &left, &right)
                add_wide(&l9, &r9, p[9 * step], &left, &right)
                p += 1
                line = <const wide*> (<const char*> line + k_step)
            run += run_step
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
        pixel += 10 * step
        start = <const wide*> (<const char*> start + 10 * s_step)
        C = <wide*> (<char*> C + 10 * c_step)


cdef compiled_wide eight_in_a_row(
    Py_ssize_t tiles, const floating* pixel, Py_ssize_t step, Py_ssize_t runs, Py_ssize_t run_step,
    Py_ssize_t length, const wide* K, Py_ssize_t k_step, const wide* start, Py_ssize_t s_step, wide* C,
    Py_ssize_t c_step
) noexcept nogil:
    cdef wide l0, l1, l2, l3, l4, l5, l6, l7
    cdef wide r0, r1, r2, r3, r4, r5, r6, r7
    cdef wide left, right
    cdef const floating * run
    cdef const floating* p
    cdef const wide* line
    cdef Py_ssize_t _tile, _run, _
    for _tile in range(tiles):
        line, run = K, pixel
        load_wide(&l0, &r0, start, 0 * s_step)
        load_wide(&l1, &r1, start, 1 * s_step)
        load_wide(&l2, &r2, start, 2 * s_step)
        load_wide(&l3, &r3, start, 3 * s_step)
        load_wide(&l4, &r4, start, 4 * s_step)
        load_wide(&l5, &r5, start, 5 * s_step)
        load_wide(&l6, &r6, start, 6 * s_step)
        load_wide(&l7, &r7, start, 7 * s_step)
        for _run in range(runs):
            p = run
            for _ in range(length):
                load_wide(&left, &right, line, 0)
                add_wide(&l0, &r0, p[0 * step], &left, &right)
                add_wide(&l1, &r1, p[1 * step], &left, &right)
                add_wide(&l2, &r2, p[2 * step], &left, &right)
                add_wide(&l3, &r3, p[3 * step], &left, &right)
                add_wide(&l4, &r4, p[4 * step], &left, &right)
                add_wide(&l5, &r5, p[5 * step], &left, &right)
                add_wide(&l6, &r6, p[6 * step], &left, &right)
                add_wide(&l7, &r7, p[7 * step], &left, &right)
                p += 1
                line = <const wide*> (<const char*> line + k_step)
            run += run_step
        store_wide(C, 0 * c_step, &l0, &r0)
        store_wide(C, 1 * c_step, &l1, &r1)
        store_wide(C, 2 * c_step, &l2, &r2)
        store_wide(C, 3 * c_step, &l3, &r3)
        store_wide(C, 4 * c_step, &l4, &r4)
        store_wide(C, 5 * c_step, &l5, &r5)
        store_wide(C, 6 * c_step, &l6, &r6)
        store_wide(C, 7 * c_step, &l7, &r7)
        pixel += 8 * step
        start = <const wide*> (<const char*> start + 8 * s_step)
        C = <wide*> (<char*> C + 8 * c_step)


cdef inline inlined choose_row(
    Py_ssize_t pixels, Py_ssize_t tiles, const floating* pixel, Py_ssize_t step, Py_ssize_t runs,
    Py_ssize_t run_step, Py_ssize_t length,
    const wide* K, Py_ssize_t k_step, const wide* start, Py_ssize_t s_step, wide* C, Py_ssize_t c_step
) noexcept nogil:
    if pixels == 12:
        twelve_in_a_row(tiles, pixel, step, runs, run_step, length, K, k_step, start, s_step, C, c_step)
    elif pixels == 10:
        ten_in_a_row(tiles, pixel, step, runs, run_step, length, K, k_step, start, s_step, C, c_step)
    else:
        eight_in_a_row(tiles, pixel, step, runs, run_step, length, K, k_step, start, s_step, C, c_step)


cdef void wide_row(
    Py_ssize_t pixels, Py_ssize_t tiles, const floating* pixel, Py_ssize_t step, Py_ssize_t runs,
    Py_ssize_t run_step, Py_ssize_t length,
    const floating* K, Py_ssize_t ldk, const floating* start, Py_ssize_t lds, floating* C, Py_ssize_t ldc
) noexcept nogil:
    """:c:func:`multiply_row`."""
    cdef Py_ssize_t size = sizeof(floating)
    if floating is float:
        choose_row(pixels, tiles, pixel, step, runs, run_step, length, <const wide_floats*> K, ldk * size,
                   <const wide_floats*> start, lds * size, <wide_floats*> C, ldc * size)
    else:
        choose_row(pixels, tiles, pixel, step, runs, run_step, length, <const wide_doubles*> K, ldk * size,
                   <const wide_doubles*> start, lds * size, <wide_doubles*> C, ldc * size)
