"""The command line: ``pymec report | explain | tune | measure | profile | layers | versions``.

Results go to stdout, everything else to stderr; :mod:`pymec.console` says how a command ends.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NoReturn

from pymec import ConvShape, __version__, console, explaining, layers, planning, recipes, registry, tuning
from pymec.console import CHECK_FAILED, OK, USER_MISTAKE
from pymec.figures import counted
from pymec.operations import KERNEL_GRAD, OPERATIONS, operation_named
from pymec.spelling import did_you_mean
from pymec.versions import show_versions, versions


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""

    def command() -> int:
        try:
            arguments = _parser().parse_args(argv)
        except SystemExit as end:  # after --help, --version or a mistake, which argparse has printed
            return int(end.code or OK)
        return arguments.run(arguments)

    return console.run(command, _as_typed)


# Commands -----------------------------------------------------------------------------------------------


def _report(arguments: argparse.Namespace) -> int:
    from pymec import report

    _need("report", report.REQUIRES)
    from pymec.report import terminal

    with terminal.progress() as progress:
        run = report.build(
            arguments.layers,
            arguments.algorithms,
            batch=arguments.batch,
            n_threads=arguments.threads,
            output=arguments.output,
            progress=progress,
        )
    if arguments.json:
        _print_json(run.as_dict())
    else:
        terminal.print_run(run, os.path.join(arguments.output, "index.html"))
    return CHECK_FAILED if run.failures else OK


def _explain(arguments: argparse.Namespace) -> int:
    x_shape, kernel_shape, options = _convolution(arguments)
    explanation = explaining.explain(
        x_shape,
        kernel_shape,
        **options,
        operation=arguments.operation,
        accuracy=arguments.accuracy,
        workspace_limit=arguments.limit,
        n_threads=arguments.threads,
    )
    if arguments.json:
        _print_json(asdict(explanation))
    else:
        print(explanation.table(formulas=arguments.formulas, unsupported=arguments.all))
    return OK


def _tune(arguments: argparse.Namespace) -> int:
    _need("tune", ("rich",))
    from pymec.report import terminal

    x_shape, kernel_shape, options = _convolution(arguments)
    shape = ConvShape.from_shapes(x_shape, kernel_shape, **options)
    operation = operation_named(arguments.operation)
    limit = recipes.parse_bytes("workspace_limit", arguments.limit)
    auto = planning.recipe(
        shape, "auto", arguments.accuracy, limit, arguments.threads, operation, planned=operation != KERNEL_GRAD
    )
    with terminal.progress() as progress:

        def tell(name: str, done: int, total: int) -> None:
            progress("tune", name, done, total)

        tuned = tuning.tune(auto, arguments.accuracy, limit, arguments.seconds, tell)
    if arguments.json:
        _print_json({**tuned._asdict(), "auto": auto.algorithm.name, "n_threads": auto.n_threads})
        return OK
    width = max(map(len, tuned.seconds))
    for name, seconds in tuned.seconds.items():
        print(f"{name:<{width}} {1000 * seconds:>12.3f} ms{'  auto' if name == auto.algorithm.name else ''}")
    print(f"\ntaken: {tuned.algorithm}")
    if not tuned.on_the_whole:
        print(
            f"the budget of {arguments.seconds:g} s did not last to a whole call: these are parts, in proportion"
        )
    return OK


def _measure(arguments: argparse.Namespace) -> int:
    _need("measure", ("memray",))
    from pymec import memory

    x_shape, kernel_shape, options = _convolution(arguments)
    shape = ConvShape.from_shapes(x_shape, kernel_shape, **options)

    def measured(option: str, record: str | None = None) -> memory.MemoryReport:
        try:
            return memory.measure_shape(
                shape, getattr(arguments, option), operation=arguments.operation, workspace_limit=arguments.limit,
                n_threads=arguments.threads, record=record,
            )  # fmt: skip
        except ValueError as error:
            raise ValueError(re.sub("^algorithm ", f"{option} ", str(error))) from None

    other = None if arguments.against is None else measured("against")
    found = measured("algorithm", arguments.record)
    if other is not None:
        if arguments.json:
            both = [{**report.as_dict(), "peak": report.peak, "exact": report.exact} for report in (other, found)]
            _print_json(both)
        else:
            print(memory.compare(other, found).table())
            for report in (other, found):
                print(f"\n{report.algorithm}: predicted {'=' if report.exact else '≠'} measured", end="")
            print()
        return OK if found.exact and other.exact else CHECK_FAILED
    if arguments.json:
        _print_json({**found.as_dict(), "peak": found.peak, "exact": found.exact})
    else:
        verdict = "predicted = measured" if found.exact else "predicted ≠ measured"
        print(f"{found.algorithm}, {counted(found.n_threads, 'thread')}: {verdict}")
        print()
        for name, meaning in _MEASURED:
            print(f"{name:<10} {getattr(found, name):>15,}  {meaning}")
    return OK if found.exact else CHECK_FAILED


def _profile(arguments: argparse.Namespace) -> int:
    _need("profile", ("memray", "matplotlib", "jinja2"))
    from pymec import memory
    from pymec.memory.scripts import run_script

    given = [arguments.script, *arguments.arguments] if arguments.script is not None else []
    if (arguments.read is None) == (not given):
        raise ValueError("name a script to run, or give --read with a record of memray's, and not both")
    if arguments.read is not None and arguments.record is not None:
        raise ValueError("--record goes with a script; --read has its record already")
    page = None if arguments.output is None else _free(arguments.output, arguments.force)
    if given:
        status, track = run_script(given[0], given[1:], arguments.record)
        title = f"The memory of {' '.join(given)}"
    else:
        try:
            status, track, title = OK, memory.read(arguments.read), f"The memory of {arguments.read}"
        except ValueError as error:
            raise ValueError(str(error).replace("record", "read", 1)) from None
    print(track.table(), file=sys.stderr if given else sys.stdout)
    if page is not None and track.record is not None:
        page.unlink(missing_ok=True)
        print(f"page: {track.save_page(page, title)}", file=sys.stderr)
    return status


def _free(output: str, force: bool) -> Path:
    """The path of a page to be written, where none is yet, or one may be replaced."""
    path = Path(output).absolute()  # the script may go to another folder
    if path.is_dir():
        raise ValueError(f"--output {output} is a folder; name a file")
    if path.exists() and not force:
        raise ValueError(f"--output {output} exists already; name another file, or give --force")
    if not path.parent.is_dir():
        raise ValueError(f"--output {output} lies in a folder that does not exist")
    if not os.access(path.parent, os.W_OK):
        raise ValueError(f"--output {output} lies in a folder that can't be written")
    return path


_MEASURED = (
    ("predicted", "bytes of workspace by the formula"),
    ("workspace", "bytes of workspace alive at the peak, as memray measured"),
    ("output", "the result"),
    ("blas", "what BLAS took for itself"),
    ("other", "Python's own objects"),
    ("fft", "results and internal buffers of SciPy's Fourier transforms"),
    ("resident", "growth of the resident set: pages touched, in a call without memray"),
)


def _layers(arguments: argparse.Namespace) -> int:
    named = [layers.get(name) for name in layers.names()]
    if arguments.json:
        _print_json([asdict(layer) for layer in named])
        return OK
    table = [("layer", "input", "kernel", "stride", "padding", "groups", "output", "source")]
    for layer in named:
        s = layer.shape()
        table.append(
            (
                layer.name,
                f"{s.i_h}×{s.i_w}×{s.i_c}",
                f"{s.k_h}×{s.k_w}×{s.i_cg}×{s.k_c}",
                _extent(s.s_h, s.s_w),
                _extent(layer.p_h, layer.p_w),
                str(s.groups),
                f"{s.o_h}×{s.o_w}×{s.k_c}",
                layer.source,
            )
        )
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for line in table:
        print("  ".join(f"{text:<{width}}" for text, width in zip(line, widths, strict=True)).rstrip())
    return OK


def _versions(arguments: argparse.Namespace) -> int:
    if arguments.json:
        _print_json(versions())
    else:
        show_versions()
    return OK


# What the commands share --------------------------------------------------------------------------------


def _convolution(arguments: argparse.Namespace) -> tuple[Sequence[int], Sequence[int], dict[str, Any]]:
    """The convolution of a command, a named layer or spelled out: shape of x, shape of the kernel, options."""
    spelled = ("kernel", "stride", "padding", "dilation", "groups", "layout")
    given = {name: value for name in spelled if (value := getattr(arguments, name)) is not None}
    if arguments.layer is None:
        if arguments.input is None or "kernel" not in given:
            raise ValueError("name a layer (see pymec layers), or give both --input and --kernel")
        if arguments.batch is not None:
            raise ValueError("--batch goes with a named layer; --input has its batch already")
        return arguments.input, given.pop("kernel"), {**given, "dtype": arguments.dtype}
    if arguments.input is not None or given:
        extra = "input" if arguments.input is not None else next(iter(given))
        raise ValueError(f"layer {arguments.layer} has its own sizes; leave out --{extra}")
    layer = layers.get(arguments.layer)
    try:
        shape = layer.shape(1 if arguments.batch is None else arguments.batch, arguments.dtype)
    except ValueError as error:  # of the input's sizes only the batch was typed
        raise ValueError(str(error).replace("x_shape", "batch", 1)) from None
    return shape.input_shape, shape.kernel_shape, {**shape.arguments, "dtype": shape.dtype}


def _need(command: str, modules: Sequence[str]) -> None:
    """Check, before a command starts, that its optional packages are installed and can be imported."""
    for module in modules:
        try:
            importlib.import_module(module)
        except ImportError as error:
            if isinstance(error, ModuleNotFoundError) and error.name == module:
                raise ImportError(
                    f"pymec {command} needs {module}, which is not installed: pip install 'pymec[profile]'"
                ) from None
            raise ImportError(
                f"pymec {command} needs {module}, which is installed but can't be imported: {error}"
            ) from error


def _print_json(document: Any) -> None:
    print(json.dumps(document, indent=1))


def _extent(vertical: int, horizontal: int) -> str:
    return str(vertical) if vertical == horizontal else f"{vertical}×{horizontal}"


# Arguments ----------------------------------------------------------------------------------------------


_OPTIONS = {
    "x_shape": "--input", "kernel_shape": "--kernel", "workspace_limit": "--limit", "n_threads": "--threads",
    **{name: f"--{name}" for name in (
        "against", "algorithm", "algorithms", "batch", "dilation", "dtype", "groups", "layers", "padding",
        "read", "record", "stride",
    )},
}  # fmt: skip
"""The option that sets each argument of the library."""


def _as_typed(message: str) -> str:
    """An error of the library, in which arguments have the options' names."""
    first = re.match(r"[a-z_]+(?= )", message)
    if first and first[0] in _OPTIONS:
        message = _OPTIONS[first[0]] + message[first.end() :]
    return re.sub(r"\b(?:x_shape|kernel_shape|workspace_limit|n_threads)\b=?", _option_of, message)


