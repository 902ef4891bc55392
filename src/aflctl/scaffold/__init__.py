"""A distribution to begin a plug-in from: complete, installable, and passing the conformance kit as it is made."""

from __future__ import annotations

import importlib.util
import keyword
import os
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from string import Template

from aflctl.errors import UnknownName, UserError
from aflctl.plugins import BASES, registry, word
from aflctl.scaffold.templates import CODE, FILES, LEAD, PROFILES, TEST_OF_CLASS, TEST_OF_PROFILES, USE

KINDS = (*(word(kind) for kind in BASES), "profile")
_NAME = re.compile(r"^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$")


@dataclass(frozen=True)
class Made:
    """Where a distribution was made, what its package is called, and under which kind and name the plug-in is found."""

    folder: Path
    module: str
    kind: str
    entry: str


def create(name: str, kind: str = "algorithm", path: Path = Path()) -> Made:
    """Makes the distribution `name` in a folder of that name below `path`. Nothing is overwritten.

    Raises UserError for a name that cannot be one or is taken, UnknownName for a kind that does not exist.
    """
    if kind not in KINDS:
        raise UnknownName("kind of plug-in", kind, KINDS)
    module, entry = _checked(name, kind)
    folder = Path(os.path.expanduser(path)) / name
    if folder.exists():
        raise UserError("is there already, and nothing is overwritten", where=str(folder), hint="choose another name")
    words = _words(name, module, kind, entry)
    files = {**FILES, **(_of_profiles() if kind == "profile" else _of_class(kind))}
    try:
        folder.mkdir(parents=True)
        for file, text in files.items():
            place = folder / Template(file).substitute(words)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(Template(text).substitute(words), encoding="utf-8")
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)
        hint = "name another folder with --path"
        raise UserError(f"cannot be written: {error.strerror or error}", where=str(folder), hint=hint) from error
    return Made(folder, module, kind, entry)


def _checked(name: str, kind: str) -> tuple[str, str]:
    """(package, name of the plug-in) of a distribution's name."""
    hint = "use letters, digits and hyphens, as in aflctl-fedmine"
    if not _NAME.match(name):
        raise UserError(f"{name!r} cannot be the name of a distribution", hint=hint)
    module = re.sub(r"[-_.]+", "_", name).lower()
    if not module.isidentifier() or keyword.iskeyword(module) or module == "aflctl":
        raise UserError(f"{name!r} gives the package {module!r}, which cannot be one", hint=hint)
    if module in sys.stdlib_module_names or importlib.util.find_spec(module) is not None:
        raise UserError(f"the package {module!r} exists already", hint=f"put a word before it: aflctl-{name}")
    entry = re.sub(r"[-_.]+", "-", name).lower().removeprefix("aflctl-")
    taken = [e.distribution for e in registry().entries(f"{kind}s") if e.name == entry]
    if taken:
        raise UserError(f"{kind} {entry!r} exists already, in {taken[0]}", hint="choose another name")
    return module, entry


def _words(name: str, module: str, kind: str, entry: str) -> dict[str, str]:
    cls = "".join(part.capitalize() for part in re.split(r"[-_.]+", entry))
    if not cls.isidentifier():
        cls = f"The{cls}"
    points = f'{entry} = "{module}"' if kind == "profile" else f'{entry} = "{module}:{cls}"'
    words = {"name": name, "module": module, "kind": kind, "entry": entry, "cls": cls, "points": points}
    return {**words, "lead": LEAD[kind], "use": Template(USE[kind]).substitute(words)}


def _of_class(kind: str) -> dict[str, str]:
    return {"src/$module/__init__.py": CODE[kind], "tests/test_conformance.py": TEST_OF_CLASS}


def _of_profiles() -> dict[str, str]:
    return {**PROFILES, "tests/test_conformance.py": TEST_OF_PROFILES}


__all__ = ["KINDS", "Made", "create"]
