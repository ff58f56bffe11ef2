"""Entities and their F1, held against seqeval."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from seqeval.metrics import f1_score
from seqeval.scheme import BILOU, IOB2, IOBES, Entities

from ortnas.export.metrics import all_scores, entity_f1, suitable_metrics, token_accuracy
from ortnas.export.part import Part
from ortnas.export.tags import describe_scheme, find_scheme
from ortnas.nas.text import IGNORED, EncodedExamples, Example

Sentences = list[list[str]]


def labels_of(
    letters: str, kinds: Sequence[str] = ("PER", "LOC", "my-type"), form: str = "{letter}-{kind}"
) -> list[str]:
    return ["O", *(form.format(letter=letter, kind=kind) for letter in letters for kind in kinds)]


def score(labels: Sequence[str], true: Sentences, predicted: Sentences) -> float:
    """By our metric, on outputs that say what was predicted."""
    ids = [[labels.index(tag) for tag in sentence] for sentence in true]
    outputs = [np.eye(len(labels), dtype=np.float32)[[labels.index(tag) for tag in row]] for row in predicted]
    return entity_f1(outputs, Part(EncodedExamples([[1]] * len(ids), [[0]] * len(ids), ids), (), tuple(labels)))


def seqevals(true: Sentences, predicted: Sentences, **options: object) -> float:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return float(f1_score(true, predicted, **options))


@st.composite
def taggings(draw: st.DrawFn, labels: Sequence[str]) -> tuple[Sentences, Sentences]:
    """Two taggings of the same sentences, any of which may break the scheme."""
    tag = st.sampled_from(list(labels))
    lengths = draw(st.lists(st.integers(1, 12), min_size=1, max_size=4))
    true, predicted = ([draw(st.lists(tag, min_size=n, max_size=n)) for n in lengths] for _ in range(2))
    mixed = [
        [draw(st.sampled_from(pair)) for pair in zip(*rows, strict=True)] for rows in zip(true, predicted, strict=True)
    ]
    return true, mixed


CONLLEVAL = {
    "IOB": labels_of("BI"),
    "IOE": labels_of("IE"),
    "IOBES": labels_of("BIES"),
    "no type": ["O", "B", "I"],
    "underscores": labels_of("BI", form="{letter}_{kind}"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CONLLEVAL)
@given(data=st.data())
def test_iob_ioe_and_iobes_are_scored_as_seqeval_does_by_default(name: str, data: st.DataObject) -> None:
    true, predicted = data.draw(taggings(CONLLEVAL[name]))
    assert score(CONLLEVAL[name], true, predicted) == pytest.approx(seqevals(true, predicted))


@pytest.mark.slow
@given(data=st.data())
def test_letters_behind_the_type_are_scored_as_seqeval_does(data: st.DataObject) -> None:
    labels = labels_of("BIES", form="{kind}-{letter}")
    true, predicted = data.draw(taggings(labels))
    assert score(labels, true, predicted) == pytest.approx(seqevals(true, predicted, suffix=True))


@given(data=st.data())
def test_bilou_is_scored_as_seqeval_does_in_strict_mode(data: st.DataObject) -> None:
    labels = labels_of("BILU", ("PER", "LOC"))
    true, predicted = data.draw(taggings(labels))
    scheme = find_scheme(labels)
    assert scheme is not None
    theirs = [{entity.to_tuple()[1:] for entity in sentence} for sentence in Entities(true, BILOU).entities]
    assert [{(kind, first, end) for kind, first, end in scheme.entities(tags)} for tags in true] == theirs
    if any(theirs):  # seqeval's strict score fails where no entity is right in form
        assert score(labels, true, predicted) == pytest.approx(seqevals(true, predicted, mode="strict", scheme=BILOU))


@pytest.mark.slow
@given(data=st.data())
def test_bmewo_is_bilou_in_other_letters(data: st.DataObject) -> None:
    labels = labels_of("BILU", ("PER", "LOC"))
    true, predicted = data.draw(taggings(labels))
    letters = str.maketrans("ILU", "MEW")
    renamed = [[[tag[0].translate(letters) + tag[1:] for tag in row] for row in rows] for rows in (true, predicted)]
    others = ["O", *(label[0].translate(letters) + label[1:] for label in labels[1:])]
    assert score(others, *renamed) == pytest.approx(score(labels, true, predicted))


@given(data=st.data())
def test_types_without_a_prefix_are_iob1_without_b(data: st.DataObject) -> None:
    true, predicted = data.draw(taggings(["O", "PER", "LOC"]))
    prefixed = [[[tag if tag == "O" else f"I-{tag}" for tag in row] for row in rows] for rows in (true, predicted)]
    assert score(["O", "PER", "LOC"], true, predicted) == pytest.approx(seqevals(*prefixed))


@pytest.mark.parametrize(("letters", "scheme"), [("BI", IOB2), ("BIES", IOBES)])
@given(data=st.data())
def test_taggings_that_keep_to_their_scheme_score_the_same_in_strict_mode(
    letters: str, scheme: type, data: st.DataObject
) -> None:
    labels = labels_of(letters, ("PER", "LOC"))
    chunks = st.tuples(st.sampled_from(["O", "PER", "LOC"]), st.integers(1, 3))

    def tags(parts: list[tuple[str, int]]) -> list[str]:
        result = []
        for kind, length in parts:
            own = [f"I-{kind}"] * length
            own[0] = f"B-{kind}"
            if letters == "BIES":
                own[-1] = f"E-{kind}" if length > 1 else f"S-{kind}"
            result += ["O"] * length if kind == "O" else own
        return (result + ["O"] * 8)[:9]

    true, predicted = (
        [tags(data.draw(st.lists(chunks, max_size=2))) + [f"{letters[0]}-PER"] * (letters == "BI")] for _ in range(2)
    )
    detected_scheme = find_scheme(labels)
    assert detected_scheme is not None
    for rows in (true, predicted):
        theirs = [{entity.to_tuple()[1:] for entity in row} for row in Entities(rows, scheme).entities]
        assert [detected_scheme.entities(row) for row in rows] == theirs


@pytest.mark.parametrize(
    ("labels", "name"),
    [
        (("O", "B-PER", "I-PER"), "IOB"),
        (("o", "b-per", "i-per"), "IOB"),
        (("O", "b-PER", "I-PER"), "IOB"),
        (("O", "I-PER", "I-LOC"), "IOB"),
        (("B", "I", "O"), "IOB"),
        (("B", "I"), "IOB"),
        (("I-PER", "E-PER", "O"), "IOE"),
        (("B-X", "I-X", "O", "E-X", "S-X"), "IOBES"),
        (("O", "S-X"), "IOBES"),
        (("O", "B-X", "I-X", "L-X", "U-X"), "BILOU"),
        (("O", "U-X", "U-Y"), "BILOU"),
        (("B", "M", "E", "S"), "BMEWO"),
        (("O", "B_a-b", "M_a-b", "E_a-b", "W_a-b"), "BMEWO"),
        (("O", "PER-B", "PER-I"), "IOB"),
        (("O", "PER_B", "PER_I", "PER_L", "PER_U"), "BILOU"),
        (("O", "PER", "LOC"), "IO"),
        (("O", "VITAMIN_B", "VITAMIN_E"), "IO"),
        (("O", "E-MAIL", "PHONE"), "IO"),
        (("O", "1", "2"), "IO"),
    ],
)
def test_schemes_are_told_by_the_names_of_the_tags(labels: tuple[str, ...], name: str) -> None:
    scheme = find_scheme(labels)
    assert scheme is not None
    assert scheme.name == name
    assert f"{name}" in describe_scheme(labels)
    assert suitable_metrics("token-classification", labels) == ["entity_f1", "token_accuracy"]


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        (("DET", "NOUN", "VERB"), "do not mark which words belong together"),
        (("0", "1", "10"), "they are integers"),
        (("!", ",", "N", "O", "V", "^"), "do not mark which words"),
        (("O", "B-PER", "I-PER", "LOC"), "'B-PER' has a prefix, and not all tags have one"),
        (("O", "B-X", "I-X", "M-X"), "'B-X' has a prefix"),
        (("E", "S", "V"), "do not mark"),
        (("O",), "do not mark"),
    ],
)
def test_other_tags_are_scored_by_the_word(labels: tuple[str, ...], reason: str) -> None:
    assert find_scheme(labels) is None
    assert reason in describe_scheme(labels)
    assert suitable_metrics("token-classification", labels) == ["token_accuracy"]


@pytest.mark.parametrize("labels", [("DET", "NOUN", "VERB"), ("0", "1", "2"), ("O", "PER", "LOC"), ("O", "B", "I")])
def test_a_model_that_is_wrong_about_every_word_scores_nothing(labels: tuple[str, ...]) -> None:
    part = Part(EncodedExamples([[1] * 4], [[0] * 4], [[IGNORED, 1, 2, 1]]), (), labels)
    wrong = np.eye(3, dtype=np.float32)[[0, 2, 1, 2]]
    assert entity_f1([wrong], part) == token_accuracy([wrong], part) == 0
    right = np.eye(3, dtype=np.float32)[[0, 1, 2, 1]]
    assert set(all_scores("token-classification", [right], part).values()) == {1.0}


def test_without_entities_on_either_side_there_is_no_score_as_for_seqeval() -> None:
    true = [["O", "O"]]
    assert score(labels_of("BI"), true, true) == seqevals(true, true) == 0


def test_words_that_were_cut_off_are_missed() -> None:
    labels = ("O", "B-PER", "I-PER")
    example = Example("", words=("Anna", "Berg", "saw", "Ulf"), tags=(1, 2, 0, 1))
    encoded = EncodedExamples([[1] * 4], [[0] * 4], [[IGNORED, 1, 2, IGNORED]], words=[[0, 1]])
    part = Part(encoded, [example], labels)
    right = np.eye(3, dtype=np.float32)[[0, 1, 2, 0]]
    assert token_accuracy([right], part) == pytest.approx(2 / 4)
    assert entity_f1([right], part) == pytest.approx(2 * 1 / (1 + 2))
