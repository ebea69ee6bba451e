"""Which of its kernels the BLAS at hand runs, and whether something keeps it from those for this CPU.

An OpenBLAS contains kernels for many CPUs and picks some when it is loaded.  ``OPENBLAS_CORETYPE`` overrules that
choice, and an OpenBLAS that is older than the CPU, or was built without its instructions, has nothing better than
kernels with narrower vector registers.  im2col and the published MEC are then slower than they need to be, while
register tiles are not: a comparison between them says little about the algorithms.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from functools import cache
from pathlib import Path

from pymec.kernels.shared.blas_library import blas_libraries

WIDTHS = ("SSE", "AVX", "AVX2", "AVX-512")
"""The vector instructions of x86-64 that OpenBLAS has kernels for, the narrowest first."""

FLAGS = {"avx512vl": "AVX-512", "avx2": "AVX2", "avx": "AVX"}
"""The flags of /proc/cpuinfo that tell them, the widest first."""

CORES = {
    "Nehalem": "SSE", "Penryn": "SSE", "Prescott": "SSE", "Core2": "SSE", "Dunnington": "SSE", "Atom": "SSE",
    "Barcelona": "SSE", "Bobcat": "SSE", "Opteron": "SSE", "Opteron_SSE3": "SSE", "Nano": "SSE", "Katmai": "SSE",
    "Sandybridge": "AVX", "Bulldozer": "AVX", "Piledriver": "AVX", "Steamroller": "AVX", "Excavator": "AVX",
    "Haswell": "AVX2", "Zen": "AVX2",
    "SkylakeX": "AVX-512", "Cooperlake": "AVX-512", "SapphireRapids": "AVX-512",
}  # fmt: skip
"""What the kernels that OpenBLAS names after these CPUs use."""


def kernel_name() -> str:
    """The CPU after which the running kernels of SciPy's BLAS are named, or the BLAS's own name."""
    names = [getattr(library, "architecture", None) or library.internal_api for library in blas_libraries()]
    return ", ".join(dict.fromkeys(names)) or "unknown"


def held_back() -> str | None:
    """Why SciPy's BLAS doesn't run its kernels for this CPU; None if it does, or if nothing is known."""
    openblas = next((library for library in blas_libraries() if library.internal_api == "openblas"), None)
    if openblas is None:
        return None
    return reason(openblas.architecture or "", openblas.version, os.environ, cpu_flags())


def reason(core: str, version: str | None, environment: Mapping[str, str], flags: Collection[str]) -> str | None:
    """The sentence of :func:`held_back` for a core that OpenBLAS names, its version, and a CPU's flags."""
    used = {name.lower(): width for name, width in CORES.items()}.get(core.lower())
    offered = next((width for flag, width in FLAGS.items() if flag in flags), None)
    if used is None or offered is None or WIDTHS.index(used) >= WIDTHS.index(offered):
        return None
    here = f"this CPU has {offered}, but OpenBLAS runs its {core} kernels for {used}"
    asked = environment.get("OPENBLAS_CORETYPE", "")
    if asked.lower() == core.lower():
        return f"{here}, because OPENBLAS_CORETYPE={asked} is set; unset it before Python starts"
    which = f"version {version}" if version else "this version"
    return f"{here}: {which} is older than the CPU, or was built without better ones"


@cache
def cpu_flags(path: Path = Path("/proc/cpuinfo")) -> frozenset[str]:
    """The instructions of this CPU as Linux names them; none on other systems."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return frozenset()
    return next(
        (frozenset(line.partition(":")[2].split()) for line in lines if line.startswith("flags")), frozenset()
    )
