"""FedBN: batch normalisation that stays with the client, statistics included."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import CONFIG, plan_of, results, run

from aflctl.engine.course import personal
from aflctl.errors import UserError

MODEL = """
from torch import nn
from aflctl.api import Model

class Normed(Model):
    \"\"\"A small network with batch normalisation.\"\"\"
    stacks = False

    def build(self, spec, fusion=None):
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 10))
"""


@pytest.fixture
def short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    (tmp_path / "normed.py").write_text(MODEL)
    monkeypatch.chdir(tmp_path)
    return {
        "dataset": {**CONFIG["dataset"], "test_fraction": 0.25}, "model": "./normed.py:Normed", "stop": {"updates": 12},
        "local": {**CONFIG["local"], "batch_size": 16},
    }  # fmt: skip


def test_statistics_stay_with_their_clients(short: dict[str, Any]) -> None:
    plain = run(plan_of("fedbuff", short)).x
    x = run(plan_of("fedbuff", {**short, "personalization": "fedbn"})).x
    assert set(x.algorithm.own_buffers) == {"2.running_mean", "2.running_var"}
    assert torch.equal(x.task.buffers, torch.cat([torch.zeros(8), torch.ones(8)]))
    assert not torch.equal(plain.task.buffers, x.task.buffers)
    trained = sorted(x.pool.own)
    assert len(trained) > 3
    assert not torch.equal(x.pool.buffers_of(trained[0]), x.pool.buffers_of(trained[1]))
    # 16 parameters and 16 statistics less
    sent = 4 * (x.setup.size - 16)
    assert {e.work.up_bytes for e in x.loop.tickets.values()} == {sent}
    assert {e.work.up_bytes for e in plain.loop.tickets.values()} == {4 * (plain.setup.size + 16)}


def test_clients_are_tested_with_their_own_statistics(short: dict[str, Any]) -> None:
    x = run(plan_of("fedbuff", {**short, "personalization": "fedbn"})).x
    own = personal.columns(personal.test(x))["personal_accuracy"]
    x.pool.own.clear()
    assert personal.columns(personal.test(x))["personal_accuracy"] != own


def test_a_head_can_be_private_too(short: dict[str, Any]) -> None:
    x = run(plan_of("fedasync", {**short, "personalization": {"name": "fedper", "private": ["@BatchNorm", "4"]}})).x
    assert {e.work.up_bytes for e in x.loop.tickets.values()} == {4 * (64 * 8 + 8)}


def test_executors_and_checkpoints(short: dict[str, Any]) -> None:
    plan = plan_of("fedbuff", {**short, "personalization": "fedbn"})
    one, two = run(plan), run(plan, "workers", 2)
    assert results(one) == results(two)
    saved = one.x.pool.save()
    two.x.pool.own.clear()
    two.x.pool.load({**saved, "open": {}, "ready": {}}, lambda task: 0)
    assert all(torch.equal(one.x.pool.own[c], two.x.pool.own[c]) for c in one.x.pool.own)


def test_two_models_in_one_task_are_refused(short: dict[str, Any]) -> None:
    for wrapper in ("ditto", "pfedme"):
        with pytest.raises(UserError, match="two models at once"):
            run(plan_of("fedbuff", {**short, "personalization": wrapper}))


def test_a_model_without_normalisation_says_what_it_has() -> None:
    with pytest.raises(UserError, match="'@BatchNorm' matches nothing") as error:
        run(plan_of("fedbuff", {"personalization": "fedbn"}))
    assert "@Linear" in str(error.value.hint)
