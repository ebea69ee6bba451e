# Vector registers as C types: what the tiles of _wide_tile.pyx and _narrow_tile.pyx keep their sums in.
#
# A register is an array of numbers that gcc and clang know to add and multiply element by element (their vector
# extension): no instruction of any CPU is named.  A function says for which CPUs it is compiled, and every sum is
# a variable with a name, because of an array compilers only sometimes make registers.

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

    /* On x86-64 with glibc, gcc compiles a function for CPUs that the build is not for, and the program asks the
       CPU whether it may call it.  Elsewhere, and where the whole build is for newer CPUs, nothing is asked. */
    #if defined(__x86_64__) && defined(__GLIBC__) && !defined(__AVX__) && !defined(__clang__) && __GNUC__ >= 12
    #define PYMEC_PER_CPU __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default"))) void
    #define PYMEC_WIDE __attribute__((target("arch=x86-64-v4"))) void
    #define PYMEC_NARROW __attribute__((target("arch=x86-64-v3"))) void
    #define PYMEC_HAS_WIDE (__builtin_cpu_supports("x86-64-v4") != 0)
    #define PYMEC_HAS_NARROW (__builtin_cpu_supports("x86-64-v3") != 0)
    #else
    #define PYMEC_PER_CPU void
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
    ctypedef void compiled_per_cpu "PYMEC_PER_CPU"         # one in several versions: the loader takes one of them
    ctypedef void compiled_wide "PYMEC_WIDE"               # one for CPUs with AVX-512: 32 registers of 64 bytes
    ctypedef void compiled_narrow "PYMEC_NARROW"           # one for CPUs with AVX2: 16 registers of 32 bytes
    bint PYMEC_HAS_WIDE, PYMEC_HAS_NARROW
    ctypedef float wide_floats "pymec_wide_floats"         # a register each, and to Cython one number
    ctypedef double wide_doubles "pymec_wide_doubles"
    ctypedef float narrow_floats "pymec_narrow_floats"
    ctypedef double narrow_doubles "pymec_narrow_doubles"

ctypedef fused wide:
    wide_floats
    wide_doubles

ctypedef fused narrow:
    narrow_floats
    narrow_doubles


cdef inline inlined load_wide(wide* l, wide* r, const wide* line, Py_ssize_t step) noexcept nogil:
    """A line of two wide registers, some bytes further on."""
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


cdef inline inlined load_narrow(narrow* l, narrow* r, const narrow* line, Py_ssize_t step) noexcept nogil:
    """A line of two narrow registers, some bytes further on."""
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
