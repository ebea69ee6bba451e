# A function compiled for several kinds of CPU, and one that is made part of its callers.
#
# On x86-64 with glibc, gcc compiles a function for CPUs that the build is not for, and the program asks the CPU
# whether it may call it.  Elsewhere, and where the whole build is for newer CPUs, nothing is asked.

cdef extern from *:
    """
    #ifndef PYMEC_PER_CPU
    #if defined(__GNUC__)
    #define PYMEC_INLINED __attribute__((always_inline)) void
    #else
    #define PYMEC_INLINED void
    #endif
    #if defined(__x86_64__) && defined(__GLIBC__) && !defined(__AVX__) && !defined(__clang__) && __GNUC__ >= 12
    #define PYMEC_ASKS
    #define PYMEC_PER_CPU __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default"))) void
    #else
    #define PYMEC_PER_CPU void
    #endif
    #endif
    """
    ctypedef void compiled_per_cpu "PYMEC_PER_CPU"  # in several versions: the loader takes one of them
    ctypedef void inlined "PYMEC_INLINED"
