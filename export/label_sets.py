"""What is measured of networks that say of each of several labels whether a text has it, and from which probability on
it has.

In numpy alone, as export/metrics.py; sets of labels are lists of their numbers, one list a text.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ortnas.nas.arrays import Array, Matrix, Vector
from ortnas.nas.text import IGNORED

Flags = npt.NDArray[np.bool_]
LabelSets = Sequence[Sequence[int]]
# A label's own threshold and the one of all labels weigh the same where so many texts have the label.
_SHARED_WEIGHT = 10
_EVEN = 0.5


class Counts(NamedTuple):
    """By label, float64 [labels]: how often it is given rightly, given, and right."""

    hits: Vector
    predicted: Vector
    true: Vector


def label_flags(label_sets: LabelSets, labels: int) -> Flags:
    """Whether a text has a label, [n, labels]."""
    flags = np.zeros((len(label_sets), labels), bool)
    for row, numbers in enumerate(label_sets):
        flags[row, [number for number in numbers if number != IGNORED]] = True
    return flags


def probabilities(outputs: Sequence[Array]) -> Matrix:
    """Of each label, float64 [n, labels], from logits."""
    logits = np.stack(outputs).astype(np.float64)
    return np.asarray(np.exp(-np.logaddexp(0, -logits)))


def count_labels(outputs: Sequence[Array], label_sets: LabelSets, thresholds: Sequence[float] | None) -> Counts:
    """``thresholds`` are probabilities, one a label; None takes those that suit these texts best."""
    own = find_thresholds(outputs, label_sets) if thresholds is None else thresholds
    given = probabilities(outputs) >= np.asarray(own)
    flags = label_flags(label_sets, given.shape[1])
    hits, predicted, true = (table.sum(0).astype(np.float64) for table in (given & flags, given, flags))
    return Counts(hits, predicted, true)


def micro_f1(counts: Counts) -> float:
    """F1 of all decisions together; 0 where no label is given or right."""
    total = counts.predicted.sum() + counts.true.sum()
    return float(2 * counts.hits.sum() / total) if total else 0.0


def macro_f1(counts: Counts) -> float:
    """Mean F1 of the labels that are given or right in some text."""
    occurs = counts.predicted + counts.true > 0
    return float((2 * counts.hits[occurs] / (counts.predicted + counts.true)[occurs]).mean()) if occurs.any() else 0.0


def recalls(counts: Counts) -> list[float | None]:
    """By label, how many of the texts that have it are given it; None where none has it."""
    return [float(hits / true) if true else None for hits, true in zip(counts.hits, counts.true, strict=True)]


def mean_log_likelihoods(outputs: Sequence[Array], label_sets: LabelSets) -> Vector:
    """Of each text, the mean over labels of the logarithm of the probability that a label is there or not as it is,
    [n]: minus the binary cross entropy."""
    logits = np.stack(outputs).astype(np.float64)
    signs = np.where(label_flags(label_sets, logits.shape[1]), -1.0, 1.0)
    return np.asarray(-np.logaddexp(0, signs * logits).mean(1))


def find_thresholds(outputs: Sequence[Array], label_sets: LabelSets) -> tuple[float, ...]:
    """The probabilities from which on labels are given: for each label between the threshold that gives it the best F1
    and the one that gives all decisions together the best F1.

    A label's own threshold counts for more the more texts have the label: own thresholds of rare labels fit chance
    (Fan & Lin 2007, "A Study on Threshold Selection for Multi-label Classification").
    """
    logits = np.stack(outputs).astype(np.float64)
    flags = label_flags(label_sets, logits.shape[1])
    if not flags.any():
        return tuple([_EVEN] * len(logits.T))
    shared = _best_threshold(logits.ravel(), flags.ravel())
    thresholds = []
    for own, has_label in zip(logits.T, flags.T, strict=True):
        texts = int(has_label.sum())
        best = _best_threshold(own, has_label) if texts else shared
        weighted = (texts * best + _SHARED_WEIGHT * shared) / (texts + _SHARED_WEIGHT)
        thresholds.append(float(np.exp(-np.logaddexp(0, -weighted))))
    return tuple(thresholds)


def _best_threshold(scores: Vector, flags: Flags) -> float:
    """The score from which on saying yes has the best F1; halfway to the next lower one."""
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    f1 = 2 * np.cumsum(flags[order]) / (np.arange(1, len(ranked) + 1) + flags.sum())
    # Equal scores share their fate.
    f1[:-1][ranked[:-1] == ranked[1:]] = -1
    best = int(f1.argmax())
    return float(ranked[best] if best + 1 == len(ranked) else (ranked[best] + ranked[best + 1]) / 2)
