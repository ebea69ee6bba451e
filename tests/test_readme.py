"""What the README and the pages say is so: tables are the registry's, examples run, what is shown exists."""

import re
from pathlib import Path

import pytest

from pymec import kernels, registry

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
DOCS = ROOT / "docs"


@pytest.fixture(scope="module")
def text():
    if not README.exists():
        pytest.fail("these tests run from the repository or the sdist, which have README.md")
    return README.read_text(encoding="utf-8")


def test_the_table_is_the_registrys(text):
    rows = re.findall(r"^\| `(\w+)` .*\|$", text, re.MULTILINE)
    assert len(rows) == 8
    for name in rows:
        row = registry.ALGORITHMS[name]
        formula = row.formula.replace("|", r"\|")
        assert f"\n| `{name}` | {row.idea} | {formula} |\n" in text


@pytest.mark.memory
def test_the_example_runs(text):
    pytest.importorskip("memray", reason="memray exists for Linux and macOS only")
    (sixty_seconds,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    names = {}
    exec(sixty_seconds, names)
    assert names["out"].shape == (1, 56, 56, 64)
    assert names["out"].min() == 0
    assert names["report"].exact


def test_files_that_the_readme_links_to_exist(text):
    links = re.findall(r"\]\(([^)#:]+)\)", text)
    assert len(links) > 8
    assert not [link for link in links if not (ROOT / link).exists()]


def test_the_pages_have_the_table_of_every_operation():
    pages = " ".join(page.read_text(encoding="utf-8") for page in (DOCS / "concepts").glob("*.rst"))
    for operation in registry.TABLES:
        argument = "" if operation == "conv2d" else f" {operation}"
        assert f".. algorithm-table::{argument}\n" in pages


def test_the_map_of_the_kernels_has_every_room():
    folder = Path(kernels.__file__).parent
    rooms = {path.parent.name for path in folder.glob("*/__init__.py")}
    assert set(re.findall(r"^``(\w+)``", kernels.__doc__, re.MULTILINE)) == rooms


def included():
    """(file, marker) of every statement that the page of the paper includes."""
    page = (DOCS / "concepts" / "paper.rst").read_text(encoding="utf-8")
    for block in page.split(".. literalinclude:: ")[1:]:
        source = (DOCS / "concepts" / block.split("\n", 1)[0]).resolve()
        markers = re.findall(r":(?:start|end)-(?:at|before): (.*)", block.split("\n\n", 1)[0])
        yield from ((source, marker) for marker in markers)


def test_statements_that_the_papers_page_includes_are_there():
    found = list(included())
    assert len(found) > 20
    missing = [f"{source.name}: {marker}" for source, marker in found if marker not in source.read_text()]
    assert not missing


@pytest.mark.parametrize(("algorithm", "last"), [(1, 12), (2, 27)])
def test_the_papers_page_has_every_line(algorithm, last):
    page = (DOCS / "concepts" / "paper.rst").read_text(encoding="utf-8")
    section = page.split(f"Algorithm {algorithm}\n-----------\n")[1].split("\n-----")[0]
    lines = set()
    for numbers in re.findall(r"\*\*([\d, -]+)\*\*", section):
        for part in numbers.split(","):
            first, _, end = part.strip().partition("-")
            lines |= set(range(int(first), int(end or first) + 1))
    assert lines == set(range(1, last + 1))


def test_the_oldest_versions_are_those_of_pyproject():
    """What `make test-serial` installs: the first two numbers of every floor."""
    pyproject = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    needed = re.findall(r"^(?:dependencies|test|profile) = \[(.*?)\]$", pyproject, re.MULTILINE | re.DOTALL)
    floors = {
        name: ".".join([*version.split("."), "0"][:2])
        for name, version in re.findall(r'"([\w-]+)>=([\d.]+)', " ".join(needed))
    }
    oldest = (ROOT / "tests" / "oldest.txt").read_text(encoding="utf-8")
    assert dict(re.findall(r"^([\w-]+)==(.*)\.\*$", oldest, re.MULTILINE)) == floors
