"""A fleet as it travels with a run: the user's own files in one folder, every reference a plain name."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import yaml

from aflctl.sim.fleet.profiles import Found
from aflctl.sim.fleet.resolve import SECTIONS, Process, Resolved, Spec, resolve

FOLDER = "profiles"
"""Where a run directory keeps them: the first place in which a configuration's names are looked up."""

_ROSTER_COLUMNS = {"device": "devices", "network": "networks", "availability": "others"}


@dataclass(frozen=True)
class Portable:
    """What the configuration says of the fleet, the files it needs below the run directory, and the digest of it all.

    Packing what was packed gives the same again.
    """

    fleet: Any
    files: Mapping[str, bytes]
    fingerprint: str


def pack(fleet: str | Spec, base: Path = Path()) -> Portable:
    """The fleet of a configuration in `base`, freed from it; a fleet without files of the user's own stays as it is."""
    plan = resolve(fleet, base)
    packer = _Packer(plan)
    said = packer.said(fleet)
    return Portable(said if packer.files or packer.own(plan.named) else fleet, packer.files, plan.fingerprint)


@dataclass
class _Packer:
    plan: Resolved
    files: dict[str, bytes] = field(default_factory=dict)
    owners: dict[str, Any] = field(default_factory=dict)

    @staticmethod
    def own(found: Found | None) -> bool:
        """Whether a file is the user's, not aflctl's and not an installed package's."""
        return found is not None and found.owner in ("folder", "AFLCTL_PROFILES")

    def said(self, fleet: str | Spec) -> Any:
        """The `fleet` section with plain names."""
        plan, name = self.plan, fleet if isinstance(fleet, str) else fleet.name
        whole = name is None or self.own(plan.named)
        sections = [s for s in SECTIONS if whole or (not isinstance(fleet, str) and s in fleet.model_fields_set)]
        made = dict(self.sections(sections))
        if whole:
            return made
        return {"name": name, **made} if made else name

    def sections(self, wanted: list[str]) -> Iterator[tuple[str, Any]]:
        plan = self.plan
        for section in wanted:
            if section in ("devices", "networks"):
                of = {} if plan.roster is not None else plan.devices if section == "devices" else plan.networks
                yield section, {self.name(section, ref): ratio for ref, (_, ratio) in of.items()}
            elif section == "availability":
                refs = plan.voices[section].says.availability
                both = zip(refs, plan.availability, strict=True)
                yield section, [self.process(ref.name, ref.params, process) for ref, process in both]
            elif section == "csv":
                yield section, None if plan.roster is None else self.roster()
            else:
                yield section, getattr(plan, section)

    def name(self, kind: str, ref: str) -> str:
        """What a profile is called in the run directory; an own one is copied there."""
        found = self.plan.found[kind, ref]
        if not self.own(found):
            return ref
        folder = "availability" if kind == "others" else kind
        return self.keep(folder, found.name, ".yaml", found.path.read_bytes(), ref)

    def keep(self, folder: str, stem: str, suffix: str, content: bytes, owner: Any) -> str:
        """Notes a file under a name that nothing else has; `owner` is what was said for it."""
        shipped = {
            ref.rpartition("/")[2]
            for (kind, ref), found in self.plan.found.items()
            if not self.own(found) and folder == ("availability" if kind == "others" else kind)
        }
        names = (stem if n == 1 else f"{stem}-{n}" for n in count(1))
        free = (name for name in names if name not in shipped)
        name = next(n for n in free if self.owners.setdefault(f"{FOLDER}/{folder}/{n}{suffix}", owner) == owner)
        self.files[f"{FOLDER}/{folder}/{name}{suffix}"] = content
        return name

    def trace(self, file: Path) -> str:
        """The copy of a trace, below FOLDER."""
        return f"traces/{self.keep('traces', file.stem, file.suffix, file.read_bytes(), file)}{file.suffix}"

    def process(self, ref: str, given: Mapping[str, Any], process: Process) -> dict[str, Any]:
        """One entry of `availability`."""
        moved = {} if process.file is None else {"path": f"{FOLDER}/{self.trace(process.file)}"}
        return {"name": self.name("availability", ref), **given, **moved}

    def roster(self) -> str:
        """The file of clients; rewritten only where it refers to files by their paths."""
        plan = self.plan
        assert plan.roster is not None
        names = {("devices", ref): self.name("devices", ref) for ref in plan.devices}
        names |= {("networks", ref): self.name("networks", ref) for ref in plan.networks}
        for ref, (process,) in plan.others.items():
            names["others", ref] = self.name("others", ref) if process.file is None else self.traced(ref, process)
        path, content = plan.roster.path, plan.roster.path.read_bytes()
        if any(ref != name for (_, ref), name in names.items()):
            text = io.StringIO()
            with path.open(newline="", encoding="utf-8-sig") as file:
                reader = csv.DictReader(file, skipinitialspace=True)
                writer = csv.DictWriter(text, list(reader.fieldnames or ()), lineterminator="\n")
                writer.writeheader()
                for row in reader:
                    for column, kind in _ROSTER_COLUMNS.items():
                        if (row.get(column) or "").strip():
                            row[column] = names[kind, row[column].strip()]
                    writer.writerow(row)
            content = text.getvalue().encode()
        return f"{FOLDER}/clients/{self.keep('clients', path.stem, path.suffix, content, path)}{path.suffix}"

    def traced(self, ref: str, process: Process) -> str:
        """A profile that a file of clients names and that follows a trace, with the path of the trace's copy."""
        values = {**process.params.model_dump(exclude_none=True), "path": f"../{self.trace(process.file or Path())}"}
        text = yaml.safe_dump({"kind": process.kind, **values}, sort_keys=False)
        return self.keep("availability", self.plan.found["others", ref].name, ".yaml", text.encode(), ("others", ref))
