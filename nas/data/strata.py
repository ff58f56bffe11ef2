"""Parts of examples with about the same share of every label; of pairs no first text is in two of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet

import numpy as np
import numpy.typing as npt

from ortnas.nas.text import Example

# Values of a regression task are stratified by their deciles.
_QUANTILES = 10
# A first text of more pairs, and of a larger share of all, is a kind of pair, such as one question about many texts.
_MOST_PAIRS, _MOST_SHARE = 10, 0.01
# What the pairs of one first text may make of a part.
_MOST_OF_PART = 0.25


def texts_to_keep_apart(examples: Sequence[Example], notes: list[str]) -> frozenset[str]:
    """The first texts of several pairs, such as a premise with its hypotheses: who has learned from some of its pairs
    knows more of the others than of new ones. Those of very many pairs are left to all parts."""
    counts = Counter(example.text for example in examples if example.pair is not None)
    most = max(_MOST_PAIRS, int(_MOST_SHARE * len(examples)))
    if common := sum(count > most for count in counts.values()):
        several = "first texts have" if common > 1 else "first text has"
        notes.append(f"{common:,} {several} more than {most:,} pairs each, and may be in several parts")
    return frozenset(text for text, count in counts.items() if 1 < count <= most)


def shared_first_texts(part: str, parts: Mapping[str, Sequence[Example]]) -> list[str]:
    """A note of how many pairs of a part that came by itself have a first text of training; none where there are none,
    and of spans, whose questions may repeat."""
    known = {example.text for example in parts["training"] if example.pair is not None and example.answers is None}
    shared = sum(example.text in known for example in parts[part])
    if not shared:
        return []
    return [f"{part}: {shared:,} of {len(parts[part]):,} pairs have the first text of a pair to learn from"]


def cut_strata(
    examples: Sequence[Example],
    wanted: Mapping[str, int],
    rng: np.random.Generator,
    kept_apart: AbstractSet[str] = frozenset(),
) -> dict[str, list[Example]]:
    """Parts of the wanted sizes, or smaller where examples do not suffice, each with about the same share of every
    stratum, and the rest as training.

    Pairs whose first text is to be ``kept_apart`` are in one part; those that are too many for it are in none.
    """
    order = _stratified_order(_strata(examples), rng)
    pairs: dict[str, list[int]] = {}
    for place in order:
        if examples[place].text in kept_apart:
            pairs.setdefault(examples[place].text, []).append(place)
    gone: set[int] = set()
    left = (place for place in order if place not in gone)
    rows: dict[str, list[int]] = {}
    for name, size in wanted.items():
        part = rows[name] = []
        while len(part) < size and (row := next(left, None)) is not None:
            alike = pairs.get(examples[row].text, [row])
            gone.update(alike)
            part += alike[: min(size - len(part), max(1, int(_MOST_OF_PART * size)))]
    rows["training"] = list(left)
    return {
        name: [examples[rows[name][place]] for place in rng.permutation(len(rows[name]))]
        for name in ("training", *wanted)
    }


def _strata(examples: Sequence[Example]) -> npt.NDArray[np.int64]:
    """A stratum number for each example: its class, the rarest of its classes, the decile of its value, or 0."""
    if examples and examples[0].classes is not None:
        return _rarest_classes([example.classes or () for example in examples])
    labels = [example.label for example in examples if example.label is not None]
    if not labels:
        return np.zeros(len(examples), np.int64)
    if isinstance(labels[0], int):
        return np.array(labels, np.int64)
    ranks = np.argsort(np.argsort(np.array(labels, np.float64), kind="stable"), kind="stable")
    return ranks * _QUANTILES // len(labels)


def _rarest_classes(class_sets: Sequence[Sequence[int]]) -> npt.NDArray[np.int64]:
    """Of each set the class that is in the fewest sets, and -1 for an empty one: what is rare gets to every part."""
    counts = Counter(number for classes in class_sets for number in classes)
    rarest = [min(classes, key=lambda number: (counts[number], number), default=-1) for classes in class_sets]
    return np.array(rarest, np.int64)


def _stratified_order(strata: npt.NDArray[np.int64], rng: np.random.Generator) -> list[int]:
    """Row numbers in a random order, any stretch of which has every stratum in proportion to within one row or so.

    The rows of a stratum are spread evenly, from half a step after the start: a row alone in its stratum lies in the
    middle, and with it in what is left for training.
    """
    position = np.empty(len(strata), np.float64)
    shuffled = rng.permutation(len(strata))
    for stratum in np.unique(strata):
        members = shuffled[strata[shuffled] == stratum]
        position[members] = (np.arange(len(members)) + 0.5) / len(members)
    order: list[int] = np.lexsort((rng.random(len(strata)), position)).tolist()
    return order
