"""A model agrees with itself: whatever the head, its own answers as labels give it the best score there is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ortnas.export.metrics import METRICS, suitable_metrics
from ortnas.export.part import Part
from ortnas.nas.architecture.heads import HEADS, LABEL_KINDS
from ortnas.nas.data.source_texts import stand_in_texts
from ortnas.nas.stages.teacher_labels import BY_ANSWERS, labelled_by
from ortnas.nas.text import encode, load_tokenizer

LABELS = ("O", "B-X", "I-X")


def test_every_kind_of_labels_can_be_answered() -> None:
    assert set(BY_ANSWERS) == set(LABEL_KINDS)


@pytest.mark.parametrize("head", [name for name, row in HEADS.items() if not row.fills_masks])
def test_a_model_agrees_with_itself_and_not_with_another(head: str, bert_folder: Path) -> None:
    examples = [row.example for row in stand_in_texts(head).scored]
    encoded = encode(load_tokenizer(bert_folder), examples, 40)
    rng = np.random.default_rng(0)
    width = 2 if HEADS[head].labels == "answer" else 1 if HEADS[head].gives_number else 3

    def outputs() -> list[np.ndarray]:
        shapes = [(length, width) if HEADS[head].is_token_level else (width,) for length in encoded.lengths]
        rows = [rng.standard_normal(shape).astype(np.float32) for shape in shapes]
        return [row / np.linalg.norm(row) for row in rows] if HEADS[head].makes_embeddings else rows

    own, others = outputs(), outputs()
    part = labelled_by(head, Part(encoded, examples, LABELS), own)
    metric = METRICS[suitable_metrics(head, LABELS)[0]]
    assert metric(own, part) == pytest.approx(1.0)
    assert metric(others, part) < 0.9
    if HEADS[head].has_labels:
        # Examples, which packages bundle, encode to the labels that the part has.
        again = encode(load_tokenizer(bert_folder), part.examples, 40)
        assert metric(own, Part(again, part.examples, LABELS)) == pytest.approx(1.0)
