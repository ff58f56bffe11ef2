"""Folders of sparse encoders are read where packages compute the same, and refused by name elsewhere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ortnas.nas.failures import CheckpointError
from ortnas.nas.training.checkpoint.reading import read_checkpoint, read_text_settings
from tests.networks import write_checkpoint

PACKAGE = "sentence_transformers.sparse_encoder.models"


def write_sparse_encoder(folder: Path, last: str = "SpladePooling", **settings: Any) -> Path:
    write_checkpoint(folder, "bert", "masked-lm")
    modules = [("", "MLMTransformer"), (f"1_{last}", last)]
    listed = [
        {"idx": number, "name": str(number), "path": path, "type": f"{PACKAGE}.{kind}"}
        for number, (path, kind) in enumerate(modules)
    ]
    (folder / "modules.json").write_text(json.dumps(listed))
    (folder / f"1_{last}").mkdir()
    (folder / f"1_{last}" / "config.json").write_text(json.dumps(settings))
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 20}))
    return folder


def test_a_folder_says_how_long_texts_are(tmp_path: Path) -> None:
    write_sparse_encoder(tmp_path, pooling_strategy="max", activation_function="relu", word_embedding_dimension=None)
    checkpoint = read_checkpoint(str(tmp_path), "sparse")
    assert checkpoint.head_is_trained
    assert checkpoint.dimensions.head == "sparse"
    assert read_text_settings(str(tmp_path), "sparse").max_length == 20
    # Any masked LM makes such vectors.
    assert read_checkpoint(str(write_checkpoint(tmp_path / "plain", "bert", "masked-lm")), "sparse").head_is_trained


@pytest.mark.parametrize(
    ("last", "settings", "message"),
    [
        ("SpladePooling", {"pooling_strategy": "sum"}, "pooling_strategy = 'sum' in 1_SpladePooling/config.json"),
        ("SpladePooling", {"activation_function": "log1p_relu"}, "packages know 'relu'"),
        ("CSRSparsity", {}, "lists MLMTransformer, CSRSparsity; of sparse encoders, MLMTransformer, SpladePooling"),
    ],
)
def test_other_vectors_are_refused(tmp_path: Path, last: str, settings: dict[str, Any], message: str) -> None:
    write_sparse_encoder(tmp_path, last, **settings)
    with pytest.raises(CheckpointError, match=message):
        read_checkpoint(str(tmp_path), "sparse")


def test_an_encoder_without_a_masked_lm_is_refused(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, "bert", "classification")
    with pytest.raises(CheckpointError, match="it has no head of a masked LM, and sparse needs one"):
        read_checkpoint(str(tmp_path), "sparse")
