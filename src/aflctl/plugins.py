"""Finds plug-ins by the metadata of installed distributions, and loads one only when it is asked for.

Three ways to name a plug-in: its entry-point name (`fedbuff`), the same with its distribution where two claim one name
(`my-dist/fedbuff`), and a class in a local file (`./mine.py:FedMine`).
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import re
import sys
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from importlib import metadata
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any

from aflctl import errors, sources

_WORDS = (
    "algorithms", "datasets", "models", "partitions", "selections", "personalizations", "fusions", "profiles",
    "trackers",
)  # fmt: skip
KINDS: dict[str, str] = {kind: f"aflctl.{kind}" for kind in _WORDS}
"""Kind -> entry-point group."""

BASES: dict[str, str] = {
    "algorithms": "Algorithm",
    "datasets": "Dataset",
    "models": "Model",
    "partitions": "Partition",
    "selections": "Selection",
    "personalizations": "Personalization",
    "fusions": "Fusion",
}
"""Kind -> class of `aflctl.api` that its plug-ins extend."""

RESERVED: dict[str, tuple[str, ...]] = {
    "datasets": ("name", "params", "partition", "test_fraction", "merge_test", "stream"),
    "models": ("name", "params", "fusion"),
}
"""Keys that stand beside the parameters in a configuration, and so cannot be parameters; elsewhere name and params."""

_VALUE = re.compile(r"^(?P<module>[A-Za-z_]\w*(\.[A-Za-z_]\w*)*)(:(?P<attr>[A-Za-z_]\w*(\.[A-Za-z_]\w*)*))?$")
_LOCAL = re.compile(r"^(?P<file>.+\.py)(:(?P<attr>.*))?$")


@dataclass(frozen=True)
class Entry:
    """One row of the registry.

    value        what the entry point says, `module:Class`
    summary      first line of the class docstring
    broken       why it cannot work, as far as that can be told without importing it
    rivals       other distributions that claim the same name
    """

    kind: str
    name: str
    value: str
    distribution: str
    version: str
    summary: str = ""
    broken: str | None = None
    rivals: tuple[str, ...] = field(default=())

    @property
    def module(self) -> str:
        return self.value.partition(":")[0]

    @property
    def attr(self) -> str:
        return self.value.partition(":")[2]


def word(kind: str) -> str:
    """'algorithms' -> 'algorithm'."""
    return kind.removesuffix("s")


def is_local(name: str) -> bool:
    """Whether a plug-in's name is a file's: `./mine.py:FedMine`."""
    return _LOCAL.match(name) is not None


def split_local(name: str, base: Path | None = None) -> tuple[Path, str]:
    """(file, class) of a local name; a relative file lies below `base`, by default the working folder."""
    match = _LOCAL.match(name)
    if match is None:
        raise errors.UserError(f"{name!r} is not the name of a local file", hint="write ./file.py:Class")
    file = Path(os.path.expanduser(match["file"]))
    return (base or Path.cwd()) / file, match["attr"] or ""


class Registry:
    """The plug-ins of this environment. Reads metadata once; `path` replaces `sys.path` as the place to look."""

    def __init__(self, path: Sequence[str] | None = None) -> None:
        self._path = path
        self._found: dict[str, list[Entry]] | None = None
        self._rows: dict[str, list[Entry]] = {}
        self._local: dict[tuple[Path, str], ModuleType] = {}

    def entries(self, kind: str) -> list[Entry]:
        """All plug-ins of a kind by name, broken ones included; imports none of them."""
        if kind not in self._rows:
            self._rows[kind] = [_described(e) for e in self._of(kind)]
        return self._rows[kind]

    def names(self, kind: str) -> list[str]:
        """Names that `load` accepts; `distribution/name` where a name is claimed more than once."""
        return sorted(f"{e.distribution}/{e.name}" if e.rivals else e.name for e in self._of(kind))

    def distributions(self) -> dict[str, str]:
        """Distribution -> version, of all that offer a plug-in."""
        return {e.distribution: e.version for kind in KINDS for e in self._of(kind)}

    def entry(self, kind: str, name: str) -> Entry:
        """The row that a name means; raises UnknownName, and UserError where two distributions claim the name."""
        distribution, _, plain = name.rpartition("/")
        found = [e for e in self._of(kind) if e.name == plain]
        if distribution:
            found = [e for e in found if _normal(e.distribution) == _normal(distribution)]
        if not found:
            raise errors.UnknownName(word(kind), name, self.names(kind))
        if len(found) > 1:
            who = sorted(e.distribution for e in found)
            raise errors.UserError(
                f"{word(kind)} {name!r} is claimed by {len(who)} distributions: {', '.join(who)}",
                hint="write " + " or ".join(f"{d}/{name}" for d in who) + ", or uninstall one of them",
            )
        return found[0]

    def load(self, kind: str, name: str, base: Path | None = None) -> type[Any]:
        """The plug-in's class. Raises UnknownName, UserError (claimed twice) or PluginBroken."""
        if is_local(name):
            return self._load_local(kind, name, base)
        entry = self.entry(kind, name)
        title = f"{word(kind)} {entry.name!r} of distribution {entry.distribution!r}"
        if entry.broken:
            raise errors.PluginBroken(f"{title} is broken: {entry.broken}")
        with _guarded(title, hint=f"reinstall or remove it: pip uninstall {entry.distribution}"):
            target: Any = importlib.import_module(entry.module)
            for part in entry.attr.split(".") if entry.attr else ():
                target = getattr(target, part)
        if not entry.attr:
            return target  # type: ignore[no-any-return]
        return _checked(kind, target, title)

    def source_hash(self, kind: str, name: str, base: Path | None = None) -> str:
        """sha256 of a plug-in's source: its file if it is local; ours, also what it imports from its own folder;
        else its whole package. Imports nothing.
        """
        if is_local(name):
            file, _ = split_local(name, base)
            return sources.hash_file(_existing(file, name))
        entry = self.entry(kind, name)
        try:
            return sources.hash_module(entry.module, whole=_normal(entry.distribution) != "aflctl")
        except OSError as error:
            raise errors.PluginBroken(
                f"the source of {word(kind)} {entry.name!r} of distribution {entry.distribution!r} cannot be read: "
                f"{error}"
            ) from error

    def distributions_used(self, used: Iterable[tuple[str, str]]) -> dict[str, str]:
        """Distribution -> version, of the plug-ins given as (kind, name); local files belong to none."""
        rows = (self.entry(kind, name) for kind, name in used if not is_local(name))
        return dict(sorted({e.distribution: e.version for e in rows}.items()))

    def _of(self, kind: str) -> list[Entry]:
        if kind not in KINDS:
            raise errors.UnknownName("kind of plug-in", kind, KINDS)
        if self._found is None:
            self._found = _scan(self._path)
        return self._found[kind]

    def _load_local(self, kind: str, name: str, base: Path | None) -> type[Any]:
        file, attr = split_local(name, base)
        file = _existing(file, name)
        if not attr:
            there = sources.classes_of_file(file)
            example = there[0] if len(there) == 1 else "Class"
            raise errors.UserError(
                f"{name!r} names no class", hint=f"write {name.rstrip(':')}:{example}", where=str(file)
            )
        title = f"{word(kind)} {name!r}"
        key = (file, sources.hash_file(file))
        with _guarded(title, hint="a local file can import installed packages, but no files beside it"):
            if key not in self._local:
                self._local[key] = _execute(file, key[1])
            target = getattr(self._local[key], attr, None)
        if target is None:
            raise errors.UnknownName("class", attr, sources.classes_of_file(file), where=str(file))
        return _checked(kind, target, title)


