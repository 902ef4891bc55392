"""`aflctl show`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from aflctl.cli.app import execute
from aflctl.errors import Diverged
from aflctl.runs.rundir import exit_record

Fabricate = Callable[..., Path]


def test_a_finished_run(runs_dir: Path, fabricate: Fabricate, capsys: pytest.CaptureFixture[str]) -> None:
    path = fabricate(runs_dir, updates=100)
    assert execute(["show"]) == 0
    told = capsys.readouterr()
    assert told.out.startswith(f"{path.name}\nfedbuff on digits")
    for text in ("accuracy", "staleness of 100 used updates", "by device class", "curve.png", "next: aflctl compare"):
        assert text in told.out
    assert told.err == ""
    assert execute(["show", "fedbuff"]) == 0
    assert capsys.readouterr().out == told.out


def test_warnings_go_to_stderr(runs_dir: Path, fabricate: Fabricate, capsys: pytest.CaptureFixture[str]) -> None:
    path = fabricate(runs_dir, updates=20)
    summary = json.loads((path / "summary.json").read_text())
    (path / "summary.json").write_text(json.dumps({**summary, "warnings": ["accuracy at chance"]}))
    execute(["show", "latest"])
    assert capsys.readouterr().err == "warning: accuracy at chance\n"


def test_json(runs_dir: Path, fabricate: Fabricate, capsys: pytest.CaptureFixture[str]) -> None:
    path = fabricate(runs_dir, updates=20)
    assert execute(["show", str(path), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["schema"], document["version"], document["status"]) == ("aflctl.show", 1, "done")
    assert document["summary"]["final"]["update"] == 20
    assert "curve.png" in document["files"]


def test_a_run_that_was_killed(runs_dir: Path, fabricate: Fabricate, capsys: pytest.CaptureFixture[str]) -> None:
    path = fabricate(runs_dir, updates=100, finished=False)
    assert execute(["show"]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"{path.name}: interrupted\n")
    assert "so far: 100 updates, 10 versions" in out
    assert f"next: aflctl run {path}" in out


def test_a_run_that_failed(runs_dir: Path, fabricate: Fabricate, capsys: pytest.CaptureFixture[str]) -> None:
    path = fabricate(runs_dir, updates=20, finished=False)
    (path / "exit.json").write_text(json.dumps(exit_record(Diverged("weights are not finite", hint="lower local.lr"))))
    assert execute(["show"]) == 0
    out = capsys.readouterr().out
    assert f"{path.name}: failed" in out
    assert "ended with Diverged: weights are not finite\nhint: lower local.lr\n" in out


def test_nothing_of_that_name(runs_dir: Path, fabricate: Fabricate, capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["show"]) == 2
    assert "aflctl run" in capsys.readouterr().err
    path = fabricate(runs_dir, updates=20, report=False)
    assert execute(["show", path.name.replace("fedbuff", "fedbufff")]) == 2
    assert f"did you mean {path.name!r}" in capsys.readouterr().err
    assert execute(["show", "nothing", "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["error"]["code"] == 2


@pytest.mark.parametrize("name", ["config.yaml", "summary.json", "staleness.csv", "clients.csv", "provenance.json"])
def test_damaged_files_are_no_traceback(
    runs_dir: Path, fabricate: Fabricate, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = fabricate(runs_dir, updates=20)
    for content in (b"", b"\x00\xff{", b"a,b\n1\n", b"[1]\n"):
        (path / name).write_bytes(content)
        assert execute(["show", str(path)]) in (0, 2)
        assert "Traceback" not in capsys.readouterr().err
