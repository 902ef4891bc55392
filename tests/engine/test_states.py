"""Every state saved and loaded in the middle gives the same next step, and the same run: all methods, all tables."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from tiny import PERSONALIZATIONS, algorithms, experiment, personalized, plan_of

from aflctl.engine.course.keep import types_of
from aflctl.engine.parts.build import Experiment
from aflctl.plan import Plan
from aflctl.plugins import registry
from aflctl.runs.checkpoint import pack, unpack
from aflctl.sim.books import Entry

MIDDLE, END = 15, 32


def step(x: Experiment, events: int) -> None:
    for _ in range(events):
        assert x.loop.peek() is not None
        x.loop.step()


def through_json(plan: Plan, tree: Any) -> Any:
    """As a file would give it back: tensors copied, the rest as text."""
    tensors, spec = pack(tree)
    text = json.dumps(spec, allow_nan=False)
    return unpack({name: t.clone() for name, t in tensors.items()}, json.loads(text), types_of(plan))


def numbers(x: Experiment, entries: list[Entry]) -> dict[str, Any]:
    """All that a run says from the middle on."""
    memory = {c: {k: v.tolist() for k, v in x.pool.memory[c].items()} for c in x.pool.memory}
    return {
        "model": x.algorithm.params(x.loop.state).tolist(),
        "buffers": x.task.buffers.tolist(),
        "memory": memory,
        "loop": (x.loop.now, x.loop.used, x.loop.advances, x.loop.tasks, dict(x.loop.versions), x.loop.events),
        "flying": {c: (t.id, t.at, t.kind, t.planned, t.base) for c, t in x.loop.tickets.items()},
        "books": (x.books.totals, dict(x.books.histogram), dict(x.books.members), x.books.staleness()),
        "entries": [
            (e.ticket.id, e.ended, e.outcome, dict(e.causes), dict(e.phases), e.weight, dict(e.stats), e.buffer)
            for e in entries
        ],
    }


def resumed(plan: Plan, executor: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """(the run in one piece, the run that went on from a saved middle)."""
    one, _, entries = experiment(plan, executor)
    one.loop.begin()
    step(one, MIDDLE)
    saved = through_json(plan, {"loop": one.loop.save(), "books": one.books.save(), "pool": one.pool.save()})
    before = len(entries)
    step(one, END - MIDDLE)
    other, _, later = experiment(plan, executor)
    other.loop.load(saved["loop"])
    other.books.load(saved["books"])
    due = {t.id: t.at for t in other.loop.tickets.values()}
    other.pool.load(saved["pool"], lambda task: due.get(task, 0))
    step(other, END - MIDDLE)
    for x in (one, other):
        x.pool.executor.close()
    return numbers(one, entries[before:]), numbers(other, later)


@pytest.mark.parametrize("name", [n for n in algorithms() if n != "central"])
def test_a_state_saved_and_loaded_in_the_middle(name: str) -> None:
    whole, parts = resumed(plan_of(name), "serial")
    for key in whole:
        assert parts[key] == whole[key], key


@pytest.mark.parametrize("executor", ["stacked", "workers"])
@pytest.mark.parametrize("name", ["fedbuff", "moon", "port"])
def test_under_other_executors(name: str, executor: str) -> None:
    # a stack whose members were partly heard may not be made again: its rows would differ in the last bits
    whole, parts = resumed(plan_of(name), executor)
    for key in whole:
        assert parts[key] == whole[key], key


@pytest.mark.parametrize("selection", [e.name for e in registry().entries("selections")])
def test_the_state_of_a_selection_strategy(selection: str) -> None:
    clients = {"count": 10, "concurrency": 5, "selection": selection}
    whole, parts = resumed(plan_of("fedbuff", {"clients": clients}), "serial")
    assert parts == whole


@pytest.mark.parametrize("personalization", PERSONALIZATIONS)
def test_the_state_of_a_personalized_method(personalization: str) -> None:
    plan = plan_of("fedbuff", {"personalization": personalized(personalization)})
    whole, parts = resumed(plan, "serial")
    for key in whole:
        assert parts[key] == whole[key], key


def test_no_state_shares_memory_with_what_is_donated() -> None:
    # a model that was sent or returned by params must not change afterwards, whatever later hooks update in place
    for name in algorithms():
        x, _, _ = experiment(plan_of(name))
        x.loop.begin()
        seen: list[tuple[torch.Tensor, torch.Tensor]] = []
        for _ in range(6 if name == "central" else 20):
            for spec in x.pool.open.values():
                seen.extend((t, t.clone()) for t in spec.sent.values())
            w = x.algorithm.params(x.loop.state)
            seen.append((w, w.clone()))
            step(x, 1)
        assert all(torch.equal(now, then) for now, then in seen), name
