"""The rooms of pymec and the arrows between them: who imports whom, read from the sources.

``python tests/rooms.py`` prints the map; ``test_rooms.py`` holds it to the rules; the documentation draws it.

An arrow is an ``import`` or ``cimport`` at the top of a file: .py, .pyx, .pxd, or .pyx.in, from which setup.py
writes a .pyx.  A module and its .pxd are one.  Imports inside functions and under ``TYPE_CHECKING`` are not
counted, since a module can be imported without them; neither is a package that Python imports on the way to one of
its modules.
"""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "pymec"
SUFFIXES = (".py", ".pyx", ".pxd", ".pyx.in")

LEVELS = (
    ("sizes", "every size of a layer; layers by name; how numbers are written", (
        "shapes", "lattice", "operations", "layers", "spelling", "figures", "svg",
    )),
    ("kernels/shared", "BLAS, geometry, patches, the machine's numbers", ("kernels.shared.*",)),
    ("kernels/register_tiles", "tiles of sums in vector registers", ("kernels.register_tiles.*",)),
    ("kernels/<family>", "the algorithms of a family", ("kernels.*.*",)),
    ("kernels/gradients", "the algorithms of both gradients", ("kernels.gradients.*",)),
    ("surroundings", "threads, layouts, workspace, the oracle", (
        "threads", "address_space", "blas_kernel", "cpu_quota", "layouts", "workspace", "reference", "_build_info",
    )),
    ("algorithm", "what a row of the table is", ("algorithm",)),
    ("rows", "each family's rows of the table, in kernels/<family>/rows.py", (
        "kernels.*.rows", "kernels.mec.bands",  # bands: the sizes of MEC's bands
    )),
    ("registry", "the one table, put together from the rows", ("registry",)),
    ("recipes", "what one call will take; a kernel prepared for it", ("recipes", "kept_kernels")),
    ("planning", 'the rule behind "auto"', ("planning", "auto_rules")),
    ("execution", "checks the arrays, allocates, runs the kernel; times algorithms", ("execution", "tuning")),
    ("doors", "what a user calls", ("conv", "conv_plans", "plans", "saved_lowering", "explaining", "versions")),
    ("pymec", "the public names", ("",)),
    ("memory", "predicted against measured bytes", ("memory", "memory.*")),
    ("report", "the command line and the report", ("cli", "console", "__main__", "report", "report.*")),
)  # fmt: skip
"""Level by level, low to high: a room, what is in it, and its modules (``*`` stands for one name)."""

POLICY = (
    "kernels.shared.blocking", "kernels.shared.machine", "kernels.*.schedule", "kernels.*.bands", "kernels.*.rows",
)  # fmt: skip
"""Modules that decide how work is cut.  A compiled kernel may import types from them, nothing else."""


def name_of(path: Path) -> str:
    """``kernels.mec.paper`` for pymec/kernels/mec/paper.pyx; the package itself has the empty name."""
    parts = list(path.relative_to(PACKAGE).parts)
    parts[-1] = parts[-1].split(".")[0]
    return ".".join(part for part in parts if part != "__init__")


def sources() -> list[Path]:
    """Every source file that can have imports, except those that setup.py writes."""
    found = [path for path in sorted(PACKAGE.rglob("*")) if path.name.endswith(SUFFIXES)]
    return [path for path in found if not path.with_name(f"{path.name}.in").exists()]


def imported(path: Path, known: set[str]) -> set[str]:
    """The modules of pymec that this file imports when it is imported itself."""
    text = path.read_text(encoding="utf-8")
    pairs = python_imports(text) if path.suffix == ".py" else cython_imports(text)
    found = set()
    for package, name in pairs:
        if package != "pymec" and not package.startswith("pymec."):
            continue
        package = package.removeprefix("pymec").removeprefix(".")
        inner = f"{package}.{name}".strip(".")
        found.add(inner if inner in known else package)
    return found - {name_of(path)}


