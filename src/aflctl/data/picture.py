"""A partition as a picture: bubbles of class by client."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MOST_CLIENTS = 100


def draw_bubbles(path: Path, counts: NDArray[np.int64], names: Sequence[str], title: str) -> None:
    """Writes a PNG: clients along x (the first 100), classes along y, area = samples of that class at that client."""
    import numpy as np
    from matplotlib.figure import Figure

    shown = counts[:MOST_CLIENTS]
    clients, classes = shown.shape
    figure = Figure(figsize=(min(14, 3 + 0.14 * clients), min(10, 2 + 0.28 * min(classes, 40))), layout="constrained")
    axes = figure.add_subplot()
    client, label = np.nonzero(shown)
    size = shown[client, label] / max(1, shown.max())
    axes.scatter(client, label, s=4 + 180 * size, alpha=0.6, linewidths=0)
    axes.set_xlabel("client" if len(counts) <= MOST_CLIENTS else f"client (first {MOST_CLIENTS} of {len(counts)})")
    axes.set_ylabel("class")
    if names and classes <= 50:
        axes.set_yticks(range(classes), [str(name) for name in names])
    axes.set_title(title)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
