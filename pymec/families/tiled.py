"""Convolution with neither lowered matrix nor BLAS: tiles of the output, summed up in registers."""

from __future__ import annotations

from pymec.families._row import Algorithm, any_shape, no_workspace
from pymec.kernels import direct_blocked

ROWS = (
    Algorithm(
        name="direct_blocked",
        idea="the definition, six pixels and sixteen channels at a time in registers",
        source=(
            "after Georganas et al., Anatomy of High-Performance Deep Learning Convolutions on SIMD "
            "Architectures, SC 2018, and Zhang, Franchetti & Low, High Performance Zero-Memory Overhead Direct "
            "Convolutions, ICML 2018"
        ),
        formula="0",
        order="none",
        unsupported=any_shape,
        schedule=no_workspace,
        run=direct_blocked.run,
        uses_blas=False,
    ),
)
