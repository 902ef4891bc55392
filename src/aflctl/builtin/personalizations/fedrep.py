"""FedRep: first the private head, then the shared body."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast

from pydantic import Field

from aflctl.api import Algorithm, Assignment, Batch, Fleet, Job, Personalization, Setup, Step, Task, Update
from aflctl.builtin.personalizations import subspace
from aflctl.builtin.personalizations.selectors import choose, flops_share
from aflctl.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor


class FedRep(Personalization):
    """Shared representation: `head_epochs` epochs on the private head alone, then the usual ones on the body alone.

        h epochs:  q_i <- local training of q_i, s fixed
        r epochs:  s   <- local training of s, q_i fixed      (r = local.epochs, or what the method asks for)
        upload s only; the server applies the method's own rule to it

    An epoch on the head costs (1 + 2 c) / 3 of a full one, c being the head's share of the forward FLOPs: the backward
    pass stops above the body. The inner method sees the body's epochs and steps only. Counts epochs, so local.steps is
    refused.

    Source: Collins et al., Exploiting Shared Representations for Personalized Federated Learning, ICML 2021; authors'
    scripts (CIFAR-10: 10 and 1 epochs; CIFAR-100: 10 and 5).
    """

    layer: ClassVar[Literal["subspace", "tracks", "extra"]] = "subspace"

    private: tuple[str, ...] = Field(
        ("@Linear:last",), description="selectors of the head, which stays with the client"
    )
    head_epochs: int = Field(10, ge=1, description="h, epochs on the head (authors: 10)")

    def wrap(self, inner: Algorithm[Any], setup: Setup) -> Algorithm[Any]:
        private = choose(self.private, setup, "personalization.private")
        if setup.local.steps is not None:
            raise UserError("fedrep counts epochs", where="local.steps", hint="set local.epochs instead")
        return subspace.wrap(inner, setup, private, "fedrep", Phased, h=self.head_epochs)


class Phased(subspace.Subspace):
    """First `h` epochs with the shared part fixed, then the inner method's with the private part fixed."""

    h: int

    def assign(self, state: Any, client: int, fleet: Fleet) -> Assignment:
        order = super().assign(state, client, fleet)
        if order.steps is not None:
            raise UserError(
                f"fedrep counts epochs, and {subspace.name_of(self.inner)} assigns a number of steps",
                where="personalization", hint="use a method that trains whole epochs",
            )  # fmt: skip
        r = order.epochs or self.setup.local.epochs
        light = (1 + 2 * flops_share(self.private, self.setup)) / 3
        scale = order.lr_scale
        if not isinstance(scale, int | float):
            scale = (*[scale[0]] * self.h, *scale)
        work = order.work * (self.h * light + r) / (self.h + r)
        return replace(order, epochs=self.h + r, lr_scale=scale, work=work)

    def receive(self, state: Any, update: Update, fleet: Fleet) -> Step[Any]:
        per_epoch = -(-update.samples // self.setup.local.batch_size)
        steps = max(1, update.steps - self.h * per_epoch)
        return cast(Step[Any], self.inner.receive(state, replace(update, steps=steps), fleet))

    # ---- client ----
    def body_job(self, job: Job) -> Job:
        """The job as the inner method sees it: it begins with the body's first epoch."""
        import torch

        head = self.h * torch.ceil(job.samples / self.setup.local.batch_size)
        return job._replace(
            step=(job.step - head).clamp(min=0),
            epoch=(job.epoch - self.h).clamp(min=0),
            steps=(job.steps - head).clamp(min=1),
        )

    def loss(self, task: Task, w: Tensor, batch: Batch, job: Job) -> Tensor:
        inner = self.inner.loss(self.view(task, self.kept(w)), self.part(w), batch, self.body_job(job))
        return cast("Tensor", inner)

    def grad(self, g: Tensor, w: Tensor, job: Job) -> Tensor:
        import torch

        body, mine = job.epoch >= self.h, self.kept(g)
        s = self.inner.grad(self.part(g), self.part(w), self.body_job(job))
        return self.join(torch.where(body, s, torch.zeros_like(s)), torch.where(body, torch.zeros_like(mine), mine))

    def project(self, w: Tensor, w_before: Tensor, job: Job) -> Tensor:
        """What is fixed in this phase stays, whatever the optimizer's momentum or weight decay did."""
        import torch

        body = job.epoch >= self.h
        s = self.inner.project(self.part(w), self.part(w_before), self.body_job(job))
        return self.join(
            torch.where(body, s, self.part(w_before)), torch.where(body, self.kept(w_before), self.kept(w))
        )

    def start(self, task: Task, data: Batch | None, job: Job) -> tuple[Tensor, dict[str, Tensor]]:
        return super().start(task, data, self.body_job(job))

    def finish(self, w: Tensor, job: Job) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        return super().finish(w, self.body_job(job))
