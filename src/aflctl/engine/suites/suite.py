"""Many runs as one: what is missing is executed, failures of single runs are survived, the comparison is the end.

Nothing is remembered between two calls but the run directories: finished ones are kept, killed ones continue. Besides
them a suite leaves runs/suites/<name>-<8 hex>/ with suite.json (what became of each run), comparison.md, output.log.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from aflctl.config.matrix import Draft, Drafts, expand
from aflctl.engine import runs_root
from aflctl.engine.checks import CHECKS
from aflctl.engine.suites.board import Board, Row, Told
from aflctl.errors import AflctlError, UserError
from aflctl.plan import config_digest, resolve
from aflctl.runs.atomic import disk, write_json, write_text
from aflctl.runs.rundir import SUITE

if TYPE_CHECKING:
    from aflctl.config.load import Loaded
    from aflctl.report.comparison import Comparison

FOLDER = "suites"
OUTPUT = "output.log"


@dataclass(frozen=True)
class SuiteResult:
    """What became of a suite.

    path         its folder below the runs' folder; None for a dry run
    rows         one per run, in the order of the matrix
    comparison   of the runs that are done; None where there is none, or nothing to compare
    forecast     dry run only: host seconds of what is missing, `total_s` one after the other, `wall_s` with `jobs`
    notes        what else a reader should know
    """

    name: str
    path: Path | None
    rows: Sequence[Row]
    comparison: Comparison | None
    exit_code: int
    forecast: Mapping[str, Any] | None = None
    notes: tuple[str, ...] = ()

    def document(self) -> dict[str, Any]:
        """For JSON, without the envelope."""
        compared = self.comparison.document() if self.comparison is not None else None
        rows = [{**vars(row)} for row in self.rows]
        for row in rows:
            for hidden in ("began", "from_share"):
                del row[hidden]
            row["seconds"] = round(row["seconds"], 3)
        return {
            "name": self.name,
            "path": None if self.path is None else str(self.path),
            "exit_code": self.exit_code,
            "runs": rows,
            "forecast": self.forecast,
            "comparison": compared,
            "notes": list(self.notes),
        }


def run_suite(
    source: str | Path | Mapping[str, Any] | None = None,
    *,
    sets: Sequence[str] = (),
    flags: Mapping[str, Any] | None = None,
    jobs: int = 1,
    runs_dir: str | Path | None = None,
    rerun: bool = False,
    dry_run: bool = False,
    engine: Literal["local", "slurm"] = "local",
    slurm: Mapping[str, Any] | None = None,
    progress: Told | None = None,
    notice: Callable[[str], None] | None = None,
) -> SuiteResult:
    """Runs all runs of a configuration with `matrix:` that are not done yet, and compares them.

    jobs       runs at once; above 1 each has a process of its own and one worker
    dry_run    runs nothing: says what is missing, and how long it would take here
    engine     `slurm` submits every run as a job of its own, at most `jobs` at a time (all, if 1); needs submitit
    slurm      options for submitit, as {"timeout_min": 60}; {"cluster": "local"} tries it out on this machine
    progress   told of each change, with the board and the number of the row
    """
    if jobs < 1:
        raise UserError(f"--jobs must be at least 1, not {jobs}")
    drafts = expand(source, sets, flags, checks=CHECKS, digest=lambda loaded: resolve(loaded).digest)
    if jobs > 1 and engine == "local":
        drafts = replace(drafts, cells=tuple(map(_alone, drafts.cells, drafts.loaded)))
    root = runs_root(runs_dir)
    rows = [Row(draft.label, draft.values) for draft in drafts.cells]
    notes = (f"{drafts.merged} runs are left out: --set makes them equal to others",) if drafts.merged else ()
    if dry_run:
        from aflctl.engine.suites.outlook import outlook

        forecast = outlook(drafts, root, rows, jobs, notice)
        return SuiteResult(drafts.name, None, rows, None, 0, forecast, notes)
    folder = root / FOLDER / _folder(drafts)
    with disk(folder):
        folder.mkdir(parents=True, exist_ok=True)
    board = Board(rows, jobs, _recording(folder, drafts.name, progress))
    _execute(drafts, board, engine, slurm or {}, root, rerun, folder)
    _store(folder, drafts.name, board)
    comparison, said = _compare(board)
    if comparison is not None:
        write_text(folder / "comparison.md", comparison.render("markdown") + "\n")
    return SuiteResult(drafts.name, folder, board.rows, comparison, board.exit_code, None, (*notes, *said))


def _execute(
    drafts: Drafts, board: Board, engine: str, slurm: Mapping[str, Any], root: Path, rerun: bool, folder: Path
) -> None:
    todo = range(len(drafts.cells))
    if engine == "slurm":
        from aflctl.engine.suites.slurm import Cluster

        Cluster(drafts.cells, board.jobs, root.resolve(), rerun, folder.resolve(), board, slurm).run(todo)
    elif board.jobs > 1 and len(drafts.cells) > 1:
        from aflctl.engine.suites.crew import Crew

        Crew(drafts.cells, board.jobs, root, rerun, folder / OUTPUT, board).run(todo)
    else:
        _one_by_one(drafts.cells, board, root, rerun)


def _one_by_one(drafts: Sequence[Draft], board: Board, root: Path, rerun: bool) -> None:
    """In this process, each with all cores."""
    from aflctl.engine.parts.opened import Opened
    from aflctl.engine.suites.crew import execute

    opened = Opened()
    for i, draft in enumerate(drafts):
        board.start(i)
        ending = execute(draft, root, rerun, opened, lambda kind, *rest, i=i: getattr(board, kind)(i, *rest))
        board.end(i, ending)
        if ending.state == "stopped":
            return


def _alone(draft: Draft, loaded: Loaded) -> Draft:
    """With one worker, unless the configuration says how many."""
    if loaded.config.engine.workers is not None:
        return draft
    return replace(draft, flags={**draft.flags, "engine.workers": 1})


def _recording(folder: Path, name: str, progress: Told | None) -> Told:
    """suite.json is written when a run is over, so that it tells the truth even if this process is killed."""

    def told(board: Board, i: int) -> None:
        if board.rows[i].state in ("done", "failed", "stopped", "busy"):
            _store(folder, name, board)
        if progress is not None:
            progress(board, i)

    return told


def _store(folder: Path, name: str, board: Board) -> None:
    head = {"schema": "aflctl.suite-record", "version": 1, "name": name}
    write_json(folder / SUITE, {**head, "runs": board.document()})


def _folder(drafts: Drafts) -> str:
    digests = sorted(config_digest(loaded.config) for loaded in drafts.loaded)
    name = re.sub(r"[^0-9A-Za-z._-]+", "-", drafts.name).strip("-.") or "suite"
    return f"{name}-{hashlib.sha256(os.linesep.join(digests).encode()).hexdigest()[:8]}"


def _compare(board: Board) -> tuple[Comparison | None, tuple[str, ...]]:
    """The comparison of what is done, with verdicts wherever seeds allow them; or why there is none."""
    from aflctl.report.comparison import AUTO, compare

    done = [row.path for row in board.rows if row.state in ("done", "kept") and row.path is not None]
    if not done:
        return None, ()
    try:
        return compare(done, baseline=AUTO), ()
    except AflctlError as error:
        return None, (f"no comparison: {error.message}",)
