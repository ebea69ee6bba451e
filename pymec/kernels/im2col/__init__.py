"""im2col: every output pixel's patch in a row of a lowered matrix, which one product multiplies with K.

Read ``im2col.pyx`` first: two stages, and the yardstick that MEC is held against.  The others keep the product and
do something about the matrix.

==================  ============================================================================================
``im2col``          the matrix whole, or image after image: ``im2col``, ``im2col_per_image``
``blocked``         ``im2col_blocked``: some rows of the matrix at a time, in a bounded workspace
``implicit_gemm``   the matrix only in the packed blocks of a product, taken from the image
``indirect``        pointers to the pixels in place of their copies
``rows``            the table's rows of all these: workspace, limits, sizes of blocks
==================  ============================================================================================
"""
