"""Why groups may not be comparable: other data, other fleets, other budgets, other code."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from aflctl.errors import UserError
from aflctl.report.comparison.grouping import Group, Rival, value_text
from aflctl.report.wording import plural

_DATA = ("dataset.",)
_FLEET = ("fleet", "clients.count")
_BUDGET = ("stop.",)
_MOMENTS = ("evaluate.every.",)


def doubts(groups: Sequence[Group], against: Sequence[Rival]) -> list[str]:
    """What a reader must be warned of. Groups are held against their baselines; without one, against each other."""
    found = [text for g in groups for text in _inside(g)]
    blocks = [[r.baseline, *(o.group for o in against if o.baseline is r.baseline)] for r in against]
    unique = {block[0].label: block for block in blocks}
    for block in list(unique.values()) if against else [list(groups)]:
        found += _between(block)
    return list(dict.fromkeys(found))


def refuse(worries: Sequence[str], skipped: Sequence[tuple[str, str]]) -> None:
    """What --strict does: an error that tells all of it."""
    told = [*worries, *(f"{name} {reason}" for name, reason in skipped)]
    if told:
        lines = "\n".join(f"  {text}" for text in told)
        hint = "without --strict these are warnings"
        raise UserError(f"these runs are not fit to be compared ({plural(len(told), 'reason')}):\n{lines}", hint=hint)


def _inside(g: Group) -> list[str]:
    codes = {f.print_of("code") for f in g.members if not f.unfinished}
    notes = [f"{g.label}: its runs were made by different code"] if len(codes) > 1 else []
    pairs = [f.pair for f in g.members]
    twice = sorted({p for p in pairs if pairs.count(p) > 1})
    if twice:
        notes.append(f"{g.label}: more than one run with seed {', '.join(twice)}; they count as their mean")
    return notes


def _between(block: Sequence[Group]) -> list[str]:
    if len(block) < 2:
        return []
    found = []
    for what, prefixes, part in (("data", _DATA, "data"), ("fleets", _FLEET, "fleet")):
        keys = _differing(block, prefixes)
        if keys:
            found.append(f"{what} differ: {_told(block, keys)}")
        elif _prints_differ(block, part):
            found.append(f"{what} differ: the fingerprints of runs with one seed are not the same")
    keys = _differing(block, _BUDGET)
    if keys:
        found.append(f"budgets differ: {_told(block, keys)}")
    keys = _differing(block, _MOMENTS)
    if keys:
        found.append(f"evaluated at different moments: {_told(block, keys)}; times to a target are as coarse as these")
    lacking = _lacking(block, lambda g: any(f.number("final", "accuracy") is not None for f in g.members))
    if lacking:
        found.append(f"metrics differ: {', '.join(lacking)} without accuracy")
    if len({g.seeds for g in block}) > 1:
        sizes = sorted({g.n for g in block})
        common = set.intersection(*(set(g.seeds) for g in block))
        found.append(f"seeds differ: {'/'.join(map(str, sizes))} per group, {len(common)} in common")
    return found


def _differing(block: Sequence[Group], prefixes: Iterable[str]) -> list[str]:
    keys = dict.fromkeys(k for g in block for k in g.flat if k.startswith(tuple(prefixes)))
    return [k for k in keys if len({value_text(g.flat.get(k)) for g in block}) > 1]


def _told(block: Sequence[Group], keys: Sequence[str]) -> str:
    parts = []
    for key in keys[:3]:
        values = dict.fromkeys(value_text(g.flat.get(key)) for g in block)
        parts.append(f"{key} is {' or '.join(values)}")
    return ", ".join(parts) + (f" and {len(keys) - 3} more" if len(keys) > 3 else "")


def _prints_differ(block: Sequence[Group], part: str) -> bool:
    by_seed: dict[str, set[str]] = {}
    for g in block:
        for f in g.members:
            mark = f.print_of(part)
            if mark is not None:
                by_seed.setdefault(f.pair, set()).add(mark)
    return any(len(marks) > 1 for marks in by_seed.values())


def _lacking(block: Sequence[Group], has: Callable[[Group], bool]) -> list[str]:
    lacking = [g.label for g in block if not has(g)]
    return lacking if len(lacking) < len(block) else []
