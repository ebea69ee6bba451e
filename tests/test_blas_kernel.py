"""Which kernels BLAS runs, and the warning when they are not those for the CPU."""

from types import SimpleNamespace

import pytest

from pymec import blas_kernel, versions

WIDE = {"sse2", "avx", "avx2", "fma", "avx512f", "avx512vl"}
NARROW = WIDE - {"avx512f", "avx512vl"}
OLD = {"sse2", "avx"}


def test_a_variable_holds_blas_back():
    found = blas_kernel.reason("Haswell", "0.3.30", {"OPENBLAS_CORETYPE": "Haswell"}, WIDE)
    assert found == (
        "this CPU has AVX-512, but OpenBLAS runs its Haswell kernels for AVX2, "
        "because OPENBLAS_CORETYPE=Haswell is set; unset it before Python starts"
    )


@pytest.mark.parametrize("environment", [{}, {"OPENBLAS_CORETYPE": ""}, {"OPENBLAS_CORETYPE": "no such"}], ids=str)
def test_an_old_library_holds_itself_back(environment):
    found = blas_kernel.reason("Zen", "0.3.12", environment, WIDE)
    assert found.endswith(
        "its Zen kernels for AVX2: version 0.3.12 is older than the CPU, or was built without better ones"
    )


@pytest.mark.parametrize(
    ("core", "flags"),
    [
        ("SkylakeX", WIDE), ("SKYLAKEX", WIDE), ("SapphireRapids", WIDE), ("Haswell", NARROW), ("Zen", NARROW),
        ("Sandybridge", OLD), ("neoversev1", {"asimd"}), ("Haswell", ()), ("something new", WIDE),
    ],
)  # fmt: skip
def test_nothing_to_say(core, flags):
    assert blas_kernel.reason(core, "0.3.30", {"OPENBLAS_CORETYPE": core}, flags) is None


@pytest.mark.parametrize(("core", "flags"), [("Sandybridge", NARROW), ("Nehalem", OLD), ("Prescott", WIDE)])
def test_every_step_is_told(core, flags):
    assert f"its {core} kernels" in blas_kernel.reason(core, "0.3.30", {}, flags)


def test_flags_are_read(tmp_path):
    path = tmp_path / "cpuinfo"
    path.write_text("processor\t: 0\nflags\t\t: fpu avx avx2\nbugs\t\t: none\nflags\t\t: other\n")
    assert blas_kernel.cpu_flags(path) == {"fpu", "avx", "avx2"}
    assert blas_kernel.cpu_flags(tmp_path / "none") == set()


def test_a_library_without_cores_has_its_name(monkeypatch):
    mkl = SimpleNamespace(internal_api="mkl", version="2025")
    monkeypatch.setattr(blas_kernel, "blas_libraries", lambda: (mkl,))
    assert blas_kernel.kernel_name() == "mkl"
    assert blas_kernel.held_back() is None
    monkeypatch.setattr(blas_kernel, "blas_libraries", lambda: ())
    assert blas_kernel.kernel_name() == "unknown"


def test_versions_show_it(monkeypatch):
    haswell = SimpleNamespace(internal_api="openblas", version="0.3.30", architecture="Haswell", filepath="")
    monkeypatch.setattr(blas_kernel, "blas_libraries", lambda: (haswell,))
    monkeypatch.setattr(blas_kernel, "cpu_flags", lambda: WIDE)
    monkeypatch.delenv("OPENBLAS_CORETYPE", raising=False)
    shown = versions.versions()["blas kernels"]
    assert shown.startswith("Haswell; warning: this CPU has AVX-512")
    monkeypatch.setattr(blas_kernel, "cpu_flags", lambda: NARROW)
    assert versions.versions()["blas kernels"] == "Haswell"
