"""Profiles: all that we ship are complete and sourced; files of the user's own; names and mistakes."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from aflctl.errors import ConfigError, UnknownName, UserError
from aflctl.sim import profiles
from aflctl.sim.processes import KINDS
from aflctl.sim.profiles import Library
from aflctl.sim.resolve import resolve

DEVICES = [
    "jetson-tx2", "jetson-nano", "raspberry-pi-4", "raspberry-pi-5", "raspberry-pi-3b-plus",
    "raspberry-pi-zero-2w", "orange-pi-5", "lattepanda-delta-3", "jetson-xavier-nx", "jetson-orin-nano",
    "jetson-orin-nx", "jetson-agx-orin", "phone-high", "phone-mid", "phone-low", "mcu-m7", "jetson-tx2-afl",
    "jetson-nano-afl", "raspberry-pi-4-afl",
]  # fmt: skip
NETWORKS = [
    "ethernet", "wifi", "wifi-slow", "lte", "lte-mobile", "nr", "nr-low-sa", "nr-mmwave", "nr-global", "lte-m",
    "nb-iot", "ideal", "wifi-afl", "lte-afl", "nr-afl",
]  # fmt: skip
AVAILABILITY = ["always", "delay-dropout", "task-failure", "markov", "diurnal", "correlated-outage", "trace"]
FLEETS = ["poster-1-1-1", "afl-lib", "iot-mixed", "phones-flash", "cps-sensors"]
UNITS = (
    "_gflops", "_time", "_ms", "_ns", "_s", "_mib", "_share", "_w", "_w_per_mbps", "_sigma", "_factor", "_mbps", "_1s",
    "_hour", "_h", "_per_day", "_per_s",
)  # fmt: skip
PLAIN_NUMBERS = {"probability", "mean_availability", "swing", "sites"}


@pytest.fixture
def library(tmp_path: Path) -> Library:
    return Library(tmp_path)


def names(library: Library, kind: str) -> list[str]:
    return [e.name for e in library.entries(kind)]


def test_what_is_shipped(library: Library) -> None:
    assert names(library, "devices") == sorted(DEVICES)
    assert names(library, "networks") == sorted(NETWORKS)
    assert names(library, "availability") == sorted(AVAILABILITY)
    assert names(library, "fleets") == sorted(FLEETS)


@pytest.mark.parametrize("kind", ["devices", "networks", "availability"])
def test_every_value_has_a_unit_and_a_source(library: Library, kind: str) -> None:
    for entry in library.entries(kind):
        content = yaml.safe_load(entry.path.read_text())
        assert content.pop("name") == entry.name
        assert content.pop("summary")
        assert content.pop("kind", "") in ("", *KINDS)
        for name, value in content.items():
            assert set(value) in ({"value", "source"}, {"value", "source", "unverified"}), f"{entry.name}: {name}"
            assert value["source"], f"{entry.name}: {name}"
            assert value.get("unverified", True) is True
            assert name in PLAIN_NUMBERS or name.endswith(UNITS), f"{entry.name}: {name} names no unit"


def test_every_profile_reads(library: Library) -> None:
    for name in DEVICES:
        assert library.device(name).gflops > 0
    for name in NETWORKS:
        library.network(name)
    for name in AVAILABILITY:
        assert library.availability(name).kind in KINDS
    for name in FLEETS:
        resolve(name)


def test_some_values_of_the_tables(library: Library) -> None:
    nano, pi, tx2 = (library.device(n) for n in ("jetson-nano", "raspberry-pi-4", "jetson-tx2"))
    assert (nano.gflops, nano.cold_start_s, nano.memory_mib, nano.idle_w, nano.train_w) == (112, 49, 4096, 2.35, 6.5)
    assert (pi.gflops, pi.step_overhead_ms, pi.parameter_overhead_ns, pi.jitter_sigma) == (15.8, 15, 8, 0.03)
    assert tx2.sources["train_w"].unverified
    assert not nano.sources["dense_gflops"].unverified
    lte = library.network("lte")
    assert (lte.down_mbps, lte.up_mbps, lte.down_sigma, lte.rtt_ms, lte.autocorrelation_1s) == (117, 31, 0.54, 30, 0.86)
    assert lte.radio_up_w == pytest.approx(2.93 - 2.35)


def test_afl_libs_ratios(library: Library) -> None:
    tx2, nano, pi = (library.device(f"{n}-afl").gflops for n in ("jetson-tx2", "jetson-nano", "raspberry-pi-4"))
    assert tx2 == 203
    assert tx2 / nano == pytest.approx(1.8125)
    assert tx2 / pi == pytest.approx(11.625)


BOARD = "dense_gflops: 7\nmemory_mib: 512\n"


def test_a_profile_of_ones_own(tmp_path: Path, library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my-board.yaml").write_text(BOARD)
    assert library.device("./my-board.yaml").gflops == 7
    assert library.device("./my-board.yaml").name == "my-board"
    shelf = tmp_path / "profiles" / "devices"
    shelf.mkdir(parents=True)
    (shelf / "jetson-nano.yaml").write_text(BOARD)  # hides ours
    assert library.device("jetson-nano").gflops == 7
    other = tmp_path / "elsewhere" / "devices"
    other.mkdir(parents=True)
    (other / "thing.yaml").write_text("dense_gflops: {value: 9, source: measured}\nmemory_mib: 512\n")
    monkeypatch.setenv("AFLCTL_PROFILES", str(other.parent))
    assert library.device("thing").gflops == 9
    assert library.device("thing").sources["dense_gflops"].source == "measured"


def test_profiles_of_installed_packages(tmp_path: Path, library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    for owner, name in (("acme", "acme-cam"), ("acme", "jetson-nano"), ("other", "acme-cam"), ("other", "lamp")):
        folder = tmp_path / owner / "devices"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.yaml").write_text(BOARD)
    places = (("acme", tmp_path / "acme"), ("other", tmp_path / "other"), ("broken", "ImportError: no"))
    monkeypatch.setattr(profiles, "installed_folders", lambda: places)
    assert library.device("lamp").gflops == 7
    with pytest.raises(UserError, match=r"claimed by acme .* and other") as error:
        library.device("acme-cam")
    assert error.value.hint == "write acme/acme-cam or other/acme-cam"
    assert library.device("acme/acme-cam").gflops == 7
    with pytest.raises(UserError, match="claimed by aflctl"):
        library.device("jetson-nano")
    assert library.device("aflctl/jetson-nano").gflops == 112
    with pytest.raises(UnknownName) as unknown:
        library.device("lampp")
    assert "'lamp'" in str(unknown.value)
    assert "broken (ImportError: no)" in str(unknown.value)


def test_an_unknown_name_suggests_a_near_one(library: Library) -> None:
    with pytest.raises(UnknownName, match="unknown device profile 'jetson-nanoo'") as error:
        library.device("jetson-nanoo")
    assert "did you mean 'jetson-nano'" in str(error.value)
    assert error.value.exit_code == 2


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("memory_mib: 512\ndense_gflops: -3\n", 2, "dense_gflops: Input should be greater than 0, not -3"),
        ("memory_mib: 512\ndense_gflops:\n  value: fast\n", 2, "dense_gflops: Input should be a valid number"),
        ("dense_gflops: 3\n", 1, "memory_mib: is missing"),
        ("dense_gflops: 3\nmemory_mib: 1\nidle_W: 3\n", 3, "idle_W: unknown field"),
        ("memory_mib: 1\n", 1, "give either dense_gflops, or reference_gflops and relative_time"),
        ("dense_gflops: 3\nmemory_mib: 1\ndense_gflops: 4\n", 3, "dense_gflops: given twice, first on line 1"),
        ("dense_gflops: 3\nmemory_mib: {value: 1, source: x, verified: no}\n", 2, "unknown field"),
        ("dense_gflops: [3\n", 2, "not valid YAML"),
        ("- 3\n", 1, "a mapping"),
        ("", 1, "a mapping"),
    ],
)
def test_mistakes_in_a_file_name_line_and_field(
    tmp_path: Path, library: Library, text: str, line: int, message: str
) -> None:
    (tmp_path / "b.yaml").write_text(text)
    with pytest.raises(ConfigError) as error:
        library.device("./b.yaml")
    assert f"b.yaml:{line}: " in str(error.value)
    assert message in str(error.value)
    assert error.value.exit_code == 2


def test_a_network_has_medians_or_a_range(tmp_path: Path, library: Library) -> None:
    (tmp_path / "n.yaml").write_text("down_mbps: 3\n")
    with pytest.raises(ConfigError, match="give either down_mbps and up_mbps"):
        library.network("./n.yaml")
    (tmp_path / "n.yaml").write_text("uniform_low_mbps: 3\nuniform_high_mbps: 2\n")
    with pytest.raises(ConfigError, match="uniform_low_mbps is above"):
        library.network("./n.yaml")
    with pytest.raises(UserError, match="there is no network profile file"):
        library.network("./absent.yaml")
