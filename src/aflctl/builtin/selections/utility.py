"""Utility selection, after Oort."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import isfinite, log, sqrt
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from aflctl.api import Fleet, Lost, Selection, Update

if TYPE_CHECKING:
    import numpy as np


@dataclass
class UtilityState:
    """Per client heard: `worth` n_k L_k, `took_s` of its last task, `heard` version; `explore` the present share."""

    explore: float
    worth: dict[int, float] = field(default_factory=dict)
    took_s: dict[int, float] = field(default_factory=dict)
    heard: dict[int, int] = field(default_factory=dict)


class Utility(Selection):
    """Guided selection: clients with high loss, many samples and fast enough devices first, others by exploration.

        U_k = ( n_k L_k + sqrt(0.1 ln v / v_k) max worth ) * min(1, preferred_s / t_k)^penalty
        L_k   root mean square of the batch losses of its last task
        v_k   version when it was last heard;  t_k  seconds of its last task

    A share `explore` of the places, falling by `explore_decay` a selection to `explore_floor`, goes to clients never
    heard, uniformly; the rest are drawn in proportion to U among those above `cutoff` times the k-th highest.

    Source: Lai, Zhu, Madhyastha, Chowdhury, Oort, OSDI 2021. Deviations: losses are per batch, not per sample; no pacer
    (`preferred_s` is fixed; none = speed does not matter) and no clipping or blacklist. Looks at all idle clients.
    """

    reads_results: ClassVar[bool] = True
    evidence: ClassVar[str] = "memory; constants of the authors' configuration unverified"

    explore: float = Field(0.9, ge=0, le=1, description="first share of exploration (Oort: 0.9)")
    explore_decay: float = Field(0.98, gt=0, le=1, description="factor on it per selection (Oort: 0.98)")
    explore_floor: float = Field(0.2, ge=0, le=1, description="its lower limit (Oort: 0.2)")
    cutoff: float = Field(0.95, ge=0, le=1, description="of the k-th utility, for a place in the draw (Oort: 0.95)")
    preferred_s: float | None = Field(None, gt=0, description="task seconds beyond which utility falls")
    penalty: float = Field(2.0, ge=0, description="exponent of that fall (Oort: 2)")

    def init(self, samples: Sequence[int]) -> UtilityState:
        return UtilityState(self.explore)

    def observe(self, state: UtilityState, event: Update | Lost) -> UtilityState:
        if isinstance(event, Update):
            loss = event.stats["loss_sq"] ** 0.5
            state.worth[event.client] = event.samples * loss if isfinite(loss) else 0.0
            state.took_s[event.client] = event.arrived_at - event.sent_at
            state.heard[event.client] = event.version + event.staleness
        return state

    def pick(
        self, state: UtilityState, fleet: Fleet, k: int, among: Sequence[int] | None, rng: np.random.Generator
    ) -> tuple[UtilityState, list[int]]:
        idle = sorted(c for c in (fleet.idle if among is None else set(among)) if c in fleet.idle)
        new, known = [c for c in idle if c not in state.worth], [c for c in idle if c in state.worth]
        explore = min(int(rng.binomial(k, state.explore)), len(new))
        exploit = min(k - explore, len(known))
        explore = min(k - exploit, len(new))
        picked = [int(c) for c in rng.choice(new, explore, replace=False)] if explore else []
        if exploit:
            top = max(state.worth.values())
            rated = sorted(((self._utility(state, c, top, fleet.version), c) for c in known), reverse=True)
            rated = [(u, c) for u, c in rated if u >= self.cutoff * rated[exploit - 1][0]]
            keys = rng.exponential(size=len(rated)).tolist()  # rising key / U is a draw in proportion to U
            drawn = sorted((key / (u + 1e-12), c) for key, (u, c) in zip(keys, rated))
            picked += [c for _, c in drawn[:exploit]]
        state.explore = max(self.explore_floor, state.explore * self.explore_decay)
        return state, picked

    def _utility(self, state: UtilityState, client: int, top: float, version: int) -> float:
        bonus = sqrt(0.1 * log(max(version, 1)) / max(state.heard[client], 1)) * top
        slow = 1.0 if self.preferred_s is None else min(1.0, self.preferred_s / max(state.took_s[client], 1e-9))
        return float((state.worth[client] + bonus) * slow**self.penalty)
