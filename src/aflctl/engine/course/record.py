"""What a run leaves behind: rows as they happen, then the summary."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from itertools import pairwise
from math import fsum, isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from aflctl.errors import InvariantBroken
from aflctl.runs.checkpoint import save_tensors
from aflctl.runs.records import (
    CLIENTS,
    METRICS,
    ClientRow,
    Columns,
    Digest,
    MetricRow,
    UpdateRow,
    metrics_writer,
    updates_writer,
    write_rows,
)
from aflctl.sim.audit import audit

if TYPE_CHECKING:
    from aflctl.engine.course.drive import Driver
    from aflctl.engine.parts.build import Experiment
    from aflctl.sim.books import Entry
    from aflctl.sim.world import World

NS = 1_000_000_000
DIGESTS = ("schedule", "updates", "metrics")
RECORDS = ("metrics", "updates", "clients")
TARGETS = (0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.925, 0.95, 0.975, 0.99)


class Recorder:
    """Writes metrics.csv and updates.csv, and sums up the digests."""

    def __init__(self, folder: Path, saved: Mapping[str, Any] | None = None) -> None:
        self.folder, self._saved = folder, saved
        digests = [Digest() if saved is None else Digest.restore(saved[name]) for name in DIGESTS]
        self.schedule, self.updates, self.metrics = digests
        self.world: World | None = None
        self._updates = updates_writer(folder, offset=saved["updates.csv"] if saved else None)
        self._metrics: Any = None
        self.sums: list[int] = [0, 0, 0] if saved is None else list(saved["sums"])  # rows, bytes down, bytes up

    def open_metrics(self, extra: tuple[str, ...]) -> None:
        """The columns of metrics.csv are known."""
        self._metrics = metrics_writer(
            self.folder, extra=extra, offset=self._saved["metrics.csv"] if self._saved else None
        )

    def save(self) -> dict[str, Any]:
        """What a checkpoint stores: the digests, and how long the files are on disk."""
        digests = {name: getattr(self, name).save() for name in DIGESTS}
        ends = {"updates.csv": self._updates.sync(), "metrics.csv": self._metrics.sync()}
        return {**digests, **ends, "sums": list(self.sums)}

    def metric(self, row: MetricRow) -> None:
        """An evaluation."""
        self._metrics.write(row)
        self._metrics.flush()
        add_metric(self.metrics, row)

    def entry(self, e: Entry) -> None:
        """A task that ended."""
        t, c, p = e.ticket, e.causes, e.phases
        assert self.world is not None
        flying = e.outcome == "flying"
        loss = e.stats.get("loss")
        base = t.first if t.lead is None else t.base[t.lead]
        row = UpdateRow(
            t.id,
            t.client,
            t.nth,
            self.world.device_of(t.client),
            self.world.link_of(t.client),
            t.sent / NS,
            None if flying else e.ended / NS,
            base,
            e.version if flying else base + sum(c.values()),
            sum(c.values()),
            c["held"],
            c.get("download", 0),
            c.get("compute", 0),
            c.get("offline", 0),
            c.get("upload", 0),
            p["download"] / NS,
            p["compute"] / NS,
            p["offline"] / NS,
            p["upload"] / NS,
            None if e.buffer is None else e.buffer / NS,
            t.work.down_bytes,
            t.work.up_bytes if e.outcome in ("used", "rejected") or e.reason in ("stale", "not-finite") else 0,
            t.planned,
            loss if loss is None or isfinite(loss) else None,
            e.weight,
            e.outcome,
            e.reason,
            t.interrupted,
            fsum(e.energy.values()) if e.energy else None,
            "" if e.tracks == ("",) else ";".join(e.tracks),
        )
        self._updates.write(row)
        self.sums[0] += 1
        self.sums[1] += row.bytes_down
        self.sums[2] += row.bytes_up
        if not flying:
            self.updates.ints(t.id, t.client, t.planned).text(e.outcome).floats(e.weight, *e.stats.values())

    def close(self) -> None:
        """Everything is handed to the operating system."""
        self._updates.close()
        if self._metrics is not None:
            self._metrics.close()


def add_metric(digest: Digest, row: MetricRow) -> None:
    """One evaluation's part of the metrics digest."""
    digest.ints(row.update, row.version, row.samples, row.bytes_down, row.bytes_up)
    digest.floats(row.virtual_s, row.energy_j, row.accuracy, row.loss, row.macro_f1, *row.extra.values())


def metrics_digest(table: Columns) -> str:
    """The metrics digest of a recorded metrics.csv."""
    digest = Digest()
    for record in table.records():
        extra = {k: v for k, v in record.items() if k not in METRICS}
        add_metric(digest, MetricRow(**{k: record[k] for k in METRICS}, extra=extra))
    return digest.hexdigest()


