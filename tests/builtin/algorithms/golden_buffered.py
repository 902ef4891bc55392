"""Golden checks of the methods that collect a buffer."""

from __future__ import annotations

from typing import Any

import numpy as np
from double import Lab, Quadratic, batch, feed, fleet, job, same, setup, train, update, vec
from golden import TWO, golden

from aflctl.api import Local, Lost
from aflctl.builtin.algorithms.bounded_staleness_sgd import BoundedStalenessSgd
from aflctl.builtin.algorithms.fadas import Fadas
from aflctl.builtin.algorithms.fedac import FedAc
from aflctl.builtin.algorithms.fedavg import FedAvg
from aflctl.builtin.algorithms.fedbuff import FedBuff
from aflctl.builtin.algorithms.fedcompass import FedCompass
from aflctl.builtin.algorithms.pisces import Pisces
from aflctl.builtin.algorithms.port import Port


@golden(FedBuff)
def buffer_of_two(cls: type[Any]) -> None:
    # K = 2, s = 1/sqrt(1 + tau), eta_g = 1: D = 4 (tau 0), then 6 (tau 3, s = 1/2): x = (4 + 3)/2; not renormalised
    alg = cls(buffer_size=2)
    state = alg.init(setup(vec(0.0)), fleet())
    state, steps = feed(alg, state, (update(0, sent=vec(0.0), delta=vec(4.0)), fleet()))
    assert not steps[0].advanced
    same(state.w, 0)
    state, steps = feed(alg, state, (update(1, sent=vec(9.0), delta=vec(6.0), staleness=3), fleet(version=3)))
    assert steps[0].advanced
    assert steps[0].weight == 0.5
    same(state.w, 3.5)
    # the accumulator starts anew: one more update changes nothing, two do
    state, _ = feed(alg, state, (update(0, sent=vec(0.0), delta=vec(1.0)), fleet()))
    same(state.w, 3.5)
    state, _ = feed(alg, state, (update(0, sent=vec(0.0), delta=vec(1.0)), fleet()))
    same(state.w, 4.5)


@golden(FedBuff)
def buffer_weights_and_momentum(cls: type[Any]) -> None:
    # samples 3 and 1, tau 0 and 3: x = (3*4 + 1*0.5*8) / 4 = 4
    alg = cls(buffer_size=2, weighting="samples")
    ups = [update(0, sent=vec(0.0), delta=vec(4.0), samples=3), update(1, sent=vec(0.0), delta=vec(8.0), staleness=3)]
    state, steps = feed(alg, alg.init(setup(vec(0.0)), fleet()), *((u, fleet()) for u in ups))
    same(state.w, 4)
    assert [s.weight for s in steps] == [3.0, 0.5]
    # momentum 1/2, eta_g 2, K = 1: m = 4, x = 8; m = 2 + 1 = 3, x = 14; m = 3/2, x = 17
    alg = cls(buffer_size=1, server_optimizer={"b1": 0.5, "lr": 2.0})
    state, xs = alg.init(setup(vec(0.0)), fleet()), []
    for d in (4.0, 1.0, 0.0):
        state = alg.receive(state, update(0, sent=vec(0.0), delta=vec(d)), fleet()).state
        xs.append(float(state.w))
    assert xs == [8.0, 14.0, 17.0]


@golden(BoundedStalenessSgd)
def policies(cls: type[Any]) -> None:
    def after(policy: str, tau: int, flying: dict[int, int] | None = None) -> Any:
        alg = cls(bound=2, policy=policy)
        state = alg.init(setup(vec(0.0)), fleet())
        return alg.receive(
            state, update(0, sent=vec(0.0), delta=vec(4.0), staleness=tau), fleet(version=9, flying=flying)
        )

    assert not after("drop", 3).used
    same(after("drop", 2).state.w, 4)
    same(after("downweight", 2).state.w, 4)
    same(after("downweight", 8).state.w, 4 / 3)  # s(8) = 9^-1/2
    same(after("abort", 2).state.w, 4)
    assert after("wait", 0, {1: 1}).advanced
    assert not after("wait", 0, {1: 2}).advanced  # client 1 would end up 3 behind
    world = fleet(version=9, flying={0: 2, 1: 3})
    assert cls(bound=2, policy="abort").recall(None, world) == {1: "cancel"}
    assert cls(bound=2, policy="pull").recall(None, world) == {1: "epoch"}


