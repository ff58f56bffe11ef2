"""ELECTRA (Clark et al. 2020), generator and discriminator: BERT's network, tables of a width of their own."""

from __future__ import annotations

from ortnas.nas.architecture.families.bert import (
    CLASSIFIER,
    DENSE_CLASSIFIER,
    EMBEDDING_NAMES,
    LAYER_NAMES,
    LAYERS,
    NETWORK,
    SPAN,
)
from ortnas.nas.architecture.families.family import Family

ELECTRA = Family(
    network=NETWORK,
    class_prefix="Electra",
    base="electra",
    embeddings={**EMBEDDING_NAMES, "embeddings.projection": "embeddings_project"},
    layers=LAYERS,
    layer=LAYER_NAMES,
    heads={
        "classification": DENSE_CLASSIFIER,
        "token-classification": CLASSIFIER,
        "span": SPAN,
        "masked-lm": {
            "head.transform": "generator_predictions.dense",
            "head.transform_norm": "generator_predictions.LayerNorm",
            "head.decoder.bias": "generator_lm_head.bias",
        },
    },
    decoder="generator_lm_head.weight",
    head_activation="gelu",
    transform_activation="gelu",
    factorises_tables=True,
    other_heads=("discriminator_predictions", "generator_lm_head"),
)
