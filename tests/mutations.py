"""The faults that `tests/mutants.py` puts into pymec, one after another, made by hand.

Each changes what some call returns, refuses, predicts or writes.
"""

from __future__ import annotations

FAULTS = {
    # the paper, and MEC after it ----------------------------------------------------------------------------
    "pymec/kernels/mec/paper.pyx": [
        ("g.o_w + w) * g.H + h)", "g.o_w + w) * g.i_h + h)", "strips as high as the image without its padding"),
        ("h, g.H * g.k_w * g.i_c,  # the", "h, g.k_h * g.k_w * g.i_c,  # the", "A's leading dimension: a patch"),
        ("g.H * g.k_w * g.i_c + g.s_h * g.k_w", "g.H * g.k_w * g.i_c + g.k_w", "B's shift without the stride"),
        ("shape.o_w <= T and", "shape.o_w < T and", "line 8: o_w = T is Solution B"),
        ("T and shape.output_size", "T or shape.output_size", "line 8: one test is enough for Solution A"),
        ("L + (h * g.i_n + n) * row_size", "L + (n * g.o_h + h) * row_size", "a repair that changes nothing"),
    ],
    "pymec/kernels/mec/tuned.pyx": [
        ("min(evenly_spaced(stored, band, g), end - r)", "end - r", "rows that nobody reads are lowered"),
        ("add or first > p.a0 * kernel_row", "add or q > 0", "sums of rows below padding begin with what O held"),
        ("elif p.a1 <= p.a0 and not add", "elif p.a1 < p.a0 and not add", "outputs of padding alone not zeroed"),
        ("(group * images + n) * o.pixels", "(n * g.groups + group) * o.pixels", "L of another image and group"),
        ('"A" and shape.i_n > 1:', '"A" and shape.i_n > 2:', "no repair for two images"),
        (
            "for i in range(rows.first, rows.end):\n        finish_pixels",
            "for i in range(rows.first, rows.end - 1):\n        finish_pixels",
            "no bias in the last row of a block",
        ),
    ],
    "pymec/kernels/mec/tuned.pxd": [
        ("ceil_div(lines, blocking.output_rows)", "(lines / blocking.output_rows)", "the last rows are left out"),
    ],
    "pymec/kernels/mec/lowered_rows.pxd": [
        ("first_inside - q * band.image_stride", "first_inside - q * band.stored_stride", "padding if s_h > k_h"),
        ("clip(g.d_h // common, 1, n_y)", "clip(g.d_h, 1, n_y)", "residue classes if d_h and s_h have a factor"),
    ],
    "pymec/kernels/mec/banded.pyx": [
        ("(task % g.i_n * g.o_h + band.y0)", "(band.y0)", "all images written over the first one"),
        ("O, block, task / g.i_n,", "O, block, task % g.groups,", "bands multiplied with another group's K"),
        ("g.i_n * ceil_div(g.o_h, band_rows)\n", "g.i_n * (g.o_h / band_rows)\n", "no last, lower band"),
    ],
    "pymec/kernels/mec/column_bands.pyx": [
        ("below.a0 != p.a0 or below.a1 != p.a1", "below.a0 != p.a0", "rows whose lower taps lie on padding"),
        ("band.stored_stride * kernel_row, K", "band.image_stride * kernel_row, K", "steps in L if s_h > k_h"),
        ("finish_rows(O + strips.first * g.k_c", "finish_rows(O", "bias twice in a band's first columns"),
    ],
    "pymec/kernels/mec/im2win.pyx": [
        ("K + p.a0 * kernel_column * g.k_c", "K", "taps of columns beside padding"),
    ],
    "pymec/kernels/mec/split.pyx": [
        ("c > 0,\n", "c > c0,\n", "each set of channels begins the sum anew"),
        ("* g.o_w + tile.columns.first) * g.k_c", "* g.o_w) * g.k_c", "all tiles at the left edge"),
        ("Span(tile.group * g.k_cg, (tile.group + 1) * g.k_cg)", "Span(0, g.k_cg)", "bias in one group alone"),
    ],
    "pymec/kernels/mec/transposed.pyx": [
        ("b = tap / g.k_h, a = tap % g.k_h", "b = tap / g.k_w, a = tap % g.k_w", "K' of a kernel not square"),
        ("g.s_h - g.p_t  # the image row", "g.s_h - g.p_l  # the image row", "padding above taken for the left's"),
        ("zero(to, taps.first * g.i_cg)", "zero(to, 0)", "no zeros for padding above"),
    ],
    # im2col -------------------------------------------------------------------------------------------------
    "pymec/kernels/im2col/im2col.pyx": [
        ("g.s_h - g.p_t  # the image row", "g.s_h - g.p_l  # the image row", "padding above taken for the left's"),
        ("L + (group * pixels + rows.first)", "L + (rows.first)", "every group multiplied with the first one's L"),
        ("(g.k_h - a.end) * kernel_row)", "(g.k_h - a.end) * g.i_cg)", "zeros for one tap of each row below"),
    ],
    "pymec/kernels/im2col/blocked.pyx": [
        ("g.k_c, m, m + channels,", "g.k_c, group * g.k_cg, m + channels,", "bias again with each block"),
        ("ceil_div(g.i_n * g.o_h * g.o_w, block), share", "(g.i_n * g.o_h * g.o_w / block), share",
         "no last block"),
    ],
    "pymec/kernels/im2col/implicit_gemm.pyx": [
        ("if block.q0 > 0:", "if block.q0 > block.depth:", "the second part of a sum forgets the first"),
        ("block.m0 + m, min(block.width", "m, min(block.width", "blocks of columns written over the first one"),
    ],
    "pymec/kernels/im2col/indirect.pyx": [
        ("return zeros if address == zeros else address + distance", "return address + distance",
         "padding of later images and groups isn't zero"),
        ("+ b * g.d_w\n", "+ b * g.d_h\n", "one dilation for both axes"),
    ],
    # direct -------------------------------------------------------------------------------------------------
    "pymec/kernels/direct/direct.pyx": [
        ("group * g.k_cg + m, min(BLOCK", "m, min(BLOCK", "every group is the first one"),
    ],
    "pymec/kernels/direct/blocked.pyx": [
        ("b * g.d_w < g.i_w:", "b * g.d_w <= g.i_w:", "a column past the image is no padding"),
    ],
    "pymec/kernels/direct/depthwise.pyx": [
        ("image.image, image.image, image.row, 1)", "image.image, image.image, image.pixel, 1)",
         "a column's pixels are as far apart as a row's"),
        ("O[row.output + x * g.out.pixel + i]", "O[row.output + x * g.k_c + i]",
         "O written as if it were no slice"),
        ("(m0 + i) / g.k_cg", "i / g.k_cg", "later blocks read the first block's inputs"),
        ("x + 4 <= end", "x + 3 <= end", "four outputs of which the last has a tap on padding"),
        ("* block, g.k_c - width)", "* block, g.k_c)", "the last block doesn't reach back"),
    ],
    "pymec/kernels/direct/smm.pyx": [
        ("K += g.k_w * g.i_cg * g.k_c", "K += g.k_w * g.k_c", "kernel rows of several input channels"),
    ],
    # register tiles -----------------------------------------------------------------------------------------
    "pymec/kernels/register_tiles/convolution.pyx": [
        ("+ part.group * g.k_cg + group_channel,", "+ group_channel,", "the first group's K is packed for all"),
        ("room + share * size if slices", "room if slices", "all threads pack at one place"),
        ("\n                      and reduction.c + reduction.channels == g.i_cg)", ")",
         "ReLU before sums are complete"),
        ("rows and (g.i_n == 1 or out.image == g.o_h * g.o_w * out.pixel)", "rows",
         "tiles that go on to an image further away"),
    ],
    "pymec/kernels/register_tiles/output_tile.pyx": [
        ("K += (line - part.kernel.first_line)", "K += line", "lines of a block counted through all of K"),
        ("copy(line + overlap, bias + overlap, width - overlap)", "copy(line + overlap, bias, width - overlap)",
         "the bias of a panel that overlaps"),
        ("panel * block.tile.channels - overlap\n", "panel * block.tile.channels\n", "the last panel is not back"),
        ("BiasRelu(NULL, block.ends.relu)", "BiasRelu(NULL, False)", "no ReLU at the ends of rows"),
    ],
    "pymec/kernels/gradients/direct_dots.py": [
        ("if leaves_pixels_out(shape):", "if False:", "pixels that no tap meets keep what was there"),
        ("filters[phase.taps]", "filters[::-1, ::-1]", "all taps for each phase"),
    ],
    "pymec/kernels/register_tiles/dots.pyx": [
        ("done = min(done, count - pixels)", "pass", "the last tile writes past the end of the row"),
        ("K += rows.first * layer.k.row + taps.first * layer.k.tap", "K += rows.first * layer.k.row",
         "taps at the left side"),
        ("layer.k.tap == g.i_c and", "", "a row of taps as one run, though they lie apart in K"),
        ("share_of(layer.turns, innermost(&task, layer.filter_shares), layer.filter_shares)",
         "share_of(layer.turns, 0, layer.filter_shares)", "the first filters for all tasks"),
        ("(0 if block == 0 else x, g.o_w if", "(x, g.o_w if", "no columns left of the first block"),
        ("adjacent = layer.whole_lines and", "adjacent =", "slices round differently"),
        ("bias[filters.first + j]", "bias[j]", "the first filters' bias for all"),
    ],
    "pymec/kernels/register_tiles/dot_tiles.pyx.in": [
        ("masked_{{register}}(patch * k{{j}}, mask)", "patch * k{{j}}", "numbers multiplied twice"),
        ("(INTS - back * {{size // 4}})", "(INTS - rest * {{size // 4}})", "the wrong lanes are masked"),
    ],
    "pymec/kernels/register_tiles/pixels.pxd": [
        ("right + size * g.s_w < g.i_w:", "right + size * g.s_w <= g.i_w:", "joined tiles read a column too far"),
        ("(columns - span.end) * g.i_c)", "0)", "no zeros right of the image in a window"),
        ("g.groups == 1 and strides.pixel == g.i_c", "g.groups == 1", "taps of a slice taken for adjacent"),
        ("a * g.d_h * pixels.strides.row + b", "a * g.d_h * g.i_w * g.i_c + b", "rows of a slice, too"),
    ],
    "pymec/kernels/register_tiles/grouped.pyx": [
        ("    tile.pixel = g.out.pixel * size", "    tile.pixel = g.k_c * size",
         "O written as if it were no slice"),
        ("at.taps = inside(top, g.d_h,", "at.taps = inside(top, g.s_h,", "kernel rows on padding, of a dilation"),
        ("bias + vector.m if bias", "bias if bias", "the first channels' bias for all"),
    ],
    "pymec/kernels/register_tiles/group_vectors.pxd": [
        ("max(vector.c + width - g.i_c, 0)", "0", "reads past the end of the image"),
    ],
    "pymec/kernels/register_tiles/panels.pyx": [
        ("K + min(panel * width, channels - width), width", "K + panel * width, width",
         "the last panel of a block does not reach back"),
        ("taps[tap] * g.k_cg * g.i_c", "tap * g.k_cg * g.i_c", "taps of a kernel that is not flipped"),
        ("first + min(panel * width, channels - width) * g.i_c", "first + panel * width * g.i_c",
         "the last flipped panel doesn't reach back"),
        ("min(BLOCK, lines - j)", "BLOCK", "a flipped block beyond the last line"),
        ("min(first, g.k_cg - width + zeros)", "first", "the last panel doesn't reach back"),
        ("panels[zeros + i] = channels[i * step]", "panels[zeros + i] = channels[i]", "adjacent channels"),
        ("min(panel * width, g.k_cg - channels)", "panel * width", "the last panel of filters doesn't reach back"),
        ("c, tap = c + 1, 0", "tap = 0", "all taps of the first channel"),
        ("if channels < width:", "if False:", "no zeros before few filters"),
        ("panels + width - channels + m", "panels + m", "few filters stand before the zeros"),
        ("min(BLOCK, length - block * BLOCK)", "BLOCK", "a block beyond the last number of a filter"),
    ],
    "pymec/kernels/register_tiles/planes.py": [
        ("max(start, 0), min(end, extent)", "0, min(end, extent)", "each part begins at the edge of the image"),
        ("max(start, 0), min(end, extent)", "max(start, 0), extent", "each part ends at the edge of the image"),
        ("slice(low, max(low, high))", "slice(low, max(low + 1, high))", "parts on padding alone read a row"),
        ("(low - start, end - high))", "(0, end - high))", "no padding before a part"),
        ("0 if bias is None else np.maximum(bias, 0) if relu else bias", "0", "no bias on padding alone"),
        ("np.maximum(bias, 0) if relu else bias", "bias", "no ReLU on padding alone"),
        ("out[n, h.outputs, w.outputs]", "out[n, h.inputs, w.outputs]", "rows of I for those of O"),
        ("part_w = min((columns - 1) * shape.s_w + shape.e_w", "part_w = min(columns * shape.s_w", "no room"),
        ("if sums is not outputs:", "if not adjacent(x, 3):", "O is turned as I lies"),
    ],
    "pymec/kernels/register_tiles/product.pyx": [
        ("elif add:", "elif add and row > 0:", "the first rows are not added but written"),
        ("rows if add else 0", "rows - 1 if add else 0", "the last row of a part of a tile is not added"),
    ],
    "pymec/kernels/register_tiles/tile.pyx": [
        ("relu and run == runs - 1)", "relu)", "ReLU after every run"),
    ],
    "pymec/kernels/register_tiles/tile_kinds.pyx.in": [
        ("start + {{n}} * s_step)", "start)", "the second tile of a row goes on from the first one's sums"),
    ],
    "pymec/kernels/register_tiles/group_tiles.pyx.in": [
        ("end = min(tile.i_w - column, (", "end = min(tile.i_w - column - 1, (", "the image's last column"),
    ],
    "pymec/kernels/register_tiles/outer_tiles.pyx.in": [
        ("over.output.row\n            for _ in range(over", "over.input.row\n            for _ in range(over",
         "rows of dO apart like I's"),
        ("o += o_step", "o += i_step", "pixels of dO as far apart as I's"),
    ],
    "pymec/kernels/register_tiles/group_grad_rows.pyx.in": [
        ("min(columns_before(row.i_w - column, row.s_w)", "min(columns_before(row.i_w - column - 1, row.s_w)",
         "the image's last column, in the kernel's gradient"),
    ],
    "pymec/kernels/register_tiles/depthwise_grads.pyx.in": [
        ("if x + 1 < pair.o_w", "if x + 2 < pair.o_w", "the last column of dO, in pairs of rows"),
        ("if w + 1 < pair.i_w", "if w + 2 < pair.i_w", "the image's last column, in pairs of rows"),
        ("if 0 <= w + {{b}} < rows.i_w", "if 0 < w + {{b}} < rows.i_w", "the image's first column, in nine sums"),
        ("row{{a}} += rows.s_w * step{{a}}", "row{{a}} += rows.s_h * step{{a}}", "columns a row's stride apart"),
        ("{{side}}_{{a}}{{b}} if afresh else", "{{side}}_{{a}}{{b}} if False else", "sums that never begin"),
    ],
    "pymec/kernels/register_tiles/depthwise_rows.pyx.in": [
        ("if 0 <= column < columns.i_w", "if 0 < column < columns.i_w", "the image's first column"),
    ],
    "pymec/kernels/register_tiles/depthwise_four.pyx.in": [
        ("K + a * s.kernel_row", "K + a * s.kernel_tap", "kernel rows of four outputs"),
    ],
    # small products -----------------------------------------------------------------------------------------
    "pymec/kernels/small_products/kn2row.pyx": [
        ("reached.first if g.s_w == 1 else 1", "reached.first", "a stride reads adjacent pixels"),
        ("K + (first_tap + task)", "K + (task)", "one tap for all turns of kn2row_aa"),
    ],
    "pymec/kernels/small_products/shift_gemm.pyx": [
        ("g.p_l if h == 0 else pitch - g.i_w", "g.p_l", "zeros between rows where the right padding is wider"),
        ("(a * g.d_h - g.p_t) * pitch", "(a * g.d_h - g.p_t) * g.i_w", "kernel rows an image row apart"),
    ],
    "pymec/kernels/small_products/yaconv.pyx": [
        ("for m in range(block.skip, block.width)", "for m in range(block.width)", "channels added twice"),
    ],
    "pymec/kernels/small_products/zero_copy.pyx": [
        ("if a == b == 0:", "if a == b:", "sums beside the padding begin anew with each tap (a, a)"),
        ("inside(left, g.s_w, g.i_w, o.columns)\n", "inside(left, g.s_h, g.i_w, o.columns)\n", "one stride"),
        ("g.i_w + g.k_w - 1, o.columns)  # with", "g.i_w, o.columns)  # with", "outputs right of the image"),
        ("shape.p_t or shape.p_b:\n        return shape\n    return replace(shape, i_n=1, i_h=shape.i_n",
         "shape.p_t:\n        return shape\n    return replace(shape, i_n=1, i_h=shape.i_n",
         "images joined over the padding between them"),
    ],
    # transforms ---------------------------------------------------------------------------------------------
    "pymec/kernels/winograd/winograd.pyx": [
        ("(t_o + 2) * (t_o + 2) * tiles + row", "tiles + row", "groups written over each other's points"),
    ],
    "pymec/kernels/winograd/tiles.pyx": [
        ("            bias += LANES", "            bias += 0", "the first sixteen channels' bias for all"),
        ("t_o - g.p_t\n", "t_o - g.p_l\n", "padding above taken for the left's"),
    ],
    "pymec/kernels/winograd/banded.pyx": [
        ("min(block * width, g.k_cg - width)", "(block * width)", "the last panel of U doesn't reach back"),
    ],
    "pymec/kernels/winograd/transforms.pxd": [
        ("<floating> 4 * d2 - <floating> 5 * d4 + d6", "<floating> 4 * d2 - <floating> 4 * d4 + d6",
         "F(6×6) at 1/2"),
    ],
    "pymec/kernels/fourier/products.pyx": [
        ("i_cg * k_c + group * k_cg, k_c,\n", "i_cg * k_c, k_c,\n", "the first group's K for all"),
    ],
    "pymec/kernels/fourier/tiles.py": [
        ("(grid - e) // s + 1", "(grid - e) // s + 2", "a tile's last output has wrapped around"),
        ("fast_length(shape.i_h + shape.p_t + shape.p_b)", "fast_length(shape.i_h + shape.p_t)",
         "no padding below"),
    ],
    # gradients ----------------------------------------------------------------------------------------------
    "pymec/kernels/gradients/direct.pyx": [
        ("output_at(w + g.p_l", "output_at(w + g.p_t", "padding at the left taken for that above"),
    ],
    "pymec/kernels/gradients/flipped_kernel.pyx": [
        ("c1 = min(end, (group + 1) * g.i_cg)", "c1 = end", "blocks that go on into the next group"),
    ],
    "pymec/kernels/gradients/blocked.pyx": [
        ("    dO += (on_image.end - on_image.first) * lines.steps.column\n", "", "other outputs at the right end"),
        (" and g.image.pixel == g.i_c", "", "pixels of a slice taken for adjacent ones"),
        ("range(width - skip):", "range(width - skip - 1):", "the last channel of a line that is not full"),
        ("cdef bint afresh = block.images.first == 0 and", "cdef bint afresh =", "every block begins anew"),
        ("+ b * g.d_w - left)", "+ b * g.d_w)", "columns of a copied window"),
        ("inside(b * g.d_w - g.p_l", "inside(b - g.p_l", "columns of a dilated kernel as if it were not"),
    ],
    "pymec/kernels/gradients/blocks.pxd": [
        ("last = part.end - 1 - g.p_l", "last = part.first - g.p_l", "taps in place beyond the right border"),
        ("first = part.first - g.p_l", "first = part.end - 1 - g.p_l", "taps in place beyond the left border"),
        ("if end - before < inputs:", "if before == end:", "taps on padding keep the last pixel's numbers"),
        ("(column * g.s_w - g.p_l)", "(column - g.p_l)", "a stride reads adjacent pixels"),
        ("if g.image.pixel > g.i_c:", "if False:", "taps of a slice taken for adjacent"),
    ],
    "pymec/kernels/gradients/depthwise.pyx": [
        ("for m in range(these.overlap, width)", "for m in range(width)", "channels of two vectors added twice"),
        ("return (g.i_h + g.p_t) / 2 - first_pair(g)", "return g.i_h / 2", "pairs of rows but for padding"),
        ("these.count, first, end", "1, first, end", "the second of two vectors"),
        ("        if 0 <= y + i < g.o_h:", "        if 0 <= y < g.o_h:", "a row below dO"),
    ],
    "pymec/kernels/gradients/grouped.pyx": [
        ("    taps.output += kept.first * taps.advance\n", "", "rows of dO where the first taps lie outside"),
        ("rows = 3 if met.end - a >= 3", "rows = 3 if met.end - a >= 2", "a kernel row past the last one"),
        ("g.d_h * g.image.row * size, g.out.pixel * size", "g.d_h * g.image.row * size, g.k_c * size",
         "dO read as if it were no slice"),
        ("tile.pixel = g.s_w * g.image.pixel", "tile.pixel = g.s_w * g.i_c", "dI written as if it were no slice"),
    ],
    "pymec/kernels/gradients/im2col.pyx": [
        ("pixels.first) * patch + columns.first, patch)", "pixels.first) * patch, patch)",
         "dL's shares at one place"),
        ("dL + (group * all_pixels + pixels.first)", "dL + (pixels.first)", "groups over each other in dL"),
    ],
    "pymec/kernels/gradients/mec.pyx": [
        ("max(r0, p.a0 * kernel_row), min(r1", "(p.a0 * kernel_row), min(r1", "blocks of dK that begin too early"),
        ("stored_image_row(r, band, g)", "r", "strips added up to rows as if nothing were left out"),
    ],
    "pymec/kernels/gradients/pixel_gemm.pyx": [
        ("w * g.i_c + group * g.i_cg + c, g.s_w", "w * g.i_c + c, g.s_w", "all groups added to one"),
        ("for c in range(depth):", "for c in range(depth - 1):", "the last row of dK isn't zeroed"),
    ],
    "pymec/kernels/gradients/taps.pxd": [
        ("position and y < outputs", "position and y <= outputs", "an output past the last one"),
    ],
    "pymec/kernels/gradients/direct_conv.py": [
        ("grad_x[...] = 0\n    for phase, options", "pass\n    for phase, options",
         "pixels that no tap meets keep what they held"),
        ("grad_x[...] = 0\n    for phase, taps", "pass\n    for phase, taps",
         "they keep what they held where K is packed"),
        ("before -= above * dilation", "pass", "taps above dO are left out, and all others move"),
        ("tap + below * step, taps", "tap, taps", "the wrong ones are left out below it"),
    ],
    # shared -------------------------------------------------------------------------------------------------
    "pymec/kernels/shared/bias_relu.pyx": [
        ("o_w * k_c, o_w, k_c, 0, k_c,", "o_w * k_c, o_w, k_c, 0, k_c - 1,", "no bias for the last channel"),
    ],
    "pymec/kernels/shared/blas.pyx": [
        ("dgemm(flags + transpose_B, flags + transpose_A", "dgemm(flags + transpose_A, flags + transpose_B",
         "the other operand transposed, in double precision"),
        ("columns > 1 and stride != size", "columns > 2 and stride != size", "strided rows of two are accepted"),
    ],
    "pymec/kernels/shared/turning.pxd": [
        ("FLOATS_LOW 0, 8, 1, 9", "FLOATS_LOW 0, 8, 9, 1", "two numbers change places"),
        ("DOUBLES_HIGH 2, 6, 3, 7", "DOUBLES_HIGH 2, 6, 7, 3", "two double numbers change places"),
        ("square % (BLOCK // side) * side, square // (BLOCK // side) * side",
         "square // (BLOCK // side) * side, square // (BLOCK // side) * side", "squares of the diagonal alone"),
    ],
    "pymec/kernels/shared/turning.pyx": [
        ("if rows_can_be_joined(source) and rows", "if rows", "rows joined although others lie between"),
        ("if adjacent(pixels, 1) and adjacent(copied, 2):", "if adjacent(pixels, 1):", "no pixels"),
        ("return array.flags.aligned and (", "return (", "unaligned numbers in vectors"),
        ("if k_h * k_w == 1 else filters.reshape(k_c, i_cg, -1).transpose(1, 0, 2)",
         "if k_h * k_w < 3 else filters.reshape(k_c, i_cg, -1).transpose(1, 0, 2)", "two taps as one matrix"),
    ],
    "pymec/kernels/register_tiles/rows.py": [
        ("if limit is None or n_threads * slice_size + line <= limit:", "if True:",
         "packed blocks beyond the limit"),
        ("even_part(max(s.i_n, 1), min(caches, left) // image)", "max(s.i_n, 1)", "all images at once"),
        ("left = limit - size if limit", "left = limit if limit", "no room for the panels"),
        ("elif rows >= least_rows:", "elif rows > 0:", "parts that share most of their rows"),
        ("if planes.part_size(s, *part) > left:", "if False:", "parts too large for the limit"),
        ("else (1, 1, max(_most_columns(s, 1, left), 1))", "else (1, 1, s.o_w)", "a whole row at least"),
        ("s, min(caches, left)), min(s.o_h", "s, left), min(s.o_h", "parts as large as a limit allows"),
        ("if has_filters(kernel):", "if True:", "every kernel taken for o-i-h-w"),
    ],
    "pymec/kernels/register_tiles/schedule.py": [
        ("ALL_PIXELS if packed or (one_sum and panels <= together) else block", "ALL_PIXELS",
         "no blocks of pixels"),
    ],
    "pymec/kernels/shared/geometry.pyx": [
        ("not 1 <= n_threads <= 64", "not 1 <= n_threads <= 65", "more threads than BLAS has buffers"),
        ("if extents[1] > 1 else extents[2] * found.pixel", "if extents[0] > 1 else extents[2] * found.pixel",
         "rows of a single image as if it were no slice"),
    ],
    "pymec/kernels/shared/microkernel.pxd": [
        ("bias_relu.bias + block.start, block.width", "bias_relu.bias, block.width", "the first channels' bias"),
    ],
    "pymec/kernels/small_products/sums.pxd": [
        ("<= pixel < reached.end", "<= pixel <= reached.end", "a pixel that the first tap doesn't reach"),
    ],
    # shapes and sizes ---------------------------------------------------------------------------------------
    "pymec/shapes.py": [
        ("(kind is tuple and all(map(_is_plain, value)))", "kind is tuple", "(True, 1) taken for (1, 1)"),
        ("if max(numbers) > 2**14:", "if max(numbers) > 2**40:", "arrays that no machine can hold"),
        ("-(-self.p_t // (self.s_h * band_rows))", "(self.p_t // (self.s_h * band_rows))", "r_b of a padded band"),
        ("(self.p_t + self.i_h) // self.s_h + 1)", "(self.p_t + self.i_h) // self.s_h)", "r_b misses a band"),
        ("residues = min(band_rows, self.d_h // math.gcd(self.s_h, self.d_h))",
         "residues = self.d_h // math.gcd(self.s_h, self.d_h)", "a bound of r_b that is too high"),
        ("self.s_h == self.s_w == self.groups == 1 and not", "self.s_h == self.s_w == 1 and not",
         "1×1 kernels in groups are no pointwise ones"),
        ("0 if 1 in (self.k_h, self.k_w) else", "0 if self.k_w == 1 else", "K' predicted where it is K"),
        ("p_b=self.p_r, p_r=self.p_b", "p_b=self.p_b, p_r=self.p_r", "the transpose's padding at its ends"),
        ("self.s_h == self.d_w == self.groups == 1 and self.p_t", "self.s_h == self.groups == 1 and self.p_t",
         "a dilated row of taps is no lowered matrix"),
        ("self.p_t == self.p_b == 0", "self.p_t == 0", "padding below a row of taps"),
        ("(vertical // 2, vertical - vertical // 2)", "(vertical - vertical // 2, vertical // 2)", "SAME_LOWER"),
        ("extent - size, 0)", "extent - size, -1)", "padding=same is negative where a stride exceeds the kernel"),
        ("low <= min(numbers) <= max(numbers) <= LARGEST", "low <= min(numbers)", "no upper limit for arguments"),
        ("            and set(map(type, x_shape + kernel_shape)) <= _INTEGER\n", "",
         "True in a shape, if 1 is remembered"),
        ('if x["N"] < 0:', 'if x["N"] < 1:', "no image is an error"),
        ("self.o_w * (self.i_h + self.p_t + self.p_b) * self.k_w", "self.o_w * (self.i_h + self.p_t) * self.k_w",
         "the paper's L without the padding below"),
    ],
    "pymec/layouts.py": [
        ('if result == "kernel" or plain_in_place', "if plain_in_place", "a kernel's gradient with channels last"),
        ("reading is not Reading.PLANES if last", "True if last", "planes where the caller finds pixels"),
        ("or has_positive_steps(array)", "or True", "arrays that go backward"),
        ('"NHWC" else tuple(extents', '"NCHW" else tuple(extents', "room for pixels where planes are read"),
        ("if not plain_in_place(role, shape, reading))", ")", "copies of one channel are predicted"),
        ("zip(roles, lie_well, strict=True) if not well)", "zip(roles, lie_well, strict=True))",
         "room for copies that are not made"),
        ("step > 0 and step % array.itemsize == 0", "step > 0", "steps of half an element are rounded"),
        ("channels > 1 and height", "height", "a slice of a grey image gives an output with channels last"),
        ("            if step < end:\n                return True\n", "", "an output that overlaps itself"),
        ('"kernel": (3, 2, 0, 1)', '"kernel": (3, 2, 1, 0)', "the kernel's extents turned"),
        ("lies_well and flags.aligned", "lies_well", "unaligned arrays reach kernels"),
        ("return Places(lie_well[:-1], lie_well[-1],", "return Places(lie_well[:-1], True,",
         "a result is never turned back"),
    ],
    # choices ------------------------------------------------------------------------------------------------
    "pymec/planning.py": [
        ('if best in ("direct_panels", "direct_packed", "direct_blocked"):', "if False:",
         "tiles turn whole images"),
        ("shape.groups > 1 or shape.k_c * shape.itemsize <= CACHE_LINE", "True", "one filter after the other"),
        ("    if few_filters_per_channel(shape):\n", "    if False:\n", "few filters of a grey image by BLAS"),
        ("shape.k_h == 1 and unpacked", "shape.k_h == 1 < shape.k_w and unpacked", "1×1 with a stride lowered"),
        ("shape.is_pointwise and not unpacked", "shape.is_pointwise", "one product for every BLAS"),
        ("None and made.workspace_nbytes > limit", "None and made.workspace_nbytes >= limit",
         "a limit of just enough is refused"),
        ("if planned or small:", "if planned:", "no small panels"),
        ("if packing_pays(shape) else", "if False else", "wide rows of K are read in place"),
        ("shape.i_n > 1 and choose_solution", "choose_solution", "Solution A for a single image"),
        ("max(2 * tiled, SMALL", "min(2 * tiled, SMALL", "mec only where both reasons hold"),
        ("band_size(1) * shape.itemsize > SLICE", "band_size(1) > SLICE", "elements compared with bytes"),
        ("min(shape.i_cg, shape.k_cg) >= WINOGRAD", "max(shape.i_cg, shape.k_cg) >= WINOGRAD", "few channels in"),
        ("best_tiles(shape, n_threads, planned)", "best_tiles(shape, n_threads, True)", "a transform is free"),
        ("if not planned and not one_channel and (one_block", "if not one_channel and (one_block",
         "plans of a gradient that keep no flipped kernel"),
        ("if not few_phases or not (one_channel", "if not (one_channel", "too many phases"),
        ("or pixels < REPAID_FLIP", "or False", "few pixels repay a flipped kernel"),
        ("few = shape.i_cg < GRAD_CHANNELS", "few = shape.k_cg < GRAD_CHANNELS", "output channels decide"),
        ("copied > shape.kernel_size)", "copied > 0)", "planes of channels-last images"),
        ("min(needs, key", "max(needs, key", "the hint names the largest"),
    ],
    "pymec/recipes.py": [
        ("self.schedule.size - (self.schedule.prepared if planned else 0)", "self.schedule.size", "a form twice"),
        ("if self.run_shape is self.shape else replace(self.run_shape, i_n=i_n)", "", "a column of another batch"),
        ("- copies) + self.schedule.prepared", "- copies)", "the copies in the place of the plan's kernel"),
        ("limit // shape.itemsize - copied)", "limit // shape.itemsize)", "NCHW beyond its limit"),
        ("max(s.i_h * s.i_w, s.o_h * s.o_w)", "s.o_h * s.o_w", "BLAS's largest product, of all input pixels"),
        ("if self.n_threads == 1 or not forked():", "if True:", "a forked child waits for its parent's threads"),
        ("math.floor(Fraction", "math.ceil(Fraction", "half a byte counts as one"),
    ],
    "pymec/execution.py": [
        (
            "recipe.reading)\n    needed = recipe.scratch_nbytes(places.copies, planned=kept is not None)",
            "recipe.reading)\n    needed = recipe.scratch_nbytes(places.copies)",
            "a plan's calls need room for its kernel",
        ),
        ("        recipe = recipe.beside(places.copies, limit)\n", "", "a plan's blocks stay, whatever is copied"),
        ("if limit is not None and needed > limit:", "if False:", "copies beyond a plan's limit"),
        ("operands[1] if kept is None else kept.given", "operands[-1]", "out may lie in a plan's kernel"),
        ('            "bias": bias,\n', "", "a bias may lie in out"),
        ("if workspace.nbytes < needed:", "if workspace.nbytes <= needed:", "just enough is refused"),
        ("if not used.flags.aligned:", "if False:", "doubles at half addresses"),
        ("(bias is not None or relu)", "bias is not None", "ReLU without a bias is forgotten"),
        ("view, scratch = layouts", "view, _ = layouts", "NCHW's copies are overwritten"),
    ],
    "pymec/explaining.py": [
        (" + layouts.conversion_size(shape, layouts.Reading.PIXELS)", "", "im2col's ratio if NCHW"),
        ("nbytes > limit:", "nbytes >= limit:", "an algorithm that just fits is said not to"),
        ("limit, chosen.n_threads, wanted", "limit, 1, wanted", "bytes of one thread"),
    ],
    "pymec/kept_kernels.py": [
        ("None if take_over and is_own_copy", "None if is_own_copy", "a kernel is taken over unasked"),
        ("else:\n            np.copyto(kernel, self.kernel)", "", "a turned kernel is not read back"),
    ],
    "pymec/conv_plans.py": [
        ("return recipe.planned_nbytes if self._keeps_kernel else", "return", "a kernel counted twice"),
        ("self._limit - self.prepared_nbytes", "self._limit", "a limit without the kernel"),
        ("self._image_multiply_adds * i_n", "self._image_multiply_adds", "threads of one image"),
        ("planning.within_limit(batch, limit)", "batch", "another batch breaks the limit"),
        (", take_over=taken_over)", ")", "a copy holds its kernel twice"),
        ("shape, limit, threads, wanted, run_shape)", "shape, None, threads, wanted, run_shape)",
         "a copy forgets its limit"),
        (', solution="B")', ")", "Solution A writes over the L that is kept"),
    ],
    "pymec/saved_lowering.py": [
        (', "the saved lowering": self._lowered}', "}", "a gradient may be written over L"),
    ],
    "pymec/kernels/shared/guard.pyx": [
        ("        finally:\n            self.leave(self.member)", "        finally:\n            pass", "once"),
        ("            self.leave(self.member)\n            raise", "            raise", "entered by halves"),
    ],
    "pymec/threads.py": [
        ("min(int(n_threads), MAX_THREADS)", "int(n_threads)", "more threads than BLAS has buffers"),
        ("if self._members == {member}:", "if member in self._members:", "the first to leave restores"),
        ("_forked = several_threads_ran()", "_forked = False", "a forked child waits for its parent's threads"),
        ("self._before = self._before or _several_threaded()", "self._before = _several_threaded()",
         "a lowering that was cut short is noted as the rule"),
        ("max(1, int(quota))", "offered", "a container's quota is ignored"),
    ],
    "pymec/workspace.py": [
        ("-room.ctypes.data % CACHE_LINE", "0", "large outputs anywhere"),
    ],
    "pymec/kernels/mec/rows.py": [
        ("shape.output_size if shape.i_n > 1 else 0", "0", "no room for the repair"),
        ("shape.permuted_kernel_size + (0", "(0", "no room for K'"),
        ('if "band_columns" in options', 'if "band_column" in options', "bands of columns run as rows"),
    ],
    "pymec/kernels/mec/bands.py": [
        ("    room = min(room, shape.mec_size // slices)  # all slices together: no more than mec, if they can\n"
         "    room = min(room, shape.o_w", "    room = min(room, shape.o_w", "bands take more than all of L"),
        ("*(size for size in sizes if shape.band_size(size) <= room)", "*sizes", "even bands beyond the limit"),
        ("by_columns.size <= max(limit, by_rows.size)", "True", "bands of columns beyond the limit"),
        ("max(1, room // max(1, pixel * channels))", "max(1, room // pixel)", "tiles beyond the limit"),
    ],
    "pymec/kernels/im2col/rows.py": [
        ("pixels * shape.groups // slices, pixels,", "pixels,", "slices that together take more than im2col"),
        ("depth * (columns + slices * rows) > limit", "depth * (columns + rows) > limit",
         "implicit_gemm beyond its limit"),
    ],
    "pymec/kernels/direct/flat_rows.pyx": [
        ("zero(window + within.end * g.i_c", "zero(window + within.end", "what lies beyond the row is not zero"),
        ("c + 1 if c + 1 < channels else 0", "c + 1", "K is not repeated along the lanes"),
        ("taps.begins = taps.b.end == 0", "taps.begins = taps.a.first == 0",
         "later turns begin with the bias again"),
        ("if taps.ends and bias_relu.relu", "if bias_relu.relu", "ReLU of sums that are not complete"),
        ("copy_pixels(sums + tile.skip, g.k_c, O +", "copy_pixels(sums, g.k_c, O +",
         "later turns begin with the wrong lanes"),
        ("or g.image.pixel > g.i_c", "", "pixels of a slice taken for adjacent"),
        ("* pixels + b * g.d_w / g.s_w", "* pixels + b * g.d_w", "with a stride a tap's window begins elsewhere"),
    ],
    "pymec/kernels/direct/depthwise_windows.pyx": [
        ("            zero(W, tiles.window)\n", "", "on padding a window has what was there before"),
        ("weights_of_row += tiles.down.period * k.row", "weights_of_row += k.row", "K's rows in turn"),
        ("here += pitch - x", "here += pitch", "later rows begin too far on"),
        ("(k - 1) // (s // gcd(s, d))", "(k - 1)", "windows as large as without a stride"),
        ("i * of_step]", "i]", "pixels of other channels"),
        ("bias[m] if", "bias[channel] if", "one bias for all kernels of a channel"),
    ],
    "pymec/kernels/direct/rows.py": [
        ("many_taps and register_nbytes() < CACHE_LINE", "many_taps", "windows where registers are lines"),
        ("WINDOW_SHARE_OF_LARGE if large else WINDOW_SHARE", "WINDOW_SHARE", "windows of many taps, too"),
        ("thread_slices(smm.n_tasks(shape), n_threads", "thread_slices(n_threads, n_threads", "too many planes"),
        ("planes * -(-shape.o_h // rows)", "planes", "a plane has one thread"),
        ("room = min(room, limit // slices)", "room = min(room, limit)", "a limit for each thread"),
    ],
    "pymec/kernels/small_products/pointwise_planes.pyx": [
        ("    m0 += group * g.k_cg\n", "", "the first group's kernels for all"),
        ("0 if O[i] + bias < 0", "0 if O[i] < 0", "ReLU before the bias"),
        (" and not padded", "", "pixels beside the image"),
    ],
    "pymec/kernels/shared/interrupts.pyx": [
        ("and active == 1 and", "and", "other threads' results are cut short, too"),
        ("        active = max(0, active - 1)\n", "", "no call is ever the only one again"),
        ("            store(stopping, False)\n            error", "            error",
         "every later call is cut short"),
        ("            if error is not None:\n                raise error", "",
         "a result that was cut short is returned"),
        ("    return run_handlers()", "    return False", "handlers wait for the call to end"),
    ],
    "pymec/kernels/winograd/rows.py": [
        ("limit - U - line)", "limit - U)", "bands a cache line beyond the limit"),
    ],
    "pymec/kernels/small_products/rows.py": [
        ("0 if shape.is_pointwise else n_planes", "n_planes", "a plane for a 1×1 kernel, too"),
        ("* shape.groups % n_threads", "% n_threads", "groups are no work for threads"),
    ],
    "pymec/memory/processes.py": [
        ("if usable and not self._ended:", "if not self._ended:",
         "what an interrupted measurement answers is taken for the next one's answer"),
        ("os.killpg(self._popen.pid, signal.SIGKILL)", "self._popen.kill()",
         "a measurement that is called off goes on"),
        ("if not done or record is None:", "if record is None:", "part of a record stays"),
        ('{**plain_environment(), "PYTHONMALLOC": "malloc"}', "plain_environment()",
         "Python's heap grows during a measurement"),
    ],
    "pymec/memory/timeline.py": [
        ("self._release(part.event, gone_to - gone_from)", "self._release(part.event, end - start)",
         "more unmapped than was"),
        ("self.peak_event + 1", "self.peak_event", "the peak without what made it"),
        ("max(self.released[i], i + 1)", "i + 1", "a call's peak before its kernel ran"),
        ("key = record.stack_id, record.native_stack_id", "key = record.stack_id, 0",
         "BLAS's and NumPy's blocks of a line are one owner's"),
    ],
    "pymec/memory/owners.py": [
        ("        if is_users(file):", "        if True:", "lines of packages"),
        ('    ("pocketfft", "fft"),\n', "", "a transform's own memory"),
    ],
    "pymec/memory/tracking.py": [
        ("        self.record = self._path\n", "        pass\n", "a track without its record"),
        ("            self._path.unlink(missing_ok=True)\n", "            pass\n",
         "a record that is not the block's"),
    ],
    "pymec/memory/scripts.py": [
        ("        sys.argv, sys.path[:], sys.modules[\"__main__\"] = before[0], before[1], before[2]\n",
         "        pass\n", "a script's arguments stay"),
    ],
    "pymec/memory/start.py": [
        ("            os.kill(pid, signal.SIGKILL)\n", "", "a fork lives longer than the caller"),
        ("        shutil.rmtree(folder, ignore_errors=True)", "        pass", "a killed caller leaves a folder"),
    ],
}  # fmt: skip
"""For each file the faults: a text that occurs once in it, what takes its place, and what that breaks."""
