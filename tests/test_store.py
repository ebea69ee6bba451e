"""The store of results: what survives an interruption, what is stale, what belongs together; and the tables."""

from __future__ import annotations

import importlib
import json
import re
import shutil
from pathlib import Path

import pytest

import pymec

PROFILING = Path(__file__).resolve().parent.parent / "profiling"
CELL = {"layer": "cv9", "n_threads": 2}
VALUES = {"mec": {"best": 1.0, "median": 2.0, "by": "mec"}, "im2col": {"best": 2.0, "median": 3.0, "by": "im2col"}}

pytestmark = pytest.mark.skipif(
    not (Path(pymec.__file__).parent / "kernels" / "mec" / "tuned.pyx").exists(), reason="needs the sources"
)


@pytest.fixture
def profiling(monkeypatch):
    """Import a module of ``profiling/``."""
    monkeypatch.syspath_prepend(str(PROFILING))
    return importlib.import_module


@pytest.fixture
def module(profiling):
    """The store's module."""
    return profiling("_store")


@pytest.fixture
def code(profiling):
    """The module of fingerprints; its caches are empty before and after."""
    found = profiling("_fingerprints")
    yield found
    found.fingerprint.cache_clear()
    found.sources.cache_clear()


@pytest.fixture
def elsewhere(module, monkeypatch):
    """Pretend that this is another run: another CPU, another BLAS, another day."""

    def pretend(**different):
        run = {**module.this_run(), "told": "", **different}
        monkeypatch.setattr(module, "this_run", lambda: run)

    return pretend


# The file -----------------------------------------------------------------------------------------------


def test_a_record_comes_back(module, tmp_path):
    module.Store("speed", tmp_path).add(CELL, VALUES, ["direct:conv2d_input_grad"], {"seconds": 0.5})
    (record,) = module.Store("speed", tmp_path).find(layer="cv9")
    assert (record.cell, record.values, record.how) == (CELL, VALUES, {"seconds": 0.5})
    assert list(record.kernels) == ["mec", "im2col", "direct:conv2d_input_grad"]
    assert record.run == module.this_run()
    assert module.Store("speed", tmp_path).find(layer="cv8") == []
    assert module.Store("another", tmp_path).find() == []


@pytest.mark.parametrize("left", ['{"run": "7c', '{"run": "7c40f9ce", "cell": {}, "values": {}, "kernels": {}}'])
def test_a_line_that_was_not_finished_is_written_over(module, tmp_path, left):
    """A line counts once it ends: what an interruption has left over is no record."""
    store = module.Store("speed", tmp_path)
    store.add(CELL, VALUES)
    with open(store.path, "a") as file:
        file.write(left)
    again = module.Store("speed", tmp_path)
    assert len(again.find()) == 1
    again.add({**CELL, "n_threads": 1}, VALUES)
    lines = [json.loads(line) for line in store.path.read_text().splitlines()]
    assert [line.get("cell") for line in lines] == [None, CELL, {**CELL, "n_threads": 1}]  # one run, two records
    assert len(module.Store("speed", tmp_path).find()) == 2


def test_the_newest_record_of_a_cell_counts(module, tmp_path):
    store = module.Store("speed", tmp_path)
    store.add(CELL, VALUES)
    store.add(CELL, {"mec": VALUES["mec"]})
    for of in (store, module.Store("speed", tmp_path)):
        (record,) = of.find()
        assert list(record.values) == ["mec"]


def test_what_is_known_need_not_be_measured(module, tmp_path):
    store = module.Store("speed", tmp_path)
    assert not store.known(CELL)
    store.add(CELL, VALUES, how={"seconds": 0.5})
    assert store.known(CELL, ["mec"], 0.5)
    assert not store.known(CELL, ["mec", "fft"])
    assert not store.known(CELL, ["mec"], 1.0)  # not as carefully
    assert not store.known({**CELL, "n_threads": 1})


