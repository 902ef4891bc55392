"""What models ask of a dataset: one input of a kind they can read, and its sizes."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

from aflctl.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from aflctl.api import DataSpec, Modality

FITTING = {
    "image": "logistic, mlp, cnn",
    "vector": "logistic, mlp",
    "sensor": "logistic, mlp, sensor-cnn",
    "audio": "logistic, mlp, cnn",
    "sequence": "textcnn, char-lstm, transformer",
}


def only(spec: DataSpec, model: str, kinds: Iterable[str]) -> Modality:
    """The dataset's one modality, when this model can read its kind; else UserError with models that can."""
    if len(spec.modalities) != 1:
        names = ", ".join(m.name for m in spec.modalities)
        raise UserError(
            f"model: {model} reads one input, the dataset has {len(spec.modalities)} ({names})",
            hint="choose one of the dataset's modalities, or a model with a fusion",
        )
    modality = spec.modalities[0]
    if modality.kind not in kinds:
        raise UserError(
            f"model: {model} cannot read {modality.kind} input (modality {modality.name!r}, shape {modality.shape})",
            hint=f"models for {modality.kind} input: {FITTING[modality.kind]}",
        )
    return modality


def size(modality: Modality) -> int:
    """Number of values in one sample."""
    return prod(modality.shape)
