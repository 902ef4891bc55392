"""LotteryFL: every client finds a sparse subnetwork of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast

from pydantic import Field

from aflctl.api import (
    Algorithm,
    Assignment,
    Batch,
    Fleet,
    Job,
    Lost,
    Personalization,
    Recall,
    Setup,
    Step,
    Task,
    Update,
    Wrapper,
)
from aflctl.builtin.personalizations.selectors import choose
from aflctl.builtin.personalizations.subspace import name_of, refuse_direction
from aflctl.errors import UserError
from aflctl.rules import ClientTable

if TYPE_CHECKING:
    from torch import Tensor

    from aflctl.api import Tensors

MASK, FIRST = "lottery/mask", "lottery/first"


@dataclass(frozen=True)
class MaskedState:
    """`inner` the method's state; `masks` client -> [P] bool, what it keeps, absent = everything."""

    inner: Any
    masks: ClientTable


class Lottery(Personalization):
    """Personal masks: a client sends, receives and trains only the entries that its mask keeps.

        client, where its model is good enough (accuracy on its own training data > threshold) and keeps more than
        `target` of the prunable entries: drop the `prune` share of them that is smallest in magnitude, and set those
        that are left to their initial values;  then local training of the kept entries; upload them and the mask
        server, per entry e:  the method's own rule if the client keeps e; otherwise the update says nothing about e:
        a model-form upload has the server's present value there, an update-form upload 0

    With FedAsync this is AsyncDrop's rule with a persistent mask. Methods that average K updates divide by all K, also
    where few keep an entry. Masked entries are neither sent nor counted, by the mask known at dispatch: 4 bytes per
    kept entry down and up, and ceil(P / 8) up for the mask. Prunable are the weights named in `layers`, of two or more
    dimensions; biases and norms are always kept. `personal` is the newest model under the client's mask.

    Source: Li et al., LotteryFL, 2020 (arXiv 2008.03371); authors' code (prune 0.2, threshold 0.2, target 0.1 or 0.5).
    Deviations: accuracy on the training data decides, not on a validation part; every epoch counts the same.
    """

    layer: ClassVar[Literal["subspace", "tracks", "extra"]] = "subspace"

    prune: float = Field(0.2, gt=0, lt=1, description="share of the kept entries dropped at a time (authors: 0.2)")
    threshold: float = Field(0.2, ge=0, le=1, description="accuracy above which a client prunes (authors: 0.2)")
    target: float = Field(0.5, gt=0, le=1, description="share kept below which nobody prunes (authors: 0.1, 0.5)")
    layers: tuple[str, ...] = Field(("*",), description="selectors of what may be pruned")

    def wrap(self, inner: Algorithm[Any], setup: Setup) -> Algorithm[Any]:
        import torch

        refuse_direction(inner, "lottery")
        if inner.uploads not in (("w",), ("delta",)):
            raise UserError(
                f"lottery masks a model or an update, {name_of(inner)} uploads {', '.join(inner.uploads) or 'nothing'}",
                where="personalization",
                hint="use a method that uploads its model or its update and nothing else",
            )
        named = choose(self.layers, setup, "personalization.layers")
        prunable = torch.zeros(setup.size, dtype=torch.bool, device=setup.init.device)
        for name, (place, shape) in setup.layout.items():
            if name in named and len(shape) >= 2:
                prunable[place] = True
        return Masked(inner=inner, setup=setup, rule=self, prunable=prunable)


