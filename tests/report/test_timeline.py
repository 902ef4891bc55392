"""`aflctl show RUN --trace`: valid trace events, a lane per client, phases inside their task, versions as marks."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from aflctl.engine import run
from aflctl.report.timeline import CLIENTS, SERVER, busiest, write_trace
from aflctl.runs.load import load_run


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("timeline")
    config = {
        "algorithm": {"name": "fedbuff", "buffer_size": 4},
        "model": {"name": "mlp", "hidden": [4]},
        "clients": {"count": 10, "concurrency": 4},
        "local": {"epochs": 1, "batch_size": 32},
        "fleet": {
            "devices": {"jetson-tx2": 1, "raspberry-pi-4": 1},
            "networks": {"wifi": 1},
            "availability": {"name": "markov", "mean_on_s": 10, "mean_off_s": 10},
        },
        "stop": {"updates": 40},
        "evaluate": {"every": {"updates": 40}},
    }
    return load_run(run(config, runs_dir=folder).path)


def events(trained: Any, tmp_path: Path, clients: int) -> tuple[dict[str, int], list[dict[str, Any]]]:
    wrote = write_trace(trained, tmp_path / "t.json", clients)
    document = json.loads((tmp_path / "t.json").read_text())
    assert document["otherData"]["clients_shown"] == wrote["clients"]
    return wrote, document["traceEvents"]


def test_every_task_is_a_slice_and_its_phases_fill_it(trained: Any, tmp_path: Path) -> None:
    wrote, found = events(trained, tmp_path, 100)
    updates = trained.columns("updates")
    tasks = [e for e in found if e.get("cat") == "task"]
    assert len(tasks) == wrote["tasks"] == updates.rows
    inside = defaultdict(list)
    for e in found:
        if e.get("cat") == "phase":
            inside[e["tid"]].append(e)
    for task in tasks:
        end = task["ts"] + task["dur"]
        mine = [p for p in inside[task["tid"]] if task["ts"] <= p["ts"] and p["ts"] + p["dur"] <= end + 1e-3]
        assert sum(p["dur"] for p in mine) == pytest.approx(task["dur"], abs=0.01)
        order = [p["name"] for p in mine]
        assert order == [p for p in ("download", "compute", "offline", "upload") if p in order]


def test_lanes_do_not_overlap_and_are_named(trained: Any, tmp_path: Path) -> None:
    _, found = events(trained, tmp_path, 100)
    lanes = defaultdict(list)
    for e in found:
        if e.get("cat") == "task":
            assert e["pid"] == CLIENTS
            lanes[e["tid"]].append((e["ts"], e["ts"] + e["dur"]))
    for spans in lanes.values():
        spans.sort()
        assert all(a[1] <= b[0] + 1e-3 for a, b in pairwise(spans))
    names = {e["tid"]: e["args"]["name"] for e in found if e["name"] == "thread_name" and e["pid"] == CLIENTS}
    assert set(names) == set(lanes)
    device = dict(zip(trained.columns("updates")["client"], trained.columns("updates")["device"]))
    assert all(device[client] in name and f"client {client} " in name for client, name in names.items())


def test_versions_are_marks_at_their_moments(trained: Any, tmp_path: Path) -> None:
    # buffer of 4 and 40 updates: versions 1 to 10, each at the moment of the update that filled the buffer
    wrote, found = events(trained, tmp_path, 2)
    marks = [e for e in found if e.get("cat") == "version"]
    assert wrote["versions"] == len(marks) == 10
    assert [m["name"] for m in marks] == [f"version {i}" for i in range(1, 11)]
    assert all(m["ph"] == "i" and m["pid"] == SERVER for m in marks)
    updates = trained.columns("updates")
    used = [e for e, o in zip(updates["ended_s"], updates["outcome"]) if o == "used"]
    assert marks[-1]["ts"] == pytest.approx(1e6 * max(used), abs=0.01)


def test_only_the_busiest_clients_are_drawn(trained: Any, tmp_path: Path) -> None:
    updates = trained.columns("updates")
    chosen = busiest(updates, 3)
    assert len(chosen) == 3
    least = min(updates["client"].count(c) for c in chosen)
    assert all(updates["client"].count(c) <= least for c in set(updates["client"]) - set(chosen))
    wrote, found = events(trained, tmp_path, 3)
    assert wrote["clients"] == 3
    assert {e["tid"] for e in found if e.get("cat") == "task"} == set(chosen)


def test_of_a_real_looking_run(fabricate: Callable[..., Path], tmp_path: Path) -> None:
    wrote = write_trace(load_run(fabricate(tmp_path, "fedbuff", 0)), tmp_path / "t.json")
    assert wrote["tasks"] > 0
