"""Winograd's minimal filtering for 3×3 kernels: t² products in place of 9·t_o² for a tile of t_o×t_o outputs.

Read ``winograd.pyx`` first, with Lavin & Gray beside it: four stages, three of which are the same transform, which
``tiles.pyx`` computes.

===============  ===============================================================================================
``winograd``     ``winograd_f2``, ``winograd_f4``, ``winograd_f6``: the published form, all tiles at once
``matrices``     Bᵀ, G and Aᵀ, exact, and how far rounding may take an output
``tiles``        Y = A·X·Aᵀ: a tile between pixels and points, with each of the three matrices
``transforms``   the one-dimensional transforms: products with these matrices, written out
``banded``       ``winograd_f2_banded`` and so on: a band of tiles at a time, by register tiles (ours)
``bands``        how bands are shared among threads, and an estimate of their time
``rows``         the table's rows of all these: workspace, limits, size of a band
===============  ===============================================================================================
"""
