"""A tiny federation, planned and trained."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

TINY: dict[str, Any] = {
    "dataset": {"name": "digits", "partition": {"name": "dirichlet", "alpha": 1.0, "min_size": 1}},
    "model": {"name": "mlp", "hidden": [4]},
    "clients": {"count": 12, "concurrency": 4},
    "local": {"epochs": 1, "batch_size": 32, "lr": 0.02},
    "fleet": {
        "devices": {"jetson-tx2": 1, "raspberry-pi-4": 1},
        "networks": {"wifi": 1, "lte": 1},
        "availability": [
            {"name": "markov", "mean_on_s": 20, "mean_off_s": 20},
            {"name": "task-failure", "probability": 0.1},
        ],
    },
    "stop": {"updates": 24},
    "evaluate": {"every": {"updates": 24}},
    "engine": {"executor": "serial"},
}  # fmt: skip

@pytest.fixture
def tiny() -> dict[str, Any]:
    """Twelve clients that come and go, and whose tasks may fail."""
    return dict(TINY)


@pytest.fixture
def both(tmp_path: Path) -> Callable[[dict[str, Any]], tuple[dict[str, Any], dict[str, Any]]]:
    """(plan.json, summary.json) of a configuration."""
    from aflctl.engine import run
    from aflctl.engine.plans.planning import plan

    def planned_and_trained(config: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        planned = plan(config, runs_dir=tmp_path, host=False).document
        return dict(planned), dict(run(config, runs_dir=tmp_path).summary)

    return planned_and_trained
