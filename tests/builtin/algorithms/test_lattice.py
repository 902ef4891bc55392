"""Which method is which other under which condition: bit for bit within one form, to tolerance across forms."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from double import Lab, feed, fleet, same, setup, update, vec

from aflctl.api import Algorithm, Local
from aflctl.builtin.algorithms.ace import Ace
from aflctl.builtin.algorithms.area import Area
from aflctl.builtin.algorithms.asgd import Asgd
from aflctl.builtin.algorithms.asofed import AsoFed
from aflctl.builtin.algorithms.async_fedavg import AsyncFedAvg
from aflctl.builtin.algorithms.asyncdrop import AsyncDrop
from aflctl.builtin.algorithms.bounded_staleness import BoundedStaleness
from aflctl.builtin.algorithms.bounded_staleness_sgd import BoundedStalenessSgd
from aflctl.builtin.algorithms.ca2fl import Ca2fl
from aflctl.builtin.algorithms.central import Central
from aflctl.builtin.algorithms.cfl import Cfl
from aflctl.builtin.algorithms.fadas import Fadas
from aflctl.builtin.algorithms.fedac import FedAc
from aflctl.builtin.algorithms.fedasync import FedAsync
from aflctl.builtin.algorithms.fedavg import FedAvg
from aflctl.builtin.algorithms.fedbuff import FedBuff
from aflctl.builtin.algorithms.fedcompass import FedCompass
from aflctl.builtin.algorithms.fedprox import FedProx
from aflctl.builtin.algorithms.fedvarp import FedVarp
from aflctl.builtin.algorithms.forootani import Forootani
from aflctl.builtin.algorithms.malenia import Malenia
from aflctl.builtin.algorithms.mifa import Mifa
from aflctl.builtin.algorithms.moon import Moon
from aflctl.builtin.algorithms.port import Port
from aflctl.builtin.algorithms.rfedavg import RFedAvg
from aflctl.builtin.algorithms.ringleader import Ringleader
from aflctl.builtin.algorithms.ringmaster import Ringmaster
from aflctl.builtin.algorithms.safa import Safa
from aflctl.builtin.algorithms.scaffold import Scaffold

TARGETS = [vec(1.0, 0.3), vec(-3.0, 0.1), vec(0.7, 5.0)]
SAMPLES = (3, 1, 2)


def models(algorithm: Algorithm[Any], events: int = 24, **options: Any) -> list[torch.Tensor]:
    """The global models of a run of three clients with tasks of 1, 1.7 and 2.9 seconds, two local steps each."""
    options = {"samples": SAMPLES, "local": Local(lr=0.3, epochs=2), "init": vec(0.2, -0.9), **options}
    seconds = options.pop("seconds", lambda c, n: (1.0, 1.7, 2.9)[c])
    lab = Lab(algorithm, options.pop("targets", TARGETS), seconds, **options)
    return lab.run(events).models


def equal(left: Sequence[torch.Tensor], right: Sequence[torch.Tensor], tol: float = 0.0) -> None:
    assert len(left) == len(right) > 2
    for a, b in zip(left, right):
        if tol:
            same(a, b.tolist(), tol=tol)
        else:
            assert torch.equal(a, b)


class FrozenScaffold(Scaffold):
    """SCAFFOLD whose control variates stay 0."""

    def finish(self, w: torch.Tensor, job: Any) -> Any:
        up, _ = super().finish(w, job)
        return {**up, "dc": torch.zeros_like(w)}, job.memory


class FrozenFedAc(FedAc):
    """FedAC with control variates 0 and equal weights."""

    def finish(self, w: torch.Tensor, job: Any) -> Any:
        up, _ = super().finish(w, job)
        return {**up, "dc": torch.zeros_like(w)}, job.memory

    def _orientation(self, w: torch.Tensor, update: Any) -> float:
        return 1.0


class AtFlush(FedBuff):
    """FedBuff that starts nobody while anyone flies."""

    def select(self, state: Any, fleet: Any) -> Any:
        return [] if fleet.flying else fleet.draw(fleet.free)


class PortAtFlush(Port):
    """PORT that starts nobody while anyone flies."""

    select = AtFlush.select


class PlainAsoFed(AsoFed):
    """ASO-Fed without correction terms and with equal weights."""

    direction = Algorithm.direction


constant, uniform = {"kind": "constant"}, {"weighting": "uniform"}
huge = 10**6

EXACT = {
    "fedprox mu=0 = fedavg": (FedProx(mu=0.0), FedAvg()),
    "moon mu=0 = fedavg": (Moon(mu=0.0), FedAvg()),
    "scaffold frozen = fedavg uniform": (FrozenScaffold(), FedAvg(**uniform)),
    "cfl eps1=0 = fedavg uniform": (Cfl(eps1=0.0, warmup=0), FedAvg(**uniform)),
    "fedbuff K=C, sent at the flush = fedavg uniform": (AtFlush(buffer_size=3, staleness=constant), FedAvg(**uniform)),
    "fedopt without momentum or scaling = fedavg": (FedAvg(server_optimizer={"kind": "sgd", "b1": 0.0}), FedAvg()),
    "tutorial 106 decay=1, equal n = fedasync constant": (
        BoundedStaleness(decay=1.0, max_staleness=huge),
        FedAsync(alpha=2 / 102, staleness=constant),
        {"samples": (2, 2, 2)},
    ),
    "fedasync polynomial a=0 = constant": (FedAsync(staleness={"a": 0.0}), FedAsync(staleness=constant)),
    "fedasync hinge b=inf = constant": (FedAsync(staleness={"kind": "hinge", "b": 1e9}), FedAsync(staleness=constant)),
    "fedasync decay=1 = constant": (
        FedAsync(staleness={"kind": "exponential", "decay": 1.0}),
        FedAsync(staleness=constant),
    ),
    "async-fedavg = fedasync constant": (AsyncFedAvg(alpha=0.6), FedAsync(alpha=0.6, staleness=constant)),
    "asyncdrop drop=0 = fedasync constant": (AsyncDrop(drop=0.0), FedAsync(alpha=0.5, staleness=constant)),
    "aced without limit = ace": (Ace(max_age=huge), Ace()),
    "fadas plain = fedbuff with amsgrad": (
        Fadas(buffer_size=2, rate="plain", lr=0.05),
        FedBuff(
            buffer_size=2, staleness=constant, server_optimizer={"kind": "amsgrad", "lr": 0.05, "b2": 0.99, "eps": 1e-8}
        ),
    ),
    "fadas tau <= tau_c = plain": (
        Fadas(buffer_size=2, tau_c=huge, lr=0.1),
        Fadas(buffer_size=2, rate="plain", lr=0.1),
    ),
    "koloskova below the threshold = asgd": (Asgd(threshold=huge, steps=None), Asgd(rule="constant", steps=None)),
    "mishchenko below the threshold = asgd": (
        Asgd(rule="mishchenko", threshold=huge, steps=None),
        Asgd(rule="constant", steps=None),
    ),
    "ringmaster R=inf = asgd": (Ringmaster(delay=huge, steps=None), Asgd(rule="constant", steps=None)),
    # client 1 ends at 6.9, 13.8 and 20.7: when client 0 starts at full seconds, its two steps of 1/2 never end with it
    "fedcompass of fixed steps, groups of one = fedasync's delta form with alpha / N": (
        FedCompass(min_steps=2, max_steps=2, alpha=0.6),
        FedAsync(form="delta", alpha=0.6 / 2),
        {"targets": TARGETS[:2], "samples": (3, 1), "pace": (0.5, 3.45)},
    ),
    **{
        f"bounded-staleness-sgd {policy} S=inf = fedbuff": (
            BoundedStalenessSgd(bound=huge, policy=policy, buffer_size=2, steps=None),
            FedBuff(buffer_size=2, staleness=constant),
        )
        for policy in ("drop", "downweight", "wait", "pull", "abort")
    },
}

CLOSE = {
    "forootani buffered beta=0 = fedbuff by samples": (
        Forootani(buffer_size=2, beta=0.0, alpha=0.0),
        FedBuff(buffer_size=2, staleness=constant, weighting="samples"),
        {"local": Local(lr=0.3)},
    ),
    "forootani barrier without delay = fedavg": (
        Forootani(variant="barrier", alpha=0.0),
        FedAvg(),
        {"local": Local(lr=0.3)},
    ),
    "area none = fedbuff with eta_g = B / N": (
        Area(buffer_size=2, correction="none"),
        FedBuff(buffer_size=2, staleness=constant, server_optimizer={"lr": 2 / 3}),
        {},
    ),
    "area B=1 = aso-fed without correction": (
        Area(buffer_size=1),
        PlainAsoFed(dynamic_steps=False),
        {"samples": (1, 1, 1)},
    ),
    "fedac frozen, b1=0 = fedbuff with a normalised step": (
        FrozenFedAc(buffer_size=2, b1=0.0, b2=0.9, lr=0.1, eps=1e-4),
        FedBuff(
            buffer_size=2,
            staleness=constant,
            server_optimizer={"kind": "adam", "lr": 0.1, "b1": 0.0, "b2": 0.9, "eps": 1e-4},
        ),
        {},
    ),
    "safa lag=0 quota=1 = fedavg": (Safa(lag=0, quota=1.0), FedAvg(), {}),
    "mifa = fedvarp with everybody": (Mifa(), FedVarp(), {}),
    "fedvarp with everybody = fedavg uniform": (FedVarp(), FedAvg(**uniform), {}),
    "port of a full buffer, nothing stale = fedavg": (PortAtFlush(buffer_size=3, w_sim=0.0), FedAvg(), {}),
    "fedadam, eps large = fedavgm": (
        # m_adam = (1 - b1) m_avgm, and lr / (sqrt(v) + eps) = 1
        FedAvg(server_optimizer={"kind": "adam", "b1": 0.5, "lr": 1e6, "eps": 1e6}),
        FedAvg(server_optimizer={"b1": 0.5, "lr": 0.5}),
        {},
    ),
    "malenia S=n, equal speeds = fedavg uniform": (
        Malenia(steps=None),
        FedAvg(**uniform),
        {"seconds": lambda c, n: 1.0},
    ),
}


@pytest.mark.parametrize("name", EXACT)
def test_equal_to_the_bit(name: str) -> None:
    left, right, *options = EXACT[name]
    more: dict[str, Any] = options[0] if options else {}
    equal(models(left, **more), models(right, **more))


@pytest.mark.parametrize("plus", [False, True])
def test_rfedavg_without_its_term_is_fedavg_uniform(plus: bool) -> None:
    # each round is two tasks per client there: the maps, then the training
    left, right = models(RFedAvg(strength=0.0, plus=plus), events=24), models(FedAvg(**uniform), events=12)
    equal(left, right)


@pytest.mark.parametrize("rule", ["koloskova", "mishchenko"])
def test_a_batch_of_gradients_sent_together_is_one_minibatch_step(rule: str) -> None:
    # n jobs from one x_b, nobody started before all are back: delays 0 .. n - 1 reduce nothing: x = x_b + sum D
    asgd, x, deltas = Asgd(rule=rule), vec(1.0, -1.0), [vec(0.5, 1.0), vec(-2.0, 0.25), vec(1.0, 4.0)]
    world = fleet(samples=SAMPLES, capacity=3)
    ups = [(update(c, sent=x, delta=d, staleness=c), world) for c, d in enumerate(deltas)]
    state, _ = feed(asgd, asgd.init(setup(x, SAMPLES, concurrency=3), world), *ups)
    same(state.w, (x + sum(deltas)).tolist())


@pytest.mark.parametrize("name", CLOSE)
def test_equal_to_tolerance(name: str) -> None:
    left, right, options = CLOSE[name]
    equal(models(left, **options), models(right, **options), tol=2e-5)


@pytest.mark.parametrize(
    ("algorithm", "tol"),
    [
        (FedAsync(alpha=1.0), 0.0),
        (AsyncFedAvg(alpha=1.0), 0.0),
        (BoundedStaleness(damping=0.0), 0.0),
        (FedBuff(buffer_size=1), 1e-6),
        (Ringmaster(steps=None), 1e-6),
        (Ringleader(steps=None), 1e-6),
        (Malenia(steps=None), 1e-6),
        (Ca2fl(buffer_size=1), 1e-6),
    ],
    ids=lambda value: type(value).__name__,
)
def test_one_client_is_sequential_training(algorithm: Algorithm[Any], tol: float) -> None:
    one: dict[str, Any] = {"targets": TARGETS[:1], "samples": (1,), "events": 6}
    equal(models(algorithm, **one), models(Central(), **one), tol)


def test_delta_and_model_form_differ_by_alpha_times_the_way_gone() -> None:
    # FedBuff(K = 1, s = 1, eta_g = a) - FedAsync(a) after one arrival = a (x_v - x_b), 0 at tau = 0
    x, b, y = vec(3.0, -1.0), vec(1.0, 1.0), vec(7.0, 2.0)
    for start in (b, x):
        ups = {"sent": start, "staleness": 2}
        buff = FedBuff(buffer_size=1, staleness=constant, server_optimizer={"lr": 0.3})
        left = buff.receive(buff.init(setup(x), fleet()), update(0, delta=y - start, **ups), fleet()).state.w
        mix = FedAsync(alpha=0.3, staleness=constant)
        right = mix.receive(mix.init(setup(x), fleet()), update(0, w=y, **ups), fleet()).state.w
        same(left - right, (0.3 * (x - start)).tolist())


def events(*clients: int, samples: Sequence[int] = SAMPLES) -> list[Any]:
    """Fresh updates of these clients, both forms, with the others in flight until the last."""
    found = []
    for k, c in enumerate(clients):
        delta = vec(float(c + 1), 2.0 - k)
        up = update(c, sent=vec(0.0, 0.0), delta=delta, w=delta, samples=samples[c])
        others = {9: 0} if k + 1 < len(clients) else {}
        found.append((up, fleet(samples=samples, capacity=3, flying=others)))
    return found


def first_model(algorithm: Algorithm[Any], *clients: int) -> torch.Tensor:
    """x after these updates, from x0 = 0."""
    state = algorithm.init(setup(vec(0.0, 0.0), SAMPLES, concurrency=3), fleet(samples=SAMPLES, capacity=3))
    return algorithm.params(feed(algorithm, state, *events(*clients))[0])


def test_port_without_staleness_or_interference_is_fedavg_of_the_buffer() -> None:
    same(first_model(Port(buffer_size=3, w_sim=0.0), 0, 1, 2), first_model(FedAvg(), 0, 1, 2).tolist())


def test_first_flush_of_ca2fl_is_that_of_fedbuff() -> None:
    buff = FedBuff(buffer_size=2, staleness=constant)
    assert torch.equal(first_model(Ca2fl(buffer_size=2), 0, 2), first_model(buff, 0, 2))


def test_fedcompass_of_equal_silos_is_synchronous() -> None:
    # N = 3, alpha 1: three first arrivals one by one, then one version a round: the mean of three updates, as FedAvg's
    same_pace: dict[str, Any] = {"samples": (1, 1, 1), "pace": (1.0, 1.0, 1.0)}
    compass = FedCompass(min_steps=2, max_steps=5, alpha=1.0, staleness=constant)
    lab = Lab(compass, TARGETS, local=Local(lr=0.3), **same_pace)
    made = [len(lab.run(1).models) - 1 for _ in range(15)]
    assert made == [1, 2, 3, 3, 3, 4, 4, 4, 5, 5, 5, 6, 6, 6, 7]
    assert [tau for _, tau, _, _ in lab.log] == [0, 1, 2, 2, 1, *[0] * 10]
    # from version 4 on everybody starts from the same model
    fedavg = Lab(FedAvg(**uniform), TARGETS, local=Local(lr=0.3, epochs=5), init=lab.models[4], **same_pace)
    equal(lab.models[4:], fedavg.run(9).models, tol=1e-5)


def test_fresh_ca2fl_is_fedvarp() -> None:
    left, right = Ca2fl(buffer_size=2), FedVarp(round={"cohort": 2})
    world = fleet(samples=SAMPLES, capacity=3, flying={9: 0})
    states = [a.init(setup(vec(0.0, 0.0), SAMPLES, concurrency=3), world) for a in (left, right)]
    for up, _ in events(0, 1, 2, 0, 1, 0):
        states = [a.receive(s, up, world).state for a, s in zip((left, right), states)]
        same(states[0].w, states[1].w.tolist())


def test_everybody_fresh_is_the_mean() -> None:
    mean = first_model(FedAvg(**uniform), 0, 1, 2)
    for algorithm in (FedVarp(), Mifa(), Ca2fl(buffer_size=3), Ace()):
        same(first_model(algorithm, 0, 1, 2), mean.tolist())


@pytest.fixture
def fedstale(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The method of the example distribution."""
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[3] / "plugins" / "aflctl-fedstale" / "src"))
    yield import_module("aflctl_fedstale").FedStale
    sys.modules.pop("aflctl_fedstale")


