"""`aflctl verify`: the same, edited by hand, made elsewhere, or only the beginning of a run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from aflctl.engine import run
from aflctl.engine.verify import verify
from aflctl.errors import RunDirError, UserError, VerifyFailed
from reliability.lab import EXECUTORS, config


@pytest.fixture(autouse=True)
def _no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    import aflctl.report

    monkeypatch.setattr(aflctl.report, "write_all", lambda folder, summary: None)


def made(runs_dir: Path, executor: str = "serial") -> Path:
    return run(config("fedbuff", executor, stop={"updates": 12}), runs_dir=runs_dir).path


def change(path: Path, edit: Any) -> None:
    document = json.loads(path.read_text())
    edit(document)
    path.write_text(json.dumps(document))


@pytest.mark.parametrize("executor", EXECUTORS)
def test_a_run_is_the_same_again(runs_dir: Path, executor: str) -> None:
    verdict = verify(made(runs_dir, executor))
    assert verdict.same
    assert set(verdict.equal.values()) == {True}
    assert verdict.environment == ()


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [("metrics.csv", "0.", "0.9"), ("updates.csv", "used", "lost"), ("clients.csv", "wifi", "wify")],
)
def test_an_edited_record_is_told_before_anything_runs(runs_dir: Path, name: str, old: str, new: str) -> None:
    path = made(runs_dir)
    text = (path / name).read_text()
    (path / name).write_text(text.replace(old, new, 1))
    with pytest.raises(VerifyFailed, match=f"{name} was edited"):
        verify(path)


def test_one_row_less_is_told(runs_dir: Path) -> None:
    path = made(runs_dir)
    lines = (path / "updates.csv").read_text().splitlines(keepends=True)
    (path / "updates.csv").write_text("".join(lines[:-1]))
    with pytest.raises(VerifyFailed, match=r"updates.csv was edited"):
        verify(path)


def test_edited_results_differ_from_the_repetition(runs_dir: Path) -> None:
    path = made(runs_dir)
    change(path / "summary.json", lambda s: s["digests"].update(model="0" * 64))
    verdict = verify(path)
    assert not verdict.same
    assert [name for name, same in verdict.equal.items() if not same] == ["model"]


def test_another_environment_is_named(runs_dir: Path) -> None:
    path = made(runs_dir)
    change(path / "provenance.json", lambda p: p["versions"].update(torch="1.0.0"))
    assert any("torch" in line and "1.0.0" in line for line in verify(path).environment)


def test_another_processor_is_named(runs_dir: Path) -> None:
    path = made(runs_dir)
    change(path / "provenance.json", lambda p: p["hardware"].update(cpu="Other 9000"))
    assert any(line.startswith("processor Other 9000 -> ") for line in verify(path).environment)


def test_more_than_the_run_has_is_refused(runs_dir: Path) -> None:
    path = made(runs_dir)
    with pytest.raises(UserError, match="has 12 updates, not 13"):
        verify(path, until=13)
    assert verify(path, until=12).same


def test_only_the_beginning(runs_dir: Path) -> None:
    path = made(runs_dir)
    verdict = verify(path, until=6)
    assert verdict.same
    assert set(verdict.equal.values()) == {None}
    assert verdict.rows["updates"] >= 6
    assert verdict.rows["metrics"] >= 2


def test_an_unfinished_run_has_nothing_to_verify(runs_dir: Path) -> None:
    path = made(runs_dir)
    (path / "summary.json").unlink()
    with pytest.raises(RunDirError, match="no result to verify"):
        verify(path)
