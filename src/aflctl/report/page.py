"""A comparison as one page that needs nothing else: conclusion first, no network, no script."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aflctl.report import render
from aflctl.report.comparison.cells import footnotes, grid
from aflctl.report.comparison.formats import difference_grids
from aflctl.report.comparison.grouping import Group, value_text
from aflctl.report.comparison.reading import Facts, flatten
from aflctl.report.comparison.sentences import front_lines, front_title, method, sentence, summaries
from aflctl.report.comparison.verdicts import NONE_SHOWN
from aflctl.report.pictures.figures import CAPTIONS, PICTURES
from aflctl.report.pictures.svg import inline, variables
from aflctl.report.wording import count, percent, plural, seconds
from aflctl.runs.atomic import write_text

if TYPE_CHECKING:
    from aflctl.report.comparison import Comparison

_KIND = {"better": "better", "worse": "worse", NONE_SHOWN: "even"}
MOST_SENTENCES = 10
_LIBRARIES = ("aflctl", "python", "torch", "numpy")


def write_page(comparison: Comparison, path: Path, title: str | None = None) -> None:
    """Writes the page, atomically."""
    write_text(path, page(comparison, title))


def page(comparison: Comparison, title: str | None = None) -> str:
    """The whole document. Everything that comes from runs is escaped."""
    told = title or _title(comparison)
    css = files("aflctl.report").joinpath("page.css").read_text(encoding="utf-8")
    css = css.replace("/*LIGHT*/", variables(False)).replace("/*DARK*/", variables(True))
    parts = [
        f"<header><h1>{escape(told)}</h1>{_meta(comparison)}</header>",
        _conclusion(comparison),
        _results(comparison),
        _pictures(comparison),
        _configurations(comparison),
        _runs(comparison),
        _provenance(comparison),
        _repeat(comparison),
    ]
    return "\n".join(
        [
            "<!DOCTYPE html>",
            '<html lang="en">',
            "<head>",
            '<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; "
            'img-src data:">',
            f"<title>{escape(told)}</title>",
            f"<style>\n{css}</style>",
            "</head>",
            "<body>",
            *parts,
            "</body>",
            "</html>",
            "",
        ]
    )


# ---- pieces of HTML ----


def _table(
    heads: Sequence[str], rows: Iterable[Sequence[str]], caption: str = "", text: bool = False, verdicts: bool = False
) -> str:
    """The first column is a heading; `verdicts` = the last one is a word with its sign."""

    def cell(value: str, last: bool) -> str:
        kind = f' class="word {_KIND.get(value, "other")}"' if verdicts and last else ""
        return f"<td{kind}>{escape(value)}</td>"

    top = "".join(
        f'<th scope="col"{" class=word" if verdicts and i == len(heads) - 1 else ""}>{escape(h)}</th>'
        for i, h in enumerate(heads)
    )
    body = "\n".join(
        f'<tr><th scope="row">{escape(row[0])}</th>'
        + "".join(cell(v, i == len(row) - 2) for i, v in enumerate(row[1:]))
        + "</tr>"
        for row in rows
    )
    kind = ' class="text"' if text else ""
    named = f"<caption>{escape(caption)}</caption>" if caption else ""
    return f'<div class="scroll"><table{kind}>{named}<thead><tr>{top}</tr></thead>\n<tbody>{body}</tbody></table></div>'


def _said(text: str) -> str:
    """A sentence, escaped; a percent sign stays on the line of its number."""
    return escape(text).replace(" %", "\u00a0%")


def _section(title: str, *parts: str) -> str:
    return "\n".join([f"<section><h2>{escape(title)}</h2>", *(p for p in parts if p), "</section>"])


def _notes(texts: Iterable[str], kind: str = "note") -> str:
    told = "<br>".join(escape(text) for text in texts)
    return f'<p class="{kind}">{told}</p>' if told else ""


def _folded(title: str, *parts: str) -> str:
    return f"<details><summary>{escape(title)}</summary>\n{''.join(parts)}</details>"


def _warning(title: str, texts: Sequence[str]) -> str:
    items = "".join(f"<li>{escape(text)}</li>" for text in texts)
    return f'<div class="warning"><strong>{escape(title)}</strong><ul>{items}</ul></div>' if texts else ""


def _code(text: str) -> str:
    return f"<pre><code>{escape(text)}</code></pre>"


# ---- sections ----


def _members(comparison: Comparison) -> list[tuple[Group, Facts]]:
    return [(g, f) for g in comparison.groups for f in g.members]


def _title(comparison: Comparison) -> str:
    sets = dict.fromkeys(str(g.flat.get("dataset.name", "")) for g in comparison.groups)
    names = [g.label for g in comparison.groups]
    if len(names) == 1:
        return f"{names[0]} on {', '.join(sets)}"
    shown = " against ".join(names) if len(names) == 2 else f"{len(names)} configurations"
    return f"{shown} on {', '.join(sets)}"


def _meta(comparison: Comparison) -> str:
    runs = _members(comparison)
    started = sorted(str(f.run.provenance.get("started", ""))[:10] for _, f in runs)
    days = " to ".join(dict.fromkeys(d for d in (started[0], started[-1]) if d)) if started else ""
    seeds = len({f.pair for _, f in runs})
    told = f"{plural(len(runs), 'run')} in {plural(len(comparison.groups), 'group')}, {plural(seeds, 'seed')}"
    return f'<p class="meta">{escape(told + (f", run {days}" if days else ""))}. Times are virtual.</p>'


def _conclusion(comparison: Comparison) -> str:
    found = comparison.differences
    parts = []
    if found:
        parts += [f'<p class="lead">{_said(text)}</p>' for text in summaries(comparison)]
        items = "".join(f'<li class="{_KIND.get(d.verdict, "other")}">{_said(sentence(d))}</li>' for d in found)
        words = f'<ul class="verdicts">{items}</ul>'
        many = len(found) > MOST_SENTENCES
        parts.append(_folded(f"All {len(found)} comparisons in words", words) if many else words)
        parts.append(_notes([method(comparison)]))
    elif len(comparison.groups) == 1:
        parts.append('<p class="lead">One configuration: there is nothing to compare it with.</p>')
    else:
        parts.append('<p class="lead">No baseline was named, so no verdict is given.</p>')
    if comparison.pareto is not None:
        lines = "".join(f"<li>{_said(line)}</li>" for line in front_lines(comparison.pareto))
        parts.append(f"<h3>{escape(front_title(comparison.pareto))}</h3><ul>{lines}</ul>")
    parts.append(_warning("Not all of this may be comparable", comparison.doubts))
    parts.append(_warning("Left out", [f"{name} {reason}" for name, reason in comparison.skipped]))
    told = [f"{f.name}: {text}" for _, f in _members(comparison) for text in render.warnings(f.summary)]
    parts.append(_warning("Warnings of the runs", told[:12] + ([f"and {len(told) - 12} more"] if told[12:] else [])))
    return _section("Conclusion", *parts, _notes(comparison.notes))


def _results(comparison: Comparison) -> str:
    heads, rows = grid(comparison)
    parts = [_table(heads, rows), _notes(f"{note}." for note in footnotes(comparison))]
    for title, columns, cells, notes in difference_grids(comparison):
        parts += [_table(columns, cells, caption=title, verdicts=True), _notes(f"{note}." for note in notes)]
    return _section("Results", *parts)


def _pictures(comparison: Comparison) -> str:
    groups = sorted(comparison.groups, key=lambda g: g.label)
    drawn = [
        f"<figure>{inline(PICTURES[name](groups), name, text)}<figcaption>{escape(text)}</figcaption></figure>"
        for name, text in CAPTIONS.items()
    ]
    return _section("Pictures", f'<div class="figures">{"".join(drawn)}</div>')


def _configurations(comparison: Comparison) -> str:
    groups = comparison.groups
    keys = list(dict.fromkeys(key for g in groups for key in g.differs))
    parts = []
    if keys:
        rows = [[key, *(value_text(g.flat[key]) if key in g.flat else "" for g in groups)] for key in keys]
        parts += ["<h3>What differs</h3>", _table(["", *(g.label for g in groups)], rows, text=True)]
    first = groups[0].flat
    same = [(key, value) for key, value in first.items() if key not in keys and all(g.flat.get(key) == value
            for g in groups)]  # fmt: skip
    rows = [[key, value_text(value)] for key, value in same]
    common = _table(["", "value"], rows, text=True)
    parts.append(_folded(f"What all have in common ({plural(len(rows), 'key')})", common))
    return _section("Configurations", *parts)


def _runs(comparison: Comparison) -> str:
    rows = [
        [
            g.label, f.pair, percent(f.value("final", "accuracy")), percent(f.value("best", "accuracy")),
            count(f.value("totals", "updates")), count(f.value("totals", "versions")),
            seconds(f.value("totals", "virtual_s")), seconds(f.value("host", "run_s")),
            f"{f.run.status}, {f.value('stop_reason') or '-'}", f.name,
        ]
        for g, f in _members(comparison)
    ]  # fmt: skip
    heads = ["", "seed", "final", "best", "updates", "versions", "virtual time", "host time", "ended", "directory"]
    return _section("Runs", _folded(f"All {plural(len(rows), 'run')}", _table(heads, rows)))


def _provenance(comparison: Comparison) -> str:
    runs = [f for _, f in _members(comparison)]
    told: dict[str, list[str]] = {}
    for f in runs:
        for key, value in _origin(f.run.provenance, f.summary).items():
            told.setdefault(key, []).append(value)
    rows = []
    for key, values in told.items():
        distinct = dict.fromkeys(values)
        shown = "; ".join(f"{v} ({values.count(v)} runs)" if len(distinct) > 1 else v for v in list(distinct)[:6])
        rows.append([key, shown + (f"; and {len(distinct) - 6} more" if len(distinct) > 6 else "")])
    prints = [[f.name, *(str(f.value("fingerprints", k) or "-")[:12] for k in ("config", "code", "data", "fleet"))]
              for f in runs]  # fmt: skip
    heads = ["", "config", "code", "data", "fleet"]
    return _section("Provenance", _table(["", ""], rows, text=True), _folded("Fingerprints", _table(heads, prints)))


def _origin(provenance: Mapping[str, Any], results: Mapping[str, Any]) -> dict[str, str]:
    def section(name: str) -> Mapping[str, Any]:
        found = provenance.get(name)
        return found if isinstance(found, Mapping) else {}

    found = {name: str(v) for name, v in section("versions").items() if name in _LIBRARIES}
    git, hardware = section("git"), section("hardware")
    if git:
        found["git commit"] = str(git.get("commit")) + (" with changes" if git.get("dirty") else "")
    parts = [str(hardware.get(k)) for k in ("cpu", "system") if hardware.get(k)]
    if hardware.get("cores_usable"):
        parts.append(plural(hardware["cores_usable"], "core"))
    parts += [str(g.get("name")) for g in hardware.get("gpus") or [] if isinstance(g, Mapping)]
    found["machine"] = ", ".join(parts)
    executor = results.get("executor")
    found["executor"] = str(executor.get("name", "-")) if isinstance(executor, Mapping) else "-"
    return found


def _repeat(comparison: Comparison) -> str:
    parts = [_notes(
        ["Save a configuration under the name given and run it with each seed; the same version of aflctl and the same "
         "data give the same bits. With the run directories at hand, aflctl verify DIRECTORY repeats one and compares "
         "its digests."], "text")]  # fmt: skip
    used: set[str] = set()
    for g in comparison.groups:
        file = _file_name(g.label, used)
        commands = [f"aflctl run {file} {_flags(f)}".rstrip() for f in g.members]
        parts += [f"<h3>{escape(g.label)}</h3>", _code("\n".join(commands)), _folded(file, _code(_yaml(g.members[0])))]
    rows = [
        [f.name, *(str(f.value("digests", k) or "-")[:16] for k in ("schedule", "updates", "metrics", "model"))]
        for _, f in _members(comparison)
    ]
    parts.append(_folded("Digests to expect (first 16 digits)", _table(["", "schedule", "updates", "metrics", "model"],
                 rows)))  # fmt: skip
    return _section("How to repeat this", *parts)


def _file_name(label: str, used: set[str]) -> str:
    """A label as the name of a file."""
    stem = "".join(c if c.isascii() and (c.isalnum() or c in "-.") else "-" for c in label.replace(", ", "_"))
    stem = stem.strip("-.")[:60] or "config"
    name, number = f"{stem}.yaml", 2
    while name in used:
        name, number = f"{stem}-{number}.yaml", number + 1
    used.add(name)
    return name


def _flags(fact: Facts) -> str:
    """What to add to the group's configuration for this run."""
    own = fact.run.config.get("seeds")
    told = flatten(own) if isinstance(own, Mapping) else {}
    return " ".join([f"--seed {fact.seed}", *(f"--set seeds.{k}={v}" for k, v in told.items() if v is not None)])


def _yaml(fact: Facts) -> str:
    """The configuration as it was resolved, without what does not change the result."""
    import yaml

    kept = {k: v for k, v in fact.run.config.items() if k not in ("seed", "seeds", "track")}
    return yaml.safe_dump(kept, sort_keys=False, allow_unicode=True, width=100).rstrip()
