"""ASO-Fed: online learning with a table of the clients' models and gradient memory in the client."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from math import log
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from aflctl.api import Algorithm, Assignment, Batch, Fleet, Job, Setup, Step, Task, Update

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class AsoState:
    """w [P]; `first` (start, stop, rows) of the first weight in w; `delays` client -> (tasks, seconds in all)."""

    w: Tensor
    first: tuple[int, int, int]
    delays: dict[int, tuple[int, float]] = field(default_factory=dict)


class AsoFed(Algorithm[AsoState]):
    """Asynchronous online FL: every client owns its share n_k / n of the global model and replaces it when it reports.

        client:  s(w) = f_k(w) + lam/2 ||w - x||^2;  at each step
                 zeta = grad s - v + h;  w <- w - r_k eta zeta;  h <- beta h + (1 - beta) v;  v <- grad s
        server:  x <- x + n_k / n (w_k new - w_k old)
                 with `features`, on the first layer:  a_ij = exp|x_ij| / sum_j exp|x_ij|,  x_ij <- a_ij x_ij

    w_k old is the model the client reported last (x_0 at first), so without `features` x = sum_k (n_k / n) w_k at all
    times, and a client never heard holds x back. h, v (zeros) and w_k stay with the client; it uploads the difference.
    r_k = max(1, ln(mean seconds of k's tasks)) where `dynamic_steps`. n_k and n are the current sample counts. A
    version is an arrival.

    Source: Chen, Ning, Slawski, Rangwala, Asynchronous Online Federated Learning for Edge Devices with Non-IID Data,
    IEEE BigData 2020 (arXiv 1911.02134).
    Deviations: `features` is off by default: applied at every arrival it divides the first layer's weights by about the
    length of their rows each time. The order of the updates of h and v and the base of the logarithm are not certain.

    Presets: Believed constants: lam 1.0, beta 0.001, local {lr: 0.001}. Secondary code: lam 0.5 or 0.005, beta 0.5.
    """

    uploads: ClassVar[tuple[str, ...]] = ("move",)
    evidence: ClassVar[str] = "UNVERIFIED: constants, order of the h update; the rest agrees with secondary code"

    lam: float = Field(1.0, ge=0, description="lambda, weight of the proximal term (believed: 1.0)")
    beta: float = Field(0.001, ge=0, le=1, description="decay of the gradient memory h (believed: 0.001)")
    dynamic_steps: bool = Field(True, description="scale the learning rate by r_k (paper: yes)")
    features: bool = Field(False, description="re-weight the first layer after each arrival (paper: yes)")

    def init(self, setup: Setup, fleet: Fleet) -> AsoState:
        where, shape = next((e for e in setup.layout.values() if len(e[1]) >= 2), (slice(0, 0), (1,)))
        return AsoState(setup.init, (where.start, where.stop, shape[0]))

    def assign(self, state: AsoState, client: int, fleet: Fleet) -> Assignment:
        tasks, seconds = state.delays.get(client, (1, 1.0))
        r = max(1.0, log(max(seconds / tasks, 1.0))) if self.dynamic_steps else 1.0
        return Assignment({"w": state.w}, lr_scale=r)

    def receive(self, state: AsoState, update: Update, fleet: Fleet) -> Step[AsoState]:
        share = fleet.samples[update.client] / fleet.total_samples
        w = state.w.add(update.up["move"], alpha=share)
        if self.features:
            start, stop, rows = state.first
            rect = w[start:stop].view(rows, -1)
            rect.mul_(rect.abs().softmax(dim=1))
        tasks, seconds = state.delays.get(update.client, (0, 0.0))
        state.delays[update.client] = (tasks + 1, seconds + update.arrived_at - update.sent_at)
        return Step(replace(state, w=w), advanced=True, weight=share)

    # ---- client ----
    def memory(self, setup: Setup) -> dict[str, Tensor]:
        zero = setup.init.new_zeros(setup.size)
        return {"w": setup.init, "h": zero, "v": zero}

    def direction(self, task: Task, w: Tensor, batch: Batch, job: Job) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        from torch.func import grad_and_value

        g, value = grad_and_value(task.loss)(w, batch)
        h, v, s = job.memory["h"], job.memory["v"], g + self.lam * (w - job.sent["w"])
        return s - v + h, {**job.memory, "h": self.beta * h + (1 - self.beta) * v, "v": s}, value

    def finish(self, w: Tensor, job: Job) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        return {"move": w - job.memory["w"]}, {**job.memory, "w": w}