def _option_of(match: re.Match[str]) -> str:
    return _OPTIONS[match[0].rstrip("=")] + (" " if match[0].endswith("=") else "")


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """As argparse does it, but with the same line for every command."""
        self.print_usage(sys.stderr)
        self.exit(USER_MISTAKE, f"pymec: error: {message}\n")

    def _print_message(self, message: str, file: Any = None) -> None:
        """As argparse does it, but a full disk is an error for help, too."""
        print(message, end="", file=file or sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="pymec",
        description="Convolution on a CPU, measured to the byte.",
        epilog=_examples(
            "pymec report                      algorithms side by side on the paper's layers",
            "pymec explain cv4 --batch 4       what each algorithm would need, nothing is run",
            "pymec measure cv4 --algorithm mec predicted and measured bytes of one call",
        ),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"pymec {__version__}")
    commands = parser.add_subparsers(title="commands", dest="command", required=True, metavar="COMMAND")

    report = _command(
        commands, "report", _report,
        "Check, time and measure algorithms on layers, and write an HTML page.",
        "pymec report",
        "pymec report --layers cv4,cv9 --algorithms im2col,mec --output /tmp/report",
        "pymec report --batch 4 --threads 2 --json > run.json",
    )  # fmt: skip
    report.add_argument(
        "--layers",
        type=_names,
        default=layers.PAPER,
        metavar="A,B",
        help="named layers; default: the paper's twelve",
    )
    report.add_argument("--algorithms", type=_names, metavar="A,B", help="names, or all; default: a subset")
    report.add_argument("--batch", type=int, default=1, metavar="N", help="images per call; default: 1")
    _add_threads(report)
    report.add_argument(
        "--output", default="report", metavar="DIR",
        help="where index.html, memory.svg, report.json and the flame graphs go; default: report",
    )  # fmt: skip
    _add_json(report, "print the contents of report.json instead of the table")

    explain = _command(
        commands, "explain", _explain,
        "What every algorithm would need for a convolution, and which one 'auto' takes.",
        "pymec explain cv4 --batch 4 --limit 1MiB",
        "pymec explain --input 1,227,227,3 --kernel 11,11,3,96 --stride 4 --padding same",
        "pymec explain cv4 --operation conv2d_kernel_grad",
    )  # fmt: skip
    _add_convolution(explain)
    _add_accuracy(explain)
    explain.add_argument("--formulas", action="store_true", help="every workspace as a formula, too")
    explain.add_argument("--all", action="store_true", help="also what can't do it, with the reason")

    tune = _command(
        commands, "tune", _tune,
        "Time the algorithms on this machine, within a budget: the fastest, beside what 'auto' takes.",
        "pymec tune cv4 --threads 1",
        "pymec tune --input 1,512,512,1 --kernel 31,31,1,1 --accuracy fast --seconds 5",
        notes="Calls as a plan makes them: what depends on the kernel alone is prepared before.",
    )  # fmt: skip
    _add_convolution(tune)
    _add_accuracy(tune)
    tune.add_argument(
        "--seconds", type=_seconds, default=tuning.SECONDS, metavar="S", help="the budget; default: 1"
    )

    measure = _command(
        commands, "measure", _measure,
        "Predicted and measured bytes of one call, in a fresh process under memray.",
        "pymec measure cv4 --algorithm mec --threads 2",
        "pymec measure cv4 --algorithm mec --against im2col",
        "pymec measure cv4 --algorithm im2col --record im2col.bin && memray flamegraph im2col.bin",
        notes="Exit code 1 says that the formula and memray disagree.",
    )  # fmt: skip
    _add_convolution(measure)
    measure.add_argument(
        "--algorithm", default="auto", metavar="NAME", help=f"auto, or one of {', '.join(registry.every_name())}"
    )
    measure.add_argument("--against", metavar="NAME", help="another algorithm, to be measured and set beside it")
    measure.add_argument("--record", metavar="FILE", help="keep memray's record for its own reporters")

    profile = _command(
        commands, "profile", _profile,
        "Who had which byte in memory while a script ran: by owner and by line, under memray.",
        "pymec profile train.py --epochs 1",
        "pymec profile --output memory.html train.py",
        "pymec profile --read out.bin --output memory.html",
        notes="Options stand before the script: what follows it is the script's.  Processes that it starts are\n"
        "not followed.  Its output goes to stdout and the table to stderr; with --read it goes to stdout.\n"
        "The exit status is the script's.",
    )  # fmt: skip
    profile.add_argument("--read", metavar="FILE", help="a record of memray's, in place of a script")
    profile.add_argument("--output", metavar="FILE", help="write tables and plot as a page that needs no network")
    profile.add_argument("--force", action="store_true", help="replace that page")
    profile.add_argument("--record", metavar="FILE", help="keep memray's record for its own reporters")
    profile.add_argument("script", nargs="?", help="a Python file")
    profile.add_argument("arguments", nargs=argparse.REMAINDER, help="the script's arguments")

    named = _command(commands, "layers", _layers, "The named layers.", "pymec layers")
    _add_json(named)
    about = _command(
        commands,
        "versions",
        _versions,
        "Versions, BLAS, OpenMP and CPU: what a bug report needs.",
        "pymec versions",
    )
    _add_json(about)
    return parser


