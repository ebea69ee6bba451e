"""Tests share tests/cases.py; ``-m smoke`` runs every twentieth of them, in about a minute."""

import pytest

SMOKE = 20


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    quick = [item for item in items if not (item.get_closest_marker("slow") or item.get_closest_marker("memory"))]
    for item in quick[::SMOKE]:
        item.add_marker("smoke")
