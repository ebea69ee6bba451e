"""Tests share tests/cases.py; and no algorithm fails a test for a shape that it says it can't do."""

import pytest

import pymec


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem):
    """Skip where a test of every algorithm, on a shape of its own, meets one that refuses this shape.

    ``test_algorithms.check`` holds each refusal against the registry row's reason.
    """
    try:
        return (yield)
    except pymec.UnsupportedShape as refusal:
        if "algorithm" not in getattr(getattr(pyfuncitem, "callspec", None), "params", ()):
            raise
        pytest.skip(str(refusal))
