"""Writes the pages of docs/reference that say what the code, its docstrings and the profiles say.

    python docs/generate.py            write them
    python docs/generate.py --check    exit code 1 if one of them is not what would be written

Nothing here has an opinion: a sentence that should read otherwise is changed where it comes from.
"""

from __future__ import annotations

import ast
import inspect
import json
import re
import sys
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import typer

from aflctl import plugins
from aflctl.cli.app import EPILOG, app
from aflctl.config.parameters import Parameter, model_inside, parameters
from aflctl.config.schema import Config, PluginRef
from aflctl.config.source import presets
from aflctl.engine.profiles import ProfileRow, profiles, values

ROOT = Path(__file__).resolve().parent.parent
REFERENCE = ROOT / "docs" / "reference"
MADE = "<!-- made by docs/generate.py; change the code, the docstrings or the profiles, then run it again -->"


# ---- introductions ----

COMMANDS = """\
What `--help` says. stdout carries the answer, stderr everything else. `--json` prints one document with `schema` and
`version`, and turns an error into `{"error": {code, message, hint, where}}`.

RUN is a run directory, the beginning of a run's name, or `latest`.

| environment variable | says |
|---|---|
| `AFLCTL_RUNS_DIR` | where runs are written; `runs` |
| `AFLCTL_DATA_DIR` | where prepared datasets lie; the platform's cache folder |
| `AFLCTL_PROFILES` | folders with more profiles |
| `NO_COLOR` | no colours |
| `AFLCTL_TRACEBACK` | `1`: show where an error arose |"""

CONFIGURATION = """\
Every key of a YAML file. What is not said has its default; a key that does not exist is an error with file, line and
the nearest one that does.

`--set KEY=VALUE` changes one, as in `--set local.lr=0.1` or `--set 'algorithm={name: fedbuff, buffer_size: 5}'`;
values are read as in the file, and text needs no quotes. `aflctl config show` prints what came out and where each value
is from. `aflctl config schema` is this page as a JSON Schema for editors, with the parameters of installed plug-ins.

A *plug-in* is a name, or a mapping of `name` and the plug-in's own parameters. Names are those of `aflctl list`,
`distribution/name`, or a class in a file, `./mine.py:FedMine`.

`matrix:` makes a file many runs: [many runs](../how-to/suites.md)."""

PROFILES = """\
The values that come with aflctl. The small number beside a value leads to its source, at the end of the page.
*A value in italics with a question mark?* is an estimate, `unverified: true` in its file: use it to compare, not to
promise. How they become seconds: [fleets](../how-to/fleets.md).

`aflctl list profiles NAME` shows one of them."""

PRESETS = """\
Configurations that come with aflctl: `aflctl run NAME`, and `aflctl run` alone is `quickstart`.
`aflctl list presets NAME` prints one, with its comments."""

API = """\
Every type and class of `aflctl.api`, and the parts of `aflctl.rules` that methods share, as their docstrings say.
[The plug-in API](plugin-api.md) says how they work together.

`P` is the length of the flat float32 vector of trainable parameters, `B` a batch, `N` the number of clients, `M` the
number of modalities, `[]` a scalar tensor. Seconds are virtual, sizes are bytes."""

# kind -> (file, title, introduction)
CATALOGUES = {
    "algorithms": (
        "algorithms.md",
        "Algorithms",
        """\
What each method does, as an equation; what the formulas rest on (*evidence*); and where they differ from their source
(*deviations*).

Evidence is *read* where we had the paper or its authors' code; *secondary* means other people's code, *abstract* and
*memory* what they say. `UNVERIFIED`: neither the paper nor the authors' code was at hand.

`x` or `w` is the global model, `D_i` the update of client i (its model minus the one it received), `tau` the staleness,
`n_i` a client's samples, `eta` the local learning rate.

What all of them make of real digits: [every method on digits](../benchmarks/learn.md).""",
    ),
    "datasets": (
        "dataset-options.md",
        "Dataset options",
        """\
The parameters of each dataset, beside `name` in `dataset: {name: ...}`. Sizes, licences, where the files come from and
which model reads what: [datasets](datasets.md).""",
    ),
    "models": ("models.md", "Models", "Which model reads which dataset: [datasets](datasets.md)."),
    "partitions": (
        "partitions.md",
        "Partitions",
        "How training samples are divided among the clients: `dataset: {partition: ...}`.",
    ),
    "selections": ("selections.md", "Selections", "Which idle clients are started next: `clients: {selection: ...}`."),
    "personalizations": (
        "personalizations.md",
        "Personalizations",
        """\
Wrappers around a method: [how to use them](../how-to/personalization.md), and
[what runs with what](support-matrix.md).""",
    ),
    "fusions": (
        "fusions.md",
        "Fusions",
        "How `model: multimodal` joins its modalities: [how to use them](../how-to/modalities.md).",
    ),
}


