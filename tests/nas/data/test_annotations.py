from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nas.data import DataError
from nas.data.annotations import open_squad
from nas.data.columns import choose_columns
from nas.data.rows import Row, table_rows
from nas.data.tables import Table
from nas.text import Example


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


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "train.json: no JSON"),
        ("[]", "not the form of SQuAD 1.1"),
        (json.dumps(squad([{"text": "x"}])), "at or after question q1: not the form of SQuAD 1.1: 'answer_start'"),
        (json.dumps(squad([{"text": "x", "answer_start": "y"}])), "does not hold the lists answer_start and text"),
    ],
)
def test_other_json_gets_a_sentence(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "train.json").write_text(content)
    with pytest.raises(DataError, match=message):
        rows_of(open_squad(tmp_path / "train.json"), "span")