def test_what_found_no_room_is_tried_again(module, profiling, tmp_path):
    """A record in which some contender found none can be shown, but is not taken as known."""
    store, bytes_known = module.Store("speed", tmp_path), profiling("_measured_bytes").bytes_known
    record = store.add(CELL, {"mec": VALUES["mec"]}, how={"seconds": 0.5, "no_room": ["im2col"]})
    assert (record.settled, record.stale, record.marks()) == (False, [], "")
    for of in (store, module.Store("speed", tmp_path)):
        assert len(of.find()) == 1
        assert not of.known(CELL, ["mec"], 0.5)
        assert not bytes_known(of, CELL)
    store.add(CELL, VALUES, how={"seconds": 0.5})
    assert store.known(CELL, ["mec"], 0.5)
    assert bytes_known(store, CELL)


# Machines and BLAS --------------------------------------------------------------------------------------


def test_another_machine_hides_this_one_until_it_measures_again(module, elsewhere, tmp_path):
    store = module.Store("speed", tmp_path)
    elsewhere(cpu="first")
    store.add(CELL, VALUES)
    store.add({**CELL, "layer": "cv1"}, VALUES)
    elsewhere(cpu="second")
    assert not store.known(CELL)
    assert store.here([CELL]) == []
    store.add(CELL, VALUES)
    assert [record.run["cpu"] for record in store.find()] == ["second"]
    elsewhere(cpu="first")
    assert store.known(CELL)
    store.add(CELL, VALUES)
    assert [record.run["cpu"] for record in store.find()] == ["first", "first"]


def test_two_kernels_of_a_blas_stand_side_by_side(module, elsewhere, tmp_path):
    store = module.Store("speed", tmp_path)
    elsewhere(blas="openblas SkylakeX")
    store.add(CELL, VALUES)
    elsewhere(blas="openblas Haswell", told="Haswell")
    assert not store.known(CELL)
    store.add(CELL, VALUES)
    for of in (store, module.Store("speed", tmp_path)):
        assert [record.run["blas"] for record in of.find()] == ["openblas SkylakeX"]  # the CPU's own
        assert [record.run["blas"] for record in of.find(blas="Haswell")] == ["openblas Haswell"]
        assert of.find(blas="Sandybridge") == []
    assert [record.run["blas"] for record in store.here([CELL])] == ["openblas Haswell"]


def test_compact_keeps_the_newest_of_each_cell_machine_and_blas(module, elsewhere, tmp_path):
    store = module.Store("speed", tmp_path)
    for run in ({"cpu": "first"}, {"cpu": "first", "blas": "another"}, {"cpu": "second"}):
        elsewhere(**run)
        for n_threads in (1, 2, 2):
            store.add({**CELL, "n_threads": n_threads}, VALUES, how={"seconds": 1})
    found = list(store.newest.values())
    store.compact()
    lines = store.path.read_text().splitlines()
    assert len(lines) == 3 + 6  # runs and records
    assert list(module.Store("speed", tmp_path).newest.values()) == found
    store.add({**CELL, "n_threads": 4}, VALUES)
    assert len(store.path.read_text().splitlines()) == len(lines) + 1
    assert [path.name for path in tmp_path.iterdir()] == ["speed.jsonl"]


# Staleness ----------------------------------------------------------------------------------------------


@pytest.fixture
def change(code, monkeypatch, tmp_path):
    """A copy of the kernels' sources, and a function that replaces text in one of them."""
    package = tmp_path / "pymec"
    kinds = shutil.ignore_patterns("*.so", "*.c", "*.html")
    shutil.copytree(code.PACKAGE / "kernels", package / "kernels", ignore=kinds)
    shutil.copy(code.PACKAGE / "auto_rules.py", package)
    monkeypatch.setattr(code, "PACKAGE", package)
    code.fingerprint.cache_clear()
    code.sources.cache_clear()

    def replace(path, old, new):
        text = (package / "kernels" / path).read_text()
        assert old in text
        (package / "kernels" / path).write_text(text.replace(old, new, 1))
        code.fingerprint.cache_clear()
        code.sources.cache_clear()

    return replace


