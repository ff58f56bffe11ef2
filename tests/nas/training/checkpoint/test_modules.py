"""A sentence-transformers folder is reproduced as its files say, or what cannot be is refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ortnas.nas.failures import CheckpointError
from ortnas.nas.text import Example, encode
from ortnas.nas.training.checkpoint.reading import read_checkpoint, read_text_settings
from ortnas.nas.training.supernet import Supernet
from tests.nas.training.checkpoint.test_reading import change_config
from tests.networks import write_checkpoint

PLAIN = ("Transformer", "Pooling", "Normalize")


def write_sentence_model(folder: Path, kinds: tuple[str, ...] = PLAIN, **pooling: Any) -> Path:
    write_checkpoint(folder, "bert")
    modules = []
    for number, kind in enumerate(kinds):
        path = "" if kind == "Transformer" else f"{number}_{kind}"
        modules.append(
            {"idx": number, "name": str(number), "path": path, "type": f"sentence_transformers.models.{kind}"}
        )
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir()
    settings = {"word_embedding_dimension": 32} | (pooling or {"pooling_mode_mean_tokens": True})
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(settings))
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("pooling", ["mean", "cls"])
@pytest.mark.parametrize("max_length", [None, 12])
def test_the_vector_is_that_of_encode(tmp_path: Path, pooling: str, max_length: int | None) -> None:
    from sentence_transformers import SentenceTransformer

    folder = write_sentence_model(tmp_path, pooling_mode=pooling)
    if max_length is not None:
        (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": max_length}))
    texts = ["he was in it", "The OF and", "they have this from one " * 30]
    library = SentenceTransformer(str(folder), device="cpu")
    settings, checkpoint = read_text_settings(str(folder), "embedding"), read_checkpoint(str(folder), "embedding")
    assert settings.max_length == library.max_seq_length
    encoded = encode(settings.tokenizer.backend, [Example(text) for text in texts], settings.max_length)
    batch = {name: torch.from_numpy(array) for name, array in encoded.feeds(range(3)).items()}
    with torch.no_grad():
        vectors = Supernet(checkpoint.tensors, checkpoint.dimensions)(batch, checkpoint.dimensions.full_subnet)
    np.testing.assert_allclose(vectors.numpy(), library.encode(texts), atol=1e-5)


@pytest.mark.parametrize(
    ("settings", "pooling"),
    [
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, "cls"),
        ({"pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True}, "mean"),
        ({"pooling_mode": "cls"}, "cls"),
        ({"pooling_mode": ["mean"]}, "mean"),
        ({"embedding_dimension": 32}, "mean"),
    ],
)
def test_pooling_is_the_folders(tmp_path: Path, settings: dict[str, Any], pooling: str) -> None:
    folder = write_sentence_model(tmp_path, **settings)
    assert read_checkpoint(str(folder), "embedding").dimensions.pooling == pooling
    other = {"mean": "cls", "cls": "mean"}[pooling]
    configured = read_checkpoint(str(folder), "embedding", pooling=other)
    assert configured.dimensions.pooling == other
    assert any(f"the checkpoint's own is {pooling!r}" in note for note in configured.notes)


def test_the_length_is_the_folders_and_within_the_positions(tmp_path: Path) -> None:
    folder = write_sentence_model(tmp_path)
    assert read_text_settings(str(folder), "embedding").max_length == 40
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 24, "do_lower_case": False}))
    assert read_text_settings(str(folder), "embedding").max_length == 24
    assert read_text_settings(str(folder), "classification").max_length == 40
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 512}))
    assert read_text_settings(str(folder), "embedding").max_length == 40


def test_lower_case_is_part_of_the_tokenizer(tmp_path: Path) -> None:
    folder = write_sentence_model(tmp_path)
    path = folder / "tokenizer.json"
    document = json.loads(path.read_text())
    document["normalizer"]["lowercase"] = False
    path.write_text(json.dumps(document))
    cased = read_text_settings(str(folder), "embedding").tokenizer.backend.encode("THE").tokens
    (folder / "sentence_bert_config.json").write_text(json.dumps({"do_lower_case": True}))
    lower = read_text_settings(str(folder), "embedding").tokenizer.backend.encode("THE").tokens
    assert (cased[1], lower[1]) == ("[UNK]", "the")


@pytest.mark.parametrize(
    ("kinds", "message"),
    [
        (("Transformer", "Pooling"), "has no Normalize"),
        (("Transformer", "Pooling", "Dense", "Normalize"), "has the module Dense"),
        (("Transformer", "WordWeights", "Pooling", "Normalize"), "has the module WordWeights"),
        (("Transformer", "Normalize", "Pooling"), "served are Transformer, Pooling, Normalize, in this order"),
        (("Router",), "has the module Router"),
    ],
)
def test_modules_that_packages_lack_are_refused_by_name(tmp_path: Path, kinds: tuple[str, ...], message: str) -> None:
    folder = write_sentence_model(tmp_path, kinds)
    with pytest.raises(CheckpointError, match=message):
        read_checkpoint(str(folder), "embedding")
    assert not read_checkpoint(str(folder), "masked-lm").head_is_trained, "heads of other kinds have no modules"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"pooling_mode_max_tokens": True}, "pools by max; served are mean and cls"),
        ({"pooling_mode": "lasttoken"}, "pools by lasttoken"),
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": True}, "pools by cls and mean"),
    ],
)
def test_other_poolings_are_refused_by_name(tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        read_checkpoint(str(write_sentence_model(tmp_path, **settings)), "embedding")


def test_a_prompt_before_every_text_is_refused(tmp_path: Path) -> None:
    folder = write_sentence_model(tmp_path)
    settings = folder / "config_sentence_transformers.json"
    settings.write_text(json.dumps({"prompts": {"query": "query: "}, "default_prompt_name": None}))
    assert read_checkpoint(str(folder), "embedding").dimensions.pooling == "mean"
    settings.write_text(json.dumps({"prompts": {"query": "query: "}, "default_prompt_name": "query"}))
    with pytest.raises(CheckpointError, match=r"puts the prompt .query: . before every text"):
        read_checkpoint(str(folder), "embedding")


@pytest.mark.parametrize("content", ["{}", "[3]", "[{}]", "[", '[{"type": "Pooling"}]'])
def test_damaged_modules_get_a_sentence(tmp_path: Path, content: str) -> None:
    folder = write_sentence_model(tmp_path)
    (folder / "modules.json").write_text(content)
    with pytest.raises(CheckpointError, match=r"modules\.json"):
        read_checkpoint(str(folder), "embedding")


@pytest.mark.parametrize(
    ("changes", "activation"),
    [
        ({}, None),
        ({"sentence_transformers": {"activation_fn": "torch.nn.modules.activation.Sigmoid"}}, "sigmoid"),
        ({"sentence_transformers": {"activation_fn": "torch.nn.modules.linear.Identity"}}, "identity"),
        ({"sentence_transformers": {"version": "5.0"}}, "sigmoid"),
        ({"sbert_ce_default_activation_function": "torch.nn.modules.linear.Identity"}, "identity"),
    ],
)
def test_a_cross_encoders_activation_is_known(tmp_path: Path, changes: dict[str, Any], activation: str | None) -> None:
    folder = write_checkpoint(tmp_path, "roberta", "regression")
    change_config(folder, **changes)
    assert read_checkpoint(str(folder), "regression").activation == activation


def test_an_activation_that_packages_lack_is_refused(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path, "roberta", "regression")
    change_config(folder, sbert_ce_default_activation_function="torch.nn.modules.activation.Tanh")
    with pytest.raises(CheckpointError, match=r"puts torch\.nn\.modules\.activation\.Tanh over its number"):
        read_checkpoint(str(folder), "regression")
