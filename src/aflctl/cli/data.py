"""`aflctl data`: datasets and their files. Downloading happens here only."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from aflctl.cli import console
from aflctl.cli.holdings import described, short, tell_content, tell_of
from aflctl.cli.options import ConfigArgument, JsonOption, SetOption

if TYPE_CHECKING:
    from aflctl.api import Dataset
    from aflctl.data.survey import Survey

app = typer.Typer(help="List, fetch and show datasets.", no_args_is_help=True, rich_markup_mode=None)

DatasetArgument = Annotated[str, typer.Argument(metavar="DATASET", help="Name of a dataset; see aflctl data list.")]
MOST_MADE = 1000
FACTS = {
    "dataset": "dataset", "clients": "clients", "samples": "training samples", "size_min": "smallest client",
    "size_median": "median client", "size_max": "largest client", "classes_per_client": "classes per client",
    "distance": "label skew (mean total variation distance from the whole)",
    "coverage": "share of all samples that was given out", "fingerprint": "fingerprint",
}  # fmt: skip


@app.command("list")
def list_(
    dataset: Annotated[
        Optional[str],  # noqa: UP045
        typer.Argument(metavar="DATASET", help="Tell of this one where it comes from and goes to.", show_default=False),
    ] = None,
    json: JsonOption = False,
) -> None:
    """List datasets: whether each is here, its size, licence, natural clients, and how to get it."""
    from aflctl import errors
    from aflctl.data import folder
    from aflctl.plugins import registry

    rows = []
    for entry in registry().entries("datasets") if dataset is None else [registry().entry("datasets", dataset)]:
        try:
            rows.append(described(entry.name, entry.summary, registry().load("datasets", entry.name)))
        except errors.AflctlError as error:
            rows.append({"name": entry.name, "state": "broken", "get": error.message})
    if json:
        console.json_document("datasets", {"folder": str(folder()), "datasets": rows})
    elif dataset is not None:
        tell_of(rows[0])
    else:
        keys = {
            "name": "name",
            "state": "state",
            "download": "size",
            "natural": "natural",
            "licence": "licence",
            "how": "get",
        }
        console.table(list(keys.values()), [[short(key, row) for key in keys] for row in rows])
        console.out("prepare: aflctl data prepare NAME; where files come from: aflctl data list NAME")
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
    """Fetch a dataset's files, check them, and convert them once. A broken download is continued.

    What was converted before is compared with its fingerprint, and converted anew where it differs.
    """
    from dataclasses import asdict

    from aflctl import errors
    from aflctl.data import FileDataset, folder
    from aflctl.data.fetch import watching
    from aflctl.data.raw import looking_in
    from aflctl.data.survey import survey

    if source is not None and not source.is_dir():
        raise errors.UserError(f"no such folder: {source}", where="--from")
    chosen, cache = _dataset(dataset, set_), folder()
    found: Survey | None = None
    try:
        with watching(_progress), looking_in(source.resolve() if source else None):
            if again and isinstance(chosen, FileDataset):
                chosen.stored_at(cache).unlink(missing_ok=True)
            chosen.prepare(cache, download=download)
            if isinstance(chosen, FileDataset):
                found = survey(chosen, cache)
    except KeyboardInterrupt:
        raise errors.Interrupted("interrupted", hint="repeat the command: it continues where it stopped") from None
    finally:
        console.end_status()
    if found is None or not isinstance(chosen, FileDataset):
        if json:
            console.json_document("dataset-prepared", {"name": dataset, "file": ""})
        else:
            console.out(f"{dataset} needs no files")
        return
    place = str(chosen.stored_at(cache))
    if json:
        console.json_document("dataset-prepared", {"name": dataset, "file": place, **asdict(found)})
        return
    console.out(f"{dataset} is ready: {place}")
    tell_content(found)


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
    from aflctl.cli.division import lines
    from aflctl.config.load import load
    from aflctl.data import folder
    from aflctl.data.disk import writing
    from aflctl.data.index import describe_counts, write_index
    from aflctl.data.picture import draw_bubbles
    from aflctl.engine.parts.build import federate
    from aflctl.engine.parts.division import facts_of
    from aflctl.engine.parts.modal import sensors_of
    from aflctl.plan import resolve

    # how many clients work at once does not matter here, so nobody need repeat it
    plan = resolve(load(config, sets=(*(set_ or ()), "clients.concurrency=1")))
    if png is not None and png.suffix.lower() != ".png":
        raise errors.UserError(f"{png.name} does not end in .png", where="--png")
    data = federate(plan, folder())
    found = facts_of(data)
    # clients that make their data are looked at one by one, so not at a million of them
    looked = len(data.samples) if found else min(len(data.samples), MOST_MADE)
    views = (data.train(client) for client in range(looked))
    counts = np.stack([np.bincount(v.labels.numpy(), minlength=data.spec.classes) for v in views])
    partition = {"name": plan.config.dataset.partition.name, **plan.partition.model_dump(mode="json")} if found else {}
    facts = {"dataset": plan.config.dataset.name, **(found or describe_counts(counts)), "fingerprint": data.fingerprint}
    sensors = sensors_of(data)
    owners = {} if sensors is None else {has: len(mine) for has, mine in sensors.patterns().items()}
    names = data.spec.class_names or tuple(str(i) for i in range(data.spec.classes))
    if png is not None:
        title = f"{facts['dataset']}, {facts['clients']} clients, {partition.get('name', 'their own data')}"
        with writing(png):
            draw_bubbles(png, counts, names, title)
    if save is not None:
        parts = getattr(data, "parts", None)
        if parts is None:
            raise errors.UserError("this dataset has no index lists: its clients make their own data", where="--save")
        with writing(save):
            write_index(save, parts(), {"data": getattr(data, "source_fingerprint", "")})
    if json:
        document = {**facts, "partition": partition, "counts": counts.tolist(), "classes": list(names)}
        document |= {"modalities": owners} if owners else {}
        console.json_document("partition", document)
        return
    for line in lines(counts, names, shutil.get_terminal_size((80, 24)).columns):
        console.out(line)
    if looked < len(data.samples):
        console.out(f"these are the first {looked:,} of {len(data.samples):,} clients, which make their data")
    for key, told in FACTS.items():
        if key not in facts:
            continue
        shown = f"{facts[key]:.4g}" if isinstance(facts[key], float) else facts[key]
        console.out(f"{told}: {shown}")
    if partition:
        console.out("partition: " + " ".join(f"{k}={v}" if k != "name" else str(v) for k, v in partition.items()))
    if owners:
        console.out("clients by modality: " + ", ".join(f"{has} {n}" for has, n in owners.items()))
    for kind, written in (("picture", png), ("index lists", save)):
        if written is not None:
            console.out(f"{kind}: {written}")


def _dataset(name: str, sets: list[str] | None) -> Dataset:
    """The plug-in with its parameters; every mistake becomes a UserError."""
    from pydantic import ValidationError

    from aflctl import errors
    from aflctl.config.sets import SPELLING, value_of
    from aflctl.plugins import registry

    found = registry().load("datasets", name)
    values: dict[str, Any] = {}
    for text in sets or ():
        key, equals, value = text.partition("=")
        if not equals:
            raise errors.UserError(f"expected KEY=VALUE, got {text!r}", where="--set")
        try:
            values[key.removeprefix("dataset.")] = value_of(value)
        except ValueError as error:
            raise errors.UserError(f"{key}: {error}", where=f"--set {text}", hint=SPELLING) from error
    try:
        made: Dataset = found(**values)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        known = ", ".join(found.model_fields) or "none"
        said = "unknown parameter" if first["type"] == "extra_forbidden" else first["msg"]
        raise errors.UserError(f"{place}: {said}", where="--set", hint=f"parameters of {name}: {known}") from error
    return made


def _progress(what: str, done: int, total: int) -> None:
    share = f" {100 * done // total} %" if total else ""
    count = f"{done / 1e6:.1f} MB" if not what.startswith("decoding") else str(done)
    if not done and not total:
        console.status(what)
    elif console.is_terminal(sys.stderr) or done == total:
        console.status(f"{what}: {count}{share}")
