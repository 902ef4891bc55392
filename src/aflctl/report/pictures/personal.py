"""A picture of how good the model is for each client."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from aflctl.report.pictures import drawing
from aflctl.report.pictures.drawing import COLOURS, INK

if TYPE_CHECKING:
    from aflctl.runs.load import Run

FOOT = 1.5
"""Every bar begins so far below 0, so that a client without a hit still shows its colour."""


def picture(run: Run, path: Path) -> bool:
    """Accuracy by client, sorted, coloured by device class; False where clients.csv has no accuracy."""
    table = run.columns("clients")
    rows = sorted((a, d) for a, d in zip(table["accuracy"], table["device"]) if a is not None)
    if not rows:
        return False
    devices = sorted({device for _, device in rows})
    colours = {device: COLOURS[i] if i < len(COLOURS) else "#999999" for i, device in enumerate(devices)}
    lines = -(-len(devices) // 3)  # of the legend, which would hide the best clients if it lay on the bars
    height = 3.4 + 0.2 * lines
    figure, (axes,) = drawing.figure(1, size=(9.0, height))
    for device in devices:
        places = [i for i, (_, mine) in enumerate(rows) if mine == device]
        mean = sum(rows[i][0] for i in places) / len(places)
        heights = [100 * rows[i][0] + FOOT for i in places]
        label = f"{device} (mean {100 * mean:.1f} %)"
        width = 0.9 if len(rows) < 200 else 1.0
        drawing.bars(axes, places, heights, width, [-FOOT] * len(rows), facecolor=colours[device], label=label)
    mean = 100 * sum(a for a, _ in rows) / len(rows)
    axes.axhline(mean, color=INK, linewidth=1.0, linestyle="--")
    axes.text(len(rows) - 0.5, mean, f" {mean:.1f} %", va="center", ha="left", fontsize=8, color=INK)
    figure.text(0.07, 1 - 0.1 / height, "Accuracy on each client's own test samples", fontsize=10, va="top", color=INK)
    drawing.say(axes, "", f"{len(rows):,} clients that took part, worst first", "accuracy (%)")
    axes.set_ylim(-FOOT, 102)
    axes.set_xlim(-0.7, len(rows) - 0.3)
    figure.legend(
        fontsize=8, frameon=False, labelcolor=INK, loc="upper left", ncols=3, borderaxespad=0, borderpad=0.2,
        bbox_to_anchor=(0.065, 1 - 0.35 / height),
    )  # fmt: skip
    figure.subplots_adjust(left=0.07, right=0.94, bottom=0.5 / height, top=1 - (0.45 + 0.2 * lines) / height)
    drawing.save(figure, path)
    return True
