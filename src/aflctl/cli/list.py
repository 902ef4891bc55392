"""`aflctl list`: what there is to choose from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from aflctl.cli import console
from aflctl.cli.options import JsonOption

if TYPE_CHECKING:
    from aflctl.cli.catalogue import Detail


KINDS = (
    "algorithms", "datasets", "models", "partitions", "selections", "personalizations", "fusions", "trackers",
    "profiles", "presets", "plugins", "runs",
)  # fmt: skip


def list_(
    kind: Annotated[
        Optional[str],  # noqa: UP045
        typer.Argument(metavar="KIND", help=f"One of {', '.join(KINDS)}.", show_default=False),
    ] = None,
    name: Annotated[
        Optional[str],  # noqa: UP045
        typer.Argument(metavar="NAME", help="Show this one with its parameters.", show_default=False),
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Load each plug-in, and say why one does not load.")] = False,
    runs_dir: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--runs-dir", metavar="DIR", help="Where the runs are.", show_default=False),
    ] = None,
    json: JsonOption = False,
) -> None:
    """List plug-ins, profiles, presets and runs; with NAME, one of them in full."""
    from aflctl import errors
    from aflctl.cli import catalogue

    if kind is None:
        _overview(catalogue.overview(KINDS, check=check, runs_dir=runs_dir), json)
        return
    plural = kind if kind in KINDS else f"{kind}s"
    if plural not in KINDS:
        raise errors.UnknownName("kind", kind, KINDS)
    if name is None:
        _rows(plural, catalogue.rows(plural, check=check, runs_dir=runs_dir), json)
    else:
        _detail(catalogue.detail(plural, name, runs_dir=runs_dir), json)


def _overview(found: dict[str, list[dict[str, Any]]], json: bool) -> None:
    if json:
        console.json_document("list", found)
        return
    lines = []
    for kind, rows in found.items():
        names = list(dict.fromkeys(str(row["name"]) for row in rows))
        shown = ", ".join(names[:12]) + (f", ... ({len(names) - 12} more)" if len(names) > 12 else "")
        broken = sum(1 for row in rows if row.get("broken"))
        lines.append((kind, len(rows), (shown or "none") + (f"  [{broken} broken]" if broken else "")))
    console.table(("kind", "count", "names"), lines)
    console.out()
    console.out("aflctl list KIND says what each is; aflctl list KIND NAME shows one with its parameters.")


_COLUMNS: dict[str, tuple[str, ...]] = {
    "profiles": ("group", "name", "owner", "summary"),
    "presets": ("name", "summary"),
    "plugins": ("name", "version", "offers"),
    "runs": ("name", "status", "algorithm", "dataset", "seed", "accuracy"),
}


def _rows(kind: str, rows: list[dict[str, Any]], json: bool) -> None:
    if json:
        console.json_document("list", {kind: rows})
        return
    columns = _COLUMNS.get(kind, ("name", "distribution", "summary"))
    if not rows:
        console.out(f"no {kind}")
        return
    lines = []
    for row in rows:
        cells = [row.get(c) for c in columns]
        notes = [f"BROKEN: {row['broken']}"] if row.get("broken") else []
        if row.get("rivals"):
            notes.append(f"claimed by several distributions; write {row['distribution']}/{row['name']}")
        if notes:
            cells[-1] = "; ".join(notes)
        lines.append(cells)
    console.table(columns, lines)


def _detail(detail: Detail, json: bool) -> None:
    if json:
        console.json_document("list", {"detail": detail.facts})
        return
    console.heading(detail.title)
    for key, value in detail.lines:
        console.out(f"  {key}: {value}")
    if detail.text:
        console.out()
        console.out(detail.text)
    if detail.rows:
        console.out()
        console.table(detail.columns, detail.rows)
    if detail.example:
        console.out()
        console.out(detail.example)
