"""Several runs at once: one process each, started anew (spawn), that takes run after run.

A process of the crew is in a session of its own, so that Ctrl-C on the terminal reaches the suite alone, which passes
it on; one whose suite is gone stops itself. In both cases the run that it works on saves its state. A process that dies
costs its run, and another takes its place.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import connection, get_context, parent_process
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from aflctl.engine import run_loaded
from aflctl.engine.checks import CHECKS
from aflctl.engine.suites.board import Board, Ending
from aflctl.errors import AflctlError, Interrupted, RunBusy

if TYPE_CHECKING:
    from multiprocessing.context import SpawnProcess

    from aflctl.config.matrix import Draft
    from aflctl.engine.course.drive import Progress
    from aflctl.engine.parts.opened import Opened

SIGNALS = (signal.SIGINT, signal.SIGTERM)
Tell = Callable[..., None]


def execute(draft: Draft, root: Path, rerun: bool, opened: Opened | None = None, tell: Tell | None = None) -> Ending:
    """Runs one run of a suite; whatever happens to it is in what is returned."""

    def begun(path: Path, note: str) -> None:
        if tell is not None:
            tell("begun", str(path), note)

    def progress(step: Progress) -> None:
        if tell is not None:
            tell("step", step.share, step.row.accuracy, step.row.update)

    try:
        loaded = draft.load(checks=CHECKS)
        result = run_loaded(loaded, runs_dir=root, rerun=rerun, begun=begun, progress=progress, opened=opened)
    except (Interrupted, KeyboardInterrupt):
        return Ending("stopped", code=Interrupted.exit_code)
    except RunBusy as error:
        return Ending("busy", code=1, message=error.message)
    except AflctlError as error:
        where = f"{error.where}: " if error.where else ""
        return Ending("failed", code=error.exit_code, message=f"{where}{error.message}")
    except (Exception, SystemExit) as error:  # a plug-in may raise anything, and the other runs go on
        return Ending("failed", code=1, message=f"{type(error).__name__}: {error}".rstrip(": "))
    accuracy = (result.summary.get("final") or {}).get("accuracy")
    return Ending("done" if result.fresh else "kept", str(result.path), accuracy)


# ---- in the suite's process ----


@dataclass
class _Hand:
    """One process; `busy` is the number of its run."""

    process: SpawnProcess
    pipe: connection.Connection
    ready: bool = False
    busy: int | None = None


class Crew:
    """Works on runs with so many processes. `output` is where what plug-ins print goes."""

    def __init__(self, drafts: Sequence[Draft], jobs: int, root: Path, rerun: bool, output: Path, board: Board) -> None:
        self.drafts, self.jobs, self.board = drafts, jobs, board
        self._given = (str(root), rerun, str(output))
        self._hands: list[_Hand] = []
        self._stops = 0

    def run(self, todo: Sequence[int]) -> None:
        """Until all are over, or until the suite is told to stop and every run has saved its state."""
        waiting = list(todo)
        with self._listening():
            try:
                while waiting or any(hand.busy is not None for hand in self._hands):
                    if self._stops:
                        waiting.clear()
                    self._hand_out(waiting)
                    self._hear()
            finally:
                self._dismiss()

    def _hand_out(self, waiting: list[int]) -> None:
        idle = sum(hand.busy is None for hand in self._hands)
        for _ in range(min(self.jobs - len(self._hands), len(waiting) - idle)):
            self._hands.append(self._hire())
        for hand in self._hands:
            if waiting and hand.ready and hand.busy is None:
                hand.busy = waiting.pop(0)
                self.board.start(hand.busy)
                with suppress(OSError):  # it is dead, which `_hear` notices
                    hand.pipe.send((hand.busy, self.drafts[hand.busy]))

    def _hire(self) -> _Hand:
        context = get_context("spawn")
        mine, theirs = context.Pipe()
        process = context.Process(target=_work, args=(theirs, *self._given), daemon=True)
        before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # until it has a session of its own
        try:
            process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        theirs.close()
        return _Hand(process, mine)

    def _hear(self) -> None:
        sources = {hand.pipe: hand for hand in self._hands}
        for pipe in connection.wait(list(sources), timeout=0.5):
            hand = sources[pipe]  # type: ignore[index]
            try:
                while hand.pipe.poll():
                    self._take(hand, hand.pipe.recv())
            except (EOFError, OSError):
                self._lost(hand)

    def _take(self, hand: _Hand, message: tuple[Any, ...]) -> None:
        kind, *rest = message
        if kind == "ready":
            hand.ready = True
        elif hand.busy is not None and kind == "end":
            self.board.end(hand.busy, Ending(*rest))
            hand.busy = None
        elif hand.busy is not None:
            getattr(self.board, kind)(hand.busy, *rest)

    def _lost(self, hand: _Hand) -> None:
        """A process ended by itself."""
        self._hands.remove(hand)
        hand.process.join()
        if hand.busy is not None:
            code = hand.process.exitcode or 0
            how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with {code}"
            stopped = Ending("stopped", code=Interrupted.exit_code)
            self.board.end(hand.busy, stopped if self._stops else Ending("failed", None, None, 1, f"its process {how}"))
        elif not hand.ready and not self._stops:
            raise AflctlError("a process of the suite cannot start", hint=f"see {self._given[2]}, or leave out --jobs")

    @contextmanager
    def _listening(self) -> Iterator[None]:
        """Ctrl-C and SIGTERM are passed on; the runs save their state. The second time they stop at once."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def asked(number: int, frame: FrameType | None) -> None:
            self._stops += 1
            self.board.stopping = True
            for hand in self._hands:
                if hand.busy is not None and hand.process.pid is not None:
                    with suppress(OSError):
                        os.kill(hand.process.pid, signal.SIGINT)

        before = {number: signal.signal(number, asked) for number in SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _dismiss(self) -> None:
        for hand in self._hands:
            with suppress(OSError):
                if hand.ready and hand.busy is None:
                    hand.pipe.send(None)
                else:
                    hand.process.terminate()
        for hand in self._hands:
            hand.process.join(10)
            if hand.process.is_alive():
                hand.process.kill()
            hand.pipe.close()
        self._hands.clear()


# ---- in a process of the crew ----


def _work(pipe: connection.Connection, root: str, rerun: bool, output: str) -> None:
    """Takes runs until there are no more."""
    os.setsid()
    for number in SIGNALS:  # also while a run loads or reports, when no keeper listens: its lock must not stay behind
        signal.signal(number, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    threading.Thread(target=_watch, daemon=True).start()
    log = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for stream in (1, 2):
        os.dup2(log, stream)
    from aflctl.engine.parts.opened import Opened

    def tell(*words: object) -> None:
        with suppress(OSError):  # the suite is gone: the run stops by the signal, not by this
            pipe.send(words)

    opened = Opened()
    with suppress(EOFError, OSError, KeyboardInterrupt):
        tell("ready")
        while (task := pipe.recv()) is not None:
            _, draft = task
            ending = execute(draft, Path(root), rerun, opened, tell)
            tell("end", *ending)


def _watch() -> None:
    """Where the suite's process is gone, this one stops as for Ctrl-C, and soon after without ceremony."""
    parent = parent_process()
    if parent is None:
        return
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)
    threading.Event().wait(60)
    os._exit(1)
