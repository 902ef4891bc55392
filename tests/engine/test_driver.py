"""When a run ends and when it is evaluated."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from tiny import experiment, plan_of

from aflctl.api import Fleet, Step, Update
from aflctl.builtin.algorithms.fedasync import FedAsync
from aflctl.builtin.algorithms.fedbuff import FedBuff
from aflctl.engine.course.drive import Driver, Progress
from aflctl.errors import Diverged, Stalled
from aflctl.train.evaluate import evaluate

FAST = {"model": {"name": "logistic"}, "local": {"batch_size": 128, "lr": 0.05}}


def drive(algorithm: Any = "fedbuff", progress: list[Progress] | None = None, **sections: Any) -> tuple[str, Driver]:
    plan = plan_of(algorithm if isinstance(algorithm, (str, dict)) else "fedbuff", {**FAST, **sections})
    if not isinstance(algorithm, (str, dict)):
        plan = replace(plan, algorithm=algorithm)
    x, _, _ = experiment(plan)
    recorded: list[Any] = []
    driver = Driver(x, recorded.append, None if progress is None else progress.append)
    reason = driver.run()
    assert recorded == driver.rows
    return reason, driver


def test_stop_on_updates() -> None:
    reason, driver = drive(stop={"updates": 7})
    assert (reason, driver.x.loop.used) == ("updates", 7)


def test_stop_on_versions() -> None:
    reason, driver = drive({"name": "fedbuff", "buffer_size": 3}, stop={"versions": 2, "updates": 100})
    assert (reason, driver.x.loop.advances, driver.x.loop.used) == ("versions", 2, 6)


def test_stop_on_virtual_time_leaves_later_events_alone() -> None:
    reason, driver = drive(stop={"time_s": 20.0})
    x = driver.x
    assert reason == "time_s"
    assert x.loop.now / 1e9 <= 20.0
    assert (x.loop.peek() or 0) / 1e9 > 20.0
    assert driver.rows[-1].virtual_s == 20.0


@pytest.mark.parametrize("every", [{"updates": 2}, {"versions": 1}, {"time_s": 0.5}])
def test_stop_on_accuracy_whatever_the_evaluations_follow(every: Any) -> None:
    reason, driver = drive(
        {"name": "fedbuff", "buffer_size": 2}, stop={"updates": 400, "accuracy": 0.5}, evaluate={"every": every}
    )
    assert reason == "accuracy"
    assert (driver.rows[-1].accuracy or 0) >= 0.5
    assert all((row.accuracy or 0) < 0.5 for row in driver.rows[:-1])
    assert driver.x.loop.used < 400


def test_the_first_stop_that_is_reached_counts() -> None:
    assert drive(stop={"updates": 3, "time_s": 1e6, "versions": 50})[0] == "updates"
    assert drive(stop={"updates": 3000, "time_s": 1.0})[0] == "time_s"


def test_evaluate_every_so_many_updates() -> None:
    # at 0, 3, 6, 9 and at the end
    _, driver = drive(stop={"updates": 10}, evaluate={"every": {"updates": 3}})
    assert [row.update for row in driver.rows] == [0, 3, 6, 9, 10]


def test_evaluate_every_so_many_versions() -> None:
    _, driver = drive({"name": "fedbuff", "buffer_size": 2}, stop={"updates": 11}, evaluate={"every": {"versions": 2}})
    assert [row.version for row in driver.rows] == [0, 2, 4, 5]
    assert [row.update for row in driver.rows] == [0, 4, 8, 11]


def test_evaluate_every_so_many_virtual_seconds() -> None:
    # at 0 and at every multiple of 0.5 s, with the model of that moment: events at that very moment included
    _, driver = drive("fedasync", stop={"time_s": 3.0}, evaluate={"every": {"time_s": 0.5}})
    assert [row.virtual_s for row in driver.rows] == [0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0]
    made = driver.x.loop.made[""]
    assert [row.version for row in driver.rows] == [sum(t <= row.virtual_s * 1e9 for t in made) for row in driver.rows]


def test_how_often_it_is_evaluated_changes_no_result() -> None:
    _, often = drive("fedasync", stop={"updates": 12}, evaluate={"every": {"updates": 1}})
    _, seldom = drive("fedasync", stop={"updates": 12}, evaluate={"every": {"updates": 50}})
    assert often.x.loop.state.w.tolist() == seldom.x.loop.state.w.tolist()
    assert often.rows[-1] == seldom.rows[-1]
    assert (len(often.rows), len(seldom.rows)) == (13, 2)


def test_progress_is_told_of_each_evaluation() -> None:
    told: list[Progress] = []
    drive(progress=told, stop={"updates": 10}, evaluate={"every": {"updates": 5}})
    assert [round(p.share, 3) for p in told] == [0.0, 0.5, 1.0]
    assert [p.row.update for p in told] == [0, 5, 10]


def test_cumulated_columns_are_those_of_the_books() -> None:
    _, driver = drive(stop={"updates": 8})
    last, totals = driver.rows[-1], driver.x.books.totals
    assert (last.samples, last.bytes_down, last.bytes_up) == (totals.samples, totals.bytes_down, totals.bytes_up)
    assert (last.energy_j, last.wasted_j) == (totals.energy_j, totals.wasted_j)


class Shy(FedAsync):
    """Starts nobody after its first update."""

    def select(self, state: Any, fleet: Fleet) -> Any:
        return super().select(state, fleet) if fleet.now == 0 else []


@pytest.mark.parametrize("stop", [{"updates": 50}, {"updates": 50, "time_s": 1e6}, {"time_s": 1e6}])
def test_nobody_left_to_do_anything_is_an_error_not_a_result(stop: Any) -> None:
    # rule 9: no silent stall, a limit on virtual time notwithstanding
    with pytest.raises(Stalled, match=r"after \d updates, at .* s: nobody flies and nobody can be started"):
        drive(Shy(), stop=stop)


def test_a_stall_after_the_end_of_virtual_time_is_none() -> None:
    assert drive(Shy(), stop={"time_s": 0.01})[0] == "time_s"


class Exploding(FedBuff):
    """Breaks the model at its second version."""

    def receive(self, state: Any, update: Update, fleet: Fleet) -> Step[Any]:
        step = super().receive(state, update, fleet)
        return replace(step, state=replace(step.state, w=step.state.w * float("nan"))) if fleet.version else step


def test_a_model_that_is_not_finite_is_an_error() -> None:
    with pytest.raises(Diverged, match="not finite"):
        drive(Exploding(buffer_size=2), stop={"updates": 20}, evaluate={"every": {"updates": 1}})


def test_personal_accuracy_is_a_column_where_clients_have_models_of_their_own() -> None:
    _, driver = drive("local-only", stop={"updates": 6}, evaluate={"every": {"updates": 3}})
    assert driver.extra == ("personal_accuracy", "personal_weighted", "personal_std", "personal_worst")
    shares = [row.extra["personal_accuracy"] for row in driver.rows]
    x = driver.x
    samples = [x.data.local_test(client) for client in range(len(x.data.samples))]  # a quarter of each client's own
    alone = [evaluate(x.task, x.feed, x.task.init, s, 64).accuracy for s in samples if s is not None and len(s)]
    assert shares[0] == pytest.approx(sum(alone) / len(alone))  # nobody has trained yet: all have the initial model
    assert shares[-1] > driver.rows[-1].accuracy  # the global model stays what it was
    assert torch.equal(driver.x.loop.state.w, driver.x.task.init)
    _, plain = drive("fedasync", stop={"updates": 2})
    assert plain.extra == ()
