"""Async-FedAvg: constant mixing at every arrival."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from aflctl.api import Algorithm, Fleet, Setup, Step, Update

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class MixState:
    """w [P] global model."""

    w: Tensor


class AsyncFedAvg(Algorithm[MixState]):
    """The plain asynchronous baseline: staleness is ignored.

        x <- (1 - a) x + a y_i,   a = alpha, or min(1, alpha n_i / mean n) with `weighting: samples`

    Equal to FedAsync with a constant weight and rho = 0, to the bit. A version is an arrival.

    Source: "meta" asynchronous FL, Algorithm 1 of Dun et al., AISTATS 2023. Deviations: sample weighting is ours.

    Presets: Dun et al.: alpha 0.5, local {steps: 50, batch_size: 128, lr: 0.01, momentum: 0.9}, 104 clients,
    concurrency 8.
    """

    uploads: ClassVar[tuple[str, ...]] = ("w",)
    evidence: ClassVar[str] = "paper read"

    alpha: float = Field(0.5, gt=0, le=1, description="mixing weight (Dun et al.: 0.5)")
    weighting: Literal["uniform", "samples"] = Field("uniform", description="a = alpha (paper) or in proportion to n_i")

    def init(self, setup: Setup, fleet: Fleet) -> MixState:
        return MixState(setup.init)

    def receive(self, state: MixState, update: Update, fleet: Fleet) -> Step[MixState]:
        a = self.alpha
        if self.weighting == "samples":
            a = min(1.0, a * update.samples * fleet.clients / fleet.total_samples)
        return Step(MixState(state.w.lerp(update.model, a)), advanced=True, weight=a)
