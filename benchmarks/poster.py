"""The poster's two observations, asked of finished runs of the poster presets.

    python benchmarks/poster.py PLAIN PERSONAL [STALER]      folders of runs; prints Markdown

1. Buffering converges faster on non-IID data: the mean over the methods with a buffer against that over the methods
   without one, of the virtual time to a target (a run that never came there counts with the whole run).
2. Dropout methods are more robust to high staleness and to personalization: what AsyncDrop loses from PLAIN to STALER
   (the same with more tasks in flight), against what the others lose; and its rank with personal heads.

Differences are paired by seed; 95 % t intervals, not corrected for their number.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean, stdev

from scipy.stats import t as student

from aflctl.report.comparison.reading import Facts
from aflctl.runs.load import Run
from aflctl.runs.rundir import all_runs

BUFFERED = ("ca2fl", "fadas", "fedac", "fedbuff", "pisces", "port")
TARGETS = (0.8, 0.9, 0.95)
Table = dict[str, dict[int, Facts]]


def read(folder: str) -> Table:
    """Method -> seed -> run, of those that are done."""
    table: Table = {}
    for path in all_runs(Path(folder)):
        run = Run(path)
        if run.status == "done":
            fact = Facts(run, False)
            table.setdefault(str(fact.flat["algorithm.name"]), {})[fact.seed] = fact
    return table


def paired(ours: Sequence[float], theirs: Sequence[float]) -> str:
    """`-0.3 [-0.5, -0.1]`: mean difference with its interval."""
    d = [a - b for a, b in zip(ours, theirs)]
    arm = student.ppf(0.975, len(d) - 1) * stdev(d) / len(d) ** 0.5
    return f"{fmean(d):+.2f} [{fmean(d) - arm:+.2f}, {fmean(d) + arm:+.2f}]"


def mean_of(table: Table, methods: Sequence[str], seeds: Sequence[int], value: Callable[[Facts], float]) -> list[float]:
    """Per seed, the mean over methods."""
    return [fmean(value(table[m][s]) for m in methods) for s in seeds]


def common(table: Table) -> list[int]:
    return sorted(set.intersection(*(set(runs) for runs in table.values())))


def minutes_to(target: float) -> Callable[[Facts], float]:
    def value(fact: Facts) -> float:
        wait = fact.wait(target, "time")
        assert wait is not None
        return (wait.end if wait.at is None else wait.at) / 60

    return value


def final(fact: Facts) -> float:
    return 100 * (fact.number("final", "accuracy") or 0.0)


def personal(fact: Facts) -> float:
    return 100 * (fact.number("final", "personal_accuracy") or 0.0)


def stale(fact: Facts) -> float:
    return fact.number("staleness", "mean") or 0.0


def buffering(table: Table) -> None:
    seeds = common(table)
    families = {
        "all": list(table),
        "without aso-fed and daafl": [m for m in table if m not in ("aso-fed", "daafl")],
        "fedbuff against fedasync": ["fedbuff", "fedasync"],
    }
    print(f"\n| time to (min), {len(seeds)} seeds | " + " | ".join(f"{100 * t:g} %" for t in TARGETS) + " |")
    print("|---|" + "---:|" * len(TARGETS))
    for name, methods in families.items():
        with_, without = [m for m in methods if m in BUFFERED], [m for m in methods if m not in BUFFERED]
        cells = []
        for target in TARGETS:
            value = minutes_to(target)
            a, b = mean_of(table, with_, seeds, value), mean_of(table, without, seeds, value)
            cells.append(f"{fmean(a):.2f} against {fmean(b):.2f}: {paired(a, b)}")
        print(f"| {name} | " + " | ".join(cells) + " |")


def dropout(plain: Table, other: Table, score: Callable[[Facts], float], title: str) -> None:
    methods = sorted(set(plain) & set(other))
    seeds = [s for s in common(plain) if s in common(other)]
    print(f"\n| {title}, {len(seeds)} seeds | before | after | change | staleness | asyncdrop less it |")
    print("|---|---:|---:|---:|---:|---:|")
    change = {m: [score(other[m][s]) - final(plain[m][s]) for s in seeds] for m in methods}
    for m in sorted(methods, key=lambda m: -fmean(change[m])):
        before, after = fmean(final(plain[m][s]) for s in seeds), fmean(score(other[m][s]) for s in seeds)
        against = "" if m == "asyncdrop" else paired(change["asyncdrop"], change[m])
        tau = fmean(stale(other[m][s]) for s in seeds)
        print(f"| {m} | {before:.1f} | {after:.1f} | {fmean(change[m]):+.2f} | {tau:.1f} | {against} |")


def main(words: Sequence[str]) -> None:
    plain, own = read(words[0]), read(words[1])
    print("buffering, plain form")
    buffering(plain)
    print("\nbuffering, personal form (global test)")
    buffering(own)
    if len(words) > 2:
        dropout(plain, read(words[2]), final, "final accuracy (%) with more in flight")
    dropout(plain, own, personal, "personal heads: mean accuracy (%) on the clients' own data")


if __name__ == "__main__":
    main(sys.argv[1:])
