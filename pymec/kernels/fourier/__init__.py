"""Convolution by Fourier transforms: products of spectra."""
