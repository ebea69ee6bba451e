"""Direct convolution: the definition, and loops that keep its sums in registers; no lowered matrix, no BLAS.

Read ``direct.pyx`` first, then ``blocked.pyx``: the same sums, a tile of the output at a time.

=====================  ===========================================================================================
``direct``             the definition, seven loops in double precision: what every algorithm is compared with
``blocked``            ``direct_blocked_plain``: a tile of 6 pixels by 16 channels in registers, in plain loops
``depthwise``          one input channel per group: no product of matrices is left
``depthwise_windows``  the same, channel by channel, in any order of the axes
``flat_rows``          depthwise with few channels: the numbers of a row side by side
``lanes``              how many sums are kept in registers
``smm``                planes of one channel times single numbers of K
``rows``               the table's rows of all these
=====================  ===========================================================================================

``direct_blocked``, the tile that runs fastest, is in :mod:`pymec.kernels.register_tiles`.
"""
