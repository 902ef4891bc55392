"""What `aflctl plugin check` is asked to check: a plug-in, a local file, a distribution."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from aflctl.errors import PluginBroken, UnknownName, UserError
from aflctl.plugins import BASES, KINDS, Entry, Registry, is_local, registry, word


class Target(NamedTuple):
    """One thing to check: its kind, its name as a person knows it, and the class or folder itself.

    Where it does not load, `broken` says why.
    """

    kind: str
    name: str
    thing: Any
    broken: str | None = None


def find(target: str, base: Path | None = None, plugins: Registry | None = None) -> list[Target]:
    """What a target means: `kind/name`, a name, `./file.py:Class`, a file or folder of profiles, or a distribution,
    by its name or the folder of its source.

    A name that plug-ins of several kinds share means all of them. Raises UnknownName and what loading raises.
    """
    found = plugins or registry()
    if is_local(target):
        return [_local(target, base, found)]
    path = (base or Path.cwd()) / Path(os.path.expanduser(target))
    if target.startswith((".", "/", "~")) and path.exists():
        source = path / "pyproject.toml"
        if not source.is_file():
            return [Target("profiles", target, path)]
        return _of_source(source, target, found)
    kind, _, name = target.partition("/")
    plural = kind if kind in KINDS else f"{kind}s"
    if name and plural in KINDS:
        return [_loaded(found.entry(plural, name), found)]
    rows = [e for e in _everything(found) if target in (e.name, f"{e.distribution}/{e.name}")]
    rows = rows or _of_distribution(target, found)
    if not rows:
        names = [n for k in BASES for n in found.names(k)]
        raise UnknownName("plug-in or distribution", target, [*names, *found.distributions()])
    return [_loaded(entry, found) for entry in rows]


def _everything(found: Registry) -> list[Entry]:
    return [e for k in (*BASES, "profiles") for e in found.entries(k)]


def _of_distribution(name: str, found: Registry) -> list[Entry]:
    return [e for e in _everything(found) if _plain(e.distribution) == _plain(name)]


def _of_source(source: Path, target: str, found: Registry) -> list[Target]:
    """A distribution by the folder of its source, as it is installed."""
    try:
        name = str(tomllib.loads(source.read_text("utf-8"))["project"]["name"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{source} names no project", hint="TARGET may also be ./file.py:Class") from error
    rows = _of_distribution(name, found)
    if not rows:
        raise UserError(
            f"{target} is the source of {name}, which is not installed or offers no plug-in",
            hint=f"pip install -e {target}, then check {name}",
        )
    return [_loaded(entry, found) for entry in rows]


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _loaded(entry: Entry, found: Registry) -> Target:
    name = f"{entry.distribution}/{entry.name}" if entry.rivals else entry.name
    try:
        thing = found.load(entry.kind, name)
    except PluginBroken as error:
        return Target(entry.kind, entry.name, None, error.message)
    return Target(entry.kind, entry.name, folder_of(thing) if entry.kind == "profiles" else thing)


def folder_of(module: Any) -> Path:
    """The folder of a package of profiles."""
    paths: Sequence[str] = list(getattr(module, "__path__", ()))
    if not paths:
        raise PluginBroken(f"{module.__name__} is no package: its folder holds devices, networks, availability, fleets")
    return Path(paths[0])


def _local(target: str, base: Path | None, found: Registry) -> Target:
    """A class in a file; of which kind it is, it says itself."""
    wrong: PluginBroken | None = None
    for kind in BASES:
        try:
            return Target(kind, target.rpartition(":")[2], found.load(kind, target, base))
        except PluginBroken as error:
            if "is no subclass of" not in error.message:
                return Target(word(kind), target, None, error.message)
            wrong = error
    assert wrong is not None
    bases = ", ".join(BASES.values())
    return Target("plug-in", target, None, f"{target} extends none of aflctl.api's classes: {bases}")
