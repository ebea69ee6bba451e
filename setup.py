"""Builds the compiled kernels.  All metadata is in pyproject.toml; here are only the extensions.

Switches, read from the environment (each is on when set to anything but "" or "0"):

PYMEC_NO_OPENMP   build without OpenMP; pymec then runs on one thread and says so
PYMEC_DEBUG       all of Cython's run-time checks on, no optimisation: for tests, not for timing
PYMEC_ANNOTATE    write the annotated HTML of each kernel beside its source
PYMEC_NATIVE      tune for the CPU of this machine (-march=native); such a build must not be passed on
PYMEC_PROFILE     line directives: what reads native stacks (memray --native, perf, gdb) names lines of .pyx files

PYMEC_SANITIZE    a sanitizer of GCC or Clang: address, undefined or thread; see `make asan`, `ubsan` and `tsan`
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from Cython import Tempita
from Cython.Build import cythonize
from setuptools import Extension, setup

ROOT = Path(__file__).parent
KERNELS = ROOT / "pymec" / "kernels"
SHARED = KERNELS / "shared"
UTILITY = "pymec.kernels._cyutility"  # Cython's own code for memoryviews, compiled once for all kernels
CPUS = os.cpu_count() or 1
WINDOWS = sys.platform == "win32"
MACOS = sys.platform == "darwin"


def switch(name):
    return os.environ.get(name, "0") not in ("", "0")


DEBUG = switch("PYMEC_DEBUG")
ANNOTATE = switch("PYMEC_ANNOTATE")
NATIVE = switch("PYMEC_NATIVE")
PROFILE = switch("PYMEC_PROFILE")
SANITIZE = os.environ.get("PYMEC_SANITIZE", "")

OPENMP_PROBE = """
#include <omp.h>
#include <stdio.h>
int main(void) {
    int n = 0;
    #pragma omp parallel reduction(+:n)
    n += 1;
    printf("%d\\n", n);
    return n < 1;
}
"""


def openmp_flags():
    """Compile and run a small OpenMP program; return (compile flags, link flags), empty without OpenMP."""
    if switch("PYMEC_NO_OPENMP"):
        return [], []
    if WINDOWS:
        return ["/openmp"], []  # every MSVC that builds Python extensions has it
    # Apple's clang takes the flag only through its preprocessor and wants libomp named.
    candidates = [(["-fopenmp"], ["-fopenmp"])]
    if MACOS:
        candidates.append((["-Xpreprocessor", "-fopenmp"], ["-lomp"]))
    compiler = os.environ.get("CC", "cc").split()
    environment_flags = os.environ.get("CFLAGS", "").split() + os.environ.get("LDFLAGS", "").split()
    for compile_flags, link_flags in candidates:
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder) / "probe.c"
            program = Path(folder) / "probe"
            source.write_text(OPENMP_PROBE)
            build = [*compiler, *compile_flags, *environment_flags, str(source), "-o", str(program), *link_flags]
            try:
                subprocess.run(build, check=True, capture_output=True)
                subprocess.run([str(program)], check=True, capture_output=True)
            except (OSError, subprocess.CalledProcessError):
                continue
            return compile_flags, link_flags
    print("pymec: this compiler has no OpenMP; building for one thread", file=sys.stderr)
    return [], []


def write_if_changed(path, text):
    """Leave an unchanged file's time stamp alone, so that rebuilds stay incremental."""
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")


def write_blas_int():
    """Name the integer type of SciPy's BLAS: SciPy 1.18 exports it, before that it is a C int."""
    import scipy

    declarations = Path(scipy.__file__).parent / "linalg" / "cython_blas.pxd"
    exported = "blas_int" in declarations.read_text()
    line = "from scipy.linalg.cython_blas cimport blas_int" if exported else "ctypedef int blas_int"
    write_if_changed(SHARED / "_blas_int.pxi", f"# written by setup.py for the SciPy at hand\n{line}\n")


def expand_templates():
    """Write x.pyx from each x.pyx.in: what differs in a count or a type alone stands once."""
    for template in KERNELS.glob("*/*.pyx.in"):
        text = Tempita.sub(template.read_text(encoding="utf-8"))
        write_if_changed(template.with_suffix(""), f"# written by setup.py from {template.name}\n{text}")


def extensions():
    compile_openmp, link_openmp = openmp_flags()
    write_blas_int()
    expand_templates()
    if WINDOWS:
        optimise = ["/Od"] if DEBUG else ["/O2"]
    else:
        # -fno-strict-overflow is CPython's own choice; -g keeps symbols for memray's native traces.
        optimise = ["-O1", "-g1"] if DEBUG or SANITIZE else ["-O3", "-g1"]
        if NATIVE:
            optimise.append("-march=native")
        if SANITIZE:
            sanitize = [f"-fsanitize={SANITIZE}", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer"]
            optimise += sanitize
            link_openmp = link_openmp + sanitize
    kernels = [
        Extension(
            ".".join(source.relative_to(ROOT).with_suffix("").parts),
            [str(source.relative_to(ROOT))],
            extra_compile_args=optimise + compile_openmp,
            extra_link_args=link_openmp,
            # what pymec._build_info says of this build; with the macro _OPENMP, the compiler's own
            define_macros=[
                ("PYMEC_DEBUG", int(DEBUG)),
                ("PYMEC_NATIVE", int(NATIVE)),
                ("PYMEC_PROFILE", int(PROFILE)),
            ],
        )
        for source in sorted(KERNELS.glob("*/*.pyx"))
    ]
    return [*kernels, Extension(UTILITY, [UTILITY.replace(".", "/") + ".c"])]  # Cython writes this source


# Builds of different kinds never share an object file: flags are nothing that make-like tools compare.
KIND = "-".join(
    name
    for name, on in (
        ("serial", switch("PYMEC_NO_OPENMP")),
        ("debug", DEBUG),
        ("native", NATIVE),
        ("profile", PROFILE),
        (SANITIZE, SANITIZE),
        ("kernels", True),
    )
    if on
)

setup(
    options={"build": {"build_base": f"build/{KIND}"}, "build_ext": {"parallel": CPUS}},
    ext_modules=cythonize(
        extensions(),
        nthreads=0 if WINDOWS or MACOS else CPUS,
        shared_utility_qualified_name=UTILITY,
        annotate=ANNOTATE,
        emit_linenums=PROFILE,
        build_dir=None if ANNOTATE else f"build/{KIND}",  # annotated pages lie beside their sources
        force=DEBUG or ANNOTATE,
        compiler_directives={
            "language_level": 3,
            "boundscheck": DEBUG,
            "wraparound": False,
            "initializedcheck": DEBUG,
            "nonecheck": DEBUG,
            "overflowcheck": DEBUG,
            "cdivision": True,  # C's division in both builds: one meaning, and no GIL for a zero check
            "embedsignature": True,
            "embedsignature.format": "python",
        },
    ),
)
