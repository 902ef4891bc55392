"""Every method against numbers worked out by hand or by an independent reference."""

from __future__ import annotations

from typing import Any

import golden_buffered
import golden_direct
import golden_rounds
import golden_tables
import pytest
from golden import GOLDEN, Check

FILES = (golden_buffered, golden_direct, golden_rounds, golden_tables)  # each registers its checks

CASES = [
    pytest.param(cls, check, id=f"{cls.__name__}-{check.__name__}")
    for cls, checks in GOLDEN.items()
    for check in checks
]


@pytest.mark.parametrize(("cls", "check"), CASES)
def test_golden(cls: type[Any], check: Check) -> None:
    check(cls)


def test_every_builtin_method_has_golden_checks() -> None:
    from importlib.metadata import entry_points

    ours = {e.load() for e in entry_points(group="aflctl.algorithms") if e.value.startswith("aflctl.builtin.")}
    assert ours == set(GOLDEN)
