"""Reads YAML into plain data that knows the line of every key; writes it back.

The scalars are those of YAML 1.2's core schema: `1e-3` is a number, `no`, `on`, `1:30` and dates are text. Tags other
than the plain ones, keys given twice, and aliases that blow up are refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

MAX_BYTES = 1 << 20
MAX_NODES = 50_000
MAX_DEPTH = 50

_BREAKS = set("\r\x85\u2028\u2029\ufeff")
_TAG = "tag:yaml.org,2002:"
_SCALARS = ("null", "bool", "int", "float", "str")
_PATTERNS = {
    "null": (r"~|null|Null|NULL|", ("~", "n", "N", "")),
    "bool": (r"true|True|TRUE|false|False|FALSE", tuple("tTfF")),
    "int": (r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", tuple("-+0123456789")),
    "float": (
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        tuple("-+.0123456789"),
    ),
}
Path_ = tuple[str, ...]


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers = {}  # noqa: RUF012


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True


for _name, (_pattern, _first) in _PATTERNS.items():
    for _class in (_Loader, _Dumper):
        _class.add_implicit_resolver(f"{_TAG}{_name}", re.compile(f"^(?:{_pattern})$"), list(_first))


@dataclass(frozen=True)
class Mistake:
    """Something that YAML allows and a configuration does not, or that is no YAML; `line` and `column` from 1."""

    message: str
    line: int
    column: int
    path: Path_ = ()


@dataclass
class Document:
    """Plain data, the line of each key, and what was wrong."""

    data: Any = None
    lines: dict[Path_, int] = field(default_factory=dict)
    mistakes: list[Mistake] = field(default_factory=list)


def parse(text: str) -> Document:
    """The document in `text`; never raises for what the text says."""
    document = Document()
    try:
        node = yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        said = ", ".join(p for p in (error.context, error.problem) if p)
        if error.context_mark is not None and mark is not error.context_mark:
            said += f" (it began in line {error.context_mark.line + 1})"
        if "'\\t'" in said:
            said = "a tab cannot indent; use spaces"
        document.mistakes.append(Mistake(f"not readable as YAML: {said}", line, column))
        return document
    except yaml.reader.ReaderError as error:
        before = text[: error.position] if isinstance(error.position, int) else ""
        line, column = before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1
        document.mistakes.append(Mistake(f"character {error.character!r} is not allowed in YAML", line, column))
        return document
    except RecursionError:
        document.mistakes.append(Mistake("nested too deeply", 1, 1))
        return document
    if node is not None:
        document.data = _Reader(document).value(node, (), ())
    return document


class _Reader:
    def __init__(self, document: Document) -> None:
        self.document = document
        self.nodes = 0

    def value(self, node: yaml.Node, path: Path_, above: tuple[int, ...]) -> Any:
        self.nodes += 1
        if self.nodes > MAX_NODES or len(above) > MAX_DEPTH or id(node) in above:
            if self.nodes <= MAX_NODES + 1:
                self.nodes = MAX_NODES + 1
                self.mistake("too much: aliases within aliases, or nesting without end", node, path)
            return None
        above = (*above, id(node))
        if isinstance(node, yaml.MappingNode):
            return self.mapping(node, path, above)
        if isinstance(node, yaml.SequenceNode):
            self.check_tag(node, ("seq",), path)
            return [self.element(child, (*path, str(i)), above) for i, child in enumerate(node.value)]
        return self.scalar(node, path)

    def element(self, node: yaml.Node, path: Path_, above: tuple[int, ...]) -> Any:
        self.document.lines[path] = node.start_mark.line + 1
        return self.value(node, path, above)

    def mapping(self, node: yaml.MappingNode, path: Path_, above: tuple[int, ...]) -> dict[str, Any]:
        self.check_tag(node, ("map",), path)
        result: dict[str, Any] = {}
        for key_node, child in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                self.mistake("a key must be text", key_node, path)
                continue
            key = str(key_node.value)
            self.check_tag(key_node, _SCALARS, (*path, key))
            if key in result:
                first = self.document.lines[*path, key]
                self.mistake(f"given twice; the first is in line {first}", key_node, (*path, key))
                continue
            self.document.lines[*path, key] = key_node.start_mark.line + 1
            result[key] = self.value(child, (*path, key), above)
        return result

    def scalar(self, node: yaml.Node, path: Path_) -> Any:
        text = str(node.value)
        tag = node.tag.removeprefix(_TAG)
        self.check_tag(node, _SCALARS, path)
        try:
            if tag == "null":
                return None
            if tag == "bool":
                return text.lower() == "true"
            if tag == "int":
                return int(text, 0) if text[:2] in ("0o", "0x") else int(text)
            if tag == "float":
                return float(text.replace(".inf", "inf").replace(".nan", "nan") if text[-1:].isalpha() else text)
        except ValueError:
            self.mistake(f"{text!r} is no {tag}", node, path)
        return text

    def check_tag(self, node: yaml.Node, allowed: tuple[str, ...], path: Path_) -> None:
        if node.tag not in [_TAG + name for name in allowed]:
            self.mistake(f"tag {node.tag.replace(_TAG, '!!')!r} is not allowed", node, path)

    def mistake(self, message: str, node: yaml.Node, path: Path_) -> None:
        mark = node.start_mark
        self.document.mistakes.append(Mistake(message, mark.line + 1, mark.column + 1, path))


class _Row(list[Any]):
    """A list to be written on one line."""


def _represent_row(dumper: yaml.SafeDumper, data: _Row) -> yaml.Node:
    return dumper.represent_sequence(f"{_TAG}seq", list(data), flow_style=True)


def _represent_text(dumper: yaml.SafeDumper, data: str) -> yaml.Node:
    """Line breaks that are not plain newlines survive only in double quotes."""
    return dumper.represent_scalar(f"{_TAG}str", data, style='"' if _BREAKS & set(data) else None)


_Dumper.add_representer(_Row, _represent_row)
_Dumper.add_representer(str, _represent_text)


def _rows(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _rows(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        plain = not any(isinstance(v, Mapping | list | tuple) for v in value)
        return _Row(value) if plain else [_rows(v) for v in value]
    return value


def write(data: Mapping[str, Any]) -> str:
    """YAML in the order of the mapping; reads back as the same data under YAML 1.1 and 1.2 readers alike."""
    text: str = yaml.dump(_rows(data), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)
    return text
