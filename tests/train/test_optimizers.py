"""Local optimizers against torch.optim, alone and stacked; clipping."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from aflctl.api import Local
from aflctl.train.optimizers import clip_, optimizer

RULES: dict[str, tuple[dict[str, Any], Any]] = {
    "sgd": ({}, lambda p, lr: torch.optim.SGD([p], lr)),
    "momentum": ({"momentum": 0.9}, lambda p, lr: torch.optim.SGD([p], lr, momentum=0.9)),
    "decay": ({"weight_decay": 0.1}, lambda p, lr: torch.optim.SGD([p], lr, weight_decay=0.1)),
    "both": (
        {"momentum": 0.8, "weight_decay": 0.1},
        lambda p, lr: torch.optim.SGD([p], lr, momentum=0.8, weight_decay=0.1),
    ),
    "adam": ({"optimizer": "adam"}, lambda p, lr: torch.optim.Adam([p], lr)),
    "adam-l2": (
        {"optimizer": "adam", "weight_decay": 0.1},
        lambda p, lr: torch.optim.Adam([p], lr, weight_decay=0.1),
    ),
    "adamw": ({"optimizer": "adamw"}, lambda p, lr: torch.optim.AdamW([p], lr, weight_decay=0.0)),
    "adamw-decay": (
        {"optimizer": "adamw", "weight_decay": 0.2},
        lambda p, lr: torch.optim.AdamW([p], lr, weight_decay=0.2),
    ),
}


def gradients(n: int, size: int) -> list[Tensor]:
    g = torch.Generator().manual_seed(5)
    return [torch.randn(size, generator=g) * (0.1 + i) for i in range(n)]


@pytest.mark.parametrize("name", RULES)
def test_the_same_steps_as_torch(name: str) -> None:
    fields, theirs = RULES[name]
    w = gradients(1, 33)[0].clone()
    p = w.clone().requires_grad_()
    other = theirs(p, 0.05)
    mine = optimizer(Local(lr=0.05, **fields), w)
    for g in gradients(6, 33):
        mine.step(w, g.clone(), 0.05)
        p.grad = g.clone()
        other.step()
    if name.startswith("adam"):
        assert torch.allclose(w, p.detach(), rtol=1e-6, atol=1e-7)
    else:
        assert torch.equal(w, p.detach())


@pytest.mark.parametrize("name", RULES)
def test_a_changing_rate_is_heeded(name: str) -> None:
    fields, theirs = RULES[name]
    w = gradients(1, 9)[0].clone()
    p = w.clone().requires_grad_()
    other, mine = theirs(p, 0.05), optimizer(Local(**fields), w)
    for i, g in enumerate(gradients(4, 9)):
        other.param_groups[0]["lr"] = 0.05 / (i + 1)
        mine.step(w, g.clone(), 0.05 / (i + 1))
        p.grad = g.clone()
        other.step()
    assert torch.allclose(w, p.detach(), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", RULES)
def test_rows_of_a_stack_are_optimizers_of_their_own(name: str) -> None:
    # three rows with three rates; after two steps the last row is done
    fields, _ = RULES[name]
    local = Local(**fields)
    start = torch.stack(gradients(3, 12))
    rates = torch.tensor([[0.1], [0.02], [0.3]])
    steps = [torch.stack(gradients(4, 12)[i : i + 1] * 3) * torch.tensor([[1.0], [2.0], [-1.0]]) for i in range(4)]
    alone = [start[r].clone() for r in range(3)]
    for r in range(3):
        rule = optimizer(local, alone[r])
        for t in range(2 if r == 2 else 4):
            rule.step(alone[r], steps[t][r].clone(), float(rates[r]))
    stack = start.clone()
    rule = optimizer(local, stack)
    rows = stack
    for t in range(4):
        if t == 2:
            rows = stack[:2]
            rule.keep(2)
        k = len(rows)
        rule.step(rows, steps[t][:k].clone(), rates[:k])
    assert torch.allclose(stack, torch.stack(alone), rtol=1e-5, atol=1e-6)


def test_clipping() -> None:
    # |(3, 4)| = 5: cut to 1 it is (0.6, 0.8); a shorter one stays as it is, bit for bit; zero stays zero
    assert torch.allclose(clip_(torch.tensor([3.0, 4.0]), 1.0), torch.tensor([0.6, 0.8]))
    short = torch.tensor([0.3, 0.4])
    assert torch.equal(clip_(short.clone(), 1.0), short)
    assert torch.equal(clip_(torch.zeros(3), 1.0), torch.zeros(3))
    rows = clip_(torch.tensor([[3.0, 4.0], [0.3, 0.4]]), 1.0)
    assert torch.allclose(rows, torch.tensor([[0.6, 0.8], [0.3, 0.4]]))
    g = torch.tensor([3.0, 4.0])
    assert clip_(g, 1.0) is g


def test_clipping_agrees_with_torch() -> None:
    g = gradients(1, 50)[0] * 7
    p = torch.zeros(50, requires_grad=True)
    p.grad = g.clone()
    torch.nn.utils.clip_grad_norm_([p], 2.5)
    assert torch.allclose(clip_(g.clone(), 2.5), p.grad, rtol=1e-5)
