"""A plan as text: what plan.json says, in the order in which a reader asks."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from aflctl.report.histogram import spark
from aflctl.report.render import by_track, title
from aflctl.report.wording import count, percent, plural, scaled, seconds, short
from aflctl.runs.records import CAUSES

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult

SPARKS = 40


def facts(document: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(what, how much) for each line."""
    totals, server, energy = document["totals"], document["server"], document["energy"]
    tasks = [f"{count(totals['tasks'])} sent", f"{count(totals['updates'])} updates"]
    tasks += [f"{count(totals[k])} {k}" for k in ("lost", "rejected", "cancelled", "interrupted") if totals[k]]
    lines = [
        ("virtual time", f"{seconds(totals['virtual_s'])} (stopped by {document['stop_reason']})"),
        ("tasks", f"{', '.join(tasks)}; {plural(totals['versions'], 'version')}"),
        ("staleness", _staleness(document["staleness"])),
    ]
    if tracks := document["staleness"].get("by_track"):
        lines.append(("mean by track", by_track(tracks)))
    causes = document["staleness"].get("by_cause") or {}
    whole = sum(causes.values())
    if whole:
        shares = sorted(((causes.get(c, 0) / whole, c) for c in CAUSES), reverse=True)
        lines.append(("caused by", ", ".join(f"{c} {percent(s, 0)}" for s, c in shares if s >= 0.005)))
    took = document["participation"]
    lines += [
        (
            "participation",
            f"{count(took['took_part'])} of {plural(took['clients'], 'client')}; "
            f"the busiest sent {percent(took['share_of_most'])} of the updates",
        ),
        ("traffic", f"{scaled(totals['bytes_down'], 'B')} down, {scaled(totals['bytes_up'], 'B')} up"),
        (
            "server load",
            f"{short(server['arrivals_per_s'])} arrivals a second, at most {count(server['arrivals_peak_per_s'])} in "
            f"one; {short(server['versions_per_s'])} versions a second; {scaled(server['bytes_in_per_s'], 'B/s')} in, "
            f"{scaled(server['bytes_out_per_s'], 'B/s')} out",
        ),
        (
            "energy of clients",
            f"{scaled(energy['total_j'], 'J')}, {percent(energy['wasted_share'])} of it on tasks that did not count",
        ),
    ]
    host = document.get("host") or {}
    if host.get("run_s") is not None:
        lines.append(("host time of the run", f"about {seconds(host['run_s'])} here with {host['executor']['name']}"))
    lines.append(("this plan took", seconds(host.get("plan_s"))))
    return lines


def _staleness(of: Mapping[str, Any]) -> str:
    if not of.get("count"):
        return "no update was used"
    return f"mean {short(of['mean'])}, median {short(of['p50'])}, 95 % up to {short(of['p95'])}, max {short(of['max'])}"


def remarks(document: Mapping[str, Any]) -> list[str]:
    """How far the plan is the run: what was assumed, and what stood in for tensors."""
    schedule = document["schedule"]
    if schedule["exact"]:
        lines = ["The run has exactly this schedule."]
    else:
        lines = [f"Not exactly the run's schedule: {text}." for text in schedule["assumed"]]
    if schedule["vectors"] == "real size":
        lines.append(f"Vectors of the real size were used, not of length 0: {schedule['why']}.")
    else:
        lines.append("Vectors of length 0 stood in for the model.")
    return lines


class Forecast:
    """A plan on a rich console."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self.document = document

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich.table import Table
        from rich.text import Text

        document = self.document
        yield Text(title(document["config"]), style="bold")
        table = Table.grid(padding=(0, 2))
        table.add_column(style="bold", no_wrap=True)
        table.add_column(overflow="fold")
        for what, much in facts(document):
            table.add_row("  " + what, much)
        versions = document["timeline"]["versions"]
        if len(versions) > 2:
            table.add_row("  versions over time", spark(_steps(versions), options.ascii_only))
        yield table
        yield Text("\nby device class", style="bold")
        yield self._devices(options)
        yield Text("")
        for text in remarks(document):
            yield Text(text)

    def _devices(self, options: ConsoleOptions) -> Any:
        from rich import box
        from rich.table import Table

        kind = None if options.ascii_only else box.SIMPLE_HEAD
        table = Table(box=kind, padding=(0, 1), show_edge=False, pad_edge=False)
        for heading in ("  device", "clients", "took part", "used", "lost", "share", "staleness", "max"):
            table.add_column(heading, justify="left" if heading == "  device" else "right", no_wrap=True)
        staleness = self.document["staleness"]["by_device"]
        for device, row in self.document["participation"]["by_device"].items():
            mine = staleness.get(device, {})
            table.add_row(
                f"  {device[:24]}", count(row["clients"]), count(row["took_part"]), count(row["used"]),
                count(row["lost"]), percent(row["share_of_updates"]), short(mine.get("mean")), short(mine.get("max")),
            )  # fmt: skip
        return table


def _steps(versions: list[int]) -> list[int]:
    """Versions made in each of at most SPARKS equal parts of the time."""
    parts = min(SPARKS, len(versions) - 1)
    at = [versions[round(i * (len(versions) - 1) / parts)] for i in range(parts + 1)]
    return [b - a for a, b in pairwise(at)]
