"""`aflctl data`: datasets and their files. Downloading happens here only."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from aflctl.cli import console
from aflctl.cli.options import ConfigArgument, JsonOption, SetOption

if TYPE_CHECKING:
    from aflctl.api import Dataset

app = typer.Typer(help="List, fetch and show datasets.", no_args_is_help=True, rich_markup_mode=None)

MOST_ROWS, MOST_CLASSES = 20, 12
DatasetArgument = Annotated[str, typer.Argument(metavar="DATASET", help="Name of a dataset; see aflctl data list.")]


@app.command("list")
def list_(json: JsonOption = False) -> None:
    """List datasets: whether each is here, its size, licence, natural clients, and how to get it."""
    from aflctl import errors
    from aflctl.data import folder
    from aflctl.plugins import registry

    rows = []
    for entry in registry().entries("datasets"):
        try:
            rows.append(_described(entry.name, entry.summary, registry().load("datasets", entry.name)))
        except errors.AflctlError as error:
            rows.append({"name": entry.name, "state": "broken", "get": error.message})
    if json:
        console.json_document("datasets", {"folder": str(folder()), "datasets": rows})
        return
    keys = ("name", "state", "download", "natural", "licence", "get")
    console.table(keys, [[row.get(key, "") for key in keys] for row in rows])
    console.out(f"folder: {folder()}")


@app.command("prepare")
def prepare(
    dataset: DatasetArgument,
    set_: SetOption = None,
    source: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--from", metavar="DIR", help="Read the original files from this folder.", show_default=False),
    ] = None,
    download: Annotated[bool, typer.Option(help="Fetch files that are missing.")] = True,
    again: Annotated[bool, typer.Option("--again", help="Convert anew, even if that was done.")] = False,
    json: JsonOption = False,
) -> None:
    """Fetch a dataset's files, check them, and convert them once. A broken download is continued."""
    from aflctl import errors
    from aflctl.data import FileDataset, folder
    from aflctl.data.fetch import watching
    from aflctl.data.files import looking_in

    if source is not None and not source.is_dir():
        raise errors.UserError(f"no such folder: {source}", where="--from")
    chosen, cache = _dataset(dataset, set_), folder()
    if again and isinstance(chosen, FileDataset):
        chosen.stored_at(cache).unlink(missing_ok=True)
    with watching(_progress), looking_in(source.resolve() if source else None):
        chosen.prepare(cache, download=download)
    console.end_status()
    place = str(chosen.stored_at(cache)) if isinstance(chosen, FileDataset) else ""
    if json:
        console.json_document("dataset-prepared", {"name": dataset, "file": place})
    else:
        console.out(f"{dataset} is ready: {place}" if place else f"{dataset} needs no files")


