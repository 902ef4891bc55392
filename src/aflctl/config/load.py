"""From a YAML file, a preset or a mapping, `--set` and flags to a checked configuration.

Precedence: defaults < preset or file < `--set` < flags. All mistakes are collected into one ConfigError. Only the
modules of plug-ins that are named get imported, and none of ours loads torch for that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from aflctl import errors, plugins
from aflctl.config import check, yaml_text
from aflctl.config.json_schema import json_schema
from aflctl.config.places import BESIDE, NAMED, REFS, Keys, kind_at, look, refs, star
from aflctl.config.schema import Config
from aflctl.config.sets import apply_set, put, spread_lists
from aflctl.config.source import Origin, Source, presets, read

__all__ = ["Loaded", "Origin", "json_schema", "load", "presets", "to_yaml"]

MATRIX = "matrix"
SEVERAL = frozenset((MATRIX, "include", "exclude"))
"""Keys of a file that is many runs; see `config.matrix`."""

Check = Callable[[Config, Path], Iterable[errors.Problem]]


@dataclass(frozen=True)
class Loaded:
    """A configuration in which everything is said.

    config    resolved: the defaults of the plug-ins are among their parameters
    origins   dotted path of each value -> who said it
    path      the file it came from; None for presets and mappings
    base      the folder that relative files in it are looked up in
    plugins   dotted path -> plug-in object, for every plug-in that is named
    """

    config: Config
    origins: dict[str, Origin]
    path: Path | None
    base: Path
    preset: str | None
    plugins: dict[str, BaseModel]
    sets: tuple[str, ...] = ()
    flags: Mapping[str, object] = field(default_factory=dict)


def load(
    source: str | Path | Mapping[str, Any] | BaseModel | None,
    sets: Sequence[str] = (),
    flags: Mapping[str, object] | None = None,
    registry: plugins.Registry | None = None,
    checks: Sequence[Check] = (),
) -> Loaded:
    """Reads, overlays, checks and resolves a configuration; None is the preset quickstart.

    `flags` maps dotted keys to values, None meaning not given. `checks` are asked for further problems once the
    schema is content. Raises ConfigError with all problems, UnknownName where there is no such file or
    preset, PluginBroken where a named plug-in does not load and nothing else is wrong.
    """
    return load_source(read(source), sets, flags, registry, checks)


def load_source(
    given: Source,
    sets: Sequence[str] = (),
    flags: Mapping[str, object] | None = None,
    registry: plugins.Registry | None = None,
    checks: Sequence[Check] = (),
) -> Loaded:
    """As `load`, of data that are read already; `given` is used up."""
    registry = registry or plugins.registry()
    for key in given.data.keys() & SEVERAL:
        given.problems.append(_many(given, key))
        del given.data[key]
    spread_lists(given)
    for text in sets:
        apply_set(given, text)
    flags = {key: value for key, value in (flags or {}).items() if value is not None}
    for key, value in flags.items():
        put(given, tuple(key.split(".")), value, Origin("flag", f"--{key.replace('_', '-').replace('.', '-')}"))
    _fill(given)
    found, broken = list(given.problems), []
    objects: dict[str, BaseModel] = {}
    for keys, kind, value in refs(given.data):
        try:
            made = _instantiate(given, registry, keys, kind, value, found)
        except errors.PluginBroken as error:
            error.where = error.where or check.place(given.origins, keys)
            broken.append((keys, error))
            continue
        if made is not None:
            objects[".".join(keys)] = made
    traps, clean = check.number_traps(Config, given.data, (), given.origins)
    found += traps
    config: Config | None = None
    try:
        config = Config.model_validate(clean)
    except ValidationError as error:
        found += check.problems(error, Config, given.data, (), given.origins, "")
    sound = config or _sound_part(clean, found)
    if sound is not None:
        for further in checks:
            found += [_placed(problem, given) for problem in further(sound, given.base)]
    if found:
        found += [errors.Problem(".".join(k), e.message, e.where, e.hint) for k, e in broken]
        raise errors.ConfigError(dict.fromkeys(found))
    if broken:
        raise broken[0][1]
    if config is None:
        raise errors.ConfigError([errors.Problem("", "is not valid", given.label)])
    config = _resolved(config, objects)
    return Loaded(
        config, _origins(config, given), given.path, given.base, given.preset, objects, tuple(sets), dict(flags)
    )


def to_yaml(config: Config) -> str:
    """The configuration as YAML; what is None and None by default is left out. Loads back to an equal Config."""
    return yaml_text.write(_said(config))


def _said(config: Config) -> dict[str, Any]:
    data: dict[str, Any] = config.model_dump(mode="json")

    def without_none(section: dict[str, Any], keys: Keys) -> dict[str, Any]:
        result = {}
        for key, value in section.items():
            if value is None:
                continue
            here = (*keys, key)
            if isinstance(value, dict) and star(here) not in NAMED:
                value = without_none(value, here)
                if not value:
                    continue
            result[key] = value
        return result

    return without_none(data, ())


def _many(given: Source, key: str) -> errors.Problem:
    where = check.place(given.origins, (key,))
    if key != MATRIX:
        return errors.Problem(key, "belongs inside matrix", where, f"write it below 'matrix:', as matrix.{key}")
    hint = "aflctl run executes them all; for one of them, write its values without the matrix"
    return errors.Problem(key, "makes this many runs, and one is wanted here", where, hint)


def _sound_part(data: Mapping[str, Any], found: Iterable[errors.Problem]) -> Config | None:
    """The configuration without the sections that have problems, so that the rest can be checked further."""
    wrong = {problem.path.partition(".")[0] for problem in found}
    try:
        return Config.model_validate({k: v for k, v in data.items() if k not in wrong})
    except ValidationError:
        return None


def _fill(given: Source) -> None:
    """Empty sections count as absent, and a plug-in without a name is the default one with other parameters."""
    defaults = Config().model_dump(mode="json")
    for key in [k for k, v in given.data.items() if v is None and defaults.get(k) is not None]:
        del given.data[key]
    for keys in REFS:
        name = look(defaults, (*keys, "name"))
        value = look(given.data, keys)
        if isinstance(name, str) and isinstance(value, dict) and "name" not in value:
            value["name"] = name
    for keys, kind in REFS.items():
        parent, default = look(given.data, keys[:-1]), look(defaults, keys)
        if kind_at(keys) != kind or not default:
            continue
        if keys[:-1] and keys[0] not in given.data:
            given.data[keys[0]] = {"name": defaults[keys[0]]["name"]} if keys[:1] in REFS else {}
            parent = given.data[keys[0]]
        if keys[:-1] in REFS and isinstance(parent, str):
            given.data[keys[0]] = parent = {"name": parent}
            if keys[:1] in given.origins:
                given.origins[keys[0], "name"] = given.origins[keys[:1]]
        if isinstance(parent, dict) and parent.get(keys[-1]) is None:
            parent[keys[-1]] = {"name": default["name"]}


def _instantiate(
    given: Source, registry: plugins.Registry, keys: Keys, kind: str, value: Any, found: list[errors.Problem]
) -> BaseModel | None:
    def note(message: str, hint: str | None = None, at: Keys = keys) -> None:
        found.append(errors.Problem(".".join(at), message, check.place(given.origins, at), hint))

    name = value.get("name") if isinstance(value, Mapping) else value
    if not isinstance(name, str) or not name:
        if isinstance(value, Mapping) and "name" not in value:
            known = ", ".join(registry.names(kind)) or "none is there"
            note(f"must name one of the {kind}", f"add the key 'name': {known}")
        elif isinstance(value, Mapping):
            note(f"must be text; got {check.shown(name)}", at=(*keys, "name"))
        return None  # the schema reports every other shape
    title = name if not plugins.is_local(name) else name.rpartition(":")[2]
    try:
        cls = registry.load(kind, name, given.base)
    except errors.PluginBroken:
        raise
    except errors.UserError as error:
        note(error.message, error.hint, (*keys, "name") if isinstance(value, Mapping) else keys)
        return None
    own = BESIDE.get(star(keys), ())
    params = {k: v for k, v in value.items() if k != "name" and k not in own} if isinstance(value, Mapping) else {}
    if isinstance(params.get("params"), Mapping):
        note("write the parameters beside the name, not in a mapping of their own", at=(*keys, "params"))
        return None
    traps, params_clean = check.number_traps(cls, params, keys, given.origins)
    found += traps
    try:
        made: BaseModel = cls.model_validate(params_clean)
        made.model_dump(mode="json", by_alias=True)
        return made
    except ValidationError as error:
        found += check.problems(error, cls, params, keys, given.origins, title)
        return None
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a plug-in may even call sys.exit
        raise errors.PluginBroken(
            f"{plugins.word(kind)} {name!r} cannot be made from its parameters: {type(error).__name__}: {error}"
        ) from error


def _resolved(config: Config, objects: Mapping[str, BaseModel]) -> Config:
    data: dict[str, Any] = config.model_dump(mode="json")
    for dotted, made in objects.items():
        keys = tuple(dotted.split("."))
        own = ("name", *BESIDE.get(star(keys), ()))
        ref = look(data, keys)
        kept = {k: ref[k] for k in own if k in ref}
        ref.clear()
        ref.update({"name": kept.pop("name"), **made.model_dump(mode="json", by_alias=True), **kept})
    return Config.model_validate(data)


def _placed(problem: errors.Problem, given: Source) -> errors.Problem:
    where = problem.where or check.place(given.origins, tuple(problem.path.split(".")))
    return errors.Problem(problem.path, problem.message, where, problem.hint)


def _origins(config: Config, given: Source) -> dict[str, Origin]:
    default = Origin("default")
    result: dict[str, Origin] = {}

    def visit(keys: Keys, value: Any) -> None:
        if isinstance(value, dict) and value:
            for key, inner in value.items():
                visit((*keys, key), inner)
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            for i, inner in enumerate(value):
                visit((*keys, str(i)), inner)
        elif keys in given.origins:
            result[".".join(keys)] = given.origins[keys]
        else:
            result[".".join(keys)] = _inherited(keys, value)

    def _inherited(keys: Keys, value: Any) -> Origin:
        """A value that was said in short, one level up: `algorithm: fedbuff` says algorithm.name."""
        above = keys[:-1]
        said = above in given.origins and above not in containers
        return given.origins[above] if said and look(given.data, above) in (value, {"name": value}) else default

    containers = {k[:i] for k in given.origins for i in range(1, len(k))}
    visit((), _said(config))
    return result
