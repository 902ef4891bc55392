"""A partition as numbers: what it looks like, what identifies it, and the file that holds it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aflctl.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Parts = Sequence[NDArray[np.int64]]


FINGERPRINT, DATA = "fingerprint", "data"


@dataclass(frozen=True)
class Index:
    """Positions per client, and what was written with them (`data` = fingerprint of the dataset they belong to)."""

    parts: list[NDArray[np.int64]]
    notes: Mapping[str, str] = field(default_factory=dict)


def parts_fingerprint(parts: Parts) -> str:
    """sha256 of the index lists: number of clients, then each client's size and positions as little-endian int64."""
    from hashlib import sha256

    import numpy as np

    digest = sha256(len(parts).to_bytes(8, "little"))
    for part in parts:
        digest.update(len(part).to_bytes(8, "little") + np.ascontiguousarray(part, "<i8").tobytes())
    return digest.hexdigest()


def describe_counts(counts: NDArray[np.int64], whole: NDArray[np.int64] | None = None) -> dict[str, Any]:
    """Sizes, classes per client, and the mean total-variation distance of the clients' label mix from the whole.

    counts   [M, C] samples of each class at each client
    whole    [C] samples of each class in all; none = the sum over the clients
    """
    import numpy as np

    sizes = counts.sum(1)
    everything = counts.sum(0) if whole is None else whole
    mixes = counts[sizes > 0] / sizes[sizes > 0, None]
    distance = np.abs(mixes - everything / max(1, everything.sum())).sum(1) / 2
    return {
        "clients": len(counts),
        "samples": int(sizes.sum()),
        "size_min": int(sizes.min()),
        "size_median": float(np.median(sizes)),
        "size_max": int(sizes.max()),
        "classes_per_client": float((counts > 0).sum(1).mean()),
        "distance": float(distance.mean()) if len(distance) else 0.0,
    }


def write_index(path: Path, parts: Parts, notes: Mapping[str, str] | None = None) -> None:
    """Two arrays in a safetensors file, `positions` [n] and `starts` [M + 1], and their fingerprint in the notes."""
    import os

    import numpy as np
    from safetensors.numpy import save

    starts = np.cumsum([0, *(len(part) for part in parts)]).astype(np.int64)
    positions = np.concatenate(parts).astype(np.int64) if len(parts) else np.empty(0, np.int64)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".part")
    told = {**(notes or {}), FINGERPRINT: parts_fingerprint(parts)}
    partial.write_bytes(save({"positions": positions, "starts": starts}, told))
    os.replace(partial, path)


def read_index(path: Path) -> Index:
    """A file of `write_index`, or JSON: a list with a list of positions per client, or an object of such lists.

    The keys of an object are clients in the order of the file. Raises UserError naming the file.
    """
    import numpy as np

    if not path.is_file():
        raise UserError(
            f"{path}: no such partition file",
            hint="a relative path is looked up beside the configuration, then in the working folder",
        )
    try:
        if path.suffix == ".json":
            found = json.loads(path.read_text("utf-8"))
            lists = list(found.values()) if isinstance(found, dict) else found
            if not isinstance(lists, list) or not all(_integers(rows) for rows in lists):
                raise ValueError("expected one list of integers per client")
            return Index([np.array(rows, np.int64) for rows in lists])
        from safetensors import safe_open

        with safe_open(path, framework="np") as opened:
            positions, starts = opened.get_tensor("positions"), opened.get_tensor("starts")
            notes = opened.metadata() or {}
        if starts[0] != 0 or (np.diff(starts) < 0).any() or starts[-1] != len(positions):
            raise ValueError("`starts` does not fit `positions`")
        parts = np.split(positions, starts[1:-1]) if len(starts) > 1 else []
        if notes.get(FINGERPRINT, "") != parts_fingerprint(parts):
            raise ValueError("its positions do not have the fingerprint that was written with them")
        return Index(parts, notes)
    except Exception as error:
        raise UserError(f"{path}: not a partition file: {error}") from error


def _integers(rows: Any) -> bool:
    return isinstance(rows, list) and all(isinstance(row, int) and not isinstance(row, bool) for row in rows)