@lru_cache(maxsize=1)
def registry() -> Registry:
    """The registry of this process; `registry.cache_clear()` forgets what was found."""
    return Registry()


def _normal(distribution: str) -> str:
    return re.sub(r"[-_.]+", "-", distribution).lower()


def _scan(path: Sequence[str] | None) -> dict[str, list[Entry]]:
    found: dict[str, list[Entry]] = {kind: [] for kind in KINDS}
    kinds = {group: kind for kind, group in KINDS.items()}
    seen: set[str] = set()
    for distribution in metadata.distributions() if path is None else metadata.distributions(path=list(path)):
        try:
            text = distribution.read_text("entry_points.txt") or ""
            if "aflctl." not in text:
                continue
            facts: Mapping[str, str] = distribution.metadata  # type: ignore[assignment]
            name = facts.get("Name") or _name_of_folder(distribution)
            version = facts.get("Version") or "unknown"
        except (Exception, SystemExit):
            continue  # a half-deleted distribution: nothing says that it is one of ours
        if _normal(name) in seen:
            continue  # an older copy further down the path, which Python would not import either
        seen.add(_normal(name))
        for group, key, value in _entry_points(text):
            if group in kinds:
                found[kinds[group]].append(
                    Entry(kinds[group], key, value, name, version, broken=_malformed(kinds[group], key, value))
                )
    return {kind: _with_rivals(rows) for kind, rows in found.items()}


