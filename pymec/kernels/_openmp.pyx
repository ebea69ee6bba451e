"""What OpenMP says about threads; a build without OpenMP answers for one thread."""

cdef extern from *:
    """
    #ifdef _OPENMP
    #include <omp.h>
    #else
    static int omp_get_max_threads(void) { return 1; }
    static int omp_get_thread_num(void) { return 0; }
    #endif
    """
    int omp_get_max_threads() nogil
    int omp_get_thread_num() noexcept nogil


def max_threads():
    """The number of threads a parallel region would take if nobody asked for another."""
    return omp_get_max_threads()
