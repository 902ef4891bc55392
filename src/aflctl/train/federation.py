"""One copy of the data, divided among clients: each client is a list of rows."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from aflctl.api import DataSpec, FederatedData, Samples, Source
from aflctl.train.batches import moved

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

LIVE_CLIENTS = 4096
"""Orders of arrival that are kept; the others are made anew."""


class Divided:
    """A source whose training rows are divided by a partition, optionally with a test part per client.

    rows, local_tests   positions among the source's training samples, per client
    pooled   the global test set is that of all clients' test parts together
    """

    def __init__(
        self,
        source: Source,
        rows: Sequence[NDArray[np.int64]],
        local_tests: Sequence[NDArray[np.int64]] | None = None,
        *,
        pooled: bool = False,
    ) -> None:
        self.rows, self.local_tests, self.source_fingerprint = rows, local_tests, source.fingerprint
        self.sensors: Any = None
        test = source.test
        if pooled and local_tests is not None:
            test = _view(source.train, np.sort(np.concatenate(list(local_tests))))
        self.spec: DataSpec = source.spec
        self.samples: Sequence[int] = tuple(len(r) for r in rows)
        self._place(source.train, test)
        digest = hashlib.sha256(source.fingerprint.encode())
        for part in (rows, local_tests or ()):
            for r in part:
                digest.update(len(r).to_bytes(8, "little") + np.ascontiguousarray(r, dtype="<i8").tobytes())
        self.fingerprint = digest.hexdigest()

    def _place(self, train: Samples, test: Samples) -> None:
        self._all, self._test = train, test
        self._train = [_view(train, r) for r in self.rows]
        self._local = None if self.local_tests is None else [_view(train, r) for r in self.local_tests]

    def to(self, device: torch.device) -> None:
        """Moves the one copy of the data, and everybody's rows."""
        if self._all.y.device != device:
            train, test = moved(self._all, device), self._test
            if test.y is self._all.y and test.rows is not None:
                self._place(train, Samples(train.x, train.y, train.present, test.rows.to(device)))
            else:
                self._place(train, moved(test, device))

    def parts(self) -> list[NDArray[np.int64]]:
        """Per client, positions among the source's training samples; what it keeps for its own test included."""
        if self.local_tests is None:
            return [np.asarray(r) for r in self.rows]
        return [np.sort(np.concatenate(pair)) for pair in zip(self.rows, self.local_tests, strict=True)]

    def counts(self) -> NDArray[np.int64]:
        """[clients, classes] training samples of each class at each client."""
        owner = np.repeat(np.arange(len(self.rows)), self.samples)
        label = self._all.labels.cpu().numpy()[np.concatenate([np.asarray(r) for r in self.rows])]
        shape = (len(self.rows), self.spec.classes)
        return np.bincount(owner * shape[1] + label, minlength=shape[0] * shape[1]).reshape(shape)

    def coverage(self) -> float:
        """Share of the source's training samples that some client has, for training or for its own test."""
        return sum(len(part) for part in self.parts()) / max(1, len(self._all))

    def class_counts(self) -> list[int]:
        """Training samples of each class over all clients."""
        return self.counts().sum(0).tolist()  # type: ignore[no-any-return]

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


class Live:
    """Divided data that arrive over time: a client has the first `samples[client]` of its samples, in its own order.

    `samples` is asked anew each time; `order(client, n)` is the order of arrival of its n samples, None = as they are.
    What a client has at one moment is a prefix of what it has later.
    """

    def __init__(
        self,
        data: FederatedData,
        samples: Sequence[int],
        order: Callable[[int, int], NDArray[np.int64]] | None = None,
    ) -> None:
        self.data, self.samples, self._order = data, samples, order
        self.spec: DataSpec = data.spec
        self.fingerprint = data.fingerprint
        self._rows = lru_cache(maxsize=LIVE_CLIENTS)(self._arriving)

    def train(self, client: int) -> Samples:
        """What the client has by now."""
        whole = self.data.train(client)
        return Samples(whole.x, whole.y, whole.present, self._rows(client)[: self.samples[client]])

    def test(self) -> Samples:
        """The global test set, all of it at all times."""
        return self.data.test()

    def local_test(self, client: int) -> Samples | None:
        """The client's own test samples, all of them at all times."""
        return self.data.local_test(client)

    def _arriving(self, client: int) -> Tensor:
        whole = self.data.train(client)
        places = whole.rows if whole.rows is not None else torch.arange(len(whole), device=whole.y.device)
        if self._order is None:
            return places
        order = torch.from_numpy(self._order(client, len(whole))).to(places.device)
        return places.index_select(0, order)


def merged(source: Source) -> Source:
    """Training samples followed by test samples, all of them for training; owners are not known of all."""
    one, two = source.train, source.test
    if one.rows is not None and two.rows is not None and all(a is b for a, b in zip(one.x, two.x, strict=True)):
        both = Samples(one.x, one.y, one.present, torch.cat([one.rows, two.rows]))
    else:
        one, two = _gathered(one), _gathered(two)
        x = tuple(torch.cat([a, b]) for a, b in zip(one.x, two.x, strict=True))
        present = None if one.present is None or two.present is None else torch.cat([one.present, two.present])
        both = Samples(x, torch.cat([one.y, two.y]), present)
    nothing = torch.zeros(0, dtype=torch.int64)
    digest = hashlib.sha256(f"merged {source.fingerprint}".encode()).hexdigest()
    return Source(source.spec, both, _view(both, nothing.numpy()), digest)


def _gathered(samples: Samples) -> Samples:
    rows = samples.rows
    if rows is None:
        return samples
    present = None if samples.present is None else samples.present[rows]
    return Samples(tuple(x[rows] for x in samples.x), samples.y[rows], present)
