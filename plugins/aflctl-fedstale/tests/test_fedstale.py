"""FedStale on vectors small enough to do by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from aflctl.api import Fleet, Local, Setup, Update
from aflctl_fedstale import FedStale, State

F64 = torch.float64


def fleet(samples: Sequence[int], version: int = 0) -> Fleet:
    return Fleet(
        now=0.0, versions={"": version}, capacity=len(samples), samples=samples, total_samples=sum(samples),
        idle=range(len(samples)), flying={}, estimate=lambda client, task: 1.0, streams=None,
    )  # fmt: skip


def update(client: int, delta: torch.Tensor) -> Update:
    return Update(
        client=client, version=0, staleness_by={"": 0}, samples=1, steps=1, sent={}, up={"delta": delta}, stats={},
        sent_at=0.0, arrived_at=1.0,
    )  # fmt: skip


class Server:
    """The part of the loop that matters here: hands over updates and counts versions."""

    def __init__(self, method: FedStale, samples: Sequence[int], size: int = 1) -> None:
        self.method, self.samples, self.version = method, samples, 0
        setup = Setup(layout={}, init=torch.zeros(size, dtype=F64), samples=samples, concurrency=2, local=Local())
        self.state: State = method.init(setup, fleet(samples))

    def receive(self, client: int, *delta: float) -> bool:
        given = torch.tensor(delta, dtype=F64)
        kept = given.clone()
        step = self.method.receive(self.state, update(client, given), fleet(self.samples, self.version))
        assert torch.equal(given, kept), "an update was changed in place"
        self.state, self.version = step.state, self.version + bool(step.advanced)
        return bool(step.advanced)

    @property
    def x(self) -> list[float]:
        return [round(float(v), 12) for v in self.method.params(self.state)]


def method(**params: Any) -> FedStale:
    return FedStale(**{"buffer_size": 2, **params})


def test_two_versions_by_hand() -> None:
    # N = 4, a = 1/4, p = 2/4, beta = 1/2.
    # Version 1: clients 0 and 1 bring 4 and 8, nothing is remembered: D = 2/4 * 4 + 2/4 * 8 = 6.
    # Version 2: clients 1 and 2 bring 2 and 6; h = (4, 8, 0, 0).
    #   fresh  2/4 * 2 + 2/4 * 6                                      = 4
    #   stale  absent: 1/4 * 4 = 1;  present: (1/4 - 2/4) * 8 = -2    = -1, times beta = -0.5
    #   D = 3.5, x = 9.5; then h = (4, 2, 6, 0) and H = 12 / 4 = 3.
    server = Server(method(), [5, 5, 5, 5])
    assert not server.receive(0, 4.0)
    assert server.x == [0.0]
    assert server.receive(1, 8.0)
    assert server.x == [6.0]
    assert not server.receive(1, 2.0)
    assert server.receive(2, 6.0)
    assert server.x == [9.5]
    assert float(server.state.total) == 3.0
    assert [float(server.state.rows[i]) for i in range(4)] == [1.0, 0.5, 1.5, 0.0]


def test_observed_participation_by_hand() -> None:
    # Version 1: clients 0, 1, each seen in 1 of 1 versions, p = 1: D = 4/4 + 8/4 = 3.
    # Version 2: clients 1 (2 of 2, p = 1) and 2 (1 of 2, p = 1/2) bring 2 and 6, beta = 1/2:
    #   fresh  1/4 * 2 + 2/4 * 6 = 3.5;  stale  absent: 1/4 * 4 = 1, present: client 1 (1/4 - 1/4) * 8 = 0, client 2: 0
    #   D = 3.5 + 0.5 = 4
    server = Server(method(participation="observed"), [1, 1, 1, 1])
    for client, delta in ((0, 4.0), (1, 8.0), (1, 2.0), (2, 6.0)):
        server.receive(client, delta)
    assert server.x == [7.0]


def test_a_client_that_comes_twice_counts_once_with_its_mean() -> None:
    # N = 4, S = {3}, p = 1/4: D = (1/4) / (1/4) * mean(2, 6) = 4.
    server = Server(method(), [1, 1, 1, 1])
    server.receive(3, 2.0)
    assert server.receive(3, 6.0)
    assert server.x == [4.0]
    assert float(server.state.rows[3]) == 1.0


def test_sample_weights() -> None:
    # a = (1/4, 3/4), everybody there, p = 1: D = 1/4 * 8 + 3/4 * 4 = 5.
    server = Server(method(weighting="samples", beta=0.3), [10, 30])
    server.receive(0, 8.0)
    server.receive(1, 4.0)
    assert server.x == [5.0]


def arrivals(versions: int, clients: int, cohort: int, seed: int = 3) -> list[list[tuple[int, torch.Tensor]]]:
    g = torch.Generator().manual_seed(seed)
    return [
        [(int(i), torch.randn(3, generator=g, dtype=F64)) for i in torch.randperm(clients, generator=g)[:cohort]]
        for _ in range(versions)
    ]


def test_beta_one_is_fedvarp() -> None:
    # FedVARP: v = mean_i h_i + mean over S of (D_i - h_i).
    server = Server(method(buffer_size=3, beta=1.0, lr=0.7), [4] * 8, size=3)
    x, h = torch.zeros(3, dtype=F64), torch.zeros(8, 3, dtype=F64)
    for cohort in arrivals(20, 8, 3):
        v = h.mean(0) + torch.stack([d - h[i] for i, d in cohort]).mean(0)
        x = x + 0.7 * v
        for i, d in cohort:
            h[i] = d
            server.receive(i, *d.tolist())
        assert torch.allclose(server.method.params(server.state), x, atol=1e-12)
        assert torch.allclose(server.state.total, h.mean(0), atol=1e-12)


def test_beta_zero_is_the_mean_of_the_buffer() -> None:
    server, x = Server(method(buffer_size=3, beta=0.0), [4] * 8, size=3), torch.zeros(3, dtype=F64)
    for cohort in arrivals(5, 8, 3):
        x = x + torch.stack([d for _, d in cohort]).mean(0)
        for i, d in cohort:
            server.receive(i, *d.tolist())
    assert torch.allclose(server.method.params(server.state), x, atol=1e-12)


@pytest.mark.parametrize("beta", [0.0, 0.5, 1.0])
def test_with_everybody_there_beta_plays_no_part(beta: float) -> None:
    server, x = Server(method(buffer_size=4, beta=beta), [4] * 4, size=3), torch.zeros(3, dtype=F64)
    for cohort in arrivals(5, 4, 4):
        x = x + torch.stack([d for _, d in cohort]).mean(0)
        for i, d in cohort:
            server.receive(i, *d.tolist())
    assert torch.allclose(server.method.params(server.state), x, atol=1e-12)


def test_at_a_stationary_point_beta_one_does_not_move() -> None:
    # The four updates sum to 0 and never change; once all are known, any two of them leave x where it is.
    server = Server(method(beta=1.0), [1, 1, 1, 1])
    drift = [3.0, -1.0, -4.0, 2.0]
    for i in range(4):
        server.receive(i, drift[i])
    at = server.x
    for i in (2, 0, 1, 3, 0, 1):
        server.receive(i, drift[i])
    assert server.x == at


@pytest.mark.parametrize("bad", [{"beta": 1.5}, {"buffer_size": 0}, {"lr": 0.0}, {"weighting": "loss"}, {"betta": 1}])
def test_parameters_are_checked(bad: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        FedStale(**bad)
