"""The traffic of im2col and of MEC: what is lowered, and how it is multiplied."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from pymec.kernels.im2col.rows import TILE
from pymec.kernels.mec import paper
from pymec.kernels.shared.blocking import GemmBlocking
from pymec.shapes import ConvShape

from .amounts import Stage, Traffic
from .products import Product, blocked, gemm, inside, kernel_loads, parts, repeated, shares, taps_inside

# im2col -------------------------------------------------------------------------------------------------


def im2col(shape: ConvShape, n_threads: int) -> Traffic:
    """A row of L for each pixel; each thread multiplies some rows, or some output channels if these are more."""
    s = shape
    pixels, patch = s.i_n * s.o_h * s.o_w, s.k_h * s.k_w * s.i_cg
    by_rows = pixels >= s.k_cg
    found: Counter[Product] = Counter()
    for share in filter(None, shares(pixels if by_rows else s.k_cg, n_threads)):
        m, n = (share, s.k_cg) if by_rows else (pixels, share)
        found += repeated(gemm(m, n, patch), s.groups)
    loaded = sum(count * p.k * p.n for p, count in found.items())
    if s.is_pointwise:
        return Traffic(s, found, loaded=loaded)
    size = s.im2col_size
    return Traffic(s, found, lowering=_patches(s), scratch=size, piece=size, loaded=loaded)


def _patches(shape: ConvShape) -> Stage:
    """All patches: their taps on the image are read, and all taps are written."""
    rows, columns = taps_inside(shape)
    return Stage(shape.i_n * sum(rows) * sum(columns) * shape.i_c, shape.im2col_size)


def im2col_per_image(shape: ConvShape, n_threads: int) -> Traffic:
    """The same for one image after another."""
    return each_image(shape, im2col(shape.single_image(), n_threads))


def each_image(shape: ConvShape, one: Traffic) -> Traffic:
    """The traffic of one image, so many times."""
    n = shape.i_n
    return replace(
        one,
        shape=shape,
        products=repeated(one.products, n),
        lowering=Stage(*(n * count for count in one.lowering)),
        after=Stage(*(n * count for count in one.after)),
        scratch=n * one.scratch,
        returns=n * one.returns,
        loaded=n * one.loaded,
    )


def im2col_blocked(shape: ConvShape, n_threads: int, block: int, slices: int, blocking: GemmBlocking) -> Traffic:
    """Some rows of L at a time, which all output channels meet before the next ones take their place."""
    s = shape
    patch = s.k_h * s.k_w * s.i_cg
    found: Counter[Product] = Counter()
    for pixels, count in Counter(parts(s.i_n * s.o_h * s.o_w, block)).items():
        for channels in parts(s.k_cg, blocking.channels):
            found += repeated(blocked(blocking, pixels, channels, patch), s.groups * count)
    return Traffic(
        s,
        found,
        lowering=_patches(s),
        scratch=s.im2col_size,
        piece=block * patch,
        loaded=kernel_loads(s, blocking.reduction, blocking.channels, -(-s.i_n * s.o_h * s.o_w // block)),
        blas=not blocking.registers,
    )


def implicit_gemm(shape: ConvShape, n_threads: int, rows: int, depth: int, columns: int, slices: int) -> Traffic:
    """Blocks of K and of im2col's matrix are packed, for each block of output channels all of the latter."""
    s = shape
    pixels, patch, width = s.i_n * s.o_h * s.o_w, s.k_h * s.k_w * s.i_cg, min(columns, TILE[1])
    blocks = parts(s.k_cg, columns)
    one = _patches(s)
    packed_kernel = s.groups * patch * sum(-(-block // width) * width for block in blocks)
    found: Counter[Product] = Counter()
    for n in blocks:
        for i, k in enumerate(parts(patch, depth)):
            heights = Counter(m for share in shares(pixels, slices) for m in parts(share, rows))
            found += Counter({Product(m, n, k, i > 0): s.groups * count for m, count in heights.items()})
    lowering = Stage(len(blocks) * one.read + s.kernel_size, len(blocks) * one.written + packed_kernel)
    piece = depth * (columns + rows)
    return Traffic(
        s, found, lowering=lowering, scratch=lowering.written, piece=piece, loaded=s.kernel_size, blas=False
    )


# MEC ----------------------------------------------------------------------------------------------------


def mec_b(shape: ConvShape, n_threads: int) -> Traffic:
    """Algorithm 2 with Solution B: a strip for each column, then o_w × k_h·k_w·i_c × k_c for each output row."""
    s = shape
    products = repeated(gemm(s.o_w, s.k_c, s.k_h * s.k_w * s.i_c), s.i_n * s.o_h)
    lowering = Stage(s.i_n * s.i_h * sum(taps_inside(s)[1]) * s.i_c, s.paper_mec_size)
    size = s.paper_mec_size
    return Traffic(s, products, lowering=lowering, scratch=size, piece=size, loaded=s.i_n * s.o_h * s.kernel_size)


def mec_a(shape: ConvShape, n_threads: int) -> Traffic:
    """Solution A: products as tall as all images; then O is copied to L, and back in n-h-w-c."""
    s, b = shape, mec_b(shape, n_threads)
    products = repeated(gemm(s.i_n * s.o_w, s.k_c, s.k_h * s.k_w * s.i_c), s.o_h)
    found = replace(b, products=products, loaded=s.o_h * s.kernel_size)
    return _repaired(found) if s.i_n > 1 else found


def _repaired(before: Traffic) -> Traffic:
    """With the repair of lines 14 to 19."""
    size = before.shape.output_size
    after = Stage(before.after.read + 2 * size, before.after.written + 2 * size)
    return replace(before, after=after, scratch=before.scratch + size, returns=2 * size)


def mec_vanilla(shape: ConvShape, n_threads: int) -> Traffic:
    """Algorithm 1, image after image through the same L."""
    return each_image(shape, mec_b(shape.single_image(), n_threads))


def mec_paper(shape: ConvShape, n_threads: int) -> Traffic:
    """Algorithm 2 whole."""
    return (mec_a if paper.choose_solution(shape) == "A" else mec_b)(shape, n_threads)


def mec(shape: ConvShape, n_threads: int, solution: str, blocking: GemmBlocking) -> Traffic:
    """Tuned MEC: rows of padding are not stored, products are cut into blocks."""
    s = shape
    if s.is_pointwise:
        row = s.rows_as_images()
        products, loaded = _row_products(row, row.o_w, row.i_n, blocking), _row_loads(row, row.i_n, blocking)
        return Traffic(s, products, loaded=loaded, blas=not blocking.registers)
    images = 1 if solution == "A" else s.i_n
    products = _row_products(s, s.i_n * s.o_w // images, images, blocking)
    lowering = Stage(s.i_n * s.lowered_rows() * sum(taps_inside(s)[1]) * s.i_c, s.mec_size)
    found = Traffic(
        s,
        products,
        lowering=lowering,
        after=Stage(0, _on_padding(s, blocking)),
        scratch=s.mec_size,
        piece=s.mec_size,
        loaded=_row_loads(s, images, blocking),
        blas=not blocking.registers,
    )
    return _repaired(found) if solution == "A" and s.i_n > 1 else found


def _row_products(shape: ConvShape, pixels: int, images: int, blocking: GemmBlocking) -> Counter[Product]:
    """For each output row, with the rows of K that lie on the image, its blocks of channels and the reduction."""
    s, kernel_row = shape, shape.k_w * shape.i_cg
    reductions: Counter[tuple[int, bool]] = Counter()  # and whether they add to an earlier one of the same row
    for y in range(s.o_h):
        above = sum(y * s.s_h - s.p_t + a * s.d_h < 0 for a in range(s.k_h))
        on_image = inside(y * s.s_h - s.p_t, s.d_h, s.i_h, s.k_h)
        begin, end = above * kernel_row, (above + on_image) * kernel_row
        for q in range(0, s.k_h * kernel_row, blocking.reduction):
            first, past = max(q, begin), min(q + blocking.reduction, end)
            if first < past:
                reductions[past - first, first > begin] += 1
    found: Counter[Product] = Counter()
    for (k, adds), count in reductions.items():
        for n in parts(s.k_cg, blocking.channels):
            found += repeated(blocked(blocking, pixels, n, k, adds), s.groups * images * count)
    return found


def _row_loads(shape: ConvShape, images: int, blocking: GemmBlocking, band_rows: int | None = None) -> int:
    """Elements of K: all its blocks return with every few output rows of a band, or of the image."""
    bands = parts(shape.o_h, band_rows or shape.o_h)
    row_blocks = sum(-(-rows // blocking.output_rows) for rows in bands)
    return kernel_loads(shape, blocking.reduction, blocking.channels, images * row_blocks)


def _on_padding(shape: ConvShape, blocking: GemmBlocking) -> int:
    """Zeros for output rows whose products all lie on padding, written at every block of the reduction."""
    s = shape
    blocks = -(-s.k_h * s.k_w * s.i_cg // blocking.reduction)
    return taps_inside(s)[0].count(0) * blocks * s.i_n * s.o_w * s.k_c


def mec_banded(shape: ConvShape, n_threads: int, band_rows: int, slices: int, blocking: GemmBlocking) -> Traffic:
    """Tuned MEC in bands: the same products, but rows that two bands read are lowered for each."""
    s = shape
    lines = sum(s.lowered_rows(y, min(band_rows, s.o_h - y)) for y in range(0, s.o_h, band_rows))
    read, written = (s.i_n * lines * columns * s.i_c for columns in (sum(taps_inside(s)[1]), s.o_w * s.k_w))
    return Traffic(
        s,
        _row_products(s, s.o_w, s.i_n, blocking),
        lowering=Stage(read, written),
        after=Stage(0, _on_padding(s, blocking)),
        scratch=written,
        piece=s.band_size(band_rows),
        loaded=_row_loads(s, s.i_n, blocking, band_rows),
        blas=not blocking.registers,
    )
