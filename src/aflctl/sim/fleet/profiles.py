"""Finds profile files and reads them into checked values; every value keeps its source.

A profile is a YAML file; each of its values is a mapping `{value, source, unverified}` or, in files of your own, a bare
number. Units are part of the field names. Where a name is looked for, the first match wins:

    1. `<folder of the configuration>/profiles/<kind>/NAME.yaml`; or the file itself, for names like `./my-board.yaml`
    2. the folders of the environment variable AFLCTL_PROFILES
    3. the profiles that come with aflctl
    4. packages that announce themselves in the entry-point group `aflctl.profiles`; the entry's value is a package with
       the folders devices, networks, availability and fleets. A name that two of these (or one and aflctl itself) claim
       is refused unless it is written `distribution/NAME`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from aflctl.errors import ConfigError, PluginBroken, Problem, UnknownName, UserError, suggest
from aflctl.sim.fleet.yaml_lines import Lines, read_yaml

FOLDERS = ("devices", "networks", "availability", "fleets")
SINGULAR = {
    "devices": "device profile",
    "networks": "network profile",
    "availability": "availability",
    "fleets": "fleet",
}
GROUP = "aflctl.profiles"

Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]


class Source(BaseModel):
    """Where a value comes from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str = ""
    unverified: bool = False


class Profile(BaseModel):
    """What all profiles have. `sources` maps field names to where their values come from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    summary: str = ""
    sources: dict[str, Source] = Field(default_factory=dict)


class DeviceProfile(Profile):
    """A class of devices, for the compute and energy model.

    dense_gflops              achieved training rate on dense layers; or `reference_gflops` over `relative_time`
    step_overhead_ms          per optimizer step, whatever its size
    parameter_overhead_ns     per parameter and step (the weight update)
    cold_start_s              once per client process
    memory_mib, usable_memory_share   RAM in MiB, and how much of it training may fill
    idle_w, train_w, radio_w  power when waiting, when training, and what a busy radio adds to idle
    jitter_sigma              s.d. of the logarithm of a task's compute time; its mean is unchanged
    attention_, depthwise_, rnn_factor   achieved rate of a layer family over that of dense layers
    """

    dense_gflops: Positive | None = None
    reference_gflops: Positive | None = None
    relative_time: Positive | None = None
    step_overhead_ms: NotNegative = 0.0
    parameter_overhead_ns: NotNegative = 0.0
    cold_start_s: NotNegative = 0.0
    memory_mib: Positive
    usable_memory_share: Annotated[float, Field(gt=0, le=1)] = 0.5
    idle_w: NotNegative = 0.0
    train_w: NotNegative = 0.0
    radio_w: NotNegative = 0.0
    jitter_sigma: NotNegative = 0.0
    attention_factor: Positive = 1.3
    depthwise_factor: Positive = 0.15
    rnn_factor: Positive = 0.3

    @model_validator(mode="after")
    def _one_rate(self) -> DeviceProfile:
        relative = self.reference_gflops is not None and self.relative_time is not None
        if relative == (self.dense_gflops is not None):
            raise ValueError("give either dense_gflops, or reference_gflops and relative_time")
        return self

    @property
    def gflops(self) -> float:
        """Achieved training rate on dense layers."""
        if self.dense_gflops is not None:
            return self.dense_gflops
        return (self.reference_gflops or 0.0) / (self.relative_time or 1.0)


class NetworkProfile(Profile):
    """A class of links.

    down_mbps, up_mbps            medians over clients; 1 Mbps = 10^6 bit/s
    down_sigma, up_sigma          s.d. between clients of the logarithm of the rate
    within_sigma                  s.d. over time of the logarithm of one client's rate (mode `varying`)
    autocorrelation_1s            of that logarithm, one second apart
    rtt_ms, rtt_sigma             round trip: median over clients, s.d. of its logarithm
    uniform_low_mbps, uniform_high_mbps   AFL-Lib's form instead of all of the above
    radio_down_w, radio_down_w_per_mbps, radio_up_w, radio_up_w_per_mbps   what the radio adds to the device's idle
                                  power; without them the device's own `radio_w` holds
    """

    down_mbps: Positive | None = None
    up_mbps: Positive | None = None
    down_sigma: NotNegative = 0.0
    up_sigma: NotNegative = 0.0
    within_sigma: NotNegative = 0.0
    autocorrelation_1s: Annotated[float, Field(ge=0, lt=1)] = 0.0
    rtt_ms: NotNegative = 0.0
    rtt_sigma: NotNegative = 0.0
    uniform_low_mbps: Positive | None = None
    uniform_high_mbps: Positive | None = None
    radio_down_w: NotNegative | None = None
    radio_down_w_per_mbps: NotNegative = 0.0
    radio_up_w: NotNegative | None = None
    radio_up_w_per_mbps: NotNegative = 0.0

    @model_validator(mode="after")
    def _one_form(self) -> NetworkProfile:
        medians = self.down_mbps is not None and self.up_mbps is not None
        if medians == self.is_uniform:
            raise ValueError("give either down_mbps and up_mbps, or uniform_low_mbps and uniform_high_mbps")
        if self.is_uniform and (self.uniform_low_mbps or 0) > (self.uniform_high_mbps or 0):
            raise ValueError("uniform_low_mbps is above uniform_high_mbps")
        return self

    @property
    def is_uniform(self) -> bool:
        """AFL-Lib's form."""
        return self.uniform_low_mbps is not None and self.uniform_high_mbps is not None


