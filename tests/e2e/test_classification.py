"""The loop with labels: BERT-tiny, which has no classifier, learns to tell sentences that begin with "Return"."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ortnas.nas.data import docstring_sentences
from tests.e2e.commands import assert_intact, invoke, predictions
from tests.e2e.runs import write_run

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
    configuration = write_run(
        tmp_path,
        bert_tiny,
        "classification",
        data={"source": str(tmp_path), "text": "text", "label": "kind", "max_length": 24, "search_size": 80},
        training={"steps": 25, "teacher_steps": 40, "teacher_learning_rate": 0.0005},
        refinement={"steps": 40, "batch_size": 32},
        target={"host": "local"},
        bench={"cap_s": 0.05},
    )
    done = invoke("run", configuration, "--json")
    assert done.exit_code == 0, done.stderr
    assert "it is fine-tuned in full first" in done.stderr
    assert "the full model's accuracy of" not in done.stderr
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
    returning, other = predictions(package, "Return the number of bytes in the file.", "This is a test.")
    assert returning["output"]["1"] > 0.5 > other["output"]["1"]
    assert_intact(package)