@golden(BoundedStalenessSgd)
def waiting_bounds_staleness(cls: type[Any]) -> None:
    for bound in (0, 1, 3):
        lab = Lab(cls(bound=bound), [*TWO, vec(2.0)], lambda c, n: 1.0 + 2.3 * c).run(40)
        assert max(tau for _, tau, *_ in lab.log) <= bound
        assert len({c for c, *_ in lab.log}) == 3
    # S = 0: lock-step rounds, FedAvg's with uniform weights
    lab, ref = Lab(cls(bound=0), TWO, lambda c, n: 1.0 + c), Lab(FedAvg(weighting="uniform"), TWO, lambda c, n: 1.0 + c)
    assert lab.run(8).models == ref.run(8).models
    # a lost laggard releases the hold
    lab = Lab(cls(bound=0), TWO, lambda c, n: 1.0 + c, lose=lambda c, n: c == 1).run(2)
    assert len(lab.models) == 2


@golden(Port)
def weights_by_staleness_and_agreement(cls: type[Any]) -> None:
    # K = 2, Omega = 4, w_st = 3, w_sim = 1, lookback 1. First flush: no x_prev, cos = 1.
    # tau 0, n = 1: st = 3, q = 4;  tau 4, n = 2: st = 3/2, q = 2 * 5/2 = 5;  y = 9, -9: x = (4*9 - 5*9)/9 = -1
    alg = cls(buffer_size=2, bound=4, lookback=1)
    state = alg.init(setup(vec(0.0, 0.0)), fleet())
    ups = [
        update(0, sent=vec(0, 0), w=vec(9, 0)),
        update(1, sent=vec(7, 7), w=vec(-9, 0), staleness=4, samples=2),
    ]
    state, steps = feed(alg, state, *((u, fleet()) for u in ups))
    same(state.w, -1, 0)
    assert [s.weight for s in steps] == [4.0, 5.0]
    # now trend = (-1, 0). tau 4, y - x = (0, 1): cos 0, q = 3/2 + 1/2 = 2;  y - x = (1, 0): cos -1, q = 3/2
    ups = [update(0, sent=vec(7, 7), w=vec(-1, 1), staleness=4), update(1, sent=vec(7, 7), w=vec(0, 0), staleness=4)]
    state, steps = feed(alg, state, *((u, fleet()) for u in ups))
    assert [s.weight for s in steps] == [2.0, 1.5]
    same(state.w, -1 + 1.5 / 3.5, 2 / 3.5)
    # at tau 1 the interference is neutral
    step = alg.receive(state, update(0, sent=vec(7, 7), w=vec(9, 9), staleness=1), fleet())
    assert abs(step.weight - (3 * 4 / 5 + 1)) < 1e-9


@golden(Port)
def staleness_belongs_to_the_update(cls: type[Any]) -> None:
    # client 0 reports with tau 4 and is in flight again, fresh, at the flush: its weight stays that of tau 4
    alg = cls(buffer_size=2, bound=4, w_sim=0.0)
    state = alg.init(setup(vec(0.0)), fleet())
    first = (update(0, sent=vec(0.0), w=vec(9.0), staleness=4), fleet(version=4, flying={1: 0}))
    second = (update(1, sent=vec(0.0), w=vec(0.0)), fleet(version=4, flying={0: 0}))
    state, _ = feed(alg, state, first, second)
    same(state.w, 9 * 1.5 / (1.5 + 3))


