"""Tells of a suite: a live table on a terminal, else a line when a run begins or ends; then the comparison."""

from __future__ import annotations

import json as json_text
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from aflctl.cli import console

if TYPE_CHECKING:
    from aflctl.engine.suites.board import Board, Row
    from aflctl.engine.suites.suite import SuiteResult

STATES = {
    "waiting": "waiting", "running": "running", "done": "done", "kept": "was done", "failed": "FAILED",
    "stopped": "stopped", "busy": "elsewhere",
}  # fmt: skip
ORDER = {"running": 0, "failed": 1, "stopped": 2, "busy": 2, "waiting": 3, "done": 4, "kept": 5}
DRAWN_EVERY_S = 0.2


class Teller:
    """What a suite says while it works."""

    def __init__(self, quiet: bool) -> None:
        self.quiet, self.started = quiet, time.perf_counter()
        self._live: Any = None
        self._board: Board | None = None
        self._drawn = 0.0
        self._begun: set[int] = set()

    def progress(self, board: Board, i: int) -> None:
        """A row has changed."""
        if self.quiet:
            return
        if console.is_terminal(sys.stderr):
            self._draw(board)
        else:
            self._line(board, i)

    def close(self) -> None:
        """The table is left standing, as it is in the end."""
        if self._live is not None:
            if self._board is not None:
                self._show(self._board)
            self._live.stop()
            self._live = None

    def _draw(self, board: Board) -> None:
        from rich.console import Console
        from rich.live import Live

        if self._live is None:
            plain: Any = None if os.environ.get("NO_COLOR") else "auto"
            self._live = Live(console=Console(file=sys.stderr, highlight=False, color_system=plain), auto_refresh=False)
            self._live.start()
        self._board = board
        if time.perf_counter() - self._drawn >= DRAWN_EVERY_S:
            self._show(board)

    def _show(self, board: Board) -> None:
        self._drawn = time.perf_counter()
        height, width = self._live.console.height - 7, self._live.console.width
        self._live.update(table(board, height, self._drawn - self.started, width), refresh=True)

    def _line(self, board: Board, i: int) -> None:
        """Begun and ended, once each."""
        row = board.rows[i]
        place = f"[{i + 1}/{len(board.rows)}]"
        if row.state == "running":
            if row.path is None or i in self._begun:
                return
            self._begun.add(i)
            console.err(f"{place} running  {row.label}" + (f"  ({row.note})" if row.note else ""))
            return
        parts = [place, STATES[row.state].ljust(8), row.label]
        if row.state in ("done", "kept") and row.accuracy is not None:
            parts.append(f"accuracy {100 * row.accuracy:.1f} %")
        if row.state == "done":
            parts.append(f"{row.seconds:.1f} s")
        if row.message:
            parts.append(row.message)
        left = board.left() if board.count("waiting", "running") and row.state == "done" else None
        if left is not None:
            parts.append(f"about {duration(left)} left")
        console.err("  ".join(parts).rstrip())


def table(board: Board, height: int, spent_s: float, width: int = 80) -> Any:
    """The rows that matter most now, as many as fit, below a line about all."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    done = board.count("done", "kept")
    left = board.left() if board.count("waiting", "running") else None
    title = f"{done} of {len(board.rows)} runs done, {duration(spent_s)} so far"
    if board.stopping:
        title += "; stopping: the runs save their state"
    elif left is not None:
        title += f", about {duration(left)} left"
    shown = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, pad_edge=False)
    shown.add_column("run", no_wrap=True)
    shown.add_column("state", no_wrap=True, min_width=len("running"))
    for name, least in (("progress", 8), ("accuracy", 8), ("left", 11)):
        shown.add_column(name, justify="right", no_wrap=True, min_width=least)
    rows = sorted(enumerate(board.rows), key=lambda item: (ORDER[item[1].state], -item[0] if _over(item[1]) else 0))
    chosen = sorted(rows[: max(3, height)], key=lambda item: item[0])
    now = time.perf_counter()
    for _, row in chosen:
        rest = row.left(now)
        style = {"failed": "red", "running": "bold", "waiting": "dim", "kept": "dim"}.get(row.state, "")
        label = middle(row.label, max(20, width - 49))
        share = f"{100 * row.share:.0f} %" if row.share or row.state == "running" else ""
        accuracy = f"{100 * row.accuracy:.1f} %" if row.accuracy is not None else ""
        left_ = duration(rest) if rest is not None else ""
        shown.add_row(Text(label), STATES[row.state], share, accuracy, left_, style=style)
    said = [f"and {len(rows) - len(chosen)} more"] if len(chosen) < len(rows) else []
    said += [middle(f"{row.label}: {row.message}", width - 1) for row in board.rows if row.message][-1:]
    if said:
        shown.caption, shown.caption_justify = Text("\n".join(said)), "left"
    return shown


def _over(row: Row) -> bool:
    return row.state in ("done", "kept")


def middle(text: str, width: int) -> str:
    """Both ends of a text that is too long: a method's name stands first, its seed last."""
    head = width * 2 // 3
    return text if len(text) <= width else f"{text[: head - 1]}…{text[len(text) - (width - head) :]}"


