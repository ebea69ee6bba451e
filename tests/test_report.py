"""The report: its input, its figures, its page, and that a wrong algorithm can't hide in it."""

import html
import json
import math
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from pymec import _build_info, explaining, figures, layers, planning, registry, report, svg
from pymec.cli import main
from pymec.memory import MemoryReport, measuring
from pymec.report import collect, page, plots, records, terminal
from pymec.report.picture import Activations, photographs

pytestmark = pytest.mark.skipif(not _build_info.OPENMP, reason="the report refuses a build without OpenMP")

NAMES, ALGORITHMS = ("cv12", "cv9"), ("im2col", "mec", "direct")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """One small report: its folder, its run, and the calls of its ``progress``."""
    folder = tmp_path_factory.mktemp("report")
    told = []
    run = report.build(NAMES, ALGORITHMS, n_threads=2, output=folder, progress=lambda *step: told.append(step))
    return folder, run, told


# Input --------------------------------------------------------------------------------------------------


def test_photographs_are_normalised_and_differ():
    batch = photographs(3, 40, 60)
    assert batch.shape == (3, 40, 60, 3)
    assert batch.dtype == np.float32
    assert abs(batch.mean()) < 1e-4
    assert abs(batch.std() - 1) < 1e-4
    assert not np.array_equal(batch[0], batch[1])


@pytest.mark.parametrize("name", ["cv1", "cv5", "cv6", "cv12"])
def test_activations_have_the_layer_s_shape_and_its_life(name):
    layer = layers.get(name)
    x = Activations(2).input_of(layer)
    assert x.shape == layer.shape(2).input_shape
    assert x.dtype == np.float32
    assert x.flags.c_contiguous
    assert np.isfinite(x).all()
    if layer.i_c > 3:  # past a ReLU: part of it is zero, and the scale is still that of the picture
        assert 0.1 < (x == 0).mean() < 0.9
        assert 0.2 < x.std() < 5


def test_any_layer_finds_an_input():
    for size in [(1, 1), (13, 13), (60, 60), (230, 226), (57, 30)]:
        layer = layers.Layer("odd", *size, 8, 1, 1, 2)
        assert Activations(1).input_of(layer).shape == (1, *size, 8)


def test_activations_do_not_depend_on_what_was_asked_before():
    used = Activations(1)
    for name in ("cv12", "cv5"):
        used.input_of(layers.get(name))
    fresh = Activations(1)
    np.testing.assert_array_equal(used.input_of(layers.get("cv10")), fresh.input_of(layers.get("cv10")))
    np.testing.assert_array_equal(used.kernel_of(layers.get("cv10")), fresh.kernel_of(layers.get("cv10")))


# Check and time -----------------------------------------------------------------------------------------


def test_check_tells_right_from_wrong():
    exact, bound = np.array([1.0, 2.0, 0.0]), np.array([0.1, 0.2, 0.0])
    assert collect.check(np.array([1.05, 2.0, 0.0]), exact, bound) == records.Check(True, pytest.approx(0.5))
    assert collect.check(np.array([1.0, 2.3, 0.0]), exact, bound) == records.Check(False, pytest.approx(1.5))
    assert not collect.check(np.array([1.0, 2.0, 1e-30]), exact, bound).correct
    assert collect.check(np.array([1.0, np.nan, 0.0]), exact, bound) == records.Check(False, None)


