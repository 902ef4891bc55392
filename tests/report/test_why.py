"""`aflctl show RUN --why`: the right cause, the right class, and what-if numbers that are earned."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aflctl.report.why import Sent, _replay, why
from aflctl.runs.load import Run, load_run


def sent(seconds: float, device: str = "a", *, phase: int = 1, used: bool = True) -> Sent:
    """A task of one phase; 1 = compute."""
    return Sent(device, tuple(seconds if i == phase else 0.0 for i in range(4)), used, 0)


def test_a_replay_of_equal_tasks() -> None:
    # 3 places, every arrival a version, all tasks 1 s: they arrive three at a time, the first of each round having
    # seen the two that came after it in the round before: staleness 0, 1, 2 in the first round, then 2, 2, 2
    out = _replay([sent(1.0) for _ in range(303)], 3, 1.0)
    assert out.mean == pytest.approx((0 + 1 + 2 + 297 * 2) / 300)
    assert out.p95 == 2
    assert out.span_s == 100.0


def test_a_replay_of_two_speeds() -> None:
    # one place for a task of 10 s, one through which ten of 1 s pass: the long one is 10 stale, the short ones 0 but
    # for one in ten; the mean is what (places - 1) / K says
    tasks = []
    for _ in range(50):
        tasks += [sent(10.0, "slow"), *(sent(1.0, "fast") for _ in range(10))]
    out = _replay(tasks, 2, 1.0)
    assert out.mean == pytest.approx(1.0, abs=0.03)
    assert out.p95 == 10
    assert _replay(tasks, 2, 5.0).mean == pytest.approx(0.2, abs=0.02)


def test_lost_tasks_take_a_place_and_make_no_version() -> None:
    tasks = [sent(1.0, used=i % 2 == 0) for i in range(100)]
    assert _replay(tasks, 2, 1.0).mean < _replay([sent(1.0) for _ in range(100)], 2, 1.0).mean


class Told(Run):
    """A run whose summary is given and whose rows are as many tasks as wanted."""

    def __init__(self, summary: dict[str, Any], rows: dict[str, list[Any]] | None = None) -> None:
        self.__dict__["summary"] = summary
        self.rows = rows

    def columns(self, name: str) -> Any:
        return self.rows


def summary(
    mean: float, p95: int, causes: dict[str, int], devices: dict[str, tuple[int, float]], versions: int
) -> dict[str, Any]:
    by_device = {d: {"count": n, "mean": m} for d, (n, m) in devices.items()}
    count = sum(n for n, _ in devices.values())
    staleness = {"count": count, "mean": mean, "p95": p95, "max": p95 + 1, "by_cause": causes, "by_device": by_device}
    return {"staleness": staleness, "totals": {"updates": count, "versions": versions}}


def rows(tasks: list[tuple[str, float, float, float]]) -> dict[str, list[Any]]:
    """(device, sent, compute seconds, offline seconds) of used tasks."""
    n = len(tasks)
    zeros = [0.0] * n
    return {
        "task": list(range(n)),
        "device": [t[0] for t in tasks],
        "sent_s": [t[1] for t in tasks],
        "ended_s": [t[1] + t[2] + t[3] for t in tasks],
        "outcome": ["used"] * n,
        "staleness_held": [0] * n,
        "offline_s": [t[3] for t in tasks],
        "compute_s": [t[2] for t in tasks],
        "upload_s": zeros,
        "download_s": zeros,
    }


def as_recorded(table: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """The same rows in the order in which a run writes them: by their ends, those without one last."""
    order = sorted(range(len(table["task"])), key=lambda i: (table["ended_s"][i] is None, table["ended_s"][i] or 0.0))
    return {name: [column[i] for i in order] for name, column in table.items()}


def test_nothing_used_and_nothing_stale() -> None:
    assert "none was stale" in why(Told({"staleness": {"count": 0}})).sentences[0]
    fresh = summary(0.0, 0, {}, {"a": (12, 0.0)}, 12)
    assert why(Told(fresh)).sentences == ["Nothing was stale: all 12 updates met the version that they started from."]


def test_the_cause_the_class_and_the_remedy() -> None:
    # two places; every task computes 1 s, and each tenth waits 20 s offline: without that wait nobody is ever 2 stale
    tasks, at = [], 0.0
    for i in range(200):
        tasks.append(("pi" if i % 10 == 0 else "phone", at, 1.0, 20.0 if i % 10 == 0 else 0.0))
        at += 1.45
    said = summary(1.0, 14, {"offline": 180, "compute": 20}, {"pi": (20, 9.0), "phone": (180, 0.1)}, 200)
    told = why(Told(said, as_recorded(rows(tasks))))
    assert told.sentences[0].startswith("Time offline made 90 % of all staleness, compute 10 %: mean 1 versions")
    assert told.sentences[1] == "pi is the stalest class: mean 9 on 10 % of the updates (phone: 0.10)."
    assert told.sentences[2].startswith("In the fleet, clients that stay online would help most: mean ")
    assert told.facts["replay"]["slots"] == 2
    outcomes = told.facts["replay"]["outcomes"]
    assert outcomes["clients that stay online"]["p95"] <= 1 < outcomes["as it was"]["p95"]
    assert "links twice as fast" not in outcomes  # nothing was moved
    assert told.sentences[3].startswith("In the settings, half as many tasks in flight: mean 0 instead of ")
    assert "; twice as many updates a version: mean " in told.sentences[3]
    assert "in the same time" in told.sentences[3]
    assert "estimates by a replay" in told.sentences[-1]


def test_tasks_that_were_still_out_took_their_places() -> None:
    # three places; one task is out from beginning to end, so the others pass through two of them, a version each:
    # every one of them meets one version of the other place. Without the third place nobody would be stale by the
    # record, and with half of them, one, all would wait for the task that is out
    tasks = [("pi", 0.0, 100.0, 0.0)]
    tasks += [("phone", i / 2, 1.0, 0.0) for i in range(198)]
    table = rows(tasks)
    table["ended_s"][0], table["outcome"][0] = None, "flying"
    said = summary(197 / 198, 1, {"compute": 197}, {"phone": (198, 1.0)}, 198)
    told = why(Told(said, as_recorded(table)))
    assert told.facts["replay"]["slots"] == 3
    assert told.facts["replay"]["outcomes"]["as it was"]["mean"] == pytest.approx(197 / 198, abs=0.01)
    fleet = next(s for s in told.sentences if s.startswith("In the fleet"))
    assert "no faster device or link and no client that stays would help much" in fleet


def test_the_law_is_told_where_the_run_keeps_it() -> None:
    # 4 places, 2 updates a version, all tasks alike: (4 - 1) / 2
    tasks = [("phone", i / 4, 1.0, 0.0) for i in range(400)]
    told = why(Told(summary(1.5, 2, {"compute": 600}, {"phone": (400, 1.5)}, 200), as_recorded(rows(tasks))))
    law = "since with 4 tasks in flight and 2 updates a version the mean is about (4 - 1) / 2 = 1.5"
    assert law in told.sentences[1]


def test_no_estimate_where_a_replay_does_not_give_the_run_back() -> None:
    tasks = [("a", 1.0 * i, 4.0, 0.0) for i in range(100)]
    told = why(Told(summary(40.0, 90, {"compute": 1}, {"a": (100, 40.0)}, 100), rows(tasks)))
    assert told.sentences[-1].startswith("No estimate of what would help")


def test_of_a_real_looking_run(fabricate: Callable[..., Path], tmp_path: Path) -> None:
    told = why(load_run(fabricate(tmp_path, "fedbuff", 0)))
    assert told.sentences
    assert all(s.endswith(".") for s in told.sentences)
