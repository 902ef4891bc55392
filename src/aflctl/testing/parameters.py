"""What is asked of every plug-in's parameters: that they say what they are, and that each of them does something."""

from __future__ import annotations

import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import zip_longest
from random import Random
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from aflctl.testing.results import Failed

_BOUNDS = ("minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum", "enum", "const")
_MOST = 14
WORDS = ("mid.weight", "mid", "encoders.m0.weight", "norm", "head", "@Linear:last")
"""What a parameter that takes text is tried with: names of the toy model's parts."""
Settings = dict[str, Any]


def schema(cls: type[BaseModel]) -> None:
    """Every parameter has a description, and a bound or a choice; an unknown key is refused."""
    try:
        whole = cls.model_json_schema()
    except Exception as error:
        raise Failed(f"its JSON Schema cannot be made: {type(error).__name__}: {error}") from error
    missing = list(_undescribed(whole, whole, ()))
    if missing:
        raise Failed("; ".join(missing))
    try:
        cls.model_validate({"no_such_parameter": 1})
    except ValidationError as error:
        if any(e["type"] == "extra_forbidden" for e in error.errors()):
            return
    raise Failed("an unknown parameter is not refused: keep model_config as the base class has it")


def _undescribed(node: Mapping[str, Any], whole: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[str]:
    for name, field in node.get("properties", {}).items():
        here, title = (*path, name), ".".join((*path, name))
        if not field.get("description"):
            yield f"{title} has no description: Field(..., description=...)"
        for form in _forms(field, whole):
            if "properties" in form:
                yield from _undescribed(form, whole, here)
            elif form.get("type") in ("integer", "number") and not any(b in form for b in _BOUNDS):
                yield f"{title} has no bound: Field(..., ge=...)"


def _forms(node: Mapping[str, Any], whole: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The simple types that a field may have."""
    if "$ref" in node:
        yield from _forms(whole["$defs"][node["$ref"].rpartition("/")[2]], whole)
    for word in ("anyOf", "allOf", "oneOf", "prefixItems"):
        for part in node.get(word, ()):
            yield from _forms(part, whole)
    if isinstance(node.get("items"), Mapping):
        yield from _forms(node["items"], whole)
    if "type" in node or "enum" in node or "const" in node:
        yield node


def constructs(cls: type[BaseModel], params: Mapping[str, Any]) -> None:
    """Two objects of the same parameters are equal, and what is written into a run directory makes the same again."""
    one, two = cls(**params), cls(**params)
    if one != two:
        raise Failed("two objects with the same parameters are not equal: keep state out of the plug-in")
    again = cls.model_validate(one.model_dump(mode="json", by_alias=True))
    if again != one:
        raise Failed(f"written down and read again it is another: {one!r} and {again!r}")
    for name in cls.model_fields:
        try:
            setattr(one, name, getattr(one, name))
        except (ValidationError, AttributeError, TypeError):
            continue
        raise Failed("it is not frozen: keep model_config as the base class has it")


def docstring(cls: type[Any], *, equation: bool, sections: Sequence[str]) -> None:
    """A summary line and what the kind of plug-in wants besides."""
    text = (cls.__doc__ or "").strip()
    missing = []
    lines = text.splitlines()
    if not lines or len(lines[0].strip()) < 10:
        missing.append("a summary line")
    if equation and not any(sign in line for line in lines[1:] for sign in ("<-", "=", "->")):
        missing.append("the rule as an equation (x <- x + ...)")
    missing += [f"'{word}:'" for word in sections if f"{word}:" not in text]
    if missing:
        raise Failed("the docstring lacks " + ", ".join(missing))


# ---- does every parameter do something? ----


def changed(cls: type[BaseModel], settings: Settings, name: str, value: Any) -> Settings | None:
    """The settings with one value changed; None where that is not allowed."""
    made = {**settings, name: value}
    try:
        object_ = cls(**made)
    except (ValidationError, ValueError, TypeError):
        return None
    return made if object_ != cls(**settings) else None


def values(cls: type[BaseModel], settings: Settings, name: str) -> list[Settings]:
    """Other settings that differ in one parameter, the more telling ones first."""
    field = cls.model_fields[name]
    now = getattr(cls(**settings), name)
    found: list[Settings] = []
    for value in _others(field.annotation, now):
        made = changed(cls, settings, name, value)
        if made is not None and made not in found:
            found.append(made)
    return found[:_MOST]


def _others(annotation: Any, now: Any) -> Iterator[Any]:
    """Values that a parameter might have besides `now`; some may be out of its bounds."""
    origin = get_origin(annotation)
    if origin is Annotated:
        yield from _others(get_args(annotation)[0], now)
    elif origin is Literal:
        yield from (v for v in get_args(annotation) if v != now)
    elif origin in (Union, types.UnionType):
        for part in get_args(annotation):
            if part is type(None):
                if now is not None:
                    yield None
            else:
                yield from _others(part, now)
    elif annotation is bool:
        yield not now
    elif annotation in (int, float):
        yield from _numbers(annotation, now)
    elif isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield from _parts(annotation, now)
    elif annotation is str:
        yield from WORDS
    elif origin in (tuple, list) and isinstance(now, tuple | list):
        if not now:
            yield from ([word] for word in _others(get_args(annotation)[0], None))
            return
        first = next((v for v in _others(get_args(annotation)[0], now[0]) if v != now[0]), now[0])
        yield [first, *now[1:]]
        yield [*now, now[-1]]
        yield list(now[:-1])


def _numbers(kind: type, now: Any) -> Iterator[Any]:
    if kind is int:
        v = now if isinstance(now, int) else 3
        yield from (1, 2, v + 1, v - 1, 0, 2 * v, v // 2, 5 * v, 3, 4)
    else:
        f = float(now) if isinstance(now, (int, float)) else 1.0
        yield from (f / 4, f * 3, 0.0, 1.0, f / 50, f * 50, 0.5, 0.9, f + 1, 10.0, 1e3)


def _parts(model: type[BaseModel], now: Any) -> Iterator[Any]:
    """Objects that differ from `now` in one of their own fields, taking turns among the fields."""
    now = now if isinstance(now, model) else model()
    turns = []
    for name, field in model.model_fields.items():
        turns.append([{name: value} for value in _others(field.annotation, getattr(now, name))])
    for row in zip_longest(*turns):
        for change in row:
            if change is not None:
                said = {k: getattr(now, k) for k in now.model_fields_set}
                try:
                    yield model(**{**said, **change})
                except (ValidationError, ValueError, TypeError):
                    continue


def around(cls: type[BaseModel], settings: Settings, name: str) -> Iterator[Settings]:
    """Settings in which the parameter may matter although it does not in the given ones: other parameters changed.

    First the choices, which say what plays a part at all, alone and with all numbers changed too; then the numbers.
    """
    choices: list[list[Settings]] = []
    numbers: dict[str, list[Settings]] = {}
    for other, info in cls.model_fields.items():
        if other != name:
            found = values(cls, settings, other)
            if info.annotation in (int, float):
                numbers[other] = found
            else:
                choices.append(found)
    chosen = [made for row in zip_longest(*choices) for made in row if made is not None]
    yield from chosen
    for start in (settings, *chosen):
        for other, found in numbers.items():
            if found:
                start = changed(cls, start, other, found[0][other]) or start
        yield start
    for row in zip_longest(*(found[:3] for found in numbers.values())):
        yield from (made for made in row if made is not None)


def wilder(cls: type[BaseModel], settings: Settings, name: str, count: int) -> Iterator[Settings]:
    """Settings in which every other parameter has a value picked at random, by a generator of their own."""
    dice = Random(name)
    others = {other: values(cls, settings, other) for other in cls.model_fields if other != name}
    for _ in range(count):
        made = settings
        for other, found in others.items():
            if found and dice.random() < 0.7:
                made = changed(cls, made, other, dice.choice(found)[other]) or made
        yield made


Facts = Mapping[str, str] | None


def idle(
    cls: type[BaseModel],
    name: str,
    starts: Sequence[Settings],
    facts: Callable[[Settings], Facts],
    most: int,
    wild: int = 0,
) -> bool:
    """Whether no change of the parameter changed anything: in up to `most` tries, and as many as `wild` settings take.

    Without a try nothing is said. `facts` of settings that are refused are None.
    """
    tried = 0

    def moves(context: Settings, several: int) -> bool:
        nonlocal tried
        before = facts(context)
        for other in values(cls, context, name)[:several] if before is not None else ():
            after = facts(other)
            if after is not None and after != before:
                return True
            tried += after is not None
        return False

    if any(moves(start, 8) for start in starts):
        return False
    for start in starts:
        for context in around(cls, start, name):
            if tried >= most:
                break
            if moves(context, 2):
                return False
        if any(moves(context, 2) for context in wilder(cls, start, name, wild)):
            return False
    return tried > 0
