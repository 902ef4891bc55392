"""Local optimizers as a few in-place operations on flat vectors; made anew for every task."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

if TYPE_CHECKING:
    from aflctl.api import Local


class Optimizer(Protocol):
    """`step(w, g, lr)` moves `w` in place and may use up `g`. `lr` is a number, or [K, 1] for K stacked rows."""

    def step(self, w: Tensor, g: Tensor, lr: float | Tensor) -> None: ...

    def keep(self, rows: int) -> None:
        """Only the first `rows` of a stack go on."""


class Sgd:
    """g <- g + wd w;  m <- momentum m + g;  w <- w - lr m  (torch.optim.SGD, no dampening, no Nesterov)."""

    def __init__(self, w: Tensor, momentum: float, weight_decay: float) -> None:
        self.momentum, self.weight_decay = momentum, weight_decay
        self.m = torch.zeros_like(w) if momentum else None

    def step(self, w: Tensor, g: Tensor, lr: float | Tensor) -> None:
        if self.weight_decay:
            g = g.add_(w, alpha=self.weight_decay)
        if self.m is not None:
            g = self.m.mul_(self.momentum).add_(g)
        if isinstance(lr, Tensor):
            w.addcmul_(g, lr, value=-1.0)
        else:
            w.add_(g, alpha=-lr)

    def keep(self, rows: int) -> None:
        if self.m is not None:
            self.m = self.m[:rows]


class Adam:
    """Adam with betas (0.9, 0.999) and eps 1e-8; `decoupled` makes the weight decay AdamW's."""

    b1, b2, eps = 0.9, 0.999, 1e-8

    def __init__(self, w: Tensor, weight_decay: float, decoupled: bool) -> None:
        self.weight_decay, self.decoupled, self.t = weight_decay, decoupled, 0
        self.m, self.v = torch.zeros_like(w), torch.zeros_like(w)

    def step(self, w: Tensor, g: Tensor, lr: float | Tensor) -> None:
        self.t += 1
        if self.weight_decay and self.decoupled:
            w.mul_(1 - lr * self.weight_decay)
        elif self.weight_decay:
            g = g.add_(w, alpha=self.weight_decay)
        self.m.lerp_(g, 1 - self.b1)
        self.v.mul_(self.b2).addcmul_(g, g, value=1 - self.b2)
        root = self.v.sqrt().div_((1 - self.b2**self.t) ** 0.5).add_(self.eps)
        if isinstance(lr, Tensor):
            w.sub_(lr / (1 - self.b1**self.t) * self.m / root)
        else:
            w.addcdiv_(self.m, root, value=-lr / (1 - self.b1**self.t))

    def keep(self, rows: int) -> None:
        self.m, self.v = self.m[:rows], self.v[:rows]


def optimizer(local: Local, w: Tensor) -> Optimizer:
    """The configured rule for a vector [P] or a stack [K, P]."""
    if local.optimizer == "sgd":
        return Sgd(w, local.momentum, local.weight_decay)
    return Adam(w, local.weight_decay, decoupled=local.optimizer == "adamw")


def clip_(g: Tensor, limit: float) -> Tensor:
    """g min(1, limit / ||g||_2), per row of a stack; in place."""
    norm = g.norm(dim=-1, keepdim=True)
    return g.mul_((limit / norm.clamp(min=1e-12)).clamp(max=1.0))
