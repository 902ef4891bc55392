"""Looking ahead changes no answer: arrays agree with scalars, and a loop with a scout draws whom one without draws."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from aflctl.config.fleet import FleetSpec
from aflctl.sim import loop as loops
from aflctl.sim.availability import Availability, Markov
from aflctl.sim.chance import Chance, draw_one
from aflctl.sim.fleet import build_world
from aflctl.sim.scout import Scout
from aflctl.sim.streams import key
from aflctl.sim.world import World


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


def test_a_scout_finds_whom_a_draw_finds() -> None:
    # 400 events, 30 ms apart; a tenth of the fleet is taken. Where the scout does not know, it says so
    place, chance = world(3000), Chance(5, 6)
    scout, taken, found = Scout(chance, place, 1000), set(range(0, 3000, 10)), 0
    for event in range(1, 401):
        now = 10**12 + event * 30_000_000
        client = scout.find(event, now, taken, place.online)
        right = draw_one(3000, chance.drawing(event, "select", -1, 0), taken, place.online, now)
        if client >= 0:
            found += 1
            assert client == right
        else:
            skipped = chance.drawing(event, "select", -1, 0)
            assert draw_one(3000, skipped, taken, place.online, now, scout.wide) == right
    assert found > 360


def test_a_late_event_asks_anew() -> None:
    place, chance = world(3000), Chance(5, 6)
    scout = Scout(chance, place, 1000)
    scout.find(1, 0, (), place.online)
    now = 10**13  # hours after the block was made
    for event in range(2, 100):
        client = scout.find(event, now, (), place.online)
        right = draw_one(3000, chance.drawing(event, "select", -1, 0), (), place.online, now)
        assert client in (right, -1)


@pytest.mark.parametrize("availability", ["always", "markov", ["markov", "delay-dropout"], "diurnal"])
def test_a_plan_with_and_without_it(availability: object, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from aflctl.engine.planning import plan

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
