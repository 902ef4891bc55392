"""The composition root: the one place where sim, train, runs and report meet."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aflctl import __version__
from aflctl.config.load import Loaded, load, to_yaml
from aflctl.engine.checks import CHECKS
from aflctl.errors import AflctlError, EnvironmentProblem, Interrupted
from aflctl.plan import Plan, config_digest, resolve
from aflctl.runs import provenance
from aflctl.runs.atomic import disk
from aflctl.runs.rundir import RunDir, read_json, runs_root
from aflctl.runs.signals import terminable

if TYPE_CHECKING:
    from aflctl.engine.course.drive import Progress
    from aflctl.engine.course.tracking import Trackers
    from aflctl.engine.parts.build import Experiment
    from aflctl.engine.parts.opened import Opened


@dataclass(frozen=True)
class RunResult:
    """Where a run's directory is, what it says, and whether anything was executed."""

    path: Path
    summary: Mapping[str, Any]
    fresh: bool
    note: str = ""


def run(
    source: str | Path | Mapping[str, Any] | None = None,
    *,
    sets: Sequence[str] = (),
    flags: Mapping[str, Any] | None = None,
    runs_dir: str | Path | None = None,
    rerun: bool = False,
    progress: Callable[[Progress], None] | None = None,
    begun: Callable[[Path, str], None] | None = None,
) -> RunResult:
    """Runs a configuration (path, run directory, preset name, mapping; None = `quickstart`) or shows its finished run.

    `begun` is told the run's directory and a note before training starts, `progress` each evaluation.
    """
    try:
        os.getcwd()
    except OSError as error:  # in such a place torch's libraries end the process
        raise EnvironmentProblem("the working folder does not exist any more", hint="cd to another one") from error
    loaded = load(source, sets=sets, flags=flags or {}, checks=CHECKS)
    return run_loaded(loaded, runs_dir=runs_dir, rerun=rerun, progress=progress, begun=begun)


def run_loaded(
    loaded: Loaded,
    *,
    runs_dir: str | Path | None = None,
    rerun: bool = False,
    progress: Callable[[Progress], None] | None = None,
    begun: Callable[[Path, str], None] | None = None,
    opened: Opened | None = None,
) -> RunResult:
    """As `run`, of a configuration that is loaded already; `opened` keeps datasets open from run to run."""
    plan = resolve(loaded)
    from aflctl.train.allocator import keep_freed_memory

    keep_freed_memory()
    try:
        with terminable(), _surroundings():
            return _run(loaded, plan, runs_root(runs_dir), rerun, progress, begun, opened)
    except KeyboardInterrupt:
        raise Interrupted(
            "stopped at once", hint="the same command continues this run from its last checkpoint"
        ) from None


@contextmanager
def _surroundings() -> Iterator[None]:
    """One thread, since their number changes the last bits of an operation; the working folder is that of before."""
    import torch

    threads, folder = torch.get_num_threads(), os.path.realpath(".")
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        if os.path.realpath(".") != folder:  # a plug-in went elsewhere
            os.chdir(folder)


def _run(
    loaded: Loaded,
    plan: Plan,
    root: Path,
    rerun: bool,
    progress: Callable[[Progress], None] | None,
    begun: Callable[[Path, str], None] | None,
    opened: Opened | None,
) -> RunResult:
    from aflctl.data import folder as data_folder
    from aflctl.engine.course.inherit import shorter
    from aflctl.engine.course.keep import types_of
    from aflctl.engine.course.tracking import Trackers
    from aflctl.engine.parts.build import federate
    from aflctl.engine.parts.travel import gather

    started = time.perf_counter()
    trackers = Trackers(plan.config.track, loaded.base)
    luggage = gather(plan, loaded.base)
    plan = luggage.plan
    data = federate(plan, data_folder(), opened)
    prints = fingerprints(plan, data, luggage.fleet)
    identity = provenance.identity(*prints.values())
    prints["trunk"] = config_digest(plan.config, "stop")
    with RunDir.open(root.absolute(), plan.label, identity, rerun=rerun) as rundir:
        shown = root / rundir.name
        if rundir.finished:
            summary = read_json(rundir.file("summary.json")) or {}
            return RunResult(shown, summary, False, "finished before: nothing was run (--rerun runs it again)")
        note, saved = "", None
        if rundir.interrupted:
            saved, note = _left(plan, rundir)
            if saved is None:
                rundir.clear()
        elif not rerun and (found := shorter(rundir.path, prints, plan, types_of(plan))) is not None:
            saved, note = found
        with disk(rundir.path):
            rundir.file("exit.json").unlink(missing_ok=True)
        rundir.write_text("config.yaml", to_yaml(plan.config))
        luggage.unpack(rundir.path)
        rundir.log(f"{provenance.now()}  begun by aflctl {__version__}" + (f"; {note}" if note else ""))
        loaded_s = time.perf_counter() - started

        def built() -> None:
            if begun is not None:
                begun(shown, note)

        _execute(loaded, plan, data, rundir, prints, identity, built, progress, loaded_s, saved, trackers)
        return RunResult(shown, read_json(rundir.file("summary.json")) or {}, True, note)


def fingerprints(plan: Plan, data: Any, fleet: str) -> dict[str, str]:
    """What the identity of a run is made from."""
    return {
        "config": plan.digest,
        "code": provenance.code_fingerprint(__version__, plan.source_hashes),
        "data": data.fingerprint,
        "fleet": fleet,
    }


