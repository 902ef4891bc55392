"""A method with an observer around each hook: what the rules of the API forbid is noted, by the name of the check."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, cast

from torch import Tensor

from aflctl.api import CLIENT_HOOKS, SERVER_HOOKS, Algorithm, Assignment, Fleet, Setup, Update, Wrapper

EARLY_S = 4.0
ALWAYS = ("init", "params", "assign", "select", "receive")


@dataclass
class Notes:
    """What was found: check -> sentences, each once. `frozen` are the tensors that may never change again."""

    found: dict[str, list[str]] = field(default_factory=dict)
    frozen: dict[int, tuple[Tensor, int, str, str]] = field(default_factory=dict)
    interrupted: list[tuple[int, int]] = field(default_factory=list)

    def add(self, check: str, text: str) -> None:
        """Notes a violation."""
        told = self.found.setdefault(check, [])
        if text not in told:
            told.append(text)

    def freeze(self, t: Tensor, what: str) -> None:
        """From now on this tensor must stay as it is."""
        if id(t) not in self.frozen:
            self.frozen[id(t)] = (t, t._version, content(t), what)

    def verify(self, hook: str) -> None:
        """After a hook: by the counter that torch keeps of in-place operations."""
        for at, (t, version, _, what) in list(self.frozen.items()):
            if t._version != version:
                self.add("no-mutation", f"{hook} changes {what} in place")
                self.frozen[at] = (t, t._version, content(t), what)

    def close(self) -> None:
        """At the end: by content, which also finds what went past the counter."""
        for t, version, before, what in self.frozen.values():
            if t._version == version and content(t) != before:
                self.add("no-mutation", f"{what} has changed, past torch's counter of in-place operations")


def content(t: Tensor) -> str:
    """A digest of a tensor's values."""
    return hashlib.sha256(t.detach().contiguous().numpy().tobytes()).hexdigest()