@golden(Port)
def urgent_once(cls: type[Any]) -> None:
    # client 0: 1 s; client 1: 4 epochs of 4 s, bound 2. At t = 3 (version 3) client 1 is called; it reports at t = 4,
    # after client 0, with tau 4 and one step from x0 = 0: y = -3/2 = x (K = 1). Its next tasks take 1.5 s in all and
    # are never 2 behind, so they run to their end
    alg = cls(buffer_size=1, bound=2)
    lab = Lab(alg, TWO, lambda c, n: 1.0 if c == 0 else 1.5 if n else 16.0, local=Local(lr=0.5, epochs=4)).run(7)
    assert [(c, tau) for c, tau, *_ in lab.log] == [(0, 0), (0, 0), (0, 0), (0, 0), (1, 4), (0, 1), (1, 1)]
    same(lab.models[5], -1.5)
    same(lab.models[7], -1.5 / 16 - 3 * 15 / 16)  # all four epochs
    world = fleet(version=9, flying={0: 2, 1: 3})
    assert alg.recall(alg.init(setup(vec(0.0)), world), world) == {1: "epoch"}


@golden(Pisces)
def utility_and_exploration(cls: type[Any]) -> None:
    from dataclasses import replace

    alg = cls(explore=0.0, explore_floor=0.0)
    world = fleet(capacity=2, samples=(1,) * 4, idle=(0, 1, 2, 3))
    state = alg.init(setup(vec(0.0), (1,) * 4), world)
    heard = {0: (4.0, 1.0, (0,)), 1: (10.0, 1.0, (8,)), 2: (6.0, 1.0, (3,))}
    state = replace(state, heard=heard, tried=frozenset(heard))
    # U = 4, 10/3, 6/2: clients 0 and 1
    assert alg.select(state, world) == [0, 1]
    assert sorted(cls(beta=0.0, explore=0.0).select(state, world)) == [1, 2]
    # with eps = 1 the never started one comes first, then the best
    assert alg.select(replace(state, explore=1.0), world) == [3, 0]
    # nobody known: the unexplored fill all places, whatever eps is
    assert len(alg.select(alg.init(setup(vec(0.0), (1,) * 4), world), world)) == 2
    later = alg.launched(replace(state, explore=0.9), [3], world)
    assert abs(later.explore - 0.882) < 1e-12
    assert 3 in later.tried
    # a lost first task leaves the client unexplored
    lost = Lost(3, 0, {"": 0}, 0.0, "dropout")
    assert 3 not in alg.lost(later, lost, world).state.tried


@golden(Pisces)
def everybody_gets_a_turn(cls: type[Any]) -> None:
    lab = Lab(cls(every_s=0.25), [vec(float(c)) for c in range(6)], lambda c, n: 1.0 + c / 7, concurrency=2).run(150)
    assert {c for c, *_ in lab.log} == set(range(6))


@golden(Pisces)
def pace_and_weights(cls: type[Any]) -> None:
    # n = 3 (tau 0, y = 4) and n = 1 (tau 3, y = 8), x = 0: x = 3/4*4 + 1/4*1/2*8 = 4
    alg = cls(bound=4.0, every_s=1.0)
    state = alg.init(setup(vec(0.0)), fleet())
    ups = [
        (update(0, sent=vec(0.0), w=vec(4.0), samples=3, sent_at=0.0, at=0.5), fleet(now=0.5, flying={1: 0})),
        (update(1, sent=vec(7.0), w=vec(8.0), staleness=3, sent_at=0.0, at=0.6), fleet(now=0.6, flying={0: 0})),
    ]
    state, steps = feed(alg, state, *ups)
    assert [s.weight for s in steps] == [3.0, 0.5]
    assert not any(s.advanced for s in steps)
    assert alg.alarm(state, fleet(now=0.6)) == 1.0
    # client 0 flies, its latency was 0.5: 1 - 0 >= 0.5 / 4: aggregate. An unknown client would be 180 / 4 = 45 s
    assert not alg.tick(state, fleet(now=1.0, flying={7: 0})).advanced
    assert not alg.tick(state, fleet(now=0.9, flying={0: 0})).advanced  # not due
    step = alg.tick(state, fleet(now=1.0, flying={0: 0}))
    assert step.advanced
    same(step.state.w, 4)
    assert alg.alarm(step.state, fleet(now=1.0)) == 2.0
    assert not alg.tick(step.state, fleet(now=2.0)).advanced  # nothing in the buffer


