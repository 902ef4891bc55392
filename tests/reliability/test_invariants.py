"""What holds after every run, and that a run whose books are wrong fails."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from aflctl.engine import run
from aflctl.engine.course.drive import Driver
from aflctl.errors import AflctlError, InvariantBroken
from aflctl.sim.books import Books
from reliability.lab import config

LAWS = {
    "time_monotone_and_parts_sum", "dispatches_balance", "histogram_counts_used", "bytes_not_negative",
    "participation_balances", "staleness_parts_sum", "phases_not_negative", "participation_fits",
    "nobody_arrives_before_being_sent", "metrics_monotone", "rows_sum_to_totals", "weights_finite",
}  # fmt: skip


@pytest.fixture(autouse=True)
def _no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    import aflctl.report

    monkeypatch.setattr(aflctl.report, "write_all", lambda folder, summary: None)


@pytest.mark.parametrize(
    "sections",
    [
        {}, {"algorithm": "fedavg"}, {"algorithm": "port"}, {"algorithm": "ringmaster"}, {"algorithm": "safa"},
        {"server": {"max_staleness": 1}, "algorithm": "fedasync"}, {"server": {"timeout_s": 30.0}},
        {"evaluate": {"every": {"time_s": 3.0}}, "stop": {"time_s": 20}},
    ],
)  # fmt: skip
def test_laws_of_every_run(sections: dict[str, Any], runs_dir: Path) -> None:
    result = run(config(**sections), runs_dir=runs_dir)
    told = json.loads((result.path / "summary.json").read_text())["invariants"]
    assert set(told) == LAWS | {"staleness_conserved"}
    assert all(told.values())


def test_conservation_is_not_claimed_for_several_tracks(runs_dir: Path) -> None:
    result = run(config(algorithm={"name": "fedat", "tiers": 2}), runs_dir=runs_dir)
    assert set(result.summary["invariants"]) >= LAWS
    assert "staleness_conserved" not in result.summary["invariants"]


def test_with_everybody_always_out_the_law_is_c_less_one_times_v(runs_dir: Path) -> None:
    # nobody lost, one version per three arrivals, the next clients sent after the version
    fleet = {"devices": {"raspberry-pi-4": 1}, "networks": {"wifi": 1}}
    result = run(config(fleet=fleet, stop={"updates": 24}), runs_dir=runs_dir)
    from aflctl.runs.load import load_run

    updates = load_run(result.path).columns("updates")
    assert sum(updates["staleness"]) == (4 - 1) * result.summary["totals"]["versions"]


def _totals(name: str, by: int) -> Callable[[pytest.MonkeyPatch], None]:
    def plant(monkeypatch: pytest.MonkeyPatch) -> None:
        plain = Books.close

        def close(self: Books, *args: Any) -> None:
            plain(self, *args)
            setattr(self.totals, name, getattr(self.totals, name) + by)

        monkeypatch.setattr(Books, "close", close)

    return plant


def _books(change: Callable[[Books], object]) -> Callable[[pytest.MonkeyPatch], None]:
    def plant(monkeypatch: pytest.MonkeyPatch) -> None:
        plain = Books.close

        def close(self: Books, *args: Any) -> None:
            plain(self, *args)
            change(self)

        monkeypatch.setattr(Books, "close", close)

    return plant


def _no_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Books, "advanced", lambda self, now, tracks, step: None)


def _back_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = Books.arrived
    monkeypatch.setattr(Books, "arrived", lambda self, t, now, *rest: plain(self, t, now - 10**9, *rest))


def _rows_shrink(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = Driver.evaluate

    def evaluate(self: Driver, now: int) -> None:
        plain(self, now)
        self.examiner.settle()  # it may go on beside training
        self.rows[-1].samples = -len(self.rows)

    monkeypatch.setattr(Driver, "evaluate", evaluate)


def _histogram(books: Books) -> None:
    books.histogram["raspberry-pi-4", 3] += 1


def _cause(books: Books) -> None:
    next(iter(books.by_cause.values()))[1] += 1


def _member(books: Books) -> None:
    books.members.used[0] += 1


def _phase(books: Books) -> None:
    books.totals.phase_ns["upload"] = -1


VIOLATIONS: dict[str, tuple[Callable[[pytest.MonkeyPatch], None], str]] = {
    "a task that vanished": (_totals("sent", 1), "dispatches_balance"),
    "an arrival too many": (_totals("used", 1), "histogram_counts_used"),
    "bytes that no row has": (_totals("bytes_up", 8), "rows_sum_to_totals"),
    "bytes below zero": (_totals("bytes_down", -(10**12)), "bytes_not_negative"),
    "staleness from nowhere": (_totals("staleness_ended", 1), "staleness_conserved"),
    "versions unheard of": (_no_version, "staleness_conserved"),
    "an arrival in the past": (_back_in_time, "time_monotone_and_parts_sum"),
    "metrics that shrink": (_rows_shrink, "metrics_monotone"),
    "a staleness too many": (_books(_histogram), "histogram_counts_used"),
    "a cause too many": (_books(_cause), "staleness_parts_sum"),
    "a participation too many": (_books(_member), "participation_fits"),
    "a phase below zero": (_books(_phase), "phases_not_negative"),
}


@pytest.mark.parametrize("what", VIOLATIONS)
def test_a_violation_fails_the_run(what: str, runs_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plant, law = VIOLATIONS[what]
    plant(monkeypatch)
    with pytest.raises(InvariantBroken, match=law):
        run(config(stop={"updates": 16}), runs_dir=runs_dir)
    (folder,) = (p for p in runs_dir.iterdir() if not p.is_symlink())
    assert json.loads((folder / "exit.json").read_text())["code"] == "InvariantBroken"
    assert not (folder / "summary.json").exists()


def test_weights_that_are_not_finite_at_the_end(runs_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from aflctl.engine.course import record

    monkeypatch.setattr(record.torch, "isfinite", lambda w: torch.zeros_like(w, dtype=torch.bool))
    with pytest.raises(AflctlError, match=r"weights_finite|not finite"):
        run(config(stop={"updates": 16}), runs_dir=runs_dir)
