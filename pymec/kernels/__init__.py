"""The compiled kernels: one algorithm family per file, read top to bottom.

Files without an underscore are algorithms; files with one are plumbing.

``_geometry``       every size by the paper's symbol, as a C struct
``_patch``          the one copy that all lowerings share: a kernel row's worth of one image row
``_lowered_rows``   which image rows a lowered matrix keeps, and where an output row finds its own
``_blas``           row-major GEMM over ``scipy.linalg.cython_blas``; nobody else calls BLAS
``_openmp``         what OpenMP says about threads
``direct``          the definition, seven loops
``im2col``          one row of the lowered matrix per output pixel, then one GEMM
``im2col_blocked``  the same, a block of output pixels at a time
``mec``             Algorithms 1 and 2 of the MEC paper
``mec_banded``      MEC on a band of output rows at a time (ours)
``direct_grad``     both gradients by their definition
``im2col_grad``     both gradients through im2col's lowered matrix
``mec_grad``        both gradients through MEC's
``mec_conv_grad``   the input's gradient as a forward convolution, by MEC
``pixel_gemm_grad`` both gradients without workspace
==================  ==============================================================================
=======
========================  ==============================================================================
``_geometry``             every size by the paper's symbol, as a C struct
``_patch``                the one copy that all lowerings share: a kernel row's worth of one image row
``_lowered_rows``         which image rows a lowered matrix keeps, and where an output row finds its own
``_winograd_transforms``  Winograd's one-dimensional transforms, straight-line arithmetic
``_winograd_matrices``    their matrices, exact, and the bound on rounding
``_fft_bound``            how far rounding takes what was computed by Fourier transforms
``_blas``                 row-major GEMM over ``scipy.linalg.cython_blas``; nobody else calls BLAS
``_openmp``               what OpenMP says about threads
``direct``                the definition, seven loops
``im2col``                one row of the lowered matrix per output pixel, then one GEMM
``im2col_blocked``        the same, a block of output pixels at a time
``mec``                   Algorithms 1 and 2 of the MEC paper
``mec_banded``            MEC on a band of output rows at a time (ours)
``winograd``              fewer products, at points: F(2×2, 3×3), F(4×4, 3×3), F(6×6, 3×3)
``winograd_banded``       the same on a band of tiles at a time (ours)
``fft``                   products of spectra, by SciPy's transforms: whole images, lean, in tiles (Python)
========================  ==============================================================================

Every ``def`` in them is a stage that can be called from Python on its own: lessons stop between two
stages and look at the lowered matrix.  None of them allocates: the caller hands in every array.
"""
