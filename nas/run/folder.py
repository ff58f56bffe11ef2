"""A run folder: where its files lie, who holds it, and what happened in it."""

from __future__ import annotations

import copy
import os
import time
from pathlib import Path
from typing import Any

import yaml

from ortnas.nas.files import RESOLVED_FILE, append_line, write_aside
from ortnas.nas.run.configuration import Configuration, ConfigurationError
from ortnas.nas.run.lock import FolderLock, HeldError
from ortnas.search.budget import file_name_of


class RunFolder:
    """Paths, lock and events. Nothing is written before it is held. Raises ConfigurationError where it is a file."""

    def __init__(self, configuration: Configuration) -> None:
        self._configuration = configuration
        self.path = Path(configuration.folder)
        if self.path.exists() and not self.path.is_dir():
            raise ConfigurationError(f"folder = {configuration.folder!r}: a file with that name exists")
        self.supernet = self.path / "supernet"
        self.teacher = self.path / "teacher"
        self.training = self.path / "training"
        self.signals = self.path / "signals"
        self.data = self.path / "data"
        self.store_file = self.path / "bench.sqlite"
        self.predictors = self.path / "predictor"
        self.scores_file = self.path / "search" / "scores.jsonl"
        self.packages = self.path / "packages"
        self._lock: FolderLock | None = None

    @property
    def processes(self) -> int:
        """How many processes `accelerate launch` started for this command."""
        return int(os.environ.get("WORLD_SIZE", "1"))

    @property
    def rank(self) -> int:
        """This process's number among them; the first one speaks and writes for all."""
        return int(os.environ.get("RANK", "0"))

    def hold(self) -> str:
        """Makes the folder, keeps other commands out of it and writes ``resolved.yaml``; processes of one distributed
        training share it.

        Returns a sentence where a killed command had left its lock, else an empty text. Raises ConfigurationError
        where another command is at work in it.
        """
        if self.rank:
            return ""
        self.path.mkdir(parents=True, exist_ok=True)
        lock = FolderLock(self.path)
        try:
            sentence = lock.take()
        except HeldError as error:
            raise ConfigurationError(f"folder = {self._configuration.folder!r}: {error}") from None
        self._lock = lock
        resolved = yaml.safe_dump(self._configuration.model_dump(mode="json"), sort_keys=False)
        write_aside(self.path / RESOLVED_FILE, resolved)
        return sentence

    def release(self) -> None:
        if self._lock is not None:
            self._lock.release()

    def search(self, budget: str) -> Path:
        """Where the search for a budget is written down, at the run's precision."""
        return self.path / "search" / f"{self._configuration.precision}-{file_name_of(budget)}"

    def delivering_to(self, packages: Path) -> RunFolder:
        """The same folder, whose packages lie elsewhere."""
        other = copy.copy(self)
        other.packages = packages
        return other

    def event(self, stage: str, **figures: Any) -> None:
        append_line(self.path / "events.jsonl", {"time": time.time(), "stage": stage, **figures})
