"""Several labels a text: BERT-tiny learns which of some words docstrings have, and its package says so."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import transformers

from ortnas.nas.data import docstring_sentences
from tests.e2e.commands import answer, assert_intact, extract_one_layer, predictions
from tests.e2e.runs import write_run

pytestmark = pytest.mark.slow

WORDS = ("file", "string", "return", "list")


def label_set(sentence: str) -> list[str]:
    words = {word.rstrip("s") for word in sentence.lower().replace(".", " ").split()}
    return [word for word in WORDS if word in words]


def write_task(folder: Path) -> None:
    sentences = docstring_sentences()
    some = [sentence for sentence in sentences if label_set(sentence)][:900]
    none = [sentence for sentence in sentences if not label_set(sentence)][:300]
    rows = [sentence for number in range(300) for sentence in (*some[3 * number : 3 * number + 3], none[number])]
    for name, chosen in (("train", rows[200:]), ("dev", rows[:200])):
        lines = [json.dumps({"text": sentence, "labels": label_set(sentence)}) for sentence in chosen]
        (folder / f"{name}.jsonl").write_text("\n".join(lines))


def test_a_text_is_given_the_labels_that_it_has(tmp_path: Path, bert_tiny: Path) -> None:
    write_task(tmp_path)
    configuration = write_run(
        tmp_path,
        bert_tiny,
        "multi-label",
        data={"source": str(tmp_path), "max_length": 24, "search_size": 120},
        training={"steps": 40, "teacher_steps": 250, "teacher_learning_rate": 0.001},
        refinement={"steps": 150, "batch_size": 32},
    )
    rows = answer("run", configuration)["export"]["rows"]
    for row in rows:
        recalls = {name for name in row["scores"] if name.startswith("recall of ")}
        assert recalls == {f"recall of {word}" for word in WORDS}
        assert row["scores"].keys() - recalls == {"micro_f1", "macro_f1", "label_log_likelihood"}
        assert len(row["label_thresholds"]) == 4
        assert list(row["intervals"]) == ["micro_f1"]
    assert rows[0]["scores"]["micro_f1"] > 0.6

    package = tmp_path / "run" / "packages" / "int8-1.2x"
    record = json.loads((package / "ortnas.json").read_text())
    assert record["label_thresholds"] == rows[2]["label_thresholds"]
    config = json.loads((package / "config.json").read_text())
    assert config["problem_type"] == "multi_label_classification"
    assert list(config["id2label"].values()) == sorted(WORDS)
    assert "recall of file" in (package / "README.md").read_text()
    texts = ["Read the file.", "Return a string."]
    for prediction in predictions(package, *texts):
        output = prediction["output"]
        reached = [
            name
            for name, threshold in zip(record["labels"], record["label_thresholds"], strict=True)
            if output["probabilities"][name] >= threshold
        ]
        assert output["labels"] == reached
    # Thresholds decide: at 0 a text has all labels, above 1 none.
    for threshold, labels in ((0.0, record["labels"]), (1.1, [])):
        changed = record | {"label_thresholds": [threshold] * 4}
        (package / "ortnas.json").write_text(json.dumps(changed))
        (prediction,) = predictions(package, texts[0])
        assert prediction["output"]["labels"] == labels
    (package / "ortnas.json").write_text(json.dumps(record))
    assert_intact(package)

    extract_one_layer(configuration, tmp_path / "out")
    extracted = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "out")
    assert extracted.config.problem_type == "multi_label_classification"
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    pipeline = transformers.pipeline("text-classification", model=extracted, tokenizer=tokenizer, top_k=None)
    scores = {entry["label"]: entry["score"] for entry in pipeline(texts)[0]}
    # Sigmoids, as of several labels: they need not sum to one.
    logits = extracted(**tokenizer(texts[0], return_tensors="pt")).logits[0].sigmoid().tolist()
    assert list(scores) == [name for _, name in sorted(zip(logits, record["labels"], strict=True), reverse=True)]
    assert sorted(scores.values()) == pytest.approx(sorted(logits), abs=1e-5)
