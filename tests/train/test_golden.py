"""FedAvg, FedAsync and FedBuff on two clients whose arithmetic is done by hand, through the real loop and pool.

Client 0 (1 s a task, one point) wants to be at 4, client 1 (2.5 s, three points) at -2. The model starts at 0, one full
batch, one step, lr 1/2: a client that received x answers y = x - (x - m) / 2 = (x + m) / 2.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from fakes import FakeWorld
from quadratic import federation, hooked, model

from aflctl.api import Local
from aflctl.builtin.algorithms.fedasync import FedAsync
from aflctl.builtin.algorithms.fedavg import FedAvg
from aflctl.builtin.algorithms.fedbuff import FedBuff

POINTS = [[[4.0]], [[-2.0], [-1.0], [-3.0]]]


def run(algorithm: Any, events: int, **more: Any) -> Any:
    return federation(algorithm, FakeWorld({0: 1, 1: 2.5}, 2), POINTS, **more).play(events)


def near(s: Any, value: float) -> bool:
    return model(s) == pytest.approx([value], abs=1e-6)


def test_fedavg_weighs_by_samples() -> None:
    # round 1: y_0 = 2, y_1 = -1;  x = (1 * 2 + 3 * -1) / 4 = -0.25
    # round 2: y_0 = 1.875, y_1 = -1.125;  x = (1.875 - 3.375) / 4 = -0.375
    assert near(run(FedAvg(), 1), 0.0)
    assert near(run(FedAvg(), 2), -0.25)
    assert near(run(FedAvg(), 4), -0.375)


def test_fedavg_uniform() -> None:
    # (2 - 1) / 2 = 0.5
    assert near(run(FedAvg(weighting="uniform"), 2), 0.5)


def test_fedasync_model_form() -> None:
    # alpha 0.6, constant: t=1, client 0 from x=0: y=2, x = 0.6 * 2 = 1.2
    #   t=2, client 0 from 1.2: y=2.6, x = 0.4 * 1.2 + 0.6 * 2.6 = 2.04
    #   t=2.5, client 1 from 0 (staleness 2): y=-1, x = 0.4 * 2.04 - 0.6 = 0.216
    method = FedAsync(alpha=0.6, staleness="constant")
    assert near(run(method, 1), 1.2)
    assert near(run(method, 2), 2.04)
    assert near(run(method, 3), 0.216)


def test_fedasync_discounts_by_staleness() -> None:
    # polynomial, a = 1: s(2) = 1/3, so the third arrival mixes with 0.2: x = 0.8 * 2.04 - 0.2 = 1.432
    s = run(FedAsync(alpha=0.6, staleness={"kind": "polynomial", "a": 1}), 3)
    assert near(s, 1.432)
    assert [e.weight for e in s.entries] == pytest.approx([0.6, 0.6, 0.2])


def test_fedasync_delta_form() -> None:
    # the third arrival adds 0.6 * (-1 - 0): x = 2.04 - 0.6 = 1.44
    assert near(run(FedAsync(alpha=0.6, staleness="constant", form="delta"), 3), 1.44)


def test_fedbuff_flushes_a_full_buffer() -> None:
    # K = 2, constant: arrivals at 1 (D = 2) and 2 (client 0 again, sent at 1 with x = 0: D = 2): x = 4 / 2 = 2
    #   t=2.5: client 1 from 0, staleness 1, D = -1; t=3: client 0 from 2 (sent at 2 after the flush): y=3, D = 1;
    #   x = 2 + (-1 + 1) / 2 = 2
    method = FedBuff(buffer_size=2, staleness="constant")
    assert near(run(method, 1), 0.0)
    assert near(run(method, 2), 2.0)
    assert near(run(method, 3), 2.0)
    assert near(run(method, 4), 2.0)


def test_fedbuff_does_not_renormalise_the_discount() -> None:
    # polynomial a = 1: client 1's D = -1 has staleness 1 and counts 1/2: x = 2 + (-0.5 + 1) / 2 = 2.25
    assert near(run(FedBuff(buffer_size=2, staleness={"kind": "polynomial", "a": 1}), 4), 2.25)


def test_fedbuff_weighted_by_samples() -> None:
    # second buffer: D = -1 of 3 samples, D = 1 of 1: x = 2 + (-3 + 1) / 4 = 1.5
    assert near(run(FedBuff(buffer_size=2, staleness="constant", weighting="samples"), 4), 1.5)


def test_fedbuff_with_server_rate_and_momentum() -> None:
    # lr 0.5, b1 0.9: flush 1: m = 2, x = 1; then client 1 from 0: D = -1; client 0 from 1 (sent at 2): D = 1.5;
    # flush 2: mean 0.25, m = 1.8 + 0.25 = 2.05, x = 1 + 1.025 = 2.025
    method = FedBuff(buffer_size=2, staleness="constant", server_optimizer={"lr": 0.5, "b1": 0.9})
    assert near(run(method, 2), 1.0)
    assert near(run(method, 4), 2.025)


def test_several_local_steps() -> None:
    # 3 steps of lr 1/2 from 0 towards 4: 2, 3, 3.5
    s = federation(FedAsync(alpha=1.0), FakeWorld({0: 1}, 1), [[[4.0]]], local=Local(lr=0.5, steps=3)).play(1)
    assert near(s, 3.5)
    assert s.entries[0].ticket.planned == 3


def test_fedavg_with_everybody_one_full_batch_and_one_step_is_gradient_descent() -> None:
    # x <- x - lr sum_i (n_i / n) grad f_i(x) = x - lr (x - mean of all points), for any number of rounds
    points = [[[1.0, 5.0], [2.0, -3.0]], [[-4.0, 0.5]], [[0.0, 2.0], [1.0, 1.0], [7.0, -2.0]]]
    s = federation(FedAvg(), FakeWorld({0: 1, 1: 2, 2: 3}, 3), points, local=Local(lr=0.1, batch_size=100)).play(15)
    everything = torch.tensor([p for client in points for p in client])
    x = torch.zeros(2)
    for _ in range(5):
        x = x - 0.1 * (x - everything.mean(0))
    assert model(s) == pytest.approx(x.tolist(), abs=1e-6)


@pytest.mark.parametrize("alpha", [0.3, 0.6, 1.0])
def test_fedbuff_of_one_less_fedasync_is_alpha_times_the_drift(alpha: float) -> None:
    # after the arrival of client 1 (sent x_b = 0 at version 0) both methods stand at the same x_v before it:
    # delta form x_v + a (y - x_b), model form x_v + a (y - x_v); the difference is a (x_v - x_b)
    from aflctl.builtin.algorithms.fedbuff import BufferState

    fresh = FedAsync(alpha=alpha, staleness="constant")
    x_v = model(run(fresh, 2))[0]
    after_async = model(run(fresh, 3))[0]
    buffered: Any = hooked(FedBuff(buffer_size=1, staleness="constant", server_optimizer={"lr": alpha}))
    s = run(fresh, 2)  # the same two arrivals, then FedBuff receives the third
    w = s.loop.state.w
    s.loop.alg, s.loop.state = buffered, BufferState(w, torch.zeros(1), buffered.server_optimizer.init(w))
    s.trainer.kit = s.trainer.kit._replace(algorithm=buffered)
    s.trainer.executor.kit = s.trainer.kit
    s.trainer.dry.clear()  # what the other method sends up
    s.play(1)
    assert model(s)[0] - after_async == pytest.approx(alpha * (x_v - 0.0), abs=1e-6)


def test_without_staleness_the_two_forms_agree() -> None:
    # one client alone is never stale: FedBuff(K=1) with rate alpha and FedAsync are one method
    one = federation(FedAsync(alpha=0.6), FakeWorld({0: 1}, 1), [[[4.0]]]).play(7)
    other = federation(FedBuff(buffer_size=1, server_optimizer={"lr": 0.6}), FakeWorld({0: 1}, 1), [[[4.0]]]).play(7)
    assert model(one) == pytest.approx(model(other), abs=1e-6)
