"""Where a head does not name its labels, the order that is far better is found; where none is, it is asked for."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from nas.label_order import choose_rows, usual_orders

CONLL = ("O", "B-LOC", "B-MISC", "B-ORG", "B-PER", "I-LOC", "I-MISC", "I-ORG", "I-PER")
HUB = ("O", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC", "B-MISC", "I-MISC")
# Words of each label among those that are looked at.
WORDS = (900, 40, 20, 60, 70, 12, 9, 40, 50)


def counts_of(rows: tuple[int, ...], words: tuple[int, ...], right: float, all_rows: int = 0) -> np.ndarray:
    """What a head with these rows answers for so many words of each label, if it is right so often."""
    rng = np.random.default_rng(3)
    counts = np.zeros((len(rows), all_rows or len(rows)), np.int64)
    for label, (row, number) in enumerate(zip(rows, words, strict=True)):
        answers = np.where(rng.random(number) < right, row, rng.integers(0, counts.shape[1], number))
        np.add.at(counts, (label, answers), 1)
    return counts


def rows_in(order: tuple[str, ...], labels: tuple[str, ...]) -> tuple[int, ...]:
    return tuple(order.index(label) for label in labels)


@pytest.mark.parametrize("right", [0.99, 0.8, 0.65])
@pytest.mark.parametrize("order", [HUB, CONLL, ("O", *HUB[1::2], *HUB[2::2]), (*HUB[1:], "O")])
def test_the_order_of_tags_is_found(order: tuple[str, ...], right: float) -> None:
    expected = rows_in(order, CONLL)
    finding = choose_rows(counts_of(expected, WORDS, right), list(usual_orders(CONLL, range(9))))
    assert finding is not None
    assert finding.rows == expected
    assert finding.recall > finding.next_recall + 0.3


def test_an_order_that_nobody_would_write_is_found_where_every_label_is_seen() -> None:
    odd = (3, 7, 0, 8, 1, 4, 6, 2, 5)
    finding = choose_rows(counts_of(odd, WORDS, 0.95), list(usual_orders(CONLL, range(9))))
    assert finding is not None
    assert finding.rows == odd
    assert (
        choose_rows(counts_of(odd, (*WORDS[:5], 2, 1, *WORDS[7:]), 0.95), list(usual_orders(CONLL, range(9)))) is None
    )


def test_labels_of_a_head_with_more_rows_find_their_own() -> None:
    rows = (0, 5, 3, 1)
    finding = choose_rows(counts_of(rows, (300, 40, 30, 20), 0.9, all_rows=7), [])
    assert finding is not None
    assert finding.rows == rows


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_every_order_of_three_classes_is_found(order: tuple[int, ...]) -> None:
    finding = choose_rows(counts_of(order, (30, 25, 20), 0.7), list(usual_orders(("a", "b", "c"), range(3))))
    assert finding is not None
    assert finding.rows == order


@pytest.mark.parametrize("labels", [2, 3, 9])
def test_a_head_that_knows_nothing_of_the_labels_is_left_open(labels: int) -> None:
    rng = np.random.default_rng(labels)
    names = tuple(f"name {label}" for label in range(labels))
    orders = list(usual_orders(names, range(labels)))
    open_ones = 0
    for _ in range(200):
        shares = rng.dirichlet(np.full(labels, 0.5))
        counts = np.array([rng.multinomial(30, shares) for _ in range(labels)])
        open_ones += choose_rows(counts, orders) is None
    assert open_ones == 200


def test_orders_that_differ_only_in_labels_that_are_hardly_seen_stay_open() -> None:
    counts = counts_of(rows_in(HUB, CONLL), (900, 40, 0, 60, 70, 12, 0, 40, 50), 0.95)
    swapped = tuple({7: 8, 8: 7}.get(row, row) for row in rows_in(HUB, CONLL))
    assert choose_rows(counts, [rows_in(HUB, CONLL), swapped]) is None
