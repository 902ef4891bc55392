"""Live data in a run: prefixes, n_k at dispatch, the same schedule everywhere, and a run that goes on after a kill."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import CONFIG, data_of, experiment, plan_of, results, run

from aflctl.engine import run as run_whole
from aflctl.engine.parts.live import live
from aflctl.engine.plans.planning import plan as plan_only
from aflctl.errors import ConfigError
from aflctl.sim.world.growth import NS
from engine.test_states import numbers, step, through_json

STREAM: dict[str, Any] = {"start": 0.1, "rate_per_s": 4.0, "spread": 0.5}


def dataset(**stream: Any) -> dict[str, Any]:
    return {"dataset": {**CONFIG["dataset"], "stream": {**STREAM, **stream}}}


def rows(data: Any, client: int) -> list[int]:
    return data.train(client).rows.tolist()


def test_what_arrived_is_a_prefix_of_what_arrives_later_and_nothing_is_lost() -> None:
    plan = plan_of("fedbuff", dataset())
    whole = data_of(plan)
    data, growing = live(plan, whole)
    assert growing is not None
    before: list[list[int]] = [[] for _ in whole.samples]
    for t in (0, 1, 2, 5, 20, 10_000):
        growing.now = t * NS
        for client, had in enumerate(before):
            has = rows(data, client)
            assert len(has) == growing[client] == len(data.train(client))
            assert has[: len(had)] == had
            before[client] = has
    for client, has in enumerate(before):
        assert sorted(has) == whole.train(client).rows.tolist()  # conservation
        assert has != sorted(has)  # its own order, not that of the dataset


def test_the_order_is_the_client_s_own_and_may_be_the_dataset_s() -> None:
    one, other = (
        live(plan_of("fedbuff", {**dataset(), "seed": seed}), data_of(plan_of("fedbuff")))[0] for seed in (3, 4)
    )
    again = live(plan_of("fedavg", dataset()), data_of(plan_of("fedbuff")))[0]
    assert rows(one, 2) == rows(again, 2)  # whatever the method
    assert rows(one, 2) != rows(other, 2)
    plan = plan_of("fedbuff", dataset(order="given"))
    data, _ = live(plan, data_of(plan))
    assert rows(data, 2) == data_of(plan).train(2).rows.tolist()[: len(rows(data, 2))]


def test_n_k_at_dispatch_decides_steps_time_and_weight() -> None:
    plan = plan_of({"name": "fedasync"}, dataset(spread=0.0))
    x, _, entries = experiment(plan)
    growing = x.loop.growing
    assert growing is not None
    assert x.setup.samples == tuple(max(1, math.floor(0.1 * n)) for n in growing.whole.tolist())
    x.loop.begin()
    while x.loop.used < 30:
        x.loop.peek()
        x.loop.step()
    sizes = set()
    for e in entries:
        t = e.ticket
        n = min(int(growing.whole[t.client]), int(growing.start[t.client]) + t.sent * 4 // NS)
        assert t.samples == t.work.samples_per_epoch == n
        assert (t.per_epoch, t.steps) == (-(-n // 64), 2 * -(-n // 64))
        sizes.add((t.client, n))
    assert len(sizes) > 20  # clients grow between their tasks


@pytest.mark.parametrize("law", [{}, {"rate_per_s": None, "over_s": 30.0}, {"order": "given", "start": 0.5}])
def test_serial_workers_and_stacked_share_one_schedule(law: dict[str, Any]) -> None:
    stream = {k: v for k, v in {**STREAM, **law}.items() if v is not None}
    plan = plan_of({"name": "fedbuff", "weighting": "samples"}, {"dataset": {**CONFIG["dataset"], "stream": stream}})
    serial, workers, stacked = (run(plan, name) for name in ("serial", "workers", "stacked"))
    assert serial.schedule == workers.schedule == stacked.schedule
    assert results(serial) == results(workers)
    torch.testing.assert_close(serial.weights, stacked.weights, atol=1e-5, rtol=1e-4)
    assert results(stacked) == results(run(plan, "stacked"))
    assert serial.schedule != run(plan_of({"name": "fedbuff", "weighting": "samples"})).schedule


@pytest.mark.parametrize("executor", ["serial", "workers", "stacked"])
def test_a_state_saved_and_loaded_while_data_arrive(executor: str) -> None:
    plan = plan_of("aso-fed" if executor == "serial" else "fedbuff", dataset())
    one, _, entries = experiment(plan, executor)
    one.loop.begin()
    step(one, 15)
    saved = through_json(plan, {"loop": one.loop.save(), "books": one.books.save(), "pool": one.pool.save()})
    before = len(entries)
    step(one, 17)
    other, _, later = experiment(plan, executor)
    other.loop.load(saved["loop"])
    other.books.load(saved["books"])
    due = {t.id: t.at for t in other.loop.tickets.values()}
    other.pool.load(saved["pool"], lambda task: due.get(task, 0))
    step(other, 17)
    for x in (one, other):
        x.pool.executor.close()
    whole, parts = numbers(one, entries[before:]), numbers(other, later)
    for key in whole:
        assert parts[key] == whole[key], key


FILE: dict[str, Any] = {
    **CONFIG, "algorithm": "fedbuff", "stop": {"updates": 30}, "evaluate": {"every": {"updates": 15}},
    "engine": {"executor": "serial"},
}  # fmt: skip


@pytest.mark.parametrize("name", ["fedbuff", "aso-fed", "central"])
def test_a_plan_has_the_schedule_of_the_run(name: str, tmp_path: Path) -> None:
    config = {**FILE, **dataset(), "algorithm": name, "stop": {"updates": 12}}
    planned = plan_only(config, runs_dir=tmp_path, host=False, rows=True)
    ran = run_whole(config, runs_dir=tmp_path)
    assert planned.document["digests"]["schedule"] == ran.summary["digests"]["schedule"]
    assert planned.document["totals"]["samples"] == ran.summary["totals"]["samples"]
    clients = [(folder / "clients.csv").read_text().splitlines() for folder in (planned.path, ran.path)]
    assert [row.split(",")[:4] for row in clients[0]] == [row.split(",")[:4] for row in clients[1]]


def test_killed_and_continued_is_equal(tmp_path: Path) -> None:
    from aflctl.engine.course.drive import Progress

    config = {**FILE, **dataset(), "checkpoint": {"every": {"updates": 5}}}
    whole = run_whole(config, runs_dir=tmp_path / "whole")

    class Killed(BaseException):
        pass

    def kill(step: Progress) -> None:
        if step.row.update >= 15:
            raise Killed

    with pytest.raises(Killed):
        run_whole(config, runs_dir=tmp_path / "parts", progress=kill)
    parts = run_whole(config, runs_dir=tmp_path / "parts")
    assert "continuing" in parts.note
    assert parts.summary["digests"] == whole.summary["digests"]
    assert (parts.path / "clients.csv").read_text() == (whole.path / "clients.csv").read_text()


@pytest.mark.parametrize(
    "changes",
    [
        {"partition": "iid"},
        {"partition": {"name": "pathological", "k": 2}},
        {"partition": {"name": "quantity", "min_size": 5}},
        {"partition": "iid", "test_fraction": 0.25},
        {"name": "synthetic"},
    ],
    ids=repr,
)
def test_composes_with_any_partition_and_with_clients_that_make_their_data(changes: dict[str, Any]) -> None:
    section = {"name": "digits", **changes, "stream": STREAM}
    plan = plan_of("fedbuff", {"dataset": section, "stop": {"updates": 12}})
    ran = run(plan)
    growing = ran.x.loop.growing
    assert growing is not None
    assert growing.whole.tolist() == [int(n) for n in ran.x.data.samples]
    assert ran.x.loop.used == 12
    if "test_fraction" in changes:
        everything = sum(len(ran.x.data.local_test(c) or ()) for c in range(10)) + int(growing.whole.sum())
        assert everything == len(ran.x.data._all)


@pytest.mark.parametrize(
    ("stream", "said"),
    [
        ({"start": 0.1}, "must have exactly one of rate_per_s, over_s; got none"),
        ({"rate_per_s": 1, "over_s": 2}, "must have exactly one of rate_per_s, over_s; got rate_per_s, over_s"),
        ({"rate_per_s": 0}, "must be > 0; got 0"),
        ({"rate": 1, "over_s": 3}, "unknown key"),
        ({"start": 1.5, "over_s": 3}, "must be >= 0, <= 1; got 1.5"),
    ],
)
def test_mistakes(stream: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        plan_of("fedbuff", {"dataset": {"name": "digits", "stream": stream}})
