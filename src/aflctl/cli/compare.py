"""`aflctl compare`: many runs as one table."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from aflctl.cli import console
from aflctl.cli.options import JsonOption


def compare(
    runs: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Argument(
            metavar="RUN...",
            help="Run directories, beginnings of run names (all that fit), folders of runs, or latest.",
            show_default=False,
        ),
    ] = None,
    target: Annotated[
        Optional[list[float]],  # noqa: UP045
        typer.Option(
            "--target",
            metavar="ACCURACY",
            help="Time to this accuracy, as in 0.9; by default the highest that every run reached. May be repeated.",
            show_default=False,
        ),
    ] = None,
    format: Annotated[
        str, typer.Option("--format", "-f", metavar="FORMAT", help="table, markdown, csv, json or latex.")
    ] = "table",
    unfinished: Annotated[
        bool, typer.Option("--unfinished", help="Count runs that are not done, as far as they came.")
    ] = False,
    runs_dir: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--runs-dir", metavar="DIR", help="Where runs are; by default ./runs.", show_default=False),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Compare runs, grouped over seeds: accuracy, time to a target, staleness, traffic."""
    import shutil
    import sys

    from aflctl.errors import UserError
    from aflctl.report import compare as comparing
    from aflctl.report import formats
    from aflctl.runs.rundir import find_all, runs_root

    root = runs_root(runs_dir)
    if not runs:
        hint = f"name runs, beginnings of their names, or a folder: aflctl compare {root}"
        raise UserError("nothing to compare", hint=hint)
    found = [path for reference in runs for path in find_all(reference, root)]
    result = comparing.compare(found, targets=target or (), unfinished=unfinished)
    if json:
        console.json_document("compare", result.document())
    elif format == "table":
        width = shutil.get_terminal_size((80, 24)).columns if console.is_terminal(sys.stdout) else 80
        plain = "utf" not in (getattr(sys.stdout, "encoding", None) or "ascii").lower()
        console.out(formats.as_table(result, width, plain))
    else:
        console.out(formats.render(result, format))
    for name, reason in result.skipped:
        console.err(f"skipped: {name} {reason}")
    for note in result.notes:
        console.err(f"note: {note}")
