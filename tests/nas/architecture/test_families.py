from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers

from ortnas.nas.architecture.families import FAMILIES
from ortnas.nas.architecture.heads import HEADS
from ortnas.nas.architecture.layout import tensor_axes
from ortnas.nas.architecture.spelling import checkpoint_names
from tests.networks import make_dimensions

CASES = [(family, head) for family in FAMILIES for head in HEADS]


def dimensions_of(family: str, head: str) -> Any:
    changes = {"num_layers": 2, "family": family, "table_size": 20 if FAMILIES[family].factorises_tables else 0}
    return make_dimensions(head, **changes)


def random_model(family: str, head: str) -> Any:
    settings = {
        "vocab_size": 120,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 64,
        "num_labels": {"regression": 1, "span": 2}.get(head, 3),
        "embedding_size": 20,
    }
    config = transformers.AutoConfig.for_model(family, **FAMILIES[family].spell_settings(settings))
    return getattr(transformers, FAMILIES[family].class_name(head))(config)


@pytest.mark.parametrize(("family", "head"), CASES)
def test_names_cover_the_transformers_model_and_can_be_inverted(family: str, head: str) -> None:
    names = checkpoint_names(dimensions_of(family, head))
    assert len(set(names.values())) == len(names)
    state = random_model(family, head).state_dict()
    left = set(state) - set(names.values())
    # The decoder is tied, its bias stored twice; the pooler serves no head here but BERT's classifiers.
    assert {key for key in left if "decoder" not in key and "pooler" not in key} <= {FAMILIES[family].decoder}
    assert set(names.values()) <= set(state)


@pytest.mark.parametrize(("family", "head"), CASES)
def test_every_canonical_tensor_has_a_name_or_a_constant_value(family: str, head: str) -> None:
    dimensions = dimensions_of(family, head)
    nameless = set(tensor_axes(dimensions)) - set(checkpoint_names(dimensions))
    projection = {"head.projection.weight"} if head == "embedding" else set()
    assert nameless == projection | ({"embeddings.token_type"} if family == "distilbert" else set())


@pytest.mark.parametrize("family", FAMILIES)
def test_the_decoder_is_tied_to_the_word_table(family: str) -> None:
    state = random_model(family, "masked-lm").state_dict()
    words = checkpoint_names(dimensions_of(family, "masked-lm"))["embeddings.word"]
    assert torch.equal(state[FAMILIES[family].decoder], state[words])


@pytest.mark.parametrize("family", FAMILIES)
def test_settings_are_spelled_so_that_transformers_reads_them_back(family: str) -> None:
    settings = {
        "hidden_size": 36,
        "num_hidden_layers": 5,
        "num_attention_heads": 6,
        "intermediate_size": 70,
        "hidden_act": "relu",
        "layer_norm_eps": 0.125,
        "type_vocab_size": 3,
    }
    config = transformers.AutoConfig.for_model(family, **FAMILIES[family].spell_settings(settings))
    read = {key: FAMILIES[family].read_setting(config, key) for key in settings}
    assert read == settings | FAMILIES[family].fixed
    assert config.hidden_size == 36
