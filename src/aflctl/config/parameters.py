"""What a pydantic model says of its fields, in words: for messages, listings and did-you-mean."""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

_BOUNDS = (("gt", ">"), ("ge", ">="), ("lt", "<"), ("le", "<="))
_LENGTHS = (("min_length", "at least"), ("max_length", "at most"))
_NAMES = {int: "integer", float: "number", str: "text", bool: "true or false", type(None): "null"}


@dataclass(frozen=True)
class Parameter:
    """One field: its type, default, range and meaning as text; `default` is None with `required`."""

    name: str
    type: str
    required: bool
    default: Any
    range: str
    description: str


def parameters(model: type[BaseModel], inside: str = "", given: BaseModel | None = None) -> list[Parameter]:
    """The fields of a model, in the order of their definition; those of a model within follow it as `field.inner`.

    `given` is an instance whose values stand for the defaults.
    """
    rows: list[Parameter] = []
    for name, info in model.model_fields.items():
        required = given is None and info.is_required()
        default: Any = None
        if given is not None:
            default = getattr(given, name)
        elif not required:
            default = info.get_default(call_default_factory=True, validated_data={})
        rows.append(
            Parameter(
                f"{inside}{info.alias or name}",
                type_text(info.annotation),
                required,
                default.model_dump(mode="json") if isinstance(default, BaseModel) else default,
                range_text(info),
                (info.description or "").strip(),
            )
        )
        inner = model_inside(info.annotation)
        if inner is not None and inner is not model and inside.count(".") < 2:
            rows += parameters(inner, f"{rows[-1].name}.", default if isinstance(default, inner) else None)
    return rows


def type_text(annotation: Any) -> str:
    """'integer or null', 'one of sgd, adam', 'list of integer'."""
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return type_text(args[0])
    if origin is Literal:
        return "one of " + ", ".join(str(a) for a in args) if len(args) > 1 else str(args[0])
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(type_text(a) for a in args))
    if origin in (list, tuple, set, frozenset):
        inner = dict.fromkeys(type_text(a) for a in args if a is not Ellipsis)
        return f"list of {' and '.join(inner)}" if inner else "list"
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return f"mapping of {type_text(args[0])} to {type_text(args[1])}" if len(args) == 2 else "mapping"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation.__name__
    return str(_NAMES.get(annotation) or getattr(annotation, "__name__", annotation))


def range_text(info: FieldInfo) -> str:
    """'> 0, <= 1' from the bounds of a field, also those inside a union; empty where it has none."""
    said: dict[str, None] = {}
    for item in _metadata(info.annotation, list(info.metadata)):
        for bounds, join in ((_BOUNDS, ""), (_LENGTHS, "items: ")):
            for attr, sign in bounds:
                limit = getattr(item, attr, None)
                if limit is not None and not callable(limit):
                    said[f"{join}{sign} {limit:g}" if isinstance(limit, int | float) else f"{sign} {limit}"] = None
    return ", ".join(said)


def _metadata(annotation: Any, found: list[Any]) -> list[Any]:
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        found = [*found, *args[1:], *(m for a in args[1:] if isinstance(a, FieldInfo) for m in a.metadata)]
        return _metadata(args[0], found)
    if origin in (Union, types.UnionType):
        for a in args:
            found = _metadata(a, found)
    return found


def takes_number_only(info: FieldInfo) -> bool:
    """Whether a field holds a number and neither text nor a truth value, so that `true` for 1 is a mistake."""
    kinds = set(_flat(info.annotation))
    return bool(kinds & {int, float}) and not kinds - {int, float, type(None)}


def _flat(annotation: Any) -> list[Any]:
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _flat(args[0])
    if origin in (Union, types.UnionType):
        return [b for a in args for b in _flat(a)]
    return [annotation]


def model_inside(annotation: Any) -> type[BaseModel] | None:
    """The only pydantic model in an annotation: that of `Stop | None`, or of a tuple of models."""
    found: list[type[BaseModel]] = []
    stack = [annotation]
    while stack:
        item = stack.pop()
        if isinstance(item, type) and not get_args(item) and issubclass(item, BaseModel):
            found.append(item)
        stack.extend(a for a in get_args(item) if a is not Ellipsis)
    return found[0] if len(found) == 1 else None


def field_at(model: type[BaseModel], keys: tuple[str, ...]) -> tuple[type[BaseModel] | None, FieldInfo | None]:
    """(the model that holds the last key, its field or None) for a path into nested models."""
    at: type[BaseModel] | None = model
    info: FieldInfo | None = None
    for i, key in enumerate(keys):
        if at is None:
            return None, None
        info = at.model_fields.get(key)
        if i == len(keys) - 1:
            return at, info
        if key.isdigit() and info is None:
            continue
        at = model_inside(info.annotation) if info is not None else None
    return at, info
