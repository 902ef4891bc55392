"""The converted form of a dataset: one safetensors file, mapped into memory on opening, with its fingerprint inside."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from aflctl.data.cache import fingerprint
from aflctl.errors import DiskProblem, EnvironmentProblem

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

SCHEMA = "1"
CHUNK_BYTES = 16 << 20
KINDS = {
    "u1": "U8",
    "i1": "I8",
    "i2": "I16",
    "i4": "I32",
    "i8": "I64",
    "f2": "F16",
    "f4": "F32",
    "f8": "F64",
    "b1": "BOOL",
}


@dataclass(frozen=True)
class Table:
    """Arrays by name, and notes that are not arrays (class names, vocabularies, where the bytes came from).

    Names that every reader knows: `train/x/<modality>`, `train/y`, `test/x/<modality>`, `test/y`, `natural/<column>`.
    """

    arrays: Mapping[str, NDArray[Any]]
    notes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Stored:
    """An opened file: tensors backed by the mapped file, the notes, and the fingerprint written with them."""

    tensors: Mapping[str, Tensor]
    notes: Mapping[str, Any]
    fingerprint: str


def write(path: Path, table: Table, how: str) -> str:
    """Writes the file under a temporary name, flushes and renames it; returns the fingerprint."""
    import numpy as np

    arrays = {name: np.ascontiguousarray(array) for name, array in table.arrays.items()}
    for name, array in arrays.items():
        if array.dtype.hasobject:
            raise TypeError(f"array {name!r} holds Python objects")
    mark = fingerprint(how, arrays)
    notes = json.dumps(table.notes, sort_keys=True, ensure_ascii=False)
    partial = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as stream:
            _stream(stream, arrays, {"schema": SCHEMA, "fingerprint": mark, "how": how, "notes": notes})
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(partial, path)
    except OSError as error:
        raise DiskProblem(f"cannot write {path}: {error}", hint="free some space or set AFLCTL_DATA_DIR") from error
    finally:
        if partial.exists():
            partial.unlink()
    return mark


def _stream(out: BinaryIO, arrays: Mapping[str, NDArray[Any]], notes: Mapping[str, str]) -> None:
    """The safetensors format (8 bytes length, JSON header, arrays), written piece by piece: nothing is copied whole."""
    import numpy as np

    header: dict[str, Any] = {"__metadata__": notes}
    at = 0
    for name, array in sorted(arrays.items(), key=lambda item: -item[1].itemsize):  # wide types first: all stay aligned
        kind = KINDS[array.dtype.newbyteorder("=").str.lstrip("<=|")]
        header[name] = {"dtype": kind, "shape": array.shape, "data_offsets": (at, at + array.nbytes)}
        at += array.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 64)
    out.write(len(text).to_bytes(8, "little") + text)
    for name in list(header)[1:]:
        array = np.ascontiguousarray(arrays[name], arrays[name].dtype.newbyteorder("<"))
        for rows in np.array_split(array, max(1, array.nbytes // CHUNK_BYTES)) if array.ndim else [array]:
            out.write(rows.tobytes())


def peek(path: Path) -> dict[str, str] | None:
    """What was written with the arrays, without loading them; None where the file is cut short or no such file."""
    try:
        with path.open("rb") as stream:
            size = int.from_bytes(stream.read(8), "little")
            if size > path.stat().st_size:
                return None
            header = json.loads(stream.read(size))
        notes = header.pop("__metadata__")
        end = max((entry["data_offsets"][1] for entry in header.values()), default=0)
        return notes if path.stat().st_size == 8 + size + end else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError):
        return None


def intact(path: Path, how: str) -> bool:
    """Whether the file is there, was made in this way, and its arrays still have their fingerprint."""
    notes = peek(path)
    if notes is None or notes.get("schema") != SCHEMA or notes.get("how") != how:
        return False
    stored = read(path, how)
    return (
        stored is not None and fingerprint(how, {k: v.numpy() for k, v in stored.tensors.items()}) == stored.fingerprint
    )


def read(path: Path, how: str) -> Stored | None:
    """The file's tensors without copying them; None where it is absent or was made in another way."""
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as opened:
            notes = opened.metadata() or {}
            if notes.get("schema") != SCHEMA or notes.get("how") != how:
                return None
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise EnvironmentProblem(
            f"{path}: the converted dataset is damaged ({error})",
            hint=f"run: aflctl data prepare {path.parent.name}, with the same parameters; it makes the file anew",
        ) from error
    return Stored(tensors, json.loads(notes["notes"]), notes["fingerprint"])
