"""Small methods that use the hooks few built-ins use, each in a scenario whose answer is worked out in a comment.

All run on the quadratic of `quadratic.py`: client 0 wants to be at 4, client 1 at -2, one full step of rate 1/2 from w
gives (w + m) / 2.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from fakes import FakeWorld, Leg
from quadratic import federation, model
from torch import Tensor

from aflctl.api import (
    Algorithm,
    Assignment,
    Batch,
    Fleet,
    Job,
    Local,
    Setup,
    Step,
    Task,
    Update,
    Wrapper,
    overrides,
)
from aflctl.builtin.algorithms.fedasync import FedAsync
from aflctl.builtin.algorithms.fedbuff import FedBuff
from aflctl.rules import Barrier, ClientTable
from aflctl.runs.checkpoint import pack, state_types, unpack

POINTS = [[[4.0]], [[-2.0]]]
WORLD = FakeWorld({0: 1, 1: 2.5}, 2)


@dataclass(frozen=True)
class Model:
    """w [P]."""

    w: Tensor


class Take(Algorithm[Model]):
    """The newest upload is the model."""

    def init(self, setup: Setup, fleet: Fleet) -> Model:
        return Model(setup.init)

    def receive(self, state: Model, update: Update, fleet: Fleet) -> Step[Model]:
        return Step(Model(state.w + update.delta), advanced=True)


# ---- client hooks ----


class Warm(Take):
    """Starts from the mean of what it was sent and what it had at the end of its last task."""

    def memory(self, setup: Setup) -> dict[str, Tensor]:
        return {"last": setup.init}

    def start(self, task: Task, data: Batch | None, job: Job) -> tuple[Tensor, dict[str, Tensor]]:
        assert data is None  # `probes` is off
        return (job.sent["w"] + job.memory["last"]) / 2, {**job.memory, "scratch": torch.ones(1)}

    def finish(self, w: Tensor, job: Job) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        assert job.memory["scratch"].item() == 1
        return {"delta": w - job.sent["w"]}, {"last": w}


def test_start_and_memory() -> None:
    # one client, m = 4, from 0: start 0, y = 2; then start (2 + 2) / 2 = 2, y = 3; then start 3, y = 3.5
    s = federation(Warm(), FakeWorld({0: 1}, 1), [[[4.0]]]).play(3)
    assert model(s) == [3.5]
    assert {k: v.tolist() for k, v in s.trainer.memory[0].items()} == {"last": [3.5]}  # the scratch is gone


class Probe(Take):
    """Starts at the mean of its own data."""

    probes = True

    def start(self, task: Task, data: Batch | None, job: Job) -> tuple[Tensor, dict[str, Tensor]]:
        assert data is not None
        return (data.x * data.mask[:, None]).sum(0) / data.mask.sum(), job.memory


def test_a_method_that_probes_sees_the_local_data() -> None:
    # points 1, 2, 6: the mean 3 is the optimum, a step from it stays
    s = federation(Probe(), FakeWorld({0: 1}, 1), [[[1.0], [2.0], [6.0]]]).play(1)
    assert model(s) == [3.0]


class Longer(Take):
    """Trains [w, v] at once: v is the client's own, drawn towards w with force 1."""

    def memory(self, setup: Setup) -> dict[str, Tensor]:
        return {"v": setup.init}

    def start(self, task: Task, data: Batch | None, job: Job) -> tuple[Tensor, dict[str, Tensor]]:
        return torch.cat([job.sent["w"], job.memory["v"]]), job.memory

    def loss(self, task: Task, w: Tensor, batch: Batch, job: Job) -> Tensor:
        shared, own = w.chunk(2)
        return task.loss(shared, batch) + task.loss(own, batch) + 0.5 * (own - shared.detach()).square().sum()

    def finish(self, w: Tensor, job: Job) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        shared, own = w.chunk(2)
        return {"delta": shared - job.sent["w"]}, {"v": own.clone()}

    def personal(self, state: Model, client: int, memory: Mapping[str, Tensor]) -> Tensor:
        return memory.get("v", state.w)


def test_the_vector_may_be_longer_than_the_model() -> None:
    # rate 1/2, one step, m = 4. w: 0 -> 2 -> 3. v: 0 - ((0-4) + (0-0)) / 2 = 2, then 2 - ((2-4) + (2-2)) / 2 = 3
    s = federation(Longer(), FakeWorld({0: 1}, 1), [[[4.0]]]).play(2)
    assert model(s) == [3.0]
    memory = s.trainer.memory[0]
    assert s.loop.alg.personal(s.loop.state, 0, memory).tolist() == [3.0]
    assert s.loop.alg.personal(s.loop.state, 9, {}).tolist() == [3.0]


