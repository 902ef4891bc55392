"""A quadratic world with two coordinates, `body` and `head`, whose arithmetic can be done by hand."""

from __future__ import annotations

from typing import Any

from fakes import FakeWorld
from quadratic import Quadratic, federation

from aflctl.api import Local

POINTS = [[[4.0, 8.0]], [[-2.0, -6.0], [-2.0, -6.0]]]


class Two(Quadratic):
    """1/2 |w - x|^2 over two named coordinates."""

    def __init__(self) -> None:
        super().__init__(2)
        self.layout = {"body": (slice(0, 1), (1,)), "head": (slice(1, 2), (1,))}


def play(
    method: Any, wrapper: Any, events: int, *, points: Any = POINTS, local: Local | None = None, **more: Any
) -> Any:
    """Client 0 takes 1 s a task, client 1 takes 2.5 s; lr 1/2, one full batch."""
    wraps = [lambda inner, setup: wrapper.wrap(inner, setup)] if wrapper is not None else []
    times = more.pop("times", {0: 1, 1: 2.5})
    concurrency = more.pop("concurrency", len(points))
    stage = federation(
        method, FakeWorld(times, concurrency), points, task=Two(), wraps=wraps,
        local=local or Local(lr=0.5, batch_size=1000), **more,
    )  # fmt: skip
    return stage.play(events)


def personal(s: Any, client: int) -> list[float]:
    """The vector that a client is evaluated with."""
    values: list[float] = s.loop.alg.personal(s.loop.state, client, s.trainer.memory[client]).tolist()
    return values
