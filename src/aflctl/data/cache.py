"""Where datasets live on this machine, and the digest that identifies their content."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def folder() -> Path:
    """The data folder: `AFLCTL_DATA_DIR`, else the platform's cache folder. It need not exist yet."""
    named = os.environ.get("AFLCTL_DATA_DIR")
    if named:
        return Path(os.path.expanduser(named))
    from platformdirs import user_cache_path

    return user_cache_path("aflctl") / "data"


def fingerprint(how: str, arrays: Mapping[str, NDArray[Any] | np.generic]) -> str:
    """sha256 over `how` the arrays were made and each array's name, type, shape and little-endian bytes."""
    from hashlib import sha256

    import numpy as np

    digest = sha256(how.encode())
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        array = array.astype(array.dtype.newbyteorder("<"), copy=False)
        digest.update(f"\0{name}\0{array.dtype.str}\0{array.shape}\0".encode())
        digest.update(array.data.cast("B") if array.size else b"")
    return digest.hexdigest()
