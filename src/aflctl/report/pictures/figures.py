"""The pictures of a comparison: curves with bands over seeds, staleness, participation, accuracy against time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from textwrap import fill, shorten
from typing import TYPE_CHECKING, Any

from aflctl.errors import RunDirError, UserError
from aflctl.report.comparison.columns import measure, parse
from aflctl.report.comparison.grouping import Group
from aflctl.report.comparison.inference import LEVEL
from aflctl.report.pictures import drawing
from aflctl.report.pictures.drawing import CAUSE_COLOURS, INK, KINDS, PALE, Look
from aflctl.report.statistics import counts_of, mean
from aflctl.report.wording import plural
from aflctl.runs.atomic import disk
from aflctl.runs.records import CAUSES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from aflctl.report.comparison import Comparison

GRID = 240
INSIDE = 5  # methods up to which the legend stands inside the picture


def time(groups: Sequence[Group]) -> Figure:
    """Test accuracy over virtual time."""
    return _curves(groups, "time")


def updates(groups: Sequence[Group]) -> Figure:
    """Test accuracy over used updates."""
    return _curves(groups, "updates")


def traffic(groups: Sequence[Group]) -> Figure:
    """Test accuracy over bytes moved."""
    return _curves(groups, "bytes")


def tradeoff(groups: Sequence[Group]) -> Figure:
    """Final accuracy against the time to 95 % of a run's best, in units of the slowest method's.

    Where all clients have models of their own, both are of their accuracy on their own samples.
    """
    own = all(f.is_personal for g in groups for f in g.members)
    speed = measure(parse("personal.converge:0.95" if own else "converge:0.95", groups)[0], groups)
    score = measure(parse("personal.mean" if own else "acc.final", groups)[0], groups)
    figure, (axes,) = _wide(groups)
    slowest = max((m.mean for m in speed if m.mean is not None), default=0.0)
    looks = _looks(groups)
    for g, x, y in zip(groups, speed, score):
        if x.mean is None or y.mean is None or not slowest:
            continue
        look, place = looks[g.label], (x.mean / slowest, 100 * y.mean)
        axes.errorbar(
            *place, xerr=_arms(x.mean, x.interval, 1 / slowest), yerr=_arms(y.mean, y.interval, 100.0),
            fmt="none", ecolor=look.colour, elinewidth=1.0, capsize=2.0, alpha=0.55,
        )  # fmt: skip
        axes.plot(
            [place[0]], [place[1]], look.marker, color=look.colour, markersize=9 if look.marker == "*" else 7,
            markeredgecolor="white", markeredgewidth=0.8, label=_legible(g.label), zorder=3,
        )  # fmt: skip
    what = "mean personal accuracy (%)" if own else "final accuracy (%)"
    drawing.say(axes, "", "time to 95 % of own best accuracy (slowest method = 1)", what)
    axes.set_xlim(left=0)
    axes.set_ylim(top=min(100.5, axes.get_ylim()[1]))
    axes.grid(axis="x", color=PALE, linewidth=0.6)
    _named(axes, groups, handlelength=1.0)
    return figure


def staleness(groups: Sequence[Group]) -> Figure:
    """Mean staleness of used updates by device class, stacked by cause; means over seeds."""
    rows: list[tuple[str, str, dict[str, float]]] = []
    for g in groups:
        found = _causes(g)
        rows += [(g.label if i == 0 else "", device, parts) for i, (device, parts) in enumerate(found.items())]
    figure, (axes,) = drawing.figure(1, size=(5.6, max(2.4, 0.9 + 0.2 * len(rows) + 0.24 * len(groups))))
    places: list[float] = []
    at = 0.0
    for name, _, _ in rows:
        at -= 2.1 if name and places else 1.0
        places.append(at)
    floor, totals = [0.0] * len(rows), [sum(parts.values()) for _, _, parts in rows]
    for cause in CAUSES:
        widths = [parts.get(cause, 0.0) for _, _, parts in rows]
        if any(widths):
            drawing.bars(axes, places, widths, 0.8, floor, across=True, facecolor=CAUSE_COLOURS[cause],
                         edgecolor="white", linewidth=0.4, label=cause, hatch=_HATCHES[cause])  # fmt: skip
        floor = [a + b for a, b in zip(floor, widths)]
    for place, total in zip(places, totals):
        axes.text(total, place, f" {total:.1f}", va="center", fontsize=7.5, color=INK)
    axes.set_yticks(places, [device for _, device, _ in rows])
    for place, (name, _, _) in zip(places, rows):
        if name:
            axes.text(0.01, place + 0.9, shorten(name, 60, placeholder=" ..."), transform=axes.get_yaxis_transform(),
                      va="center", fontsize=8, fontweight="bold", color=INK, parse_math=False)  # fmt: skip
    axes.set_xlim(0, max(*totals, 0.1) * 1.1)
    if places:
        axes.set_ylim(min(places) - 0.6, max(places) + 1.5)
    axes.grid(False)
    axes.grid(axis="x", color=PALE, linewidth=0.6)
    axes.tick_params(axis="y", length=0, labelsize=8)
    drawing.say(axes, "", "mean staleness of used updates (versions)", "")
    if any(totals):
        drawing.legend(axes, loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=5, columnspacing=1.0)
    else:
        drawing.empty(axes, "no update was stale")
    figure.set_layout_engine("tight")
    return figure


def participation(groups: Sequence[Group]) -> Figure:
    """How evenly clients take part: the share of used updates that the busiest clients made, over all clients."""
    import numpy as np

    figure, (axes,) = _wide(groups)
    looks = _looks(groups)
    axes.plot([0, 100], [0, 100], color="#999999", linewidth=0.9, linestyle=(0, (2, 2)))
    axes.text(64, 60, "all alike", fontsize=7.5, color="#666666", rotation=0, ha="left", va="top")
    for g in groups:
        curves = [c for c in (_shares(f.run, f.number("participation", "clients")) for f in g.members) if len(c)]
        if not curves:
            continue
        at = np.linspace(0, 100, GRID)
        runs = np.stack([np.interp(at, np.linspace(0, 100, len(c)), c) for c in curves])
        _band(axes, at, runs, looks[g.label], _legible(g.label), pale=len(groups) > INSIDE)
    drawing.say(axes, "", "clients, the busiest first (%)", "share of used updates (%)")
    axes.set_xlim(0, 100)
    axes.set_ylim(0, 101)
    _named(axes, groups, loc="lower right")
    return figure


PICTURES: Mapping[str, Callable[[Sequence[Group]], Figure]] = {
    "time": time, "updates": updates, "traffic": traffic, "tradeoff": tradeoff, "staleness": staleness,
    "participation": participation,
}  # fmt: skip
"""Name of a file -> what is drawn."""
CAPTIONS = {
    "time": "Test accuracy over virtual time: mean over seeds with pointwise 95 % t intervals; a run that ended keeps"
    " its last value.",
    "updates": "The same over updates used.",
    "traffic": "The same over bytes moved, both directions.",
    "tradeoff": "Final accuracy against convergence time (to 95 % of a run's own best, slowest method = 1): means with "
    "95 % intervals over seeds. Up and to the left is better.",
    "staleness": "Mean staleness of used updates by device class and by what caused it, mean over seeds.",
    "participation": "Share of the used updates that the busiest clients made; the diagonal is everybody alike.",
}
_HATCHES = dict(zip(CAUSES, ("", "///", "", "", "\\\\\\")))


def draw(comparison: Comparison, place: Path) -> list[Path]:
    """Pictures of the groups: all of them as PNG and SVG into a folder, or one into a file.

    The file's stem names the picture (`time`, `fig2-tradeoff`, ...); another stem means accuracy over virtual time.
    """
    groups = _drawable(comparison)
    kind = place.suffix.lower().removeprefix(".")
    if kind in KINDS and not place.is_dir():
        name = next((n for n in PICTURES if place.stem.lower().endswith(n)), "time")
        drawing.save(PICTURES[name](groups), place)
        return [place]
    if place.suffix and not place.is_dir() and not place.name.startswith("."):
        raise UserError(f"pictures are PNG, SVG or PDF, not {place.suffix}", hint="or name a folder", where="--plot")
    with disk(place):
        place.mkdir(parents=True, exist_ok=True)
    made = []
    for name, make in PICTURES.items():
        figure = make(groups)
        for suffix in ("png", "svg"):
            made.append(place / f"{name}.{suffix}")
            drawing.save(figure, made[-1])
    return made


def _drawable(comparison: Comparison) -> list[Group]:
    """The groups in an order that does not depend on the results, so that colours stay when results change."""
    if not comparison.groups:
        raise UserError("nothing to draw: no group is left", where="--filter")
    return sorted(comparison.groups, key=lambda g: g.label)


# ---- curves ----


def _curves(groups: Sequence[Group], axis: str) -> Figure:
    import numpy as np

    curves = {g.label: [c for c in (f.curve(axis) for f in g.members) if c[0]] for g in groups}
    longest = max((xs[-1] for mine in curves.values() for xs, _ in mine), default=0.0)
    divisor, unit = _unit(axis, longest)
    figure, (axes,) = _wide(groups)
    looks, drawn = _looks(groups), False
    for label, mine in curves.items():
        end = max((xs[-1] for xs, _ in mine), default=0.0)
        if not mine or end <= 0:
            continue
        at = np.linspace(0, end, GRID)
        runs = np.stack([_steps(xs, ys, at) for xs, ys in mine])
        _band(axes, at / divisor, 100 * runs, looks[label], _legible(label), steps=True, pale=len(groups) > INSIDE)
        drawn = True
    names = {"time": "virtual time", "updates": "updates used", "bytes": "bytes moved"}
    drawing.say(axes, "", names[axis] + (f" ({unit})" if unit else ""), "test accuracy (%)")
    if not drawn:
        drawing.empty(axes, "no evaluation")
        return figure
    axes.set_xlim(0, longest / divisor)
    axes.set_ylim(bottom=0)
    axes.set_ylim(top=min(100.5, axes.get_ylim()[1]))
    _named(axes, groups, loc="lower right", handlelength=2.6)
    return figure


def _unit(axis: str, longest: float) -> tuple[float, str]:
    if axis == "time":
        return drawing.time_unit(longest)
    if axis == "bytes":
        for unit, divisor in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
            if longest >= divisor:
                return divisor, unit
        return 1.0, "B"
    return 1.0, ""


def _steps(xs: Sequence[float], ys: Sequence[float], at: NDArray[Any]) -> NDArray[Any]:
    """A step function on a grid: each value holds until the next evaluation."""
    import numpy as np

    places = np.searchsorted(np.asarray(xs), at, side="right") - 1
    found: NDArray[Any] = np.asarray(ys, dtype=np.float64)[places.clip(0)]
    return found


def band(runs: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]] | None:
    """Pointwise 95 % t interval of the mean over rows; None of one row."""
    import numpy as np
    from scipy.special import stdtrit

    n = len(runs)
    if n < 2:
        return None
    centre, half = runs.mean(0), float(stdtrit(n - 1, (1 + LEVEL) / 2)) * runs.std(0, ddof=1) / np.sqrt(n)
    return centre - half, centre + half


def _band(
    axes: Axes, at: NDArray[Any], runs: NDArray[Any], look: Look, label: str, *, steps: bool = False, pale: bool = False
) -> None:
    """Mean over the rows, and its interval; `pale` where many lie over each other."""
    ends = band(runs)
    if ends is not None:
        axes.fill_between(at, ends[0].clip(0, 100), ends[1].clip(0, 100), color=look.colour,
                          alpha=0.07 if pale else 0.15, linewidth=0, step="post" if steps else None)  # fmt: skip
    first = int((0.15 + look.turn) * GRID / 6)
    axes.plot(at, runs.mean(0), color=look.colour, linestyle=look.style, linewidth=1.6, label=label,
              drawstyle="steps-post" if steps else "default", marker=look.marker, markersize=4.5,
              markevery=(first, GRID // 6), markeredgecolor="white", markeredgewidth=0.6)  # fmt: skip


# ---- what is drawn ----


def _causes(g: Group) -> dict[str, dict[str, float]]:
    """device -> cause -> mean staleness, mean over the runs that tell."""
    by_run: list[dict[str, dict[str, float]]] = []
    for fact in g.members:
        try:
            counts = counts_of(fact.run.columns("staleness"))
        except RunDirError:
            continue
        mine: dict[str, dict[str, float]] = {}
        for group, cause in counts:
            n = sum(counts.get((group, "all"), {}).values())
            if group != "all" and cause != "all" and n:
                total = sum(v * k for v, k in counts[group, cause].items())
                mine.setdefault(group.removeprefix("device:"), {})[cause] = total / n
        by_run.append(mine)
    devices = sorted({device for mine in by_run for device in mine})
    return {
        device: {c: mean([mine[device].get(c, 0.0) for mine in by_run if device in mine]) or 0.0 for c in CAUSES}
        for device in devices
    } or {"-": {}}


def _shares(run: Any, clients: float | None) -> Sequence[float]:
    """Cumulated percentage of used updates over clients from the busiest to those that never took part, from 0."""
    try:
        used = sorted((u or 0 for u in run.columns("clients")["used"]), reverse=True)
    except RunDirError:
        return []
    used += [0] * max(0, int(clients or 0) - len(used))
    total, found = sum(used), [0.0]
    for u in used:
        found.append(found[-1] + 100 * u / total if total else 0.0)
    return found if total else []


def _arms(centre: float, ends: Any, factor: float) -> Any:
    return None if ends is None else [[max(0.0, centre - ends.low) * factor], [max(0.0, ends.high - centre) * factor]]


def _looks(groups: Sequence[Group]) -> dict[str, Look]:
    return drawing.looks([g.label for g in groups])


def _legible(label: str) -> str:
    """For a legend: broken into lines; a leading underscore would hide it."""
    return fill(f" {label}" if label.startswith("_") else label, 30, drop_whitespace=False)


def _wide(groups: Sequence[Group]) -> tuple[Figure, list[Axes]]:
    """Wide enough for a column of a paper; higher where the legend stands below."""
    rows = -(-len(groups) // _columns(groups)) if len(groups) > INSIDE else 0
    figure, axes = drawing.figure(1, size=(5.6, 3.7 + 0.2 * rows * _lines(groups)))
    figure.set_layout_engine("tight")
    return figure, axes


def _lines(groups: Sequence[Group]) -> int:
    """Of the longest name in a legend."""
    return max((_legible(g.label).count("\n") + 1 for g in groups), default=1)


def _columns(groups: Sequence[Group]) -> int:
    """How many columns of names fit below a picture, in points: a character is 4.6 wide, a line with its gaps 40."""
    longest = max((len(line) for g in groups for line in _legible(g.label).split("\n")), default=1)
    return max(1, min(len(groups), int(400 / (4.6 * longest + 40))))


def _seeds(axes: Axes, groups: Sequence[Group]) -> None:
    sizes = sorted({g.n for g in groups})
    axes.set_title(plural(sizes[0], "seed") if len(sizes) == 1 else "", fontsize=8, loc="right", color=INK)


def _named(axes: Axes, groups: Sequence[Group], loc: str = "best", **more: Any) -> None:
    if len(groups) > INSIDE:
        from matplotlib.transforms import ScaledTranslation

        below = axes.transAxes + ScaledTranslation(0, -0.44, axes.figure.dpi_scale_trans)  # clear of the axis' name
        more |= {"loc": "upper center", "bbox_to_anchor": (0.45, 0.0), "bbox_transform": below,
                 "ncols": _columns(groups)}  # fmt: skip
    else:
        more |= {"loc": loc}
    drawing.legend(axes, **more)
    _seeds(axes, groups)
