"""The definition, and convolutions without products of matrices."""
