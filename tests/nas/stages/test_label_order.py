"""Where a head does not name its labels, the order that is far better is found; where none is, it is asked for."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from ortnas.nas.data import Splits
from ortnas.nas.failures import CheckpointError
from ortnas.nas.run.task_data import TaskData
from ortnas.nas.stages.label_order import choose_rows, settle_order, usual_orders
from ortnas.nas.text import Example, encode, load_tokenizer
from ortnas.nas.training.checkpoint.reading import read_checkpoint
from tests.networks import WORDS as VOCABULARY
from tests.networks import write_checkpoint

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


# Every word has one tag, so that a head can be computed.
TAG_OF = dict(zip(VOCABULARY, itertools.cycle(HUB), strict=False))


def tagged(n: int, seed: int) -> list[Example]:
    rng = np.random.default_rng(seed)
    sentences = [tuple(str(word) for word in rng.choice(VOCABULARY, 9)) for _ in range(n)]
    return [Example("", words=words, tags=tuple(CONLL.index(TAG_OF[word]) for word in words)) for words in sentences]


def write_tagger(folder: Path, order: tuple[str, ...]) -> Path:
    """A checkpoint whose head knows the tags of the words, its rows in this order, and names them LABEL_0 and so on."""
    write_checkpoint(folder, "bert", "token-classification", num_labels=len(order))
    model = transformers.BertForTokenClassification.from_pretrained(folder)
    encoded = encode(load_tokenizer(folder), tagged(150, 5), 32)
    feeds = {name: torch.from_numpy(array) for name, array in encoded.feeds(range(150)).items()}
    labels = torch.from_numpy(encoded.label_array(range(150)))
    with torch.no_grad():
        hidden = model.bert(**feeds).last_hidden_state[labels >= 0].double()
        rows = torch.tensor([order.index(CONLL[label]) for label in labels[labels >= 0].tolist()])
        inputs = torch.cat([hidden, torch.ones(len(hidden), 1)], 1)
        targets = torch.nn.functional.one_hot(rows, len(order)).double()
        solution = torch.linalg.lstsq(inputs, targets).solution.float().T
        model.classifier.weight.copy_(solution[:, :-1])
        model.classifier.bias.copy_(solution[:, -1])
    model.save_pretrained(folder)
    return folder


def test_which_of_several_labels_is_which_is_not_guessed(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path, "bert", "multi-label")
    names = ("anger", "joy", "love")
    examples = [Example("the a of", classes=(row % 3,)) for row in range(40)]
    parts = {"training": examples, "calibration": examples, "search": examples, "report": examples}
    checkpoint = read_checkpoint(str(folder), "multi-label", names)
    with pytest.raises(CheckpointError, match=r'is not guessed where a text may have several; .*\{"anger": LABEL_0'):
        settle_order(checkpoint, TaskData(Splits(parts, names), folder, 32, 0))


@pytest.mark.parametrize("order", [HUB, CONLL])
def test_a_checkpoint_that_does_not_name_its_tags_gets_them_in_their_order(
    tmp_path: Path, order: tuple[str, ...]
) -> None:
    folder = write_tagger(tmp_path, order)
    parts = {"training": tagged(200, 1), "calibration": tagged(16, 2), "search": tagged(16, 3), "report": tagged(16, 4)}
    data = TaskData(Splits(parts, CONLL), folder, 32, 0)
    checkpoint = read_checkpoint(str(folder), "token-classification", CONLL)
    assert checkpoint.order_is_open
    settled, sentence = settle_order(checkpoint, data)
    expected = checkpoint.tensors["head.classifier.weight"][list(rows_in(order, CONLL))]
    assert torch.equal(settled.tensors["head.classifier.weight"], expected)
    assert f"the order {', '.join(order)} is right for" in sentence
    random_head = write_checkpoint(tmp_path / "random", "bert", "token-classification", num_labels=9)
    with pytest.raises(CheckpointError, match=r"say which is which as data\.label_names: .*or train a new head"):
        settle_order(read_checkpoint(str(random_head), "token-classification", CONLL), data)
