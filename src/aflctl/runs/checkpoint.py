"""State trees to safetensors and JSON and back, with the same bits and the same aliases. No pickle.

A tree is made of tensors, numpy arrays, None, booleans, integers, floats, text, bytes, tuples, named tuples, lists,
dicts, sets, frozen dataclasses, and tables with a `default` and `rows` (`ClientTable`). An object that occurs twice
(a tensor, or anything that can be changed in place) comes back as one object.

    folder/<n>.safetensors   the tensors
    folder/<n>.json          everything else, and the sha256 of both; written last, which makes generation n valid
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import struct
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import TYPE_CHECKING, Any

from aflctl.errors import HookFailed, RunDirError
from aflctl.runs.atomic import disk, write_bytes

if TYPE_CHECKING:
    from torch import Tensor

VERSION = 1
KEPT = 2  # generations; a torn or damaged one falls back to the one before

Spec = Any


def type_name(cls: type) -> str:
    """The name under which a type is stored."""
    return f"{cls.__module__}:{cls.__qualname__}"


def _is_record(cls: Any) -> bool:
    return isinstance(cls, type) and (is_dataclass(cls) or (issubclass(cls, tuple) and hasattr(cls, "_fields")))


def _is_table(value: Any) -> bool:
    return type(value).__name__ == "ClientTable" and hasattr(value, "default") and hasattr(value, "rows")


def state_types(*objects: Any) -> dict[str, type]:
    """The types that a checkpoint may name: dataclasses and named tuples that these objects' modules define or import.

    An object is a module, a class, or an instance (of a method, say, whose whole class hierarchy and `inner` count).
    """
    found: dict[str, type] = {}
    modules: list[ModuleType] = []

    def look(namespace: Mapping[str, Any]) -> None:
        for value in list(namespace.values()):
            if isinstance(value, type) and (_is_record(value) or value.__name__ == "ClientTable"):
                add(value)

    def add(cls: type) -> None:
        if type_name(cls) not in found:
            found[type_name(cls)] = cls
            look(vars(cls))
            visit(sys.modules.get(cls.__module__))

    def visit(module: ModuleType | None) -> None:
        foreign = ("torch", "numpy", "pydantic", "builtins", "typing", "collections", "dataclasses")
        if module is not None and module not in modules and module.__name__.partition(".")[0] not in foreign:
            modules.append(module)
            look(vars(module))

    pending = list(objects)
    while pending:
        value = pending.pop(0)
        if isinstance(value, ModuleType):
            visit(value)
            continue
        cls = value if isinstance(value, type) else type(value)
        for ancestor in cls.__mro__:
            if _is_record(ancestor):
                add(ancestor)
            look(vars(ancestor))
            visit(sys.modules.get(ancestor.__module__))
        inner = None if isinstance(value, type) else getattr(value, "inner", None)
        if inner is not None:
            pending.append(inner)
    return found


# ---- trees ----


class _Packer:
    def __init__(self) -> None:
        self.tensors: dict[str, Tensor] = {}
        self.seen: dict[int, Spec] = {}
        self.alive: list[Any] = []  # an id is only unique while its object lives

    def pack(self, value: Any, path: str) -> Spec:
        if value is None or type(value) in (bool, int, str):
            return value
        if type(value) is float:
            return value if math.isfinite(value) else {"float": struct.pack(">d", value).hex()}
        if id(value) in self.seen:
            return self.seen[id(value)]
        if type(value) is bytes:
            return {"bytes": base64.b64encode(value).decode()}
        if type(value) is tuple:
            return {"tuple": [self.pack(v, f"{path}[{i}]") for i, v in enumerate(value)]}
        if type(value) is frozenset:
            items = [self.pack(v, f"{path}{{}}") for v in value]
            return {"frozenset": sorted(items, key=lambda item: json.dumps(item, sort_keys=True))}
        if _is_tensor(value):
            return self.tensor(value, path)
        if isinstance(value, tuple) and _is_record(type(value)):
            named = {k: self.pack(v, f"{path}.{k}") for k, v in zip(value._fields, value)}  # type: ignore[attr-defined]
            return {"named": type_name(type(value)), "fields": named}
        return self.shared(value, path)

    def shared(self, value: Any, path: str) -> Spec:
        """What can be changed in place: the first occurrence is stored, later ones refer to it."""
        number = len(self.alive)
        self.alive.append(value)
        self.seen[id(value)] = {"same": number}
        if type(value) is list:
            return {"list": [self.pack(v, f"{path}[{i}]") for i, v in enumerate(value)], "id": number}
        if type(value) is set:
            return {"set": self.pack(frozenset(value), path)["frozenset"], "id": number}
        if isinstance(value, dict | MappingProxyType) and type(value) in (dict, MappingProxyType):
            return {"dict": self.items(value, path), "id": number}
        if _is_table(value):
            table = {"default": self.pack(value.default, f"{path}.default"), "rows": self.items(value.rows, path)}
            return {"table": table, "type": type_name(type(value)), "id": number}
        if is_dataclass(value) and not isinstance(value, type):
            named = {f.name: self.pack(getattr(value, f.name), f"{path}.{f.name}") for f in fields(value)}
            return {"type": type_name(type(value)), "fields": named, "id": number}
        if type(value).__module__ == "numpy":
            return self.array(value, path, number)
        raise HookFailed(
            f"the state holds a {type(value).__module__}.{type(value).__qualname__} at {path or 'its top'}",
            hint="a state may hold tensors, numbers, text, tuples, lists, dicts, sets, dataclasses and ClientTables",
        )

    def items(self, value: Mapping[Any, Any], path: str) -> list[list[Spec]]:
        return [[self.pack(k, f"{path} key"), self.pack(v, f"{path}[{k!r}]")] for k, v in value.items()]

    def tensor(self, value: Tensor, path: str) -> Spec:
        import torch

        if value.layout is not torch.strided:
            raise HookFailed(f"the state holds a tensor of layout {value.layout} at {path}", hint="store dense tensors")
        name = f"t{len(self.tensors)}"
        self.tensors[name] = value.detach()
        self.alive.append(value)
        self.seen[id(value)] = {"tensor": name}
        return {"tensor": name}

    def array(self, value: Any, path: str, number: int) -> Spec:
        import numpy as np
        import torch

        if isinstance(value, np.ndarray | np.generic) and value.dtype.kind in "biuf":
            content = self.tensor(torch.from_numpy(np.array(value, order="C")), path)
            return {"array": content["tensor"], "scalar": isinstance(value, np.generic), "id": number}
        raise HookFailed(f"the state holds a {type(value).__name__} at {path}", hint="store numeric arrays")


def _is_tensor(value: Any) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def pack(tree: Any) -> tuple[dict[str, Tensor], Spec]:
    """(tensors by name, the rest as JSON-able data); the tensors are those of the tree, not copies."""
    packer = _Packer()
    spec = packer.pack(tree, "")
    return packer.tensors, spec


def unpack(tensors: Mapping[str, Tensor], spec: Spec, types: Mapping[str, type]) -> Any:
    """The tree again; `types` (see `state_types`) is the only source of classes, and no constructor is run."""
    seen: dict[int, Any] = {}

    def keep(node: Mapping[str, Any], value: Any) -> Any:
        seen[node["id"]] = value
        return value

    def resolve(name: str) -> type:
        if name not in types:
            dotted = name.replace(":", ".")
            raise RunDirError(f"the checkpoint holds a {dotted}, which the method's modules do not define")
        return types[name]

    def build(node: Spec) -> Any:
        if not isinstance(node, dict):
            return node
        return makers[next(iter(node), "")](node)

    def make_list(node: Mapping[str, Any]) -> Any:
        value = keep(node, [])
        value.extend(map(build, node["list"]))
        return value

    def make_dict(node: Mapping[str, Any]) -> Any:
        value = keep(node, {})
        value.update((build(k), build(v)) for k, v in node["dict"])
        return value

    def make_set(node: Mapping[str, Any]) -> Any:
        return keep(node, set(map(build, node["set"])))

    def make_table(node: Mapping[str, Any]) -> Any:
        table = keep(node, object.__new__(resolve(node["type"])))
        table.default = build(node["table"]["default"])
        table.rows = {build(k): build(v) for k, v in node["table"]["rows"]}
        return table

    def make_record(node: Mapping[str, Any]) -> Any:
        cls = resolve(node["type"])
        known = {f.name for f in fields(cls)} if is_dataclass(cls) else set()
        if set(node["fields"]) != known:
            raise RunDirError(f"the checkpoint's {cls.__qualname__} has other fields than this version's")
        value = keep(node, object.__new__(cls))
        for name, part in node["fields"].items():
            object.__setattr__(value, name, build(part))
        return value

    def make_named(node: Mapping[str, Any]) -> Any:
        return tuple.__new__(resolve(node["named"]), [build(v) for v in node["fields"].values()])

    def make_array(node: Mapping[str, Any]) -> Any:
        array = tensors[node["array"]].numpy()
        return keep(node, array[()] if node["scalar"] else array)

    makers: dict[str, Callable[[Mapping[str, Any]], Any]] = {
        "float": lambda node: struct.unpack(">d", bytes.fromhex(node["float"]))[0],
        "bytes": lambda node: base64.b64decode(node["bytes"]),
        "tuple": lambda node: tuple(map(build, node["tuple"])),
        "frozenset": lambda node: frozenset(map(build, node["frozenset"])),
        "tensor": lambda node: tensors[node["tensor"]],
        "same": lambda node: seen[node["same"]],
        "list": make_list,
        "dict": make_dict,
        "set": make_set,
        "table": make_table,
        "type": make_record,
        "named": make_named,
        "array": make_array,
    }
    return build(spec)


# ---- files ----


def tensors_to_bytes(tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> bytes:
    """The safetensors form; tensors that share storage are stored one by one."""
    from safetensors.torch import save as dump

    taken: set[int] = set()
    ready: dict[str, Tensor] = {}
    for name, value in tensors.items():
        flat = value.detach().cpu().contiguous()
        storage = flat.untyped_storage()
        if storage.data_ptr() in taken or storage.nbytes() != flat.numel() * flat.element_size():
            flat = flat.clone()
        taken.add(flat.untyped_storage().data_ptr())
        ready[name] = flat
    return dump(ready, metadata=dict(metadata) if metadata else None)


def save_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """A safetensors file, atomically: `model.safetensors` of a run."""
    write_bytes(path, tensors_to_bytes(tensors, metadata))


def load_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, each in memory of its own."""
    try:
        return _tensors(path.read_bytes())
    except OSError as error:
        raise RunDirError(f"cannot be read ({error.strerror or error})", where=str(path)) from error
    except _Damaged as error:
        raise RunDirError(str(error), where=str(path)) from error


