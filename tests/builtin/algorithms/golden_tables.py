"""Golden checks of the methods that remember every client."""

from __future__ import annotations

from typing import Any

import numpy as np
from double import Lab, Quadratic, batch, feed, fleet, job, same, setup, train, update, vec
from golden import TWO, golden

from aflctl.api import Local
from aflctl.builtin.algorithms.ace import Ace
from aflctl.builtin.algorithms.area import Area
from aflctl.builtin.algorithms.ca2fl import Ca2fl
from aflctl.builtin.algorithms.fedat import FedAt
from aflctl.builtin.algorithms.fedavg import FedAvg
from aflctl.builtin.algorithms.forootani import Forootani
from aflctl.builtin.algorithms.malenia import Malenia
from aflctl.builtin.algorithms.quafl import Quafl
from aflctl.builtin.algorithms.ringleader import Ringleader
from aflctl.builtin.algorithms.safa import Safa


@golden(Ca2fl)
def calibrated_buffer(cls: type[Any]) -> None:
    # N = 2, M = 2. D_0 = 4, D_1 = -2, empty caches: V = 0 + 1 = 1, h = 1.
    # D_0 = 0, D_0 = 6 (twice client 0): acc = (0 - 4) + (6 - 0) = 2, V = 1 + 1 = 2, x = 3, h = (6 - 2)/2 = 2
    # D_1 = 4, D_0 = 6: acc = 6 + 0, V = 2 + 3 = 5, x = 8, h = 5
    alg = cls(buffer_size=2)
    state, xs = alg.init(setup(vec(0.0)), fleet()), []
    for k, (c, d) in enumerate([(0, 4), (1, -2), (0, 0), (0, 6), (1, 4), (0, 6)]):
        step = alg.receive(state, update(c, sent=vec(9.0), delta=vec(d), staleness=k), fleet())
        state = step.state
        if step.advanced:
            xs.append(float(state.w))
    assert xs == [1.0, 3.0, 8.0]
    same(state.mean, 5)
    # commit at the flush: the second D_0 is compared with the cache of before the buffer: acc = (0 - 4) + (6 - 4) = -2
    alg = cls(buffer_size=2, cache_commit="flush")
    state = alg.init(setup(vec(0.0)), fleet())
    for c, d in [(0, 4), (1, -2), (0, 0), (0, 6)]:
        state = alg.receive(state, update(c, sent=vec(9.0), delta=vec(d)), fleet()).state
    same(state.w, 1 + 1 - 1)
    same(state.mean, 2)


@golden(Ace)
def table_mean_at_each_arrival(cls: type[Any]) -> None:
    # fill: D = 4, -2: the second arrival makes x = 1. Then D_0 = 0: mean -1, x = 0; D_1 = 2: mean 1, x = 1
    alg = cls()
    state, xs = alg.init(setup(vec(0.0)), fleet()), []
    for v, (c, d) in enumerate([(0, 4), (1, -2), (0, 0), (1, 2)]):
        step = alg.receive(
            state, update(c, sent=vec(0.0), delta=vec(d), version=max(0, v - 1)), fleet(version=max(0, v - 1))
        )
        state = step.state
        assert bool(step.advanced) == (v > 0)
        xs.append(float(state.w))
    assert xs == [0.0, 1.0, 0.0, 1.0]
    # while the table fills: who has no row; others only where nobody flies, for who is away may never come
    state = alg.init(setup(vec(0.0), (1,) * 3), fleet(samples=(1,) * 3))
    state = alg.receive(state, update(0, sent=vec(0.0), delta=vec(4.0)), fleet(samples=(1,) * 3)).state
    assert alg.select(state, fleet(capacity=2, samples=(1,) * 3, idle=(0, 1, 2))) == [1, 2]
    assert alg.select(state, fleet(capacity=2, samples=(1,) * 3, idle=(0, 2))) == [2]
    assert alg.select(state, fleet(capacity=2, samples=(1,) * 3, idle=(0,), flying={1: 0})) == []
    assert alg.select(state, fleet(capacity=2, samples=(1,) * 3, idle=(0,))) == [0]
    # ACED: client 1's row (from version 0) expires at version 3 with max_age 2: the mean is client 0's alone
    alg = cls(max_age=2)
    state = alg.init(setup(vec(0.0)), fleet())
    state, _ = feed(alg, state, *((update(c, sent=vec(0.0), delta=vec(d)), fleet()) for c, d in [(0, 4), (1, -2)]))
    step = alg.receive(state, update(0, sent=vec(0.0), delta=vec(8.0), version=2, staleness=1), fleet(version=3))
    same(step.state.w, 1 + 8)
    # nobody fresh: no step
    step = alg.receive(step.state, update(1, sent=vec(0.0), delta=vec(1.0), version=0, staleness=9), fleet(version=9))
    assert not step.advanced
    same(step.state.acc, 0)


