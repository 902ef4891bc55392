"""What travels with a run, so that its directory can be executed anywhere: local plug-ins, the fleet's own files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from aflctl.config.schema import Config
from aflctl.errors import UserError
from aflctl.plan import Plan, config_digest
from aflctl.runs.atomic import disk, write_bytes
from aflctl.sim.portable import pack


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
    if packed.files or packed.fleet is not plan.fleet:
        config = Config.model_validate({**data, "fleet": packed.fleet})
    files = dict(packed.files)
    for file in plan.local_files:
        try:
            files[f"plugins/{file.name}"] = file.read_bytes()
        except OSError as error:
            raise UserError(f"cannot be read: {error.strerror or error}", where=str(file)) from error
    moved = replace(plan, config=config, fleet=config.fleet, digest=config_digest(config))
    return Luggage(moved, files, packed.fingerprint)
