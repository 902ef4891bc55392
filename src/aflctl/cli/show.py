"""`aflctl show`: one run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from aflctl.cli import console
from aflctl.cli.options import JsonOption

if TYPE_CHECKING:
    from aflctl.runs.load import Run


def show(
    run: Annotated[
        str, typer.Argument(metavar="RUN", help="A run directory, the beginning of a run's name, or latest.")
    ] = "latest",
    runs_dir: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--runs-dir", metavar="DIR", help="Where runs are; by default ./runs.", show_default=False),
    ] = None,
    why: Annotated[bool, typer.Option("--why", help="Explain what made the run stale, and what would help.")] = False,
    trace: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--trace", metavar="FILE", help="Write a timeline that opens in Perfetto.", show_default=False),
    ] = None,
    clients: Annotated[int, typer.Option("--clients", metavar="N", min=1, help="Lanes in the timeline.")] = 50,
    export: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--export", metavar="TRACKER", help="Tell a tracker of the run: tensorboard.", show_default=False),
    ] = None,
    to: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--to", metavar="DIR", help="Where the export goes; by default into the run.", show_default=False),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Show one run: what ran, its results, its staleness, its files."""
    from aflctl.runs.load import load_run
    from aflctl.runs.rundir import find, runs_root

    found = load_run(find(run, runs_root(runs_dir)))
    if export is not None:
        _exported(found, export, to, json)
    elif trace is not None or why:
        _asked(found, why, trace, clients, json)
    elif json:
        console.json_document("show", _document(found))
    elif found.status == "done":
        _done(found)
    else:
        _unfinished(found)


def _exported(run: Run, name: str, to: Path | None, json: bool) -> None:
    """The run, told to a tracker."""
    from aflctl.engine.course.tracking import export

    place = export(run, name, to)
    if json:
        console.json_document("export", {"name": run.name, "tracker": name, "path": str(place)})
    else:
        console.out(str(place))


def _asked(run: Run, why: bool, trace: Path | None, clients: int, json: bool) -> None:
    """The explanation, the timeline, or both."""
    from aflctl.report.timeline import write_trace
    from aflctl.report.why import why as explain

    answer: dict[str, Any] = {"name": run.name, "path": str(run.path)}
    if why:
        explained = explain(run)
        answer["why"] = {"sentences": explained.sentences, **explained.facts}
        for sentence in () if json else explained.sentences:
            console.out(sentence)
    if trace is not None:
        wrote = write_trace(run, trace, clients)
        answer["trace"] = {"file": str(trace), **wrote}
        if not json:
            console.out(
                f"{trace}: {wrote['clients']} clients, {wrote['tasks']:,} tasks, {wrote['versions']:,} versions; "
                "open it at https://ui.perfetto.dev"
            )
    if json:
        console.json_document("show", answer)


def _document(run: Run) -> dict[str, Any]:
    return {
        "name": run.name,
        "path": str(run.path),
        "status": run.status,
        "config": run.config,
        "summary": run.summary,
        "provenance": run.provenance,
        "exit": run.exit,
        "files": [path.name for path in sorted(run.path.iterdir()) if not path.name.startswith(".")],
    }


def _done(run: Run) -> None:
    from aflctl.report import render

    console.heading(run.name)
    console.show(render.terminal(run))
    for text in render.warnings(run.summary):
        console.err(f"warning: {text}")
    _files(run)
    others = sorted({path.name.partition("-s")[0] for path in run.path.resolve().parent.glob("*-s*")})[:3]
    console.out(f"next: aflctl compare {' '.join(others) or run.name}; aflctl run {run.path} --rerun")


def _unfinished(run: Run) -> None:
    from aflctl.report import render
    from aflctl.report.wording import count, percent

    console.heading(f"{run.name}: {run.status}")
    if (run.path / "config.yaml").exists():
        console.out(render.title(run.config))
    if (run.path / "metrics.csv").exists():
        rows = list(run.columns("metrics").records())
        if rows:
            update, version, accuracy = (rows[-1][name] for name in ("update", "version", "accuracy"))
            console.out(f"so far: {count(update)} updates, {count(version)} versions, accuracy {percent(accuracy)}")
    if run.exit:
        where = f"{run.exit['where']}: " if run.exit.get("where") else ""
        console.out(f"ended with {run.exit.get('code')}: {where}{run.exit.get('message')}")
        if run.exit.get("hint"):
            console.out(f"hint: {run.exit['hint']}")
    _files(run)
    if run.status in ("failed", "interrupted"):
        console.out(f"next: aflctl run {run.path}")


def _files(run: Run) -> None:
    names = [path.name for path in sorted(run.path.iterdir()) if not path.name.startswith(".") and path.name != "lock"]
    console.out()
    console.out(f"files in {run.path}:")
    line = ""
    for name in names:
        if line and len(line) + len(name) > 76:
            console.out(f"  {line}")
            line = ""
        line += f"{name}  "
    if line:
        console.out(f"  {line.rstrip()}")
