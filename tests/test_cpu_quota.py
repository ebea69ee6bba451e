"""Containers with a quota of CPU time, and hosts that bind threads to CPUs."""

import os
import subprocess
import sys

import pytest

from pymec import _build_info, threads, versions
from pymec.cpu_quota import cpu_quota


def version_2(root, group, **limits):
    """A tree of control groups: ``limits`` by folder, the root's as ``top``."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(f"0::{group}\n")
    for folder, limit in limits.items():
        at = root / "sys/fs/cgroup" / ("" if folder == "top" else folder.replace("_", "/"))
        at.mkdir(parents=True, exist_ok=True)
        (at / "cpu.max").write_text(f"{limit}\n")


@pytest.mark.parametrize(
    ("group", "limits", "quota"),
    [
        ("/", {}, None),
        ("/", {"top": "max 100000"}, None),
        ("/", {"top": "150000 100000"}, 1.5),
        ("/a/b", {"a_b": "max 100000", "a": "200000 100000"}, 2),
        ("/a/b", {"a_b": "50000 100000", "a": "200000 100000"}, 0.5),
        ("/seen/from/outside", {"top": "300000 100000"}, 3),
        ("/", {"top": "nonsense"}, None),
    ],
)
def test_groups_of_version_2(group, limits, quota, tmp_path):
    version_2(tmp_path, group, **limits)
    assert cpu_quota(tmp_path) == quota


@pytest.mark.parametrize(("quota_us", "quota"), [("-1", None), ("250000", 2.5)])
def test_groups_of_version_1(quota_us, quota, tmp_path):
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("5:memory:/\n4:cpu,cpuacct:/docker/1f\n")
    at = tmp_path / "sys/fs/cgroup/cpu"
    at.mkdir(parents=True)
    (at / "cpu.cfs_quota_us").write_text(quota_us)
    (at / "cpu.cfs_period_us").write_text("100000")
    assert cpu_quota(tmp_path) == quota


def test_elsewhere_nothing_limits(tmp_path):
    assert cpu_quota(tmp_path) is None


@pytest.mark.parametrize(("quota", "n_threads"), [(None, 4), (9, 4), (3.9, 3), (0.5, 1)])
def test_no_more_threads_than_are_paid_for(quota, n_threads, monkeypatch):
    monkeypatch.setattr(_build_info, "OPENMP", True)
    monkeypatch.setattr(threads, "cpu_quota", lambda: quota)
    monkeypatch.setattr(threads._openmp, "max_threads", lambda: 4)
    monkeypatch.setattr(threads._openmp, "n_cpus", lambda: 4)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert threads.effective_n_threads() == n_threads
    assert threads.effective_n_threads(7) == 7
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    assert threads.effective_n_threads() == 4


def test_a_quota_is_shown(monkeypatch):
    monkeypatch.setattr(versions, "cpu_quota", lambda: 1.5)
    assert versions.versions()["cpu"].endswith("a quota of 1.5 CPUs' time")


@pytest.mark.skipif(not _build_info.OPENMP, reason="needs OpenMP")
@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="needs two CPUs")
@pytest.mark.parametrize(
    "binding", [{"OMP_PROC_BIND": "true"}, {"OMP_PLACES": "cores"}, {"GOMP_CPU_AFFINITY": "0-1"}, {}], ids=str
)
def test_bound_threads_are_all_offered(binding, tmp_path):
    """The calling thread is bound to one CPU, and the others still run elsewhere."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
    script = "from pymec import threads; print(threads.effective_n_threads())"
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, env={**environment, **binding}, cwd=tmp_path)
    assert done.stdout.strip() == str(min(threads.effective_n_threads(), 64)), done.stderr
