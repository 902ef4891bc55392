"""What `aflctl list` tells, gathered without printing and without loading more than is asked for."""

from __future__ import annotations

import inspect
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aflctl import errors, plugins
from aflctl.plugins import Entry, Registry


@dataclass(frozen=True)
class Detail:
    """One thing in full: `facts` for programs, the rest for people."""

    title: str
    facts: dict[str, Any]
    lines: Sequence[tuple[str, Any]] = ()
    text: str = ""
    columns: Sequence[str] = ()
    rows: Sequence[Sequence[Any]] = field(default=())
    example: str = ""


def overview(kinds: Iterable[str], *, check: bool, runs_dir: Path | None) -> dict[str, list[dict[str, Any]]]:
    """Kind -> rows, of everything."""
    return {kind: rows(kind, check=check, runs_dir=runs_dir) for kind in kinds}


def rows(kind: str, *, check: bool = False, runs_dir: Path | None = None) -> list[dict[str, Any]]:
    """The rows of a kind. With `check` each plug-in is loaded, and `broken` says what went wrong."""
    if kind == "profiles":
        return _profile_rows(check)
    if kind == "presets":
        return _preset_rows()
    if kind == "plugins":
        return _distribution_rows(check)
    if kind == "runs":
        return _run_rows(runs_dir)
    registry = plugins.registry()
    return [_entry_row(registry, kind, entry, check) for entry in registry.entries(kind)]


def detail(kind: str, name: str, *, runs_dir: Path | None = None) -> Detail:
    """One thing of a kind; raises UnknownName."""
    if kind == "profiles":
        return _profile(name)
    if kind == "presets":
        return _preset(name)
    if kind == "plugins":
        return _distribution(name)
    if kind == "runs":
        return _run(name, runs_dir)
    return _plugin(kind, name)


# ---- plug-ins ----


def _entry_row(registry: Registry, kind: str, entry: Entry, check: bool) -> dict[str, Any]:
    broken = entry.broken
    if check:
        try:
            registry.load(kind, f"{entry.distribution}/{entry.name}")
            broken = None  # what the text did not show, importing did
        except errors.AflctlError as error:
            broken = f"{error.message} ({error.where})" if error.where else error.message
    return {
        "name": entry.name,
        "distribution": entry.distribution,
        "version": entry.version,
        "summary": entry.summary,
        "value": entry.value,
        "broken": broken,
        "rivals": list(entry.rivals),
    }


def _plugin(kind: str, name: str) -> Detail:
    from aflctl.config.parameters import parameters

    registry = plugins.registry()
    cls = registry.load(kind, name)
    fields = parameters(cls) if hasattr(cls, "model_fields") else []
    doc = inspect.cleandoc(cls.__doc__ or "")
    evidence = str(getattr(cls, "evidence", "") or "")
    if plugins.is_local(name):
        file, _ = plugins.split_local(name)
        origin = {"distribution": None, "version": None, "file": str(file)}
        lines: list[tuple[str, Any]] = [("file", file)]
    else:
        entry = registry.entry(kind, name)
        origin = {"distribution": entry.distribution, "version": entry.version, "file": entry.value}
        lines = [("distribution", f"{entry.distribution} {entry.version}"), ("class", entry.value)]
    if evidence:
        lines.append(("evidence", evidence))
    rows = [
        (p.name, p.type, "required" if p.required else _shown(p.default), p.range, p.description)
        for p in fields
        if not any(q.name.startswith(f"{p.name}.") for q in fields) or p.required
    ]
    facts = {
        "kind": kind,
        "name": name,
        **origin,
        "docstring": doc,
        "evidence": evidence,
        "parameters": [
            {
                "name": p.name,
                "type": p.type,
                "required": p.required,
                "default": _plain(p.default),
                "range": p.range,
                "description": p.description,
            }
            for p in fields
        ],
    }
    columns = ("parameter", "type", "default", "range", "meaning")
    return Detail(f"{plugins.word(kind)} {name}", facts, lines, doc, columns, rows, _example(kind, name, cls, rows))


_PLACES = {
    "algorithms": "algorithm",
    "datasets": "dataset",
    "models": "model",
    "partitions": "dataset.partition",
    "selections": "clients.selection",
    "personalizations": "personalization",
    "fusions": "model.fusion",
}


def _example(kind: str, name: str, cls: type, rows: Sequence[Sequence[Any]]) -> str:
    """A command that runs as it stands: what the plug-in wants besides (its `example`), itself, its first parameter."""
    if kind == "trackers":
        return f"""aflctl run --set 'track=["{name}"]'; aflctl show RUN --export {name}"""
    place = _PLACES[kind]
    sets = [*getattr(cls, "example", ()), f"{place}={name}"]
    first = next((row for row in rows if row[2] not in ("null", "required") and "{" not in str(row[2])), None)
    sets += [f"{place}.{first[0]}={first[2]}"] if first else []
    return " ".join(["aflctl run", *(f"--set {shlex.quote(text)}" for text in sets)])


def _shown(value: Any) -> str:
    import json

    return value if isinstance(value, str) and value else json.dumps(_plain(value), default=str)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple | set | frozenset) else value


# ---- distributions ----


