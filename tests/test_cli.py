"""The command line: what each command prints, and how it ends."""

import json
import subprocess
import sys

import pytest

import pymec
from pymec import memory, planning, registry
from pymec.cli import main


def error_line(capsys, argv, code=2):
    """Run a call that must fail; its one line of explanation."""
    try:
        ended = main(argv)
    except SystemExit as exit:
        ended = exit.code
    captured = capsys.readouterr()
    assert ended == code
    assert captured.out == ""
    assert "Traceback" not in captured.err
    return captured.err.splitlines()[-1]


# Help ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", [[], ["report"], ["explain"], ["measure"], ["layers"], ["versions"]])
def test_help_has_examples(command, capsys):
    with pytest.raises(SystemExit) as ended:
        main([*command, "--help"])
    assert ended.value.code == 0
    out = capsys.readouterr().out
    assert "examples:\n  " + " ".join(["pymec", *command]) in out


def test_no_command_is_a_mistake(capsys):
    assert error_line(capsys, []).startswith("pymec: error: ")


def test_module_runs_as_a_program():
    done = subprocess.run([sys.executable, "-m", "pymec", "layers"], capture_output=True, text=True)
    assert done.returncode == 0
    assert "cv12" in done.stdout


def test_importing_needs_no_optional_package():
    code = (
        "import sys, pymec, pymec.cli, pymec.report; "
        "print([name for name in pymec.report.REQUIRES if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# Explain ------------------------------------------------------------------------------------------------


def test_explain_a_named_layer(capsys):
    assert main(["explain", "cv4", "--batch", "4", "--threads", "2"]) == 0
    expected = pymec.explain((4, 224, 224, 64), (7, 7, 64, 64), stride=2, n_threads=2)
    assert capsys.readouterr().out == f"{expected}\n"


def test_explain_passes_every_option_on(capsys):
    argv = (
        "explain --input 2,8,31,33 --kernel 12,4,3,5 --layout NCHW --stride 2,1 --padding 1,2,0,3 --dilation 2 "
        "--groups 2 --dtype float64 --limit 1MiB --threads 2"
    )
    assert main(argv.split()) == 0
    expected = pymec.explain(
        (2, 8, 31, 33), (12, 4, 3, 5), layout="NCHW", stride=(2, 1), padding=((1, 2), (0, 3)), dilation=2, groups=2,
        dtype="float64", workspace_limit="1MiB", n_threads=2,
    )  # fmt: skip
    assert capsys.readouterr().out == f"{expected}\n"


def test_explain_takes_padding_by_name(capsys):
    assert main("explain --input 1,227,227,3 --kernel 11,11,3,96 --stride 4 --padding same".split()) == 0
    expected = pymec.explain((1, 227, 227, 3), (11, 11, 3, 96), stride=4, padding="same")
    assert capsys.readouterr().out == f"{expected}\n"


def test_explain_json(capsys):
    assert main(["explain", "cv1", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    nbytes = {row["algorithm"]: row["workspace_nbytes"] for row in document["rows"]}
    assert tuple(nbytes) == pymec.algorithms()
    assert (nbytes["im2col"], nbytes["mec"]) == (4_392_300, 1_648_020)
    assert document["chosen"] == "mec"


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ("explain cv99", "no layer is named 'cv99'"),
        ("explain", "name a layer"),
        ("explain --input 1,8,8,3", "give both --input and --kernel"),
        ("explain cv1 --stride 2", "leave out --stride"),
        ("explain cv1 --input 1,8,8,3", "leave out --input"),
        ("explain --input 1,8,8,3 --kernel 3,3,3,4 --batch 2", "--input has its batch already"),
        ("explain --input 1,8,8 --kernel 3,3,3,4", "x_shape must be four sizes"),
        ("explain --input 1,8,8,x --kernel 3,3,3,4", "argument --input: expected integers"),
        ("explain --input 1,8,8,3 --kernel 3,3,3,4 --padding 1,2,3", "padding must be"),
        ("explain --input 1,8,8,3 --kernel 9,9,3,4", "kernel spans 9 × 9 pixels"),
        ("explain cv1 --dtype float16", "dtype must be float32 or float64"),
        ("explain cv1 --limit lots", "workspace_limit must be a number of bytes"),
        ("explain cv1 --threads 0", "n_threads must be a positive integer"),
        ("explain cv1 --batch many", "argument --batch: invalid int value"),
        ("measure cv12 --algorithm fastest", "algorithm must be 'auto' or one of"),
        ("measure cv12 --algorithm im2col --limit 1KiB", "workspace_limit of 1024 bytes is too small"),
        ("report --layers cv1,cv99", "no layer is named 'cv99'"),
        ("report --layers ,", "layers must name at least one of"),
        ("report --algorithms mec,fastest", "algorithm must be 'auto' or one of"),
        ("report --batch 0", "batch must be a positive integer"),
        ("report --threads -1", "n_threads must be a positive integer"),
    ],
)
def test_mistakes_are_one_line(argv, message, capsys):
    line = error_line(capsys, argv.split())
    assert line.startswith("pymec: error: ")
    assert message in line


def test_unsupported_shape_says_why(monkeypatch, capsys):
    pickle = registry.replace if hasattr(registry, "replace") else None
    assert pickle is None
    row = registry.ALGORITHMS["mec"]
    monkeypatch.setitem(registry.ALGORITHMS, "mec", _replaced(row, unsupported=lambda shape: "it is Monday"))
    planning.recipe.cache_clear()
    assert "mec can't do this shape: it is Monday" in error_line(capsys, ["measure", "cv12", "--algorithm", "mec"])
    planning.recipe.cache_clear()


# Measure ------------------------------------------------------------------------------------------------


def report_of(**changes):
    values = dict(predicted=1000, workspace=1000, output=20, blas=3, other=4, resident=4096)
    return memory.MemoryReport(algorithm="mec", n_threads=2, **{**values, **changes})
