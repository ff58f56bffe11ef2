"""A reranker: BERT-tiny learns which docstring a query is taken from, and its package puts passages in order."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import transformers

from ortnas.nas.data import docstring_sentences
from tests.e2e.commands import answer, assert_intact, extract_one_layer, predictions
from tests.e2e.runs import write_run

pytestmark = pytest.mark.slow


def write_task(folder: Path) -> None:
    """A query is the longest words of a sentence; the other passages are sentences that begin alike."""
    rng = random.Random(0)
    sentences = sorted({text for text in docstring_sentences() if 5 <= len(text.split()) <= 14})
    chosen = rng.sample(range(10, len(sentences) - 10), 420)
    groups = []
    for number, place in enumerate(chosen):
        words = sorted(sentences[place].strip(".").split(), key=len)[-3:]
        others = [sentences[place + step] for step in (-3, -2, 2)] + rng.sample(sentences, 2)
        passages = [sentences[place], *(text for text in others if text != sentences[place])]
        record: dict[str, Any] = {"query": " ".join(words), "documents": passages}
        # Of some queries nobody said what is relevant.
        record["labels"] = None if number % 6 == 5 and number >= 100 else [1] + [0] * (len(passages) - 1)
        groups.append(json.dumps(record))
    (folder / "dev.jsonl").write_text("\n".join(groups[:80]))
    (folder / "train.jsonl").write_text("\n".join(groups[80:]))


def test_passages_are_put_in_the_order_of_their_relevance(tmp_path: Path, bert_tiny: Path) -> None:
    write_task(tmp_path)
    configuration = write_run(
        tmp_path,
        bert_tiny,
        "reranking",
        data={"source": str(tmp_path), "max_length": 40, "search_size": 60},
        training={"steps": 20, "teacher_steps": 150, "teacher_learning_rate": 0.001},
        refinement={"steps": 60, "batch_size": 32},
    )
    rows = answer("run", configuration)["export"]["rows"]
    for row in rows:
        assert row["scores"].keys() == {"ndcg_at_10", "mrr_at_10", "list_log_likelihood"}
        interval = row["intervals"]["ndcg_at_10"]["score"]
        assert interval["low"] <= interval["value"] == row["scores"]["ndcg_at_10"] <= interval["high"]
    # Among six passages chance has 0.41.
    assert rows[0]["scores"]["mrr_at_10"] > 0.6

    package = tmp_path / "run" / "packages" / "int8-1.2x"
    config = json.loads((package / "config.json").read_text())
    assert config["id2label"] == {"0": "LABEL_0"}
    passages = ["Return the number of bytes.", "Close the file.", "This is a test."]
    ordered = predictions(package, "close file", *passages)
    assert sorted(prediction["text"] for prediction in ordered) == sorted(passages)
    scores = [prediction["output"] for prediction in ordered]
    assert scores == sorted(scores, reverse=True)
    too_few = [sys.executable, str(package / "predict.py"), "close file"]
    assert "usage: python predict.py query passage" in subprocess.run(too_few, capture_output=True, text=True).stderr
    assert_intact(package)

    extract_one_layer(configuration, tmp_path / "out")
    extracted = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "out")
    assert extracted.config.num_labels == 1
