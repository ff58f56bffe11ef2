"""Memory that the C library holds and nobody uses, given back to the system."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache


def release_free_memory() -> None:
    """Gives free pages of the heap back; nothing happens where the C library has no such call.

    Batches differ in shape, and glibc lays tensors of up to 32 MB into one heap whose holes it keeps: a training that
    uses 2 GB was seen to hold 5.5 GB after an hour.
    """
    trim = _trim()
    if trim is not None:
        trim(0)


@cache
def _trim() -> Callable[[int], int] | None:
    try:
        return ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):
        return None
