"""How this copy of pymec was built, as its compiled part says."""

from pymec.kernels.shared.openmp import DEBUG, NATIVE, OPENMP

__all__ = ["DEBUG", "NATIVE", "OPENMP"]
