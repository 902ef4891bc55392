"""A run directory as an object."""

from __future__ import annotations

import builtins
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aflctl.errors import RunDirError
from aflctl.runs.load import load_run
from aflctl.runs.records import Columns
from aflctl.runs.rundir import find_all

Fabricate = Callable[..., Path]


def test_everything_is_there(tmp_path: Path, fabricate: Fabricate) -> None:
    run = load_run(fabricate(tmp_path, updates=60))
    assert run.status == "done"
    assert run.config["algorithm"]["name"] == "fedbuff"
    assert run.summary["final"]["update"] == 60
    assert run.provenance["seeds"] == {"seed": 0}
    assert run.exit == {}
    assert run.columns("metrics")["update"] == [0, 20, 40, 60]
    updates, clients, histogram = (run.columns(name) for name in ("updates", "clients", "staleness"))
    assert len(updates["task"]) == run.summary["totals"]["updates"] + run.summary["totals"]["lost"]
    assert len(clients["client"]) == run.summary["participation"]["took_part"]
    counted = [n for cause, n in zip(histogram["cause"], histogram["count"]) if cause == "all"]
    assert sum(counted) == 2 * 60  # in all, and by device


def test_tables_are_data_frames_where_pandas_is(tmp_path: Path, fabricate: Fabricate) -> None:
    pandas = pytest.importorskip("pandas")
    run = load_run(fabricate(tmp_path, updates=60))
    for name in ("metrics", "updates", "clients", "staleness"):
        frame = getattr(run, name)
        assert isinstance(frame, pandas.DataFrame)
        assert list(frame) == list(run.columns(name))
    assert run.metrics["update"].tolist() == run.columns("metrics")["update"]


def test_without_pandas_tables_are_columns(
    tmp_path: Path, fabricate: Fabricate, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = load_run(fabricate(tmp_path, updates=20, report=False))
    real = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name == "pandas":
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    assert isinstance(run.metrics, Columns)
    assert run.metrics["update"] == [0, 20]


@pytest.mark.parametrize("name", ["summary.json", "provenance.json"])
def test_a_newer_format_is_refused(tmp_path: Path, fabricate: Fabricate, name: str) -> None:
    path = fabricate(tmp_path, updates=20, report=False)
    document = json.loads((path / name).read_text())
    (path / name).write_text(json.dumps({**document, "format": 2}))
    with pytest.raises(RunDirError, match="made by a newer aflctl: it has format 2, this one reads 1"):
        load_run(path)


@pytest.mark.parametrize(
    ("name", "content"), [("summary.json", "{"), ("provenance.json", "[]"), ("summary.json", "\xff")]
)
def test_a_damaged_document_is_named(tmp_path: Path, fabricate: Fabricate, name: str, content: str) -> None:
    path = fabricate(tmp_path, updates=20, report=False)
    (path / name).write_bytes(content.encode("latin-1"))
    with pytest.raises(RunDirError, match="damaged") as caught:
        load_run(path)
    assert caught.value.where == str(path / name)


@pytest.mark.parametrize("content", ["a: [", "- 1", "!!python/object:os.system x", "\x00"])
def test_a_damaged_configuration_is_named(tmp_path: Path, fabricate: Fabricate, content: str) -> None:
    path = fabricate(tmp_path, updates=20, report=False)
    (path / "config.yaml").write_text(content)
    with pytest.raises(RunDirError) as caught:
        load_run(path).config
    assert caught.value.where == str(path / "config.yaml")


def test_what_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(RunDirError, match="no such run directory"):
        load_run(tmp_path / "nothing")
    with pytest.raises(RunDirError, match="not a run directory"):
        load_run(tmp_path)


def test_a_prefix_or_a_folder_means_all_runs_in_it(tmp_path: Path, fabricate: Fabricate) -> None:
    paths = [fabricate(tmp_path, seed=seed, updates=20, report=False) for seed in (0, 1)]
    fabricate(tmp_path, "fedasync", updates=20, report=False)
    assert find_all("fedbuff", tmp_path) == paths
    assert len(find_all(str(tmp_path), tmp_path)) == 3
    assert find_all(str(paths[1]), tmp_path) == [paths[1]]
    assert [p.name[:8] for p in find_all("latest", tmp_path)] == ["fedasync"]
