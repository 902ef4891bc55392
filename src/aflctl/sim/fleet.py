"""From a fleet in few lines to a `World`: every name resolved, every client given a device, a link and its own factors.

Ratios become counts by largest remainder. Which client gets which class is a seeded shuffle: clients are ranked by a hash
of (seed, purpose, client), and the ranks are cut at the counts. One client more therefore changes the class of a few
clients at the cuts, and of nobody where there is one class or a file of clients; all other draws of a client (jitter,
rates, availability, delays, failures) are keyed by the client alone and never change.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from math import exp, floor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from pydantic import ValidationError

from aflctl.errors import ConfigError, Problem, UnknownName, UserError, suggest
from aflctl.sim.availability import Availability
from aflctl.sim.compute import Device
from aflctl.sim.link import K_RTT, MIB, RATE_CORRELATION, Link
from aflctl.sim.processes import KINDS, Params, Parts
from aflctl.sim.profiles import DeviceProfile, Library, NetworkProfile, Profile, validation_problems
from aflctl.sim.roster import Roster, read_roster
from aflctl.sim.streams import folds, key, normal_of, sequence, uniform_of
from aflctl.sim.world import Clients, Policy, World
from aflctl.sim.yaml_lines import Lines, read_yaml

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

T = TypeVar("T")


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


@dataclass
class Resolved:
    """A fleet with every profile read. `files` are the files that entered, own profiles and traces included."""

    devices: dict[str, tuple[DeviceProfile, float]] = field(default_factory=dict)
    networks: dict[str, tuple[NetworkProfile, float]] = field(default_factory=dict)
    availability: tuple[Process, ...] = ()
    others: dict[str, tuple[Process, ...]] = field(default_factory=dict)
    offline: Policy = "pause"
    link_mode: str = "constant"
    roster: Roster | None = None
    files: list[Path] = field(default_factory=list)

    @property
    def fingerprint(self) -> str:
        """sha256 over every value that entered, sources and summaries aside."""

        def plain(profile: Profile) -> dict[str, Any]:
            return profile.model_dump(exclude={"sources", "summary", "name"})

        def listed(processes: Sequence[Process]) -> list[Any]:
            return [[p.kind, p.params.model_dump(exclude={"path"})] for p in processes]

        content = {
            "devices": {n: [plain(p), r] for n, (p, r) in self.devices.items()},
            "networks": {n: [plain(p), r] for n, (p, r) in self.networks.items()},
            "availability": listed(self.availability),
            "others": {n: listed(p) for n, p in self.others.items()},
            "offline": self.offline,
            "link_mode": self.link_mode,
            "files": [sha256(p.read_bytes()).hexdigest() for p in self.files if p.suffix not in (".yaml", ".yml")],
        }
        return sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


@dataclass
class _Resolver:
    """Resolves names and collects every problem on the way."""

    library: Library
    problems: list[Problem] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)

    def attempt(self, path: str, where: str | None, work: Callable[[], T]) -> T | None:
        """The result, or None and a problem at `path`."""
        try:
            return work()
        except ConfigError as error:
            self.problems += error.problems
        except UnknownName as error:
            self.problems.append(Problem(path, error.message, where, error.hint))
        except UserError as error:
            self.problems.append(Problem(path, error.message, error.where or where, error.hint))
        return None

    def process(self, ref: str, params: Mapping[str, Any], base: Path, path: str, where: str | None) -> Process | None:
        """One process with its parameters over the profile's."""
        profile = self.attempt(path, where, lambda: self.library.availability(ref, base))
        if profile is None:
            return None
        if profile.kind not in KINDS:
            self.problems.append(
                Problem(path, f"unknown kind of availability {profile.kind!r}", where, suggest(profile.kind, KINDS))
            )
            return None
        model = KINDS[profile.kind]
        given = dict(profile.params)
        if profile.kind == "task-failure" and "hazard_per_s" in params:
            given.pop("probability", None)
        try:
            checked = model.model_validate({**given, **params})
        except ValidationError as error:
            for found in validation_problems(error, set(model.model_fields), "", Lines()):
                field_path = ".".join(p for p in (path, found.path) if p)
                self.problems.append(Problem(field_path, found.message, where, found.hint))
            return None
        source = getattr(checked, "path", None)
        if source is not None:
            file = Path(source).expanduser()
            self.files.append(file if file.is_absolute() else base / file)
        return Process(profile.kind, checked, base)


