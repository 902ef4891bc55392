"""Faults planted one by one in a small method: the kit names the right check, and as far as can be, no other."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from pydantic import BaseModel, ConfigDict, Field

from aflctl.api import Algorithm, Assignment, Fleet, Job, Setup, Step, Update
from aflctl.errors import UserError
from aflctl.testing import CheckResult, check_algorithm, checks_of, parametrize_checks
from aflctl.testing.results import Check
from aflctl.testing.toy import Scene

CALLS = {"n": 0}


@dataclass(frozen=True)
class State:
    """w, acc [P]; `got` updates in the buffer."""

    w: torch.Tensor
    acc: torch.Tensor
    got: int = 0
    more: Any = None


class Good(Algorithm[State]):
    """Two updates make a step, with a proximal term in the client.

        x <- x + lr / 2 (D_i + D_j);   client: w <- w - eta (g(w) + rho (w - x))

    Source: this test. Deviations: none.
    """

    lr: float = Field(1.0, gt=0, description="server learning rate")
    rho: float = Field(0.1, ge=0, description="proximal weight")

    def init(self, setup: Setup, fleet: Fleet) -> State:
        return State(setup.init, setup.init.new_zeros(setup.size))

    def receive(self, state: State, update: Update, fleet: Fleet) -> Step[State]:
        state.acc.add_(update.delta)
        if state.got == 0:
            return Step(State(state.w, state.acc, 1, state.more))
        w = state.w.add(state.acc, alpha=self.lr / 2)
        return Step(State(w, state.acc.zero_(), 0, state.more), advanced=True)

    def grad(self, g: torch.Tensor, w: torch.Tensor, job: Job) -> torch.Tensor:
        return g + self.rho * (w - job.sent["w"])


def failed(cls: Any, **more: Any) -> set[str]:
    """Names of the checks that fail."""
    return {r.name for r in check_algorithm(cls, **more) if r.status == "failed"}


def one(cls: Any, name: str, **more: Any) -> CheckResult:
    """The result of one check."""
    return next(c for c in checks_of(cls, scenes=[SMALL], **more) if c.name == name).run()


def test_without_a_fault_nothing_fails() -> None:
    assert failed(Good) == set()
    assert failed(Good(rho=0.5)) == set()


class DetachedProx(Good):
    __doc__ = Good.__doc__

    def grad(self, g: torch.Tensor, w: torch.Tensor, job: Job) -> torch.Tensor:
        return g

    def loss(self, task: Any, w: torch.Tensor, batch: Any, job: Job) -> torch.Tensor:
        return task.loss(w, batch) + 0 * (self.rho / 2 * (w.detach() - job.sent["w"]).square().sum())


class UnusedMaximum(Good):
    __doc__ = Good.__doc__
    cap: float = Field(10.0, gt=0, description="largest weight, forgotten")


class MovesWhatWasSent(Good):
    __doc__ = Good.__doc__

    def receive(self, state: State, update: Update, fleet: Fleet) -> Step[State]:
        return Step(State(state.w.add_(update.delta, alpha=self.lr), state.acc), advanced=True)


class MovesWhatWasSentUnseen(Good):
    __doc__ = Good.__doc__

    def receive(self, state: State, update: Update, fleet: Fleet) -> Step[State]:
        state.w.detach().numpy()[:] += self.lr * update.delta.numpy()
        return Step(State(state.w, state.acc), advanced=True)


class SpoilsTheUpload(Good):
    __doc__ = Good.__doc__

    def receive(self, state: State, update: Update, fleet: Fleet) -> Step[State]:
        update.up["delta"].mul_(1.0)
        return super().receive(state, update, fleet)


class MutatesInClient(Good):
    __doc__ = Good.__doc__

    def finish(self, w: torch.Tensor, job: Job) -> Any:
        up = {"delta": w - job.sent["w"]}
        job.memory["seen"] = w
        return up, {}


class TorchNoise(Good):
    __doc__ = Good.__doc__

    def receive(self, state: State, update: Update, fleet: Fleet) -> Step[State]:
        step = super().receive(state, update, fleet)
        return step if not step.advanced else Step(State(step.state.w + torch.randn(1) * 1e-3, state.acc), True)


class NumpyDraw(Good):
    __doc__ = Good.__doc__

    def select(self, state: State, fleet: Fleet) -> list[int]:
        np.random.random()
        return fleet.draw(fleet.free)


class PythonDraw(Good):
    __doc__ = Good.__doc__

    def assign(self, state: State, client: int, fleet: Fleet) -> Assignment:
        random.random()
        return Assignment({"w": state.w})


class StartsFlying(Good):
    __doc__ = Good.__doc__

    def select(self, state: State, fleet: Fleet) -> list[int]:
        return [*list(fleet.flying)[:1], *fleet.draw(fleet.free)]


class StartsTooMany(Good):
    __doc__ = Good.__doc__

    def select(self, state: State, fleet: Fleet) -> list[int]:
        return fleet.draw(fleet.free + 2)


class RecallsTheIdle(Good):
    __doc__ = Good.__doc__

    def recall(self, state: State, fleet: Fleet) -> Any:
        return {next(iter(fleet.idle)): "epoch"}


class Undeclared(Good):
    __doc__ = Good.__doc__

    def finish(self, w: torch.Tensor, job: Job) -> Any:
        return {"delta": w - job.sent["w"], "norm": w.norm()}, {}


class Thing:
    """What no checkpoint can hold."""


class StateWithObject(Good):
    __doc__ = Good.__doc__

    def init(self, setup: Setup, fleet: Fleet) -> State:
        return State(setup.init, setup.init.new_zeros(setup.size), more=Thing())


class RemembersInItself(Good):
    __doc__ = Good.__doc__

    def receive(self, state: State, update: Update, fleet: Fleet) -> Step[State]:
        CALLS["n"] += 1
        step = super().receive(state, update, fleet)
        return Step(step.state, step.advanced, weight=float(CALLS["n"]))


class ValueBranch(Good):
    __doc__ = Good.__doc__

    def grad(self, g: torch.Tensor, w: torch.Tensor, job: Job) -> torch.Tensor:
        return g if g.norm() < 1e9 else g * 0.5 + self.rho * w


class ValueBranchAtTheEnd(Good):
    __doc__ = Good.__doc__

    def finish(self, w: torch.Tensor, job: Job) -> Any:
        delta = w - job.sent["w"]
        return {"delta": delta if bool(delta.abs().max() < 1e9) else delta * 0}, job.memory


class BatchOfOne(Good):
    __doc__ = Good.__doc__

    def grad(self, g: torch.Tensor, w: torch.Tensor, job: Job) -> torch.Tensor:
        return g / (1 + job.step.item()) + self.rho * (w - job.sent["w"])


class WaitsForTheLost(Good):
    __doc__ = Good.__doc__

    def select(self, state: State, fleet: Fleet) -> list[int]:
        return [] if fleet.flying or state.got else fleet.draw(fleet.free)

    def receive(self, state: State, update: Update, fleet: Fleet) -> Step[State]:
        state.acc.add_(update.delta)
        if state.got + 1 < fleet.capacity:
            return Step(State(state.w, state.acc, state.got + 1))
        w = state.w.add(state.acc, alpha=self.lr / fleet.capacity)
        return Step(State(w, state.acc.zero_(), 0), advanced=True)


class Drifts(Good):
    __doc__ = Good.__doc__

    def receive(self, state: State, update: Update, fleet: Fleet) -> Step[State]:
        step = super().receive(state, update, fleet)
        return Step(State(step.state.w * 0.99, state.acc, step.state.got), step.advanced)


class KeepsNan(Good):
    __doc__ = Good.__doc__

    def lost(self, state: State, lost: Any, fleet: Fleet) -> Step[State]:
        return Step(State(state.w * float("nan") if lost.reason == "not-finite" else state.w, state.acc, state.got))


class Unbounded(Good):
    __doc__ = Good.__doc__
    lr: float = Field(1.0, description="no bound")
    rho: float = Field(0.1, ge=0)


class Lenient(Good):
    model_config = ConfigDict(extra="ignore", frozen=False)
    __doc__ = Good.__doc__


class Undocumented(Good):
    """Short."""


class Crashes(Good):
    __doc__ = Good.__doc__

    def receive(self, state: State, update: Update, fleet: Fleet) -> Step[State]:
        raise ZeroDivisionError("on purpose")


class FailsAtTwo(Good):
    __doc__ = Good.__doc__
    part: int = Field(1, ge=0, le=3, description="divides")

    def receive(self, state: State, update: Update, fleet: Fleet) -> Step[State]:
        step = super().receive(state, update, fleet)
        return Step(step.state, step.advanced, weight=1 / (self.part - 2))


SMALL = Scene(clients=12, arrivals=24)
NOISE = {"repeatable", "state-is-data", "progress", "zero-update", "interrupt", "non-finite"}
ALONGSIDE: dict[type[Good], set[str]] = {
    MovesWhatWasSent: {"state-is-data"},
    MovesWhatWasSentUnseen: {"state-is-data"},
    TorchNoise: NOISE,
    Undeclared: {"non-finite"},
    StartsFlying: NOISE,
    StartsTooMany: NOISE,
    RecallsTheIdle: NOISE,
}
"""What may fail with it: a run that ends in an error has nothing else to show."""

FAULTS: list[tuple[type[Good], set[str]]] = [
    (DetachedProx, {"hyper-parameters-matter"}),
    (UnusedMaximum, {"hyper-parameters-matter"}),
    (MovesWhatWasSent, {"no-mutation"}),
    (MovesWhatWasSentUnseen, {"no-mutation"}),
    (SpoilsTheUpload, {"no-mutation"}),
    (MutatesInClient, {"no-mutation"}),
    (TorchNoise, {"no-global-rng", "repeatable"}),
    (NumpyDraw, {"no-global-rng"}),
    (PythonDraw, {"no-global-rng"}),
    (StartsFlying, {"select"}),
    (StartsTooMany, {"select"}),
    (RecallsTheIdle, {"recall"}),
    (Undeclared, {"uploads", "runs"}),
    (StateWithObject, {"state-is-data"}),
    (RemembersInItself, {"repeatable", "state-is-data"}),
    (ValueBranch, {"stacked-equals-single"}),
    (ValueBranchAtTheEnd, {"stacked-equals-single"}),
    (BatchOfOne, {"stacked-equals-single"}),
    (WaitsForTheLost, {"progress"}),
    (Drifts, {"zero-update"}),
    (KeepsNan, {"non-finite"}),
    (Unbounded, {"config-schema"}),
    (Lenient, {"config-schema", "constructs"}),
    (Undocumented, {"docstring"}),
    (Crashes, {"runs"}),
    (FailsAtTwo, {"hyper-parameters-matter"}),
]


@pytest.mark.parametrize(("cls", "names"), FAULTS, ids=lambda v: getattr(v, "__name__", ""))
def test_a_planted_fault_is_named(cls: type[Good], names: set[str]) -> None:
    skip = {"hyper-parameters-matter"} - names  # the dear one, where it has nothing to say
    found = {c.name: c.run() for c in checks_of(cls, scenes=[SMALL]) if c.name not in skip}
    wrong = {name: r.detail for name, r in found.items() if r.status == "failed"}
    assert names <= set(wrong) <= names | ALONGSIDE.get(cls, set()), wrong


def test_a_single_client_that_is_not_left_alone() -> None:
    assert one(Good, "single-client").status == "skipped"
    assert one(Good, "single-client", claims=["single-client"]).status == "failed"  # a version takes two uploads


def test_an_expected_failure_needs_its_reason_to_hold() -> None:
    result = one(Undocumented, "docstring", expected_failures={"docstring": "a sketch"})
    assert (result.status, result.detail[:8]) == ("expected", "a sketch")
    result = one(Good, "runs", expected_failures={"runs": "was slow"})
    assert result.status == "failed"
    assert "passes, although it was expected to fail: was slow" in result.detail
    with pytest.raises(UserError, match="unknown check 'rums'"):
        checks_of(Good, expected_failures={"rums": "typing"})


class Says(Undocumented):
    """Short."""

    conformance: ClassVar = {"expected_failures": {"docstring": "a sketch"}}


class SaysNothing(Says):
    """Short."""


def test_a_class_says_itself_what_may_fail_and_not_for_others() -> None:
    assert one(Says, "docstring").status == "expected"
    assert one(SaysNothing, "docstring").status == "failed"


def test_the_pytest_form_has_a_case_per_check() -> None:
    made: Any = parametrize_checks([Good, Good(lr=0.5)])
    (mark,) = made.pytestmark
    cases: list[Check] = mark.args[1]
    assert len(cases) == 36
    assert mark.kwargs["ids"][0] == "Good-config-schema"
    case = next(c for c in cases if c.name == "docstring")
    made(case)
    bad = next(c for c in parametrize_checks([Undocumented]).pytestmark[0].args[1] if c.name == "docstring")  # type: ignore[attr-defined]
    with pytest.raises(AssertionError, match="Undocumented-docstring"):
        bad()


def test_what_is_no_plug_in_is_said() -> None:
    with pytest.raises(UserError, match="State is no plug-in"):
        check_algorithm(State)


def test_parameters_inside_parameters_are_looked_at() -> None:
    class Part(BaseModel):
        model_config = ConfigDict(frozen=True, extra="forbid")
        depth: int = Field(1, description="no bound")

    class Nested(Good):
        __doc__ = Good.__doc__
        part: Part = Field(default_factory=Part, description="a part")

    assert "part.depth has no bound" in one(Nested, "config-schema").detail
    assert "no change of part changes" in one(Nested, "hyper-parameters-matter").detail
