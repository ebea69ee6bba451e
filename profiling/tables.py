"""The measured tables of README.md, written from the stores; or any of them, printed.

In README.md a table stands between ``<!-- table NAME -->`` and ``<!-- end -->``.  A name is a script's, with the
function that makes the tables if it is not ``tables``, and with entries that the records must have:

    python profiling/tables.py                                    # write README.md
    python profiling/tables.py --check                            # does it differ from what would be written?
    python profiling/tables.py ladder n_threads=1                 # print
    python profiling/tables.py compare.summary network=paper blas=SkylakeX

``network=paper`` stands for the paper's twelve layers, ``network=unet`` for those of a network.
"""

from __future__ import annotations

import importlib
import re
import shlex
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from _common import HERE, command_line, network_of
from _store import RESULTS, Record, Store
from _tables import Table

README = HERE.parent / "README.md"
MARKED = re.compile(r"(<!-- table (.*?) -->\n)(.*?)(<!-- end -->)", re.DOTALL)


def main(arguments: list[str] | None = None) -> int:
    """Write, check or print; 1 if README.md is not what it should be."""
    parser = command_line(__doc__)
    parser.add_argument("name", nargs="*", help="print this table")
    parser.add_argument("--check", action="store_true", help="write nothing")
    parser.add_argument("--records", type=Path, default=RESULTS, help="the folder of the records")
    options = parser.parse_args(arguments)
    if options.name:
        print(text_of(shlex.join(options.name), options.records))
        return 0
    before = README.read_text(encoding="utf-8")
    after = MARKED.sub(lambda mark: f"{mark[1]}\n{text_of(mark[2], options.records)}\n\n{mark[4]}", before)
    if before == after:
        return 0
    if options.check:
        print("README.md is not what the stores say: run python profiling/tables.py", file=sys.stderr)
        return 1
    README.write_text(after, encoding="utf-8")
    print("README.md written")
    return 0


def text_of(name: str, folder: Path = RESULTS) -> str:
    """The tables of a name in Markdown, or how to measure them."""
    tables = tables_of(name, folder)
    return "\n\n".join(map(str, tables)) if tables else f"Nothing was measured yet: `{command_of(name)}` does it."


def tables_of(name: str, folder: Path = RESULTS) -> list[Table]:
    """The tables of a name: none if nothing was measured."""
    module, function, records = found(name, folder)
    return list(getattr(module, function or "tables")(records))


def found(name: str, folder: Path = RESULTS) -> tuple[ModuleType, str, list[Record]]:
    """A name's script, its function, which may be empty, and the records."""
    script, *entries = shlex.split(name)
    script, _, function = script.partition(".")
    module = importlib.import_module(script)
    wanted: dict[str, Any] = {
        key: int(value) if value.isdecimal() else value
        for key, _, value in (entry.partition("=") for entry in entries)
    }
    network = wanted.pop("network", None)
    records = Store(getattr(module, "STORE", script), folder).find(**wanted)
    records = [record for record in records if network is None or network_of(record.cell["layer"]) == network]
    return module, function, records


def command_of(name: str) -> str:
    """The command that measures a table."""
    return f"python profiling/{shlex.split(name)[0].partition('.')[0]}.py"


if __name__ == "__main__":
    sys.exit(main())