class AvailabilityProfile(Profile):
    """A process of availability: its kind, and the parameters that the kind takes."""

    kind: str
    params: dict[str, Any] = Field(default_factory=dict)


class AvailabilityName(BaseModel):
    """A process as a fleet file names it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    params: dict[str, Any] = Field(default_factory=dict)


class FleetProfile(Profile):
    """A named fleet: what the `fleet` section of a configuration may say, in a file of its own."""

    source: str = ""
    devices: dict[str, NotNegative] = Field(default_factory=dict)
    networks: dict[str, NotNegative] = Field(default_factory=dict)
    availability: tuple[AvailabilityName, ...] = (AvailabilityName(name="always"),)
    offline: Literal["abort", "pause", "offline-compute"] = "pause"
    link_mode: Literal["constant", "varying", "afl-lib"] = "constant"
    csv: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _short_forms(cls, data: Any) -> Any:
        """A bare name, or a list, or the parameters beside the name."""
        if not isinstance(data, dict) or "availability" not in data:
            return data
        given = data["availability"]
        many = given if isinstance(given, list | tuple) else [given]
        named = [
            {"name": a} if isinstance(a, str)
            else {"name": a["name"], "params": {k: v for k, v in a.items() if k != "name"}}
            if isinstance(a, dict) and "name" in a and "params" not in a
            else a
            for a in many
        ]  # fmt: skip
        return {**data, "availability": named}

    @model_validator(mode="after")
    def _shares(self) -> FleetProfile:
        for kind in ("devices", "networks"):
            ratios = getattr(self, kind)
            if self.csv is None and not sum(ratios.values()) > 0:
                raise ValueError(f"{kind}: the ratios sum to zero; give at least one a positive share")
        return self


P = TypeVar("P", bound=Profile)
MODELS: dict[str, type[Profile]] = {
    "devices": DeviceProfile, "networks": NetworkProfile, "availability": AvailabilityProfile, "fleets": FleetProfile,
}  # fmt: skip


@dataclass(frozen=True)
class Found:
    """A profile file: who ships it (`folder`, `AFLCTL_PROFILES`, `aflctl`, or a distribution), and its digest."""

    name: str
    path: Path
    owner: str

    @property
    def digest(self) -> str:
        """sha256 of the file."""
        return sha256(self.path.read_bytes()).hexdigest()


def is_path(ref: str) -> bool:
    """Whether a reference is a file of the user's rather than a name."""
    return ref.startswith(("./", "../", "/", "~")) or ref.endswith((".yaml", ".yml"))


def own_folder() -> Path:
    """The profiles that come with aflctl: in the installed package, or in the checkout of an editable install."""
    package = Path(__file__).resolve().parents[2]
    for folder in (package / "profiles", package.parent.parent / "profiles"):
        if (folder / "devices").is_dir():
            return folder
    raise PluginBroken("the profiles that belong to aflctl are missing", hint="install aflctl again")


