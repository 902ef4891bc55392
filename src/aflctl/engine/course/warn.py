"""What a careful colleague would say about a finished run: data in summary.json, lines on stderr."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aflctl.api import overrides
from aflctl.engine.parts.modal import sensors_of
from aflctl.runs.rundir import all_runs, read_json

if TYPE_CHECKING:
    from aflctl.engine.course.drive import Driver
    from aflctl.engine.parts.build import Experiment

Warning_ = dict[str, str]


def warnings(x: Experiment, driver: Driver) -> list[Warning_]:
    """All that apply, each with a `code` and a `message`."""
    checks = (
        _left_out, _chance, _one_client, _discarded, _buffer, _sparse, _classes, _bound, _held, _executor, _patience,
        _modalities,
    )  # fmt: skip
    return [{"code": code, "message": text} for check in checks for code, text in check(x, driver)]


def _left_out(x: Experiment, driver: Driver) -> Iterator[tuple[str, str]]:
    asked, there = x.plan.config.clients.count, len(x.data.samples)
    if there < asked and not x.plan.algorithm.pools:
        yield (
            "clients-left-out",
            f"{asked - there} of {asked} clients fell below dataset.partition.min_size and took no part",
        )


def same_weights(folder: Path, seed: int, model: str) -> list[Warning_]:
    """A run beside this one, of the same name but another seed, that ended with the same weights to the last bit."""
    stem = folder.name.rpartition("-s")[0]
    for path in all_runs(folder.parent):
        if path == folder or path.name.rpartition("-s")[0] != stem:
            continue
        told = read_json(path / "summary.json") or {}
        if told.get("seed") not in (seed, None) and (told.get("digests") or {}).get("model") == model:
            text = f"seed {seed} gave the very weights of seed {told['seed']} ({path.name}): `seeds` fixes every stream"
            return [{"code": "seeds-identical", "message": text}]
    return []


def _chance(x: Experiment, driver: Driver) -> Iterator[tuple[str, str]]:
    """Below what guessing the most frequent class, plus three standard errors, would reach."""
    labels = x.data.test().labels
    n = len(labels)
    if n == 0 or overrides(x.algorithm, "personal"):
        return
    guess = float(labels.bincount().max()) / n
    limit = guess + 3 * (guess * (1 - guess) / n) ** 0.5
    final = driver.rows[-1].accuracy
    if final is not None and final <= limit:
        yield (
            "accuracy-at-chance",
            f"the final accuracy {final:.1%} is no better than chance ({guess:.1%}, to {limit:.1%})",
        )


def _one_client(x: Experiment, driver: Driver) -> Iterator[tuple[str, str]]:
    members, used = x.books.members, x.books.totals.used
    if len(x.data.samples) < 4 or used < 20:
        return
    client = max(members, key=lambda c: members[c].used)
    share = members[client].used / used
    if share > 0.5:
        device = x.world.device_of(client)
        yield "one-client-dominates", f"client {client} ({device}) made {share:.0%} of all updates"


def _discarded(x: Experiment, driver: Driver) -> Iterator[tuple[str, str]]:
    t = x.books.totals
    ended = t.used + t.rejected + t.lost + t.cancelled
    wasted = t.rejected + t.lost + t.cancelled
    if ended >= 10 and wasted > ended / 2:
        yield (
            "most-work-discarded",
            f"{wasted} of {ended} tasks were lost ({t.lost}), rejected ({t.rejected}) or cancelled ({t.cancelled})",
        )


def _buffer(x: Experiment, driver: Driver) -> Iterator[tuple[str, str]]:
    used, size = x.books.totals.used, getattr(x.plan.algorithm, "buffer_size", None)
    if used and not x.loop.advances:
        of = f" (buffer_size {size}, {used} updates)" if size else f" in {used} updates"
        yield "no-version", f"the global model never moved{of}: lower the buffer or raise stop.updates"


def _sparse(x: Experiment, driver: Driver) -> Iterator[tuple[str, str]]:
    stop = x.plan.config.stop
    if stop.accuracy is not None and len(driver.rows) < 10:
        yield (
            "sparse-evaluation",
            f"only {len(driver.rows)} evaluations tell when accuracy {stop.accuracy:g} is reached: evaluate more often",
        )


def _classes(x: Experiment, driver: Driver) -> Iterator[tuple[str, str]]:
    have = getattr(x.data, "class_counts", None)
    if have is None:
        return
    empty = [str(k) for k, n in enumerate(have()) if n == 0]
    if empty:
        names = ", ".join(empty[:8]) + (" ..." if len(empty) > 8 else "")
        yield "empty-classes", f"no client has a training sample of class {names}"


def _bound(x: Experiment, driver: Driver) -> Iterator[tuple[str, str]]:
    staleness = x.books.staleness()
    for name in ("max_staleness", "bound"):
        bound = getattr(x.plan.algorithm, name, None)
        if isinstance(bound, (int, float)) and staleness["count"] and staleness["p95"] > 2 * bound > 0:
            yield (
                "staleness-above-bound",
                f"5 % of the updates were staler than {staleness['p95']}, the method's {name} is {bound:g}",
            )


def _held(x: Experiment, driver: Driver) -> Iterator[tuple[str, str]]:
    if getattr(getattr(x.plan.algorithm, "staleness", None), "sampled", None):
        yield (
            "staleness-sampled",
            "staleness was drawn, not derived from the clock: an input of this run, not a result (cause `held`)",
        )


def _executor(x: Experiment, driver: Driver) -> Iterator[tuple[str, str]]:
    for note in x.pool.executor.notes:
        yield "executor", note


def _modalities(x: Experiment, driver: Driver) -> Iterator[tuple[str, str]]:
    sensors = sensors_of(x.data)
    if sensors is None:
        return
    had = {m for mine in sensors.mine for m in mine}
    if nobody := [name for m, name in enumerate(sensors.names) if m not in had]:
        yield (
            "modality-without-owner",
            f"no client has {', '.join(nobody)}: the global test has it, through an encoder that nobody trained",
        )
    if any(len(mine) < len(had) for mine in sensors.mine) and x.loop.versions.keys() <= {""}:
        yield (
            "whole-model-sent",
            "clients that lack a modality trained, sent and aged the whole model: personalization: blocks has a "
            "version and a staleness per modality",
        )


def _patience(x: Experiment, driver: Driver) -> Iterator[tuple[str, str]]:
    patience = getattr(x.plan.algorithm, "patience", None)
    epochs: Any = getattr(x.plan.algorithm, "epochs", None) or x.plan.config.local.epochs
    if patience is not None and patience >= epochs:
        yield "patience-without-effect", f"patience {patience} can never stop a task of {epochs} epochs"
