"""Memory that the C library holds and nobody uses, given back to the system."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path

# Holes that a training may have before they are given back; to take memory again costs time.
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
    """Gives free memory back when the process holds 1 GB more than a step needs.

    A step ends with its activations free and still held, so that the first one after free memory was given back tells
    what a step needs; of several such, the largest does, since batches differ in length.
    """

    def __init__(self) -> None:
        self._step_bytes, self._is_first = 0, True

    def after_step(self) -> None:
        held = _anonymous_bytes()
        if held is None:
            return
        if self._is_first:
            self._step_bytes, self._is_first = max(self._step_bytes, held), False
        elif held - self._step_bytes > _MOST_HOLES_BYTES:
            release_free_memory()
            self._is_first = True


def _anonymous_bytes() -> int | None:
    """What this process holds in memory of no file; None where the system does not tell."""
    try:
        _, resident, of_files, *_ = map(int, Path("/proc/self/statm").read_text().split())
        return (resident - of_files) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return None


@cache
def _trim() -> Callable[[int], int] | None:
    try:
        return ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):
        return None
