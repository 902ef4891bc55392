"""Block-wise aggregation: one version line per modality, trained and sent by those who have it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import combinations, pairwise
from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast

from pydantic import Field

from aflctl.api import (
    Algorithm,
    Assignment,
    Batch,
    Fleet,
    Job,
    Personalization,
    Setup,
    Step,
    Task,
    Update,
    Wrapper,
    overrides,
)
from aflctl.builtin.personalizations.selectors import choose, flops_share
from aflctl.builtin.personalizations.subspace import name_of, refuse_direction
from aflctl.builtin.personalizations.tracks import Many, Tracked, over, under
from aflctl.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

    from aflctl.api import Tensors

JOINT, MEMORY, HERE = "joint", "private", "here"


class Blocks(Personalization):
    """The model in blocks, one per modality and one joint; a client receives, trains and uploads the blocks it owns.

        block m:  the encoder and the head of modality m, with its owners' updates only
        joint:    everything else (fusion, common head), with everybody's updates

    Each block is a track with a state of the method, versions and staleness of its own, so a client without video does
    not age the video encoder. Bytes follow from what is sent, compute from the blocks' share of the forward FLOPs. An
    encoder is what lies below `encoders.<modality>`, a head what lies below `heads.<position>`; `blocks` says it
    differently: {modality: [selectors]}. `private` coordinates belong to no block and stay with the client, as in
    FedPer. Without missing modalities the blocks advance together.

    Source: the idea in BLOSSOM (arXiv 2603.27552) and Harmony (MobiSys 2023), both synchronous; the asynchronous form
    is this project's.
    """

    layer: ClassVar[Literal["subspace", "tracks", "extra"]] = "tracks"
    example: ClassVar[tuple[str, ...]] = ("dataset=synthetic-modal", "model=multimodal")

    blocks: dict[str, tuple[str, ...]] = Field({}, description="modality -> selectors; none given = by name")
    private: tuple[str, ...] = Field((), description="selectors of what stays with the client")

    def wrap(self, inner: Algorithm[Any], setup: Setup) -> Algorithm[Any]:
        import torch

        refuse_direction(inner, "blocks")
        if isinstance(inner, Wrapper):
            raise UserError(
                f"blocks cannot divide what {getattr(inner, 'who', name_of(inner))} has left", where="personalization",
                hint="name a private part in the parameter `private` of blocks",
            )  # fmt: skip
        if inner.probes:
            raise UserError(
                f"{name_of(inner)} looks at the local data with a whole model, and here every client has blocks only",
                where="personalization", hint="use a method that does not probe",
            )  # fmt: skip
        if not setup.modalities:
            raise UserError(
                "blocks needs a dataset with several modalities", where="dataset",
                hint="for example synthetic-modal, or uci-har with modalities: split",
            )  # fmt: skip
        private = choose(self.private, setup, "personalization.private")
        names = self._named(setup, private)
        ids = {n: _places(setup, members) for n, members in names.items()}
        rest = _places(setup, private)
        order = torch.cat([*ids.values(), rest])
        hooked = any(overrides(inner, hook) for hook in ("loss", "grad", "project"))
        cls = Hooked if hooked else Blockwise
        return cls(
            inner=inner, setup=setup, who="blocks", names=tuple(names), ids=ids, rest=rest,
            back=torch.argsort(order), shares={n: flops_share(m, setup) for n, m in names.items()},
            spare=flops_share(private, setup) if private else 0.0,
        )  # fmt: skip

    def _named(self, setup: Setup, private: frozenset[str]) -> dict[str, frozenset[str]]:
        """Block -> names of its parameters; empty blocks are left out."""
        found: dict[str, frozenset[str]] = {}
        if unknown := sorted(set(self.blocks) - set(setup.modalities)):
            raise UserError(
                f"{unknown[0]!r} is no modality", where="personalization.blocks",
                hint=f"modalities: {', '.join(setup.modalities)}",
            )  # fmt: skip
        for i, modality in enumerate(setup.modalities):
            if modality in self.blocks:
                mine = choose(self.blocks[modality], setup, f"personalization.blocks.{modality}")
            else:
                mine = frozenset(n for n in setup.layout if _belongs(n, i, modality))
            found[modality] = mine - private
        if setup.layout and not any(found.values()):
            raise UserError(
                "the model has no block per modality", where="model",
                hint="use model: multimodal with a fusion of features, or name the blocks in personalization.blocks",
            )  # fmt: skip
        for one, two in combinations(found, 2):
            if shared := sorted(found[one] & found[two]):
                raise UserError(
                    f"{shared[0]} would belong to two blocks, {one} and {two}", where="personalization.blocks",
                    hint=f"name the parts of both, as in {{{one}: [...], {two}: [...]}}; none twice",
                )  # fmt: skip
        taken = private.union(*found.values())
        found[JOINT] = frozenset(setup.layout) - taken
        return {n: members for n, members in found.items() if members or not setup.layout}


def _belongs(name: str, position: int, modality: str) -> bool:
    parts = name.split(".")
    pairs = list(pairwise(parts))
    return ("encoders", modality) in pairs or ("heads", str(position)) in pairs


def _places(setup: Setup, names: frozenset[str]) -> Tensor:
    import torch

    parts = [torch.arange(p.start, p.stop) for n, (p, _) in setup.layout.items() if n in names]
    return torch.cat([torch.zeros(0, dtype=torch.int64), *parts]).to(setup.init.device)


class Quiet:
    """A task without loss: what a block's inner `loss` adds to the common one."""

    layout: Mapping[str, Any] = {}

    def loss(self, w: Tensor, batch: Batch) -> Tensor:
        return w.new_zeros(())

    def logits(self, w: Tensor, x: Any, present: Tensor | None = None) -> Tensor:
        raise UserError("this method looks into the model, and a block is no model", where="personalization")

    embed = logits


