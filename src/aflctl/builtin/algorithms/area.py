"""AREA: clients send how their model changed since they last reported."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from aflctl.api import Algorithm, Assignment, Fleet, Job, Setup, Step, Update

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class AreaState:
    """w [P]; acc [P] sum of the buffer's `got` residuals."""

    w: Tensor
    acc: Tensor
    got: int = 0


class Area(Algorithm[AreaState]):
    """Asynchronous exact averaging: a fast client overwrites its share of the model instead of adding to it.

        client:  y = local SGD from x_b;  upload u = y - m_i;  m_i <- y      (m_i = x_0 at first)
        server:  acc <- acc + u;  every `buffer_size` = B arrivals:  x <- x + acc / N,  acc <- 0

    The divisor is N, not B. N (x - x_0) + acc = sum_i (m_i - x_0) at all times, so x is the mean of what the clients
    reported last, whatever their speeds; who never reported counts with x_0. The server keeps no table. `correction`
    picks the author's siblings:

        models      as above
        gradients   m_i is the last y - x_b, u = (y - x_b) - m_i, acc is never reset: each flush applies the table mean
        none        u = y - x_b: FedBuff without discount, with eta_g = B / N

    `weighting: samples` multiplies a client's learning rate by n_i / mean n. A lost upload changes no m_i. A version is
    a flush.

    Source: Iakovidou, Kim, Asynchronous Federated Stochastic Optimization for Heterogeneous Objectives Under Arbitrary
    Delays, arXiv 2405.10123; author's simulator. Deviations: the simulator answers an arrival before the flush that it
    triggers, we after; it multiplies the rate by n_i / n (base rate 10 there is 0.1 here with 100 clients).

    Presets: Author, MNIST logistic regression: 100 clients, all in flight, Dirichlet 0.1, buffer_size 8, weighting:
    samples, local {steps: 50, batch_size: 32, lr: 0.1, weight_decay: 0.01}.
    """

    uploads: ClassVar[tuple[str, ...]] = ("residual",)
    evidence: ClassVar[str] = "official code read; of the paper the abstract"

    buffer_size: int = Field(8, ge=1, description="B, updates per version (author: 8)")
    correction: Literal["models", "gradients", "none"] = Field("models", description="what a client remembers")
    weighting: Literal["uniform", "samples"] = Field("uniform", description="learning rate equal or by n_i (author)")

    def init(self, setup: Setup, fleet: Fleet) -> AreaState:
        return AreaState(setup.init, setup.init.new_zeros(setup.size))

    def assign(self, state: AreaState, client: int, fleet: Fleet) -> Assignment:
        share = fleet.samples[client] * fleet.clients / fleet.total_samples
        return Assignment({"w": state.w}, lr_scale=share if self.weighting == "samples" else 1.0)

    def receive(self, state: AreaState, update: Update, fleet: Fleet) -> Step[AreaState]:
        state.acc.add_(update.up["residual"])
        state = replace(state, got=state.got + 1)
        if state.got < self.buffer_size:
            return Step(state, weight=1.0)
        w = state.w.add(state.acc, alpha=1 / fleet.clients)
        acc = state.acc if self.correction == "gradients" else state.acc.zero_()
        return Step(AreaState(w, acc), advanced=True, weight=1.0)

    # ---- client ----
    def memory(self, setup: Setup) -> dict[str, Tensor]:
        if self.correction == "none":
            return {}
        return {"m": setup.init if self.correction == "models" else setup.init.new_zeros(setup.size)}

    def finish(self, w: Tensor, job: Job) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        new = w if self.correction == "models" else w - job.sent["w"]
        if self.correction == "none":
            return {"residual": new}, job.memory
        return {"residual": new - job.memory["m"]}, {**job.memory, "m": new}