@dataclass
class Library:
    """Finds and reads profiles for configurations that lie in `base`. Files are read once."""

    base: Path = field(default_factory=Path)
    broken: dict[str, str] = field(default_factory=dict)

    def shelves(self) -> Iterator[tuple[str, Path, int]]:
        """(owner, folder, rank) of every place; places of the lowest rank that knows a name hold it."""
        yield "folder", self.base / "profiles", 0
        for i, place in enumerate(p for p in os.environ.get("AFLCTL_PROFILES", "").split(os.pathsep) if p):
            yield "AFLCTL_PROFILES", Path(os.path.expanduser(place)), i + 1
        yield "aflctl", own_folder(), 1_000_000
        for owner, folder in installed_folders():
            if isinstance(folder, Path):
                yield owner, folder, 1_000_000
            else:
                self.broken[owner] = folder

    def entries(self, kind: str) -> list[Found]:
        """All profiles of a kind by name; of several with one name, those that may be meant."""
        best: dict[str, tuple[int, list[Found]]] = {}
        for owner, folder, rank in self.shelves():
            for path in sorted((folder / kind).glob("*.y*ml")):
                name = path.stem
                known = best.get(name)
                if known is None or rank < known[0]:
                    best[name] = (rank, [Found(name, path, owner)])
                elif rank == known[0]:
                    known[1].append(Found(name, path, owner))
        return [found for name in sorted(best) for found in best[name][1]]

    def find(self, kind: str, ref: str, base: Path | None = None) -> Found:
        """The file that `ref` means; a relative path is relative to `base`. Raises UnknownName or UserError."""
        if is_path(ref):
            path = Path(os.path.expanduser(ref))
            path = path if path.is_absolute() else (base or self.base) / path
            if not path.is_file():
                raise UserError(f"there is no {SINGULAR[kind]} file {ref!r}", where=str(path))
            return Found(path.stem, path, "folder")
        owner, _, name = ref.rpartition("/")
        entries = self.entries(kind)
        found = [e for e in entries if e.name == name and owner in ("", e.owner)]
        if len(found) == 1:
            return found[0]
        if found:
            claims = " and ".join(f"{e.owner} ({e.path})" for e in found)
            raise UserError(
                f"{SINGULAR[kind]} {name!r} is claimed by {claims}",
                hint="write " + " or ".join(f"{e.owner}/{name}" for e in found),
            )
        known = {e.name for e in entries}
        hint = suggest(ref, known)
        if self.broken:
            hint += "; these packages of profiles do not load: " + ", ".join(
                f"{k} ({v})" for k, v in self.broken.items()
            )
        raise UnknownName(SINGULAR[kind], ref, known, hint=hint)

    def device(self, ref: str, base: Path | None = None) -> DeviceProfile:
        """A device profile."""
        return self._read("devices", ref, DeviceProfile, base)

    def network(self, ref: str, base: Path | None = None) -> NetworkProfile:
        """A network profile."""
        return self._read("networks", ref, NetworkProfile, base)

    def availability(self, ref: str, base: Path | None = None) -> AvailabilityProfile:
        """A process of availability."""
        return self._read("availability", ref, AvailabilityProfile, base)

    def fleet(self, ref: str, base: Path | None = None) -> FleetProfile:
        """A named fleet."""
        return self._read("fleets", ref, FleetProfile, base)

    def _read(self, kind: str, ref: str, model: type[P], base: Path | None) -> P:
        return read_profile(self.find(kind, ref, base).path, model)


@lru_cache(maxsize=1)
def installed_folders() -> tuple[tuple[str, Path | str], ...]:
    """(distribution, folder or what is wrong) of each entry of the group; one that fails to load harms no other."""
    from importlib.metadata import entry_points
    from importlib.util import find_spec

    places: list[tuple[str, Path | str]] = []
    for entry in entry_points(group=GROUP):
        owner = entry.dist.name if entry.dist is not None else entry.name
        try:
            spec = find_spec(entry.value)
        except (Exception, SystemExit) as why:  # a stranger's package may raise anything
            places.append((owner, f"{type(why).__name__}: {why}"))
            continue
        folders = list(spec.submodule_search_locations or ()) if spec is not None else []
        places.append((owner, Path(folders[0]) if folders else f"{entry.value} is not an installed package"))
    return tuple(places)


def read_profile(path: Path, model: type[P]) -> P:
    """One file, checked. Raises ConfigError with file, line and field of every problem."""
    data, lines = read_yaml(path)
    values, sources = _split(data)
    own = set(model.model_fields)
    if model is AvailabilityProfile:
        params = {k: v for k, v in values.items() if k not in own}
        values = {**{k: v for k, v in values.items() if k in own}, "params": params}
    try:
        return model.model_validate({"name": path.stem, **values, "sources": sources})
    except ValidationError as error:
        raise ConfigError(validation_problems(error, own, str(path), lines)) from None


def _split(data: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """(bare values, sources) of a file's mapping."""
    values, sources = {}, {}
    for name, given in data.items():
        if isinstance(given, dict) and "value" in given:
            values[name] = given["value"]
            sources[name] = {k: v for k, v in given.items() if k != "value"}
        else:
            values[name] = given
    return values, sources


def validation_problems(error: ValidationError, known: set[str], file: str, lines: Lines) -> list[Problem]:
    """pydantic's findings as problems with file and line."""
    problems = []
    for e in error.errors():
        loc = tuple(p for p in e["loc"] if not (isinstance(p, str) and "[" in p))
        loc = loc[1:] if loc[:1] == ("sources",) else loc
        message = e["msg"].removeprefix("Value error, ")
        hint = None
        if e["type"] == "extra_forbidden":
            message, hint = "unknown field", suggest(str(loc[-1]), known - {"sources", "params"})
        elif e["type"] == "missing":
            message = "is missing"
        elif e["type"] != "value_error":
            message += f", not {e['input']!r}"
        problems.append(Problem(".".join(map(str, loc)), message, f"{file}:{lines.of(loc)}", hint))
    return problems
