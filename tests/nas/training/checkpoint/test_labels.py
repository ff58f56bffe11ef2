"""A trained head's rows belong to the labels that the checkpoint names; where it names none, nothing is assumed."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import transformers

from ortnas.nas.failures import CheckpointError
from ortnas.nas.training.checkpoint.labels import match_labels, number
from ortnas.nas.training.checkpoint.reading import read_checkpoint
from ortnas.nas.training.loss_names import choose_losses
from tests.nas.training.checkpoint.test_reading import change_config
from tests.networks import write_checkpoint

ELEVEN = tuple(f"LABEL_{row}" for row in range(11))
SENTIMENT = ("NEGATIVE", "POSITIVE")


@pytest.mark.parametrize(
    ("own", "labels", "rows"),
    [
        (SENTIMENT, ("0", "1"), (0, 1)),
        (SENTIMENT, ("positive", "negative"), (1, 0)),
        (("not equivalent", "EQUIVALENT"), ("equivalent", "not_equivalent"), (1, 0)),
        (("contradiction", "entailment", "neutral"), ("entailment", "neutral", "contradiction"), (1, 2, 0)),
        (ELEVEN, tuple(map(str, range(11))), tuple(range(11))),
        (ELEVEN, tuple(sorted(map(str, range(11)))), (0, 1, 10, 2, 3, 4, 5, 6, 7, 8, 9)),
        (("LABEL_0", "LABEL_1"), ("0.0", "1.0"), (0, 1)),
        (("LABEL_0", "LABEL_1"), ("LABEL_1", "LABEL_0"), (1, 0)),
        (("1", "2", "3"), ("3.0", "1.0", "2.0"), (2, 0, 1)),
        (("O", "B-PER", "I-PER", "B-ORG", "I-ORG"), ("O", "B-ORG", "I-ORG"), (0, 3, 4)),
    ],
)
def test_names_and_numbers_tell_rows(own: tuple[str, ...], labels: tuple[str, ...], rows: tuple[int, ...]) -> None:
    matched = match_labels("x", own, labels, {})
    assert matched is not None
    assert matched.rows == rows
    assert len(set(matched.names)) == len(labels)


def test_the_network_keeps_the_checkpoints_names_where_it_has_some() -> None:
    named = match_labels("x", SENTIMENT, ("0", "1"), {})
    generic = match_labels("x", ("LABEL_0", "LABEL_1"), ("0", "1"), {})
    assert named is not None
    assert generic is not None
    assert (named.names, generic.names) == (SENTIMENT, ("0", "1"))
    assert named.notes == ("labels of the data and of the checkpoint's head: 0 is NEGATIVE, 1 is POSITIVE",)
    assert not generic.notes


def test_what_the_user_says_decides() -> None:
    reverse = match_labels("x", SENTIMENT, ("bad", "good"), {"bad": "NEGATIVE", "good": "positive"})
    generic = match_labels("x", ("LABEL_0", "LABEL_1"), ("good", "bad"), {"good": "LABEL_1", "bad": "0"})
    assert reverse is not None
    assert generic is not None
    assert (reverse.rows, generic.rows) == ((0, 1), (1, 0))
    with pytest.raises(CheckpointError, match=r"names .*goood.*, which the data does not have"):
        match_labels("x", SENTIMENT, ("bad", "good"), {"goood": "POSITIVE"})
    with pytest.raises(CheckpointError, match="leaves open which label is which"):
        match_labels("x", SENTIMENT, ("bad", "good"), {"good": "GREAT"})


@pytest.mark.parametrize(
    ("own", "labels"),
    [
        (SENTIMENT, ("left", "right")),
        (SENTIMENT, ("1", "2")),
        (("neg", "neutral", "pos"), ("0", "2")),
        (SENTIMENT, ("negative", "neutral", "positive")),
        (SENTIMENT, ("True", "False")),
    ],
)
def test_labels_that_may_be_meant_are_asked_for(own: tuple[str, ...], labels: tuple[str, ...]) -> None:
    with pytest.raises(CheckpointError, match=r'say which is which as data.label_names: \{"?\w+"?: \w+, ...\}'):
        match_labels("x", own, labels, {})


def test_a_head_for_other_labels_is_no_match() -> None:
    assert match_labels("x", SENTIMENT, ("sports", "politics", "science"), {}) is None
    assert match_labels("x", ("LABEL_0", "LABEL_1"), ("sports", "politics", "science"), {}) is None


def test_rows_without_names_stay_open() -> None:
    for labels in (("no", "yes"), ("1", "2")):
        matched = match_labels("x", ("LABEL_0", "LABEL_1"), labels, {})
        assert matched is not None
        assert matched.rows is None


@pytest.mark.parametrize(
    ("label", "value"), [("3", 3), ("LABEL_3", 3), ("3.0", 3), (" 3 ", 3), ("3.5", None), ("-3", None)]
)
def test_numbers_of_labels(label: str, value: int | None) -> None:
    assert number(label) == value


def write_classifier(folder: Path, names: tuple[str, ...], head: str = "classification") -> torch.Tensor:
    """The classifier's weight of a checkpoint with these labels."""
    by_row = dict(enumerate(names))
    write_checkpoint(
        folder,
        "bert",
        head,
        num_labels=len(names),
        id2label=by_row,
        label2id={name: row for row, name in by_row.items()},
    )
    kind = "BertForSequenceClassification" if head == "classification" else "BertForTokenClassification"
    weight: torch.Tensor = getattr(transformers, kind).from_pretrained(folder).classifier.weight.detach()
    return weight


