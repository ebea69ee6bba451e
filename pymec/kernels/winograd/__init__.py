"""Winograd's convolution: fewer products, at points."""
