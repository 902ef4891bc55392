"""What `auto` takes and why, what a configuration may say about it, and that the devices asked for are there."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tiny import experiment, plan_of

from aflctl.config.load import load
from aflctl.engine.parts import executors
from aflctl.engine.parts.auto import best, estimates
from aflctl.errors import ConfigError, EnvironmentProblem, UserError


@pytest.mark.parametrize(
    ("mflop", "mparam", "workers", "height", "linear", "name"),
    [
        (1.7, 0.009, 2, 32, True, "stacked"),  # a tiny model: what a step costs is Python, and a stack shares it
        (1.7, 0.009, 2, 2, True, "stacked"),
        (1.7, 0.009, 2, 1.1, True, "serial"),  # nobody to share it with; threads cannot
        (205, 0.535, 2, 32, True, "workers"),  # products dominate: two cores halve them, a stack saves little
        (12, 0.199, 1, 16, True, "serial"),  # the 2NN with batch 10: memory traffic, which a stack does not share
        (526, 0.08, 2, 32, False, "workers"),
        (526, 0.08, 1, 32, False, "serial"),  # convolutions of a stack are slower than one after the other
        (4.9, 0.01, 2, 8, False, "stacked"),
    ],
)
def test_the_rule(mflop: float, mparam: float, workers: int, height: float, linear: bool, name: str) -> None:
    assert best(estimates(mflop, mparam, workers, height, linear)) == name


def picked(monkeypatch: Any, changes: dict[str, Any], algorithm: Any = "fedbuff", cores: int = 2) -> dict[str, Any]:
    monkeypatch.setattr(executors, "cores", lambda: cores)
    x, _, _ = experiment(plan_of(algorithm, changes), "auto")
    x.pool.executor.close()
    return x.executor



def test_the_height_of_stacks_follows_from_the_schedule(monkeypatch: Any) -> None:
    # FedAvg's cohort of five waits together, all rounds long; FedBuff's five come back one by one from unequal devices
    rounds = picked(monkeypatch, {}, {"name": "fedavg", "round": {"cohort": 5}})
    assert rounds["height"] == pytest.approx(5, abs=1.5)
    assert rounds["name"] == "stacked"
    mixed = picked(monkeypatch, {})
    assert 1 <= mixed["height"] < rounds["height"]
    assert f"{mixed['height']:.1f} of them in a stack on average" in mixed["why"]
    assert picked(monkeypatch, {}) == mixed, "it is a function of the configuration"


def test_one_task_at_a_time_is_never_stacked(monkeypatch: Any) -> None:
    found = picked(monkeypatch, {"clients": {"count": 4, "concurrency": 1}})
    assert found["name"] == "serial"
    assert "height" not in found


def test_asked_for_is_not_questioned(monkeypatch: Any) -> None:
    plan = plan_of("fedbuff")
    monkeypatch.setattr(executors, "estimates", lambda *_: pytest.fail("nobody asked"))
    for name in ("serial", "workers", "stacked"):
        x, _, _ = experiment(plan, name, 2)
        x.pool.executor.close()
        assert (x.executor["name"], x.executor["why"]) == (name, "asked for")


def test_models_that_do_not_stack_are_not_stacked(monkeypatch: Any) -> None:
    normed = {"model": {"name": "resnet-small", "norm": "batch"}, "stop": {"updates": 2}}
    assert picked(monkeypatch, normed)["name"] == "workers"
    with pytest.raises(UserError, match="does not stack"):
        experiment(plan_of("fedbuff", normed), "stacked")


# ---- what a configuration may say ----


@pytest.mark.parametrize(
    ("text", "size"), [("512MiB", 512 << 20), ("2 GiB", 2 << 30), ("1.5GB", 1_500_000_000), ("1B", 1)]
)
def test_memory_has_a_unit(text: str, size: int) -> None:
    engine = load({}, sets=[f"engine.max_memory={text}"]).config.engine
    assert engine.max_memory_bytes == size


@pytest.mark.parametrize("wrong", ["1000", "0MiB", "MiB", "-1GiB", "lots", "1 TiB"])
def test_memory_without_a_unit_is_refused(wrong: str) -> None:
    with pytest.raises(ConfigError, match=r"engine.max_memory: must be a size with its unit, such as 512MiB or 2GiB"):
        load({}, sets=[f"engine.max_memory={wrong}"])


def test_memory_bounds_stacks_and_what_workers_hold() -> None:
    # 16 x 64 + 16 + 10 x 16 + 10 = 1,210 parameters: 32 bytes of each for a row of a stack, 12 for a result
    plan = plan_of("fedbuff", {"engine": {"max_memory": "200kB"}})
    stacked, _, _ = experiment(plan, "stacked")
    assert stacked.pool.executor.rows == 200_000 // (32 * 1210) == 5
    workers, _, _ = experiment(plan, "workers", 2)
    workers.pool.executor.close()
    held: Any = workers.pool.executor
    assert held.most_ahead == 200_000 // (12 * 1210) == 13


@pytest.mark.parametrize("wrong", ["gpu", "CUDA", "cuda:", "cuda:-1", "mps", "cpu:0", ""])
def test_unknown_devices_are_mistakes_of_the_configuration(wrong: str) -> None:
    with pytest.raises(ConfigError, match=r"engine.device: must be cpu, cuda, or one of several GPUs such as cuda:1"):
        load({"engine": {"device": wrong}})


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
def test_a_gpu_that_is_not_there(device: str) -> None:
    with pytest.raises(EnvironmentProblem, match=f"'{device}' was asked for") as missing:
        experiment(plan_of("fedbuff", {"engine": {"device": device}}))
    assert missing.value.exit_code == 3
    assert missing.value.hint == "use engine.device: cpu"


def test_a_second_gpu_that_is_not_there(monkeypatch: Any) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(EnvironmentProblem, match=r"torch sees 1 CUDA devices|built without CUDA") as missing:
        executors.place("cuda:1")
    assert missing.value.hint == "use engine.device: cpu, or cuda:0 to cuda:0"
