"""Configurations that a method refuses, each with a hint."""

from __future__ import annotations

from typing import Any

import pytest
from double import fleet, setup, vec

from aflctl.builtin.algorithms.asyncdrop import AsyncDrop
from aflctl.builtin.algorithms.fedac import FedAc
from aflctl.builtin.algorithms.fedasync import FedAsync
from aflctl.builtin.algorithms.forootani import Forootani
from aflctl.builtin.algorithms.malenia import Malenia
from aflctl.builtin.algorithms.quafl import Quafl
from aflctl.builtin.algorithms.ringleader import Ringleader
from aflctl.builtin.algorithms.scaffold import Scaffold
from aflctl.errors import UserError


@pytest.mark.parametrize(
    ("algorithm", "local", "says"),
    [
        (Scaffold(), {"momentum": 0.9}, "momentum: 0.9"),
        (Scaffold(), {"optimizer": "adam"}, "optimizer: adam"),
        (Scaffold(), {"clip_norm": 1.0}, "clip_norm: 1.0"),
        (FedAc(), {"momentum": 0.5}, "momentum: 0.5"),
        (Forootani(), {"steps": 5}, "epochs"),
        (Forootani(replacement=True), {}, "cohort of a round"),
        (FedAsync(staleness={"sampled": "uniform"}), {}, "one task at a time"),
        (Quafl(polled=3), {}, "clients.concurrency is 2"),
        (Ringleader(), {"_samples": (1, 1, 1)}, "every client in flight"),
        (Malenia(), {"_samples": (1, 1, 1)}, "every client in flight"),
        (AsyncDrop(layers=("nowhere",)), {}, "nowhere"),
    ],
    ids=lambda v: type(v).__name__ if hasattr(v, "init") else None,
)
def test_refused_with_a_hint(algorithm: Any, local: dict[str, Any], says: str) -> None:
    samples = local.pop("_samples", (1, 1))
    with pytest.raises(UserError, match=says) as caught:
        algorithm.init(setup(vec(0.0), samples, **local), fleet())
    assert caught.value.hint
    assert caught.value.exit_code == 2


def test_option_one_takes_any_optimizer() -> None:
    Scaffold(option=1).init(setup(vec(0.0), optimizer="adam", momentum=0.9, clip_norm=1.0), fleet())