class Average(Take):
    """Its gradient is the mean of this step's and the last one's (0 at first)."""

    def start(self, task: Task, data: Batch | None, job: Job) -> tuple[Tensor, dict[str, Tensor]]:
        return job.sent["w"], {"g": torch.zeros_like(job.sent["w"])}

    def direction(self, task: Task, w: Tensor, batch: Batch, job: Job) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        g, memory, value = super().direction(task, w, batch, job)
        return (g + memory["g"]) / 2, {"g": g}, value

    def finish(self, w: Tensor, job: Job) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        return {"delta": w - job.sent["w"]}, {}


def test_direction_carries_memory_from_step_to_step() -> None:
    # m = 4, rate 1/2, from 0: g = -4, d = -2, w = 1; g = -3, d = -3.5, w = 2.75; g = -1.25, d = -2.125, w = 3.8125
    s = federation(Average(), FakeWorld({0: 1}, 1), [[[4.0]]], local=Local(lr=0.5, steps=3)).play(1)
    assert model(s) == [3.8125]
    assert 0 not in s.trainer.memory


class Corrected(Take):
    """grad adds 1; loss adds w; both before the optimizer."""

    def loss(self, task: Task, w: Tensor, batch: Batch, job: Job) -> Tensor:
        return task.loss(w, batch) + w.sum()

    def grad(self, g: Tensor, w: Tensor, job: Job) -> Tensor:
        return g + 1


def test_loss_and_grad() -> None:
    # from 0: gradient -4 + 1 + 1 = -2, y = 1
    s = federation(Corrected(), FakeWorld({0: 1}, 1), [[[4.0]]]).play(1)
    assert model(s) == [1.0]


class Boxed(Take):
    """After each step no coordinate is above 3, and none moved by more than 1."""

    def project(self, w: Tensor, w_before: Tensor, job: Job) -> Tensor:
        return torch.minimum(torch.maximum(w, w_before - 1), w_before + 1).clamp(max=3.0)


@pytest.mark.parametrize(("steps", "value"), [(1, 1.0), (2, 2.0), (3, 3.0), (6, 3.0)])
def test_project(steps: int, value: float) -> None:
    # from 0 towards 8: each step wants half of the way, may do 1, and ends at 3
    s = federation(Boxed(), FakeWorld({0: 1}, 1), [[[8.0]]], local=Local(lr=0.5, steps=steps)).play(1)
    assert model(s) == [value]


def test_hooks_see_momentum_after_the_correction() -> None:
    # lr 1/2, momentum 1/2, grad adds 1 to -4 + w + 1 (loss): from 0: g = -2, m = -2, w = 1; g = -1, m = -2, w = 2
    local = Local(lr=0.5, momentum=0.5, steps=2)
    assert model(federation(Corrected(), FakeWorld({0: 1}, 1), [[[4.0]]], local=local).play(1)) == [2.0]


# ---- wrappers ----


class Halved(Wrapper[Any]):
    """A wrapper that changes one hook: half of each update arrives."""

    def receive(self, state: Any, update: Update, fleet: Fleet) -> Step[Any]:
        return self.inner.receive(state, replace(update, up={"delta": update.delta / 2}), fleet)


class Extra(Wrapper[Any]):
    """A wrapper that keeps its own number beside the inner state, and names of its own in what travels."""

    def init(self, setup: Setup, fleet: Fleet) -> Any:
        return (self.inner.init(setup, fleet), 0)

    def params(self, state: Any) -> Tensor:
        return self.inner.params(state[0])

    def select(self, state: Any, fleet: Fleet) -> Any:
        return self.inner.select(state[0], fleet)

    def assign(self, state: Any, client: int, fleet: Fleet) -> Assignment:
        order = self.inner.assign(state[0], client, fleet)
        return replace(order, tensors={**order.tensors, "extra.n": torch.tensor(float(state[1]))})

    def receive(self, state: Any, update: Update, fleet: Fleet) -> Step[Any]:
        step = self.inner.receive(state[0], update, fleet)
        return replace(step, state=(step.state, state[1] + 1), log={"n": update.sent["extra.n"].item()})


def wrap(kind: type[Wrapper[Any]]) -> Any:
    return lambda inner, setup: kind(inner=inner, setup=setup)


def test_a_wrapper_passes_on_what_it_does_not_change() -> None:
    # Take: 0 -> 2 at 1 s becomes 0 -> 1; client 0 again from 1: (1 + 4) / 2 - 1 = 1.5, half is 0.75
    s = federation(Take(), WORLD, POINTS, wraps=[wrap(Halved)])
    assert model(s.play(1)) == [1.0]
    assert model(s.play(1)) == [1.75]


