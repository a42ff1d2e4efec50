"""The same network and work in PyTorch, in the variants that its users would try; the only module that imports torch.

The data lie on the device, standardised once as float32 in the variant's memory format, and batches are slices:
nothing is loaded, copied or gathered within the time measured. The optimiser is torch's fused SGD.
"""

import functools
import itertools
import sys
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from margin_jax.bench.timing import Work
from margin_jax.models.convnet import DESCRIBED

FORMATS = {"nchw": torch.contiguous_format, "nhwc": torch.channels_last}


def device() -> str:
    """The name of torch's device: cuda where it sees a GPU, else cpu."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def versions() -> dict[str, str]:
    """What identifies PyTorch in the result: its version, threads and device."""
    return {"torch": torch.__version__, "torch_threads": str(torch.get_num_threads()), "torch_device": device()}


def _finish() -> None:
    if device() == "cuda":
        torch.cuda.synchronize()


def make_network(batch_norm: bool, size: int = 32, channels: int = 3,
                 section: Mapping[str, Any] = DESCRIBED) -> nn.Module:
    """A ConvNet of `margin_jax.models.convnet` with 10 classes and no hidden dense layer, on the device.

    Args:
      batch_norm: after each convolution.
      size: H = W of the images.
      channels: of the images.
      section: what the config's section `model` says of it.
    """
    layers, inputs, kernel, biases = [], channels, section["kernel"], section["biases"]
    around = kernel // 2 if section["padding"] == "same" else 0
    for layer, width in enumerate(section["widths"]):
        stride = section["strides"][layer] if section["strides"] else 2
        layers += [nn.Conv2d(inputs, width, kernel, stride, around, bias=biases),
                   *([nn.BatchNorm2d(width)] if batch_norm else []), nn.ReLU()]
        inputs, size = width, (size + 2 * around - kernel) // stride + 1
        if layer in section["pooling"]:
            layers, size = [*layers, nn.MaxPool2d(2)], size // 2
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(inputs * size * size, 10, bias=biases)).to(device())


def tensors(images: np.ndarray, labels: np.ndarray, memory_format: torch.memory_format) -> tuple[torch.Tensor, ...]:
    """Standardised images and labels on the device.

    Args:
      images: (N, H, W, C) uint8.
      labels: (N,) integer.
      memory_format: one of `FORMATS`.

    Returns:
      (N, C, H, W) float32 in that memory format, and (N,) int64.
    """
    x = (torch.from_numpy(images).permute(0, 3, 1, 2).float() - 120) / 60
    return x.to(device()).contiguous(memory_format=memory_format), torch.from_numpy(labels).long().to(device())


def _epoch(images: np.ndarray, labels: np.ndarray, batch: int, make: Callable[[], nn.Module],
           memory_format: torch.memory_format, compiled: bool) -> Work:
    torch.manual_seed(0)
    x, y = tensors(images, labels, memory_format)
    network = make().to(memory_format=memory_format)
    optimizer = torch.optim.SGD(network.parameters(), 0.001, momentum=0.9, fused=True)
    rows = batch or len(y)

    def loss_of(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return nn.functional.cross_entropy(network(x), y)

    loss_fn = torch.compile(loss_of, dynamic=False) if compiled else loss_of

    def epoch() -> None:
        for start in range(0, len(y), rows):
            optimizer.zero_grad(set_to_none=True)
            loss_fn(x[start:start + rows], y[start:start + rows]).backward()
            optimizer.step()
        _finish()

    return epoch


def _forward(images: np.ndarray, labels: np.ndarray, rows: int, batch_norm: bool, memory_format: torch.memory_format,
             compiled: bool) -> Work:
    torch.manual_seed(0)
    x, _ = tensors(images, labels, memory_format)
    network = make_network(batch_norm).to(memory_format=memory_format).eval()
    logits = torch.compile(network, dynamic=False) if compiled else network

    def forward() -> None:
        with torch.inference_mode():
            torch.cat([logits(x[start:start + rows]) for start in range(0, len(x), rows)])
        _finish()

    return forward


def _working(variants: dict[str, Callable[[], Work]]) -> dict[str, Work]:
    working = {}
    for name, make in variants.items():
        torch.compiler.reset()  # or the limit on recompilations makes a later variant run eagerly
        try:
            working[name] = make()
            working[name]()
        except Exception as error:
            if "compile" not in name:
                raise
            print(f"PyTorch's variant {name!r} does not work here: {type(error).__name__}", file=sys.stderr)
            working.pop(name, None)
    return working


def epochs(images: np.ndarray, labels: np.ndarray, batch: int, batch_norm: bool, compiled: bool,
           section: Mapping[str, Any] = DESCRIBED) -> dict[str, Work]:
    """One training epoch in fixed order, by variant.

    Args:
      images: (N, 32, 32, 3) uint8.
      labels: (N,) integer.
      batch: rows per step, 0 for all.
      batch_norm: after each convolution.
      compiled: whether to try torch.compile beside eager execution.
      section: what the config's section `model` says of the network.

    Returns:
      By the variant's name, such as "nhwc, compile", the work of one epoch; a compiled variant that fails is left out.
    """
    make = functools.partial(make_network, batch_norm, section=section)
    return _working({f"{name}{', compile' if c else ''}": functools.partial(_epoch, images, labels, batch, make,
                                                                            FORMATS[name], c)
                     for name, c in itertools.product(FORMATS, (False, True) if compiled else (False,))})


def forwards(images: np.ndarray, labels: np.ndarray, batch_norm: bool, compiled: bool) -> dict[str, Work]:
    """One pass over all images in inference mode, by variant, such as "500 nchw" for 500 rows at a time.

    Arguments and what fails are as in `epochs`.
    """
    return _working({f"{rows} {name}{', compile' if c else ''}": functools.partial(
        _forward, images, labels, rows, batch_norm, FORMATS[name], c)
        for rows, name, c in itertools.product((100, 500), FORMATS, (False, True) if compiled else (False,))})
