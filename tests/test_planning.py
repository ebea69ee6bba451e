"""Choosing, limiting, explaining, keeping: arithmetic on shapes."""

import copy
from functools import partial

import numpy as np
import pytest
from cases import CASES, PAPER, able, operands, suited_layer

import pymec
from pymec import ConvShape, _build_info, layouts, planning, recipes, reference, registry
from pymec.kernels.register_tiles.schedule import fast_tiles
from pymec.operations import OPERATIONS

X, K = (2, 20, 21, 6), (3, 3, 6, 8)


@pytest.mark.parametrize(
    ("text", "nbytes"),
    [
        ("64MiB", 64 * 2**20), ("64 mib", 64 * 2**20), ("1GiB", 2**30), ("10KB", 10_000), ("2MB", 2_000_000),
        ("1.5KiB", 1536), ("9007199254740995", 9007199254740995),
        ("7", 7), ("7B", 7), ("3G", 3 * 10**9), (0, 0), (np.int64(5), 5), (None, None),
    ],
)  # fmt: skip
def test_parse_bytes(text, nbytes):
    assert recipes.parse_bytes("limit", text) == nbytes


@pytest.mark.parametrize("text", ["", "\u0661", "9" * 400, "MiB", "1 2", "-3", "1TiB!", "1e3", True, 2.0, [1]])
def test_parse_bytes_refuses(text):
    with pytest.raises(ValueError, match="limit must be a whole number of bytes"):
        recipes.parse_bytes("limit", text)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.motive)
