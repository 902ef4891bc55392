"""What architecture-based personalizations share: the inner method's whole world is the shared part of the vector.

With S the shared and Q the private coordinates, w = join(s, q). The server half is the inner method on s alone; a
client keeps q in its memory under `private` and trains both. Private coordinates are never among the uploads, since the
inner method never sees them.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from aflctl.api import Algorithm, Assignment, Batch, Fleet, Job, Setup, Task, Wrapper, overrides
from aflctl.builtin.personalizations.selectors import flops_share
from aflctl.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

    from aflctl.api import Tensors

MEMORY = "private"


def refuse_direction(inner: Algorithm[Any], who: str) -> None:
    """A method with a `direction` of its own computes on a vector that the wrapper changes."""
    if overrides(inner, "direction"):
        raise UserError(
            f"{who} changes the vector that a client trains, and {name_of(inner)} computes its own direction on it",
            where="personalization",
            hint="use a method without per-step memory, or leave the personalization out",
        )


def name_of(inner: Algorithm[Any]) -> str:
    """The innermost method's class name."""
    while isinstance(inner, Wrapper):
        inner = inner.inner
    return type(inner).__name__


def wrap(
    inner: Algorithm[Any],
    setup: Setup,
    private: frozenset[str],
    who: str,
    cls: type[Subspace] | None = None,
    **more: Any,
) -> Subspace:
    """`inner` around which the named parameters and buffers are private."""
    import torch

    refuse_direction(inner, who)
    own, ids = [], []
    for name, (place, _) in setup.layout.items():
        own.append(name in private)
        ids.append(torch.arange(place.start, place.stop))
    none = torch.zeros(0, dtype=torch.int64)
    s = torch.cat([none, *(i for i, o in zip(ids, own) if not o)])
    q = torch.cat([none, *(i for i, o in zip(ids, own) if o)])
    hooked = any(overrides(inner, hook) for hook in ("loss", "grad", "project"))
    kind = cls or (Hooked if hooked else Subspace)
    device = setup.init.device
    return kind(
        inner=inner, setup=setup, private=private, s=s.to(device), q=q.to(device),
        back=torch.argsort(torch.cat([s, q])).to(device), whole=not q.numel(), who=who, **more,
    )  # fmt: skip


class View:
    """The task as a function of the shared part alone."""

    def __init__(self, task: Task, around: Subspace, q: Tensor) -> None:
        self.task, self.around, self.q = task, around, q

    @property
    def layout(self) -> Any:
        return self.around.world(self.around.setup).layout

    def logits(self, s: Tensor, x: Any, present: Tensor | None = None) -> Tensor:
        return self.task.logits(self.around.join(s, self.q), x, present)

    def embed(self, s: Tensor, x: Any, present: Tensor | None = None) -> Tensor:
        return self.task.embed(self.around.join(s, self.q), x, present)

    def loss(self, s: Tensor, batch: Batch) -> Tensor:
        return self.task.loss(self.around.join(s, self.q), batch)


class Subspace(Wrapper[Any]):
    """The inner method on the shared part; for methods whose step hooks are the defaults."""

    private: frozenset[str]
    s: Any
    q: Any
    back: Any
    whole: bool
    who: str

    @property
    def own_buffers(self) -> tuple[str, ...]:  # type: ignore[override]
        """Private running statistics."""
        return tuple(name for name in self.setup.buffers if name in self.private)

    # ---- the two worlds ----
    def world(self, setup: Setup) -> Setup:
        """The setup as the inner method sees it."""
        layout, at = {}, 0
        for name, (place, shape) in setup.layout.items():
            if name not in self.private:
                size = place.stop - place.start
                layout[name], at = (slice(at, at + size), shape), at + size
        init = setup.init if self.whole or not setup.layout else setup.init[self.s]
        return replace(setup, layout=layout, init=init)

    def join(self, s: Tensor, q: Tensor) -> Tensor:
        """[P] from both parts."""
        import torch

        return s if self.whole else torch.cat([s, q]).index_select(0, self.back)

    def part(self, w: Tensor) -> Tensor:
        """[S] the shared part."""
        return w if self.whole else w.index_select(0, self.s)

    def kept(self, w: Tensor) -> Tensor:
        """[Q] the private part."""
        return w.index_select(0, self.q)

    # ---- server: the inner method, unchanged ----
    def init(self, setup: Setup, fleet: Fleet) -> Any:
        return self.inner.init(self.world(setup), fleet)

    def params(self, state: Any) -> Tensor:
        return self.join(self.inner.params(state), self.kept(self.setup.init))

    def personal(self, state: Any, client: int, memory: Tensors) -> Tensor:
        return self.join(self.inner.personal(state, client, memory), memory[MEMORY])

    def assign(self, state: Any, client: int, fleet: Fleet) -> Assignment:
        """A share of work below 1 (a thinned model) is one of the shared part's."""
        order = cast(Assignment, self.inner.assign(state, client, fleet))
        if self.whole or not 0 < order.work < 1:
            return order
        return replace(order, work=1 - (1 - order.work) * (1 - flops_share(self.private, self.setup)))

    # ---- client ----
    direction = Algorithm.direction  # type: ignore[pydantic-field]

    def view(self, task: Task, q: Tensor) -> Task:
        """The task with these private coordinates."""
        return task if self.whole else cast("Task", View(task, self, q))

    def memory(self, setup: Setup) -> dict[str, Tensor]:
        return {**self.inner.memory(self.world(setup)), MEMORY: self.kept(setup.init)}

    def start(self, task: Task, data: Batch | None, job: Job) -> tuple[Tensor, dict[str, Tensor]]:
        q = job.memory[MEMORY]
        s, memory = self.inner.start(self.view(task, q), data, job)
        return self.join(s, q), {**memory, MEMORY: q}

    def finish(self, w: Tensor, job: Job) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        up, memory = self.inner.finish(self.part(w), job)
        return up, {**memory, MEMORY: self.kept(w)}


class Hooked(Subspace):
    """The same for methods with step hooks of their own, which see the shared part."""

    def loss(self, task: Task, w: Tensor, batch: Batch, job: Job) -> Tensor:
        return cast("Tensor", self.inner.loss(self.view(task, self.kept(w)), self.part(w), batch, job))

    def grad(self, g: Tensor, w: Tensor, job: Job) -> Tensor:
        return self.join(self.inner.grad(self.part(g), self.part(w), job), self.kept(g))

    def project(self, w: Tensor, w_before: Tensor, job: Job) -> Tensor:
        return self.join(self.inner.project(self.part(w), self.part(w_before), job), self.kept(w))
