"""DAAFL: a client's total mixing weight follows its share of the data."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from aflctl.api import Algorithm, Fleet, Setup, Step, Update

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class DaaflState:
    """w [P]; `given` client -> A_i, sum of its mixing weights so far."""

    w: Tensor
    given: dict[int, float] = field(default_factory=dict)


class Daafl(Algorithm[DaaflState]):
    """Experimental: data-disparity-aware mixing; whoever got less weight than its data deserve gets more now.

        alpha_i = clip( p_i (v + 1) mean_mix - A_i, 0, 1 ),   p_i = n_i / n
        x <- (1 - alpha_i) x + alpha_i y_i,   A_i <- A_i + alpha_i,   v <- v + 1

    So sum_i A_i <= mean_mix (v + 1). A version is an arrival, also one that weighed nothing.

    Source: believed to be von Wahl et al., AAAI 2024. Deviations: no text or code was found; the rule is deduced from
    AFL-Lib's, which divides by N (mean_mix = 1 / N, tiny steps at first), does not clip at 0, and does not start.

    Presets: AFL-Lib: mean_mix = 1 / clients.count.
    """

    uploads: ClassVar[tuple[str, ...]] = ("w",)
    evidence: ClassVar[str] = "UNVERIFIED: neither paper nor code found; deduced from another library"

    mean_mix: float = Field(0.1, gt=0, le=1, description="mixing weight given away per version (AFL-Lib: 1 / clients)")

    def init(self, setup: Setup, fleet: Fleet) -> DaaflState:
        return DaaflState(setup.init)

    def receive(self, state: DaaflState, update: Update, fleet: Fleet) -> Step[DaaflState]:
        c, p = update.client, fleet.samples[update.client] / fleet.total_samples
        had = state.given.get(c, 0.0)
        alpha = min(1.0, max(0.0, p * (fleet.version + 1) * self.mean_mix - had))
        state.given[c] = had + alpha
        return Step(DaaflState(state.w.lerp(update.model, alpha), state.given), advanced=True, weight=alpha)
