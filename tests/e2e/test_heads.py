"""The commands with every other head, on random two-layer networks: data, train, further training, extraction."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import transformers

from tests.e2e import runs
from tests.e2e.commands import answer, assert_intact, predictions
from tests.networks import WORDS, write_checkpoint

pytestmark = pytest.mark.slow

SPACE = {"hidden_size": [16, 32], "depth": [1, 2], "num_heads": [2, 4], "head_size": [8], "ffn_size": [32, 64]}


def write_run(folder: Path, family: str, head: str, data: dict[str, Any]) -> Path:
    return runs.write_run(
        folder,
        write_checkpoint(folder / "checkpoint", family, head),
        head,
        data={"calibration_size": 8, "search_size": 16, "report_size": 16, "max_length": 24, **data},
        space=SPACE,
        # The head's labels mean nothing.
        training={
            "steps": 6,
            "teacher_steps": 4,
            "probe_every": 3,
            "probe_texts": 8,
            "batch_size": 8,
            "new_head": head == "token-classification",
        },
        refinement={"steps": 4},
        target={"sequence": 16, "host": "local"},
        bench={"subnets": 10, "cap_s": 0.02},
        search={"budgets": ["0.2x"], "candidates": 3, "population": 2},
    )


def texts(n: int, seed: int = 0) -> list[str]:
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, rng.integers(6, 12))) for _ in range(n)]


def regression(folder: Path) -> dict[str, Any]:
    for name, n in (("train", 120), ("dev", 20)):
        rows = [json.dumps({"text": text, "score": len(text) / 10}) for text in texts(n, n)]
        (folder / f"{name}.jsonl").write_text("\n".join(rows))
    return {"source": str(folder), "text": "text", "label": "score"}


def entities(folder: Path) -> dict[str, Any]:
    for name, n in (("train", 120), ("dev", 20)):
        sentences = [
            "\n".join(f"{word} {'B-W' if len(word) > 3 else 'O'}" for word in text.split()) for text in texts(n, n)
        ]
        (folder / f"{name}.conll").write_text("\n\n".join(sentences))
    return {"source": str(folder)}


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


def sentences(folder: Path) -> dict[str, Any]:
    (folder / "texts.txt").write_text("\n".join(texts(200)))
    return {"source": str(folder / "texts.txt")}


def books(folder: Path) -> dict[str, Any]:
    (folder / "books").mkdir()
    for number in range(4):
        (folder / "books" / f"{number}.txt").write_text("\n".join(texts(200, number)))
    return {"source": str(folder / "books")}


@pytest.mark.parametrize(
    ("family", "head", "make", "metric"),
    [
        ("electra", "regression", regression, "pearson_spearman"),
        ("roberta", "token-classification", entities, "entity_f1"),
        ("distilbert", "span", questions, "span_f1"),
        ("bert", "masked-lm", books, "masked_accuracy"),
        ("modernbert", "token-classification", entities, "entity_f1"),
        ("mpnet", "regression", regression, "pearson_spearman"),
        ("deberta-v2", "span", questions, "span_f1"),
        ("electra", "sparse", sentences, "similarity_spearman"),
    ],
)
def test_every_head_goes_from_data_to_a_verified_package(
    tmp_path: Path, family: str, head: str, make: Any, metric: str
) -> None:
    run = write_run(tmp_path, family, head, make(tmp_path))
    parts = answer("data", run)["parts"]
    assert {name: facts["rows"] for name, facts in parts.items() if name != "training"}["search"] > 0
    rows = answer("run", run)["export"]["rows"]
    assert len(rows) == 3
    assert metric in rows[0]["scores"]
    folder = tmp_path / "run"
    curve = [json.loads(line) for line in (folder / "curves" / "supernet.jsonl").read_text().splitlines()]
    assert [line["step"] for line in curve if "score" in line] == [3, 6]
    assert list(folder.glob("curves/supernet/events.out.tfevents.*"))
    assert_intact(folder / "packages" / "int8-0.2x")

    layers = [{"source": 0, "num_heads": 2, "head_size": 8, "ffn_size": 32}]
    subnet = tmp_path / "subnet.json"
    subnet.write_text(json.dumps({"hidden_size": 16, "layers": layers}))
    refined = answer("refine", run, "--subnet", subnet, "--quantization-aware")
    assert Path(refined["packages"][0], "model.onnx").is_file()
    answer("refine", run, "--subnet", subnet)
    extracted = answer("extract", run, "--subnet", refined["subnet_key"], "--out", tmp_path / "extracted")
    assert extracted["source"].endswith(refined["subnet_key"])
    config = transformers.AutoConfig.from_pretrained(tmp_path / "extracted")
    assert (config.hidden_size, config.num_hidden_layers) == (16, 1)


def test_questions_without_an_answer_go_from_data_to_a_package_that_gives_none(tmp_path: Path) -> None:
    run = write_run(tmp_path, "bert", "span", questions_without_answers(tmp_path))
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