# ---- Markdown ----


def plain(text: str) -> str:
    """Text that Markdown would take for markup, so that it shows as it is; code in backticks stays code."""
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(
        p if p.startswith("`") else re.sub(r"([*\[\]_|\\])", r"\\\1", p).replace("<", "&lt;") for p in parts
    )


def cell(value: Any) -> str:
    """A value in a table."""
    return plain(str(value)).replace("\n", " ")


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield ""
    yield f"| {' | '.join(head)} |"
    yield "|---" * len(head) + "|"
    for row in rows:
        yield f"| {' | '.join(row)} |"
    yield ""


def code(text: str, language: str = "text") -> list[str]:
    return ["", f"```{language}", *text.splitlines(), "```", ""]


def docstring(doc: str) -> Iterator[str]:
    """A docstring: what is indented is an equation; source and deviations get a paragraph each."""
    for block in re.split(r"\n\s*\n", inspect.cleandoc(doc)):
        yield ""
        lines = block.splitlines()
        for lines_of_kind, indented in _runs(lines):
            if indented:
                yield from code(inspect.cleandoc("\n" + "\n".join(lines_of_kind)))
            else:
                text = plain(" ".join(line.strip() for line in lines_of_kind))
                heads = r"(?:^|(?<=\. )|(?<=; ))(Sources?|Deviations|Known failure|Presets):"
                text = re.sub(heads, r"\n\n**\1:**", text)
                yield text.strip()


def _runs(lines: Sequence[str]) -> Iterator[tuple[list[str], bool]]:
    """Neighbouring lines that are laid out by hand, or are not: by an indent, or by gaps where others are deep."""
    gap = r"\S  +\S" if any(line.startswith(" " * 8) for line in lines) else r"\S   +\S"
    kinds = [line.startswith("    ") or bool(re.search(gap, line)) for line in lines]
    for kind, group in groupby(zip(lines, kinds, strict=True), key=lambda pair: pair[1]):
        yield [line for line, _ in group], kind


def default(p: Parameter) -> str:
    if p.required:
        return "required"
    value = p.default
    if isinstance(value, tuple | set | frozenset):
        value = list(value)
    if value is None or value == []:
        return "-"
    return f"`{value if isinstance(value, str) and value else json.dumps(value, default=str)}`"


def parameter_table(rows: Iterable[Parameter], known: Sequence[Parameter]) -> Iterator[str]:
    """Parameters; one that has parts is shown by its parts alone."""
    shown = [p for p in rows if p.required or not any(q.name.startswith(f"{p.name}.") for q in known)]
    if not shown:
        return
    yield from table(
        ("parameter", "type", "default", "meaning"),
        (
            (f"`{p.name}`", cell(p.type) + (f", {cell(p.range)}" if p.range else ""), default(p), cell(p.description))
            for p in shown
        ),
    )


# ---- pages ----


def commands() -> Iterator[str]:
    yield "# Commands"
    yield ""
    yield COMMANDS
    yield ""
    yield plain(EPILOG)
    root: Any = typer.main.get_command(app)
    for path, command in _walk(root, ("aflctl",)):
        yield ""
        yield f"## {' '.join(path)}"
        if hasattr(command, "commands"):
            yield ""
            yield plain(inspect.cleandoc(command.help or ""))
            continue
        arguments = [p for p in command.params if p.param_type_name == "argument"]
        options = [p for p in command.params if p.param_type_name == "option" and not p.hidden]
        yield ""
        yield from code(" ".join([*path, *(_argument(p) for p in arguments), "[OPTIONS]"]))
        yield from docstring(command.help or "")
        rows = [(f"`{_argument(p).strip('[]')}`", cell(p.help or "")) for p in arguments]
        rows += [(_option(p), cell(p.help or "")) for p in options]
        yield from table(("argument or option", "meaning"), rows)


