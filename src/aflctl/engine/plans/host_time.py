"""How long a run would take on this machine: a few of its own tasks are trained here, and their cost is multiplied.

    time = training + server + evaluation,
           where evaluation goes on beside the rest on a core of its own: max(training + server, evaluation)

training    seconds per step of the executor that would be picked, measured on the run's first tasks, times the planned
            steps; for `stacked` in stacks of as many jobs as the plan says that share one on average (a step of a
            stack costs a + b * rows, so only the mean matters)
server      seconds per task of the loop and the method's hooks with vectors of the real size and a row each, as the
            plan's trial found
evaluation  one evaluation, measured, times their number
"""

from __future__ import annotations

import time
from dataclasses import replace
from math import sqrt
from typing import TYPE_CHECKING, Any

from aflctl.engine.course import personal
from aflctl.engine.course.examiner import Examiner
from aflctl.engine.parts.executors import choose, cores
from aflctl.engine.parts.stacks import Stacks
from aflctl.sim.streams import generator, key
from aflctl.train.evaluate import Member, evaluate, evaluate_clients
from aflctl.train.jobs import Kit
from aflctl.train.memory import ClientMemory
from aflctl.train.pool import Pool

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from aflctl.engine.plans.planning import Course
    from aflctl.engine.plans.rehearsal import Rehearsal, Scene
    from aflctl.plan import Plan

BUDGET_S = 1.5
TESTED = 32
NS = 1_000_000_000


class Company(Stacks):
    """The executor that the run would use, and which jobs would share a stack."""

    def __init__(self, plan: Plan, scene: Scene) -> None:
        config = plan.config
        self.kit = Kit(scene.algorithm, scene.task, scene.feed, config.local)
        self.executor, self.picked = choose(
            config.engine, plan.model, self.kit, scene.flops, scene.setup.concurrency, scene.height
        )
        super().__init__(self.picked.get("rows", 1))


def estimate(scene: Scene, rehearsal: Rehearsal, course: Course, company: Company) -> dict[str, Any]:
    """Host seconds of the run, by part, and what was measured for them."""
    tasks, steps = rehearsal.books.totals.sent, rehearsal.trainer.steps
    bench = _Bench(scene, company)
    try:
        measured: dict[str, float] = {}
        if not bench.jobs:
            training = 0.0
        elif company.picked["name"] == "stacked":
            training, measured = bench.stacked()
            training *= steps / max(1, company.steps + company.alone)
        else:
            per_step = bench.per_step()
            training, measured = steps * per_step, {"ms_per_step": 1e3 * per_step}
    finally:
        company.executor.close()
    once, times = _evaluation(scene), _evaluations(scene, rehearsal, course)
    parts = {
        "training_s": training,
        "server_s": tasks * scene.task_s,
        "evaluation_s": once * times,
    }
    return {
        "run_s": _round(_together(scene, company, parts, once)),
        **{name: _round(value) for name, value in parts.items()},
        "executor": company.picked,
        "steps": steps,
        "evaluations": times,
        "measured": {name: _round(value) for name, value in {**measured, "ms_per_evaluation": 1e3 * once}.items()},
    }


def _together(scene: Scene, company: Company, parts: Mapping[str, float], once: float) -> float:
    """Seconds of all parts, as far as they go on one after the other; `once` = of the last evaluation, waited for."""
    evaluation = parts["evaluation_s"]
    rest = sum(parts.values()) - evaluation
    if not Examiner.goes_aside(scene.plan.config.stop, personal.measured(scene), scene.feed.device):
        return rest + evaluation
    if company.picked.get("workers", 1) >= cores():
        return rest + evaluation / cores()
    return max(rest, evaluation) + once


