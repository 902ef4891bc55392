"""Every dataset in small: original files as they are published, written for one test session, and then prepared."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from aflctl.api import DataSpec
from aflctl.plugins import registry
from builtin.test_datasets_images import cifar_batch, grey, write_idx, write_svhn
from builtin.test_datasets_sensors import harbox_rows, picture, rows, write_clips, write_har, write_tree
from builtin.test_datasets_text import write_csv

DICE = np.random.default_rng(11)
SPEECH = "Now is the winter of our discontent\nMade glorious summer by this sun of York;\n"


def _idx(parts: tuple[str, str], classes: int = 10) -> Callable[[Path], None]:
    def write(raw: Path) -> None:
        for part, n in zip(parts, (2 * classes, 10)):
            write_idx(raw, part, *grey(n, classes))

    return write


def _cifar10(raw: Path) -> None:
    for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"):
        (raw / name).write_bytes(pickle.dumps(cifar_batch(4, labels=DICE.integers(0, 10, 4).tolist()), protocol=2))


def _cifar100(raw: Path) -> None:
    for name in ("train", "test"):
        fine = DICE.integers(0, 100, 12)
        batch = cifar_batch(12, fine_labels=fine.tolist(), coarse_labels=(fine // 5).tolist())
        (raw / name).write_bytes(pickle.dumps(batch, protocol=2))
    names = {"fine_label_names": [f"f{i}" for i in range(100)], "coarse_label_names": [f"c{i}" for i in range(20)]}
    (raw / "meta").write_bytes(pickle.dumps(names, protocol=2))


def _svhn(raw: Path) -> None:
    write_svhn(raw, [10, 1, 2, 3, 4, 5, 6, 7, 8, 9])


def _tiny_imagenet(raw: Path) -> None:
    write_tree(raw)
    ids = [f"n{i:02}" for i in range(1, 201)]
    (raw / "wnids.txt").write_text("\n".join(ids))
    for i, wnid in enumerate(ids):
        picture(raw / "train" / wnid / "images" / f"{wnid}_0.JPEG", "RGB", i)


def _shakespeare(raw: Path) -> None:
    (raw / "shakespeare_by_role.json").write_text(json.dumps({f"PLAY_ROLE{i}": SPEECH * 12 for i in range(4)}))


def _har(raw: Path) -> None:
    write_har(raw, 12)


def _imu(raw: Path) -> None:
    for user in ("hsh_1", "mmw_2"):
        for activity in ("walk", "up", "down"):
            rows(raw / f"{user}_{activity}_nor.txt", DICE.random((4, 900)), ",")


def _harbox(raw: Path) -> None:
    for user in ("1", "7"):
        for activity in ("Call", "Hop", "typing", "Walk", "Wave"):
            rows(raw / user / f"{activity}_train.txt", harbox_rows(400))


def _crema(raw: Path) -> None:
    for name in write_clips(raw):
        for i in range(5):
            picture(raw / "Frames" / name / f"{i}.jpg", "RGB", 40 * i)


WRITERS: dict[str, Callable[[Path], None]] = {
    "mnist": _idx(("train", "t10k")),
    "fashion-mnist": _idx(("train", "t10k")),
    "emnist": _idx(("emnist-balanced-train", "emnist-balanced-test"), 47),
    "cifar10": _cifar10,
    "cifar100": _cifar100,
    "svhn": _svhn,
    "tiny-imagenet": _tiny_imagenet,
    "ag-news": write_csv,
    "shakespeare": _shakespeare,
    "uci-har": _har,
    "imu": _imu,
    "harbox": _harbox,
    "crema-d": _crema,
}
VARIANTS: dict[str, tuple[Mapping[str, Any], ...]] = {
    "uci-har": ({}, {"modalities": "split"}),
    "crema-d": ({}, {"video": True}),
}
"""Parameters that change how many inputs a model is shown."""


def named(dataset: str, params: Mapping[str, Any]) -> str:
    """`uci-har, modalities: split`, as documents write it."""
    return ", ".join([dataset, *(f"{k}: {str(v).lower() if isinstance(v, bool) else v}" for k, v in params.items())])


def all_sets() -> dict[str, tuple[str, Mapping[str, Any]]]:
    """Title -> (dataset, parameters), of every built-in dataset and variant."""
    names = [e.name for e in registry().entries("datasets") if e.distribution == "aflctl"]
    return {named(name, params): (name, params) for name in names for params in VARIANTS.get(name, ({},))}


def prepare_all(cache: Path) -> dict[str, DataSpec]:
    """Writes and prepares every set below `cache`; title -> what a model is shown."""
    found = {}
    for title, (name, params) in all_sets().items():
        raw = cache / name / "raw"
        if name in WRITERS and not raw.exists():
            raw.mkdir(parents=True)
            WRITERS[name](raw)
        dataset = registry().load("datasets", name)(**params)
        dataset.prepare(cache, download=False)
        made = dataset.federate(cache, 2, np.random.default_rng(0))
        found[title] = (made or dataset.open(cache)).spec
    return found
