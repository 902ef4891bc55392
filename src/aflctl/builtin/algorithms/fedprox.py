"""FedProx: FedAvg with a proximal term, and with partial work from stragglers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from aflctl.api import Assignment, Fleet, Job, Setup
from aflctl.builtin.algorithms.fedavg import FedAvg, RoundState

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class ProxState(RoundState):
    """A round, and the work of a full task: epochs, or steps where the configuration counts in steps."""

    epochs: int = 1
    steps: int | None = None


class FedProx(FedAvg):
    """FedAvg whose clients are held near the global model and may hand in unfinished work.

        client:  w <- w - eta (g_i(w) + mu (w - x)),   the gradient of f_i(w) + mu/2 ||w - x||^2
        server:  as FedAvg

    A share `partial` of the tasks trains a random number of epochs in [1, E - 1] (E = local.epochs; steps where
    local.steps is set), and the server aggregates that partial work. Who is a straggler comes from the algorithm's own
    stream, so methods compared under one seed meet the same ones. mu = 0 and partial = 0 is FedAvg to the bit.

    The recorded training loss is that of the task, without the proximal term.

    Source: Li et al., Federated Optimization in Heterogeneous Networks, MLSys 2020; authors' code. Deviations: the
    paper's analysis samples clients with probability n_i / n and averages uniformly; as in the authors' code we sample
    uniformly and weigh by n_i (`weighting: uniform` with `clients.selection: sample-weighted` gives the other).

    Presets: Authors' code: local {epochs: 20, batch_size: 10, lr: 0.01} (synthetic), 10 clients a round, 200 rounds; mu
    from {0.001, 0.01, 0.1, 1}; partial 0, 0.5, 0.9. Unverified: mu 1 for MNIST and FEMNIST (lr 0.03, 0.003).
    """

    evidence: ClassVar[str] = "official code read"

    mu: float = Field(0.01, ge=0, description="weight of the proximal term (paper: tuned in 0.001, 0.01, 0.1, 1)")
    partial: float = Field(0.0, ge=0, le=1, description="share of tasks that do part of the work (paper: 0.5, 0.9)")

    def init(self, setup: Setup, fleet: Fleet) -> ProxState:
        return ProxState(**vars(super().init(setup, fleet)), epochs=setup.local.epochs, steps=setup.local.steps)

    def assign(self, state: RoundState, client: int, fleet: Fleet) -> Assignment:
        if not self.partial or fleet.rng.random() >= self.partial:
            return Assignment({"w": state.w})
        assert isinstance(state, ProxState)
        done = 1 + int(fleet.rng.integers(max(1, (state.steps or state.epochs) - 1)))
        return Assignment({"w": state.w}, steps=done) if state.steps else Assignment({"w": state.w}, epochs=done)

    def grad(self, g: Tensor, w: Tensor, job: Job) -> Tensor:
        return g + self.mu * (w - job.sent["w"]) if self.mu else g
