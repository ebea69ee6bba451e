"""Convolution by Fourier transforms: for every frequency a product of the image's spectrum with the kernel's.

Read ``fft.py`` first: its first function, ``one_image``, is the method in a dozen lines of NumPy.

============  ==================================================================================================
``fft``       ``fft``, ``fft_lean``, ``fft_overlap_save``, ``fft_overlap_add``: the method in a workspace
``products``  the product of every frequency, by BLAS
``tiles``     the grids of transforms, and the outputs that each tile of an image gives
``bound``     how far rounding may take an output
``rows``      the table's rows of all four: workspace, grid
============  ==================================================================================================
"""
