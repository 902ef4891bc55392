"""A configuration with every choice resolved: objects instead of names, one seed per stream, what identifies it.

Pure: reads no clock and draws nothing; the only files it reads are the plug-ins' sources, for their hashes. No torch.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aflctl import errors, plugins
from aflctl.config.fleet import FleetSpec
from aflctl.config.places import look, refs
from aflctl.config.schema import Config, Seeds

if TYPE_CHECKING:
    from aflctl import api
    from aflctl.config.load import Loaded

NOT_IDENTITY = ("engine", "checkpoint", "track", "name", "tags")
"""Parts of a configuration that do not change what a run computes."""


@dataclass(frozen=True)
class Plan:
    """What a run is made from.

    config            local files in it are named as they lie in a run directory, below `plugins`
    label             what run directories are called before their digest
    personalization   wrappers, innermost first
    fleet             the name of a fleet, or its parts
    seeds             one per stream, none of them None
    base              folder that relative files are looked up in
    digest            sha256 of the configuration as far as it decides the result
    source_hashes     'kind:name' -> sha256 of the plug-in's source
    distributions     distribution -> version, of the plug-ins used
    local_files       the plug-ins that are local files
    """

    config: Config
    label: str
    algorithm: api.Algorithm[Any]
    personalization: tuple[api.Personalization, ...]
    dataset: api.Dataset
    partition: api.Partition
    model: api.Model
    fusion: api.Fusion | None
    selection: api.Selection
    fleet: str | FleetSpec
    seeds: Mapping[str, int]
    base: Path
    digest: str
    source_hashes: Mapping[str, str]
    distributions: Mapping[str, str]
    local_files: tuple[Path, ...]

    @property
    def local(self) -> api.Local:
        return self.config.local


def resolve(loaded: Loaded, registry: plugins.Registry | None = None) -> Plan:
    """The plan of a loaded configuration."""
    registry = registry or plugins.registry()
    config, made = loaded.config, loaded.plugins
    used = [(kind, value["name"]) for _, kind, value in refs(config.model_dump(mode="json"))]
    hashes = {(kind, name): registry.source_hash(kind, name, loaded.base) for kind, name in used}
    objects: dict[str, Any] = {key: located(one, loaded.base) for key, one in made.items()}
    return Plan(
        config=portable(config),
        label=label(config),
        algorithm=objects["algorithm"],
        personalization=tuple(objects[f"personalization.{i}"] for i in range(len(config.personalization))),
        dataset=objects["dataset"],
        partition=objects["dataset.partition"],
        model=objects["model"],
        fusion=objects.get("model.fusion"),
        selection=objects["clients.selection"],
        fleet=config.fleet,
        seeds=seeds(config),
        base=loaded.base,
        digest=config_digest(config),
        source_hashes={f"{kind}:{portable_name(name)}": text for (kind, name), text in hashes.items()},
        distributions=registry.distributions_used(used),
        local_files=_local_files(used, loaded.base),
    )


def located(made: Any, base: Path) -> Any:
    """A plug-in whose relative files are those beside the configuration, else those of the working folder."""
    files = {name: getattr(made, name) for name in type(made).model_fields}
    moved = {
        name: file if not (base / file).exists() and file.exists() else base / file
        for name, file in files.items()
        if isinstance(file, Path) and not file.is_absolute()
    }
    return made.model_copy(update={name: file.resolve() for name, file in moved.items()}) if moved else made


def _local_files(used: Sequence[tuple[str, str]], base: Path) -> tuple[Path, ...]:
    found = {plugins.split_local(name, base)[0].resolve() for _, name in used if plugins.is_local(name)}
    names = [file.name for file in found]
    for file in sorted(found):
        if names.count(file.name) > 1:
            raise errors.UserError(
                f"two local files are called {file.name}, and both would be copied into the run directory",
                hint="rename one of them",
                where=str(file),
            )
    return tuple(sorted(found))


def label(config: Config) -> str:
    """`<name, or algorithm-dataset>-s<seed>`, fit for a folder."""
    text = config.name or f"{_short(config.algorithm.name)}-{_short(config.dataset.name)}"
    return f"{re.sub(r'[^0-9A-Za-z._-]+', '-', text).strip('-.') or 'run'}-s{config.seed}"


def _short(name: str) -> str:
    if plugins.is_local(name):
        file, attr = plugins.split_local(name)
        return attr.lower() or file.stem
    return name.rpartition("/")[2]


def seeds(config: Config) -> dict[str, int]:
    """Stream -> seed; those that are not set are the master seed."""
    return {
        name: config.seed if getattr(config.seeds, name) is None else getattr(config.seeds, name)
        for name in Seeds.model_fields
    }


def portable_name(name: str) -> str:
    """A plug-in's name, a local file as it lies in a run directory: `./plugins/mine.py:FedMine`."""
    if not plugins.is_local(name):
        return name
    file, attr = plugins.split_local(name)
    return f"./plugins/{file.name}:{attr}"


def portable(config: Config) -> Config:
    """The configuration as a run directory holds it, with copies of the local files below `plugins`."""
    data: dict[str, Any] = config.model_dump(mode="json")
    for keys, _, value in refs(data):
        look(data, keys)["name"] = portable_name(value["name"])
    return Config.model_validate(data)


def config_digest(config: Config, *without: str) -> str:
    """sha256 over canonical JSON of a resolved configuration, without NOT_IDENTITY and without folders of local files.

    `without` leaves out more sections: without `stop`, runs that are prefixes of each other have one digest.

    A seed that is given for one stream and equals the master seed is the same as one that is not given. What a local
    file contains is not in here but in `Plan.source_hashes`.
    """
    data = portable(config).model_dump(mode="json", exclude={*NOT_IDENTITY, *without})
    data["seeds"] = seeds(config)
    text = json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()
