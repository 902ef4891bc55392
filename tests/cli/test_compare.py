"""`aflctl compare`."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from io import StringIO
from pathlib import Path

import pytest

from aflctl.cli.app import execute

Fabricate = Callable[..., Path]


@pytest.fixture
def root(runs_dir: Path, fabricate: Fabricate) -> Path:
    """Two seeds of FedBuff, one of FedAsync, one that was killed."""
    for seed in range(2):
        fabricate(runs_dir, "fedbuff", seed, updates=200, report=False)
    fabricate(runs_dir, "fedasync", 0, updates=200, top=0.8, report=False)
    fabricate(runs_dir, "fedbuff", 5, updates=20, finished=False)
    return runs_dir


def test_a_table_on_stdout_and_notes_on_stderr(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["compare", "fedbuff", "fedasync", "--target", "0.8"]) == 0
    told = capsys.readouterr()
    assert [line.split()[0] for line in told.out.splitlines()[3:5]] == ["fedbuff", "fedasync"]
    assert "to 80 %" in told.out
    assert told.err.startswith("skipped: fedbuff-digits-s5-")
    assert execute(["compare", str(root), "--target", "0.8"]) == 0
    assert capsys.readouterr().out == told.out


def test_formats(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["compare", str(root), "--format", "csv"]) == 0
    assert len(list(csv.DictReader(StringIO(capsys.readouterr().out)))) == 2
    assert execute(["compare", str(root), "-f", "markdown"]) == 0
    assert capsys.readouterr().out.startswith("| ")
    assert execute(["compare", str(root), "-f", "latex"]) == 0
    assert r"\begin{tabular}" in capsys.readouterr().out
    for words in (["--json"], ["--format", "json"]):
        assert execute(["compare", str(root), *words]) == 0
        document = json.loads(capsys.readouterr().out)
        assert (document["schema"], document["version"], len(document["groups"])) == ("aflctl.compare", 1, 2)


def test_mistakes(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words, text in (
        ([], "nothing to compare"),
        (["nothing"], "unknown run 'nothing'"),
        (["fedbuff-digits-s5"], "is interrupted"),
        (["fedbuff", "--target", "90"], "90 % is written 0.9"),
        (["fedbuff", "--target", "high"], "--target"),
        (["fedbuff", "--format", "word"], "unknown format 'word'"),
    ):
        assert execute(["compare", *words]) == 2
        told = capsys.readouterr()
        assert text in told.err
        assert "Traceback" not in told.err


def test_unfinished_runs(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["compare", "fedbuff-digits-s5", "--unfinished"]) == 0
    assert "fedbuff" in capsys.readouterr().out
