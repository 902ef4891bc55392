"""Faults in methods that collect a buffer or keep a table."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from faults import fault
from torch import Tensor

from aflctl.api import Step
from aflctl.builtin.algorithms.area import Area
from aflctl.builtin.algorithms.ca2fl import Ca2fl
from aflctl.builtin.algorithms.fadas import Fadas
from aflctl.builtin.algorithms.fedac import FedAc
from aflctl.builtin.algorithms.fedbuff import FedBuff
from aflctl.builtin.algorithms.fedcompass import FedCompass
from aflctl.builtin.algorithms.fedcompass_groups import LATE
from aflctl.builtin.algorithms.forootani import Forootani
from aflctl.builtin.algorithms.pisces import Pisces
from aflctl.builtin.algorithms.port import Port
from aflctl.builtin.algorithms.safa import Safa
from aflctl.rules import ServerOptimizer, StalenessWeight


@fault(FedBuff, "buffer divided twice")
class DividedTwice(FedBuff):
    def _flush(self, state: Any) -> Any:
        return super()._flush(replace(state, total=state.total * state.got))


@fault(FedBuff, "no staleness weight")
class NoWeight(FedBuff):
    staleness: StalenessWeight = StalenessWeight(kind="constant")


@fault(FedBuff, "weights renormalised")
class Renormalised(FedBuff):
    def _add(self, state: Any, update: Any, weight: float, fleet: Any) -> Any:
        return super()._add(replace(state, total=state.total + weight - self._base(update)), update, weight, fleet)


@fault(FedBuff, "buffer not emptied")
class NotEmptied(FedBuff):
    def _flush(self, state: Any) -> Any:
        kept = state.acc.clone()
        step = super()._flush(state)
        step.state.acc.copy_(kept)
        return step


@fault(FedBuff, "no server momentum")
class NoMomentum(FedBuff):
    def _flush(self, state: Any) -> Any:
        if state.opt.m is not None:
            state.opt.m.zero_()
        return super()._flush(state)


@dataclass(frozen=True)
class FlaggedState:
    """PORT's state and the clients ever called."""

    inner: Any
    urgent: frozenset[int] = frozenset()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


@fault(Port, "urgent flag never cleared")
class UrgentForEver(Port):
    def init(self, setup: Any, fleet: Any) -> Any:
        return FlaggedState(super().init(setup, fleet))

    def receive(self, state: Any, update: Any, fleet: Any) -> Any:
        step = super().receive(state.inner, update, fleet)
        late = {c for c, f in fleet.flying.items() if f.staleness >= self.bound}
        return replace(step, state=FlaggedState(step.state, state.urgent | late))

    def recall(self, state: Any, fleet: Any) -> Any:
        return {**super().recall(state.inner, fleet), **{c: "epoch" for c in state.urgent if c in fleet.flying}}


@fault(Port, "x_prev is x")
class NoTrend(Port):
    def _cos(self, state: Any, staleness: int, move: Tensor) -> float:
        return 0.0


@fault(Port, "cosine with the model instead of the update")
class CosineOfModel(Port):
    def _cos(self, state: Any, staleness: int, move: Tensor) -> float:
        return super()._cos(state, staleness, move + state.w)


@dataclass(frozen=True)
class HeldState:
    """PORT's state before the buffer, and the updates in it."""

    inner: Any
    held: tuple[Any, ...] = ()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


@fault(Port, "staleness looked up at the flush")
class LookedUp(Port):
    def init(self, setup: Any, fleet: Any) -> Any:
        return HeldState(super().init(setup, fleet))

    def recall(self, state: Any, fleet: Any) -> Any:
        return super().recall(state.inner, fleet)

    def receive(self, state: Any, update: Any, fleet: Any) -> Any:
        held, inner = (*state.held, update), state.inner
        step: Any = None
        if len(held) < self.buffer_size:
            q = super().receive(replace(inner, acc=inner.acc.clone()), update, fleet).weight
            return Step(HeldState(inner, held), weight=q)
        for u in held:
            again = fleet.flying.get(u.client)
            now = again.staleness if again is not None else u.staleness
            step = super().receive(inner, replace(u, staleness_by={"": now}), fleet)
            inner = step.state
        return replace(step, state=HeldState(inner))