def test_wrappers_nest_and_keep_the_inner_methods_character() -> None:
    inner = FedAsync(alpha=0.6, staleness="constant")
    s = federation(inner, WORLD, POINTS, wraps=[wrap(Extra), wrap(Extra)], begin=False)
    outer = s.loop.alg
    assert (outer.uploads, outer.probes, outer.reads_results) == (("w",), False, False)
    s.loop.begin()
    # the same arithmetic as without wrappers (test_golden)
    assert model(s.play(3)) == pytest.approx([0.216], abs=1e-6)
    assert s.loop.state[1] == s.loop.state[0][1] == 3


def test_what_a_wrapped_method_overrides_is_seen_through() -> None:
    inner: Any = Halved(inner=Boxed(), setup=None)
    assert overrides(inner, "project")
    assert overrides(inner, "receive")
    assert not overrides(inner, "recall")
    assert not overrides(Extra(inner=inner, setup=None), "lost")


# ---- tracks and base versions, with models ----


class Clusters(Algorithm[Any]):
    """Two models, one per client: each client's track is its own version line."""

    def init(self, setup: Setup, fleet: Fleet) -> Any:
        return {"t0": Model(setup.init), "t1": Model(setup.init)}

    def params(self, state: Any) -> Tensor:
        return (state["t0"].w + state["t1"].w) / 2

    def assign(self, state: Any, client: int, fleet: Fleet) -> Assignment:
        return Assignment({"w": state[f"t{client}"].w}, tracks=(f"t{client}",))

    def receive(self, state: Any, update: Update, fleet: Fleet) -> Step[Any]:
        (track,) = update.staleness_by
        return Step(
            {**state, track: Model(state[track].w + update.delta)}, advanced=True, log={"tau": update.staleness}
        )

    def personal(self, state: Any, client: int, memory: Mapping[str, Tensor]) -> Tensor:
        return state[f"t{client}"].w


def test_clusters_train_apart_and_nobody_is_stale() -> None:
    # client 0 at 1, 2, 3, ...: 2, 3; client 1 at 2.5: -1. Each is alone on its line
    s = federation(Clusters(), WORLD, POINTS).play(3)
    assert [s.loop.alg.personal(s.loop.state, c, {}).tolist() for c in (0, 1)] == [[3.0], [-1.0]]
    assert model(s) == [1.0]
    assert s.loop.versions == {"": 0, "t0": 2, "t1": 1}
    assert {sum(e.causes.values()) for e in s.entries} == {0}


@dataclass(frozen=True)
class Past:
    """The models of all versions."""

    models: tuple[Tensor, ...]


class Delayed(Algorithm[Past]):
    """Sends the model before the newest one, and says so."""

    def init(self, setup: Setup, fleet: Fleet) -> Past:
        return Past((setup.init,))

    def params(self, state: Past) -> Tensor:
        return state.models[-1]

    def assign(self, state: Past, client: int, fleet: Fleet) -> Assignment:
        back = min(1, fleet.version)
        return Assignment({"w": state.models[-1 - back]}, version=fleet.version - back)

    def receive(self, state: Past, update: Update, fleet: Fleet) -> Step[Past]:
        return Step(Past((*state.models, update.model)), advanced=True)


def test_base_versions() -> None:
    # one client, m = 4: from 0: 2 (v1); from 0 (base 0 though v1 is there): 2 (v2); from v1 = 2: 3 (v3); from v2 = 2: 3
    s = federation(Delayed(), FakeWorld({0: 1}, 1), [[[4.0]]]).play(4)
    assert [m.item() for m in s.loop.state.models] == [0, 2, 2, 3, 3]
    assert [e.causes["held"] for e in s.entries] == [0, 1, 1, 1]


# ---- cancel, deadline and alarm, with models ----


class Deadline(Algorithm[Any]):
    """FedAvg's skeleton on a `Barrier`: mean of what arrived until the deadline."""

    round: Barrier = Barrier(deadline_s=2.0)

    def init(self, setup: Setup, fleet: Fleet) -> Any:
        return (setup.init, ())

    def params(self, state: Any) -> Tensor:
        return state[0]

    def select(self, state: Any, fleet: Fleet) -> Any:
        return self.round.select(fleet)

    def receive(self, state: Any, update: Update, fleet: Fleet) -> Step[Any]:
        return self.tick((state[0], (*state[1], update.delta)), fleet)

    def alarm(self, state: Any, fleet: Fleet) -> float | None:
        return self.round.alarm(fleet)

    def tick(self, state: Any, fleet: Fleet) -> Step[Any]:
        w, got = state
        if not self.round.closed(len(got), fleet):
            return Step(state)
        return Step((w + sum(got) / len(got), ()), advanced=True)

    def recall(self, state: Any, fleet: Fleet) -> Any:
        return self.round.recall(fleet)


