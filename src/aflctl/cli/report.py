"""`aflctl report`: a comparison as one page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from aflctl.cli import console
from aflctl.cli.compare import (
    BaselineOption,
    FilterOption,
    OnOption,
    RunsArgument,
    RunsDirOption,
    StrictOption,
    TargetOption,
    UnfinishedOption,
    Words,
    compared,
    tell,
)
from aflctl.cli.options import JsonOption


def report(
    runs: RunsArgument = None,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="The page.")] = Path("report.html"),
    title: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--title", metavar="TEXT", help="The heading of the page.", show_default=False),
    ] = None,
    target: TargetOption = None,
    baseline: BaselineOption = "auto",
    on: OnOption = None,
    columns: Annotated[
        Words, typer.Option("--columns", "-c", metavar="LIST", help="As in aflctl compare.", show_default=False)
    ] = None,
    filter: FilterOption = None,
    unfinished: UnfinishedOption = False,
    strict: StrictOption = False,
    runs_dir: RunsDirOption = None,
    json: JsonOption = False,
) -> None:
    """Write one self-contained HTML page: verdicts, tables, pictures, configurations, how to repeat it.

    The baseline is FedAvg where it is among the runs, else FedAsync, else the group that was named first.
    """
    from aflctl.report.page import write_page

    result = compared(
        runs, runs_dir, targets=target, baseline=baseline, on=on, columns=columns, sort=None, filters=filter,
        unfinished=unfinished, strict=strict,
    )  # fmt: skip
    write_page(result, output, title)
    if json:
        console.json_document("report", {"path": str(output), "bytes": output.stat().st_size, **result.document()})
    else:
        console.out(str(output))
    tell(result)
