"""Missing modalities in numbers: block by block against the whole model; each modality alone and both.

    python benchmarks/modalities.py [--seeds 3] [--runs-dir runs/modalities] [--uci] [--markdown FILE]

Finished runs are not repeated. 95 % intervals are Student's t over seeds.
"""

from __future__ import annotations

import argparse
import json
from math import sqrt
from pathlib import Path
from typing import Any

from scipy.stats import t as student

import aflctl
from aflctl.builtin.datasets.synthetic_modal import SyntheticModal

COMMON: dict[str, Any] = {
    "algorithm": {"name": "fedbuff", "buffer_size": 5},
    "clients": {"count": 30, "concurrency": 10},
    "fleet": "poster-1-1-1",
    "evaluate": {"every": {"updates": 100}},
}
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


def synthetic(fusion: str, lacking: Any, blocks: bool, seed: int) -> dict[str, Any]:
    """One run on the synthetic set, 20 samples a client."""
    config = {
        **COMMON,
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


def uci(pattern: str, blocks: bool, seed: int) -> dict[str, Any]:
    """One run on UCI HAR with the subjects of its training part as clients."""
    config = {
        **COMMON,
        "dataset": {"name": "uci-har", "modalities": "split", "partition": {"name": "natural"}, "test_fraction": 0.25},
        "model": {"name": "multimodal", "features": 32, "channels": [16, 32], "fusion": "late-mean"},
        "local": {"epochs": 1, "batch_size": 32, "lr": 0.05, "momentum": 0.9},
        "clients": {"count": 21, "concurrency": 10},
        "stop": {"updates": 100},
        "modalities": {"pattern": json.loads(pattern)},
        "seed": seed,
    }
    return {**config, "personalization": "blocks"} if blocks else config


def run(config: dict[str, Any], runs_dir: str) -> dict[str, Any]:
    """The summary of a run."""
    got = aflctl.run(config, runs_dir=runs_dir)
    summary = json.loads((got.path / "summary.json").read_text())
    print(got.path.name, f"{100 * summary['final']['accuracy']:.1f}", flush=True)
    return dict(summary)


def row(name: str, how: str, found: list[dict[str, Any]]) -> str:
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
    return f"| {name} | {how} | {both} | {own} | {up:.2f} | {stale} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--runs-dir", default="runs/modalities")
    parser.add_argument("--uci", action="store_true")
    parser.add_argument("--markdown", type=Path)
    given = parser.parse_args()
    seeds = range(given.seeds)
    head = [
        "| setting | aggregation | with both (%) | with what they have (%) | MB up | mean staleness |",
        "|---|---|---|---|---|---|",
    ]
    lines = [*head]
    if given.uci:
        patterns = {
            "accelerometer only": '{"accelerometer": 1}',
            "gyroscope only": '{"gyroscope": 1}',
            "both": '{"all": 1}',
        }
        patterns["a third each"] = '{"accelerometer": 1, "gyroscope": 1, "all": 1}'
        for name, pattern in patterns.items():
            for how in ("whole model", "block by block"):
                if how == "whole model" or name == "a third each":
                    found = [run(uci(pattern, how != "whole model", seed), given.runs_dir) for seed in seeds]
                    lines.append(row(name, how, found))
    else:
        best = SyntheticModal().best()
        print("best possible", {k: round(100 * v, 1) for k, v in best.items()})
        for fusion in ("late-mean", "concat"):
            for name, lacking in LACKING.items():
                for how in ("whole model", "block by block"):
                    found = [run(synthetic(fusion, lacking, how != "whole model", s), given.runs_dir) for s in seeds]
                    lines.append(row(f"{fusion}, {name}", how, found))
    text = "\n".join(lines)
    print(text)
    if given.markdown is not None:
        given.markdown.write_text(text + "\n")


if __name__ == "__main__":
    main()
