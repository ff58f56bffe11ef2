"""How long a run's commands have worked, over all starts."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ortnas.nas.files import write_json

# What a kill may leave uncounted.
_EVERY_S = 5.0


class Clock:
    """Seconds by stage, kept in a file while a stage is at work, so that a run that was killed still knows them."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def seconds(self) -> dict[str, float]:
        """By the stage's name; empty where nothing was done yet, or the file is damaged."""
        try:
            return {str(name): float(seconds) for name, seconds in json.loads(self.file.read_text()).items()}
        except (AttributeError, OSError, TypeError, ValueError):
            return {}

    @property
    def total_seconds(self) -> float:
        return sum(self.seconds().values())

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Counts the time of the block as that stage's."""
        before, started = self.seconds(), time.monotonic()
        ended = threading.Event()

        def note() -> None:
            write_json(self.file, before | {name: before.get(name, 0.0) + time.monotonic() - started})

        def keep_noting() -> None:
            while not ended.wait(_EVERY_S):
                note()

        thread = threading.Thread(target=keep_noting, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
            note()
