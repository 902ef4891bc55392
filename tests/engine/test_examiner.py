"""Evaluation beside training: the same rows in the same order, and nothing is lost when a run ends badly."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any

import pytest
from tiny import experiment, plan_of

from aflctl.api import Fleet, Step, Update
from aflctl.builtin.algorithms.fedasync import FedAsync
from aflctl.engine.course import examiner
from aflctl.engine.course.drive import Driver
from aflctl.errors import HookFailed

PLAN: dict[str, Any] = {"stop": {"updates": 12}, "evaluate": {"every": {"updates": 1}}}


def driven(monkeypatch: Any, cores: int, executor: str = "serial", algorithm: Any = None, **more: Any) -> Driver:
    monkeypatch.setattr(examiner, "cores", lambda: cores)
    plan = plan_of("fedasync", {**PLAN, **more})
    x, _, _ = experiment(plan if algorithm is None else replace(plan, algorithm=algorithm), executor, 2)
    recorded: list[Any] = []
    driver = Driver(x, recorded.append, None)
    driver.recorded = recorded  # type: ignore[attr-defined]
    return driver


@pytest.mark.parametrize("executor", ["serial", "workers", "stacked"])
def test_rows_are_those_of_an_evaluation_that_everybody_waits_for(monkeypatch: Any, executor: str) -> None:
    rows = []
    for cores in (1, 2):
        driver = driven(monkeypatch, cores, executor)
        driver.run()
        driver.x.pool.executor.close()
        rows.append(driver.rows)
        assert driver.recorded == driver.rows  # type: ignore[attr-defined]
    assert rows[0] == rows[1]
    assert [r.update for r in rows[0]] == list(range(13))
    assert len({r.accuracy for r in rows[0]}) > 3


@pytest.mark.parametrize("more", [{"model": {"name": "resnet-small", "norm": "batch"}, "stop": {"updates": 3}}])
def test_running_statistics_are_those_of_the_moment(monkeypatch: Any, more: Any) -> None:
    rows = []
    for cores in (1, 2):
        driver = driven(monkeypatch, cores, **more)
        driver.run()
        rows.append(driver.rows)
    assert rows[0] == rows[1]
    assert len({r.loss for r in rows[0]}) == 4


def test_training_goes_on_while_a_score_is_made(monkeypatch: Any) -> None:
    # the second evaluation is held until a client has been heard after it: were it waited for, nothing would move
    begun, heard, score = threading.Event(), threading.Event(), examiner.evaluate
    count, received = [0], [0]

    def held(*given: Any) -> Any:
        count[0] += 1
        if count[0] == 2:
            begun.set()
            assert heard.wait(120)
        return score(*given)

    class Heard(FedAsync):
        def receive(self, state: Any, update: Update, fleet: Fleet) -> Step[Any]:
            received[0] += 1
            if received[0] == 2:  # after the second evaluation was asked for, whenever its thread gets to it
                assert begun.wait(120)
                heard.set()
            return super().receive(state, update, fleet)

    monkeypatch.setattr(examiner, "evaluate", held)
    driver = driven(monkeypatch, 2, algorithm=Heard())
    driver.run()
    assert [r.update for r in driver.rows] == list(range(13))


@pytest.mark.parametrize("more", [{"stop": {"updates": 12, "accuracy": 0.99}}, {"personalization": "fedper"}])
def test_it_is_waited_for_where_the_run_depends_on_it(monkeypatch: Any, more: Any) -> None:
    driver = driven(monkeypatch, 2, **more)
    assert driver.examiner._thread is None


def test_a_run_that_fails_keeps_its_last_score(monkeypatch: Any) -> None:
    class Fails(FedAsync):
        def receive(self, state: Any, update: Update, fleet: Fleet) -> Step[Any]:
            if fleet.version == 5:
                raise ZeroDivisionError
            return super().receive(state, update, fleet)

    driver = driven(monkeypatch, 2, algorithm=Fails())
    with pytest.raises(HookFailed, match=r"Fails.receive"):
        driver.run()
    assert [r.update for r in driver.recorded] == list(range(6))  # type: ignore[attr-defined]
    assert not [t for t in threading.enumerate() if t.name.startswith("examiner")]
