"""Drives one run and tells of it: progress on stderr, the results on stdout."""

from __future__ import annotations

import shlex
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aflctl.cli import console

if TYPE_CHECKING:
    from aflctl.engine import RunResult


class Teller:
    """What a run says while it works: one changing line on a terminal, else a line per evaluation."""

    def __init__(self, quiet: bool) -> None:
        self.quiet = quiet
        self.started = time.perf_counter()

    def begun(self, path: Path, note: str) -> None:
        """The run's directory is made."""
        if self.quiet:
            return
        if note:
            console.err(note)
        console.err(f"running in {path}")

    def progress(self, step: Any) -> None:
        """After each evaluation."""
        if self.quiet:
            return
        row = step.row
        parts = [
            f"{round(100 * min(1.0, step.share)):3d} %",
            f"update {row.update}",
            f"version {row.version}",
            f"{row.virtual_s:.6g} s virtual",
            f"accuracy {100 * row.accuracy:.1f} %" if row.accuracy is not None else "",
            f"staleness {step.staleness_mean:.2f}",
            f"{time.perf_counter() - self.started:.1f} s",
        ]
        console.status("  ".join(p for p in parts if p))


def run_and_tell(
    config: str | None,
    sets: Sequence[str],
    flags: Mapping[str, object],
    *,
    jobs: int = 1,
    runs_dir: Path | None,
    rerun: bool,
    dry_run: bool = False,
    engine: str = "local",
    slurm: Sequence[str] = (),
    json: bool,
    quiet: bool,
) -> int:
    """The body of `aflctl run`; returns the exit code."""
    from aflctl.config.matrix import is_matrix
    from aflctl.errors import UserError

    if engine not in ("local", "slurm"):
        raise UserError(f"there is no engine {engine!r}", where="--engine", hint="use local or slurm")
    if is_matrix(config, sets) or dry_run or engine == "slurm":
        from aflctl.cli import suite

        return suite.run_and_tell(
            config, sets, flags, jobs=jobs, runs_dir=runs_dir, rerun=rerun, dry_run=dry_run,
            engine="slurm" if engine == "slurm" else "local", slurm=slurm, json=json, quiet=quiet,
        )  # fmt: skip
    _one(config, sets, flags, runs_dir, rerun, json, quiet)
    return 0


def _one(
    config: str | None,
    sets: Sequence[str],
    flags: Mapping[str, object],
    runs_dir: Path | None,
    rerun: bool,
    json: bool,
    quiet: bool,
) -> None:
    from aflctl.engine import run

    teller = Teller(quiet or json)
    try:
        result = run(
            config,
            sets=sets,
            flags=flags,
            runs_dir=runs_dir,
            rerun=rerun,
            progress=teller.progress,
            begun=teller.begun,
        )
    finally:
        console.end_status()
    if json:
        facts = {"path": str(result.path), "fresh": result.fresh, "note": result.note, "summary": dict(result.summary)}
        console.json_document("run", facts)
    elif not quiet:
        _tell(result, config)


def _tell(result: RunResult, config: str | None) -> None:
    from aflctl.report import render
    from aflctl.runs.load import Run

    if result.note and not result.fresh:
        console.err(result.note)
    console.show(render.terminal(Run(result.path)))
    for text in render.warnings(result.summary):
        console.err(f"warning: {text}")
    console.out()
    console.out(f"run directory: {result.path}")
    other = "fedbuff" if result.summary.get("algorithm") == "fedasync" else "fedasync"
    again = ["aflctl", "run", *([config] if config else []), "--set", f"algorithm={other}"]
    both = ["aflctl", "compare", str(result.path.parent)]
    console.out(f"next: aflctl show latest --why; {shlex.join(again)}; {shlex.join(both)}")
