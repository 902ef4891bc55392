"""FADAS: a buffer of asynchronous updates drives AMSGrad, with a delay-adaptive rate."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from aflctl.api import Algorithm, Fleet, Setup, Step, Update
from aflctl.rules import OptimizerState, ServerOptimizer

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class FadasState:
    """w [P]; acc [P] sum of the buffer's `got` updates; `latest` the largest staleness among them."""

    w: Tensor
    acc: Tensor
    opt: OptimizerState
    latest: int = 0
    got: int = 0


class Fadas(Algorithm[FadasState]):
    """Federated adaptive asynchronous optimization: FedBuff's mean through AMSGrad.

        every `buffer_size` = M arrivals:  D = 1/M sum D_i
            m <- b1 m + (1 - b1) D,  v <- b2 v + (1 - b2) D^2,  vhat <- max(vhat, v)
            x <- x + eta_t m / (sqrt(vhat) + eps)
        eta_t = lr                                              `rate: plain`, or tau_max <= tau_c
              = lr / tau_max                                    `rate: relative` (authors' code), beyond
              = min(lr, 1 / tau_max)                            `rate: absolute` (the paper, as cited by others), beyond

    tau_max is the largest staleness in the buffer. Updates are not discounted one by one. A version is a flush.

    Source: Wang, Wang, Lu, Chen, FADAS: Towards Federated Adaptive Asynchronous Optimization, ICML 2024; authors' code.
    Deviations: the authors' code corrects Adam's bias, the formula does not: `bias_correction`, off. In their code all
    but one of a flush's new clients train from the model before it; ours start from the new one.

    Presets: Authors, CIFAR-10 ResNet-18: 50 clients, concurrency 25, buffer_size 5, local {epochs: 2, batch_size: 50,
    lr: 0.1, weight_decay: 1e-4}, Dirichlet 0.3, 500 versions; lr 1e-4 plain, lr 1e-3 with rate: relative, tau_c 1.
    """

    evidence: ClassVar[str] = "official code read; of the paper the abstract"

    buffer_size: int = Field(5, ge=1, description="M, updates per version (authors: 5)")
    lr: float = Field(0.001, gt=0, description="eta, server learning rate (authors: 1e-3 adaptive, 1e-4 plain)")
    rate: Literal["plain", "relative", "absolute"] = Field("relative", description="how eta_t follows the delay")
    tau_c: int = Field(1, ge=0, description="staleness up to which the full rate is used (authors: 1)")
    b1: float = Field(0.9, ge=0, lt=1, description="momentum (authors: 0.9)")
    b2: float = Field(0.99, ge=0, lt=1, description="decay of the second moment (authors: 0.99)")
    eps: float = Field(1e-8, gt=0, description="added to sqrt(vhat) (authors: 1e-8)")
    bias_correction: bool = Field(False, description="Adam's bias correction (authors' code: yes, paper: no)")

    def init(self, setup: Setup, fleet: Fleet) -> FadasState:
        return FadasState(setup.init, setup.init.new_zeros(setup.size), self._rule().init(setup.init))

    def receive(self, state: FadasState, update: Update, fleet: Fleet) -> Step[FadasState]:
        state.acc.add_(update.delta)
        state = replace(state, latest=max(state.latest, update.staleness), got=state.got + 1)
        if state.got < self.buffer_size:
            return Step(state, weight=1.0)
        lr, late = self.lr, state.latest
        if self.rate != "plain" and late > self.tau_c:
            lr = min(lr, (lr if self.rate == "relative" else 1.0) / late)
        w, opt = self._rule().step(state.w, state.acc.div_(state.got), state.opt, lr)
        log = {"lr": lr, "tau_max": float(late)}
        return Step(FadasState(w, state.acc.zero_(), opt), advanced=True, weight=1.0, log=log)

    def _rule(self) -> ServerOptimizer:
        return ServerOptimizer(
            kind="amsgrad", lr=self.lr, b1=self.b1, b2=self.b2, eps=self.eps, bias_correction=self.bias_correction
        )
