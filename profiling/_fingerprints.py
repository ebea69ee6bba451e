"""Which code a number was measured with: fingerprints of kernels, and of the rule by which pymec chooses.

A fingerprint changes with the code that computes a result, and with nothing else: not with comments, nor with a
number of :mod:`pymec.kernels.shared.machine` that this code doesn't name.
"""

from __future__ import annotations

import ast
import hashlib
import re
from collections.abc import Iterable
from functools import cache, partial
from pathlib import Path
from typing import Any

import pymec
from pymec import auto_rules, registry

PACKAGE = Path(pymec.__file__).parent
SUFFIXES = (".pyx.in", ".pyx", ".pxd", ".pxi", ".py")

NUMBERS = "pymec.kernels.shared.machine"
"""The module of measured numbers, which most code imports a few of."""

AUTO = "auto"
"""Names the rule by which pymec chooses, where its choice was measured."""


def code_behind(value: dict[str, Any]) -> list[str]:
    """What a number depends on: the kernel that it is ``by``, if any, and the rule if that one was ``chosen``."""
    by = value.get("by")
    if not by:
        return []
    _, *operation = by.split(":")
    return [by, ":".join([AUTO, *operation])] if value.get("chosen") else [by]


@cache
def fingerprint(algorithm: str, operation: str = "conv2d") -> str:
    """Twelve digits that change with an algorithm's kernel, or with a file that the kernel imports or cimports.

    Comments and docstrings don't count, nor does how a row of the table cuts the work.  ``auto`` has the
    fingerprint of the rule for the operation.  Empty for an algorithm that is in no table.
    """
    if algorithm == AUTO:
        texts = [rule_of(operation)]
    elif algorithm in registry.TABLES[operation]:
        texts = kernel_of(algorithm, operation)
    else:
        return ""
    digest = hashlib.sha256()
    for text in [*texts, *numbers_named(texts)]:
        digest.update(text.encode())
    return digest.hexdigest()[:12]


def rule_of(operation: str) -> str:
    """The code of the rule for an operation: its function, and those of its module that this one calls."""
    text = (PACKAGE / "auto_rules.py").read_text(encoding="utf-8")
    functions = {
        node.name: code_of(ast.get_source_segment(text, node) or "")
        for node in ast.parse(text).body
        if isinstance(node, ast.FunctionDef)
    }
    return "\n".join(named_in([auto_rules.ORDERS[operation].__name__], functions))


def kernel_of(algorithm: str, operation: str) -> list[str]:
    """The code of a kernel's module and of all that it imports or cimports, but for measured numbers."""
    run = registry.get(algorithm, operation).run
    while isinstance(run, partial):
        run = run.func
    found: set[str] = set()
    waiting = [run.__module__]
    while waiting:
        module = waiting.pop()
        if module not in found and module != NUMBERS and sources(module):
            found.add(module)
            waiting += imported("\n".join(sources(module)))
    return [code_of(text) for module in sorted(found) for text in sources(module)]


def numbers_named(texts: Iterable[str]) -> list[str]:
    """The assignments of those measured numbers that are named in a text, or by another of these numbers."""
    (text,) = sources(NUMBERS)
    lines = {
        node.targets[0].id: ast.get_source_segment(text, node) or ""
        for node in ast.parse(text).body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }
    return named_in(texts, lines)


def named_in(texts: Iterable[str], definitions: dict[str, str]) -> list[str]:
    """Those definitions, by their names, that are named in a text or in another of these definitions."""
    named: set[str] = set()
    waiting = set(re.findall(r"\w+", "\n".join(texts))) & set(definitions)
    while waiting:
        name = waiting.pop()
        named.add(name)
        waiting |= (set(re.findall(r"\w+", definitions[name])) & set(definitions)) - named
    return [definitions[name] for name in sorted(named)]


@cache
def sources(module: str) -> tuple[str, ...]:
    """The texts of a kernel module's files, ``.pyx`` or ``.py`` and ``.pxd``; none outside ``pymec.kernels``."""
    if not module.startswith("pymec.kernels."):
        return ()
    path = PACKAGE.joinpath(*module.split(".")[1:])
    paths = [path.with_name(path.name + suffix) for suffix in SUFFIXES]
    if paths[0].exists():
        paths.remove(path.with_name(path.name + ".pyx"))  # what setup.py writes from the .pyx.in
    return tuple(one.read_text(encoding="utf-8") for one in paths if one.exists())


def imported(text: str) -> list[str]:
    """The modules of ``pymec.kernels`` that a source names in its imports, and names that may be modules."""
    found = re.findall(r"^\s*c?import (pymec\.kernels[\w.]*)", text, re.MULTILINE)
    names = r"(\([^)]*\)|[^\n(]*)"  # in brackets over several lines, or in one line
    for package, several in re.findall(rf"^\s*from (pymec\.kernels[\w.]*) c?import {names}", text, re.MULTILINE):
        found.append(package)
        found += [f"{package}.{name.split()[0]}" for name in several.strip("()").split(",") if name.split()]
    return found


def code_of(text: str) -> str:
    """A source without comments, docstrings and empty lines; but with its C, which stands in quotes, too."""
    parts = []
    start = 0
    for quoted in re.finditer(r'(extern from [^\n]*:\s*)?"""(?s:.*?)"""', text):
        parts.append(re.sub(r"#[^\n]*", "", text[start : quoted.start()]))
        parts.append(quoted[0] if quoted[1] else "")
        start = quoted.end()
    parts.append(re.sub(r"#[^\n]*", "", text[start:]))
    return "\n".join(line.rstrip() for line in "".join(parts).splitlines() if line.strip())
