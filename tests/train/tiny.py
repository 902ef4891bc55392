"""A tiny real experiment in memory: 10 clients of digits, an mlp with 16 hidden units, no run directory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import torch

from aflctl.config.load import load
from aflctl.engine.parts.build import Experiment, build, federate
from aflctl.plan import Plan, resolve
from aflctl.plugins import registry
from aflctl.runs.records import Digest
from aflctl.sim.books import Entry

CONFIG: dict[str, Any] = {
    "dataset": {"name": "digits", "partition": {"name": "dirichlet", "alpha": 1.0, "min_size": 20}},
    "model": {"name": "mlp", "hidden": [16]},
    "clients": {"count": 10, "concurrency": 5},
    "local": {"epochs": 2, "batch_size": 64, "lr": 0.05},
    "fleet": {
        "devices": {"raspberry-pi-4": 1, "jetson-nano": 1},
        "networks": {"wifi": 1, "lte": 1},
        "availability": [
            {"name": "delay-dropout", "probability": 0.2, "max_s": 3},
            {"name": "task-failure", "probability": 0.1},
        ],
    },
    "stop": {"updates": 40},
    "seed": 3,
}  # fmt: skip

NEEDS: dict[str, dict[str, Any]] = {
    name: {"clients": {"count": 10, "concurrency": 10}} for name in ("ringleader", "malenia")
}
"""What a method asks of a configuration beside its own parameters."""


def plan_of(algorithm: Any, changes: Mapping[str, Any] | None = None) -> Plan:
    """The plan of the tiny experiment with this method; `changes` replace whole sections."""
    name = algorithm if isinstance(algorithm, str) else algorithm["name"]
    return resolve(load({**CONFIG, "algorithm": algorithm, **NEEDS.get(name, {}), **(changes or {})}))


PERSONALIZATIONS = [e.name for e in registry().entries("personalizations") if e.name != "blocks"]
"""`blocks` wants data of several modalities, which digits are not."""


def personalized(name: str) -> dict[str, Any]:
    """A personalization with what it needs on the tiny model, which has no normalisation to keep private."""
    return {"name": name, "private": ["head.bias"]} if name == "fedbn" else {"name": name}


def algorithms() -> list[str]:
    """Every registered method that comes with the package itself."""
    return [e.name for e in registry().entries("algorithms") if e.distribution == "aflctl"]


@cache
def _data(*key: Any) -> Any:
    return federate(_PLANS[key], Path())


_PLANS: dict[Any, Plan] = {}


def data_of(plan: Plan) -> Any:
    """The divided data; the same object for plans that divide alike."""
    own = bool(plan.personalization) or not plan.algorithm.uploads
    key = (plan.algorithm.pools, own, plan.config.clients.count, plan.seeds["data"], repr(plan.config.dataset))
    _PLANS.setdefault(key, plan)
    return _data(*key)


class Ran(NamedTuple):
    """What a run in memory left."""

    schedule: str
    weights: torch.Tensor
    entries: list[Entry]
    x: Experiment


def experiment(
    plan: Plan, executor: str = "serial", workers: int | None = None
) -> tuple[Experiment, Digest, list[Entry]]:
    """The parts, wired; nothing has happened yet."""
    engine = plan.config.engine.model_copy(update={"executor": executor, "workers": workers})
    config = plan.config.model_copy(update={"engine": engine})
    schedule, entries = Digest(), []
    x = build(replace(plan, config=config), data_of(plan), plan.base, schedule, entries.append)
    return x, schedule, entries


def run(plan: Plan, executor: str = "serial", workers: int | None = None, events: int = 10**9) -> Ran:
    """Until the plan's number of updates, without evaluation."""
    x, schedule, entries = experiment(plan, executor, workers)
    try:
        x.loop.begin()
        wanted = plan.config.stop.updates or 0
        while x.loop.used < wanted and events:
            if x.loop.peek() is None:
                break
            x.loop.step()
            events -= 1
        return Ran(schedule.hexdigest(), x.algorithm.params(x.loop.state).clone(), entries, x)
    finally:
        x.pool.executor.close()


def results(ran: Ran) -> str:
    """Digest of every number that training gave: losses, weights, and the final model."""
    digest = Digest()
    for e in sorted(ran.entries, key=lambda e: e.ticket.id):
        digest.ints(e.ticket.id, e.ticket.client, e.ticket.planned, e.ended).text(e.outcome)
        digest.floats(e.weight, *e.stats.values())
    digest.tensor(ran.weights)
    for client in ran.x.pool.memory:
        for name, value in sorted(ran.x.pool.memory[client].items()):
            digest.text(name).tensor(value)
    return digest.hexdigest()
