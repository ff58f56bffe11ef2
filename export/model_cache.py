"""Models that were built, kept for whoever needs them next: scoring, timing, comparing and packaging one subnet."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

_MOST_BYTES = 2**28


class ModelCache:
    """The serialized models that were used last, by any key, and no more bytes of them than ``most_bytes``.

    May be used by several threads. A copy in another process begins empty.
    """

    def __init__(self, most_bytes: int = _MOST_BYTES) -> None:
        self.most_bytes = most_bytes
        self._models: OrderedDict[Any, bytes] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Any, build: Callable[[], bytes]) -> bytes:
        """The model of that key, built where it is not here; two threads that ask at once both build it."""
        with self._lock:
            if key in self._models:
                self._models.move_to_end(key)
                return self._models[key]
        model = build()
        with self._lock:
            self._models[key] = model
            while sum(map(len, self._models.values())) > self.most_bytes:
                self._models.popitem(last=False)
        return model

    def __reduce__(self) -> tuple[type[ModelCache], tuple[int]]:
        return ModelCache, (self.most_bytes,)
