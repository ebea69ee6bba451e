"""MEC: the paper's algorithms, and what was made of them."""
