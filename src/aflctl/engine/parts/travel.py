"""What travels with a run, so that its directory can be executed anywhere: plug-ins, fleet and partition files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from aflctl.config.schema import Config
from aflctl.errors import UserError
from aflctl.plan import Plan, config_digest
from aflctl.runs.atomic import disk, write_bytes
from aflctl.sim.fleet.portable import pack

PARTITION = "partition"


class Luggage(NamedTuple):
    """The plan of what lies in the run directory, the files that it needs there, and the digest of the fleet."""

    plan: Plan
    files: Mapping[str, bytes]
    fleet: str

    def unpack(self, folder: Path) -> None:
        """Writes the files into a run directory."""
        for name, content in self.files.items():
            with disk(folder / name):
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
            write_bytes(folder / name, content)


def gather(plan: Plan, base: Path) -> Luggage:
    """Reads everything now, because the run directory may be the very place it comes from."""
    packed = pack(plan.fleet, base)
    data = plan.config.model_dump(mode="json")
    config = plan.config
    index = _index_files(plan)
    if packed.files or packed.fleet is not plan.fleet or index:
        data["dataset"]["partition"].update({name: inside for name, (inside, _) in index.items()})
        config = Config.model_validate({**data, "fleet": packed.fleet})
    files = {**packed.files, **dict(index.values())}
    for file in plan.local_files:
        with _readable(file):
            files[f"plugins/{file.name}"] = file.read_bytes()
    moved = replace(plan, config=config, fleet=config.fleet, digest=config_digest(config))
    return Luggage(moved, files, packed.fingerprint)


def _index_files(plan: Plan) -> dict[str, tuple[str, bytes]]:
    """Parameter of the partition -> (where its file lies in a run directory, what is in it)."""
    found: dict[str, tuple[str, bytes]] = {}
    for name in type(plan.partition).model_fields:
        file = getattr(plan.partition, name)
        if isinstance(file, Path) and file.is_file():
            with _readable(file):
                found[name] = (f"{PARTITION}{'' if not found else len(found)}{file.suffix}", file.read_bytes())
    return found


@contextmanager
def _readable(file: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(f"cannot be read: {error.strerror or error}", where=str(file)) from error
