"""A run directory that looks like a real one, made without running anything: for tests of reports and commands."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from heapq import heappop, heappush
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from aflctl.runs import provenance
from aflctl.runs.records import CAUSES, Digest, MetricRow, UpdateRow, metrics_writer, updates_writer
from aflctl.runs.rundir import RunDir

DEVICES = {"jetson-tx2": 4.0, "jetson-nano": 9.0, "raspberry-pi-4": 22.0}  # compute seconds of a task
LINKS = {"wifi": 0.4, "lte": 1.5, "nr": 0.8}  # seconds per direction


def config(algorithm: str = "fedbuff", seed: int = 0, **changes: Any) -> dict[str, Any]:
    """A resolved configuration; `changes` are dotted keys with `__` for the dot."""
    document: dict[str, Any] = {
        "algorithm": {"name": algorithm, "lr": 1.0} | ({"buffer_size": 10} if algorithm == "fedbuff" else {}),
        "dataset": {"name": "digits", "partition": {"name": "dirichlet", "alpha": 0.5}},
        "model": {"name": "mlp", "hidden": [64, 64]},
        "clients": {"count": 60, "concurrency": 20, "selection": {"name": "uniform"}},
        "local": {"epochs": 5, "batch_size": 16, "optimizer": "sgd", "lr": 0.05, "momentum": 0.9},
        "fleet": "poster-1-1-1",
        "stop": {"updates": 600},
        "evaluate": {"every": {"updates": 20}},
        "seed": seed,
        "engine": {"executor": "auto", "device": "cpu"},
    }
    for dotted, value in changes.items():
        section = document
        *above, key = dotted.split("__")
        for name in above:
            section = section.setdefault(name, {})
        section[key] = value
    return document


def fabricate(
    root: Path, algorithm: str = "fedbuff", seed: int = 0, *, top: float = 0.95, finished: bool = True,
    report: bool = True, updates: int = 600, **changes: Any,
) -> Path:  # fmt: skip
    """A run of `updates` used arrivals below `root`; `top` is the accuracy that it tends to."""
    document = config(algorithm, seed, **changes)
    digest = provenance._sha256(document)
    prints = {"config": digest, "code": provenance.code_fingerprint("0.1.0", {}), "data": "d" * 64}
    identity = provenance.identity(*prints.values())
    with RunDir.open(root, f"{document.get('name') or f'{algorithm}-digits'}-s{seed}", identity) as run:
        run.write_text("config.yaml", yaml.safe_dump(document, sort_keys=False))
        about = provenance.collect(
            identity=identity, fingerprints=prints, seeds={"seed": seed}, origins={"seed": "default"},
            argv=["aflctl", "run"], executor={"name": "serial", "why": "one core"}, threads=1, folder=root,
        )  # fmt: skip
        run.write_json("provenance.json", about)
        summary = record(run.path, algorithm, seed, top, updates)
        if not finished:
            return run.path
        clients = document["clients"]["count"]
        summary = {
            "schema": "aflctl.summary", "version": 1, "format": 1, "status": "done", "identity": identity,
            "fingerprints": prints, "name": run.name, "algorithm": algorithm, "dataset": "digits", "model_name": "mlp",
            "seed": seed, "executor": {"name": "serial"}, "warnings": [], **summary,
        }  # fmt: skip
        summary["participation"]["clients"] = clients
        if report:
            from aflctl.report import write_all

            write_all(run.path, summary)
        run.write_json("summary.json", summary)
    return run.path


def record(folder: Path, algorithm: str, seed: int, top: float, updates: int) -> dict[str, Any]:
    """Twenty of sixty clients at work at any time; every tenth arrival (or every one) makes a version."""
    dice = np.random.Generator(np.random.Philox(key=seed))
    devices, links, buffer = list(DEVICES), list(LINKS), 10 if algorithm == "fedbuff" else 1
    idle, heap, made = list(range(60)), [], []
    nth: Counter[int] = Counter()
    rows: list[MetricRow] = []
    histogram: Counter[int] = Counter()
    groups: dict[str, Counter[int]] = {}
    by_client: Counter[int] = Counter()
    causes = dict.fromkeys(CAUSES, 0)
    task = used = lost = 0

    def launch(now: float) -> None:
        nonlocal task
        client = idle.pop(int(dice.integers(len(idle))))
        device, link = devices[client % 3], links[client // 3 % 3]
        down, up = (LINKS[link] * float(dice.lognormal(0, 0.3)) for _ in range(2))
        compute = DEVICES[device] * float(dice.lognormal(0, 0.15))
        wait = 5.0 * float(dice.exponential()) if dice.random() < 0.1 else 0.0
        heappush(heap, (now + down + compute + wait + up, task, client, now, (down, compute, wait, up), len(made)))
        task += 1

    def accuracy() -> float:
        return float(top - (top - 0.1) * np.exp(-used / 90) + 0.004 * dice.standard_normal())

    def evaluate(now: float, number: int) -> None:
        score = accuracy()
        rows.append(
            MetricRow(
                number,
                len(made),
                now,
                number * 150,
                task * 35000,
                number * 35000,
                number * 2.5,
                number * 0.1,
                score,
                2.3 * (1 - score),
                score - 0.01,
            )
        )
        metrics.write(rows[-1])

    with metrics_writer(folder) as metrics, updates_writer(folder) as writer:
        for _ in range(20):
            launch(0.0)
        evaluate(0.0, 0)
        now = 0.0
        while used < updates:
            now, number, client, sent, phases, base = heappop(heap)
            gone, moments = dice.random() < 0.03, [sent]
            for phase in phases:
                moments.append(moments[-1] + phase)
            parts = [bisect_right(made, b) - bisect_right(made, a) for a, b in pairwise(moments)]
            parts[3] = len(made) - base - sum(parts[:3])
            device = devices[client % 3]
            row = UpdateRow(
                number, client, nth[client], device, links[client // 3 % 3], sent, now, base, len(made),
                len(made) - base, 0, *parts, *phases, None if gone else 0.0, 35000, 0 if gone else 35000, 50, 0.5, None,
                "lost" if gone else "used", "dropout" if gone else "", False, 2.5,
            )  # fmt: skip
            writer.write(row)
            nth[client] += 1
            idle.append(client)
            if gone:
                lost += 1
            else:
                used += 1
                histogram[row.staleness or 0] += 1
                groups.setdefault(device, Counter())[row.staleness or 0] += 1
                by_client[client] += 1
                for cause in CAUSES:
                    causes[cause] += getattr(row, f"staleness_{cause}")
                if used % buffer == 0:
                    made.insert(bisect_left(made, now), now)
                if used % 20 == 0:
                    evaluate(now, used)
            launch(now)
    ended = {"tasks": task, "lost": lost, "flying": len(heap), "virtual_s": now, "took_part": len(nth)}
    return _summary(rows, histogram, groups, causes, by_client, ended)


def _summary(
    rows: list[MetricRow], histogram: Counter[int], groups: dict[str, Counter[int]], causes: dict[str, int],
    by_client: Counter[int], totals: dict[str, Any],
) -> dict[str, Any]:  # fmt: skip
    from aflctl.report.statistics import quantile

    def of(counts: Counter[int]) -> dict[str, Any]:
        n = sum(counts.values())
        mean = sum(v * c for v, c in counts.items()) / n
        return {
            "count": n,
            "mean": mean,
            "max": max(counts),
            "p50": quantile(counts, 0.5),
            "p95": quantile(counts, 0.95),
        }

    def point(row: MetricRow) -> dict[str, Any]:
        return {k: getattr(row, k) for k in ("update", "version", "virtual_s", "accuracy", "loss", "macro_f1")}

    took_part = totals.pop("took_part")
    last, best = rows[-1], max(rows, key=lambda row: row.accuracy or 0)
    hits = {f"{t:g}": next((row for row in rows if (row.accuracy or 0) >= t), None) for t in (0.5, 0.8, 0.9)}
    keys = ("update", "version", "virtual_s", "bytes_down", "bytes_up", "energy_j")
    (_, most), *_ = by_client.most_common(1)
    return {
        "stop_reason": "updates",
        "final": point(last),
        "best": point(best),
        "time_to_target": {t: {k: getattr(row, k) for k in keys} for t, row in hits.items() if row},
        "totals": {
            "updates": last.update, "versions": last.version, "rejected": 0, "cancelled": 0, "interrupted": 0,
            "samples": last.samples, "bytes_down": last.bytes_down, "bytes_up": last.bytes_up,
            "energy_j": last.energy_j, **totals,
        },
        "staleness": {**of(histogram), "by_device": {d: of(c) for d, c in sorted(groups.items())}, "by_cause": causes},
        "participation": {
            "clients": 60, "took_part": took_part, "most": most, "share_of_most": most / sum(by_client.values()),
        },
        "invariants": {"parts_sum": True},
        "model": {"parameters": 8970, "flops_per_sample": 17800.0},
        "digests": {name: Digest().text(name).hexdigest() for name in ("schedule", "updates", "metrics", "model")},
        "host": {"load_s": 0.1, "run_s": 2.0},
    }  # fmt: skip
