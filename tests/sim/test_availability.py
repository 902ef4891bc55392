"""Who is online when: stationary shares, day and night, outages, failures; lookups in any order; who comes next."""

from __future__ import annotations

from collections.abc import Callable
from math import cos, pi, sqrt

import numpy as np
import pytest

from aflctl.config.fleet import FleetSpec
from aflctl.sim.fleet import build_world
from aflctl.sim.streams import key
from aflctl.sim.world.availability import Availability, DelayDropout, Diurnal, Markov, Outages, Refreshes, TaskFailure
from aflctl.sim.world.risings import Risings
from aflctl.sim.world.traces import Trace, Windows

S = 1_000_000_000
HOUR = 3600 * S


def sojourns(process: Refreshes, client: int, until: int) -> tuple[list[float], list[float]]:
    """Complete times online and offline of one client, in seconds."""
    of = Availability([process])
    kept: tuple[list[float], list[float]] = ([], [])
    start, t = 0, 0
    state = of.state(client, 0)[0]
    while t < until:
        now, end = process.state(client, t)
        if now != state:
            kept[0 if state else 1].append((t - start) / S)
            start, state = t, now
        t = end
    return kept[0][1:], kept[1][1:]


def test_markov_has_the_stated_means_and_share() -> None:
    process = Markov(key("m"), 60.0, 180.0)
    share = np.mean([process.state(c, 10**15 + c)[0] for c in range(20_000)])
    assert share == pytest.approx(0.25, abs=4 * sqrt(0.25 * 0.75 / 20_000))
    assert np.mean([process.state(c, 0)[0] for c in range(20_000)]) == pytest.approx(0.25, abs=0.0125)
    on, off = sojourns(process, 0, 1_000_000 * S)
    assert np.mean(on) == pytest.approx(60, abs=4 * 60 / sqrt(len(on)))
    assert np.mean(off) == pytest.approx(180, abs=4 * 180 / sqrt(len(off)))
    # exponential: the s.d. equals the mean
    assert np.std(on) == pytest.approx(60, rel=0.08)
    assert np.std(off) == pytest.approx(180, rel=0.08)


def test_markov_forgets_exponentially() -> None:
    # corr(on(t), on(t + h)) = exp(-h r), r = 1/60 + 1/180 per second
    process = Markov(key("m"), 60.0, 180.0)
    now = np.array([process.state(c, 500 * S)[0] for c in range(20_000)], float)
    later = np.array([process.state(c, 530 * S)[0] for c in range(20_000)], float)
    assert np.corrcoef(now, later)[0, 1] == pytest.approx(np.exp(-30 * (1 / 60 + 1 / 180)), abs=4 / sqrt(20_000))


