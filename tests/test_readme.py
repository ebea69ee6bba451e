"""What the README says is so: its table is the registry's, its example runs as it stands."""

import re
from pathlib import Path

import pytest

from pymec import registry

README = Path(__file__).resolve().parent.parent / "README.md"


@pytest.fixture(scope="module")
def text():
    if not README.exists():
        pytest.fail("these tests run from the repository or the sdist, which have README.md")
    return README.read_text(encoding="utf-8")


def test_the_tables_are_the_registrys(text):
    rows = re.findall(r"^\| `(\w+)` \| (.*?) \| (.*?) \|$", text, re.MULTILINE)
    rows = [(name, idea, formula.replace(r"\|", "|")) for name, idea, formula in rows]
    expected = [(row.name, row.idea, row.formula) for table in registry.TABLES.values() for row in table.values()]
    assert rows == expected


@pytest.mark.memory
def test_the_examples_run_one_after_the_other(text):
    pytest.importorskip("memray", reason="memray exists for Linux and macOS only")
    sixty_seconds, fast = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    names = {}
    exec(sixty_seconds, names)
    assert names["out"].shape == (1, 56, 56, 64)
    assert names["report"].exact
    plain = names["out"].copy()
    exec(fast, names)
    assert names["out"].min() == 0
    assert abs(names["out"] - plain.clip(0)).max() < 1e-4 * abs(plain).max()


def test_every_kernel_file_is_in_the_table_of_its_package():
    from pymec import kernels

    folder = Path(kernels.__file__).parent
    files = {path.stem for path in folder.iterdir() if path.suffix in (".pyx", ".pxd", ".py")} - {"__init__"}
    assert set(re.findall(r"^``(\w+)``", kernels.__doc__, re.MULTILINE)) == files
