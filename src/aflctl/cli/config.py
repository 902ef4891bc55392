"""`aflctl config`: what a configuration says, what it may say, and whether it is right."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from aflctl.cli import console
from aflctl.cli.options import ConfigArgument, JsonOption, SetOption

if TYPE_CHECKING:
    from aflctl.config.load import Loaded

app = typer.Typer(help="Show, check and describe configurations.", no_args_is_help=True, rich_markup_mode=None)


@app.command("show")
def show(config: ConfigArgument = None, set_: SetOption = None, json: JsonOption = False) -> None:
    """Print the resolved configuration; a comment says where each value comes from."""
    from aflctl.config.load import to_yaml

    loaded = _load(config, set_)
    if not json:
        console.out(_commented(to_yaml(loaded.config), loaded))
        return
    console.json_document(
        "config",
        {
            "config": loaded.config.model_dump(mode="json"),
            "origins": {k: {"source": o.source, "where": o.where} for k, o in loaded.origins.items()},
        },
    )


@app.command("schema")
def schema(json: JsonOption = False) -> None:
    """Print the JSON Schema of configurations, with the parameters of the installed plug-ins, for editors."""
    import json as text

    from aflctl.config.load import json_schema

    document = json_schema()
    if json:
        console.json_document("config-schema", {"json_schema": document})
    else:
        console.out(text.dumps(document, indent=2))


@app.command("validate")
def validate(config: ConfigArgument = None, set_: SetOption = None, json: JsonOption = False) -> None:
    """Check a configuration; all mistakes are reported at once."""
    from aflctl.config.matrix import is_matrix
    from aflctl.plan import resolve

    if is_matrix(config, set_ or ()):
        _validate_many(config, set_, json)
        return
    loaded = _load(config, set_)
    plan = resolve(loaded)
    source = str(loaded.path or config or loaded.preset)
    facts: dict[str, Any] = {"source": source, "label": plan.label, "digest": plan.digest}
    if json:
        console.json_document("config-validation", {"valid": True, **facts})
        return
    said = loaded.config
    console.out(
        f"{source}: valid; {said.algorithm.name} on {said.dataset.name} with {said.model.name}, "
        f"{said.clients.count} clients"
    )


def _validate_many(config: str | None, sets: list[str] | None, json: bool) -> None:
    from aflctl.config.matrix import expand
    from aflctl.engine.checks import CHECKS
    from aflctl.plan import resolve

    found = expand(config, sets or (), checks=CHECKS, digest=lambda loaded: resolve(loaded).digest)
    runs = [{"label": d.label, "digest": resolve(x).digest} for d, x in zip(found.cells, found.loaded)]
    if json:
        console.json_document("config-validation", {"valid": True, "source": str(config or found.name), "runs": runs})
        return
    console.out(f"{config or found.name}: valid; {len(runs)} runs")


def _load(config: str | None, sets: list[str] | None) -> Loaded:
    from aflctl.config.load import load
    from aflctl.engine.checks import CHECKS

    return load(config, sets or (), checks=CHECKS)


def _commented(text: str, loaded: Loaded) -> str:
    from aflctl.config.yaml_text import parse

    notes = {
        line: str(loaded.origins[".".join(keys)])
        for keys, line in parse(text).lines.items()
        if ".".join(keys) in loaded.origins
    }
    lines = text.rstrip("\n").split("\n")
    width = min(60, max(len(line) for line in lines))
    return "\n".join(
        f"{line.ljust(width)}  # {notes[i]}" if i in notes else line for i, line in enumerate(lines, start=1)
    )