@golden(Area)
def mean_of_the_last_reports(cls: type[Any]) -> None:
    # N = 2, B = 2, eta 1/2, x0 = 0; client 0 reports at 1 and 2, client 1 at 2.5.
    # t 1: y = 1/2, u = 1/2; t 2: y = 1/2 (x is still 0), u = 0: flush x = 1/2 / 2 = 1/4 = mean(1/2, 0)
    # t 2.5: client 1 from 0: y = -3/2; t 3: client 0 from 1/4: y = 5/8: x = (5/8 - 3/2)/2 = -7/16
    lab = Lab(cls(buffer_size=2), TWO, lambda c, n: 1.0 + 1.5 * c).run(4)
    same(vec(*lab.models), 0, 1 / 4, -7 / 16)
    # gradients: table of y - x_b: (1/2, 0) -> x = 1/4; then (3/8, -3/2): x = 1/4 - 9/16
    lab = Lab(cls(buffer_size=2, correction="gradients"), TWO, lambda c, n: 1.0 + 1.5 * c).run(4)
    same(vec(*lab.models), 0, 1 / 4, -5 / 16)
    # none: sums of updates over N: (1/2 + 1/2)/2; then (-3/2 + 1/4)/2
    lab = Lab(cls(buffer_size=2, correction="none"), TWO, lambda c, n: 1.0 + 1.5 * c).run(4)
    same(vec(*lab.models), 0, 1 / 2, -1 / 8)
    # a lost upload changes no memory: x is still the mean of what was reported
    lab = Lab(cls(buffer_size=1), TWO, lambda c, n: 1.0 + 1.5 * c, lose=lambda c, n: n % 2 == 1).run(9)
    same(lab.x, float(lab.memory[0]["m"] + lab.memory[1]["m"]) / 2)
    assert cls(weighting="samples").assign(lab.state, 0, fleet(samples=(3, 1))).lr_scale == 1.5


@golden(Forootani)
def weights_and_schedule(cls: type[Any]) -> None:
    # buffered, K = 2, beta = 1/2: w = 3 (tau 0) and 1/(1 + 1) = 1/2 (tau 2): x = (3*1 + 1/2*8)/3.5 = 2
    alg = cls(buffer_size=2, beta=0.5)
    state = alg.init(setup(vec(0.0), (3, 1), epochs=3), fleet())
    ups = [update(0, sent=vec(0.0), w=vec(1.0), samples=3), update(1, sent=vec(5.0), w=vec(13.0), staleness=2)]
    state, steps = feed(alg, state, *((u, fleet(samples=(3, 1))) for u in ups))
    assert [s.weight for s in steps] == [3.0, 0.5]
    same(state.w, 2)
    # identical updates move x by exactly that update, whatever beta
    state2 = alg.init(setup(vec(0.0), (3, 1), epochs=3), fleet())
    ups = [update(c, sent=vec(5.0), w=vec(7.0), samples=n, staleness=t) for c, n, t in ((0, 3, 4), (1, 1, 9))]
    same(feed(alg, state2, *((u, fleet()) for u in ups))[0].w, 2)
    # eta_e = 1 / (sqrt(e + 1) (1 + alpha delta)): time 4 s, last staleness 2, constant 2
    for source, delta in (("time", 4.0), ("staleness", 2.0), ("constant", 2.0)):
        alg = cls(alpha=0.5, delay_source=source, patience=2)
        order = alg.assign(state, 1, fleet(seconds=lambda c: 4.0))
        np.testing.assert_allclose(order.lr_scale, [1 / (np.sqrt(e + 1) * (1 + 0.5 * delta)) for e in range(3)])
        assert order.patience == 2
    # immediate: a = mix * n/nbar / (1 + beta tau) = 1/2 * 3/2 / 2
    alg = cls(variant="immediate", beta=0.5)
    step = alg.receive(state, update(0, sent=vec(9.0), w=vec(10.0), samples=3, staleness=2), fleet(samples=(3, 1)))
    same(step.state.w, 2 + 0.375 * 8)


