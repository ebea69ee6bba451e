"""im2col: the lowered matrix whole, per image, in blocks, in packed blocks, and as pointers."""
