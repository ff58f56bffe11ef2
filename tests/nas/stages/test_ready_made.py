"""Checkpoints that the user names: refused in a sentence, or read, and fine-tuned where they have no head."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import transformers

from ortnas.nas.console import Console
from ortnas.nas.run.configuration import ConfigurationError, check_configuration
from ortnas.nas.run.run import Run
from ortnas.nas.stages.commands import train
from ortnas.nas.stages.ready_made import open_ready_made, ready_made_entries
from ortnas.nas.stages.ready_made_training import train_ready_made
from tests.nas.stages.small_runs import open_run
from tests.networks import write_bert, write_checkpoint

pytestmark = pytest.mark.slow


def refused(trained: Path, *rivals: str | Path) -> str:
    run = open_run(trained, compare=[str(rival) for rival in rivals])
    try:
        with pytest.raises(ConfigurationError) as caught:
            open_ready_made(run.configuration, run.console, run.folder, run.texts)
    finally:
        run.close()
    return str(caught.value)


def test_what_cannot_be_compared_is_refused_in_a_sentence(trained: Path, tmp_path: Path) -> None:
    write_bert(tmp_path / "words", ["extra"])
    assert "words has another tokenizer than the run's checkpoint" in refused(trained, tmp_path / "words")
    write_bert(tmp_path / "classifier", num_labels=2)
    assert "is a BertForSequenceClassification of other labels" in refused(trained, tmp_path / "classifier")
    write_bert(tmp_path / "short", max_position_embeddings=12)
    assert "short has 12 positions, and this run's texts and timings 16 tokens" in refused(trained, tmp_path / "short")
    assert "compare: checkpoint" in refused(trained, tmp_path / "none" / "there")
    assert refused(trained, "package:no_such_package/model").startswith("compare = 'package:no_such_package/model'")


def test_checkpoints_of_one_name_are_told_apart_and_their_tokenizers_file_may_be_written_otherwise(
    trained: Path, tmp_path: Path
) -> None:
    for place in ("a", "b"):
        write_bert(tmp_path / place / "model")
    text = (tmp_path / "a" / "model" / "tokenizer.json").read_text()
    (tmp_path / "a" / "model" / "tokenizer.json").write_text(text.replace(",\n", ", \n"))
    write_checkpoint(tmp_path / "electra", "electra")
    names = [str(tmp_path / place) for place in ("a/model", "b/model", "electra")]
    run = open_run(trained, compare=names)
    opened = open_ready_made(run.configuration, run.console, run.folder, run.texts)
    run.close()
    assert [item.title for item in opened] == [*names[:2], "electra"]
    assert all(item.head_is_trained for item in opened)


def classification_run(folder: Path, sentences: list[str], compare: list[str], **training: Any) -> Run:
    """Sentences whose label is whether they hold a word."""
    for name, part in (("train", sentences[:200]), ("dev", sentences[200:240])):
        lines = [f"{sentence}\t{'yes' if 'the' in sentence.split() else 'no'}" for sentence in part]
        (folder / f"{name}.tsv").write_text("\n".join(["text\tlabel", *lines]))
    document = {
        "checkpoint": str(folder / "bert"),
        "head": "classification",
        "compare": compare,
        "folder": str(folder / "run"),
        "data": {"source": str(folder), "max_length": 16, "calibration_size": 16, "search_size": 32},
        "training": {
            "steps": 0,
            "batch_size": 8,
            "teacher_steps": 2,
            "probe_every": 0,
            "importance_texts": 16,
            **training,
        },
        "target": {"sequence": 16, "host": "simulated"},
    }
    return Run(check_configuration(document, "test"), Console(to_stderr=True))


def test_a_rival_without_a_head_is_fine_tuned_on_labels_and_the_teachers_soft_labels(
    tmp_path: Path, sentences: list[str]
) -> None:
    write_bert(tmp_path / "bert")
    rival = write_bert(tmp_path / "rival", hidden_size=48, num_hidden_layers=1)
    run = classification_run(tmp_path, sentences, [str(rival)], checkpoint_every=2)
    train(run)
    parts = (run.configuration, run.console, run.folder, run.texts)
    (opened,) = open_ready_made(*parts)
    assert not opened.head_is_trained
    settings = (run.models, opened.network, 4)
    trained = train_ready_made(*parts, *settings)
    assert trained.dimensions.hidden_size == 48
    assert trained.provenance["losses"] == {"labels": 0.5, "soft_labels": 0.5}
    weights = {name: np.array(values) for name, values in trained.tensors.items()}
    assert any(not np.array_equal(values, opened.network.tensors[name]) for name, values in weights.items())
    stamp = (trained.path / "supernet.json").stat().st_mtime_ns
    assert (train_ready_made(*parts, *settings).path / "supernet.json").stat().st_mtime_ns == stamp
    # Beside winners that were not trained alone it is trained as the run's own checkpoint was.
    (entry,) = ready_made_entries(*parts, run.models, 0)
    assert (entry.name, entry.kind) == ("ready-made rival, INT8", "ready_made")
    assert entry.exporter.supernet.provenance["steps"] == 2
    run.close()


def test_a_rival_learns_from_pairs_where_winners_do(tmp_path: Path, sentences: list[str]) -> None:
    write_bert(tmp_path / "bert")
    rival = write_bert(tmp_path / "rival", hidden_size=48, num_hidden_layers=1)
    (tmp_path / "texts.txt").write_text("\n".join(sentences))
    rows = [
        {"sentence1": f"{text} a", "sentence2": f"{text} the", "score": place % 5}
        for place, text in enumerate(sentences)
    ]
    (tmp_path / "pairs.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    sizes = {"max_length": 16, "calibration_size": 16, "search_size": 32, "report_size": 32}
    document: dict[str, Any] = {
        "checkpoint": str(tmp_path / "bert"),
        "head": "embedding",
        "compare": [str(rival)],
        "folder": str(tmp_path / "run"),
        "data": {"source": str(tmp_path / "texts.txt"), "pairs": str(tmp_path / "pairs.jsonl"), **sizes},
        "training": {"steps": 0, "batch_size": 8, "probe_every": 0, "importance_texts": 16},
        "target": {"sequence": 16, "host": "simulated"},
        "search": {"metric": "spearman"},
    }
    run = Run(check_configuration(document, "test"), Console(to_stderr=True))
    train(run)
    (entry,) = ready_made_entries(run.configuration, run.console, run.folder, run.texts, run.models, 3)
    assert entry.exporter.supernet.provenance["losses"] == {"similarity": 1.0, "pairs": 0.2}
    assert entry.exporter.supernet.provenance["steps"] == 3
    run.close()
    document["training"]["losses"] = {"embedding": 1.0}
    run = Run(check_configuration(document, "test"), Console(to_stderr=True))
    (entry,) = ready_made_entries(run.configuration, run.console, run.folder, run.texts, run.models, 3)
    assert "steps" not in entry.exporter.supernet.provenance
    run.close()


def test_a_rivals_labels_are_told_by_name_or_refused(tmp_path: Path, sentences: list[str]) -> None:
    write_bert(tmp_path / "bert")
    reversed_names = {"id2label": {0: "yes", 1: "no"}, "label2id": {"yes": 0, "no": 1}}
    rival = write_bert(tmp_path / "rival", num_labels=2, **reversed_names)
    run = classification_run(tmp_path, sentences, [str(rival)])
    parts = (run.configuration, run.console, run.folder, run.texts)
    (opened,) = open_ready_made(*parts)
    run.close()
    assert (run.texts.data.labels, opened.network.labels, opened.head_is_trained) == (
        ("no", "yes"),
        ("no", "yes"),
        True,
    )
    model = transformers.BertForSequenceClassification.from_pretrained(rival)
    rows = model.classifier.weight.detach().numpy()[[1, 0]]
    np.testing.assert_array_equal(opened.network.tensors["head.classifier.weight"], rows)
    for number, (changes, message) in enumerate(
        (
            ({"num_labels": 2, "problem_type": "multi_label_classification", **reversed_names}, "gives several labels"),
            ({"num_labels": 2, "id2label": {0: "up", 1: "down"}, "label2id": {"up": 0, "down": 1}}, "its labels are"),
        )
    ):
        other = write_bert(tmp_path / f"other{number}", **changes)
        run = classification_run(tmp_path, sentences, [str(other)])
        with pytest.raises(ConfigurationError, match=f"compare: checkpoint .*{message}"):
            open_ready_made(run.configuration, run.console, run.folder, run.texts)
        run.close()


def test_a_head_for_other_labels_is_refused_before_training(tmp_path: Path, sentences: list[str]) -> None:
    write_bert(tmp_path / "bert")
    labels = {"id2label": {0: "up", 1: "down", 2: "odd"}, "label2id": {"up": 0, "down": 1, "odd": 2}}
    rival = write_bert(tmp_path / "rival", num_labels=3, **labels)
    run = classification_run(tmp_path, sentences, [str(rival)])
    with pytest.raises(ConfigurationError, match="of other labels than this run, which has head 'classification'"):
        train(run)
    run.close()
    assert not (tmp_path / "run" / "teacher").exists()
