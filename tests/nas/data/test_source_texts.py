"""Texts for a network that is as it will be: with labels or without, few or many."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ortnas.nas.architecture.heads import HEADS, LABEL_KINDS
from ortnas.nas.data import DataError, DataSource, Sizes
from ortnas.nas.data.rows import Row
from ortnas.nas.data.source_texts import UNLABELLED, SourceTexts, _cut, read_source_texts, stand_in_texts
from ortnas.nas.text import Example

SIZES = Sizes(16, 32, 32)


def read(path: Path, head: str, notes: list[str] | None = None, **columns: str) -> SourceTexts:
    return read_source_texts(DataSource(str(path), **columns), head, SIZES, 0, [] if notes is None else notes)


def table(path: Path, columns: str, *rows: str) -> Path:
    path.write_text("\n".join([columns, *rows]) + "\n")
    return path


def texts(n: int) -> list[str]:
    return [f"this is text number {number}" for number in range(n)]


def test_every_kind_of_labels_has_a_form_without_them() -> None:
    assert set(UNLABELLED) == set(LABEL_KINDS)
    for head in HEADS:
        stand_in = stand_in_texts(head)
        assert stand_in.are_shared
        assert not stand_in.are_labelled
        assert len(stand_in.calibration) > 32


def test_one_table_has_labels_or_none(tmp_path: Path) -> None:
    rows = [f"{text}\t{number % 2}" for number, text in enumerate(texts(60))]
    labelled = read(table(tmp_path / "dev.tsv", "sentence\tlabel", *rows), "classification")
    assert labelled.are_labelled
    assert (len(labelled.calibration), len(labelled.scored)) == (16, 32)
    assert {name for row in labelled.scored for name in row.names} == {"0", "1"}
    notes: list[str] = []
    numbered = [f"{number}\t{text}" for number, text in enumerate(texts(60))]
    plain = read(table(tmp_path / "texts.tsv", "id\tsentence", *numbered), "classification", notes)
    assert not plain.are_labelled
    assert any("is read as texts without labels" in note for note in notes)
    with pytest.raises(DataError, match="no column 'topic'"):
        read(tmp_path / "texts.tsv", "classification", label="topic")


def test_pairs_stay_pairs_where_there_are_no_labels(tmp_path: Path) -> None:
    rows = [f"{text},and {text}" for text in texts(40)]
    pairs = read(table(tmp_path / "pairs.csv", "sentence1,sentence2", *rows), "classification")
    assert all(row.example.pair == f"and {row.example.text}" for row in pairs.scored)
    named = read(table(tmp_path / "named.csv", "a,b", *rows), "regression", text="b", pair="a")
    assert all(row.example.text == f"and {row.example.pair}" for row in named.scored)


def test_plain_texts_are_read_as_the_head_reads_them(tmp_path: Path) -> None:
    file = table(tmp_path / "texts.txt", *texts(40))
    tagged = read(file, "token-classification").scored[0].example
    assert tagged.words[:4] == ("this", "is", "text", "number")
    assert len(tagged.tags) == len(tagged.words)
    with pytest.raises(
        DataError, match="span reads pairs of texts; give a table with columns 'question' and 'context'"
    ):
        read(file, "span")
    rows = [f"{text},what follows {text}" for text in texts(40)]
    question = read(table(tmp_path / "faq.csv", "question,context", *rows), "span").scored[0].example
    assert question.pair == f"what follows {question.text}"


def test_tags_and_answers_of_one_file_are_labels(tmp_path: Path) -> None:
    words = "\n\n".join(f"number{n} O\nParis B-LOC" for n in range(40))
    (tmp_path / "dev.txt").write_text(words)
    tagged = read(tmp_path / "dev.txt", "token-classification")
    assert tagged.are_labelled
    assert tagged.scored[0].names == ("O", "B-LOC")
    answers = [{"text": "it", "answer_start": 0}]
    paragraphs = [
        {"context": f"it is context {n}", "qas": [{"id": str(n), "question": "what?", "answers": answers}]}
        for n in range(40)
    ]
    (tmp_path / "dev.json").write_text(json.dumps({"data": [{"paragraphs": paragraphs}]}))
    spans = read(tmp_path / "dev.json", "span")
    assert spans.are_labelled
    assert spans.scored[0].example.answers is not None


@given(n=st.integers(1, 120))
def test_parts_are_disjoint_where_there_are_enough_texts(n: int) -> None:
    cut = _cut([Row(Example(text)) for text in texts(n)], False, SIZES, seed=0)
    calibration, scored = ({row.example.text for row in part} for part in (cut.calibration, cut.scored))
    assert cut.are_shared == (n < 32)
    assert (calibration == scored) if cut.are_shared else calibration.isdisjoint(scored)
    assert len(calibration) >= min(n, 16)


def test_a_folder_is_calibrated_on_training_and_scored_on_its_dev_set(tmp_path: Path) -> None:
    table(tmp_path / "train.tsv", "sentence\tlabel", *(f"{text}\t{n % 2}" for n, text in enumerate(texts(50))))
    table(tmp_path / "dev.tsv", "sentence\tlabel", *(f"another {text}\t{n % 2}" for n, text in enumerate(texts(50))))
    both = read(tmp_path, "classification")
    assert all(row.example.text.startswith("this") for row in both.calibration)
    assert all(row.example.text.startswith("another") for row in both.scored)
    assert (len(both.calibration), len(both.scored)) == (16, 32)


def test_passages_stay_with_their_queries(tmp_path: Path) -> None:
    pairs = [(query, f"passage {n} of {query}", int(n == 0)) for query in texts(40) for n in range(3)]
    graded = table(tmp_path / "graded.csv", "query,passage,grade", *(f"{q},{p},{grade}" for q, p, grade in pairs))
    ranked = read(graded, "reranking")
    assert ranked.are_labelled
    groups = {row.example.group for row in ranked.scored}
    assert groups.isdisjoint(row.example.group for row in ranked.calibration)
    assert len(ranked.scored) == 3 * len(groups) >= 32
    plain = table(tmp_path / "plain.csv", "query,passage", *(f"{q},{p}" for q, p, _ in pairs))
    assert not read(plain, "reranking").are_labelled


def test_scored_pairs_judge_embeddings(tmp_path: Path) -> None:
    lines = [f"{text}\tand {text}\t{n % 5}" for n, text in enumerate(texts(120))]
    header = "sentence1\tsentence2\tscore"
    table(tmp_path / "train.tsv", header, *lines[:60])
    table(tmp_path / "dev.tsv", header, *lines[60:])
    judged = read(tmp_path, "embedding", task="sts-b")
    assert judged.are_labelled
    assert judged.judgements is not None
    assert judged.judgements.are_scored
    scored = {row.example.text for row in judged.scored}
    assert scored.isdisjoint(row.example.text for row in judged.calibration)
