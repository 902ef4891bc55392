"""`aflctl run`: runs a configuration, or shows the run that it finished before."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from aflctl.cli.options import ConfigArgument, JsonOption, SetOption


def run(
    config: ConfigArgument = None,
    set_: SetOption = None,
    seed: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option("--seed", metavar="N", help="The master seed.", show_default=False),
    ] = None,
    runs_dir: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(
            "--runs-dir", metavar="DIR", help="Where runs are written; by default ./runs.", show_default=False
        ),
    ] = None,
    rerun: Annotated[bool, typer.Option("--rerun", help="Run again although this very run is finished.")] = False,
    jobs: Annotated[
        int, typer.Option("--jobs", metavar="N", min=1, help="Runs at once, where a configuration has many.")
    ] = 1,
    json: JsonOption = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress, no tables: errors only.")] = False,
) -> None:
    """Run an experiment. The same configuration, code and data land in the same directory."""
    from aflctl.cli.running import run_and_tell

    run_and_tell(config, set_ or (), {"seed": seed}, runs_dir=runs_dir, rerun=rerun, json=json, quiet=quiet)
