"""A run with a larger stop begins where a finished shorter one of the same experiment ended."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aflctl.errors import AflctlError
from aflctl.runs import checkpoint
from aflctl.runs.atomic import disk
from aflctl.runs.rundir import all_runs, read_json, status

if TYPE_CHECKING:
    from aflctl.config.schema import Stop
    from aflctl.plan import Plan

NS = 1_000_000_000
FOLDER = "checkpoint"


def shorter(
    folder: Path, prints: Mapping[str, str], plan: Plan, types: Mapping[str, type]
) -> tuple[dict[str, Any], str] | None:
    """(the state to continue from, what to tell the user) of the longest finished run that is a prefix of this one.

    Its configuration differs in `stop` alone, its code, data and fleet are the same. Copies its rows and its state into
    `folder`. None where there is no such run.
    """
    best: tuple[int, Path, dict[str, Any]] | None = None
    for path in all_runs(folder.parent):
        if path == folder or not _same(path, prints) or status(path) != "done":
            continue
        try:
            saved = checkpoint.load(path / FOLDER, types, partial(_unfit, path, plan))
        except AflctlError:
            continue
        events = saved["loop"]["events"]
        if _before(saved, plan.config.stop) and (best is None or events > best[0]):
            best = (events, path, saved)
    if best is None:
        return None
    _, path, saved = best
    with disk(folder):
        for name in ("updates.csv", "metrics.csv"):
            shutil.copy2(path / name, folder / name)
        shutil.copytree(path / FOLDER, folder / FOLDER, dirs_exist_ok=True)
    return saved, f"begins where {path.name} ended, after {saved['loop']['used']} updates"


def _unfit(path: Path, plan: Plan, saved: dict[str, Any]) -> str | None:
    from aflctl.engine.course.keep import unfit

    return unfit(saved, path, plan.config.engine)


def _same(path: Path, prints: Mapping[str, str]) -> bool:
    theirs = (read_json(path / "provenance.json") or {}).get("fingerprints")
    return isinstance(theirs, dict) and all(theirs.get(k) == prints[k] for k in ("trunk", "code", "data", "fleet"))


def _before(saved: dict[str, Any], stop: Stop) -> bool:
    """Whether none of the new stops was reached by then."""
    loop, rows = saved["loop"], saved["driver"]["rows"]
    return (
        (stop.updates is None or loop["used"] < stop.updates)
        and (stop.versions is None or loop["advances"] < stop.versions)
        and (stop.time_s is None or loop["now"] < stop.time_s * NS)
        and (stop.accuracy is None or all((r.accuracy or 0.0) < stop.accuracy for r in rows))
    )
