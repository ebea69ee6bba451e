"""The kernels: a room for each family of algorithms.

Open ``mec/paper.pyx`` first: the paper's two algorithms, line by line.  Then the family that you came for; each
room's ``__init__`` is its page.  The engine stands last, and is best opened last.

===================  ==========================================================================================
``mec``              the paper's algorithms, and what was made of them
``im2col``           the lowered matrix that MEC saves: whole, in blocks, or as pointers
``direct``           the definition, and convolutions without matrix products
``small_products``   sums of small matrix products, straight from the image
``winograd``         3×3 kernels with fewer multiplications
``fourier``          products of spectra
``gradients``        with respect to the input and to the kernel
``shared``           what all of them use: sizes, BLAS, the copying of patches, the machine's numbers
``register_tiles``   the engine under the fast algorithms: sums that stay in vector registers
===================  ==========================================================================================

In each room ``rows.py`` has the rows of the table of algorithms: names, workspaces, limits, and how work is cut.
Kernels are given arrays and numbers, and allocate nothing.
"""
