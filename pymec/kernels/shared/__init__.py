"""What several families share: sizes, BLAS, the copying of patches, the machine's numbers."""
