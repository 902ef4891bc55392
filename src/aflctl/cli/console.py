"""The one place that prints. stdout carries the answer, stderr everything else.

Colour and progress bars appear on a terminal only, colour not with NO_COLOR. A reader that goes away
(`aflctl list | head`) is no error: what is left is dropped in silence.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from aflctl.errors import AflctlError

DOCUMENT_VERSION = 1


def out(text: str = "") -> None:
    """A line of the answer."""
    _write(sys.stdout, text + "\n")


def err(text: str = "") -> None:
    """A line for people: progress, notes, warnings."""
    _write(sys.stderr, text + "\n")


def json_document(kind: str, payload: Mapping[str, Any]) -> None:
    """The one document of a `--json` command, on stdout."""
    document = {"schema": f"aflctl.{kind}", "version": DOCUMENT_VERSION, **payload}
    _write(_answer or sys.stdout, json.dumps(document, indent=2, default=str) + "\n")


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]], *, title: str | None = None) -> None:
    """A table on stdout: wrapped to the width of a terminal, one line per row in a pipe. Numbers are set right."""
    cells = [["" if value is None else str(value) for value in row] for row in rows]
    right = [bool(cells) and all(_is_number(row[i]) for row in cells) for i in range(len(columns))]
    if is_terminal(sys.stdout):
        _rich_table(columns, cells, right, title)
        return
    if title:
        out(title)
    widths = [max(len(row[i]) for row in [list(columns), *cells]) for i in range(len(columns))]
    for row in [list(columns), *cells]:
        line = "  ".join(t.rjust(w) if r else t.ljust(w) for t, w, r in zip(row, widths, right, strict=True))
        out(line.rstrip())


def show(*renderables: Any) -> None:
    """Things of rich on stdout; without colour in a pipe, and there as wide as COLUMNS says, or 120."""
    from rich.console import Console

    wide = None if is_terminal(sys.stdout) else int(os.environ.get("COLUMNS") or 120)
    try:
        plain: Any = None if os.environ.get("NO_COLOR") else "auto"
        Console(file=sys.stdout, highlight=False, width=wide, color_system=plain).print(*renderables, sep="\n")
    except BrokenPipeError:
        _silence(sys.stdout)


def status(text: str) -> None:
    """Progress, on stderr: a line that replaces the one before on a terminal, else a line of its own."""
    global _status_wide
    if not is_terminal(sys.stderr):
        err(text)
        return
    text = text[: shutil.get_terminal_size().columns - 1]
    _write(sys.stderr, "\r" + text.ljust(_status_wide))
    _status_wide = len(text)


def end_status() -> None:
    """Leaves the changing line standing and goes to the next."""
    global _status_wide
    if _status_wide:
        _write(sys.stderr, "\n")
    _status_wide = 0


def heading(text: str) -> None:
    """A line of the answer that stands out on a terminal."""
    out(_styled(text, "1", sys.stdout))


def error(problem: AflctlError | str, *, hint: str | None = None, where: str | None = None) -> None:
    """What went wrong, where, and what to do, on stderr."""
    if not isinstance(problem, str):
        hint, where, message = problem.hint, problem.where, problem.message
    else:
        message = problem
    place = f"{where}: " if where else ""
    err(f"{_styled('error:', '1;31', sys.stderr)} {place}{message}")
    if hint:
        err(f"{_styled('hint:', '1', sys.stderr)} {hint}")


def json_error(
    code: int,
    message: str,
    hint: str | None = None,
    where: str | None = None,
    problems: Sequence[Mapping[str, Any]] = (),
) -> None:
    """The document of a `--json` command that failed; `problems` are the single mistakes of a configuration."""
    error = {"code": code, "message": message, "hint": hint, "where": where}
    json_document("error", {"error": {**error, "problems": list(problems)} if problems else error})


def is_terminal(stream: TextIO) -> bool:
    """Whether a person watches `stream`."""
    try:
        return stream.isatty() and os.environ.get("TERM") != "dumb"
    except (AttributeError, ValueError):
        return False


_answer: TextIO | None = None
_status_wide = 0


@contextmanager
def answer_only() -> Iterator[None]:
    """Inside, whatever else is printed goes to stderr, so that stdout holds one JSON document and nothing besides."""
    global _answer
    before, plain = _answer, sys.stdout
    _answer, sys.stdout = before or plain, sys.stderr
    try:
        yield
    finally:
        _answer, sys.stdout = before, plain


def finish() -> None:
    """Flushes both streams, so that a reader that is gone, or a full disk, does not raise at exit."""
    for stream in (sys.stdout, sys.stderr):
        try:
            _write(stream, "")
        except OSError:
            _silence(stream)


def _write(stream: TextIO | None, text: str) -> None:
    if stream is None:
        return
    try:
        stream.write(text)
        stream.flush()
    except UnicodeEncodeError:
        stream.write(text.encode(stream.encoding or "ascii", "replace").decode(stream.encoding or "ascii"))
        stream.flush()
    except BrokenPipeError:
        _silence(stream)
    except OSError:
        if stream is not sys.stderr:
            raise
        _silence(stream)  # a run goes on where nobody can be told of it: the disk is full, the terminal is gone
    except ValueError:
        pass  # closed by whoever captured it


def _silence(stream: TextIO) -> None:
    """What is written from now on goes nowhere; the interpreter's own flush at exit must not fail either."""
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
    except (OSError, ValueError):
        pass


def _styled(text: str, code: str, stream: TextIO) -> str:
    return f"\x1b[{code}m{text}\x1b[0m" if is_terminal(stream) and not os.environ.get("NO_COLOR") else text


def _is_number(text: str) -> bool:
    try:
        float(text.removesuffix("%"))
    except ValueError:
        return text in ("", "-")
    return True


def _rich_table(columns: Sequence[str], cells: list[list[str]], right: Sequence[bool], title: str | None) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    shown = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, pad_edge=False)
    for name, number in zip(columns, right, strict=True):
        shown.add_column(name, justify="right" if number else "left", overflow="fold")
    for row in cells:
        shown.add_row(*(Text(value) for value in row))
    show(shown)
