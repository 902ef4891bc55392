"""The JSON Schema (draft 2020-12) of a configuration, with the parameters of the installed plug-ins."""

from __future__ import annotations

import copy
from typing import Any

from pydantic import BaseModel

from aflctl import errors, plugins
from aflctl.config.schema import Config, DatasetRef, ModelRef, PluginRef

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_LOCAL = r"\.py(:.*)?$"
_QUALIFIED = r"^[^/\s]+/(?!.*\.py(:.*)?$)[^/\s]+$"

_ENTRIES = {"type": "object", "minProperties": 1}
_MATRIX: dict[str, Any] = {
    "description": "makes the file many runs: dotted key -> list of values; all combinations are run",
    "type": "object",
    "properties": {
        "exclude": {
            "description": "combinations to leave out: those with all values of an entry",
            "anyOf": [_ENTRIES, {"type": "array", "items": _ENTRIES}],
        },
        "include": {
            "description": "runs to add; a list in an entry is combined like those of the matrix",
            "anyOf": [_ENTRIES, {"type": "array", "items": _ENTRIES}],
        },
    },
    "additionalProperties": {"type": "array", "minItems": 1},
}


def json_schema(registry: plugins.Registry | None = None) -> dict[str, Any]:
    """A schema for editors. Plug-ins that do not load are left out; local files are allowed with any parameters."""
    registry = registry or plugins.registry()
    schema = Config.model_json_schema(mode="validation")
    defs = schema.setdefault("$defs", {})
    own = {
        "datasets": _beside(DatasetRef, defs),
        "models": _beside(ModelRef, defs),
    }
    for kind in plugins.BASES:
        defs[kind] = _kind(kind, registry, defs, own.get(kind, {}))
    defs["availability"] = {
        "oneOf": [
            {"type": "string"},
            {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]},
        ]
    }
    _point(schema["properties"], "algorithm", _ref("algorithms"))
    _point(schema["properties"], "dataset", _ref("datasets"))
    _point(schema["properties"], "model", _ref("models"))
    _point(schema["properties"], "personalization", _one_or_more("personalizations"))
    _point(defs["Clients"]["properties"], "selection", _ref("selections"))
    _point(defs["FleetSpec"]["properties"], "availability", _one_or_more("availability"))
    schema["properties"]["matrix"] = _MATRIX
    for unused in ("PluginRef", "DatasetRef", "ModelRef", "AvailabilityRef"):
        defs.pop(unused, None)
    return {"$schema": _DIALECT, "title": "aflctl configuration", **{k: v for k, v in schema.items() if k != "title"}}


def _kind(kind: str, registry: plugins.Registry, defs: dict[str, Any], beside: dict[str, Any]) -> dict[str, Any]:
    names: list[str] = []
    objects: list[dict[str, Any]] = []
    for name in registry.names(kind):
        try:
            cls = registry.load(kind, name)
        except errors.AflctlError:
            continue
        names.append(name)
        objects.append(_plugin(kind, name, cls, defs, beside))
    texts: list[dict[str, Any]] = [{"type": "string", "enum": names}] if names else []
    texts += [{"type": "string", "pattern": _LOCAL}]
    if not any("/" in name for name in names):
        texts += [{"type": "string", "pattern": _QUALIFIED}]
    free = {"type": "object", "required": ["name"]}
    objects.append({**free, "properties": {"name": {"type": "string", "pattern": _LOCAL}, **beside}})
    word = plugins.word(kind)
    return {"description": f"a {word}: its name, or a mapping with its name and parameters", "oneOf": texts + objects}


def _plugin(kind: str, name: str, cls: type[BaseModel], defs: dict[str, Any], beside: dict[str, Any]) -> dict[str, Any]:
    prefix = f"{kind}.{name.replace('/', '.')}"
    title = {"title": name, "description": (cls.__doc__ or "").strip().split("\n")[0]}
    head: dict[str, Any] = {"name": {"const": name}}
    try:
        schema = cls.model_json_schema(mode="validation", ref_template=f"#/$defs/{prefix}.{{model}}")
    except Exception:  # a stranger's field type without a schema: any parameters will do for an editor
        return {**title, "type": "object", "properties": {**head, **beside}, "required": ["name"]}
    for inner, text in schema.pop("$defs", {}).items():
        defs[f"{prefix}.{inner}"] = text
    return {
        **title,
        "type": "object",
        "properties": {**head, **schema.get("properties", {}), **beside},
        "required": ["name", *schema.get("required", [])],
        "additionalProperties": False,
    }


def _beside(ref: type[PluginRef], defs: dict[str, Any]) -> dict[str, Any]:
    properties = copy.deepcopy(defs[ref.__name__]["properties"])
    kept = {k: v for k, v in properties.items() if k not in ("name", "params")}
    for key, kind in (("partition", "partitions"), ("fusion", "fusions")):
        if key in kept:
            _point(kept, key, _ref(kind))
    return kept


def _point(properties: dict[str, Any], key: str, target: dict[str, Any]) -> None:
    """Replaces what pydantic says of a field, its description kept."""
    properties[key] = {**{k: v for k, v in properties[key].items() if k == "description"}, **target}


def _ref(kind: str) -> dict[str, Any]:
    return {"$ref": f"#/$defs/{kind}"}


def _one_or_more(kind: str) -> dict[str, Any]:
    return {"anyOf": [_ref(kind), {"type": "array", "items": _ref(kind)}, {"type": "null"}]}
