"""The C library's allocator, told to keep what training frees.

By default glibc gives freed memory back to the system at once where a block is large, and at the end of the heap; the
next step takes it anew, page by page, and each page is a fault that clears 4 KiB. A step allocates and frees the same
few megabytes over and over, so this was 10 % of a CNN's step and a third of that of a stacked MLP.
"""

from __future__ import annotations

import ctypes
from contextlib import suppress

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
KEPT_BYTES = 1 << 30


def keep_freed_memory() -> bool:
    """Whether it worked: up to KEPT_BYTES of freed memory stay with this process. Elsewhere than on glibc nothing does.

    Holds for the whole process and cannot be undone; results do not depend on it.
    """
    with suppress(AttributeError, OSError, TypeError):
        mallopt = ctypes.CDLL(None).mallopt
        done = [mallopt(what, KEPT_BYTES) for what in (M_TRIM_THRESHOLD, M_MMAP_THRESHOLD)]
        return all(done)
    return False
