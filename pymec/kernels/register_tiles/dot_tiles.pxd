# Dot products of a few pixels' patches with a few filters: lanes along the channels, added up at the end.

from cython cimport floating

cdef enum:
    MOST_FILTERS = 4
    MOST_DOTS = 24       # dot products of a tile


cdef struct DotRuns:                     # what a patch reads of I, and a filter of K'
    Py_ssize_t rows, taps, length        # kernel rows, runs of adjacent numbers in each, numbers in a run
    Py_ssize_t row_step, tap_step        # elements of I from row to row, from run to run
    Py_ssize_t k_row, k_tap, k_filter    # elements of K' from row to row, run to run, filter to filter


cdef Py_ssize_t pixels_of_dots(Py_ssize_t filters, Py_ssize_t left) noexcept nogil

cdef void add_dots(
    Py_ssize_t filters, Py_ssize_t pixels, const floating* I, Py_ssize_t step, const floating* K,
    const DotRuns* runs, floating* sums
) noexcept nogil
