"""Runs beside local-only runs: which share of the clients is better off than alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from aflctl.report.statistics import better

if TYPE_CHECKING:
    from aflctl.report.comparison.reading import Facts

MATTERS = ("model", "modalities", "local")
"""Sections of the configuration that must be the same; the data are compared by fingerprint."""


def is_alone(fact: Facts) -> bool:
    """Whether every client trained alone."""
    return fact.flat.get("algorithm.name") == "local-only"


def compare_to_alone(facts: Iterable[Facts]) -> None:
    """Gives each run its share of clients above the local-only run of the same data, seed and training, if one is here.

    Of several the first that is named.
    """
    facts = list(facts)
    alone = [fact for fact in facts if is_alone(fact)]
    for fact in facts:
        if is_alone(fact):
            continue
        for other in alone:
            if _same(fact, other) and (found := better(fact.accuracies, other.accuracies)):
                fact.above_local = found[1]
                break


def _same(fact: Facts, other: Facts) -> bool:
    return (
        fact.pair == other.pair
        and fact.print_of("data") == other.print_of("data")
        and _training(fact.flat) == _training(other.flat)
    )


def _training(flat: Mapping[str, object]) -> dict[str, object]:
    return {key: value for key, value in flat.items() if key.split(".")[0] in MATTERS}
