"""What a plan says and stores: plan.json and staleness.csv, and with rows also updates.csv and clients.csv."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aflctl.engine.course.record import Recorder
from aflctl.report.statistics import staleness_table
from aflctl.runs.atomic import disk, write_json
from aflctl.runs.records import CAUSES, CLIENTS, STALENESS, ClientRow, StalenessRow, write_rows

if TYPE_CHECKING:
    from aflctl.engine.plans.planning import Course
    from aflctl.engine.plans.rehearsal import Rehearsal, Scene
    from aflctl.sim.books import Books, Entry
    from aflctl.sim.world import World

NS = 1_000_000_000
POINTS = 100


class Rows:
    """A row per task, as a run writes them; made-up losses are left out."""

    def __init__(self, folder: Path, world: World) -> None:
        with disk(folder):
            folder.mkdir(parents=True, exist_ok=True)
        self._recorder = Recorder(folder)
        self._recorder.world = world

    def entry(self, e: Entry) -> None:
        """A task that ended."""
        self._recorder.entry(e._replace(stats={}))

    def close(self) -> None:
        """Everything is handed to the operating system."""
        self._recorder.close()


def describe(scene: Scene, rehearsal: Rehearsal, course: Course) -> dict[str, Any]:
    """The results part of plan.json."""
    loop, books = rehearsal.loop, rehearsal.books
    t, end_s = books.totals, course.end / NS
    return {
        "stop_reason": course.reason,
        "schedule": _schedule(scene, rehearsal),
        "totals": {
            "updates": t.used, "versions": loop.advances, "virtual_s": loop.now / NS, "tasks": t.sent, "lost": t.lost,
            "rejected": t.rejected, "cancelled": t.cancelled, "flying": len(loop.tickets), "interrupted": t.interrupted,
            "samples": t.samples, "bytes_down": t.bytes_down, "bytes_up": t.bytes_up, "energy_j": t.energy_j,
            "wasted_j": t.wasted_j, "steps": rehearsal.trainer.steps,
            **{f"{phase}_s": ns / NS for phase, ns in t.phase_ns.items()},
        },
        "staleness": books.staleness(),
        "participation": _participation(scene, books),
        "traffic": {
            "bytes_down": t.bytes_down,
            "bytes_up": t.bytes_up,
            "bytes_down_per_task": t.bytes_down / max(1, t.sent),
            "bytes_up_per_update": t.bytes_up / max(1, len(course.arrivals)),
        },
        "server": _server(course, t.sent, loop.advances, t.bytes_down, t.bytes_up, end_s),
        "energy": {
            "total_j": t.energy_j,
            "per_update_j": t.energy_j / max(1, t.used),
            "wasted_j": t.wasted_j,
            "wasted_share": t.wasted_j / t.energy_j if t.energy_j else 0.0,
        },
        "timeline": _timeline(course, rehearsal),
        "invariants": books.invariants(loop.tickets, loop.versions),
        "model": {"parameters": scene.task.size, "flops_per_sample": loop.flops},
        "digests": {"schedule": rehearsal.digest.hexdigest()},
    }  # fmt: skip


def _schedule(scene: Scene, rehearsal: Rehearsal) -> dict[str, Any]:
    """Which vectors stood in, what was made up, and whether the trained run has the very same schedule."""
    assumed, stop = [], scene.plan.config.stop
    if scene.reads:
        top = rehearsal.trainer.top
        assumed.append(
            "decisions depend on training results: the losses of a task that started from version v are taken "
            f"to be {top:.3g} / (1 + v / 10), and clients to send back what they were sent"
        )
    if rehearsal.trainer.patient:
        assumed.append("tasks may stop early in the run; here every task takes all its steps")
    if stop.accuracy is not None:
        assumed.append(f"stop.accuracy {stop.accuracy:g} is taken as never reached")
    return {"vectors": rehearsal.kind, "why": rehearsal.why, "assumed": assumed, "exact": not assumed}


def _participation(scene: Scene, books: Books) -> dict[str, Any]:
    import numpy as np

    world, members = scene.world, books.members
    dispatched, used, lost = (np.asarray(a) for a in (members.dispatched, members.used, members.lost))
    device = np.asarray(world.arrays.device)
    took = dispatched > 0
    classes: dict[str, dict[str, Any]] = {}
    for i, of in enumerate(world.devices):
        mine = device == i
        if mine.any():
            classes[of.name] = {
                "clients": int(mine.sum()),
                "took_part": int(took[mine].sum()),
                "dispatched": int(dispatched[mine].sum()),
                "used": int(used[mine].sum()),
                "lost": int(lost[mine].sum()),
                "share_of_updates": float(used[mine].sum() / max(1, books.totals.used)),
            }
    most = int(used.max(initial=0))
    return {
        "clients": len(dispatched), "took_part": int(took.sum()), "most": most,
        "share_of_most": most / max(1, books.totals.used), "by_device": classes,
    }  # fmt: skip


def _server(course: Course, sent: int, versions: int, down: int, up: int, end_s: float) -> dict[str, float]:
    import numpy as np

    seconds = np.asarray(course.arrivals, np.int64) // NS
    peak = int(np.unique(seconds, return_counts=True)[1].max(initial=0))
    span = end_s or 1.0
    return {
        "arrivals_per_s": len(seconds) / span,
        "arrivals_peak_per_s": peak,
        "dispatches_per_s": sent / span,
        "versions_per_s": versions / span,
        "bytes_out_per_s": down / span,
        "bytes_in_per_s": up / span,
    }


def _timeline(course: Course, rehearsal: Rehearsal) -> dict[str, list[float]]:
    """Arrivals and versions so far, at evenly spaced moments."""
    import numpy as np

    moments = np.linspace(0, course.end, min(POINTS, max(2, rehearsal.loop.advances + 1))).astype(np.int64)
    made = np.sort(np.concatenate([np.asarray(m, np.int64) for m in rehearsal.loop.made.values()]))
    return {
        "virtual_s": [round(float(m) / NS, 6) for m in moments],
        "arrivals": np.searchsorted(np.asarray(course.arrivals, np.int64), moments, side="right").tolist(),
        "versions": np.searchsorted(made, moments, side="right").tolist(),
    }


def staleness_rows(books: Books) -> list[StalenessRow]:
    """staleness.csv from the sums, in the order in which a run writes it."""
    counts: dict[tuple[str, str], Counter[int]] = {("all", cause): Counter() for cause in ("all", *CAUSES)}
    for (device, tau), n in books.histogram.items():
        for group in ("all", f"device:{device}"):
            counts.setdefault((group, "all"), Counter())[tau] += n
    for group in {group for group, _ in counts}:
        for cause in CAUSES:
            counts.setdefault((group, cause), Counter())
    for (device, cause), parts in books.by_cause.items():
        for group in ("all", f"device:{device}"):
            counts[group, cause].update(parts)
    for (group, cause), found in counts.items():
        rest = counts[group, "all"].total() - found.total()
        if cause != "all" and rest:
            found[0] += rest
    return staleness_table(counts)


def store(path: Path, document: Mapping[str, Any], scene: Scene, rehearsal: Rehearsal, recorder: Rows | None) -> None:
    """Writes the plan's files; an earlier plan of the same identity is replaced."""
    with disk(path):
        path.mkdir(parents=True, exist_ok=True)
        if recorder is None:
            for name in ("updates.csv", "clients.csv"):
                (path / name).unlink(missing_ok=True)
    write_rows(path / "staleness.csv", STALENESS, staleness_rows(rehearsal.books))
    if recorder is not None:
        samples = rehearsal.loop.samples
        rows = (
            ClientRow(
                c, scene.world.device_of(c), scene.world.link_of(c), int(samples[c]), m.dispatched, m.used,
                m.lost, m.staleness_sum / m.used if m.used else None, m.staleness_max if m.used else None,
            )
            for c, m in rehearsal.books.members.items()
        )  # fmt: skip
        write_rows(path / "clients.csv", CLIENTS, rows)
    write_json(path / "plan.json", document)