def _distribution_rows(check: bool) -> list[dict[str, Any]]:
    registry = plugins.registry()
    result = []
    for name, version in sorted(registry.distributions().items()):
        offers = _offers(registry, name)
        broken = None
        if check:
            sick = [
                f"{plugins.word(kind)} {row['name']}"
                for kind, entries in offers.items()
                for row in (_entry_row(registry, kind, e, True) for e in entries)
                if row["broken"]
            ]
            broken = f"does not load: {', '.join(sick)}" if sick else None
        counts = ", ".join(f"{len(e)} {kind if len(e) > 1 else plugins.word(kind)}" for kind, e in offers.items())
        result.append({"name": name, "version": version, "offers": counts, "broken": broken})
    return result


def _offers(registry: Registry, distribution: str) -> dict[str, list[Entry]]:
    found = {kind: [e for e in registry.entries(kind) if e.distribution == distribution] for kind in plugins.KINDS}
    return {kind: entries for kind, entries in found.items() if entries}


def _distribution(name: str) -> Detail:
    registry = plugins.registry()
    known = registry.distributions()
    if name not in known:
        raise errors.UnknownName("distribution with plug-ins", name, known)
    offers = _offers(registry, name)
    entries = [e for several in offers.values() for e in several]
    facts = {
        "name": name,
        "version": known[name],
        "offers": {k: [_entry_row(registry, k, e, False) for e in v] for k, v in offers.items()},
    }
    rows = [(plugins.word(e.kind), e.name, f"BROKEN: {e.broken}" if e.broken else e.summary) for e in entries]
    return Detail(f"{name} {known[name]}", facts, columns=("kind", "name", "summary"), rows=rows)


# ---- profiles, presets, runs ----


def _profile_rows(check: bool) -> list[dict[str, Any]]:
    from aflctl.engine.profiles import profiles

    return [
        {
            "group": p.group,
            "name": p.name,
            "owner": p.owner,
            "summary": p.summary,
            "file": str(p.path),
            "broken": p.broken,
        }
        for p in profiles(check=check)
    ]


def _profile(name: str) -> Detail:
    from aflctl.engine.profiles import profiles, values

    everything = profiles()
    owner, _, plain = name.rpartition("/")
    found = [p for p in everything if p.name == plain and owner in ("", p.owner, p.group)]
    if not found:
        raise errors.UnknownName("profile", name, {p.name for p in everything})
    if len(found) > 1:
        several = len({p.group for p in found}) > 1
        names = " or ".join(f"{p.group if several else p.owner}/{p.name}" for p in found)
        raise errors.UserError(f"there are {len(found)} profiles called {plain!r}", hint=f"write {names}")
    row = found[0]
    data = values(row)
    facts = {
        "group": row.group, "name": row.name, "owner": row.owner, "file": str(row.path), "summary": row.summary,
        "values": data,
    }  # fmt: skip
    rows = [
        (key, _shown(v["value"]), ("unverified: " if v["unverified"] else "") + _origin(v))
        for key, v in data.items()
    ]
    lines = [("group", row.group), ("from", row.owner), ("file", row.path)]
    return Detail(f"profile {row.name}", facts, lines, row.summary, ("field", "value", "source"), rows)


def _origin(value: Mapping[str, Any]) -> str:
    """Where a value of a profile comes from, as far as its file says; a word such as a kind needs no source."""
    if value["source"] or not value["given"]:
        return str(value["source"] or "default")
    return "" if isinstance(value["value"], str) else "the file gives no source"


def _preset_rows() -> list[dict[str, Any]]:
    from aflctl.config.source import presets

    return [
        {"name": name, "summary": _first_comment(file), "file": str(file), "broken": None}
        for name, file in presets().items()
    ]


def _first_comment(file: Path) -> str:
    line = file.read_text(encoding="utf-8").split("\n", 1)[0]
    return line.removeprefix("#").strip() if line.startswith("#") else ""


def _preset(name: str) -> Detail:
    from aflctl.config.source import presets

    known = presets()
    if name not in known:
        raise errors.UnknownName("preset", name, known)
    text = known[name].read_text(encoding="utf-8").rstrip()
    facts = {"name": name, "file": str(known[name]), "text": text}
    return Detail(f"preset {name}", facts, [("file", known[name])], text, example=f"aflctl run {name}")


def _run_rows(runs_dir: Path | None) -> list[dict[str, Any]]:
    from aflctl.runs.load import Run
    from aflctl.runs.rundir import all_runs, runs_root

    return [_run_row(Run(path)) for path in all_runs(runs_root(runs_dir))]


def _run_row(run: Any) -> dict[str, Any]:
    try:
        summary: dict[str, Any] = run.summary
        status, broken = run.status, None
    except errors.AflctlError as error:
        summary, status, broken = {}, "unreadable", error.message
    final = summary.get("final") or {}
    accuracy = final.get("accuracy")
    return {
        "name": run.name,
        "status": status,
        "algorithm": summary.get("algorithm"),
        "dataset": summary.get("dataset"),
        "seed": summary.get("seed"),
        "accuracy": round(accuracy, 4) if isinstance(accuracy, float) else accuracy,
        "path": str(run.path),
        "broken": broken,
    }


def _run(name: str, runs_dir: Path | None) -> Detail:
    from aflctl.runs.load import Run
    from aflctl.runs.rundir import find, runs_root

    row = _run_row(Run(find(name, runs_root(runs_dir))))
    lines = [(k, v) for k, v in row.items() if v is not None and k != "name"]
    return Detail(f"run {row['name']}", row, lines, example=f"aflctl show {row['name']} shows its results.")
