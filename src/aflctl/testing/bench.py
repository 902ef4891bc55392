"""What the checks of a method share: the method, its parameters, and the runs that were made of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from aflctl.api import Algorithm, Local
from aflctl.errors import UserError
from aflctl.testing import toy
from aflctl.testing.parameters import Settings
from aflctl.testing.play import Make, Play, play
from aflctl.testing.results import Failed, Skipped
from aflctl.testing.toy import Scene

SCENES = (Scene(), Scene(clients=8, concurrency=8), Scene(local=Local(steps=4, batch_size=4, lr=0.1)))
"""Tried in turn until a method does not refuse."""


@dataclass
class Bench:
    """A method with everything that was computed for it; runs are made when a check first asks.

    make       the method for a setup; wrappers need one
    again      the same with other parameters; None where a method has none of its own
    settings   its parameters
    variants   further parameters in which some of them may matter that do not matter in `settings`
    claims     what the method says of itself: "single-client"
    """

    cls: type[Any]
    make: Make
    settings: Settings
    again: Callable[[Settings], Make] | None = None
    variants: Sequence[Settings] = ()
    claims: Sequence[str] = ()
    scenes: Sequence[Scene] = SCENES
    known: dict[Any, Any] = field(default_factory=dict)

    @cached_property
    def scene(self) -> Scene:
        """The first one that the method takes."""
        refusals = []
        for scene in self.scenes:
            try:
                setup = toy.setup(scene)
                scene = replace(scene, clients=1, concurrency=1) if self.make(setup).pools else scene
                first = play(self.make, replace(scene, arrivals=1, events=1))
            except UserError as error:
                refusals.append(error.message)
                continue
            if not isinstance(first.error, UserError):
                return scene
            refusals.append(first.error.message)
        raise Failed("it refuses every federation of the kit: " + "; ".join(dict.fromkeys(refusals)))

    @cached_property
    def base(self) -> Play:
        """The run that most checks look at; every hook is observed."""
        return play(self.make, self.scene, watch=True)

    @property
    def sound(self) -> Play:
        """The same, for checks that make no sense where it failed."""
        if self.base.error is not None:
            raise Skipped("the toy run fails, see `runs`")
        return self.base

    @cached_property
    def facts(self) -> Mapping[str, str]:
        """What a run gives that nobody observes."""
        return play(self.make, self.scene).facts

    def noted(self, check: str) -> None:
        """Fails with what was observed under this name."""
        told = self.base.notes.found.get(check)
        if told:
            raise Failed("; ".join(told[:4]))
        if self.base.error is not None:
            raise Skipped("the toy run fails, see `runs`")


def bench_of(cls: type[Algorithm[Any]], settings: Settings, **more: Any) -> Bench:
    """A method by itself."""

    def again(changed: Settings) -> Make:
        made = cls(**changed)
        return lambda setup: made

    return Bench(cls, again(settings), settings, again, **more)
