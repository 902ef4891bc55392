"""From a client's samples to batches: the order of a task, and the scaling of raw arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from aflctl.api import Batch, Samples
from aflctl.train.modal import masked

if TYPE_CHECKING:
    from aflctl.api import DataSpec, Modality


def epoch_order(rng: np.random.Generator, n: int, epochs: int) -> Tensor:
    """[epochs, n] int64: one permutation of the local data per epoch, from the task's own stream."""
    return torch.from_numpy(np.stack([rng.permutation(n) for _ in range(epochs)]).astype(np.int64))


def moved(samples: Samples, device: torch.device) -> Samples:
    """The same samples on a device; themselves where they are there."""
    if samples.y.device == device:
        return samples

    def to(t: Tensor | None) -> Any:
        return None if t is None else t.to(device)

    return Samples(tuple(to(x) for x in samples.x), to(samples.y), to(samples.present), to(samples.rows))


class Feed:
    """Gathers batches: raw arrays stay as they are in memory and are scaled on the fly, into fresh memory."""

    def __init__(self, spec: DataSpec, device: torch.device | None = None) -> None:
        self.device = device or torch.device("cpu")
        scales = [_scaling(m) for m in spec.modalities]
        self._scale = [None if s is None else (s[0].to(self.device), s[1].to(self.device)) for s in scales]
        self._ones: dict[tuple[int, ...], Tensor] = {}
        self._modalities = len(spec.modalities)

    def batch(self, samples: Samples, at: Tensor) -> Batch:
        """The samples of this view at positions `at` [B], all with mask 1."""
        x, y, present = self.raw(samples, at)
        return Batch(x, y, self.ones(len(at)), present)

    def raw(self, samples: Samples, at: Tensor) -> tuple[Any, Tensor, Tensor]:
        """(x, y, present) at positions `at`."""
        return self.absolute(samples, at if samples.rows is None else samples.rows.index_select(0, at))

    def absolute(self, samples: Samples, rows: Tensor) -> tuple[Any, Tensor, Tensor]:
        """(x, y, present) at positions in the whole arrays."""
        parts = tuple(self._one(x.index_select(0, rows), i) for i, x in enumerate(samples.x))
        present = (
            self.ones(len(rows), self._modalities)
            if samples.present is None
            else samples.present.index_select(0, rows).to(torch.float32)
        )
        y = samples.y.index_select(0, rows)
        if self._modalities == 1:
            return parts[0], y, present
        return (parts if samples.present is None else masked(parts, present)), y, present

    def ones(self, *shape: int) -> Tensor:
        """A shared constant."""
        got = self._ones.get(shape)
        if got is None:
            with torch.inference_mode(False):  # it outlives an evaluation, and training must be able to use it
                got = self._ones[shape] = torch.ones(shape, device=self.device)
        return got

    def _one(self, x: Tensor, i: int) -> Tensor:
        scale = self._scale[i]
        if scale is None:
            return x if x.dtype in (torch.float32, torch.int64) else x.to(torch.float32)
        factor, shift = scale
        out = x.to(torch.float32)
        if x.dtype == torch.uint8:
            factor = factor / 255.0
        elif out is x:
            out = x.clone()
        return out.mul_(factor).sub_(shift)


def _scaling(m: Modality) -> tuple[Tensor, Tensor] | None:
    """(1 / std, mean / std) per channel, shaped to broadcast over [B, channel, ...]."""
    if m.kind == "sequence":
        return None
    if not m.mean and m.kind != "image":
        return None
    mean, std = torch.tensor(m.mean or (0.0,)), torch.tensor(m.std or (1.0,))
    wide = (-1, *([1] * (len(m.shape) - 1)))
    return (1.0 / std).view(wide), (mean / std).view(wide)
