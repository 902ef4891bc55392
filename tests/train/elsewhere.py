"""A device that is not there: tensors that say they are elsewhere, compute on the CPU, and refuse to be mixed.

torch's `meta` device stands for the GPU. A tensor on it holds its values in an ordinary tensor; an operation on tensors
of both places raises as it would on a GPU, and every value that comes back is counted: on a GPU that is a moment in
which the host waits. What it cannot show: kernels that add in another order, speed, memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

PLACE = torch.device("meta")
CPU = torch.device("cpu")
aten = torch.ops.aten
CROSSING = {aten._to_copy.default, aten.copy_.default}
INDEXING = {aten.index.Tensor, aten.index_put.default, aten.index_put_.default}
"""Positions may be on the CPU, as on a GPU; they are sent there."""
READING = {aten._local_scalar_dense.default, aten.equal.default, aten.nonzero.default}


class Far(Tensor):
    """A tensor elsewhere; `near` has its values."""

    near: Tensor
    is_meta = False  # unlike others of that place it has values

    @staticmethod
    def __new__(cls, near: Tensor) -> Far:
        far = Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls, near.size(), strides=near.stride(), storage_offset=near.storage_offset(), dtype=near.dtype,
            device=PLACE, requires_grad=near.requires_grad,
        )  # fmt: skip
        far.near = near
        return far  # type: ignore[no-any-return]

    def __repr__(self, **_: Any) -> str:  # type: ignore[override]
        return f"Far({self.near})"

    def tolist(self) -> Any:
        """Values brought back, as numbers."""
        READ.append("tolist")
        return self.near.tolist()

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return carried(func, args, kwargs or {})


def carried(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """One operation, wherever its tensors are."""
    found = [t for t in tree_flatten((args, kwargs))[0] if isinstance(t, Tensor)]
    far = [t for t in found if isinstance(t, Far)]
    asked = kwargs.get("device")
    there = bool(far) if asked is None else torch.device(asked) == PLACE
    if far and func not in CROSSING and func not in INDEXING:
        strangers = [t for t in found if not isinstance(t, Far) and t.dim() > 0]
        if strangers:
            raise RuntimeError(f"{func}: tensors in two places, one of shape {tuple(strangers[0].shape)} is on the CPU")
    back = far and (func in READING or (func in CROSSING and (not there or not isinstance(args[0], Far))))
    if back:
        READ.append(str(func))
    if asked is not None:
        kwargs = {**kwargs, "device": CPU}
    near = tree_map(lambda t: t.near if isinstance(t, Far) else t, (args, kwargs))
    out = func(*near[0], **near[1])
    if func is aten.copy_.default or (func._schema.is_mutable and not func._schema.name.endswith(".out")):
        return args[0] if func._schema.returns and isinstance(out, Tensor) else out
    return tree_map(lambda t: Far(t) if isinstance(t, Tensor) and there else t, out)


READ: list[str] = []
"""Operations that brought values back since `elsewhere` began."""


class Factories(TorchDispatchMode):
    """Sends what asks for the place there."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if any(issubclass(t, Far) for t in types) or (
            kwargs.get("device") is not None and torch.device(kwargs["device"]) == PLACE
        ):
            return carried(func, args, kwargs)
        return func(*args, **kwargs)


@contextmanager
def elsewhere() -> Iterator[list[str]]:
    """While this lasts, `device=PLACE` works; gives the list of operations that brought values back."""
    READ.clear()
    with Factories():
        yield READ
