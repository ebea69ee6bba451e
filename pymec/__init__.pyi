from pymec import layers, memory
from pymec.conv import conv2d, conv2d_input_grad, conv2d_kernel_grad
from pymec.conv_plans import ConvPlan, KernelGradPlan
from pymec.explaining import Explanation, explain, workspace_size
from pymec.plans import plan
from pymec.registry import names as algorithms
from pymec.shapes import ConvShape, UnsupportedShape
from pymec.versions import show_versions

__version__: str

__all__ = [
    "ConvPlan",
    "ConvShape",
    "Explanation",
    "KernelGradPlan",
    "UnsupportedShape",
    "algorithms",
    "conv2d",
    "conv2d_input_grad",
    "conv2d_kernel_grad",
    "explain",
    "layers",
    "memory",
    "plan",
    "show_versions",
    "workspace_size",
]
