"""Golden checks of the methods with rounds, and of the baselines."""

from __future__ import annotations

from typing import Any

import numpy as np
from double import Lab, Quadratic, batch, feed, fleet, job, same, setup, train, update, vec
from golden import TWO, golden

from aflctl.api import Local
from aflctl.builtin.algorithms.central import Central
from aflctl.builtin.algorithms.cfl import Cfl
from aflctl.builtin.algorithms.fedavg import FedAvg
from aflctl.builtin.algorithms.fedprox import FedProx
from aflctl.builtin.algorithms.fedvarp import FedVarp
from aflctl.builtin.algorithms.local_only import LocalOnly
from aflctl.builtin.algorithms.mifa import Mifa
from aflctl.builtin.algorithms.moon import Moon
from aflctl.builtin.algorithms.rfedavg import RFedAvg
from aflctl.builtin.algorithms.scaffold import Scaffold


@golden(FedAvg, FedProx, Moon)
def three_rounds_of_unequal_clients(cls: type[Any]) -> None:
    # x0 = 0, one step of lr 1/2: y_i = (x + b_i) / 2, weights 3/4 and 1/4.
    # mean y = x/2 + (3*1 - 3)/8 = x/2, so x stays 0; from x0 = 4: 2, 1, 1/2.
    mu = {"mu": 0.0} if "mu" in cls.model_fields else {}
    lab = Lab(cls(**mu), TWO, lambda c, n: 1.0 + c, (3, 1), init=vec(4.0)).run(6)
    same(vec(*lab.models), 4, 2, 1, 0.5)
    assert [(c, s, w) for c, s, w, _ in lab.log[:2]] == [(0, 0, 3.0), (1, 0, 1.0)]


@golden(FedAvg)
def uniform_weights_and_momentum(cls: type[Any]) -> None:
    # uniform: D = mean(b)/2 - x/2 = -1/2 - x/2.  FedAvgM b1 = 1/2: m1 = -1/2, x1 = -1/2; D2 = -1/4, m2 = -1/2, x2 = -1;
    # D3 = 0, m3 = -1/4, x3 = -5/4
    make = cls(weighting="uniform", server_optimizer={"b1": 0.5})
    lab = Lab(make, TWO, samples=(3, 1)).run(6)
    same(vec(*lab.models), 0, -0.5, -1, -1.25)


@golden(FedAvg)
def deadline_drops_who_is_late(cls: type[Any]) -> None:
    # client 1 needs 5 s, the deadline is 2 s: every round is client 0 alone, and client 1 is cancelled each time
    lab = Lab(cls(round={"deadline_s": 2.0}), TWO, lambda c, n: 1.0 + 4 * c, init=vec(4.0)).run(6)
    same(vec(*lab.models), 4, 2.5, 1.75, 1.375)
    assert lab.cancelled == [1, 1, 1]
    assert lab.now == 6.0


@golden(FedAvg)
def over_selection_takes_the_first(cls: type[Any]) -> None:
    # 3 of 3 started, 2 wanted: the slowest is cancelled. x = mean of clients 0 and 1
    lab = Lab(cls(round={"over_select": 1.5}), (*TWO, vec(100.0)), lambda c, n: 1.0 + c).run(2)
    same(lab.x, -0.5)
    assert lab.cancelled == [2]


@golden(FedAvg)
def a_client_drawn_twice_weighs_twice(cls: type[Any]) -> None:
    from dataclasses import replace

    alg = cls(replacement=True, round={"cohort": 3})
    world = fleet(capacity=3, samples=(2, 1), idle=(0, 1))
    state = alg.init(setup(vec(0.0), (2, 1)), world)
    assert sum(state.times) == 3
    state = replace(state, times=(2, 1))
    assert alg.select(state, world) == [0, 1]
    state = alg.launched(state, [0, 1], world)
    # p = 2*2 and 1*1: x = (4*1 + 1*(-9)) / 5 = -1
    last = fleet(capacity=3, samples=(2, 1))
    other = fleet(capacity=3, samples=(2, 1), flying={1: 0})
    ups = [update(0, sent=vec(0.0), delta=vec(1.0), samples=2), update(1, sent=vec(0.0), delta=vec(-9.0))]
    state, steps = feed(alg, state, (ups[0], other), (ups[1], last))
    assert [s.weight for s in steps] == [4.0, 1.0]
    same(state.w, -1)
    assert sum(state.times) == 3
    # two wanted, three drawn: a client that was drawn twice fills the round alone
    alg = cls(replacement=True, round={"cohort": 2, "over_select": 1.5})
    state = alg.init(setup(vec(0.0), (2, 1)), world)
    assert sum(state.times) == 3
    state = alg.launched(replace(state, times=(2, 1)), [0, 1], world)
    state, (step,) = feed(alg, state, (ups[0], other))
    assert step.advanced
    same(state.w, 1)


