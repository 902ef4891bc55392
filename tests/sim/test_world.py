"""What a task takes: worked numbers, phases, the three policies, shortening, energy. One second is 10^9 ns."""

from __future__ import annotations

from dataclasses import replace
from math import log, sqrt
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aflctl.config.fleet import FleetSpec
from aflctl.errors import UserError
from aflctl.sim.fleet import build_world
from aflctl.sim.fleet.profiles import Library
from aflctl.sim.world import Trip, Work, World
from aflctl.sim.world.compute import Device

S = 1_000_000_000
CNN = Work(40, 8, 500, 64, 307_842, 2 * 14.20e6, 1.0, "dense", 1_231_368, 1_231_368)  # 500 samples, 5 epochs, batch 64
ONE_S_A_STEP = "dense_gflops: 1\nmemory_mib: 1024\nstep_overhead_ms: 1000\nidle_w: 2\ntrain_w: 5\nradio_w: 1\n"
ONE_MB_A_S = "down_mbps: 8\nup_mbps: 8\n"


def world(clients: int = 3, seed: int = 0, base: Path = Path(), **spec: Any) -> World:
    defaults: dict[str, Any] = {"devices": {"jetson-tx2": 1}, "networks": {"ideal": 1}}
    return build_world(FleetSpec(**{**defaults, **spec}), clients, seed, base)


@pytest.fixture
def bench(tmp_path: Path) -> Path:
    """A folder with a device of one second per step and a link of one megabyte per second."""
    (tmp_path / "slow.yaml").write_text(ONE_S_A_STEP)
    (tmp_path / "line.yaml").write_text(ONE_MB_A_S)
    return tmp_path


def on_bench(base: Path, **spec: Any) -> World:
    return world(1, base=base, devices={"./slow.yaml": 1}, networks={"./line.yaml": 1}, **spec)


def job(steps: int, down_mb: float = 0, up_mb: float = 0, per_epoch: int = 2) -> Work:
    return Work(steps, per_epoch, 10, 5, 0, 0.0, 1.0, "dense", int(down_mb * 1e6), int(up_mb * 1e6))


def seconds(trip: Trip) -> list[tuple[str, float]]:
    return [(phase, end / S) for phase, end in trip.segments]


# ---- compute ----


def test_the_worked_numbers_of_the_cifar_cnn() -> None:
    # 3 * 500 samples * 5 epochs * 28.4 MFLOP = 213 GFLOP, over 203, 112, 15.8 and 5.1 GFLOP/s; compute term only
    expected = {"jetson-tx2": 1.05, "jetson-nano": 1.9, "raspberry-pi-4": 13.5, "phone-low": 42.0}
    for name, value in expected.items():
        device = Device(Library().device(name), name)
        device.step_s = device.param_s = 0.0
        assert device.seconds(CNN, CNN.steps) == pytest.approx(value, rel=0.02)


def test_overheads_and_shares() -> None:
    # 40 steps of 8 ms + 307 842 parameters * 1 ns, and 213 GFLOP / 203 GFLOP/s
    device = Device(Library().device("jetson-tx2"), "tx2")
    flops = 3 * 2500 * 28.4e6 / 203e9
    assert device.seconds(CNN, 40) == pytest.approx(40 * (0.008 + 307_842e-9) + flops)
    half = replace(CNN, share=0.5)
    assert device.seconds(half, 40) == pytest.approx(40 * (0.008 + 0.5 * 307_842e-9) + 0.5 * flops)
    # 11 steps = one epoch of 500 samples and 3 batches of 64
    assert device.seconds(CNN, 11) == pytest.approx(11 * (0.008 + 307_842e-9) + 3 * 692 * 28.4e6 / 203e9)
    assert device.seconds(CNN, 8) < device.seconds(CNN, 9)


