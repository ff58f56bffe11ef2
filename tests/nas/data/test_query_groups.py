"""Queries with their passages, in every form in which people keep them."""

from __future__ import annotations

import json
import math
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

from ortnas.nas.data import (
    Asked,
    DataError,
    DataSource,
    Sizes,
    Splits,
    guess_source,
    make_splits,
    read_splits,
    write_splits,
)
from ortnas.nas.data.beir_groups import CANDIDATES

SIZES = Sizes(calibration=6, search=10)


def passages(query: int) -> list[str]:
    return [f"passage {place} of {query}" for place in range(4)]


FORMS: dict[str, Any] = {
    "one positive, a list of negatives": lambda query: {
        "query": f"query {query}",
        "positive": passages(query)[0],
        "negatives": passages(query)[1:],
    },
    "columns of negatives": lambda query: {
        "anchor": f"query {query}",
        "positive": passages(query)[0],
        **{f"negative_{place}": passages(query)[place] for place in (1, 2, 3)},
    },
    "short names": lambda query: {
        "query": f"query {query}",
        "pos": passages(query)[:1],
        "neg": passages(query)[1:],
    },
    "documents with labels": lambda query: {
        "query": f"query {query}",
        "documents": passages(query),
        "labels": [1, 0, 0, 0],
    },
    "documents with scores": lambda query: {
        "query": f"query {query}",
        "docs": passages(query),
        "scores": [1.0, 0.0, 0.0, 0.0],
    },
}


def write_json(folder: Path, form: Any, train: int = 60, dev: int = 12) -> None:
    for name, numbers in (("train", range(train)), ("dev", range(1000, 1000 + dev))):
        (folder / f"{name}.jsonl").write_text("\n".join(json.dumps(form(number)) for number in numbers))


def grades_by_query(splits: Splits, part: str) -> dict[str, list[float]]:
    grades: dict[str, list[float]] = {}
    for example in splits.parts[part]:
        grades.setdefault(example.text, []).append(float(example.label or 0))
    return grades


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_every_form_says_the_same(tmp_path: Path, form: Any) -> None:
    write_json(tmp_path, form)
    splits = make_splits(DataSource(str(tmp_path)), "reranking", SIZES, seed=0)
    counts = {name: len(grades_by_query(splits, name)) for name in splits.parts}
    assert counts["search"] == 10
    assert counts["report"] == 12
    assert len(splits.calibration) == 6
    assert grades_by_query(splits, "report") == {f"query {number}": [1, 0, 0, 0] for number in range(1000, 1012)}
    queries = [{example.text for example in part} for part in splits.parts.values()]
    assert sum(map(len, queries)) == len(set().union(*queries))
    groups = [example.group for example in splits.training]
    # Passages of a query lie side by side.
    assert len(list(groupby(groups))) - 1 == counts["training"] - 1
    write_splits(splits, tmp_path / "kept")
    assert read_splits(tmp_path / "kept").parts == splits.parts
    if form is not FORMS["columns of negatives"]:
        guess = guess_source(str(tmp_path), Asked())
        assert (guess.head, dict(guess.columns)) == ("reranking", {})


def test_pairs_of_a_table_belong_to_their_query(tmp_path: Path) -> None:
    for name, numbers in (("train", range(60)), ("dev", range(100, 112))):
        rows = [
            f"query {number}\t{text}\t{int(place == 2) * 3}"
            for place in range(4)
            for number in numbers
            for text in [passages(number)[place]]
        ]
        (tmp_path / f"{name}.tsv").write_text("\n".join(["query\tpassage\trelevance", *rows]))
    splits = make_splits(DataSource(str(tmp_path)), "reranking", SIZES, seed=0)
    assert grades_by_query(splits, "report")["query 100"] == [0, 0, 3, 0]
    guess = guess_source(str(tmp_path), Asked(head="reranking"))
    assert dict(guess.columns) == {"text": "query", "pair": "passage", "label": "relevance"}


def test_unjudged_queries_are_taught_by_the_teacher_and_score_nothing(tmp_path: Path) -> None:
    def form(query: int) -> dict[str, Any]:
        labels = None if query % 3 == 0 else [0, 0, 0, 0] if query % 3 == 1 and query > 40 else [1, 0, 0, 0]
        return {"query": f"query {query}", "passages": passages(query), "labels": labels}

    write_json(tmp_path, form)
    splits = make_splits(DataSource(str(tmp_path)), "reranking", SIZES, seed=0)
    for part in ("search", "report"):
        assert all(max(grades) > 0 for grades in grades_by_query(splits, part).values())
    assert any(math.isnan(float(example.label or 0)) for example in splits.training)
    notes = " ".join(splits.notes)
    assert "report: " in notes
    assert "queries lack grades or a relevant passage, and are left out" in notes
    assert "the teacher's scores alone teach them" in notes
    write_splits(splits, tmp_path / "kept")
    assert read_splits(tmp_path / "kept").digest == splits.digest


