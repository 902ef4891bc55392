"""Forward FLOPs of one sample, by torch's own counter."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from aflctl.errors import HookFailed
from aflctl.train import answers

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


def count_activations(module: nn.Module, spec: DataSpec) -> float:
    """Floats that one sample keeps for the backward pass: the inputs and the outputs of every innermost module."""
    batch, kept = 2, [0]
    x, present = example(spec, batch)

    def seen(part: nn.Module, given: Any, out: Any) -> None:
        made = out if isinstance(out, tuple | list) else (out,)
        kept[0] += sum(t.numel() for t in made if isinstance(t, torch.Tensor))

    hooks = [p.register_forward_hook(seen) for p in module.modules() if not any(True for _ in p.children())]
    state = {k: v.clone() for k, v in module.state_dict().items()}
    module.train()
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            logits = module(x, present) if len(spec.modalities) > 1 else module(x)
    finally:
        for hook in hooks:
            hook.remove()
    answers.logits(logits, batch, spec.classes, type(module).__name__)
    module.load_state_dict(state)
    inputs = sum(t.numel() for t in (x if isinstance(x, tuple) else (x,)))
    return float(kept[0] + inputs) / batch


def draws(module: nn.Module, spec: DataSpec) -> bool:
    """Whether a forward pass in training mode draws random numbers (dropout, wherever it hides), found by trying."""
    x, present = example(spec, 2)
    state = {k: v.clone() for k, v in module.state_dict().items()}
    module.train()
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        before = torch.get_rng_state()
        module(x, present) if len(spec.modalities) > 1 else module(x)
        moved = not torch.equal(before, torch.get_rng_state())
    module.load_state_dict(state)
    return moved


def _count(module: nn.Module, spec: DataSpec) -> tuple[float, dict[str, float]]:
    """(FLOPs of one sample in all, the same by module name)."""
    batch = 2
    x, present = example(spec, batch)
    state = {k: v.clone() for k, v in module.state_dict().items()}
    counter, hooks = _Counter(), []
    for name, part in module.named_modules():
        hooks.append(part.register_forward_pre_hook(lambda *_, name=name: counter.inside.append(name)))
        hooks.append(part.register_forward_hook(lambda *_: counter.inside.pop() and None, always_call=True))
    module.train()
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]), counter:
            module(x, present) if len(spec.modalities) > 1 else module(x)
    finally:
        for hook in hooks:
            hook.remove()
    module.load_state_dict(state)
    return counter.counted.get("", 0.0) / batch, {name: n / batch for name, n in counter.counted.items()}


class _Counter(TorchDispatchMode):
    """Torch's own formulas, applied to every operation; each counts for all modules it happens inside of.

    Torch's `FlopCounterMode` does the same, but loads the whole compiler at its first operation (two seconds).
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.inside: list[str] = []
        self.counted: dict[str, float] = {}

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        formula = flop_registry.get(func._overloadpacket)
        if formula is None:
            with self:
                parts = func.decompose(*args, **kwargs)
                if parts is not NotImplemented:
                    return parts
        out = func(*args, **kwargs)
        if formula is not None:
            n = float(formula(*args, **kwargs, out_val=out))
            for name in {"", *self.inside}:
                self.counted[name] = self.counted.get(name, 0.0) + n
        return out
