"""Rows, the time that is left, and the table on a terminal."""

from __future__ import annotations

import time
from io import StringIO

import pytest
from rich.console import Console

from aflctl.cli.suite import Teller, duration, middle, options, table
from aflctl.engine.suites.board import Board, Ending, Row
from aflctl.errors import UserError


def board(n: int, jobs: int = 1) -> Board:
    return Board([Row(f"run {i}", {"seed": i}) for i in range(n)], jobs)


def test_the_time_left_follows_from_runs_that_are_done_and_those_under_way() -> None:
    b = board(4, jobs=2)
    assert b.left() is None
    b.start(0)
    b.end(0, Ending("done", "runs/a", 0.9))
    b.rows[0].seconds = 10.0
    assert b.left() == pytest.approx(15.0)  # three waiting, ten seconds each, two at once
    b.start(1)
    b.step(1, 0.0, 0.1, 0)
    b.rows[1].began = time.perf_counter() - 6.0
    b.step(1, 0.75, 0.5, 30)
    assert b.rows[1].left(time.perf_counter()) == pytest.approx(2.0, abs=0.1)
    assert b.left() == pytest.approx((2 + 10 + 10) / 2, abs=0.1)


def test_a_continued_run_counts_from_where_it_went_on() -> None:
    b = board(1)
    b.start(0)
    b.step(0, 0.5, 0.4, 50)
    assert b.left() is None
    b.rows[0].began = time.perf_counter() - 3.0
    b.step(0, 0.8, 0.6, 80)
    assert b.left() == pytest.approx(2.0, abs=0.1)


@pytest.mark.parametrize(
    ("ends", "code"),
    [
        (["done", "kept"], 0),
        (["done", "failed"], 1),
        (["failed", "failed"], 3),  # nothing else came of it
        (["done", "stopped"], 130),
        (["failed"], 130),  # the second is waiting
    ],
)
def test_exit_codes(ends: list[str], code: int) -> None:
    b = board(2)
    for i, state in enumerate(ends):
        b.end(i, Ending(state, code=3 if state == "failed" else 0))  # type: ignore[arg-type]
    assert b.exit_code == code


def test_the_table_shows_what_matters_in_the_lines_that_there_are() -> None:
    b = board(40, jobs=2)
    for i in range(20):
        b.start(i)
        b.end(i, Ending("done", f"runs/{i}", 0.9))
    b.end(3, Ending("failed", message="the model is not finite"))
    for i in (20, 21):
        b.start(i)
        b.step(i, 0.0, 0.1, 0)
        b.step(i, 0.5, 0.456, 10)
    console = Console(width=80, height=20, record=True, file=StringIO())
    console.print(table(b, 8, 65.0))
    text = console.export_text()
    assert "19 of 40 runs done, 1 min 5 s so far" in text
    assert "run 3: the model is not finite" in text
    assert all(name in text for name in ("progress", "accuracy", "left"))
    assert text.count("running") == 2
    assert "45.6 %" in text
    assert "and 32 more" in text
    assert max(len(line) for line in text.splitlines()) <= 80
    assert len(text.splitlines()) <= 15  # the height given, and seven lines around


def test_the_table_that_is_left_standing_is_the_last_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawn at most five times a second, but always at the end: here both events come within that time."""
    screen = StringIO()
    screen.isatty = lambda: True  # type: ignore[method-assign]
    monkeypatch.setattr("sys.stderr", screen)
    b, teller = board(2), Teller(quiet=False)
    b.start(0)
    teller.progress(b, 0)
    b.end(0, Ending("stopped", code=130))
    b.stopping = True
    teller.progress(b, 0)
    teller.close()
    last = screen.getvalue().rpartition("runs done")[2]
    assert "stopping" in last
    assert "stopped" in last


def test_durations() -> None:
    assert [duration(s) for s in (0.4, 59.6, 200, 7500)] == ["0 s", "1 min 0 s", "3 min 20 s", "2 h 5 min"]


def test_long_labels_keep_both_ends() -> None:
    text = middle("fedbuff (buffer_size=4), alpha=0.3, seed=0", 24)
    assert len(text) == 24
    assert text.startswith("fedbuff (")
    assert text.endswith("seed=0")


def test_options_for_a_cluster() -> None:
    assert options(["timeout_min=60", "slurm_partition=cpu"]) == {"timeout_min": 60, "slurm_partition": "cpu"}
    with pytest.raises(UserError):
        options(["fast"])