@golden(FedAc)
def prospective_momentum(cls: type[Any]) -> None:
    # K = 2, b1 = 1/2, b2 = 3/4, lr = 1, eps ~ 0. r: tau 0 -> 1; x - x_b = (1, 0), D = (0, 2): 90 degrees, r = 1/2
    alg = cls(buffer_size=2, b1=0.5, b2=0.75, lr=1.0, floor=0.1)
    state = alg.init(setup(vec(1.0, 0.0)), fleet())
    z = vec(0, 0)
    ups = [
        update(0, sent={"w": vec(1, 0)}, up={"delta": vec(3, 0), "dc": vec(2, 0)}),
        update(1, sent={"w": z}, up={"delta": vec(0, 2), "dc": vec(0, 4)}, staleness=1),
    ]
    state, steps = feed(alg, state, *((u, fleet(samples=(1,) * 4)) for u in ups))
    np.testing.assert_allclose([s.weight for s in steps], [1.0, 0.5])
    # D = (3, 0)/1.5 + (0, 1)/1.5 = (2, 2/3); m = D/2; v = D^2/4; look-ahead: m/2 + D/2 = 3/4 D; / sqrt(v) = |D|/2: 3/2
    same(state.w, 2.5, 1.5, tol=1e-5)
    same(state.m, 1, 1 / 3)
    same(state.c, 0.5, 1.0)  # sum dc / N, N = 4
    # opposite direction: the floor
    up = update(0, sent={"w": vec(9, 9)}, up={"delta": vec(1, 1), "dc": z}, staleness=2)
    assert alg.receive(state, up, fleet()).weight == 0.1


@golden(FedAc)
def correction_at_every_step(cls: type[Any]) -> None:
    # c = 2, c_i = 1, b = 1, x = 0, eta = 1/2, K = 2: g + 1: w = 0 -> 0 -> 0; c_i' = 1 - 2 - 0 = -1; dc = -2
    up, memory = train(
        cls(), Quadratic(), [batch(vec(1.0))] * 2, job({"w": vec(0.0), "c": vec(2.0)}, {"c": vec(1.0)}, 0.5, steps=2)
    )
    same(up["delta"], 0)
    same(up["dc"], -2)
    same(memory["c"], -1)


@golden(Fadas)
def amsgrad_by_hand(cls: type[Any]) -> None:
    # M = 1, numpy's AMSGrad. D: 2, 0, -1
    alg = cls(buffer_size=1, lr=0.1, rate="plain", b1=0.5, b2=0.75, eps=1e-8)
    state, x, m, v, hat = alg.init(setup(vec(0.0)), fleet()), 0.0, 0.0, 0.0, 0.0
    for d in (2.0, 0.0, -1.0):
        m, v = 0.5 * m + 0.5 * d, 0.75 * v + 0.25 * d * d
        hat = max(hat, v)
        x += 0.1 * m / (np.sqrt(hat) + 1e-8)
        state = alg.receive(state, update(0, sent=vec(0.0), delta=vec(d)), fleet()).state
        same(state.w, x)
    # an entry that never moved stays
    state = cls(buffer_size=1).init(setup(vec(1.0, 2.0)), fleet())
    same(cls(buffer_size=1).receive(state, update(0, sent=vec(0, 0), delta=vec(1, 0)), fleet()).state.w[1:], 2)


@golden(Fadas)
def rate_by_the_latest(cls: type[Any]) -> None:
    # first step, buffer of two with D = 3 and 1, tau 0 and 4: |step| = eta_t m / sqrt(v) = eta_t (1 - b1)/sqrt(1 - b2)
    unit = 0.1 / np.sqrt(0.01)
    for rate, lr, eta in (
        ("plain", 0.5, 0.5),
        ("relative", 0.5, 0.125),
        ("absolute", 0.5, 0.25),
        ("absolute", 0.1, 0.1),
    ):
        alg = cls(buffer_size=2, rate=rate, lr=lr)
        ups = [update(0, sent=vec(0.0), delta=vec(3.0), staleness=4), update(1, sent=vec(0.0), delta=vec(1.0))]
        state, _ = feed(alg, alg.init(setup(vec(0.0)), fleet()), *((u, fleet()) for u in ups))
        same(state.w, eta * unit, tol=1e-5)
        assert (state.latest, state.got) == (0, 0)
    # tau_c = 4: still the full rate
    alg = cls(buffer_size=2, lr=0.5, tau_c=4)
    state, _ = feed(alg, alg.init(setup(vec(0.0)), fleet()), *((u, fleet()) for u in ups))
    same(state.w, 0.5 * unit, tol=1e-5)
    # with bias correction the first step is eta * sign(D)
    alg = cls(buffer_size=2, lr=0.5, tau_c=4, bias_correction=True)
    state, _ = feed(alg, alg.init(setup(vec(0.0)), fleet()), *((u, fleet()) for u in ups))
    same(state.w, 0.5, tol=1e-5)


