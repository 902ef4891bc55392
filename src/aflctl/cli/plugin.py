"""`aflctl plugin`: begin a distribution of your own, and check one against the rules."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from aflctl.cli import console
from aflctl.cli.options import JsonOption

if TYPE_CHECKING:
    from aflctl.testing.results import CheckResult

app = typer.Typer(help="Begin a plug-in of your own, or check one.", no_args_is_help=True, rich_markup_mode=None)


@app.command("new")
def new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Of the distribution, as in aflctl-fedmine.")],
    kind: Annotated[
        str,
        typer.Option(
            "--kind",
            metavar="KIND",
            help="algorithm, dataset, model, partition, selection, personalization, fusion or profile.",
        ),
    ] = "algorithm",
    path: Annotated[Path, typer.Option("--path", metavar="DIR", help="The folder in which it is made.")] = Path(),
    json: JsonOption = False,
) -> None:
    """Make a distribution that works and passes the conformance kit, to be changed from there."""
    from aflctl.scaffold import create

    made = create(name, kind, path)
    if json:
        files = sorted(str(file.relative_to(made.folder)) for file in made.folder.rglob("*") if file.is_file())
        facts = {"path": str(made.folder), "kind": made.kind, "name": made.entry, "files": files}
        console.json_document("plugin", facts)
        return
    console.out(f"made {made.folder}: {made.kind} {made.entry!r} in src/{made.module}/__init__.py")
    console.out(f"next: pip install -e {made.folder} && aflctl plugin check {made.kind}/{made.entry}")


@app.command("check")
def check(
    target: Annotated[
        str,
        typer.Argument(
            metavar="TARGET",
            help="A plug-in (fedbuff, model/mlp), a class in a file (./mine.py:FedMine), a folder of profiles, "
            "or a distribution.",
        ),
    ],
    json: JsonOption = False,
) -> None:
    """Run the conformance kit on a plug-in; exit code 1 if a check fails."""
    from aflctl.testing import check_plugin
    from aflctl.testing.targets import find

    rows: list[dict[str, object]] = []
    for found in find(target):
        if found.thing is None:
            rows.append(_row(found.kind, found.name, "loads", "failed", found.broken or ""))
            continue
        console.status(f"checking {found.kind} {found.name}")
        rows += [_of(found.kind, found.name, result) for result in check_plugin(found.thing)]
    console.end_status()
    bad = sum(row["status"] == "failed" for row in rows)
    if json:
        console.json_document("check", {"target": target, "ok": not bad, "results": rows})
    else:
        keys = ("kind", "name", "check", "status", "detail")
        console.table(keys, [[row[key] for key in keys] for row in rows])
        console.out()
        console.out(_summary(rows))
    if bad:
        raise typer.Exit(1)


def _row(kind: str, name: str, check: str, status: str, detail: str) -> dict[str, object]:
    return {"kind": kind, "name": name, "check": check, "status": status, "detail": detail}


def _of(kind: str, name: str, result: CheckResult) -> dict[str, object]:
    said = asdict(result)
    return {**_row(kind, name, said["name"], said["status"], said["detail"]), "seconds": said["seconds"]}


def _summary(rows: list[dict[str, object]]) -> str:
    words = {"passed": "passed", "failed": "failed", "skipped": "do not apply", "expected": "fail as expected"}
    counts = {text: sum(row["status"] == status for row in rows) for status, text in words.items()}
    return ", ".join(f"{n} {text}" for text, n in counts.items() if n)
