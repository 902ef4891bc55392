"""Re-executes a run beside the recorded one and compares the digests."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aflctl.errors import RunDirError, UserError, VerifyFailed
from aflctl.runs.load import Run, load_run
from aflctl.runs.provenance import changes

DIGESTS = ("schedule", "updates", "metrics", "model")
FILES = {"schedule": "updates", "updates": "updates", "metrics": "metrics"}
RECORDS = ("metrics.csv", "updates.csv", "clients.csv")
MAY_DIFFER = (
    "another torch version, processor or GPU may change the last bits of updates, metrics and model; never the schedule"
)


@dataclass(frozen=True)
class Verdict:
    """What came of it.

    equal        digest -> whether it is the same (`None`: not comparable, for a prefix)
    first        the first row that differs, by file: (row number, column, recorded, now)
    environment  what differs between the machines and versions
    rows         rows compared, by file
    """

    run: str
    equal: Mapping[str, bool | None]
    environment: tuple[str, ...] = ()
    first: Mapping[str, tuple[int, str, Any, Any]] = field(default_factory=dict)
    rows: Mapping[str, int] = field(default_factory=dict)
    until: int | None = None

    @property
    def same(self) -> bool:
        """Whether nothing differs."""
        return not self.first and all(v is not False for v in self.equal.values())


def verify(path: Path, *, until: int | None = None) -> Verdict:
    """Runs `path` again in a temporary folder, with the executor it had; `until` = only its first so many updates."""
    from aflctl.engine import run

    recorded = load_run(path)
    if recorded.status != "done":
        raise RunDirError(
            f"the run is {recorded.status}, there is no result to verify",
            where=str(path),
            hint="finish it first: aflctl run",
        )
    made = (recorded.summary.get("totals") or {}).get("updates")
    if until is not None and isinstance(made, int) and until > made:
        raise UserError(
            f"the run has {made} updates, not {until}", where="--until", hint="leave out --until to compare all of it"
        )
    changed = edited(recorded)
    if changed:
        raise VerifyFailed(
            f"{changed} was edited after the run", where=str(path), hint="the recorded results are not those of a run"
        )
    with tempfile.TemporaryDirectory(prefix="aflctl-verify-") as folder:
        sets = [f"engine.{key}={value}" for key, value in _engine(recorded).items()]
        sets.append("track=[]")
        if until is not None:
            sets.append(f"stop.updates={until}")
        again = load_run(run(path, sets=sets, runs_dir=folder).path)
        environment = tuple(changes(recorded.provenance, again.provenance))
        if until is None:
            before, now = recorded.summary["digests"], again.summary["digests"]
            equal: dict[str, bool | None] = {name: before.get(name) == now.get(name) for name in DIGESTS}
            wrong = {FILES[name] for name in FILES if not equal[name]}
        else:
            equal, wrong = dict.fromkeys(DIGESTS, None), {"updates", "metrics"}
        first, rows = {}, {}
        for name in sorted(wrong):
            found, rows[name] = _first_difference(recorded, again, name, prefix=until is not None)
            if found is not None:
                first[name] = found
        return Verdict(recorded.name, equal, environment, first, rows, until)


def _engine(run: Run) -> dict[str, Any]:
    executor = run.provenance.get("executor") or {}
    kept = {"executor": executor.get("name", "serial")}
    return {**kept, **{k: executor[k] for k in ("workers",) if executor.get(k)}}


def edited(run: Run) -> str | None:
    """The name of a recorded file that is not as the run left it."""
    from aflctl.engine.course.record import file_digest, metrics_digest

    digests, files = run.summary.get("digests"), run.summary.get("records")
    if not isinstance(digests, dict) or metrics_digest(run.columns("metrics")) != digests.get("metrics"):
        return "metrics.csv"
    for name, digest in files.items() if isinstance(files, dict) else ():
        if name in RECORDS and file_digest(run.path / name) != digest:
            return str(name)
    return None


def _first_difference(
    recorded: Run, again: Run, name: str, *, prefix: bool
) -> tuple[tuple[int, str, Any, Any] | None, int]:
    """((row, column, recorded, now) or None, rows compared); rows that a prefix's end cut off are left out."""
    old, new = list(recorded.columns(name).records()), list(again.columns(name).records())
    if prefix:
        if name == "updates":
            new = [
                r for r in new if r["outcome"] != "flying" and not (r["outcome"] == "used" and r["buffer_s"] is None)
            ]
        else:
            new = new[:-1] if new and new[-1] not in old else new
    for number, (a, b) in enumerate(zip(old, new), start=1):
        for column in a:
            if a[column] != b.get(column):
                return (number, column, a[column], b.get(column)), number
    if not prefix and len(old) != len(new):
        return (min(len(old), len(new)) + 1, "(rows)", len(old), len(new)), min(len(old), len(new))
    return None, min(len(old), len(new))
