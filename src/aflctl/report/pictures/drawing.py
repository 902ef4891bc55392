"""How pictures look here: readable in print, in grey, and by the colour-blind. No pyplot, no global state."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from aflctl.errors import UserError
from aflctl.runs.atomic import replacing
from aflctl.runs.records import CAUSES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours in an order in which neighbours differ in lightness too
COLOURS = ("#0072B2", "#E69F00", "#F0E442", "#009E73", "#CC79A7", "#D55E00", "#56B4E9")
CAUSE_COLOURS = dict(zip(CAUSES, ("#555555", "#56B4E9", "#0072B2", "#F0E442", "#D55E00")))
INK, PALE = "#222222", "#DDDDDD"
DPI = 150
KINDS = ("png", "svg", "pdf")

# For lines: dark ones first, yellow last; with styles and markers of other lengths, so that grey print tells them apart
LINE_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#222222", "#56B4E9", "#B8A900")
LINE_STYLES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1, 1.2)), (0, (6, 2, 1.5, 2)), (0, (3, 1.5, 1, 1.5, 1, 1.5)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*", "p")


class Look(NamedTuple):
    """How one method is drawn everywhere: three cycles of lengths 8, 5 and 11.

    turn: its place among all, from 0 to below 1, so that markers of lines that lie over each other stand side by side
    """

    colour: str
    style: Any
    marker: str
    turn: float


def looks(labels: Sequence[str]) -> dict[str, Look]:
    """Label -> look, in the given order."""
    return {
        label: Look(LINE_COLOURS[i % 8], LINE_STYLES[i % 5], MARKERS[i % 11], i / len(labels))
        for i, label in enumerate(labels)
    }


def figure(
    panels: int, ratios: Sequence[float] | None = None, share_y: bool = False, size: tuple[float, float] = (9.0, 3.4)
) -> tuple[Figure, list[Axes]]:
    """A white figure with panels side by side."""
    from matplotlib.figure import Figure

    made = Figure(figsize=size, dpi=DPI, facecolor="white")
    found = made.subplots(1, panels, width_ratios=ratios, sharey=share_y, squeeze=False)[0]
    for axes in found:
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color(INK)
        axes.tick_params(labelsize=9, colors=INK, length=3)
        axes.grid(axis="y", color=PALE, linewidth=0.6)
        axes.set_axisbelow(True)
    return made, list(found)


def say(axes: Axes, title: str, x: str, y: str) -> None:
    """Title and axis labels."""
    axes.set_title(title, fontsize=10, loc="left", color=INK, y=1.0)  # a place of its own need not be looked for
    axes.set_xlabel(x, fontsize=9, color=INK)
    axes.set_ylabel(y, fontsize=9, color=INK)


def save(figure: Figure, path: Path) -> None:
    """Writes PNG, SVG or PDF, as the suffix says; the same picture gives the same bytes. Glyphs are in the file."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    kind = suffix(path)
    FigureCanvasAgg(figure)
    metadata = {"png": {"Software": None}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}[kind]
    with replacing(path) as temporary, rc_context({"svg.hashsalt": "aflctl", "pdf.fonttype": 42}):
        figure.savefig(temporary, format=kind, metadata=metadata)


def bars(
    axes: Axes,
    places: Sequence[float],
    lengths: Sequence[float],
    width: float,
    starts: Sequence[float] | None = None,
    across: bool = False,
    **more: Any,
) -> None:
    """Bars around their places, from `starts` on: one artist for all, so that many cost no more than few.

    `across`: from left to right. The caller sets the limits of both axes.
    """
    from matplotlib.collections import PolyCollection

    corners = []
    for place, start, length in zip(places, starts or [0.0] * len(places), lengths):
        a, b, c, d = place - width / 2, place + width / 2, start, start + length
        corners.append([(c, a), (d, a), (d, b), (c, b)] if across else [(a, c), (b, c), (b, d), (a, d)])
    axes.add_collection(PolyCollection(corners, **{"linewidth": 0, **more}), autolim=False)


def suffix(path: Path) -> str:
    """`png`, `svg` or `pdf`."""
    kind = path.suffix.lower().removeprefix(".")
    if kind not in KINDS:
        raise UserError(f"pictures are PNG, SVG or PDF, not {path.suffix or path.name!r}", where=str(path))
    return kind


def empty(axes: Axes, text: str) -> None:
    """What stands where there is nothing to draw."""
    axes.text(0.5, 0.5, text, ha="center", va="center", transform=axes.transAxes, fontsize=9, color=INK)
    axes.grid(False)


def legend(axes: Axes, **more: Any) -> None:
    """A plain legend, where there is something to name."""
    if not axes.get_legend_handles_labels()[0]:
        return
    made = axes.legend(**{"fontsize": 8, "frameon": False, "labelcolor": INK, "handlelength": 1.2, **more})
    for text in made.get_texts():
        text.set_parse_math(False)


def time_unit(longest_s: float) -> tuple[float, str]:
    """Divisor and name of the unit in which a run of this length is drawn."""
    for limit, divisor, name in ((300.0, 1.0, "s"), (4 * 3600.0, 60.0, "min"), (4 * 86400.0, 3600.0, "h")):
        if longest_s <= limit:
            return divisor, name
    return 86400.0, "d"
