"""Convolution as a sum of small products: by tap, by pixel row, by kernel row."""
