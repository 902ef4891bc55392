"""Private coordinates: split and joined without loss, and never on the wire, whatever method and model."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny import CONFIG, experiment, plan_of

from aflctl.api import Local, Setup
from aflctl.builtin.algorithms.fedbuff import FedBuff
from aflctl.builtin.personalizations import subspace

SHAPES = {"a.weight": (3, 2), "a.bias": (3,), "b.weight": (2, 3), "b.bias": (2,), "c": (5,)}
CNN = {"name": "cnn", "channels": [4], "hidden": 8}
WRAPPERS: list[tuple[Any, Any]] = [
    ("fedper", None),
    ({"name": "fedper", "private": ["@Conv", "@Linear:last"]}, CNN),
    ({"name": "fedrep", "head_epochs": 1}, None),
    ("lg-fedavg", CNN),
    ({"name": "fedbn", "private": ["@GroupNorm"]}, CNN),
]


@given(st.sets(st.sampled_from(sorted(SHAPES))))
def test_join_undoes_the_split(private: set[str]) -> None:
    layout, at = {}, 0
    for name, shape in SHAPES.items():
        size = torch.Size(shape).numel()
        layout[name], at = (slice(at, at + size), shape), at + size
    w = torch.arange(float(at))
    setup = Setup(layout, w, (1,), 1, Local())
    x = subspace.wrap(FedBuff(), setup, frozenset(private), "here")
    s, q = x.part(w), x.kept(w)
    assert torch.equal(x.join(s, q), w)
    assert sorted([*s.tolist(), *q.tolist()]) == w.tolist()
    inner = x.world(setup)
    assert set(inner.layout) == set(SHAPES) - private
    for name, (place, _) in inner.layout.items():  # the method's own names point at the right numbers
        assert torch.equal(inner.init[place], w[layout[name][0]])


@pytest.mark.parametrize("method", ["fedasync", "scaffold"])
@pytest.mark.parametrize(("wrapper", "model"), WRAPPERS, ids=lambda v: str(v["name"] if isinstance(v, dict) else v))
def test_private_coordinates_never_leave_the_client(method: str, wrapper: Any, model: Any) -> None:
    # the private coordinates of every client are set to numbers that nothing else has, and their gradient is blocked:
    # whatever a server hook is handed is as long as the shared part, and holds none of them
    data = {**CONFIG["dataset"], "test_fraction": 0.25}
    more = {} if model is None else {"model": model}
    plan = plan_of(method, {"personalization": wrapper, "dataset": data, **more})
    x, _, _ = experiment(plan)
    wrapped = x.algorithm
    mark = 12345.0
    seen: list[dict[str, torch.Tensor]] = []
    inner = wrapped.inner

    class Spy(type(inner)):  # type: ignore[misc]
        def receive(self, state: Any, update: Any, fleet: Any) -> Any:
            seen.append(dict(update.up))
            return super().receive(state, update, fleet)

    wrapped.__dict__["inner"] = Spy(**inner.model_dump())
    finish = type(wrapped).finish

    def marked(self: Any, w: torch.Tensor, job: Any) -> Any:
        return finish(self, w.index_fill(0, self.q, mark), job)

    wrapped.__dict__["finish"] = marked.__get__(wrapped)
    x.loop.begin()
    while len(seen) < 4:
        x.loop.peek()
        x.loop.step()
    shared = int(wrapped.s.numel())
    assert 0 < shared < x.setup.size
    for up in seen:
        for name, vector in up.items():
            assert vector.shape == (shared,), name
            assert not (vector == mark).any(), name
    client = next(iter(x.pool.memory))
    assert (x.pool.memory[client]["private"] == mark).all()
