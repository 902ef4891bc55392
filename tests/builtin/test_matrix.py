"""docs/reference/datasets.md is true: a model that it names for a dataset is run on it, every other one refuses it."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest

from aflctl.api import DataSpec
from aflctl.builtin.models.inputs import FITTING
from aflctl.data import FileDataset, catalog
from aflctl.engine import run
from aflctl.errors import UserError
from aflctl.plugins import registry
from builtin.raw_sets import all_sets, prepare_all

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "reference" / "datasets.md"
BEGIN, END = "<!-- made by tests/builtin/test_matrix.py: facts -->", "<!-- end -->"
WRITE = "AFLCTL_WRITE_DOCS=1 python -m pytest tests/builtin/test_matrix.py"


def models() -> list[str]:
    return [e.name for e in registry().entries("models") if e.distribution == "aflctl"]


def claimed() -> list[tuple[str, str]]:
    """(dataset as titled, model) of every cell of the document's second table."""
    found = re.findall(r"^\| `([^`]+)` \| [^|]* \| ((?:`[a-z0-9-]+`(?:, )?)+) \|$", DOCUMENT.read_text("utf-8"), re.M)
    return [(title, model) for title, cells in found for model in re.findall(r"`([a-z0-9-]+)`", cells)]


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, DataSpec]]:
    cache = tmp_path_factory.mktemp("sets")
    return cache, prepare_all(cache)


def fits(model: str, spec: DataSpec) -> bool:
    try:
        registry().load("models", model)().build(spec)
    except UserError:
        return False
    return True


@pytest.mark.parametrize(("title", "model"), claimed(), ids=lambda value: str(value).replace(", ", "-"))
def test_every_claimed_cell_is_run(
    title: str, model: str, prepared: Any, runs_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, _ = prepared
    monkeypatch.setenv("AFLCTL_DATA_DIR", str(cache))
    # pictures are half of the time of so short a run
    monkeypatch.setattr("aflctl.report.pictures.drawing.save", lambda figure, path: None)
    name, params = all_sets()[title]
    small = {"synthetic": {"test_samples": 20}, "synthetic-modal": {"train_samples": 40, "test_samples": 20}}
    done = run(
        {
            "algorithm": {"name": "fedbuff", "buffer_size": 2},
            "dataset": {"name": name, **params, **small.get(name, {}), "partition": {"name": "iid"}},
            "model": model,
            "clients": {"count": 2, "concurrency": 2},
            "local": {"steps": 1, "batch_size": 2},
            "stop": {"updates": 2},
            "evaluate": {"every": {"updates": 2}, "batch_size": 100},
        },
        runs_dir=runs_dir,
    )
    assert done.summary["totals"]["versions"] == 1
    assert done.summary["final"]["loss"] > 0


def test_what_is_not_claimed_is_refused_and_what_is_refused_is_not_claimed(prepared: Any) -> None:
    _, specs = prepared
    assert {title for title, _ in claimed()} == set(specs), f"write the document anew: {WRITE}"
    for title, spec in specs.items():
        told = {model for t, model in claimed() if t == title}
        assert told == {model for model in models() if fits(model, spec)}, title


def test_the_hint_of_a_model_that_does_not_fit_names_models_that_do(prepared: Any) -> None:
    _, specs = prepared
    for title, spec in specs.items():
        if len(spec.modalities) == 1:
            for model in FITTING[spec.modalities[0].kind].split(", "):
                assert (title, model) in claimed() or spec.modalities[0].shape == (1, 8, 8)


def shape(spec: DataSpec) -> str:
    parts = []
    for m in spec.modalities:
        size = " x ".join(str(n) for n in m.shape) + (" tokens" if m.kind == "sequence" else "")
        parts.append(f"{m.kind} {size}" if len(spec.modalities) == 1 else f"{m.name} {size}")
    return " and ".join(parts)


def facts() -> list[str]:
    """The rows of the first table: what, download, licence, natural clients, where the files come from."""
    rows = ["| dataset | what | download | licence | natural clients | files |", "|---|---|---|---|---|---|"]
    known = catalog()
    for entry in (e for e in registry().entries("datasets") if e.distribution == "aflctl"):
        listing = known.get(entry.name)
        assert listing is not None, entry.name
        if not issubclass(registry().load("datasets", entry.name), FileDataset):
            told = f"{listing.title} | none | {listing.licence} | {listing.natural} | none |"
            rows.append(f"| `{entry.name}` | {told}")
            continue
        size = f"{listing.bytes / 1e6:.0f} MB" if listing.bytes >= 1e6 else "not published"
        how = "`prepare`"
        if not listing.fetchable:
            how, size = f"by hand from [there]({listing.homepage}), then {how}", "by hand"
        rows.append(f"| `{entry.name}` | {listing.title} | {size} | {listing.licence} | {listing.natural} | {how} |")
    return rows


def matrix(specs: dict[str, DataSpec]) -> list[str]:
    """The rows of the second table: what a model is shown, and the models that can read it."""
    rows = ["| dataset | a sample | models |", "|---|---|---|"]
    for title, spec in specs.items():
        fitting = ", ".join(f"`{model}`" for model in models() if fits(model, spec))
        rows.append(f"| `{title}` | {shape(spec)}, {spec.classes} classes | {fitting} |")
    return rows


def test_the_tables_of_the_document_are_those_of_the_code(prepared: Any) -> None:
    text = DOCUMENT.read_text("utf-8")
    tables = "\n".join([BEGIN, *facts(), "", "Which models can read what:", "", *matrix(prepared[1]), END])
    before, rest = text.split(BEGIN)
    wanted = before + tables + rest.split(END)[1]
    if os.environ.get("AFLCTL_WRITE_DOCS"):
        DOCUMENT.write_text(wanted, "utf-8")
    assert text == wanted, f"write the document anew: {WRITE}"
