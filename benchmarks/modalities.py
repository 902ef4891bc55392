"""Missing modalities in numbers: block by block against the whole model; each modality alone and both.

    python benchmarks/modalities.py [--uci] [--seeds 5] [--runs-dir runs/modalities] [--minutes 8] [--markdown FILE]

Finished runs are not repeated, so it may be stopped (by itself after --minutes) and started again. 95 % intervals are
Student's t over seeds; differences to the whole model are paired by seed.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from functools import partial
from math import sqrt
from pathlib import Path
from typing import Any

from scipy.stats import t as student

import aflctl
from aflctl.builtin.datasets.synthetic_modal import SyntheticModal

METHODS: dict[str, dict[str, Any]] = {
    "fedbuff": {"name": "fedbuff", "buffer_size": 5},  # averages updates: who lacks a modality sends zeros for it
    "fedasync": {"name": "fedasync", "alpha": 0.6},  # averages models: who lacks one sends back an old encoder
}
COMMON: dict[str, Any] = {
    "clients": {"count": 30, "concurrency": 10},
    "fleet": "poster-1-1-1",
    "evaluate": {"every": {"updates": 100}},
}
WAYS = (WHOLE, BLOCKS) = ("whole model", "block by block")
LACKING = {
    "nobody lacks anything": None,
    "40 % lack one": {"pattern": {"first": 0.2, "second": 0.2, "all": 0.6}},
    "80 % lack one": {"pattern": {"first": 0.4, "second": 0.4, "all": 0.2}},
}


def interval(values: list[float]) -> tuple[float, float]:
    """(mean, half width of the 95 % interval)."""
    n = len(values)
    mean = sum(values) / n
    sd = sqrt(sum((v - mean) ** 2 for v in values) / max(1, n - 1))
    return mean, float(student.ppf(0.975, n - 1)) * sd / sqrt(n) if n > 1 else float("nan")


def shown(values: list[float]) -> str:
    """`84.1 ± 1.2`, in per cent."""
    mean, half = interval(values)
    return f"{100 * mean:.1f} ± {100 * half:.1f}"


def synthetic(method: str, fusion: str, lacking: Any, blocks: bool, seed: int) -> dict[str, Any]:
    """One run on the synthetic set, 20 samples a client."""
    config = {
        **COMMON,
        "algorithm": METHODS[method],
        "dataset": {
            "name": "synthetic-modal", "train_samples": 600, "test_fraction": 0.25,
            "partition": {"name": "dirichlet", "alpha": 1.0, "min_size": 4},
        },
        "model": {"name": "multimodal", "fusion": fusion},
        "local": {"epochs": 5, "batch_size": 16, "lr": 0.05, "momentum": 0.9},
        "stop": {"updates": 300},
        "seed": seed,
    }  # fmt: skip
    if lacking:
        config["modalities"] = lacking
    return {**config, "personalization": "blocks"} if blocks else config


def uci(pattern: dict[str, float], blocks: bool, seed: int) -> dict[str, Any]:
    """One run on UCI HAR with the subjects of its training part as clients."""
    config = {
        **COMMON,
        "algorithm": METHODS["fedbuff"],
        "dataset": {"name": "uci-har", "modalities": "split", "partition": {"name": "natural"}, "test_fraction": 0.25},
        "model": {"name": "multimodal", "features": 32, "channels": [16, 32], "fusion": "late-mean"},
        "local": {"epochs": 1, "batch_size": 32, "lr": 0.05, "momentum": 0.9},
        "clients": {"count": 21, "concurrency": 10},
        "stop": {"updates": 100},
        "modalities": {"pattern": pattern},
        "seed": seed,
    }
    return {**config, "personalization": "blocks"} if blocks else config


def run(config: dict[str, Any], runs_dir: str) -> dict[str, Any]:
    """The summary of a run."""
    got = aflctl.run(config, runs_dir=runs_dir)
    summary = json.loads((got.path / "summary.json").read_text())
    print(got.path.name, f"{100 * summary['final']['accuracy']:.1f}", flush=True)
    return dict(summary)


def row(name: str, how: str, found: list[dict[str, Any]], whole: list[dict[str, Any]] | None) -> str:
    """A line of the table: accuracy on the test set and on the clients' own, traffic up, staleness on each track."""
    tracks: dict[str, list[float]] = {}
    for summary in found:
        parts = summary["staleness"].get("by_track") or {"all": summary["staleness"]}
        for track, part in parts.items():
            tracks.setdefault(track, []).append(part["mean"])
    stale = ", ".join(f"{track} {sum(v) / len(v):.2f}" for track, v in tracks.items())
    up = sum(s["totals"]["bytes_up"] for s in found) / len(found) / 1e6
    both = shown([s["final"]["accuracy"] for s in found])
    own = shown([s["personal"]["weighted"] for s in found])
    apart = ""
    if whole is not None:
        apart = shown([s["final"]["accuracy"] - w["final"]["accuracy"] for s, w in zip(found, whole, strict=True)])
    return f"| {name} | {how} | {both} | {apart} | {own} | {up:.2f} | {stale} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--runs-dir", default="runs/modalities")
    parser.add_argument("--uci", action="store_true")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin no further run after so long")
    parser.add_argument("--markdown", type=Path)
    given = parser.parse_args()
    began = time.monotonic()
    lines = [
        "| setting | aggregation | with both (%) | minus whole | with what they have (%) | MB up | mean staleness |",
        "|---|---|---|---|---|---|---|",
    ]

    def settle(name: str, config: Callable[[bool, int], dict[str, Any]], ways: Sequence[str] = WAYS) -> None:
        whole = None
        for how in ways:
            found = []
            for seed in range(given.seeds):
                if time.monotonic() - began > 60 * given.minutes:
                    raise SystemExit("not finished: start it again")
                found.append(run(config(how == BLOCKS, seed), given.runs_dir))
            lines.append(row(name, how, found, whole))
            whole = found

    if given.uci:
        for name, pattern, ways in (
            ("accelerometer only", {"accelerometer": 1}, WAYS[:1]),
            ("gyroscope only", {"gyroscope": 1}, WAYS[:1]),
            ("both", {"all": 1}, WAYS[:1]),
            ("a third each", {"accelerometer": 1, "gyroscope": 1, "all": 1}, WAYS),
        ):
            settle(name, partial(uci, pattern), ways)
    else:
        best = SyntheticModal().best()
        print("best possible", {k: round(100 * v, 1) for k, v in best.items()})
        for method, settings in (("fedbuff", list(LACKING)), ("fedasync", list(LACKING)[1:2])):
            for fusion in ("late-mean", "concat"):
                for name in settings:
                    settle(f"{method}, {fusion}, {name}", partial(synthetic, method, fusion, LACKING[name]))
    text = "\n".join(lines)
    print(text)
    if given.markdown is not None:
        given.markdown.write_text(text + "\n")


if __name__ == "__main__":
    main()
