"""Asynchronous SGD with delay-adaptive step sizes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from aflctl.api import Algorithm, Assignment, Fleet, Lost, Setup, Step, Update

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class AsgdState:
    """w [P]; `back` the workers that just ended a task (redispatch: same)."""

    w: Tensor
    back: tuple[int, ...] = ()


class Asgd(Algorithm[AsgdState]):
    """Asynchronous SGD: every gradient is applied when it arrives, at a rate that falls with its delay.

        x <- x + eta_t D_i / eta,   D_i = -eta g_i(x_b) for one local step
        constant     eta_t = eta
        koloskova    eta_t = eta if tau <= tau_C, else eta / tau
        drop         eta_t = eta if tau <= tau_C, else the update is rejected
        mishchenko   eta_t = eta M / max(M, tau)

    eta is local.lr (times `lr`), M and tau_C are `threshold` (clients.concurrency if not given; tau_C is the average
    concurrency). `steps` 1 makes an update one stochastic gradient; more steps, or local.epochs with `steps: null`,
    apply the same rule to local displacements. With different data at the clients the theory wants a uniform choice at
    dispatch (`redispatch: uniform`); `same` sends the worker that reported again. A version is an applied arrival.

    Source: Koloskova, Stich, Jaggi, NeurIPS 2022; Mishchenko, Bach, Even, Woodworth, NeurIPS 2022 and authors' code.
    Deviations: Koloskova et al. allow any rate below min(eta, 1 / (4 L tau)) beyond tau_C; L is not known here.
    """

    evidence: ClassVar[str] = "paper read (Koloskova et al.), official code read (Mishchenko et al.)"

    rule: Literal["constant", "koloskova", "drop", "mishchenko"] = Field("koloskova", description="eta_t by delay")
    threshold: int | None = Field(None, ge=1, description="tau_C or M; none = clients.concurrency")
    lr: float = Field(1.0, gt=0, description="factor on every step")
    steps: int | None = Field(1, ge=1, description="local steps per update; none = the local configuration")
    redispatch: Literal["uniform", "same"] = Field("uniform", description="who is started when a worker reports")

    def init(self, setup: Setup, fleet: Fleet) -> AsgdState:
        return AsgdState(setup.init)

    def select(self, state: AsgdState, fleet: Fleet) -> Sequence[int]:
        again = [c for c in state.back if c in fleet.idle][: fleet.free]
        return again or fleet.draw(fleet.free)

    def launched(self, state: AsgdState, clients: Sequence[int], fleet: Fleet) -> AsgdState:
        return replace(state, back=tuple(c for c in state.back if c not in clients))

    def assign(self, state: AsgdState, client: int, fleet: Fleet) -> Assignment:
        return Assignment({"w": state.w}, steps=self.steps)

    def receive(self, state: AsgdState, update: Update, fleet: Fleet) -> Step[AsgdState]:
        state, tau, limit = self._back(state, update.client), update.staleness, self.threshold or fleet.capacity
        if self.rule == "drop" and tau > limit:
            return Step(state, used=False, weight=0.0)
        factor = self.lr
        if self.rule != "constant" and tau > limit:
            factor *= (limit if self.rule == "mishchenko" else 1) / tau
        return Step(replace(state, w=state.w.add(update.delta, alpha=factor)), advanced=True, weight=factor)

    def lost(self, state: AsgdState, lost: Lost, fleet: Fleet) -> Step[AsgdState]:
        return Step(self._back(state, lost.client))

    def _back(self, state: AsgdState, client: int) -> AsgdState:
        return replace(state, back=(*state.back, client)) if self.redispatch == "same" else state