@golden(FedProx)
def proximal_step(cls: type[Any]) -> None:
    # w0 = x = 0, b = 1, eta = 1/2, mu = 1.  w1 = 0 - 1/2((0 - 1) + 0) = 1/2 (no pull at the start);
    # w2 = 1/2 - 1/2((1/2 - 1) + 1/2) = 1/2: the fixed point (b + mu x) / (1 + mu)
    one = batch(vec(1.0))
    for k, y in ((1, 0.5), (2, 0.5), (5, 0.5)):
        up, _ = train(cls(mu=1.0), Quadratic(), [one] * k, job({"w": vec(0.0)}, lr=0.5))
        same(up["delta"], y)
    # mu = 3 from x = 2, eta = 1/8: w -> fixed point (1 + 6) / 4 = 7/4
    up, _ = train(cls(mu=3.0), Quadratic(), [one] * 60, job({"w": vec(2.0)}, lr=0.125))
    same(up["delta"], -0.25)


@golden(FedProx)
def partial_work(cls: type[Any]) -> None:
    # E = 4: stragglers do 1, 2 or 3 epochs, the others 4
    alg = cls(partial=0.5)
    lab = Lab(alg, [vec(1.0)] * 40, local=Local(lr=0.5, epochs=4))
    done = [order.epochs for _, order in lab.sent]
    assert {e for e in done if e} == {1, 2, 3}
    assert 8 <= sum(e is not None for e in done) <= 32
    lab = Lab(cls(partial=1.0), [vec(1.0)] * 4, local=Local(lr=0.5, epochs=1))
    assert {order.epochs for _, order in lab.sent} == {1}


@golden(Scaffold)
def controls_by_hand(cls: type[Any]) -> None:
    # x0 = 0, K = 2, eta = 1/2, a = (1, 2), b = (1, -3), c = c_i = 0
    # client 0: 0 -> 1/2 -> 3/4; c_0 = -D/(K eta) = -3/4.  client 1: g = 2(w + 3): 0 -> -3 -> -3; c_1 = 3
    # x1 = (3/4 - 3)/2 = -9/8; c = (-3/4 + 3)/2 = 9/8
    lab = Lab(cls(), TWO, curvature=(1.0, 2.0), local=Local(lr=0.5, epochs=2)).run(2)
    same(lab.x, -1.125)
    same(lab.state.c, 1.125)
    same(lab.memory[0]["c"], -0.75)
    same(lab.memory[1]["c"], 3.0)
    # round 2, client 0: correction c - c_0 = 15/8; w = -9/8: g = -17/8 + 15/8 = -1/4; w = -1: g = -2 + 15/8; w = -15/16
    # D = 3/16; c_0' = c_0 - c - D = -3/4 - 9/8 - 3/16 = -33/16
    lab.run(1)
    same(lab.memory[0]["c"], -33 / 16)


@golden(Scaffold)
def fixed_point_is_the_true_optimum(cls: type[Any]) -> None:
    # curvatures 1 and 3: argmin sum a_i (w - b_i)^2 = (1*1 + 3*(-3)) / 4 = -2; FedAvg with K = 3 ends elsewhere
    local = Local(lr=0.2, epochs=3)
    lab = Lab(cls(), TWO, curvature=(1.0, 3.0), local=local).run(120)
    same(lab.x, -2, tol=1e-4)
    assert abs(float(Lab(FedAvg(), TWO, curvature=(1.0, 3.0), local=local).run(120).x) + 2) > 0.1