def test_fedstale_with_beta_one_is_fedvarp(fedstale: Any) -> None:
    left, right = fedstale(buffer_size=2, beta=1.0), FedVarp(round={"cohort": 2})
    world = fleet(samples=SAMPLES, capacity=3, flying={9: 0})
    states = [a.init(setup(vec(0.0, 0.0), SAMPLES, concurrency=3), world) for a in (left, right)]
    for up, _ in events(0, 1, 2, 0, 1, 2):
        states = [a.receive(s, up, world).state for a, s in zip((left, right), states)]
        same(left.params(states[0]), states[1].w.tolist())


@pytest.mark.parametrize("beta", [0.0, 0.5, 1.0])
def test_fedstale_of_everybody_is_the_mean(fedstale: Any, beta: float) -> None:
    mean = first_model(FedAvg(**uniform), 0, 1, 2)
    same(first_model(fedstale(buffer_size=3, beta=beta), 0, 1, 2), mean.tolist())


def test_area_with_gradient_memory_is_mifa_without_waiting() -> None:
    area, mifa = Area(buffer_size=1, correction="gradients"), Mifa(wait=False, round={"cohort": 1})
    world = fleet(samples=(1, 1))
    left, right = area.init(setup(vec(0.0)), world), mifa.init(setup(vec(0.0)), world)
    last = {0: 0.0, 1: 0.0}
    for c, d in [(0, 4.0), (1, -2.0), (0, 1.0), (0, 3.0), (1, 5.0)]:
        left = area.receive(left, update(c, sent=vec(0.0), up={"residual": vec(d - last[c])}), world).state
        right = mifa.receive(right, update(c, sent=vec(0.0), delta=vec(d)), world).state
        last[c] = d
        same(left.w, right.w.tolist())
        same(left.acc, sum(last.values()))


def test_round_one_of_moon_is_fedavg() -> None:
    equal_first = models(Moon(mu=5.0), events=3)[1], models(FedAvg(), events=3)[1]
    same(equal_first[0], equal_first[1].tolist())
    assert not torch.allclose(models(Moon(mu=5.0), events=6)[2], models(FedAvg(), events=6)[2])
