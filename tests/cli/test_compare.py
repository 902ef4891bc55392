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
    assert "warning: seeds differ: 1/2 per group, 1 in common" in told.err
    assert "note: no verdict without a baseline" in told.err
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
        (["fedbuff", "fedasync", "--baseline", "fedsgd"], "baseline 'fedsgd' fits no group"),
        (["fedbuff", "--columns", "acc.fnal"], "no column 'acc.fnal'"),
        (["fedbuff", "--filter", "x"], "not a filter"),
        (["fedbuff", "--plot", "x.jpg"], "PNG, SVG or PDF"),
        ([str(root), "--strict"], "not fit to be compared"),
    ):
        assert execute(["compare", *words]) == 2
        told = capsys.readouterr()
        assert text in told.err
        assert "Traceback" not in told.err


def test_unfinished_runs(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["compare", "fedbuff-digits-s5", "--unfinished"]) == 0
    assert "fedbuff" in capsys.readouterr().out


def test_a_baseline_columns_and_order(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["compare", "fedbuff-digits-s0", "fedasync", "--baseline", "auto", "--on", "acc.final", "--sort", "label"]
    assert execute([*words, "-c", "acc.final,.seeds", "--filter", "seed=0"]) == 0
    told = capsys.readouterr()
    lines = told.out.splitlines()
    assert [line.split()[0] for line in lines[2:4]] == ["fedasync", "fedbuff"]
    assert "final accuracy against fedasync, 1 common seed" in told.out
    assert "one seed in common gives no interval" in told.out
    assert "no verdict" not in told.err
    assert execute([*words, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert [d["verdict"] for d in document["differences"]] == ["not compared"]


@pytest.mark.parametrize("format", ["csv", "json", "latex", "markdown"])
def test_stdout_carries_data_only(root: Path, format: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["compare", str(root), "--format", format, "--baseline", "fedasync"]) == 0
    told = capsys.readouterr()
    assert "skipped:" not in told.out
    assert "warning:" not in told.out
    assert "skipped" in told.err


def test_pictures(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["compare", str(root), "--plot", str(tmp_path / "updates.svg")]) == 0
    assert "picture: " in capsys.readouterr().err
    assert (tmp_path / "updates.svg").read_text().startswith("<?xml")


def test_a_page(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "deep" / "report.html"
    assert execute(["report", str(root), "-o", str(page)]) == 3
    assert "deep" in capsys.readouterr().err
    page = tmp_path / "report.html"
    assert execute(["report", str(root), "-o", str(page), "--title", "A & B", "--target", "0.5"]) == 0
    told = capsys.readouterr()
    assert told.out == f"{page}\n"
    assert "skipped: fedbuff-digits-s5-" in told.err
    assert "<h1>A &amp; B</h1>" in page.read_text()
    assert execute(["report", "fedbuff", "-o", str(page), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["schema"], document["path"]) == ("aflctl.report", str(page))
    assert execute(["report"]) == 2
