"""Scores on disk: what was once computed is not computed again, in this run or another."""

from __future__ import annotations

import base64
import threading
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ortnas.nas.arrays import Vector
from ortnas.nas.files import append_line, read_lines


@dataclass(frozen=True)
class CachedScore:
    """A score, and what each text added to it, (texts,), where the metric is a mean over texts."""

    score: float
    values: Vector | None = None


class ScoreCache:
    """Scores of one context by subnet key. ``file`` is JSON Lines; entries of other contexts are left alone.

    May be used by several threads.
    """

    def __init__(self, file: Path, context: str) -> None:
        self.file, self.context = file, context
        self._lock = threading.Lock()
        self._scores = {
            entry["subnet_key"]: CachedScore(entry["score"], _unpack(entry.get("values")))
            for entry in read_lines(file)
            if entry["context"] == context
        }

    def get(self, subnet_key: str) -> CachedScore | None:
        return self._scores.get(subnet_key)

    def put(self, subnet_key: str, cached: CachedScore) -> None:
        entry = {"context": self.context, "subnet_key": subnet_key, "score": cached.score}
        if cached.values is not None:
            entry["values"] = _pack(cached.values)
        with self._lock:
            append_line(self.file, entry)
            self._scores[subnet_key] = cached


def _pack(values: Vector) -> str:
    """Compressed float32; rights and wrongs take a bit or two each."""
    return base64.b64encode(zlib.compress(values.astype("<f4").tobytes())).decode()


def _unpack(text: str | None) -> Vector | None:
    if text is None:
        return None
    return np.frombuffer(zlib.decompress(base64.b64decode(text)), "<f4").astype(np.float64)
