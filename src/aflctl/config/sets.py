"""Lays `--set key.sub=value` and flags over a configuration."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aflctl import errors
from aflctl.config import yaml_text
from aflctl.config.places import ALTERNATIVES, BESIDE, LISTS, NAMED, Keys, look, star
from aflctl.config.source import Origin, Source, mark

SPELLING = "write it as in a configuration file: {name: fedbuff, buffer_size: 5}, or [0.1, 0.3]"
_FILE = re.compile(r"^(?P<file>.+\.(py|ya?ml|csv))(?P<rest>(:.*)?)$")


def apply_set(source: Source, text: str) -> None:
    """One `--set`; what is wrong with it goes to `source.problems`."""
    left, equals, right = text.partition("=")
    origin = Origin("set", f"--set {text}")
    keys = tuple(k.strip() for k in left.split("."))
    if not equals or not all(keys):
        source.problems.append(
            errors.Problem("", "is not key=value", origin.where, hint="write --set local.lr=0.1, say")
        )
        return
    try:
        value = value_of(right)
    except ValueError as error:
        source.problems.append(errors.Problem(left, str(error), origin.where, hint=SPELLING))
        return
    put(source, keys, value, origin)


def value_of(text: str) -> Any:
    """What a value typed on the command line means: a number, a truth value, null, a list, a mapping, else text.

    As in a configuration file, JSON included, but for text: that needs no quotes and keeps every character. Raises
    ValueError for a list or a mapping that cannot be read.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    document = yaml_text.parse(text)
    if text[:1] in ("{", "["):
        if document.mistakes:
            raise ValueError(document.mistakes[0].message)
        return document.data
    plain = document.data is None or isinstance(document.data, bool | int | float)
    return document.data if plain and text and "#" not in text and not document.mistakes else text


def put(source: Source, keys: Keys, value: Any, origin: Origin, *, typed: bool = True) -> None:
    """Sets one value, where a plug-in's name replaces the plug-in together with its parameters.

    `typed` on the command line: files in it lie in the working folder, not beside the configuration.
    """
    spread_lists(source)
    keys = _with_position(source.data, keys)
    if keys[-1] == "name" and star(keys[:-1]) in NAMED and isinstance(value, str):
        keys = keys[:-1]
    value = _from_here(source.base, keys, value) if typed else value
    parent = _open(source, keys, origin)
    if parent is None:
        return
    if keys[:-1] in ALTERNATIVES and isinstance(parent, dict):
        parent.clear()
        mark(source.origins, keys[:-1], {}, origin)
    place: Any = int(keys[-1]) if isinstance(parent, list) else keys[-1]
    kept: dict[str, Any] = {}
    if isinstance(value, str) and star(keys) in BESIDE:
        old = look(source.data, keys)
        kept = {k: old[k] for k in BESIDE[star(keys)] if isinstance(old, dict) and k in old}
    said = {k: o for k, o in source.origins.items() if len(k) > len(keys) and k[: len(keys)] == keys}
    mark(source.origins, keys, value, origin)
    if kept:
        value = {"name": value, **kept}
        source.origins[*keys, "name"] = origin
        source.origins.update({k: o for k, o in said.items() if k[len(keys)] in kept})
    if isinstance(parent, list) and place == len(parent):
        parent.append(value)
    else:
        parent[place] = value
    spread_lists(source)


def spread_lists(source: Source) -> None:
    """Writes a lone personalization or availability model as a list of one."""
    for keys in LISTS:
        value, parent = look(source.data, keys), look(source.data, keys[:-1])
        if value is None or isinstance(value, list) or not isinstance(parent, dict):
            continue
        parent[keys[-1]] = [value]
        inside = {k: o for k, o in source.origins.items() if len(k) > len(keys) and k[: len(keys)] == keys}
        for k, origin in inside.items():
            del source.origins[k]
            source.origins[*keys, "0", *k[len(keys) :]] = origin
        if keys in source.origins:
            source.origins[*keys, "0"] = source.origins[keys]


def _with_position(data: Mapping[str, Any], keys: Keys) -> Keys:
    """`personalization.alpha` means the only personalization."""
    for place in LISTS:
        inside = len(keys) > len(place) and keys[: len(place)] == place and not keys[len(place)].isdigit()
        if inside and len(look(data, place) or [None]) == 1:
            return (*place, "0", *keys[len(place) :])
    return keys


def _open(source: Source, keys: Keys, origin: Origin) -> dict[str, Any] | list[Any] | None:
    """The mapping or list that holds the last key; made on the way where absent, None where something is in the way."""
    node: dict[str, Any] | list[Any] = source.data
    for i, key in enumerate(keys):
        here = ".".join(keys[:i])
        if isinstance(node, list):
            if not key.isdigit() or int(key) > len(node) or (int(key) == len(node) and i < len(keys) - 1):
                source.problems.append(
                    errors.Problem(
                        ".".join(keys), f"{here} is a list of {len(node)}, so {key!r} is no place in it", origin.where
                    )
                )
                return None
        elif not isinstance(node, dict):
            source.problems.append(
                errors.Problem(".".join(keys), f"{here} is {node!r}, which has no keys inside", origin.where)
            )
            return None
        if i == len(keys) - 1:
            return node
        place: Any = int(key) if isinstance(node, list) else key
        child = node[place] if isinstance(node, list) else node.get(place)
        if child is None:
            child = [] if keys[: i + 1] in LISTS else {}
        elif isinstance(child, str) and (star(keys[: i + 1]) in NAMED or keys[: i + 1] == ("fleet",)):
            child = {"name": child}
            if keys[: i + 1] in source.origins:
                source.origins[*keys[: i + 1], "name"] = source.origins[keys[: i + 1]]
        node[place] = child
        node = child
    return None


def _from_here(base: Path, keys: Keys, value: Any) -> Any:
    """A file named on the command line lies in the working folder; written as seen from the configuration's folder."""
    if isinstance(value, dict) and isinstance(value.get("name"), str):
        return {**value, "name": _from_here(base, keys, value["name"])}
    match = _FILE.match(value) if isinstance(value, str) else None
    if match is None or not (star(keys) in NAMED or keys[0] == "fleet"):
        return value
    path = Path(os.path.expanduser(match["file"]))
    if not path.is_absolute() and base.resolve() != Path.cwd().resolve():
        path = Path(os.path.relpath(Path.cwd() / path, base.resolve()))
    text = path.as_posix()
    return (text if path.is_absolute() or text.startswith("..") else f"./{text}") + match["rest"]
