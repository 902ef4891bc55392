"""What a check says, and how a list of checks is run."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from aflctl.errors import UnknownName

Status = Literal["passed", "failed", "skipped", "expected"]


class Failed(Exception):
    """A check found that something does not hold."""


class Skipped(Exception):
    """A check does not apply."""


@dataclass(frozen=True)
class CheckResult:
    """One check of one plug-in.

    status   passed, failed, skipped (does not apply), expected (fails, and was said to)
    detail   what was found, or why it was skipped
    """

    target: str
    name: str
    status: Status
    detail: str = ""
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return self.status != "failed"


Body = Callable[[Any], None]


@dataclass(frozen=True, eq=False)
class Check:
    """One check bound to one bench; called without arguments it raises where it fails, as pytest wants."""

    target: str
    name: str
    body: Body
    bench: Any
    reason: str | None = None

    @property
    def id(self) -> str:
        """How a test is called."""
        return f"{self.target}-{self.name}"

    def run(self) -> CheckResult:
        """The result; never raises for a fault of the plug-in."""
        start = time.perf_counter()
        status, detail = self._outcome()
        if self.reason is not None:
            if status == "failed":
                status, detail = "expected", f"{self.reason} ({detail})"
            elif status == "passed":
                status, detail = "failed", f"passes, although it was expected to fail: {self.reason}"
        return CheckResult(self.target, self.name, status, detail, round(time.perf_counter() - start, 3))

    def _outcome(self) -> tuple[Status, str]:
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message="There is a performance drop")  # torch, of vmap
                self.body(self.bench)
        except Skipped as why:
            return "skipped", str(why)
        except Failed as why:
            return "failed", str(why)
        except Exception as error:  # a plug-in may raise anything
            return "failed", f"raised {type(error).__name__}: {error}"
        return "passed", ""

    def __call__(self) -> None:
        result = self.run()
        if result.status == "failed":
            raise AssertionError(f"{self.id}: {result.detail}")
        if result.status == "skipped":
            import pytest

            pytest.skip(result.detail)


def bind(target: str, bodies: Mapping[str, Body], bench: Any, expected: Mapping[str, str] | None = None) -> list[Check]:
    """The checks of one plug-in; they share the bench, and with it what was computed before."""
    expected = expected or {}
    for name in expected:
        if name not in bodies:
            raise UnknownName("check", name, bodies)
    return [Check(target, name, body, bench, expected.get(name)) for name, body in bodies.items()]


def run(checks: Sequence[Check]) -> list[CheckResult]:
    """All of them, in order."""
    return [check.run() for check in checks]