@golden(Scaffold)
def option_one_takes_the_full_gradient(cls: type[Any]) -> None:
    # x = 2: c_0 = 2 - 1 = 1, c_1 = 2 + 3 = 5, whatever K is
    lab = Lab(cls(option=1), TWO, init=vec(2.0), local=Local(lr=0.25, epochs=3)).run(2)
    same(lab.memory[0]["c"], 1)
    same(lab.memory[1]["c"], 5)
    same(lab.state.c, 3)
    assert "full" not in lab.memory[0]


@golden(Moon)
def contrastive_term(cls: type[Any]) -> None:
    import torch

    alg, task, b = cls(mu=2.0, temperature=0.5), Quadratic(), batch(vec(1.0, 2.0), vec(-1.0, 0.5))
    w, x, prev = vec(0.3, -0.2), vec(1.0, 1.0), vec(-0.5, 2.0)
    got = alg.loss(task, w, b, job({"w": x}, {"prev0": prev}))
    rows = b.x.numpy().astype(float)

    def cos(p: Any, q: Any) -> Any:
        u, v = rows * p.numpy(), rows * q.numpy()
        return (u * v).sum(1) / np.linalg.norm(u, axis=1) / np.linalg.norm(v, axis=1)

    near, far = np.exp(cos(w, x) / 0.5), np.exp(cos(w, prev) / 0.5)
    same(got, float(task.loss(w, b)) + 2 * float(np.mean(-np.log(near / (near + far)))), tol=1e-5)
    # where the previous model is the global one the term is log 2 and has no gradient
    g = torch.func.grad(lambda v: alg.loss(task, v, b, job({"w": x}, {"prev0": x})))(w)
    same(g, torch.func.grad(lambda v: task.loss(v, b))(w).tolist())
    same(alg.loss(task, w, b, job({"w": x}, {"prev0": x})), float(task.loss(w, b)) + 2 * np.log(2), tol=1e-5)


@golden(Moon)
def pool_is_first_in_first_out(cls: type[Any]) -> None:
    alg, memory = cls(pool=2, mu=0.0), {"prev0": vec(9.0), "other/x": vec(7.0)}
    for y in (1.0, 2.0, 3.0):
        _, memory = alg.finish(vec(y), job({"w": vec(0.0)}, memory))
    assert {k: float(v) for k, v in memory.items()} == {"prev0": 3.0, "prev1": 2.0, "other/x": 7.0}


@golden(RFedAvg)
def both_halves_of_a_round(cls: type[Any]) -> None:
    # embed = w b_i. rFedAvg+: maps at x0 = 2: f = (2, -6), mean -2.
    # gradient of client i: (w - b_i) + s 2 b_i (w b_i + 2); s = 1/10, eta = 1/2, one step from w = 2:
    # client 0: 1 + 0.2*(2 + 2) = 1.8 -> y = 1.1;  client 1: 5 + 0.2*(-3)(-6 + 2) = 7.4 -> y = -1.7;  x1 = -0.3
    lab = Lab(cls(plus=True, strength=0.1), TWO, init=vec(2.0)).run(4)
    same(vec(*lab.models), 2, -0.3)
    # rFedAvg: maps of the clients' own last models (x0 = 2 first), each against the other's: f_0 = 2, f_1 = -6
    # client 0: 1 + 0.2*(2 + 6) = 2.6 -> 0.7;  client 1: 5 + 0.2*(-3)(-6 - 2) = 9.8 -> -2.9;  x1 = -1.1
    lab = Lab(cls(strength=0.1), TWO, init=vec(2.0)).run(4)
    same(vec(*lab.models), 2, -1.1)
    same(lab.memory[0]["y"], 0.7)
    # second round: maps of y: f_0 = 0.7, f_1 = 8.7, whatever x is
    lab.run(1)
    same(lab.state.maps[0], 0.7)


@golden(RFedAvg)
def alone_or_without_strength(cls: type[Any]) -> None:
    # one client: no others, R = 0: y = (2 + 1)/2
    same(Lab(cls(strength=5.0), TWO[:1], init=vec(2.0)).run(2).x, 1.5)
    # strength 0 is uniform FedAvg
    lab, ref = (
        Lab(cls(strength=0.0, plus=True), TWO, init=vec(2.0)),
        Lab(FedAvg(weighting="uniform"), TWO, init=vec(2.0)),
    )
    assert lab.run(12).models == ref.run(6).models


