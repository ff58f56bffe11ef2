"""Signals as children of a terminal's commands get them."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def default_signals() -> Iterator[None]:
    """Children that are started meanwhile end by SIGINT, also where this process ignores it: shells have the background
    jobs of scripts do so, and what is ignored stays ignored in all children."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
