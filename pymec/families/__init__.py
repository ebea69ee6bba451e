"""The rows of the registry, a module per family of algorithms; their order here is the table's."""

from pymec.families import direct, im2col, mec, tiled

FAMILIES = (direct, im2col, mec, tiled)
