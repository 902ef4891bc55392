"""How long a run would take on this machine: a few of its own tasks are trained here, and their cost is multiplied.

    time = training + server + evaluation + records

training    seconds per step of the executor that would be picked, measured on the run's first tasks, times the planned
            steps; for `stacked` a step of a stack costs a + b * rows, and the plan says which jobs would share a stack
server      seconds per task of the loop and the method's hooks with vectors of the real size, as the plan's trial found
evaluation  one evaluation, measured, times their number
records     a row per task
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from aflctl.api import overrides
from aflctl.engine.executors import choose
from aflctl.engine.stacks import Stacks
from aflctl.sim.streams import generator, key
from aflctl.train.evaluate import evaluate
from aflctl.train.jobs import Kit
from aflctl.train.memory import ClientMemory
from aflctl.train.pool import Pool

if TYPE_CHECKING:
    from aflctl.engine.planning import Course
    from aflctl.engine.rehearsal import Rehearsal, Scene
    from aflctl.plan import Plan

BUDGET_S = 1.5
ROW_S = 45e-6
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
    once, times = _evaluation(scene, rehearsal), _evaluations(scene, rehearsal, course)
    parts = {
        "training_s": training,
        "server_s": tasks * scene.task_s,
        "evaluation_s": once * times,
        "records_s": tasks * ROW_S,
    }
    return {
        "run_s": _round(sum(parts.values())),
        **{name: _round(value) for name, value in parts.items()},
        "executor": company.picked,
        "steps": steps,
        "evaluations": times,
        "measured": {name: _round(value) for name, value in {**measured, "ms_per_evaluation": 1e3 * once}.items()},
    }


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
        """(seconds of all training, what was measured): a step of a stack costs a + b * rows."""
        company = self.company
        self._train(2, 1)
        alone = 0.0
        if company.alone:
            seconds, steps, _ = self._repeat(1)
            alone = seconds / steps
        if not company.longest:
            return company.alone * alone, {"ms_per_step": 1e3 * alone}
        high = max(2, min(company.rows, len(self.jobs), round(1.5 * company.height)))
        low = max(2, min(high - 1, round(0.5 * company.height)))
        (t1, n1, l1), (t2, n2, l2) = self._repeat(low), self._repeat(high)
        b = (t2 * l1 - t1 * l2) / (n2 * l1 - n1 * l2) if high > low and n2 * l1 != n1 * l2 else t2 / n2
        b = min(max(b, 0.0), t2 / n2)
        a = max(0.0, (t2 - b * n2) / l2)
        seconds = a * company.longest + b * company.steps + alone * company.alone
        return seconds, {"ms_per_stack_step": 1e3 * a, "ms_per_row": 1e3 * b, "jobs_per_stack": company.height}

    def _repeat(self, height: int) -> tuple[float, int, int]:
        """(seconds, steps, steps of the longest) of stacks of this height, for a third of the budget."""
        sums, until = [0.0, 0, 0], time.perf_counter() + BUDGET_S / 3
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


def _evaluation(scene: Scene, rehearsal: Rehearsal) -> float:
    """Seconds of one evaluation: of the global model, and of the clients' own where they have one."""
    w, size = scene.task.init, scene.plan.config.evaluate.batch_size
    test = scene.data.test()

    def once(samples: Any) -> float:
        evaluate(scene.task, scene.feed, w, samples, min(size, 64))
        began = time.perf_counter()
        evaluate(scene.task, scene.feed, w, samples, size)
        return time.perf_counter() - began

    seconds = once(test)
    if overrides(scene.algorithm, "personal"):
        client = next(iter(rehearsal.books.members), 0)
        seconds += 0.8 * len(rehearsal.books.members) * once(scene.data.local_test(client) or test)
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
