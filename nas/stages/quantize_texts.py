"""Texts for a checkpoint that is quantized as it is: found, read, matched with its labels and encoded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ortnas.export.inference import model_outputs
from ortnas.export.metrics import find_thresholds, judged_metrics, needs_thresholds, suitable_metrics
from ortnas.export.part import Outputs, Part, Thresholds
from ortnas.nas.architecture.heads import HEADS
from ortnas.nas.arrays import Feeds
from ortnas.nas.console import Console
from ortnas.nas.data import Asked, DataSource, Sizes, find_task, guess_source, serves
from ortnas.nas.data.guess import Guess, guess_file
from ortnas.nas.data.labels import in_order
from ortnas.nas.data.rows import Row
from ortnas.nas.data.source_texts import SourceTexts, read_source_texts, stand_in_texts, with_columns
from ortnas.nas.data.splits import WITH_IDS
from ortnas.nas.failures import CheckpointError, DataError
from ortnas.nas.stages.teacher_labels import EVEN, labelled_by
from ortnas.nas.text import EncodedExamples, Example, encode, load_tokenizer, with_prompt
from ortnas.nas.wording import listed

if TYPE_CHECKING:
    from ortnas.nas.training.checkpoint.reading import Checkpoint

CALIBRATION_TEXTS = 64
# Texts in a batch: of so few, larger batches are padding for the most part.
BATCH = 4
_SEED = 0


@dataclass(frozen=True)
class TextChoice:
    """Where texts are and what they are for, as far as a user says; ``source`` None for texts of our own."""

    source: str | None
    asked: Asked
    task: str | None = None


@dataclass(frozen=True)
class QuantizeTexts:
    """``calibration`` is what ranges are measured on; models are scored on ``part`` by ``metric``.

    Where texts are not ``are_labelled``, the float model's answers are taken to be right: then scores say how far
    others agree with it. ``are_shared``: both are the same texts.
    """

    calibration: Part
    part: Part
    metric: str
    are_labelled: bool
    are_shared: bool

    @property
    def batches(self) -> list[Feeds]:
        return [feeds for _, feeds in self.calibration.encoded.batches(BATCH)]

    def to_json(self) -> dict[str, Any]:
        return {
            "metric": self.metric,
            "calibration": self.calibration.size,
            "scored": self.part.size,
            "are_labelled": self.are_labelled,
            "are_shared": self.are_shared,
        }

    def answered_by(self, head: str, outputs: Outputs) -> QuantizeTexts:
        """With the float model's outputs on ``part`` as the right ones where there are no labels, and as the teacher's
        where embeddings are scored."""
        if self.are_labelled and HEADS[head].has_labels:
            return self
        return replace(self, part=labelled_by(head, self.part, outputs))

    def thresholds(self, head: str, model: bytes) -> Thresholds:
        """From where on its outputs become answers, found on the calibration texts; even chances without labels."""
        if not needs_thresholds(head, self.part):
            return Thresholds()
        if not self.are_labelled and HEADS[head].takes_label_sets:
            return Thresholds(label_thresholds=(EVEN,) * len(self.part.label_names))
        return find_thresholds(head, model_outputs(model, self.calibration.encoded, head), self.calibration)


def choose_head(place: str, choice: TextChoice, console: Console) -> tuple[str, DataSource | None]:
    """The head that is asked for, else the checkpoint's own, else what the data is for; and where its texts are.

    Raises CheckpointError and DataError.
    """
    from ortnas.nas.training.checkpoint.stated_head import stated_heads

    if choice.source is not None and is_path(choice.source) and not Path(choice.source).expanduser().exists():
        raise DataError(
            f"{choice.source}: no such file or folder; give a file with a text a line, a table, or a folder with a "
            f"training and a dev file"
        )
    stated = () if choice.asked.head else stated_heads(place)
    head, notes = choice.asked.head, list[str]()
    if choice.task is not None and head is None:
        task = find_task(choice.task)
        head = next((own for own in stated if serves(task, own)), task.head)
    if head is None and len(stated) == 1:
        (head,) = stated
    if head is None and choice.source is not None:
        guess = _guess_head(choice.source, choice.asked, stated)
        head = guess.head
        notes += guess.assumed
    if head is None:
        head = stated[0] if stated else next(name for name, row in HEADS.items() if row.makes_embeddings)
        if not stated:
            notes.append(f"the checkpoint names no task; head {head} is assumed, --head says otherwise")
    if head not in HEADS:
        raise DataError(f"there is no head {head!r}; heads are {', '.join(HEADS)}")
    source = None if choice.source is None else _source(choice.source, choice, head, notes)
    _say_notes(console, list(dict.fromkeys(notes)))
    return head, source


def _guess_head(source: str, asked: Asked, stated: Sequence[str]) -> Guess:
    """What the data is for, within what the checkpoint says that it is for. Raises DataError."""
    path = Path(source).expanduser()
    if not stated:
        return guess_source(source, asked)
    try:
        guess = guess_file(path, asked) if path.is_file() else guess_source(source, asked)
    except DataError:
        return Guess(stated[0], {})
    return guess if guess.head in stated else Guess(stated[0], {})


def _source(source: str, choice: TextChoice, head: str, notes: list[str]) -> DataSource:
    asked, columns = choice.asked, choice.asked.columns
    if choice.task is None and (Path(source).expanduser().is_dir() or not HEADS[head].has_labels):
        guess = guess_source(source, asked._replace(head=head))
        notes += guess.assumed
        columns = dict(guess.columns)
    return with_columns(DataSource(source, choice.task), columns)


def is_path(source: str) -> bool:
    """Whether a source is a file or a folder, and neither of a hub nor what Python brings."""
    from ortnas.nas.data.hub import HUB_PREFIX
    from ortnas.nas.data.packages import PYTHON_TEXTS

    return source not in PYTHON_TEXTS and not source.startswith(HUB_PREFIX)


def read_texts(
    source: DataSource | None,
    checkpoint: Checkpoint,
    tokenizer_folder: Path,
    size: int,
    max_length: int,
    console: Console,
) -> QuantizeTexts:
    """At most ``size`` texts to score on, a quarter of them where they have no labels.

    Raises DataError, TokenizerError and CheckpointError.
    """
    head, notes = checkpoint.dimensions.head, list[str]()
    sizes = Sizes(CALIBRATION_TEXTS, size, size)
    texts = stand_in_texts(head) if source is None else read_source_texts(source, head, sizes, _SEED, notes)
    _say_notes(console, notes)
    tokenizer = load_tokenizer(tokenizer_folder)
    if not texts.are_labelled and not HEADS[head].ranks:
        # How far models agree is known well from fewer texts than how often they are right.
        texts = texts._replace(scored=texts.scored[: size // 4])
    rows = [*texts.calibration, *(() if texts.are_shared else texts.scored)]
    if HEADS[head].has_label_names and texts.are_labelled:
        ids = _rows_of_labels(checkpoint, texts, tokenizer_folder, max_length, console)
        with_ids = WITH_IDS[HEADS[head].labels]
        examples = [with_ids(row.example, [ids[name] for name in row.names]) for row in rows]
    else:
        examples = [row.example for row in rows]
    examples = [*with_prompt(examples, checkpoint.prompt)]
    first, others = examples[: len(texts.calibration)], examples[len(texts.calibration) :]
    if HEADS[head].fills_masks:
        from ortnas.nas.data.masking import masking_by

        masking, rng = masking_by(tokenizer), np.random.default_rng(_SEED)

        def encoded(part: Sequence[Example]) -> Part:
            return Part(masking.masked(encode(tokenizer, part, max_length), rng))

        texts = texts._replace(are_labelled=True)
    else:

        def encoded(part: Sequence[Example]) -> Part:
            return Part(encode(tokenizer, part, max_length), part, checkpoint.labels)

    calibration = encoded(first)
    if texts.judgements is not None and checkpoint.late is not None:
        queries, rows_scored = set(texts.judgements.queries), [row.example for row in texts.scored]
        others = checkpoint.late.with_prompts(rows_scored, queries)
        scored = Part(checkpoint.late.encode(tokenizer, others, queries, max_length), others)
    else:
        scored = calibration if texts.are_shared else encoded(others)
    scored = replace(scored, judgements=texts.judgements)
    return QuantizeTexts(calibration, scored, _metric(source, checkpoint, scored), texts.are_labelled, texts.are_shared)


def _metric(source: DataSource | None, checkpoint: Checkpoint, part: Part) -> str:
    """The task's, or the usual one of the head and its labels, or of judged pairs."""
    head = checkpoint.dimensions.head
    if part.judgements is not None:
        return judged_metrics(part.judgements)[0]
    if source is not None and source.task is not None and find_task(source.task).head == head:
        return find_task(source.task).metric
    return suitable_metrics(head, checkpoint.labels)[0]