def _execute(
    loaded: Loaded,
    plan: Plan,
    data: Any,
    rundir: RunDir,
    prints: Mapping[str, str],
    identity: str,
    built: Callable[[], None],
    progress: Callable[[Progress], None] | None,
    loaded_s: float,
    saved: dict[str, Any] | None,
    trackers: Trackers,
) -> None:
    from aflctl.engine.course import personal
    from aflctl.engine.course.drive import Driver
    from aflctl.engine.course.keep import FOLDER, Keeper, pinned, restore, snapshot
    from aflctl.engine.course.record import Recorder, summarize, write_clients, write_model
    from aflctl.engine.course.warn import same_weights, warnings
    from aflctl.engine.parts.build import build

    recorder, x = Recorder(rundir.path, saved["recorder"] if saved else None), None
    try:
        shelves = rundir.file("checkpoint") / "shelves" if plan.config.engine.client_memory == "disk" else None
        x = build(pinned(plan, saved), data, rundir.path, recorder.schedule, recorder.entry, shelves)
        recorder.world = x.world
        rundir.write_json(
            "provenance.json",
            provenance.collect(
                identity=identity, fingerprints=prints, seeds=plan.seeds, origins=loaded.origins,
                overrides=list(loaded.sets),
                plugins=plan.source_hashes, distributions=list(plan.distributions), executor=x.executor, threads=1,
                folder=loaded.base, history=rundir.history,
            ),
        )  # fmt: skip
        rundir.log(f"executor {x.executor['name']}: {x.executor['why']}")
        built()
        logged = 0

        def told(step: Progress) -> None:
            nonlocal logged
            for note in x.pool.executor.notes[logged:]:
                logged += 1
                rundir.log(note)
            rundir.log(_line(step))
            trackers.metric(step.row)
            if progress is not None:
                progress(step)

        driver = Driver(x, recorder.metric, told)
        recorder.open_metrics(driver.extra)
        if saved is not None:
            restore(x, driver, saved)
        trackers.begin(rundir.path, driver.rows, rundir.log)
        keeper = Keeper(
            rundir.file(FOLDER),
            plan.config.checkpoint,
            lambda: snapshot(x, driver, recorder),
            lambda: x.loop.state,
            lambda: 4 * x.task.size * (3 * len(x.loop.tickets) + 8),
        )
        driver.keeper, driver.shelves = keeper, shelves
        began = time.perf_counter()
        with keeper.listening():
            reason = driver.run()
        x.books.close(x.loop.now, x.loop.tickets, x.loop.versions, x.loop.made)
        trained_s = time.perf_counter() - began
    finally:
        recorder.close()
        if x is not None:
            x.pool.executor.close()
    hits = personal.test(x) if driver.personal else {}
    write_clients(rundir.path, x, hits)
    host = {"load_s": round(loaded_s, 3), "run_s": round(trained_s, 3)}
    results = summarize(x, driver, recorder, reason, host)
    if driver.personal:
        results["personal"] = personal.summary(x, hits)
        if plan.config.evaluate.fine_tune is not None:
            tuned = personal.columns(personal.test(x, plan.config.evaluate.fine_tune))
            results["personal"]["fine_tuned"] = {k.removeprefix("personal_"): v for k, v in tuned.items()}
        if (above := personal.better_than_local(rundir.path, prints, hits)) is not None:
            results["personal"]["better_than_local"] = above
    results["warnings"] = warnings(x, driver)
    model = results["digests"]["model"] = write_model(rundir.path, x, x.algorithm.params(x.loop.state))
    results["warnings"] += same_weights(rundir.path, plan.config.seed, model)
    _report(rundir, plan, x, identity, prints, results)
    trackers.end(read_json(rundir.file("summary.json")) or {})


def _report(
    rundir: RunDir, plan: Plan, x: Experiment, identity: str, prints: Mapping[str, str], results: dict[str, Any]
) -> None:
    from aflctl.engine.parts.division import facts_of
    from aflctl.report import write_all

    config = plan.config
    summary = {
        "schema": "aflctl.summary",
        "version": 1,
        "format": 1,
        "status": "done",
        "identity": identity,
        "fingerprints": dict(prints),
        "name": rundir.name,
        "algorithm": config.algorithm.name,
        "dataset": config.dataset.name,
        "model_name": config.model.name,
        "seed": config.seed,
        "executor": x.executor,
        "partition": facts_of(x.data),
        **results,
    }
    write_all(rundir.path, summary)
    rundir.log(f"{provenance.now()}  done: {results['stop_reason']} reached")
    rundir.write_json("summary.json", summary)


def _line(step: Progress) -> str:
    row = step.row
    scores = [f"accuracy {100 * row.accuracy:.2f} %"] if row.accuracy is not None else []
    scores += [f"loss {row.loss:.4f}"] if row.loss is not None else []
    return "  ".join([f"{row.virtual_s:.3f} s", f"update {row.update}", f"version {row.version}", *scores])


def _left(plan: Plan, rundir: RunDir) -> tuple[dict[str, Any] | None, str]:
    """What an unfinished attempt left to continue from, and what to tell the user."""
    from aflctl.engine.course.keep import FOLDER, types_of, unfit
    from aflctl.runs import checkpoint

    ended = "failed" if rundir.before == "failed" else f"was {rundir.before}"
    folder = rundir.file(FOLDER)
    if not folder.is_dir():
        return None, f"an earlier attempt {ended} before its first checkpoint: starting from the beginning"
    try:
        saved = checkpoint.load(folder, types_of(plan), lambda state: unfit(state, rundir.path, plan.config.engine))
    except AflctlError as error:
        return (
            None,
            f"an earlier attempt {ended} and left no usable checkpoint ({error.message}): "
            "starting from the beginning",
        )
    return saved, f"continuing an attempt that {ended}, from update {saved['loop']['used']}"


__all__ = ["AflctlError", "RunResult", "run", "run_loaded", "runs_root"]
