"""What plug-ins of data and models hand over, taken only if it fits: each failure names the plug-in and what was wrong.

Cheap looks alone: nothing here reads every sample. `aflctl plugin check` looks closer.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from aflctl.api import Algorithm, DataSpec, FederatedData, Samples, Setup, Source
from aflctl.errors import Diverged, HookFailed, blaming
from aflctl.train import answers

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from aflctl.api import Dataset, Fusion, Model, Partition, Personalization

Rows = list["NDArray[np.int64]"]


def opened(dataset: Dataset, cache: Path) -> Source:
    """A dataset in memory, whose arrays are what its description says."""
    who = f"{type(dataset).__name__}.open"
    with blaming(who):
        source = dataset.open(cache)
    if not isinstance(source, Source):
        raise HookFailed(f"{who} returned {type(source).__name__}, not a Source")
    _described(source.spec, source.fingerprint, who)
    for part, name in ((source.train, "train"), (source.test, "test")):
        _samples(part, source.spec, f"{who}: `{name}`")
    if not len(source.train):
        raise HookFailed(f"{who} returned no training samples")
    return source


def federated(dataset: Dataset, cache: Path, clients: int, rng: np.random.Generator) -> FederatedData | None:
    """Data that a dataset divides itself; None where it does not."""
    who = f"{type(dataset).__name__}.federate"
    with blaming(who):
        made = dataset.federate(cache, clients, rng)
    if made is None:
        return None
    if not isinstance(made, FederatedData):
        raise HookFailed(f"{who} returned {type(made).__name__}, which is no FederatedData")
    _described(made.spec, made.fingerprint, who)
    if len(made.samples) != clients:
        raise HookFailed(f"{who} returned {len(made.samples)} clients, not {clients}")
    return made


def _described(spec: Any, fingerprint: Any, who: str) -> None:
    if not isinstance(spec, DataSpec) or not spec.modalities or spec.classes < 1:
        raise HookFailed(f"{who}: `spec` must be a DataSpec with a modality and a class at least")
    if not isinstance(fingerprint, str) or not fingerprint:
        raise HookFailed(f"{who}: `fingerprint` is {fingerprint!r}, not text; a run's identity is made from it")


def _samples(samples: Any, spec: DataSpec, who: str) -> None:
    if not isinstance(samples, Samples):
        raise HookFailed(f"{who} is {type(samples).__name__}, not Samples")
    y = samples.y
    if not isinstance(y, Tensor) or y.dtype != torch.int64 or y.dim() != 1:
        raise HookFailed(f"{who}: the labels must be a tensor [n] of int64")
    if len(y) and not 0 <= int(y.min()) <= int(y.max()) < spec.classes:
        raise HookFailed(f"{who}: labels go from {int(y.min())} to {int(y.max())}, outside 0 ... {spec.classes - 1}")
    if not isinstance(samples.x, tuple) or len(samples.x) != len(spec.modalities):
        raise HookFailed(f"{who}: `x` must be a tuple of {len(spec.modalities)} tensors, one per modality")
    for x, modality in zip(samples.x, spec.modalities, strict=True):
        wanted = (len(y), *modality.shape)
        if not isinstance(x, Tensor) or tuple(x.shape) != wanted:
            shape = tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__
            raise HookFailed(f"{who}: {modality.name!r} is {shape}, not {wanted}")


def divided(partition: Partition, labels: NDArray[np.int64], clients: int, rng: Any, naturals: Any) -> Rows:
    """Positions of training samples per client."""
    who = f"{type(partition).__name__}.split"
    with blaming(who):
        rows = partition.split(labels, clients, rng, naturals)
    if not isinstance(rows, Sequence):
        raise HookFailed(f"{who} returned {type(rows).__name__}, not a list of one array per client")
    found = []
    for client, given in enumerate(rows):
        part = np.asarray(given)
        if part.ndim != 1 or (len(part) and part.dtype.kind not in "iu"):
            raise HookFailed(f"{who}: client {client} has {part.dtype} of shape {part.shape}, not positions [n]")
        if len(part) and not 0 <= int(part.min()) <= int(part.max()) < len(labels):
            raise HookFailed(f"{who}: client {client} has a position outside 0 ... {len(labels) - 1}")
        found.append(part.astype(np.int64, copy=False))
    return found


def built(model: Model, spec: DataSpec, fusion: Fusion | None) -> nn.Module:
    """A module with parameters."""
    who = f"{type(model).__name__}.build"
    with blaming(who):
        module = model.build(spec, fusion)
    if not isinstance(module, nn.Module):
        raise HookFailed(f"{who} returned {type(module).__name__}, not a torch module")
    if not any(p.numel() for p in module.parameters()):
        raise HookFailed(f"{who} returned a module without parameters: there is nothing to train")
    return module


def priced(model: Model, spec: DataSpec) -> float | None:
    """FLOPs of one sample's forward pass, where the model knows."""
    who = f"{type(model).__name__}.flops"
    with blaming(who):
        flops = model.flops(spec)
    if flops is not None and not (isinstance(flops, float | int) and isfinite(flops) and flops >= 0):
        raise HookFailed(f"{who} returned {flops!r}, not a finite number of at least 0, nor None")
    return flops


def wrapped(personalization: Personalization, inner: Algorithm[Any], setup: Setup) -> Algorithm[Any]:
    """A method around a method."""
    who = f"{type(personalization).__name__}.wrap"
    with blaming(who):
        outer = personalization.wrap(inner, setup)
    if not isinstance(outer, Algorithm):
        raise HookFailed(f"{who} returned {type(outer).__name__}, not an Algorithm")
    return outer


def memory(algorithm: Algorithm[Any], setup: Setup) -> dict[str, Tensor]:
    """What a client remembers before its first task."""
    who = f"{type(algorithm).__name__}.memory"
    with blaming(who):
        tensors = algorithm.memory(setup)
    return answers.named(tensors, who, "its memory")


def params(algorithm: Algorithm[Any], state: Any, size: int) -> Tensor:
    """[P] the global model."""
    who = f"{type(algorithm).__name__}.params"
    with blaming(who):
        w = algorithm.params(state)
    return answers.vector(w, who, size)


def personal(algorithm: Algorithm[Any], state: Any, client: int, memory: Any, size: int) -> Tensor:
    """[P] what a client is evaluated with."""
    who = f"{type(algorithm).__name__}.personal of client {client}"
    with blaming(who):
        w = algorithm.personal(state, client, memory)
    if not bool(torch.isfinite(answers.vector(w, who, size)).all()):
        raise Diverged(
            f"the vector that client {client} is evaluated with is not finite",
            hint="lower local.lr or the personalization's rate, or set local.clip_norm",
        )
    return w
