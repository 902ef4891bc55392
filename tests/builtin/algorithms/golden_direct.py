"""Golden checks of the methods that step at every arrival."""

from __future__ import annotations

from typing import Any

import numpy as np
from double import Lab, Quadratic, batch, fleet, job, same, setup, train, update, vec
from golden import TWO, golden

from aflctl.builtin.algorithms.asgd import Asgd
from aflctl.builtin.algorithms.asofed import AsoFed
from aflctl.builtin.algorithms.async_fedavg import AsyncFedAvg
from aflctl.builtin.algorithms.asyncdrop import AsyncDrop
from aflctl.builtin.algorithms.asyncfeded import AsyncFedEd
from aflctl.builtin.algorithms.bounded_staleness import BoundedStaleness
from aflctl.builtin.algorithms.daafl import Daafl
from aflctl.builtin.algorithms.fedasync import FedAsync
from aflctl.builtin.algorithms.rennala import Rennala
from aflctl.builtin.algorithms.ringmaster import Ringmaster


@golden(FedAsync)
def staleness_families(cls: type[Any]) -> None:
    # polynomial tau 3, a 1/2: 1/2.  hinge a 10, b 4: 1 to tau = 4, then 1/11, 1/21.  exponential decay 1/2: 1/8
    for family, taus in (
        ({"kind": "constant"}, {0: 1, 9: 1}),
        ({"kind": "polynomial", "a": 0.5}, {0: 1, 3: 0.5, 8: 1 / 3}),
        ({"kind": "hinge", "a": 10, "b": 4}, {0: 1, 4: 1, 5: 1 / 11, 6: 1 / 21}),
        ({"kind": "exponential", "decay": 0.5}, {0: 1, 3: 1 / 8}),
        ({"kind": "polynomial", "a": 0.5, "origin": 1}, {0: 2**-0.5, 2: 0.5}),
    ):
        alg = cls(alpha=0.6, staleness=family)
        for tau, s in taus.items():
            state = alg.init(setup(vec(10.0), concurrency=1), fleet())
            up = update(0, sent=vec(4.0), w=vec(20.0), staleness=tau)
            step = alg.receive(state, up, fleet(version=tau))
            same(step.state.w, 10 + 0.6 * s * 10)
            assert abs(step.weight - 0.6 * s) < 1e-9
            assert step.advanced


@golden(FedAsync)
def three_versions(cls: type[Any]) -> None:
    # alpha 1/2, s = (tau + 1)^-1, eta 1/2; client 0 (b = 1) takes 1 s, client 1 (b = -3) 2.5 s; x0 = 0
    # t = 1: y = 1/2, tau 0, x = 1/4.   t = 2: y = 5/8, tau 0, x = 7/16.
    # t = 2.5: client 1 from x0: y = -3/2, tau 2, a = 1/6: x = 7/16 - (31/16)/6 = 11/96
    alg = cls(alpha=0.5, staleness={"kind": "polynomial", "a": 1.0})
    lab = Lab(alg, TWO, lambda c, n: 1.0 + 1.5 * c).run(3)
    same(vec(*lab.models), 0, 1 / 4, 7 / 16, 11 / 96)
    # delta form, the last: D = -3/2, x = 7/16 - 1/4
    lab = Lab(cls(alpha=0.5, staleness={"kind": "polynomial", "a": 1.0}, form="delta"), TWO, lambda c, n: 1.0 + 1.5 * c)
    same(vec(*lab.run(3).models), 0, 1 / 4, 7 / 16, 3 / 16)


@golden(FedAsync)
def proximal_client(cls: type[Any]) -> None:
    up, _ = train(cls(rho=1.0), Quadratic(), [batch(vec(1.0))] * 3, job({"w": vec(0.0)}, lr=0.5))
    same(up["w"], 0.5)


@golden(FedAsync)
def sampled_staleness(cls: type[Any]) -> None:
    lab = Lab(cls(staleness={"sampled": "uniform", "max": 3}), TWO[:1], concurrency=1).run(60)
    taus = [tau for _, tau, *_ in lab.log]
    assert set(taus) == {0, 1, 2, 3}
    assert all(tau <= v for v, tau in enumerate(taus))
    for (_, order), tau, v in zip(lab.sent, taus, range(60)):
        same(order.tensors["w"], lab.models[v - tau].tolist())


