"""The rows of the registry, a module per family of algorithms; their order here is the table's."""

from pymec.families import direct, im2col, kn2row, mec, zero_copy

FAMILIES = (direct, im2col, mec, zero_copy, kn2row)
