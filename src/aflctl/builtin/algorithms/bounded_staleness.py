"""Bounded staleness with exponential decay and damping, after a public tutorial."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from aflctl.api import Algorithm, Fleet, Setup, Step, Update

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class MixState:
    """w [P] global model."""

    w: Tensor


class BoundedStaleness(Algorithm[MixState]):
    """Immediate mixing with a weight that halves per version of staleness; what is too old is rejected.

        tau > max_staleness:  rejected; x and the version stay
        else  omega = n_i decay^tau,   a = omega / (omega + damping),   x <- (1 - a) x + a y_i

    With n_i = 200 and the defaults a is 0.667, 0.5, 0.333, 0.2, ... for tau = 0, 1, 2, 3. A version is an accepted
    arrival.

    Source: Unbitrium tutorial 106. Deviations: the tutorial's code trains on the current model always, so its weights
    never see staleness above 0, and it counts a version for a rejected update too.

    Presets: Tutorial: 20 clients, n_i = 200, local {epochs: 2, batch_size: 32, lr: 0.01}, 200 updates.
    """

    uploads: ClassVar[tuple[str, ...]] = ("w",)
    evidence: ClassVar[str] = "source read (a tutorial with code)"

    decay: float = Field(0.5, gt=0, le=1, description="factor per version of staleness (tutorial: 0.5)")
    max_staleness: int = Field(10, ge=0, description="older updates are rejected (tutorial: 10)")
    damping: float = Field(100.0, ge=0, description="samples that make a fresh weight 1/2 (tutorial: 100)")

    def init(self, setup: Setup, fleet: Fleet) -> MixState:
        return MixState(setup.init)

    def receive(self, state: MixState, update: Update, fleet: Fleet) -> Step[MixState]:
        if update.staleness > self.max_staleness:
            return Step(state, used=False, weight=0.0)
        omega = update.samples * self.decay**update.staleness
        a = omega / (omega + self.damping)
        return Step(MixState(state.w.lerp(update.model, a)), advanced=True, weight=a)
