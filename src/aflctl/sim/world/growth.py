"""Live data: how many samples each client has by now."""

from __future__ import annotations

from collections.abc import Sequence
from math import exp
from typing import TYPE_CHECKING, overload

import numpy as np

from aflctl.sim.streams import key, normals

if TYPE_CHECKING:
    from numpy.typing import NDArray

NS = 1_000_000_000


class Growing(Sequence[int]):
    """n_k of every client at `now` (ns), which the loop moves; a pure function of the time.

        n_k(t) = min(N_k, s_k + floor(r_k t)),   s_k = max(1, floor(start N_k))
        r_k = rate_per_s exp(spread z_k), or with `over_s`  (N_k - s_k) / (over_s exp(-spread z_k)),   z_k ~ N(0, 1)

    N_k are the samples a client has in the end. The i-th further sample is there from the moment i / r_k on.
    """

    def __init__(
        self,
        whole: Sequence[int],
        *,
        start: float,
        rate_per_s: float | None = None,
        over_s: float | None = None,
        spread: float = 0.0,
        seed: int = 0,
    ) -> None:
        self.whole: NDArray[np.int64] = np.asarray(whole, np.int64)
        n = len(self.whole)
        self.start: NDArray[np.int64] = np.maximum(np.minimum(self.whole, 1), (self.whole * start).astype(np.int64))
        pace = np.ones(n)
        if spread:
            z = normals(key(seed, "stream-rate"), n)
            pace = np.fromiter((exp(spread * v) for v in z.tolist()), np.float64, n)
        self.gap_ns = self._gaps(rate_per_s, over_s, pace)
        self.now = 0
        self._at, self._current = -1, self.start

    def _gaps(self, rate_per_s: float | None, over_s: float | None, pace: NDArray[np.float64]) -> NDArray[np.int64]:
        """[N] nanoseconds between two further samples of a client."""
        if rate_per_s is not None:
            gaps = NS / (rate_per_s * pace)
        else:
            gaps = (over_s or 0.0) * NS / pace / np.maximum(self.whole - self.start, 1)
        return np.clip(np.rint(gaps), 1, 2**62).astype(np.int64)

    def at(self, client: int, t_ns: int) -> int:
        """n_k of one client at a moment."""
        further = t_ns // int(self.gap_ns[client])
        return min(int(self.whole[client]), int(self.start[client]) + further)

    def all_at(self, t_ns: int) -> NDArray[np.int64]:
        """[N] the same of all."""
        found: NDArray[np.int64] = np.minimum(self.whole, self.start + t_ns // self.gap_ns)
        return found

    @property
    def total(self) -> int:
        """Samples of all clients by now."""
        return int(self._now().sum())

    def _now(self) -> NDArray[np.int64]:
        if self._at != self.now:
            self._at, self._current = self.now, self.all_at(self.now)
        return self._current

    def __len__(self) -> int:
        return len(self.whole)

    @overload
    def __getitem__(self, client: int) -> int: ...
    @overload
    def __getitem__(self, client: slice) -> Sequence[int]: ...
    def __getitem__(self, client: int | slice) -> int | Sequence[int]:
        if isinstance(client, slice):
            return self._now()[client].tolist()  # type: ignore[no-any-return]
        return self.at(client, self.now)
