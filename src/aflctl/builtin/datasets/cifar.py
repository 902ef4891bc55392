"""The batch files of CIFAR-10 and CIFAR-100, read without trusting them."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SIDE = 32
PIXELS = 3 * SIDE * SIDE


class _Batch(pickle.Unpickler):
    """Reads the published pickles, which hold lists, texts and one byte array; any other name in them is refused."""

    def find_class(self, module: str, name: str) -> Any:
        import numpy as np

        if name == "_reconstruct" and module in ("numpy.core.multiarray", "numpy._core.multiarray"):
            return _array
        if (module, name) == ("numpy", "ndarray"):
            return np.ndarray
        if (module, name) == ("numpy", "dtype"):
            return _plain_dtype
        if (module, name) == ("_codecs", "encode"):
            return _encode
        raise pickle.UnpicklingError(f"the file asks for {module}.{name}, which no batch file needs")


def _array(kind: type, shape: Any, code: Any) -> Any:
    import numpy as np

    return np.ndarray.__new__(np.ndarray, (0,), np.uint8)


def _plain_dtype(code: str, *_: object) -> Any:
    import numpy as np

    if code not in ("u1", "|u1"):
        raise pickle.UnpicklingError(f"the file holds an array of type {code!r}, expected bytes")
    return np.dtype(np.uint8)


def _encode(text: str, encoding: str) -> bytes:
    if encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError(f"unexpected encoding {encoding!r}")
    return text.encode("latin1")


def read_pickle(path: Path) -> dict[str, Any]:
    """The dictionary in a Python-version batch file; ValueError where it is anything else."""
    try:
        found = _Batch(io.BytesIO(path.read_bytes()), encoding="latin1").load()
    except Exception as error:
        raise ValueError(f"{path.name}: {error}") from error
    if not isinstance(found, dict):
        raise ValueError(f"{path.name}: holds {type(found).__name__}, expected a dictionary")
    return {k.decode() if isinstance(k, bytes) else k: v for k, v in found.items()}


def read_batch(path: Path, label_keys: tuple[str, ...]) -> tuple[NDArray[np.uint8], list[NDArray[np.int64]]]:
    """(images [n, 3, 32, 32], the labels of each key) of a batch in the Python or the binary version.

    Binary records are one byte per label key, in order, followed by 3072 pixels.
    """
    import numpy as np

    pixels: Any
    if path.suffix == ".bin":
        width = len(label_keys) + PIXELS
        content = np.fromfile(path, np.uint8)
        if not len(content) or len(content) % width:
            raise ValueError(f"{path.name}: {len(content)} bytes are not a whole number of {width}-byte records")
        rows = content.reshape(-1, width)
        pixels = rows[:, len(label_keys) :]
        labels = [rows[:, i].astype(np.int64) for i in range(len(label_keys))]
    else:
        batch = read_pickle(path)
        pixels = batch.get("data")
        try:
            labels = [np.asarray(batch.get(key, ()), np.int64) for key in label_keys]
        except (TypeError, ValueError, OverflowError) as error:
            raise ValueError(f"{path.name}: labels are no numbers ({error})") from error
    if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8 or pixels.ndim != 2 or pixels.shape[1] != PIXELS:
        raise ValueError(f"{path.name}: expected rows of {PIXELS} bytes")
    if any(len(found) != len(pixels) for found in labels):
        raise ValueError(f"{path.name}: {len(pixels)} images and {[len(found) for found in labels]} labels")
    return pixels.reshape(-1, 3, SIDE, SIDE), labels
