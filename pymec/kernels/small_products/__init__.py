"""Sums of small products: a convolution as one matrix product per tap, or per kernel row, added up.

Read ``kn2row.pyx`` first: every pixel times every tap, then the shifted planes are added.  The others are the same
sum without the planes: products that add to the output itself, reading the image where it lies.

====================  ===========================================================================================
``kn2row``            ``kn2row``, ``kn2row_aa``: the planes of all taps, or one plane after another
``shift_gemm``        ``shift_gemm``: the output at the row pitch of the input: each tap one product (ours)
``zero_copy``         ``pixel_gemm``, ``filter_row_gemm``, ``pointwise``: the image where it lies (ours)
``pointwise_planes``  ``pointwise_planes``: a product for each image in n-c-h-w
``yaconv``            ``yaconv``: six image rows times one kernel row, without BLAS
``sums``              zeros in the outputs that the first product does not reach
``rows``              the table's rows of all these: workspace, limits, blocking
====================  ===========================================================================================
"""