def test_layer_families() -> None:
    device = Device(Library().device("phone-high"), "phone")
    device.step_s = device.param_s = 0.0
    dense = device.seconds(CNN, 40)
    ratios = {f: dense / device.seconds(replace(CNN, family=f), 40) for f in ("attention", "depthwise", "rnn")}
    assert ratios == pytest.approx({"attention": 1.3, "depthwise": 0.15, "rnn": 0.3})


def test_afl_libs_ratios_are_reproduced_to_the_nanosecond() -> None:
    w = world(3, devices={"jetson-tx2-afl": 1, "jetson-nano-afl": 1, "raspberry-pi-4-afl": 1})
    took = {w.device_of(c): w.trip(c, 0, 0, CNN).segments[-1][1] for c in range(3)}
    assert took["jetson-nano-afl"] / took["jetson-tx2-afl"] == pytest.approx(1.8125, abs=1e-8)
    assert took["raspberry-pi-4-afl"] / took["jetson-tx2-afl"] == pytest.approx(11.625, abs=1e-8)


def test_the_cold_start_belongs_to_the_first_task() -> None:
    w = world(1, devices={"jetson-nano": 1})
    first, second = w.trip(0, 0, 0, CNN), w.trip(0, 1, 0, CNN)
    assert first.cold_ns / S == pytest.approx(49, rel=0.15)
    assert second.cold_ns == 0
    assert first.segments[-1][1] > second.segments[-1][1] + 40 * S
    assert w.expected_s(0, CNN) < 3  # noise-free, without the cold start


def test_jitter_keeps_the_mean_and_has_the_stated_spread() -> None:
    w = world(1, devices={"phone-low": 1})  # sigma 0.11
    mean = w.expected_s(0, CNN)
    ratio = np.array([w.trip(0, nth, 0, CNN).compute_ns / S / mean for nth in range(1, 20_001)])
    assert ratio.mean() == pytest.approx(1, abs=4 * 0.11 / sqrt(20_000))
    assert np.log(ratio).std() == pytest.approx(0.11, rel=0.03)
    assert np.log(ratio).mean() == pytest.approx(-(0.11**2) / 2, abs=4 * 0.11 / sqrt(20_000))


def test_memory_caps_the_batch_and_refuses_what_cannot_fit() -> None:
    device = Device(Library().device("mcu-m7"), "mcu-m7")  # 0.9 * 320 KiB = 294 912 B
    assert device.micro(replace(CNN, params=30_000)) == 1  # 240 000 B of weights and gradients
    # 54 912 B are left, that is 13 728 floats: with 1000 a sample a batch of 64 takes 5 parts
    assert device.micro(replace(CNN, params=30_000, activations=1000)) == 5
    with pytest.raises(UserError, match=r"device 'mcu-m7' cannot train this model: 307,842 parameters need 2.46 MB"):
        device.seconds(CNN, 1)
    with pytest.raises(UserError, match="30,000 parameters need"):
        device.seconds(replace(CNN, params=30_000, state_floats=2), 1)  # Adam: 480 000 B
    with pytest.raises(UserError, match="the device has 295 kB"):
        world(2, devices={"mcu-m7": 1, "jetson-tx2": 1}).check(CNN)
    world(2).check(CNN)
    world(2, devices={"mcu-m7": 0, "jetson-tx2": 1}).check(CNN)  # a class without clients may be as small as it likes


# ---- phases ----


def test_phases_follow_each_other_and_sum_to_the_flight(bench: Path) -> None:
    trip = on_bench(bench).trip(0, 0, 7 * S, job(5, down_mb=2, up_mb=3))
    assert seconds(trip) == [("download", 9), ("compute", 14), ("upload", 17)]
    assert (trip.sent, trip.lost_at, trip.lost_reason, trip.per_step_ns) == (7 * S, None, None, S)
    assert on_bench(bench).expected_s(0, job(5, down_mb=2, up_mb=3)) == pytest.approx(10)


