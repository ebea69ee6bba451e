"""What OpenMP says about threads, and how this copy was built; without OpenMP it answers for one thread."""

cdef extern from *:
    """
    #ifdef _OPENMP
    #include <omp.h>
    #define PYMEC_OPENMP 1
    #else
    #define PYMEC_OPENMP 0
    static int omp_get_max_threads(void) { return 1; }
    static int omp_get_num_procs(void) { return 1; }
    #endif
    """
    int omp_get_max_threads() nogil
    int omp_get_num_procs() nogil
    int PYMEC_OPENMP, PYMEC_DEBUG, PYMEC_NATIVE, PYMEC_PROFILE

OPENMP = bool(PYMEC_OPENMP)
DEBUG = bool(PYMEC_DEBUG)
NATIVE = bool(PYMEC_NATIVE)
PROFILE = bool(PYMEC_PROFILE)


def max_threads():
    """The number of threads a parallel region would take if nobody asked for another."""
    return omp_get_max_threads()


def n_cpus():
    """The CPUs that OpenMP's threads may run on, even where OMP_PROC_BIND binds the calling thread to one."""
    return omp_get_num_procs()
