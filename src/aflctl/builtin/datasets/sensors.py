"""Windows of sensor values: arrays per modality, channel statistics, text files of numbers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from aflctl.data import Table

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def numbers(path: Path) -> NDArray[np.float64]:
    """[rows, columns] of a text file with blanks or commas; ValueError naming file and row of what is no table."""
    import numpy as np

    rows = []
    with path.open(encoding="ascii", errors="replace") as stream:
        for line, text in enumerate(stream, 1):
            cells = text.replace(",", " ").split()
            if not cells:
                continue
            try:
                rows.append(np.array(cells, float))
            except ValueError:
                bad = next((cell for cell in cells if not _is_number(cell)), text)
                raise ValueError(f"{path.name}, row {line}: {bad[:40]!r} is no number") from None
            if len(rows[-1]) != len(rows[0]):
                raise ValueError(f"{path.name}, row {line}: {len(rows[-1])} values, the first row has {len(rows[0])}")
    return np.stack(rows) if rows else np.empty((0, 0))


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def channel_statistics(windows: NDArray[Any]) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each channel of [n, channels, time]; a constant channel has deviation 1."""
    mean, std = windows.mean((0, 2), dtype=float), windows.std((0, 2), dtype=float)
    std[std == 0] = 1.0
    return mean.tolist(), std.tolist()


def window_table(
    name: str,
    windows: NDArray[Any],
    labels: NDArray[np.int64],
    test: NDArray[np.bool_],
    owners: dict[str, NDArray[np.int64]],
    classes: int,
) -> Table:
    """One sensor modality [n, channels, time] as float32, split by `test`, with its owners and channel statistics."""
    import numpy as np

    if not len(windows) == len(labels) == len(test) or (
        len(labels) and not 0 <= labels.min() <= labels.max() < classes
    ):
        raise ValueError(f"{len(windows)} windows and {len(labels)} labels do not fit {classes} classes")
    if not np.isfinite(windows).all():
        raise ValueError("a window holds values that are not finite")
    if test.all() or not test.any():
        raise ValueError("too few windows for a training and a test part")
    mean, std = channel_statistics(windows[~test])
    arrays: dict[str, NDArray[Any]] = {
        f"train/x/{name}": windows[~test].astype(np.float32),
        f"test/x/{name}": windows[test].astype(np.float32),
        "train/y": labels[~test].astype(np.int64),
        "test/y": labels[test].astype(np.int64),
        **{f"natural/{column}": ids[~test].astype(np.int64) for column, ids in owners.items()},
    }
    return Table(arrays, {"mean": mean, "std": std})
