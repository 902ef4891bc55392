"""Many runs as one table: grouped by everything but the seed, with means, deviations and censored times."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from aflctl.errors import RunDirError, UserError
from aflctl.report.statistics import deviation, mean, noted_targets, reached
from aflctl.report.wording import number, plural
from aflctl.runs.load import Run, load_run

NOT_COMPARED = ("seed", "seeds", "name", "tags", "engine", "checkpoint", "track")


@dataclass(frozen=True, slots=True)
class Spread:
    """Values over runs: mean, sample standard deviation (None below two), the values in the order of the seeds."""

    values: tuple[float, ...]

    @property
    def mean(self) -> float | None:
        """None of nothing."""
        return mean(self.values)

    @property
    def std(self) -> float | None:
        """Divided by n - 1."""
        return deviation(self.values)

    def document(self) -> dict[str, Any]:
        """For JSON."""
        return {"mean": self.mean, "std": self.std, "values": list(self.values)}


@dataclass(frozen=True, slots=True)
class Reach:
    """How runs came to a target; `virtual_s` and `updates` are over the `reached` ones, the others are censored."""

    runs: int
    virtual_s: Spread
    updates: Spread

    @property
    def reached(self) -> int:
        """How many runs came there."""
        return len(self.virtual_s.values)


@dataclass(frozen=True, slots=True)
class Group:
    """Runs that differ in nothing but the seed. `differs`: dotted key -> value, where groups are unlike."""

    label: str
    differs: Mapping[str, Any]
    runs: tuple[str, ...]
    seeds: tuple[int, ...]
    final: Spread
    best: Spread
    targets: Mapping[float, Reach]
    staleness_mean: Spread
    staleness_max: int | None
    bytes_down: Spread
    bytes_up: Spread

    @property
    def n(self) -> int:
        """Number of runs."""
        return len(self.runs)

    def document(self) -> dict[str, Any]:
        """For JSON."""
        spreads = {
            k: getattr(self, k).document() for k in ("final", "best", "staleness_mean", "bytes_down", "bytes_up")
        }
        hits = {
            f"{t:g}": {
                "runs": r.runs,
                "reached": r.reached,
                "virtual_s": r.virtual_s.document(),
                "updates": r.updates.document(),
            }
            for t, r in self.targets.items()
        }
        return {
            "label": self.label,
            "differs": dict(self.differs),
            "n": self.n,
            "runs": list(self.runs),
            "seeds": list(self.seeds),
            **spreads,
            "staleness_max": self.staleness_max,
            "time_to_target": hits,
        }


@dataclass(frozen=True, slots=True)
class Comparison:
    """The groups, best final accuracy first; `skipped` runs with the reason; `notes` that a reader should know."""

    groups: tuple[Group, ...]
    targets: tuple[float, ...]
    skipped: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()

    def document(self) -> dict[str, Any]:
        """For JSON, without the envelope."""
        return {
            "targets": list(self.targets),
            "groups": [group.document() for group in self.groups],
            "skipped": [{"run": name, "reason": reason} for name, reason in self.skipped],
            "notes": list(self.notes),
        }

    def render(self, format: str = "table") -> str:
        """As text: table, markdown, csv, json or latex."""
        from aflctl.report.formats import render

        return render(self, format)

    def __str__(self) -> str:
        return self.render()


@dataclass
class _Facts:
    """What a comparison needs of one run."""

    run: Run
    unfinished: bool
    flat: dict[str, Any] = field(init=False)
    key: str = field(init=False)
    seed: int = field(init=False)

    def __post_init__(self) -> None:
        config = self.run.config
        self.flat = flatten({k: v for k, v in config.items() if k not in NOT_COMPARED})
        self.key = json.dumps(self.flat, sort_keys=True, default=str)
        seed = config.get("seed", 0)
        self.seed = seed if isinstance(seed, int) else 0

    @cached_property
    def summary(self) -> Mapping[str, Any]:
        return self._so_far() if self.unfinished else self.run.summary

    def _so_far(self) -> Mapping[str, Any]:
        """The like of a summary from the records of a run that has none."""
        rows = [row for row in self.run.columns("metrics").records() if row["accuracy"] is not None]
        if not rows:
            return {}
        updates = self.run.columns("updates")
        stale = [s for s, outcome in zip(updates["staleness"], updates["outcome"]) if outcome == "used"]
        return {
            "final": rows[-1],
            "best": max(rows, key=lambda row: row["accuracy"]),
            "totals": rows[-1],
            "staleness": {"mean": mean(stale), "max": max(stale, default=None)},
        }

    def number(self, *path: str) -> float | None:
        value: Any = self.summary
        for key in path:
            value = value.get(key) if isinstance(value, Mapping) else None
        return number(value)

    @cached_property
    def noted(self) -> dict[float, Mapping[str, Any]]:
        """The targets that the summary says were reached."""
        return noted_targets(self.summary)

    def hit(self, target: float) -> Mapping[str, Any] | None:
        """The evaluation that came to the target first."""
        return self.noted.get(target) or reached(self.run.columns("metrics"), target)


def compare(runs: Iterable[Run | Path | str], *, targets: Sequence[float] = (), unfinished: bool = False) -> Comparison:
    """Groups runs (objects or directories) by everything but the seed.

    `targets` are accuracies in (0, 1]; without one the highest that every run reached is taken. Runs that are not done
    are skipped, or counted as far as they came with `unfinished`.
    """
    for target in targets:
        if not 0 < target <= 1:
            raise UserError(f"a target is an accuracy between 0 and 1, not {target:g}", hint="90 % is written 0.9")
    facts, skipped, notes = _collect(runs, unfinished)
    if not facts:
        if skipped:
            name, reason = skipped[0]
            more = f" and {plural(len(skipped) - 1, 'other')}" if len(skipped) > 1 else ""
            hint = "finish them with: aflctl run RUN; or compare what there is with --unfinished"
            raise RunDirError(f"nothing to compare: {name} {reason}{more}", hint=hint)
        raise UserError("nothing to compare", hint="name runs: directories, beginnings of names, or a folder of runs")
    chosen = tuple(dict.fromkeys(targets)) or _common_target(facts)
    groups: dict[str, list[_Facts]] = {}
    for fact in facts:
        groups.setdefault(fact.key, []).append(fact)
    labels = differences([members[0].flat for members in groups.values()])
    made = [_group(sorted(m, key=lambda f: f.seed), *label, chosen) for m, label in zip(groups.values(), labels)]
    for group, members in zip(made, groups.values()):
        notes += _doubts(group, members)
    made.sort(key=lambda group: (-(group.final.mean if group.final.mean is not None else -1.0), group.label))
    return Comparison(tuple(made), chosen, tuple(skipped), tuple(notes))


def _collect(
    runs: Iterable[Run | Path | str], unfinished: bool
) -> tuple[list[_Facts], list[tuple[str, str]], list[str]]:
    facts: list[_Facts] = []
    skipped: list[tuple[str, str]] = []
    seen: dict[str, str] = {}
    folders: set[Path] = set()
    repeated = 0
    for item in runs:
        run = item if isinstance(item, Run) else Run(Path(item))
        if run.path.resolve() in folders:
            continue
        folders.add(run.path.resolve())
        try:
            load_run(run.path)
            done = run.status == "done"
            if not done and not (unfinished and run.status != "unreadable"):
                skipped.append((run.name, f"is {run.status}"))
                continue
            fact = _Facts(run, not done)
            if fact.number("final", "accuracy") is None:
                skipped.append((run.name, "has no evaluation"))
                continue
        except RunDirError as error:
            skipped.append((run.name, f"cannot be read: {error.message}"))
            continue
        identity = str(run.summary.get("identity") or run.path)
        if done and identity in seen:
            repeated += 1
            continue
        seen[identity] = run.name
        facts.append(fact)
    notes = [f"{plural(repeated, 'rerun')} of runs that are here already: counted once"] if repeated else []
    return facts, skipped, notes


def _common_target(facts: Sequence[_Facts]) -> tuple[float, ...]:
    """The highest noted target that every run reached, else the highest that any did."""
    noted = [set(f.noted) for f in facts]
    for candidates in (set.intersection(*noted), set.union(*noted)):
        if candidates:
            return (max(candidates),)
    return ()


def _group(members: Sequence[_Facts], label: str, differs: Mapping[str, Any], targets: Sequence[float]) -> Group:
    def spread(*path: str) -> Spread:
        return Spread(tuple(v for f in members if (v := f.number(*path)) is not None))

    def reach(target: float) -> Reach:
        hits = [hit for f in members if (hit := f.hit(target)) is not None]
        times, updates = (Spread(tuple(float(hit[k]) for hit in hits)) for k in ("virtual_s", "update"))
        return Reach(len(members), times, updates)

    highest = spread("staleness", "max").values
    return Group(
        label=label,
        differs=differs,
        runs=tuple(f.run.name for f in members),
        seeds=tuple(f.seed for f in members),
        final=spread("final", "accuracy"),
        best=spread("best", "accuracy"),
        targets={target: reach(target) for target in targets},
        staleness_mean=spread("staleness", "mean"),
        staleness_max=int(max(highest)) if highest else None,
        bytes_down=spread("totals", "bytes_down"),
        bytes_up=spread("totals", "bytes_up"),
    )


def _doubts(group: Group, members: Sequence[_Facts]) -> list[str]:
    """Why the runs of a group may not belong together."""
    codes = {str((f.run.summary.get("fingerprints") or {}).get("code")) for f in members if not f.unfinished}
    notes = [f"{group.label}: its runs were made by different code"] if len(codes) > 1 else []
    twice = sorted({s for s in group.seeds if group.seeds.count(s) > 1})
    if twice:
        notes.append(f"{group.label}: more than one run with seed {', '.join(map(str, twice))}")
    return notes


# ---- what differs ----


def flatten(value: Any, path: str = "") -> dict[str, Any]:
    """Nested mappings as dotted keys; lists stay whole."""
    if not isinstance(value, Mapping):
        return {path: value}
    found: dict[str, Any] = {}
    for key, inner in value.items():
        found |= flatten(inner, f"{path}.{key}" if path else str(key))
    return found


def _owner(key: str, names: Mapping[str, Any]) -> str | None:
    """The plug-in a parameter belongs to, as its dotted path; None for a key that is no parameter of one."""
    above = key.rpartition(".")[0]
    if key.endswith(".name"):
        return None
    while above:
        if f"{above}.name" in names:
            return above
        above = above.rpartition(".")[0]
    return None


def differences(configs: Sequence[Mapping[str, Any]]) -> list[tuple[str, dict[str, Any]]]:
    """(label, {key: value}) of each flat configuration: what tells it from the others.

    A plug-in's parameter counts only among configurations that use the same plug-in there.
    """
    keys = list(dict.fromkeys(key for config in configs for key in config))
    differing: list[dict[str, Any]] = [{} for _ in configs]
    for key in keys:
        classes: dict[str, list[int]] = {}
        for i, config in enumerate(configs):
            owner = _owner(key, config)
            classes.setdefault(str(config.get(f"{owner}.name")) if owner else "", []).append(i)
        for members in classes.values():
            if len({json.dumps(configs[i].get(key), sort_keys=True, default=str) for i in members}) > 1:
                for i in members:
                    differing[i][key] = configs[i].get(key)
    return [(_label(found, config), found) for found, config in zip(differing, configs)]


def _label(found: Mapping[str, Any], config: Mapping[str, Any]) -> str:
    if not found:
        return str(config.get("algorithm.name", "all"))
    ends = [key.rpartition(".")[2] for key in found]
    parts = []
    for key, value in found.items():
        end = key.rpartition(".")[2]
        if end == "name":
            parts.append(str(value))
        else:
            text = "none" if value is None else value if isinstance(value, str) else json.dumps(value, default=str)
            parts.append(f"{end if ends.count(end) == 1 else key}={text}")
    if "algorithm.name" not in found and "algorithm.name" in config:
        parts.insert(0, str(config["algorithm.name"]))
    return ", ".join(parts)
