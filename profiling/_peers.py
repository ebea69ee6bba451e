"""The libraries that pymec is compared with, each as one function that makes a call of a layer.

Whatever a user would do once is done before the call that is timed: arrays are in the library's own layout,
models are built, weights packed where the library offers it.  Results are converted to n-h-w-c after
the clock has stopped.  A library that is not installed is left out; its ``pip install`` line is printed.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import pymec


class CannotDo(Exception):
    """A peer has no way to do this layer."""


class Call(NamedTuple):
    """What is timed, and how its result becomes an n-h-w-c array."""

    run: Callable[[], Any]
    as_nhwc: Callable[[Any], NDArray]


def symmetric_padding(s: pymec.ConvShape) -> tuple[int, int]:
    """(p_h, p_w), for libraries that take the same padding on opposite sides only."""
    if s.p_t != s.p_b or s.p_l != s.p_r:
        raise CannotDo("takes the same padding on opposite sides only")
    return s.p_t, s.p_l


def to_nchw(x: NDArray) -> NDArray:
    """A copy with channels before pixels."""
    return np.ascontiguousarray(x.transpose(0, 3, 1, 2))


def to_oihw(kernel: NDArray) -> NDArray:
    """A copy with output channels first and pixels last."""
    return np.ascontiguousarray(kernel.transpose(3, 2, 0, 1))


def from_nchw(out: Any) -> NDArray:
    """A view with channels last."""
    return np.asarray(out).transpose(0, 2, 3, 1)


# PyTorch ------------------------------------------------------------------------------------------------


def _torch(s: pymec.ConvShape, n_threads: int) -> tuple[Any, dict[str, Any]]:
    import torch

    torch.set_num_threads(n_threads)
    padding = symmetric_padding(s)
    options = {"stride": (s.s_h, s.s_w), "padding": padding, "dilation": (s.d_h, s.d_w), "groups": s.groups}
    return torch, options


def torch_nhwc(s: pymec.ConvShape, x: NDArray, kernel: NDArray, n_threads: int) -> Call:
    """``conv2d`` on channels_last tensors: oneDNN, weights reordered in every call."""
    torch, options = _torch(s, n_threads)
    image = torch.from_numpy(x).permute(0, 3, 1, 2)
    weight = torch.from_numpy(to_oihw(kernel)).contiguous(memory_format=torch.channels_last)

    def run() -> Any:
        with torch.inference_mode():
            return torch.nn.functional.conv2d(image, weight, **options)

    return Call(run, from_nchw)


def torch_nchw(s: pymec.ConvShape, x: NDArray, kernel: NDArray, n_threads: int) -> Call:
    """``conv2d`` on contiguous n-c-h-w tensors, torch's default."""
    torch, options = _torch(s, n_threads)
    image, weight = torch.from_numpy(to_nchw(x)), torch.from_numpy(to_oihw(kernel))

    def run() -> Any:
        with torch.inference_mode():
            return torch.nn.functional.conv2d(image, weight, **options)

    return Call(run, from_nchw)


def torch_prepacked(s: pymec.ConvShape, x: NDArray, kernel: NDArray, n_threads: int) -> Call:
    """oneDNN with weights reordered once, as ``torch.compile`` freezes them; channels_last."""
    torch, options = _torch(s, n_threads)
    image = torch.from_numpy(x).permute(0, 3, 1, 2)
    where = [list(options[name]) for name in ("padding", "stride", "dilation")]
    weight = torch.from_numpy(to_oihw(kernel)).to_mkldnn()
    with torch.inference_mode():
        packed = torch._C._nn.mkldnn_reorder_conv2d_weight(weight, *where, s.groups, list(image.shape))

    def run() -> Any:
        with torch.inference_mode():
            return torch.ops.mkldnn._convolution_pointwise(image, packed, None, *where, s.groups, "none", [], "")

    return Call(run, from_nchw)


# Runtimes of finished models ----------------------------------------------------------------------------


def onnxruntime(s: pymec.ConvShape, x: NDArray, kernel: NDArray, n_threads: int) -> Call:
    """A model of one Conv, n-c-h-w, with its weights as an initializer and all optimisations."""
    import onnx
    import onnxruntime as ort

    image, weight = to_nchw(x), to_oihw(kernel)
    node = onnx.helper.make_node(
        "Conv", ["x", "w"], ["y"], strides=[s.s_h, s.s_w], pads=[s.p_t, s.p_l, s.p_b, s.p_r],
        dilations=[s.d_h, s.d_w], group=s.groups,
    )  # fmt: skip
    tensor, FLOAT = onnx.helper.make_tensor_value_info, onnx.TensorProto.FLOAT
    graph = onnx.helper.make_graph(
        [node], "layer", [tensor("x", FLOAT, image.shape)], [tensor("y", FLOAT, None)],
        [onnx.numpy_helper.from_array(weight, "w")],
    )  # fmt: skip
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 13)], ir_version=8)
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = n_threads, 1
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return Call(lambda: session.run(None, {"x": image})[0], from_nchw)


def openvino(s: pymec.ConvShape, x: NDArray, kernel: NDArray, n_threads: int) -> Call:
    """A compiled model of one convolution between transposes, so that arrays are n-h-w-c."""
    import openvino as ov
    from openvino import opset13 as ops

    if s.groups > 1:
        raise CannotDo("is compared without groups")
    parameter = ops.parameter(x.shape, np.float32)
    convolution = ops.convolution(
        ops.transpose(parameter, ops.constant([0, 3, 1, 2])), ops.constant(to_oihw(kernel)),
        [s.s_h, s.s_w], [s.p_t, s.p_l], [s.p_b, s.p_r], [s.d_h, s.d_w],
    )  # fmt: skip
    model = ov.Model([ops.transpose(convolution, ops.constant([0, 2, 3, 1]))], [parameter])
    settings = {
        "INFERENCE_NUM_THREADS": n_threads, "INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY",
    }  # fmt: skip
    request = ov.Core().compile_model(model, "CPU", settings).create_infer_request()
    return Call(lambda: request.infer([x], share_inputs=True, share_outputs=True)[0], np.asarray)


