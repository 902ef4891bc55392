"""Which method runs with which personalization, modality setting and executor: found by running every cell.

    python benchmarks/support.py [--write docs/reference/support-matrix.md] [--only fedasync,fedbuff]

A cell is a run of a dozen updates on tiny data, with the test of every client at the end. It is `yes` where the run
ends, and a number where it is refused; the reasons stand below the tables.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any

import torch

from aflctl.config.load import load
from aflctl.engine import personal
from aflctl.engine.build import build, federate
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


def methods() -> list[str]:
    """Every registered method of the package itself."""
    return [e.name for e in registry().entries("algorithms") if e.distribution == "aflctl"]


@cache
def _data(key: str) -> Any:
    return federate(_PLANS[key], Path())


_PLANS: dict[str, Any] = {}


def cell(algorithm: str, changes: dict[str, Any], executor: str = "serial") -> str:
    """`yes`, or why the combination is refused; any other failure is marked as a defect."""
    sections = {**BASE, **changes, "algorithm": algorithm, "engine": {"executor": executor, "workers": 2}}
    try:
        plan = resolve(load(sections))
        key = f"{plan.algorithm.pools} {plan.config.dataset} {plan.config.modalities}"
        _PLANS.setdefault(key, plan)
        x = build(plan, _data(key), Path(), Digest(), None)
        try:
            x.loop.begin()
            while x.loop.used < UPDATES:
                if x.loop.peek() is None:
                    raise RuntimeError(f"{algorithm} with {changes} stalls")
                x.loop.step()
        finally:
            x.pool.executor.close()
        hits = personal.test(x)
        if not hits or not bool(torch.isfinite(x.algorithm.params(x.loop.state)).all()):
            raise RuntimeError(f"{algorithm} with {changes} left nothing that can be tested")
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
    few = [m for m in ("fedasync", "fedbuff", "fedavg", "ca2fl") if m in chosen]
    wrapped = {"plain": {}, **PERSONALIZATIONS}
    mine = ["plain", *PERSONALIZATIONS]

    # the encoders of these data have no normalisation that fedbn could keep
    here = [name for name in mine if name != "fedbn"]

    def modal(name: str) -> dict[str, Any]:
        return merged(wrapped[name], MODAL)

    return {
        "Method and personalization": (chosen, list(PERSONALIZATIONS), lambda m, p: cell(m, PERSONALIZATIONS[p])),
        "Personalization and executor": (mine, list(EXECUTORS), lambda p, e: cell("fedbuff", wrapped[p], e)),
        "Personalization and modality setting": (
            here, list(SETTINGS), lambda p, s: cell("fedbuff", merged(modal(p), SETTINGS[s])),
        ),
        "Method and modality setting": (few, list(SETTINGS), lambda m, s: cell(m, merged(MODAL, SETTINGS[s]))),
        "Fusion and modality setting": (
            list(FUSIONS), list(SETTINGS),
            lambda f, s: cell("fedbuff", merged(MODAL, SETTINGS[s], {"model": {**MODAL["model"], "fusion": f}})),
        ),
        "Fusion and personalization": (
            list(FUSIONS), here[1:],
            lambda f, p: cell("fedasync", merged(modal(p), {"model": {**MODAL["model"], "fusion": f}})),
        ),
    }  # fmt: skip


def written(found: dict[str, dict[tuple[str, str], str]]) -> str:
    """The page."""
    reasons: dict[str, int] = {}
    lines = [
        "# What runs with what",
        "",
        "Made by `python benchmarks/support.py --write docs/reference/support-matrix.md`: every cell was run for a",
        "dozen updates on tiny data, the test of every client included. `yes` = it ran, a number = refused, for the",
        "reason below.",
        "`fedbn` keeps GroupNorm layers private here; `blocks` always has two modalities. Tests run the cells again.",
    ]
    for title, cells in found.items():
        rows, columns = (list(dict.fromkeys(key[i] for key in cells)) for i in (0, 1))
        lines += ["", f"## {title}", "", f"| | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
        for row in rows:
            marks = [
                "yes" if (text := cells[row, column]) == "yes" else str(reasons.setdefault(text, len(reasons) + 1))
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
    began, found = time.perf_counter(), {}
    for title, (rows, columns, go) in tables(given.only.split(",") if given.only else None).items():
        found[title] = {(row, column): go(row, column) for row in rows for column in columns}
        print(f"{title}: {len(found[title])} cells, {time.perf_counter() - began:.0f} s so far", flush=True)
    broken = [f"{k}: {v}" for cells in found.values() for k, v in cells.items() if v.startswith(DEFECT)]
    if broken:
        raise SystemExit("\n".join(broken))
    text = written(found)
    if given.write is None:
        print(text)
    else:
        given.write.write_text(text)


if __name__ == "__main__":
    main()
