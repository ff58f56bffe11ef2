"""Texts without labels, labelled by a model's own answers: scores of others are then how often they agree with it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ortnas.export.answers import best_spans
from ortnas.export.label_sets import probabilities
from ortnas.export.part import Outputs, Part
from ortnas.export.query_ranks import query_rows
from ortnas.export.vectors import stack_rows
from ortnas.nas.architecture.heads import HEADS, Labels
from ortnas.nas.text import IGNORED, Example

# A text has a label whose probability reaches this, where nobody said which texts have it.
EVEN = 0.5


def labelled_by(head: str, part: Part, outputs: Outputs) -> Part:
    """The part with ``outputs`` of the model that is taken to be right; masked tokens keep what was behind the mask."""
    return BY_ANSWERS[HEADS[head].labels](part, outputs)


def _by_embedding(part: Part, outputs: Outputs) -> Part:
    return replace(part, teacher=stack_rows(outputs))


def _by_class(part: Part, outputs: Outputs) -> Part:
    return _relabelled(part, [int(logits.argmax()) for logits in outputs])


def _by_classes(part: Part, outputs: Outputs) -> Part:
    label_sets = [np.flatnonzero(row >= EVEN).tolist() for row in probabilities(outputs)]
    examples = [replace(example, classes=tuple(row)) for example, row in zip(part.examples, label_sets, strict=True)]
    return replace(part, encoded=replace(part.encoded, labels=label_sets), examples=examples)


def _by_number(part: Part, outputs: Outputs) -> Part:
    return _relabelled(part, [float(number[0]) for number in outputs])


def _relabelled(part: Part, labels: Sequence[int | float]) -> Part:
    examples = [replace(example, label=label) for example, label in zip(part.examples, labels, strict=True)]
    return replace(part, encoded=replace(part.encoded, labels=labels), examples=examples)


def _by_grades(part: Part, outputs: Outputs) -> Part:
    """The passage that ranks first is the relevant one of its query."""
    grades = np.zeros(len(outputs))
    scores = np.array([float(output[0]) for output in outputs])
    for rows in query_rows(part.labels):
        grades[rows[scores[rows].argmax()]] = 1.0
    examples = [replace(example, label=grade) for example, grade in zip(part.examples, grades.tolist(), strict=True)]
    labels = [(query, grade) for (query, _), grade in zip(part.labels.tolist(), grades.tolist(), strict=True)]
    return replace(part, encoded=replace(part.encoded, labels=labels), examples=examples)


def _by_tags(part: Part, outputs: Outputs) -> Part:
    """Words that were cut off have no answer, and are left out."""
    encoded = part.encoded
    assert encoded.labels is not None
    assert encoded.words is not None
    labels: list[Any] = []
    examples: list[Example] = []
    for example, row, words, output in zip(part.examples, encoded.labels, encoded.words, outputs, strict=True):
        answers = np.where(np.asarray(row) == IGNORED, IGNORED, output.argmax(1))
        labels.append(answers.tolist())
        tags = tuple(answers[answers != IGNORED].tolist())
        examples.append(replace(example, words=tuple(example.words[word] for word in words), tags=tags))
    numbers = [list(range(len(words))) for words in encoded.words]
    return replace(part, encoded=replace(encoded, labels=labels, words=numbers), examples=examples)


def _by_span(part: Part, outputs: Outputs) -> Part:
    spans = best_spans(outputs, part)
    examples = [
        replace(example, answers=(((example.pair or "").find(span.text), span.text),))
        for example, span in zip(part.examples, spans, strict=True)
    ]
    return replace(part, examples=examples)


def _as_they_are(part: Part, outputs: Outputs) -> Part:  # noqa: ARG001 one of several
    return part


BY_ANSWERS: dict[Labels, Callable[[Part, Outputs], Part]] = {
    "none": _by_embedding,
    "class": _by_class,
    "classes": _by_classes,
    "number": _by_number,
    "tags": _by_tags,
    "answer": _by_span,
    "masked": _as_they_are,
    "grades": _by_grades,
}
