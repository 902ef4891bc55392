"""The JSON Schema agrees with the loader."""

from __future__ import annotations

from typing import Any

import jsonschema
import pytest

from aflctl.config.load import json_schema, presets, to_yaml
from aflctl.config.matrix import expand
from aflctl.config.yaml_text import parse


@pytest.fixture(scope="module")
def validator() -> Any:
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def test_every_reference_leads_somewhere(validator: Any) -> None:
    def refs(value: Any) -> set[str]:
        if isinstance(value, dict):
            own = {value["$ref"]} if isinstance(value.get("$ref"), str) else set()
            return own.union(*(refs(v) for v in value.values()))
        return set().union(*(refs(v) for v in value)) if isinstance(value, list) else set()

    names = {f"#/$defs/{name}" for name in validator.schema["$defs"]}
    assert refs(validator.schema) <= names


@pytest.mark.parametrize("name", sorted(presets()))
def test_presets_and_their_resolved_forms_pass(validator: Any, name: str) -> None:
    validator.validate(parse(presets()[name].read_text()).data)
    for loaded in expand(name).loaded[:1]:
        validator.validate(parse(to_yaml(loaded.config)).data)


@pytest.mark.parametrize(
    ("data", "fine"),
    [
        ({"algorithm": "fedavg"}, True),
        ({"algorithm": "fedbuff", "seed": 3}, True),
        ({"algorithm": {"name": "fedbuff", "buffer_size": 3, "staleness": {"kind": "hinge"}}}, True),
        ({"algorithm": "./mine.py:FedMine"}, True),
        ({"algorithm": {"name": "./mine.py:FedMine", "k": 3}}, True),
        ({"algorithm": "some-dist/fedx"}, True),
        ({"dataset": {"name": "digits", "partition": "iid", "test_fraction": 0.2}}, True),
        ({"fleet": "poster-1-1-1"}, True),
        ({"fleet": {"devices": {"a": 1}, "networks": {"b": 2}, "availability": "markov"}}, True),
        ({"fleet": {"name": "x", "availability": [{"name": "markov", "mean_on_s": 3}]}}, True),
        ({"personalization": None}, True),
        ({"algorithm": "fedbuf"}, False),
        ({"algorithm": {"name": "fedbuff", "bufer_size": 3}}, False),
        ({"algorithm": {"name": "fedbuff", "buffer_size": 0}}, False),
        ({"algorithm": {"buffer_size": "many"}}, False),
        ({"dataset": {"name": "digits", "alpha": 3}}, False),
        ({"local": {"lr": -1}}, False),
        ({"sed": 1}, False),
        ({"fleet": 3}, False),
    ],
)
def test_it_knows_right_from_wrong(validator: Any, data: dict[str, Any], fine: bool) -> None:
    assert validator.is_valid(data) is fine


def test_it_describes_the_parameters_of_installed_plug_ins(validator: Any) -> None:
    options = validator.schema["$defs"]["algorithms"]["oneOf"]
    fedbuff = next(o for o in options if o.get("title") == "fedbuff")
    assert fedbuff["properties"]["buffer_size"]["minimum"] == 1
    assert fedbuff["properties"]["buffer_size"]["description"]
