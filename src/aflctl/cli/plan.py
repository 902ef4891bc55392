"""`aflctl plan`: what a run would do, without training."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from aflctl.cli import console
from aflctl.cli.options import ConfigArgument, JsonOption, SetOption

if TYPE_CHECKING:
    from aflctl.engine.plans.planning import Step


def plan(
    config: ConfigArgument = None,
    set_: SetOption = None,
    seed: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option("--seed", metavar="N", help="The master seed.", show_default=False),
    ] = None,
    runs_dir: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(
            "--runs-dir", metavar="DIR", help="Plans are written to DIR/plans; by default ./runs.", show_default=False
        ),
    ] = None,
    rows: Annotated[bool, typer.Option("--rows", help="Keep a row per task and per client, as a run does.")] = False,
    json: JsonOption = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress, no tables: errors only.")] = False,
) -> None:
    """The schedule of a run without training it: staleness, participation, traffic, energy, host time."""
    from aflctl.engine.plans.planning import plan as make

    try:
        result = make(
            config,
            sets=set_ or (),
            flags={"seed": seed},
            runs_dir=runs_dir,
            rows=rows,
            progress=None if quiet or json else _progress,
        )
    finally:
        console.end_status()
    if json:
        console.json_document("plan", {"path": str(result.path), **result.document})
    elif not quiet:
        from aflctl.report.forecast import Forecast

        console.show(Forecast(result.document))
        console.out()
        console.out(f"stored in {result.path}")


def _progress(step: Step) -> None:
    share, moment = f"{round(100 * step.share):3d} %", f"{step.virtual_s:.6g} s virtual"
    console.status(f"{share}  update {step.updates}  version {step.versions}  {moment}")
