"""The command line: what each command prints, and how it ends."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest

import pymec
from pymec import _build_info, explaining, memory, planning, registry
from pymec.cli import main


@pytest.fixture(autouse=True)
def openmp(monkeypatch):
    """Let the report accept a build without OpenMP, which it refuses before it checks its arguments."""
    monkeypatch.setattr(_build_info, "OPENMP", True)


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


@pytest.mark.parametrize("command", [[], ["report"], ["explain"], ["tune"], ["measure"], ["layers"], ["versions"]])
def test_help_has_examples(command, capsys):
    assert main([*command, "--help"]) == 0
    out = capsys.readouterr().out
    assert "examples:\n  " + " ".join(["pymec", *command]) in out


def test_no_command_is_a_mistake(capsys):
    assert error_line(capsys, []).startswith("pymec: error: ")


def test_module_runs_as_a_program(tmp_path):
    command = [sys.executable, "-m", "pymec", "layers"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)  # not the checkout's pymec
    assert done.returncode == 0
    assert "cv12" in done.stdout


def test_importing_needs_no_optional_package(tmp_path):
    code = (
        "import sys, pymec, pymec.cli, pymec.report; "
        "print([name for name in pymec.report.REQUIRES if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.strip() == "[]"


# Explain ------------------------------------------------------------------------------------------------


def test_explain_a_named_layer(capsys):
    assert main(["explain", "cv4", "--batch", "4", "--threads", "2"]) == 0
    expected = pymec.explain((4, 224, 224, 64), (7, 7, 64, 64), stride=2, n_threads=2)
    assert capsys.readouterr().out == f"{expected}\n"


def test_explain_passes_every_option_on(capsys):
    argv = (
        "explain --input 2,8,31,33 --kernel 12,4,3,5 --layout NCHW --stride 2,1 --padding 1,2,0,3 "
        "--dilation 2 --groups 2 --dtype float64 --limit 1MiB --threads 2"
    )
    assert main(argv.split()) == 0
    expected = pymec.explain(
        (2, 8, 31, 33), (12, 4, 3, 5), layout="NCHW", stride=(2, 1), padding=((1, 2), (0, 3)), dilation=2,
        groups=2, dtype="float64", workspace_limit="1MiB", n_threads=2,
    )  # fmt: skip
    assert capsys.readouterr().out == f"{expected}\n"


def test_explain_shows_formulas_and_reasons_on_request(capsys):
    assert main(["explain", "cv4", "--formulas", "--all"]) == 0
    expected = pymec.explain((1, 224, 224, 64), (7, 7, 64, 64), stride=2)
    assert capsys.readouterr().out == f"{expected.table(formulas=True, unsupported=True)}\n"


def test_explain_takes_padding_by_name(capsys):
    argv = [
        "explain",
        "--input",
        "1,227,227,3",
        "--kernel",
        "11,11,3,96",
        "--stride",
        "4",
        "--padding",
        "same",
    ]
    assert main(argv) == 0
    expected = pymec.explain((1, 227, 227, 3), (11, 11, 3, 96), stride=4, padding="same")
    assert capsys.readouterr().out == f"{expected}\n"


def test_explain_json(capsys):
    assert main(["explain", "cv1", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    nbytes = {row["algorithm"]: row["workspace_nbytes"] for row in document["rows"]}
    assert tuple(nbytes) == pymec.algorithms()
    assert (nbytes["im2col"], nbytes["mec"]) == (4_392_300, 1_648_020)
    chosen = pymec.explain((1, 227, 227, 3), (11, 11, 3, 96), stride=4).chosen
    assert document["chosen"] == chosen


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ("explain cv99", "no layer is named 'cv99'"),
        ("explain", "name a layer"),
        ("explain --input 1,8,8,3", "give both --input and --kernel"),
        ("explain cv1 --stride 2", "leave out --stride"),
        ("explain cv1 --input 1,8,8,3", "leave out --input"),
        ("explain --input 1,8,8,3 --kernel 3,3,3,4 --batch 2", "--input has its batch already"),
        ("explain --input 1,8,8 --kernel 3,3,3,4", "--input must be four sizes"),
        ("explain --input 1,8,8,x --kernel 3,3,3,4", "argument --input: expected integers"),
        ("explain --input 1,8,8,3 --kernel 3,3,3,4 --padding 1,2,3", "padding must be"),
        ("explain --input 1,8,8,3 --kernel 9,9,3,4", "kernel spans 9 × 9 pixels"),
        ("explain CV4", "did you mean 'cv4'?"),
        ("explain cv1 --dtype float16", "--dtype must be float32 or float64"),
        ("explain cv1 --limit lots", "--limit must be a whole number of bytes"),
        ("explain cv1 --threads 0", "--threads must be a positive integer"),
        (
            f"explain cv1 --batch {10**24}",
            f"--batch is too large: the input, {10**24} × 227 × 227 × 3 float32, would",
        ),
        ("explain cv1 --accuracy best", "argument --accuracy: invalid choice: 'best'"),
        ("explain cv1 --batch many", "argument --batch: invalid int value"),
        ("explain --input 1,8,8,3 --kernel 3,3,3,4 --padding full", "valid or same, got 'full'"),
        ("explain --input 1,8,8,3 --kernel 3,3,3,4 --padding SAME", "did you mean 'same'?"),
        ("measure cv12 --algorithm fastest", "--algorithm must be 'auto' or one of"),
        ("measure cv12 --algorithm im2col --limit 1KiB", "--limit of 1024 bytes is too small"),
        ("measure cv12 --record /no/such/folder/file", "--record '/no/such/folder/file' lies in a folder that"),
        ("measure --input 1,1048576,4194304,1 --kernel 3,3,1,1 --algorithm direct", "llocate"),
        ("report --layers cv1,cv99", "no layer is named 'cv99'"),
        ("report --layers ,", "--layers must name at least one of"),
        ("report --algorithms mec,fastest", "--algorithms must be all or some of"),
        ("report --algorithms auto", "got 'auto'"),
        ("report --algorithms ,", "got none"),
        ("report --algorithms MEC", "did you mean 'mec'?"),
        ("report --batch 0", "--batch must be a positive integer"),
        ("report --threads -1", "--threads must be a positive integer"),
    ],
)
def test_mistakes_are_one_line(argv, message, capsys):
    line = error_line(capsys, argv.split())
    assert line.startswith("pymec: error: ")
    assert message in line


def test_unsupported_shape_says_why(monkeypatch, capsys):
    row = replace(registry.ALGORITHMS["mec"], unsupported=lambda shape: "it is Monday")
    monkeypatch.setitem(registry.ALGORITHMS, "mec", row)
    planning.cached_recipe.cache_clear()
    assert "mec can't do this shape: it is Monday" in error_line(capsys, ["measure", "cv12", "--algorithm", "mec"])
    planning.cached_recipe.cache_clear()


# Measure ------------------------------------------------------------------------------------------------


@pytest.mark.memory
def test_measure_prints_the_bytes(capsys, tmp_path):
    record = tmp_path / "mec.bin"
    argv = f"measure cv12 --batch 2 --algorithm mec --threads 2 --record {record}".split()
    assert main(argv) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "mec, 2 threads: predicted = measured"
    table = {line.split()[0]: line.split()[1] for line in lines[2:]}
    # o_w·i_h·k_w·i_c = 5·7·3·512 floats of each image
    assert table["predicted"] == table["workspace"] == f"{2 * 5 * 7 * 3 * 512 * 4:,}"
    assert table["output"] == f"{2 * 5 * 5 * 512 * 4:,}"
    assert record.stat().st_size > 0
    assert "exists already" in error_line(capsys, argv)


@pytest.mark.memory
def test_measure_json_of_a_spelled_out_convolution(capsys):
    argv = "measure --input 1,9,9,2 --kernel 3,3,2,4 --dtype float64 --algorithm im2col --threads 1 --json"
    assert main(argv.split()) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["predicted"] == document["workspace"] == 7 * 7 * 3 * 3 * 2 * 8
    assert document["exact"] is True


@pytest.mark.parametrize("flags", [[], ["--json"]])
def test_measure_fails_when_the_formula_is_wrong(flags, monkeypatch, capsys):
    wrong = memory.MemoryReport("mec", 2, predicted=1000, workspace=1004, output=20, blas=3, other=4, resident=9)
    monkeypatch.setattr(memory, "measure_shape", lambda *arguments, **options: wrong)
    assert main(["measure", "cv12", *flags]) == 1
    assert ("predicted ≠ measured" if not flags else '"exact": false') in capsys.readouterr().out


# Layers, versions ---------------------------------------------------------------------------------------


def test_layers_lists_all(capsys):
    assert main(["layers"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:]] == list(pymec.layers.names())
    (cv4,) = (line for line in lines if line.startswith("cv4 "))
    assert cv4.split()[1:7] == ["224×224×64", "7×7×64×64", "2", "0", "1", "109×109×64"]


def test_layers_json(capsys):
    assert main(["layers", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert [layer["name"] for layer in document] == list(pymec.layers.names())


def test_versions(capsys):
    assert main(["versions", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["python"] == sys.version.split()[0]
    assert main(["versions"]) == 0
    assert document["numpy"] in capsys.readouterr().out


# How it ends --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("command", "module"), [("report", "jinja2"), ("report", "rich"), ("measure", "memray")])
def test_missing_optional_package_is_named(command, module, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, module, None)
    argv = [command, "cv12"] if command == "measure" else [command]
    assert error_line(capsys, argv) == (
        f"pymec: error: pymec {command} needs {module}, which is not installed: pip install 'pymec[profile]'"
    )


def test_a_broken_optional_package_is_not_called_missing(monkeypatch, capsys, tmp_path):
    (tmp_path / "rich.py").write_text("import no_such_module")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "rich", raising=False)
    line = error_line(capsys, ["report"])
    assert line == (
        "pymec: error: pymec report needs rich, which is installed but can't be imported: "
        "No module named 'no_such_module'"
    )


def test_report_refuses_a_build_without_openmp(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(_build_info, "OPENMP", False)
    line = error_line(capsys, ["report", "--output", str(tmp_path / "report")])
    assert "needs a build with OpenMP" in line
    assert not (tmp_path / "report").exists()


def test_report_into_a_file_is_a_mistake(capsys, tmp_path):
    (tmp_path / "report").write_text("")
    assert "File exists" in error_line(capsys, ["report", "--output", str(tmp_path / "report")])


def test_interrupt_ends_without_traceback(monkeypatch, capsys):
    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(explaining, "explain", interrupted)
    assert error_line(capsys, ["explain", "cv1"], code=130) == "pymec: interrupted"


@pytest.mark.parametrize("operation", ["conv2d", "conv2d_kernel_grad"])
def test_tune(operation, capsys):
    command = [
        "tune",
        "--input",
        "1,12,12,16",
        "--kernel",
        "3,3,16,16",
        "--operation",
        operation,
        "--threads",
        "1",
    ]
    assert main([*command, "--seconds", "5"]) == 0
    captured = capsys.readouterr()
    lines = captured.out.splitlines()
    assert re.fullmatch(r"\w+ +[0-9.]+ ms(  auto)?", lines[0])
    assert lines[-1] == f"taken: {lines[0].split()[0]}"
    assert sum(line.endswith("  auto") for line in lines) == 1
    assert captured.err.endswith("tune\n")
    assert main([*command, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["algorithm"] == next(iter(told["seconds"])) and told["on_the_whole"]


def test_tune_may_have_no_time_for_the_whole(capsys):
    assert main(["tune", "cv4", "--batch", "64", "--threads", "1", "--seconds", "0.01"]) == 0
    assert "did not last to a whole call" in capsys.readouterr().out
    assert main(["tune", "cv4", "--seconds", "never"]) == 2
    assert "expected a positive number of seconds, got 'never'" in capsys.readouterr().err


def test_explain_a_gradient(capsys):
    assert main(["explain", "cv12", "--operation", "conv2d_input_grad"]) == 0
    assert "direct_conv" in capsys.readouterr().out


COMMANDS = (["layers"], ["layers", "--json"], ["explain", "cv1"], ["versions"], ["--help"])


@pytest.mark.parametrize("argv", COMMANDS, ids=" ".join)
def test_closed_pipe_ends_quietly(argv, tmp_path):
    """As a program ends that SIGPIPE ended; the reader closes the pipe before anything is written."""
    program = f"import sys; from pymec.cli import main; sys.stdin.read(); sys.exit(main({argv}))"
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with subprocess.Popen([sys.executable, "-c", program], cwd=tmp_path, **pipes) as process:
        process.stdout.close()
        process.stdin.close()
        complaint = process.stderr.read()
    assert (process.returncode, complaint) == (141, b"")


def run_command(argv, cwd, **options):
    command = [sys.executable, "-m", "pymec", *argv]
    return subprocess.run(command, cwd=cwd, stderr=subprocess.PIPE, text=True, **options)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="Linux's full disk")
@pytest.mark.parametrize("argv", COMMANDS, ids=" ".join)
def test_a_full_disk_is_an_error(argv, tmp_path):
    with open("/dev/full", "w") as full:
        done = run_command(argv, tmp_path, stdout=full)
    assert (done.returncode, done.stderr) == (2, "pymec: error: [Errno 28] No space left on device\n")


@pytest.mark.parametrize("argv", COMMANDS, ids=" ".join)
def test_closed_output_is_an_error(argv, tmp_path):
    done = run_command(argv, tmp_path, preexec_fn=lambda: os.close(1))
    assert (done.returncode, done.stderr) == (2, "pymec: standard output is closed\n")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
@pytest.mark.parametrize("argv", COMMANDS, ids=" ".join)
def test_any_encoding_will_do(argv, encoding, tmp_path):
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    done = run_command(argv, tmp_path, stdout=subprocess.PIPE, env=environment, encoding=encoding)
    assert (done.returncode, done.stderr) == (0, "")
    assert "?" not in done.stdout.replace("(see", "")
    assert argv != ["explain", "cv1"] or ("227x227" if encoding == "ascii" else "227×227") in done.stdout


def heed_signals():
    """Undo what nohup, or a shell that starts a program in the background, has told it to ignore."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


