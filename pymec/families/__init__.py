"""The rows of the registry, a module per family of algorithms; their order here is the table's."""

from pymec.families import (
    direct,
    fft,
    im2col,
    implicit_gemm,
    kn2row,
    mec,
    mec_relatives,
    tiled,
    winograd,
    zero_copy,
)

FAMILIES = (direct, im2col, mec, mec_relatives, implicit_gemm, zero_copy, kn2row, tiled, winograd, fft)
