"""FedAsync: every arrival is mixed into the global model at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from aflctl.api import Algorithm, Assignment, Fleet, Job, Setup, Step, Update
from aflctl.errors import UserError
from aflctl.rules import StalenessWeight

if TYPE_CHECKING:
    from torch import Tensor


class FedAsyncStaleness(StalenessWeight):
    """s(tau), and where tau comes from: the clock, or a draw."""

    sampled: Literal["uniform"] | None = Field(None, description="draw tau, as for the paper's plots")
    max: int = Field(16, ge=1, description="sampled: largest tau (paper: 4, 16)")


@dataclass(frozen=True)
class FedAsyncState:
    """w [P] global model; `past` the models before it, oldest first (sampled staleness only)."""

    w: Tensor
    past: tuple[Tensor, ...] = ()


class FedAsync(Algorithm[FedAsyncState]):
    """Asynchronous mixing: a stale model moves the global one less.

        a = alpha s(tau)
        model form:  x <- (1 - a) x + a y_i                      (paper)
        delta form:  x <- x + a (y_i - x_b)
        client:      w <- w - eta (g_i(w) + rho (w - x_b))

    x_b is the model that client i was sent, tau the number of versions since; s is `staleness`. The forms differ by
    a (x - x_b), hence agree when tau = 0. A version is an arrival. `staleness: {origin: 1}` counts a fresh update as 1.

    `staleness: {sampled: uniform, max: 16}` reproduces the paper's plots, which draw tau instead of deriving it from a
    clock: a client is sent the model of u versions ago, u uniform in 0..min(max, versions so far). Wants
    clients.concurrency 1. The staleness of such a run is an input, not a result: it is recorded under the cause `held`,
    and the run carries a warning.

    Deviations: rho is 0 by default (the paper tunes 0.005 and 0.01), so that the client trains as every other method's.
    The paper decays alpha over time in some runs (how is unverified); not offered.

    Source: Xie, Koyejo, Gupta, Asynchronous Federated Optimization, OPT 2020 (arXiv 1903.03934).

    Presets: Paper: CIFAR-10 CNN: alpha 0.6 or 0.9, rho 0.005 or 0.01, local {lr: 0.1, batch_size: 50}; staleness {a:
    0.5} or {kind: hinge, a: 10, b: 4}, with {sampled: uniform, max: 4 or 16}. WikiText-2: alpha 0.4 or 0.8, rho 1e-4,
    local {lr: 20, batch_size: 20}.
    """

    uploads: ClassVar[tuple[str, ...]] = ("w",)
    evidence: ClassVar[str] = "secondary: detailed notes of the paper; formulas as published"

    alpha: float = Field(0.6, gt=0, le=1, description="mixing weight of a fresh update (paper: 0.6, 0.9)")
    staleness: FedAsyncStaleness = Field(FedAsyncStaleness(), description="s(tau); paper: polynomial a 0.5")
    form: Literal["model", "delta"] = Field("model", description="mix in the client's model (paper) or its update")
    rho: float = Field(0.0, ge=0, description="proximal weight in the client (paper: 0.005, 0.01)")

    def init(self, setup: Setup, fleet: Fleet) -> FedAsyncState:
        if self.staleness.sampled and setup.concurrency != 1:
            raise UserError(
                "fedasync: a sampled staleness replaces the one that follows from the clock, so one task at a time",
                hint="set clients.concurrency to 1, or remove algorithm.staleness.sampled",
            )
        return FedAsyncState(setup.init)

    def assign(self, state: FedAsyncState, client: int, fleet: Fleet) -> Assignment:
        back = int(fleet.rng.integers(len(state.past) + 1)) if state.past else 0
        return Assignment({"w": state.past[-back] if back else state.w}, version=fleet.version - back)

    def receive(self, state: FedAsyncState, update: Update, fleet: Fleet) -> Step[FedAsyncState]:
        a = self.alpha * self.staleness(update.staleness)
        w = state.w.lerp(update.model, a) if self.form == "model" else state.w.add(update.delta, alpha=a)
        past = (*state.past, state.w)[-self.staleness.max :] if self.staleness.sampled else ()
        return Step(FedAsyncState(w, past), advanced=True, weight=a)

    def grad(self, g: Tensor, w: Tensor, job: Job) -> Tensor:
        return g + self.rho * (w - job.sent["w"]) if self.rho else g
