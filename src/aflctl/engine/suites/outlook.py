"""What a suite would still do: which runs are there, and how long the others would take on this machine.

One run of each group (the same but for the seed) is planned and measured, as `aflctl plan` does it. Where a run of the
group is finished, its own time counts instead. What every run does besides, its tables and pictures, is measured once.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from aflctl.errors import AflctlError
from aflctl.plan import NOT_IDENTITY, resolve
from aflctl.runs import provenance
from aflctl.runs.rundir import identity_of, read_json, status

LIKE_PICTURES = 5
"""A run's three pictures and its tables take as long as so many of the plainest (4.7 to 6.0 measured)."""

if TYPE_CHECKING:
    from aflctl.config.load import Loaded
    from aflctl.config.matrix import Drafts
    from aflctl.engine.parts.opened import Opened
    from aflctl.engine.suites.board import Row


def outlook(
    drafts: Drafts, root: Path, rows: Sequence[Row], jobs: int, notice: Callable[[str], None] | None
) -> dict[str, Any]:
    """Fills the rows with what is on disk and with host seconds, and sums up what is missing."""
    from aflctl.engine.parts.opened import Opened

    opened, costs, groups = Opened(), dict[str, tuple[float | None, str]](), [_group(x) for x in drafts.loaded]
    for loaded, row, group in zip(drafts.loaded, rows, groups):
        path, measured = _look(loaded, root, opened, row)
        row.path = str(path)
        if measured is not None:
            costs[group] = (measured, "measured")
    for i, (draft, row, group) in enumerate(zip(drafts.cells, rows, groups)):
        if row.state == "kept":
            continue
        if group not in costs:
            if notice is not None:
                notice(f"measuring {i + 1} of {len(rows)}: {row.label}")
            costs[group] = _measure(draft.load(), opened)
        seconds, how = costs[group]
        row.seconds, row.note = seconds or 0.0, how if row.state == "waiting" else f"{how}; {row.note}"
    missing = [row for row in rows if row.state != "kept"]
    besides = _besides() if missing else 0.0
    for row in missing:
        row.seconds += besides if row.seconds else 0.0
    total = sum(row.seconds for row in missing)
    longest = max((row.seconds for row in missing), default=0.0)
    return {
        "runs": len(rows),
        "missing": len(missing),
        "total_s": round(total, 1),
        "wall_s": round(max(longest, total / jobs), 1),
        "jobs": jobs,
        "unknown": sum(costs[group][0] is None for row, group in zip(rows, groups) if row.state != "kept"),
    }


def _group(loaded: Loaded) -> str:
    data = loaded.config.model_dump(mode="json", exclude={*NOT_IDENTITY, "seed", "seeds"})
    return json.dumps(data, sort_keys=True)


def _look(loaded: Loaded, root: Path, opened: Opened, row: Row) -> tuple[Path, float | None]:
    """(the run's directory, host seconds where it is finished); the row learns its state."""
    from aflctl.data import folder as data_folder
    from aflctl.engine import fingerprints
    from aflctl.engine.parts.build import federate
    from aflctl.engine.parts.travel import gather

    luggage = gather(resolve(loaded), loaded.base)
    plan = luggage.plan
    prints = fingerprints(plan, federate(plan, data_folder(), opened), luggage.fleet)
    identity = provenance.identity(*prints.values())
    path = root / f"{plan.label}-{identity[:8]}"
    if not path.is_dir() or identity_of(path) not in (None, identity):
        return path, None
    found = status(path)
    if found == "done":
        row.state, row.share = "kept", 1.0
        summary = read_json(path / "summary.json") or {}
        row.accuracy = (summary.get("final") or {}).get("accuracy")
        host = summary.get("host") or {}
        return path, sum(host.get(key) or 0.0 for key in ("load_s", "run_s"))
    row.state, row.note = "stopped", found
    return path, None


def _besides() -> float:
    """Host seconds that a run takes to draw and write its results."""
    from aflctl.report.pictures import drawing

    with TemporaryDirectory() as folder:
        for _ in range(2):  # the first loads matplotlib and its fonts, which a suite does once
            began = time.perf_counter()
            figure, (left, right) = drawing.figure(2)
            left.plot([0, 1], [0, 1])
            right.plot([0, 1], [0, 1])
            drawing.save(figure, Path(folder) / "plain.png")
            spent = time.perf_counter() - began
    return LIKE_PICTURES * spent


def _measure(loaded: Loaded, opened: Opened) -> tuple[float | None, str]:
    """(host seconds of a run, how they are known)."""
    from aflctl.engine.plans.planning import host_seconds

    try:
        return host_seconds(resolve(loaded), loaded.base, opened), "estimated"
    except AflctlError as error:
        return None, f"unknown: {error.message}"
