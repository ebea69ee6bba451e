"""The gradients of a convolution layer with respect to its input and its kernel."""
