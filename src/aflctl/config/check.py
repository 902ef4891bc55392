"""Turns pydantic's errors into problems that name the place, the value, what is allowed and what to do."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from aflctl.config.parameters import field_at, model_inside, range_text, takes_number_only
from aflctl.config.places import BESIDE, Keys, star
from aflctl.config.source import Origin
from aflctl.errors import Problem, suggest

_WANTED = {
    "int": "must be an integer",
    "float": "must be a number",
    "bool": "must be true or false",
    "string": "must be text",
    "dict": "must be a mapping",
    "model": "must be a mapping",
    "list": "must be a list",
    "tuple": "must be a list",
}


def place(origins: Mapping[Keys, Origin], keys: Keys) -> str | None:
    """Where the value at `keys` was written, or something inside it, or the nearest thing around it."""
    if keys not in origins:
        inside = next((o for k, o in origins.items() if k[: len(keys)] == keys), None)
        if inside is not None:
            return inside.where
    for end in range(len(keys), 0, -1):
        if keys[:end] in origins:
            return origins[keys[:end]].where
    return None


def problems(
    error: ValidationError, model: type[BaseModel], data: Any, base: Keys, origins: Mapping[Keys, Origin], title: str
) -> list[Problem]:
    """The problems of one model. `base` is where it stands, `title` what unknown keys are unknown to."""
    said: dict[Keys, list[tuple[str, str | None]]] = {}
    for item in error.errors(include_url=False):
        keys = _keys(item["loc"], data, item["type"])
        kind = item["type"]
        if kind.startswith("at:"):
            keys = (*keys, kind[3:])
        elif kind in ("extra_forbidden", "unexpected_keyword_argument"):
            holder, _ = field_at(model, keys)
            known = _known(holder, (*base, *keys[:-1])) if holder is not None else []
            what = f"{title} has no parameter {keys[-1]!r}" if title else "unknown key"
            said.setdefault(keys, []).append((what, suggest(keys[-1], known) if known else None))
            continue
        given = item.get("ctx", {}).get("given", item["input"]) if kind.startswith("at:") else item["input"]
        _, info = field_at(model, keys)
        bounds = range_text(info) if info is not None else ""
        said.setdefault(keys, []).append(_words(dict(item), given, bounds))
    return _collect(said, base, origins)


def _collect(
    said: Mapping[Keys, list[tuple[str, str | None]]], base: Keys, origins: Mapping[Keys, Origin]
) -> list[Problem]:
    result = []
    for keys, texts in said.items():
        message = "; or ".join(dict.fromkeys(t for t, _ in texts))
        hint = next((h for _, h in texts if h), None)
        full = (*base, *keys)
        result.append(Problem(".".join(full), message, place(origins, full), hint))
    return result


def number_traps(
    model: type[BaseModel], data: Any, base: Keys, origins: Mapping[Keys, Origin]
) -> tuple[list[Problem], Any]:
    """Values that pydantic would take for a number: truth values (0 and 1), nan and inf; and the data without them."""
    if not isinstance(data, Mapping):
        return [], data
    found: list[Problem] = []
    clean: dict[str, Any] = {}
    for key, value in data.items():
        info = model.model_fields.get(key)
        keys = (*base, key)
        if info is not None and takes_number_only(info):
            endless = isinstance(value, float) and not math.isfinite(value)
            if endless or isinstance(value, bool):
                wanted = "a finite number" if endless else "a number"
                found.append(Problem(".".join(keys), f"must be {wanted}; got {shown(value)}", place(origins, keys)))
                continue
        inner = model_inside(info.annotation) if info is not None and isinstance(value, Mapping) else None
        if inner is not None:
            more, value = number_traps(inner, value, keys, origins)
            found += more
        clean[key] = value
    return found, clean


def shown(value: Any) -> str:
    """A given value, short, as it would be written in the file."""
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list" if len(value) > 6 else "[" + ", ".join(shown(v) for v in value) + "]"
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _known(holder: type[BaseModel], keys: Keys) -> list[str]:
    beside = BESIDE.get(star(keys), ())
    return [*(info.alias or name for name, info in holder.model_fields.items() if name != "params"), *beside]


def _keys(loc: Iterable[int | str], data: Any, kind: str) -> Keys:
    """The path of an error in the data, without the names that pydantic adds for members of unions."""
    parts, keys = [str(p) for p in loc], []
    for i, part in enumerate(parts):
        last = i == len(parts) - 1
        if isinstance(data, Mapping) and part in data:
            data = data[part]
        elif isinstance(data, list | tuple) and part.isdigit() and int(part) < len(data):
            data = data[int(part)]
        elif not (last and kind in ("missing", "extra_forbidden")):
            continue
        keys.append(part)
    return tuple(keys)


def _words(item: dict[str, Any], given: Any, bounds: str) -> tuple[str, str | None]:
    kind, ctx, message = item["type"], item.get("ctx", {}), item["msg"]
    got = f"; got {shown(given)}"
    if kind == "missing":
        return "is required", None
    if kind in ("literal_error", "enum"):
        allowed = str(ctx.get("expected", "")).replace(" or ", ", ").replace("'", "")
        names = [a.strip() for a in allowed.split(",")]
        hint = suggest(given, names) if isinstance(given, str) else None
        return f"must be one of {allowed}{got}", hint if hint and hint.startswith("did") else None
    if kind in ("greater_than", "greater_than_equal", "less_than", "less_than_equal", "finite_number"):
        if isinstance(given, float) and not math.isfinite(given):
            return f"must be a finite number{got}", None
        return (f"must be {bounds}{got}" if bounds else _must(message) + got), None
    if kind == "value_error":
        return str(ctx.get("error", message)), None
    if kind == "int_from_float":
        return f"must be a whole number{got}", None
    if kind == "string_too_short" and given == "":
        return "must not be empty", None
    stem = kind.split("_")[0]
    if kind.endswith(("_type", "_parsing")) and stem in _WANTED:
        alone = _WANTED[stem] == "must be a list" and isinstance(given, str | int | float)
        hint = f"one value is written [{shown(given)}]" if alone else None
        return _WANTED[stem] + (f" {bounds}" if bounds and stem in ("int", "float") else "") + got, hint
    if kind in ("no_end", "one_of"):
        return _must(message) + (f"; got {ctx['given']}" if "given" in ctx else ""), None
    return _must(message) + got, None


def _must(message: str) -> str:
    for old in ("Input should ", "Value should "):
        if message.startswith(old):
            return "must " + message.removeprefix(old)
    return message[:1].lower() + message[1:]
