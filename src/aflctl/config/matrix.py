"""One file that is many runs: `matrix:` names values for some keys, and every combination is a run.

    matrix:
      algorithm: [fedavg, {name: fedbuff, buffer_size: 5}]      # a dotted key, and a list of values
      dataset.partition.alpha: [0.1, 1.0]
      seed: [0, 1, 2]
      exclude: [{algorithm: fedavg, dataset.partition.alpha: 0.1}]
      include: [{algorithm: fedasync, seed: [0, 1, 2]}]

The rest of the file holds for all of them. `exclude` takes away the combinations that have all the values of an entry;
a plug-in's name stands for every setting of it. An entry of `include` adds runs: its lists are combined like those of
the matrix, and what it does not name is as the rest of the file says. Precedence: file < matrix < `--set` < flags, and
`--set matrix.seed=[0]` changes the matrix itself. Two runs that come out the same are a mistake.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from itertools import product
from math import prod
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from aflctl import errors, plugins
from aflctl.config import check
from aflctl.config.load import MATRIX, SEVERAL, Check, Loaded, load_source
from aflctl.config.places import REFS, Keys, look
from aflctl.config.sets import put, value_of
from aflctl.config.source import Origin, Source, mark, read

LIMIT = 10_000
INCLUDE, EXCLUDE = "include", "exclude"
PLUGINS = frozenset(".".join(keys) for keys in REFS if keys[-1] != "*")


@dataclass(frozen=True)
class Draft:
    """One run of a matrix, not yet checked: plain data that another process can be given.

    values   what the matrix says of it: dotted key -> value
    """

    source: Source
    values: Mapping[str, Any]
    sets: tuple[str, ...] = ()
    flags: Mapping[str, object] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """The values in a few characters: `fedbuff buffer_size=5, seed=0`."""
        return ", ".join(_said(key, value) for key, value in self.values.items()) or "run"

    def load(self, registry: plugins.Registry | None = None, checks: Sequence[Check] = ()) -> Loaded:
        """The run's configuration, checked; may be asked for more than once."""
        return load_source(copy.deepcopy(self.source), self.sets, self.flags, registry, checks)


@dataclass(frozen=True)
class Drafts:
    """All runs of a file, in order, the last key of the matrix changing first.

    name     what the whole is called: `name` in the file, else the preset's or the file's name
    merged   runs that `--set` or a flag made the same as another, and that are left out
    """

    cells: tuple[Draft, ...]
    loaded: tuple[Loaded, ...]
    name: str
    merged: int = 0


def is_matrix(source: str | Path | Mapping[str, Any] | BaseModel | None, sets: Sequence[str] = ()) -> bool:
    """Whether a configuration is many runs."""
    return any(text.startswith(f"{MATRIX}.") for text in sets) or bool(read(source).data.keys() & SEVERAL)


def expand(
    source: str | Path | Mapping[str, Any] | BaseModel | None,
    sets: Sequence[str] = (),
    flags: Mapping[str, object] | None = None,
    registry: plugins.Registry | None = None,
    checks: Sequence[Check] = (),
    digest: Callable[[Loaded], str] | None = None,
) -> Drafts:
    """The runs of a configuration, all checked; without a matrix it is one.

    `digest` tells runs apart, by default by their whole configuration. Raises one ConfigError with the problems of
    all runs.
    """
    given = read(source)
    mine = [text for text in sets if text.startswith(f"{MATRIX}.")]
    for text in mine:
        _set_axis(given, text)
    others = tuple(text for text in sets if text not in mine)
    said = {key: value for key, value in (flags or {}).items() if value is not None}
    table = {key: given.data.pop(key) for key in sorted(given.data.keys() & SEVERAL)}
    for key in table.keys() - {MATRIX}:
        _note(given, (key,), "belongs inside matrix", f"write it below 'matrix:', as matrix.{key}")
    cells = list(_cells(given, table[MATRIX])) if MATRIX in table else [_Cell({}, {})]
    drafts = [Draft(_overlay(given, cell), cell.values, others, said) for cell in cells]
    return _check(given, drafts, cells, registry, checks, digest)


# ---- from the table to cells ----


@dataclass(frozen=True)
class _Cell:
    """`values`: dotted key -> value; `places`: dotted key -> where in the file the value stands."""

    values: dict[str, Any]
    places: dict[str, Keys]

    @property
    def last(self) -> Keys:
        """A place that is special to this cell."""
        return next(reversed(self.places.values()), ())