def _command(
    commands: Any,
    name: str,
    run: Callable[[argparse.Namespace], int],
    summary: str,
    *examples: str,
    notes: str = "",
) -> argparse.ArgumentParser:
    epilog = _examples(*examples) + (f"\n\n{notes}" if notes else "")
    parser = commands.add_parser(
        name,
        help=summary,
        description=summary,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    return parser


def _examples(*lines: str) -> str:
    return "\n  ".join(("examples:", *lines))


def _add_convolution(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("layer", nargs="?", help="a named layer, such as cv4 (see pymec layers)")
    parser.add_argument(
        "--operation", choices=tuple(OPERATIONS), default="conv2d", help="forward, or a gradient; default: conv2d"
    )
    parser.add_argument("--batch", type=int, metavar="N", help="images per call of a named layer; default: 1")
    spelled = parser.add_argument_group("a convolution without a name")
    spelled.add_argument("--input", type=_integers, metavar="N,H,W,C", help="shape of the input")
    spelled.add_argument("--kernel", type=_integers, metavar="H,W,I,O", help="shape of the kernel, I per group")
    spelled.add_argument("--stride", type=_one_or_two, metavar="S", help="S or S_H,S_W; default: 1")
    spelled.add_argument(
        "--padding",
        type=_padding,
        metavar="P",
        help="P; P_H,P_W; TOP,BOTTOM,LEFT,RIGHT; valid or same; default: 0",
    )
    spelled.add_argument("--dilation", type=_one_or_two, metavar="D", help="D or D_H,D_W; default: 1")
    spelled.add_argument("--groups", type=int, metavar="G", help="default: 1")
    spelled.add_argument(
        "--layout",
        choices=("NHWC", "NCHW"),
        help="NCHW reads the shapes as N,C,H,W and O,I,H,W; default: NHWC",
    )
    parser.add_argument("--dtype", default="float32", metavar="TYPE", help="float32 (default) or float64")
    parser.add_argument("--limit", metavar="BYTES", help="most workspace allowed, such as 1000000 or 64MiB")
    _add_threads(parser)
    _add_json(parser)


def _add_accuracy(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--accuracy", choices=("exact", "fast"), default="exact",
        help="fast: Winograd and FFT may be taken, too, within their error bounds; default: exact",
    )  # fmt: skip


def _add_threads(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--threads", type=int, metavar="N", help="default: OMP_NUM_THREADS, or the number of CPUs")


def _add_json(parser: argparse.ArgumentParser, what: str = "print JSON") -> None:
    parser.add_argument("--json", action="store_true", help=what)


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _integers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected integers with commas between them, got {text!r}") from None


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0
    if not 0 < seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a positive number of seconds, got {text!r}")
    return seconds


def _one_or_two(text: str) -> int | tuple[int, ...]:
    numbers = _integers(text)
    return numbers[0] if len(numbers) == 1 else numbers


def _padding(text: str) -> Any:
    if text in ("valid", "same"):
        return text
    try:
        numbers = _integers(text)
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(
            f"expected P; P_H,P_W; TOP,BOTTOM,LEFT,RIGHT; valid or same, got {text!r}"
            f"{did_you_mean(text, ('valid', 'same'))}"
        ) from None
    if len(numbers) == 4:
        top, bottom, left, right = numbers
        return (top, bottom), (left, right)
    return numbers[0] if len(numbers) == 1 else numbers


if __name__ == "__main__":
    sys.exit(main())