def _walk(command: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, inner in getattr(command, "commands", {}).items():
        yield (*path, name), inner
        yield from _walk(inner, (*path, name))


def _argument(p: Any) -> str:
    name = str(p.metavar or p.human_readable_name).upper().strip("[]{}").removesuffix("...")
    name += "..." if p.nargs == -1 else ""
    return name if p.required else f"[{name}]"


def _option(p: Any) -> str:
    names = ", ".join([*sorted(p.opts, key=len), *p.secondary_opts])
    metavar = "" if p.is_flag else f" {p.metavar or p.type.name.upper()}"
    shown = f"`{names}{metavar}`"
    return shown if p.is_flag or p.default in (None, ()) or p.multiple else f"{shown} (default `{p.default}`)"


def configuration() -> Iterator[str]:
    yield "# Configuration"
    yield ""
    yield CONFIGURATION
    rows = parameters(Config)
    top = [p for p in rows if "." not in p.name]
    sections = {p.name: [q for q in rows if q.name.startswith(f"{p.name}.")] for p in top}
    flat = [p for p in top if not sections[p.name]]
    yield ""
    yield "## At the top"
    yield from table(
        ("key", "type", "default", "meaning"),
        ((f"`{p.name}`", cell(_kind(p)), default(p), cell(p.description)) for p in flat),
    )
    for p in top:
        inside = [q for q in sections[p.name] if not q.name.endswith(".params")]
        if not inside:
            continue
        info = Config.model_fields[p.name]
        yield f"## {p.name}"
        yield ""
        yield f"{plain(p.description[:1].upper() + p.description[1:])}."
        inner = model_inside(info.annotation)
        if inner is not None and issubclass(inner, PluginRef):
            file, title, _ = CATALOGUES[f"{p.name}s"]
            yield ""
            yield f"Beside these keys stand the plug-in's own: [{title.lower()}]({file})."
        yield from table(
            ("key", "type", "default", "meaning"),
            (
                (f"`{q.name}`", cell(_kind(q)), default(q), cell(q.description))
                for q in inside
                if q.required or not any(r.name.startswith(f"{q.name}.") for r in inside)
            ),
        )


def _kind(p: Parameter) -> str:
    kind = re.sub(r"\b(Plugin|Dataset|Model|Availability)Ref\b", "plug-in", p.type).replace("FleetSpec", "mapping")
    limits = p.range.replace(f"{2**63:g}", "2^63")
    return f"{kind}, {limits}" if p.range and p.range.startswith((">", "<")) else kind


def catalogue(kind: str, title: str, intro: str) -> Iterator[str]:
    """All built-in plug-ins of a kind: a table, then each with its docstring and parameters."""
    registry = plugins.registry()
    entries = [e for e in registry.entries(kind) if e.distribution == "aflctl"]
    named = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"][f"aflctl.{kind}"]
    if {e.name for e in entries} != set(named):
        raise SystemExit(f"other {kind} are installed than pyproject.toml names: pip install --no-deps -e .")
    yield f"# {title}"
    yield ""
    yield intro
    classes = {e.name: registry.load(kind, f"aflctl/{e.name}") for e in entries}
    evidence = {name: str(getattr(cls, "evidence", "") or "") for name, cls in classes.items()}
    rows = [[f"[`{e.name}`](#{e.name})", plain(e.summary), _kind_of_evidence(evidence[e.name])] for e in entries]
    columns = 3 if all(evidence.values()) else 2
    yield from table(("name", "in one sentence", "evidence")[:columns], (row[:columns] for row in rows))
    for entry in entries:
        cls = classes[entry.name]
        yield ""
        yield f"## {entry.name}"
        yield from docstring(cls.__doc__ or "")
        if evidence[entry.name]:
            yield ""
            yield f"**Evidence:** {plain(evidence[entry.name])}"
        fields = parameters(cls) if hasattr(cls, "model_fields") else []
        yield from parameter_table(fields, fields)


def _kind_of_evidence(text: str) -> str:
    """Its first words: 'official code read', 'UNVERIFIED'."""
    return plain(re.split(r"[:;,(]", text)[0].strip())


# ---- the plug-in API ----


def api_page() -> Iterator[str]:
    yield "# The plug-in API in full"
    yield ""
    yield API
    for module in ("api", "rules"):
        tree = ast.parse((ROOT / "src" / "aflctl" / f"{module}.py").read_text(encoding="utf-8"))
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                yield ""
                yield f"## {node.name}"
                bases = ", ".join(ast.unparse(base) for base in node.bases)
                yield from code(f"aflctl.{module}.{node.name}" + (f"({bases})" if bases else ""))
                yield from docstring(ast.get_docstring(node) or "")
                yield from _members(node)


def _members(node: ast.ClassDef) -> Iterator[str]:
    """Fields, then methods and properties, of a class; what begins with an underscore is nobody's business."""
    fields = [
        (f"`{item.target.id}`", f"`{_type(item.annotation)}`", _default_text(item.value))
        for item in node.body
        if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name) and item.target.id[0] != "_"
    ]
    if fields:
        columns = 3 if any(default for *_, default in fields) else 2
        yield from table(("field", "type", "default")[:columns], (row[:columns] for row in fields))
    methods = [i for i in node.body if isinstance(i, ast.FunctionDef) and i.name[0] != "_"]
    if methods:
        yield from table(
            ("method or property", "gives", "meaning"),
            (
                (
                    f"`{_signature(item)}`",
                    f"`{_type(item.returns)}`" if item.returns else "",
                    cell(" ".join((ast.get_docstring(item) or "").split())),
                )
                for item in methods
            ),
        )