def test_a_fingerprint_changes_with_the_code_alone(code, change):
    before = code.fingerprint("mec")
    assert len(before) == 12
    change("mec/tuned.pyx", '"""', '"""More words.  ')
    change("mec/tuned.pyx", "\ncdef ", "\n# A comment.\n\ncdef ")
    assert code.fingerprint("mec") == before
    change("mec/tuned.pyx", "\ncdef ", "\ncdef int more = 1\n\ncdef ")
    assert code.fingerprint("mec") != before


@pytest.mark.parametrize("path", ["shared/spans.pxd", "mec/lowered_rows.pxd", "register_tiles/tile_kinds.pyx.in"])
def test_a_fingerprint_changes_with_what_is_cimported(code, change, path):
    """Directly, through another file, and through a file that is made from another one."""
    tuned, direct = code.fingerprint("mec"), code.fingerprint("direct")
    text = (code.PACKAGE / "kernels" / path).read_text()
    first = next(line for line in text.splitlines() if line.startswith(("cdef ", "from ", "cimport ")))
    change(path, f"\n{first}", f"\nDEF MORE = 1\n{first}")
    assert code.fingerprint("mec") != tuned
    assert path.startswith("shared") or code.fingerprint("direct") == direct


def test_measured_numbers_count_where_they_are_named(code, change):
    """By a kernel, by the rule for one operation, and by another number."""
    names = [("mec", "conv2d"), ("fft", "conv2d"), ("auto", "conv2d"), ("auto", "conv2d_input_grad")]

    def changed(old, new, path="shared/machine.py"):
        before = [code.fingerprint(*name) for name in names]
        change(path, old, new)
        return [code.fingerprint(*name) != known for name, known in zip(names, before, strict=True)]

    assert changed("\nFFT_CHANNELS = 8", "\nFFT_CHANNELS = 9") == [False, True, False, False]
    assert changed("\nREPAID_FLIP = 1024", "\nREPAID_FLIP = 1025") == [False, False, False, True]
    assert changed("\nHALF_L2_BYTES = 512", "\nHALF_L2_BYTES = 513") == [True, False, True, False]
    assert changed("    one_channel = shape", "    one = shape", "../auto_rules.py") == [False] * 3 + [True]


def test_names_in_brackets_are_imports(code):
    text = (
        "from pymec.kernels.shared cimport (\n    blas,\n    patch as other,\n)\nimport pymec.kernels.mec.tuned\n"
        "from pymec.kernels.shared.spans cimport Span, ceil_div\n"
    )
    assert {
        "pymec.kernels.shared.blas",
        "pymec.kernels.shared.patch",
        "pymec.kernels.mec.tuned",
        "pymec.kernels.shared.spans",
    } <= set(code.imported(text))


def test_a_record_of_another_kernel_is_stale(module, change, tmp_path):
    store = module.Store("speed", tmp_path)
    record = store.add(CELL, VALUES, how={"seconds": 1})
    assert (record.stale, record.marks(), store.known(CELL)) == ([], "", True)
    change("mec/tuned.pyx", "\ncdef ", "\ncdef int more = 1\n\ncdef ")
    assert record.stale == ["mec"]
    assert [record.marks(), record.marks("mec"), record.marks("im2col")] == ["†", "†", ""]
    assert not store.known(CELL)
    gone = store.add(CELL, {"a_gone_algorithm": {"best": 1.0, "by": "a_gone_algorithm"}})
    assert gone.kernels == {"a_gone_algorithm": ""}


