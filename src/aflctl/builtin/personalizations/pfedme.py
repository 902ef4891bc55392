"""pFedMe: personal models as Moreau envelopes of the shared one."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast

from pydantic import Field

from aflctl.api import Algorithm, Assignment, Batch, Fleet, Job, Personalization, Setup, Task
from aflctl.builtin.personalizations.further import FurtherModel, fit

if TYPE_CHECKING:
    from torch import Tensor

    from aflctl.api import Tensors

MODEL = "pfedme/theta"


class PFedMe(Personalization):
    """Personal models that solve a small problem around the shared one on every batch.

        on each batch:  K times  theta <- theta - rate (grad f_i(theta) + lam (theta - w))
                        w <- w - eta lam (w - theta)           (the configured optimizer on g = lam (w - theta))

    theta begins a task at the received model and is carried from batch to batch; `personal` is the last one. The
    upload is the method's own, made from w; the paper's server rule, x <- (1 - beta) x + beta mean y_i, is FedAvg with
    rate beta, and FedAsync with alpha its asynchronous form. No discount ever scales theta. Compute is K-fold, bytes
    are unchanged. The recorded loss is the one at theta before its K steps.

    Source: Dinh, Tran, Nguyen, Personalized Federated Learning with Moreau Envelopes, NeurIPS 2020; authors' code
    (lam 15, K 5, rate 0.09, eta 0.005).
    """

    layer: ClassVar[Literal["subspace", "tracks", "extra"]] = "extra"

    lam: float = Field(15.0, gt=0, description="pull between theta and w (authors: 15 on MNIST)")
    steps: int = Field(5, ge=1, description="K, inner steps per batch (authors: 5)")
    rate: float = Field(0.05, gt=0, description="learning rate of theta; rate (L + lam) < 2 (authors: 0.09)")

    def wrap(self, inner: Algorithm[Any], setup: Setup) -> Algorithm[Any]:
        fit(inner, setup, "pfedme")
        return Envelope(inner=inner, setup=setup, rule=self)


class Envelope(FurtherModel):
    """theta lives in the memory under `pfedme/theta`."""

    who: ClassVar[str] = "pfedme"
    rule: PFedMe

    def personal(self, state: Any, client: int, memory: Tensors) -> Tensor:
        return memory[MODEL]

    def assign(self, state: Any, client: int, fleet: Fleet) -> Assignment:
        order = cast(Assignment, self.inner.assign(state, client, fleet))
        return replace(order, work=order.work * self.rule.steps)

    # ---- client ----
    def memory(self, setup: Setup) -> dict[str, Tensor]:
        return {**self.inner.memory(setup), MODEL: setup.init}

    def start(self, task: Task, data: Batch | None, job: Job) -> tuple[Tensor, dict[str, Tensor]]:
        w, memory = self.inner.start(task, data, job)
        return w, {**memory, MODEL: w}

    def direction(self, task: Task, w: Tensor, batch: Batch, job: Job) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        from torch.func import grad_and_value

        theta, first = job.memory[MODEL], None
        slope = grad_and_value(lambda p: self.inner.loss(task, p, batch, job))
        for _ in range(self.rule.steps):
            g, value = slope(theta)
            first = value if first is None else first
            theta = theta - self.rule.rate * (g + self.rule.lam * (theta - w))
        pull = self.inner.grad(self.rule.lam * (w - theta), w, job)
        return pull, {**job.memory, MODEL: theta}, cast("Tensor", first)