def ncnn(s: pymec.ConvShape, x: NDArray, kernel: NDArray, n_threads: int) -> Call:
    """A net of one Convolution, for one image; ncnn chooses the algorithm, Winograd among others."""
    import ncnn as library

    if s.i_n != 1 or s.groups > 1:
        raise CannotDo("is compared with one image and one group")
    net = library.Net()
    net.opt.num_threads = n_threads
    net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = False
    net.opt.use_bf16_storage = False
    numbers = {
        0: s.k_c, 1: s.k_w, 11: s.k_h, 2: s.d_w, 12: s.d_h, 3: s.s_w, 13: s.s_h,
        4: s.p_l, 15: s.p_r, 14: s.p_t, 16: s.p_b, 5: 0, 6: s.kernel_size,
    }  # fmt: skip
    layer = " ".join(f"{key}={value}" for key, value in numbers.items())
    net.load_param_mem(f"7767517\n2 2\nInput x 0 1 x\nConvolution y 1 1 x y {layer}\n")
    # ncnn keeps pointers into both buffers, so they must stay alive.  Four bytes of 0: plain float32.
    weights, channels = bytes(4) + to_oihw(kernel).tobytes(), to_nchw(x)[0]
    net.load_model_mem(weights)
    image = library.Mat(channels)

    def run(alive: Any = (weights, channels)) -> Any:
        extractor = net.create_extractor()
        extractor.input("x", image)
        return extractor.extract("y")[1]

    return Call(run, lambda out: from_nchw(np.array(out)[None]))


def jax(s: pymec.ConvShape, x: NDArray, kernel: NDArray, n_threads: int) -> Call:
    """``lax.conv_general_dilated`` under jit, n-h-w-c; it uses as many threads as the process has CPUs."""
    import jax as library

    @library.jit
    def convolve(image: Any, weight: Any) -> Any:
        return library.lax.conv_general_dilated(
            image, weight, (s.s_h, s.s_w), ((s.p_t, s.p_b), (s.p_l, s.p_r)), rhs_dilation=(s.d_h, s.d_w),
            dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=s.groups,
        )  # fmt: skip

    image, weight = library.device_put(x), library.device_put(kernel)
    return Call(lambda: convolve(image, weight).block_until_ready(), np.asarray)


# NumPy and SciPy ----------------------------------------------------------------------------------------


def numpy_im2col(s: pymec.ConvShape, x: NDArray, kernel: NDArray, n_threads: int) -> Call:
    """im2col as it is written in NumPy: windows, a copy, one product."""
    if s.groups > 1 or s.d_h > 1 or s.d_w > 1:
        raise CannotDo("is written for one group, without dilation")
    image = np.pad(x, ((0, 0), (s.p_t, s.p_b), (s.p_l, s.p_r), (0, 0)))
    matrix = np.ascontiguousarray(kernel.transpose(2, 0, 1, 3).reshape(-1, s.k_c))

    def run() -> NDArray:
        windows = np.lib.stride_tricks.sliding_window_view(image, (s.k_h, s.k_w), axis=(1, 2))
        return windows[:, :: s.s_h, :: s.s_w].reshape(-1, len(matrix)) @ matrix

    return Call(run, lambda out: out.reshape(s.output_shape))


def scipy_oaconvolve(s: pymec.ConvShape, x: NDArray, kernel: NDArray, n_threads: int) -> Call:
    """SciPy's own means: one call of ``oaconvolve``, on all input channels, per image and output channel."""
    import scipy.signal

    if s.groups > 1 or s.d_h > 1 or s.d_w > 1:
        raise CannotDo("is written for one group, without dilation")
    image = np.pad(x, ((0, 0), (s.p_t, s.p_b), (s.p_l, s.p_r), (0, 0)))

    def run() -> NDArray:
        out = np.empty(s.output_shape, np.float32)
        for n in range(s.i_n):
            for m in range(s.k_c):
                planes = scipy.signal.oaconvolve(image[n], kernel[::-1, ::-1, :, m], "valid", axes=(0, 1))
                out[n, ..., m] = planes[:: s.s_h, :: s.s_w].sum(-1)
        return out

    return Call(run, np.asarray)


PEERS: dict[str, tuple[Callable[[pymec.ConvShape, NDArray, NDArray, int], Call], str]] = {
    "torch channels-last": (torch_nhwc, "pip install torch"),
    "torch NCHW": (torch_nchw, "pip install torch"),
    "torch prepacked": (torch_prepacked, "pip install torch"),
    "onnxruntime": (onnxruntime, "pip install onnxruntime onnx"),
    "openvino": (openvino, "pip install openvino"),
    "ncnn": (ncnn, "pip install ncnn"),
    "jax": (jax, "pip install jax"),
    "numpy im2col": (numpy_im2col, "pip install numpy"),
    "scipy oaconvolve": (scipy_oaconvolve, "pip install scipy"),
}
"""Every peer by name: how its call is made, and how it is installed."""

INEXACT = ("ncnn",)
"""Peers that may compute with other products than the definition's (Winograd)."""


def versions_of_peers() -> dict[str, str]:
    """The versions of the libraries that are installed."""
    found = {}
    for name in ("torch", "onnxruntime", "openvino", "ncnn", "jax"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
