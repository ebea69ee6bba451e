"""How the exercises are graded: ``pytest tutorials/exercises/01_padding`` looks at the ``exercise.py`` in that folder.

``pytest tutorials/exercises/01_padding --grade FILE`` looks at another file instead: a solution, or a student's.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from threadpoolctl import threadpool_limits

import pymec


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--grade FILE``."""
    parser.addoption("--grade", type=Path, metavar="FILE", help="what to grade in the place of exercise.py")


@pytest.fixture(scope="module")
def exercise(request: pytest.FixtureRequest) -> ModuleType:
    """The module that is graded."""
    path = request.config.getoption("--grade") or request.path.parent / "exercise.py"
    spec = importlib.util.spec_from_file_location("exercise", path)
    if spec is None or spec.loader is None:
        pytest.fail(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def within() -> Callable[..., Any]:
    """``within(nbytes, function, *arguments)`` calls, and fails if memory grows by more than that meanwhile.

    It counts what the call asked for and had at one time, its result among it; memray sees every allocation.  A
    first call, which is not counted, lets libraries take what they keep for good.  BLAS has one thread, as it asks
    for a table to share work among several.
    """

    def call(nbytes: int, function: Callable[..., Any], *arguments: Any) -> Any:
        with threadpool_limits(1, user_api="blas"):
            function(*arguments)
            with pymec.memory.track(n_threads=1) as t:
                result = function(*arguments)
        assert t.peak <= nbytes, f"{t.peak:,} bytes when memory was fullest; {nbytes:,} are allowed\n\n{t.table()}"
        return result

    return call
