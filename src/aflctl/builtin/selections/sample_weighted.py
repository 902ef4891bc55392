"""Selection in proportion to the sample counts."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import TYPE_CHECKING

from aflctl.api import Fleet, Selection

if TYPE_CHECKING:
    import numpy as np


class SampleWeighted(Selection):
    """Idle clients with probability in proportion to n_k, one after another without replacement.

    With `weighting: uniform` this is FedProx's analysed scheme: sample by n_k, average equally.
    """

    def init(self, samples: Sequence[int]) -> tuple[int, ...]:
        return tuple(accumulate(int(n) for n in samples))

    def pick(
        self, state: tuple[int, ...], fleet: Fleet, k: int, among: Sequence[int] | None, rng: np.random.Generator
    ) -> tuple[tuple[int, ...], list[int]]:
        picked: list[int] = []
        if among is None:
            for u in rng.random(8 * k + 32).tolist() if k else ():
                c = bisect_right(state, u * state[-1])
                if c not in picked and c in fleet.idle:
                    picked.append(c)
                    if len(picked) == k:
                        return state, picked
        pool = fleet.idle if among is None else set(among)
        rest = [c for c in sorted(pool) if c in fleet.idle and c not in picked and fleet.samples[c] > 0]
        # -ln(u) / n_k in rising order is a draw one after another (Efraimidis and Spirakis 2006)
        keys = rng.exponential(size=len(rest))
        rest = [c for _, c in sorted((key / fleet.samples[c], c) for key, c in zip(keys.tolist(), rest))]
        return state, picked + rest[: k - len(picked)]
