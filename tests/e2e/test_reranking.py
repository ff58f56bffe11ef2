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
import yaml

from ortnas.nas.data import docstring_sentences

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


def run(*arguments: str) -> str:
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_passages_are_put_in_the_order_of_their_relevance(tmp_path: Path, bert_tiny: Path) -> None:
    write_task(tmp_path)
    document = {
        "checkpoint": str(bert_tiny),
        "head": "reranking",
        "folder": str(tmp_path / "run"),
        "data": {"source": str(tmp_path), "max_length": 40, "calibration_size": 16, "search_size": 60},
        "training": {"steps": 20, "teacher_steps": 150, "teacher_learning_rate": 0.001, "importance_texts": 32},
        "refinement": {"steps": 60, "batch_size": 32},
        "target": {"sequence": 32, "host": "simulated"},
        "bench": {"subnets": 12},
        "search": {"budgets": ["1.2x"], "candidates": 6, "population": 3, "finalists": 2},
    }
    configuration = tmp_path / "run.yaml"
    configuration.write_text(yaml.safe_dump(document))
    rows = json.loads(run("-m", "ortnas", "run", str(configuration), "--json"))["export"]["rows"]
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
    lines = run(str(package / "predict.py"), "close file", *passages).splitlines()
    answers = [json.loads(line) for line in lines]
    assert sorted(answer["text"] for answer in answers) == sorted(passages)
    scores = [answer["output"] for answer in answers]
    assert scores == sorted(scores, reverse=True)
    too_few = [sys.executable, str(package / "predict.py"), "close file"]
    assert "usage: python predict.py query passage" in subprocess.run(too_few, capture_output=True, text=True).stderr
    verify = [sys.executable, "-m", "ortnas", "verify", str(package), "--json"]
    checks = json.loads(subprocess.run(verify, capture_output=True, text=True, check=False).stdout)
    states = {check["name"]: check["state"] for check in checks}
    assert (states["checksums"], states["load"], states["score"]) == ("pass", "pass", "pass")

    layers = [{"source": 1, "num_heads": 2, "head_size": 64, "ffn_size": 256}]
    subnet = tmp_path / "subnet.json"
    subnet.write_text(json.dumps({"hidden_size": 128, "layers": layers}))
    run("-m", "ortnas", "extract", str(configuration), "--subnet", str(subnet), "--out", str(tmp_path / "out"))
    extracted = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "out")
    assert extracted.config.num_labels == 1