@golden(Pisces)
def what_is_remembered_of_a_client(cls: type[Any]) -> None:
    from dataclasses import replace

    # L is the root mean square of the first epoch's losses, 3, whatever the others were; the last 5 staleness values
    alg = cls()
    state = alg.init(setup(vec(0.0)), fleet())
    for tau in range(7):
        up = update(0, sent=vec(0.0), w=vec(0.0), samples=2, staleness=tau)
        up = replace(up, stats={**dict.fromkeys(up.stats, 8.0), "first_loss_sq": 9.0})
        state = alg.receive(state, up, fleet(flying={1: 0})).state
    assert state.heard[0] == (6.0, 1.0, (2, 3, 4, 5, 6))


@golden(FedAc)
def step_count_and_angle(cls: type[Any]) -> None:
    # K = 3 steps of 1/2 to b = 1: D = 7/8, dc = -(7/8) / (3/2) = -7/12
    sent, memory = {"w": vec(0.0), "c": vec(0.0)}, {"c": vec(0.0)}
    up, _ = train(cls(), Quadratic(), [batch(vec(1.0))] * 3, job(sent, memory, 0.5, steps=3))
    same(up["dc"], -7 / 12)
    # the angle is with the way gone since x_b, (0, 1), not with x = (5, 1): D = (0, 2) agrees fully
    state = cls().init(setup(vec(5.0, 1.0)), fleet())
    up = update(0, sent={"w": vec(5.0, 0.0)}, up={"delta": vec(0, 2), "dc": vec(0, 0)}, staleness=1)
    assert abs(cls().receive(state, up, fleet()).weight - 1) < 1e-3


HALVING = {"kind": "exponential", "decay": 0.5}  # s(tau) = 2^-tau


