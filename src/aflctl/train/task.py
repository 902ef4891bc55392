"""A model and its loss as functions of one flat vector."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

if TYPE_CHECKING:
    from aflctl.api import Batch, DataSpec, Layout


def aligned(t: Tensor) -> Tensor:
    """A fresh, contiguous, 64-byte aligned float32 copy; a view at an odd offset changes a matmul's last bits."""
    return t.detach().to(torch.float32).clone(memory_format=torch.contiguous_format)


class FlatTask:
    """`logits`, `embed` and `loss` of a module whose parameters are read from a flat vector [P] at each call.

    The module's own parameters are taken out; before each call the vector is cut with one `torch.split` (its backward
    is one `cat`) and the pieces are put where the module looks for them, so the module's code runs unchanged, alone and
    under `torch.func` transforms. Floating-point buffers (BatchNorm statistics) form a second vector that belongs to
    the engine: `running` is what the next training call reads and updates in place.
    """

    def __init__(self, module: nn.Module, spec: DataSpec) -> None:
        self.module, self.spec, self.modal = module, spec, len(spec.modalities) > 1
        names: dict[int, str] = {}
        self._slots: list[tuple[nn.Module, str, int]] = []
        self._shapes: list[tuple[int, ...]] = []
        self._sizes: list[int] = []
        layout: dict[str, tuple[slice, tuple[int, ...]]] = {}
        kinds: dict[str, str] = {}
        first: list[Tensor] = []
        at = 0
        for name, owner, attribute, parameter in list(_parameters(module)):
            if id(parameter) not in names:
                names[id(parameter)] = name
                size, shape = parameter.numel(), tuple(parameter.shape)
                layout[name], kinds[name] = (slice(at, at + size), shape), type(owner).__name__
                self._sizes.append(size)
                self._shapes.append(shape)
                first.append(parameter.detach().reshape(-1).to(torch.float32))
                at += size
            self._slots.append((owner, attribute, list(layout).index(names[id(parameter)])))
        for owner, attribute, _ in self._slots:
            del owner._parameters[attribute]
        self.layout: Layout = layout
        self.modules = kinds
        self.init = aligned(torch.cat(first)) if first else torch.zeros(0)
        self._buffers: list[tuple[nn.Module, str, int, tuple[int, ...]]] = []
        buffer_layout: dict[str, tuple[slice, tuple[int, ...]]] = {}
        at = 0
        for name, owner, attribute, buffer in _buffers(module):
            if buffer.is_floating_point():
                size, shape = buffer.numel(), tuple(buffer.shape)
                self._buffers.append((owner, attribute, size, shape))
                buffer_layout[name], kinds[name] = (slice(at, at + size), shape), type(owner).__name__
                at += size
        self.buffer_layout: Layout = buffer_layout
        self.flops: dict[str, float] = {}
        held = [owner._buffers[attribute] for owner, attribute, _, _ in self._buffers]
        self.buffers = torch.cat([b.reshape(-1) for b in held if b is not None]) if held else torch.zeros(0)
        for owner, attribute, _, _ in self._buffers:
            del owner._buffers[attribute]
        self.running = self.buffers.clone()
        self.random = any(isinstance(m, (nn.Dropout, nn.Dropout1d, nn.Dropout2d)) and m.p > 0 for m in module.modules())
        self._head = next((m for m in reversed(list(module.modules())) if isinstance(m, nn.Linear)), None)
        self.activations = 0.0
        self._training = True
        module.train()

    def to(self, device: torch.device) -> FlatTask:
        """Moves what the task itself holds."""
        self.module.to(device)
        self.init, self.buffers, self.running = (t.to(device) for t in (self.init, self.buffers, self.running))
        return self

    def clone(self) -> FlatTask:
        """The same task with a module of its own, for another thread."""
        for owner, attribute, _ in self._slots:
            owner.__dict__.pop(attribute, None)
        return deepcopy(self)

    @property
    def size(self) -> int:
        """P."""
        return sum(self._sizes)

    def parts(self, w: Tensor) -> dict[str, Tensor]:
        """Name -> tensor in its own shape."""
        return {
            name: p.view(s) for name, p, s in zip(self.layout, torch.split(w, self._sizes), self._shapes, strict=True)
        }

    def logits(self, w: Tensor, x: Any, present: Tensor | None = None) -> Tensor:
        """[B, classes]."""
        self._bind(w)
        return self.module(x, present) if self.modal else self.module(x)  # type: ignore[no-any-return]

    def embed(self, w: Tensor, x: Any, present: Tensor | None = None) -> Tensor:
        """[B, D], what the model's own `embed` returns, else the input of its last linear layer."""
        if hasattr(self.module, "embed"):
            self._bind(w)
            return self.module.embed(x, present) if self.modal else self.module.embed(x)  # type: ignore[operator, no-any-return]
        if self._head is None:
            raise TypeError(
                f"{type(self.module).__name__} has neither embed(x) nor a linear layer, which this method needs"
            )
        seen: list[Tensor] = []
        hook = self._head.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
        try:
            self.logits(w, x, present)
        finally:
            hook.remove()
        return seen[-1]

    def loss(self, w: Tensor, batch: Batch) -> Tensor:
        """[] mean cross-entropy over the samples with mask 1."""
        return mean_loss(self.logits(w, batch.x, batch.present), batch)

    def logits_of(self, parts: Sequence[Tensor], x: Any, present: Tensor | None = None) -> Tensor:
        """[B, classes] from the vector's pieces, each in its own shape."""
        self._put(parts)
        return self.module(x, present) if self.modal else self.module(x)  # type: ignore[no-any-return]

    def views(self, w: Tensor) -> list[Tensor]:
        """The pieces of a vector [P] in their own shapes, sharing its memory."""
        return [p.view(s) for p, s in zip(torch.split(w, self._sizes), self._shapes, strict=True)]

    def cut(self, w: Tensor) -> list[Tensor]:
        """The pieces of [..., P] in their own shapes, behind the leading axes."""
        lead = w.shape[:-1]
        return [p.reshape(*lead, *s) for p, s in zip(torch.split(w, self._sizes, dim=-1), self._shapes, strict=True)]

    def training(self, on: bool) -> None:
        """Training or evaluation mode, and which buffers are read."""
        if on != self._training:
            self.module.train(on)
            self._training = on

    def _bind(self, w: Tensor) -> None:
        self._put([p.view(s) for p, s in zip(torch.split(w, self._sizes), self._shapes)])

    def _put(self, pieces: Sequence[Tensor]) -> None:
        for owner, attribute, i in self._slots:
            _put(owner, attribute, pieces[i])
        if self._buffers:
            at = 0
            for owner, attribute, size, shape in self._buffers:
                owner.__dict__[attribute] = self.running[at : at + size].view(shape)
                at += size


def mean_loss(logits: Tensor, batch: Batch) -> Tensor:
    """[...] mean over the last axis of the batch: logits [..., B, classes], y and mask [..., B]."""
    each = F.cross_entropy(logits.flatten(0, -2), batch.y.flatten(), reduction="none").view(batch.y.shape)
    return (each * batch.mask).sum(-1) / batch.mask.sum(-1).clamp(min=1.0)


def _put(owner: nn.Module, attribute: str, value: Tensor) -> None:
    if isinstance(owner, nn.RNNBase):
        setattr(owner, attribute, value)  # keeps its list of flat weights in step
    else:
        owner.__dict__[attribute] = value


def _parameters(module: nn.Module) -> Any:
    for prefix, owner in module.named_modules():
        for attribute, parameter in owner._parameters.items():
            if parameter is not None:
                yield (f"{prefix}.{attribute}" if prefix else attribute), owner, attribute, parameter


def _buffers(module: nn.Module) -> Any:
    for prefix, owner in module.named_modules():
        for attribute, buffer in owner._buffers.items():
            if buffer is not None:
                yield (f"{prefix}.{attribute}" if prefix else attribute), owner, attribute, buffer
