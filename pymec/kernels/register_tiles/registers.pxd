# Vector registers as C types: what the tiles of the templates (*.pyx.in) keep their sums in.
#
# A register is an array of numbers that gcc and clang add and multiply element by element (their vector
# extension): no CPU's instructions are named but, for clang, the shuffle.  Each function says for which CPUs it is
# compiled, and each sum is a named variable, because compilers only sometimes keep an array in registers.

from cython cimport floating

from pymec.kernels.shared.per_cpu cimport compiled_per_cpu  # its macros come before these

cdef extern from *:
    """
    #if defined(__GNUC__)
    #define PYMEC_REGISTER(type, bytes) type __attribute__((vector_size(bytes), aligned(sizeof(type)), may_alias))
    #else
    #define PYMEC_REGISTER(type, bytes) type  /* never used: such a build has the plain tile alone */
    #endif
    typedef PYMEC_REGISTER(float, 64) pymec_wide_floats;
    typedef PYMEC_REGISTER(double, 64) pymec_wide_doubles;
    typedef PYMEC_REGISTER(float, 32) pymec_narrow_floats;
    typedef PYMEC_REGISTER(double, 32) pymec_narrow_doubles;
    typedef PYMEC_REGISTER(int, 64) pymec_wide_places;
    typedef PYMEC_REGISTER(int, 32) pymec_narrow_places;

    /* ReLU: a comparison gives all ones where it holds, and NaN is not below zero. */
    #if defined(__GNUC__)
    #define PYMEC_CLAMP(v) ((__typeof__(v)) ((__typeof__((v) < 0)) (v) & ~((v) < 0)))
    #else
    #define PYMEC_CLAMP(v) (v)
    #endif

    /* The elements that a mask of ones keeps; the others become zeros, even infinities. */
    #if defined(__GNUC__)
    #define PYMEC_MASKED(v, mask) ((__typeof__(v)) ((__typeof__(mask)) (v) & (mask)))
    #else
    #define PYMEC_MASKED(v, mask) (v)
    #endif

    #ifdef PYMEC_ASKS
    #define PYMEC_WIDE __attribute__((target("arch=x86-64-v4"))) void
    #define PYMEC_NARROW __attribute__((target("arch=x86-64-v3"))) void
    #define PYMEC_HAS_WIDE (__builtin_cpu_supports("x86-64-v4") != 0)
    #define PYMEC_HAS_NARROW (__builtin_cpu_supports("x86-64-v3") != 0)
    #else
    #define PYMEC_WIDE void
    #define PYMEC_NARROW void
    #if defined(__GNUC__) && defined(__AVX512F__)
    #define PYMEC_HAS_WIDE 1
    #else
    #define PYMEC_HAS_WIDE 0
    #endif
    #if defined(__GNUC__) && defined(__AVX2__) && defined(__FMA__)
    #define PYMEC_HAS_NARROW 1
    #else
    #define PYMEC_HAS_NARROW 0
    #endif
    #endif

    #if defined(__clang__) && (defined(__AVX512F__) || defined(__AVX2__))
    #include <immintrin.h>
    #endif

    /* Every place plus n, in C: Cython takes the places for one number, whose sum it would check for overflow. */
    #define PYMEC_AFTER(p, n) ((p) + (int) (n))
    /* A register shuffled: element i is the one at place p[i], counted in four bytes. */
    #if defined(__GNUC__) && !defined(__clang__)
    #define PYMEC_AT_WIDE(v, p) ((__typeof__(v)) __builtin_shuffle((pymec_wide_floats) (v), p))
    #define PYMEC_AT_NARROW(v, p) ((__typeof__(v)) __builtin_shuffle((pymec_narrow_floats) (v), p))
    #else
    #define PYMEC_AT_WIDE(v, p) (v)  /* never used, unless clang has the instruction */
    #define PYMEC_AT_NARROW(v, p) (v)
    #endif
    #if defined(__clang__) && defined(__AVX512F__)
    #undef PYMEC_AT_WIDE
    #define PYMEC_AT_WIDE(v, p) ((__typeof__(v)) _mm512_permutexvar_ps((__m512i) (p), (__m512) (v)))
    #endif
    #if defined(__clang__) && defined(__AVX2__)
    #undef PYMEC_AT_NARROW
    #define PYMEC_AT_NARROW(v, p) ((__typeof__(v)) _mm256_permutevar8x32_ps((__m256) (v), (__m256i) (p)))
    #endif
    """
    ctypedef void compiled_wide "PYMEC_WIDE"               # one for CPUs with AVX-512: 32 registers of 64 bytes
    ctypedef void compiled_narrow "PYMEC_NARROW"           # one for CPUs with AVX2: 16 registers of 32 bytes
    bint PYMEC_HAS_WIDE, PYMEC_HAS_NARROW
    ctypedef float wide_floats "pymec_wide_floats"         # a register each, and to Cython one number
    ctypedef double wide_doubles "pymec_wide_doubles"
    ctypedef float narrow_floats "pymec_narrow_floats"
    ctypedef double narrow_doubles "pymec_narrow_doubles"
    ctypedef int wide_places "pymec_wide_places"           # a whole number for every four bytes of a register
    ctypedef int narrow_places "pymec_narrow_places"
    wide_floats no_wide_floats "((pymec_wide_floats) {0})"  # zeros: setting a register to them is free
    wide_doubles no_wide_doubles "((pymec_wide_doubles) {0})"
    narrow_floats no_narrow_floats "((pymec_narrow_floats) {0})"
    narrow_doubles no_narrow_doubles "((pymec_narrow_doubles) {0})"
    wide_floats clamp_wide_floats "PYMEC_CLAMP"(wide_floats) noexcept nogil
    wide_doubles clamp_wide_doubles "PYMEC_CLAMP"(wide_doubles) noexcept nogil
    narrow_floats clamp_narrow_floats "PYMEC_CLAMP"(narrow_floats) noexcept nogil
    narrow_doubles clamp_narrow_doubles "PYMEC_CLAMP"(narrow_doubles) noexcept nogil
    wide_floats masked_wide_floats "PYMEC_MASKED"(wide_floats, wide_places) noexcept nogil
    wide_doubles masked_wide_doubles "PYMEC_MASKED"(wide_doubles, wide_places) noexcept nogil
    narrow_floats masked_narrow_floats "PYMEC_MASKED"(narrow_floats, narrow_places) noexcept nogil
    narrow_doubles masked_narrow_doubles "PYMEC_MASKED"(narrow_doubles, narrow_places) noexcept nogil
    wide_places wide_places_after "PYMEC_AFTER"(wide_places, int) noexcept nogil
    narrow_places narrow_places_after "PYMEC_AFTER"(narrow_places, int) noexcept nogil
    wide_floats wide_floats_at "PYMEC_AT_WIDE"(wide_floats, wide_places) noexcept nogil
    wide_doubles wide_doubles_at "PYMEC_AT_WIDE"(wide_doubles, wide_places) noexcept nogil
    narrow_floats narrow_floats_at "PYMEC_AT_NARROW"(narrow_floats, narrow_places) noexcept nogil
    narrow_doubles narrow_doubles_at "PYMEC_AT_NARROW"(narrow_doubles, narrow_places) noexcept nogil

ctypedef fused wide:
    wide_floats
    wide_doubles

ctypedef fused narrow:
    narrow_floats
    narrow_doubles
