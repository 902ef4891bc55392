"""The GPU path without a GPU: on a device that is not there nothing is mixed, and no step waits for a value."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import pytest
import tiny
import torch
from elsewhere import PLACE, Far, elsewhere
from tiny import PERSONALIZATIONS, algorithms, experiment, personalized, plan_of, run

from aflctl.engine.course.drive import Driver
from aflctl.engine.parts import build
from aflctl.plan import Plan

USUAL = {"fedbuff", "scaffold", "+ditto", "+ifca"}
ALL = (*algorithms(), *(f"+{p}" for p in PERSONALIZATIONS))
LISTS = {"asyncdrop"}
"""Writes at a list of positions, which torch turns into a tensor out of our sight, so nothing is written."""
NAMES = [pytest.param(n, marks=() if n in USUAL else pytest.mark.slow) for n in ALL]
"""Every registered method, and FedBuff inside every personalization."""


def plan(name: str, **local: Any) -> Plan:
    changes: dict[str, Any] = {"stop": {"updates": 8}, "evaluate": {"every": {"updates": 4}}}
    changes["local"] = {"epochs": 2, "batch_size": 64, "lr": 0.05, **local}
    if name.startswith("+"):
        return plan_of("fedbuff", {**changes, "personalization": personalized(name[1:])})
    return plan_of(name, changes)


@pytest.fixture
def there(monkeypatch: Any) -> Any:
    """Runs a plan there; gives its weights and how often a value was brought back."""
    def play(plan: Plan, executor: str) -> tuple[torch.Tensor, list[str]]:
        tiny._data.cache_clear()
        try:
            with elsewhere() as read, monkeypatch.context() as patch:
                patch.setattr(build, "place", lambda name: PLACE)
                # tensors with a dispatch of their own cannot be made in inference mode
                patch.setattr(torch, "inference_mode", lambda on=True: torch.no_grad() if on else nullcontext())
                x, _, _ = experiment(plan, executor)
                Driver(x, lambda row: None, None).run()
                w = x.algorithm.params(x.loop.state)
                assert isinstance(w, Far)
                return w.near, list(read)
        finally:
            tiny._data.cache_clear()

    return play


@pytest.mark.parametrize("executor", ["serial", "stacked"])
@pytest.mark.parametrize("name", NAMES)
def test_every_method_and_personalization_stays_in_one_place(there: Any, name: str, executor: str) -> None:
    reference, (weights, _) = run(plan(name), executor), there(plan(name), executor)
    if name not in LISTS:
        assert torch.equal(weights, reference.weights)


@pytest.mark.parametrize("executor", ["serial", "stacked"])
@pytest.mark.parametrize("local", [{}, {"optimizer": "adam"}, {"clip_norm": 0.1, "momentum": 0.9}])
def test_no_step_waits_for_a_value(there: Any, executor: str, local: dict[str, Any]) -> None:
    # three times as many steps, in the very same schedule of events: just as many values are brought back
    few, many = (len(there(plan("fedbuff", lr_decay=0.9, epochs=e, **local), executor)[1]) for e in (1, 3))
    assert few > 0
    assert few == many


def test_what_is_mixed_is_noticed() -> None:
    with elsewhere() as read:
        far = torch.ones(3).to(PLACE)
        assert read == []
        with pytest.raises(RuntimeError, match="tensors in two places"):
            far + torch.ones(3)
        assert float((far * torch.tensor(2.0)).sum()) == 6.0  # a single number may be anywhere
        assert read == ["aten._local_scalar_dense.default"]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("executor", ["serial", "stacked"])
@pytest.mark.parametrize("name", ["fedbuff", "scaffold", "+ditto"])
def test_on_a_real_gpu(name: str, executor: str) -> None:
    """UNVERIFIED: no GPU was at hand when this was written."""
    here, there = plan(name), plan(name)
    engine = there.config.engine.model_copy(update={"device": "cuda"})
    there = replace(there, config=there.config.model_copy(update={"engine": engine}))
    found = []
    for _ in range(2):
        tiny._data.cache_clear()
        found.append(run(there, executor))
    tiny._data.cache_clear()
    reference = run(here, executor)
    assert found[0].schedule == reference.schedule
    assert torch.equal(found[0].weights, found[1].weights)
    assert torch.allclose(found[0].weights.cpu(), reference.weights, rtol=1e-4, atol=1e-5)
