"""Profiles: all that we ship are complete and sourced; files of the user's own; names and mistakes."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from aflctl.errors import ConfigError, UnknownName, UserError
from aflctl.sim.fleet import profiles, yaml_lines
from aflctl.sim.fleet.profiles import Library
from aflctl.sim.fleet.resolve import resolve
from aflctl.sim.world.processes import KINDS

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


TEXTS = (
    "a: {b: 1, c: [1,\n 2]}\nd:\n  - x\n  - y: 1\n",
    "a: &x {k: 1}\nb: *x\nc:\n  <<: *x\n  z: 2\n",
    "a: 1_000\nb: 0o17\nc: yes\nd: 1e3\ne: 2020-01-01\n",
    "# first\n\n'a b': |\n  t\n  u\nz: \u00e9\n",
)


def test_the_fast_reader_reads_what_the_other_reads_with_the_same_lines(library: Library) -> None:
    shipped = [
        library.find(kind, name).path.read_text()
        for kind in ("devices", "networks", "availability", "fleets")
        for name in names(library, kind)
    ]
    assert len(shipped) > 40
    for text in (*shipped, *TEXTS):
        (data, lines), (plain, plain_lines) = (
            yaml_lines._composed(text, Path("x.yaml"), reader) for reader in (yaml_lines.FAST, yaml.SafeLoader)
        )
        assert data == plain
        assert lines.at == plain_lines.at


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


# PROFILES 1.8, row by row: GFLOP/s, ms a step, ns a parameter, s of cold start, MiB, W idle, W training, sigma; then
# what the page does not call measured or computed (F = the rate, m = memory, i, t = power idle and training)
BOARDS = {
    "jetson-tx2": (203, 8, 1, 20, 8192, 3, 10, 0.03, "it"),
    "jetson-nano": (112, 10, 2, 49, 4096, 2.35, 6.5, 0.03, ""),
    "raspberry-pi-4": (15.8, 15, 8, 5, 8192, 2.7, 7.2, 0.03, "i"),
    "raspberry-pi-5": (29.6, 8, 4, 3, 8192, 3.3, 12.7, 0.03, "i"),
    "raspberry-pi-3b-plus": (4.5, 30, 15, 8, 1024, 2, 5, 0.05, "Fit"),
    "raspberry-pi-zero-2w": (0.6, 60, 30, 10, 512, 0.7, 2.1, 0.05, "Fi"),
    "orange-pi-5": (45, 6, 3, 3, 8192, 2, 11.5, 0.03, "Fi"),
    "lattepanda-delta-3": (65, 4, 2, 2, 8192, 3.1, 8.5, 0.03, ""),
    "jetson-xavier-nx": (340, 6, 0.8, 15, 8192, 4, 12, 0.03, "Fit"),
    "jetson-orin-nano": (500, 5, 0.6, 10, 8192, 4.9, 7.5, 0.03, "F"),
    "jetson-orin-nx": (750, 4, 0.5, 10, 16384, 5, 18, 0.03, "Fit"),
    "jetson-agx-orin": (2000, 3, 0.3, 8, 65536, 7, 25, 0.03, "Ft"),
    "phone-high": (30, 10, 7, 1, 8192, 0, 2, 0.04, "m"),
    "phone-mid": (14.6, 20, 14, 2, 4096, 0, 2, 0.03, "m"),
    "phone-low": (5.1, 50, 35, 4, 2048, 0, 2, 0.11, "m"),
    "mcu-m7": (0.01, 0, 0, 0, 0.3125, 0.05, 0.4, 0.01, "mit"),
}
COLUMNS = (
    "dense_gflops", "step_overhead_ms", "parameter_overhead_ns", "cold_start_s", "memory_mib", "idle_w", "train_w",
    "jitter_sigma",
)  # fmt: skip
GUESSED = {"F": "dense_gflops", "m": "memory_mib", "i": "idle_w", "t": "train_w"}


@pytest.mark.parametrize("name", list(BOARDS))
def test_the_table_of_devices(library: Library, name: str) -> None:
    device, (*values, guessed) = library.device(name), BOARDS[name]
    assert [getattr(device, column) for column in COLUMNS] == values
    assert {c for c in GUESSED.values() if device.sources[c].unverified} == {GUESSED[g] for g in guessed}
    measured = {"step_overhead_ms", "parameter_overhead_ns"} if name == "phone-high" else set()
    measured |= {"cold_start_s"} if name == "jetson-nano" else set()
    overheads = {"step_overhead_ms", "parameter_overhead_ns", "cold_start_s"}
    assert {c for c in overheads if not device.sources[c].unverified} == measured  # the page: the others are scaled


# PROFILES 2.3: Mbps down and up, their s.d. between clients and over time, ms of round trip and its s.d., AR(1) at 1 s
LINKS = {
    "ethernet": (940, 940, 0, 0, 0, 0.5, 0, 0),
    "wifi": (34.5, 26.3, 0.48, 0.70, 0.37, 10, 0.3, 0.7),
    "wifi-slow": (6.1, 4.3, 1, 1, 0.4, 30, 0.4, 0.7),
    "lte": (117, 31, 0.54, 0.41, 0.3, 30, 0.32, 0.86),
    "lte-mobile": (30, 8, 0.53, 0.53, 1.0, 84, 0.2, 0.86),
    "nr": (118, 72, 0.81, 0.44, 0.4, 23, 0.36, 0.8),
    "nr-low-sa": (40, 39, 0.34, 0.12, 0.2, 37, 0.26, 0.8),
    "nr-mmwave": (944, 77, 0.5, 0.47, 1.6, 22, 0.48, 0.75),
    "nr-global": (166, 21, 0.8, 0.8, 0.5, 28, 0.4, 0.8),
    "lte-m": (0.375, 0.375, 0.3, 0.3, 0.3, 75, 0.3, 0.9),
    "nb-iot": (0.03, 0.06, 0.3, 0.3, 0.3, 1600, 0.5, 0.9),
}


@pytest.mark.parametrize("name", list(LINKS))
def test_the_table_of_links(library: Library, name: str) -> None:
    link = library.network(name)
    columns = (
        "down_mbps", "up_mbps", "down_sigma", "up_sigma", "within_sigma", "rtt_ms", "rtt_sigma", "autocorrelation_1s",
    )  # fmt: skip
    assert tuple(getattr(link, column) for column in columns) == LINKS[name]


def test_the_ranges_of_afl_lib_and_the_power_of_radios(library: Library) -> None:
    ranges = {"wifi-afl": (150, 600), "lte-afl": (20, 100), "nr-afl": (50, 1000)}
    for name, both in ranges.items():
        assert (library.network(name).uniform_low_mbps, library.network(name).uniform_high_mbps) == both
    # PROFILES 2.4, less the baseline of 2.35 W: W and W per Mbps, down and up
    radios = {
        "lte": (2.84, 0.0115, 2.93, 0.0767),
        "nr": (3.06, 0.0115, 3.20, 0.0322),
        "nr-mmwave": (5.24, 0.0017, 5.66, 0.0089),
    }
    for name, (down, per_down, up, per_up) in radios.items():
        link = library.network(name)
        assert (link.radio_down_w, link.radio_up_w) == (pytest.approx(down - 2.35), pytest.approx(up - 2.35))
        assert (link.radio_down_w_per_mbps, link.radio_up_w_per_mbps) == (per_down, per_up)


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
