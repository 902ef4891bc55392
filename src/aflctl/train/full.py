"""When a device's memory is full: how torch says so."""

from __future__ import annotations

import torch

CPU_SAYS = ("can't allocate memory", "not enough memory")


def out_of_memory(error: BaseException) -> bool:
    """Whether an allocation failed. torch has an exception of its own for GPUs only; on CPU it is told by its text."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in CPU_SAYS)


def first_line(error: BaseException) -> str:
    """What was said, without torch's advice about its allocator."""
    return (str(error).splitlines() or [type(error).__name__])[0]
