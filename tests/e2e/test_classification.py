"""The loop with labels: BERT-tiny, which has no classifier, learns to tell sentences that begin with "Return"."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from ortnas.nas.data import docstring_sentences

pytestmark = pytest.mark.slow


def write_task(folder: Path) -> None:
    sentences = [sentence for sentence in docstring_sentences() if "\t" not in sentence]
    returning = [sentence for sentence in sentences if sentence.startswith("Return")][:500]
    others = [sentence for sentence in sentences if not sentence.startswith("Return")][:: len(sentences) // 600][:500]
    rows = [f"{text}\t{label}" for pair in zip(returning, others, strict=False) for text, label in zip(pair, "10")]  # noqa: B905
    (folder / "train.tsv").write_text("\n".join(["text\tkind", *rows[:-160]]) + "\n")
    (folder / "dev.tsv").write_text("\n".join(["text\tkind", *rows[-160:]]) + "\n")


def test_a_checkpoint_without_a_classifier_becomes_a_package_with_one(tmp_path: Path, bert_tiny: Path) -> None:
    write_task(tmp_path)
    document = {
        "checkpoint": str(bert_tiny),
        "head": "classification",
        "folder": str(tmp_path / "run"),
        "data": {
            "source": str(tmp_path),
            "text": "text",
            "label": "kind",
            "max_length": 24,
            "calibration_size": 16,
            "search_size": 80,
        },
        "training": {"steps": 25, "teacher_steps": 40, "teacher_learning_rate": 0.0005, "importance_texts": 32},
        "refinement": {"steps": 40, "batch_size": 32},
        "target": {"sequence": 32},
        "bench": {"subnets": 12, "cap_s": 0.05},
        "search": {"budgets": ["1.2x"], "candidates": 6, "population": 3, "finalists": 2},
    }
    configuration = tmp_path / "run.yaml"
    configuration.write_text(yaml.safe_dump(document))
    command = [sys.executable, "-m", "ortnas", "run", str(configuration), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "it is fine-tuned in full first" in done.stderr
    rows = json.loads(done.stdout)["export"]["rows"]
    accuracies = [row["scores"]["accuracy"] for row in rows]
    assert min(accuracies[:2]) > 0.9
    assert accuracies[2] > 0.8

    # Ranked by likelihood, reported by accuracy.
    searched = json.loads((tmp_path / "run" / "search" / "int8-1.2x" / "search.json").read_text())
    assert searched["metric"] == "log_likelihood"
    assert searched["winner"]["score"] < 0
    assert list(rows[2]["intervals"]) == ["accuracy"]
    assert 0 < searched["finalists"][0]["report"]["score"]["value"] <= 1

    package = tmp_path / "run" / "packages" / "int8-1.2x"
    config = json.loads((package / "config.json").read_text())
    assert config["id2label"] == {"0": "0", "1": "1"}
    command = [
        sys.executable,
        str(package / "predict.py"),
        "Return the number of bytes in the file.",
        "This is a test.",
    ]
    answers = [json.loads(line)["output"] for line in subprocess.check_output(command, text=True).splitlines()]
    assert answers[0]["1"] > 0.5 > answers[1]["1"]
    # Latency is left out: a fraction of a millisecond on a busy machine says nothing about the package.
    command = [sys.executable, "-m", "ortnas", "verify", str(package), "--json"]
    checks = json.loads(subprocess.run(command, capture_output=True, text=True, check=False).stdout)
    states = {check["name"]: check["state"] for check in checks}
    assert (states["checksums"], states["load"], states["score"]) == ("pass", "pass", "pass")
