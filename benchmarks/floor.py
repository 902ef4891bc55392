"""The machine's floor: matrix products of the models' shapes, one thread, so that other numbers can be read as shares.

python benchmarks/floor.py
"""

from __future__ import annotations

import time
from statistics import median

import torch

SHAPES = {
    "MLP 784-512-256-10, batch 64": [(64, 784, 512), (64, 512, 256), (64, 256, 10)],
    "2NN 784-200-200-10, batch 10": [(10, 784, 200), (10, 200, 200), (10, 200, 10)],
    "digits MLP 64-64-10, batch 32": [(32, 64, 64), (32, 64, 64), (32, 64, 10)],
    "logistic on MNIST, batch 32": [(32, 784, 10)],
    # convolutions as the products they amount to: positions x (channels * kernel) x filters
    "CIFAR CNN, batch 50": [(50 * 1024, 75, 32), (50 * 256, 800, 64), (50, 4096, 20)],
}


def floor_ms(shapes: list[tuple[int, int, int]], device: str = "cpu", repeats: int = 30) -> float:
    """Milliseconds of one SGD step's products: forward, input gradient and weight gradient of every layer."""
    parts = [
        (torch.randn(b, i, device=device), torch.randn(i, o, device=device), torch.randn(b, o, device=device))
        for b, i, o in shapes
    ]
    taken = []
    for _ in range(repeats):
        start = time.perf_counter()
        for x, w, g in parts:
            x @ w, g @ w.t(), x.t() @ g
        if device != "cpu":
            torch.cuda.synchronize()
        taken.append(time.perf_counter() - start)
    return 1e3 * median(taken[repeats // 3 :])


def main() -> None:
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, one thread")
    for name, shapes in SHAPES.items():
        flop = sum(6 * b * i * o for b, i, o in shapes)
        ms = floor_ms(shapes)
        print(f"{name:32s} {ms:8.3f} ms a step  {flop / ms / 1e6:8.1f} GFLOP/s")


if __name__ == "__main__":
    main()
