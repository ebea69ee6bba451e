"""What a bug report needs: versions, BLAS builds, OpenMP, CPU."""

from __future__ import annotations

import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version

from threadpoolctl import threadpool_info

from pymec import _build_info, blas_kernel, threads
from pymec.cpu_quota import cpu_quota

CPU_NUMBERS = {"cpu family": "family", "model": "model", "CPU implementer": "implementer", "CPU part": "part"}
"""What tells CPUs apart in /proc/cpuinfo, the first two on x86 and the others on ARM, and our words for it."""

PACKAGES = ("numpy", "scipy", "threadpoolctl", "memray", "matplotlib")


def cpu_name() -> str:
    """The CPU as the system names it, with its family and model: makers give many CPUs one name."""
    found: dict[str, str] = {}
    try:
        with open("/proc/cpuinfo") as file:
            for line in file:
                key, _, value = line.partition(":")
                found.setdefault(key.strip(), value.strip())
    except OSError:
        pass
    name = found.get("model name") or platform.processor() or platform.machine()
    numbers = [f"{shown} {found[key]}" for key, shown in CPU_NUMBERS.items() if key in found]
    return f"{name} ({', '.join(numbers)})" if numbers else name


def versions() -> dict[str, str]:
    """Everything :func:`show_versions` prints, by name."""
    from pymec import __version__  # at import time the package is not complete

    system = f"{platform.system()} {platform.machine()} {' '.join(platform.libc_ver())}".strip()
    found = {"pymec": __version__, "python": sys.version.split()[0], "platform": system}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    quota = cpu_quota()
    paid = "" if quota is None else f", a quota of {quota:g} CPUs' time"
    found["cpu"] = f"{cpu_name()}, {os.cpu_count()} CPUs{paid}"
    found["openmp"] = (
        f"yes, {threads.effective_n_threads()} threads by default"
        if _build_info.OPENMP
        else "no: this build runs on one thread, and its benchmarks mean nothing"
    )
    kinds = [name for name, on in (("debug", _build_info.DEBUG), ("native", _build_info.NATIVE)) if on]
    found["build"] = ", ".join(kinds) or "portable, optimised"
    own = {library.filepath for library in threads.blas_libraries()}
    for library in threadpool_info():
        if library["user_api"] == "blas":
            owner = "blas of pymec (SciPy's)" if library["filepath"] in own else "blas of others"
            parts = (library.get(key) for key in ("internal_api", "version", "architecture", "threading_layer"))
            found[owner] = " ".join(str(part) for part in parts if part)
    warning = blas_kernel.held_back()
    found["blas kernels"] = blas_kernel.kernel_name() + (f"; warning: {warning}" if warning else "")
    return found


def show_versions() -> None:
    """Print versions, BLAS, OpenMP and CPU; paste it into an issue."""
    found = versions()
    width = max(map(len, found))
    for name, value in found.items():
        print(f"{name:<{width}}  {value}")
