"""The workloads that the benchmarks share: jobs of a fixed number of steps on random data of a real set's shape."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np
import torch

from aflctl.api import DataSpec, Local, Modality, Samples
from aflctl.builtin.algorithms.fedbuff import FedBuff
from aflctl.builtin.models.cnn import Cnn
from aflctl.builtin.models.logistic import Logistic
from aflctl.builtin.models.mlp import Mlp
from aflctl.train.batches import Feed, epoch_order, moved
from aflctl.train.jobs import Kit, Spec
from aflctl.train.task import FlatTask

MNIST = DataSpec((Modality("image", (1, 28, 28), "image", (0.1307,), (0.3081,)),), 10)
CIFAR = DataSpec((Modality("image", (3, 32, 32), "image", (0.49, 0.48, 0.45), (0.25, 0.24, 0.26)),), 10)
DIGITS = DataSpec((Modality("image", (1, 8, 8), "image", (0.3,), (0.37,)),), 10)
WORKLOADS: dict[str, tuple[DataSpec, Any, int, int]] = {
    "MLP 784-512-256-10, batch 64": (MNIST, Mlp(hidden=(512, 256)), 64, 384),
    "2NN 784-200-200-10, batch 10": (MNIST, Mlp(hidden=(200, 200)), 10, 120),
    "CIFAR CNN, batch 50": (CIFAR, Cnn(), 50, 150),
    "digits MLP 64-64-10, batch 32": (DIGITS, Mlp(hidden=(64, 64)), 32, 320),
    "logistic on MNIST, batch 32": (MNIST, Logistic(), 32, 512),
    "digits CNN, batch 32": (DIGITS, Cnn(channels=(8, 16), hidden=32), 32, 160),
    "MNIST CNN, batch 32": (MNIST, Cnn(), 32, 160),
}


def workload(name: str, jobs: int, epochs: int = 2, device: str = "cpu", seed: int = 0) -> tuple[Kit, list[Spec], Any]:
    """(kit, equal jobs, the plain module with the same weights)."""
    spec, model, batch, n = WORKLOADS[name]
    place = torch.device(device)
    rng = np.random.default_rng(seed)
    size = 4000
    shape = (size, *spec.modalities[0].shape)
    data = Samples(
        (torch.from_numpy(rng.integers(0, 256, shape, dtype=np.uint8)),), torch.from_numpy(rng.integers(0, 10, size))
    )
    module = model.build(spec)
    plain = copy.deepcopy(module).to(place)
    task, feed = FlatTask(module, spec).to(place), Feed(spec, place)
    local = Local(epochs=epochs, lr=0.001, momentum=0.9, batch_size=batch)
    per_epoch = -(-n // batch)
    steps = epochs * per_epoch
    specs = []
    for k in range(jobs):
        rows = torch.from_numpy(rng.permutation(size)[:n])
        mine, order = Samples(data.x, data.y, None, rows), epoch_order(rng, n, epochs)
        rates = [local.lr] * epochs
        specs.append(
            Spec(k, k, 0, {"w": task.init}, {}, mine, order, rates, per_epoch, batch, steps, steps, k, task.buffers)
        )
    if device != "cpu":
        there = moved(data, place)
        for s in specs:
            assert s.data.rows is not None
            s.data = Samples(there.x, there.y, None, s.data.rows.to(place))
            s.order = s.order.to(place)
    return Kit(FedBuff(), task, feed, local), specs, plain


def example(name: str, device: str = "cpu") -> tuple[torch.nn.Module, torch.Tensor]:
    """(the plain module, one batch of noise)."""
    spec, model, batch, _ = WORKLOADS[name]
    return model.build(spec).to(device), torch.randn(batch, *spec.modalities[0].shape, device=device)


def bare(plain: Any, kit: Kit, specs: list[Spec]) -> None:
    """The loop a researcher writes: the same batches, torch's own optimizer, nothing else."""
    for s in specs:
        rule = torch.optim.SGD(plain.parameters(), lr=kit.local.lr, momentum=kit.local.momentum)
        for t in range(s.steps):
            batch = kit.feed.batch(s.data, s.at(t))
            rule.zero_grad(set_to_none=True)
            torch.nn.functional.cross_entropy(plain(batch.x), batch.y).backward()
            rule.step()
    if kit.feed.device.type == "cuda":
        torch.cuda.synchronize()


def interleaved(
    repeats: int, clock: Callable[[], float] = time.process_time, **sides: Callable[[], object]
) -> dict[str, list[float]]:
    """CPU seconds of each side, taken in turns (other processes disturb them less); one round of warming up first."""
    out: dict[str, list[float]] = {name: [] for name in sides}
    for i in range(repeats + 1):
        for name, side in sides.items():
            start = clock()
            side()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if i:
                out[name].append(clock() - start)
    return out


def ratio(top: list[float], bottom: list[float]) -> float:
    """Median of the ratios of paired repeats."""
    return median(a / b for a, b in zip(top, bottom, strict=True))