@fault(Pisces, "no exploration: whoever returned has a utility, the others none")
class NoExploration(Pisces):
    def select(self, state: Any, fleet: Any) -> Any:
        known = sorted((c for c in fleet.idle if c in state.heard), key=lambda c: -self._utility(state, c))
        return known[: fleet.free] or fleet.draw(fleet.free)


@fault(Pisces, "plain mean of models")
class PlainMean(Pisces):
    staleness: StalenessWeight = StalenessWeight(kind="constant")


@fault(Pisces, "pace by all clients ever profiled")
class PaceOfAll(Pisces):
    def tick(self, state: Any, fleet: Any) -> Any:
        slow = max([self.unknown_s, *(seconds for _, seconds, _ in state.heard.values())])
        return super().tick(replace(state, heard=dict.fromkeys(range(9), (0.0, slow, (0,)))), fleet)


@fault(FedAc, "correction after training")
class FedAcAfter(FedAc):
    def grad(self, g: Tensor, w: Tensor, job: Any) -> Tensor:
        return g

    def finish(self, w: Tensor, job: Any) -> Any:
        return super().finish(w - job.lr * (job.sent["c"] - job.memory["c"]), job)


@fault(FedAc, "control variate without the participation factor")
class FedAcFast(FedAc):
    def receive(self, state: Any, update: Any, fleet: Any) -> Any:
        step = super().receive(state, update, fleet)
        if not step.advanced:
            return step
        return replace(
            step, state=replace(step.state, c=state.c + (step.state.c - state.c) * fleet.clients / self.buffer_size)
        )


@fault(FedAc, "plain momentum")
class NotProspective(FedAc):
    def receive(self, state: Any, update: Any, fleet: Any) -> Any:
        step = super().receive(state, update, fleet)
        if not step.advanced:
            return step
        s = step.state
        return replace(step, state=replace(s, w=state.w + self.lr * s.m / (s.v.sqrt() + self.eps)))


@fault(Fadas, "vhat computed and ignored")
class FadasAdam(Fadas):
    def _rule(self) -> ServerOptimizer:
        return super()._rule().model_copy(update={"kind": "adam"})


@fault(Fadas, "delay of the last update instead of the largest")
class LastDelay(Fadas):
    def receive(self, state: Any, update: Any, fleet: Any) -> Any:
        return super().receive(replace(state, latest=0), update, fleet)


@fault(Ca2fl, "empty calibration")
class EmptyCalibration(Ca2fl):
    def receive(self, state: Any, update: Any, fleet: Any) -> Any:
        old = state.cache[update.client]
        step = super().receive(state, update, fleet)
        if not step.advanced:
            return step
        assert old is not None
        return replace(step, state=replace(step.state, w=state.w + step.state.mean))


@fault(Ca2fl, "h of after the buffer")
class LateMean(Ca2fl):
    def receive(self, state: Any, update: Any, fleet: Any) -> Any:
        before = state.mean.clone()
        step = super().receive(state, update, fleet)
        if not step.advanced:
            return step
        return replace(step, state=replace(step.state, w=step.state.w + step.state.mean - before))


@fault(Forootani, "one constant delay for all clients")
class OneDelay(Forootani):
    delay_source: str = "constant"

    def assign(self, state: Any, client: int, fleet: Any) -> Any:
        return self.model_copy(update={"delay_source": "constant"})._same(state, client, fleet)

    def _same(self, *args: Any) -> Any:
        return Forootani.assign(self, *args)


@fault(Forootani, "global model never sent")
class NeverSent(Forootani):
    def assign(self, state: Any, client: int, fleet: Any) -> Any:
        return replace(super().assign(state, client, fleet), tensors={"w": torch.zeros_like(state.w)})