def test_round_trips_count_twice_each_way(bench: Path) -> None:
    (bench / "line.yaml").write_text(ONE_MB_A_S + "rtt_ms: 250\n")
    trip = on_bench(bench).trip(0, 0, 0, job(1, down_mb=1, up_mb=1))
    assert seconds(trip) == [("download", 1.5), ("compute", 2.5), ("upload", 4)]


def test_afl_libs_network_is_symmetric_in_mebibytes_and_within_its_range() -> None:
    w = world(300, networks={"lte-afl": 1}, devices={"jetson-tx2-afl": 1}, link_mode="afl-lib")
    work = replace(CNN, down_bytes=2**20, up_bytes=2**20)  # 1 MiB: 8 / bandwidth seconds
    trips = [w.trip(c, 0, 0, work) for c in range(300)]
    down = np.array([t.segments[0][1] / S for t in trips])
    up = np.array([(t.segments[2][1] - t.segments[1][1]) / S for t in trips])
    assert np.allclose(down, up, atol=2e-9)
    mbps = 8 / down
    assert 20 <= mbps.min() < 22
    assert 98 < mbps.max() <= 100
    assert mbps.mean() == pytest.approx(60, abs=4 * 80 / sqrt(12 * 300))


def test_rates_spread_over_clients_as_the_profile_says() -> None:
    n = 20_000
    w = world(n, networks={"wifi": 1})
    down, up = (np.log(8e3 / a) for a in (w.arrays.ns_per_byte_down, w.arrays.ns_per_byte_up))
    assert down.mean() == pytest.approx(log(34.5), abs=4 * 0.48 / sqrt(n))
    assert up.mean() == pytest.approx(log(26.3), abs=4 * 0.70 / sqrt(n))
    assert down.std() == pytest.approx(0.48, rel=0.02)
    assert up.std() == pytest.approx(0.70, rel=0.02)
    assert np.corrcoef(down, up)[0, 1] == pytest.approx(0.3, abs=4 / sqrt(n))
    assert np.median(w.arrays.latency_ns) == pytest.approx(2 * 10e6, rel=0.02)


def test_a_varying_rate_is_reproducible_in_any_order_and_right_on_average() -> None:
    w, again = (world(1, networks={"lte-mobile": 1}, link_mode="varying") for _ in range(2))
    work = job(1, down_mb=50, up_mb=1)
    starts = [i * 97 * S for i in range(300)]
    forward = [w.trip(0, 1, t, work) for t in starts]
    assert [again.trip(0, 1, t, work) for t in reversed(starts)] == forward[::-1]
    assert len({t.segments[0][1] - t.sent for t in forward}) > 290
    # over a long transfer the relative rate exp(x), x ~ N(0, 1), averages exp(1/2)
    long = job(1, down_mb=200_000)
    took = w.trip(0, 1, 0, long).segments[0][1] / S
    assert took == pytest.approx(200_000e6 * w.arrays.ns_per_byte_down[0] / S / np.exp(0.5), rel=0.05)


def test_a_transfer_at_a_varying_rate_can_be_cut_anywhere() -> None:
    w = world(1, networks={"lte-mobile": 1}, link_mode="varying")
    fading, link = w._fading, w.links[0]
    assert fading is not None
    for start in (0, 599_500_000_001, 3 * S + 5):
        whole, rest = fading.advance(link, 0, "upload", start, 900.0 * S, 1 << 62)
        assert rest == 0
        at, left = start, 900.0 * S
        while left > 0:
            at, left = fading.advance(link, 0, "upload", at, left, at + 13_700_000_000)
        assert abs(at - whole) <= 100  # each cut rounds to the grain of 1 ns


# ---- offline ----


def windows(base: Path, *rows: tuple[float, float]) -> dict[str, str]:
    (base / "w.csv").write_text("client,start,end\n" + "".join(f"0,{a},{b}\n" for a, b in rows))
    return {"name": "trace", "path": "w.csv"}


