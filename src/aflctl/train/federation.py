"""One copy of the data, divided among clients: each client is a list of rows."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from aflctl.api import DataSpec, Samples, Source
from aflctl.train.batches import moved

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Divided:
    """A source whose training rows are divided by a partition, optionally with a test part per client."""

    def __init__(
        self,
        source: Source,
        rows: Sequence[NDArray[np.int64]],
        local_tests: Sequence[NDArray[np.int64]] | None = None,
    ) -> None:
        self._rows, self._tests = rows, local_tests
        self.spec: DataSpec = source.spec
        self.samples: Sequence[int] = tuple(len(r) for r in rows)
        self._place(source.train, source.test)
        digest = hashlib.sha256(source.fingerprint.encode())
        for part in (rows, local_tests or ()):
            for r in part:
                digest.update(len(r).to_bytes(8, "little") + np.ascontiguousarray(r, dtype="<i8").tobytes())
        self.fingerprint = digest.hexdigest()

    def _place(self, train: Samples, test: Samples) -> None:
        self._all, self._test = train, test
        self._train = [_view(train, r) for r in self._rows]
        self._local = None if self._tests is None else [_view(train, r) for r in self._tests]

    def to(self, device: torch.device) -> None:
        """Moves the one copy of the data, and everybody's rows."""
        if self._all.y.device != device:
            self._place(moved(self._all, device), moved(self._test, device))

    def class_counts(self) -> list[int]:
        """Training samples of each class over all clients."""
        rows = np.concatenate([np.asarray(r) for r in self._rows])
        return np.bincount(self._all.y.cpu().numpy()[rows], minlength=self.spec.classes).tolist()  # type: ignore[no-any-return]

    def train(self, client: int) -> Samples:
        """The client's training samples."""
        return self._train[client]

    def test(self) -> Samples:
        """The global test set."""
        return self._test

    def local_test(self, client: int) -> Samples | None:
        """The client's own test samples."""
        return None if self._local is None else self._local[client]


def _view(samples: Samples, rows: NDArray[np.int64]) -> Samples:
    places = torch.from_numpy(np.ascontiguousarray(rows)).to(samples.y.device)
    if samples.rows is not None:
        places = samples.rows.index_select(0, places)
    return Samples(samples.x, samples.y, samples.present, places)


def hold_out(
    labels: NDArray[np.int64], rows: NDArray[np.int64], share: float, rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(train rows, test rows) of one client, stratified: at least one test sample of every class with two or more."""
    train, test = [], []
    for label in np.unique(labels[rows]):
        mine = rng.permutation(rows[labels[rows] == label])
        k = 0 if len(mine) < 2 else min(len(mine) - 1, max(1, round(share * len(mine))))
        test.append(mine[:k])
        train.append(mine[k:])
    return np.sort(np.concatenate(train)), np.sort(np.concatenate(test))