def duration(seconds: float) -> str:
    """`45 s`, `3 min 20 s`, `2 h 5 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def run_and_tell(
    config: str | None,
    sets: Sequence[str],
    flags: Mapping[str, object],
    *,
    jobs: int,
    runs_dir: Path | None,
    rerun: bool,
    dry_run: bool,
    engine: Literal["local", "slurm"],
    slurm: Sequence[str],
    json: bool,
    quiet: bool,
) -> int:
    """The body of `aflctl run` for a configuration with a matrix; returns the exit code."""
    from aflctl.engine.suites.suite import run_suite
    from aflctl.errors import Interrupted

    teller = Teller(quiet or json)
    try:
        result = run_suite(
            config, sets=sets, flags=flags, jobs=jobs, runs_dir=runs_dir, rerun=rerun, dry_run=dry_run, engine=engine,
            slurm=options(slurm), progress=teller.progress, notice=None if quiet or json else console.status,
        )  # fmt: skip
    finally:
        teller.close()
        console.end_status()
    if result.exit_code == Interrupted.exit_code:
        left = sum(row.state not in ("done", "kept", "failed") for row in result.rows)
        raise Interrupted(f"stopped; {left} of {len(result.rows)} runs are not done", hint="the same command goes on")
    if json:
        console.json_document("suite", result.document())
    elif dry_run and not quiet:
        _tell_forecast(result)
    elif not quiet:
        _tell(result)
    return result.exit_code


def options(texts: Sequence[str]) -> dict[str, Any]:
    """`timeout_min=60` as {"timeout_min": 60}."""
    from aflctl.errors import UserError

    found: dict[str, Any] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise UserError(f"{text!r} is not KEY=VALUE", where="--slurm", hint="write --slurm timeout_min=60, say")
        try:
            found[key] = json_text.loads(value)
        except ValueError:
            found[key] = value
    return found


def _tell_forecast(result: SuiteResult) -> None:
    words = {"kept": "done", "stopped": "unfinished", "waiting": "missing"}
    cells = [
        (
            row.label,
            words[row.state],
            "" if row.state == "kept" else f"{row.seconds:.1f}" if row.seconds else "?",
            row.note,
        )
        for row in result.rows
    ]
    console.table(("run", "state", "host s", "time is"), cells)
    said = result.forecast or {}
    console.out()
    console.out(f"{said['missing']} of {said['runs']} runs are missing: about {duration(said['total_s'])} of work")
    if said["jobs"] > 1:
        console.out(f"with --jobs {said['jobs']} at least {duration(said['wall_s'])}, if there are as many idle cores")
    if said["unknown"]:
        console.out(f"{said['unknown']} runs are not counted: their time could not be measured")
    for note in result.notes:
        console.err(f"note: {note}")


def _tell(result: SuiteResult) -> None:
    import shutil

    from aflctl.cli.compare import tell
    from aflctl.report.comparison import formats

    failed = [row for row in result.rows if row.state == "failed"]
    if result.comparison is not None:
        wide = shutil.get_terminal_size((80, 24)).columns if console.is_terminal(sys.stdout) else 80
        plain = "utf" not in (getattr(sys.stdout, "encoding", None) or "ascii").lower()
        console.out(formats.as_table(result.comparison, wide, plain))
        tell(result.comparison)
    for note in result.notes:
        console.err(f"note: {note}")
    for row in failed:
        console.error(f"{row.label}: {row.message}")
    busy = [row for row in result.rows if row.state == "busy"]
    for row in busy:
        console.err(f"note: {row.label}: {row.message}")
    console.out()
    fresh = sum(row.state == "done" for row in result.rows)
    kept = sum(row.state == "kept" for row in result.rows)
    words = [f"{fresh} done now", f"{kept} before" if kept else "", f"{len(failed)} failed" if failed else "",
             f"{len(busy)} made elsewhere (later, the same command shows them too)" if busy else ""]  # fmt: skip
    console.out(f"{len(result.rows)} runs: {', '.join(word for word in words if word)}")
    if result.comparison is not None and len(result.comparison.groups) > 1:
        console.out(f"as a page, with pictures: aflctl report {result.path}")
    console.out(f"what became of each: {result.path}/suite.json")