def test_three_policies_for_one_gap(bench: Path) -> None:
    # 4 s down, 8 s of compute, 4 s up; offline from 10 to 20
    spec = {"availability": windows(bench, (0, 10), (20, 100))}
    work = job(8, down_mb=4, up_mb=4)
    trips = {p: on_bench(bench, offline=p, **spec).trip(0, 0, 0, work) for p in ("abort", "pause", "offline-compute")}
    lost = trips["abort"]
    assert (lost.lost_at, lost.lost_reason) == (10 * S, "offline")
    assert seconds(lost)[:2] == [("download", 4), ("compute", 12)]
    # 6 s are computed before the gap, 2 s after it
    assert seconds(trips["pause"]) == [
        ("download", 4),
        ("compute", 10),
        ("offline", 20),
        ("compute", 22),
        ("upload", 26),
    ]
    # computing goes on in the gap, the upload waits for its end
    assert seconds(trips["offline-compute"]) == [("download", 4), ("compute", 12), ("offline", 20), ("upload", 24)]
    assert trips["pause"].lost_at is trips["offline-compute"].lost_at is None


def test_a_gap_in_a_transfer_stops_it_under_both_policies(bench: Path) -> None:
    # 4 s down with a gap from 1 to 3, 1 s of compute, 4 s up with a gap from 8 to 9
    spec = {"availability": windows(bench, (0, 1), (3, 8), (9, 100))}
    for policy in ("pause", "offline-compute"):
        trip = on_bench(bench, offline=policy, **spec).trip(0, 0, 0, job(1, down_mb=4, up_mb=4))
        assert seconds(trip) == [
            ("download", 1), ("offline", 3), ("download", 6), ("compute", 7), ("upload", 8), ("offline", 9),
            ("upload", 12),
        ]  # fmt: skip


def test_who_never_returns_is_lost(bench: Path) -> None:
    spec = {"availability": windows(bench, (0, 10))}
    work = job(8, down_mb=4, up_mb=4)
    pause = on_bench(bench, offline="pause", **spec).trip(0, 0, 0, work)
    assert (pause.lost_at, pause.lost_reason, seconds(pause)) == (10 * S, "offline", [("download", 4), ("compute", 10)])
    compute = on_bench(bench, offline="offline-compute", **spec).trip(0, 0, 0, work)
    assert (compute.lost_at, seconds(compute)) == (12 * S, [("download", 4), ("compute", 12)])


def test_arriving_at_the_very_end_of_a_window_counts(bench: Path) -> None:
    spec = {"availability": windows(bench, (0, 16), (30, 40))}
    for policy in ("abort", "pause", "offline-compute"):
        trip = on_bench(bench, offline=policy, **spec).trip(0, 0, 0, job(8, down_mb=4, up_mb=4))
        assert (trip.lost_at, trip.segments[-1][1]) == (None, 16 * S)


def test_a_varying_rate_and_a_gap_together(bench: Path) -> None:
    (bench / "line.yaml").write_text(ONE_MB_A_S + "within_sigma: 0.5\nautocorrelation_1s: 0.8\n")
    spec = {"availability": windows(bench, (0, 2), (50, 1000)), "link_mode": "varying"}
    trip = on_bench(bench, **spec).trip(0, 0, 0, job(1, down_mb=5, up_mb=1))
    assert [p for p, _ in trip.segments] == ["download", "offline", "download", "compute", "upload"]
    assert seconds(trip)[:2] == [("download", 2), ("offline", 50)]
    free = on_bench(bench, link_mode="varying").trip(0, 0, 0, job(1, down_mb=5, up_mb=1))
    assert free.segments[0][1] > 2 * S


def test_the_delay_of_a_dropout_lies_before_the_upload(bench: Path) -> None:
    w = on_bench(bench, availability={"name": "delay-dropout", "probability": 1, "max_s": 100})
    trip = w.trip(0, 0, 0, job(2, down_mb=1, up_mb=1))
    assert [p for p, _ in trip.segments] == ["download", "compute", "offline", "upload"]
    assert 3 * S < trip.segments[2][1] < 103 * S
    assert trip.segments[3][1] - trip.segments[2][1] == S
    assert trip.lost_at is None


