"""YAML that remembers on which line each value was written. Plain data only."""

from __future__ import annotations

from copy import deepcopy
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from aflctl.errors import ConfigError, Problem, UserError

FAST = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""libyaml's, 16 times as fast, where PyYAML was built with it."""


class Lines:
    """Line of each value by its path of keys and positions; an unknown path has its nearest known parent's."""

    def __init__(self) -> None:
        self.at: dict[tuple[str | int, ...], int] = {}

    def of(self, path: tuple[str | int, ...]) -> int:
        """Line number, from 1."""
        while path and path not in self.at:
            path = path[:-1]
        return self.at.get(path, 1)


def read_yaml(path: Path) -> tuple[dict[str, Any], Lines]:
    """A file's mapping and its lines. Raises ConfigError with file and line."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as why:
        raise UserError(f"cannot be read: {why}", where=str(path)) from None
    data, lines = _parsed(text, path)
    return deepcopy(data), lines


@lru_cache(maxsize=256)
def _parsed(text: str, path: Path) -> tuple[dict[str, Any], Lines]:
    """Kept by its text: the runs of a suite name the same few profiles again and again."""
    try:
        return _composed(text, path, FAST)
    except yaml.YAMLError:
        pass  # to be said in the words of the other reader
    try:
        return _composed(text, path, yaml.SafeLoader)
    except yaml.MarkedYAMLError as why:
        mark = why.problem_mark or why.context_mark
        line = mark.line + 1 if mark is not None else 1
        raise ConfigError([Problem("", f"not valid YAML: {why.problem}", f"{path}:{line}")]) from None
    except yaml.YAMLError as why:
        raise ConfigError([Problem("", f"not valid YAML: {why}", f"{path}:1")]) from None


def _composed(text: str, path: Path, reader: Any) -> tuple[dict[str, Any], Lines]:
    loader = reader(text)
    lines = Lines()
    try:
        node = loader.get_single_node()
        if not isinstance(node, yaml.MappingNode):
            raise ConfigError([Problem("", "a mapping of names to values is expected", f"{path}:1")])
        _note(node, (), lines, path)
        return loader.construct_document(node), lines
    finally:
        loader.dispose()


def _note(node: yaml.Node, path: tuple[str | int, ...], lines: Lines, file: Path) -> None:
    lines.at.setdefault(path, node.start_mark.line + 1)
    if isinstance(node, yaml.MappingNode):
        for name, value in node.value:
            at = (*path, str(name.value))
            if at in lines.at:
                where = f"{file}:{name.start_mark.line + 1}"
                raise ConfigError(
                    [Problem(".".join(map(str, at)), f"given twice, first on line {lines.at[at]}", where)]
                )
            lines.at[at] = name.start_mark.line + 1
            _note(value, at, lines, file)
    elif isinstance(node, yaml.SequenceNode):
        for i, value in enumerate(node.value):
            _note(value, (*path, i), lines, file)
