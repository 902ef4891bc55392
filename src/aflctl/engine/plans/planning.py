"""`aflctl plan`: what a run would do to its clients, its server and this machine, without training anything."""

from __future__ import annotations

import gc
import time
from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from aflctl import __version__
from aflctl.config.load import load
from aflctl.engine import runs_root
from aflctl.engine.checks import CHECKS
from aflctl.errors import HookFailed, Interrupted, InvariantBroken, Stalled
from aflctl.plan import resolve
from aflctl.runs import provenance

if TYPE_CHECKING:
    from aflctl.config.schema import Stop
    from aflctl.engine.parts.opened import Opened
    from aflctl.engine.plans.rehearsal import Rehearsal, Scene
    from aflctl.plan import Plan
    from aflctl.sim.loop import Loop

NS = 1_000_000_000
FOLDER = "plans"
TOLD_EVERY_S = 0.5


@dataclass(frozen=True)
class PlanResult:
    """Where a plan is stored, and what it says (plan.json)."""

    path: Path
    document: Mapping[str, Any]


class Step(NamedTuple):
    """Told twice a second: how far the plan is."""

    share: float
    updates: int
    versions: int
    virtual_s: float


class Course:
    """When updates arrived (ns); versions are in the loop."""

    def __init__(self) -> None:
        self.arrivals = array("q")
        self.reason = ""

    def run(self, loop: Loop, stop: Stop, told: Callable[[Step], None] | None) -> None:
        """From time 0 to the first stop, as a run does it; an accuracy is never reached."""
        updates, versions = stop.updates or 1 << 62, stop.versions or 1 << 62
        limit = None if stop.time_s is None else round(stop.time_s * NS)
        totals, arrivals, count, seen = loop.books.totals, self.arrivals, 0, 0
        peek, step = loop.peek, loop.step
        next_s = time.perf_counter() + TOLD_EVERY_S
        loop.begin()
        while True:
            at = peek()
            if limit is not None and (at is None or at > limit):
                self.reason, self.end = "time_s", limit
                return
            if at is None:
                raise Stalled(
                    f"after {loop.used} updates, at {loop.now / NS:.3f} s: nobody flies and nobody can be started",
                    hint="see fleet.availability, or the method's select",
                )
            step()
            got = totals.used + totals.rejected
            if got != seen:
                seen = got
                arrivals.append(at)
            if loop.used >= updates or loop.advances >= versions:
                self.reason, self.end = ("updates" if loop.used >= updates else "versions"), loop.now
                return
            count += 1
            if not count & 1023 and told is not None and time.perf_counter() > next_s:
                next_s = time.perf_counter() + TOLD_EVERY_S
                share = max(loop.used / updates, loop.advances / versions, at / limit if limit else 0.0)
                told(Step(min(1.0, share), loop.used, loop.advances, at / NS))


def plan(
    source: str | Path | Mapping[str, Any] | None = None,
    *,
    sets: Sequence[str] = (),
    flags: Mapping[str, Any] | None = None,
    runs_dir: str | Path | None = None,
    rows: bool = False,
    host: bool = True,
    progress: Callable[[Step], None] | None = None,
) -> PlanResult:
    """The schedule of a configuration (path, run directory, preset name, mapping; None = `quickstart`), not trained.

    `rows` keeps a row per task and per client as a run does; `host` measures how long the run would take here.
    """
    loaded = load(source, sets=sets, flags=flags or {}, checks=CHECKS)
    resolved = resolve(loaded)
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return _plan(resolved, loaded.base, runs_root(runs_dir), rows, host, progress)
    except KeyboardInterrupt:
        raise Interrupted("stopped; nothing was stored") from None
    finally:
        torch.set_num_threads(threads)