def test_rows_of_labels_that_the_data_lacks_are_dropped_and_named(tmp_path: Path) -> None:
    weight = write_classifier(tmp_path, ("O", "B-PER", "I-PER", "B-ORG", "I-ORG"), "token-classification")
    checkpoint = read_checkpoint(str(tmp_path), "token-classification", ("O", "B-ORG", "I-ORG"))
    assert checkpoint.head_is_trained
    assert checkpoint.dimensions.num_labels == 3
    assert torch.equal(checkpoint.tensors["head.classifier.weight"], weight[[0, 3, 4]])
    assert checkpoint.notes == ("labels of the checkpoint's head that the data lacks are dropped: B-PER, I-PER",)


def test_a_new_head_is_trained_where_it_is_asked_for_or_no_label_fits(tmp_path: Path) -> None:
    write_classifier(tmp_path, SENTIMENT)
    asked = read_checkpoint(str(tmp_path), "classification", ("left", "right"), new_head=True)
    other = read_checkpoint(str(tmp_path), "classification", ("a", "b", "c"))
    assert not asked.head_is_trained
    assert not other.head_is_trained
    assert other.notes == ("the checkpoint's head is for other labels: NEGATIVE, POSITIVE",)


@pytest.mark.parametrize("head", ["classification", "token-classification", "span", "masked-lm"])
def test_without_architectures_the_tensors_tell_the_head(tmp_path: Path, head: str) -> None:
    write_checkpoint(tmp_path, "bert", head)
    change_config(tmp_path, architectures=None)
    labels = ("LABEL_0", "LABEL_1", "LABEL_2") if "classification" in head else ()
    assert read_checkpoint(str(tmp_path), head, labels).head_is_trained
    other = {"classification": "token-classification", "token-classification": "classification"}.get(head, "regression")
    assert not read_checkpoint(str(tmp_path), other, labels).head_is_trained


