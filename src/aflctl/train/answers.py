"""What client hooks answer, held against the rules of the API: pairs, names, kinds and shapes of tensors.

Each failure is a HookFailed that names the method, the hook, what it answered and what is allowed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from aflctl.errors import HookFailed

Shapes = tuple[tuple[str, tuple[int, ...]], ...]


def vector(value: Any, who: str, size: int | None = None) -> Tensor:
    """A dense float32 vector, of `size` numbers where that is known."""
    wanted = f"a vector of {'' if size is None else f'{size} '}float32 numbers"
    if not isinstance(value, Tensor):
        raise HookFailed(f"{who} returned {_kind(value)}, not {wanted}")
    if value.dtype != torch.float32 or value.dim() != 1 or (size is not None and value.numel() != size):
        raise HookFailed(f"{who} returned a tensor of {_form(value)}, not {wanted}")
    return dense(value, who)


def dense(value: Tensor, who: str) -> Tensor:
    """A tensor with values in memory."""
    if value.layout is not torch.strided or value.is_meta:
        raise HookFailed(f"{who} returned a {value.layout} tensor on {value.device}, not a dense one with values")
    return value


def named(value: Any, who: str, what: str) -> dict[str, Tensor]:
    """Tensors by name."""
    if not isinstance(value, Mapping):
        raise HookFailed(f"{who} returned {_kind(value)} as {what}, not a dict of tensors")
    for name, t in value.items():
        if not isinstance(name, str):
            raise HookFailed(f"{who} returned the name {name!r} in {what}, which is no text")
        if not isinstance(t, Tensor):
            raise HookFailed(f"{who} returned {_kind(t)} as {name!r} in {what}, not a tensor")
        dense(t, who)
    return value if isinstance(value, dict) else dict(value)


def pair(value: Any, who: str, first: str) -> tuple[Any, dict[str, Tensor]]:
    """(something, memory)."""
    if not isinstance(value, tuple) or len(value) != 2:
        raise HookFailed(f"{who} returned {_kind(value)}, not a pair of {first} and memory")
    return value[0], named(value[1], who, "its memory")


def uploads(up: Any, who: str, declared: tuple[str, ...], sent: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What travels up: the names that `uploads` declares; a model or a change of it is as long as what was sent."""
    tensors = named(up, who, "its uploads")
    if set(tensors) != set(declared):
        raise HookFailed(f"{who} returned {sorted(tensors)}, but `uploads` declares {sorted(declared)}")
    for name in ("delta", "w"):
        if name in tensors and "w" in sent and tensors[name].shape not in (sent["w"].shape, (0,)):  # (0,): nothing
            raise HookFailed(
                f"{who} returned {name!r} of shape {_shape(tensors[name])}, but was sent 'w' of {_shape(sent['w'])}"
            )
    return tensors


def like(value: Any, w: Tensor, who: str) -> Tensor:
    """As long as the vector that is trained (or the stack of them), and of its kind."""
    if isinstance(value, Tensor) and value.shape == w.shape and value.dtype == w.dtype:
        return value
    form = f"a tensor of {_form(value)}" if isinstance(value, Tensor) else _kind(value)
    raise HookFailed(f"{who} returned {form}, not one like the vector that is trained: {_form(w)}")


def loss(value: Any, w: Tensor, who: str) -> Tensor:
    """One floating-point number per vector."""
    if isinstance(value, Tensor) and value.shape == w.shape[:-1] and value.is_floating_point():
        return value
    form = f"a tensor of {_form(value)}" if isinstance(value, Tensor) else _kind(value)
    raise HookFailed(f"{who} returned {form}, not a scalar floating-point tensor")


def direction(value: Any, w: Tensor, who: str) -> tuple[Tensor, dict[str, Tensor], Tensor]:
    """(gradient, memory, loss)."""
    if not isinstance(value, tuple) or len(value) != 3:
        raise HookFailed(f"{who} returned {_kind(value)}, not a gradient, a memory and a loss")
    g, memory, score = value
    return like(g, w, who), named(memory, who, "its memory"), loss(score, w, who)


def logits(value: Any, batch: int, classes: int, who: str) -> None:
    """[B, classes] floating point."""
    if not isinstance(value, Tensor) or tuple(value.shape) != (batch, classes) or not value.is_floating_point():
        form = f"a tensor of {_form(value)}" if isinstance(value, Tensor) else _kind(value)
        raise HookFailed(f"{who} gave {form} for {batch} samples, not [{batch}, {classes}] of floating-point numbers")


def shapes(tensors: Mapping[str, Tensor]) -> Shapes:
    """Names and shapes, in the order of names."""
    return tuple((k, tuple(t.shape)) for k, t in sorted(tensors.items()))


def _kind(value: Any) -> str:
    return "None" if value is None else f"{type(value).__name__}"


def _shape(t: Tensor) -> str:
    return "[" + ", ".join(map(str, t.shape)) + "]"


def _form(t: Tensor) -> str:
    return f"shape {_shape(t)} and {str(t.dtype).removeprefix('torch.')}"