def python_imports(text: str) -> list[tuple[str, str]]:
    """(module, name) of each import that runs when the module does."""
    pairs, bodies = [], [ast.parse(text).body]
    while bodies:
        for node in bodies.pop():
            if isinstance(node, ast.ImportFrom):
                pairs += [(node.module or "", alias.name) for alias in node.names]
            elif isinstance(node, ast.Import):
                pairs += [(alias.name, "") for alias in node.names]
            elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
                bodies.append(node.orelse)
            elif isinstance(node, (ast.If, ast.Try, ast.With)):
                bodies += [node.body, getattr(node, "orelse", []), getattr(node, "finalbody", [])]
                bodies += [handler.body for handler in getattr(node, "handlers", [])]
    return pairs


def cython_imports(text: str, cimports: bool = True) -> list[tuple[str, str]]:
    """The same of Cython, whose syntax Python's parser doesn't know; with ``cimport`` or without."""
    word = "c?import" if cimports else "import"
    text = re.sub(r'"""[\s\S]*?"""', "", text)
    text = re.sub(r"#.*", "", text)
    pairs = []
    names = rf"^from\s+([\w.]+)\s+{word}\s+(?:\(([^)]*)\)|(.*))$"
    for module, many, one in re.findall(names, text, re.MULTILINE):
        pairs += [(module, name.split()[0]) for name in (many or one).split(",") if name.strip()]
    pairs += [(module, "") for module in re.findall(rf"^{word}\s+([\w.]+)", text, re.MULTILINE)]
    return pairs


def arrows() -> dict[str, set[str]]:
    """Module -> the modules of pymec that it imports."""
    files = sources()
    known = {name_of(path) for path in files}
    graph: dict[str, set[str]] = {name: set() for name in known}
    for path in files:
        graph[name_of(path)] |= imported(path, known) - {name_of(path)}
    return graph


def matches(module: str, pattern: str) -> bool:
    return re.fullmatch(pattern.replace(".", r"\.").replace("*", r"\w+"), module) is not None


@cache
def level(module: str) -> int:
    """The number of the level that a module stands on; of several patterns the most specific one counts."""
    fits = [
        (pattern.endswith("*"), pattern.count("*"), number)
        for number, (_, _, patterns) in enumerate(LEVELS)
        for pattern in patterns
        if matches(module, pattern)
    ]
    if not fits:
        raise LookupError(f"pymec.{module} has no room: name it in LEVELS of tests/rooms.py")
    return min(fits)[2]


def room(module: str) -> str:
    """The name of a module's room."""
    family = module.split(".")[1] if module.startswith("kernels.") else ""
    return LEVELS[level(module)][0].replace("<family>", family)


def is_page(module: str) -> bool:
    """Whether this is the ``__init__`` of a folder of kernels, which is a page for readers."""
    return module == "kernels" or (module.startswith("kernels.") and module.count(".") == 1)


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Groups of modules each of which can be reached from the others."""
    reached = {}
    for start in graph:
        seen, waiting = set(), [*graph[start]]
        while waiting:
            name = waiting.pop()
            if name not in seen:
                seen.add(name)
                waiting += graph[name]
        reached[start] = seen
    groups = {
        tuple(sorted(other for other in reached[name] if name in reached[other]))
        for name in graph
        if name in reached[name]
    }
    return [list(group) for group in sorted(groups)]


def arrows_between_rooms(graph: dict[str, set[str]]) -> dict[str, dict[str, list[str]]]:
    """Room -> the rooms it imports from, each with the arrows between the two; from high to low."""
    modules = sorted((name for name in graph if not is_page(name)), key=lambda name: (-level(name), room(name)))
    rooms = list(dict.fromkeys(map(room, modules)))
    found: dict[str, dict[str, list[str]]] = {name: {} for name in rooms}
    for upper in rooms:
        for lower in rooms:
            between = [
                f"{name or 'pymec'} → {other}"
                for name in modules
                for other in sorted(graph[name])
                if room(name) == upper != lower and not is_page(other) and room(other) == lower
            ]
            if between:
                found[upper][lower] = between
    return found


def text_map() -> str:
    """The map as text: a room a line, high to low, with the rooms that it imports from."""
    lines = []
    for name, others in arrows_between_rooms(arrows()).items():
        lines.append(f"{name:<24} → {', '.join(others)}" if others else name)
    return "\n".join(lines)


if __name__ == "__main__":
    print(text_map())