def _signature(item: ast.FunctionDef) -> str:
    """`draw(k, among)`; a property is its name alone."""
    if any(isinstance(d, ast.Name) and d.id == "property" for d in item.decorator_list):
        return item.name
    names = [a.arg for a in (*item.args.args, *item.args.kwonlyargs) if a.arg not in ("self", "cls")]
    return f"{item.name}({', '.join(names)})"


def _default_text(value: ast.expr | None) -> str:
    """A default as it is written; of `Field(default, ...)` its description too."""
    if value is None:
        return ""
    if isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and value.func.id in ("Field", "field"):
        said = {k.arg: k.value for k in value.keywords}
        parts = [f"`{ast.unparse(value.args[0])}`"] if value.args else ["empty"] if "default_factory" in said else []
        return ", ".join([*parts, *([plain(ast.literal_eval(said["description"]))] if "description" in said else [])])
    return f"`{_type(value)}`"


def _type(node: ast.expr) -> str:
    """As it is written; a bar would end a cell."""
    return ast.unparse(node).replace(" | ", " or ")


# ---- profiles ----

UNITS = {
    "dense_gflops": "GFLOP/s", "step_overhead_ms": "ms a step", "parameter_overhead_ns": "ns a parameter and step",
    "cold_start_s": "cold start, s", "memory_mib": "memory, MiB", "usable_memory_share": "usable share",
    "idle_w": "idle, W", "train_w": "training, W", "radio_w": "radio, W", "jitter_sigma": "jitter (sigma)",
    "down_mbps": "down, Mbit/s", "up_mbps": "up, Mbit/s", "down_sigma": "down, sigma", "up_sigma": "up, sigma",
    "within_sigma": "over time, sigma", "autocorrelation_1s": "autocorrelation, 1 s", "rtt_ms": "RTT, ms",
    "rtt_sigma": "RTT, sigma", "radio_down_w": "radio down, W", "radio_up_w": "radio up, W",
    "radio_down_w_per_mbps": "down, W per Mbit/s", "radio_up_w_per_mbps": "up, W per Mbit/s",
    "uniform_low_mbps": "uniform from, Mbit/s", "uniform_high_mbps": "to, Mbit/s",
    "attention_factor": "attention, factor", "depthwise_factor": "depthwise, factor", "rnn_factor": "recurrent, factor",
    "reference_gflops": "reference, GFLOP/s", "relative_time": "relative time",
}  # fmt: skip


class Sources:
    """Numbers for sources, in the order in which they are met."""

    def __init__(self) -> None:
        self.seen: dict[str, int] = {}

    def mark(self, value: dict[str, Any]) -> str:
        """A value with its source's number; a default is left out, an estimate in italics with a question mark."""
        shown = f"{value['value']:g}" if isinstance(value["value"], int | float) else json.dumps(value["value"])
        if not value["source"]:
            return cell(shown) if value["given"] else ""
        number = self.seen.setdefault(value["source"], len(self.seen) + 1)
        estimate = f"*{cell(shown)}?*" if value["unverified"] else cell(shown)
        return f"{estimate} <sup>[{number}](#source-{number})</sup>"

    def listing(self) -> Iterator[str]:
        for text, number in self.seen.items():
            yield f'{number}. <span id="source-{number}"></span>{plain(text)}'


