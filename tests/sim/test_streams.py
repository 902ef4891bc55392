"""Random streams: fixed bits, scalars equal to arrays, and the laws they claim to follow."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from math import sqrt
from statistics import NormalDist

import numpy as np
import pytest

from aflctl.sim import streams
from aflctl.sim.streams import Dice, fold, integers, key, normal, uniform

GOLDEN = [
    ((), 0x243F6A8885A308D3),
    ((0,), 0x2CB0F69F4ABEA221),
    ((1,), 0x9417034723148989),
    ((-1,), 0xE9E0033E3BADAF36),
    (("jitter",), 0xAA502C486C646CA5),
    ((0, "jitter", 5, 7), 0xC0A9CCE083C6F48C),
    ((2**64 - 1, "", 3), 0xAE1638EB149AD1B3),
]


@pytest.mark.parametrize(("parts", "expected"), GOLDEN)
def test_keys_never_change(parts: tuple[int | str, ...], expected: int) -> None:
    assert key(*parts) == expected


def test_folding_is_splitmix64() -> None:
    # the published first outputs of SplitMix64 from state 0
    assert [fold(0, i) for i in range(3)] == [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]


def test_draws_never_change() -> None:
    k = key(0, "jitter", 5, 7)
    assert (uniform(k), normal(k), integers(k, 1000)) == (0.7525909469730114, 0.6826657036236027, 752)
    dice = Dice(key("dice"))
    drawn = [dice.random(), dice.below(6), dice.normal(), dice.bits()]
    assert drawn == [0.6755323663255923, 1, -0.6197986571728408, 0x2D1C4E38FD858464]
    assert streams.generator(key(0, "x")).integers(0, 1000, 5).tolist() == [331, 772, 49, 525, 325]


def test_a_generator_is_philox_with_its_key_and_its_children_come_from_the_key_too() -> None:
    for k in (0, 5, 2**63 + 7, 2**64 - 1):
        ours, plain = streams.generator(k), np.random.Generator(np.random.Philox(key=k))
        assert ours.permutation(50).tolist() == plain.permutation(50).tolist()
        copied = pickle.loads(pickle.dumps(ours))
        assert copied.random(3).tolist() == ours.random(3).tolist() == plain.random(3).tolist()
    # Philox(key=k).spawn draws from the system's entropy: two runs of one seed would differ
    first, again = streams.generator(5), streams.generator(5)
    drawn = [child.random() for child in (*first.spawn(2), *first.spawn(1))]
    assert drawn == [child.random() for child in again.spawn(3)]
    assert len(set(drawn)) == 3


def test_parts_are_told_apart() -> None:
    parts = [(1, 23), (12, 3), (123,), ("1", "23"), ("1", 23), ("123",), (1, 2, 3), (0, 1, 23), (1, 23, 0), (23, 1)]
    assert len({key(*p) for p in parts}) == len(parts)


@pytest.mark.cli
def test_the_hash_seed_of_the_interpreter_plays_no_part_and_scalars_need_no_numpy() -> None:
    code = (
        "import sys; from aflctl.sim.streams import key, normal;"
        "print(key(3, 'jitter', 5), normal(key('a', 1)), 'numpy' in sys.modules)"
    )
    said = {
        subprocess.run(
            [sys.executable, "-c", code],
            check=True,
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONHASHSEED": s},
        ).stdout
        for s in ("0", "1", "random")
    }
    assert said == {f"{key(3, 'jitter', 5)} {normal(key('a', 1))} False\n"}


def test_arrays_hold_the_bits_of_scalars() -> None:
    k, n = key("arrays"), 20_000
    keys = [fold(k, i) for i in range(n)]
    assert streams.sequence(k, n).tolist() == keys
    assert streams.uniforms(k, n).tolist() == [uniform(x) for x in keys]
    assert streams.normals(k, n).tolist() == [normal(x) for x in keys]
    for below in (1, 7, 10**6, 450 * 10**9, 2**62 + 1):
        assert streams.integers_of(streams.sequence(k, 500), below).tolist() == [integers(x, below) for x in keys[:500]]
    dice = Dice(k)
    assert [dice.random() for _ in range(50)] == streams.uniforms(k, 50).tolist()


def test_folding_with_arrays_on_either_side() -> None:
    ks, parts = streams.sequence(key("a"), 9), np.arange(-4, 5)
    assert streams.folds(ks, -3).tolist() == [fold(k, -3) for k in ks.tolist()]
    assert streams.folds(7, parts).tolist() == [fold(7, p) for p in parts.tolist()]
    assert streams.folds(ks, parts).tolist() == [fold(k, p) for k, p in zip(ks.tolist(), parts.tolist(), strict=True)]


def test_the_normal_quantile_is_right_everywhere() -> None:
    exact = NormalDist()
    for p in (1e-16, 1e-12, 1e-6, 0.001, 0.0749, 0.0751, 0.3, 0.5, 0.7, 0.9249, 0.9251, 0.99999, 1 - 1e-12):
        assert streams._quantile(p) == pytest.approx(exact.inv_cdf(p), rel=1e-12, abs=1e-13)


def test_uniform_normal_and_exponential_draws_follow_their_laws() -> None:
    n = 200_000  # tolerances: four standard errors
    u, z = streams.uniforms(key("u"), n), streams.normals(key("z"), n)
    assert abs(u.mean() - 0.5) < 4 * sqrt(1 / 12 / n)
    assert abs((u < 0.1).mean() - 0.1) < 4 * sqrt(0.09 / n)
    assert abs(np.corrcoef(u[1:], u[:-1])[0, 1]) < 4 / sqrt(n)
    assert abs(z.mean()) < 4 / sqrt(n)
    assert abs(z.var() - 1) < 4 * sqrt(2 / n)
    assert abs((z**4).mean() - 3) < 4 * sqrt(96 / n)
    e = [streams.exponential(fold(key("e"), i)) for i in range(20_000)]
    assert abs(sum(e) / len(e) - 1) < 4 / sqrt(len(e))
    assert min(e) > 0


def test_neighbouring_clients_and_tasks_are_independent() -> None:
    root = key(0, "jitter")
    table = np.array([[uniform(fold(fold(root, c), nth)) for nth in range(100)] for c in range(100)])
    assert abs(np.corrcoef(table[:-1].ravel(), table[1:].ravel())[0, 1]) < 0.05
    assert abs(np.corrcoef(table[:, :-1].ravel(), table[:, 1:].ravel())[0, 1]) < 0.05
    assert table.min() >= 0
    assert table.max() < 1


def test_below_reaches_every_number_equally_often() -> None:
    dice = Dice(key("die"))
    counts = np.bincount([dice.below(6) for _ in range(60_000)], minlength=6)
    assert np.abs(counts - 10_000).max() < 4 * sqrt(60_000 * 5 / 36)
