"""Where a Fourier transform of the whole image takes less time than the definition: arithmetic on sizes.

All is counted in multiply-adds of the definition.  A transform takes time for each of its points; there is one
for every plane of the input, of the output and, unless a plan has kept it, of the kernel.  A product at every
frequency reads the kernel's spectrum once, and then takes time for each image.
"""

from __future__ import annotations

import math

from pymec.kernels.fourier.fft import spectrum_size
from pymec.kernels.fourier.tiles import image_grid
from pymec.kernels.shared.machine import FFT_ARRAYS, FFT_POINT, FFT_PRODUCT, FFT_READ
from pymec.shapes import ConvShape


def beats_definition(shape: ConvShape, planned: bool) -> bool:
    """Whether ``fft`` takes fewer multiply-adds, and no more than ``FFT_ARRAYS`` times its arrays' memory."""
    grid = image_grid(shape)
    pairs = shape.i_cg * shape.k_c
    planes = shape.i_n * (shape.i_c + shape.k_c)
    transforms = FFT_POINT * (planes if planned else planes + pairs)
    products = (FFT_READ + FFT_PRODUCT * shape.i_n) * pairs
    arrays = shape.input_size + shape.kernel_size + shape.output_size
    fits = spectrum_size(grid) * (planes + pairs) <= FFT_ARRAYS * arrays
    return fits and math.prod(grid) * (transforms + products) < shape.multiply_adds