@pytest.mark.memory
@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize(
    ("number", "status", "line"),
    [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "ended by SIGTERM"), (1, 129, "ended by SIGHUP")],
)
@pytest.mark.parametrize("argv", [["measure", "cv4", "--algorithm", "fft_lean"], ["report", "--layers", "cv4"]])
def test_a_signal_leaves_nothing_behind(argv, number, status, line, tmp_path):
    """One line, the shell's exit status for the signal, no process, no temporary folder."""
    pytest.importorskip("memray", reason="memray exists for Linux and macOS only")
    folder = tmp_path / "temporary"
    folder.mkdir()
    environment = {**os.environ, "TMPDIR": str(folder)}
    command = [sys.executable, "-m", "pymec", *argv]
    options = {"cwd": tmp_path, "env": environment, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **options, preexec_fn=heed_signals) as process:
        while not list(folder.glob("pymec-*")):
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(number)
        complaint = process.communicate()[1]
    assert process.returncode == status
    assert complaint.splitlines()[-1] == f"pymec: {line}"
    assert "Traceback" not in complaint
    assert not list(folder.iterdir())


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"pymec {pymec.__version__}\n"


def test_explain_for_another_accuracy(capsys):
    assert main(["explain", "cv10", "--accuracy", "fast"]) == 0
    expected = pymec.explain((1, 28, 28, 128), (3, 3, 128, 128), accuracy="fast")
    assert capsys.readouterr().out == f"{expected}\n"


INTERRUPTED_IMPORT = """
import os, signal, sys

module = sys.argv.pop()

class Interrupting:
    def find_spec(name, path=None, target=None):
        if name == module:
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupting)
signal.signal(signal.SIGINT, signal.default_int_handler)
from pymec.__main__ import main
sys.argv.append("layers")
sys.exit(main())
"""


@pytest.mark.parametrize("module", ["pymec.cli", "pymec.planning", "numpy", "scipy", "scipy.linalg.cython_blas"])
def test_an_import_can_be_interrupted(module, tmp_path):
    """The command line imports everything but its first page where Ctrl-C is one line."""
    command = [sys.executable, "-c", INTERRUPTED_IMPORT, module]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "pymec: interrupted\n")
