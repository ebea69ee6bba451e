"""The rows of the registry, a module per family of algorithms; their order here is the table's."""

from pymec.families import direct, fft, im2col, mec, winograd

FAMILIES = (direct, im2col, mec, winograd, fft)
