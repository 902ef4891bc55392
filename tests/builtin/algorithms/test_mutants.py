"""Faults of other implementations, planted one by one in copies of our classes: a golden check must catch each."""

from __future__ import annotations

from typing import Any

import faults_buffered
import faults_mixing
import faults_rounds
import golden_buffered
import golden_direct
import golden_rounds
import golden_tables
import pytest
from faults import MUTANTS
from golden import GOLDEN

CHECKS = (golden_buffered, golden_direct, golden_rounds, golden_tables)  # each registers its own
FAULTS = (faults_buffered, faults_mixing, faults_rounds)


@pytest.mark.parametrize(("original", "mutant"), [pytest.param(o, m, id=f"{o.__name__}: {n}") for o, n, m in MUTANTS])
def test_a_golden_check_catches_it(original: type[Any], mutant: type[Any]) -> None:
    caught = []
    for check in GOLDEN[original]:
        try:
            check(mutant)
        except AssertionError:
            caught.append(check.__name__)
    assert caught, f"no golden check of {original.__name__} notices {mutant.__name__}"
