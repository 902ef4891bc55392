"""Looking ahead changes no answer: arrays agree with scalars, and a loop with a scout draws whom one without draws."""

from __future__ import annotations

from array import array
from pathlib import Path

import numpy as np
import pytest

from aflctl.config.fleet import FleetSpec
from aflctl.sim import loop as loops
from aflctl.sim.chance import Chance, draw_one
from aflctl.sim.fleet import build_world
from aflctl.sim.scout import Scout
from aflctl.sim.streams import key
from aflctl.sim.world import Work, World
from aflctl.sim.world.availability import Availability, Markov


def world(clients: int, availability: object = "markov") -> World:
    spec = FleetSpec(devices={"phone-high": 1, "phone-low": 1}, networks={"wifi": 1}, availability=availability)  # type: ignore[arg-type]
    return build_world(spec, clients, 3)


@pytest.mark.parametrize("t", [0, 1, 10**9, 449 * 10**9, 450 * 10**9, 10**15 + 7])
def test_states_as_arrays_are_those_of_single_clients(t: int) -> None:
    process, clients = Markov(key("p"), 600.0, 1800.0), np.arange(2000, dtype=np.int64) * 977
    online, until = process.states(clients, t)
    assert list(zip(online.tolist(), until.tolist())) == [process.state(c, t) for c in clients.tolist()]


def test_several_processes_are_joined_by_and() -> None:
    both = Availability([Markov(key("a"), 50.0, 50.0), Markov(key("b"), 300.0, 100.0)])
    clients, t = np.arange(1000, dtype=np.int64), 10**12
    online, until = both.states(clients, t)
    for client, on, end in zip(clients.tolist(), online.tolist(), until.tolist()):
        assert both.state(client, t)[0] == on
        assert end > t
        assert both.state(client, end - 1)[0] == on


def sent(clients: int) -> array[int]:
    """How many tasks each client was sent: none yet."""
    return array("q", bytes(8 * clients))


# 3000 events, 12 blocks of 250. Task by task 30 ms pass, or ten times as much now and then: blocks are given up early
@pytest.mark.parametrize("jumps", [1, 10_000])
@pytest.mark.parametrize("share", [10, 2])  # every so-manieth client is taken
def test_a_scout_finds_whom_a_draw_finds(jumps: int, share: int) -> None:
    # Where the scout does not know, it says so
    place, chance, now = world(3000), Chance(5, 6), 10**12
    scout, taken, found = Scout(chance, place, 1000, sent(3000)), set(range(0, 3000, share)), 0
    for event in range(1, 3001):
        now += 30_000_000 * (jumps if event % 100 == 0 else 1)
        client = scout.find(event, now, taken, place.online)
        right = draw_one(3000, chance.drawing(event, "select", -1, 0), taken, place.online, now)
        if client >= 0:
            found += 1
            assert client == right
        else:
            where = chance.drawing(event, "select", -1, 0)
            assert draw_one(3000, where, taken, place.online, now, scout.known(event)) == right
    # 10 candidates, a quarter of the clients online, 9 or 5 of 10 of them free: 1 - 0.775^10 = 92 % and
    # 1 - 0.875^10 = 74 %; less where much time passes within a block
    assert found > {10: 0.89, 2: 0.70}[share] * (1.0 if jumps == 1 else 0.8) * 3000


def test_what_is_foreseen_is_what_would_be_found() -> None:
    one, other = world(500), world(500)
    clients, nths = np.arange(0, 500, 3), np.arange(167) % 4
    one.foresee(clients, nths)
    work = Work(20, 4, 100, 32, 5000, 1e6, 1.0, "dense", 20_000, 20_000)
    for client, nth in zip(clients.tolist(), nths.tolist()):
        for n in (nth, nth + 1):  # the second was not foreseen
            assert one.trip(client, n, 10**9, work) == other.trip(client, n, 10**9, work)


def test_a_late_event_asks_anew() -> None:
    place, chance = world(3000), Chance(5, 6)
    scout = Scout(chance, place, 1000, sent(3000))
    scout.find(1, 0, (), place.online)
    now = 10**13  # hours after the block was made
    for event in range(2, 100):
        client = scout.find(event, now, (), place.online)
        right = draw_one(3000, chance.drawing(event, "select", -1, 0), (), place.online, now)
        assert client in (right, -1)


@pytest.mark.parametrize("availability", ["always", "markov", ["markov", "delay-dropout"], "diurnal"])
def test_a_plan_with_and_without_it(availability: object, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from aflctl.engine.plans.planning import plan

    config = {
        "algorithm": {"name": "fedbuff", "buffer_size": 20},
        "dataset": {"name": "synthetic", "test_samples": 20},
        "model": "logistic",
        "clients": {"count": 4000, "concurrency": 300},
        "fleet": {"devices": {"phone-mid": 1}, "networks": {"lte": 1}, "availability": availability},
        "stop": {"updates": 1500},
    }
    digests = []
    for least in (256, 10**9):
        monkeypatch.setattr(loops, "LEAST", least)
        document = plan(config, runs_dir=tmp_path, host=False).document
        digests.append(document["digests"]["schedule"])
    assert digests[0] == digests[1]
