from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ortnas.nas.data import DataError
from ortnas.nas.data.annotations import open_squad
from ortnas.nas.data.columns import choose_columns
from ortnas.nas.data.rows import Row, table_rows
from ortnas.nas.data.tables import Table
from ortnas.nas.text import Example


def rows_of(table: Table, head: str) -> tuple[list[Row], list[str]]:
    notes: list[str] = []
    return table_rows(table, choose_columns(table, head, None, None, None, None), head, notes), notes


def squad(answers: Any, **changes: Any) -> dict[str, Any]:
    entry = {"id": "q1", "question": " Where is Ulm? ", "answers": answers} | changes
    return {"data": [{"title": "Ulm", "paragraphs": [{"context": " Ulm lies at the Danube.", "qas": [entry]}]}]}


def test_squad_answers_keep_their_places_in_the_unstripped_context(tmp_path: Path) -> None:
    path = tmp_path / "dev.json"
    path.write_text(
        json.dumps(squad([{"answer_start": 13, "text": "the Danube"}, {"answer_start": 17, "text": "Danube"}]))
    )
    rows, notes = rows_of(open_squad(path), "span")
    answers = ((13, "the Danube"), (17, "Danube"))
    assert rows == [Row(Example("Where is Ulm?", " Ulm lies at the Danube.", answers=answers))]
    assert notes == []


@pytest.mark.parametrize(
    ("answers", "note"),
    [
        (
            [{"answer_start": 3, "text": "Danube"}],
            "question q1 has an answer 'Danube' that its context does not have at character 3",
        ),
        ([{"answer_start": -7, "text": "Danube"}], "does not have at character -7"),
        ([], "question q1 has no answer"),
    ],
)
def test_questions_without_an_answer_in_place_are_left_out(tmp_path: Path, answers: Any, note: str) -> None:
    path = tmp_path / "train.json"
    path.write_text(json.dumps(squad(answers)))
    rows, notes = rows_of(open_squad(path), "span")
    assert rows == []
    assert notes[0].startswith("train.json: 1 row of 1 left out: ")
    assert note in notes[0]


def test_questions_that_their_context_does_not_answer_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "dev.json"
    plausible = [{"answer_start": 17, "text": "Danube"}]
    document = squad([], is_impossible=True, plausible_answers=plausible)
    entries = document["data"][0]["paragraphs"][0]["qas"]
    entries.append({"id": "q2", "question": "Where?", "answers": plausible, "is_impossible": False})
    entries.append({"id": "q3", "question": "Why?", "answers": [], "is_impossible": False})
    entries.append({"id": "q4", "question": "Who?", "answers": plausible, "is_impossible": True})
    path.write_text(json.dumps(document))
    rows, notes = rows_of(open_squad(path), "span")
    assert [row.example.answers for row in rows] == [(), ((17, "Danube"),)]
    assert [row.example.is_unanswerable for row in rows] == [True, False]
    assert notes == ["dev.json: 2 rows of 4 left out, the first because question q3 has no answer"]


@pytest.mark.parametrize("has_unanswerable", [True, False])
def test_what_no_answer_means_without_a_word_about_it_depends_on_the_task(has_unanswerable: bool) -> None:
    record = {"question": "Who?", "context": "Ulm lies.", "answers": {"text": [], "answer_start": []}}
    table = Table("rows", tuple(record), iter([("line 1", record)]))
    notes: list[str] = []
    columns = choose_columns(table, "span", None, None, None, None)
    rows = table_rows(table, columns, "span", notes, has_unanswerable)
    assert rows == ([Row(Example("Who?", "Ulm lies.", answers=()))] if has_unanswerable else [])
    assert notes == ([] if has_unanswerable else ["rows: 1 row of 1 left out: line 1 has no answer"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "train.json: no JSON"),
        ("[]", "not the form of SQuAD 1.1"),
        (
            json.dumps(squad([{"text": "x"}])),
            "at or after question q1: not the form of SQuAD 1.1 or 2.0: 'answer_start'",
        ),
        (
            json.dumps(squad([{"text": "x", "answer_start": "y"}])),
            "answer_start in column 'answers' holds 'y', and a whole",
        ),
        (
            json.dumps(squad([], is_impossible="yes")),
            "question q1: is_impossible is 'yes', and true or false is needed",
        ),
        (json.dumps(squad([]))[:-1] + ', "data": []}', "the key 'data' is there twice in one object"),
    ],
)
def test_other_json_gets_a_sentence(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "train.json").write_text(content)
    with pytest.raises(DataError, match=message):
        rows_of(open_squad(tmp_path / "train.json"), "span")
