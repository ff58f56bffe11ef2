"""A cross-encoder's folder says what is made of its number, and how much of a pair is read."""

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
from tests.sentence_models import settle_tokenizer, write_cross_encoder

PAIRS = [("he was in it", "the of and"), ("they have this from one " * 9, "The OF"), ("a", "a")]


@pytest.mark.slow
@pytest.mark.parametrize("activation", ["Sigmoid", "Identity"])
def test_the_score_is_that_of_predict(tmp_path: Path, activation: str) -> None:
    base = write_checkpoint(tmp_path / "base", "bert", "regression")
    settle_tokenizer(base)
    library = write_cross_encoder(activation, base, tmp_path / "model")
    settings, checkpoint = (
        read(str(tmp_path / "model"), "regression") for read in (read_text_settings, read_checkpoint)
    )
    assert settings.max_length == library.max_seq_length == 12
    assert checkpoint.activation == activation.lower()
    encoded = encode(settings.tokenizer.backend, [Example(*pair) for pair in PAIRS], settings.max_length)
    batch = {name: torch.from_numpy(array) for name, array in encoded.feeds(range(3)).items()}
    with torch.no_grad():
        logits = Supernet(checkpoint.tensors, checkpoint.dimensions)(batch, checkpoint.dimensions.full_subnet)[:, 0]
    scores = torch.sigmoid(logits) if activation == "Sigmoid" else logits
    np.testing.assert_allclose(scores.numpy(), library.predict(PAIRS), atol=1e-5)


def test_other_files_of_the_library_count_before_the_configuration(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path, "bert", "regression")
    change_config(folder, sentence_transformers={"activation_fn": "torch.nn.modules.linear.Identity"})
    document = {"model_type": "CrossEncoder", "activation_fn": "torch.nn.modules.activation.Sigmoid"}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(document))
    assert read_checkpoint(str(folder), "regression").activation == "sigmoid"
    document |= {"prompts": {"query": "query: "}, "default_prompt_name": "query"}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(document))
    with pytest.raises(CheckpointError, match=r"puts the prompt 'query: ' before every pair"):
        read_checkpoint(str(folder), "regression")


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