def _cells(given: Source, table: Any) -> Iterator[_Cell]:
    if not isinstance(table, Mapping):
        _note(given, (MATRIX,), f"must be a mapping of keys to lists of values; got {check.shown(table)}")
        return
    axes = _axes(given, (MATRIX,), {k: v for k, v in table.items() if k not in (INCLUDE, EXCLUDE)}, lists=True)
    entries = _entries(given, table, INCLUDE)
    added = [(place, _axes(given, place, entry, lists=False)) for place, entry in entries]
    size = (prod(len(values) for values in axes.values()) if axes else 0) + sum(
        prod(len(v) for v in found.values()) for _, found in added
    )
    if size > LIMIT:
        _note(given, (MATRIX,), f"makes {size:,} runs; at most {LIMIT:,} fit into one file")
        return
    kept = _excluded(given, list(_product(axes)), _entries(given, table, EXCLUDE)) if axes else []
    found = [*kept, *(cell for _, entry in added for cell in _product(entry))]
    if not found and not given.problems:
        _note(given, (MATRIX,), "has no run left", "take something out of exclude")
    yield from found


def _axes(given: Source, place: Keys, table: Mapping[str, Any], *, lists: bool) -> dict[str, list[tuple[Any, Keys]]]:
    """Dotted key -> its values and where they stand. A value that is no list stands alone where `lists` is not set."""
    axes: dict[str, list[tuple[Any, Keys]]] = {}
    for key, values in table.items():
        here = (*place, key)
        meant = get_close_matches(key, (INCLUDE, EXCLUDE), n=1, cutoff=0.8) if lists else []
        if meant or not all(key.split(".")) or key.split(".")[0] in SEVERAL:
            hint = f"did you mean {meant[0]!r}?" if meant else None
            _note(given, here, f"{key!r} is no key of a configuration", hint)
        elif not isinstance(values, list) and not lists:
            axes[key] = [(values, here)]
        elif not isinstance(values, list):
            _note(given, here, f"must be a list of values; got {check.shown(values)}", f"write {key}: [value, ...]")
        elif not values:
            _note(given, here, "must not be empty")
        else:
            axes[key] = [(value, (*here, str(i))) for i, value in enumerate(values)]
    return axes


def _entries(given: Source, table: Mapping[str, Any], key: str) -> list[tuple[Keys, Mapping[str, Any]]]:
    """The mappings of `include` or `exclude` with their places."""
    found = table.get(key)
    if found is None:
        return []
    entries = found if isinstance(found, list) else [found]
    result: list[tuple[Keys, Mapping[str, Any]]] = []
    for i, entry in enumerate(entries):
        place: Keys = (MATRIX, key, str(i)) if isinstance(found, list) else (MATRIX, key)
        if isinstance(entry, Mapping) and entry:
            result.append((place, entry))
        else:
            _note(given, place, f"must be a mapping of keys to values; got {check.shown(entry)}")
    return result


def _product(axes: Mapping[str, list[tuple[Any, Keys]]]) -> Iterator[_Cell]:
    for chosen in product(*axes.values()):
        yield _Cell(
            {key: value for key, (value, _) in zip(axes, chosen)}, {key: at for key, (_, at) in zip(axes, chosen)}
        )


def _excluded(given: Source, cells: list[_Cell], entries: Sequence[tuple[Keys, Mapping[str, Any]]]) -> list[_Cell]:
    for place, entry in entries:
        kept = [cell for cell in cells if not _has(given, cell, entry)]
        if len(kept) == len(cells):
            _note(given, place, "takes nothing away", _guess(entry, cells))
        cells = kept
    return cells


def _guess(entry: Mapping[str, Any], cells: Sequence[_Cell]) -> str:
    """What an entry that fits no run may have meant."""
    known = {key for cell in cells for key in cell.values}
    for key, wanted in entry.items():
        if key not in known:
            return errors.suggest(key, known)
        values = [cell.values[key] for cell in cells if key in cell.values]
        names = {str(v.get("name")) if isinstance(v, Mapping) else _short(v) for v in values}
        if not isinstance(wanted, Mapping | list) and _short(wanted) not in names:
            return errors.suggest(_short(wanted), names)
    return "no run has all of its values"


def _has(given: Source, cell: _Cell, entry: Mapping[str, Any]) -> bool:
    """Whether a run has all the values of an entry; a list in it means any of these."""
    for key, wanted in entry.items():
        value = cell.values.get(key, _inside(given, cell, key))
        if not any(_fits(value, one) for one in (wanted, *(wanted if isinstance(wanted, list) else ()))):
            return False
    return True


