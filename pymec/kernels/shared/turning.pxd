# A block of a matrix, transposed on its way.
#
# Squares of it are transposed in vector registers: gcc and clang have these as C types.  A stage interleaves each
# row of the upper half with its counterpart in the lower half, number by number; after log2(n) stages the n rows
# are the n columns.

from cython cimport floating
from libc.string cimport memcpy

from pymec.kernels.shared.patch cimport copy
from pymec.kernels.shared.per_cpu cimport inlined

cdef enum:
    BLOCK = 16         # rows and columns of a block
    SQUARE_BYTES = 32  # of the rows of a square, 8 float or 4 double; the vector_size below

cdef extern from *:
    """
    #define PYMEC_FLOATS_LOW 0, 8, 1, 9, 2, 10, 3, 11
    #define PYMEC_FLOATS_HIGH 4, 12, 5, 13, 6, 14, 7, 15
    #define PYMEC_DOUBLES_LOW 0, 4, 1, 5
    #define PYMEC_DOUBLES_HIGH 2, 6, 3, 7
    #ifdef __has_builtin
    #if __has_builtin(__builtin_shufflevector)
    #define PYMEC_SQUARE(name, type, n, stages, low, high) \
    typedef type name##_row __attribute__((vector_size(32), aligned(sizeof(type)), may_alias)); \
    static inline __attribute__((always_inline)) void name( \
        const type* source, ptrdiff_t source_pitch, type* target, ptrdiff_t target_pitch \
    ) { \
        name##_row row[n], next[n]; \
        for (int i = 0; i < n; i++) row[i] = *(const name##_row*) (source + source_pitch * i); \
        for (int stage = 0; stage < stages; stage++) { \
            for (int i = 0; i < n / 2; i++) { \
                next[2 * i] = __builtin_shufflevector(row[i], row[i + n / 2], low); \
                next[2 * i + 1] = __builtin_shufflevector(row[i], row[i + n / 2], high); \
            } \
            for (int i = 0; i < n; i++) row[i] = next[i]; \
        } \
        for (int j = 0; j < n; j++) *(name##_row*) (target + target_pitch * j) = row[j]; \
    }
    #endif
    #endif
    #ifndef PYMEC_SQUARE
    #define PYMEC_SQUARE(name, type, n, stages, low, high) \
    static inline void name(const type* source, ptrdiff_t source_pitch, type* target, ptrdiff_t target_pitch) { \
        for (int j = 0; j < n; j++) \
            for (int i = 0; i < n; i++) target[target_pitch * j + i] = source[source_pitch * i + j]; \
    }
    #endif
    PYMEC_SQUARE(pymec_square_of_floats, float, 8, 3, PYMEC_FLOATS_LOW, PYMEC_FLOATS_HIGH)
    PYMEC_SQUARE(pymec_square_of_doubles, double, 4, 2, PYMEC_DOUBLES_LOW, PYMEC_DOUBLES_HIGH)
    """
    # target[j, i] = source[i, j] for the elements of a square
    void transpose_floats "pymec_square_of_floats"(const float*, Py_ssize_t, float*, Py_ssize_t) noexcept nogil
    void transpose_doubles "pymec_square_of_doubles"(const double*, Py_ssize_t, double*, Py_ssize_t) noexcept nogil


cdef inline inlined transpose_block(
    const floating* source, Py_ssize_t source_pitch, Py_ssize_t rows, Py_ssize_t columns,
    floating* target, Py_ssize_t target_pitch
) noexcept nogil:
    """target[j, i] = source[i, j], for at most BLOCK rows and columns whose pitches are in elements.

    Through a copy: lines that are a multiple of 4 KiB apart would evict each other from a level-1 cache, so each
    line of the source is read once, and each line of the target written once.
    """
    cdef floating block[BLOCK * BLOCK]
    cdef Py_ssize_t side = SQUARE_BYTES // sizeof(floating), square, i, j
    if rows == BLOCK and columns == BLOCK:  # known sizes: the compiler leaves the loops out
        for i in range(BLOCK):
            memcpy(block + i * BLOCK, source + i * source_pitch, BLOCK * sizeof(floating))
        for square in range((BLOCK // side) * (BLOCK // side)):
            i, j = square % (BLOCK // side) * side, square // (BLOCK // side) * side
            if floating is float:
                transpose_floats(block + i * BLOCK + j, BLOCK, target + j * target_pitch + i, target_pitch)
            else:
                transpose_doubles(block + i * BLOCK + j, BLOCK, target + j * target_pitch + i, target_pitch)
        return
    for i in range(rows):
        copy(block + i * BLOCK, source + i * source_pitch, columns)
    for j in range(columns):
        for i in range(rows):
            target[j * target_pitch + i] = block[i * BLOCK + j]