@golden(AsyncFedAvg)
def constant_mixing(cls: type[Any]) -> None:
    # alpha 1/2 at whatever staleness; with samples: alpha n_i / mean n = 1/2 * 3/2, and at most 1
    state = cls().init(setup(vec(0.0)), fleet())
    same(cls().receive(state, update(0, sent=vec(9.0), w=vec(4.0), staleness=7), fleet()).state.w, 2)
    alg, world = cls(weighting="samples"), fleet(samples=(3, 1))
    same(alg.receive(state, update(0, sent=vec(9.0), w=vec(4.0), samples=3), world).state.w, 3)
    same(alg.receive(state, update(1, sent=vec(9.0), w=vec(4.0), samples=1), world).state.w, 1)
    same(
        cls(alpha=1.0, weighting="samples")
        .receive(state, update(0, sent=vec(9.0), w=vec(4.0), samples=3), world)
        .state.w,
        4,
    )


@golden(BoundedStaleness)
def the_tutorials_table(cls: type[Any]) -> None:
    table = [0.6667, 0.5, 0.3333, 0.2, 0.1111, 0.0588, 0.0303, 0.0154, 0.0078, 0.0039, 0.0019]
    state = cls().init(setup(vec(0.0)), fleet())
    for tau, alpha in enumerate(table):
        step = cls().receive(state, update(0, sent=vec(5.0), w=vec(1.0), samples=200, staleness=tau), fleet())
        same(step.state.w, alpha, tol=6e-5)
        assert step.advanced
        assert step.used
    step = cls().receive(state, update(0, sent=vec(5.0), w=vec(1.0), samples=200, staleness=11), fleet())
    assert (step.advanced, step.used, step.state) == (False, False, state)
    same(cls(damping=0.0).receive(state, update(0, sent=vec(5.0), w=vec(1.0), staleness=10), fleet()).state.w, 1)


@golden(Daafl)
def weight_follows_the_data(cls: type[Any]) -> None:
    # p = (3/4, 1/4), mean_mix 0.4.  v0, client 0: 0.3.  v1, client 0: 0.75*0.8 - 0.3 = 0.3.
    # v2, client 1: 0.25*1.2 = 0.3.  v3, client 1: 0.25*1.6 - 0.3 = 0.1
    alg, state, got = cls(mean_mix=0.4), None, []
    state = alg.init(setup(vec(0.0), (3, 1)), fleet())
    for v, c in enumerate((0, 0, 1, 1)):
        step = alg.receive(state, update(c, sent=vec(0.0), w=vec(1.0)), fleet(version=v, samples=(3, 1)))
        state = step.state
        got.append(step.weight)
    np.testing.assert_allclose(got, [0.3, 0.3, 0.3, 0.1])
    same(state.w, 1 - 0.7 * 0.7 * 0.7 * 0.9)
    # never negative, never above 1
    assert alg.receive(state, update(0, sent=vec(0.0), w=vec(1.0)), fleet(version=0, samples=(3, 1))).weight == 0.0
    assert alg.receive(state, update(0, sent=vec(0.0), w=vec(1.0)), fleet(version=99, samples=(3, 1))).weight == 1.0


@golden(AsyncFedEd)
def mixing_by_distance(cls: type[Any]) -> None:
    # x = (3, 4), x_b = 0, D = (0, 2): gamma = 5/2, a = 0.1 / 3.5; floor((5 - 2.5) 0.05) = 0
    alg = cls()
    state = alg.init(setup(vec(3, 4)), fleet())
    step = alg.receive(state, update(0, sent=vec(0, 0), delta=vec(0, 2)), fleet())
    same(step.state.w, 3, 4 + 0.2 / 3.5)
    # fresh: gamma = 0, a = lam / eps;  zero update: nothing
    same(cls(lam=1.0).receive(state, update(0, sent=vec(3, 4), delta=vec(0, 2)), fleet()).state.w, 3, 6)
    same(alg.receive(state, update(0, sent=vec(0, 0), delta=vec(0, 0)), fleet()).state.w, 3, 4)
    # K: 10 + floor((5 - 12.5) 0.5) = 10 - 4;  then the task is given 6 steps
    alg = cls(kappa=0.5)
    state = alg.receive(state, update(0, sent=vec(0, 0), delta=vec(0, 0.4)), fleet()).state
    assert [alg.assign(state, c, fleet()).steps for c in (0, 1)] == [6, 10]


