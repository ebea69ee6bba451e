"""The engine under all algorithms that are called ``direct_``, but for ``direct_blocked_plain``.  Open it last.

The definition of a convolution is easy to read in :mod:`pymec.kernels.direct.direct`.  What is here computes the
same sums more than ten times as fast (``profiling/atlas.py``), in three steps from the inside out:

*Tile.*  A few output pixels by a line of output channels, all of whose sums stay in vector registers while the
taps and input channels pass.  How large it can be depends on the CPU.

*Panel.*  The channels of K that one tile reads, line after line.  A panel is read once for every tile, so it
should come from a level-2 cache; packed, its lines are adjacent in memory.

*Schedule.*  Which pixels and panels a thread takes, and in which blocks the reduction is summed, so that what
meets again is still in a cache.  It is arithmetic on sizes in plain Python; the row of the table hands it to the
kernel.

Open ``convolution.pyx`` first: it has the loops in the order in which they run.  Then ``tile.pyx``, then
``schedule.py``.

===================  =========================================================================================
``convolution``      the loops: a thread's share, a block of the reduction, a tile, a panel
``tile``             which tile a CPU has, and the product of one tile, whatever its registers
``tile_kinds``       that product for each kind of register and number of pixels (a template)
``registers``        vector registers as C types
``pixels``           the pixels of a tile, and where in the image their taps are
``output_tile``      one tile with one panel of K, and at the ends of a row on padding
``panels``           K packed in panels
``planes``           ``direct_planes``: images in n-c-h-w, a band of rows at a time
``schedule``         the order of the work, and how MEC's products are cut for tiles
``product``          a matrix product by tiles, of operands where they lie
``blocked_product``  a matrix product in blocks, by tiles or by BLAS: what other families call
``grouped``          ``direct_grouped``: vectors of channels of several small groups
``group_vectors``    which input channels such a vector needs
``group_tiles``      outputs of several small groups in registers (a template)
``dots``             ``direct_dots``: few filters, vectors of input channels
``dot_tiles``        dot products of a few pixels' patches with a few filters (a template)
``outer_tiles``      outer products of channels, added up over pixels: the kernel's gradient (a template)
``group_grad_rows``  and of their kernel's gradient (a template)
``depthwise_grads``  both gradients of depthwise convolutions with 3×3 taps (a template)
``depthwise_rows``   a row of a depthwise convolution with 3×3 taps (a template)
``depthwise_four``   four outputs of any other depthwise convolution (a template)
``peak``             the most multiply-adds a second that the CPU can do: what speeds are compared with
``rows``             the table's rows
===================  =========================================================================================
"""