def tensors_in(value: Any) -> Iterator[Tensor]:
    """The tensors of an argument: of tuples, mappings and the API's own types."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, tuple | list):
        for part in value:
            yield from tensors_in(part)
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from tensors_in(part)
    elif isinstance(value, Update | Setup | Assignment) and is_dataclass(value):
        for f in fields(value):
            yield from tensors_in(getattr(value, f.name))


def _names_in(value: Any) -> Iterator[tuple[Mapping[str, Any], tuple[str, ...]]]:
    if isinstance(value, tuple):
        for part in value:
            yield from _names_in(part)
    elif isinstance(value, dict):
        yield value, tuple(value)


def watched(algorithm: Algorithm[Any], notes: Notes, *, recalls: bool = False) -> Algorithm[Any]:
    """The same method, as an instance of a subclass whose hooks are observed."""
    cls = type(algorithm)
    hooks: dict[str, Any] = {}
    for name in (*SERVER_HOOKS, *CLIENT_HOOKS):
        own = getattr(cls, name)
        if name in ALWAYS or (own is not getattr(Algorithm, name) and own is not getattr(Wrapper, name)):
            hooks[name] = _observed(name, own, notes, server=name in SERVER_HOOKS)
    if recalls:
        hooks["recall"] = _with_recalls(hooks.get("recall") or _hook(cls, "recall"))
        hooks["alarm"] = _with_alarms(hooks.get("alarm") or _hook(cls, "alarm"))
    sub: Any = type(cls.__name__, (cls,), {"__module__": cls.__module__, "__doc__": cls.__doc__, **hooks})
    values = {name: getattr(algorithm, name) for name in cls.model_fields}
    return cast("Algorithm[Any]", sub.model_construct(None, **values))


def _hook(cls: type[Any], name: str) -> Callable[..., Any]:
    return cast("Callable[..., Any]", getattr(cls, name))


def _observed(name: str, hook: Callable[..., Any], notes: Notes, *, server: bool) -> Callable[..., Any]:
    def observer(self: Any, *args: Any) -> Any:
        given = args[1:] if server and name != "init" else args
        before = [(t, t._version) for t in tensors_in(given)]
        named = list(_names_in(given))
        out = hook(self, *args)
        for t, version in before:
            if t._version != version:
                notes.add("no-mutation", f"{name} changes one of its arguments in place")
        for mapping, names in named:
            if tuple(mapping) != names:
                notes.add("no-mutation", f"{name} changes the names in one of its arguments")
        if server:
            notes.verify(name)
        after: Callable[..., Any] = _AFTER.get(name, _as_is)
        return after(self, notes, args, out)

    observer.__name__ = name
    return observer


def _as_is(self: Any, notes: Notes, args: tuple[Any, ...], out: Any) -> Any:
    return out


def _init(self: Any, notes: Notes, args: tuple[Any, ...], out: Any) -> Any:
    notes.freeze(args[0].init, "the initial model (Setup.init)")
    return out


def _params(self: Any, notes: Notes, args: tuple[Any, ...], out: Any) -> Any:
    if isinstance(out, Tensor):
        notes.freeze(out, "a model that `params` returned")
    return out


def _assign(self: Any, notes: Notes, args: tuple[Any, ...], out: Any) -> Any:
    if isinstance(out, Assignment):
        for name, t in out.tensors.items():
            notes.freeze(t, f"the tensor {name!r} of an assignment")
    return out


def _select(self: Any, notes: Notes, args: tuple[Any, ...], out: Any) -> Any:
    """Only what is allowed goes on to the loop, so that the other checks can be made."""
    fleet: Fleet = args[1]
    chosen = [int(c) for c in out]
    for c in chosen:
        if c not in fleet.idle:
            notes.add("select", f"select names client {c}, which is {'flying' if c in fleet.flying else 'not idle'}")
    good = [c for c in dict.fromkeys(chosen) if c in fleet.idle]
    if len(set(chosen)) < len(chosen):
        notes.add("select", "select names a client twice")
    if len(good) > fleet.free:
        notes.add("select", f"select names {len(good)} clients with {fleet.free} places free")
    return good[: fleet.free] if len(good) != len(chosen) or len(good) > fleet.free else out


def _recall(self: Any, notes: Notes, args: tuple[Any, ...], out: Any) -> Any:
    fleet: Fleet = args[1]
    for c, how in out.items():
        if c not in fleet.flying:
            notes.add("recall", f"recall names client {c}, which is not flying")
        if how not in ("epoch", "cancel"):
            notes.add("recall", f"recall says {how!r}, which is neither 'epoch' nor 'cancel'")
    return {c: how for c, how in out.items() if c in fleet.flying and how in ("epoch", "cancel")}


def _receive(self: Any, notes: Notes, args: tuple[Any, ...], out: Any) -> Any:
    update: Update = args[1]
    if update.interrupted:
        notes.interrupted.append((update.steps, len([1 for t in update.up.values() if not bool(t.isfinite().all())])))
    return out


def _finish(self: Any, notes: Notes, args: tuple[Any, ...], out: Any) -> Any:
    up, _ = out
    if set(up) != set(self.uploads):
        notes.add("uploads", f"finish returns {sorted(up)}, but `uploads` declares {sorted(self.uploads)}")
    return out


_AFTER: dict[str, Callable[..., Any]] = {
    "init": _init, "params": _params, "personal": _params, "assign": _assign, "select": _select, "recall": _recall,
    "receive": _receive, "finish": _finish,
}  # fmt: skip


def _with_recalls(hook: Callable[..., Any]) -> Callable[..., Any]:
    """A recall that also asks every other client in flight to report at the end of its epoch."""

    def recall(self: Any, state: Any, fleet: Fleet) -> dict[int, str]:
        wanted = dict(hook(self, state, fleet))
        return {**{c: "epoch" for c in fleet.flying if c % 2 == 0}, **wanted}

    return recall


def _with_alarms(hook: Callable[..., Any]) -> Callable[..., Any]:
    """An alarm every few seconds, so that `tick` is called early, as a wrapper may, and `recall` after it."""

    def alarm(self: Any, state: Any, fleet: Fleet) -> float:
        own = hook(self, state, fleet)
        soon = (fleet.now // EARLY_S + 1) * EARLY_S
        soon = soon if soon > fleet.now + 1e-6 else soon + EARLY_S
        return soon if own is None else min(own, soon)

    return alarm