@pytest.mark.parametrize(
    "process",
    [
        Markov(key("m"), 60.0, 180.0),
        Diurnal(key("d"), 0.25, 4.0, 2.0, 600.0, (0.0, 8.0)),
        Outages(key("o"), 3, 24.0, 600.0),
    ],
    ids=["markov", "diurnal", "outages"],
)
def test_any_moment_in_any_order_gives_the_same(process: Refreshes) -> None:
    moments = [(c, t) for c in range(5) for t in range(-3 * HOUR, 40 * HOUR, 211 * S)]
    forward = {m: process.state(*m) for m in moments}
    assert all(process.state(*m) == forward[m] for m in reversed(moments))
    for (c, t), (online, until) in forward.items():
        assert until > t
        for inside in (t + 1, (t + until) // 2, until - 1):
            if t <= inside:
                assert process.state(c, inside)[0] == online


def test_the_day_swings_four_to_one() -> None:
    process = Diurnal(key("d"), 0.25, 4.0, 2.0, 600.0, (0.0,))
    shares = [np.mean([process.state(c, (48 + h) * HOUR)[0] for c in range(8000)]) for h in range(24)]
    # a(t) = 0.25 (1 + 0.6 cos(2 pi (t - 2 h) / 24 h)), met with a lag of minutes
    expected = [0.25 * (1 + 0.6 * cos(2 * pi * (h - 2) / 24)) for h in range(24)]
    assert np.abs(np.array(shares) - expected).max() < 4 * sqrt(0.24 / 8000) + 0.01
    assert max(shares) / min(shares) == pytest.approx(4, rel=0.15)


def test_time_zones_shift_the_day() -> None:
    process = Diurnal(key("d"), 0.25, 4.0, 2.0, 600.0, (0.0, 12.0))
    zones = np.array([process.zone_h(c) for c in range(6000)])
    assert (zones == 12).mean() == pytest.approx(0.5, abs=4 * 0.5 / sqrt(6000))
    night = np.array([process.state(c, 26 * HOUR)[0] for c in range(6000)])
    assert night[zones == 0].mean() == pytest.approx(0.4, abs=0.04)
    assert night[zones == 12].mean() == pytest.approx(0.1, abs=0.03)


def test_a_site_fails_as_one() -> None:
    process = Outages(key("o"), 4, 6.0, 3600.0)  # up 4 h, down 1 h on average
    sites = [process.site(c) for c in range(40)]
    assert set(sites) == {0, 1, 2, 3}
    down = []
    for t in range(0, 4000 * HOUR, 7 * HOUR):
        states: dict[int, set[bool]] = {}
        for c in range(40):
            states.setdefault(sites[c], set()).add(process.state(c, t)[0])
        assert all(len(s) == 1 for s in states.values())
        down += [not s.pop() for s in states.values()]
    assert np.mean(down) == pytest.approx(0.2, abs=0.04)


def test_eight_percent_of_the_tasks_fail() -> None:
    failure = TaskFailure(key("f"), 0.08, None)
    moments = [failure.moment(c, nth, 100 * S) for c in range(200) for nth in range(200)]
    lost = [m for m in moments if m is not None]
    assert len(lost) / len(moments) == pytest.approx(0.08, abs=4 * sqrt(0.08 * 0.92 / len(moments)))
    assert all(0 <= m < 100 * S for m in lost)
    assert np.mean(lost) == pytest.approx(50 * S, rel=0.05)  # a low hazard strikes evenly
    assert TaskFailure(key("f"), 0.0, None).moment(0, 0, 10 * S) is None


def test_a_hazard_strikes_long_tasks_more_often() -> None:
    failure = TaskFailure(key("f"), None, 0.01)
    for busy_s in (10, 100, 300):
        share = np.mean([failure.moment(c, 0, busy_s * S) is not None for c in range(20_000)])
        assert share == pytest.approx(1 - np.exp(-0.01 * busy_s), abs=4 * 0.5 / sqrt(20_000))
    first = failure.moment(5, 0, 10**15)
    assert first is not None
    assert failure.moment(5, 0, first + 10) == pytest.approx(first, abs=2)  # the moment does not depend on the length


def test_afl_libs_dropout() -> None:
    dropout = DelayDropout(key("x"), 0.1, 100.0)
    delays = np.array([dropout.delay(c, nth) for c in range(200) for nth in range(100)]) / S
    assert (delays > 0).mean() == pytest.approx(0.1, abs=4 * 0.3 / sqrt(20_000))
    assert delays[delays > 0].mean() == pytest.approx(50, abs=4 * 29 / sqrt(2000))
    assert delays.max() < 100


def test_processes_join_by_and() -> None:
    a = Trace(key("a"), [Windows((0, 10 * S, 20 * S, 30 * S))])
    b = Trace(key("b"), [Windows((5 * S, 25 * S))])
    both = Availability([a, b])
    on = [t for t in range(40) if both.state(0, t * S)[0]]
    assert on == [5, 6, 7, 8, 9, 20, 21, 22, 23, 24]
    assert both.next_on(0, 0) == 5 * S
    assert both.next_on(0, 11 * S) == 20 * S
    assert both.next_on(0, 26 * S) is None
    assert both.off_before(0, 6 * S, 40 * S) == 10 * S
    assert both.off_before(0, 6 * S, 10 * S) is None


def test_two_that_never_meet() -> None:
    even = Trace(key("a"), [Windows((0, S), period=2 * S)])
    odd = Trace(key("b"), [Windows((S, 2 * S), period=2 * S)])
    assert Availability([even, odd]).next_on(0, 0) is None


def by_hand(of: Availability, clients: int, t: int, excluded: Callable[[int], bool]) -> int | None:
    """First moment > t at which a client comes online, by walking every client."""
    best = None
    for client in range(clients):
        if excluded(client):
            continue
        at, before = t, of.state(client, t)[0]
        for _ in range(20_000):
            at = of.state(client, at)[1]
            now = of.state(client, at)[0]
            if now and not before:
                best = at if best is None else min(best, at)
                break
            before = now
    return best


PROCESSES = {
    "markov": [Markov(key("m"), 60.0, 180.0)],
    "rare": [Markov(key("m"), 60.0, 20_000.0)],
    "diurnal": [Diurnal(key("d"), 0.25, 4.0, 2.0, 600.0, (0.0, 8.0, 16.0))],
    "outages": [Outages(key("o"), 3, 24.0, 600.0)],
    "trace": [Trace(key("t"), [Windows((0, S, 50 * S, 90 * S), period=100 * S), Windows((7 * S, 9 * S), 333 * S, S)])],
    "joined": [
        Markov(key("m"), 600.0, 600.0),
        Outages(key("o"), 3, 24.0, 600.0),
        Diurnal(key("d"), 0.4, 2.0, 9.0, 300.0, (0.0,)),
    ],
}


@pytest.mark.parametrize("name", PROCESSES)
@pytest.mark.parametrize("clients", [1, 3, 40])
def test_who_comes_online_next(name: str, clients: int) -> None:
    of = Availability(PROCESSES[name])
    risings = Risings([of], None, clients)
    t = 12_345
    for turn in range(12):
        excluded = (lambda c: False) if turn % 2 else (lambda c: c % 3 == 1)
        got = risings.after(t, excluded)
        assert got == by_hand(of, clients, t, excluded)
        if got is None:
            assert clients == 0 or all(excluded(c) for c in range(clients))
            break
        assert got > t
        t = got if turn % 3 else got + 17 * 60 * S


def test_nobody_comes_where_all_stay_or_all_are_excluded() -> None:
    assert Risings([Availability([])], None, 10).after(0, lambda c: False) is None
    assert Risings([Availability([Markov(key("m"), 60.0, 60.0)])], None, 10).after(0, lambda c: True) is None
    ended = Availability([Trace(key("t"), [Windows((0, S))])])
    assert Risings([ended], None, 10).after(0, lambda c: False) is None
    assert Risings([ended], None, 10).after(-5, lambda c: False) == 0


def test_the_world_answers_for_its_clients() -> None:
    spec = FleetSpec(
        devices={"jetson-tx2": 1}, networks={"wifi": 1}, availability=[{"name": "markov", "mean_on_s": 60}]
    )
    world = build_world(spec, 50, 3)
    t = 1000 * S
    at = world.next_any_online(t, lambda c: False)
    assert at is not None
    risen = [c for c in range(50) if world.online(c, at) and not world.online(c, at - 1)]
    assert len(risen) == 1
    assert not any(world.online(c, x) and not world.online(c, x - S) for c in range(50) for x in range(t + S, at, S))
    offline = next(c for c in range(50) if not world.online(c, t))
    back = world.next_online(offline, t)
    assert back is not None
    assert world.online(offline, back)
    assert not world.online(offline, back - 1)
    assert world.next_online(risen[0], at) == at
