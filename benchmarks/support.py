"""Which method runs with which personalization, modality setting and executor: found by running every cell.

    python benchmarks/support.py [--write docs/reference/support-matrix] [--only fedasync,fedbuff]

A cell is a run of a dozen updates on tiny data, with the test of every client at the end. It is `yes` where the run
ends, and a number where it is refused; the reasons stand below the tables. `--write` writes the page (.md) and what it
is made from (.json): the outcome of every cell.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from typing import Any

import torch

from aflctl.config.load import load
from aflctl.engine.course import personal
from aflctl.engine.parts.build import build, federate
from aflctl.errors import UserError
from aflctl.plan import resolve
from aflctl.plugins import registry
from aflctl.runs.records import Digest

UPDATES = 12
DEFECT = "DEFECT: "
DIGITS = {"name": "digits", "partition": {"name": "dirichlet", "alpha": 1.0, "min_size": 20}, "test_fraction": 0.25}
TWO = {
    "name": "synthetic-modal", "train_samples": 240, "test_samples": 60, "partition": {"name": "iid"},
    "test_fraction": 0.25,
}  # fmt: skip
BASE: dict[str, Any] = {
    "dataset": DIGITS,
    "model": {"name": "mlp", "hidden": [8]},
    "clients": {"count": 6, "concurrency": 6},
    "local": {"epochs": 1, "batch_size": 64, "lr": 0.05},
    "stop": {"updates": UPDATES},
}
NORMED = {"model": {"name": "cnn", "channels": [4], "hidden": 8}}
MODAL = {"dataset": TWO, "model": {"name": "multimodal", "features": 4}}
PERSONALIZATIONS: dict[str, dict[str, Any]] = {
    "fedper": {"personalization": "fedper"},
    "fedrep": {"personalization": {"name": "fedrep", "head_epochs": 1}},
    "lg-fedavg": {"personalization": "lg-fedavg"},
    "fedbn": {"personalization": {"name": "fedbn", "private": ["@GroupNorm"]}, **NORMED},
    "ditto": {"personalization": "ditto"},
    "pfedme": {"personalization": "pfedme"},
    "lottery": {"personalization": "lottery"},
    "ifca": {"personalization": "ifca"},
    "cfl": {"personalization": {"name": "cfl", "eps1": 10.0, "eps2": 0.01, "warmup": 1}},
    "blocks": {"personalization": "blocks", **MODAL},
}
HALF = {"first": 0.3, "second": 0.3, "all": 0.4}
SETTINGS: dict[str, dict[str, Any]] = {
    "everybody has both": {},
    "30 % lack each": {"modalities": {"pattern": HALF}},
    "samples lack one": {"modalities": {"missing": 0.3}},
    "sensors fail": {"modalities": {"pattern": HALF, "failure": {"mean_on_s": 5, "mean_off_s": 5}}},
    "dropout": {"modalities": {"dropout": 0.3}},
}
FUSIONS = ("late-mean", "late-sum", "late-weighted", "concat", "gated", "attention", "film", "early")
EXECUTORS = ("serial", "workers", "stacked")
BLOCKWISE = "30 % lack each, blocks"
INNER, OUTER = ("fedper", "lottery", "ifca", "cfl", "blocks", "ditto", "pfedme"), ("ifca", "cfl", "ditto", "pfedme")
"""What can be inside and around another; fedper stands for all private parts."""
MODELS: dict[str, dict[str, Any]] = {
    "mlp": {"model": {"name": "mlp", "hidden": [8]}},
    "cnn": NORMED,
    "resnet with BatchNorm": {"model": {"name": "resnet-small", "blocks": [1], "width": 4, "norm": "batch"}},
}
AWAY = {"devices": {"raspberry-pi-4": 1}, "networks": {"lte": 1}, "offline": "abort",
        "availability": [{"name": "markov", "mean_on_s": 20, "mean_off_s": 5}]}  # fmt: skip
CIRCUMSTANCES: dict[str, dict[str, Any]] = {
    "clients go offline": {"fleet": AWAY},
    "live data": {"stream": {"start": 0.3, "over_s": 60}},
    "time limit": {"server": {"timeout_s": 30.0, "max_staleness": 20}},
    "steps": {"local": {"steps": 2, "batch_size": 16, "lr": 0.05}},
    "momentum, decay": {"local": {**BASE["local"], "momentum": 0.9, "weight_decay": 0.001}},
    "clip_norm": {"local": {**BASE["local"], "clip_norm": 1.0}},
    "adam": {"local": {**BASE["local"], "optimizer": "adam", "lr": 0.01}},
    "memory on disk": {"engine": {"client_memory": "disk"}},
}


def methods() -> list[str]:
    """Every registered method of the package itself."""
    return [e.name for e in registry().entries("algorithms") if e.distribution == "aflctl"]


@cache
def _data(key: str) -> Any:
    return federate(_PLANS[key], Path())


_PLANS: dict[str, Any] = {}


def cell(algorithm: str, changes: dict[str, Any], executor: str = "serial") -> str:
    """`yes`, or why the combination is refused; any other failure is marked as a defect."""
    sections = {**BASE, **changes, "algorithm": algorithm}
    sections["engine"] = {"executor": executor, "workers": 2, **changes.get("engine", {})}
    if stream := sections.pop("stream", None):
        sections["dataset"] = {**sections["dataset"], "stream": stream}
    try:
        plan = resolve(load(sections))
        key = f"{plan.algorithm.pools} {plan.config.dataset} {plan.config.modalities}"
        _PLANS.setdefault(key, plan)
        shelves = Path(mkdtemp()) if plan.config.engine.client_memory == "disk" else None
        x = build(plan, _data(key), Path(), Digest(), None, shelves)
        try:
            x.loop.begin()
            while x.loop.used < UPDATES:
                if x.loop.peek() is None:
                    raise RuntimeError(f"{algorithm} with {changes} stalls")
                x.loop.step()
            hits = personal.test(x)
            if not hits or not bool(torch.isfinite(x.algorithm.params(x.loop.state)).all()):
                raise RuntimeError(f"{algorithm} with {changes} left nothing that can be tested")
        finally:
            x.pool.executor.close()
            if shelves is not None:
                rmtree(shelves)
    except UserError as error:
        return error.message
    except Exception as error:
        return f"{DEFECT}{type(error).__name__}: {error}"
    return "yes"


def merged(*parts: dict[str, Any]) -> dict[str, Any]:
    """Later sections replace earlier ones."""
    return {key: value for part in parts for key, value in part.items()}


def tables(only: Iterable[str] | None = None) -> dict[str, tuple[list[str], list[str], Callable[[str, str], str]]]:
    """title -> (rows, columns, the run of a cell)."""
    chosen = list(only) if only is not None else methods()
    wrapped = {"plain": {}, **PERSONALIZATIONS}
    mine = ["plain", *PERSONALIZATIONS]
    # the encoders of these data have no normalisation that fedbn could keep
    here = [name for name in mine if name != "fedbn"]
    lacking = {**SETTINGS, BLOCKWISE: {**SETTINGS["30 % lack each"], "personalization": "blocks"}}

    def modal(name: str) -> dict[str, Any]:
        return merged(wrapped[name], MODAL)

    def fused(name: str) -> dict[str, Any]:
        return {"model": {**MODAL["model"], "fusion": name}}

    def both(inner: str, outer: str) -> str:
        """`outer` around `inner`, on the data that one of them wants."""
        parts = [wrapped[name]["personalization"] for name in (inner, outer)]
        return cell("fedbuff", merged(wrapped[inner], wrapped[outer], {"personalization": parts}))

    def on_model(name: str, model: str) -> str:
        changes = merged(wrapped[name], MODELS[model])
        return cell("fedbuff", {**changes, "personalization": "fedbn"} if name == "fedbn" else changes)

    return {
        "Method and personalization": (chosen, list(PERSONALIZATIONS), lambda m, p: cell(m, PERSONALIZATIONS[p])),
        "Personalization (rows) inside another (columns)": (list(INNER), list(OUTER), both),
        "Personalization and model": ([n for n in mine if n != "blocks"], list(MODELS), on_model),
        "Personalization and circumstances": (
            mine, list(CIRCUMSTANCES), lambda p, c: cell("fedbuff", merged(wrapped[p], CIRCUMSTANCES[c])),
        ),
        "Personalization and executor": (mine, list(EXECUTORS), lambda p, e: cell("fedbuff", wrapped[p], e)),
        "Personalization and modality setting": (
            here, list(SETTINGS), lambda p, s: cell("fedbuff", merged(modal(p), SETTINGS[s])),
        ),
        "Method and modality setting": (chosen, list(lacking), lambda m, s: cell(m, merged(MODAL, lacking[s]))),
        "Fusion and modality setting": (
            list(FUSIONS), list(lacking), lambda f, s: cell("fedbuff", merged(MODAL, lacking[s], fused(f))),
        ),
        "Fusion and personalization": (
            list(FUSIONS), here[1:], lambda f, p: cell("fedasync", merged(modal(p), fused(f))),
        ),
    }  # fmt: skip


Outcomes = dict[str, dict[str, dict[str, str]]]
"""title -> row -> column -> `yes`, or why it is refused."""


def written(found: Outcomes) -> str:
    """The page."""
    reasons: dict[str, int] = {}
    lines = [
        "# What runs with what",
        "",
        "Made by `python benchmarks/support.py --write docs/reference/support-matrix`: every cell was run for a dozen",
        "updates on tiny data, the test of every client included. `yes` = it ran, a number = refused, for the reason",
        "below. `fedbn` keeps GroupNorm layers private where the model has no BatchNorm; `blocks` always has two",
        "modalities. Where a table names no method it is FedBuff (FedAsync for fusion and personalization). Tests run",
        "part of the cells every time, each row and each column among them, and all of them with `-m slow`.",
    ]
    for title, rows in found.items():
        columns = list(next(iter(rows.values())))
        lines += ["", f"## {title}", "", f"| | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
        for row, cells in rows.items():
            marks = [
                "yes" if (text := cells[column]) == "yes" else str(reasons.setdefault(text, len(reasons) + 1))
                for column in columns
            ]
            lines.append(f"| {row} | {' | '.join(marks)} |")
    if reasons:
        lines += ["", "## Why not", "", *(f"{n}. {text}" for text, n in reasons.items())]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", type=Path)
    parser.add_argument("--only")
    given = parser.parse_args()
    torch.set_num_threads(1)
    began = time.perf_counter()
    found: Outcomes = {}
    for title, (rows, columns, go) in tables(given.only.split(",") if given.only else None).items():
        found[title] = {row: {column: go(row, column) for column in columns} for row in rows}
        print(f"{title}: {len(rows) * len(columns)} cells, {time.perf_counter() - began:.0f} s so far", flush=True)
    broken = [
        f"{title}, {row}, {column}: {text}"
        for title, rows_ in found.items()
        for row, cells in rows_.items()
        for column, text in cells.items()
        if text.startswith(DEFECT)
    ]
    if broken:
        raise SystemExit("\n".join(broken))
    if given.write is None:
        print(written(found))
    else:
        given.write.with_suffix(".md").write_text(written(found))
        given.write.with_suffix(".json").write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
