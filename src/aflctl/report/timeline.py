"""A run as Chrome trace events: a lane per client, a slice per phase, a mark per version. Opens in Perfetto.

Format: "Trace Event Format" (JSON object form), times in microseconds of virtual time: `X` complete slices, `i` instant
marks, `M` names. The records hold seconds per phase, not each single interval, so a task's phases are drawn one after
the other in the order download, compute, offline, upload; where a task paused several times its offline time is drawn
as one slice. The length of every slice is exact.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aflctl.errors import RunDirError
from aflctl.runs.atomic import write_text

if TYPE_CHECKING:
    from aflctl.runs.load import Run
    from aflctl.runs.records import Columns

PHASES = ("download", "compute", "offline", "upload")
COLOURS = {
    "download": "thread_state_runnable", "compute": "thread_state_running", "offline": "grey", "upload": "rail_load",
}  # fmt: skip
SERVER, CLIENTS = 1, 2
SHOWN = 50
US = 1e6


def write_trace(run: Run, path: Path, clients: int = SHOWN) -> dict[str, int]:
    """Writes the trace of the `clients` busiest clients; returns how many clients, tasks and versions it holds."""
    table = run.columns("updates")
    if not table.rows:
        raise RunDirError("updates.csv holds no task", where=str(run.path))
    chosen = busiest(table, clients)
    events = list(_events(table, chosen))
    versions = list(_versions(table))
    events += versions
    document = {
        "displayTimeUnit": "ms",
        "otherData": {"run": run.name, "clients_shown": len(chosen), "clients_in_all": len(set(table["client"]))},
        "traceEvents": [*_names(table, chosen, run.name), *events],
    }
    write_text(path, json.dumps(document, separators=(",", ":")) + "\n")
    tasks = sum(1 for e in events if e.get("cat") == "task")
    return {"clients": len(chosen), "tasks": tasks, "versions": len(versions)}


def busiest(table: Columns, clients: int) -> list[int]:
    """Up to so many clients with the most tasks, in ascending order; ties go to the smaller number."""
    counts: dict[int, int] = {}
    for client in table["client"]:
        counts[client] = counts.get(client, 0) + 1
    return sorted(sorted(counts, key=lambda c: (-counts[c], c))[: max(0, clients)])


def _names(table: Columns, chosen: Sequence[int], name: str) -> Iterator[dict[str, Any]]:
    device = dict(zip(table["client"], zip(table["device"], table["link"])))
    yield _meta("process_name", SERVER, 0, name=f"server of {name}")
    yield _meta("process_name", CLIENTS, 0, name="clients")
    yield _meta("process_sort_index", SERVER, 0, sort_index=0)
    yield _meta("thread_name", SERVER, 0, name="versions")
    for client in chosen:
        yield _meta("thread_name", CLIENTS, client, name=f"client {client} ({', '.join(device[client])})")
        yield _meta("thread_sort_index", CLIENTS, client, sort_index=client)


def _meta(what: str, process: int, lane: int, **args: Any) -> dict[str, Any]:
    return {"name": what, "ph": "M", "pid": process, "tid": lane, "args": args}


def _events(table: Columns, chosen: Sequence[int]) -> Iterator[dict[str, Any]]:
    """A slice per task, and inside it a slice per phase."""
    shown = set(chosen)
    for row in table.records():
        if row["client"] not in shown:
            continue
        lane = {"pid": CLIENTS, "tid": row["client"]}
        at = row["sent_s"]
        length = sum(row[f"{phase}_s"] or 0.0 for phase in PHASES)
        label = row["outcome"] + (f" ({row['reason']})" if row["reason"] else "")
        args = {
            "task": row["task"], "base version": row["base_version"], "staleness": row["staleness"],
            **{f"staleness by {c}": row[f"staleness_{c}"] for c in ("held", *PHASES) if row[f"staleness_{c}"]},
            "steps": row["steps"], "bytes up": row["bytes_up"],
        }  # fmt: skip
        yield {
            "name": f"task {row['task']}: {label}", "cat": "task", "ph": "X", **_span(at, at + length), **lane,
            "args": args,
        }  # fmt: skip
        for phase in PHASES:
            seconds = row[f"{phase}_s"] or 0.0
            if seconds > 0.0:
                yield {
                    "name": phase, "cat": "phase", "ph": "X", **_span(at, at + seconds), **lane,
                    "cname": COLOURS[phase],
                }  # fmt: skip
                at += seconds


def _versions(table: Columns) -> Iterator[dict[str, Any]]:
    """A mark when each version was made that used an update: the end of the update's wait."""
    made: dict[float, int] = {}
    for outcome, ended, wait, version in zip(*(table[n] for n in ("outcome", "ended_s", "buffer_s", "version"))):
        if outcome == "used" and wait is not None:
            made[round(ended + wait, 9)] = version + 1
    for at, number in sorted(made.items()):
        mark = {"name": f"version {number}", "cat": "version", "ph": "i", "s": "g"}
        yield {**mark, "ts": _us(at), "pid": SERVER, "tid": 0}


def _span(start: float, end: float) -> dict[str, float]:
    """Both ends are rounded, so that slices that touch still do."""
    return {"ts": _us(start), "dur": round(_us(end) - _us(start), 3)}


def _us(seconds: float) -> float:
    return round(seconds * US, 3)