@app.command("path")
def path(
    dataset: Annotated[
        Optional[str],  # noqa: UP045
        typer.Argument(metavar="DATASET", help="Name of a dataset; none = the folder of all.", show_default=False),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Print where datasets are kept (AFLCTL_DATA_DIR, else the platform's cache folder), or one of them."""
    from aflctl.data import FileDataset, folder

    place = folder()
    if dataset is not None:
        chosen = _dataset(dataset, None)
        place /= chosen.key if isinstance(chosen, FileDataset) else dataset
    if json:
        console.json_document("data-path", {"path": str(place)})
    else:
        console.out(str(place))


@app.command("show")
def show(
    config: ConfigArgument = None,
    set_: SetOption = None,
    png: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--png", metavar="FILE", help="Draw class by client as bubbles.", show_default=False),
    ] = None,
    save: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--save", metavar="FILE", help="Write the index lists, for the partition from-file."),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Show how a configuration divides its dataset among the clients; needs the dataset's files."""
    import numpy as np

    from aflctl import errors
    from aflctl.config.load import load
    from aflctl.data import folder
    from aflctl.data.index import describe_counts, write_index
    from aflctl.data.picture import draw_bubbles
    from aflctl.engine.build import federate
    from aflctl.plan import resolve

    plan = resolve(load(config, sets=set_ or ()))
    data = federate(plan, folder())
    views = [data.train(client) for client in range(len(data.samples))]
    counts = np.stack([np.bincount(v.labels.numpy(), minlength=data.spec.classes) for v in views])
    facts = {"dataset": plan.config.dataset.name, **describe_counts(counts), "fingerprint": data.fingerprint}
    names = data.spec.class_names or tuple(str(i) for i in range(data.spec.classes))
    if png is not None:
        draw_bubbles(png, counts, names, f"{facts['dataset']}, {facts['clients']} clients")
    if save is not None:
        parts = getattr(data, "parts", None)
        if parts is None:
            raise errors.UserError("this dataset has no index lists: its clients make their own data", where="--save")
        write_index(save, parts(), {"data": getattr(data, "source_fingerprint", "")})
    if json:
        console.json_document("partition", {**facts, "counts": counts.tolist(), "classes": list(names)})
        return
    if data.spec.classes <= MOST_CLASSES:
        sizes = counts.sum(1)
        rows_ = [[c, sizes[c], *row] for c, row in enumerate(counts[:MOST_ROWS].tolist())]
        console.table(("client", "samples", *names), rows_)
        if len(counts) > MOST_ROWS:
            console.out(f"... and {len(counts) - MOST_ROWS} more clients")
    for key, value in facts.items():
        shown = f"{value:.4g}" if isinstance(value, float) else value
        console.out(f"{key.replace('_', ' ')}: {shown}")
    for kind, written in (("picture", png), ("index lists", save)):
        if written is not None:
            console.out(f"{kind}: {written}")


def _dataset(name: str, sets: list[str] | None) -> Dataset:
    """The plug-in with its parameters; every mistake becomes a UserError."""
    import json

    from pydantic import ValidationError

    from aflctl import errors
    from aflctl.plugins import registry

    found = registry().load("datasets", name)
    values: dict[str, Any] = {}
    for text in sets or ():
        key, equals, value = text.partition("=")
        if not equals:
            raise errors.UserError(f"expected KEY=VALUE, got {text!r}", where="--set")
        try:
            values[key.removeprefix("dataset.")] = json.loads(value)
        except ValueError:
            values[key.removeprefix("dataset.")] = value
    try:
        made: Dataset = found(**values)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        known = ", ".join(found.model_fields) or "none"
        raise errors.UserError(
            f"{place}: {first['msg']}", where="--set", hint=f"parameters of {name}: {known}"
        ) from error
    return made


def _described(name: str, summary: str, found: type[Dataset]) -> dict[str, Any]:
    from aflctl.data import FileDataset, folder

    if not issubclass(found, FileDataset):
        return {"name": name, "state": "built in", "download": "", "natural": "", "licence": "", "get": "nothing to do",
                "title": summary}  # fmt: skip
    listing, chosen = found.listing(), found()
    can_fetch = any(file.urls for file in listing.files)
    by_hand = f"by hand ({listing.homepage}), then {chosen.command()}"
    return {
        "name": name,
        "state": chosen.state(folder()),
        "download": _size(listing.bytes) if can_fetch else "",
        "natural": listing.natural,
        "licence": listing.licence,
        "get": chosen.command() if can_fetch else by_hand,
        "title": listing.title,
        "homepage": listing.homepage,
        "folder": str(folder() / found.key / "raw"),
    }


def _size(count: int) -> str:
    return f"{count / 1e6:.0f} MB" if count >= 1e6 else "not published"


def _progress(what: str, done: int, total: int) -> None:
    share = f" {100 * done // total} %" if total else ""
    unit = f"{done / 1e6:.1f} MB" if not what.startswith("decoding") else str(done)
    if console.is_terminal(sys.stderr) or done == total:
        console.status(f"{what}: {unit}{share}")
