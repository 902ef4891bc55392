"""What models ask of a dataset: one input of a kind they can read, and its sizes."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

from aflctl.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from aflctl.api import DataSpec, Modality

FITTING = {
    "image": "logistic, mlp, cnn, lenet5, resnet18",
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


def pixels(spec: DataSpec, model: str, least: int) -> tuple[int, int, int]:
    """(channels, height, width) of the one image; UserError where it is smaller than `least` pixels."""
    modality = only(spec, model, ("image", "audio"))
    if len(modality.shape) != 3 or min(modality.shape[1:]) < least:
        raise UserError(
            f"model: {model} needs input of shape channels x height x width with sides of at least {least}, "
            f"modality {modality.name!r} is {modality.shape}",
            hint="cnn fits images of any size",
        )
    depth, height, width = modality.shape
    return depth, height, width