def test_a_deadline_takes_what_is_there_and_cancels_the_rest() -> None:
    # client 0 (1 s) answers 2, client 1 (2.5 s) is too late at 2: x = 2; again from 2: x = 3
    s = federation(Deadline(), WORLD, POINTS)
    assert model(s.play(2)) == [2.0]
    assert (s.now, s.books.totals.cancelled) == (2.0, 1)
    assert model(s.play(2)) == [3.0]
    assert s.now == 4.0


def test_cancelled_work_is_not_trained() -> None:
    s = federation(Deadline(), WORLD, POINTS).play(4)
    assert s.trainer.trained_steps == 2
    assert s.trainer.ready == {}
    assert set(s.trainer.open) == {t.id for t in s.loop.tickets.values()}


class Pulse(Take):
    """Every second the model shrinks to half, whoever flies."""

    def alarm(self, state: Model, fleet: Fleet) -> float | None:
        return float(int(fleet.now + 1e-9) + 1)

    def tick(self, state: Model, fleet: Fleet) -> Step[Model]:
        return Step(Model(state.w / 2), advanced=True)


def test_ticks_between_arrivals() -> None:
    # one client of 2.5 s: ticks at 1 and 2 of a model of 0; arrival at 2.5: 2; tick at 3: 1; arrival of the task that
    # was sent 2 at 2.5: at 5 the tick of 5 comes after it: at 4 the model is 0.5; delta (3 - 2) = 1: 1.5, stale by 2
    s = federation(Pulse(), FakeWorld({0: 2.5}, 1), [[[4.0]]]).play(5)
    assert (s.now, model(s)) == (4.0, [0.5])
    s.play(1)
    assert (s.now, model(s)) == (5.0, [1.5])
    assert sum(s.entries[-1].causes.values()) == 2


# ---- client tables ----


@dataclass(frozen=True)
class Tabled:
    """w [P], and the last update of each client."""

    w: Tensor
    last: ClientTable


class Cached(Algorithm[Tabled]):
    """x is the sum of everybody's last update."""

    def init(self, setup: Setup, fleet: Fleet) -> Tabled:
        return Tabled(setup.init, ClientTable(setup.init.new_zeros(setup.size)))

    def receive(self, state: Tabled, update: Update, fleet: Fleet) -> Step[Tabled]:
        w = state.w + update.delta - state.last[update.client]
        state.last[update.client] = update.delta
        return Step(Tabled(w, state.last), advanced=True)


def test_a_client_table() -> None:
    # 1 s: client 0 answers +2: x = 2. 2 s: from 2, +1: x = 2 + 1 - 2 = 1. 2.5 s: client 1 from 0, -1: x = 0
    s = federation(Cached(), WORLD, POINTS).play(3)
    assert model(s) == [0.0]
    table = s.loop.state.last
    assert {c: table[c].item() for c in table} == {0: 1.0, 1: -1.0}
    assert (len(table), 0 in table, 7 in table, table[7].item()) == (2, True, False, 0.0)


def test_a_state_with_a_table_is_saved_and_goes_on_the_same() -> None:
    one = federation(Cached(), WORLD, POINTS).play(3)
    tensors, spec = pack(one.loop.state)
    copy = unpack({k: v.clone() for k, v in tensors.items()}, spec, state_types(one.loop.alg))
    other = federation(Cached(), WORLD, POINTS).play(3)
    other.loop.state = copy
    assert model(one.play(4)) == model(other.play(4))


# ---- lost and rejected, with models ----


class Compensating(Take):
    """A lost task pulls the model back by half."""

    def lost(self, state: Model, lost: Any, fleet: Fleet) -> Step[Model]:
        return Step(Model(state.w / 2), advanced=True)


def test_a_loss_may_move_the_model() -> None:
    # 1 s: 2; 1.5 s: client 1 is lost: 1
    s = federation(Compensating(), FakeWorld({0: 1, 1: Leg(9, lost=1.5)}, 2), POINTS).play(2)
    assert model(s) == [1.0]


def test_steps_and_rates_of_an_assignment() -> None:
    # two steps with rates 1/2 and 1/4 (one epoch each): 0 -> 2 -> 2 + (4 - 2) / 4 = 2.5
    class Ordered(Take):
        def assign(self, state: Model, client: int, fleet: Fleet) -> Assignment:
            return Assignment({"w": state.w}, epochs=2, lr_scale=(1.0, 0.5))

    assert model(federation(Ordered(), FakeWorld({0: 1}, 1), [[[4.0]]]).play(1)) == [2.5]


def test_a_buffer_of_a_larger_cohort_than_anyone_fills_is_not_applied() -> None:
    s = federation(FedBuff(buffer_size=50), WORLD, POINTS).play(20)
    assert model(s) == [0.0]
    assert s.loop.advances == 0
    assert len(s.books.waiting) == 20
