"""The checks of datasets and partitions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch

from aflctl.api import DataSpec, FederatedData, Samples, Source
from aflctl.errors import DataMissing, UserError
from aflctl.testing import parameters
from aflctl.testing.chance import untouched
from aflctl.testing.parameters import Settings
from aflctl.testing.results import Body, Failed, Skipped

CLIENTS = 8


@dataclass
class Bench:
    """A dataset or a partition with its parameters."""

    cls: type[Any]
    settings: Settings
    cache: Path | None = None
    variants: Sequence[Settings] = ()
    known: dict[Any, Any] = field(default_factory=dict)

    @property
    def made(self) -> Any:
        """The plug-in; skipped where it cannot be made without being told how."""
        needed = [n for n, info in self.cls.model_fields.items() if info.is_required() and n not in self.settings]
        if needed:
            raise Skipped(f"needs parameters: {', '.join(needed)}")
        return self.cls(**self.settings)

    @cached_property
    def folder(self) -> Path:
        """Where the dataset's files are."""
        from aflctl import data

        return self.cache if self.cache is not None else data.folder()

    @cached_property
    def data(self) -> Source | FederatedData:
        """The data, opened once; skipped where they are not on this machine."""
        return self.opened()

    def opened(self) -> Source | FederatedData:
        """The data, opened anew."""
        try:
            self.made.prepare(self.folder, download=False)
            divided = self.made.federate(self.folder, CLIENTS, np.random.default_rng(5))
            return self.made.open(self.folder) if divided is None else divided  # type: ignore[no-any-return]
        except DataMissing as error:
            raise Skipped(f"its files are not on this machine: {error.message}") from error


def schema(bench: Bench) -> None:
    """Parameters have descriptions and bounds."""
    parameters.schema(bench.cls)


def constructs(bench: Bench) -> None:
    """Equal parameters, equal objects."""
    parameters.constructs(bench.cls, bench.made and bench.settings)


def docstring(bench: Bench) -> None:
    """A summary line."""
    parameters.docstring(bench.cls, equation=False, sections=())


# ---- datasets ----


def samples_fit(what: str, samples: Samples, spec: DataSpec) -> None:
    """Shapes, types and values are what the description of the data says."""
    rows = slice(None) if samples.rows is None else samples.rows[: min(len(samples.rows), 4096)]
    n = len(samples.y)
    if len(samples.x) != len(spec.modalities):
        raise Failed(f"{what}: {len(samples.x)} inputs for {len(spec.modalities)} modalities")
    if samples.y.dtype != torch.int64 or samples.y.dim() != 1:
        raise Failed(f"{what}: labels are {samples.y.dtype} of shape {tuple(samples.y.shape)}, not [n] int64")
    if n and not 0 <= int(samples.y.min()) <= int(samples.y.max()) < spec.classes:
        raise Failed(f"{what}: a label is outside 0 ... {spec.classes - 1}")
    for x, modality in zip(samples.x, spec.modalities, strict=True):
        if tuple(x.shape) != (n, *modality.shape):
            raise Failed(f"{what}: {modality.name!r} has shape {tuple(x.shape)}, not {(n, *modality.shape)}")
        if x.is_floating_point() and not bool(torch.isfinite(x[rows]).all()):
            raise Failed(f"{what}: {modality.name!r} holds values that are not finite")
        if modality.kind == "sequence":
            seen = x[rows]
            if seen.numel() and not 0 <= int(seen.min()) <= int(seen.max()) < modality.vocabulary:
                raise Failed(f"{what}: a token of {modality.name!r} is outside 0 ... {modality.vocabulary - 1}")
        if modality.mean and len(modality.mean) not in (1, modality.shape[0]):
            raise Failed(f"{what}: {len(modality.mean)} means for {modality.shape[0]} channels of {modality.name!r}")
    if samples.present is not None:
        _present_fits(what, samples, spec)


def _present_fits(what: str, samples: Samples, spec: DataSpec) -> None:
    present, n = samples.present, len(samples.y)
    assert present is not None
    if tuple(present.shape) != (n, len(spec.modalities)) or not bool(((present == 0) | (present == 1)).all()):
        raise Failed(f"{what}: `present` is not [n, {len(spec.modalities)}] of zeros and ones")
    for m, x in enumerate(samples.x):
        if bool(x[present[:, m] == 0].any()):
            raise Failed(f"{what}: an absent {spec.modalities[m].name!r} is not zero")


def opens(bench: Bench) -> None:
    """What it gives fits its own description."""
    found = bench.data
    if isinstance(found, Source):
        samples_fit("train", found.train, found.spec)
        samples_fit("test", found.test, found.spec)
        for name, owners in found.naturals.items():
            if len(owners) != len(found.train) or owners.dtype.kind not in "iu":
                raise Failed(f"naturals[{name!r}] does not name an owner of each training sample")
        return
    if len(found.samples) != CLIENTS:
        raise Failed(f"asked for {CLIENTS} clients, it made {len(found.samples)}")
    for client in range(CLIENTS):
        mine = found.train(client)
        samples_fit(f"client {client}", mine, found.spec)
        if len(mine) != int(found.samples[client]):
            raise Failed(f"client {client} has {len(mine)} samples, not {found.samples[client]}")
    samples_fit("test", found.test(), found.spec)


