"""`aflctl compare`: many runs as one answer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from aflctl.cli import console
from aflctl.cli.options import JsonOption

if TYPE_CHECKING:
    from aflctl.report.comparison import Comparison

Words = Optional[list[str]]  # noqa: UP045
RunsArgument = Annotated[
    Words,
    typer.Argument(
        metavar="RUN...",
        help="Run directories, beginnings of run names (all that fit), folders of runs or of a suite, or latest.",
        show_default=False,
    ),
]
TargetOption = Annotated[
    Optional[list[float]],  # noqa: UP045
    typer.Option(
        "--target",
        metavar="ACCURACY",
        help="Time to this accuracy, as in 0.9; by default the highest that every run reached (else half of them). May "
        "be repeated.",
        show_default=False,
    ),
]
BaselineOption = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(
        "--baseline",
        metavar="LABEL",
        help="Paired differences against this group: a label, the beginning of one, a method, KEY=VALUE, or auto.",
        show_default=False,
    ),
]
OnOption = Annotated[
    Words,
    typer.Option("--on", metavar="COLUMN", help="What is judged; by default final accuracy and time to the targets.",
                 show_default=False),
]  # fmt: skip
UnfinishedOption = Annotated[
    bool, typer.Option("--unfinished", help="Count runs that are not done, as far as they came.")
]
StrictOption = Annotated[
    bool, typer.Option("--strict", help="Refuse runs whose data, fleets, budgets, seeds or code do not match.")
]
FilterOption = Annotated[
    Words,
    typer.Option("--filter", metavar="CONDITION", show_default=False,
                 help="Keep what meets it: local.lr=0.1, acc.final>0.8. May be repeated."),
]  # fmt: skip
RunsDirOption = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option("--runs-dir", metavar="DIR", help="Where runs are; by default ./runs.", show_default=False),
]


def compare(
    runs: RunsArgument = None,
    target: TargetOption = None,
    baseline: BaselineOption = None,
    on: OnOption = None,
    columns: Annotated[
        Words,
        typer.Option(
            "--columns",
            "-c",
            metavar="LIST",
            show_default=False,
            help="What to show: acc.final,time_to:0.8,staleness.mean,=local.lr,.host_s; =* is what differs.",
        ),
    ] = None,
    sort: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            "--sort", metavar="COLUMN", help="Best first; -COLUMN turns it round; label for names.", show_default=False
        ),
    ] = None,
    filter: FilterOption = None,
    format: Annotated[
        str, typer.Option("--format", "-f", metavar="FORMAT", help="table, markdown, latex, csv or json.")
    ] = "table",
    plot: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(
            "--plot",
            metavar="PLACE",
            show_default=False,
            help="Draw: a folder for all pictures, or one file (time.svg, updates.pdf, staleness.png, ...).",
        ),
    ] = None,
    unfinished: UnfinishedOption = False,
    strict: StrictOption = False,
    runs_dir: RunsDirOption = None,
    json: JsonOption = False,
) -> None:
    """Compare runs, grouped over seeds: accuracy, time to a target, staleness; a verdict against a baseline."""
    from aflctl.report.comparison import formats

    formats.check(format)
    result = compared(
        runs, runs_dir, targets=target, baseline=baseline, on=on, columns=columns, sort=sort, filters=filter,
        unfinished=unfinished, strict=strict,
    )  # fmt: skip
    drawn: list[Path] = []
    if plot is not None:
        from aflctl.report.pictures.figures import draw

        drawn = draw(result, plot)
    if json:
        console.json_document("compare", result.document())
    elif format == "table":
        _table(result)
    else:
        console.out(formats.render(result, format))
    tell(result)
    for path in drawn:
        console.err(f"picture: {path}")


def compared(
    runs: list[str] | None,
    runs_dir: Path | None,
    *,
    targets: list[float] | None,
    baseline: str | None,
    on: list[str] | None,
    columns: list[str] | None,
    sort: str | None,
    filters: list[str] | None,
    unfinished: bool,
    strict: bool,
) -> Comparison:
    """The comparison that the options ask for."""
    from aflctl.errors import UserError
    from aflctl.report import compare as comparing
    from aflctl.runs.rundir import find_all, runs_root

    root = runs_root(runs_dir)
    if not runs:
        hint = f"name runs, beginnings of their names, or a folder: aflctl compare {root}"
        raise UserError("nothing to compare", hint=hint)
    found = [path for reference in runs for path in find_all(reference, root)]
    return comparing(
        found, targets=targets or (), baseline=baseline, on=on or (), columns=columns or (), sort=sort,
        filters=filters or (), unfinished=unfinished, strict=strict,
    )  # fmt: skip


def _table(result: Comparison) -> None:
    import shutil
    import sys

    from aflctl.report.comparison.formats import as_table

    width = shutil.get_terminal_size((80, 24)).columns if console.is_terminal(sys.stdout) else 80
    plain = "utf" not in (getattr(sys.stdout, "encoding", None) or "ascii").lower()
    console.out(as_table(result, max(width, 60), plain))


def tell(result: Comparison) -> None:
    """What is no part of the answer, on stderr."""
    for name, reason in result.skipped:
        console.err(f"skipped: {name} {reason}")
    for text in result.doubts:
        console.err(f"warning: {text}")
    for text in result.notes:
        console.err(f"note: {text}")
    if len(result.groups) > 1 and not result.differences:
        console.err("note: no verdict without a baseline: --baseline LABEL, or --baseline auto")