class Blockwise(Tracked):
    """One state per block; for methods whose step hooks are the defaults. Missing blocks are zeros in the vector."""

    names: tuple[str, ...]
    ids: dict[str, Any]
    rest: Any
    back: Any
    shares: dict[str, float]
    spare: float

    def track(self, k: int) -> str:
        return self.names[k]

    def world(self, name: str, setup: Setup) -> Setup:
        """The setup as the method sees it on one block."""
        members, at = {}, 0
        for key, (place, shape) in setup.layout.items():
            if bool((self.ids[name] == place.start).any()) and place.stop > place.start:
                members[key], at = (slice(at, at + place.stop - place.start), shape), at + place.stop - place.start
        init = setup.init[self.ids[name]] if setup.layout else setup.init
        return replace(setup, layout=members, init=init)

    def whole(self, parts: Mapping[str, Tensor], rest: Tensor) -> Tensor:
        """[P] from the blocks that are there, zeros for the others."""
        import torch

        blocks = [parts[n] if n in parts else rest.new_zeros(len(self.ids[n])) for n in self.names]
        return torch.cat([*blocks, rest]).index_select(0, self.back)

    def block(self, w: Tensor, name: str) -> Tensor:
        return w.index_select(0, self.ids[name])

    # ---- server ----
    def init(self, setup: Setup, fleet: Fleet) -> Many:
        return Many(tuple(self.inner.init(self.world(n, setup), replace(fleet, track=n)) for n in self.names))

    def params(self, state: Many) -> Tensor:
        parts = {n: self.inner.params(s) for n, s in zip(self.names, state.states)}
        return self.whole(parts, self.setup.init.index_select(0, self.rest))

    def personal(self, state: Many, client: int, memory: Tensors) -> Tensor:
        parts = {n: self.inner.personal(s, client, under(memory, n)) for n, s in zip(self.names, state.states)}
        return self.whole(parts, memory[MEMORY])

    def owned(self, client: int) -> list[str]:
        """The blocks that a client has."""
        has = (*self.setup.owns(client), JOINT)
        return [n for n in self.names if n in has]

    def assign(self, state: Many, client: int, fleet: Fleet) -> Assignment:
        has = self.owned(client)
        orders = {n: self.order(s, client, f) for n, (_, s, f) in zip(self.names, self.each(state, fleet)) if n in has}
        down = {n: _bytes(o.tensors) if o.down_bytes is None else o.down_bytes for n, o in orders.items()}
        up = {
            n: 4 * len(self.ids[n]) * len(self.inner.uploads) if o.up_bytes is None else o.up_bytes
            for n, o in orders.items()
        }
        plain = all(o.down_bytes is None and o.up_bytes is None for o in orders.values())
        tensors = {f"{n}/{k}": t for n, o in orders.items() for k, t in o.tensors.items()}
        here = {f"{n}/{HERE}": self.setup.init.new_zeros(0) for n in has}
        return replace(
            orders[has[0]],
            tensors={**tensors, **here},
            tracks=tuple(has),
            version={n: fleet.on(n).version if o.version is None else cast(int, o.version) for n, o in orders.items()},
            work=sum(o.work * self.shares[n] for n, o in orders.items()) + self.spare,
            down_bytes=None if plain else sum(down.values()),
            up_bytes=None if plain else sum(up.values()),
        )

    def receive(self, state: Many, update: Update, fleet: Fleet) -> Step[Many]:
        import torch

        has = [n for n in self.names if n in update.staleness_by]
        sizes = [len(self.ids[n]) for n in has]
        parts = {u: dict(zip(has, torch.split(t, sizes))) for u, t in update.up.items()}

        def one(k: int, s: Any, f: Fleet) -> Step[Any]:
            n = self.names[k]
            if n not in has:
                return self.poke(s, f)
            tau = update.staleness_by[n]
            mine = replace(
                update, staleness_by={"": tau}, version=f.version - tau, sent=_mine(update.sent, n),
                up={u: p[n].clone() for u, p in parts.items()},
            )  # fmt: skip
            return cast(Step[Any], self.inner.receive(s, mine, f))

        return self.fold(state, fleet, one, of=[k for k, n in enumerate(self.names) if n in has])

    # ---- client ----
    direction = Algorithm.direction  # type: ignore[pydantic-field]

    def here(self, job: Job) -> list[str]:
        """The blocks that this task has."""
        return [n for n in self.names if f"{n}/{HERE}" in job.sent]

    def job(self, job: Job, name: str) -> Job:
        """The job as the method sees it on one block."""
        return job._replace(sent=_mine(job.sent, name), memory=under(job.memory, name))

    def memory(self, setup: Setup) -> dict[str, Tensor]:
        found: dict[str, Tensor] = {MEMORY: setup.init[self.rest] if setup.layout else setup.init}
        for n in self.names:
            found |= over(self.inner.memory(self.world(n, setup)), n)
        return found

    def start(self, task: Task, data: Batch | None, job: Job) -> tuple[Tensor, dict[str, Tensor]]:
        parts, memory, quiet = {}, dict(job.memory), cast(Task, Quiet())
        for n in self.here(job):
            parts[n], more = self.inner.start(quiet, None, self.job(job, n))
            memory |= over(more, n)
        return self.whole(parts, job.memory[MEMORY]), memory

    def finish(self, w: Tensor, job: Job) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        import torch

        memory = {**job.memory, MEMORY: w.index_select(0, self.rest)}
        ups: dict[str, list[Tensor]] = {u: [] for u in self.inner.uploads}
        for n in self.here(job):
            up, more = self.inner.finish(self.block(w, n), self.job(job, n))
            for u, t in up.items():
                if tuple(t.shape) != (len(self.ids[n]),):
                    raise UserError(
                        f"{name_of(self.inner)} uploads {u!r}, which is not as long as the model",
                        where="personalization",
                        hint="use a method whose uploads are vectors of the model's length",
                    )  # fmt: skip
                ups[u].append(t)
            memory = {k: t for k, t in memory.items() if not k.startswith(n + "/")} | over(more, n)
        return {u: torch.cat(parts) for u, parts in ups.items()}, memory


class Hooked(Blockwise):
    """The same for methods with step hooks of their own, which see one block at a time."""

    def loss(self, task: Task, w: Tensor, batch: Batch, job: Job) -> Tensor:
        quiet = cast(Task, Quiet())
        terms = [self.inner.loss(quiet, self.block(w, n), batch, self.job(job, n)) for n in self.here(job)]
        return cast("Tensor", sum(terms, task.loss(w, batch)))

    def grad(self, g: Tensor, w: Tensor, job: Job) -> Tensor:
        parts = {n: self.inner.grad(self.block(g, n), self.block(w, n), self.job(job, n)) for n in self.here(job)}
        return self.whole(parts, g.index_select(0, self.rest))

    def project(self, w: Tensor, w_before: Tensor, job: Job) -> Tensor:
        parts = {
            n: self.inner.project(self.block(w, n), self.block(w_before, n), self.job(job, n)) for n in self.here(job)
        }
        return self.whole(parts, w.index_select(0, self.rest))


def _mine(tensors: Tensors, name: str) -> dict[str, Tensor]:
    return {k: t for k, t in under(tensors, name).items() if k != HERE}


def _bytes(tensors: Tensors) -> int:
    return sum(t.numel() * t.element_size() for t in tensors.values())
