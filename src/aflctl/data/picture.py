"""A partition as a picture: bubbles of class by client."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MOST_CLIENTS = 100
MOST_NAMES = 50
LARGEST = 200.0
"""Area of the largest bubble in square points."""


def draw_bubbles(path: Path, counts: NDArray[np.int64], names: Sequence[str], title: str) -> None:
    """Writes a PNG: clients along x (the first 100), classes downwards, area = samples of that class at that client.

    The first class is at the top, as in a table. Bubbles of less than a hundredth of the largest are drawn as that, so
    that one sample can be seen.
    """
    import io

    import numpy as np
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    shown = counts[:MOST_CLIENTS]
    clients, classes = shown.shape
    named = bool(names) and classes <= MOST_NAMES
    across = min(14.0, 3.2 + 0.16 * clients)
    figure = Figure(figsize=(max(6.4, across), min(11, 2 + (0.26 if named else 0.1) * classes)), layout="constrained")
    axes = figure.add_subplot()
    client, label = np.nonzero(shown)
    most = max(1, int(shown.max()))
    area = np.maximum(0.01, shown[client, label] / most) * LARGEST
    axes.scatter(client, label, s=area, alpha=0.65, linewidths=0, color="tab:blue")
    for share in (1.0, 0.25):
        axes.scatter(
            [],
            [],
            s=share * LARGEST,
            alpha=0.65,
            linewidths=0,
            color="tab:blue",
            label=f"{max(1, round(share * most)):,}",
        )
    axes.legend(title="samples", loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False, labelspacing=1.1)
    axes.set_xlabel("client" if len(counts) <= MOST_CLIENTS else f"client (first {MOST_CLIENTS} of {len(counts)})")
    axes.set_ylabel("class")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    if named:
        axes.set_yticks(range(classes), [str(name) for name in names])
    else:
        axes.yaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set_xlim(-0.8, clients - 0.2)
    axes.set_ylim(classes - 0.2, -0.8)
    axes.grid(alpha=0.15)
    axes.set_axisbelow(True)
    axes.set_title(title)
    content = io.BytesIO()
    figure.savefig(content, dpi=120, format="png")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.getvalue())
