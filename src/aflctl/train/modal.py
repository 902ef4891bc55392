"""Missing modalities as masks: zeros where something is missing, and a 0 in `present`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from aflctl.api import Batch


def presence(
    owned: Sequence[Sequence[int]],
    rows: Sequence[NDArray[np.int64]],
    samples: int,
    modalities: int,
    missing: float,
    rng_of: Callable[[int], np.random.Generator],
) -> Tensor:
    """[samples, M] float32: client c's rows have its modalities, each missing with a chance, but never all of them."""
    table = np.zeros((samples, modalities), np.float32)
    for client, mine in enumerate(rows):
        has = np.zeros(modalities, bool)
        has[list(owned[client])] = True
        there = np.broadcast_to(has, (len(mine), modalities))
        if missing:
            there = _some_left(there, rng_of(client), missing)
        table[mine] = there
    return torch.from_numpy(table)


def hidden(mask: Tensor, n: int, epochs: int, dropout: float, rng: np.random.Generator) -> Tensor:
    """[epochs, n, M] float32: the mask [M], thinned by modality dropout anew for every epoch and sample."""
    there = np.broadcast_to(mask.numpy() > 0, (epochs * n, len(mask)))
    if dropout:
        there = _some_left(there, rng, dropout)
    return torch.from_numpy(there.astype(np.float32)).view(epochs, n, len(mask))


def _some_left(there: NDArray[np.bool_], rng: np.random.Generator, chance: float) -> NDArray[np.bool_]:
    """Each True becomes False with a chance; where none would be left, one of them, drawn at random, stays."""
    keep = there & (rng.random(there.shape) >= chance)
    ranks = np.where(there, rng.random(there.shape), -1.0)
    last = np.zeros_like(keep)
    last[np.arange(len(keep)), ranks.argmax(1)] = True
    empty = ~keep.any(1)
    keep[empty] = (last & there)[empty]
    return keep


def masked(x: Any, present: Tensor) -> Any:
    """Inputs [..., features] with zeros where `present` [..., M] is 0."""
    if not isinstance(x, tuple):
        return x
    return tuple(_times(part, present[..., m]) for m, part in enumerate(x))


def _times(x: Tensor, there: Tensor) -> Tensor:
    wide = there.reshape(*there.shape, *[1] * (x.dim() - there.dim()))
    return x * wide.to(x.dtype)


def thinned(batch: Batch, seen: Tensor | None) -> Batch:
    """A batch of which only `seen` [B, M] is seen."""
    if seen is None:
        return batch
    present = batch.present * seen
    return batch._replace(x=masked(batch.x, present), present=present)
