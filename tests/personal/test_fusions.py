"""Fusions and the multimodal model: what is absent has no say; and each reaches the bound that is known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from aflctl.api import DataSpec, Modality
from aflctl.builtin.datasets.synthetic_modal import SyntheticModal
from aflctl.builtin.models.multimodal import Multimodal
from aflctl.errors import UserError
from aflctl.plugins import registry

FUSIONS = ["late-mean", "late-sum", "late-weighted", "concat", "gated", "attention", "film", "early"]
SPEC = DataSpec((Modality("first", (8,)), Modality("second", (8,))), 2)


def net(name: str | None, spec: DataSpec = SPEC, seed: int = 0, **more: Any) -> torch.nn.Module:
    fusion = None if name is None else registry().load("fusions", name)()
    with torch.random.fork_rng():
        torch.random.manual_seed(seed)
        return Multimodal(**more).build(spec, fusion)


def test_all_are_registered() -> None:
    assert sorted(e.name for e in registry().entries("fusions")) == sorted(FUSIONS)


@pytest.mark.parametrize("name", FUSIONS)
@pytest.mark.parametrize("gone", [0, 1])
def test_what_is_absent_has_no_say_and_learns_nothing(name: str, gone: int) -> None:
    module, (a, b) = net(name), torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(1))
    present = torch.ones(5, 2)
    present[:, gone] = 0
    one = module((a, b), present)
    other = module((a + 100 * (gone == 0), b + 100 * (gone == 1)), present)
    assert torch.equal(one, other)
    assert torch.isfinite(one).all()
    one.sum().backward()
    for key, parameter in module.named_parameters():
        if f"encoders.{SPEC.modalities[gone].name}." in key or f"heads.{gone}." in key:
            assert parameter.grad is None or not parameter.grad.any(), key


def test_late_fusion_by_hand() -> None:
    # heads that give 1 and 3 for class 0: mean 2, sum 4, alone 1 and 3
    for name, both in (("late-mean", 2.0), ("late-sum", 4.0)):
        module = net(name).fusion
        for head, value in zip(module.heads, (1.0, 3.0)):
            torch.nn.init.zeros_(head.weight)
            torch.nn.init.constant_(head.bias, value)
        parts = (torch.zeros(3, 32), torch.zeros(3, 32))
        got = module(parts, torch.tensor([[1.0, 1.0], [1.0, 0.0], [0.0, 1.0]]))[:, 0]
        assert got.tolist() == [both, 1.0, 3.0]


def test_late_weighted_mixes_probabilities() -> None:
    module = net("late-weighted").fusion
    for head, value in zip(module.heads, (0.0, 20.0)):
        torch.nn.init.zeros_(head.weight)
        with torch.no_grad():
            head.bias.copy_(torch.tensor([value, 0.0]))
    parts = (torch.zeros(2, 32), torch.zeros(2, 32))
    # pi = 1/2 each: p = (1/2 + 1) / 2 = 3/4; alone 1/2
    got = module(parts, torch.tensor([[1.0, 1.0], [1.0, 0.0]])).exp()[:, 0]
    assert got.tolist() == pytest.approx([0.75, 0.5], abs=1e-6)


def test_the_default_is_the_late_mean() -> None:
    a, b = net(None, seed=3), net("late-mean", seed=3)
    assert list(a.state_dict()) == list(b.state_dict())
    x, present = (torch.randn(4, 8), torch.randn(4, 8)), torch.tensor([[1.0, 1.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    assert torch.equal(a(x, present), b(x, present))


def test_every_kind_of_modality_has_an_encoder() -> None:
    kinds = (
        Modality("v", (5,)), Modality("s", (3, 16), "sensor"), Modality("i", (1, 8, 8), "image"),
        Modality("a", (1, 8, 6), "audio"), Modality("t", (12,), "sequence", vocabulary=20),
    )  # fmt: skip
    module = net("concat", DataSpec(kinds, 4), channels=(4,))
    x = tuple(torch.zeros(2, *m.shape, dtype=torch.long if m.kind == "sequence" else torch.float32) for m in kinds)
    assert module(x, torch.ones(2, 5)).shape == (2, 4)
    assert module.embed(x, torch.ones(2, 5)).shape == (2, 160)
    with pytest.raises(UserError, match="beside numbers"):
        net("early", DataSpec(kinds, 4))


def test_film_needs_two() -> None:
    with pytest.raises(UserError, match="film needs two"):
        net("film", DataSpec((Modality("v", (5,)),), 2))


# ---- bounds ----
def accuracy(name: str, source: Any, present: torch.Tensor, steps: int = 250) -> float:
    """Trained on everything at once with Adam and batches of 256; tested with these modalities."""
    module = net(name, source.spec)
    optimizer, dice = torch.optim.Adam(module.parameters(), lr=0.005), torch.Generator().manual_seed(0)
    n = len(source.train.y)
    for _ in range(steps):
        at = torch.randint(n, (256,), generator=dice)
        x = tuple(part[at] * present[m] for m, part in enumerate(source.train.x))
        optimizer.zero_grad()
        F.cross_entropy(module(x, present.expand(256, 2)), source.train.y[at]).backward()
        optimizer.step()
    with torch.no_grad():
        x = tuple(part * present[m] for m, part in enumerate(source.test.x))
        right = module(x, present.expand(len(source.test.y), 2)).argmax(1) == source.test.y
    return float(right.float().mean())


@pytest.mark.parametrize("name", FUSIONS)
def test_every_fusion_reaches_the_sum_bound(name: str, tmp_path: Path) -> None:
    data = SyntheticModal()
    source, best = data.open(tmp_path), data.best()
    assert best["first"] == pytest.approx(0.8413, abs=1e-4)
    assert best["second"] == pytest.approx(0.9332, abs=1e-4)
    assert best["both"] == pytest.approx(0.9643, abs=1e-4)
    both = accuracy(name, source, torch.ones(2))
    # 4000 test samples: one standard deviation is 0.3 %.  A mixture of probabilities is no product of them: it is only
    # sure to be as good as the better modality
    assert (best["second"] if name == "late-weighted" else best["both"]) - 0.02 < both < best["both"] + 0.01


def test_one_modality_reaches_its_own_bound(tmp_path: Path) -> None:
    data = SyntheticModal()
    source, best = data.open(tmp_path), data.best()
    for m, name in enumerate(("first", "second")):
        got = accuracy("late-mean", source, torch.eye(2)[m])
        assert best[name] - 0.02 < got < best[name] + 0.02


@pytest.mark.parametrize("name", FUSIONS)
def test_the_product_needs_a_fusion_that_multiplies(name: str, tmp_path: Path) -> None:
    data = SyntheticModal(rule="product", strength=(2.5, 2.5))
    got, best = accuracy(name, data.open(tmp_path), torch.ones(2), 500), data.best()["both"]
    assert best == pytest.approx(0.9877, abs=1e-4)
    if name.startswith("late"):  # scores that add cannot; three of four corners at best
        assert got < 0.8
    else:
        assert got > best - 0.06
