"""Forward FLOPs of one sample, by torch's own counter."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from aflctl.errors import HookFailed

if TYPE_CHECKING:
    from aflctl.api import DataSpec

CHEAP = (nn.Embedding, nn.GroupNorm, nn.LayerNorm, nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def example(spec: DataSpec, batch: int) -> tuple[Any, torch.Tensor]:
    """A batch of zeros of the shapes in `spec`, and its presence mask."""
    parts = tuple(
        torch.zeros((batch, *m.shape), dtype=torch.int64 if m.kind == "sequence" else torch.float32)
        for m in spec.modalities
    )
    return (parts if len(parts) > 1 else parts[0]), torch.ones(batch, len(parts))


def count_flops(module: nn.Module, spec: DataSpec) -> float:
    """FLOPs (a multiply-add is 2) of one sample's forward pass in training mode, counted on a batch of 2.

    A layer with a weight matrix that the counter does not see is an error: its model must say `flops` itself.
    """
    total, counted = _count(module, spec)
    top = type(module).__name__
    for name, part in module.named_modules():
        heavy = any(p.dim() > 1 for p in part.parameters(recurse=False))
        if heavy and not isinstance(part, CHEAP) and not counted.get(name):
            raise HookFailed(
                f"torch's counter saw no FLOPs in {name or top} ({type(part).__name__})",
                hint="give the model a flops(spec) method that says what one sample's forward pass costs",
            )
    return total


def flops_by_module(module: nn.Module, spec: DataSpec) -> dict[str, float]:
    """Module name -> forward FLOPs of one sample, for the modules that hold parameters themselves."""
    _, counted = _count(module, spec)
    holders = (name for name, part in module.named_modules() if next(part.parameters(recurse=False), None) is not None)
    return {name: counted.get(name, 0.0) for name in holders}


def _count(module: nn.Module, spec: DataSpec) -> tuple[float, dict[str, float]]:
    """(FLOPs of one sample in all, the same by module name)."""
    from torch.utils.flop_counter import FlopCounterMode

    batch = 2
    x, present = example(spec, batch)
    state = {k: v.clone() for k, v in module.state_dict().items()}
    counter = FlopCounterMode(display=False)
    module.train()
    with torch.no_grad(), torch.random.fork_rng(devices=[]), counter:
        module(x, present) if len(spec.modalities) > 1 else module(x)
    module.load_state_dict(state)
    top = type(module).__name__
    counted = {
        name.removeprefix(top).removeprefix("."): sum(parts.values()) / batch
        for name, parts in counter.get_flop_counts().items()
    }
    return counter.get_total_flops() / batch, counted
