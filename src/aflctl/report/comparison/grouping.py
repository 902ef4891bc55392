"""Runs that differ in nothing but the seed are one group; what tells the groups apart is their label."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aflctl.errors import UserError, suggest
from aflctl.report.comparison.reading import Facts
from aflctl.report.wording import called

MOST_SAID = 4


@dataclass(frozen=True, slots=True)
class Group:
    """Runs of one configuration, by seed.

    differs   dotted key -> value, where groups are unlike
    unsaid    those of these keys that no label of the comparison names
    """

    label: str
    differs: Mapping[str, Any]
    members: tuple[Facts, ...]
    unsaid: tuple[str, ...] = ()

    @property
    def seeds(self) -> tuple[str, ...]:
        """The distinct seeds, in the order of the members."""
        return tuple(dict.fromkeys(fact.pair for fact in self.members))

    @property
    def n(self) -> int:
        """The number of distinct seeds."""
        return len(self.seeds)

    @property
    def flat(self) -> Mapping[str, Any]:
        """The configuration by dotted key."""
        return self.members[0].flat


def group(facts: Iterable[Facts]) -> list[Group]:
    """The groups in the order in which their first run was named."""
    found: dict[str, list[Facts]] = {}
    for fact in facts:
        found.setdefault(fact.key, []).append(fact)
    configs = [members[0].flat for members in found.values()]
    differing = differences(configs)
    labels, unsaid = labels_of(differing, configs)
    return [
        Group(text, differs, tuple(sorted(members, key=lambda f: (f.seed, f.pair, f.name))), unsaid)
        for members, text, differs in zip(found.values(), labels, differing)
    ]


# ---- what differs ----


def plugin_of(key: str, names: Mapping[str, Any]) -> str | None:
    """The plug-in a parameter belongs to, as its dotted path; None for a key that is no parameter of one."""
    above = key.rpartition(".")[0]
    if key.endswith(".name"):
        return None
    while above:
        if f"{above}.name" in names:
            return above
        above = above.rpartition(".")[0]
    return None


def _same(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)


def differences(configs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """{key: value} of each flat configuration: what tells it from the others.

    A plug-in's parameter counts only among configurations that use the same plug-in there.
    """
    keys = list(dict.fromkeys(key for config in configs for key in config))
    differing: list[dict[str, Any]] = [{} for _ in configs]
    for key in keys:
        classes: dict[str, list[int]] = {}
        for i, config in enumerate(configs):
            owner = plugin_of(key, config)
            classes.setdefault(str(config.get(f"{owner}.name")) if owner else "", []).append(i)
        for members in classes.values():
            if len({_same(configs[i].get(key)) for i in members}) > 1:
                for i in members:
                    differing[i][key] = configs[i].get(key)
    return differing


def labels_of(
    differing: Sequence[Mapping[str, Any]], configs: Sequence[Mapping[str, Any]]
) -> tuple[list[str], tuple[str, ...]]:
    """(a label of each configuration, keys that differ and that no label names).

    All that differs is named, unless that were more than MOST_SAID values somewhere: then only as much as tells each
    configuration from the others, the algorithm first.
    """
    said = [list(found) for found in differing]
    if max(map(len, said), default=0) > MOST_SAID:
        said = _telling(differing)
    labels = [_label({key: found[key] for key in keys}, c) for found, keys, c in zip(differing, said, configs)]
    unsaid = dict.fromkeys(key for found in differing for key in found)
    for key in (key for keys in said for key in keys):
        unsaid.pop(key, None)
    twice = [text if labels.count(text) == 1 else f"{text} ({labels[: i + 1].count(text)})"
             for i, text in enumerate(labels)]  # fmt: skip
    return twice, tuple(unsaid)


def _telling(differing: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """For each configuration a few of its keys; each next key is the one that tells most of them apart."""
    keys = list(dict.fromkeys(key for found in differing for key in found))
    values = [{key: _same(value) for key, value in found.items()} for found in differing]
    said: list[list[str]] = [[] for _ in differing]
    alike: list[tuple[str | None, ...]] = [() for _ in differing]
    while keys and len(set(alike)) < len(alike):
        unclear = [i for i, known in enumerate(alike) if alike.count(known) > 1]
        split = {key: len({(alike[i], values[i].get(key)) for i in unclear}) for key in keys}
        best = "algorithm.name" if "algorithm.name" in keys else max(keys, key=lambda key: split[key])
        keys.remove(best)
        for i in unclear:
            if best in values[i]:
                said[i].append(best)
        alike = [(*known, values[i].get(best)) for i, known in enumerate(alike)]
    return said


def value_text(value: Any) -> str:
    """A value of a configuration in a few characters; plug-ins by their names, those in files by their classes."""
    if value is None or value == []:
        return "none"
    if isinstance(value, list) and all(isinstance(v, Mapping) and "name" in v for v in value):
        return "+".join(called(v["name"]) for v in value)
    return called(value) if isinstance(value, str) else json.dumps(value, default=str)


def _label(found: Mapping[str, Any], config: Mapping[str, Any]) -> str:
    if not found:
        return called(config.get("algorithm.name", "all"))
    ends = [key.rpartition(".")[2] for key in found]
    parts = []
    for key, value in found.items():
        end = key.rpartition(".")[2]
        text = value_text(value)
        parts.append(text if end == "name" else f"{end if ends.count(end) == 1 else key}={text}")
    if "algorithm.name" not in found and "algorithm.name" in config:
        parts.insert(0, called(config["algorithm.name"]))
    return ", ".join(parts)


# ---- against what ----


@dataclass(frozen=True, slots=True)
class Rival:
    """A group, and the one that it is measured against."""

    group: Group
    baseline: Group


def rivals(groups: Sequence[Group], baseline: str) -> list[Rival]:
    """Who is compared with whom.

    `baseline` is a label (or the beginning of one), or the value or `key=value` of something that differs. Where it
    fits several groups (a method under three alphas), each other group is measured against the one that is most like it
    in everything else; where two are equally like it, it is left out.
    """
    names = [g.label for g in groups]
    if baseline in names:
        chosen = groups[names.index(baseline)]
        return [Rival(g, chosen) for g in groups if g is not chosen]
    key, fits = _fitting(groups, baseline)
    if not fits:
        fits = [g for g in groups if baseline and g.label.startswith(baseline)]
        if len(fits) != 1:
            what = "fits no group" if not fits else f"fits {len(fits)} groups"
            raise UserError(f"baseline {baseline!r} {what}", hint=suggest(baseline, names), where="--baseline")
    if len(fits) == 1:
        return [Rival(g, fits[0]) for g in groups if g is not fits[0]]
    found = []
    for g in groups:
        if g in fits:
            continue
        far = [_unlike(b, g, key) for b in fits]
        if far.count(min(far)) == 1:
            found.append(Rival(g, fits[far.index(min(far))]))
    if not found:
        hint = f"name one of them: {', '.join(repr(g.label) for g in fits)}"
        what = f"fits {len(fits)} groups, and no other is more like one of them than like another"
        raise UserError(f"baseline {baseline!r} {what}", hint=hint, where="--baseline")
    return found


def _fitting(groups: Sequence[Group], baseline: str) -> tuple[str, list[Group]]:
    """The differing key that `baseline` is a value of, and the groups that have it."""
    wanted_key, equals, wanted = baseline.partition("=")
    for key in dict.fromkeys(key for g in groups for key in g.differs):
        end = key.rpartition(".")[2]
        if equals and wanted_key not in (key, end):
            continue
        if not equals and end != "name":
            continue
        value = wanted if equals else baseline
        fits = [g for g in groups if key in g.flat and value_text(g.flat[key]) == value]
        if fits:
            return key, fits
    return "", []


def _unlike(a: Group, b: Group, key: str) -> int:
    """In how many values two configurations differ, `key` aside; where it names a plug-in, its parameters too."""
    above = key.removesuffix("name") if key.endswith(".name") else f"{key}."
    keys = [k for k in {**a.flat, **b.flat} if k != key and not k.startswith(above)]
    return sum(_same(a.flat.get(k)) != _same(b.flat.get(k)) for k in keys)


def default_baseline(groups: Sequence[Group]) -> str | None:
    """FedAvg where some groups run it and others do not, else FedAsync, else the group named first; None of one."""
    if len(groups) < 2:
        return None
    for name in ("fedavg", "fedasync"):
        mine = [g for g in groups if g.flat.get("algorithm.name") == name]
        if mine and len(mine) < len(groups):
            return mine[0].label if len(mine) == 1 else name
    return groups[0].label
