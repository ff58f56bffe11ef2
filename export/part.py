"""What models are scored on, and from where on their outputs become answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ortnas.export.ranks import similarity_ranks
from ortnas.nas.arrays import Array, Vector
from ortnas.nas.judgements import Judgements
from ortnas.nas.text import EncodedExamples, Example, take

Outputs = Sequence[Array]


@dataclass(frozen=True)
class Part:
    """A part of the data to score on: encoded inputs with their labels, the examples behind them, and label names.

    ``teacher`` holds the teacher's embeddings [n, size] where there are no labels. ``examples`` is empty for
    packed corpora. ``null_threshold`` is a model's own: by how much the score of no answer has to exceed that of the
    best one for there to be none. Without it, questions without an answer are judged by the threshold that suits this
    part best; so are labels of which a text may have several without ``label_thresholds``, the probability of each from
    which on a text has it. ``judgements`` are of pairs of the texts, where the part is there for them.
    """

    encoded: EncodedExamples
    examples: Sequence[Example] = ()
    label_names: tuple[str, ...] = ()
    teacher: Array | None = None
    null_threshold: float | None = None
    label_thresholds: tuple[float, ...] | None = None
    judgements: Judgements | None = None

    def first(self, count: int) -> Part:
        """The part of its first ``count`` texts."""
        teacher = None if self.teacher is None else self.teacher[:count]
        return replace(self, encoded=take(self.encoded, count), examples=self.examples[:count], teacher=teacher)

    @cached_property
    def teacher_ranks(self) -> Vector:
        """``similarity_ranks`` of the teacher's embeddings; several models are compared with them."""
        assert self.teacher is not None
        return similarity_ranks(self.teacher)

    @property
    def size(self) -> int:
        """What a score is a figure of: inputs, judged pairs or queries."""
        if self.judgements is not None:
            return self.judgements.size
        return len(self.encoded) if not self.has_groups else len({query for query, _ in self.encoded.labels or ()})

    @property
    def has_groups(self) -> bool:
        """Whether its inputs are a query's passages, with their grades."""
        return bool(self.examples) and self.examples[0].group is not None

    @property
    def labels(self) -> npt.NDArray[Any]:
        """Class ids or numbers, [n]; of passages [n, 2], with the numbers of their queries before their grades."""
        return np.asarray(self.encoded.labels)

    @property
    def label_sets(self) -> Sequence[Sequence[int]]:
        """The ids that apply to each text, [n]."""
        assert self.encoded.labels is not None
        return self.encoded.labels


class Thresholds(NamedTuple):
    """From where on a model's outputs become answers, as in ``Part``; None where the head or the data need none."""

    null_threshold: float | None = None
    label_thresholds: tuple[float, ...] | None = None
