"""A plan has the very schedule of the trained run: same digest, for every method that reads no training result."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from aflctl.plugins import registry

Both = Callable[[dict[str, Any]], tuple[dict[str, Any], dict[str, Any]]]

NEEDS: dict[str, dict[str, Any]] = {
    "quafl": {"algorithm": {"name": "quafl", "polled": 2}},
    "ringleader": {"clients": {"count": 12, "concurrency": 12}},
    "malenia": {"clients": {"count": 12, "concurrency": 12}},
}


def builtin(kind: str) -> list[str]:
    return sorted(e.name for e in registry().entries(kind) if e.distribution == "aflctl")


@pytest.mark.parametrize("name", builtin("algorithms"))
def test_every_method_has_the_schedule_of_its_run(name: str, tiny: dict[str, Any], both: Both) -> None:
    planned, trained = both({**tiny, "algorithm": name, **NEEDS.get(name, {})})
    if registry().load("algorithms", name)().reads_results:
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


FLEETS: dict[str, dict[str, Any]] = {
    "named": {"fleet": "poster-1-1-1"},
    "abort": {"offline": "abort"},
    "offline-compute": {"offline": "offline-compute"},
    "varying": {"link_mode": "varying"},
    "timeout": {"server": {"timeout_s": 15.0, "max_staleness": 3}},
    "versions": {"stop": {"versions": 3}},
    "time": {"stop": {"time_s": 40.0}},
    "time between evaluations": {"stop": {"time_s": 40.0}, "evaluate": {"every": {"time_s": 7.0}}},
    "round": {"algorithm": {"name": "fedavg", "round": {"over_select": 1.5, "deadline_s": 8.0}}},
    "seeds": {"seed": 3, "seeds": {"fleet": 1, "selection": 2}},
    "steps": {"local": {"steps": 3, "batch_size": 16}},
    "everyone": {"clients": {"count": 12, "concurrency": 12}},
}


@pytest.mark.parametrize("case", list(FLEETS))
def test_whatever_the_fleet_and_the_limits(case: str, tiny: dict[str, Any], both: Both) -> None:
    changes = dict(FLEETS[case])
    fleet = {**tiny["fleet"], **{k: changes.pop(k) for k in ("offline", "link_mode") if k in changes}}
    planned, trained = both({**tiny, "algorithm": {"name": "fedbuff", "buffer_size": 3}, "fleet": fleet, **changes})
    assert planned["digests"]["schedule"] == trained["digests"]["schedule"]
    assert planned["stop_reason"] == trained["stop_reason"]
    assert planned["totals"]["virtual_s"] == trained["totals"]["virtual_s"]


@pytest.mark.parametrize("name", builtin("selections"))
def test_every_selection(name: str, tiny: dict[str, Any], both: Both) -> None:
    clients = {**tiny["clients"], "selection": name}
    planned, trained = both({**tiny, "algorithm": "fedasync", "clients": clients})
    assert planned["schedule"]["exact"] == (planned["digests"]["schedule"] == trained["digests"]["schedule"])


WANTS: dict[str, dict[str, Any]] = {
    "blocks": {"dataset": {"name": "synthetic-modal"}, "model": "multimodal"},
    "fedbn": {"personalization": {"name": "fedbn", "private": ["@Linear"]}},
}


@pytest.mark.parametrize("name", builtin("personalizations"))
def test_every_personalization(name: str, tiny: dict[str, Any], both: Both) -> None:
    planned, trained = both({**tiny, "algorithm": "fedasync", "personalization": name, **WANTS.get(name, {})})
    assert planned["schedule"]["exact"] == (name not in ("cfl", "ifca", "lottery"))
    if planned["schedule"]["exact"]:
        assert planned["digests"]["schedule"] == trained["digests"]["schedule"]


def test_batchnorm_statistics_travel_in_a_plan_too(tiny: dict[str, Any], both: Both) -> None:
    model = {"name": "resnet-small", "norm": "batch", "blocks": [1], "width": 4}
    dataset = {"name": "digits", "partition": "iid"}
    small = {"model": model, "dataset": dataset, "local": {"steps": 1, "batch_size": 4}, "stop": {"updates": 6}}
    planned, trained = both({**tiny, "algorithm": "fedbuff", **small})
    assert planned["digests"]["schedule"] == trained["digests"]["schedule"]
    assert planned["totals"]["bytes_up"] == trained["totals"]["bytes_up"]