@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
def test_auto_keeps_every_limit_or_says_what_is_missing(case, layout):
    x, kernel = case.x, case.kernel
    if layout == "NCHW":
        x, kernel = (x[0], x[3], x[1], x[2]), (kernel[3], kernel[2], kernel[0], kernel[1])
    for n_threads in (1, 2, 5):
        plan_within = partial(pymec.plan, x, kernel, layout=layout, n_threads=n_threads, **case.options)
        free = plan_within().workspace_nbytes
        for limit in {0, 4, free // 7, free // 2, max(free - 1, 0), free, free + 5}:
            try:
                plan = plan_within(workspace_limit=limit)
            except ValueError as error:
                assert layout == "NCHW"
                assert "pass NHWC arrays" in str(error)
            else:
                assert plan.workspace_nbytes <= limit


@pytest.mark.parametrize("algorithm", ["im2col_blocked", "mec_banded"])
@pytest.mark.parametrize("n_threads", [1, 2, 7])
def test_bounded_algorithms_use_what_they_are_given(algorithm, n_threads):
    """A larger limit never gives a smaller workspace, and a generous limit fills every thread's share."""
    sizes = []
    for limit in range(0, 400_000, 7_919):
        try:
            sizes.append(
                pymec.workspace_size(X, K, algorithm=algorithm, workspace_limit=limit, n_threads=n_threads)
            )
        except ValueError:
            assert not sizes
        else:
            assert sizes[-1] <= limit
    assert sizes
    assert sizes == sorted(sizes)
    assert sizes[-1] > 3 * sizes[0]


def test_formulas_by_hand():
    """The formula column, evaluated for one shape with everything in it."""
    options = {"stride": (2, 3), "padding": (1, 2), "dilation": (1, 2), "groups": 2, "dtype": "float64"}
    x, kernel = (3, 15, 14, 4), (3, 2, 2, 6)
    # o_h = (15 + 2 - 3)//2 + 1 = 8, o_w = (14 + 4 - 3)//3 + 1 = 6, rows read: -1..15 clipped to 0..14 = 15
    expected = {
        "direct": 0,
        "im2col": 3 * 8 * 6 * 3 * 2 * 4,
        "im2col_per_image": 8 * 6 * 3 * 2 * 4,
        "mec": 3 * 6 * 15 * 2 * 4,
        # columns read: 3x - 2 and 3x for x < 6, those inside the image: 10 of 14; and K once more
        "mec_w": 3 * 8 * 10 * 3 * 4 + 3 * 2 * 2 * 6,
        "im2win": 3 * 8 * 10 * 3 * 4 + 3 * 2 * 2 * 6,
    }
    for algorithm, elements in expected.items():
        assert pymec.workspace_size(x, kernel, algorithm=algorithm, **options) == 8 * elements, algorithm
    # a band of one output row: 3 image rows of one group; a block of one pixel: its patch in one group
    assert pymec.workspace_size(
        x, kernel, algorithm="mec_banded", workspace_limit=8 * 6 * 3 * 2 * 2, **options
    ) == (8 * 6 * 3 * 2 * 2)
    assert pymec.workspace_size(x, kernel, algorithm="im2col_blocked", workspace_limit=8 * 12, **options) == 8 * 12


def test_solution_a_holds_the_output_as_well():
    """|O| > |L| and several images: outside the paper's condition the repair needs room for O."""
    x, kernel = (3, 6, 5, 1), (3, 3, 1, 64)
    assert pymec.workspace_size(x, kernel, algorithm="mec_a") == 4 * 3 * 4 * 3 * 64
    assert pymec.workspace_size((1, *x[1:]), kernel, algorithm="mec_a") == 4 * 3 * 6 * 3


@pytest.mark.parametrize(
    "algorithm",
    # Some algorithms don't lower: they need pointers, slack rows, a packed K or turned arrays for any kernel.
    sorted(
        set(able((2, 5, 5, 8), (1, 1, 8, 4), "exact"))
        - {"indirect", "yaconv", "direct_panels", "pointwise_planes"}
    ),
)
def test_pointwise_needs_nothing_unless_it_is_bounded(algorithm):
    nbytes = pymec.workspace_size((2, 5, 5, 8), (1, 1, 8, 4), algorithm=algorithm)
    if algorithm in ("mec_vanilla", "mec_a", "mec_b", "mec_paper"):  # they lower for 1×1, too
        assert nbytes == (1 if algorithm == "mec_vanilla" else 2) * 5 * 5 * 8 * 4
        return
    assert (nbytes == 0) == (registry.ALGORITHMS[algorithm].order != "bounded")


def test_explain_is_a_table():
    table = pymec.explain(X, K, padding=1, n_threads=2)
    assert [row.algorithm for row in table] == list(pymec.algorithms())
    assert len(table) == len(pymec.algorithms())
    by_name = {row.algorithm: row for row in table}
    assert by_name["im2col"].ratio_to_im2col == 1
    assert by_name["direct"].workspace_nbytes == 0
    assert all(row.multiply_adds == 2 * 20 * 21 * 8 * 3 * 3 * 6 for row in table)
    text, whole = str(table), table.table(formulas=True, unsupported=True)
    for name in pymec.algorithms():
        row = by_name[name]
        assert f" {name} " in whole
        assert (f" {name} " in text) == row.supported
        assert (row.formula if row.supported else row.reason) in whole
    assert f"{by_name['mec'].workspace_nbytes:,}" in text
    assert by_name["im2col"].formula not in text
    unsupported = sum(not row.supported for row in table)
    assert f"\n{unsupported} more can't do this (--all, or table(unsupported=True), shows why).\n" in text
    assert max(map(len, text.splitlines())) <= 80
    part = table._repr_html_()
    assert f"<td>{by_name['mec'].workspace_nbytes:,}</td>" in part
    assert part.count("<tr>") == 1 + len(table) - unsupported
    assert table.planned == pymec.plan(X, K, padding=1, n_threads=2).algorithm


def test_explain_says_why_not():
    table = pymec.explain(X, K, workspace_limit=100)
    by_name = {row.algorithm: row for row in table}
    assert not by_name["im2col"].supported
    assert "more than the limit" in by_name["im2col"].reason
    assert by_name["direct"].supported
    assert "needs" not in str(table)
    assert "more can't do this within the limit (--all" in str(table)
    assert f"  {by_name['im2col'].reason}" in table.table(unsupported=True)
    huge = pymec.explain((1, 100_000, 100_000, 3), (3, 3, 3, 8))
    assert "BLAS's integer" in {row.algorithm: row for row in huge}["im2col"].reason


@pytest.mark.parametrize("algorithm", ["auto", *pymec.algorithms()])
@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
def test_a_plan_is_conv2d_checked_once(algorithm, layout):
    shape = suited_layer("mec" if algorithm == "auto" else algorithm, (3, 13, 17, 17), 11, padding=(1, 3))
    x, kernel = operands(shape)
    if layout == "NCHW":
        x, kernel = x.transpose(0, 3, 1, 2).copy(), kernel.transpose(3, 2, 0, 1).copy()
    options = {**shape.arguments, "layout": layout, "algorithm": algorithm, "n_threads": 2}
    plan = pymec.plan(x.shape, kernel.shape, **options)
    options["algorithm"] = plan.algorithm  # a call by "auto", which prepares nothing, may take another one
    expected = pymec.conv2d(x, kernel, **options)
    assert plan.prepare(kernel) is plan
    np.testing.assert_array_equal(plan(x), expected)
    out, workspace = np.empty_like(expected), np.empty(plan.workspace_nbytes, np.uint8)
    assert plan(x, out=out, workspace=workspace) is out
    np.testing.assert_array_equal(out, expected)
    row = registry.get(plan.algorithm)
    turned = layouts.conversion_size(plan.shape, row.reading(shape), ("kernel",)) > 0
    turned_or_prepared = turned or row.prepare is not None
    assert (plan.prepared_nbytes > 0) == turned_or_prepared
    bias = np.ones(shape.k_c, np.float32)
    axis = (slice(None),) + (None,) * 2 if layout == "NCHW" else ()
    np.testing.assert_array_equal(plan(x, bias), pymec.conv2d(x, kernel, bias, **options))
    np.testing.assert_allclose(
        plan(x, bias), expected + bias[axis] if axis else expected + bias, rtol=1e-5, atol=1e-5
    )
    np.testing.assert_array_equal(
        plan(x, bias, activation="relu"), pymec.conv2d(x, kernel, bias, activation="relu", **options)
    )


def test_a_plan_refuses_what_it_was_not_made_for():
    plan = pymec.plan((1, 6, 6, 3), (3, 3, 3, 4))
    x = np.ones((1, 6, 6, 3), np.float32)
    with pytest.raises(ValueError, match="call plan.prepare"):
        plan(x)
    with pytest.raises(ValueError, match=r"kernel must have shape \(3, 3, 3, 4\)"):
        plan.prepare(np.ones((3, 3, 3, 5), np.float32))
    plan.prepare(np.ones((3, 3, 3, 4), np.float32))
    with pytest.raises(ValueError, match=r"x must have shape \(2, 6, 6, 3\)"):
        plan(np.ones((2, 6, 7, 3), np.float32))
    with pytest.raises(TypeError, match="x is float64, but the plan was made for float32"):
        plan(x.astype(np.float64))
    assert "mec" in repr(plan) or "direct" in repr(plan)


@pytest.mark.parametrize("name", pymec.layers.PAPER)
@pytest.mark.parametrize("n_threads", [1, 2, 16, 64])
def test_auto_never_takes_more_than_mec(name, n_threads):
    """With many threads the slices of mec_banded add up, and "auto" must not prefer it then."""
    shape = pymec.layers.get(name).shape()
    options = {"stride": (shape.s_h, shape.s_w), "n_threads": n_threads}
    auto = pymec.workspace_size(shape.input_shape, shape.kernel_shape, algorithm="auto", **options)
    assert auto <= shape.mec_size * shape.itemsize


def test_large_limits_do_not_lead_past_blas():
    """Tiles grow with the limit, but row counts and leading dimensions never exceed BLAS's integer."""
    from pymec.kernels.shared.blas import BLAS_INT_MAX

    tall = ConvShape.from_shapes((1, 2**20, 2, 2**11), (3, 1, 2**11, 1))
    rows = planning.recipe(tall, "mec_banded", "exact", 2**40, 1).schedule.options["band_rows"]
    assert tall.band_rows_kept(rows) * tall.k_w * tall.i_cg <= BLAS_INT_MAX
    wide = ConvShape.from_shapes((1, 2**16, 2**16, 1), (2, 2, 1, 1), padding="same")
    assert planning.recipe(wide, "im2col_blocked", "exact", 2**42, 1).schedule.options["block"] <= BLAS_INT_MAX


def test_tune_takes_one_that_fits():
    with pytest.raises(ValueError, match="algorithm must be 'auto'"):
        pymec.plan((1, 16, 16, 8), (3, 3, 8, 8), tune=True, algorithm="mec")
    plan = pymec.plan((1, 16, 16, 8), (3, 3, 8, 8), tune=True, workspace_limit=5000)
    assert plan.algorithm in pymec.algorithms()
    assert plan.workspace_nbytes <= 5000
    plan = pymec.plan((1, 8, 16, 16), (8, 8, 3, 3), tune=True, layout="NCHW")
    assert plan.algorithm in pymec.algorithms()


def test_algorithms_are_the_issue_of_the_table():
    assert pymec.algorithms() == tuple(registry.ALGORITHMS)
    for name, row in registry.ALGORITHMS.items():
        assert row.name == name
        assert row.idea
        assert row.source
        assert row.formula


def test_layers():
    assert pymec.layers.get("cv4").k_h == 7
    with pytest.raises(
        ValueError, match=r"no layer is named 'cv13'; there are cv1 to cv12 and the layers of vgg16"
    ):
        pymec.layers.get("cv13")
    assert set(pymec.layers.PAPER) <= set(pymec.layers.names())


@pytest.mark.parametrize("case", [*CASES, *PAPER], ids=lambda case: case.motive)
def test_bounded_algorithms_take_no_more_than_their_unbounded_twins(case):
    def nbytes(algorithm, **options):
        return pymec.workspace_size(case.x, case.kernel, algorithm=algorithm, **options, **case.options)

    shape = case.shape()
    for n_threads in (1, 2, 3, 8) if not shape.is_pointwise and shape.i_n else ():
        assert nbytes("im2col_blocked", n_threads=n_threads) <= nbytes("im2col")
        # one row per thread may take more than all of L, if the image has few rows
        one_row_each = n_threads * shape.band_size(1) * shape.itemsize
        assert nbytes("mec_banded", n_threads=n_threads) <= max(nbytes("mec"), one_row_each)


@pytest.fixture(params=[True, False], ids=["registers", "no registers"])
def registers(request, monkeypatch):
    """Pretend that this CPU has, or has not, registers for tiles of sums."""

    def fast_tiles(shape, in_panels=False):
        return request.param and (in_panels or shape.k_cg >= 16)

    monkeypatch.setattr(pymec.auto_rules, "fast_tiles", fast_tiles)
    schedule = pymec.kernels.register_tiles.schedule
    monkeypatch.setattr(schedule, "fast_tiles", fast_tiles)
    monkeypatch.setattr(schedule, "register_nbytes", lambda: 32)
    for module in (schedule, pymec.auto_rules):
        monkeypatch.setattr(module, "blas_multiplies_small_products_unpacked", lambda: True)
    pymec.planning.cached_recipe.cache_clear()
    yield request.param
    pymec.planning.cached_recipe.cache_clear()


@pytest.mark.parametrize(
    ("x", "kernel", "planned"),
    [
        ((1, 199, 199, 16), (3, 3, 16, 12), "direct_panels"),  # short sums, too
        ((1, 199, 199, 15), (3, 3, 15, 5), "direct_panels"),  # up to three quarters of zeros
        ((1, 199, 199, 15), (3, 3, 15, 4), "mec_banded"),
        ((1, 199, 199, 16), (3, 3, 16, 4), "direct_dots"),  # of 16 input channels or more
        ((1, 1, 20000, 15), (1, 9, 15, 4), "direct_panels"),  # a row of taps, however many zeros
        ((1, 100, 100, 15), (1, 9, 15, 4), "direct_panels"),
        ((1, 20000, 1, 15), (9, 1, 15, 4), "direct_panels"),
        ((1, 20000, 1, 16), (9, 1, 16, 4), "direct_dots"),
        ((1, 100, 100, 64), (1, 1, 64, 12), "direct_panels"),
        ((1, 100, 100, 64), (1, 1, 64, 8), "im2col"),  # one product, whatever the BLAS
    ],
)
@pytest.mark.parametrize("registers", [True], indirect=True)
def test_auto_beside_a_blas_that_packs_every_product(x, kernel, planned, registers, monkeypatch):
    for module in (pymec.kernels.register_tiles.schedule, pymec.auto_rules):
        monkeypatch.setattr(module, "blas_multiplies_small_products_unpacked", lambda: False)
    assert pymec.plan(x, kernel).algorithm == planned


@pytest.mark.parametrize(
    ("x", "kernel", "by_tiles", "by_blas"),
    [
        ((1, 227, 227, 3), (7, 7, 3, 128), "direct_blocked", "mec_banded"),  # a lowered matrix worth saving
        ((1, 227, 227, 3), (11, 11, 3, 96), "direct_blocked", "mec_column_split"),  # bands lower rows 2.25 times
        ((1, 230, 244, 5), (31, 31, 5, 2), None, "mec"),  # and so would tiles of columns
        ((1, 7, 7, 512), (3, 3, 512, 512), "direct_blocked", "mec"),  # a small lowered matrix
        ((1, 500, 500, 64), (1, 1, 64, 64), "direct_panels", "pointwise"),  # no lowered matrix, a small K to pack
        ((1, 32, 31, 64), (1, 1, 64, 64), "direct_blocked", "pointwise"),  # too few pixels to pack K for
        ((8, 7, 7, 512), (3, 3, 512, 512), "direct_blocked", "mec"),  # narrow outputs, many images: Solution A
        ((32, 7, 7, 512), (3, 3, 512, 512), "direct_packed", "mec"),  # a large K, met by many pixels
        ((1, 28, 28, 64), (1, 1, 64, 1024), "direct_packed", "pointwise"),  # rows of K are pages
        ((1, 7, 6, 64), (1, 1, 64, 1024), "direct_blocked", "pointwise"),  # met by too few pixels
        ((32, 28, 28, 128), (3, 3, 128, 128), "direct_blocked", "mec_banded"),
        ((1, 1080, 1920, 16), (3, 3, 16, 16), "direct_panels", "mec_column_split"),  # a row too wide for the cache
        ((1, 199, 199, 18), (3, 3, 18, 12), "direct_panels", "mec_banded"),  # panels padded with zeros
        ((1, 199, 199, 16), (3, 3, 16, 12), None, "mec_banded"),  # sums too short for padded panels
        ((1, 199, 199, 18), (3, 3, 18, 8), None, "mec_banded"),  # too many zeros in padded panels
        ((1, 199, 199, 18), (3, 3, 18, 4), "direct_dots", "mec_banded"),  # few filters of many channels
        ((1, 199, 199, 64), (3, 3, 64, 8), "direct_dots", "mec_column_split"),  # and up to 8 of long sums
        ((1, 2**22, 8, 512), (3, 3, 512, 8), "direct_dots", "mec_banded"),  # mec's lda is past BLAS's integer
        ((1, 8, 8, 2**29), (3, 3, 2**29, 8), "direct_dots", "direct"),  # every reduction is past it
        ((1, 100, 100, 15), (1, 9, 15, 4), None, "filter_row_gemm"),  # a row of taps: nothing to lower
        ((1, 100, 100, 3), (1, 1, 3, 4), None, "pointwise"),
        ((1, 100, 100, 15), (9, 1, 15, 4), None, "mec"),  # L is the image, column by column
    ],
)
def test_auto_follows_its_written_rule(x, kernel, by_tiles, by_blas, registers):
    tiles = registers and by_tiles is not None
    assert pymec.explain(x, kernel).chosen == (by_tiles if tiles else by_blas)
    by_plan = (
        "direct_panels" if by_tiles in ("direct_blocked", "direct_packed") else by_tiles
    )  # which packs K for them
    planned = by_plan if tiles else by_blas
    assert pymec.plan(x, kernel).algorithm == pymec.explain(x, kernel).planned == planned
    said = f"\n  for a plan, which keeps the kernel: {planned}"
    assert (said in str(pymec.explain(x, kernel))) == (planned != pymec.explain(x, kernel).chosen)
    nothing = {(1, 1): "pointwise", (1, 9): "filter_row_gemm"}.get(kernel[:2], "direct")
    in_place = tiles and kernel[3] >= 16  # panels padded with zeros need room
    assert pymec.plan(x, kernel, workspace_limit=0).algorithm == ("direct_blocked" if in_place else nothing)


@pytest.mark.parametrize(
    ("k", "channels", "by_tiles", "by_blas"),
    [
        (3, (64, 1), "direct_dots", "mec_banded"),
        (3, (64, 8), "direct_dots", "mec_banded"),  # half of a line of output channels
        (3, (64, 16), "direct_panels", "mec_banded"),  # a whole one
        (1, (64, 2), "direct_dots", "pointwise"),
        (1, (64, 3), "pointwise", "pointwise"),  # sums too short for that many
        (1, (16, 1), "pointwise", "pointwise"),  # and for a single one
        (3, (8, 1), "mec", "mec"),  # too few input channels for a register
    ],
)
def test_long_sums_of_few_filters_are_dot_products(k, channels, by_tiles, by_blas, registers):
    x, kernel = (1, 56, 56, channels[0]), (k, k, *channels)
    chosen = by_tiles if registers else by_blas
    assert pymec.explain(x, kernel).chosen == pymec.plan(x, kernel).algorithm == chosen
    without_room = "direct_blocked" if registers and channels[1] == 16 else "direct"  # nor for a transposed kernel
    assert pymec.explain(x, kernel, workspace_limit=0).chosen == ("pointwise" if k == 1 else without_room)


@pytest.mark.parametrize("registers", [True], indirect=True)
def test_long_registers_need_longer_sums(registers, monkeypatch):
    """More lanes are added up at the end of each."""

    def chosen(channels, filters, k=3):
        pymec.planning.cached_recipe.cache_clear()
        return pymec.explain((1, 56, 56, channels), (k, k, channels, filters)).chosen

    assert (chosen(64, 8), chosen(64, 5), chosen(16, 2)) == ("direct_dots",) * 3
    monkeypatch.setattr(pymec.kernels.register_tiles.schedule, "register_nbytes", lambda: 64)
    assert (chosen(64, 5), chosen(16, 1), chosen(128, 8)) == ("direct_dots",) * 3
    assert "direct_dots" not in (chosen(64, 8), chosen(16, 2), chosen(64, 1, k=1))


@pytest.mark.parametrize(
    ("x", "kernel", "options", "by_tiles", "by_blas"),
    [
        ((1, 56, 56, 3), (3, 3, 3, 64), {}, "direct_dots", "mec"),
        ((1, 224, 224, 3), (7, 7, 3, 64), {"stride": 2, "padding": 3}, "direct_dots", "mec"),
        # Four taps a phase are short sums.
        ((1, 64, 64, 1), (4, 4, 1, 32), {"stride": 2, "padding": 1}, "mec", "mec"),
        ((1, 64, 64, 3), (4, 4, 3, 64), {"stride": 4}, "im2col", "im2col"),  # windows that don't overlap
        ((1, 64, 64, 5), (1, 1, 5, 7), {}, "im2col", "im2col"),
        ((1, 64, 64, 5), (1, 1, 5, 7), {"stride": 2}, "pixel_gemm", "pixel_gemm"),
        ((1, 56, 56, 64), (3, 3, 64, 64), {}, "direct_conv", "mec"),
        ((1, 4, 4, 64), (3, 3, 64, 64), {}, "direct_dots", "mec"),  # four outputs: K is not worth packing
        ((2, 4, 4, 64), (3, 3, 64, 64), {}, "direct_packed", "mec"),
        ((1, 64, 64, 7), (3, 3, 1, 7), {"groups": 7, "stride": 2}, "mec", "mec"),  # channels fill no vector
        ((1, 30, 30, 64), (31, 31, 1, 64), {"groups": 64, "padding": 15}, "direct_grouped", "direct_grouped"),
        ((1, 30, 30, 64), (5, 5, 1, 64), {"groups": 64, "padding": 2}, "direct_conv", "direct_conv"),
    ],
)
def test_channels_decide_how_auto_computes_the_inputs_gradient(
    x, kernel, options, by_tiles, by_blas, registers, monkeypatch
):
    def chosen(**limit):
        return pymec.explain(x, kernel, operation="conv2d_input_grad", **options, **limit).chosen

    if by_tiles == "direct_dots" and x[3] < 16:  # few input channels: MEC for a BLAS that packs nothing
        assert chosen() == "mec"
    monkeypatch.setattr(pymec.auto_rules, "blas_multiplies_small_products_unpacked", lambda: False)
    pymec.planning.cached_recipe.cache_clear()
    assert chosen() == (by_tiles if registers else by_blas)
    if by_tiles == "mec" and x[3] < 7:
        whole = pymec.workspace_size(x, kernel, algorithm="mec", operation="conv2d_input_grad", **options)
        assert chosen(workspace_limit=whole - 1) == ("direct_dots" if registers else "pixel_gemm")


@pytest.mark.parametrize(
    ("x", "kernel", "options", "unpacked", "packed"),
    [
        ((1, 14, 14, 64), (3, 3, 64, 8), {}, "im2col", "im2col"),  # a matrix of 324 KiB
        ((1, 28, 28, 64), (3, 3, 64, 8), {}, "pixel_gemm", "pixel_gemm"),
        ((1, 200, 10, 64), (3, 3, 64, 8), {}, "im2col", "im2col"),  # short rows
        ((1, 14, 14, 8), (3, 3, 8, 8), {}, "mec", "mec"),  # few channels of a tap
        ((1, 56, 56, 1), (3, 3, 1, 64), {}, "mec", "direct_blocked"),  # three rows of a tile
        ((1, 56, 56, 1), (5, 5, 1, 64), {}, "direct_blocked", "direct_blocked"),  # and five
        ((1, 56, 56, 2), (5, 5, 2, 64), {"dilation": 2}, "mec", "direct_blocked"),  # taps that lie apart
        ((1, 56, 56, 4), (1, 1, 4, 64), {}, "direct_blocked", "direct_blocked"),
    ],
)
@pytest.mark.parametrize("registers", [True], indirect=True)
def test_rows_of_a_tile_decide_how_auto_computes_the_kernels_gradient(
    x, kernel, options, unpacked, packed, registers, monkeypatch
):
    for answer, chosen in ((True, unpacked), (False, packed)):
        monkeypatch.setattr(pymec.auto_rules, "blas_multiplies_small_products_unpacked", lambda a=answer: a)
        pymec.planning.cached_recipe.cache_clear()
        assert pymec.explain(x, kernel, operation="conv2d_kernel_grad", **options).chosen == chosen


@pytest.mark.parametrize(
    ("x", "kernel", "options", "chosen"),
    [
        ((1, 56, 56, 1), (3, 3, 1, 8), {}, "depthwise_windows"),
        ((1, 56, 56, 1), (3, 3, 1, 9), {}, "mec"),
        ((1, 96, 96, 1), (13, 13, 1, 3), {}, "depthwise_windows"),
        ((1, 96, 96, 4), (13, 13, 1, 32), {"groups": 4}, "depthwise_windows"),
    ],
)
@pytest.mark.parametrize("registers", [False], indirect=True)
def test_few_filters_of_a_channel_each_are_windows(x, kernel, options, chosen, registers):
    assert pymec.explain(x, kernel, n_threads=1, **options).chosen == chosen


def test_bands_that_are_smaller_but_read_more():
    """With this padding bands of two rows read more image rows than bands of three, and exceed this limit."""
    x, kernel = (5, 4, 4, 64), (3, 3, 64, 64)
    needed = pymec.workspace_size(x, kernel, padding=2, algorithm="mec_banded", n_threads=4, workspace_limit=55296)
    assert 0 < needed <= 55296


@pytest.mark.parametrize("n_threads", [2, 3, 4])
def test_even_bands_keep_to_the_room(n_threads):
    for i_h in range(3, 12):
        for padding in range(4):
            for i_n in (1, 5):
                shape = ConvShape.from_shapes((i_n, i_h, 9, 64), (3, 3, 64, 64), padding=padding)
                schedule = registry.get("mec_banded").schedule
                smallest = schedule(shape, n_threads, 0).size
                for limit in range(smallest, shape.mec_size + 1, 9 * 3 * 64):
                    assert schedule(shape, n_threads, limit).size <= limit


def test_auto_takes_no_products_for_one_channel_per_group(registers):
    assert pymec.plan((1, 14, 14, 64), (3, 3, 1, 64), groups=64).algorithm == "depthwise"


def test_auto_may_take_winograd_only_where_it_is_told_so_and_pays(registers):
    def choice(x, kernel, **options):
        return pymec.plan(x, kernel, **options).algorithm

    layer = (1, 56, 56, 64), (3, 3, 64, 64)
    assert choice(*layer, accuracy="fast") == ("winograd_f6_banded" if registers else "winograd_f4")
    assert "winograd" not in choice(*layer)
    assert choice(*layer, accuracy="fast", workspace_limit="64KiB") == choice(*layer, workspace_limit="64KiB")
    for other in (
        ((1, 56, 56, 64), (5, 5, 64, 64)),
        ((1, 5, 5, 512), (3, 3, 512, 512)),
        ((1, 56, 56, 3), (3, 3, 3, 64)),
    ):
        assert choice(*other, accuracy="fast") == choice(*other)


@pytest.mark.parametrize(
    ("channels", "pixels", "k", "options", "called", "planned"),
    [
        (1, 512, 15, {}, False, False),  # a short filter is applied by the definition
        (1, 512, 31, {}, True, True),
        (1, 512, 65, {}, True, True),
        (16, 256, 15, {"groups": 16}, False, False),
        (16, 256, 31, {"groups": 16}, True, True),
        (8, 128, 15, {}, False, True),  # a plan has transformed the 64 planes of the kernel
        (32, 64, 9, {}, False, True),
        (32, 64, 31, {}, True, True),
        (64, 512, 31, {}, False, False),  # 33 times the memory of its arrays
        (1, 512, 31, {"stride": 4}, False, False),  # the transform computes all outputs, and keeps one in 16
        (1, 512, 65, {"workspace_limit": "1MiB"}, False, False),
    ],
)
def test_fast_takes_fourier_transforms_for_large_kernels(channels, pixels, k, options, called, planned):
    kernel = (k, k, channels // options.get("groups", 1), channels)
    made = pymec.explain((1, pixels, pixels, channels), kernel, padding=k // 2, accuracy="fast", **options)
    assert ((made.chosen == "fft"), (made.planned == "fft")) == (called, planned)
    exact = pymec.explain((1, pixels, pixels, channels), kernel, padding=k // 2, **options)
    assert "fft" not in (exact.chosen, exact.planned)


def test_a_limit_may_be_written_with_or_without_the_b():
    for text, nbytes in (("64Ki", 65536), ("64KiB", 65536), ("2m", 2_000_000), ("1.5 Gi", 3 * 2**29), ("7", 7)):
        assert pymec.recipes.parse_bytes("workspace_limit", text) == nbytes


@pytest.mark.parametrize(("text", "nbytes"), [("1.9", 1), ("0.0009KB", 0), ("1.0009 KiB", 1024)])
def test_parts_of_bytes_are_left_out(text, nbytes):
    assert recipes.parse_bytes("limit", text) == nbytes


def test_whole_mec_takes_the_place_of_bands_that_would_add_up_to_it(registers):
    """Two megabytes of L: worth saving for one thread, but not for sixteen, each with a band of its own."""
    for n_threads, by_blas in ((1, "mec_banded"), (16, "mec" if _build_info.OPENMP else "mec_banded")):
        plan = pymec.plan((1, 56, 56, 64), (3, 3, 64, 64), n_threads=n_threads)
        assert plan.algorithm == ("direct_panels" if registers else by_blas)


@pytest.mark.skipif(
    not fast_tiles(ConvShape.from_shapes((1, 8, 8, 128), (3, 3, 128, 128))),
    reason="no registers for Winograd's products",
)
@pytest.mark.parametrize("n_threads", [1, 2])
def test_a_single_call_pays_for_the_kernels_transform(n_threads):
    """Few pixels repay it to a plan only."""
    told = pymec.explain((1, 8, 8, 128), (3, 3, 128, 128), padding=1, accuracy="fast", n_threads=n_threads)
    assert "winograd" in told.planned and "winograd" not in told.chosen


@pytest.mark.parametrize("algorithm", ["mec_banded", "im2col_blocked"])
def test_a_limit_leaves_room_for_the_conversions_of_nchw(algorithm):
    """With as much more room as these take, a bounded algorithm has the same tiles as without them."""
    shape = ConvShape.from_shapes(X, K)
    copies = 4 * (shape.input_size + shape.kernel_size + shape.output_size)
    nchw = (X[0], X[3], X[1], X[2]), (K[3], K[2], K[0], K[1])
    for limit in (20_000, 50_000, 100_000):
        options = {"algorithm": algorithm, "n_threads": 2}
        inside = pymec.workspace_size(X, K, workspace_limit=limit, **options)
        outside = pymec.workspace_size(*nchw, layout="NCHW", workspace_limit=limit + copies, **options)
        assert outside == inside + copies


@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
def test_explain_says_what_a_call_needs(layout):
    """For its number of threads, with a limit of just that many bytes, and im2col's ratio to itself is one."""
    x, kernel = (X, K) if layout == "NHWC" else ((X[0], X[3], X[1], X[2]), (K[3], K[2], K[0], K[1]))
    options = {"layout": layout, "n_threads": 3}
    told = {row.algorithm: row for row in pymec.explain(x, kernel, **options)}
    assert told["im2col"].ratio_to_im2col == 1
    for name, row in told.items():
        if row.supported:
            assert row.workspace_nbytes == pymec.workspace_size(x, kernel, algorithm=name, **options)
    needed = told["im2col"].workspace_nbytes
    for limit, fits in ((needed, True), (needed - 1, False)):
        limited = {row.algorithm: row for row in pymec.explain(x, kernel, workspace_limit=limit, **options)}
        assert limited["im2col"].supported == fits


def test_images_side_by_side_are_several(registers):
    """A narrow output is Solution A's only if the batch makes its products taller."""
    for i_n, by_blas in ((1, "mec_banded"), (8, "mec")):
        plan = pymec.plan((i_n, 12, 12, 1024), (3, 3, 1024, 16), n_threads=1)
        assert plan.algorithm == ("direct_panels" if registers else by_blas)


@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
@pytest.mark.parametrize("operation", ["conv2d", "conv2d_input_grad"])
def test_a_batch_of_no_images_takes_no_bytes(operation, layout):
    """Its call returns before it allocates, so nothing is predicted; a plan keeps its kernel for other batches."""
    x, kernel = ((0, 9, 9, 16), (3, 3, 16, 32)) if layout == "NHWC" else ((0, 16, 9, 9), (32, 16, 3, 3))
    for name in pymec.algorithms(operation):
        options = {"algorithm": name, "operation": operation, "layout": layout, "n_threads": 2}
        if registry.get(name, operation).unsupported(ConvShape.from_shapes(x, kernel, layout=layout)) is None:
            assert pymec.workspace_size(x, kernel, workspace_limit=0, **options) == 0
            plan = pymec.plan(x, kernel, **options).prepare(np.ones(kernel, np.float32))
            assert plan.workspace_nbytes == 0
            alike = pymec.plan((1, *x[1:]), kernel, **options)
            assert plan.prepared_nbytes == alike.prepared_nbytes
            extents = plan.shape.extents("input" if operation == "conv2d" else "output")
            first = np.ones(extents if layout == "NHWC" else [extents[i] for i in (0, 3, 1, 2)], np.float32)
            assert plan(first, workspace=np.empty(0, np.uint8)).size == 0


COLUMNS = [
    ((2, 60, 1, 1), (7, 1, 1, 1), {"padding": (3, 0)}),
    ((1, 300, 1, 16), (5, 1, 16, 24), {"stride": (2, 1), "dilation": (3, 1)}),
    ((3, 40, 1, 12), (4, 1, 4, 9), {"groups": 3, "padding": ((3, 1), (0, 0)), "stride": (1, 5)}),
    ((1, 4000, 1, 64), (25, 1, 64, 64), {}),
]


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=lambda operation: operation.name)
@pytest.mark.parametrize(("x", "kernel", "options"), COLUMNS)
def test_auto_takes_a_column_for_a_row(x, kernel, options, operation):
    """The same algorithm as for the row, in as many bytes."""
    column = ConvShape.from_shapes(x, kernel, **options)
    row = column.transposed()
    assert row.input_shape == (x[0], 1, x[1], x[3])
    made, expected = (planning.recipe(shape, "auto", "exact", None, 2, operation) for shape in (column, row))
    assert (made.algorithm, made.schedule) == (expected.algorithm, expected.schedule)
    assert (made.shape, made.run_shape, expected.run_shape) == (column, row, row)


@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
@pytest.mark.parametrize(("x", "kernel", "options"), COLUMNS)
def test_a_column_has_the_results_of_the_definition(x, kernel, options, layout):
    shape = ConvShape.from_shapes(x, kernel, **options)
    image, weights, grad_out = (
        np.random.default_rng(3).integers(-3, 4, extents).astype(np.float32)
        for extents in (shape.input_shape, shape.kernel_shape, shape.output_shape)
    )

    def turned(array, is_kernel=False):
        axes = (3, 2, 0, 1) if is_kernel else (0, 3, 1, 2)
        return array if layout == "NHWC" else np.ascontiguousarray(array.transpose(axes))

    exact = turned(reference.conv2d(image, weights, shape))
    input_grad = turned(reference.input_grad(grad_out, weights, shape))
    kernel_grad = turned(reference.kernel_grad(image, grad_out, shape), is_kernel=True)
    x, kernel, grad_out = turned(image), turned(weights, is_kernel=True), turned(grad_out)
    options = {**options, "layout": layout, "n_threads": 2}
    np.testing.assert_array_equal(pymec.conv2d(x, kernel, **options), exact)
    np.testing.assert_array_equal(pymec.conv2d_input_grad(grad_out, kernel, x.shape, **options), input_grad)
    np.testing.assert_array_equal(pymec.conv2d_kernel_grad(x, grad_out, kernel.shape, **options), kernel_grad)
    for tune in (False, 0.05):
        plan = pymec.plan(x.shape, kernel.shape, tune=tune, **options).prepare(kernel)
        np.testing.assert_array_equal(plan(x), exact)
        np.testing.assert_array_equal(copy.deepcopy(plan)(x), exact)