def file_digest(path: Path) -> str | None:
    """sha256 of a record as it lies on disk, or None: tells an edited file, never compares runs."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None


def write_clients(folder: Path, x: Experiment, hits: Mapping[int, tuple[int, int]]) -> None:
    """clients.csv: whoever took part; `hits` client -> (correct, samples) where clients were tested."""
    rows = [
        ClientRow(
            c,
            x.world.device_of(c),
            x.world.link_of(c),
            int(x.loop.samples[c]),
            m.dispatched,
            m.used,
            m.lost,
            m.staleness_sum / m.used if m.used else None,
            m.staleness_max if m.used else None,
            hits[c][0] / hits[c][1] if c in hits else None,
        )
        for c, m in sorted(x.books.members.items())
    ]
    write_rows(folder / "clients.csv", CLIENTS, rows)


def write_model(folder: Path, x: Experiment, w: torch.Tensor) -> str:
    """model.safetensors, by parameter name; returns the digest of the weights."""
    parts = {k: v.cpu().contiguous().clone() for k, v in x.task.parts(w).items()}
    if x.task.buffers.numel():
        parts["buffers"] = x.task.buffers.cpu().clone()
    save_tensors(folder / "model.safetensors", parts)
    digest = Digest().tensor(w)
    return digest.tensor(x.task.buffers).hexdigest() if x.task.buffers.numel() else digest.hexdigest()


def summarize(x: Experiment, driver: Driver, recorder: Recorder, reason: str, host: dict[str, Any]) -> dict[str, Any]:
    """The results part of summary.json."""
    loop, books, rows = x.loop, x.books, driver.rows
    t = books.totals
    w = x.algorithm.params(loop.state)
    invariants = {
        **books.invariants(loop.tickets, loop.versions),
        **audit(books, loop.tickets, loop.versions),
        "metrics_monotone": all(_follows(a, b) for a, b in pairwise(rows)),
        "rows_sum_to_totals": recorder.sums == [t.sent, t.bytes_down, t.bytes_up],
    }
    invariants["weights_finite"] = bool(torch.isfinite(w).all())
    broken = [name for name, held in invariants.items() if not held]
    if broken:
        shown = f": {'; '.join(books.broken[:3])}" if books.broken else ""
        raise InvariantBroken(
            f"the books do not balance: {', '.join(broken)}{shown}",
            hint="this is a defect of aflctl, or of a plug-in that changes its arguments; the records are kept",
        )
    measured = [r for r in rows if r.accuracy is not None]
    best = max(measured, key=lambda r: r.accuracy or 0.0)
    last = measured[-1]
    hits = {}
    for target in TARGETS:
        hit = next((r for r in measured if (r.accuracy or 0) >= target), None)
        if hit is not None:
            hits[f"{target:g}"] = {
                k: getattr(hit, k) for k in ("update", "version", "virtual_s", "bytes_down", "bytes_up", "energy_j")
            }
    used = sorted((m.used for m in books.members.values()), reverse=True)
    return {
        "stop_reason": reason,
        "final": _row(last),
        "best": _row(best),
        "time_to_target": hits,
        "totals": {
            "updates": t.used,
            "versions": loop.advances,
            "virtual_s": loop.now / NS,
            "tasks": t.sent,
            "lost": t.lost,
            "rejected": t.rejected,
            "cancelled": t.cancelled,
            "flying": len(loop.tickets),
            "interrupted": t.interrupted,
            "samples": t.samples,
            "bytes_down": t.bytes_down,
            "bytes_up": t.bytes_up,
            "energy_j": t.energy_j,
            "wasted_j": t.wasted_j,
            "steps": x.pool.trained_steps,
            **{f"{phase}_s": ns / NS for phase, ns in t.phase_ns.items()},
        },
        "staleness": books.staleness(),
        "participation": {
            "clients": len(x.data.samples),
            "took_part": len(used),
            "most": used[0] if used else 0,
            "share_of_most": used[0] / max(1, t.used) if used else 0.0,
        },
        "invariants": invariants,
        "model": {"parameters": x.task.size, "flops_per_sample": loop.flops},
        "digests": {
            "schedule": recorder.schedule.hexdigest(),
            "updates": recorder.updates.hexdigest(),
            "metrics": recorder.metrics.hexdigest(),
            "model": "",
        },
        "records": {f"{name}.csv": file_digest(recorder.folder / f"{name}.csv") for name in RECORDS},
        "host": host,
    }


def _follows(a: MetricRow, b: MetricRow) -> bool:
    """Whether nothing that only grows has shrunk from one evaluation to the next."""
    names = ("update", "version", "virtual_s", "samples", "bytes_down", "bytes_up", "energy_j")
    return all((getattr(a, name) or 0) <= (getattr(b, name) or 0) for name in names)


def _row(row: MetricRow) -> dict[str, Any]:
    fixed = {k: getattr(row, k) for k in ("update", "version", "virtual_s", "accuracy", "loss", "macro_f1")}
    return {**fixed, **row.extra}