@golden(Asgd)
def rates_by_delay(cls: type[Any]) -> None:
    # threshold 4: tau 4 full, tau 8: constant 1, koloskova 1/8, mishchenko 4/8, drop none
    for rule, late in (("constant", 1.0), ("koloskova", 1 / 8), ("mishchenko", 0.5), ("drop", 0.0)):
        alg = cls(rule=rule, threshold=4)
        state = alg.init(setup(vec(0.0)), fleet())
        for tau, factor in ((0, 1.0), (4, 1.0), (8, late)):
            step = alg.receive(state, update(0, sent=vec(0.0), delta=vec(8.0), staleness=tau), fleet(version=tau))
            same(step.state.w, 8 * factor)
            assert step.used == bool(step.advanced) == (factor > 0)
    # no threshold: the concurrency, here 2
    same(cls().receive(state, update(0, sent=vec(0.0), delta=vec(9.0), staleness=3), fleet()).state.w, 3)
    assert cls().assign(state, 0, fleet()).steps == 1


@golden(Asgd)
def same_worker_again(cls: type[Any]) -> None:
    # 3 clients, 2 in flight: with `same` client 2 never gets a turn
    targets = [vec(1.0)] * 3
    lab = Lab(cls(redispatch="same"), targets, lambda c, n: 1.0 + c / 2, concurrency=2).run(9)
    assert {c for c, *_ in lab.log} == {0, 1}


@golden(Ringmaster)
def late_jobs_are_stopped(cls: type[Any]) -> None:
    # client 0 takes 1 s, client 1 2.5 s: with R = 2 it is stopped at t = 2, again at 4, ... and never contributes
    lab = Lab(cls(delay=2), TWO, lambda c, n: 1.0 + 1.5 * c).run(6)
    assert {c for c, *_ in lab.log} == {0}
    assert lab.cancelled == [1, 1, 1]
    same(lab.x, 1 - 0.5**6)
    # R = 3: it arrives at 2.5 with tau 2
    lab = Lab(cls(delay=3), TWO, lambda c, n: 1.0 + 1.5 * c).run(3)
    assert [(c, tau) for c, tau, *_ in lab.log] == [(0, 0), (0, 0), (1, 2)]
    # without cancelling it is ignored
    lab = Lab(cls(delay=2, cancel=False), TWO, lambda c, n: 1.0 + 1.5 * c).run(3)
    assert lab.log[2] == (1, 2, 0.0, False)
    assert len(lab.models) == 3


@golden(Rennala)
def only_fresh_gradients(cls: type[Any]) -> None:
    # B = 2. client 0 reports at 1 and 2, x1 = mean of its two updates; client 1 (2.5 s) is stopped at 2
    lab = Lab(cls(batch=2), TWO, lambda c, n: 1.0 + 1.5 * c).run(2)
    same(lab.x, 0.5)
    assert lab.cancelled == [1]
    # without cancelling its update is ignored at 2.5
    lab = Lab(cls(batch=2, cancel=False), TWO, lambda c, n: 1.0 + 1.5 * c).run(3)
    assert lab.log[2] == (1, 1, 0.0, False)
    same(lab.x, 0.5)


@golden(AsyncDrop)
def masks_are_whole_units(cls: type[Any]) -> None:
    # 3 inputs, 4 hidden, 2 outputs; drop 1/2: two rows, biases and columns are zero
    layout, at = {}, 0
    for name, shape in (("a.weight", (4, 3)), ("a.bias", (4,)), ("b.weight", (2, 4)), ("b.bias", (2,))):
        size = int(np.prod(shape))
        layout[name], at = (slice(at, at + size), shape), at + size
    alg, x = cls(drop=0.5), vec(*range(1, at + 1))
    state = alg.init(setup(x, layout=layout), fleet())
    order = alg.assign(state, 0, fleet(seed=5))
    mask = order.tensors["mask"].numpy()
    rows, bias, columns = mask[:12].reshape(4, 3), mask[12:16], mask[16:24].reshape(2, 4)
    off = bias == 0
    assert off.sum() == 2
    assert (rows == ~off[:, None]).all()
    assert (columns == ~off[None, :]).all()
    assert (mask[24:] == 1).all()
    same(order.tensors["w"], (x.numpy() * mask).tolist())
    kept = int(mask.sum())
    assert (order.down_bytes, order.up_bytes, order.work) == (4 * kept + 1, 4 * kept, kept / 26)
    # the server moves the active entries only, by alpha
    step = alg.receive(state, update(0, sent=dict(order.tensors), w=order.tensors["w"] + 2), fleet())
    same(step.state.w, np.where(mask > 0, x.numpy() + 1, x.numpy()))
    # the client never moves a masked entry
    up, _ = train(alg, Quadratic(), [batch(vec(*[100.0] * at))] * 3, job(dict(order.tensors), lr=0.5))
    assert (up["w"].numpy()[mask == 0] == 0).all()
    assert (up["w"].numpy()[mask > 0] > 80).all()