@golden(Cfl)
def splits_along_the_blocks(cls: type[Any]) -> None:
    # targets (1, 0) twice and (-1, 0) three times, one step of 1/2 from 0: D = (+-1/2, 0).
    # mean = -0.1 < eps1 and max = 1/2 > eps2: split; then each cluster steps alone
    targets = [vec(1, 0), vec(-1, 0), vec(1, 0), vec(-1, 0), vec(-1, 0)]
    alg = cls(eps1=0.2, eps2=0.4, warmup=0)
    lab = Lab(alg, targets).run(5)
    same(lab.state.models[0], 0.5, 0)
    same(lab.state.models[1], -0.5, 0)
    assert lab.state.cluster == {1: 1, 3: 1, 4: 1}
    same(lab.x, (0.5 * 2 - 0.5 * 3) / 5, 0)  # the mean over clients
    same(alg.personal(lab.state, 3, {}), -0.5, 0)
    # afterwards no cluster is split again: inside each all agree, so the mean is as long as the longest
    assert len(lab.run(25).state.models) == 2
    same(lab.state.models[1], -1 + 0.5**6, 0)


@golden(Cfl)
def a_second_split_moves_the_right_clients(cls: type[Any]) -> None:
    # cluster 1 holds clients 2..5; it splits into {2, 3} and {4, 5}: numbers, not positions, must move
    alg = cls(eps1=0.1, eps2=0.4, warmup=0)
    targets = [vec(1, 0, 0), vec(1, 0, 0), vec(-1, 1, 0), vec(-1, 1, 0), vec(-1, -1, 0), vec(-1, -1, 0)]
    from dataclasses import replace

    world = fleet(samples=(1,) * 6, capacity=6)
    state = alg.init(setup(vec(0, 0, 0), (1,) * 6, concurrency=6), world)
    state = replace(state, models=(vec(1, 0, 0), vec(-1, 0, 0)), cluster=dict.fromkeys((2, 3, 4, 5), 1))
    for c in range(6):
        still = fleet(samples=(1,) * 6, capacity=6, flying=dict.fromkeys(range(c + 1, 6), 0))
        x = state.models[state.cluster.get(c, 0)]
        state = alg.receive(state, update(c, sent=x, delta=(targets[c] - x) / 2), still).state
    assert state.cluster == {2: 1, 3: 1, 4: 2, 5: 2}
    same(state.models[2], -1, -0.5, 0)


@golden(FedVarp)
def calibrated_by_the_absent(cls: type[Any]) -> None:
    # two clients, cohort 1 each: the table does the rest. D_0 = 4: V = 0 + 4, x = 4, hbar = 2.
    # D_1 = -2 (table: 0): V = 2 + (-2 - 0) = 0, x = 4, hbar = 1.  D_0 = 0: V = 1 + (0 - 4) = -3, x = 1, hbar = -1
    alg, world = cls(round={"cohort": 1}), fleet()
    state = alg.init(setup(vec(0.0)), world)
    xs = []
    for c, d in ((0, 4.0), (1, -2.0), (0, 0.0)):
        step = alg.receive(state, update(c, sent=vec(0.0), delta=vec(d)), world)
        state = step.state
        assert step.advanced
        xs.append(float(state.w))
    assert xs == [4.0, 4.0, 1.0]
    same(state.mean, -1)
    same(state.table[0], 0)


@golden(FedVarp)
def calibrated_with_samples(cls: type[Any]) -> None:
    # a = (3/4, 1/4); both report: V = sum a_i D_i = 3/4*4 - 1/4*8 = 1 whatever the table holds
    alg, other, last = cls(weighting="samples"), fleet(samples=(3, 1), flying={1: 0}), fleet(samples=(3, 1))
    state = alg.init(setup(vec(0.0), (3, 1)), last)
    ups = [
        (update(0, sent=vec(0.0), delta=vec(4.0), samples=3), other),
        (update(1, sent=vec(0.0), delta=vec(-8.0)), last),
    ]
    state, _ = feed(alg, state, *ups)
    same(state.w, 1)
    state, _ = feed(alg, state, *ups)
    same(state.w, 2)


