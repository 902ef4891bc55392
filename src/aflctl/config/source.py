"""Where a configuration comes from: a YAML file, a run directory, a preset, or a mapping from Python."""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel

from aflctl import errors
from aflctl.config import yaml_text

OriginKind = Literal["default", "preset", "file", "set", "flag", "run"]
Keys = tuple[str, ...]
DEFAULT_PRESET = "quickstart"
RUN_CONFIG = "config.yaml"


@dataclass(frozen=True)
class Origin:
    """Who said a value; `where` is `file:line`, or the option as it was typed."""

    source: OriginKind
    where: str = ""

    def __str__(self) -> str:
        return f"{self.source} {self.where}".strip() if self.source in ("preset", "run") else self.where or self.source


@dataclass
class Source:
    """Plain data as they were given, who said each key, and what was wrong with the text.

    base     the folder that relative files are looked up in
    label    how messages name the whole
    """

    data: dict[str, Any]
    base: Path
    label: str
    path: Path | None = None
    preset: str | None = None
    origins: dict[Keys, Origin] = field(default_factory=dict)
    problems: list[errors.Problem] = field(default_factory=list)


def presets() -> dict[str, Path]:
    """Name -> file, of the configurations that aflctl ships."""
    folder = Path(__file__).parent.parent / "presets"
    return {file.stem: file for file in sorted(folder.glob("*.yaml"))}


def read(source: str | Path | Mapping[str, Any] | BaseModel | None) -> Source:
    """Finds and reads a configuration; raises only where there is nothing to go on with."""
    if source is None:
        return _read_preset(DEFAULT_PRESET)
    if isinstance(source, BaseModel):
        source = source.model_dump(mode="json", exclude_none=True)
    if isinstance(source, Mapping):
        try:
            given = Source(_plain(source), Path.cwd(), "the configuration")
        except RecursionError:
            problem = errors.Problem("", "is nested too deeply, or contains itself", "the configuration")
            raise errors.ConfigError([problem]) from None
        mark(given.origins, (), given.data, Origin("file", "mapping"))
        return given
    path = Path(os.path.expanduser(source))
    known = presets()
    if path.is_dir():
        if (path / RUN_CONFIG).is_file():
            return _read_file(path / RUN_CONFIG, "run")
        if str(source) not in known:
            raise errors.ConfigError(
                [errors.Problem("", f"the folder holds no {RUN_CONFIG}, so it is no run directory", str(path))],
                hint="name a YAML file, a run directory, or a preset: " + ", ".join(known),
            )
    elif path.exists():
        return _read_file(path, "file")
    if str(source) in known:
        return _read_preset(str(source))
    raise _unknown(str(source), path, known)


def _unknown(source: str, path: Path, known: Mapping[str, Path]) -> errors.UnknownName:
    folder = path.parent
    beside: list[str] = []
    if folder.is_dir():
        beside = sorted(str(folder / f.name) for f in folder.iterdir() if f.suffix in (".yaml", ".yml"))
    if not folder.is_dir():
        first = f"there is no folder {folder}"
    else:
        first = f"there is no such file in {folder.resolve() if folder == Path() else folder}"
    guess = errors.suggest(source, [*known, *beside])
    listing = f"presets: {', '.join(known)}"
    hint = f"{first}; {guess} ({listing})" if guess.startswith("did you") else f"{first}; {listing}"
    return errors.UnknownName("configuration", source, [*known, *beside], hint=hint)


def _read_preset(name: str) -> Source:
    known = presets()
    if name not in known:
        raise errors.UnknownName("preset", name, known)
    found = _read_file(known[name], "preset", label=known[name].name)
    found.base, found.path, found.preset = Path.cwd(), None, name
    return found


def _read_file(path: Path, kind: OriginKind, label: str | None = None) -> Source:
    label = label or str(path)
    document = yaml_text.parse(_text(path, label))
    problems = [
        errors.Problem(".".join(m.path), m.message, f"{label}:{m.line}" + ("" if m.path else f":{m.column}"))
        for m in document.mistakes
    ]
    if not isinstance(document.data, dict):
        if not problems:
            what = "is empty" if document.data is None else "should hold keys and values, 'algorithm: fedbuff' say"
            problems = [errors.Problem("", what, label)]
        raise errors.ConfigError(problems)
    origins = {keys: Origin(kind, f"{label}:{line}") for keys, line in document.lines.items()}
    return Source(document.data, path.parent, label, path=path, origins=origins, problems=problems)


def _text(path: Path, label: str) -> str:
    def wrong(message: str, line: int | None = None) -> errors.ConfigError:
        return errors.ConfigError([errors.Problem("", message, f"{label}:{line}" if line else label)])

    try:
        if not path.is_file():
            raise wrong("is no regular file")
        with path.open("rb") as stream:
            data = stream.read(yaml_text.MAX_BYTES + 1)
    except OSError as error:
        raise wrong(f"cannot be read: {error.strerror or error}") from error
    if b"\0" in data:
        raise wrong("is a binary file, not YAML text")
    if len(data) > yaml_text.MAX_BYTES:
        raise wrong(f"is larger than {yaml_text.MAX_BYTES} bytes; is it a configuration?")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise wrong("is not UTF-8 text", data[: error.start].count(b"\n") + 1) from error


def mark(origins: dict[Keys, Origin], keys: Keys, value: Any, origin: Origin) -> None:
    """Notes `origin` for a value and everything inside it, in place of what was noted before."""
    for old in [k for k in origins if k[: len(keys)] == keys]:
        del origins[old]
    _mark(origins, keys, value, origin)


def _mark(origins: dict[Keys, Origin], keys: Keys, value: Any, origin: Origin) -> None:
    if keys:
        origins[keys] = origin
    items = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        _mark(origins, (*keys, str(key)), inner, origin)


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", exclude_none=True)
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return str(value) if isinstance(value, Path) else copy.copy(value)
