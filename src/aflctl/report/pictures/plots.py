"""The pictures of a run: readable in print, in grey, and by the colour-blind. No pyplot, no global state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aflctl.report.histogram import binned, bins, doubling, names
from aflctl.report.pictures import drawing
from aflctl.report.pictures.drawing import CAUSE_COLOURS, COLOURS, INK, PALE
from aflctl.report.statistics import by_device, counts_of
from aflctl.runs.records import CAUSES

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from aflctl.runs.load import Run

BARS = 24


def curve(run: Run, path: Path) -> None:
    """Accuracy over virtual time and over updates, from metrics.csv."""
    metrics = run.columns("metrics")
    figure, (left, right) = drawing.figure(2, share_y=True)
    kept = [i for i, value in enumerate(metrics["accuracy"]) if value is not None]
    divisor, unit = drawing.time_unit(max(metrics["virtual_s"], default=0.0))
    series = {"accuracy": "global model", "personal_accuracy": "personal models"}
    drawn = [(name, text) for name, text in series.items() if name in metrics]
    for axes, xs in ((left, [t / divisor for t in metrics["virtual_s"]]), (right, metrics["update"])):
        for (name, text), colour, style in zip(drawn, (COLOURS[0], COLOURS[5]), ("-", "--")):
            shown = [i for i in kept if metrics[name][i] is not None]
            ys = [100 * metrics[name][i] for i in shown]
            marker = "o" if len(shown) < 30 else None
            axes.plot(
                [xs[i] for i in shown], ys, style, color=colour, linewidth=1.6, marker=marker, markersize=3, label=text
            )
        axes.set_xlim(left=0)
        if not kept:
            drawing.empty(axes, "no evaluation")
    drawing.say(left, "Test accuracy over virtual time", f"virtual time ({unit})", "accuracy (%)")
    drawing.say(right, "and over updates", "updates used", "")
    if kept:
        best = max(kept, key=lambda i: metrics["accuracy"][i])
        top = 100 * metrics["accuracy"][best]
        left.set_ylim(bottom=0, top=max(10.0, min(102.0, top * 1.08)))
        for axes, x in ((left, metrics["virtual_s"][best] / divisor), (right, metrics["update"][best])):
            axes.plot([x], [top], "o", color=COLOURS[0], markersize=5, markerfacecolor="white", zorder=5)
        text = f"final {100 * metrics['accuracy'][kept[-1]]:.1f} %, best {top:.1f} %"
        right.text(0.98, 0.05, text, ha="right", transform=right.transAxes, fontsize=9, color=INK)
    if len(drawn) > 1:
        drawing.legend(left, loc="lower right")
    figure.subplots_adjust(left=0.07, right=0.985, bottom=0.15, top=0.9, wspace=0.06)
    drawing.save(figure, path)


def _classes(names: Sequence[str]) -> dict[str, str]:
    """Device class -> colour; beyond the palette's length they are grey."""
    return {name: COLOURS[i] if i < len(COLOURS) else "#999999" for i, name in enumerate(names)}


def _look(colour: str, label: str, line: float = 0.5, edge: str = "white") -> dict[str, Any]:
    return {"facecolor": colour, "edgecolor": edge, "linewidth": line, "label": label}


def staleness(run: Run, path: Path) -> None:
    """How stale used updates were, by device class, and which cause made how much, from staleness.csv."""
    counts = counts_of(run.columns("staleness"))
    every: Mapping[int, int] = counts.get(("all", "all"), {})
    devices = sorted(group.removeprefix("device:") for group, cause in counts if cause == "all" and group != "all")
    figure, (left, right) = drawing.figure(2, ratios=(1.25, 1))
    drawing.say(left, "Staleness of used updates", "staleness (versions)", "updates")
    drawing.say(right, "What made it", "mean staleness (versions)", "")
    if not sum(every.values()):
        drawing.empty(left, "no update was used")
        drawing.empty(right, "no update was used")
    else:
        _by_device(left, counts, devices)
        _by_cause(right, counts, devices)
    figure.subplots_adjust(left=0.07, right=0.985, bottom=0.15, top=0.9, wspace=0.34)
    drawing.save(figure, path)