def test_what_auto_takes_is_stale_with_the_rule(module, change, tmp_path):
    """Numbers of a call that names no algorithm depend on the choice as well."""
    values = {
        "pymec conv2d": {"best": 1.0, "by": "im2col", "chosen": True},
        "pymec im2col": {"best": 1.0, "by": "im2col"},
    }
    record = module.Store("compare", tmp_path).add(CELL, values)
    assert list(record.kernels) == ["im2col", "auto"]
    assert record.stale == []
    change("../auto_rules.py", "    row = as_row(shape)", "    row = shape")
    assert [record.marks("pymec conv2d"), record.marks("pymec im2col")] == ["†", ""]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("((__typeof__(v)) ((__typeof__((v) < 0)) (v) & ~((v) < 0)))", "(v)"),  # C in a quoted text
        ("    #ifdef PYMEC_ASKS", "    #ifndef PYMEC_ASKS"),  # C that begins as a comment of Python's does
    ],
)
def test_a_fingerprint_changes_with_quoted_c(code, change, old, new):
    before = code.fingerprint("mec")
    change("register_tiles/registers.pxd", old, new)
    assert code.fingerprint("mec") != before


def test_a_fingerprint_changes_with_indentation(code):
    inside, behind = "for i in x:\n    a()\n    b()\n", "for i in x:\n    a()\n\nb()  # behind\n"
    assert code.code_of(inside) != code.code_of(behind) == "for i in x:\n    a()\nb()"


# Others write, too --------------------------------------------------------------------------------------


def test_two_writers_lose_no_record(module, tmp_path):
    one, other = module.Store("speed", tmp_path), module.Store("speed", tmp_path)
    other.add({**CELL, "layer": "cv1"}, VALUES)
    one.add({**CELL, "layer": "cv2"}, VALUES)
    other.compact()
    one.add({**CELL, "layer": "cv3"}, VALUES)
    other.add({**CELL, "layer": "cv4"}, VALUES)
    found = module.Store("speed", tmp_path).find()
    assert [record.cell["layer"] for record in found] == ["cv1", "cv2", "cv3", "cv4"]


def test_the_threads_of_a_process_are_no_other_machine(module, elsewhere, tmp_path, monkeypatch):
    store = module.Store("speed", tmp_path)
    store.add(CELL, VALUES)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    module.this_run.cache_clear()
    store.add({**CELL, "n_threads": 1}, VALUES)
    assert len(store.find()) == 2


def test_nothing_is_nothing_compacted(module, tmp_path):
    module.Store("speed", tmp_path).compact()
    assert list(tmp_path.iterdir()) == []


# Tables -------------------------------------------------------------------------------------------------


def test_a_table_says_where_its_numbers_are_from_and_which_are_old(module, profiling, change, tmp_path):
    store = module.Store("ladder", tmp_path)
    values = {step: {"best": 1e-3, "median": 2e-3, "by": "im2col"} for step in profiling("ladder").STEPS}
    values["registers"]["by"] = "mec"
    store.add(CELL, values, how={"seconds": 0.5, "flops": 10**8, "disturbed": 0})
    text = profiling("tables").text_of("ladder n_threads=2", tmp_path)
    run = module.this_run()
    for said in (run["cpu"], run["blas"], run["date"], run["commit"], "2 threads", "0.5 s a call"):
        assert said in text
    assert "†" not in text
    change("mec/tuned.pyx", "\ncdef ", "\ncdef int more = 1\n\ncdef ")
    text = profiling("tables").text_of("ladder", tmp_path)
    assert text.count("100†") == 1
    assert "† measured before the kernel last changed; `python profiling/ladder.py` measures it again." in text

    store.add(CELL, values, how={"seconds": 0.5, "flops": 10**8, "disturbed": 3})
    text = profiling("tables").text_of("ladder", tmp_path)
    assert text.count("100‡") == len(values)
    assert "`python profiling/ladder.py --again` measures it again." in text


def test_a_table_of_nothing_says_how_to_measure_it(profiling, tmp_path):
    tables = profiling("tables")
    for path in PROFILING.glob("*.py"):
        if not path.name.startswith("_") and "def tables(" in path.read_text() and path.stem != "tables":
            said = tables.text_of(path.stem, tmp_path)
            assert said == f"Nothing was measured yet: `python profiling/{path.name}` does it."


