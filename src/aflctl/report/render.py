"""One run as a table: the same lines for the terminal and for results.md."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from aflctl.report.histogram import Histogram, binned, bins, doubling, spark
from aflctl.report.statistics import by_device, counts_of, noted_targets
from aflctl.report.wording import called, count, number, percent, plural, scaled, seconds, short
from aflctl.runs.records import CAUSES

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult

    from aflctl.runs.load import Run

PICTURES = {
    "curve.png": "accuracy over virtual time and over updates",
    "personal.png": "accuracy by client, sorted, coloured by device class",
    "staleness.png": "staleness by device class and by cause",
    "participation.png": "who took part how often",
}


def _of(section: Mapping[str, Any], *path: str) -> Any:
    value: Any = section
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _section(document: Mapping[str, Any], *path: str) -> Mapping[str, Any]:
    value = _of(document, *path)
    return value if isinstance(value, Mapping) else {}


def plugin(config: Mapping[str, Any], *path: str) -> str:
    """The name of the plug-in at a place of the configuration, or an empty text."""
    value = _of(config, *path)
    return called(value.get("name", "") if isinstance(value, Mapping) else value or "")


def title(config: Mapping[str, Any]) -> str:
    """What ran, in one line: `fedbuff on digits, model mlp, dirichlet(alpha=0.5), 60 clients, seed 0`."""
    parts = [f"{plugin(config, 'algorithm')} on {plugin(config, 'dataset')}", f"model {plugin(config, 'model')}"]
    partition = _of(config, "dataset", "partition")
    if isinstance(partition, Mapping) and partition.get("name"):
        told = ", ".join(f"{k}={v}" for k, v in partition.items() if k == "alpha")
        parts.append(f"{partition['name']}({told})" if told else str(partition["name"]))
    clients = _of(config, "clients", "count")
    if isinstance(clients, int):
        parts.append(plural(clients, "client"))
    if "seed" in config:
        parts.append(f"seed {config['seed']}")
    return ", ".join(parts)


def facts(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(what, how much) for each line of the result table."""
    final, best, totals, staleness = (_section(summary, key) for key in ("final", "best", "totals", "staleness"))
    lines = [("accuracy", _accuracy(final, best))]
    if final.get("personal_accuracy") is not None:
        lines += _personal(_section(summary, "personal"), final)
    losses = [
        f"{name} {short(final[key])}"
        for name, key in (("loss", "loss"), ("macro F1", "macro_f1"))
        if final.get(key) is not None
    ]
    if losses:
        lines.append(("at the end", ", ".join(losses)))
    for target, hit in list(noted_targets(summary).items())[-2:]:
        what = f"reached {percent(target, 1 if round(1000 * target) % 10 else 0)}"
        lines.append((what, f"after {seconds(hit['virtual_s'])}, {count(hit['update'])} updates"))
    reason = summary.get("stop_reason")
    lines.append(("virtual time", seconds(totals.get("virtual_s")) + (f" (stopped by {reason})" if reason else "")))
    lines.append(("updates", _updates(totals)))
    if staleness.get("count", 1):
        mean, median, most, top = (short(staleness.get(k)) for k in ("mean", "p50", "p95", "max"))
        lines.append(("staleness", f"mean {mean}, median {median}, 95 % up to {most}, max {top}"))
    if tracks := _section(staleness, "by_track"):
        lines.append(("mean by track", by_track(tracks)))
    causes = {cause: number(_of(staleness, "by_cause", cause)) or 0.0 for cause in CAUSES}
    whole = sum(causes.values())
    if whole:
        shares = sorted(((share / whole, cause) for cause, share in causes.items()), reverse=True)
        lines.append(
            ("caused by", ", ".join(f"{cause} {percent(share, 0)}" for share, cause in shares if share >= 0.005))
        )
    lines.append(("traffic", f"{scaled(totals.get('bytes_down'), 'B')} down, {scaled(totals.get('bytes_up'), 'B')} up"))
    if totals.get("energy_j"):
        wasted = percent((totals.get("wasted_j") or 0.0) / totals["energy_j"])
        joules = scaled(totals["energy_j"], "J")
        lines.append(("energy of clients", f"{joules}, {wasted} of it on tasks that did not count"))
    lines.append(("participation", _participation(_section(summary, "participation"))))
    host = _of(summary, "host", "run_s")
    if host is not None:
        lines.append(("host time", seconds(host)))
    return lines