def fingerprint(bench: Bench) -> None:
    """Opened again, it is the same; the fingerprint is a sha256."""
    first, again = bench.data, bench.opened()
    if len(first.fingerprint) != 64 or set(first.fingerprint) - set("0123456789abcdef"):
        raise Failed("the fingerprint is no sha256: see aflctl.data.fingerprint")
    if first.fingerprint != again.fingerprint:
        raise Failed("opened twice, it has two fingerprints")
    if isinstance(first, Source) and isinstance(again, Source):
        pairs = zip((first.train, first.test), (again.train, again.test), strict=True)
        if not all(torch.equal(a.y, b.y) for a, b in pairs):
            raise Failed("opened twice with one fingerprint, it has two sets of labels")


def data_no_global_rng(bench: Bench) -> None:
    """The global generators are where they were."""
    bench.data  # noqa: B018
    untouched(bench.opened, "use the rng given to federate, or a generator of your own with a fixed seed")


DATASET_CHECKS: dict[str, Body] = {
    "config-schema": schema,
    "constructs": constructs,
    "docstring": docstring,
    "opens": opens,
    "fingerprint": fingerprint,
    "no-global-rng": data_no_global_rng,
}


# ---- partitions ----

CLASSES, SAMPLES = 6, 240


def _labels() -> Any:
    return np.random.default_rng(3).integers(CLASSES, size=SAMPLES)


def _naturals() -> Mapping[str, Any]:
    return {"user": np.arange(SAMPLES) // 10}


def split(bench: Bench, settings: Settings | None = None, seed: int = 0) -> list[Any]:
    """The partition of toy labels: 240 samples, 6 classes, 24 natural owners, 8 clients."""
    made = bench.made if settings is None else bench.cls(**settings)
    return made.split(_labels(), CLIENTS, np.random.default_rng(seed), _naturals())  # type: ignore[no-any-return]


def covers(bench: Bench) -> None:
    """Every client gets samples that exist, none twice, and nothing it was given is changed."""
    labels, naturals = _labels(), _naturals()
    parts = bench.made.split(labels, CLIENTS, np.random.default_rng(0), naturals)
    if (labels != _labels()).any() or (naturals["user"] != _naturals()["user"]).any():
        raise Failed("it changes the labels or the owners it was given")
    if len(parts) != CLIENTS:
        raise Failed(f"asked for {CLIENTS} clients, it made {len(parts)}")
    for client, rows in enumerate(parts):
        if not isinstance(rows, np.ndarray) or rows.dtype != np.int64 or rows.ndim != 1:
            raise Failed(f"the positions of client {client} are no int64 array of one axis")
        if not len(rows):
            raise Failed(f"client {client} has no sample")
        if rows.min() < 0 or rows.max() >= SAMPLES:
            raise Failed(f"client {client} has a position outside 0 ... {SAMPLES - 1}")
    every = np.concatenate(parts)
    if len(np.unique(every)) < len(every) and not getattr(bench.made, "repeats", False):
        raise Failed("a sample belongs to two clients, or twice to one")


def _digest(parts: list[Any]) -> str:
    return sha256(b"|".join(np.asarray(rows, np.int64).tobytes() for rows in parts)).hexdigest()


def split_repeatable(bench: Bench) -> None:
    """The same seed gives the same split."""
    if _digest(split(bench)) != _digest(split(bench)):
        raise Failed("two splits with one seed differ: draw from the rng that is given")


def split_no_global_rng(bench: Bench) -> None:
    """The global generators are where they were."""
    untouched(lambda: split(bench), "use the rng that is given")


def split_parameters_matter(bench: Bench) -> None:
    """Changing any parameter changes the split of some seed."""
    bench.made  # noqa: B018

    def facts(settings: Settings) -> Mapping[str, str] | None:
        at = repr(sorted(settings.items(), key=str))
        if at not in bench.known:
            try:
                bench.known[at] = {str(seed): _digest(split(bench, settings, seed)) for seed in range(3)}
            except UserError as error:
                bench.known[at] = {"refused": error.message}
        return bench.known[at]  # type: ignore[no-any-return]

    starts = [bench.settings, *bench.variants]
    dead = [n for n in bench.cls.model_fields if parameters.idle(bench.cls, n, starts, facts, 120, 100)]
    if dead:
        raise Failed(f"no change of {', '.join(dead)} changes the split")


PARTITION_CHECKS: dict[str, Body] = {
    "config-schema": schema,
    "constructs": constructs,
    "docstring": docstring,
    "covers": covers,
    "repeatable": split_repeatable,
    "no-global-rng": split_no_global_rng,
    "hyper-parameters-matter": split_parameters_matter,
}
