"""Fully connected networks over a stack without `torch.func`: one batched product per layer.

For models that are a plain sequence of linear layers and elementwise functions. `torch.func.vmap` runs them as well,
but spends more time on its bookkeeping than a tiny model needs for its products, and takes a layer's weight gradient
as x^T G, which is up to four times slower as a batched product than G^T x.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

Forward = Callable[[Sequence[Tensor], Tensor], Tensor]
ELEMENTWISE = (nn.ReLU, nn.Tanh, nn.Sigmoid, nn.GELU, nn.SiLU, nn.ELU, nn.LeakyReLU, nn.Identity)


class Only(torch.autograd.Function):
    """The one layer of a linear model: as `Linears`, but taken as W x^T, twice as fast where the outputs are few.

    It adds in another order than `serial` does. In a network that could put a unit at the edge of its nonlinearity on
    the other side; here nothing follows.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x)
        y = torch.bmm(weight, x.transpose(1, 2))
        return (y if bias is None else y.add_(bias.unsqueeze(2))).transpose(1, 2)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[None, Tensor, Tensor | None]:
        (x,) = ctx.saved_tensors
        return None, torch.bmm(g.transpose(1, 2), x), g.sum(1) if ctx.needs_input_grad[2] else None


class Linears(torch.autograd.Function):
    """K linear layers: x [K, B, I], weight [K, O, I], bias [K, O] -> [K, B, O]."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        y = torch.bmm(x, weight.transpose(1, 2))
        return y if bias is None else y.add_(bias.unsqueeze(1))

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, Tensor, Tensor | None]:
        x, weight = ctx.saved_tensors
        back = torch.bmm(g, weight) if ctx.needs_input_grad[0] else None
        return back, torch.bmm(g.transpose(1, 2), x), g.sum(1) if ctx.needs_input_grad[2] else None


def rowwise(module: nn.Module, names: Sequence[str]) -> Forward | None:
    """(pieces [K, ...] in the order of `names`, x [K, B, ...]) -> logits [K, B, classes]; None = vmap must do it."""
    if type(module) is not nn.Sequential:
        return None
    at = {name: i for i, name in enumerate(names)}
    steps: list[Callable[[Sequence[Tensor], Tensor], Tensor]] = []
    for name, layer in module.named_children():
        if type(layer) is nn.Flatten and layer.start_dim == 1 and layer.end_dim == -1:
            steps.append(lambda _, x: x.flatten(2))
        elif type(layer) is nn.Linear:
            weight, bias = at[f"{name}.weight"], at.get(f"{name}.bias")
            steps.append(_linear(weight, bias))
        elif type(layer) in ELEMENTWISE:
            steps.append(_elementwise(layer))
        else:
            return None

    if sum(type(layer) is nn.Linear for layer in module) == 1 and len(steps) <= 2 and type(module[-1]) is nn.Linear:
        steps[-1] = _linear(at[f"{name}.weight"], at.get(f"{name}.bias"), Only)

    def forward(pieces: Sequence[Tensor], x: Tensor) -> Tensor:
        for step in steps:
            x = step(pieces, x)
        return x

    return forward


def _linear(weight: int, bias: int | None, how: Any = Linears) -> Callable[[Sequence[Tensor], Tensor], Tensor]:
    def step(pieces: Sequence[Tensor], x: Tensor) -> Tensor:
        return how.apply(x, pieces[weight], None if bias is None else pieces[bias])  # type: ignore[no-any-return]

    return step


def _elementwise(layer: nn.Module) -> Callable[[Sequence[Tensor], Tensor], Tensor]:
    return lambda _, x: layer(x)
