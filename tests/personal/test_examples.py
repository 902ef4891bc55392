"""The command that `aflctl list personalizations NAME` or `fusions NAME` shows runs as it stands."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from aflctl.cli.catalogue import detail
from aflctl.config.load import load
from aflctl.engine.parts.build import build, federate
from aflctl.plan import resolve
from aflctl.plugins import registry
from aflctl.runs.records import Digest

NAMES = [(kind, e.name) for kind in ("personalizations", "fusions") for e in registry().entries(kind)]


@pytest.mark.parametrize(("kind", "name"), NAMES)
def test_the_example_runs(kind: str, name: str) -> None:
    program, command, *words = shlex.split(detail(kind, name).example)
    assert (program, command) == ("aflctl", "run")
    assert set(words[::2]) == {"--set"}
    plan = resolve(load(None, sets=words[1::2]))
    x = build(plan, federate(plan, Path()), Path(), Digest(), None)
    x.loop.begin()
    assert x.loop.tickets
    x.pool.executor.close()
