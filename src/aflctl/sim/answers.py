"""What server hooks answer, held against the rules of the API before the loop acts on it.

Each failure is a HookFailed that names the method, the hook, what it answered and what is allowed.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from math import isfinite
from operator import index
from typing import TYPE_CHECKING, Any

from aflctl.api import Assignment, Step
from aflctl.errors import HookFailed, RunFailed, Stalled
from aflctl.sim.flights import NS

if TYPE_CHECKING:
    from aflctl.api import Fleet

_ONE = ("",)
_MOST_BYTES = 1 << 62


class Answers:
    """The rules, for the method called `name`."""

    def __init__(self, name: str) -> None:
        self.name = name

    def _wrong(self, hook: str, text: str, hint: str | None = None) -> HookFailed:
        return HookFailed(f"{self.name}.{hook} {text}", hint=hint)

    def state(self, state: Any, before: Any, hook: str = "launched") -> Any:
        """A state, where a `return` may have been forgotten."""
        if state is None and before is not None:
            raise self._wrong(hook, "returned None, not the state", "return the state, also where nothing changed")
        return state

    def step(self, step: Any, hook: str, tracks: Collection[str] | None = None) -> Step[Any]:
        """A Step; `tracks` are those of the task that ended."""
        if not isinstance(step, Step):
            raise self._wrong(hook, f"returned {type(step).__name__}, not a Step")
        advanced, weight = step.advanced, step.weight
        if advanced is not True and advanced is not False:
            named = isinstance(advanced, tuple) and all(isinstance(track, str) for track in advanced)
            if not named and (isinstance(advanced, tuple) or advanced not in (True, False)):
                raise HookFailed(
                    f"{self.name}.{hook}: `advanced` is {advanced!r}, not True, False or a tuple of tracks"
                )
        if step.used is not True and step.used is not False and step.used not in (True, False):
            raise HookFailed(f"{self.name}.{hook}: `used` is {step.used!r}, not True or False")
        if weight is not None and type(weight) is not float:
            self._number(weight, hook, "weight")
        if step.tracks is not None and tracks is not None:
            self._tracks(step.tracks, tracks, hook)
        if step.state is None:
            raise self._wrong(hook, "returned a Step without a state", "Step(state, ...)")
        return step

    def _tracks(self, counted: Any, tracks: Collection[str], hook: str) -> None:
        if not isinstance(counted, tuple) or not counted:
            raise HookFailed(f"{self.name}.{hook}: `tracks` is {counted!r}, not a tuple of the task's tracks")
        strange = [track for track in counted if track not in tracks]
        if strange:
            raise HookFailed(
                f"{self.name}.{hook}: `tracks` names {strange[0]!r}, but the task's tracks are {sorted(tracks)}"
            )

    def _number(self, value: Any, hook: str, name: str) -> None:
        try:
            float(value)
        except (TypeError, ValueError, RuntimeError):
            raise HookFailed(f"{self.name}.{hook}: `{name}` is {value!r}, not a number") from None

    def select(self, chosen: Any, fleet: Fleet) -> Sequence[int]:
        """Idle clients, each once, no more than there are places, in the order in which they are sent."""
        if not isinstance(chosen, Sequence):
            chosen = chosen.tolist() if hasattr(chosen, "tolist") else chosen
        if not isinstance(chosen, Sequence) or isinstance(chosen, str | bytes):
            raise self._wrong("select", f"returned {type(chosen).__name__}, not a list of clients")
        try:
            clients = [index(client) for client in chosen]
        except TypeError:
            strange = next(c for c in chosen if not hasattr(c, "__index__"))
            raise self._wrong("select", f"named {strange!r}, which is not the number of a client") from None
        if len(clients) > fleet.free:
            raise self._wrong("select", f"started {len(clients)} clients with {fleet.free} places free")
        if len(set(clients)) < len(clients):
            raise self._wrong("select", f"named a client twice: {sorted(clients)}")
        for client, given in zip(clients, chosen, strict=True):
            if client not in fleet.idle or isinstance(given, bool):
                raise self._wrong("select", f"named client {given}, which is not idle")
        return clients

    def recall(self, wanted: Any, flying: Collection[int]) -> Mapping[int, str]:
        """Clients that fly, each with "epoch" or "cancel"."""
        if not isinstance(wanted, Mapping):
            raise self._wrong("recall", f"returned {type(wanted).__name__}, not a mapping of clients", "return {}")
        for client, how in wanted.items():
            if client not in flying:
                raise self._wrong("recall", f"named client {client}, which is not flying")
            if how not in ("epoch", "cancel"):
                raise HookFailed(f"{self.name}.recall: {how!r} is neither 'epoch' nor 'cancel'")
        return wanted

    def alarm(self, at: Any, now: int) -> int:
        """A moment after `now`, in nanoseconds."""
        try:
            due: int = round((at if isinstance(at, int) else float(at)) * NS)
        except (TypeError, ValueError, OverflowError):
            raise self._wrong("alarm", f"named {at!r}, which is not a number of seconds") from None
        if due <= now:
            raise self._wrong("alarm", f"named {at} s, which is not after now ({now / NS} s)")
        if due >= 1 << 62:
            raise self._wrong("alarm", f"named {at} s, which the clock never reaches", "return None for no alarm")
        return due

    def assign(self, order: Any, client: int) -> Assignment:
        """An Assignment whose numbers mean something; its tensors are looked at by the trainer."""
        if not isinstance(order, Assignment):
            raise self._wrong("assign", f"returned {type(order).__name__}, not an Assignment")
        tracks = order.tracks
        if tracks != _ONE and not tracks:
            raise self._wrong(
                f"assign for client {client}:",
                "the assignment names no track",
                'leave `tracks` at its default, ("",), where a method has one model',
            )
        if tracks != _ONE and not (
            isinstance(tracks, tuple) and all(isinstance(t, str) for t in tracks) and len(set(tracks)) == len(tracks)
        ):
            raise self._odd(client, "tracks", tracks, "a tuple of different names")
        for name in ("epochs", "steps", "patience"):
            value = getattr(order, name)
            if value is not None and (not _whole(value) or value < 1):
                raise self._odd(client, name, value, "None or a whole number of at least 1")
        for name in ("down_bytes", "up_bytes"):
            value = getattr(order, name)
            if value is not None and (not _whole(value) or not 0 <= value < _MOST_BYTES):
                raise self._odd(client, name, value, "None or a whole number of bytes")
        work = order.work
        if not isinstance(work, float | int) or not isfinite(work) or work < 0:
            raise self._odd(client, "work", work, "a finite number of at least 0")
        scale = order.lr_scale
        if not isinstance(scale, float | int):
            self._scales(scale, client)
        elif not isfinite(scale):
            raise self._odd(client, "lr_scale", scale, "a finite number, or one per epoch")
        return order

    def _scales(self, scale: Any, client: int) -> None:
        try:
            good = bool(len(scale)) and all(isfinite(float(s)) for s in scale)
        except (TypeError, ValueError):
            good = False
        if not good:
            raise self._odd(client, "lr_scale", scale, "a finite number, or one per epoch")

    def _odd(self, client: int, name: str, value: Any, allowed: str) -> HookFailed:
        return HookFailed(f"{self.name}.assign for client {client}: `{name}` is {value!r}, not {allowed}")

    def base(self, given: Any, seen: Mapping[str, int], client: int) -> dict[str, int]:
        """Base version per track: of each of the task's tracks, and made already."""
        if isinstance(given, Mapping):
            lacking = [track for track in seen if track not in given]
            if lacking:
                raise self._odd(client, "version", dict(given), f"a version of each track ({lacking[0]!r} is missing)")
        base = {track: given[track] if isinstance(given, Mapping) else given for track in seen}
        if not all(_whole(v) for v in base.values()):
            raise self._odd(client, "version", given, "None or a whole number, or one per track")
        if any(not 0 <= base[track] <= version for track, version in seen.items()):
            raise self._wrong("assign:", f"base version {base} is not between 0 and {dict(seen)}")
        return base

    def endless(self, client: int, steps: int) -> RunFailed:
        """A task that the clock cannot hold."""
        return RunFailed(
            f"a task of client {client} ({steps} steps) would take longer than the clock's 146 years",
            hint="look at the client's device and link, and at local.steps; the method may have asked for the work",
        )

    def idling(self, now: int, events: int) -> Stalled:
        """Alarms without end, while somebody could be started."""
        return Stalled(
            f"at {now / NS:.3f} s: {self.name} let {events} events pass and started nobody, though somebody is idle",
            hint="see the method's select and alarm; what was recorded is kept",
        )

    def in_vain(self, now: int, tasks: int, reason: str) -> Stalled:
        """Tasks without end, none of which counts."""
        return Stalled(
            f"at {now / NS:.3f} s: of the last {tasks} tasks none was used; the last one ended as {reason}",
            hint="see server.timeout_s, server.max_staleness, fleet.availability and the method's receive; "
            "what was recorded is kept",
        )


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
