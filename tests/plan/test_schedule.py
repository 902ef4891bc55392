"""A plan has the very schedule of the trained run: same digest, for every method that reads no training result."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from aflctl.engine import run
from aflctl.engine.planning import plan
from aflctl.plugins import registry

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
NEEDS: dict[str, dict[str, Any]] = {
    "quafl": {"algorithm": {"name": "quafl", "polled": 2}},
    "ringleader": {"clients": {"count": 12, "concurrency": 12}},
}


def builtin(kind: str) -> list[str]:
    return sorted(e.name for e in registry().entries(kind) if e.distribution == "aflctl")


def both(config: dict[str, Any], folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    planned = plan(config, runs_dir=folder, host=False).document
    return dict(planned), dict(run(config, runs_dir=folder).summary)


@pytest.mark.parametrize("name", builtin("algorithms"))
def test_every_method_has_the_schedule_of_its_run(name: str, tmp_path: Path) -> None:
    planned, trained = both({**TINY, "algorithm": name, **NEEDS.get(name, {})}, tmp_path)
    if registry().load("algorithms", name).reads_results:
        assert not planned["schedule"]["exact"]
        assert "taken to be" in planned["schedule"]["assumed"][0]
        return
    assert planned["schedule"]["exact"]
    assert planned["digests"]["schedule"] == trained["digests"]["schedule"]
    for key in ("updates", "versions", "virtual_s", "tasks", "bytes_down", "bytes_up", "energy_j", "wasted_j", "steps"):
        assert planned["totals"][key] == trained["totals"][key], key
    assert planned["staleness"] == trained["staleness"]
    assert planned["participation"]["took_part"] == trained["participation"]["took_part"]
    assert planned["stop_reason"] == trained["stop_reason"]