def test_a_failure_strikes_busy_time_only(bench: Path) -> None:
    spec = [windows(bench, (0, 10), (20, 1000)), {"name": "task-failure", "hazard_per_s": 0.1}]
    w = on_bench(bench, availability=spec)
    lost = [
        t.lost_at for nth in range(2000) if (t := w.trip(0, nth, 0, job(8, down_mb=4, up_mb=4))).lost_at is not None
    ]
    assert len(lost) / 2000 == pytest.approx(1 - np.exp(-1.6), abs=4 * sqrt(0.2 * 0.8 / 2000))  # 16 busy seconds
    assert not [at for at in lost if 10 * S < at < 20 * S]
    assert max(lost) <= 26 * S
    assert w.trip(0, 0, 0, job(8)) == w.trip(0, 0, 0, job(8))


# ---- recall ----


def test_recall_ends_at_the_next_epoch(bench: Path) -> None:
    # 1 s down, 10 steps of 1 s in epochs of 2, 1 s up
    w, work = on_bench(bench), job(10, down_mb=1, up_mb=1)
    trip = w.trip(0, 0, 0, work)
    assert [w.epoch_end(trip, int(t * S), 2) for t in (0, 0.5, 2.9, 3, 3.1, 5, 5.5, 10.9, 11, 20)] == [
        2, 2, 2, 2, 4, 4, 6, 10, 10, 10,
    ]  # fmt: skip
    short = w.shorten(trip, 0, int(5.5 * S), 6)
    assert seconds(short) == [("download", 1), ("compute", 7), ("upload", 8)]
    assert (short.steps, short.sent, short.per_step_ns) == (6, 0, S)
    late = w.shorten(trip, 0, int(9.5 * S), 2)  # what is computed by now stays
    assert seconds(late) == [("download", 1), ("compute", 9.5), ("upload", 10.5)]


def test_recall_over_a_gap(bench: Path) -> None:
    # as above, offline from 4 to 20: 3 steps are done before it; recalled in the gap, the epoch of 4 ends at 21
    w = on_bench(bench, availability=windows(bench, (0, 4), (20, 100)))
    trip = w.trip(0, 0, 0, job(10, down_mb=1, up_mb=1))
    assert w.epoch_end(trip, 9 * S, 2) == 4
    assert seconds(w.shorten(trip, 0, 9 * S, 4)) == [
        ("download", 1), ("compute", 4), ("offline", 20), ("compute", 21), ("upload", 22),
    ]  # fmt: skip


def test_recall_with_a_cold_start_and_jitter() -> None:
    w = world(1, devices={"jetson-nano": 1}, networks={"wifi": 1})
    trip = w.trip(0, 0, 0, CNN)
    for epochs in range(1, 6):
        short = w.shorten(trip, 0, 0, 8 * epochs)
        assert short.segments[0] == trip.segments[0]
        end = short.segments[1][1]
        assert w.epoch_end(trip, end, 8) == 8 * epochs
        assert w.epoch_end(trip, end + 1, 8) == min(40, 8 * epochs + 8)
    assert short == trip


def test_recall_never_revives_a_task_that_will_be_lost(bench: Path) -> None:
    w = on_bench(bench, offline="abort", availability=windows(bench, (0, 10), (20, 100)))
    trip = w.trip(0, 0, 0, job(10, down_mb=1, up_mb=1))
    assert trip.lost_at == 10 * S
    assert w.shorten(trip, 0, 2 * S, 2) is trip


# ---- energy ----


