"""Trackers: loaded before anything is trained, told of each evaluation, never allowed to harm a run."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aflctl.errors import AflctlError, PluginBroken, RunDirError
from aflctl.plugins import registry
from aflctl.runs.atomic import disk

if TYPE_CHECKING:
    from aflctl.api import Tracker
    from aflctl.runs.load import Run
    from aflctl.runs.records import MetricRow

FOLDER = "tracking"
HOOKS = ("begin", "metric", "end")


def load(name: str, base: Path | None = None) -> Tracker:
    """The tracker of that name, made; errors say what to install."""
    cls: Any = registry().load("trackers", name, base)
    try:
        made: Tracker = cls()
    except AflctlError:
        raise
    except Exception as error:
        raise PluginBroken(f"tracker {name!r} cannot be made: {type(error).__name__}: {error}") from error
    lacking = [hook for hook in HOOKS if not callable(getattr(made, hook, None))]
    if lacking:
        raise PluginBroken(f"tracker {name!r} has no {', '.join(lacking)}", hint="a tracker has begin, metric and end")
    return made


class Trackers:
    """All trackers of a run. `say` is told once of one that fails; it is left out from then on."""

    def __init__(self, names: Sequence[str], base: Path | None = None) -> None:
        self._made = {name: load(name, base) for name in dict.fromkeys(names)}
        self._say: Callable[[str], None] = lambda text: None

    def begin(self, folder: Path, rows: Iterable[MetricRow], say: Callable[[str], None]) -> None:
        """The run in `folder` begins; `rows` were recorded by the attempt that is continued."""
        from aflctl.runs.load import Run

        self._say = say
        for name, tracker in self._made.items():
            fresh(tracker, name, Run(folder).config, folder / FOLDER / folder_of(name))
        for row in rows:
            self.metric(row)

    def metric(self, row: MetricRow) -> None:
        """An evaluation."""
        if self._made:
            told = flat(row)
            self._tell(lambda tracker: tracker.metric(told))

    def end(self, summary: Mapping[str, Any]) -> None:
        """The run is done."""
        self._tell(lambda tracker: tracker.end(summary))

    def _tell(self, call: Callable[[Tracker], None]) -> None:
        for name, tracker in list(self._made.items()):
            try:
                call(tracker)
            except Exception as error:
                del self._made[name]
                self._say(f"tracker {name} failed and is left out: {type(error).__name__}: {error}")


def folder_of(name: str) -> str:
    """Where a tracker writes, below `tracking`: its name, `mine` of `./mine.py:Mine`, `name` of `distribution/name`."""
    return Path(name.partition(":")[0]).stem


def fresh(tracker: Tracker, name: str, config: Mapping[str, Any], place: Path) -> None:
    """Begins in an empty folder."""
    with disk(place):
        if place.is_dir():
            shutil.rmtree(place)
        place.mkdir(parents=True)
    try:
        tracker.begin(config, place)
    except AflctlError:
        raise
    except Exception as error:
        raise PluginBroken(f"tracker {name!r} cannot begin: {type(error).__name__}: {error}") from error


def flat(row: MetricRow) -> dict[str, float | None]:
    """A row by the columns of metrics.csv."""
    told = asdict(row)
    return {**{k: v for k, v in told.items() if k != "extra"}, **row.extra}


def export(run: Run, name: str, place: Path | None = None) -> Path:
    """Tells a tracker of a recorded run; into `tracking/<name>` of its directory, or into the new folder `place`."""
    tracker = load(name)
    if place is not None and place.exists() and (not place.is_dir() or any(place.iterdir())):
        raise RunDirError("this exists and is not an empty folder", where=str(place), hint="name a new one")
    rows = list(run.columns("metrics").records())
    where = place or run.path / FOLDER / folder_of(name)
    fresh(tracker, name, run.config, where)
    try:
        for row in rows:
            tracker.metric(row)
        tracker.end(run.summary)
    except Exception as error:
        raise PluginBroken(f"tracker {name!r} failed: {type(error).__name__}: {error}") from error
    return where
