"""Nothing private, one cluster, no pull: what must be the plain method, bit for bit; and everything private."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from fakes import FakeWorld
from quadratic import federation
from tiny import CONFIG, plan_of, results, run

from aflctl.api import DataSpec, Local, Modality
from aflctl.builtin.algorithms.fedasync import FedAsync
from aflctl.builtin.algorithms.local_only import LocalOnly
from aflctl.builtin.models.mlp import Mlp
from aflctl.builtin.personalizations.ditto import Ditto
from aflctl.errors import UserError
from aflctl.train.executors.workers import Workers
from aflctl.train.task import FlatTask

DATA = {**CONFIG["dataset"], "test_fraction": 0.25}
SHORT = {"dataset": DATA, "stop": {"updates": 15}}
METHODS: list[Any] = [
    "fedavg",
    "fedasync",
    {"name": "fedbuff", "buffer_size": 3},
    "ca2fl",
    "asyncdrop",
    "scaffold",
    "moon",
]
SAME: dict[str, dict[str, Any]] = {
    "fedper": {"private": []},
    "ifca": {"clusters": 1},
    "cfl": {"eps1": 0.0},
}


def name(method: Any) -> str:
    return method if isinstance(method, str) else method["name"]


def losses(ran: Any) -> list[Any]:
    return [
        (e.ticket.id, e.outcome, e.weight, *e.stats.values()) for e in sorted(ran.entries, key=lambda e: e.ticket.id)
    ]


@pytest.mark.parametrize("wrapper", SAME)
@pytest.mark.parametrize("method", METHODS, ids=name)
def test_equals_the_plain_method(method: Any, wrapper: str) -> None:
    plain = run(plan_of(method, SHORT))
    wrapped = run(plan_of(method, {**SHORT, "personalization": {"name": wrapper, **SAME[wrapper]}}))
    assert wrapped.schedule == plain.schedule
    assert losses(wrapped) == losses(plain)
    assert torch.equal(wrapped.weights, plain.weights)


@pytest.mark.parametrize("wrapper", SAME)
def test_equals_the_plain_method_in_stacks(wrapper: str) -> None:
    plain = run(plan_of("fedbuff", SHORT), "stacked")
    wrapped = run(plan_of("fedbuff", {**SHORT, "personalization": {"name": wrapper, **SAME[wrapper]}}), "stacked")
    assert wrapped.schedule == plain.schedule
    assert torch.equal(wrapped.weights, plain.weights)


@pytest.mark.parametrize("method", ["fedavg", "fedasync", "fedbuff", "ca2fl", "asyncdrop"])
def test_everything_private_is_training_alone(method: str) -> None:
    # over rounds the schedule differs (nobody waits in local-only), but a client's k-th task gives the same vector
    alone = run(plan_of("local-only", {**SHORT, "stop": {"updates": 25}}))
    private = run(plan_of(method, {**SHORT, "personalization": {"name": "fedper", "private": ["*"]}}))
    assert {(e.ticket.work.down_bytes, e.ticket.work.up_bytes) for e in private.entries} == {(0, 0)}
    if method not in ("fedavg", "asyncdrop"):
        assert [e.ticket.client for e in private.entries] == [
            e.ticket.client for e in alone.entries[: len(private.entries)]
        ]
    counts = {c: _used(private, c) for c in private.x.pool.memory}
    compared = [c for c in counts if counts[c] == _used(alone, c)]
    assert compared
    for client in compared:
        mine = private.x.algorithm.personal(private.x.loop.state, client, private.x.pool.memory[client])
        assert torch.equal(mine, alone.x.pool.memory[client]["w"])


def _used(ran: Any, client: int) -> int:
    return sum(1 for e in ran.entries if e.ticket.client == client and e.outcome == "used")


SPEC = DataSpec((Modality("x", (4,)),), 2)
POINTS = [[[1.0, 2.0, -1.0, 0.5], [0.0, 1.0, 1.0, -2.0]], [[-1.0, 0.5, 2.0, 1.0]], [[3.0, 0.0, 1.0, 1.0]]]


def net() -> FlatTask:
    with torch.random.fork_rng():
        torch.random.manual_seed(1)
        return FlatTask(Mlp(hidden=(5,)).build(SPEC), SPEC)


def ditto(method: Any, wraps: Any = (), **more: Any) -> Any:
    local = Local(lr=0.1, momentum=0.9, weight_decay=0.01, epochs=2, batch_size=1)
    return federation(
        method, FakeWorld({0: 1, 1: 2.5, 2: 1.7}, 3), POINTS, task=net(), wraps=wraps, local=local, **more
    ).play(12)


@pytest.mark.parametrize("executor", [None, lambda kit: Workers(kit, 2)], ids=["serial", "workers"])
def test_ditto_without_pull_is_the_global_path_and_training_alone(executor: Any) -> None:
    more = {} if executor is None else {"executor": executor}
    method = FedAsync(alpha=0.5, rho=0.1)
    plain, alone = ditto(method), ditto(LocalOnly())
    both = ditto(method, [lambda inner, setup: Ditto(lam=0.0).wrap(inner, setup)], **more)
    assert torch.equal(both.loop.alg.params(both.loop.state), plain.loop.alg.params(plain.loop.state))
    assert [e.stats for e in both.entries] == [e.stats for e in plain.entries]
    for client in range(3):
        assert torch.equal(both.trainer.memory[client]["ditto/v"], alone.trainer.memory[client]["w"])
    both.trainer.executor.close()


def test_ditto_leaves_the_global_path_alone_whatever_the_pull() -> None:
    plain = ditto(FedAsync())
    both = ditto(FedAsync(), [lambda inner, setup: Ditto(lam=3.0).wrap(inner, setup)])
    assert torch.equal(both.loop.alg.params(both.loop.state), plain.loop.alg.params(plain.loop.state))


@pytest.mark.parametrize(
    ("wrappers", "text"),
    [
        (["ditto", "fedper"], "fedper must come before ditto"),
        (["ifca", "fedper"], "fedper must come before ifca"),
        (["fedper", "lg-fedavg"], "cannot be combined"),
        (["ifca", "cfl"], "cannot be combined"),
        (["ditto", "ditto"], "ditto and ditto both say which model a client is evaluated with"),
        (["ditto", "pfedme"], "ditto and pfedme both say"),
        (["pfedme", "ditto"], "pfedme and ditto both say"),
    ],
)
def test_the_order_of_wrappers_is_enforced(wrappers: list[str], text: str) -> None:
    with pytest.raises(UserError, match=text):
        run(plan_of("fedbuff", {**SHORT, "personalization": [{"name": w} for w in wrappers]}))


@pytest.mark.parametrize("wrapper", ["fedper", "ditto", "pfedme", "lottery"])
def test_a_method_with_a_direction_of_its_own_is_refused(wrapper: str) -> None:
    with pytest.raises(UserError, match="computes its own direction"):
        run(plan_of("aso-fed", {**SHORT, "personalization": {"name": wrapper}}))


def test_tracks_take_a_method_with_a_direction_of_its_own() -> None:
    plain = run(plan_of("aso-fed", SHORT))
    one = run(plan_of("aso-fed", {**SHORT, "personalization": {"name": "ifca", "clusters": 1}}))
    assert torch.equal(one.weights, plain.weights)
    # with two clusters its learning rate would follow the state of a cluster that is not known at dispatch
    with pytest.raises(UserError, match="asks for different work"):
        run(plan_of("aso-fed", {**SHORT, "personalization": "ifca"}))


@pytest.mark.parametrize("stack", [["fedper", "ifca", "ditto"], ["lottery", "cfl", "pfedme"], ["fedrep", "ditto"]])
def test_three_deep_on_every_executor(stack: list[str]) -> None:
    rep = [{"name": n, "head_epochs": 1} if n == "fedrep" else {"name": n} for n in stack]
    plan = plan_of("fedbuff", {**SHORT, "stop": {"updates": 8}, "personalization": rep})
    serial, workers, stacked = run(plan), run(plan, "workers", 2), run(plan, "stacked")
    assert results(serial) == results(workers)
    assert serial.schedule == stacked.schedule
    assert torch.allclose(serial.weights, stacked.weights, atol=1e-5)
