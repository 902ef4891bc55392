"""Every error a user can meet; each class knows its exit code.

AflctlError                 1  the work failed
|-- RunFailed               1  a run began and could not be finished
|   |-- Diverged            1  weights or updates are no longer finite
|   |-- Stalled             1  nobody flies, nobody is idle, nobody will ever come online
|   |-- HookFailed          1  a plug-in raised, or returned something of the wrong shape
|   `-- InvariantBroken     1  the books do not balance (a defect of ours)
|-- VerifyFailed            1  a re-executed run differs from the recorded one
|-- UserError               2  the user's mistake
|   |-- ConfigError         2  one or more problems in a configuration
|   |-- UnknownName         2  no plug-in, preset, profile or run of that name
|   `-- RunDirError         2  a run directory that cannot be used as asked
|-- EnvironmentProblem      3  something outside the configuration is missing or broken
|   |-- PluginBroken        3  an installed plug-in does not load
|   |-- DataMissing         3  a dataset is not on this machine
|   `-- DiskProblem         3  full disk, no permission
`-- Interrupted           130  stopped by the user; the run can be continued
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from typing import ClassVar


class AflctlError(Exception):
    """Base of all expected errors: `message` says what failed, `where` the place, `hint` the next action."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None, where: str | None = None) -> None:
        super().__init__(message)
        self.message, self.hint, self.where = message, hint, where

    def __str__(self) -> str:
        lines = [f"{self.where}: {self.message}" if self.where else self.message]
        return "\n".join([*lines, f"hint: {self.hint}"] if self.hint else lines)


class RunFailed(AflctlError):
    """A run began and could not be finished; what was recorded is kept."""


class Diverged(RunFailed):
    """Weights, updates or losses are no longer finite."""


class Stalled(RunFailed):
    """Nobody flies, nobody is idle and nobody will ever come online."""


class HookFailed(RunFailed):
    """A plug-in's hook raised or returned something that breaks the API's rules."""

    @classmethod
    def of(cls, who: str, error: BaseException) -> HookFailed:
        """`who` raised `error`."""
        text = str(error)
        what = f"{type(error).__name__}: {text}" if text else type(error).__name__
        return cls(f"{who} raised {what}", hint="set AFLCTL_TRACEBACK=1 to see where")


class InvariantBroken(RunFailed):
    """A run's books do not balance; a defect of the simulator, never of the configuration."""


class VerifyFailed(AflctlError):
    """A re-executed run differs from the recorded one."""


class UserError(AflctlError):
    """The user's mistake: usage, configuration, unknown name."""

    exit_code = 2


@dataclass(frozen=True)
class Problem:
    """One mistake in a configuration: its dotted `path`, what is wrong, where it was written, what to do."""

    path: str
    message: str
    where: str | None = None
    hint: str | None = None

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        key = f"{self.path}: " if self.path else ""
        return f"{place}{key}{self.message}" + (f"\n    hint: {self.hint}" if self.hint else "")


class ConfigError(UserError):
    """All problems of a configuration at once, sorted by path."""

    def __init__(self, problems: Iterable[Problem], *, hint: str | None = None) -> None:
        self.problems: Sequence[Problem] = sorted(problems, key=lambda p: (p.path, p.message))
        count = len(self.problems)
        head = "1 problem in the configuration" if count == 1 else f"{count} problems in the configuration"
        super().__init__("\n".join([head, *(f"  {p}" for p in self.problems)]), hint=hint)


class UnknownName(UserError):
    """No plug-in, preset, profile or run has that name."""

    def __init__(
        self, kind: str, name: str, known: Iterable[str], *, where: str | None = None, hint: str | None = None
    ) -> None:
        self.kind, self.name, self.known = kind, name, sorted(known)
        super().__init__(f"unknown {kind} {name!r}", hint=hint or suggest(name, self.known), where=where)


class RunDirError(UserError):
    """A run directory that cannot be used as asked."""


class RunBusy(RunDirError):
    """Another process makes this run at the moment."""


class EnvironmentProblem(AflctlError):
    """Something outside the configuration is missing or broken."""

    exit_code = 3


class PluginBroken(EnvironmentProblem):
    """An installed plug-in does not load."""


class DataMissing(EnvironmentProblem):
    """A dataset's files are not on this machine."""


class DiskProblem(EnvironmentProblem):
    """The disk is full, or a folder may not be written: system errors with these numbers."""

    FULL: ClassVar[frozenset[int]] = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
    FORBIDDEN: ClassVar[frozenset[int]] = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})


class Interrupted(AflctlError):
    """Stopped by the user; the run can be continued."""

    exit_code = 130


@contextmanager
def blaming(who: str) -> Iterator[None]:
    """Whatever a plug-in raises inside becomes a HookFailed that names it, even a call of `sys.exit`.

    Ctrl-C and errors that are meant for the user pass as they are.
    """
    try:
        yield
    except (AflctlError, KeyboardInterrupt):
        raise
    except BaseException as error:
        raise HookFailed.of(who, error) from error


def suggest(name: str, known: Iterable[str]) -> str:
    """'did you mean ...' with the closest names, else the list of what exists."""
    names = sorted(set(known))
    close = get_close_matches(name, names, n=3, cutoff=0.6)
    if close:
        return "did you mean " + " or ".join(repr(c) for c in close) + "?"
    return "available: " + (", ".join(names) if names else "none")