@golden(Forootani)
def barrier_and_no_broadcast(cls: type[Any]) -> None:
    # barrier, alpha 0: FedAvg
    make = {"variant": "barrier", "alpha": 0.0}
    lab, ref = (
        Lab(cls(**make), TWO, lambda c, n: 1.0 + c, (3, 1), init=vec(4.0)),
        Lab(FedAvg(), TWO, lambda c, n: 1.0 + c, (3, 1), init=vec(4.0)),
    )
    same(vec(*lab.run(6).models), vec(*ref.run(6).models).tolist())
    # never a broadcast: clients train alone, x is the mean of their models: b_i (1 - 2^-r)
    lab = Lab(cls(no_broadcast=True, **make), TWO).run(6)
    same(vec(*lab.models), 0, -0.5, -0.75, -0.875)
    assert all(not order.tensors for _, order in lab.sent)
    # with broadcast the same numbers: for equal curvature the mean of models commutes; the memory does not exist
    assert Lab(cls(**make), TWO).memory == [{}, {}]


@golden(Safa)
def cache_and_bypass(cls: type[Any]) -> None:
    # N = 2, n = (3, 1), quota 1/2 (one client), lag 5. eta 1/2, x0 = 0. client 0: 1 s, client 1: 1.5 s.
    # t 1: client 0 picked, y = 1/2: x1 = 3/4*1/2 = 3/8; client 1 flies on; 0 is sent x1
    # t 1.5: client 1 (not picked before), y = -3/2: x2 = 3/8 + 1/4(-3/2) = 0; t 2: client 0 from 3/8: y = 11/16, picked
    # (client 1 was, last round): x3 = 3/4*11/16 - 3/8 = 9/64
    lab = Lab(cls(quota=0.5), TWO, lambda c, n: 1.0 + c / 2, (3, 1)).run(3)
    same(vec(*lab.models), 0, 3 / 8, 0, 9 / 64)


@golden(Safa)
def unpicked_counts_one_round_later(cls: type[Any]) -> None:
    # by hand: client 0 was picked last round, so its next report is only taken if the quota is not filled otherwise
    from dataclasses import replace

    alg = cls(quota=0.5)
    world = fleet(idle=(), samples=(1, 1))
    state = replace(alg.init(setup(vec(0.0)), world), before=frozenset({0}))
    step = alg.receive(state, update(0, sent=vec(0.0), w=vec(8.0)), fleet(flying={1: 0}))
    assert not step.advanced
    step = alg.receive(step.state, update(1, sent=vec(0.0), w=vec(2.0)), world)
    assert step.advanced
    same(step.state.w, 1)  # client 1 alone: (0 + 2)/2
    assert step.state.before == frozenset({1})
    step = alg.receive(step.state, update(0, sent=vec(0.0), w=vec(8.0)), world)
    same(step.state.w, 5)  # client 0's model, reported twice, counts once: (8 + 2)/2


