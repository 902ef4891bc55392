"""One optimizer step on a flat vector, in two ways that give the same bits.

`Whole` calls every hook of a method. `Pieces` serves methods whose step hooks are the defaults: it takes gradients and
steps parameter by parameter on views of the same vector, which spares one copy of P floats a step.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from aflctl.api import overrides
from aflctl.train import answers
from aflctl.train.optimizers import clip_, optimizer
from aflctl.train.task import aligned, mean_loss

if TYPE_CHECKING:
    from aflctl.api import Batch, Job
    from aflctl.train.jobs import Kit

STEP_HOOKS = ("loss", "grad", "direction", "project")


class Steps(Protocol):
    """`w` [P] is moved in place (or replaced) by `step`, which returns the loss and the job with its new memory.

    `hook` is the client hook that `step` called last, for whoever has to say where it went wrong.
    """

    w: Tensor
    hook: str

    def step(self, batch: Batch, job: Job, lr: float) -> tuple[Tensor, Job]: ...


class Whole:
    """loss or direction, grad, clipping, optimizer, project."""

    def __init__(self, kit: Kit, w: Tensor) -> None:
        self.kit, self.w, self.hook = kit, w, ""
        self.rule = optimizer(kit.local, w)
        self.directs, self.corrects, self.projects = (
            overrides(kit.algorithm, hook) for hook in ("direction", "grad", "project")
        )

    def step(self, batch: Batch, job: Job, lr: float) -> tuple[Tensor, Job]:
        algorithm, task, _, local = self.kit
        w, name = self.w, type(algorithm).__name__
        if self.directs:
            self.hook = "direction"
            answer = algorithm.direction(task, w, batch, job)
            g, memory, value = answers.direction(answer, w, f"{name}.direction")
            g, job = g.detach().clone(), job._replace(memory=memory)
        else:
            self.hook, leaf = "loss", w.detach().requires_grad_()
            value = answers.loss(algorithm.loss(task, leaf, batch, job), w, f"{name}.loss")
            (raw,) = torch.autograd.grad(value, leaf)
            if self.corrects:
                self.hook = "grad"
                g = answers.like(algorithm.grad(raw, w, job), w, f"{name}.grad")
            else:
                g = raw
            g = g if g is raw else g.clone()  # may be the method's own tensor; the optimizer uses it up
        if local.clip_norm is not None:
            g = clip_(g, local.clip_norm)
        before = w.clone() if self.projects else w
        self.rule.step(w, g, lr)
        if self.projects:
            self.hook = "project"
            self.w = aligned(answers.like(algorithm.project(w, before, job), w, f"{name}.project"))
        return value.detach(), job


class Pieces:
    """The default hooks, one parameter at a time."""

    hook = "loss"

    def __init__(self, kit: Kit, w: Tensor) -> None:
        self.task, self.w = kit.task, w
        self.views = kit.task.views(w)
        self.rules = [optimizer(kit.local, view) for view in self.views]

    def step(self, batch: Batch, job: Job, lr: float) -> tuple[Tensor, Job]:
        leaves = [view.detach().requires_grad_() for view in self.views]
        value = mean_loss(self.task.logits_of(leaves, batch.x, batch.present), batch)
        grads = torch.autograd.grad(value, leaves, allow_unused=True)
        for view, rule, g in zip(self.views, self.rules, grads, strict=True):
            rule.step(view, torch.zeros_like(view) if g is None else g, lr)
        return value.detach(), job


def steps_of(kit: Kit, w: Tensor) -> Steps:
    """The cheaper of the two that serves this method and configuration."""
    own = any(overrides(kit.algorithm, hook) for hook in STEP_HOOKS)
    return Whole(kit, w) if own or kit.local.clip_norm is not None else Pieces(kit, w)
