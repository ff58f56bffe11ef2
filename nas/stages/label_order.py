"""Which row of a trained classifier is which label, where the checkpoint only says LABEL_0, LABEL_1, ...: the orders in
which people number labels are scored on texts, and the one that is far better is used."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import permutations
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ortnas.nas.architecture.heads import HEADS
from ortnas.nas.failures import CheckpointError
from ortnas.nas.run.task_data import TaskData
from ortnas.nas.text import IGNORED, EncodedExamples
from ortnas.nas.training.checkpoint.reading import Checkpoint, pick_labels
from ortnas.nas.training.steps import network_outputs
from ortnas.nas.training.supernet import Supernet
from ortnas.nas.wording import listed

Counts = npt.NDArray[np.int64]
Rows = tuple[int, ...]

# Texts are added until every label is there so often, or there are so many texts.
_TIMES_SEEN, _MOST_TEXTS = 16, 512
# A label that was seen less often than this says little of which row is its own.
_FEW = 5
# Orders of so few labels are all tried.
_ALL_ORDERS = 4
# What an order has to reach between chance (0) and no error (1), in mean recall.
_LEAST_GAIN = 0.4
# How much may be gained by an order that nobody would write before the best usual one is doubted.
_TOLERANCE = 0.05
# Where two orders differ, the better one has to be right so many times as often, and so often more.
_TIMES_BETTER, _MORE_OFTEN = 3, 3
# Orders of so many labels are told in full.
_MOST_SAID = 40
# In the order of CoNLL 2003's label lists on the hub.
_USUAL_TYPES = ("PER", "ORG", "LOC", "MISC")
_USUAL_PREFIXES = "BIMLEUSW"
_TAG = re.compile(r"([BIMLEUSW])[-_](.+)")


class Finding(NamedTuple):
    """The rows of the labels; their mean recall, and that of the best order that is another."""

    rows: Rows
    recall: float
    next_recall: float


def settle_order(checkpoint: Checkpoint, data: TaskData) -> tuple[Checkpoint, str]:
    """The checkpoint with its classifier's rows in the order of the data's labels, and a sentence that says how that
    was found out. Raises CheckpointError where no order is far better than all others."""
    if HEADS[checkpoint.dimensions.head].takes_label_sets:
        raise CheckpointError(
            f"checkpoint {checkpoint.name}: its head does not name its {checkpoint.dimensions.num_labels} labels "
            f"(LABEL_0, ...), and which is which is not guessed where a text may have several; say it as "
            f'data.label_names: {{"{data.labels[0]}": LABEL_0, ...}}, or train a new head with training.new_head: true'
        )
    remedy = (
        f'say which is which as data.label_names: {{"{data.labels[0]}": LABEL_0, ...}}, or train a new head with '
        f"training.new_head: true"
    )
    rows, sentence = find_order(checkpoint, _texts(data), data.labels, _seen_order(data), remedy)
    return pick_labels(checkpoint, rows), sentence


def find_order(
    checkpoint: Checkpoint, texts: EncodedExamples, labels: Sequence[str], seen: Sequence[int], remedy: str
) -> tuple[Rows, str]:
    """The row of each label, found on labelled texts, and a sentence that says how. ``seen`` has label ids by first
    appearance. Raises CheckpointError, with the ``remedy``, where no order is far better than all others."""
    counts = _count(checkpoint, texts, len(labels))
    finding = choose_rows(counts, list(usual_orders(labels, seen)))
    head = f"the checkpoint's head does not name its {counts.shape[1]} labels (LABEL_0, ...)"
    if finding is None:
        raise CheckpointError(
            f"checkpoint {checkpoint.name}: {head}, and on {len(texts)} texts no order of {listed(labels)} fits them "
            f"far better than others; {remedy}"
        )
    order = [labels[finding.rows.index(row)] for row in sorted(finding.rows)]
    in_order = ", ".join(order) if len(order) <= _MOST_SAID else listed(order)
    return finding.rows, (
        f"{head}: on {len(texts)} texts the order {in_order} is right for {finding.recall:.0%} of a "
        f"label's cases on average, the next best for {finding.next_recall:.0%}; it is used"
    )


def _texts(data: TaskData) -> EncodedExamples:
    """The calibration texts, and training texts with labels that are rare among them."""
    calibration, training = data.held_out("calibration"), data.held_out("training").only_labelled
    seen = Counter(label for row in calibration.labels or () for label in _present(row))
    chosen: list[int] = []
    for number, row in enumerate(training.labels or ()):
        if len(calibration) + len(chosen) >= _MOST_TEXTS:
            break
        if any(seen[label] < _TIMES_SEEN for label in _present(row)):
            chosen.append(number)
            seen.update(_present(row))
    return EncodedExamples(
        [*calibration.ids, *(training.ids[row] for row in chosen)],
        [*calibration.type_ids, *(training.type_ids[row] for row in chosen)],
        [*(calibration.labels or ()), *((training.labels or ())[row] for row in chosen)],
    )


def _present(labels: int | Sequence[int]) -> list[int]:
    return [labels] if isinstance(labels, int) else [label for label in labels if label != IGNORED]


def _count(checkpoint: Checkpoint, texts: EncodedExamples, labels: int) -> Counts:
    """How often the classifier's row is largest where the label is meant, [labels, rows]."""
    network = Supernet(checkpoint.tensors, checkpoint.dimensions)
    outputs = network_outputs(network, texts, checkpoint.dimensions.full_subnet)
    counts = np.zeros((labels, checkpoint.dimensions.num_labels), np.int64)
    assert texts.labels is not None
    for output, target in zip(outputs, texts.labels, strict=True):
        true = np.atleast_1d(np.asarray(target))
        largest = np.atleast_1d(output.argmax(-1))[: len(true)]
        np.add.at(counts, (true[true != IGNORED], largest[true != IGNORED]), 1)
    return counts


