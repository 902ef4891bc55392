"""Arrays from somebody's .npz file: plain ones only, and only so much."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_BYTES = 2 << 30


def read_npz(path: Path, *names: str, max_bytes: int = MAX_BYTES) -> tuple[NDArray[Any], ...]:
    """These arrays, in order; ValueError where one is missing or holds objects, or all are larger than `max_bytes`."""
    import numpy as np

    with zipfile.ZipFile(path) as archive:
        sizes = {member.filename.removesuffix(".npy"): member.file_size for member in archive.infolist()}
    missing = [name for name in names if name not in sizes]
    if missing:
        raise ValueError(f"{path.name}: no array {', '.join(missing)}; it has {', '.join(sorted(sizes)) or 'none'}")
    if sum(sizes[name] for name in names) > max_bytes:
        raise ValueError(f"{path.name}: unpacks to more than {max_bytes} bytes")
    with np.load(path, allow_pickle=False) as found:
        return tuple(found[name] for name in names)
