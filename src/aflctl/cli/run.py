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
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Of many runs: list them, and estimate how long this machine would take."),
    ] = False,
    engine: Annotated[
        str, typer.Option("--engine", metavar="ENGINE", help="Where many runs are executed: local or slurm.")
    ] = "local",
    slurm: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(
            "--slurm",
            metavar="KEY=VALUE",
            help="An option for submitit, as in timeout_min=60. May be repeated.",
            show_default=False,
        ),
    ] = None,
    json: JsonOption = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress, no tables: errors only.")] = False,
) -> None:
    """Run an experiment. The same configuration, code and data land in the same directory.

    A configuration with `matrix:` is many runs: those that are missing are executed, then all are compared.
    """
    from aflctl.cli.running import run_and_tell

    code = run_and_tell(
        config, set_ or (), {"seed": seed}, jobs=jobs, runs_dir=runs_dir, rerun=rerun, dry_run=dry_run, engine=engine,
        slurm=slurm or (), json=json, quiet=quiet,
    )  # fmt: skip
    if code:
        raise typer.Exit(code)
