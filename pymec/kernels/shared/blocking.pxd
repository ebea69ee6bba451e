# The GemmBlocking of blocking.py as a struct.

cdef struct GemmBlocking:
    Py_ssize_t reduction        # elements of a patch summed in one product
    Py_ssize_t columns          # rows of the product: output pixels
    Py_ssize_t channels         # columns of the product: output channels
    Py_ssize_t output_rows      # output rows that go through one piece of K before the next piece
    bint registers              # whether sums are in registers, not in BLAS


cdef inline GemmBlocking blocking_of(object blocking) except *:
    """A :class:`pymec.kernels.shared.blocking.GemmBlocking` as a struct; all of it must be positive."""
    cdef GemmBlocking p
    # No product is larger; and sums of these stay far from the end of 64 bits.
    p.reduction, p.columns, p.channels, p.output_rows = [min(piece, 2**31 - 1) for piece in blocking[:4]]
    p.registers = len(blocking) > 4 and blocking[4]
    if p.reduction < 1 or p.columns < 1 or p.channels < 1 or p.output_rows < 1:
        raise ValueError(f"blocking must begin with four positive numbers, got {blocking!r}")
    return p


cdef inline int check_block(Py_ssize_t block) except -1:
    """Refuse a block of pixels that no loop would end with."""
    if not 1 <= block <= 2**31 - 1:
        raise ValueError(f"block must be from 1 to 2**31 - 1 pixels, got {block}")
    return 0
