"""RoBERTa (Liu et al. 2019), and XLM-RoBERTa and CamemBERT, which are RoBERTa with other texts and tokenizers."""

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

# Those of later families too.
ROBERTA_HEADS = {
    "classification": DENSE_CLASSIFIER,
    "token-classification": CLASSIFIER,
    "span": SPAN,
    "masked-lm": {
        "head.transform": "lm_head.dense",
        "head.transform_norm": "lm_head.layer_norm",
        "head.decoder.bias": "lm_head.bias",
    },
}
ROBERTA_DECODER = "lm_head.decoder.weight"


def _family(class_prefix: str) -> Family:
    return Family(
        network=NETWORK,
        class_prefix=class_prefix,
        base="roberta",
        embeddings=EMBEDDING_NAMES,
        layers=LAYERS,
        layer=LAYER_NAMES,
        heads=ROBERTA_HEADS,
        decoder=ROBERTA_DECODER,
        head_activation="tanh",
        transform_activation="gelu",
        positions_follow_padding=True,
    )


ROBERTA = _family("Roberta")
XLM_ROBERTA = _family("XLMRoberta")
CAMEMBERT = _family("Camembert")
