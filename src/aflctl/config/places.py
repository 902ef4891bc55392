"""Where plug-ins stand in a configuration."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

Keys = tuple[str, ...]

REFS: dict[Keys, str] = {
    ("algorithm",): "algorithms",
    ("dataset",): "datasets",
    ("dataset", "partition"): "partitions",
    ("model",): "models",
    ("model", "fusion"): "fusions",
    ("clients", "selection"): "selections",
    ("personalization", "*"): "personalizations",
}
"""Place -> kind of plug-in; `*` is a position in a list."""

NAMED: tuple[Keys, ...] = (*REFS, ("fleet", "availability", "*"))
"""Places that hold a name, or a mapping with `name`; the second is no plug-in but a profile."""

LISTS: tuple[Keys, ...] = (("personalization",), ("fleet", "availability"))
"""Places where one thing is short for a list of one."""

ALTERNATIVES: tuple[Keys, ...] = (("evaluate", "every"), ("checkpoint", "every"))
"""Mappings with exactly one key."""

BESIDE: dict[Keys, tuple[str, ...]] = {
    ("dataset",): ("partition", "test_fraction", "merge_test", "stream"),
    ("model",): ("fusion",),
}
"""Keys of a place that belong to the configuration, not to the plug-in that it names."""


def star(keys: Keys) -> Keys:
    """The place with list positions written as `*`."""
    return tuple("*" if k.isdigit() else k for k in keys)


def kind_at(keys: Keys) -> str | None:
    """The kind of plug-in at a place, None where there is none."""
    return REFS.get(star(keys))


def look(data: Any, keys: Keys) -> Any:
    """The value at a place, None where there is none."""
    for key in keys:
        if isinstance(data, Mapping):
            data = data.get(key)
        elif isinstance(data, list | tuple) and key.isdigit() and int(key) < len(data):
            data = data[int(key)]
        else:
            return None
    return data


def refs(data: Mapping[str, Any]) -> Iterator[tuple[Keys, str, Any]]:
    """(place, kind, value) of each plug-in that the data name."""
    for keys, kind in REFS.items():
        if keys[-1] == "*":
            several = look(data, keys[:-1])
            for i, value in enumerate(several if isinstance(several, list | tuple) else ()):
                yield (*keys[:-1], str(i)), kind, value
        else:
            value = look(data, keys)
            if value is not None:
                yield keys, kind, value