def test_the_readme_has_what_the_stores_say(profiling, capsys):
    assert profiling("tables").main(["--check"]) == 0, capsys.readouterr().err


def test_the_check_finds_a_number_typed_by_hand(profiling, monkeypatch, tmp_path, capsys):
    tables = profiling("tables")
    monkeypatch.setattr(tables, "README", tmp_path / "README.md")
    tables.README.write_text("Before\n<!-- table ladder -->\n12345\n<!-- end -->\nafter\n")
    given = ["--records", str(tmp_path)]
    assert tables.main(["--check", *given]) == 1
    assert "12345" in tables.README.read_text()
    assert tables.main(given) == 0
    assert tables.main(["--check", *given]) == 0
    assert tables.README.read_text() == (
        "Before\n<!-- table ladder -->\n\nNothing was measured yet: `python profiling/ladder.py` does it.\n\n"
        "<!-- end -->\nafter\n"
    )


# The site -----------------------------------------------------------------------------------------------


def test_every_table_on_the_pages_can_be_made(profiling, tmp_path):
    """Each name is a script's; without records a page says how to measure them."""
    tables = profiling("tables")
    names = [
        name
        for page in (PROFILING.parent / "docs").rglob("*.rst")
        for name in re.findall(
            r"^\.\. measured(?:-figure)?:: (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE
        )
    ]
    assert len(names) > 20
    for name in names:
        assert tables.tables_of(name, tmp_path) == []
        assert tables.command_of(name).startswith("python profiling/")


def test_a_table_as_restructuredtext(profiling, monkeypatch, change, module, tmp_path):
    """Bold numbers, marks, code and dashes are what they are in Markdown; cells of flame graphs are links."""
    pytest.importorskip("sphinx")
    core = pytest.importorskip("docutils.core")
    monkeypatch.syspath_prepend(str(PROFILING.parent / "docs"))
    page = profiling("results")
    monkeypatch.setattr(page, "LINKED", {"cv4_mec"})
    store = module.Store("atlas", tmp_path)
    cell = {"layer": "cv9", "operation": "conv2d", "i_n": 1, "n_threads": 1}
    store.add(cell, VALUES, how={"flops": 10**11, "seconds": 1.0})
    store.add({**cell, "layer": "cv8"}, {"im2col": VALUES["im2col"]}, how={"flops": 10**11, "seconds": 1.0})
    memory = module.Store("memory", tmp_path)
    for algorithm in ("im2col", "mec"):
        values = {"predicted": 2**20, "workspace": 2**20, "resident": 2**20, "peak": 2**20, "blas": 0}
        asked = {"layer": "cv4", "operation": "conv2d", "algorithm": algorithm, "n_threads": 1, "i_n": 1}
        memory.add({**asked, "dtype": "float32"}, values, [f"{algorithm}:conv2d"])
    change("mec/tuned.pyx", "\ncdef ", "\ncdef int more = 1\n\ncdef ")
    tables = profiling("tables")
    lines = [
        line
        for name in ("atlas", "memory_sweep")
        for t in tables.tables_of(name, tmp_path)
        for line in page.rst_of(t)
    ]
    tree = core.publish_doctree("\n".join(lines), settings_overrides={"halt_level": 2, "report_level": 2})
    rows = [[entry.astext() for entry in row.findall(kind("entry"))] for row in tree.findall(kind("row"))]
    assert ["mec", "-", "100†"] in rows
    assert ["im2col", "50", "50"] in rows
    assert ["mec", "1.000 (1.00)†"] in rows
    assert [node.astext() for node in tree.findall(kind("strong"))] == ["100", "50"]
    links = {node["refuri"]: node.astext() for node in tree.findall(kind("reference"))}
    assert links == {"flamegraphs/cv4_mec.html": "1.000 (1.00)†"}
    assert (
        "† measured before the kernel last changed; python profiling/atlas.py measures it again." in tree.astext()
    )


def kind(name):
    """A condition on nodes of docutils."""
    return lambda node: node.tagname == name