def test_a_multi_label_head_is_no_head_of_one_label(tmp_path: Path) -> None:
    weight = write_classifier(tmp_path, ("a", "b"))
    change_config(tmp_path, problem_type="multi_label_classification")
    for labels in (("a", "b"), ()):
        with pytest.raises(CheckpointError, match=r"gives several labels to a text .*head: multi-label keeps them"):
            read_checkpoint(str(tmp_path), "classification", labels)
    kept = read_checkpoint(str(tmp_path), "multi-label", ("b", "a"))
    assert (kept.head_is_trained, kept.labels) == (True, ("b", "a"))
    assert torch.equal(kept.tensors["head.classifier.weight"], weight[[1, 0]])
    # A head for other labels is replaced, of whatever kind it is.
    assert not read_checkpoint(str(tmp_path), "classification", ("left", "right", "ahead")).head_is_trained
    assert not read_checkpoint(str(tmp_path), "classification", ("a", "b"), new_head=True).head_is_trained
    assert read_checkpoint(str(tmp_path), "embedding").head_is_trained


@pytest.mark.parametrize("problem_type", [None, "single_label_classification"])
def test_a_head_of_one_label_is_no_multi_label_head(tmp_path: Path, problem_type: str | None) -> None:
    write_classifier(tmp_path, ("a", "b"))
    change_config(tmp_path, problem_type=problem_type)
    for labels in (("a", "b"), ()):
        with pytest.raises(CheckpointError, match=r"gives one label to a text .*says so in config.json"):
            read_checkpoint(str(tmp_path), "multi-label", labels)
    assert not read_checkpoint(str(tmp_path), "multi-label", ("a", "b"), new_head=True).head_is_trained
    assert not read_checkpoint(str(tmp_path), "multi-label", ("left", "right", "ahead")).head_is_trained


def test_labels_of_a_multi_label_head_are_told_by_name_or_asked_for(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, "bert", "multi-label")
    by_number = read_checkpoint(str(tmp_path), "multi-label", ("0", "1", "2"))
    assert (by_number.head_is_trained, by_number.order_is_open) == (True, False)
    assert read_checkpoint(str(tmp_path), "multi-label", ("joy", "love", "anger")).order_is_open
    said = {"joy": "LABEL_2", "love": "LABEL_0", "anger": "LABEL_1"}
    named = read_checkpoint(str(tmp_path), "multi-label", ("joy", "love", "anger"), label_names=said)
    assert torch.equal(named.tensors["head.classifier.bias"], by_number.tensors["head.classifier.bias"][[2, 0, 1]])


@pytest.mark.parametrize("head", ["regression", "reranking"])
def test_the_logit_of_one_label_of_several_is_no_number(tmp_path: Path, head: str) -> None:
    write_checkpoint(tmp_path, "bert", "multi-label", num_labels=1)
    with pytest.raises(CheckpointError, match="gives several labels to a text"):
        read_checkpoint(str(tmp_path), head)
    change_config(tmp_path, problem_type=None)
    assert read_checkpoint(str(tmp_path), head).head_is_trained


def test_a_cross_encoder_is_a_reranker_with_its_activation(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, "bert", "reranking", sentence_transformers={"activation_fn": "torch.nn.Sigmoid"})
    checkpoint = read_checkpoint(str(tmp_path), "reranking")
    assert (checkpoint.head_is_trained, checkpoint.activation) == (True, "sigmoid")
    # The order is the same before the sigmoid: labels teach it too.
    assert "labels" in choose_losses("reranking", None, "sigmoid")
    assert "labels" not in choose_losses("regression", None, "sigmoid")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"id2label": {"1": "a", "2": "b"}, "label2id": None}, "id2label numbers its labels .*they should be 0 to 1"),
        ({"id2label": {"0": "a", "1": "a"}}, "one name twice"),
        ({"id2label": ["a", "b"]}, "should be an object"),
        ({"id2label": {"0": "b", "1": "a"}}, "correct one of them"),
        ({"id2label": {"0": "a", "1": "b", "2": "c"}, "label2id": None}, "names 3 labels, its classifier has 2 rows"),
    ],
)
def test_names_that_make_no_sense_are_refused(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    write_classifier(tmp_path, ("a", "b"))
    change_config(tmp_path, **changes)
    with pytest.raises(CheckpointError, match=message):
        read_checkpoint(str(tmp_path), "classification", ("a", "b"))
