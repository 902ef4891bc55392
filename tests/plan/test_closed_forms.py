"""PROFILES 1.10 through `plan`: one client of each AFL-Lib device, no network, no jitter, every arrival an update.

Client i takes T_i a task, so during one of its tasks T_i / T_j updates of each other client arrive: its mean staleness
is sum over j != i of T_i / T_j, and its share of the updates (1 / T_i) / sum 1 / T_j. T = 1 : 1.8125 : 11.625.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from aflctl.engine.plans.planning import plan

FACTORS = {"jetson-tx2-afl": 1.0, "jetson-nano-afl": 1.8125, "raspberry-pi-4-afl": 11.625}
STALENESS = {i: sum(t / u for j, u in FACTORS.items() if j != i) for i, t in FACTORS.items()}
SHARES = {i: (1 / t) / sum(1 / u for u in FACTORS.values()) for i, t in FACTORS.items()}


def three(algorithm: dict[str, Any], updates: int) -> dict[str, Any]:
    return {
        "algorithm": algorithm,
        "dataset": {"name": "synthetic", "sigma": 0.0, "test_samples": 10},
        "model": "logistic",
        "clients": {"count": 3, "concurrency": 3},
        "fleet": {"devices": dict.fromkeys(FACTORS, 1), "networks": {"ideal": 1}},
        "stop": {"updates": updates},
    }


def test_the_numbers_of_the_page() -> None:
    assert [round(STALENESS[d], 3) for d in FACTORS] == [0.638, 1.968, 18.039]
    assert [round(100 * SHARES[d], 1) for d in FACTORS] == [61.1, 33.7, 5.3]


def test_mean_staleness_and_shares_of_the_three_devices(tmp_path: Path) -> None:
    document = plan(three({"name": "fedasync"}, 20_000), runs_dir=tmp_path, host=False).document
    for device in FACTORS:
        assert document["staleness"]["by_device"][device]["mean"] == pytest.approx(STALENESS[device], rel=5e-4)
        share = document["participation"]["by_device"][device]["share_of_updates"]
        assert share == pytest.approx(SHARES[device], abs=5e-4)
    # one update is one version, and what is in flight on average is 3: the mean over updates is 3 - 1
    assert document["totals"]["versions"] == 20_000
    assert document["staleness"]["mean"] == pytest.approx(2.0, abs=0.002)


@pytest.mark.parametrize("buffer", [2, 3, 5])
def test_a_buffer_divides_it(buffer: int, tmp_path: Path) -> None:
    # T = 16 : 29 : 186, so after lcm(16, 29, 186) = 43152 units the clocks stand as at first, and 2697 + 1488 + 232 =
    # 4417 updates were made. That is coprime to 2, 3 and 5: after K such rounds every arrival has met every filling of
    # the buffer once, the floors of n / K average to n / K, and the law holds for each device alone. The model is
    # large, so that whole nanoseconds do not shift the clocks against each other
    config = three({"name": "fedbuff", "buffer_size": buffer}, 4417 * buffer)
    config["model"] = {"name": "mlp", "hidden": [512, 512]}
    document = plan(config, runs_dir=tmp_path, host=False).document
    assert document["staleness"]["mean"] == pytest.approx(2 / buffer, rel=1e-3)
    for device in FACTORS:
        mean = document["staleness"]["by_device"][device]["mean"]
        assert mean == pytest.approx(STALENESS[device] / buffer, rel=1e-3)


def test_times_are_in_the_ratio_of_the_factors(tmp_path: Path) -> None:
    path = plan(three({"name": "fedasync"}, 60), runs_dir=tmp_path, host=False, rows=True).path
    from aflctl.runs.records import read_rows

    rows = read_rows(path / "updates.csv")
    seconds = {d: s for d, s, o in zip(rows["device"], rows["compute_s"], rows["outcome"]) if o == "used"}
    for device, factor in FACTORS.items():
        # times are whole nanoseconds
        assert seconds[device] / seconds["jetson-tx2-afl"] == pytest.approx(factor, rel=1e-3)