@golden(AsyncDrop)
def hetero_windows(cls: type[Any]) -> None:
    # scores of the 4 units: |w - w0| summed per row. w0 = 0, rows 1, 4, 2, 3 -> falling order 1, 3, 2, 0.
    # seconds: client 1 fastest, then 0. drop 1/2, N = 2: rank 0 drops {1, 3}, rank 1 begins at 1*4/2 = 2: {2, 0}
    from dataclasses import replace

    layout = {"a.weight": (slice(0, 4), (4, 1)), "b.weight": (slice(4, 8), (1, 4))}
    alg = cls(drop=0.5, scores="hetero")
    state = alg.init(setup(vec(*[0.0] * 8), layout=layout), fleet(seconds=lambda c: 2.0 - c))
    state = replace(state, w=vec(1, -4, 2, -3, 0, 0, 0, 0))
    for client, off in ((1, {1, 3}), (0, {2, 0})):
        mask = alg.assign(state, client, fleet()).tensors["mask"]
        assert {j for j in range(4) if mask[j] == 0} == off
        assert {j for j in range(4) if mask[4 + j] == 0} == off


@golden(AsoFed)
def table_average_and_gradient_memory(cls: type[Any]) -> None:
    # plain (lam 0, no memory effect with one step): v = h = 0 at first, so y = x - eta g. n = (3, 1).
    # client 0: y = 1/2, x = 3/4*1/2 = 3/8 (x0 = 0);  then x = sum n_k/n w_k
    lab = Lab(cls(lam=0.0), TWO, lambda c, n: 1.0 + 1.5 * c, (3, 1)).run(1)
    same(lab.x, 3 / 8)
    for _ in range(6):
        lab.run(1)
        same(lab.x, 0.75 * float(lab.memory[0]["w"]) + 0.25 * float(lab.memory[1]["w"]))
    # three steps by hand, lam = 1, beta = 1/4, b = 1, eta = 1/2, x = 0:
    w, h, v = 0.0, 0.0, 0.0
    for _ in range(3):
        s = (w - 1) + 1.0 * (w - 0.0)
        w, h, v = w - 0.5 * (s - v + h), 0.25 * h + 0.75 * v, s
    memory = cls().memory(setup(vec(0.0)))
    up, memory = train(cls(lam=1.0, beta=0.25), Quadratic(), [batch(vec(1.0))] * 3, job({"w": vec(0.0)}, memory, 0.5))
    same(up["move"], w)
    same(memory["h"], h)
    same(memory["v"], v)


@golden(AsoFed)
def steps_and_features(cls: type[Any]) -> None:
    # mean delay e^2 seconds: r = 2; below e seconds r = 1
    alg, world = cls(), fleet()
    state = alg.init(setup(vec(0.0)), world)
    assert alg.assign(state, 0, world).lr_scale == 1.0
    state = alg.receive(state, update(0, sent=vec(0.0), up={"move": vec(0.0)}, at=float(np.exp(2))), world).state
    assert abs(alg.assign(state, 0, world).lr_scale - 2) < 1e-6
    assert cls(dynamic_steps=False).assign(state, 0, world).lr_scale == 1.0
    # features: a row of equal weights is divided by its length; signs stay
    layout = {"a.weight": (slice(0, 4), (2, 2)), "a.bias": (slice(4, 6), (2,))}
    alg = cls(features=True)
    state = alg.init(setup(vec(3, 3, -1, 2, 7, 7), layout=layout), world)
    w = alg.receive(state, update(0, sent=vec(*[0.0] * 6), up={"move": vec(*[0.0] * 6)}), world).state.w
    a = np.exp([1, 2]) / np.exp([1, 2]).sum()
    same(w, [1.5, 1.5, -a[0], 2 * a[1], 7, 7])


@golden(AsoFed)
def rate_and_pull_act_at_every_step(cls: type[Any]) -> None:
    # lam = 1, no memory effect with beta = 1 (h stays 0): from x = 0, b = 1, eta = 1/4:
    # s0 = -1, w = 1/4;  s1 = -3/4 + 1/4 = -1/2, zeta = -1/2 + 1 = 1/2, w = 1/8;  s2 = -7/8 + 1/8 = -3/4,
    # zeta = -3/4 + 1/2 = -1/4, w = 3/16
    memory = cls().memory(setup(vec(0.0)))
    up, _ = train(cls(lam=1.0, beta=1.0), Quadratic(), [batch(vec(1.0))] * 3, job({"w": vec(0.0)}, memory, 0.25))
    same(up["move"], 3 / 16)
