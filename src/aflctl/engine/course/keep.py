"""Checkpoints of a run: when they are taken, what is in them, how a run goes on from one."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from aflctl.errors import Interrupted
from aflctl.runs import checkpoint, records
from aflctl.sim import books, flights, world
from aflctl.sim.world import compute
from aflctl.train import jobs
from aflctl.train.memory import numbered, tables

if TYPE_CHECKING:
    from aflctl.config.schema import Checkpoint, Engine
    from aflctl.engine.course.drive import Driver
    from aflctl.engine.course.record import Recorder
    from aflctl.engine.parts.build import Experiment
    from aflctl.plan import Plan

FOLDER = "checkpoint"
EVERY_S = 60.0
LAST_BYTES = 256 << 20
COST_SHARE = 50
"""By default no checkpoint sooner than this many times the cost of the last one: under 2 % of a run."""


def types_of(plan: Plan) -> dict[str, type]:
    """Every type a checkpoint of this plan may name."""
    return checkpoint.state_types(
        plan.algorithm, plan.selection, *plan.personalization, books, compute, flights, world, jobs, records
    )


def snapshot(x: Experiment, driver: Driver, recorder: Recorder) -> dict[str, Any]:
    """All that the rest of the run depends on. Tables that are on disk are told by the numbers of their files."""
    return {
        "loop": x.loop.save(),
        "books": x.books.save(),
        "pool": x.pool.save(),
        "driver": driver.save(),
        "recorder": recorder.save(),
        "running": {"executor": x.executor["name"], **_engine(x.plan.config.engine)},
    }


def _engine(engine: Engine) -> dict[str, Any]:
    """What of `engine:` a state depends on."""
    return {"device": engine.device, "client_memory": engine.client_memory, "max_memory": engine.max_memory}


def unfit(saved: Mapping[str, Any], folder: Path, engine: Engine) -> str | None:
    """Why the run in `folder` cannot go on from a state that is whole itself; None where it can.

    Rows or memories that the state counts on may be missing, and an executor that rounds otherwise than the one before
    would give a result that neither of them gives.
    """
    running, wanted = saved["running"], _engine(engine)
    if engine.executor not in ("auto", running["executor"]) and "stacked" in (engine.executor, running["executor"]):
        return f"it was made by the executor {running['executor']}, not {engine.executor}"
    for name, value in wanted.items():
        stacked = name != "max_memory" or running["executor"] == "stacked"
        if stacked and running.get(name) != value:
            return f"it was made with engine.{name}: {running.get(name)}"
    for name in ("updates.csv", "metrics.csv"):
        file = folder / name
        if not file.is_file() or file.stat().st_size < saved["recorder"][name]:
            return f"{name} is shorter than at that time"
    if engine.client_memory == "disk":
        shelves = folder / FOLDER / "shelves"
        indices = {"clients": saved["pool"]["memory"]}
        indices.update({str(i): table.rows for i, table in enumerate(tables(saved["loop"]["state"]))})
        for shelf, index in indices.items():
            for number in index.values():
                if not isinstance(number, int) or not (shelves / shelf / f"{number}.safetensors").is_file():
                    return "a client's memory is missing"
    return None


def pinned(plan: Plan, saved: Mapping[str, Any] | None) -> Plan:
    """The plan with the executor of the state that it continues, where it may choose."""
    if saved is None or plan.config.engine.executor != "auto":
        return plan
    engine = plan.config.engine.model_copy(update={"executor": saved["running"]["executor"]})
    return replace(plan, config=plan.config.model_copy(update={"engine": engine}))


def restore(x: Experiment, driver: Driver, saved: dict[str, Any]) -> None:
    """Puts an experiment that was just built where a snapshot left it."""
    x.loop.load(saved["loop"])
    x.books.load(saved["books"])
    tickets = {t.id: t.at for t in x.loop.tickets.values()}
    x.pool.load(saved["pool"], lambda task: tickets.get(task, 0))
    driver.load(saved["driver"])


class Keeper:
    """Takes a checkpoint between two events when it is time, or when the process is asked to stop."""

    def __init__(
        self,
        folder: Path,
        every: Checkpoint | None,
        take: Callable[[], dict[str, Any]],
        state: Callable[[], Any] = lambda: None,
        size: Callable[[], int] = lambda: 0,
    ) -> None:
        self.folder, self.take, self.state, self.size = folder, take, state, size
        self.updates = every.every.updates if every else None
        self.host_s = (every.every.host_s if every else None) or EVERY_S
        self.forced = every is not None
        self.cost_s, self.taken, self.bytes, self.stopping = 0.0, 0, 0, False
        self._last_s, self._mark = time.monotonic(), 0

    def between(self, used: int) -> None:
        """Called between events, `used` updates having been used."""
        if self.stopping:
            self.keep()
            raise Interrupted("stopped; the state is saved", hint="the same command continues this run")
        if self.updates is not None:
            if used // self.updates != self._mark:
                self._mark = used // self.updates
                self.keep()
            return
        wait = self.host_s if self.forced else max(self.host_s, COST_SHARE * self.cost_s)
        if time.monotonic() - self._last_s >= wait:
            self.keep()

    def keep(self) -> None:
        """Takes one now."""
        start = time.monotonic()
        undo = numbered(self.state())
        try:
            self.bytes = checkpoint.save(self.folder, self.take())
        finally:
            undo()
        self._last_s = time.monotonic()
        self.cost_s, self.taken = self._last_s - start, self.taken + 1

    def last(self) -> None:
        """The state at the end, for a run with a larger stop; not where it would take more than LAST_BYTES."""
        if self.size() <= LAST_BYTES:
            self.keep()

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Ctrl-C and SIGTERM stop the run after the event under way; a second Ctrl-C stops it at once."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def asked(number: int, frame: FrameType | None) -> None:
            if self.stopping:
                raise KeyboardInterrupt
            self.stopping = True

        before = {number: signal.signal(number, asked) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
