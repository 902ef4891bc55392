"""From the names in a configuration's `fleet` section to profiles, with every problem found at once."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, ParamSpec, Protocol, TypeVar

from pydantic import ValidationError

from aflctl.errors import ConfigError, Problem, UnknownName, UserError, suggest
from aflctl.sim.fleet.profiles import (
    AvailabilityProfile,
    DeviceProfile,
    FleetProfile,
    Found,
    Library,
    NetworkProfile,
    Profile,
    read_profile,
    validation_problems,
)
from aflctl.sim.fleet.roster import Roster, read_roster
from aflctl.sim.fleet.yaml_lines import Lines, read_yaml
from aflctl.sim.world import Policy
from aflctl.sim.world.processes import KINDS, Params

T = TypeVar("T")
A = ParamSpec("A")
P = TypeVar("P", bound=Profile)
SECTIONS = ("devices", "networks", "availability", "offline", "link_mode", "csv")


class Ref(Protocol):
    """A process of availability by name."""

    @property
    def name(self) -> str: ...
    @property
    def params(self) -> dict[str, Any]: ...


class Spec(Protocol):
    """The fields of a configuration's `fleet` section."""

    @property
    def name(self) -> str | None: ...
    @property
    def devices(self) -> dict[str, float]: ...
    @property
    def networks(self) -> dict[str, float]: ...
    @property
    def availability(self) -> Sequence[Ref]: ...
    @property
    def offline(self) -> Policy: ...
    @property
    def link_mode(self) -> str: ...
    @property
    def csv(self) -> str | None: ...
    @property
    def model_fields_set(self) -> set[str]: ...


@dataclass(frozen=True)
class Process:
    """One process of availability, its parameters checked; `base` is where its paths start."""

    kind: str
    params: Params
    base: Path

    @property
    def file(self) -> Path | None:
        """The trace that it follows."""
        path = getattr(self.params, "path", None)
        return None if path is None else below(self.base, path)

    def plain(self) -> list[Any]:
        """Kind and values; a trace's path is not a value, its content is."""
        content = sha256(self.file.read_bytes()).hexdigest() if self.file is not None else ""
        return [self.kind, self.params.model_dump(exclude={"path"}), content]


@dataclass
class Resolved:
    """A fleet with every profile read.

    devices, networks   profile and ratio by name, in the order of the configuration
    others              availability that a file of clients names; `availability` is everybody else's
    found               (kind, reference) -> the file it means; those of `others` under the kind "others"
    voices              section -> who said it
    named               the file of a named fleet
    """

    devices: dict[str, tuple[DeviceProfile, float]] = field(default_factory=dict)
    networks: dict[str, tuple[NetworkProfile, float]] = field(default_factory=dict)
    availability: tuple[Process, ...] = ()
    others: dict[str, tuple[Process, ...]] = field(default_factory=dict)
    offline: Policy = "pause"
    link_mode: str = "constant"
    roster: Roster | None = None
    found: dict[tuple[str, str], Found] = field(default_factory=dict)
    voices: dict[str, Voice] = field(default_factory=dict)
    named: Found | None = None

    @property
    def fingerprint(self) -> str:
        """sha256 over every value that entered, in its order; names, places, sources and summaries aside."""

        def plain(profile: Profile, ratio: float) -> list[Any]:
            return [profile.model_dump(exclude={"sources", "summary", "name"}), ratio]

        content = {
            "devices": [plain(*entry) for entry in self.devices.values()],
            "networks": [plain(*entry) for entry in self.networks.values()],
            "availability": [p.plain() for p in self.availability],
            "others": [[p.plain() for p in all_of] for all_of in self.others.values()],
            "offline": self.offline,
            "link_mode": self.link_mode,
            "roster": None if self.roster is None else self.roster.fingerprint,
        }
        return sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Voice:
    """Who says a section: the configuration, or a fleet file with its lines; relative paths start at `folder`."""

    says: Any
    folder: Path
    file: Path | None = None
    lines: Lines | None = None

    def place(self, section: str, entry: str | int) -> tuple[str, str | None]:
        """(dotted path, file:line) of an entry."""
        if self.file is None or self.lines is None:
            return f"fleet.{section}.{entry}", None
        return f"{section}.{entry}", f"{self.file}:{self.lines.of((section, entry))}"


class _NoCsv:
    csv = None


