"""Tests share tests/cases.py and tests/geometries.py.

``-m smoke`` runs every thirteenth test, in about a minute.  Hypothesis tries the same cases at every run, so that
a change is judged by what it changed; ``--hypothesis-profile=fuzz`` tries new ones, and many more of them.
"""

import os

import numpy  # noqa: F401  its BLAS is looked for below
import pytest
from hypothesis import HealthCheck, given, settings, strategies
from threadpoolctl import ThreadpoolController

# pytest's workers, and the threads of every call, share few CPUs: threads that wait must sleep, not spin.  OpenMP
# reads this when pymec is imported, in the processes that tests start, too.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

# NumPy's wheels bring a BLAS of their own, which multiplies for the oracle.  Its threads spin: two of them, beside
# other workers, take up to ten times longer than one.  SciPy's BLAS, which pymec calls, keeps its threads.
for library in ThreadpoolController().lib_controllers:
    if "numpy.libs" in library.filepath:
        library.set_num_threads(1)

SMOKE = 13

# An example calls some forty algorithms: how long it takes says nothing about it.
UNTIMED = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow, HealthCheck.data_too_large]}
settings.register_profile("tests", max_examples=500, derandomize=True, print_blob=True, **UNTIMED)
settings.register_profile("fuzz", max_examples=20_000, print_blob=True, **UNTIMED)
settings.register_profile("sanitized", max_examples=30, derandomize=True, **UNTIMED)
settings.load_profile("tests")


@pytest.hookimpl(trylast=True)
def pytest_collection_finish():
    from cases import set_apart  # not before OpenMP's environment is set: it imports pymec

    # When Hypothesis first runs, it makes a random generator and looks for what refers to it; what is set apart it
    # would not see.
    given(strategies.none())(lambda nothing: None)()
    set_apart()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    quick = [item for item in items if not (item.get_closest_marker("slow") or item.get_closest_marker("memory"))]
    for item in quick[::SMOKE]:
        item.add_marker("smoke")
