"""The kernels: one algorithm family per file, read top to bottom.

Files without an underscore are algorithms; files with one are plumbing.  All are Cython but ``fft``,
``mec_conv_grad``, ``direct_conv_grad`` and what only computes sizes and bounds (``_pieces``, ``_tile_cut``,
``_band_cut``, ``_winograd_matrices``, ``_fft_tiles``, ``_fft_bound``).

========================  ==============================================================================
``_geometry``             every size by the paper's symbol, as a C struct
``_patch``                the one copy that all lowerings share: a kernel row's worth of one image row
``_lowered_rows``         which image rows a lowered matrix keeps, and where an output row finds its own
``_pieces``               how products are cut so that BLAS runs them fastest
``_microkernel``          an inner loop without BLAS for any pixels and channels: a small tile of sums in registers
``_register_tile``        the inner loop of the fastest: the largest tile of sums that the CPU has registers for
``_tiles``                that tile, for each kind of register and number of pixels: a template, ``_tiles.pyx.in``
``_depthwise_rows``       a row of a depthwise convolution in such registers, ``_depthwise_rows.pyx.in``
``_depthwise_four``       four outputs of one, where that can't: ``_depthwise_four.pyx.in``
``_group_tiles``          outputs of several small groups in such registers, ``_group_tiles.pyx.in``
``_group_grad_rows``      and of their kernel's gradient, ``_group_grad_rows.pyx.in``
``_group_lines``          which channels a line of several groups wants
``_ends``                 where sums begin, with the bias, and end: ReLU
``_pixel_lines``          lines of output pixels whose products read the image where it lies
``_strips``               products along the strips of the lowered matrix, for bands of columns
``_registers``            vector registers as C types
``_panels``               K re-laid so that what such a tile reads is one piece of memory
``_turned``               K by 180 degrees, its channels swapped: the kernel of the input's gradient
``_tile_product``         a matrix product by such tiles, of operands where they lie
``_pixels``               the pixels of such a tile, and where in the image their taps are
``_output_tile``          such a tile with the panels of K, and at the end of a row
``_tile_cut``             how convolutions by such tiles are shared among threads, and in which order
``_winograd_tiles``       a tile of Winograd's convolution to the points and back, all channels
``_band_cut``             how Winograd's bands are shared among threads, and how long they take
``_winograd_transforms``  Winograd's one-dimensional transforms, straight-line arithmetic
``_winograd_matrices``    their matrices, exact, and the bound on rounding
``_fft_tiles``            the grids and tiles of Fourier transforms, and the outputs that each tile gives
``_fft_bound``            how far rounding takes what was computed by Fourier transforms
``_blas``                 row-major GEMM over ``scipy.linalg.cython_blas``; no other kernel in Cython calls BLAS
``_openmp``               what OpenMP says about threads
``_peak``                 the most multiply-adds a second that the CPU can do: what speeds are compared with
``direct``                the definition, seven loops
``im2col``                one row of the lowered matrix per output pixel, then one GEMM
``im2col_blocked``        the same, a block of output pixels at a time
``implicit_gemm``         the same matrix in packed blocks of a product of our own
``mec``                   Algorithms 1 and 2 of the MEC paper
``mec_banded``            MEC on a band of output rows, or columns, at a time (ours)
``mec_split``             MEC on tiles, all channels or a few at a time (ours)
``mec_w``                 MEC's transposed twin: lowers vertically, slides horizontally (ours)
``im2win``                the twin's lowered matrix, multiplied window by window
``zero_copy``             products straight from the image: by pixel, by kernel row, pointwise
``depthwise``             one input channel per group, no products
``direct_grouped``        small groups, several to a line of registers (ours)
``kn2row``                every tap times the whole image, then shifted sums
``shift_gemm``            the same with sums that land where they belong (ours)
``direct_blocked``        the definition, a tile of the output in registers
``indirect``              pointers to pixels in place of what they point to
``smm``                   planes of one channel times numbers of K
``yaconv``                image rows times kernel rows, spilled where there is no place
``winograd``              fewer products, at points: F(2×2, 3×3), F(4×4, 3×3), F(6×6, 3×3)
``winograd_banded``       the same on a band of tiles at a time (ours)
``fft``                   products of spectra, by SciPy's transforms: whole images, lean, in tiles (Python)
``direct_grad``           both gradients by their definition
``im2col_grad``           both gradients through im2col's lowered matrix
``mec_grad``              both gradients through MEC's
``mec_conv_grad``         the input's gradient as a forward convolution, by MEC (Python)
``direct_conv_grad``      the same by register tiles, each phase of the stride by itself (Python)
``direct_grouped_grad``   both gradients of small groups, several to a line of registers (ours)
``pixel_gemm_grad``       both gradients without workspace
========================  ==============================================================================

Every ``def`` in them is a stage that can be called from Python on its own: lessons stop between two
stages and look at the lowered matrix.  The compiled ones allocate nothing: the caller hands in every array.
"""