class _Resolver:
    """Resolves names and collects every problem on the way."""

    def __init__(self, base: Path) -> None:
        self.library, self.problems = Library(base), list[Problem]()
        self.found: dict[tuple[str, str], Found] = {}

    def profile(self, kind: str, ref: str, model: type[P], folder: Path, key: str = "") -> P:
        """The profile that a reference means; which file it is is noted."""
        found = self.found[key or kind, ref] = self.library.find(kind, ref, folder)
        return read_profile(found.path, model)

    def attempt(
        self, place: tuple[str, str | None], work: Callable[A, T], *args: A.args, **kwargs: A.kwargs
    ) -> T | None:
        """What `work` returns, or None and a problem at `place`."""
        path, where = place
        try:
            return work(*args, **kwargs)
        except ConfigError as error:
            self.problems += error.problems
        except UserError as error:
            message = error.message if isinstance(error, UnknownName) else str(error).split("\nhint: ")[0]
            self.problems.append(Problem(path, message, where, error.hint))
        return None

    def process(
        self, ref: str, given: Mapping[str, Any], folder: Path, place: tuple[str, str | None], key: str = ""
    ) -> Process | None:
        """One process, with the parameters given here over those of its profile."""
        profile = self.attempt(place, self.profile, "availability", ref, AvailabilityProfile, folder, key)
        if profile is None:
            return None
        path, where = place
        model = KINDS.get(profile.kind)
        if model is None:
            hint = suggest(profile.kind, KINDS)
            self.problems.append(Problem(path, f"{ref} has an unknown kind {profile.kind!r}", where, hint))
            return None
        params = {k: v for k, v in profile.params.items() if not ("hazard_per_s" in given and k == "probability")}
        try:
            checked = model.model_validate({**params, **given})
        except ValidationError as error:
            for found in validation_problems(error, set(model.model_fields), "", Lines()):
                dotted = f"{path}.{found.path}" if found.path else path
                self.problems.append(Problem(dotted, found.message, where, found.hint))
            return None
        process = Process(profile.kind, checked, folder)
        if process.file is not None and not process.file.is_file():
            hint = "a relative path starts at the folder of the file that names it"
            self.problems.append(Problem(path, f"there is no trace file {process.file}", where, hint))
            return None
        return process

    def fleet_file(self, name: str) -> tuple[FleetProfile, Found, Lines]:
        """A named fleet with its file and lines."""
        found = self.library.find("fleets", name)
        return read_profile(found.path, FleetProfile), found, read_yaml(found.path)[1]


def resolve(fleet: str | Spec, base: Path = Path()) -> Resolved:
    """Reads every profile that a fleet names; paths in a configuration are relative to `base`, its folder.

    Raises ConfigError with all problems: those of the configuration have paths that begin with `fleet` and no place,
    those of files have theirs.
    """
    at, out = _Resolver(base), Resolved()
    own = Voice(fleet, base)
    voices = dict.fromkeys(SECTIONS, own)
    name = fleet if isinstance(fleet, str) else fleet.name
    if name is not None:
        read = at.attempt(("fleet", None), at.fleet_file, name)
        if read is None:
            raise ConfigError(at.problems)
        profile, out.named, lines = read
        file = out.named.path
        said = set() if isinstance(fleet, str) else fleet.model_fields_set
        base_voice = Voice(profile, file.parent, file, lines)
        voices = {s: own if s in said else base_voice for s in SECTIONS}
        if "csv" not in said and said & {"devices", "networks"}:
            voices["csv"] = Voice(_NoCsv, base)

    csv = voices["csv"]
    if csv.says.csv is not None:
        path = below(csv.folder, csv.says.csv)
        out.roster = at.attempt(("fleet.csv", None), read_roster, path)
        if out.roster is not None:
            _classes_of(out.roster, out, at)
    else:
        voice = voices["devices"]
        for ref, ratio in voice.says.devices.items():
            device = at.attempt(voice.place("devices", ref), at.profile, "devices", ref, DeviceProfile, voice.folder)
            if device is not None:
                out.devices[ref] = (device, ratio)
        voice = voices["networks"]
        for ref, ratio in voice.says.networks.items():
            network = at.attempt(
                voice.place("networks", ref), at.profile, "networks", ref, NetworkProfile, voice.folder
            )
            if network is not None:
                out.networks[ref] = (network, ratio)
    voice = voices["availability"]
    found = [
        at.process(ref.name, ref.params, voice.folder, voice.place("availability", i))
        for i, ref in enumerate(voice.says.availability)
    ]
    out.availability = tuple(p for p in found if p is not None)
    out.offline, out.link_mode = voices["offline"].says.offline, voices["link_mode"].says.link_mode
    _check_mode(out, voices["networks"], at)
    if at.problems:
        raise ConfigError(at.problems)
    out.found, out.voices = at.found, voices
    return out


def _classes_of(roster: Roster, out: Resolved, at: _Resolver) -> None:
    """Reads the profiles that a file of clients names; relative paths in it start at its folder."""
    folder = roster.path.parent
    for ref, line in roster.devices.items():
        device = at.attempt(("device", f"{roster.path}:{line}"), at.profile, "devices", ref, DeviceProfile, folder)
        if device is not None:
            out.devices[ref] = (device, 0.0)
    for ref, line in roster.networks.items():
        network = at.attempt(("network", f"{roster.path}:{line}"), at.profile, "networks", ref, NetworkProfile, folder)
        if network is not None:
            out.networks[ref] = (network, 0.0)
    for ref, line in roster.availabilities.items():
        process = at.process(ref, {}, folder, ("availability", f"{roster.path}:{line}"), "others")
        if process is not None:
            out.others[ref] = (process,)


def _check_mode(out: Resolved, voice: Voice, at: _Resolver) -> None:
    """AFL-Lib's mode knows uniform ranges of rates only."""
    if out.link_mode != "afl-lib":
        return
    for ref, (network, _) in out.networks.items():
        if not network.is_uniform:
            path, where = voice.place("networks", ref)
            hint = f"use {ref}-afl" if ref in ("wifi", "lte", "nr") else "use wifi-afl, lte-afl or nr-afl"
            at.problems.append(Problem(path, "link_mode afl-lib needs a uniform range of rates", where, hint))


def below(folder: Path, name: str) -> Path:
    """A file named in `folder`."""
    path = Path(os.path.expanduser(name))
    return path if path.is_absolute() else folder / path
