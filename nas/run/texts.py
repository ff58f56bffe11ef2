"""A run's texts: the checkpoint that says how they are encoded, their disjoint parts, and what they are scored by."""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path
from typing import Any

from ortnas.export.metrics import Part, suitable_metrics
from ortnas.export.tags import describe_scheme
from ortnas.export.weights import memory_map
from ortnas.nas.architecture.heads import HEADS
from ortnas.nas.console import Console
from ortnas.nas.data import find_task
from ortnas.nas.files import write_json
from ortnas.nas.run.checkpoints import checkpoint_folder, content_digest
from ortnas.nas.run.configuration import Configuration, ConfigurationError
from ortnas.nas.run.folder import RunFolder
from ortnas.nas.run.task_data import TaskData, prepare


class Texts:
    """What is known of the texts before anything is trained."""

    def __init__(self, configuration: Configuration, console: Console, run_folder: RunFolder) -> None:
        self._configuration, self._console, self._folder = configuration, console, run_folder

    @property
    def checkpoint(self) -> str:
        """The checkpoint's folder or hub name, with ``package:`` names resolved to the installed package."""
        return checkpoint_folder(self._configuration.checkpoint)

    @cached_property
    def checkpoint_digest(self) -> str:
        """Content of a local checkpoint's files; a hub name stands for itself."""
        return content_digest(self.checkpoint)

    @property
    def tokenizer_folder(self) -> Path:
        """The checkpoint's tokenizer, saved once."""
        _ = self._text_settings
        return self._folder.data / "tokenizer"

    @property
    def max_length(self) -> int:
        """The most tokens that a text has: as configured, or as the checkpoint says."""
        return self._configuration.data.max_length or int(self._text_settings["max_length"])

    @cached_property
    def _text_settings(self) -> dict[str, Any]:
        """What was read of the checkpoint for its texts, beside the tokenizer's folder."""
        marker = self._folder.data / "checkpoint.json"
        head = self._configuration.head
        identity = {"name": self.checkpoint, "digest": self.checkpoint_digest, "head": head}
        recorded: dict[str, Any] = json.loads(marker.read_text()) if marker.is_file() else {}
        # A checkpoint that is gone since is no reason to refuse what was made of it.
        gone = recorded.get("name") == self.checkpoint and not Path(self.checkpoint).expanduser().exists()
        if not gone and {key: recorded.get(key) for key in identity} != identity:
            from ortnas.nas.training.checkpoint.reading import read_text_settings

            settings = read_text_settings(self.checkpoint, head)
            settings.tokenizer.save(self._folder.data / "tokenizer")
            recorded = identity | {"max_length": settings.max_length}
            write_json(marker, recorded)
        return recorded

    @cached_property
    def data(self) -> TaskData:
        """The task's parts: made once, then read back, so that every stage sees the same texts."""
        with self._console.progress("data") as report:
            return prepare(
                self._configuration, self._folder.data, lambda: self.tokenizer_folder, report, lambda: self.max_length
            )

    def part(self, name: str) -> Part:
        """The ``search`` part or one of the report parts, encoded, with labels or the teacher's embeddings.

        Whether the supernet was trained with this data is not asked; ``Models.part`` does.
        """
        teacher = None
        if not HEADS[self._configuration.head].has_labels:
            teacher = memory_map(self._folder.teacher / "outputs.safetensors")[name]
        return Part(self.data.held_out(name), self.data.examples(name), self.data.labels, teacher)

    @property
    def metric(self) -> str:
        """The configured metric, or the task's, or the usual one of the head and its labels.

        Raises ConfigurationError for one of another head, or that does not suit the labels.
        """
        head, metric = self._configuration.head, self._configuration.search.metric
        of_head = HEADS[head].metrics
        if metric is not None and metric not in of_head:
            raise ConfigurationError(f"search.metric = {metric!r} does not fit head {head!r}; {', '.join(of_head)} do")
        if HEADS[head].labels == "tags":
            suitable = suitable_metrics(head, self.data.labels)
            if metric is not None and metric not in suitable:
                raise ConfigurationError(f"search.metric = {metric!r}: {describe_scheme(self.data.labels)}")
            return metric or suitable[0]
        task = self._configuration.data.task
        return metric or (find_task(task).metric if task else of_head[0])

    @property
    def search_metric(self) -> str:
        """What the search ranks candidates by; the results are reported by ``metric`` all the same."""
        return self.metric if self._configuration.search.score_by == "metric" else "log_likelihood"