class Masked(Wrapper[Any]):
    """The mask lives in the client's memory, and a copy of it at the server."""

    who: ClassVar[str] = "lottery"
    rule: Lottery
    prunable: Any

    @property
    def reads_results(self) -> bool:  # type: ignore[override]
        return True  # clients prune by accuracy, and what travels shrinks with it

    @property
    def uploads(self) -> tuple[str, ...]:  # type: ignore[override]
        return (*self.inner.uploads, MASK)

    @property
    def probes(self) -> bool:  # type: ignore[override]
        return True

    # ---- server ----
    def init(self, setup: Setup, fleet: Fleet) -> MaskedState:
        import torch

        everything = torch.ones(setup.size, dtype=torch.bool, device=setup.init.device)
        return MaskedState(self.inner.init(setup, fleet), ClientTable(everything))

    def params(self, state: MaskedState) -> Tensor:
        return cast("Tensor", self.inner.params(state.inner))

    def personal(self, state: MaskedState, client: int, memory: Tensors) -> Tensor:
        return cast("Tensor", self.inner.personal(state.inner, client, memory) * memory[MASK])

    def assign(self, state: MaskedState, client: int, fleet: Fleet) -> Assignment:
        order = cast(Assignment, self.inner.assign(state.inner, client, fleet))
        mask, size = state.masks[client], self.setup.size
        kept, tensors, down = int(mask.sum()), {}, 0
        for name, t in order.tensors.items():
            long = tuple(t.shape) == (size,)
            tensors[name] = t * mask if long else t
            down += 4 * kept if long else t.numel() * t.element_size()
        if order.down_bytes is not None:
            down = min(down, order.down_bytes)
        up = 4 * kept if order.up_bytes is None else min(4 * kept, order.up_bytes)
        return replace(order, tensors=tensors, down_bytes=down, up_bytes=up + -(-size // 8))

    def receive(self, state: MaskedState, update: Update, fleet: Fleet) -> Step[MaskedState]:
        mask = update.up[MASK].bool()
        if "w" in update.up:
            up = {"w": update.up["w"].where(mask, self.inner.params(state.inner))}
        else:
            up = {"delta": update.up["delta"] * mask}
        step = self.inner.receive(state.inner, replace(update, up=up), fleet)
        if step.used:
            state.masks[update.client] = mask
        return self._step(state, step)

    def _step(self, state: MaskedState, step: Step[Any]) -> Step[MaskedState]:
        return replace(step, state=replace(state, inner=step.state))

    def select(self, state: MaskedState, fleet: Fleet) -> Sequence[int]:
        return cast("Sequence[int]", self.inner.select(state.inner, fleet))

    def launched(self, state: MaskedState, clients: Sequence[int], fleet: Fleet) -> MaskedState:
        return replace(state, inner=self.inner.launched(state.inner, clients, fleet))

    def lost(self, state: MaskedState, lost: Lost, fleet: Fleet) -> Step[MaskedState]:
        return self._step(state, self.inner.lost(state.inner, lost, fleet))

    def recall(self, state: MaskedState, fleet: Fleet) -> Mapping[int, Recall]:
        return cast("Mapping[int, Recall]", self.inner.recall(state.inner, fleet))

    def alarm(self, state: MaskedState, fleet: Fleet) -> float | None:
        return cast("float | None", self.inner.alarm(state.inner, fleet))

    def tick(self, state: MaskedState, fleet: Fleet) -> Step[MaskedState]:
        return self._step(state, self.inner.tick(state.inner, fleet))

    # ---- client ----
    direction = Algorithm.direction  # type: ignore[pydantic-field]

    def memory(self, setup: Setup) -> dict[str, Tensor]:
        ones = setup.init.new_ones(setup.size)
        return {**self.inner.memory(setup), MASK: ones, FIRST: setup.init}

    def start(self, task: Task, data: Batch | None, job: Job) -> tuple[Tensor, dict[str, Tensor]]:
        import torch

        w, memory = self.inner.start(task, data if self.inner.probes else None, job)
        old, rule, batch = job.memory[MASK], self.rule, cast(Batch, data)
        hit = (task.logits(w * old, batch.x, batch.present).argmax(-1) == batch.y).float()
        accuracy = (hit * batch.mask).sum() / batch.mask.sum().clamp(min=1)
        kept = (old * self.prunable).sum()
        ready = (accuracy > rule.threshold) & (kept > rule.target * self.prunable.sum())
        left = torch.floor(kept * (1 - rule.prune)).long().clamp(min=1)
        size = torch.where((old > 0) & self.prunable, w.abs(), torch.full_like(w, -1.0))
        least = size.sort(descending=True).values.gather(0, (left - 1).reshape(1))
        thinner = torch.where(self.prunable, (size >= least).float(), old)
        mask = torch.where(ready, thinner, old)
        w = torch.where(ready, job.memory[FIRST], w) * mask
        return w, {**memory, MASK: mask, FIRST: job.memory[FIRST]}

    def grad(self, g: Tensor, w: Tensor, job: Job) -> Tensor:
        return cast("Tensor", self.inner.grad(g, w, job) * job.memory[MASK])

    def finish(self, w: Tensor, job: Job) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        up, memory = self.inner.finish(w, job)
        return {**up, MASK: job.memory[MASK].bool()}, memory
