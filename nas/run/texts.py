"""A run's texts: the checkpoint that says how they are encoded, their disjoint parts, and what they are scored by."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ortnas.export.metrics import judged_metrics, suitable_metrics
from ortnas.export.part import Part
from ortnas.export.tags import describe_scheme
from ortnas.export.weights import memory_map
from ortnas.nas.architecture.heads import HEADS
from ortnas.nas.console import Console
from ortnas.nas.data import find_task
from ortnas.nas.data.late_texts import LateTexts
from ortnas.nas.files import write_json
from ortnas.nas.judgements import pairs_of
from ortnas.nas.run.checkpoints import checkpoint_folder, content_digest
from ortnas.nas.run.configuration import Configuration, ConfigurationError
from ortnas.nas.run.folder import RunFolder
from ortnas.nas.run.task_data import TaskData, prepare
from ortnas.nas.run.vocabulary import prune, read_pruned
from ortnas.nas.text import Example

if TYPE_CHECKING:
    from ortnas.nas.training.checkpoint.vocabulary import Vocabulary


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
        """Content of a local checkpoint's files; a hub name stands for itself. With what becomes of its vocabulary."""
        return content_digest(self.checkpoint) + (" pruned" if self._is_pruned else "")

    @property
    def _is_pruned(self) -> bool:
        return self._configuration.vocabulary == "prune"

    @property
    def tokenizer_folder(self) -> Path:
        """The checkpoint's tokenizer, saved once, or what is left of it."""
        return self.data.tokenizer_folder if self._is_pruned else self._whole_tokenizer

    @property
    def _whole_tokenizer(self) -> Path:
        _ = self._text_settings
        return self._folder.data / "tokenizer"

    @property
    def vocabulary(self) -> Vocabulary | None:
        """The tokens that are kept; None where all are."""
        return read_pruned(self.data.tokenizer_folder) if self._is_pruned else None

    @property
    def max_length(self) -> int:
        """The most tokens that a text has: as configured, or as the checkpoint says."""
        return self._configuration.data.max_length or int(self._text_settings["max_length"])

    @property
    def prompt(self) -> str:
        """What comes before every text, as the checkpoint's library puts it there."""
        return str(self._text_settings.get("prompt", ""))

    @property
    def late(self) -> LateTexts | None:
        """How queries and documents are read, where late interaction compares them."""
        document = self._text_settings.get("late")
        return None if document is None else LateTexts.from_json(document)

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
            recorded = identity | {"max_length": settings.max_length, "prompt": settings.prompt}
            recorded["prompts"] = list(settings.prompts)
            recorded["late"] = None if settings.late is None else settings.late.to_json()
            write_json(marker, recorded)
        return recorded

    @cached_property
    def data(self) -> TaskData:
        """The task's parts: made once, then read back, so that every stage sees the same texts."""
        with self._console.progress("data") as report:
            data = prepare(
                self._configuration,
                self._folder.data,
                lambda: self._whole_tokenizer,
                report,
                lambda: self.max_length,
                lambda: self.prompt,
                lambda: self.late,
            )
        return self._pruned(data) if self._is_pruned else data

    def _pruned(self, data: TaskData) -> TaskData:
        """The same texts under the tokens that those to train and to calibrate on have."""
        folder = self._folder.data / "pruned"
        identity = {"checkpoint": self.checkpoint_digest, "texts": data.digest}
        prompts = [Example(prompt) for prompt in self._text_settings.get("prompts", ())]
        parts = (data.examples("training"), data.examples("calibration"), prompts)
        prune(self.checkpoint, data.tokenizer_folder, folder, identity, parts)
        return replace(data, tokenizer_folder=folder)

    def part(self, name: str, metric: str | None = None) -> Part:
        """The ``search`` part or one of the report parts, encoded, with labels or the teacher's embeddings; for a
        metric of judged pairs, the pairs that go with it.

        Whether the supernet was trained with this data is not asked; ``Models.part`` does.
        """
        name = self.part_name(name, metric)
        teacher = None
        if not HEADS[self._configuration.head].has_labels:
            teacher = memory_map(self._folder.teacher / "outputs.safetensors")[name]
        judgements = self.data.judgements.get(name)
        return Part(
            self.data.held_out(name), self.data.examples(name), self.data.labels, teacher, judgements=judgements
        )

    def part_name(self, name: str, metric: str | None) -> str:
        """Of the part that a metric is computed on, as ``data`` has it."""
        return pairs_of(name) if metric in HEADS[self._configuration.head].judged_metrics else name

    def size(self, name: str, metric: str) -> int:
        """How many texts, judged pairs or queries of a part a score of that metric is of."""
        name = self.part_name(name, metric)
        judgements, groups = self.data.judgements.get(name), self.data.groups(name)
        if judgements is not None:
            return judgements.size
        return self.data.counts[name] if groups is None else len(set(groups))

    @property
    def metric(self) -> str:
        """The configured metric, or the task's, or the usual one of the head and its labels.

        Raises ConfigurationError for one of another head, or that does not suit the labels or the judged pairs.
        """
        head, metric = self._configuration.head, self._configuration.search.metric
        of_head, judged = HEADS[head].metrics, HEADS[head].judged_metrics
        if metric is not None and metric not in (*of_head, *judged):
            names = ", ".join((*of_head, *judged))
            raise ConfigurationError(f"search.metric = {metric!r} does not fit head {head!r}; {names} do")
        if metric in judged:
            self._check_judged(metric)
        if HEADS[head].labels == "tags":
            suitable = suitable_metrics(head, self.data.labels)
            if metric is not None and metric not in suitable:
                raise ConfigurationError(f"search.metric = {metric!r}: {describe_scheme(self.data.labels)}")
            return metric or suitable[0]
        task = None if self._configuration.data.task is None else find_task(self._configuration.data.task)
        return metric or (task.metric if task and task.head == head else of_head[0])

    def _check_judged(self, metric: str) -> None:
        judgements = next(iter(self.data.judgements.values()), None)
        if judgements is None:
            raise ConfigurationError(
                f"search.metric = {metric!r} needs judged pairs, and there are none: name data.pairs"
            )
        if metric not in (suitable := judged_metrics(judgements)):
            kind = "have scores" if judgements.are_scored else "have no scores"
            raise ConfigurationError(f"search.metric = {metric!r}: the pairs {kind}, and serve {', '.join(suitable)}")

    @property
    def text_metric(self) -> str:
        """The metric, or where that is of judged pairs the usual one of the head, which any few texts will do for."""
        head = HEADS[self._configuration.head]
        return head.metrics[0] if self.metric in head.judged_metrics else self.metric

    @property
    def search_metric(self) -> str:
        """What the search ranks candidates by; the results are reported by ``metric`` all the same.

        It is the head's likelihood, unless that is not wanted or the metric is one of judged pairs.
        """
        ranking = HEADS[self._configuration.head].ranking
        is_judged = self.metric in HEADS[self._configuration.head].judged_metrics
        if self._configuration.search.score_by == "metric" or is_judged or not ranking:
            return self.metric
        return ranking
