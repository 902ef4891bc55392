"""Trackers: told of everything, able to harm nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from aflctl.builtin.trackers import tensorboard
from aflctl.cli.app import execute
from aflctl.engine import RunResult, run
from aflctl.engine.course.tracking import Trackers, export
from aflctl.errors import EnvironmentProblem, PluginBroken, RunDirError, UnknownName
from aflctl.runs.load import Run

SMALL: dict[str, Any] = {
    "algorithm": {"name": "fedbuff", "buffer_size": 3},
    "dataset": {"name": "digits", "partition": {"name": "dirichlet", "alpha": 1.0, "min_size": 20}},
    "model": {"name": "mlp", "hidden": [8]},
    "clients": {"count": 8, "concurrency": 4},
    "local": {"batch_size": 64, "lr": 0.05},
    "stop": {"updates": 15},
    "evaluate": {"every": {"updates": 5}},
}
SPY = """
import json

class Spy:
    def begin(self, config, path):
        self.file = path / "told.jsonl"
        self.say("begin", config["algorithm"]["name"])
    def metric(self, row):
        self.say("metric", row)
    def end(self, summary):
        self.say("end", summary["digests"]["metrics"])
    def say(self, *what):
        with open(self.file, "a") as file:
            file.write(json.dumps(what) + chr(10))

class Sick(Spy):
    def metric(self, row):
        if row["update"]:
            raise ValueError("lost the connection")
        super().metric(row)

class Half:
    def begin(self, config, path): ...

class Refuses(Spy):
    def begin(self, config, path):
        raise ValueError("no")
"""


@pytest.fixture(autouse=True)
def spies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "spy.py").write_text(SPY)
    monkeypatch.chdir(tmp_path)
    import aflctl.report as report

    monkeypatch.setattr(report, "write_all", lambda folder, summary: None)


def tracked(runs_dir: Path, *trackers: str) -> RunResult:
    return run({**SMALL, "track": list(trackers)}, runs_dir=runs_dir)


def told(path: Path) -> list[list[object]]:
    return [json.loads(line) for line in (path / "told.jsonl").read_text().splitlines()]


def test_a_tracker_is_told_of_all_and_changes_nothing(tmp_path: Path) -> None:
    plain, watched = tracked(tmp_path / "a"), tracked(tmp_path / "b", "./spy.py:Spy")
    assert watched.summary["digests"] == plain.summary["digests"]
    assert watched.path.name == plain.path.name  # no part of the identity
    begin, *rows, end = told(watched.path / "tracking" / "spy")
    assert (begin, end) == (["begin", "fedbuff"], ["end", plain.summary["digests"]["metrics"]])
    recorded = [["metric", row] for row in Run(watched.path).columns("metrics").records()]
    assert rows == recorded
    assert not (plain.path / "tracking").exists()


def test_one_that_fails_is_left_out(tmp_path: Path) -> None:
    result = tracked(tmp_path, "./spy.py:Sick")
    assert result.summary["status"] == "done"
    log = (result.path / "events.log").read_text()
    assert log.count("tracker ./spy.py:Sick failed and is left out: ValueError: lost the connection") == 1
    assert [kind for kind, _ in told(result.path / "tracking" / "spy")] == ["begin", "metric"]


@pytest.mark.parametrize(
    ("name", "error", "text"),
    [
        ("tensorbord", UnknownName, "unknown tracker"),
        ("./spy.py:Half", PluginBroken, "has no metric, end"),
        ("./spy.py:Refuses", PluginBroken, "cannot begin"),
    ],
)
def test_mistakes_end_the_run_before_it_trains(tmp_path: Path, name: str, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        tracked(tmp_path / "runs", name)
    assert not list(tmp_path.glob("runs/*/metrics.csv")) or "Refuses" in name


def test_a_continued_run_is_told_from_the_beginning(tmp_path: Path) -> None:
    result = tracked(tmp_path / "runs", "./spy.py:Spy")
    from aflctl.runs.records import METRICS, MetricRow

    records = Run(result.path).columns("metrics").records()
    rows = [MetricRow(**{k: record[k] for k in METRICS}) for record in records]
    again = Trackers(["./spy.py:Spy"], Path.cwd())
    again.begin(result.path, rows[:2], print)
    again.metric(rows[2])
    assert [kind for kind, _ in told(result.path / "tracking" / "spy")] == ["begin", *["metric"] * 3]


def test_afterwards(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = tracked(tmp_path / "runs")
    place = export(Run(result.path), "./spy.py:Spy")
    assert place == result.path / "tracking" / "spy"
    first = told(place)
    assert execute(["show", str(result.path), "--export", "./spy.py:Spy", "--to", str(tmp_path / "new")]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'new'}\n"
    assert told(tmp_path / "new") == first
    with pytest.raises(RunDirError, match="not an empty folder"):
        export(Run(result.path), "./spy.py:Spy", tmp_path / "new")


def test_tensorboard_that_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensorboard, "find_spec", lambda name: None)
    with pytest.raises(EnvironmentProblem, match="not installed"):
        tracked(tmp_path / "runs", "tensorboard")
    assert not (tmp_path / "runs").exists()


def test_tensorboard(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    result = tracked(tmp_path, "tensorboard")
    events = EventAccumulator(str(result.path / "tracking" / "tensorboard"))
    events.Reload()
    recorded = list(Run(result.path).columns("metrics").records())
    shown = [(s.step, s.wall_time, s.value) for s in events.Scalars("metrics/accuracy")]
    assert shown == [(r["update"], pytest.approx(r["virtual_s"]), pytest.approx(r["accuracy"])) for r in recorded]