class _Damaged(Exception):
    """One generation that cannot be used."""


def _tensors(data: bytes) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load as parse

    try:
        return {name: value.clone() for name, value in parse(data).items()}
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise _Damaged(f"not a safetensors file: {error}") from error


def _digest(spec: Spec) -> str:
    return hashlib.sha256(json.dumps(spec, separators=(",", ":"), allow_nan=False).encode()).hexdigest()


def _generations(folder: Path) -> list[int]:
    """Newest first."""
    return sorted((int(p.stem) for p in folder.glob("*.json") if p.stem.isdigit()), reverse=True)


def save(folder: Path, tree: Any) -> int:
    """Writes one more generation of the tree, removes all but the last two, and returns the bytes written."""
    tensors, spec = pack(tree)
    data = tensors_to_bytes(tensors)
    document = {
        "schema": "aflctl.checkpoint",
        "version": VERSION,
        "tensors_sha256": hashlib.sha256(data).hexdigest(),
        "state_sha256": _digest(spec),
        "state": spec,
    }
    text = json.dumps(document, allow_nan=False).encode()
    with disk(folder):
        folder.mkdir(parents=True, exist_ok=True)
    present = _generations(folder)
    number = present[0] + 1 if present else 1
    write_bytes(folder / f"{number}.safetensors", data)
    write_bytes(folder / f"{number}.json", text)
    kept = {number, *present[: KEPT - 1]}
    for file in _files(folder):
        if int(file.stem) not in kept:
            with suppress(OSError):
                file.unlink()
    return len(data) + len(text)


