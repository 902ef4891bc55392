"""AsyncFedED: adaptive mixing by Euclidean distance."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import floor
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from aflctl.api import Algorithm, Assignment, Fleet, Setup, Step, Update

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class EdState:
    """w [P]; `steps` client -> K_i of its next task."""

    w: Tensor
    steps: dict[int, int] = field(default_factory=dict)


class AsyncFedEd(Algorithm[EdState]):
    """Adaptive mixing: an update counts less the farther the model has moved, compared with the update's own length.

        gamma = ||x - x_b|| / ||D_i||,   a = lam / (gamma + eps),   x <- x + a D_i
        K_i <- max(1, K_i + floor((gamma_bar - gamma) kappa))          local steps of the client's next task

    A fresh update has gamma = 0 and a = lam / eps; an update of zero length weighs 0. A version is an arrival.

    Source: Wang, Yang, He, Shi, Chen, AsyncFedED, arXiv 2205.13797. Deviations: the paper's server keeps past models;
    here the update carries the model that it started from.

    Presets: Secondary code: lam 0.1, eps 1, gamma_bar 5, kappa 0.05.
    """

    evidence: ClassVar[str] = "secondary: one implementation"

    lam: float = Field(0.1, ge=0, description="lambda, scale of the mixing weight (secondary code: 0.1)")
    eps: float = Field(1.0, gt=0, description="added to gamma (secondary code: 1)")
    gamma_bar: float = Field(5.0, ge=0, description="gamma aimed at by the number of steps (secondary code: 5)")
    kappa: float = Field(0.05, ge=0, description="steps per unit of gamma; 0 keeps K fixed (secondary code: 0.05)")
    steps: int = Field(10, ge=1, description="K of a client's first task, optimizer steps; replaces local.epochs")

    def init(self, setup: Setup, fleet: Fleet) -> EdState:
        return EdState(setup.init)

    def assign(self, state: EdState, client: int, fleet: Fleet) -> Assignment:
        return Assignment({"w": state.w}, steps=state.steps.get(client, self.steps))

    def receive(self, state: EdState, update: Update, fleet: Fleet) -> Step[EdState]:
        length = float(update.delta.norm())
        if not length:
            return Step(state, advanced=True, weight=0.0)
        gamma = float((state.w - update.sent["w"]).norm()) / length
        a = self.lam / (gamma + self.eps)
        k = state.steps.get(update.client, self.steps) + floor((self.gamma_bar - gamma) * self.kappa)
        state.steps[update.client] = max(1, k)
        return Step(EdState(state.w.add(update.delta, alpha=a), state.steps), advanced=True, weight=a)
