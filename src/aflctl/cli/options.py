"""Options that several commands share."""

from __future__ import annotations

from typing import Annotated, Optional

import typer

ConfigArgument = Annotated[
    Optional[str],  # noqa: UP045
    typer.Argument(
        metavar="CONFIG",
        help="A YAML file, a run directory, or the name of a preset; by default the preset quickstart.",
        show_default=False,
    ),
]
SetOption = Annotated[
    Optional[list[str]],  # noqa: UP045
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Change one value, as in local.lr=0.1 or algorithm=fedasync. May be repeated.",
        show_default=False,
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of text.")]