@golden(Safa)
def who_gets_what(cls: type[Any]) -> None:
    from dataclasses import replace

    alg = cls(lag=2)
    state = alg.init(setup(vec(0.0)), fleet())
    state = replace(state, w=vec(4.0), base={0: 5, 1: 7}, synced=frozenset())
    assert alg.assign(state, 1, fleet(version=8)).version == 7  # tolerated: nothing travels, base 7
    assert not alg.assign(state, 1, fleet(version=8)).tensors
    same(alg.assign(state, 0, fleet(version=8)).tensors["w"], 4)  # 3 behind: gets x
    same(alg.assign(replace(state, synced=frozenset({1})), 1, fleet(version=8)).tensors["w"], 4)
    # and its cache becomes x: live = (4 + 0)/2
    state = alg.launched(state, [0, 1], fleet(version=8, flying={0: 0, 1: 1}))
    same(state.live, 2)
    assert alg.recall(state, fleet(version=8, flying={0: 2, 1: 3})) == {1: "cancel"}


@golden(Quafl)
def mixing_keeps_the_sum(cls: type[Any]) -> None:
    # s = 2, exact: x = 3, X = (1/2 trained) ... server (x + X_0 + X_1)/3, client (x + 2 X_i)/3; the sum is kept
    alg = cls(polled=2, bits=32, scale_lr=False)
    memory, x, ys = [vec(1.0), vec(5.0)], vec(3.0), []
    state = alg.init(setup(x), fleet())
    for c in (0, 1):
        up, kept = train(alg, Quadratic(), [batch(TWO[c])], job({"w": x}, {"w": memory[c]}, 0.0))
        memory[c] = kept["w"]
        ys.append(up["w"])
    for c in (0, 1):
        state = alg.receive(state, update(c, sent=x, w=ys[c]), fleet(flying={1: 0} if c == 0 else None)).state
    same(state.w, 3)
    same(memory[0], 5 / 3)
    same(memory[1], 13 / 3)
    same(state.w + memory[0] + memory[1], 3 + 1 + 5)


@golden(Quafl)
def quantiser_and_steps(cls: type[Any]) -> None:
    alg = cls(polled=2, bits=8, side=0.5)
    same(alg._sent(vec(10.3, -7.9), vec(9.0, 0.0)), 10.5, -8.0)  # nearest multiple of 1/2
    same(alg._sent(vec(200.0), vec(9.0)), 200 - 128)  # too far from the key: wraps by 2^8 * side
    # K = 5, a task of 5 steps takes 10 s: at t = 7 three steps are done, at t = 99 five, at t = 1 none
    alg = cls(polled=2, steps=5)
    state = alg.init(setup(vec(0.0)), fleet())
    for now, steps, scale in ((7.0, 3, 1.5), (99.0, 5, 1.5), (1.0, 1, 0.0)):
        order = alg.assign(state, 0, fleet(now=now, seconds=lambda c: 10.0))
        assert (order.steps, order.lr_scale) == (steps, scale)
        assert (order.down_bytes, order.up_bytes, order.work) == (2, 2, 0)  # 14 bits


@golden(Ringleader)
def cycle_by_hand(cls: type[Any]) -> None:
    # two clients, D per (client, event): phase 1: D_0 = 4, D_0 = 2 (mean 3), D_1 = -1: opens phase 2:
    # update 1: x = (3 - 1)/2 = 1, client 1 is served. D_1 = 9 goes to G'. D_0 = 6: G_0 = (4 + 2 + 6)/3 = 4:
    # update 2: x = 1 + (4 - 1)/2 = 5/2, end: G = {1: 9}. D_0 = 1: phase 1 is full at once: x = 5/2 + (1 + 9)/2 = 15/2
    alg, world = cls(), fleet()
    state, xs = alg.init(setup(vec(0.0)), world), []
    give = []
    for c, d in [(0, 4), (0, 2), (1, -1), (1, 9), (0, 6), (0, 1)]:
        step = alg.receive(state, update(c, sent={}, up={"delta": vec(d)}), world)
        state = step.state
        give.append(c in state.give)
        if step.advanced:
            xs.append(float(state.w))
    assert xs == [1.0, 2.5, 7.5]
    assert give == [False, False, True, False, True, True]
    # who holds a model is sent nothing; who is to get the new one is
    assert "w" in alg.assign(state, 0, world).tensors
    assert not alg.assign(state, 1, world).tensors