class _Bench:
    """Trains some of a run's first tasks with the executor that the run would use."""

    def __init__(self, scene: Scene, company: Company) -> None:
        seed, setup = scene.plan.seeds["training"], scene.setup
        self.company, self.jobs, self.count = company, scene.sample, 0
        self.pool = Pool(
            company.kit, scene.data, setup, company.executor, ClientMemory(scene.algorithm.memory(setup)),
            lambda client, nth: generator(key(seed, "batches", client, nth)),
            lambda client, nth: key(seed, "dropout", client, nth),
        )  # fmt: skip

    def per_step(self) -> float:
        """Seconds per step, one job after the other or on all workers."""
        width = self.company.picked.get("workers", 1)
        rough, _, _ = self._train(1, 2)
        rough, steps, _ = self._train(1, 3)
        limit = max(5, int(BUDGET_S / 2 / max(rough / steps, 1e-6)))
        spent, done, until = 0.0, 0, time.perf_counter() + BUDGET_S
        while spent == 0.0 or time.perf_counter() < until:
            s, n, _ = self._train(2 * width if width > 1 else 1, limit)
            spent, done = spent + s, done + n
        return spent / done

    def stacked(self) -> tuple[float, dict[str, float]]:
        """(seconds of all training, what was measured)."""
        company = self.company
        self._train(2, 1)
        seconds, measured = 0.0, dict[str, float]()
        if company.alone:
            spent, steps, _ = self._repeat(1)
            seconds, measured["ms_per_step_alone"] = company.alone * spent / steps, 1e3 * spent / steps
        if company.stacks:
            height = max(2, round(company.jobs / company.stacks))
            spent, steps, longest = self._repeat(height)
            # by steps of stacks and by steps of jobs: they differ as far as the measured stacks are no average ones
            seconds += sqrt(company.longest * spent / longest * company.steps * spent / steps)
            measured |= {"ms_per_stack_step": 1e3 * spent / longest, "jobs_per_stack": height}
        return seconds, measured

    def _repeat(self, height: int) -> tuple[float, int, int]:
        """(seconds, steps, steps of the longest) of stacks of this height, for half of the budget."""
        sums, until = [0.0, 0, 0], time.perf_counter() + BUDGET_S / 2
        while not sums[1] or time.perf_counter() < until:
            sums = [a + b for a, b in zip(sums, self._train(height, 1 << 30))]
        return sums[0], int(sums[1]), int(sums[2])

    def _train(self, many: int, limit: int) -> tuple[float, int, int]:
        """(seconds, steps, steps of the longest) of so many jobs, each cut to `limit` steps."""
        pool, began, counts = self.pool, time.perf_counter(), []
        ids = range(self.count, self.count + many)
        for task in ids:
            job = self.jobs[task % len(self.jobs)]
            order = job.order if job.steps <= limit else replace(job.order, steps=limit, epochs=None)
            load = pool.submit(task, job.client, task, replace(order, patience=None), job.version)
            counts.append(load.steps)
        for task in ids:
            pool.launch(task, task)
        for task in ids:
            pool.collect(task)
            pool.kept.pop(task, None)
        self.count += many
        return time.perf_counter() - began, sum(counts), max(counts)


def _evaluation(scene: Scene) -> float:
    """Seconds of one evaluation: of the global model, and of the clients where they are tested, too."""
    w, size, test = scene.task.init, scene.plan.config.evaluate.batch_size, scene.data.test()

    def clocked(work: Callable[[], object]) -> float:
        began = time.perf_counter()
        work()
        return time.perf_counter() - began

    evaluate(scene.task, scene.feed, w, test, min(size, 64))  # what comes first is slow once
    seconds = clocked(lambda: evaluate(scene.task, scene.feed, w, test, size))
    if personal.measured(scene):
        clients = personal.chosen(scene)
        some = clients[:: max(1, len(clients) // TESTED)]
        local = [(c, scene.data.local_test(c)) for c in some]
        rows = [Member(c, w, test if of is None else of, scene.task.buffers) for c, of in local]
        rows = [row for row in rows if len(row.samples)]
        stacks = personal.stacked(scene)
        spent = clocked(lambda: evaluate_clients(scene.task, scene.feed, rows, size, stacks=stacks))
        seconds += spent * len(clients) / len(some)
    return seconds


def _evaluations(scene: Scene, rehearsal: Rehearsal, course: Course) -> int:
    every, loop = scene.plan.config.evaluate.every, rehearsal.loop
    if every.updates is not None:
        return 1 + -(-loop.used // every.updates)
    if every.versions is not None:
        return 1 + -(-loop.advances // every.versions)
    return 2 + int(course.end / NS / (every.time_s or 1.0))


def _round(value: float) -> float:
    return float(f"{value:.4g}")