@golden(Mifa)
def waits_then_steps_by_the_table(cls: type[Any]) -> None:
    alg, world = cls(round={"cohort": 1}), fleet(idle=(0, 1))
    state = alg.init(setup(vec(0.0)), world)
    state, steps = feed(alg, state, (update(0, sent=vec(0.0), delta=vec(4.0)), world))
    assert not steps[0].advanced
    assert alg.select(state, world) == [1]  # the one never heard first
    # while it is away, the others go on: nobody waits for a client that may never come
    assert alg.select(state, fleet(idle=(0,))) == [0]
    # now full: x = (4 - 2)/2 = 1; then D_0 = 0: x = 1 + (0 - 2)/2 = 0
    state, _ = feed(alg, state, (update(1, sent=vec(0.0), delta=vec(-2.0)), world))
    same(state.w, 1)
    state, _ = feed(alg, state, (update(0, sent=vec(0.0), delta=vec(0.0)), world))
    same(state.w, 0)
    # without waiting the first step counts the unheard as 0: x = 4/2
    alg = cls(round={"cohort": 1}, wait=False)
    state, _ = feed(alg, alg.init(setup(vec(0.0)), world), (update(0, sent=vec(0.0), delta=vec(4.0)), world))
    same(state.w, 2)


@golden(Central)
def sequential(cls: type[Any]) -> None:
    assert cls.pools
    same(Lab(cls(), TWO[:1], init=vec(5.0)).run(3).x, 1.5)  # 5, 3, 2, 3/2


@golden(LocalOnly)
def everyone_alone(cls: type[Any]) -> None:
    # client c has trained n_c times from x0 = 0: w_c = b_c (1 - 2^-n_c); x stays
    lab = Lab(cls(), TWO, lambda c, n: 1.0 + c).run(5)
    same(lab.x, 0)
    for c in (0, 1):
        n = sum(k == c for k, *_ in lab.log)
        same(lab.algorithm.personal(lab.state, c, lab.memory[c]), float(TWO[c]) * (1 - 0.5**n))
    assert all(not order.tensors for _, order in lab.sent)
    assert cls.uploads == ()


@golden(Cfl)
def the_unheard_and_ties(cls: type[Any]) -> None:
    # two of four clients heard: no cluster of more than two, so nobody is judged, least of all those never heard
    alg = cls(eps1=99.0, eps2=0.01, warmup=0, round={"cohort": 2})
    state = alg.init(setup(vec(3.0, 3.0, 3.0), (1,) * 4), fleet(samples=(1,) * 4))
    for c, d, others in ((0, vec(1, 0, 0), {1: 0}), (1, vec(0, 1, 0), {})):
        world = fleet(samples=(1,) * 4, flying=others)
        state = alg.receive(state, update(c, sent=vec(3, 3, 3), delta=d), world).state
    assert state.cluster == {}
    same(state.w, 3.5, 3.5, 3)
    # three updates at right angles are all as far apart: still two clusters with members, not one and an empty one
    targets = [vec(1, 0, 0), vec(0, 1, 0), vec(0, 0, 1)]
    lab = Lab(cls(eps1=99.0, eps2=0.01, warmup=0), targets).run(3)
    assert len(lab.state.models) == 2
    assert sorted(lab.state.cluster.get(c, 0) for c in range(3)) in ([0, 0, 1], [0, 1, 1])


@golden(Scaffold)
def control_by_the_rate_really_used(cls: type[Any]) -> None:
    # the task's rate is 1/4 (decayed), K = 2, b = 1: 0 -> 1/4 -> 7/16; c_i' = -(7/16) / (2/4) = -7/8
    sent, memory = {"w": vec(0.0), "c": vec(0.0)}, {"c": vec(0.0)}
    _, memory = train(cls(), Quadratic(), [batch(vec(1.0))] * 2, job(sent, memory, 0.25, steps=2))
    same(memory["c"], -7 / 8)
