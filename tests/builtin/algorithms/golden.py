"""Golden checks, each a function of a class: what it must give, worked out in comments or by a few lines of numpy.

`GOLDEN` lists them by class, so that the same check runs on the class and on its mutants. The clients' losses are
f_i(w) = 1/2 ||w - b_i||^2, the updates mostly plain numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from double import vec

Check = Callable[[type[Any]], None]
GOLDEN: dict[type[Any], list[Check]] = {}
TWO = (vec(1.0), vec(-3.0))  # b_0, b_1


def golden(*classes: type[Any]) -> Callable[[Check], Check]:
    """Registers a check."""

    def add(check: Check) -> Check:
        for cls in classes:
            GOLDEN.setdefault(cls, []).append(check)
        return check

    return add
