"""Tests share tests/cases.py."""
