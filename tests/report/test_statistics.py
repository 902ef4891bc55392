"""Counts, means, wording, and the histogram of characters."""

from __future__ import annotations

import statistics as reference
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aflctl.report import statistics, wording
from aflctl.report.histogram import Histogram, binned, bins, spark
from aflctl.runs.records import CAUSES, Columns

numbers = st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=20)


@given(numbers)
def test_mean_and_deviation(values: list[float]) -> None:
    assert statistics.mean(values) == pytest.approx(reference.fmean(values), abs=1e-6)
    assert statistics.deviation(values) == pytest.approx(reference.stdev(values), abs=1e-6)
    assert statistics.deviation(values[:1]) is None
    assert statistics.mean([]) is None


@given(st.lists(st.integers(0, 50), min_size=1), st.sampled_from([0.5, 0.95, 1.0]))
def test_a_quantile_is_a_value_of_the_sample(values: list[int], share: float) -> None:
    found = statistics.quantile(Counter(values), share)
    assert found in values
    assert sum(v <= found for v in values) >= share * len(values) - 1e-6
    assert sum(v < found for v in values) < share * len(values)


def table(*rows: tuple[str, str, int, int, int]) -> Columns:
    """Updates (outcome, device, held, compute, upload); the other causes are 0."""
    data: dict[str, list[object]] = {name: [] for name in ("outcome", "device", "link", "client", "staleness")}
    data |= {f"staleness_{cause}": [] for cause in CAUSES}
    for i, (outcome, device, held, compute, upload) in enumerate(rows):
        values = {
            "outcome": outcome,
            "device": device,
            "link": "lte",
            "client": i % 2,
            "staleness": held + compute + upload,
        }
        values |= {f"staleness_{c}": 0 for c in CAUSES} | {
            "staleness_held": held, "staleness_compute": compute, "staleness_upload": upload,
        }  # fmt: skip
        for name, value in values.items():
            data[name].append(value)
    return Columns(data)


UPDATES = table(("used", "a", 0, 2, 1), ("used", "b", 1, 2, 0), ("lost", "a", 9, 9, 9), ("used", "a", 0, 0, 0))


def test_staleness_counts_used_updates_only() -> None:
    counts = statistics.staleness_counts(UPDATES)
    assert counts["all", "all"] == {3: 2, 0: 1}
    assert counts["device:a", "all"] == {3: 1, 0: 1}
    assert counts["device:b", "held"] == {1: 1}
    assert counts["all", "compute"] == {2: 2, 0: 1}
    for group in ("all", "device:a", "device:b"):  # the parts sum to the whole
        total = {c: sum(v * n for v, n in counts[group, c].items()) for c in ("all", *CAUSES)}
        assert total.pop("all") == sum(total.values())


def test_the_rows_of_the_histogram_give_the_counts_back() -> None:
    rows = statistics.staleness_rows(UPDATES)
    assert (rows[0].group, rows[0].cause, rows[0].staleness, rows[0].count) == ("all", "all", 0, 1)
    names = ("group", "cause", "staleness", "count")
    again = statistics.counts_of(Columns({name: [getattr(row, name) for row in rows] for name in names}))
    assert again == {k: v for k, v in statistics.staleness_counts(UPDATES).items() if v}


def test_clients_as_far_as_the_updates_tell() -> None:
    even, odd = statistics.client_rows(UPDATES)
    assert (even.client, even.dispatched, even.used, even.lost, even.staleness_mean, even.staleness_max) == (
        0,
        2,
        1,
        1,
        3,
        3,
    )
    assert (odd.client, odd.dispatched, odd.used, odd.staleness_mean, odd.staleness_max) == (1, 2, 2, 1.5, 3)


def test_nothing_used() -> None:
    empty = table(("lost", "a", 0, 0, 0))
    assert statistics.staleness_rows(empty) == []
    assert statistics.client_rows(empty)[0].staleness_mean is None
    assert list(Histogram({}).lines()) == ["  0 ▕ 0"]


