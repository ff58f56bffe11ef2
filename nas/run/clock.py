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
    """Seconds by stage, kept in a file while stages are at work, so that a run that was killed still knows them."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self._started: dict[str, float] = {}
        self._before: dict[str, float] = {}

    def seconds(self) -> dict[str, float]:
        """By the stage's name; empty where nothing was done yet, or the file is damaged."""
        try:
            noted = {str(name): float(seconds) for name, seconds in json.loads(self.file.read_text()).items()}
        except (AttributeError, OSError, TypeError, ValueError):
            noted = {}
        now = time.monotonic()
        return noted | {name: self._before[name] + now - started for name, started in self._started.items()}

    @property
    def total_seconds(self) -> float:
        return sum(self.seconds().values())

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Counts the time of the block as that stage's."""
        self._before[name] = self.seconds().get(name, 0.0)
        self._started[name] = time.monotonic()
        ended = threading.Event()

        def keep_noting() -> None:
            while not ended.wait(_EVERY_S):
                write_json(self.file, self.seconds())

        thread = threading.Thread(target=keep_noting, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
            write_json(self.file, self.seconds())
            del self._started[name]