def profile_page() -> Iterator[str]:
    found = [p for p in profiles(ROOT) if p.path.is_relative_to(ROOT / "profiles")]
    sources = Sources()
    yield "# Profiles"
    yield ""
    yield PROFILES
    for group, title in (("devices", "Devices"), ("networks", "Networks")):
        rows = [p for p in found if p.group == group]
        data = {p.name: values(p) for p in rows}
        yield ""
        yield f"## {title}"
        yield from table(("name", "is"), ((f"`{p.name}`", cell(p.summary)) for p in rows))
        fields = list(dict.fromkeys(k for d in data.values() for k in d if d[k]["source"]))
        for part in _parts(fields):
            yield from table(
                ("", *(cell(UNITS.get(f, f.replace("_", " "))) for f in part)),
                (row for row in (_marked(name, d, part, sources) for name, d in data.items()) if any(row[1:])),
            )
    yield "## Availability"
    for p in (p for p in found if p.group == "availability"):
        yield ""
        yield f"**`{p.name}`**: {plain(p.summary)}"
        shown = {k: v for k, v in values(p).items() if k != "kind"}
        if shown:
            yield from table(("parameter", "value"), ((f"`{k}`", sources.mark(v)) for k, v in shown.items()))
    yield "## Fleets"
    for p in (p for p in found if p.group == "fleets"):
        yield ""
        yield f"**`{p.name}`**: {plain(p.summary)}"
        yield from code(_fleet_text(p), "yaml")
        yield f"Source: {plain(_line(p, 'source'))}"
    yield ""
    yield "## Sources"
    yield ""
    yield from sources.listing()


def _marked(name: str, data: dict[str, Any], fields: Sequence[str], sources: Sources) -> list[str]:
    return [f"`{name}`", *(sources.mark(data[field]) if field in data else "" for field in fields)]


def _parts(fields: list[str]) -> list[list[str]]:
    """Fields in tables of at most six columns."""
    return [fields[i : i + 6] for i in range(0, len(fields), 6)]


def _line(p: ProfileRow, key: str) -> str:
    text = next(line for line in p.path.read_text().splitlines() if line.startswith(f"{key}:"))
    return text.partition(":")[2].strip().strip('"')


def _fleet_text(p: ProfileRow) -> str:
    lines = [line for line in p.path.read_text().splitlines() if not re.match(r"(name|summary|source):", line)]
    return "\n".join([f"fleet:  # {p.name}", *(f"  {line}" for line in lines)])


def preset_page() -> Iterator[str]:
    yield "# Presets"
    yield ""
    yield PRESETS
    yield from table(
        ("name", "is"),
        ((f"`{name}`", cell(_first_line(file).removeprefix("#").strip())) for name, file in presets().items()),
    )
    for name in ("quickstart", "smoke"):
        yield ""
        yield f"## {name}"
        yield from code(presets()[name].read_text().rstrip(), "yaml")


def _first_line(file: Path) -> str:
    return file.read_text(encoding="utf-8").splitlines()[0]


def pages() -> dict[str, str]:
    """File name -> text of every generated page."""
    made = {
        "api.md": api_page(),
        "commands.md": commands(),
        "configuration.md": configuration(),
        "presets.md": preset_page(),
        "profiles.md": profile_page(),
        **{file: catalogue(kind, title, intro) for kind, (file, title, intro) in CATALOGUES.items()},
    }
    return {name: _tidy([*_with_mark(lines)]) for name, lines in made.items()}


def _with_mark(lines: Iterator[str]) -> Iterator[str]:
    yield next(lines)
    yield ""
    yield MADE
    yield from lines


def _tidy(lines: Sequence[str]) -> str:
    text = re.sub(r"[ \t]+$", "", "\n".join(lines), flags=re.MULTILINE)
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def main() -> int:
    made = pages()
    stale = [
        name
        for name, text in made.items()
        if not (REFERENCE / name).is_file() or (REFERENCE / name).read_text(encoding="utf-8") != text
    ]
    if "--check" in sys.argv[1:]:
        print("\n".join(f"docs/reference/{name} is out of date: python docs/generate.py" for name in stale))
        return int(bool(stale))
    for name in stale:
        (REFERENCE / name).write_text(made[name], encoding="utf-8")
    print(f"{len(stale)} pages written")
    return 0


if __name__ == "__main__":
    sys.exit(main())