def _files(folder: Path) -> Iterator[Path]:
    return (p for p in folder.iterdir() if p.stem.isdigit() and p.suffix in (".json", ".safetensors"))


def load(
    folder: Path, types: Mapping[str, type] | Iterable[type], unfit: Callable[[Any], str | None] = lambda tree: None
) -> Any:
    """The newest generation that is whole and not `unfit` (a reason, or None); RunDirError when none is."""
    by_name = types if isinstance(types, Mapping) else {type_name(cls): cls for cls in types}
    troubles: list[str] = []
    for number in _generations(folder):
        try:
            tree = _load(folder, number, by_name)
            reason = unfit(tree)
            if reason is None:
                return tree
            troubles.append(f"generation {number}: {reason}")
        except _Damaged as error:
            troubles.append(f"generation {number}: {error}")
    raise RunDirError(
        "there is no checkpoint" if not troubles else "no checkpoint can be used: " + "; ".join(troubles),
        where=str(folder),
        hint="start the run again with --rerun",
    )


def _load(folder: Path, number: int, types: Mapping[str, type]) -> Any:
    try:
        document = json.loads((folder / f"{number}.json").read_bytes())
        data = (folder / f"{number}.safetensors").read_bytes()
    except (OSError, ValueError, RecursionError) as error:
        raise _Damaged(str(error)) from error
    if not isinstance(document, dict) or document.get("schema") != "aflctl.checkpoint":
        raise _Damaged("not a checkpoint")
    if document.get("version") != VERSION:
        raise RunDirError(
            f"the checkpoint has version {document.get('version')}, this aflctl reads {VERSION}", where=str(folder)
        )
    whole = hashlib.sha256(data).hexdigest() == document.get("tensors_sha256")
    if not whole or _digest(document.get("state")) != document.get("state_sha256"):
        raise _Damaged("the content does not match its checksum")
    try:
        return unpack(_tensors(data), document["state"], types)
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise _Damaged(f"not a state: {error!r}") from error
