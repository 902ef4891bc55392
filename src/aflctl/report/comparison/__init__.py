"""Many runs as one answer: groups over seeds, what they measure, and how they differ from a baseline."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aflctl.errors import RunDirError, UserError
from aflctl.report.comparison import doubts
from aflctl.report.comparison.alone import compare_to_alone
from aflctl.report.comparison.columns import ABOVE_LOCAL, Column, Measured, about, measure, parse
from aflctl.report.comparison.grouping import Group, Rival, default_baseline, group, rivals
from aflctl.report.comparison.queries import Query, holds_config, holds_value, ordered, query, row_of
from aflctl.report.comparison.reading import Facts
from aflctl.report.comparison.verdicts import Difference, Front, front, judge
from aflctl.report.wording import plural
from aflctl.runs.load import Run
from aflctl.runs.rundir import is_run

AUTO = "auto"
DEFAULTS = ("acc.final", "acc.best", "time_to:{}", "updates_to:{}", "staleness.mean", "traffic")


@dataclass(frozen=True, slots=True)
class Comparison:
    """The answer.

    groups        in the order of the table
    columns       what is shown; `table[label][column.text]` is what it says of a group
    targets       accuracies whose time is told
    differences   against the baseline, one per group and metric that is judged; empty without one
    pareto        who is on the front of accuracy against time; None below two groups
    skipped       (run, reason) of runs that are left out
    doubts        why the groups may not be comparable; `strict` refuses them
    notes         what else a reader should know
    """

    groups: tuple[Group, ...]
    columns: tuple[Column, ...]
    table: Mapping[str, Mapping[str, Measured | str]]
    targets: tuple[float, ...]
    differences: tuple[Difference, ...] = ()
    pareto: Front | None = None
    skipped: tuple[tuple[str, str], ...] = ()
    doubts: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def document(self) -> dict[str, Any]:
        """For JSON, without the envelope."""
        from aflctl.report.comparison.formats import document

        return document(self)

    def render(self, format: str = "table") -> str:
        """As text: table, markdown, csv, json or latex."""
        from aflctl.report.comparison.formats import render

        return render(self, format)

    def __str__(self) -> str:
        return self.render()


def compare(
    runs: Iterable[Run | Path | str],
    *,
    targets: Sequence[float] = (),
    baseline: str | None = None,
    on: Sequence[str] = (),
    columns: Sequence[str] = (),
    sort: str | None = None,
    filters: Sequence[str] = (),
    unfinished: bool = False,
    strict: bool = False,
) -> Comparison:
    """Groups runs (objects or directories) by everything but the seed, and measures them.

    targets     accuracies in (0, 1]; without one the highest that every run reached, else half of them
    baseline    a label, or a value that several groups share: paired differences against it on common seeds;
                `auto` is FedAvg, else FedAsync, else the group that was named first
    on          columns that get a verdict; by default final accuracy (where clients have models of their own, theirs
                too) and the time to the targets
    columns     what to show, see `columns`; a word may hold several, separated by commas
    sort        a column, best first; `-column` turns the order round
    filters     `key=value` keeps runs by their configuration, `acc.final>0.8` hides groups from the table
    unfinished  count runs that are not done, as far as they came; else they are skipped
    strict      refuse what would only be warned of
    """
    for target in targets:
        if not 0 < target <= 1:
            raise UserError(f"a target is an accuracy between 0 and 1, not {target:g}", hint="90 % is written 0.9")
    facts, skipped, notes = _collect(runs, unfinished)
    queries = [query(text) for text in filters]
    compare_to_alone(facts)
    facts = _kept(facts, [q for q in queries if q.on_config], skipped)
    groups = group(facts)
    chosen = tuple(dict.fromkeys(targets)) or _common_target(facts)
    words = [word.strip() for text in columns for word in text.split(",") if word.strip()]
    shown = [c for word in words for c in parse(word, groups)] or _default_columns(chosen, groups)
    judged = [c for word in on for c in parse(word.strip(), groups)] or _default_judged(chosen, groups)
    for column in judged:
        if column.unit == "text" or (column.target is not None and not column.axis):
            raise UserError(f"column {column.text!r} cannot be judged", hint="try time_to:0.8", where="--on")
    against = _against(groups, baseline)
    worries = doubts.doubts(groups, against)
    if strict:
        doubts.refuse(worries, skipped)
    table = _table(shown, groups)
    if not words:
        shown = _varying(shown, table, groups, tuple(targets))
    for target in chosen:
        if not any(f.hit(target) for g in groups for f in g.members):
            notes.append(f"no run reached an accuracy of {target:g}")
    hidden = [g for g in groups if not all(holds_value(q, g, groups) for q in queries if not q.on_config)]
    if len(hidden) == len(groups):
        hint = "accuracies are shares: 80 % is 0.8" if any(q.key.startswith("acc.") for q in queries) else None
        where = f"--filter {', '.join(filters)}"
        raise UserError("nothing to show: no group passes the filter", where=where, hint=hint)
    visible = ordered([g for g in groups if g not in hidden], groups, sort)
    if hidden:
        notes.append(f"--filter hides {plural(len(hidden), 'group')}; the verdicts count them all the same")
    return Comparison(
        groups=tuple(visible),
        columns=tuple(shown),
        table=table,
        targets=chosen,
        differences=tuple(_in_order(judge(against, judged), [g.label for g in visible])),
        pareto=front(groups, chosen),
        skipped=tuple(skipped),
        doubts=tuple(worries),
        notes=tuple(notes),
    )


def _against(groups: Sequence[Group], baseline: str | None) -> list[Rival]:
    if baseline == AUTO and all(g.label != AUTO for g in groups):
        chosen = default_baseline(groups)
        try:
            return rivals(groups, chosen) if chosen is not None else []
        except UserError:  # several groups run it, and none is the one to take
            return rivals(groups, groups[0].label)
    return rivals(groups, baseline) if baseline is not None else []


def _in_order(found: Sequence[Difference], labels: Sequence[str]) -> list[Difference]:
    """Column by column, the groups as in the table; those that a filter hides are left out."""
    columns = list(dict.fromkeys(d.column.text for d in found))
    shown = [d for d in found if d.label in labels]
    return sorted(shown, key=lambda d: (columns.index(d.column.text), labels.index(d.label)))


def _table(columns: Sequence[Column], groups: Sequence[Group]) -> dict[str, dict[str, Measured | str]]:
    table: dict[str, dict[str, Measured | str]] = {g.label: {} for g in groups}
    for column in columns:
        found: Sequence[Measured | str]
        found = [about(column, g) for g in groups] if column.unit == "text" else measure(column, groups)
        for g, value in zip(groups, found):
            table[g.label][column.text] = value
    return table


def _default_columns(targets: Sequence[float], groups: Sequence[Group]) -> list[Column]:
    words = [text.format(f"{t:g}") for text in DEFAULTS for t in (targets if "{" in text else [0.0])]
    if any(f.is_personal for g in groups for f in g.members):
        beside = any(f.above_local is not None for g in groups for f in g.members)
        words[2:2] = ["personal.mean", *([ABOVE_LOCAL] if beside else [])]
    if not any(f.number("final", "accuracy") is not None for g in groups for f in g.members):
        words[:2] = ["loss.final"]
    return [c for word in words for c in parse(word, groups)]


def _default_judged(targets: Sequence[float], groups: Sequence[Group]) -> list[Column]:
    scored = any(f.number("final", "accuracy") is not None for g in groups for f in g.members)
    own = ["personal.mean"] if all(f.is_personal for g in groups for f in g.members) else []
    words = [*own, "acc.final" if scored else "loss.final", *(f"time_to:{t:g}" for t in targets)]
    return [c for word in words for c in parse(word, groups)]


def _varying(
    columns: Sequence[Column],
    table: Mapping[str, Mapping[str, Measured | str]],
    groups: Sequence[Group],
    targets: Sequence[float],
) -> list[Column]:
    """The columns that say something: a value at all, and not the same of each group; `targets` stay anyway."""

    def told(column: Column) -> list[str]:
        cells = [table[g.label][column.text] for g in groups]
        return [c if isinstance(c, str) else repr((c.mean, c.interval, c.reached)) for c in cells if c]

    def alive(column: Column) -> bool:
        cells = [table[g.label][column.text] for g in groups]
        if all(not isinstance(c, str) and c.mean is None for c in cells):
            return False
        return len(groups) == 1 or column.text == "acc.final" or column.target in targets or len(set(told(column))) > 1

    return [c for c in columns if alive(c)]


# ---- which runs ----


def _collect(
    runs: Iterable[Run | Path | str], unfinished: bool
) -> tuple[list[Facts], list[tuple[str, str]], list[str]]:
    facts: list[Facts] = []
    skipped: list[tuple[str, str]] = []
    seen: set[str] = set()
    folders: set[Path] = set()
    repeated = 0
    for item in runs:
        run = item if isinstance(item, Run) else Run(Path(item))
        place = run.path.resolve()
        if place in folders:
            continue
        folders.add(place)
        try:
            fact, reason = _read(run, unfinished)
        except RunDirError as error:
            fact, reason = None, f"cannot be read: {error.message}"
        if fact is None:
            skipped.append((run.name, reason))
            continue
        identity = str(run.summary.get("identity") or place)
        if not fact.unfinished and identity in seen:
            repeated += 1
            continue
        seen.add(identity)
        facts.append(fact)
    notes = [f"{plural(repeated, 'rerun')} of runs that are here already: counted once"] if repeated else []
    if not facts:
        _nothing(skipped)
    return facts, skipped, notes


def _read(run: Run, unfinished: bool) -> tuple[Facts | None, str]:
    """The run, or why it does not count."""
    if not is_run(run.path):
        raise RunDirError("not a run directory: it has no config.yaml")
    run.summary  # noqa: B018 - a newer format shows here
    done = run.status == "done"
    if not done and not (unfinished and run.status != "unreadable"):
        return None, f"is {run.status}"
    fact = Facts(run, not done)
    measured = fact.number("final", "accuracy") is not None or fact.number("final", "loss") is not None
    return (fact, "") if measured else (None, "has no evaluation")


def _nothing(skipped: Sequence[tuple[str, str]]) -> None:
    if not skipped:
        raise UserError("nothing to compare", hint="name runs: directories, beginnings of names, or a folder of runs")
    name, reason = skipped[0]
    more = f" and {plural(len(skipped) - 1, 'other')}" if len(skipped) > 1 else ""
    hint = "finish them with: aflctl run RUN; or compare what there is with --unfinished"
    raise RunDirError(f"nothing to compare: {name} {reason}{more}", hint=hint)


def _kept(facts: list[Facts], queries: Sequence[Query], skipped: Sequence[tuple[str, str]]) -> list[Facts]:
    kept = [f for f in facts if all(holds_config(q, row_of(f)) for q in queries)]
    if not kept:
        left = f" ({plural(len(skipped), 'run')} skipped)" if skipped else ""
        texts = ", ".join(q.text for q in queries)
        raise UserError(f"nothing to compare: no run passes the filter{left}", where=f"--filter {texts}")
    return kept


def _common_target(facts: Sequence[Facts]) -> tuple[float, ...]:
    """The highest noted target that every run reached, else the highest that half of them did, else the lowest."""
    tally = Counter(target for f in facts for target in f.noted)
    for least in (len(facts), len(facts) / 2):
        candidates = [target for target, came in tally.items() if came >= least]
        if candidates:
            return (max(candidates),)
    return (min(tally),) if tally else ()