def _plan(
    plan: Plan, base: Path, root: Path, rows: bool, host: bool, progress: Callable[[Step], None] | None
) -> PlanResult:
    from aflctl.data import folder as data_folder
    from aflctl.engine.parts.build import federate
    from aflctl.engine.parts.travel import gather
    from aflctl.engine.plans.forecast import describe, store
    from aflctl.engine.plans.host_time import Company, estimate
    from aflctl.engine.plans.rehearsal import Scene

    started = time.perf_counter()
    data, luggage = federate(plan, data_folder()), gather(plan, base)
    prints = {
        "config": luggage.plan.digest,
        "code": provenance.code_fingerprint(__version__, plan.source_hashes),
        "data": data.fingerprint,
        "fleet": luggage.fleet,
    }
    identity = provenance.identity(*prints.values())
    path = root / FOLDER / f"{plan.label}-{identity[:8]}"
    scene = Scene.of(plan, data, base)
    company = Company(plan, scene) if host else None
    rehearsal, course, recorder = _rehearse(scene, path if rows else None, company, progress)
    broken = [
        n for n, held in rehearsal.books.invariants(rehearsal.loop.tickets, rehearsal.loop.versions).items() if not held
    ]
    if broken:
        raise InvariantBroken(f"the books do not balance: {', '.join(broken)}: {rehearsal.books.broken[:3]}")
    planned_s = time.perf_counter() - started
    document = {
        "schema": "aflctl.plan",
        "version": 1,
        "identity": identity,
        "fingerprints": prints,
        "name": path.name,
        "algorithm": plan.config.algorithm.name,
        "dataset": plan.config.dataset.name,
        "model_name": plan.config.model.name,
        "seed": plan.config.seed,
        **describe(scene, rehearsal, course),
        "host": {"plan_s": round(planned_s, 3), **(estimate(scene, rehearsal, course, company) if company else {})},
        "config": plan.config.model_dump(mode="json"),
    }
    store(path, document, scene, rehearsal, recorder)
    return PlanResult(path, document)


def host_seconds(plan: Plan, base: Path, opened: Opened | None = None) -> float:
    """How long a run would take on this machine; nothing is stored."""
    import torch

    from aflctl.data import folder as data_folder
    from aflctl.engine.parts.build import federate
    from aflctl.engine.plans.host_time import Company, estimate
    from aflctl.engine.plans.rehearsal import Scene

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        scene = Scene.of(plan, federate(plan, data_folder(), opened), base)
        company = Company(plan, scene)
        rehearsal, course, _ = _rehearse(scene, None, company, None)
        return float(estimate(scene, rehearsal, course, company)["run_s"])
    finally:
        torch.set_num_threads(threads)


def _rehearse(
    scene: Scene, folder: Path | None, company: Any, progress: Callable[[Step], None] | None
) -> tuple[Rehearsal, Course, Any]:
    """The whole schedule; begun anew with real vectors where the method asks for values later than the trial saw."""
    from aflctl.engine.plans.forecast import Rows
    from aflctl.engine.plans.rehearsal import told
    from aflctl.runs.records import Digest

    stop, why = scene.plan.config.stop, None
    while True:
        recorder = Rows(folder, scene.world) if folder is not None else None
        digest, emit = Digest(), recorder.entry if recorder is not None else None
        make = scene.rehearse if why is None else lambda *args, why=why: scene.again(why, *args)
        rehearsal, course = make(emit, digest, company), Course()
        collecting = gc.isenabled()
        gc.disable()  # a loop makes no cycles, and looking for them among a million objects takes a tenth of the time
        try:
            course.run(rehearsal.loop, stop, progress)
            rehearsal.books.close(
                rehearsal.loop.now, rehearsal.loop.tickets, rehearsal.loop.versions, rehearsal.loop.made
            )
            return rehearsal, course, recorder
        except HookFailed as error:
            if rehearsal.kind != "length 0":
                raise
            why = told(error)
            if company is not None:
                company.clear()
        finally:
            if collecting:
                gc.enable()
            if recorder is not None:
                recorder.close()
