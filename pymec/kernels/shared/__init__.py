"""What several families share: sizes, BLAS, the copying of patches, the machine's numbers.

===================  ==========================================================================================
``geometry``         every size of a layer as a C struct, and what every stage checks
``blas``             row-major GEMM over ``scipy.linalg.cython_blas``; nothing else calls BLAS
``patch``            the one copy that all lowerings share: a row of a patch
``turning``          matrices transposed: from channels first to channels last, and back
``spans``            which outputs have a tap inside the image; a thread's share; a task taken apart
``blocking``         how products are cut for BLAS, and ``blocked_product``, which runs them so
``bias_relu``        bias and ReLU, for a block of outputs or as a pass over all
``microkernel``      a tile of sums in registers, in plain loops: the one to read
``per_cpu``          functions compiled for several kinds of CPU
``machine``          tuned numbers: what each is, its unit, and the script that measured it
``blas_library``     the BLAS at hand, and up to what size it multiplies without packing
``guard``            entering and leaving again, whatever Ctrl-C cuts short
``openmp``           what OpenMP says about threads
===================  ==========================================================================================
"""
