"""How this copy of pymec was built, as its compiled part says."""

from pathlib import Path

try:
    from pymec.kernels.shared.openmp import DEBUG, NATIVE, OPENMP, PROFILE
except ModuleNotFoundError as error:
    raise ImportError(
        f"the kernels of pymec in {Path(__file__).parent} are not compiled. If this is the source, leave the "
        "folder, where Python finds it before the installed pymec, or compile it here: pip install --editable ."
    ) from error

__all__ = ["DEBUG", "NATIVE", "OPENMP", "PROFILE"]
