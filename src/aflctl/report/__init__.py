"""Tables, statistics and pictures; reads run directories only."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aflctl.report.comparison import Comparison, compare

_HOMES = {"Comparison": "comparison", "compare": "comparison"}

__all__ = ["Comparison", "compare", "write_all"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'aflctl.report' has no attribute {name!r}")
    return getattr(import_module(f"aflctl.report.{_HOMES[name]}"), name)


def write_all(folder: Path, summary: Mapping[str, Any] | None = None) -> None:
    """Everything in a run directory that follows from its records.

    staleness.csv, clients.csv where there is none, the pictures (personal.png where clients were tested) and
    results.md; `summary` where summary.json is not written yet.
    """
    from aflctl.report import render
    from aflctl.report.pictures import personal, plots
    from aflctl.report.statistics import client_rows, staleness_rows
    from aflctl.runs.atomic import write_text
    from aflctl.runs.load import Run
    from aflctl.runs.records import CLIENTS, STALENESS, write_rows

    run = Run(folder)
    if summary is not None:
        run.summary = dict(summary)
    updates = run.columns("updates")
    write_rows(folder / "staleness.csv", STALENESS, staleness_rows(updates))
    if not (folder / "clients.csv").exists():
        write_rows(folder / "clients.csv", CLIENTS, client_rows(updates))
    plots.curve(run, folder / "curve.png")
    plots.staleness(run, folder / "staleness.png")
    plots.participation(run, folder / "participation.png")
    personal.picture(run, folder / "personal.png")
    write_text(folder / "results.md", render.markdown(run))
