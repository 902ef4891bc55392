"""`aflctl verify`: runs a run again and compares."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from aflctl.cli import console
from aflctl.cli.options import JsonOption

if TYPE_CHECKING:
    from aflctl.engine.verify import Verdict


def verify(
    run: Annotated[
        str, typer.Argument(metavar="RUN", help="A run directory, the beginning of a run's name, or latest.")
    ] = "latest",
    until: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option("--until", metavar="N", min=1, help="Only the first N updates.", show_default=False),
    ] = None,
    runs_dir: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--runs-dir", metavar="DIR", help="Where runs are; by default ./runs.", show_default=False),
    ] = None,
    json: JsonOption = False,
) -> int:
    """Re-execute a run in a temporary folder and compare its four digests."""
    from aflctl.engine.verify import verify as again
    from aflctl.runs.rundir import find, runs_root

    verdict = again(find(run, runs_root(runs_dir)), until=until)
    if json:
        console.json_document("verify", _document(verdict))
    else:
        _tell(verdict)
    return 0 if verdict.same else 1


def _document(verdict: Verdict) -> dict[str, Any]:
    return {
        "run": verdict.run,
        "same": verdict.same,
        "until": verdict.until,
        "digests": dict(verdict.equal),
        "rows": dict(verdict.rows),
        "first_difference": {
            name: {"row": row, "column": column, "recorded": old, "now": new}
            for name, (row, column, old, new) in verdict.first.items()
        },
        "environment": list(verdict.environment),
    }


def _tell(verdict: Verdict) -> None:
    from aflctl.engine.verify import MAY_DIFFER

    if verdict.until is None:
        words = {True: "same", False: "DIFFERS", None: "not compared"}
        console.table(["digest", "recorded and now"], [(name, words[same]) for name, same in verdict.equal.items()])
    else:
        rows = ", ".join(f"{n} rows of {name}.csv" for name, n in verdict.rows.items())
        console.out(f"compared the first {verdict.until} updates: {rows}")
    for name, (row, column, old, new) in verdict.first.items():
        console.out(f"{name}.csv, row {row}, column {column}: recorded {old}, now {new}")
    if verdict.environment:
        console.out("what changed since: " + "; ".join(verdict.environment))
        if not verdict.same:
            console.out(MAY_DIFFER)
    console.out(f"{verdict.run}: verified" if verdict.same else f"{verdict.run}: NOT the same")