def _accuracy(final: Mapping[str, Any], best: Mapping[str, Any]) -> str:
    text = f"final {percent(final.get('accuracy'))}, best {percent(best.get('accuracy'))}"
    return f"{text} after {count(best['update'])} updates" if best.get("update") is not None else text


def by_track(tracks: Mapping[str, Any]) -> str:
    """Mean staleness on each track: `first 3.77, joint 4.65`."""
    return ", ".join(f"{track} {short(_of(part, 'mean'))}" for track, part in tracks.items())


def _personal(personal: Mapping[str, Any], final: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What clients reach on their own test samples, and beside the two baselines where they were run."""
    parts = [f"final {percent(final['personal_accuracy'])}"]
    known = (("worst tenth", "worst"), ("spread", "std"))
    parts += [f"{what} {percent(personal[key])}" for what, key in known if key in personal]
    lines = [("personal accuracy", ", ".join(parts))]
    if alone := _section(personal, "better_than_local"):
        share = percent(alone.get("share"), 0)
        lines.append(("above local-only", f"{share} of {plural(alone.get('clients'), 'client')}"))
    if tuned := _section(personal, "fine_tuned"):
        mean, worst = percent(tuned.get("accuracy")), percent(tuned.get("worst"))
        lines.append(("after fine-tuning", f"{mean}, worst tenth {worst}"))
    return lines


def _clients(personal: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """(group, clients, mean accuracy) by device class, quartile of staleness and modalities."""
    groups: list[tuple[str, Mapping[str, Any]]] = [*_section(personal, "by_device").items()]
    for quartile in personal.get("by_staleness") or ():
        low, high = short(quartile.get("staleness_from")), short(quartile.get("staleness_to"))
        groups.append((f"mean staleness {low} to {high}", quartile))
    groups += [(f"has {name}", part) for name, part in _section(personal, "by_modalities").items()]
    return [(name, count(part.get("clients")), percent(part.get("accuracy"))) for name, part in groups]


def _updates(totals: Mapping[str, Any]) -> str:
    parts = [f"{count(totals.get('updates'))} used"]
    parts += [f"{count(totals[k])} {k}" for k in ("lost", "rejected", "cancelled", "interrupted") if totals.get(k)]
    return f"{', '.join(parts)}; {plural(totals.get('versions'), 'version')}"


def _participation(section: Mapping[str, Any]) -> str:
    took = f"{count(section.get('took_part'))} of {plural(section.get('clients'), 'client')}"
    share = section.get("share_of_most")
    return took + (f"; the busiest sent {percent(share)} of the updates" if share else "")


def warnings(summary: Mapping[str, Any]) -> list[str]:
    """The run's warnings as lines."""
    found = summary.get("warnings")
    if not isinstance(found, list):
        return []
    return [str(w.get("message", w)) if isinstance(w, Mapping) else str(w) for w in found]


class Result:
    """The result table of a run and its staleness, for a rich console of 80 columns or more."""

    def __init__(self, run: Run) -> None:
        self.run = run

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich.table import Table

        table = Table.grid(padding=(0, 2))
        table.add_column(style="bold")
        table.add_column(overflow="fold")
        for what, much in facts(self.run.summary):
            table.add_row("  " + what, much)
        yield table
        counts = counts_of(self.run.columns("staleness"))
        if sum(counts.get(("all", "all"), {}).values()):
            yield from self._staleness(counts, options)

    def _staleness(self, counts: Mapping[tuple[str, str], Mapping[int, int]], options: ConsoleOptions) -> RenderResult:
        from rich.text import Text

        every = counts["all", "all"]
        yield Text(f"\nstaleness of {plural(sum(every.values()), 'used update')}", style="bold")
        yield Histogram(every)
        yield Text("\nby device class", style="bold")
        yield _devices(self.run, counts, options.ascii_only)


def terminal(run: Run) -> RenderableType:
    """What ran, the result table, the staleness histogram."""
    from rich.console import Group
    from rich.text import Text

    return Group(Text(title(run.config), style="bold"), Text(""), Result(run))


def _devices(run: Run, counts: Mapping[tuple[str, str], Mapping[int, int]], ascii_only: bool) -> RenderableType:
    """One row per device class: who took part, how stale, the causes, the shape of the histogram."""
    from rich import box
    from rich.table import Table

    table = Table(box=None if ascii_only else box.SIMPLE_HEAD, padding=(0, 1), show_edge=False, pad_edge=False)
    ranges = bins(counts["all", "all"], 12)
    for heading in ("  device", "clients", "used", "lost", "mean", "max", "mostly by", ""):
        table.add_column(heading, justify="left" if heading in ("  device", "mostly by", "") else "right", no_wrap=True)
    for device, row in by_device(run.columns("clients")).items():
        mine = counts.get((f"device:{device}", "all"), {})
        n = sum(mine.values())
        parts = {c: sum(v * k for v, k in counts.get((f"device:{device}", c), {}).items()) for c in CAUSES}
        cause = max(parts, key=lambda c: parts[c]) if any(parts.values()) else "-"
        table.add_row(
            f"  {device[:24]}", count(row["clients"]), count(row["used"]), count(row["lost"]),
            short(sum(v * k for v, k in mine.items()) / n) if n else "-", str(max(mine, default=0)), cause,
            spark(binned(mine, ranges), ascii_only, doubling(ranges)) if n else "",
        )  # fmt: skip
    return table


def markdown(run: Run) -> str:
    """results.md."""
    summary = run.summary
    name = summary.get("name") or run.name
    lines = [f"# {name}", "", f"{title(run.config)}.", ""]
    lines += table(("", "result"), [(f"**{what}**", much) for what, much in facts(summary)])
    staleness = _section(summary, "staleness", "by_device")
    if staleness:
        lines += ["", "## Staleness", ""]
        lines += table(("device class", *STALENESS), _stale(staleness))
        counts = counts_of(run.columns("staleness"))
        lines += ["", "```text", *Histogram(counts.get(("all", "all"), {})).lines(72), "```"]
    if tracks := _section(summary, "staleness", "by_track"):
        lines += ["", "By track, which is a cluster or the block of a modality:", ""]
        lines += table(("track", *STALENESS), _stale(tracks))
    if groups := _clients(_section(summary, "personal")):
        lines += ["", "## Clients on their own test samples", ""]
        lines += table(("clients", "number", "mean accuracy"), groups)
    present = [(file, text) for file, text in PICTURES.items() if (run.path / file).exists()]
    if present:
        lines += ["", "## Pictures", "", *(f"![{text}]({file})" for file, text in present)]
    if warnings(summary):
        lines += ["", "## Warnings", "", *(f"- {text}" for text in warnings(summary))]
    lines += ["", "## Repeat", "", "```sh", f"aflctl run runs/{name} --rerun", "```", ""]
    digests = _section(summary, "digests")
    if digests:
        lines += [
            "Digests: " + ", ".join(f"{k} `{str(v)[:12]}`" for k, v in digests.items()) + " (whole in summary.json).",
            "",
        ]
    return "\n".join(lines)


STALENESS = ("used updates", "mean", "median", "95 %", "max")


def _stale(parts: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """A row per device class or track, for the columns STALENESS."""
    return [
        (name, count(s.get("count")), *(short(s.get(key)) for key in ("mean", "p50", "p95", "max")))
        for name, s in parts.items()
        if isinstance(s, Mapping)
    ]


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A Markdown table with aligned columns; the first one left, the others right where they are numbers."""
    cells = [[cell.replace("|", "\\|") for cell in row] for row in (headings, *rows)]
    widths = [max(3, *(len(row[i]) for row in cells)) for i in range(len(headings))]
    numeric = [i > 0 and all(row[i][:1] in "-0123456789" for row in cells[1:]) for i in range(len(headings))]
    head, *body = (
        "| " + " | ".join(c.rjust(w) if n else c.ljust(w) for c, w, n in zip(row, widths, numeric)) + " |"
        for row in cells
    )
    rule = "|" + "|".join("-" * (w + 1) + (":" if n else "-") for w, n in zip(widths, numeric)) + "|"
    return [head, rule, *body]
