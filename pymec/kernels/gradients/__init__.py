"""The gradients of a convolution layer with respect to its input and its kernel.

Read ``direct.pyx`` first, the two definitions as loops; then ``im2col.pyx``, where both are one product.

==================  ============================================================================================
``direct``          both gradients by their definition
``im2col``          both through im2col's lowered matrix, and col2im
``mec``             both through MEC's lowered matrix, which a forward pass may keep, and mec2im (ours)
``blocked``         ``direct_blocked``: the kernel's in register tiles, outer products over the pixels (ours)
``blocks``          how that is cut into tiles and blocks, and the copies for them
``pixel_gemm``      both without workspace: a product per tap and row, on the pixels where they lie (ours)
``direct_conv``     the input's as forward convolutions, one for each phase of the stride (ours, Python)
``direct_dots``     the input's with few channels: the same phases by dot products (ours, Python)
``grouped``         ``direct_grouped``: both for groups of a few channels that share a register (ours)
``depthwise``       both for a channel per group and 3×3 taps: a network's depthwise layers (ours)
``flipped_kernel``  K flipped by 180 degrees, its channels swapped: what the input's gradient convolves dO with
``taps``            which output has a given tap on a given image row
``rows``            the table's rows of all these: workspace, limits, blocking
==================  ============================================================================================
"""