def _by_device(axes: Axes, counts: Mapping[tuple[str, str], Mapping[int, int]], devices: Sequence[str]) -> None:
    """Bars on top of each other; side by side over a logarithmic axis where a few updates are far staler than most."""
    from matplotlib.ticker import MaxNLocator, StrMethodFormatter

    ranges = bins(counts["all", "all"], BARS)
    heights = {device: binned(counts[f"device:{device}", "all"], ranges) for device in devices}
    places, colours = range(len(ranges)), _classes(devices)
    if doubling(ranges):
        width = 0.84 / len(devices)
        for k, (device, mine) in enumerate(heights.items()):
            at = [i - 0.42 + (k + 0.5) * width for i in places]
            drawing.bars(axes, at, mine, width, **_look(colours[device], device, 0.4))
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        axes.set_ylim(0.7, 1.5 * max(map(max, heights.values())))
        axes.set_ylabel("updates (log scale)", fontsize=9, color=INK)
    else:
        floor = [0] * len(ranges)
        for device, mine in heights.items():
            drawing.bars(axes, places, mine, 0.9, floor, **_look(colours[device], device))
            floor = [a + b for a, b in zip(floor, mine)]
        axes.set_ylim(0, max(floor) * 1.08)
        axes.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    told = names(ranges)
    step = 1 if max(map(len, told)) * len(told) <= 45 else -(-max(map(len, told)) * len(told) // 45)
    axes.set_xlim(-0.7, len(ranges) - 0.3)
    axes.set_xticks(list(places)[::step], told[::step])
    drawing.legend(axes, loc="upper right")


def _by_cause(axes: Axes, counts: Mapping[tuple[str, str], Mapping[int, int]], devices: Sequence[str]) -> None:
    groups = [*(f"device:{device}" for device in reversed(devices)), "all"]
    places, starts = range(len(groups)), [0.0] * len(groups)
    sizes = [max(1, sum(counts[group, "all"].values())) for group in groups]
    for cause in CAUSES:
        means = [sum(v * n for v, n in counts[g, cause].items()) / size for g, size in zip(groups, sizes)]
        if any(means):
            drawing.bars(axes, places, means, 0.62, starts, across=True, **_look(CAUSE_COLOURS[cause], cause))
        starts = [a + b for a, b in zip(starts, means)]
    for place, total in zip(places, starts):
        axes.text(total, place, f" {total:.1f}", va="center", fontsize=8, color=INK)
    axes.set_yticks(list(places), [group.removeprefix("device:") for group in groups])
    axes.set_xlim(0, max(*starts, 0.1) * 1.12)
    axes.set_ylim(-0.5, len(groups) + 0.1)
    axes.grid(False)
    axes.grid(axis="x", color=PALE, linewidth=0.6)
    if any(starts):
        drawing.legend(axes, loc="upper center", ncols=5, columnspacing=0.9, handletextpad=0.4, borderaxespad=0.1)


def participation(run: Run, path: Path) -> None:
    """How often which client's update was used, from clients.csv, and each device class's share."""
    clients = run.columns("clients")
    figure, (left, right) = drawing.figure(2, ratios=(1.6, 1))
    order = sorted(range(clients.rows), key=lambda i: -clients["used"][i])
    n = (run.summary.get("participation") or {}).get("clients") or clients.rows
    drawing.say(
        left,
        f"Updates used per client ({clients.rows:,} of {n:,} took part)",
        "clients, by number of updates",
        "updates used",
    )
    drawing.say(right, "Shares of the device classes", "share of all (%)", "")
    if not clients.rows:
        drawing.empty(left, "nobody took part")
        drawing.empty(right, "nobody took part")
    else:
        _per_client(left, [clients["used"][i] for i in order], [clients["device"][i] for i in order])
        _per_class(right, by_device(clients))
    figure.subplots_adjust(left=0.07, right=0.985, bottom=0.15, top=0.9, wspace=0.3)
    drawing.save(figure, path)


def _per_client(axes: Axes, used: Sequence[int], devices: Sequence[str]) -> None:
    from matplotlib.ticker import MaxNLocator

    for device, colour in _classes(sorted(set(devices))).items():
        mine = [i for i, name in enumerate(devices) if name == device]
        at, heights = [i + 1 for i in mine], [used[i] for i in mine]
        if len(used) <= 400:
            drawing.bars(axes, at, heights, 0.85, facecolor=colour, label=device)
        else:
            axes.plot(at, heights, ".", color=colour, markersize=2.5, label=device)
    axes.set_xlim(0.4, len(used) + 0.6)
    axes.set_ylim(0, 1.05 * max(*used, 1))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    axes.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    drawing.legend(axes, loc="upper right", markerscale=3 if len(used) > 400 else 1)


def _per_class(axes: Axes, classes: Mapping[str, Mapping[str, int]]) -> None:
    order = list(classes)[::-1]
    rows = [
        ("clients", "clients", PALE, 0.19),
        ("tasks sent", "dispatched", "#56B4E9", -0.01),
        ("updates used", "used", COLOURS[0], -0.21),
    ]
    longest = 1.0
    for text, key, colour, shift in rows:
        whole = max(1, sum(row[key] for row in classes.values()))
        shares = [100 * classes[name][key] / whole for name in order]
        longest = max(longest, *shares)
        at = [i + shift for i in range(len(order))]
        drawing.bars(
            axes, at, shares, 0.19, across=True, **_look(colour, text, edge="#888888" if colour == PALE else colour)
        )
    axes.set_yticks(range(len(order)), order)
    axes.set_xlim(0, 1.05 * longest)
    axes.set_ylim(-0.5, len(order) + 0.1)
    axes.grid(False)
    axes.grid(axis="x", color=PALE, linewidth=0.6)
    drawing.legend(axes, loc="upper center", ncols=3, columnspacing=0.9, handletextpad=0.4, borderaxespad=0.1)
