"""The checks of profiles: a file, or a folder with devices, networks, availability and fleets."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from aflctl.errors import AflctlError, ConfigError
from aflctl.sim.fleet import build_world
from aflctl.sim.fleet.profiles import FOLDERS, MODELS, Library, Profile, read_profile
from aflctl.sim.fleet.resolve import resolve
from aflctl.sim.world.processes import KINDS
from aflctl.testing.results import Body, Failed, Skipped

CLIENTS = 20


@dataclass
class Bench:
    """A folder of profiles, or the one file in it that is asked about."""

    folder: Path
    only: Path | None = None

    @cached_property
    def files(self) -> list[tuple[str, Path]]:
        """(kind, file) of each profile."""
        if self.only is not None:
            return [(_kind_of(self.only), self.only)]
        found = [(kind, path) for kind in FOLDERS for path in sorted((self.folder / kind).glob("*.y*ml"))]
        if not found:
            raise Failed(f"no YAML file in {', '.join(FOLDERS)} below {self.folder}")
        return found

    def read(self) -> Iterator[tuple[str, Path, Profile]]:
        """Those that can be read."""
        for kind, path in self.files:
            try:
                yield kind, path, read_profile(path, MODELS[kind])
            except AflctlError:
                continue


def _kind_of(path: Path) -> str:
    """By the folder that a file lies in, else by what fits."""
    if path.parent.name in FOLDERS:
        return path.parent.name
    for kind in FOLDERS:
        try:
            read_profile(path, MODELS[kind])
        except AflctlError:
            continue
        return kind
    return FOLDERS[0]


def reads(bench: Bench) -> None:
    """Every value is known, in its unit and within its range."""
    problems: list[str] = []
    for kind, path in bench.files:
        try:
            read_profile(path, MODELS[kind])
        except ConfigError as error:
            problems += [str(p).replace("\n", " ") for p in error.problems]
        except AflctlError as error:
            problems.append(str(error).replace("\n", " "))
    if problems:
        raise Failed("; ".join(problems[:6]))


def sourced(bench: Bench) -> None:
    """Every file says in a line what it is, and every number where it comes from."""
    missing: list[str] = []
    for kind, path, profile in bench.read():
        if not profile.summary:
            missing.append(f"{path.name} has no summary")
        if kind in ("devices", "networks"):
            values = profile.model_fields_set - {"name", "summary", "sources"}
            missing += [
                f"{path.name}: {name} has no source"
                for name in sorted(values)
                if not (name in profile.sources and profile.sources[name].source)
            ]
    if missing:
        raise Failed("; ".join(missing[:6]))


def works(bench: Bench) -> None:
    """A fleet can be made of it: of devices with links, of availability, of named fleets."""
    done = 0
    for kind, path, profile in bench.read():
        ref, folder = str(path.resolve()), path.resolve().parent
        try:
            if kind == "availability":
                _availability(profile, ref, folder)
            else:
                spec = ref if kind == "fleets" else _Spec(**{kind: {ref: 1.0}})
                if kind == "fleets" and profile.csv is not None:  # type: ignore[attr-defined]
                    resolve(spec, folder)
                else:
                    build_world(spec, CLIENTS, 0, folder)
        except AflctlError as error:
            raise Failed(f"{path.name}: {error}".replace("\n", " ")) from error
        done += 1
    if not done:
        raise Skipped("nothing could be read, see `reads`")


def _availability(profile: Any, ref: str, folder: Path) -> None:
    if profile.kind not in KINDS:
        raise Failed(f"{Path(ref).name}: unknown kind {profile.kind!r}; known: {', '.join(sorted(KINDS))}")
    if profile.kind != "trace":  # wants the path of a file that its user has
        build_world(_Spec(availability=({"name": ref, "params": {}},)), CLIENTS, 0, folder)


class _Spec:
    """A fleet of shipped profiles but for one."""

    name = csv = None
    offline: Any = "pause"
    link_mode = "constant"
    model_fields_set: set[str]

    def __init__(self, **said: Any) -> None:
        self.devices = said.get("devices", {"jetson-nano": 1.0})
        self.networks = said.get("networks", {"wifi": 1.0})
        self.availability = [_Ref(**ref) for ref in said.get("availability", ({"name": "always", "params": {}},))]
        self.model_fields_set = {"devices", "networks", "availability"}


@dataclass(frozen=True)
class _Ref:
    name: str
    params: dict[str, Any]


def names(bench: Bench) -> None:
    """Names are in kebab-case, and none is aflctl's own."""
    library = Library(bench.folder)
    ours = {(kind, e.name) for kind in FOLDERS for e in library.entries(kind) if e.owner == "aflctl"}
    own = Path(__file__).resolve().parents[1]
    wrong = []
    for kind, path in bench.files:
        if path.stem != path.stem.lower() or "_" in path.stem or " " in path.stem:
            wrong.append(f"{path.stem!r} is not in kebab-case")
        shipped = own in path.resolve().parents or path.resolve().parents[1].name == "profiles"
        if (kind, path.stem) in ours and not shipped:
            wrong.append(f"{path.stem!r} is the name of a profile of aflctl")
    if wrong:
        raise Failed("; ".join(wrong))


CHECKS: dict[str, Body] = {"reads": reads, "sourced": sourced, "works": works, "names": names}
