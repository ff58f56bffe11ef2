"""The commands with heads that give a text one score, or find the answer to a question in it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.commands import answer, assert_intact, predictions
from tests.e2e.heads import from_data_to_extraction, texts, write_head_run

pytestmark = pytest.mark.slow


def regression(folder: Path) -> dict[str, Any]:
    for name, n in (("train", 120), ("dev", 20)):
        rows = [json.dumps({"text": text, "score": len(text) / 10}) for text in texts(n, n)]
        (folder / f"{name}.jsonl").write_text("\n".join(rows))
    return {"source": str(folder), "text": "text", "label": "score"}


def questions(folder: Path) -> dict[str, Any]:
    for name, n in (("train-v1.1", 120), ("dev-v1.1", 20)):
        paragraphs = []
        for row, text in enumerate(texts(n, n)):
            word = text.split()[3]
            answer = {"text": word, "answer_start": text.index(word)}
            question = {"id": f"{name}{row}", "question": f"is it {word}", "answers": [answer]}
            paragraphs.append({"context": text, "qas": [question]})
        (folder / f"{name}.json").write_text(json.dumps({"data": [{"title": "t", "paragraphs": paragraphs}]}))
    return {"source": str(folder), "task": "squad"}


def scores_and_texts(folder: Path) -> dict[str, Any]:
    (folder / "more.txt").write_text("\n".join(texts(80, 7)))
    labelled = regression(folder)
    return labelled | {"source": [labelled["source"], str(folder / "more.txt")]}


def questions_and_others(folder: Path) -> dict[str, Any]:
    rows = [json.dumps({"question": f"is it {text.split()[0]}", "context": text}) for text in texts(80, 7)]
    (folder / "more.jsonl").write_text("\n".join(rows))
    labelled = questions(folder)
    return labelled | {"source": [labelled["source"], str(folder / "more.jsonl")]}


def questions_without_answers(folder: Path) -> dict[str, Any]:
    """SQuAD 2.0: every other context lacks the word that is asked for."""
    for name, n in (("train-v2.0", 120), ("dev-v2.0", 20)):
        paragraphs = []
        for row, text in enumerate(texts(n, n)):
            word = text.split()[3]
            answers = [{"text": word, "answer_start": text.index(word)}]
            question = {"id": f"{name}{row}", "question": f"is it {word}", "answers": answers, "is_impossible": False}
            if row % 2:
                question |= {"answers": [], "plausible_answers": answers, "is_impossible": True}
            paragraphs.append({"context": text, "qas": [question]})
        document = {"version": "v2.0", "data": [{"title": "t", "paragraphs": paragraphs}]}
        (folder / f"{name}.json").write_text(json.dumps(document))
    return {"source": str(folder), "task": "squad_v2"}


@pytest.mark.parametrize(
    ("family", "head", "make", "metric"),
    [
        ("electra", "regression", regression, "pearson_spearman"),
        ("distilbert", "span", questions, "span_f1"),
        ("mpnet", "regression", scores_and_texts, "pearson_spearman"),
        ("deberta-v2", "span", questions_and_others, "span_f1"),
    ],
)
def test_every_head_goes_from_data_to_a_verified_package(
    tmp_path: Path, family: str, head: str, make: Any, metric: str
) -> None:
    from_data_to_extraction(tmp_path, family, head, make(tmp_path), metric)


def test_questions_without_an_answer_go_from_data_to_a_package_that_gives_none(tmp_path: Path) -> None:
    run = write_head_run(tmp_path, "bert", "span", questions_without_answers(tmp_path))
    host = ("--set", "target.host=simulated")
    exported = answer("run", run, *host)["export"]
    splits = json.loads((tmp_path / "run" / "data" / "splits" / "splits.json").read_text())
    assert splits["counts"] == {"training": 96, "calibration": 8, "search": 16, "report": 16}
    assert "have no answer in their context, and are kept" in splits["notes"][-1]
    names = {"span_f1", "exact_match", "answerable_f1", "no_answer_accuracy"}
    for row in exported["rows"]:
        assert row["scores"].keys() == names
        assert row["intervals"]["span_f1"]["score"]["value"] == row["scores"]["span_f1"]
        assert isinstance(row["null_threshold"], float)
    (package,) = map(Path, exported["packages"])
    record = json.loads((package / "ortnas.json").read_text())
    assert record["null_threshold"] == exported["rows"][-1]["null_threshold"]
    assert record["report"] == exported["rows"][-1]["scores"]
    assert_intact(package)

    # Six steps teach nothing; that the threshold decides is seen at its ends.
    examples = json.loads((package / "sample.json").read_text())["examples"]
    asked = [word for example in examples for word in (example["text"], example["pair"])]
    counts = set()
    for threshold in (-1e6, record["null_threshold"], 1e6):
        (package / "ortnas.json").write_text(json.dumps(record | {"null_threshold": threshold}))
        counts.add(sum(prediction["output"] == "" for prediction in predictions(package, *asked)))
    assert {0, len(examples)} <= counts
