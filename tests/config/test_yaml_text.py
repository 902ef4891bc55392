"""YAML as people mean it: 1.2's scalars, a line for every key, and nothing dangerous."""

from __future__ import annotations

import time

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from aflctl.config.yaml_text import parse, write


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("1.5E+3", 1500.0),
        (".5", 0.5),
        ("-.inf", -float("inf")),
        ("010", 10),
        ("0x1F", 31),
        ("no", "no"),
        ("yes", "yes"),
        ("On", "On"),
        ("off", "off"),
        ("y", "y"),
        ("true", True),
        ("False", False),
        ("1:30", "1:30"),
        ("2020-01-01", "2020-01-01"),
        ("1_000", "1_000"),
        ("~", None),
        ("", None),
        ("null", None),
        ("'1'", "1"),
        ("0.1.2", "0.1.2"),
    ],
)
def test_scalars(text: str, value: object) -> None:
    found = parse(f"k: {text}\n")
    assert found.mistakes == []
    assert found.data == {"k": value}
    assert type(found.data["k"]) is type(value)


def test_lines() -> None:
    found = parse("# comment\na:\n  b: 1\n  c: [1,\n      2]\nd:\n- e: 3\n")
    assert found.lines[("a", "b")] == 3
    assert found.lines[("a", "c")] == 4
    assert found.lines[("a", "c", "1")] == 5
    assert found.lines[("d", "0", "e")] == 7


@pytest.mark.parametrize(
    ("text", "message", "line"),
    [
        ("a: 1\nb: 2\na: 3\n", "given twice; the first is in line 1", 3),
        ("a: !!python/object/apply:os.system ['true']\n", "not allowed", 1),
        ("a: !mine 3\n", "not allowed", 1),
        ("a: !!binary aGk=\n", "not allowed", 1),
        ("a: !!set {x}\n", "not allowed", 1),
        ("a:\n\tb: 3\n", "a tab cannot indent", 2),
        ("a: [1, 2\nb: 3\n", "not readable as YAML", 2),
        ("a: 1\n---\nb: 1\n", "not readable as YAML", 2),
        ("a: b: c\n", "not readable as YAML", 1),
        ("a: \x07\n", "is not allowed in YAML", 1),
        ("? [1, 2]\n: 3\n", "a key must be text", 1),
        ("a: *gone\n", "undefined alias", 1),
        ("a: &x\n  b: *x\n", "aliases within aliases", 1),
        ("[" * 500 + "]" * 500, "", 1),
        ("[" * 5000 + "]" * 5000, "", 1),
    ],
)
def test_mistakes(text: str, message: str, line: int) -> None:
    found = parse(text)
    assert len(found.mistakes) == 1
    assert message in found.mistakes[0].message
    assert found.mistakes[0].line == line


def test_an_alias_is_fine_and_a_bomb_is_not() -> None:
    assert parse("a: &x {b: 1}\nc: *x\n").data == {"a": {"b": 1}, "c": {"b": 1}}
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12)
    )
    begin = time.perf_counter()
    assert "aliases" in parse(bomb).mistakes[0].message
    assert time.perf_counter() - begin < 5


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.sampled_from(
        ["no", "1e-3", "1:30", "0o7", "~", "2020-01-01", "010", ".5", "=", "<<", "0x1", "1_000", "TRUE", "y"]
    ),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(st.text(min_size=1), plain, min_size=1, max_size=5))
def test_what_is_written_reads_back(data: dict[str, object]) -> None:
    text = write(data)
    found = parse(text)
    assert found.mistakes == []
    assert found.data == data
    assert yaml.safe_load(text) == data
