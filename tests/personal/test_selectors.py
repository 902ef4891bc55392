"""Selectors of parameters and buffers by name, class of module and position."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from aflctl.api import DataSpec, Local, Modality, Setup
from aflctl.builtin.models.resnet18 import Resnet18
from aflctl.builtin.personalizations.selectors import choose, flops_share
from aflctl.errors import UserError
from aflctl.train.flops import flops_by_module
from aflctl.train.task import FlatTask

IMAGE = DataSpec((Modality("image", (1, 8, 8), "image"),), 10)


def setup_of(module: nn.Module, spec: DataSpec = IMAGE) -> Setup:
    flops = flops_by_module(module, spec)
    task = FlatTask(module, spec)
    return Setup(task.layout, task.init, (1,), 1, Local(), task.modules, lambda c: (), task.buffer_layout, flops)


@pytest.fixture
def net() -> Setup:
    return setup_of(
        nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(144, 8), nn.ReLU(), nn.Linear(8, 10)
        )
    )


def pick(net: Setup, *patterns: str) -> list[str]:
    return sorted(choose(patterns, net, "here"))


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("3", ["3.bias", "3.weight"]),
        ("3.weight", ["3.weight"]),
        ("[35]*", ["3.bias", "3.weight", "5.bias", "5.weight"]),
        (r"re:\d\.bias", ["0.bias", "1.bias", "3.bias", "5.bias"]),
        ("@BatchNorm", ["1.bias", "1.running_mean", "1.running_var", "1.weight"]),
        ("@Linear:last", ["5.bias", "5.weight"]),
        ("@Linear:first", ["3.bias", "3.weight"]),
        ("@Linear:-2", ["3.bias", "3.weight"]),
        ("@*:-2:", ["3.bias", "3.weight", "5.bias", "5.weight"]),
        ("@Conv", ["0.bias", "0.weight"]),
    ],
)
def test_patterns(net: Setup, pattern: str, names: list[str]) -> None:
    assert pick(net, pattern) == names


def test_exclusion_is_read_from_left_to_right(net: Setup) -> None:
    assert pick(net, "@Linear", "!5") == ["3.bias", "3.weight"]
    assert pick(net, "@Linear", "!5", "5.bias") == ["3.bias", "3.weight", "5.bias"]


@pytest.mark.parametrize("pattern", ["fc", "@GroupNorm", "re:nothing", "@Linear:5", "!fc"])
def test_what_matches_nothing_is_an_error_that_shows_what_there_is(net: Setup, pattern: str) -> None:
    with pytest.raises(UserError) as error:
        choose([pattern], net, "personalization.private")
    assert "matches nothing" in error.value.message
    assert "5.weight" in str(error.value.hint)
    assert "@Linear" in str(error.value.hint)


@pytest.mark.parametrize("patterns", [["!5"], ["@Conv", "!5"], ["5", "!5", "!5"]])
def test_an_exclusion_that_takes_nothing_away_is_an_error(net: Setup, patterns: list[str]) -> None:
    with pytest.raises(UserError, match="takes nothing away"):
        choose(patterns, net, "personalization.private")


@pytest.mark.parametrize("pattern", ["re:(", "@Linear:middle"])
def test_bad_patterns(net: Setup, pattern: str) -> None:
    with pytest.raises(UserError):
        choose([pattern], net, "here")


def test_batch_norms_of_a_resnet_also_in_shortcuts() -> None:
    with torch.random.fork_rng():
        module = Resnet18(norm="batch").build(IMAGE)
    wanted = {
        f"{name}.{kind}"
        for name, part in module.named_modules()
        if isinstance(part, nn.BatchNorm2d)
        for kind in ("weight", "bias", "running_mean", "running_var")
    }
    chosen = choose(["@BatchNorm"], setup_of(module), "here")
    assert chosen == wanted
    assert "layer2.0.downsample.1.running_var" in chosen


def test_share_of_flops(net: Setup) -> None:
    # 2 x 4 x 36 x 9 = 2592, 2 x 144 x 8 = 2304, 2 x 8 x 10 = 160
    assert flops_share({"5.weight", "5.bias"}, net) == pytest.approx(160 / 5056)
    assert flops_share({"3.weight", "3.bias", "5.weight", "5.bias"}, net) == pytest.approx(2464 / 5056)
    uncounted: Any = Setup(net.layout, net.init, (1,), 1, Local())
    assert flops_share({"5.weight", "5.bias"}, uncounted) == pytest.approx(90 / net.size)