def test_a_target_is_reached_at_the_first_evaluation_that_is_no_lower() -> None:
    metrics = Columns({"accuracy": [0.1, None, 0.9, 0.95], "virtual_s": [0.0, 1.0, 2.0, 3.0]})
    assert statistics.reached(metrics, 0.9) == {"accuracy": 0.9, "virtual_s": 2.0}
    assert statistics.reached(metrics, 0.96) is None


def test_a_summary_edited_by_hand_has_odd_targets() -> None:
    good = {"virtual_s": 1.0, "update": 2}
    odd = {"0.9": good, "x": good, "0.5": None, "0.6": {"virtual_s": "soon", "update": 1}, "0.8": good}
    assert list(statistics.noted_targets({"time_to_target": odd})) == [0.8, 0.9]
    assert statistics.noted_targets({"time_to_target": 3}) == {}


@given(st.integers(0, 10_000), st.integers(1, 40))
def test_bins_cover_everything_once(highest: int, rows: int) -> None:
    ranges = bins({highest: 1}, rows)
    assert len(ranges) <= max(rows, 16)
    assert ranges[0][0] == 0
    assert ranges[-1][0] <= highest <= ranges[-1][1]
    assert all(b + 1 == c for (_, b), (c, _) in zip(ranges, ranges[1:]))  # noqa: RUF007


@given(st.dictionaries(st.integers(0, 500), st.integers(1, 10**6), max_size=30))
def test_a_histogram_loses_nobody_and_fits(counts: dict[int, int]) -> None:
    drawn = Histogram(counts)
    assert sum(binned(counts, drawn.ranges)) == sum(counts.values())
    for ascii_only in (False, True):
        lines = list(drawn.lines(60, ascii_only))
        assert all(len(line) <= 80 for line in lines)
        assert "".join(lines).isascii() is ascii_only


def test_a_long_tail_is_drawn_in_growing_ranges() -> None:
    counts = {0: 1000, 2: 5, 7: 3, 36: 1}
    drawn = Histogram(counts)
    assert drawn.ranges == [(0, 0), (1, 1), (2, 2), (3, 4), (5, 8), (9, 16), (17, 32), (33, 64)]
    assert binned(counts, drawn.ranges) == [1000, 0, 5, 0, 3, 0, 0, 1]
    assert Histogram({0: 1000, 7: 3}).ranges == [(v, v) for v in range(8)]


def test_bars_and_sparks() -> None:
    assert list(Histogram({0: 1, 1: 2}).lines(24)) == ["  0 ▕████████▌ 1", "  1 ▕█████████████████ 2"]
    assert next(Histogram({0: 1, 1: 1000}).lines(24, ascii_only=True)) == "  0 |# 1"
    assert spark([0, 1, 4, 8]) == " ▁▄█"
    assert spark([0, 1, 8], ascii_only=True) == " .#"
    assert spark([]) == ""


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0 s"), (2e-5, "20 us"), (0.0123, "12.3 ms"), (1.5, "1.50 s"), (119, "119 s"), (180, "3 min"),
     (7199, "120 min"), (36_000, "10 h"), (864_000, "10 d"), (None, "-"), (float("nan"), "-"), ("x", "-")],
)  # fmt: skip
def test_seconds(value: object, text: str) -> None:
    assert wording.seconds(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0 B"), (999, "999 B"), (999.6, "1.00 kB"), (12_345_678, "12.3 MB"), (5e15, "5000 TB"), (None, "-")],
)
def test_bytes(value: object, text: str) -> None:
    assert wording.scaled(value, "B") == text


def test_other_words() -> None:
    assert wording.percent(0.947) == "94.7 %"
    assert wording.percent(None) == "-"
    assert [wording.plural(n, "client") for n in (0, 1, 1200, None)] == [
        "0 clients",
        "1 client",
        "1,200 clients",
        "- clients",
    ]
    assert [wording.short(x) for x in (0.126, 12.34, 123.4, 5.0, True, "a")] == ["0.13", "12.3", "123", "5", "-", "-"]
