"""Who has which modality; blocks with versions of their own; every executor."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from tiny import experiment, results, run

import aflctl
from aflctl.builtin.personalizations.blocks import JOINT
from aflctl.config.load import load
from aflctl.config.schema import Modalities
from aflctl.engine.course.warn import warnings
from aflctl.engine.parts.build import federate
from aflctl.engine.parts.modal import Sensors, owned
from aflctl.errors import UserError
from aflctl.plan import Plan, resolve
from aflctl.sim.flights import NS
from aflctl.train.modal import hidden, masked, presence

CONFIG: dict[str, Any] = {
    "dataset": {
        "name": "synthetic-modal", "train_samples": 400, "test_samples": 100,
        "partition": {"name": "iid"}, "test_fraction": 0.25,
    },
    "model": {"name": "multimodal", "features": 4},
    "clients": {"count": 10, "concurrency": 5},
    "local": {"epochs": 2, "batch_size": 16, "lr": 0.1},
    "stop": {"updates": 20},
    "seed": 1,
}  # fmt: skip
SPLIT = {"pattern": {"first": 0.3, "second": 0.3, "all": 0.4}}


def plan_of(algorithm: Any = "fedbuff", **more: Any) -> Plan:
    return resolve(load({**CONFIG, "algorithm": algorithm, **more}))


def play(plan: Plan, executor: str = "serial", **more: Any) -> Any:
    import tiny

    tiny.data_of, before = (lambda p: federate(p, Path())), tiny.data_of
    try:
        return run(plan, executor, **more)
    finally:
        tiny.data_of = before


# ---- masks ----
def test_patterns_by_largest_remainder() -> None:
    spec = Modalities(pattern={"audio": 0.2, "video": 0.2, "both": 0.6})
    assert Counter(owned(spec, ("audio", "video"), 7, 0)) == {(0,): 1, (1,): 2, (0, 1): 4} or Counter(
        owned(spec, ("audio", "video"), 7, 0)
    ) == {(0,): 2, (1,): 1, (0, 1): 4}
    assert Counter(owned(spec, ("audio", "video"), 10, 0)) == {(0,): 2, (1,): 2, (0, 1): 6}
    assert owned(spec, ("audio", "video"), 10, 0) != owned(spec, ("audio", "video"), 10, 1)
    assert owned(Modalities(pattern={"a+c": 1}), ("a", "b", "c"), 2, 0) == ((0, 2), (0, 2))
    assert owned(Modalities(), ("a", "b"), 2, 0) == ((0, 1), (0, 1))


@pytest.mark.parametrize("pattern", [{"sonar": 1}, {"audio": 0.0}])
def test_bad_patterns(pattern: dict[str, float]) -> None:
    with pytest.raises(UserError):
        owned(Modalities(pattern=pattern), ("audio", "video"), 4, 0)


def test_missing_samples_keep_one_modality() -> None:
    rows = [np.arange(0, 500), np.arange(500, 1000)]
    table = presence([(0, 1), (1,)], rows, 1000, 2, 0.5, np.random.default_rng)
    assert (table.sum(1) >= 1).all()
    assert not table[500:, 0].any()
    assert (table[500:, 1] == 1).all()
    # each is kept with 1/2; of the quarter that lost both, half keep the first: 5/8
    assert table[:500, 0].mean() == pytest.approx(0.625, abs=0.08)


def test_modality_dropout_differs_by_epoch() -> None:
    seen = hidden(torch.tensor([1.0, 1.0]), 50, 2, 0.3, np.random.default_rng(0))
    assert seen.shape == (2, 50, 2)
    assert not torch.equal(seen[0], seen[1])
    assert (seen.sum(-1) >= 1).all()
    assert torch.equal(
        hidden(torch.tensor([0.0, 1.0]), 3, 1, 0.0, np.random.default_rng(0))[0, 0], torch.tensor([0.0, 1.0])
    )


def test_missing_is_zeros() -> None:
    x = (torch.ones(2, 3), torch.ones(2, 4, 4))
    a, b = masked(x, torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
    assert a.sum(1).tolist() == [3.0, 0.0]
    assert b.flatten(1).sum(1).tolist() == [0.0, 16.0]


def test_sensors_fail_and_come_back() -> None:
    spec = Modalities(failure={"mean_on_s": 100, "mean_off_s": 100})
    sensors = Sensors(spec, ("a", "b"), ((0, 1),) * 40, 0, 0)
    seen = [sensors.working(c, t * 50 * NS) for c in range(40) for t in range(40)]
    shares = Counter(seen)
    # both, either, neither (which keeps the first): 1/4, 1/4, 1/4 + 1/4
    assert shares[0, 1] / 1600 == pytest.approx(0.25, abs=0.06)
    assert shares[(1,)] / 1600 == pytest.approx(0.25, abs=0.06)
    assert sensors.working(3, 0) == sensors.working(3, 0)
    assert sensors.seen(0, 0, 5, 1) is None or sensors.seen(0, 0, 5, 1).shape == (1, 5, 2)


def test_several_modalities_are_needed() -> None:
    plan = resolve(load({"modalities": SPLIT, "stop": {"updates": 1}}))
    with pytest.raises(UserError, match="one modality"):
        federate(plan, Path())


# ---- blocks ----
def test_who_lacks_a_modality_neither_sends_nor_ages_it() -> None:
    ran = play(plan_of("fedasync", modalities=SPLIT, personalization="blocks"))
    x = ran.x
    names = {c: x.setup.owns(c) for c in range(10)}
    used = [e for e in ran.entries if e.outcome == "used"]
    assert {frozenset(n) for n in names.values()} == {
        frozenset(s) for s in (("first",), ("second",), ("first", "second"))
    }
    for modality in ("first", "second"):
        assert x.loop.versions[modality] == sum(1 for e in used if modality in names[e.ticket.client])
    assert JOINT not in x.loop.versions  # late fusion has no joint part
    # encoder 8 x 4 + 4, head 4 x 2 + 2 floats a modality
    for e in used:
        count = len(names[e.ticket.client])
        assert e.ticket.work.up_bytes == e.ticket.work.down_bytes == 4 * 46 * count
        assert e.ticket.work.share == pytest.approx(count / 2)
        assert set(e.tracks) == set(names[e.ticket.client])


def test_a_joint_part_is_everybodys() -> None:
    fused = {**CONFIG["model"], "fusion": "concat"}
    ran = play(plan_of("fedasync", modalities=SPLIT, personalization="blocks", model=fused))
    assert ran.x.loop.versions[JOINT] == 20
    assert ran.x.loop.versions["first"] < 20


@pytest.mark.parametrize("method", ["fedavg", "fedasync", "fedbuff", "ca2fl"])
def test_blocks_of_everybody_are_the_plain_method(method: str) -> None:
    # everybody has everything: block by block is the whole model, with one version line seen three times
    plain = play(plan_of(method))
    blocks = play(plan_of(method, personalization="blocks"))
    assert torch.equal(blocks.weights, plain.weights)
    assert [(e.ticket.client, e.ended) for e in blocks.entries] == [(e.ticket.client, e.ended) for e in plain.entries]


def test_blocks_with_a_private_part() -> None:
    ran = play(plan_of("fedbuff", modalities=SPLIT, personalization={"name": "blocks", "private": ["*heads*"]}))
    memory = ran.x.pool.memory
    trained = [c for c in memory if not torch.equal(memory[c]["private"], ran.x.setup.init[ran.x.algorithm.rest])]
    assert trained
    # only the encoders travel: 36 floats a modality
    assert {e.ticket.work.up_bytes for e in ran.entries} == {4 * 36, 8 * 36}


@pytest.mark.parametrize(
    ("more", "text"),
    [
        ({"personalization": ["fedper", "blocks"]}, "blocks cannot divide what fedper has left"),
        ({"personalization": ["lottery", "blocks"]}, "blocks cannot divide what lottery has left"),
        ({"algorithm": "rfedavg", "personalization": "blocks"}, "looks at the local data"),
        ({"personalization": "blocks", "model": {"name": "multimodal", "fusion": "early"}}, "no block per modality"),
        # the second block has its encoder by name, which the first one's selector takes too
        (
            {"personalization": {"name": "blocks", "blocks": {"first": ["encoders.*"]}}},
            "encoders.second.fc.bias would belong to two blocks, first and second",
        ),
    ],
)
def test_what_blocks_cannot_do_is_said(more: dict[str, Any], text: str) -> None:
    with pytest.raises(UserError, match=text):
        play(plan_of(more.pop("algorithm", "fedbuff"), **more))


def test_a_fusion_that_nobody_builds_is_refused() -> None:
    plan = resolve(load({"model": {"name": "mlp", "fusion": "gated"}, "stop": {"updates": 1}}))
    with pytest.raises(UserError, match="builds no fusion") as error:
        run(plan)
    assert error.value.where == "model.fusion"


def test_what_a_careful_colleague_says_of_modalities() -> None:
    def said(**more: Any) -> dict[str, str]:
        x = play(plan_of("fedasync", stop={"updates": 2}, **more)).x
        driver: Any = SimpleNamespace(rows=[SimpleNamespace(accuracy=None)])
        return {w["code"]: w["message"] for w in warnings(x, driver) if "mod" in w["code"]}

    assert said() == {}
    assert set(said(modalities=SPLIT)) == {"whole-model-sent"}
    assert said(modalities=SPLIT, personalization="blocks") == {}
    alone = said(modalities={"pattern": {"first": 1}}, personalization="blocks")
    assert set(alone) == {"modality-without-owner"}
    assert "no client has second" in alone["modality-without-owner"]


@pytest.mark.parametrize("wrapper", [None, "blocks", "fedper"])
def test_executors_agree_with_missing_modalities(wrapper: str | None) -> None:
    lacking = {**SPLIT, "missing": 0.2, "dropout": 0.2, "failure": {"mean_on_s": 20, "mean_off_s": 10}}
    more = {} if wrapper is None else {"personalization": wrapper}
    plan = plan_of("fedbuff", modalities=lacking, **more)
    serial, workers, stacked = (play(plan, name) for name in ("serial", "workers", "stacked"))
    assert results(serial) == results(workers)
    assert serial.schedule == stacked.schedule
    assert torch.allclose(serial.weights, stacked.weights, atol=1e-5)
    assert max(stacked.x.pool.executor.heights) > 1


def test_an_open_task_keeps_what_its_sensors_saw() -> None:
    lacking = {"failure": {"mean_on_s": 5, "mean_off_s": 5}, "dropout": 0.3}
    plan = plan_of("fedbuff", modalities=lacking)
    import tiny

    tiny.data_of, before = (lambda p: federate(p, Path())), tiny.data_of
    try:
        x, _, _ = experiment(plan)
        y, _, _ = experiment(plan)
    finally:
        tiny.data_of = before
    x.loop.begin()
    for _ in range(6):
        x.loop.peek()
        x.loop.step()
    saved, books, pool = x.loop.save(), x.books.save(), x.pool.save()
    y.loop.load(saved)
    y.books.load(books)
    y.pool.load(pool, lambda task: 0)
    for task, spec in x.pool.open.items():
        assert (spec.seen is None) == (y.pool.open[task].seen is None)
        if spec.seen is not None:
            assert torch.equal(spec.seen, y.pool.open[task].seen)


def test_a_longer_run_goes_on_from_the_state_of_blocks_and_sensors(tmp_path: Path) -> None:
    lacking = {**SPLIT, "missing": 0.2, "dropout": 0.2, "failure": {"mean_on_s": 20, "mean_off_s": 10}}
    config = {**CONFIG, "algorithm": "ca2fl", "modalities": lacking, "personalization": ["blocks", "ditto"]}
    short, whole = {**config, "stop": {"updates": 11}}, {**config, "stop": {"updates": 20}}
    aflctl.run(short, runs_dir=tmp_path / "a")
    parts = aflctl.run(whole, runs_dir=tmp_path / "a").path
    assert "ended, after 11 updates" in (parts / "events.log").read_text()
    digests = [
        json.loads((path / "summary.json").read_text())["digests"]
        for path in (parts, aflctl.run(whole, runs_dir=tmp_path / "b").path)
    ]
    assert digests[0] == digests[1]


def test_staleness_is_reported_by_modality() -> None:
    ran = play(plan_of("fedasync", modalities=SPLIT, personalization="blocks"))
    said = ran.x.books.staleness()["by_track"]
    assert {name: part["count"] for name, part in said.items()} == {
        name: ran.x.loop.versions[name] for name in ("first", "second")
    }
    # every used update of a modality made one version of it, so nobody is staler on it than its versions allow
    assert all(part["max"] < part["count"] for part in said.values())
    assert "by_track" not in play(plan_of("fedasync")).x.books.staleness()


def test_training_goes_on_after_an_evaluation_of_the_same_batch_size() -> None:
    # the shared constants of the feed were once made in inference mode, where training cannot use them
    from aflctl.train.evaluate import evaluate

    x = play(plan_of(stop={"updates": 1})).x
    size = len(x.data.train(0))
    evaluate(x.task, x.feed, x.setup.init, x.data.train(0), size)
    x.feed.ones(size, 2).requires_grad_(False)
    batch = x.feed.batch(x.data.train(0), torch.arange(size))
    w = x.setup.init.clone().requires_grad_()
    x.task.loss(w, batch).backward()
    assert w.grad is not None