def _seen_order(data: TaskData) -> list[int]:
    """Label ids in the order in which training texts have them first."""
    return list(
        dict.fromkeys(label for row in data.held_out("training").only_labelled.labels or () for label in _present(row))
    )


def usual_orders(labels: Sequence[str], seen: Sequence[int]) -> Iterator[Rows]:
    """Orders in which people number labels, as the row of each; ``seen`` has label ids by first appearance.

    The order given, alphabetical, by first appearance, and their reverses; for tags the outside first or last, and the
    others by type and prefix; of few labels every order.
    """
    numbers = range(len(labels))
    if len(labels) <= _ALL_ORDERS:
        yield from permutations(numbers)
        return
    by_appearance = [*seen, *(label for label in numbers if label not in seen)]
    by_name = sorted(numbers, key=lambda label: labels[label])
    orders = [list(numbers), by_name, by_appearance, *_tag_orders(labels, by_appearance)]
    for order in dict.fromkeys(tuple(order) for order in [*orders, *(order[::-1] for order in orders)]):
        yield tuple(order.index(label) for label in numbers)


def _tag_orders(labels: Sequence[str], by_appearance: Sequence[int]) -> Iterator[list[int]]:
    matches = {label: match for label, name in enumerate(labels) if (match := _TAG.fullmatch(name))}
    outside = [label for label in range(len(labels)) if label not in matches]
    seen_types = list(dict.fromkeys(matches[label][2] for label in by_appearance if label in matches))
    usual = sorted(seen_types, key=lambda kind: (_USUAL_TYPES.index(kind) if kind in _USUAL_TYPES else 99, kind))
    for types in (seen_types, sorted(seen_types), usual):
        by_type = sorted(matches, key=lambda label: (types.index(matches[label][2]), _prefix(matches[label])))
        by_prefix = sorted(matches, key=lambda label: (_prefix(matches[label]), types.index(matches[label][2])))
        for tags in (by_type, by_prefix):
            yield [*outside, *tags]
            yield [*tags, *outside]


def _prefix(match: re.Match[str]) -> int:
    return _USUAL_PREFIXES.index(match[1])


def choose_rows(counts: Counts, orders: Sequence[Rows]) -> Finding | None:
    """The row of each label, given how often each row was largest for it, [labels, rows]; None where it is not clear.

    ``orders`` are the usual ones, for as many rows as labels. One of them is taken where no other assignment is better
    by more than chance; else the assignment that is right most often (Kuhn 1955), where each label's row is right for
    more than half of its cases.
    """
    from scipy.optimize import linear_sum_assignment

    labels, rows = counts.shape
    seen = counts.sum(1)
    often = seen >= _FEW
    if often.sum() < 2:
        return None
    shares = np.where(often[:, None], counts / np.maximum(seen, 1)[:, None], 0)
    free: Rows = tuple(linear_sum_assignment(shares, maximize=True)[1].tolist())

    def recall(order: Rows) -> float:
        return float(shares[np.arange(labels), order].sum() / often.sum())

    if (recall(free) - 1 / rows) / (1 - 1 / rows) < _LEAST_GAIN:
        return None
    ranked = sorted(orders if rows == labels else (), key=lambda order: -int(counts[np.arange(labels), order].sum()))
    ranked.sort(key=recall, reverse=True)
    if ranked and recall(ranked[0]) >= recall(free) - _TOLERANCE:
        best, others = ranked[0], ranked[1:]
        is_clear = all(_is_far_better(counts, best, other) for other in others)
        return Finding(best, recall(best), max(map(recall, others), default=0.0)) if is_clear else None
    right = counts[np.arange(labels), free]
    # With as many rows as labels, the last one left over is the last label's.
    if (2 * right > seen)[often].all() and (~often).sum() <= (rows == labels):
        others = [order for order in ranked if order != free]
        return Finding(free, recall(free), max(map(recall, others), default=0.0))
    return None


def _is_far_better(counts: Counts, best: Rows, other: Rows) -> bool:
    """By the cases of the labels for which the two orders differ."""
    differing = [label for label in range(len(counts)) if best[label] != other[label]]
    right, wrong = (sum(int(counts[label, order[label]]) for label in differing) for order in (best, other))
    return right >= _TIMES_BETTER * wrong + _MORE_OFTEN
