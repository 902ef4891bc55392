"""What wrappers share that hold one inner state per track (cluster or block), each with its versions and staleness."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, cast

from aflctl.api import Assignment, Fleet, Lost, Recall, Step, Wrapper
from aflctl.builtin.personalizations.subspace import name_of
from aflctl.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

    from aflctl.api import Tensors


@dataclass(frozen=True)
class Many:
    """`states` one inner state per track; `of` client -> track that it was last counted for, absent = the first."""

    states: tuple[Any, ...]
    of: dict[int, int] = field(default_factory=dict)


def under(tensors: Tensors, prefix: str) -> dict[str, Tensor]:
    """The tensors named `prefix/...`, without the prefix."""
    return {name[len(prefix) + 1 :]: t for name, t in tensors.items() if name.startswith(prefix + "/")}


def over(tensors: Tensors, prefix: str) -> dict[str, Tensor]:
    """The tensors named `prefix/...`."""
    return {f"{prefix}/{name}": t for name, t in tensors.items()}


class Tracked(Wrapper[Any]):
    """One inner method, many states. Subclasses say `track(k)` and what of an update belongs to which state."""

    who: str

    def track(self, k: int) -> str:
        """The name of track k."""
        raise NotImplementedError

    def each(self, state: Many, fleet: Fleet) -> Iterator[tuple[int, Any, Fleet]]:
        """(k, the inner state, the fleet as this track sees it)."""
        return ((k, s, fleet.on(self.track(k))) for k, s in enumerate(state.states))

    def order(self, state: Any, client: int, fleet: Fleet) -> Assignment:
        """The inner assignment on one track; methods with tracks of their own cannot be divided further."""
        order = cast(Assignment, self.inner.assign(state, client, fleet))
        if order.tracks != ("",):
            raise UserError(
                f"{self.who} divides a method into tracks, and {name_of(self.inner)} has tracks of its own",
                where="personalization",
                hint="use a method with one version line",
            )
        return order

    def select(self, state: Many, fleet: Fleet) -> Sequence[int]:
        return cast("Sequence[int]", self.inner.select(state.states[0], replace(fleet, track=self.track(0))))

    def launched(self, state: Any, clients: Sequence[int], fleet: Fleet) -> Any:
        states = tuple(
            self.inner.launched(s, [c for c in clients if c in f.flying], f) for _, s, f in self.each(state, fleet)
        )
        return replace(state, states=states)

    def recall(self, state: Many, fleet: Fleet) -> Mapping[int, Recall]:
        return {c: how for _, s, f in self.each(state, fleet) for c, how in self.inner.recall(s, f).items()}

    def alarm(self, state: Many, fleet: Fleet) -> float | None:
        times = (self.inner.alarm(s, f) for _, s, f in self.each(state, fleet))
        return min((t for t in times if t is not None), default=None)

    def tick(self, state: Any, fleet: Fleet) -> Step[Any]:
        return self.fold(state, fleet, lambda k, s, f: self.inner.tick(s, f))

    def lost(self, state: Any, lost: Lost, fleet: Fleet) -> Step[Any]:
        def one(k: int, s: Any, f: Fleet) -> Step[Any]:
            tau = lost.staleness_by.get(self.track(k))
            if tau is None:
                return self.poke(s, f)
            mine = replace(lost, staleness_by={"": tau}, version=f.version - tau)
            return cast(Step[Any], self.inner.lost(s, mine, f))

        return self.fold(state, fleet, one)

    def poke(self, state: Any, fleet: Fleet) -> Step[Any]:
        """A track that an event is not about: where nobody flies on it, its round may close now."""
        return cast(Step[Any], self.inner.tick(state, fleet)) if not fleet.flying else Step(state)

    def fold(
        self,
        state: Any,
        fleet: Fleet,
        hook: Callable[[int, Any, Fleet], Step[Any]],
        of: Sequence[int] = (),
        **more: Any,
    ) -> Step[Any]:
        """`hook(k, inner state, its fleet)` on every track, as one step; `of` are the tracks that the update is for."""
        steps = [hook(k, s, f) for k, s, f in self.each(state, fleet)]
        advanced = tuple(self.track(k) for k, step in enumerate(steps) if step.advanced)
        log = {name: value for step in steps for name, value in step.log.items()}
        if of:
            weights = [w for k in of if (w := steps[k].weight) is not None]
            used = [k for k in of if steps[k].used]
            more = {
                "used": bool(used), "weight": max(weights, default=None),
                "tracks": tuple(self.track(k) for k in used or of), **more,
            }  # fmt: skip
        states = tuple(step.state for step in steps)
        return Step(replace(state, states=states), advanced=advanced or False, log=log, **more)
