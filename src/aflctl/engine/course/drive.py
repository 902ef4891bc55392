"""Lets events happen until a stop is reached, and evaluates in between."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from aflctl.engine.course import personal
from aflctl.engine.course.examiner import Examiner
from aflctl.engine.parts import accept
from aflctl.errors import Diverged, Stalled
from aflctl.runs.records import MetricRow
from aflctl.train.memory import shelve

if TYPE_CHECKING:
    from aflctl.engine.course.keep import Keeper
    from aflctl.engine.parts.build import Experiment
    from aflctl.train.evaluate import Score

NS = 1_000_000_000


class Progress(NamedTuple):
    """Told after each evaluation: how far the run is, and how good."""

    share: float
    row: MetricRow
    staleness_mean: float


class Driver:
    """One run from time 0 to its stop. `record` gets a row per evaluation."""

    def __init__(
        self, experiment: Experiment, record: Callable[[MetricRow], None], progress: Callable[[Progress], None] | None
    ) -> None:
        self.x, self.record, self.progress = experiment, record, progress
        self.stop, self.every = experiment.plan.config.stop, experiment.plan.config.evaluate.every
        self.rows: list[MetricRow] = []
        self.personal = personal.measured(experiment)
        self._next_ns = 0 if self.every.time_s is None else round(self.every.time_s * NS)
        self._mark = 0
        self.examiner = Examiner(experiment, personal=self.personal)
        self.keeper: Keeper | None = None
        self.shelves: Path | None = None

    def save(self) -> dict[str, Any]:
        """What a checkpoint stores; every score is known by then."""
        self.examiner.settle()
        return {"rows": self.rows, "next_ns": self._next_ns, "mark": self._mark}

    def load(self, saved: Mapping[str, Any]) -> None:
        """As `save` said."""
        self.rows, self._next_ns, self._mark = list(saved["rows"]), saved["next_ns"], saved["mark"]

    @property
    def extra(self) -> tuple[str, ...]:
        """Names of the metrics beyond the fixed columns."""
        return personal.COLUMNS if self.personal else ()

    def run(self) -> str:
        """Until the first stop is reached; returns which. After `load`, goes on from there."""
        try:
            return self._run()
        finally:  # a run that fails keeps the score of its last evaluation as well
            self.examiner.settle()
            self.examiner.close()

    def _run(self) -> str:
        loop = self.x.loop
        if not self.rows:
            loop.begin()
            self.evaluate(0)
        ended = self._reached() or ("accuracy" if self._good_enough() else None)
        if self.shelves is not None:
            shelve(loop.state, self.shelves)
        if ended is not None and loop.events:  # stopped between the last event and the end of the run
            return self._end(ended, loop.now)
        limit = None if self.stop.time_s is None else round(self.stop.time_s * NS)
        while True:
            self.examiner.look()
            if self.keeper is not None:
                self.keeper.between(loop.used)
            at = loop.peek()
            if self.every.time_s is not None and self._evaluate_until(at if at is not None else loop.now, limit):
                return self._end("accuracy", loop.now)
            if at is None:
                raise Stalled(
                    f"after {loop.used} updates, at {loop.now / NS:.3f} s: nobody flies and nobody can be started",
                    hint="see fleet.availability, or the method's select; what was recorded is kept",
                )
            if limit is not None and at > limit:
                return self._end("time_s", limit)
            loop.step()
            reached = self._reached()
            if self._due():
                self.evaluate(loop.now)
                if self._good_enough():
                    reached = reached or "accuracy"
            if reached is not None:
                return self._end(reached, loop.now)

    def evaluate(self, now: int) -> None:
        """Scores the global model (and, where clients have their own, theirs) and records a row."""
        x, loop, books = self.x, self.x.loop, self.x.books
        w = accept.params(x.algorithm, loop.state, x.task.size)
        if not bool(torch.isfinite(w).all()):
            raise Diverged(
                f"the global model is not finite after {loop.used} updates ({now / NS:.3f} s)",
                hint="lower local.lr or the server's rate, or set local.clip_norm",
            )
        extra = personal.columns(personal.test(x)) if self.personal else {}
        t = books.totals
        row = MetricRow(
            loop.used, loop.advances, now / NS, t.samples, t.bytes_down, t.bytes_up, t.energy_j, t.wasted_j, None, None,
            extra=extra,
        )  # fmt: skip
        share, histogram = self._share(), books.histogram
        mean = sum(tau * n for (_, tau), n in histogram.items()) / max(1, sum(histogram.values()))

        def scored(score: Score) -> None:
            loss = score.loss if isfinite(score.loss) else None
            full = replace(row, accuracy=score.accuracy, loss=loss, macro_f1=score.macro_f1)
            self.rows.append(full)
            self.record(full)
            if self.progress is not None:
                self.progress(Progress(share, full, mean))

        self.examiner.begin(w, scored)

    def _end(self, reason: str, now: int) -> str:
        """The state that a longer run can begin from is kept; then the last evaluation."""
        if self.keeper is not None:
            self.keeper.last()
        self.examiner.settle()
        if self.rows[-1].update != self.x.loop.used or self.rows[-1].version != self.x.loop.advances:
            self.evaluate(now)
            self.examiner.settle()
        return reason

    def _good_enough(self) -> bool:
        """Whether the last evaluation reached the accuracy that ends the run."""
        return self.stop.accuracy is not None and (self.rows[-1].accuracy or 0) >= self.stop.accuracy

    def _evaluate_until(self, at: int, limit: int | None) -> bool:
        """Evaluates at every due moment before `at`, and says whether one was good enough to end the run."""
        assert self.every.time_s is not None
        step = round(self.every.time_s * NS)
        while self._next_ns < at and (limit is None or self._next_ns <= limit):
            self.evaluate(self._next_ns)
            self._next_ns += step
            if self._good_enough():
                return True
        return False

    def _reached(self) -> str | None:
        loop, stop = self.x.loop, self.stop
        if stop.updates is not None and loop.used >= stop.updates:
            return "updates"
        if stop.versions is not None and loop.advances >= stop.versions:
            return "versions"
        return None

    def _due(self) -> bool:
        loop, every = self.x.loop, self.every
        step, count = (every.updates, loop.used) if every.updates is not None else (every.versions, loop.advances)
        if step is None or count // step == self._mark:
            return False
        self._mark = count // step
        return True

    def _share(self) -> float:
        loop, stop = self.x.loop, self.stop
        shares = [0.0]
        if stop.updates:
            shares.append(loop.used / stop.updates)
        if stop.versions:
            shares.append(loop.advances / stop.versions)
        if stop.time_s:
            shares.append(loop.now / NS / stop.time_s)
        return min(1.0, max(shares))
