"""Faults in methods that step at every arrival."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from faults import fault
from torch import Tensor

from aflctl.builtin.algorithms.asgd import Asgd
from aflctl.builtin.algorithms.asofed import AsoFed
from aflctl.builtin.algorithms.asyncdrop import AsyncDrop
from aflctl.builtin.algorithms.bounded_staleness import BoundedStaleness
from aflctl.builtin.algorithms.daafl import Daafl
from aflctl.builtin.algorithms.fedasync import FedAsync, FedAsyncStaleness
from aflctl.builtin.algorithms.ringmaster import Ringmaster


class WrongHinge(FedAsyncStaleness):
    def __call__(self, staleness: int) -> float:
        tau = staleness + self.origin
        if self.kind == "hinge" and tau > self.b:
            return 1 / ((self.a or 10.0) * (tau + self.b) + 1)
        return super().__call__(staleness)


@fault(FedAsync, "hinge with the sign of b turned")
class HingeSign(FedAsync):
    staleness: WrongHinge = WrongHinge()


class JumpingHinge(FedAsyncStaleness):
    def __call__(self, staleness: int) -> float:
        tau = staleness + self.origin
        return (
            1 / ((self.a or 10.0) * (tau - self.b))
            if self.kind == "hinge" and tau > self.b
            else super().__call__(staleness)
        )


@fault(FedAsync, "hinge without the + 1")
class HingeWithoutOne(FedAsync):
    staleness: JumpingHinge = JumpingHinge()


@fault(FedAsync, "mixing weight compounds from arrival to arrival")
class Compounding(FedAsync):
    def receive(self, state: Any, update: Any, fleet: Any) -> Any:
        step = super().receive(state, update, fleet)
        return replace(
            step, state=replace(step.state, w=state.w.lerp(update.model, step.weight ** (fleet.version + 1)))
        )


@fault(FedAsync, "staleness taken after the version was bumped")
class LateStaleness(FedAsync):
    def receive(self, state: Any, update: Any, fleet: Any) -> Any:
        return super().receive(state, replace(update, staleness_by={"": update.staleness + 1}), fleet)


@fault(FedAsync, "no proximal term")
class NoProximal(FedAsync):
    def grad(self, g: Tensor, w: Tensor, job: Any) -> Tensor:
        return g


@fault(FedAsync, "model form where the delta form is asked")
class OneForm(FedAsync):
    def receive(self, state: Any, update: Any, fleet: Any) -> Any:
        return self.model_copy(update={"form": "model"})._mixed(state, update, fleet)

    def _mixed(self, state: Any, update: Any, fleet: Any) -> Any:
        return FedAsync.receive(self, state, update, fleet)


@fault(AsoFed, "proximal term of constants")
class AsoDetached(AsoFed):
    lam: float = 0.0

    def direction(self, task: Any, w: Tensor, batch: Any, job: Any) -> Any:
        return self.model_copy(update={"lam": 0.0})._plain(task, w, batch, job)

    def _plain(self, *args: Any) -> Any:
        return AsoFed.direction(self, *args)


@fault(AsoFed, "share of the client's own count only")
class AsoWhole(AsoFed):
    def receive(self, state: Any, update: Any, fleet: Any) -> Any:
        return super().receive(state, replace(update, up={"move": update.up["move"] * 2}), fleet)


@fault(AsyncDrop, "mask never made")
class NoMask(AsyncDrop):
    drop: float = 0.0

    def assign(self, state: Any, client: int, fleet: Any) -> Any:
        return self.model_copy(update={"drop": 0.0})._whole(state, client, fleet)

    def _whole(self, *args: Any) -> Any:
        return AsyncDrop.assign(self, *args)


@fault(AsyncDrop, "masks of single weights")
class ElementWise(AsyncDrop):
    def assign(self, state: Any, client: int, fleet: Any) -> Any:
        order = super().assign(state, client, fleet)
        mask = torch.from_numpy(fleet.rng.permutation(order.tensors["mask"].numpy()))
        return replace(order, tensors={"w": state.w * mask, "mask": mask})


@fault(AsyncDrop, "bytes not reduced")
class DenseBytes(AsyncDrop):
    def assign(self, state: Any, client: int, fleet: Any) -> Any:
        return replace(super().assign(state, client, fleet), down_bytes=None, up_bytes=None)


@fault(AsyncDrop, "inactive entries are pulled to zero")
class PulledToZero(AsyncDrop):
    def receive(self, state: Any, update: Any, fleet: Any) -> Any:
        step = super().receive(state, update, fleet)
        return replace(step, state=replace(step.state, w=state.w.lerp(update.model, self.alpha)))


@fault(Daafl, "no clip at 0")
class NoClip(Daafl):
    def receive(self, state: Any, update: Any, fleet: Any) -> Any:
        p = fleet.samples[update.client] / fleet.total_samples
        alpha = min(1.0, p * (fleet.version + 1) * self.mean_mix - state.given.get(update.client, 0.0))
        step = super().receive(state, update, fleet)
        return replace(step, weight=alpha)


@fault(Daafl, "share divided by N again")
class DividedAgain(Daafl):
    def receive(self, state: Any, update: Any, fleet: Any) -> Any:
        return super().receive(state, update, replace(fleet, total_samples=fleet.total_samples * fleet.clients))


@fault(BoundedStaleness, "version moves on a rejected update")
class BumpOnReject(BoundedStaleness):
    def receive(self, state: Any, update: Any, fleet: Any) -> Any:
        return replace(super().receive(state, update, fleet), advanced=True)


@fault(BoundedStaleness, "staleness always 0")
class NeverStale(BoundedStaleness):
    def receive(self, state: Any, update: Any, fleet: Any) -> Any:
        return super().receive(state, replace(update, staleness_by={"": 0}), fleet)


@fault(Asgd, "scaled from the first version of delay on")
class EarlyScaling(Asgd):
    def receive(self, state: Any, update: Any, fleet: Any) -> Any:
        step = super().receive(state, update, fleet)
        return replace(step, state=replace(step.state, w=state.w + update.delta / max(1, update.staleness)))


@fault(Ringmaster, "one version too late")
class LateCancel(Ringmaster):
    def recall(self, state: Any, fleet: Any) -> Any:
        return {c: h for c, h in super().recall(state, fleet).items() if fleet.flying[c].staleness > (self.delay or 2)}

    def receive(self, state: Any, update: Any, fleet: Any) -> Any:
        return super().receive(state, replace(update, staleness_by={"": max(0, update.staleness - 1)}), fleet)


@fault(AsoFed, "correction once after training")
class AsoAfter(AsoFed):
    def direction(self, task: Any, w: Tensor, batch: Any, job: Any) -> Any:
        zeta, memory, value = super().direction(task, w, batch, job)
        return zeta + job.memory["v"] - job.memory["h"], memory, value

    def finish(self, w: Tensor, job: Any) -> Any:
        return super().finish(w + job.lr * (job.memory["v"] - job.memory["h"]), job)


@fault(AsoFed, "norm not squared")
class AsoNotSquared(AsoFed):
    def direction(self, task: Any, w: Tensor, batch: Any, job: Any) -> Any:
        gap = w - job.sent["w"]
        sent = {**job.sent, "w": w - gap / gap.norm().clamp(min=1e-12)}
        return super().direction(task, w, batch, job._replace(sent=sent))


@fault(AsoFed, "step factor left out")
class AsoNoFactor(AsoFed):
    def assign(self, state: Any, client: int, fleet: Any) -> Any:
        return replace(super().assign(state, client, fleet), lr_scale=1.0)


@fault(FedAsync, "sampled staleness that only labels: the newest model is sent")
class NeverOld(FedAsync):
    def assign(self, state: Any, client: int, fleet: Any) -> Any:
        return replace(super().assign(state, client, fleet), tensors={"w": state.w})
