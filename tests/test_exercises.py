"""Every exercise fails as it is given, passes with its solution, and fails with the cheats in ``tests/cheats``."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
EXERCISES = sorted(path.parent for path in ROOT.glob("tutorials/exercises/*/exercise.py"))
NAMES = [path.name for path in EXERCISES]
CHEATS = sorted(ROOT.glob("tests/cheats/*/*.py"))


def graded(name: str, answer: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run the exercise's tests as the lesson tells a reader to, on ``exercise.py`` or on another answer."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"tutorials/exercises/{name}"]
    given = [] if answer is None else [f"--grade={answer}"]
    return subprocess.run([*command, *given], cwd=ROOT, capture_output=True, text=True, timeout=300)


@pytest.mark.memory
@pytest.mark.parametrize("name", NAMES)
def test_an_exercise_fails_as_it_is_given(name):
    done = graded(name)
    assert done.returncode == 1, done.stdout + done.stderr
    assert " error" not in done.stdout.splitlines()[-1], done.stdout


@pytest.mark.memory
@pytest.mark.parametrize("name", NAMES)
def test_its_solution_passes(name):
    done = graded(name, ROOT / "tutorials" / "solutions" / f"{name}.py")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.memory
@pytest.mark.parametrize("cheat", CHEATS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_cheat_fails(cheat):
    done = graded(cheat.parent.name, cheat)
    assert done.returncode == 1, done.stdout + done.stderr
    assert " error" not in done.stdout.splitlines()[-1], done.stdout


def test_there_are_cheats_and_a_solution_for_each():
    assert {path.parent.name for path in CHEATS} == set(NAMES)
    assert all(sum(path.parent.name == name for path in CHEATS) >= 2 for name in NAMES)
    assert sorted(path.stem for path in ROOT.glob("tutorials/solutions/*.py")) == NAMES
