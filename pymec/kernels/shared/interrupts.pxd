# Ctrl-C during a long call.  Between their tasks kernels ask whether to leave the rest undone.

cdef extern from *:
    """
    #if defined(__GNUC__)
    #define PYMEC_LOAD(flag) __atomic_load_n(&(flag), __ATOMIC_RELAXED)
    #define PYMEC_STORE(flag, value) __atomic_store_n(&(flag), value, __ATOMIC_RELAXED)
    #else
    #define PYMEC_LOAD(flag) (*(volatile int *) &(flag))
    #define PYMEC_STORE(flag, value) (*(volatile int *) &(flag) = (value))
    #endif
    """
    int load "PYMEC_LOAD"(int flag) noexcept nogil
    void store "PYMEC_STORE"(int flag, int value) noexcept nogil

cdef int watched  # whether the main thread makes a long call

cdef bint must_stop() noexcept nogil

cdef int enter_stage() except -1


cdef inline bint interrupted() noexcept nogil:
    """Whether the call was interrupted: what it has not computed yet, nobody will read."""
    return load(watched) and must_stop()
