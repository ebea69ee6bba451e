"""The ways in which ``networks.py`` runs a network's layers: pymec's calls, its plans, and torch."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

import pymec


class Calls:
    """One conv2d call for each layer."""

    accuracy = "exact"

    def __init__(self, n_threads: int) -> None:
        self.n_threads = n_threads
        self.layers: list[Any] = []

    def add(self, kernel: NDArray, bias: NDArray, stride: int, groups: int) -> None:
        """One more layer, in the order in which the network asks for them."""
        options = {"stride": stride, "padding": kernel.shape[0] // 2, "groups": groups}
        self.layers.append((kernel, bias, options))

    def input(self, x: NDArray) -> Any:
        """The network's input as the library takes it."""
        return x

    def output(self, x: Any) -> NDArray:
        """And its output as an array of n-h-w-c."""
        return x

    def convolve(self, number: int, x: Any, relu: bool) -> Any:
        """The layer of that number."""
        kernel, bias, options = self.layers[number]
        activation = "relu" if relu else None
        return pymec.conv2d(x, kernel, bias, activation=activation, n_threads=self.n_threads, **options)

    def add_and_relu(self, x: Any, y: Any) -> Any:
        """ReLU of a sum, in the place of the second."""
        return np.maximum(np.add(x, y, out=y), 0, out=y)

    def max_pool(self, x: Any) -> Any:
        """The largest of 3 × 3 pixels at stride 2, with padding 1 around pixels that are never negative."""
        n, h, w, c = x.shape
        out = np.zeros((n, (h + 1) // 2, (w + 1) // 2, c), x.dtype)
        for row in (-1, 0, 1):
            for column in (-1, 0, 1):
                # Output y reads the image row 2·y + row, and the first output none if that is row -1.
                y, z = int(row < 0), int(column < 0)
                pixels = x[:, 2 * y + row :: 2, 2 * z + column :: 2]
                part = out[:, y : y + pixels.shape[1], z : z + pixels.shape[2]]
                np.maximum(part, pixels[:, : part.shape[1], : part.shape[2]], out=part)
        return out


class Plans(Calls):
    """A plan for each layer, made for the first image that it meets; it takes its kernel over."""

    def convolve(self, number: int, x: Any, relu: bool) -> Any:
        """The layer of that number, planned when it is first met."""
        plan, bias, options = self.layers[number]
        if not isinstance(plan, pymec.ConvPlan):
            kernel = plan
            plan = pymec.plan(x.shape, kernel.shape, accuracy=self.accuracy, n_threads=self.n_threads, **options)
            plan.prepare(kernel, take_over=self.accuracy == "exact")  # no transform can be read back
            self.layers[number] = plan, bias, options
        return plan(x, bias, activation="relu" if relu else None)


class FastPlans(Plans):
    """The same with Winograd, which keeps the caller's kernel beside its transform."""

    accuracy = "fast"


class Torch(Calls):
    """torch's conv2d on channels-last tensors, without gradients."""

    def __init__(self, n_threads: int) -> None:
        super().__init__(n_threads)
        import torch

        torch.set_num_threads(n_threads)
        torch.set_grad_enabled(False)
        self.torch = torch

    def add(self, kernel: NDArray, bias: NDArray, stride: int, groups: int) -> None:
        """Weights lie as torch's channels-last weights do."""
        torch = self.torch
        weight = torch.from_numpy(kernel).permute(3, 2, 0, 1).contiguous(memory_format=torch.channels_last)
        options = {"stride": stride, "padding": kernel.shape[0] // 2, "groups": groups}
        self.layers.append((weight, torch.from_numpy(bias), options))

    def input(self, x: NDArray) -> Any:
        """A channels-last view of the array."""
        return self.torch.from_numpy(x).permute(0, 3, 1, 2)

    def output(self, x: Any) -> NDArray:
        """Back to n-h-w-c."""
        return np.ascontiguousarray(x.permute(0, 2, 3, 1).numpy())

    def convolve(self, number: int, x: Any, relu: bool) -> Any:
        """ReLU in place, as torchvision's networks do it."""
        weight, bias, options = self.layers[number]
        out = self.torch.nn.functional.conv2d(x, weight, bias, **options)
        return out.relu_() if relu else out

    def add_and_relu(self, x: Any, y: Any) -> Any:
        """In place."""
        return y.add_(x).relu_()

    def max_pool(self, x: Any) -> Any:
        """torch's own."""
        return self.torch.nn.functional.max_pool2d(x, 3, 2, 1)


WAYS = {"calls": Calls, "plans": Plans, "fast plans": FastPlans, "torch": Torch}
