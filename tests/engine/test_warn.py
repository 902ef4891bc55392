"""Each warning appears when it should, and only then: on both sides of its limit, with numbers worked out by hand."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from aflctl.builtin.algorithms.fedbuff import FedBuff
from aflctl.engine import run
from aflctl.engine.course.warn import warnings
from reliability.lab import config


def finished(**changes: Any) -> tuple[Any, Any]:
    """A run of eight clients, 40 updates and 10 versions, with which nothing is wrong."""
    facts: dict[str, Any] = {
        "accuracy": 0.9, "used": 40, "rejected": 0, "lost": 0, "cancelled": 0, "advances": 10, "most": 8, "rows": 12,
        "target": None, "classes": [5, 5], "p95": 3, "bound": None, "clients": 8, "patience": None,
        "asked": changes.get("clients", 8),
    } | changes  # fmt: skip
    labels = torch.tensor([0, 1] * 50)
    algorithm: Any = FedBuff(buffer_size=4)
    if facts["bound"] is not None or facts["patience"] is not None:
        algorithm = SimpleNamespace(
            max_staleness=facts["bound"], patience=facts["patience"], epochs=None, buffer_size=None, pools=False
        )
    members = {c: SimpleNamespace(used=facts["most"] if c == 0 else 1) for c in range(facts["clients"])}
    totals = SimpleNamespace(**{k: facts[k] for k in ("used", "rejected", "lost", "cancelled")})
    settings = SimpleNamespace(
        stop=SimpleNamespace(accuracy=facts["target"]), local=SimpleNamespace(epochs=5),
        clients=SimpleNamespace(count=facts["asked"]), modalities=None,
    )  # fmt: skip
    x = SimpleNamespace(
        algorithm=FedBuff(buffer_size=4), plan=SimpleNamespace(algorithm=algorithm, config=settings),
        data=SimpleNamespace(
            test=lambda: SimpleNamespace(labels=labels), samples=[10] * facts["clients"],
            class_counts=lambda: facts["classes"],
        ),
        books=SimpleNamespace(
            members=members, totals=totals, staleness=lambda: {"count": facts["used"], "p95": facts["p95"]}
        ),
        world=SimpleNamespace(device_of=lambda client: "jetson-nano"), loop=SimpleNamespace(advances=facts["advances"]),
        pool=SimpleNamespace(executor=SimpleNamespace(notes=())),
    )  # fmt: skip
    return x, SimpleNamespace(rows=[SimpleNamespace(accuracy=facts["accuracy"])] * facts["rows"])


CASES: list[tuple[str, dict[str, Any], dict[str, Any], str]] = [
    # two classes of 50: guessing reaches 50 %, three standard errors are 3 sqrt(0.25 / 100) = 15 %
    ("accuracy-at-chance", {"accuracy": 0.65}, {"accuracy": 0.651}, "65.0%"),
    # 21 of 40 are more than half, 20 are not
    ("one-client-dominates", {"most": 21}, {"most": 20}, "client 0 (jetson-nano) made 52% of all updates"),
    ("one-client-dominates", {"most": 40}, {"most": 40, "clients": 3}, "made 100%"),
    # 41 of 81 ended tasks are more than half, 40 of 80 are not
    ("most-work-discarded", {"lost": 20, "rejected": 20, "cancelled": 1}, {"lost": 40}, "41 of 81 tasks"),
    ("no-version", {"advances": 0, "used": 3}, {"advances": 1}, "buffer_size 4, 3 updates"),
    ("sparse-evaluation", {"target": 0.9, "rows": 9}, {"target": 0.9, "rows": 10}, "only 9 evaluations"),
    ("sparse-evaluation", {"target": 0.9, "rows": 2}, {"target": None, "rows": 2}, "accuracy 0.9"),
    ("empty-classes", {"classes": [3, 0]}, {"classes": [3, 1]}, "of class 1"),
    ("staleness-above-bound", {"bound": 4, "p95": 9}, {"bound": 4, "p95": 8}, "max_staleness is 4"),
    ("clients-left-out", {"asked": 9}, {"asked": 8}, "1 of 9 clients"),
    ("patience-without-effect", {"patience": 5}, {"patience": 4}, "a task of 5 epochs"),
]


def codes(**changes: Any) -> dict[str, str]:
    found: dict[str, str] = defaultdict(str)
    found.update({w["code"]: w["message"] for w in warnings(*finished(**changes))})
    return found


def test_nothing_is_said_where_nothing_is_wrong() -> None:
    assert codes() == {}


@pytest.mark.parametrize(("code", "wrong", "right", "words"), CASES)
def test_a_warning_and_its_limit(code: str, wrong: dict[str, Any], right: dict[str, Any], words: str) -> None:
    assert words in codes(**wrong)[code]
    assert code not in codes(**right)


def test_seeds_that_change_nothing_are_told(runs_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import aflctl.report

    monkeypatch.setattr(aflctl.report, "write_all", lambda folder, summary: None)
    streams = dict.fromkeys(("data", "fleet", "selection", "algorithm", "model", "training"), 7)

    def told(seed: int, **seeds: Any) -> list[str]:
        summary = run(config(stop={"updates": 6}, seed=seed, **seeds), runs_dir=runs_dir).summary
        return [w["message"] for w in summary["warnings"] if w["code"] == "seeds-identical"]

    assert told(1) == told(2) == told(3, seeds=streams) == []
    (message,) = told(4, seeds=streams)
    assert message.startswith("seed 4 gave the very weights of seed 3 (fedbuff-synthetic-s3-")
