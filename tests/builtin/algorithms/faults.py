"""Faults of other implementations: `MUTANTS` lists copies of our classes, each with one fault, by the original."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

MUTANTS: list[tuple[type[Any], str, type[Any]]] = []


def fault(original: type[Any], name: str) -> Callable[[type[Any]], type[Any]]:
    """Registers a copy of `original` with one fault."""

    def add(mutant: type[Any]) -> type[Any]:
        MUTANTS.append((original, name, mutant))
        return mutant

    return add
