"""The machine's floor: the products and convolutions of a model's layers, one thread, nothing else.

    python benchmarks/floor.py

Of every linear and convolutional layer: the forward product, the gradient of its weights, and (but for the first
layer) the gradient of its input. No autograd, no bias, no nonlinearity, no optimizer, no data.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from workloads import WORKLOADS, example

from aflctl.train.allocator import keep_freed_memory


def layers(module: nn.Module, x: Tensor) -> list[tuple[nn.Module, Tensor, Tensor]]:
    """(layer, its input, a gradient of its output's shape), in the order of a forward pass."""
    seen: list[tuple[nn.Module, Tensor, Tensor]] = []
    heavy = [m for m in module.modules() if isinstance(m, nn.Linear | nn.Conv2d)]

    def keep(layer: nn.Module, given: Any, out: Tensor) -> None:
        seen.append((layer, given[0].clone(), torch.randn_like(out)))

    hooks = [m.register_forward_hook(keep) for m in heavy]
    with torch.no_grad():
        module(x)
    for hook in hooks:
        hook.remove()
    return seen


def products(layer: Any, x: Tensor, g: Tensor, first: bool) -> Callable[[], object]:
    """The layer's products of one SGD step."""
    w = layer.weight.detach()
    if isinstance(layer, nn.Linear):
        return lambda: (x @ w.t(), g.t() @ x, None if first else g @ w)
    form = (layer.stride, layer.padding, layer.dilation)
    needs = [not first, True, False]
    backward = torch.ops.aten.convolution_backward
    return lambda: (
        F.conv2d(x, w, None, *form, layer.groups),
        backward(g, x, w, None, *form, False, [0, 0], layer.groups, needs),
    )


def floor_ms(name: str, device: str = "cpu", repeats: int = 20) -> float:
    """Milliseconds of one SGD step's products: CPU time, but wall time on a GPU."""
    module, x = example(name, device)
    work = [products(m, a, g, i == 0) for i, (m, a, g) in enumerate(layers(module, x))]
    taken, clock = [], time.process_time if device == "cpu" else time.perf_counter
    for _ in range(repeats):
        start = clock()
        for product in work:
            product()
        if device != "cpu":
            torch.cuda.synchronize()
        taken.append(clock() - start)
    return 1e3 * median(taken[repeats // 3 :])


def main() -> None:
    torch.set_num_threads(1)
    keep_freed_memory()
    print(f"torch {torch.__version__}, one thread")
    for name in WORKLOADS:
        print(f"{name:32s} {floor_ms(name):8.3f} ms a step")


if __name__ == "__main__":
    main()