@golden(FedCompass)
def groups_of_two_silos(cls: type[Any]) -> None:
    # N = 2, Q in [2, 10], momentum 1/2, factor 3/2, alpha 0.8: an update counts 0.4 s(tau)
    alg = cls(min_steps=2, max_steps=10, momentum=0.5, latest_factor=1.5, alpha=0.8, staleness=HALVING)
    state = alg.init(setup(vec(0.0)), fleet())
    assert [alg.assign(state, c, fleet()).steps for c in (0, 1)] == [10, 10]

    def arrives(client: int, steps: int, sent_at: float, at: float, version: int, staleness: int, d: float) -> Any:
        world = fleet(now=at, version=version, flying={1 - client: 0})
        up = {"delta": vec(d), "w": vec(9.0 + d)}
        heard = update(
            client, sent=vec(9.0), up=up, steps=steps, sent_at=sent_at, at=at, staleness=staleness, version=version
        )
        return alg.receive(state, heard, world)

    # t = 10: 0's first, alone: x = 0.4 * 1.  v_0 = 1; nobody is awaited: Q = 10, expected 20, latest 25
    step = arrives(0, 10, 0.0, 10.0, 0, 0, 1.0)
    state = step.state
    assert step.advanced
    assert step.weight == 0.4
    same(state.w, 0.4)
    assert alg.assign(state, 0, fleet(now=10.0, version=1)).steps == 10
    # t = 16: 1's first, one version old: x = 0.4 + 0.4/2 * 1.  v_1 = 1.6; floor((20 - 16)/1.6) = 2: joins
    step = arrives(1, 10, 0.0, 16.0, 1, 1, 1.0)
    state = step.state
    assert step.advanced
    same(state.w, 0.6)
    assert alg.assign(state, 1, fleet(now=16.0, version=2)).steps == 2
    # t = 20: 0 comes, in time, and waits; its place stays taken
    step = arrives(0, 10, 10.0, 20.0, 2, 1, 2.0)
    state = step.state
    assert not step.advanced
    same(state.w, 0.6)
    world = fleet(now=20.0, version=2, flying={1: 0}, idle=(0,))
    assert list(alg.select(state, world)) == []
    assert alg.alarm(state, world) == 25.0
    assert not alg.tick(state, world).advanced
    # t = 25: the group ends without 1: x = 0.6 + 0.4/2 * 2. 0 is free: Q = 10, expected 35, latest 40
    world = fleet(now=25.0, version=2, flying={1: 0}, idle=(0,))
    step = alg.tick(state, world)
    state = step.state
    assert step.advanced
    same(state.w, 1.0)
    assert list(alg.select(state, world)) == [0]
    assert alg.assign(state, 0, fleet(now=25.0, version=3)).steps == 10
    # t = 26: 1 is late: held, no version. v_1 = (5 + 1.6)/2 = 3.3; floor((35 - 26)/3.3) = 2: joins
    step = arrives(1, 2, 16.0, 26.0, 3, 1, 4.0)
    state = step.state
    assert not step.advanced
    same(state.w, 1.0)
    assert alg.assign(state, 1, fleet(now=26.0, version=3)).steps == 2
    # t = 35 and 36: complete; with the late one (tau = 1): x = 1 + 0.2 * 4 + 0.4 * 1 - 0.4 * 2
    step = arrives(0, 10, 25.0, 35.0, 3, 0, 1.0)
    state = step.state
    assert not step.advanced
    step = alg.receive(
        state, update(1, sent=vec(9.0), up={"w": vec(7.0)}, steps=2, sent_at=26.0, at=36.0, version=3), fleet(version=3)
    )
    assert step.advanced
    same(step.state.w, 1.4)
    # v_1 = (5 + 3.3)/2 = 4.15, v_0 = 1: the fastest is sent first
    world = fleet(now=36.0, version=4, idle=(1, 0))
    assert list(alg.select(step.state, world)) == [0, 1]


@golden(FedCompass)
def steps_of_a_new_group(cls: type[Any]) -> None:
    # one group: expected 20, latest 25, fastest 1 second a step; t = 18, Q in [2, 10]
    def steps(v: float) -> tuple[Any, ...]:
        alg = cls(min_steps=2, max_steps=10)
        state = alg.init(setup(vec(0.0)), fleet())
        state.groups.speed[0] = v
        state.groups.open[0] = (20.0, 25.0, 1.0)
        got = alg.assign(state, 0, fleet(now=18.0)).steps
        return got, len(state.groups.open), max(state.groups.open.values())

    assert steps(1.6) == (10, 2, (34.0, 42.0, 1.6))  # joining leaves 1 step; 25 + 10 = 35: floor(17/1.6) = 10
    assert steps(2.5) == (6, 2, (33.0, 40.5, 2.5))  # floor(17/2.5)
    assert steps(20.0) == (2, 2, (58.0, 78.0, 20.0))  # floor(17/20) = 0, at least 2
    assert steps(1.2) == (10, 2, (30.0, 36.0, 1.2))  # floor(17/1.2) = 14 is too many: 10
    assert steps(0.4) == (5, 1, (20.0, 25.0, 0.4))  # floor(2/0.4): joins, and is its fastest


@golden(FedCompass)
def models_mixed_in(cls: type[Any]) -> None:
    # N = 2, alpha 1, s(1) = 1/2, both alone: y = 4 (tau 0): x = 0 + 1/2 * 4;  y = 4 (tau 1): x = 3/4 * 2 + 1/4 * 4
    alg = cls(form="model", alpha=1.0, staleness=HALVING)
    state, xs = alg.init(setup(vec(0.0)), fleet()), []
    for c, tau in ((0, 0), (1, 1)):
        step = alg.receive(state, update(c, sent=vec(0.0), w=vec(4.0), staleness=tau), fleet(version=tau))
        state = step.state
        xs.append(float(state.w))
    assert xs == [2.0, 2.5]
