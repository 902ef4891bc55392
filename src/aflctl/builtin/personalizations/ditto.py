"""Ditto: a private model beside the global one, pulled towards it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast

from pydantic import Field

from aflctl.api import Algorithm, Assignment, Batch, Fleet, Job, Personalization, Setup, Task, overrides
from aflctl.builtin.personalizations.further import FurtherModel, fit
from aflctl.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

    from aflctl.api import Tensors

MODEL, ANCHOR = "ditto/v", "ditto/anchor"
GRAIN = 16


class Ditto(Personalization):
    """A personal model v_i of full size per client; the global path is untouched.

        on each batch:  v_i <- v_i - eta (grad f_i(v_i) + lam (v_i - w_b))
                        w   <- the method's own step

    w_b is the model that was received, stale or not. Both steps use the configured optimizer, each on its own part of
    one longer vector [w, v]. `personal` is v_i. The upload is the method's own, so bytes do not change; compute
    doubles. lam = 0 trains v_i alone. The loss that is recorded is the method's. local.clip_norm is refused, because
    one norm would couple the two models, and so are models with running statistics, which both would write.

    Source: Li, Hu, Beirami, Smith, Ditto: Fair and Robust Federated Learning Through Personalization, ICML 2021;
    authors' code (both steps per batch, the personal one first; lam in 0.1, 1, 2).
    """

    layer: ClassVar[Literal["subspace", "tracks", "extra"]] = "extra"

    lam: float = Field(1.0, ge=0, description="pull towards the received model (authors: 1)")

    def wrap(self, inner: Algorithm[Any], setup: Setup) -> Algorithm[Any]:
        fit(inner, setup, "ditto")
        if setup.local.clip_norm is not None:
            raise UserError("ditto: one norm would couple both models", where="local.clip_norm", hint="leave it out")
        cls = Hooked if overrides(inner, "grad") or overrides(inner, "project") else Pulled
        return cls(inner=inner, setup=setup, lam=self.lam, size=setup.size, gap=-setup.size % GRAIN)


class Pulled(FurtherModel):
    """The longer vector [w, zeros, v]; the gap keeps v where a vector of its own would begin in memory."""

    who: ClassVar[str] = "ditto"
    lam: float
    size: int
    gap: int

    def personal(self, state: Any, client: int, memory: Tensors) -> Tensor:
        return memory[MODEL]

    def assign(self, state: Any, client: int, fleet: Fleet) -> Assignment:
        order = cast(Assignment, self.inner.assign(state, client, fleet))
        return replace(order, work=order.work + 1)

    # ---- client ----
    direction = Algorithm.direction  # type: ignore[pydantic-field]

    def memory(self, setup: Setup) -> dict[str, Tensor]:
        return {**self.inner.memory(setup), MODEL: setup.init}

    def split(self, long: Tensor) -> tuple[Tensor, Tensor]:
        """(w, v) of a long vector."""
        import torch

        w, _, v = torch.split(long, [self.size, self.gap, self.size])
        return w, v

    def joined(self, w: Tensor, v: Tensor) -> Tensor:
        import torch

        return torch.cat([w, w.new_zeros(self.gap), v])

    def start(self, task: Task, data: Batch | None, job: Job) -> tuple[Tensor, dict[str, Tensor]]:
        w, memory = self.inner.start(task, data, job)
        return self.joined(w, job.memory[MODEL]), {**memory, MODEL: job.memory[MODEL], ANCHOR: w}

    def loss(self, task: Task, w: Tensor, batch: Batch, job: Job) -> Tensor:
        """The method's loss in value; in gradient also the personal one."""
        mine, v = self.split(w)
        own = task.loss(v, batch)
        if self.lam:
            own = own + 0.5 * self.lam * (v - job.memory[ANCHOR]).square().sum()
        return cast("Tensor", self.inner.loss(task, mine, batch, job) + (own - own.detach()))

    def finish(self, w: Tensor, job: Job) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        mine, v = self.split(w)
        up, memory = self.inner.finish(mine.clone(), job)
        return up, {**{n: t for n, t in memory.items() if n != ANCHOR}, MODEL: v.clone()}


class Hooked(Pulled):
    """The same for methods that correct gradients or vectors."""

    def grad(self, g: Tensor, w: Tensor, job: Job) -> Tensor:
        mine, v = self.split(g)
        return self.joined(self.inner.grad(mine, self.split(w)[0], job), v)

    def project(self, w: Tensor, w_before: Tensor, job: Job) -> Tensor:
        mine, v = self.split(w)
        return self.joined(self.inner.project(mine, self.split(w_before)[0], job), v)
