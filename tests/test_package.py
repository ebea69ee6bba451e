"""``import pymec`` loads its first page; the public names come when they are asked for."""

import ast
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import pymec

STUB = ast.parse(Path(pymec.__file__).with_suffix(".pyi").read_text(encoding="utf-8"))


def test_every_name_is_there():
    assert all(getattr(pymec, name) is not None for name in pymec.__all__)
    assert set(pymec.__all__) <= set(dir(pymec))


def test_type_checkers_are_told_the_same():
    """Each name is the same object where ``__init__.pyi`` imports it from."""
    listed = next(ast.literal_eval(node.value) for node in STUB.body if isinstance(node, ast.Assign))
    assert listed == pymec.__all__
    found = set()
    for node in STUB.body:
        for alias in node.names if isinstance(node, ast.ImportFrom) else ():
            name = alias.asname or alias.name
            module = import_module(node.module)
            expected = import_module(f"pymec.{name}") if module is pymec else getattr(module, alias.name)
            assert getattr(pymec, name) is expected
            found.add(name)
    assert found == set(pymec.__all__)


def printed(program, folder):
    """What a new Python process prints."""
    command = [sys.executable, "-c", program]
    return subprocess.run(command, capture_output=True, text=True, check=True, cwd=folder).stdout


def test_other_modules_can_be_asked_for(tmp_path):
    program = "import pymec; print(pymec.reference.conv2d.__name__, pymec.show_versions.__name__)"
    assert printed(program, tmp_path) == "conv2d show_versions\n"


def test_a_name_that_is_not_there():
    for name in ("convolve", "_private", "__wrapped__"):
        with pytest.raises(AttributeError, match=f"module 'pymec' has no attribute '{name}'"):
            getattr(pymec, name)


def test_the_import_alone_loads_no_library(tmp_path):
    program = (
        "import sys, pymec; print([name for name in ('numpy', 'scipy', 'threadpoolctl') if name in sys.modules])"
    )
    assert printed(program, tmp_path) == "[]\n"


def test_who_transforms_nothing_does_not_load_the_transforms(tmp_path):
    program = """
import sys, numpy as np, pymec
x, kernel = np.ones((1, 9, 9, 3)), np.ones((3, 3, 3, 4))
pymec.conv2d(x, kernel)
print("scipy.fft" in sys.modules)
pymec.conv2d(x, kernel, algorithm="fft")
print("scipy.fft" in sys.modules)
"""
    assert printed(program, tmp_path) == "False\nTrue\n"