def resolve(fleet: str | Spec, base: Path = Path()) -> Resolved:
    """Reads every profile that a fleet names; paths in a configuration are relative to `base`, its folder.

    Raises ConfigError with all problems; their paths begin with `fleet`, or are those of a fleet file with its lines.
    """
    library = Library(base)
    at = _Resolver(library)
    out = Resolved()
    name = fleet if isinstance(fleet, str) else fleet.name
    spec: Spec | None = None if isinstance(fleet, str) else fleet
    said = set() if spec is None else (spec.model_fields_set if name is not None else {"devices", "networks", "availability", "offline", "link_mode", "csv"})  # fmt: skip
    home, lines, file = base, None, None
    profile = None
    if name is not None:
        found = at.attempt("fleet", None, lambda: library.find("fleets", name))
        profile = None if found is None else at.attempt("fleet", None, lambda: library.fleet(name))
        if found is None or profile is None:
            raise ConfigError(at.problems)
        file, home, lines = found.path, found.path.parent, read_yaml(found.path)[1]
        at.files.append(found.path)

    def of(section: str) -> tuple[Any, Path, Callable[[str | int], tuple[str, str | None]]]:
        """(value, folder of its paths, (path, where) of one of its keys) from whoever says it."""
        if section in said or profile is None:
            return getattr(spec, section), base, lambda k: (f"fleet.{section}.{k}", None)
        return (
            getattr(profile, section), home,
            lambda k: (f"{section}.{k}", None if lines is None else f"{file}:{lines.of((section, k))}"),
        )  # fmt: skip

    csv_path, csv_home, _ = of("csv")
    if "csv" not in said and said & {"devices", "networks"}:
        csv_path = None
    if csv_path is not None:
        path = Path(csv_path).expanduser()
        path = path if path.is_absolute() else csv_home / path
        out.roster = at.attempt("fleet.csv", None, lambda: read_roster(path))
        at.files.append(path)
        if out.roster is not None:
            _resolve_roster(out, out.roster, at, path.parent)
    else:
        for kind, into, read in (("devices", out.devices, library.device), ("networks", out.networks, library.network)):
            ratios, folder, place = of(kind)
            for ref, ratio in ratios.items():
                got = at.attempt(*place(ref), lambda read=read, ref=ref, folder=folder: read(ref, folder))  # type: ignore[misc]
                if got is not None:
                    into[ref] = (got, ratio)  # type: ignore[index]
    refs, folder, place = of("availability")
    got_all = [at.process(r.name, r.params, folder, *place(i)) for i, r in enumerate(refs)]
    out.availability = tuple(p for p in got_all if p is not None)
    out.offline, out.link_mode = of("offline")[0], of("link_mode")[0]
    if out.link_mode == "afl-lib":
        for ref, (network, _) in out.networks.items():
            if not network.is_uniform:
                hint = f"use {ref}-afl" if ref in ("wifi", "lte", "nr") else "use wifi-afl, lte-afl or nr-afl"
                at.problems.append(Problem(f"fleet.networks.{ref}", "link_mode afl-lib needs a network with a uniform range of rates", None, hint))  # fmt: skip
    out.files = at.files
    if at.problems:
        raise ConfigError(at.problems)
    return out


def _resolve_roster(out: Resolved, roster: Roster, at: _Resolver, base: Path) -> None:
    """The classes that a file of clients names."""
    for ref, line in roster.devices.items():
        got = at.attempt("device", f"{roster.path}:{line}", lambda ref=ref: at.library.device(ref, base))  # type: ignore[misc]
        if got is not None:
            out.devices[ref] = (got, 0.0)
    for ref, line in roster.networks.items():
        link = at.attempt("network", f"{roster.path}:{line}", lambda ref=ref: at.library.network(ref, base))  # type: ignore[misc]
        if link is not None:
            out.networks[ref] = (link, 0.0)
    for ref, line in roster.availabilities.items():
        process = at.process(ref, {}, base, "availability", f"{roster.path}:{line}")
        if process is not None:
            out.others[ref] = (process,)


