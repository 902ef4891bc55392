"""Which parameters and buffers a pattern means.

    fc1, fc1.weight    a module (with all that is inside it) or one tensor, by its full dotted name
    fc*, layer?.*      the same with wildcards
    re:layer[34]\\..*   a regular expression that matches the whole name
    @BatchNorm         modules of a class; `@Conv` means Conv1d, Conv2d and Conv3d
    @Linear:last       the last module of that class; also first, a position (0, -2), or a range (-2:)
    @*:last            the last module that holds parameters
    !fc1               without these

Patterns are read from left to right; one that matches nothing, or that takes nothing away, is an error that shows
what there is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

from aflctl.api import Setup
from aflctl.errors import UserError


def choose(patterns: Sequence[str], setup: Setup, where: str) -> frozenset[str]:
    """Names of parameters and buffers that the patterns select; `where` is the configuration key for errors."""
    names = [*setup.layout, *setup.buffers]
    if not setup.layout:  # a plan without tensors
        return frozenset()
    chosen: set[str] = set()
    for pattern in patterns:
        found = _matching(pattern.removeprefix("!"), names, setup.modules, where)
        if not found:
            raise UserError(f"{pattern!r} matches nothing in the model", where=where, hint=_available(setup))
        if pattern.startswith("!") and not chosen & found:
            raise UserError(
                f"{pattern!r} takes nothing away from the selectors before it", where=where,
                hint=f"name first what it is taken from, as in ['*', {pattern!r}]",
            )  # fmt: skip
        chosen = chosen - found if pattern.startswith("!") else chosen | found
    return frozenset(chosen)


def module_of(name: str) -> str:
    """The dotted name of the module that holds a parameter or buffer; empty for the model itself."""
    return name.rpartition(".")[0]


def flops_share(names: frozenset[str] | set[str], setup: Setup) -> float:
    """Share of a forward pass that the modules of these parameters cost; by parameters where nobody counted FLOPs."""
    sizes: dict[str, int] = {name: place.stop - place.start for name, (place, _) in setup.layout.items()}
    if not sizes or not sum(sizes.values()):
        return 1.0
    if not sum(setup.flops.values()):
        return sum(sizes[n] for n in names if n in sizes) / sum(sizes.values())
    inside: dict[str, list[int]] = {}
    for name, size in sizes.items():
        mine, every = inside.setdefault(module_of(name), [0, 0])
        inside[module_of(name)] = [mine + (size if name in names else 0), every + size]
    cost = sum(setup.flops.get(module, 0.0) * mine / every for module, (mine, every) in inside.items() if every)
    return cost / sum(setup.flops.values())


def _matching(pattern: str, names: Sequence[str], modules: Mapping[str, str], where: str) -> set[str]:
    if pattern.startswith("re:"):
        try:
            rule = re.compile(pattern[3:])
        except re.error as error:
            raise UserError(f"{pattern!r} is not a regular expression: {error}", where=where) from None
        return {n for n in names if rule.fullmatch(n)}
    if not pattern.startswith("@"):
        return {n for n in names if any(fnmatchcase(part, pattern) for part in _prefixes(n))}
    kind, _, position = pattern[1:].partition(":")
    holders = list(dict.fromkeys(module_of(n) for n in names if _is_a(modules.get(n, ""), kind)))
    kept = set(_at(holders, position, pattern, where))
    return {n for n in names if module_of(n) in kept and _is_a(modules.get(n, ""), kind)}


def _prefixes(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[:i]) for i in range(1, len(parts) + 1)]


def _is_a(cls: str, kind: str) -> bool:
    return kind == "*" or cls == kind or bool(re.fullmatch(re.escape(kind) + r"\d+d", cls))


def _at(holders: Sequence[str], position: str, pattern: str, where: str) -> Sequence[str]:
    if not position:
        return holders
    words = {"first": slice(0, 1), "last": slice(-1, None)}
    if position in words:
        return holders[words[position]]
    match = re.fullmatch(r"(-?\d+)|(-?\d*):(-?\d*)", position)
    if match is None:
        hint = "use first, last, a number such as -2, or a range such as -2:"
        raise UserError(f"{pattern!r}: {position!r} is no position", where=where, hint=hint)
    if match[1] is not None:
        at = int(match[1])
        return [holders[at]] if -len(holders) <= at < len(holders) else []
    return holders[slice(*(int(part) if part else None for part in (match[2], match[3])))]


def _available(setup: Setup) -> str:
    kinds = sorted({f"@{kind}" for kind in setup.modules.values()})
    names = [*setup.layout, *setup.buffers]
    shown = ", ".join(names[:40]) + (f" and {len(names) - 40} more" if len(names) > 40 else "")
    return f"names: {shown}; classes: {', '.join(kinds) or 'unknown'}"