def test_queries_of_the_dev_set_and_repeated_pairs_leave_training(tmp_path: Path) -> None:
    form = FORMS["documents with labels"]
    lines = [json.dumps(form(number)) for number in (*range(60), 5, 1003)]
    write_json(tmp_path, form)
    (tmp_path / "train.jsonl").write_text(
        "\n".join([*lines, json.dumps({**form(70), "documents": ["one"], "labels": [1]})])
    )
    splits = make_splits(DataSource(str(tmp_path)), "reranking", SIZES, seed=0)
    assert "training: 4 of 249 pairs are of queries of the dev set and are left out" in splits.notes
    assert "training: 4 of 245 pairs repeat others and are left out" in splits.notes
    assert "training: 1 of 61 queries have one passage, with nothing to rank, and are left out" in splits.notes


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"query": "q", "documents": ["a", "b"], "labels": [1]}, r"train.jsonl, line 1: 2 documents, but 1 labels"),
        ({"query": "q", "documents": ["a", "b"], "labels": [1, "yes"]}, "'yes' in column 'grade' is no grade"),
        ({"query": "q", "documents": ["a", "b"], "labels": [1, -1]}, "-1 in column 'grade' is no grade"),
        ({"query": "q", "documents": ["a", 5], "labels": [1, 0]}, "column 'passage' holds 5, and text is needed"),
        ({"query": "q", "documents": {"a": 1}, "labels": [1, 0]}, "'documents' holds .*, and texts"),
        ({"query": "q", "text": "a"}, r"no column .* the columns are query, text"),
    ],
)
def test_bad_groups_are_refused(tmp_path: Path, record: dict[str, Any], message: str) -> None:
    write_json(tmp_path, lambda query: record)
    with pytest.raises(DataError, match=message):
        make_splits(DataSource(str(tmp_path)), "reranking", SIZES, seed=0)


def test_too_few_judged_queries_are_refused(tmp_path: Path) -> None:
    write_json(tmp_path, FORMS["documents with labels"], train=15)
    with pytest.raises(DataError, match=r"training has 15 judged queries .* 10 are set aside for search"):
        make_splits(DataSource(str(tmp_path)), "reranking", SIZES, seed=0)
    write_json(tmp_path, lambda query: {"query": f"query {query}", "passages": passages(query)})
    with pytest.raises(DataError, match="training has 0 judged queries"):
        make_splits(DataSource(str(tmp_path)), "reranking", SIZES, seed=0)


def write_beir(folder: Path, qrels: tuple[str, ...]) -> None:
    (folder / "qrels").mkdir(parents=True)
    corpus = [{"_id": f"d{number}", "title": f"title {number}", "text": f"document {number}"} for number in range(300)]
    queries = [{"_id": f"q{number}", "text": f"question {number}"} for number in range(90)]
    for name, records in (("corpus", corpus), ("queries", queries)):
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, records)))
    for place, name in enumerate(qrels):
        rows = [
            f"q{number}\td{number}\t2\nq{number}\td{number + 1}\t0" for number in range(30 * place, 30 * place + 30)
        ]
        (folder / "qrels" / f"{name}.tsv").write_text("\n".join(["query-id\tcorpus-id\tscore", *rows]))


def test_queries_of_beir_are_filled_up_with_drawn_documents(tmp_path: Path) -> None:
    write_beir(tmp_path, ("train", "test"))
    splits = make_splits(DataSource(str(tmp_path)), "reranking", SIZES, seed=0)
    report = grades_by_query(splits, "report")
    assert len(report) == 30
    assert {len(grades) for grades in report.values()} == {CANDIDATES}
    assert all(sorted(grades)[-2:] == [0, 2] for grades in report.values())
    texts = {example.pair for example in splits.report if example.text == "question 30"}
    assert {"title 30 document 30", "title 31 document 31"} < texts
    assert any("filled up to 20 with documents drawn at random" in note for note in splits.notes)
    assert make_splits(DataSource(str(tmp_path)), "reranking", SIZES, seed=0).digest == splits.digest
    assert guess_source(str(tmp_path), Asked(head="reranking")).head == "reranking"


def test_one_file_of_judgements_is_cut_into_all_parts(tmp_path: Path) -> None:
    write_beir(tmp_path, ("test",))
    splits = make_splits(DataSource(str(tmp_path)), "reranking", Sizes(calibration=6, search=5), seed=0)
    assert [len(grades_by_query(splits, part)) for part in ("search", "report")] == [5, 5]
    (tmp_path / "qrels" / "test.tsv").unlink()
    with pytest.raises(DataError, match="which say what is relevant"):
        make_splits(DataSource(str(tmp_path)), "reranking", SIZES, seed=0)