@fault(Forootani, "staleness out of the weight")
class NoBeta(Forootani):
    def receive(self, state: Any, update: Any, fleet: Any) -> Any:
        return super().receive(state, replace(update, staleness_by={"": 0}), fleet)


@fault(Area, "divided by the buffer instead of by N")
class DividedByBuffer(Area):
    def receive(self, state: Any, update: Any, fleet: Any) -> Any:
        small = replace(fleet, samples=fleet.samples[: self.buffer_size])
        return super().receive(
            state, update, small if self.buffer_size != fleet.clients else replace(fleet, samples=(1,))
        )


@fault(Area, "memory of what was sent instead of what was reported")
class WrongMemory(Area):
    def finish(self, w: Tensor, job: Any) -> Any:
        up, memory = super().finish(w, job)
        return up, {**memory, "m": job.sent["w"]} if "m" in memory else memory


@fault(Safa, "the bypass counts at once")
class NoBypass(Safa):
    def _close(self, state: Any, fleet: Any) -> Any:
        step = super()._close(state, fleet)
        return replace(step, state=replace(step.state, w=step.state.live.clone())) if step.advanced else step


@fault(Safa, "who is too far behind keeps its cache")
class KeptCache(Safa):
    def launched(self, state: Any, clients: Any, fleet: Any) -> Any:
        return state


@fault(FedBuff, "a version per arrival")
class VersionPerArrival(FedBuff):
    def receive(self, state: Any, update: Any, fleet: Any) -> Any:
        return replace(super().receive(state, update, fleet), advanced=True)


@fault(Pisces, "mean over all staleness values ever")
class WholeHistory(Pisces):
    window: int = 10**6


@fault(Pisces, "loss of all epochs")
class LossOfAll(Pisces):
    def receive(self, state: Any, update: Any, fleet: Any) -> Any:
        stats = {**update.stats, "first_loss_sq": update.stats["loss_sq"]}
        return super().receive(state, replace(update, stats=stats), fleet)


@fault(FedAc, "divided by epochs instead of steps")
class FedAcEpochs(FedAc):
    def finish(self, w: Tensor, job: Any) -> Any:
        return super().finish(w, job._replace(steps=torch.ones(())))


@fault(FedAc, "angle with the model instead of the way gone")
class AngleWithModel(FedAc):
    def _orientation(self, w: Tensor, update: Any) -> float:
        return super()._orientation(w, replace(update, sent={**update.sent, "w": torch.zeros_like(w)}))


@fault(FedCompass, "a late update takes the place of an earlier one")
class LateReplaces(FedCompass):
    def _close(self, state: Any, fleet: Any, alone: Any = ()) -> Any:
        late = [entry for entry in state.held if entry[0] == LATE]
        return super()._close(replace(state, held=tuple(e for e in state.held if e not in late[:1])), fleet, alone)


@fault(FedCompass, "who waits is sent again")
class Impatient(FedCompass):
    def select(self, state: Any, fleet: Any) -> Any:
        return super().select(replace(state, groups=replace(state.groups, waiting={})), fleet)


@fault(FedCompass, "the group waits for ever")
class NoTimer(FedCompass):
    def tick(self, state: Any, fleet: Any) -> Any:
        return Step(state)


@fault(FedCompass, "not divided by N")
class WholeUpdates(FedCompass):
    def _rate(self, base: int, fleet: Any) -> float:
        return super()._rate(base, fleet) * fleet.clients


@fault(FedCompass, "no staleness after the first arrival")
class NeverStale(FedCompass):
    def receive(self, state: Any, update: Any, fleet: Any) -> Any:
        fresh = replace(update, staleness_by={"": 0}) if update.client in state.groups.speed else update
        return super().receive(state, fresh, fleet)


@fault(FedCompass, "the speed is the last one measured")
class LastSpeed(FedCompass):
    def receive(self, state: Any, update: Any, fleet: Any) -> Any:
        return FedCompass(**{**self.model_dump(), "momentum": 1.0}).receive(state, update, fleet)
