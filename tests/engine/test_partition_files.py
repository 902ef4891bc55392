"""Partitions from files: found beside the configuration, kept in the run directory, part of the identity."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aflctl.cli.app import execute
from aflctl.data.index import read_index
from aflctl.engine import run
from aflctl.engine.verify import verify
from aflctl.errors import UserError

CONFIG = (
    "dataset: {{name: digits, partition: {{name: from-file, path: {path}}}}}\n"
    "model: logistic\nclients: {{count: 3, concurrency: 2}}\nlocal: {{steps: 1}}\n"
    "stop: {{updates: 4}}\nevaluate: {{every: {{updates: 4}}}}\n"
)
PARTS = [list(range(40)), list(range(60, 90)), [100, 300, 500, 501]]


def project(folder: Path, name: str = "parts.json", parts: list[list[int]] = PARTS) -> Path:
    folder.mkdir(parents=True)
    (folder / name).write_text(json.dumps(parts))
    (folder / "c.yaml").write_text(CONFIG.format(path=name))
    return folder / "c.yaml"


def test_a_relative_file_lies_beside_the_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = project(tmp_path / "a")
    monkeypatch.chdir(tmp_path)
    done = run(file, runs_dir=tmp_path / "runs")
    assert (done.path / "partition.json").read_bytes() == (tmp_path / "a" / "parts.json").read_bytes()
    rows = (done.path / "clients.csv").read_text().splitlines()
    assert {row.split(",")[0]: row.split(",")[3] for row in rows[1:]}.items() <= {
        "0": "40",
        "1": "30",
        "2": "4",
    }.items()


def test_a_run_directory_is_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = run(project(tmp_path / "a"), runs_dir=tmp_path / "runs")
    shutil.rmtree(tmp_path / "a")
    moved = tmp_path / "elsewhere" / done.path.name
    shutil.copytree(done.path, moved)
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    assert verify(moved).same
    again = run(moved, runs_dir=tmp_path / "runs")
    assert (again.path, again.fresh) == (done.path, False)  # the same identity


def test_the_content_counts_and_the_name_does_not(tmp_path: Path) -> None:
    runs = [
        run(project(tmp_path / "a"), runs_dir=tmp_path / "runs"),
        run(project(tmp_path / "b", "other.json"), runs_dir=tmp_path / "runs"),
        run(project(tmp_path / "c", parts=[[0, 1], [2, 3], [4]]), runs_dir=tmp_path / "runs"),
    ]
    assert runs[0].path == runs[1].path
    assert runs[0].path != runs[2].path


def test_on_the_command_line_it_lies_in_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = project(tmp_path / "a")
    (tmp_path / "mine.json").write_text("[[1], [2], [3, 4]]")
    monkeypatch.chdir(tmp_path)
    done = run(file, sets=["dataset.partition.path=mine.json"], runs_dir=tmp_path / "runs")
    assert (done.path / "partition.json").read_text() == "[[1], [2], [3, 4]]"


def test_a_missing_file_says_where_it_was_looked_for(tmp_path: Path) -> None:
    file = project(tmp_path / "a")
    (tmp_path / "a" / "parts.json").unlink()
    with pytest.raises(UserError, match=r"a/parts\.json: no such partition file") as caught:
        run(file, runs_dir=tmp_path / "runs")
    assert "beside the configuration" in (caught.value.hint or "")


def show(*sets: str, save: Path) -> int:
    few = ("clients.count=4", "clients.concurrency=2")
    words = [word for text in (*few, *sets) for word in ("--set", text)]
    return execute(["data", "show", *words, "--save", str(save), "--json"])


def roles(data_dir: Path) -> None:
    raw = data_dir / "shakespeare" / "raw"
    raw.mkdir(parents=True)
    line = "Now is the winter of our discontent\nMade glorious summer by this sun of York;\n"
    text = {f"PLAY_ROLE{i}": line * (6 + i) for i in range(5)}
    (raw / "shakespeare_by_role.json").write_text(json.dumps(text))


@pytest.mark.parametrize("fraction", [None, 0.25])
def test_what_show_saves_of_text_windows_is_read_back_the_same(
    fraction: float | None, tmp_path: Path, data_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # the windows are views into one text: a position of a window is not its place in the text
    roles(data_dir)
    assert execute(["data", "prepare", "shakespeare", "--no-download"]) == 0
    base = ["dataset.name=shakespeare", *([f"dataset.test_fraction={fraction}"] if fraction else [])]
    one, two = tmp_path / "one.safetensors", tmp_path / "two.safetensors"
    capsys.readouterr()
    assert show(*base, "dataset.partition=natural", save=one) == 0
    first: dict[str, Any] = json.loads(capsys.readouterr().out)
    partition = json.dumps({"name": "from-file", "path": str(one)})
    assert show(*base, f"dataset.partition={partition}", save=two) == 0
    second = json.loads(capsys.readouterr().out)
    assert (first["counts"], first["fingerprint"]) == (second["counts"], second["fingerprint"])
    for a, b in zip(read_index(one).parts, read_index(two).parts, strict=True):
        assert np.array_equal(a, b)
    assert read_index(one).notes == read_index(two).notes  # the dataset that the positions belong to


def test_clients_that_make_their_data_cannot_be_saved(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert show("dataset.name=synthetic", save=tmp_path / "x.safetensors") == 2
    assert "its clients make their own data" in capsys.readouterr().out
