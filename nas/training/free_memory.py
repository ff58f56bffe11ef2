"""Memory that the C library holds and nobody uses, given back to the system."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path

# Holes that a training may have before they are given back: taking the memory again costs a large network some 0.3 s.
_MOST_HOLES_BYTES = 1e9


def release_free_memory() -> None:
    """Gives free pages of the heap back; nothing happens where the C library has no such call.

    Batches differ in shape, and glibc lays tensors of up to 32 MB into one heap whose holes it keeps: a training that
    uses 2 GB was seen to hold 5.5 GB after an hour.
    """
    trim = _trim()
    if trim is not None:
        trim(0)


class HoleWatch:
    """Gives free memory back when the process has grown by 1 GB since the first step after the last time.

    A step ends with its activations free and still held, so that the first one tells what a step needs.
    """

    def __init__(self) -> None:
        self._first_bytes: int | None = None

    def after_step(self) -> None:
        resident = _resident_bytes()
        if resident is None:
            return
        if self._first_bytes is None:
            self._first_bytes = resident
        elif resident - self._first_bytes > _MOST_HOLES_BYTES:
            release_free_memory()
            self._first_bytes = None


def _resident_bytes() -> int | None:
    """Of this process; None where the system does not tell."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return None


@cache
def _trim() -> Callable[[int], int] | None:
    try:
        return ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):
        return None