def _name_of_folder(distribution: metadata.Distribution) -> str:
    folder = getattr(distribution, "_path", None)
    return Path(str(folder)).name.split("-")[0] if folder is not None else "unknown"


def _entry_points(text: str) -> Iterator[tuple[str, str, str]]:
    group = ""
    for raw in text.splitlines():
        line = raw.strip()
        if not line or line[0] in "#;":
            continue
        if line.startswith("[") and line.endswith("]"):
            group = line[1:-1].strip()
            continue
        key, _, value = line.partition("=")
        yield group, key.strip(), value.partition("[")[0].strip()


def _malformed(kind: str, name: str, value: str) -> str | None:
    match = _VALUE.match(value)
    if match is None or (match["attr"] is None and kind in BASES):
        return f"the entry point says {value!r}, not module:Class"
    if not name or "/" in name or is_local(name):
        return f"{name!r} cannot be the name of a plug-in"
    return None


def _with_rivals(rows: list[Entry]) -> list[Entry]:
    owners: dict[str, list[str]] = {}
    kept: dict[tuple[str, str], Entry] = {}
    for row in rows:
        if (row.name, row.distribution) in kept:
            first = kept[row.name, row.distribution]
            kept[row.name, row.distribution] = replace(first, broken=first.broken or "its distribution names it twice")
            continue
        kept[row.name, row.distribution] = row
        owners.setdefault(row.name, []).append(row.distribution)
    full = [
        replace(row, rivals=tuple(sorted(d for d in owners[row.name] if d != row.distribution)))
        for row in kept.values()
    ]
    return sorted(full, key=lambda e: (e.name, e.distribution))


def _described(entry: Entry) -> Entry:
    if entry.broken or not entry.attr:
        return entry
    text = sources.read_class(entry.module, entry.attr)
    return replace(entry, summary=text.summary, broken=text.problem)


def _existing(file: Path, name: str) -> Path:
    if not file.is_file():
        raise errors.UserError(
            f"no file {file}", hint=f"{name!r} is looked up beside the configuration, and with --set in the working "
            "folder"
        )  # fmt: skip
    return file.resolve()


class _ExactLoader(SourceFileLoader):
    """Compiles the very text that was hashed; leaves no bytecode beside it."""

    def get_code(self, fullname: str) -> Any:
        return self.source_to_code(self.get_data(self.path), self.path)


def _execute(file: Path, digest: str) -> ModuleType:
    name = f"aflctl_local_{digest[:12]}_{re.sub(r'[^0-9A-Za-z]', '_', file.stem)}"
    spec = importlib.util.spec_from_file_location(name, file, loader=_ExactLoader(name, str(file)))
    if spec is None or spec.loader is None:
        raise ImportError(f"{file} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pydantic look their module up by name
    try:
        spec.loader.exec_module(module)
    except BaseException:
        sys.modules.pop(name, None)
        raise
    return module


@contextlib.contextmanager
def _guarded(title: str, hint: str) -> Iterator[None]:
    """Turns whatever a plug-in throws while it loads into PluginBroken; what it prints goes to stderr."""
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        raise errors.PluginBroken(f"{title} does not load: {what}", hint=hint, where=_place(error)) from error


def _place(error: BaseException) -> str | None:
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}"
    frames = [
        f
        for f in traceback.extract_tb(error.__traceback__)
        if f.filename != __file__ and "importlib" not in f.filename and not f.filename.startswith("<")
    ]
    return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else None


def _checked(kind: str, target: Any, title: str) -> type[Any]:
    """`target` if it is a class of the right kind that this version can drive, else PluginBroken with the reason."""
    if kind not in BASES:
        return target  # type: ignore[no-any-return]
    from aflctl import api

    base = getattr(api, BASES[kind])
    if not isinstance(target, type):
        raise errors.PluginBroken(f"{title} is no class but a {type(target).__name__}")
    if not issubclass(target, base):
        raise errors.PluginBroken(
            f"{title} is no subclass of aflctl.api.{base.__name__}", hint=f"class {target.__name__}({base.__name__}):"
        )
    wanted = getattr(target, "api_version", None)
    if wanted is not None and (not isinstance(wanted, int) or wanted > api.API_VERSION):
        raise errors.PluginBroken(
            f"{title} wants plug-in API version {wanted!r}; this aflctl has {api.API_VERSION}",
            hint="upgrade aflctl, or install an older version of the plug-in",
        )
    taken = [f for f in getattr(target, "model_fields", {}) if f in RESERVED.get(kind, ("name", "params"))]
    if taken:
        raise errors.PluginBroken(f"{title} has a parameter called {taken[0]!r}, which configurations reserve")
    return target
