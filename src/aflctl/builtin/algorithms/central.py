"""The baseline that sees all data: ordinary training, no federation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from aflctl.api import Algorithm, Fleet, Setup, Step, Update

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class CentralState:
    """w [P] the model."""

    w: Tensor


class Central(Algorithm[CentralState]):
    """Baseline: SGD on the pooled data of all clients, one machine, nothing stale.

        x <- y,   y = local training from x on all training samples

    `pools` asks the engine for a federation of one client that holds every training sample; the rest is the ordinary
    course of things: one update is `local.epochs` passes over all the data, so `stop.updates` wants to be small.

    Source: the definition of centralised training. Deviations: as for every method the optimizer is made anew for each
    task, so momentum does not outlive a task.
    """

    uploads: ClassVar[tuple[str, ...]] = ("w",)
    pools: ClassVar[bool] = True
    evidence: ClassVar[str] = "definition"

    def init(self, setup: Setup, fleet: Fleet) -> CentralState:
        return CentralState(setup.init)

    def receive(self, state: CentralState, update: Update, fleet: Fleet) -> Step[CentralState]:
        return Step(CentralState(update.model), advanced=True, weight=1.0)
