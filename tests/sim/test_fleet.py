"""Fleets in few lines: counts, shuffles, files of clients, named fleets with changes, and every kind of mistake."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from aflctl.config.fleet import FleetSpec
from aflctl.errors import ConfigError, UserError
from aflctl.sim.fleet import build_world, counts
from aflctl.sim.fleet.resolve import resolve
from aflctl.sim.world import Work, World

CNN = Work(40, 8, 500, 64, 307_842, 28.4e6, 1.0, "dense", 1_231_368, 1_231_368)
BOARDS = {"jetson-tx2": 1, "jetson-nano": 1, "raspberry-pi-4": 1}


def spec(**fields: Any) -> FleetSpec:
    return FleetSpec(**{"devices": BOARDS, "networks": {"wifi": 1}, **fields})


def classes(world: World) -> list[str]:
    return [world.device_of(c) for c in range(world.clients)]


# ---- counts ----


def test_largest_remainder() -> None:
    assert counts([1, 1, 1], 60) == [20, 20, 20]
    assert counts([1, 1, 1], 61) == [21, 20, 20]  # a tie goes to the first
    assert counts([53, 46, 1], 10) == [5, 5, 0]  # quotas 5.3, 4.6, 0.1
    assert counts([0, 1], 5) == [0, 5]
    assert counts([0.1, 0.2, 0.7], 10) == [1, 2, 7]


@given(st.lists(st.floats(0.01, 100), min_size=1, max_size=8), st.integers(1, 10_000))
def test_counts_add_up_and_are_within_one_of_the_quota(ratios: list[float], clients: int) -> None:
    got = counts(ratios, clients)
    assert sum(got) == clients
    assert all(abs(n - clients * r / sum(ratios)) < 1 + 1e-6 for n, r in zip(got, ratios, strict=True))


def test_the_poster_fleet() -> None:
    world = build_world("poster-1-1-1", 60, 0)
    assert Counter(classes(world)) == {"jetson-tx2": 20, "jetson-nano": 20, "raspberry-pi-4": 20}
    assert Counter(world.link_of(c) for c in range(60)) == {"wifi": 20, "lte": 20, "nr": 20}
    pairs = Counter((world.device_of(c), world.link_of(c)) for c in range(60))
    assert len(pairs) == 9  # devices and links are shuffled independently
    assert classes(world) != sorted(classes(world))
    assert classes(build_world("poster-1-1-1", 60, 1)) != classes(world)
    assert classes(build_world("poster-1-1-1", 60, 0)) == classes(world)


def test_one_client_more_moves_only_the_clients_at_the_cuts() -> None:
    few, more = build_world(spec(), 60, 0), build_world(spec(), 61, 0)
    moved = [c for c in range(60) if few.device_of(c) != more.device_of(c)]
    assert len(moved) <= 2
    for c in range(60):
        if c not in moved:
            assert few.trip(c, 3, 10**12, CNN) == more.trip(c, 3, 10**12, CNN)


def test_a_million_clients_are_arrays() -> None:
    world = build_world(spec(availability="markov"), 1_000_000, 0)
    arrays = world.arrays
    held = [arrays.device, arrays.link, arrays.ns_per_byte_down, arrays.ns_per_byte_up, arrays.latency_ns]
    assert sum(a.nbytes for a in held) == 26 * 1_000_000
    assert world.trip(999_999, 0, 0, CNN) is not None


# ---- named fleets, with changes ----


def test_a_named_fleet_with_changes() -> None:
    changed = resolve(FleetSpec(name="iot-mixed", offline="abort", networks={"lte-m": 1}))
    plain = resolve("iot-mixed")
    assert (changed.offline, plain.offline) == ("abort", "pause")
    assert list(changed.networks) == ["lte-m"]
    assert list(changed.devices) == list(plain.devices)
    assert [p.kind for p in changed.availability] == ["markov"]
    assert changed.fingerprint != plain.fingerprint


def test_the_fingerprint_knows_values_not_words(tmp_path: Path) -> None:
    board = tmp_path / "b.yaml"
    prints = []
    for text in (
        "dense_gflops: 7\nmemory_mib: 9\n",
        "summary: x\ndense_gflops: 7\nmemory_mib: 9\n",
        "dense_gflops: 8\nmemory_mib: 9\n",
    ):
        board.write_text(text)
        prints.append(resolve(spec(devices={"./b.yaml": 1}), tmp_path).fingerprint)
    assert prints[0] == prints[1] != prints[2]
    assert resolve(spec()).fingerprint == build_world(spec(), 5, 0).fingerprint


def test_parameters_over_the_profiles_own() -> None:
    def params(availability: Any) -> dict[str, Any]:
        return resolve(spec(availability=availability)).availability[0].params.model_dump()

    assert params("markov") == {"mean_on_s": 600, "mean_off_s": 1800}
    assert params({"name": "markov", "mean_on_s": 60}) == {"mean_on_s": 60, "mean_off_s": 1800}
    assert params({"name": "task-failure", "hazard_per_s": 0.1}) == {"probability": None, "hazard_per_s": 0.1}
    assert params({"name": "task-failure", "probability": 0.5}) == {"probability": 0.5, "hazard_per_s": None}


def test_a_fleet_file_of_ones_own(tmp_path: Path) -> None:
    folder = tmp_path / "fleets"
    folder.mkdir()
    (folder / "board.yaml").write_text("dense_gflops: 7\nmemory_mib: 99\n")
    (folder / "mine.yaml").write_text(
        "devices: {./board.yaml: 2, jetson-nano: 1}\nnetworks: {wifi: 1}\n"
        "availability: [markov, {name: delay-dropout, max_s: 9}]\noffline: abort\n"
    )
    world = build_world("./fleets/mine.yaml", 6, 0, tmp_path)
    assert Counter(classes(world)) == {"./board.yaml": 4, "jetson-nano": 2}
    assert world.offline == "abort"
    assert world.availabilities[0].delays[0].max_ns == 9e9
    named = resolve("./fleets/mine.yaml", tmp_path).named
    assert named is not None
    assert named.path == folder / "mine.yaml"


# ---- a file of clients ----

ROWS = """client,device,network,availability,samples
2,jetson-nano,lte,,30
0,jetson-tx2,wifi,markov,10
1,jetson-nano,wifi,,20
"""


def test_a_file_of_clients(tmp_path: Path) -> None:
    (tmp_path / "clients.csv").write_text(ROWS)
    world = build_world(FleetSpec(csv="clients.csv", availability="always"), 3, 0, tmp_path)
    assert classes(world) == ["jetson-tx2", "jetson-nano", "jetson-nano"]
    assert [world.link_of(c) for c in range(3)] == ["wifi", "wifi", "lte"]
    assert world.samples == [10, 20, 30]
    assert [world.availability_of(c).steady for c in range(3)] == [False, True, True]
    assert world.next_online(1, 5) == 5
    assert world.next_any_online(0, lambda c: c == 0) is None
    assert world.next_any_online(0, lambda c: c != 0) is not None
    with pytest.raises(UserError, match="the file has 3 clients, the configuration 4"):
        build_world(FleetSpec(csv="clients.csv"), 4, 0, tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("client,device\n0,jetson-nano\n", "c.csv:1: network: column is missing"),
        ("client,device,network,sampels\n", "c.csv:1: sampels: unknown column"),
        ("client,device,network\n0,jetson-nan,wifi\n", "c.csv:2: device: unknown device profile 'jetson-nan'"),
        (
            "client,device,network\n0,jetson-nano,wifi\n1,jetson-nano,wify\n",
            "c.csv:3: network: unknown network profile 'wify'",
        ),
        (
            "client,device,network,availability\n0,jetson-nano,wifi,markow\n",
            "c.csv:2: availability: unknown availability 'markow'",
        ),
        ("client,device,network\n0,jetson-nano,wifi\n0,jetson-nano,wifi\n", "c.csv:3: client: client 0 is named twice"),
        ("client,device,network\n1,jetson-nano,wifi\n", "c.csv:2: client: client 0 is missing"),
        ("client,device,network\nx,jetson-nano,wifi\n", "c.csv:2: client: a number of 0 or more is expected, not 'x'"),
        ("client,device,network\n0,,wifi\n", "c.csv:2: device: is empty"),
        ("client,device,network,samples\n0,jetson-nano,wifi,-4\n", "c.csv:2: samples: a number of 0 or more"),
        ("client,device,network\n", "c.csv:1: no client in the file"),
    ],
)
def test_mistakes_in_a_file_of_clients(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "c.csv").write_text(text)
    with pytest.raises(ConfigError) as error:
        build_world(FleetSpec(csv="c.csv"), 1, 0, tmp_path)
    assert message in str(error.value)
    assert error.value.exit_code == 2


# ---- mistakes ----


def problems(fleet: Any, base: Path = Path()) -> dict[str, tuple[str, str | None, str | None]]:
    with pytest.raises(ConfigError) as error:
        resolve(fleet, base)
    return {p.path: (p.message, p.where, p.hint) for p in error.value.problems}


def test_all_unknown_names_at_once() -> None:
    fleet = spec(
        devices={"jetson-tx3": 1, "jetson-nano": 1},
        networks={"wi-fi": 1},
        availability=["markof", {"name": "markov", "mean_of_s": 3}],
    )
    found = problems(fleet)
    assert set(found) == {
        "fleet.devices.jetson-tx3", "fleet.networks.wi-fi", "fleet.availability.0", "fleet.availability.1.mean_of_s",
    }  # fmt: skip
    assert found["fleet.devices.jetson-tx3"][0] == "unknown device profile 'jetson-tx3'"
    assert "'jetson-tx2'" in str(found["fleet.devices.jetson-tx3"][2])
    assert "did you mean 'wifi'" in str(found["fleet.networks.wi-fi"][2])
    assert "did you mean 'mean_off_s'" in str(found["fleet.availability.1.mean_of_s"][2])
    assert "'poster-1-1-1'" in str(problems("poster-111")["fleet"][2])


@pytest.mark.parametrize(
    ("availability", "path", "message"),
    [
        ({"name": "markov", "mean_on_s": -1}, "fleet.availability.0.mean_on_s", "greater than 0, not -1"),
        ({"name": "delay-dropout", "probability": 1.5}, "fleet.availability.0.probability", "less than or equal to 1"),
        ({"name": "diurnal", "mean_availability": 0.7}, "fleet.availability.0", "above 0.99"),
        ({"name": "trace"}, "fleet.availability.0.path", "is missing"),
        ({"name": "correlated-outage", "sites": 0}, "fleet.availability.0.sites", "greater than or equal to 1"),
        ({"name": "always", "x": 1}, "fleet.availability.0.x", "unknown field"),
    ],
)
def test_mistakes_in_parameters(availability: dict[str, Any], path: str, message: str) -> None:
    assert message in problems(spec(availability=availability))[path][0]


def test_mistakes_in_a_fleet_file_have_their_lines(tmp_path: Path) -> None:
    (tmp_path / "f.yaml").write_text(
        "networks:\n  wifi: 1\n  wify: 2\ndevices:\n  nono: 1\navailability:\n  - markov\n  - {name: x}\n"
    )
    found = problems("./f.yaml", tmp_path)
    assert {k: str(v[1]).rpartition(":")[2] for k, v in found.items()} == {
        "networks.wify": "3", "devices.nono": "5", "availability.1": "8",
    }  # fmt: skip
    (tmp_path / "f.yaml").write_text("devices: {jetson-nano: 0}\nnetworks: {wifi: 1}\n")
    assert "ratios sum to zero" in next(iter(problems("./f.yaml", tmp_path).values()))[0]


def test_afl_libs_mode_wants_afl_libs_networks() -> None:
    message, _, hint = problems(spec(link_mode="afl-lib"))["fleet.networks.wifi"]
    assert "uniform range" in message
    assert hint == "use wifi-afl"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"devices": {"jetson-nano": 0, "jetson-tx2": 0}}, "the ratios sum to zero"),
        ({"devices": {"jetson-nano": -1}}, "greater than or equal to 0"),
        ({"devices": {}}, "devices is missing"),
        ({"csv": "x.csv"}, "leave devices and networks out"),
        ({"offline": "stop"}, "'abort', 'pause' or 'offline-compute'"),
        ({"speed": 3}, "Extra inputs"),
        ({"availability": [{"params": {}}]}, "Field required"),
    ],
)
def test_the_section_refuses(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        spec(**fields)


def test_short_forms_of_availability() -> None:
    assert [r.name for r in spec().availability] == ["always"]
    assert [r.name for r in spec(availability="markov").availability] == ["markov"]
    ref = spec(availability={"name": "markov", "mean_on_s": 3}).availability[0]
    assert (ref.name, ref.params) == ("markov", {"mean_on_s": 3})
    again = FleetSpec.model_validate(spec(availability=["markov", ref]).model_dump())
    assert [(r.name, r.params) for r in again.availability] == [("markov", {}), ("markov", {"mean_on_s": 3})]


def test_rates_do_not_depend_on_the_class_of_others() -> None:
    mixed = build_world(spec(networks={"wifi": 1, "lte": 1}), 40, 0)
    alone = build_world(spec(networks={"wifi": 1}), 40, 0)
    mine = [c for c in range(40) if mixed.link_of(c) == "wifi"]
    assert np.array_equal(mixed.arrays.ns_per_byte_down[mine], alone.arrays.ns_per_byte_down[mine])
