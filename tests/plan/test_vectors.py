"""Which vectors stand in: length 0 where a method allows it, real ones where not, and what is said about it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aflctl.engine.plans.planning import plan

Both = Callable[[dict[str, Any]], tuple[dict[str, Any], dict[str, Any]]]
Method = Callable[[str], dict[str, Any]]
HEAD = """
from dataclasses import dataclass, replace
from aflctl.api import Algorithm, Assignment, Step

@dataclass(frozen=True)
class S:
    w: object
    n: int = 0
    past: object = None

class Method(Algorithm):
    def init(self, setup, fleet):
        return S(setup.init)
"""


@pytest.fixture
def method(tmp_path: Path, tiny: dict[str, Any]) -> Method:
    """The tiny federation with a method of its own; `body` is indented below the class."""

    def make(body: str) -> dict[str, Any]:
        text = HEAD + "".join(f"    {line}\n" for line in body.strip("\n").splitlines())
        (tmp_path / "method.py").write_text(text)
        return {**tiny, "algorithm": f"{tmp_path}/method.py:Method"}

    return make


def test_a_method_that_does_not_look(method: Method, both: Both) -> None:
    config = method("""
def receive(self, state, update, fleet):
    return Step(replace(state, w=state.w + update.delta), advanced=True)
""")  # fmt: skip
    planned, trained = both(config)
    assert planned["schedule"]["vectors"] == "length 0"
    assert planned["digests"]["schedule"] == trained["digests"]["schedule"]


def test_a_method_that_needs_the_layout(method: Method, both: Both) -> None:
    config = method("""
def assign(self, state, client, fleet):
    return Assignment({"w": state.w, "part": state.w[:10].reshape(2, 5)})
def receive(self, state, update, fleet):
    return Step(replace(state, w=state.w + update.delta), advanced=True)
""")  # fmt: skip
    planned, trained = both(config)
    assert planned["schedule"]["vectors"] == "real size"
    assert "RuntimeError" in planned["schedule"]["why"]
    assert planned["digests"]["schedule"] == trained["digests"]["schedule"]


def test_a_method_whose_messages_vary_in_size(method: Method, both: Both) -> None:
    # 10 entries, then 11, ... of a vector: with length 0 every slice is empty, so the bytes would be wrong
    config = method("""
def assign(self, state, client, fleet):
    return Assignment({"w": state.w, "part": state.w[: 10 + state.n % 3]})
def receive(self, state, update, fleet):
    return Step(replace(state, w=state.w + update.delta, n=state.n + 1), advanced=True)
""")  # fmt: skip
    planned, trained = both(config)
    assert planned["schedule"]["vectors"] == "real size"
    assert planned["digests"]["schedule"] == trained["digests"]["schedule"]
    assert planned["totals"]["bytes_down"] == trained["totals"]["bytes_down"]


def test_a_method_that_asks_for_values_after_the_trial(method: Method, tmp_path: Path) -> None:
    # from the 300th update on it indexes its vector: the plan begins anew with real ones
    config = method("""
def receive(self, state, update, fleet):
    if state.n >= 300:
        state.w[0].item()
    return Step(replace(state, n=state.n + 1), advanced=True)
""")  # fmt: skip
    document = plan({**config, "stop": {"updates": 310}}, runs_dir=tmp_path, host=False).document
    assert document["schedule"]["vectors"] == "real size"
    assert "IndexError" in document["schedule"]["why"]
    assert document["totals"]["updates"] == 310
    assert document["schedule"]["exact"]


def test_names_that_appear_after_the_trial(method: Method, tmp_path: Path) -> None:
    config = method("""
def assign(self, state, client, fleet):
    extra = {"late": state.w} if state.n >= 300 else {}
    return Assignment({"w": state.w, **extra})
def receive(self, state, update, fleet):
    return Step(replace(state, n=state.n + 1), advanced=True)
""")  # fmt: skip
    document = plan({**config, "stop": {"updates": 310}}, runs_dir=tmp_path, host=False).document
    assert document["schedule"]["vectors"] == "real size"
    assert document["schedule"]["why"] == "no size is known for what it sends (w, late)"
    p = document["model"]["parameters"]
    assert document["totals"]["bytes_down"] > 4 * p * document["totals"]["tasks"]


def test_methods_that_read_results_are_told_so(method: Method, tmp_path: Path) -> None:
    config = method("""
reads_results = True
def receive(self, state, update, fleet):
    assert update.stats["loss"] > 0
    return Step(state, advanced=True)
""")  # fmt: skip
    schedule = plan(config, runs_dir=tmp_path, host=False).document["schedule"]
    assert not schedule["exact"]
    assert schedule["vectors"] == "real size"
    assert "2.3 / (1 + v / 10)" in schedule["assumed"][0]


def test_early_stopping_and_accuracy_are_stated(tiny: dict[str, Any], tmp_path: Path) -> None:
    config = {**tiny, "algorithm": {"name": "forootani", "patience": 1}, "local": {"epochs": 4}}
    config["stop"] = {"updates": 24, "accuracy": 0.2}
    schedule = plan(config, runs_dir=tmp_path, host=False).document["schedule"]
    assert not schedule["exact"]
    assert any("stop early" in text for text in schedule["assumed"])
    assert any("accuracy 0.2" in text for text in schedule["assumed"])


def test_a_mistake_of_the_method_is_shown_as_in_a_run(method: Method, tmp_path: Path) -> None:
    from aflctl.errors import HookFailed

    config = method("""
def receive(self, state, update, fleet):
    raise ValueError("no")
""")  # fmt: skip
    with pytest.raises(HookFailed, match=r"Method.receive for client \d+ at .* raised ValueError: no"):
        plan(config, runs_dir=tmp_path, host=False)
