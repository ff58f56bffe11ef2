"""SQuAD files as they arrive: the right questions are read, or one sentence says what is wrong."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from ortnas.nas.data import DataError, DataSource
from ortnas.nas.data.source import read_source
from ortnas.nas.text import Example
from tests.mutations import assert_sentence, mutated, seeds


def make_document(version: str) -> dict[str, Any]:
    """Two articles of two paragraphs; in 2.0 every third question has no answer."""
    articles = []
    for title in ("Ulm", "Café"):
        paragraphs = []
        for place in range(2):
            context = f" {title} {place} lies at the Danube, not at the sea — says the guide {place}. "
            entries = []
            for number in range(3):
                answers = [
                    {"text": text, "answer_start": context.index(text)}
                    for text in ("the Danube", "Danube")[: number + 1]
                ]
                question = {
                    "id": f"{title}{place}{number}",
                    "question": f"Where is {title}, {number}?",
                    "answers": answers,
                }
                if version == "v2.0":
                    question["is_impossible"] = number == 2
                    if number == 2:
                        question |= {"answers": [], "plausible_answers": answers}
                entries.append(question)
            paragraphs.append({"context": context, "qas": entries})
        articles.append({"title": title, "paragraphs": paragraphs})
    return {"version": version, "data": articles}


def examples_of(document: Any) -> list[Example]:
    """What is right to read from a document of the standard's form; raises where it has another one."""
    examples = []
    for article in document["data"]:
        for paragraph in article["paragraphs"]:
            for entry in paragraph["qas"]:
                question, context = (entry["question"] or "").strip(), paragraph["context"]
                answers = dict.fromkeys((answer["answer_start"], answer["text"]) for answer in entry["answers"])
                in_place = tuple(
                    (start, text) for start, text in answers if text and start >= 0 and context[start:].startswith(text)
                )
                is_impossible = entry.get("is_impossible", False)
                is_right = not answers if is_impossible else bool(in_place)
                if question and context.strip() and is_right:
                    examples.append(Example(question, context, answers=in_place))
    return examples


def read(folder: Path, content: bytes, kind: str = "json") -> tuple[list[Example], list[str]]:
    """The training questions and the notes on them; the dev set is in order."""
    (folder / "dev.json").write_text(json.dumps(make_document("1.1")))
    (folder / f"train.{kind}").write_bytes(content)
    notes: list[str] = []
    rows = read_source(DataSource(str(folder)), "span", notes).training
    return [row.example for row in rows], notes


@pytest.mark.slow
@pytest.mark.parametrize("version", ["1.1", "v2.0"])
def test_mutated_files_are_read_right_or_refused_in_one_sentence(tmp_path: Path, version: str) -> None:
    document, refused = make_document(version), 0
    for seed in seeds():
        content = mutated(document, random.Random(seed))
        try:
            examples, notes = read(tmp_path, content)
        except DataError as error:
            assert_sentence(error)
            refused += 1
            continue
        assert examples == examples_of(json.loads(content.decode("utf-8-sig"))), seed
        for note in notes:
            assert_sentence(note)
    assert 0.2 < refused / len(seeds()) < 0.95, "mutations are neither all harmless nor all fatal"


def test_documents_of_other_forms_are_refused_in_one_sentence(tmp_path: Path) -> None:
    document = make_document("v2.0")
    articles = document["data"]
    lines = "\n".join(map(json.dumps, articles))
    for content, kind in (
        (json.dumps(articles), "json"),
        (lines, "json"),
        (lines, "jsonl"),
        ("[" * 2000 + "]" * 2000, "json"),
        ("[" * 100_000, "json"),
        ('{"data": ' + "9" * 5000 + "}", "json"),
        ("", "json"),
        ("null", "json"),
    ):
        for path in tmp_path.glob("train.*"):
            path.unlink()
        with pytest.raises(DataError) as failure:
            read(tmp_path, content.encode(), kind)
        assert_sentence(failure.value)


def test_order_and_layout_do_not_matter(tmp_path: Path) -> None:
    document = make_document("v2.0")
    expected = examples_of(document)
    assert [example.is_unanswerable for example in expected] == [False, False, True] * 4
    for content in (
        json.dumps(document, sort_keys=True),
        json.dumps(document, ensure_ascii=False, indent=4),
        "\ufeff" + json.dumps(document, separators=(",\r\n", ":")),
    ):
        assert read(tmp_path, content.encode()) == (expected, [])