def test_calls_take_turns():
    order = []
    timings = collect.time_in_turns({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, budget=0)
    assert order == ["a", "b"] * collect.FEWEST_REPEATS
    assert {timing.repeats for timing in timings.values()} == {collect.FEWEST_REPEATS}
    assert all(timing.fastest <= timing.median for timing in timings.values())


def test_slow_calls_are_not_repeated(monkeypatch):
    monkeypatch.setattr(collect, "MOST_SECONDS", 0)
    assert collect.time_in_turns({"a": lambda: None})["a"].repeats == 1


# Figures ------------------------------------------------------------------------------------------------


def run_of(workspaces, seconds=None):
    """A run of one layer with these bytes and times per algorithm."""
    layer = layers.get("cv12")
    cells = tuple(
        records.Cell(
            name,
            check=records.Check(True, 0.1),
            timing=records.Timing((seconds or {}).get(name, 1.0), 2.0, 3),
            memory=MemoryReport(name, 2, nbytes, nbytes, 1, 1, 1, 1),
        )
        for name, nbytes in workspaces.items()
    )
    layer_run = records.LayerRun(layer, layer.shape(), cells)
    return records.Run(tuple(workspaces), (layer_run,), 1, 2, {"python": "3"}, "today", 1.0)


def test_ratios_to_im2col():
    run = run_of({"im2col": 1200, "mec": 400, "direct": 0}, {"im2col": 2.0, "mec": 1.0, "direct": 8.0})
    (layer,) = run.layers
    assert [layer.saving(name) for name in run.algorithms] == [1, 3, math.inf]
    assert [layer.slowdown(name) for name in run.algorithms] == [1, 0.5, 4]
    assert run.mean_saving("mec") == pytest.approx(3)
    assert run.mean_saving("winograd") is None
    json.dumps(run.as_dict(), allow_nan=False)


def test_means_are_geometric():
    run = run_of({"im2col": 1200, "mec": 400})
    (layer,) = run.layers
    other = replace(layer, cells=run_of({"im2col": 1200, "mec": 100}).layers[0].cells)
    assert replace(run, layers=(layer, other)).mean_saving("mec") == pytest.approx(6)  # √(3·12)


def test_without_im2col_its_formula_is_the_unit():
    (layer,) = run_of({"mec": 100}).layers
    assert layer.saving("mec") == 5 * 5 * 3 * 3 * 512 * 4 / 100
    assert layer.slowdown("mec") is None


def test_numbers_are_written_alike():
    assert [figures.factor(value) for value in (None, math.inf, 2.666, 10.04, 218.4)] == [
        "–", "∞", "2.67×", "10.0×", "218×",
    ]  # fmt: skip
    assert [figures.mib(nbytes) for nbytes in (0, 2**20, 149_035_264)] == ["0", "1.00 MiB", "142 MiB"]


# The report ---------------------------------------------------------------------------------------------


class Page(HTMLParser):
    """What a page loads, its ids, and its tables as lists of rows of text."""

    def __init__(self, text):
        super().__init__()
        self.loads, self.ids, self.tables, self._cell = [], [], [], None
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.loads += [given[key] for key in ("src", "href", "xlink:href", "srcset") if key in given]
        self.ids += [given["id"]] if "id" in given else []
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self._cell = ""

    def handle_endtag(self, tag):
        if tag in ("td", "th"):
            self.tables[-1][-1].append(" ".join(self._cell.split()))
            self._cell = None

    def handle_data(self, data):
        if self._cell is not None:
            self._cell += data


def test_files_are_there(made):
    folder, run, _ = made
    assert not run.failures
    # cv9 has the larger lowered matrix of the two.
    expected = {"flamegraph_im2col_cv9.html", "flamegraph_mec_cv9.html", "flamegraph_scripts"}
    assert {path.name for path in folder.iterdir()} == expected | {
        "algorithms",
        "index.html",
        "memory.svg",
        "report.json",
    }


def test_progress_counts_to_the_end(made):
    _, _, told = made
    total = len(NAMES) * (len(ALGORITHMS) + 2)
    assert [done for _, _, done, _ in told] == list(range(total + 1))
    assert {step[3] for step in told} == {total}


def test_flame_graphs_share_their_scripts_and_load_nothing_from_outside(made):
    folder, _, _ = made
    scripts = {f"flamegraph_scripts/{path.name}" for path in (folder / "flamegraph_scripts").iterdir()}
    for graph in folder.glob("flamegraph_*.html"):
        text = graph.read_text(encoding="utf-8")
        assert scripts <= set(re.findall(r'(?:src|href)="([^"]*)"', text))
        assert not re.search(r'src="(?!flamegraph_scripts/)', text)
        assert len(text) < 500_000


def test_page_loads_nothing_from_outside(made):
    folder, _, _ = made
    text = (folder / "index.html").read_text(encoding="utf-8")
    parsed = Page(text)
    assert parsed.loads
    for target in parsed.loads:
        assert target.startswith(("data:", "#")) or (folder / target).exists(), target
    assert not re.search(r"@import|url\(\s*['\"]?(?!#)", text)
    assert "<script" not in text


def test_every_algorithm_has_a_page(made):
    folder, run, _ = made
    for name in ALGORITHMS:
        text = (folder / "algorithms" / f"{name}.html").read_text(encoding="utf-8")
        parsed = Page(text)
        row = registry.get(name)
        assert parsed.tables[0][0][-1] == row.source
        assert row.idea in html.unescape(text)
        for layer, cells in zip(run.layers, parsed.tables[1][1:], strict=True):
            assert cells[0] == layer.name
            assert cells[2] == f"{layer.cell(name).memory.workspace:,}"
            assert cells[-1] == ("on it" if name in layer.front else "")


def test_the_pareto_front_is_beaten_by_nobody(made):
    _, run, _ = made
    for layer in run.layers:
        points = {cell.algorithm: (cell.memory.workspace, cell.timing.fastest) for cell in layer.cells}
        for name, (nbytes, seconds) in points.items():
            better = [
                other
                for other, (b, s) in points.items()
                if b <= nbytes and s <= seconds and (b < nbytes or s < seconds)
            ]
            assert (name in layer.front) == (not better)


def test_plots_keep_their_ids_apart(made):
    folder, _, _ = made
    parsed = Page((folder / "index.html").read_text(encoding="utf-8"))
    assert len(parsed.ids) == len(set(parsed.ids))
    assert {target[1:] for target in parsed.loads if target.startswith("#")} <= set(parsed.ids)


def test_tables_say_what_was_found(made):
    folder, run, _ = made
    parsed = Page((folder / "index.html").read_text(encoding="utf-8"))
    saving, slowdown, ideas, *of_layers, _ = parsed.tables
    assert saving[0] == ["algorithm", *NAMES, "im2col ÷ it"]
    assert slowdown[0] == ["algorithm", *NAMES, "mean"]
    for in_bytes, in_time, name in zip(saving[1:], slowdown[1:], ALGORITHMS, strict=True):
        sizes = [figures.bare_mib(layer.cell(name).memory.workspace) for layer in run.layers]
        assert in_bytes == [name, *sizes, figures.factor(run.mean_saving(name))]
        ratios = [figures.times(layer.slowdown(name)) for layer in run.layers]
        assert in_time == [name, *ratios, figures.times(run.mean_slowdown(name))]
    assert [row[0] for row in ideas[1:]] == list(ALGORITHMS)
    assert len(of_layers) == len(NAMES)
    for layer, table in zip(run.layers, of_layers, strict=True):
        for cell, row in zip(layer.cells, table[1:], strict=True):
            shape = layer.shape
            predicted = explaining.workspace_size(
                shape.input_shape, shape.kernel_shape, algorithm=cell.algorithm, n_threads=2
            )
            assert row[:6] == [
                cell.algorithm,
                f"{predicted:,}",
                f"{cell.memory.workspace:,}",
                "✓",
                figures.factor(layer.saving(cell.algorithm)),
                figures.times(layer.slowdown(cell.algorithm)),
            ]


def test_json_holds_the_records(made):
    folder, run, _ = made
    document = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    assert document == json.loads(json.dumps(run.as_dict()))
    assert [layer["layer"]["name"] for layer in document["layers"]] == list(NAMES)
    cell = document["layers"][0]["cells"][1]
    assert (cell["algorithm"], cell["memory"]["workspace"]) == ("mec", 215_040)
    assert cell["im2col_over_workspace"] == 460_800 / 215_040


def test_memory_plot_stands_alone(made):
    folder, _, _ = made
    text = (folder / "memory.svg").read_text(encoding="utf-8")
    assert text.startswith("<?xml")
    assert svg.INK not in text
    assert "cv12" in text
    assert "2.14×" in text


def test_one_algorithm_alone_makes_a_page():
    run = run_of({"direct": 0})
    text = page.render(run, Activations(1), {})
    assert "im2col was not among the algorithms" in text


def test_unsupported_cells_show_their_reason():
    run = run_of({"im2col": 1200, "mec": 400})
    (layer,) = run.layers
    cannot = replace(layer, cells=(layer.cells[0], records.Cell("mec", reason="it is <Monday>")))
    run = replace(run, layers=(cannot,))
    assert not run.failures
    assert len(run.cells) == 1
    assert "it is &lt;Monday&gt;" in page.render(run, Activations(1), {})


def test_every_algorithm_of_the_library_finds_a_look():
    names = (*registry.names(), *(f"new_{i}" for i in range(20)))
    assert all(len(plots.look(name, names)) == 2 for name in names)


# A report that must fail --------------------------------------------------------------------------------


@pytest.fixture
def forgetful_mec_b(monkeypatch):
    """mec_b, but in this process it leaves the last output channel unwritten."""
    row = registry.ALGORITHMS["mec_b"]

    def run(x, kernel, out, workspace, shape, n_threads, **options):
        last = out[..., -1].copy()
        row.run(x, kernel, out, workspace, shape, n_threads, **options)
        out[..., -1] = last

    monkeypatch.setitem(registry.ALGORITHMS, "mec_b", replace(row, run=run))
    planning.cached_recipe.cache_clear()  # it may hold the correct mec_b
    yield
    planning.cached_recipe.cache_clear()


@pytest.mark.usefixtures("forgetful_mec_b")
def test_wrong_result_fails_the_report(capsys, tmp_path):
    argv = [
        "report",
        "--layers",
        "cv12",
        "--algorithms",
        "mec_b",
        "--threads",
        "2",
        "--output",
        str(tmp_path),
    ]
    assert main(argv) == 1
    captured = capsys.readouterr()
    assert "FAILED mec_b on cv12: the result is wrong" in captured.out
    assert "0 of 1 are within rounding" in captured.out
    assert "mec_b on cv12: the result is wrong" in (tmp_path / "index.html").read_text(encoding="utf-8")


def test_wrong_formula_fails_the_report(monkeypatch, capsys, tmp_path):
    wrong = MemoryReport("mec_b", 2, predicted=1000, workspace=1004, output=1, blas=0, other=0, resident=0)
    monkeypatch.setattr(measuring, "_measured", lambda *arguments: wrong)
    argv = ["report", "--layers", "cv12", "--algorithms", "mec_b", "--output", str(tmp_path)]
    assert main(argv) == 1
    assert "FAILED mec_b on cv12: predicted 1,000 bytes, measured 1,004" in capsys.readouterr().out
    assert main([*argv, "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert document["failures"] == ["mec_b on cv12: predicted 1,000 bytes, measured 1,004"]


def tiles_of(run):
    """The texts of the cards at the head of the page."""
    found = re.findall(r'<div class="tile[^"]*">(.*?)</div>', page.render(run, Activations(1), {}), re.DOTALL)
    return [" ".join(re.sub(r"<[^>]*>", "", text).split()) for text in found]


def test_cards_tell_published_mec_from_tuned():
    sizes = {"im2col": 1200, "im2col_blocked": 100, "mec_a": 400, "mec_b": 400, "mec": 300, "mec_banded": 60}
    seconds = {"im2col": 1.0, "im2col_blocked": 0.55, "mec_a": 1.3, "mec_b": 1.4, "mec": 0.5, "mec_banded": 0.45}
    cards = tiles_of(run_of(sizes, seconds))
    assert "3.00× smaller workspace than im2col's on average: published MEC, mec_b; 3.00× on cv12" in cards
    assert "1.40 of im2col's time on average: published MEC, mec_b" in cards
    tuned = "0.50 of im2col's time: tuned MEC, mec, whose products are not the paper's"
    assert f"{tuned}; blocked im2col by the same products takes 0.55" in cards
    assert "20.0× smaller workspace than im2col's: tuned MEC in bands, in 0.45 of its time" in cards
    assert not [card for card in cards if re.search(r"(?<!published )(?<!tuned )MEC", card)]


def test_without_the_paper_s_algorithms_nothing_is_called_published():
    cards = tiles_of(run_of({"im2col": 1200, "mec": 300}, {"im2col": 1.0, "mec": 0.5}))
    assert not [card for card in cards if "published" in card]


def test_the_kernels_of_blas_are_named(capsys):
    run = replace(run_of({"im2col": 1200, "mec_paper": 300}), blas_kernels="SkylakeX")
    text = page.render(run, Activations(1), {})
    assert "slower than it need be" not in text
    assert "SkylakeX BLAS's kernels" in tiles_of(run)
    warned = replace(run, blas_kernels="Haswell", blas_warning="this CPU has more")
    assert "This CPU has more." in page.render(warned, Activations(1), {})
    assert "Haswell BLAS's kernels, which are not those for this CPU" in tiles_of(warned)
    assert warned.as_dict()["blas_warning"] == "this CPU has more"

    terminal.print_run(warned, "index.html")
    printed = capsys.readouterr().out
    assert "MEC published (mec_paper) is 4.00× smaller" in printed
    assert "Warning: this CPU has more." in printed


def test_terminal_shows_what_was_found(monkeypatch, capsys, tmp_path):
    def measured(processes, shape, name, *options):
        return MemoryReport(name, 2, 1000, 1000, 1, 0, 0, 0)

    monkeypatch.setattr(measuring, "_measured", measured)
    argv = ["report", "--layers", "cv12", "--algorithms", "im2col,mec_b", "--output", str(tmp_path)]
    assert main(argv) == 0
    captured = capsys.readouterr()
    line = next(line for line in captured.out.splitlines() if "mec_b" in line)
    assert line.split()[:5] == ["mec_b", "1,000", "1,000", "yes", "1.00×"]
    assert "2 of 2 cells agree to the byte, 2 of 2 are within rounding" in captured.out
    assert max(map(len, captured.out.splitlines())) <= 100
    assert "[0/4] cv12" in captured.err


def test_a_cell_without_room_is_marked_and_the_rest_written(monkeypatch, capsys, tmp_path):
    """A call that finds no room, and a process that memory's end has killed."""

    def measured(processes, shape, name, *options):
        if name == "mec_b":
            raise RuntimeError("the measuring process failed: it was ended by SIGKILL")
        return MemoryReport(name, 2, 1000, 1000, 1, 0, 0, 0)

    def greedy(*arguments, algorithm, **options):
        if algorithm == "mec":
            raise MemoryError("no room for 12 bytes of workspace for mec")
        return conv2d(*arguments, algorithm=algorithm, **options)

    conv2d = collect.conv2d
    monkeypatch.setattr(measuring, "_measured", measured)
    monkeypatch.setattr(collect, "conv2d", greedy)
    argv = ["report", "--layers", "cv12", "--algorithms", "im2col,mec,mec_b", "--output", str(tmp_path)]
    assert main(argv) == 1
    out = capsys.readouterr().out
    assert "FAILED mec on cv12 was not run: no room for 12 bytes of workspace for mec" in out
    assert "FAILED mec_b on cv12 was not run: the measuring process failed" in out
    assert "1 of 1 cells agree to the byte, 1 of 1 are within rounding" in out
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert "not run: no room for 12 bytes of workspace for mec" in page
    assert len(json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))["failures"]) == 2


def test_a_layer_without_room_for_the_oracle_is_marked(monkeypatch, tmp_path):
    def no_room(*arguments):
        raise MemoryError("Unable to allocate 3 TiB")

    monkeypatch.setattr(collect.reference, "conv2d", no_room)
    run = report.build(["cv12"], ["im2col", "mec"], output=tmp_path)
    assert [cell.complete for cell in run.layers[0].cells] == [False, False]
    assert (tmp_path / "index.html").exists()


def test_the_page_of_an_algorithm_says_what_its_bytes_grow_with():
    names = registry.names()
    run = run_of(dict.fromkeys(names, 1000))
    for name in names:
        assert page.ORDERS[registry.get(name).order].split("'")[0] in page.render_algorithm(run, name)
