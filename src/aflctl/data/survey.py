"""What a prepared dataset holds, and in what it differs from the published one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from aflctl.data.raw import Raw

if TYPE_CHECKING:
    from aflctl.data.files import FileDataset


@dataclass(frozen=True)
class Survey:
    """Facts for people and programs.

    owners        column -> how many natural clients
    left_out      what was wrong with samples that could not be read
    differences   in what the content differs from the published set; empty also where nothing is published
    originals     original file that is here -> original (as published), other, or present (no checksum is published)
    """

    train: int
    test: int
    classes: int
    fingerprint: str
    owners: Mapping[str, int]
    left_out: Sequence[str]
    differences: Sequence[str]
    originals: Mapping[str, str]


def survey(dataset: FileDataset, cache: Path) -> Survey:
    """Of a set that is prepared; DataMissing where it is not."""
    import numpy as np

    from aflctl.data import store

    source = dataset.open(cache)
    stored = store.read(dataset.stored_at(cache), dataset.how())
    parts = {"training": source.train.labels.numpy(), "test": source.test.labels.numpy()}
    differences = []
    for (name, labels), wanted in zip(parts.items(), dataset.published()):
        counts = np.bincount(labels, minlength=source.spec.classes)
        if len(labels) != wanted:
            differences.append(f"{len(labels):,} {name} samples, the published set has {wanted:,}")
        elif dataset.listing().balanced and len(np.unique(counts)) > 1:
            differences.append(
                f"{counts.min():,} to {counts.max():,} {name} samples of a class, the published set has "
                f"{wanted // source.spec.classes:,} of each"
            )
    raw = Raw(cache / dataset.key, dataset.listing())
    originals = {file.name: raw.status(file) for file in dataset.listing().originals()}
    return Survey(
        len(source.train),
        len(source.test),
        source.spec.classes,
        source.fingerprint,
        {column: len(np.unique(ids)) for column, ids in source.naturals.items()},
        list(stored.notes.get("left out", ())) if stored is not None else [],
        differences,
        {name: status for name, status in originals.items() if status != "absent"},
    )