def test_energy_by_cause(bench: Path) -> None:
    # 5 W training, 2 W idle, 1 W more with the radio on; 2 s down, 3 s compute, 4 s up
    w = on_bench(bench)
    trip = w.trip(0, 0, 0, job(3, down_mb=2, up_mb=4))
    assert w.energy_j(trip, 0, trip.segments[-1][1]) == pytest.approx({"compute": 15, "radio": 6, "idle": 12})
    assert w.energy_j(trip, 0, 4 * S) == pytest.approx({"compute": 10, "radio": 2, "idle": 4})  # cancelled at 4 s
    assert sum(w.energy_j(trip, 0, 0).values()) == 0


def test_the_radio_of_a_phone_link_follows_the_rate() -> None:
    w = world(1, devices={"phone-high": 1}, networks={"lte": 1})
    trip = w.trip(0, 1, 0, CNN)
    down, up = 8e3 / w.arrays.ns_per_byte_down[0], 8e3 / w.arrays.ns_per_byte_up[0]
    (_, a), (_, b), (_, c) = trip.segments
    radio = (a * (0.49 + 0.0115 * down) + (c - b) * (0.58 + 0.0767 * up)) / S
    assert w.energy_j(trip, 0, c) == pytest.approx({"compute": (b - a) / S * 2.0, "radio": radio, "idle": 0})


def test_training_the_cnn_on_a_pi_takes_97_joules() -> None:
    device = Device(Library().device("raspberry-pi-4"), "pi")
    device.step_s = device.param_s = 0.0
    assert device.seconds(CNN, 40) * device.train_w == pytest.approx(97, rel=0.02)


# ---- streams ----


def test_another_client_changes_nobody_elses_draws() -> None:
    spec = {
        "networks": {"wifi": 1},
        "availability": ["markov", "delay-dropout", "task-failure"],
        "link_mode": "varying",
    }
    few, more = world(20, **spec), world(21, **spec)
    for c in range(20):
        for nth in range(3):
            assert few.trip(c, nth, nth * 500 * S, CNN) == more.trip(c, nth, nth * 500 * S, CNN)
    assert world(20, seed=1, **spec).trip(0, 0, 0, CNN) != few.trip(0, 0, 0, CNN)


def test_one_task_more_or_another_order_changes_nothing() -> None:
    w, again = (world(5, networks={"lte": 1}, availability=["markov", "delay-dropout"]) for _ in range(2))
    asked = [(c, nth, (7 * c + 11 * nth) * S) for c in range(5) for nth in range(20)]
    answers = {a: w.trip(*a, CNN) for a in asked}
    for a in reversed(asked[::3]):
        again.online(a[0], a[2] + 10**12)
        assert again.trip(*a, CNN) == answers[a]


# ---- closed forms ----


def test_staleness_of_three_boards_follows_from_their_speeds() -> None:
    # no network, no jitter, one task in flight each, every arrival a version: during a cycle, client i sees the sum
    # over j != i of T_i / T_j versions; its share of the updates goes with 1 / T_i
    w = world(3, devices={"jetson-tx2-afl": 1, "jetson-nano-afl": 1, "raspberry-pi-4-afl": 1})
    due = [(w.trip(c, 0, 0, CNN).segments[-1][1], c) for c in range(3)]
    base, nth, staleness = [0] * 3, [0] * 3, {c: list[int]() for c in range(3)}
    for version in range(60_000):
        now, c = min(due)
        staleness[c].append(version - base[c])
        base[c], nth[c] = version + 1, nth[c] + 1
        due[c] = (w.trip(c, nth[c], now, CNN).segments[-1][1], c)
    mean = {w.device_of(c).removesuffix("-afl"): np.mean(s) for c, s in staleness.items()}
    assert mean == pytest.approx({"jetson-tx2": 0.638, "jetson-nano": 1.968, "raspberry-pi-4": 18.039}, abs=0.002)
    share = {w.device_of(c).removesuffix("-afl"): len(s) / 60_000 for c, s in staleness.items()}
    assert share == pytest.approx({"jetson-tx2": 0.611, "jetson-nano": 0.337, "raspberry-pi-4": 0.053}, abs=0.001)
