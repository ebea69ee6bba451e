"""Nothing points back up: every import and cimport of pymec, read and held to the levels of ``rooms.py``."""

import ast

import pytest
import rooms

GRAPH = rooms.arrows()
MODULES = sorted(name for name in GRAPH if not rooms.is_page(name))


def test_no_arrow_points_up():
    assert not [
        f"{module} ({rooms.room(module)}) imports {other} ({rooms.room(other)})"
        for module in MODULES
        for other in GRAPH[module]
        if not rooms.is_page(other) and rooms.level(other) > rooms.level(module)
    ]


def test_there_is_no_circle():
    assert rooms.circles(GRAPH) == []


def test_kernels_know_shapes_and_other_kernels_only():
    kernels = [name for name in MODULES if name.startswith("kernels.") and rooms.room(name) != "rows"]
    assert len(kernels) > 20
    assert not [
        f"{kernel} imports {other}"
        for kernel in kernels
        for other in GRAPH[kernel]
        if not other.startswith("kernels.") and other != "shapes"
    ]


def test_families_share_through_their_common_rooms_only():
    """The gradients alone run other families' stages, backwards; rows may look at other rows."""
    common = {"kernels/shared", "kernels/register_tiles", "sizes"}
    families = [module for module in MODULES if rooms.LEVELS[rooms.level(module)][0] == "kernels/<family>"]
    assert len({rooms.room(module) for module in families}) > 5
    assert not [
        f"{module} imports {other}"
        for module in families
        for other in GRAPH[module]
        if rooms.room(other) not in common | {rooms.room(module)}
    ]


def test_nothing_is_imported_through_the_pages_of_kernels():
    assert not [
        f"{module} imports {other}" for module in MODULES for other in GRAPH[module] if rooms.is_page(other)
    ]
    for page in filter(rooms.is_page, GRAPH):
        assert all(other.startswith(f"{page}.") for other in GRAPH[page]), "a page shows what lies beside it"


def test_a_compiled_kernel_imports_no_policy():
    """A kernel may import only types, structs or classes, from a module that decides how work is cut."""
    taken = []
    for source in (path for path in rooms.sources() if path.suffix != ".py"):
        for module, name in rooms.cython_imports(source.read_text(encoding="utf-8"), cimports=False):
            if any(rooms.matches(module, f"pymec.{pattern}") for pattern in rooms.POLICY):
                tree = ast.parse((rooms.ROOT / f"{module.replace('.', '/')}.py").read_text(encoding="utf-8"))
                types = {node.name for node in tree.body if isinstance(node, ast.ClassDef)}
                taken += [] if name in types else [f"{source.stem} takes {name} from {module}"]
    assert not taken


@pytest.mark.parametrize("pattern", rooms.POLICY)
def test_policy_is_where_that_rule_looks_for_it(pattern):
    assert any(rooms.matches(module, pattern) for module in MODULES)


def test_imports_of_cython_are_read():
    text = '''"""from pymec.a import b"""
from pymec.kernels.one cimport (
    first, second as other,  # a comment
)
cimport pymec.kernels.two
from pymec.three import third
def f():
    from pymec.four import fourth
'''
    found = rooms.cython_imports(text)
    assert found == [
        ("pymec.kernels.one", "first"), ("pymec.kernels.one", "second"), ("pymec.three", "third"),
        ("pymec.kernels.two", ""),
    ]  # fmt: skip
    assert rooms.cython_imports(text, cimports=False) == [("pymec.three", "third")]


def test_imports_of_python_are_read():
    text = """
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    from pymec.a import b
else:
    from pymec.c import d
try:
    import pymec.e
except ImportError:
    pass
def f():
    from pymec.g import h
"""
    found = {pair for pair in rooms.python_imports(text) if pair[0].startswith("pymec")}
    assert found == {("pymec.c", "d"), ("pymec.e", "")}


def test_circles_are_found():
    assert rooms.circles({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == [["b", "c"]]


def test_the_map_has_every_room_once():
    lines = rooms.text_map().splitlines()
    names = [line.split(" → ")[0].strip() for line in lines]
    assert len(names) == len(set(names)) > len(rooms.LEVELS)
