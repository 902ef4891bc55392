"""The checks of selections: which clients they name, seen at work under FedBuff."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from aflctl.api import Fleet, Selection
from aflctl.errors import UserError
from aflctl.plugins import registry
from aflctl.runs import checkpoint
from aflctl.testing import parameters
from aflctl.testing.chance import untouched
from aflctl.testing.data import constructs, docstring, schema
from aflctl.testing.parameters import Settings
from aflctl.testing.play import Play, differing, one_thread, play, told
from aflctl.testing.results import Body, Failed
from aflctl.testing.toy import Scene


class Observed:
    """A selection whose picks are looked at; only what is allowed goes on to the loop."""

    def __init__(self, selection: Selection) -> None:
        self.selection, self.found = selection, list[str]()

    def init(self, samples: Sequence[int]) -> Any:
        """As it says."""
        return self.selection.init(samples)

    def observe(self, state: Any, event: Any) -> Any:
        """As it says."""
        return self.selection.observe(state, event)

    def pick(self, state: Any, fleet: Fleet, k: int, among: Sequence[int] | None, rng: Any) -> tuple[Any, list[int]]:
        """As it says, as far as it is allowed."""
        state, got = self.selection.pick(state, fleet, k, among, rng)
        pool = None if among is None else set(among)
        good = [c for c in dict.fromkeys(got) if c in fleet.idle and (pool is None or c in pool)]
        if len(set(got)) < len(got):
            self.note("pick names a client twice")
        if any(c not in fleet.idle for c in got):
            self.note("pick names a client that is not idle")
        if pool is not None and any(c not in pool for c in got):
            self.note("pick names a client that is not among those asked for")
        if len(got) > k:
            self.note(f"asked for {k} clients, pick names {len(got)}")
        return state, good[:k]

    def note(self, text: str) -> None:
        """Each fault once."""
        if text not in self.found:
            self.found.append(text)


@dataclass
class Bench:
    """A selection, seen at work under FedBuff."""

    cls: type[Any]
    settings: Settings
    variants: Sequence[Settings] = ()
    known: dict[Any, Any] = field(default_factory=dict)
    scene: Scene = field(default_factory=lambda: Scene(arrivals=40))

    @property
    def made(self) -> Any:
        """The plug-in."""
        return self.cls(**self.settings)

    @cached_property
    def observed(self) -> tuple[Play, Observed]:
        """A run in which its picks are looked at."""
        selection: Any = Observed(self.made)
        return self.play(selection), selection

    def play(self, selection: Any, scene: Scene | None = None, **how: Any) -> Play:
        """A run with this selection."""
        method = registry().load("algorithms", "fedbuff")(buffer_size=2)
        with one_thread():
            return play(lambda setup: method, scene or self.scene, selection=selection, **how)


def selection_runs(bench: Bench) -> None:
    """Some forty uploads, and everybody who can be started is."""
    made, _ = bench.observed
    if made.error is not None:
        raise Failed(told(made.error))
    if made.ended != "arrivals":
        raise Failed(f"the run ends after {made.trainer.collected} uploads: {made.ended}")
    alone = bench.play(bench.made, replace(bench.scene, clients=1, concurrency=1, weather="calm", arrivals=3))
    if alone.error is not None:
        raise Failed(f"with one client: {told(alone.error)}")


def picks(bench: Bench) -> None:
    """Distinct idle clients of those asked for, no more than asked for."""
    made, observed = bench.observed
    found = list(observed.found)
    if made.error is None:
        observed.found = []
        fleet, rng = made.loop._fleet("select"), np.random.default_rng(0)
        for among in ([3, 5, 7, 9], range(0, 24, 2), []):
            observed.pick(made.loop.chance.state, fleet, 3, among, rng)
        observed.pick(made.loop.chance.state, fleet, 99, None, rng)
        found += observed.found
    if found:
        raise Failed("; ".join(dict.fromkeys(found)))


def selection_state(bench: Bench) -> None:
    """Saved and loaded in the middle, it goes on as if nothing had happened."""
    types = checkpoint.state_types(bench.made)

    def swap(made: Play) -> None:
        if made.loop.events in (7, 19):
            tensors, spec = checkpoint.pack(made.loop.chance.state)
            made.loop.chance.state = checkpoint.unpack({k: t.clone() for k, t in tensors.items()}, spec, types)

    first, again = bench.play(bench.made), bench.play(bench.made, between=swap)
    if again.error is not None:
        raise Failed(told(again.error))
    apart = differing(first.facts, again.facts)
    if apart:
        raise Failed(f"after saving and loading its state, the run goes on otherwise: {', '.join(apart)}")


def selection_repeatable(bench: Bench) -> None:
    """The same seed gives the same run; nothing is kept in the object."""
    made = bench.made
    apart = differing(bench.play(made).facts, bench.play(made).facts)
    if apart:
        raise Failed(f"a second run with the same seed differs: {', '.join(apart)}")


def selection_no_global_rng(bench: Bench) -> None:
    """The global generators are where they were."""
    untouched(lambda: bench.play(bench.made), "use the rng that pick is given")


def selection_parameters_matter(bench: Bench) -> None:
    """Changing any parameter changes who is started."""

    def facts(settings: Settings) -> Mapping[str, str] | None:
        at = repr(bench.cls(**settings))
        if at not in bench.known:
            made = bench.play(bench.cls(**settings))
            if made.error is not None and not isinstance(made.error, UserError):
                raise Failed(f"with {at}: {told(made.error)}")
            bench.known[at] = None if made.error is not None else {"schedule": made.facts["schedule"]}
        return bench.known[at]  # type: ignore[no-any-return]

    starts = [bench.settings, *bench.variants]
    dead = [n for n in bench.cls.model_fields if parameters.idle(bench.cls, n, starts, facts, 40, 10)]
    if dead:
        raise Failed(f"no change of {', '.join(dead)} changes who is started")


CHECKS: dict[str, Body] = {
    "config-schema": schema,
    "constructs": constructs,
    "docstring": docstring,
    "runs": selection_runs,
    "picks": picks,
    "state-is-data": selection_state,
    "repeatable": selection_repeatable,
    "no-global-rng": selection_no_global_rng,
    "hyper-parameters-matter": selection_parameters_matter,
}