def build_world(fleet: str | Spec | Resolved, clients: int, seed: int, base_folder: Path = Path()) -> World:
    """The world of a configuration's fleet. Raises ConfigError with all problems of the fleet's names and files."""
    import numpy as np

    plan = fleet if isinstance(fleet, Resolved) else resolve(fleet, base_folder)
    if max(len(plan.devices), len(plan.networks), len(plan.others) + 1) > 256:
        raise UserError("a fleet has at most 256 classes of devices, of networks and of availability")
    devices = [Device(profile, name) for name, (profile, _) in plan.devices.items()]
    links = [Link(profile, name) for name, (profile, _) in plan.networks.items()]
    which = samples = None
    if plan.roster is not None:
        plan.roster.check_count(clients)
        device, link = plan.roster.device, plan.roster.network
        which, samples = plan.roster.availability, plan.roster.samples
    else:
        device = assign([r for _, r in plan.devices.values()], clients, key(seed, "device"))
        link = assign([r for _, r in plan.networks.values()], clients, key(seed, "network"))
    down, up, latency = _rates(links, link, clients, seed)
    kinds = [plan.availability, *plan.others.values()]
    availabilities = [_availability(processes, seed) for processes in kinds]
    return World(
        seed, devices, links, availabilities,
        Clients(device, link, down, up, latency, which, None if samples is None else np.asarray(samples, np.int64)),
        offline=plan.offline, varying=plan.link_mode == "varying", fingerprint=plan.fingerprint,
    )  # fmt: skip


def _availability(processes: Sequence[Process], seed: int) -> Availability:
    """Processes of one kind are numbered, so that one more of another kind changes no draw."""
    parts, seen = Parts(), dict[str, int]()
    for p in processes:
        number = seen[p.kind] = seen.get(p.kind, 0) + 1
        p.params.add(parts, key(seed, "availability", p.kind, number), p.base)
    return Availability(parts.processes, parts.delays, parts.failures)


def counts(ratios: Sequence[float], clients: int) -> list[int]:
    """Clients of each class by largest remainder; ties go to the class named first."""
    total = sum(ratios)
    quotas = [clients * r / total for r in ratios]
    whole = [floor(q + 1e-9) for q in quotas]
    order = sorted(range(len(ratios)), key=lambda i: (-round(quotas[i] - whole[i], 9), i))
    for i in order[: clients - sum(whole)]:
        whole[i] += 1
    return whole


def assign(ratios: Sequence[float], clients: int, k: int) -> NDArray[np.uint8]:
    """[clients] class of each client: the counts by largest remainder, dealt out in the order of a hash of the client."""
    import numpy as np

    if len(ratios) == 1:
        return np.zeros(clients, np.uint8)
    out = np.empty(clients, np.uint8)
    out[np.argsort(sequence(k, clients), kind="stable")] = np.repeat(
        np.arange(len(ratios), dtype=np.uint8), counts(ratios, clients)
    )
    return out


def _rates(
    links: Sequence[Link], link: NDArray[np.uint8], clients: int, seed: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """[clients] ns per byte down and up, and latency of a transfer in ns; one set of normal draws per client."""
    import numpy as np

    down, up, latency = np.empty(clients), np.empty(clients), np.empty(clients)
    for i, of in enumerate(links):
        mine = np.flatnonzero(link == i)
        if of.uniform_mbps is not None:
            low, high = of.uniform_mbps
            mbps = low + (high - low) * uniform_of(folds(key(seed, "rate"), mine))
            down[mine] = up[mine] = 8e9 / (MIB * mbps)
            latency[mine] = 0.0
            continue
        first = normal_of(folds(key(seed, "rate", "down"), mine))
        second = normal_of(folds(key(seed, "rate", "up"), mine))
        both = RATE_CORRELATION * first + (1.0 - RATE_CORRELATION**2) ** 0.5 * second
        down[mine] = _times_exp(of.ns_per_byte_down, -of.down_sigma * first)
        up[mine] = _times_exp(of.ns_per_byte_up, -of.up_sigma * both)
        latency[mine] = _times_exp(K_RTT * of.rtt_ns, of.rtt_sigma * normal_of(folds(key(seed, "rtt"), mine)))
    return down, up, latency


def _times_exp(scale: float, exponent: NDArray[np.float64]) -> NDArray[np.float64]:
    """scale * exp(exponent) by `math.exp`, whose last bit does not depend on an element's position as numpy's may."""
    import numpy as np

    return scale * np.fromiter(map(exp, exponent.tolist()), np.float64, len(exponent))