def _rows_of_labels(
    checkpoint: Checkpoint, texts: SourceTexts, tokenizer_folder: Path, max_length: int, console: Console
) -> Mapping[str, int]:
    """The classifier's row of each label of the data. Raises DataError where names do not tell, and CheckpointError
    where the texts do not tell either."""
    from ortnas.nas.stages.label_order import find_order
    from ortnas.nas.training.checkpoint.labels import match_labels

    labels = texts.declared or in_order({name for row in (*texts.calibration, *texts.scored) for name in row.names})
    remedy = "rename them in the data, or give the texts without their labels"
    try:
        matched = match_labels(checkpoint.name, checkpoint.labels, labels, {})
    except CheckpointError:
        matched = None
    if matched is None:
        raise DataError(
            f"the labels of the data are {listed(labels)}, the checkpoint's are {listed(checkpoint.labels)}; {remedy}"
        )
    rows = matched.rows
    if rows is None:
        numbers = {name: number for number, name in enumerate(labels)}
        with_ids = WITH_IDS[HEADS[checkpoint.dimensions.head].labels]
        labelled = [with_ids(row.example, [numbers[name] for name in row.names]) for row in texts.calibration]
        encoded: EncodedExamples = encode(load_tokenizer(tokenizer_folder), labelled, max_length)
        rows, sentence = find_order(checkpoint, encoded, labels, _by_appearance(texts.calibration, numbers), remedy)
        console.say(f"warning: {sentence}")
    else:
        own = {label: checkpoint.labels[row] for label, row in zip(labels, rows, strict=True)}
        if renamed := [f"{label} is {name}" for label, name in own.items() if label != name]:
            _say_notes(console, [f"labels of the data and of the checkpoint: {listed(renamed)}"])
    return dict(zip(labels, rows, strict=True))


def _by_appearance(rows: Sequence[Row], numbers: Mapping[str, int]) -> list[int]:
    return list(dict.fromkeys(numbers[name] for row in rows for name in row.names))


def _say_notes(console: Console, notes: Sequence[str]) -> None:
    for note in notes:
        console.say(f"note: {note}")
