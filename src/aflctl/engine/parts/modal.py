"""Which client has which modality, which samples lack one, and whose sensors work when."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from aflctl.errors import UserError
from aflctl.sim.streams import generator, key
from aflctl.sim.world.availability import Markov
from aflctl.train.modal import hidden, presence

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from aflctl.api import DataSpec, Source
    from aflctl.config.schema import Modalities
    from aflctl.plan import Plan

Owned = tuple[tuple[int, ...], ...]
"""The modalities of each client, by position."""


def owned(spec: Modalities, names: Sequence[str], clients: int, seed: int) -> Owned:
    """Each client's modalities: the shares by largest remainder, then a seeded shuffle."""
    everything = tuple(range(len(names)))
    if not spec.pattern:
        return (everything,) * clients
    kinds = [_members(text, names) for text in spec.pattern]
    shares = np.array(list(spec.pattern.values()), float)
    if shares.sum() <= 0:
        raise UserError("the shares sum to 0", where="modalities.pattern", hint="give at least one share above 0")
    exact = shares / shares.sum() * clients
    counts = np.floor(exact).astype(int)
    for i in np.argsort(-(exact - counts), kind="stable")[: clients - counts.sum()]:
        counts[i] += 1
    listed = [kind for kind, n in zip(kinds, counts, strict=True) for _ in range(n)]
    return tuple(listed[i] for i in generator(key(seed, "modalities")).permutation(clients))


def _members(text: str, names: Sequence[str]) -> tuple[int, ...]:
    """`audio`, `audio+video`, or `all` (also `both`)."""
    if text in ("all", "both"):
        return tuple(range(len(names)))
    parts = [part.strip() for part in text.split("+")]
    for part in parts:
        if part not in names:
            raise UserError(
                f"{part!r} is no modality of this dataset", where="modalities.pattern",
                hint=f"modalities: {', '.join(names)}; join several with +, or write all",
            )  # fmt: skip
    return tuple(sorted({names.index(part) for part in parts}))


def required(plan: Plan, data: DataSpec) -> Modalities | None:
    """The configuration's section, where the dataset has several modalities; UserError where it has one."""
    spec = plan.config.modalities
    if spec is not None and len(data.modalities) < 2:
        raise UserError(
            f"the dataset has one modality ({data.modalities[0].name})", where="modalities",
            hint="leave modalities out, or use synthetic-modal, crema-d with video, or uci-har with modalities: split",
        )  # fmt: skip
    return spec


def equipped(plan: Plan, source: Source, rows: Sequence[NDArray[np.int64]]) -> tuple[Source, Sensors | None]:
    """(the source with its training samples' presence masks, who has what); unchanged where nobody lacks anything."""
    spec = required(plan, source.spec)
    if spec is None:
        return source, None
    names, seed = tuple(m.name for m in source.spec.modalities), plan.seeds["data"]
    mine = owned(spec, names, len(rows), seed)
    table = presence(
        mine, rows, len(source.train.y), len(names), spec.missing, lambda c: generator(key(seed, "missing", c))
    )
    train = source.train
    if train.present is not None:
        table = table * train.present
    sensors = Sensors(spec, names, mine, plan.seeds["fleet"], plan.seeds["training"])
    return replace(source, train=replace(train, present=table)), sensors


def sensors_of(data: Any) -> Sensors | None:
    """Who has what in divided data, also behind a view of them."""
    while data is not None:
        found: Sensors | None = getattr(data, "sensors", None)
        if found is not None:
            return found
        data = getattr(data, "data", None)
    return None


class Sensors:
    """What a task sees of the modalities that its client has: failed sensors at its dispatch, and training dropout."""

    def __init__(
        self, spec: Modalities, names: tuple[str, ...], mine: Owned, fleet_seed: int, training_seed: int
    ) -> None:
        self.spec, self.names, self.mine, self.training = spec, names, mine, training_seed
        failure = spec.failure
        self.processes = [
            Markov(key(fleet_seed, "sensor", m), failure.mean_on_s, failure.mean_off_s) for m in range(len(names))
        ] if failure else []  # fmt: skip
        self.now: Callable[[], int] = lambda: 0

    def working(self, client: int, t_ns: int) -> tuple[int, ...]:
        """The client's modalities whose sensors work at a moment; the first one where all have failed."""
        has = self.mine[client]
        if not self.processes:
            return has
        return tuple(m for m in has if self.processes[m].state(client, t_ns)[0]) or has[:1]

    def owns(self, client: int) -> tuple[str, ...]:
        """The names of the client's modalities."""
        return tuple(self.names[m] for m in self.mine[client])

    def patterns(self) -> dict[str, list[int]]:
        """`audio`, `audio+video`, ... -> clients."""
        found: dict[str, list[int]] = {}
        for client in range(len(self.mine)):
            found.setdefault("+".join(self.owns(client)), []).append(client)
        return found

    def seen(self, client: int, nth: int, n: int, epochs: int) -> Tensor | None:
        """[epochs, n, M] what a task sees, None where it sees everything there is."""
        works = self.working(client, self.now())
        if works == self.mine[client] and not self.spec.dropout:
            return None
        mask = torch.zeros(len(self.names))
        mask[list(works)] = 1.0
        dice = generator(key(self.training, "hide", client, nth))
        return hidden(mask, n, epochs, self.spec.dropout, dice)