@golden(Ringleader)
def delay_bound(cls: type[Any]) -> None:
    for n in (1, 2, 5):
        lab = Lab(cls(), [vec(float(c)) for c in range(n)], lambda c, k: 1.0 + 3.7 * c * c, local=Local(lr=0.01)).run(
            300
        )
        assert max(tau for _, tau, *_ in lab.log) <= 2 * n - 2
        assert len(lab.models) > 3


@golden(FedAt)
def tiers_by_speed(cls: type[Any]) -> None:
    # 2 tiers: clients 0, 1 (1 s) and 2, 3 (3 s), one in each round (cohort 1: the lowest number), eta 1/2, x0 = 0
    # t 1: y_0 = 1/2: tier 0, T = (1, 0), not all reported: own counts: x = 1/2.  t 2: y_0 = 3/4: x = 3/4
    # t 3: both: client 0 first: y_0 = 7/8, T = (3, 0), x = 7/8; then client 2 from x0 (b = -3): -3/2, T = (3, 1):
    #      x = 1/4 * 7/8 + 3/4 * (-3/2) = -29/32
    targets = [vec(1.0), vec(1.0), vec(-3.0), vec(-3.0)]
    alg = cls(tiers=2, round={"cohort": 1})
    lab = Lab(alg, targets, lambda c, n: 1.0 if c < 2 else 3.0, concurrency=2).run(4)
    same(vec(*lab.models), 0, 0.5, 0.75, 0.875, -29 / 32)
    assert lab.versions == {"": 4, "tier0": 3, "tier1": 1}
    assert lab.state.tier == (0, 0, 1, 1)


@golden(FedAt)
def every_tier_gets_a_turn(cls: type[Any]) -> None:
    # one place, three tiers: the tier with the fewest rounds is next
    lab = Lab(cls(tiers=3), [vec(float(c)) for c in range(6)], lambda c, n: 1.0 + c, concurrency=1).run(9)
    assert lab.state.counts == (3, 3, 3)
    # more tiers than clients: one client each
    assert Lab(cls(tiers=5), TWO).run(4).state.tier == (0, 1)


@golden(Malenia)
def rows_weigh_the_same(cls: type[Any]) -> None:
    # N = 2, S = 2: one of each is enough. D_0 = 4, D_0 = 2 (row mean 3), D_1 = -1: x = (3 - 1) / 2 = 1
    alg, world = cls(), fleet()
    state = alg.init(setup(vec(0.0)), world)
    ups = [(update(c, sent=vec(0.0), delta=vec(d)), world) for c, d in ((0, 4.0), (0, 2.0), (1, -1.0))]
    state, steps = feed(alg, state, *ups)
    assert [s.advanced for s in steps] == [False, False, True]
    same(state.w, 1)
    # S = 3: N / sum 1/B >= 3/2: B = (2, 1) gives 4/3, B = (2, 2) gives 2, B = (3, 1) gives 3/2
    for last, x in ((0, (2.0 - 1.0) / 2), (1, (3.0 - 1.0) / 2)):
        alg = cls(size=3)
        more = (update(last, sent=vec(0.0), delta=vec(0.0 if last == 0 else -1.0)), world)
        state, steps = feed(alg, alg.init(setup(vec(0.0)), world), *ups, more)
        assert [s.advanced for s in steps] == [False, False, False, True]
        same(state.w, x)
    # the next batch starts anew; what is stale is ignored
    step = alg.receive(state, update(0, sent=vec(0.0), delta=vec(9.0), staleness=1), world)
    assert (step.used, step.advanced) == (False, False)
    # client 0: 1 s, client 1: 2.5 s from x0 = 0: three of client 0 (all 1/2), then -3/2: x = (1/2 - 3/2) / 2;
    # client 0's fourth task is stopped
    lab = Lab(cls(), TWO, lambda c, n: 1.0 + 1.5 * c).run(3)
    same(lab.x, -0.5)
    assert lab.cancelled == [0]
