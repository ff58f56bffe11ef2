"""DistilBERT (Sanh et al. 2019): BERT's network without token types."""

from __future__ import annotations

from ortnas.nas.architecture.families.bert import CLASSIFIER, EMBEDDING_NAMES, NETWORK, SPAN
from ortnas.nas.architecture.families.family import Family

_POOLED = {"head.pooler": "pre_classifier", "head.classifier": "classifier"}

DISTILBERT = Family(
    network=NETWORK,
    class_prefix="DistilBert",
    base="distilbert",
    embeddings=EMBEDDING_NAMES,
    layers="transformer.layer",
    layer={
        "query": "attention.q_lin",
        "key": "attention.k_lin",
        "value": "attention.v_lin",
        "output": "attention.out_lin",
        "attention_norm": "sa_layer_norm",
        "ffn_in": "ffn.lin1",
        "ffn_out": "ffn.lin2",
        "ffn_norm": "output_layer_norm",
    },
    heads={
        "classification": _POOLED,
        "token-classification": CLASSIFIER,
        "span": SPAN,
        "masked-lm": {
            "head.transform": "vocab_transform",
            "head.transform_norm": "vocab_layer_norm",
            "head.decoder.bias": "vocab_projector.bias",
        },
    },
    decoder="vocab_projector.weight",
    head_activation="relu",
    settings={
        "hidden_size": "dim",
        "num_hidden_layers": "n_layers",
        "num_attention_heads": "n_heads",
        "intermediate_size": "hidden_dim",
        "hidden_act": "activation",
    },
    fixed={"layer_norm_eps": 1e-12, "type_vocab_size": 1},
)