def _inside(given: Source, cell: _Cell, key: str) -> Any:
    """The value of a key that the matrix has within another (`algorithm.buffer_size`), else that of the file."""
    keys = tuple(key.split("."))
    for end in range(len(keys) - 1, 0, -1):
        above = ".".join(keys[:end])
        if above in cell.values:
            value = cell.values[above]
            return look(value if isinstance(value, Mapping) else {"name": value}, keys[end:])
    return look(given.data, keys)


def _fits(value: Any, wanted: Any) -> bool:
    if isinstance(wanted, str) and isinstance(value, Mapping):
        return bool(value.get("name") == wanted)
    if isinstance(wanted, Mapping) and isinstance(value, Mapping):
        return all(key in value and _fits(value[key], one) for key, one in wanted.items())
    return bool(value == wanted) and isinstance(value, bool) == isinstance(wanted, bool)


# ---- from cells to configurations ----


def _overlay(given: Source, cell: _Cell) -> Source:
    """The file with one run's values in it."""
    source = copy.deepcopy(given)
    source.problems = []
    for key, value in sorted(cell.values.items(), key=lambda item: item[0].count(".")):  # a plug-in, then what is in it
        place, keys = cell.places[key], tuple(key.split("."))
        origin = given.origins.get(place) or Origin("file", given.label)
        put(source, keys, copy.deepcopy(value), origin, typed=False)
        for inner, said in given.origins.items():
            there = (*keys, *inner[len(place) :])
            if len(inner) > len(place) and inner[: len(place)] == place and look(source.data, there) is not None:
                source.origins[there] = said
    for inside in [k for k in source.origins if k[0] in SEVERAL]:
        del source.origins[inside]
    return source


def _check(
    given: Source,
    drafts: Sequence[Draft],
    cells: Sequence[_Cell],
    registry: plugins.Registry | None,
    checks: Sequence[Check],
    digest: Callable[[Loaded], str] | None,
) -> Drafts:
    """Loads every run, and collects the problems of all; what several have in common is told once."""
    registry = registry or plugins.registry()
    found: list[errors.Problem] = list(given.problems)
    broken: list[errors.PluginBroken] = []
    kept: dict[str, tuple[Draft, Loaded]] = {}
    merged = 0
    for draft, cell in zip(drafts, cells):
        try:
            loaded = draft.load(registry, checks)
        except errors.ConfigError as error:
            found += error.problems
            continue
        except errors.PluginBroken as error:
            broken.append(error)
            continue
        first, _ = kept.setdefault(digest(loaded) if digest else _whole(loaded), (draft, loaded))
        if first is draft:
            continue
        merged += 1
        if not draft.sets and not draft.flags:
            message = f"the run {draft.label} comes twice; it is the same as {first.label}"
            where = check.place(given.origins, cell.last)
            found.append(errors.Problem(MATRIX, message, where, "take out one of them"))
    if found:
        raise errors.ConfigError(dict.fromkeys(found))
    if broken:
        raise broken[0]
    return Drafts(tuple(d for d, _ in kept.values()), tuple(c for _, c in kept.values()), _name(given), merged)


def _whole(loaded: Loaded) -> str:
    return json.dumps(loaded.config.model_dump(mode="json"), sort_keys=True)


# ---- small parts ----


def _set_axis(given: Source, text: str) -> None:
    """`--set matrix.dataset.partition.alpha=[0.1]`: the dotted key is one key of the matrix."""
    left, equals, right = text.partition("=")
    key, origin = left.removeprefix(f"{MATRIX}."), Origin("set", f"--set {text}")
    table = given.data.setdefault(MATRIX, {})
    try:
        value = value_of(right)
    except ValueError:
        value = None
    if not equals or not key or not isinstance(table, dict) or not isinstance(value, list | dict):
        hint = "write --set 'matrix.algorithm=[fedbuff, fedasync]', say"
        given.problems.append(errors.Problem(left, "is not a key and a list", origin.where, hint))
        return
    table[key] = value
    mark(given.origins, (MATRIX, key), value, origin)


def _note(given: Source, keys: Keys, message: str, hint: str | None = None) -> None:
    given.problems.append(errors.Problem(".".join(keys), message, check.place(given.origins, keys), hint))


def _name(given: Source) -> str:
    named = given.data.get("name")
    return named if isinstance(named, str) and named else given.preset or (given.path.stem if given.path else "suite")


def _said(key: str, value: Any) -> str:
    end = key.rpartition(".")[2]
    if isinstance(value, Mapping) and "name" in value:
        more = ", ".join(f"{k}={_short(v)}" for k, v in value.items() if k != "name")
        text = f"{value['name']} ({more})" if more else str(value["name"])
    else:
        text = _short(value)
    return text if key in PLUGINS else f"{end}={text}"


def _short(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str)
