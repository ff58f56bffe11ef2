"""The model families of transformers that share one canonical form: their names for tensors, settings and classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ortnas.nas.architecture.heads import HEADS
from ortnas.nas.architecture.layout import LAYER, Dimensions
from ortnas.nas.architecture.subnet import Subnet

ACTIVATIONS = {"gelu": "gelu", "gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "relu": "relu"}
# What sentence-transformers calls the activations of its cross-encoders.
_ACTIVATION_PATHS = {
    "sigmoid": "torch.nn.modules.activation.Sigmoid",
    "identity": "torch.nn.modules.linear.Identity",
}

_EMBEDDINGS = {
    "embeddings.word": "embeddings.word_embeddings.weight",
    "embeddings.position": "embeddings.position_embeddings.weight",
    "embeddings.token_type": "embeddings.token_type_embeddings.weight",
    "embeddings.norm": "embeddings.LayerNorm",
    "embeddings.projection": "embeddings_project",
}
_LAYER = {
    "query": "attention.self.query",
    "key": "attention.self.key",
    "value": "attention.self.value",
    "output": "attention.output.dense",
    "attention_norm": "attention.output.LayerNorm",
    "ffn_in": "intermediate.dense",
    "ffn_out": "output.dense",
    "ffn_norm": "output.LayerNorm",
}
_CLASSIFIER = {"head.classifier": "classifier"}
_SPAN = {"head.classifier": "qa_outputs"}
_DENSE_CLASSIFIER = {"head.pooler": "classifier.dense", "head.classifier": "classifier.out_proj"}


@dataclass(frozen=True)
class Family:
    """How transformers spells one model type.

    Names are of whole tensors, or of modules whose ``.weight`` and ``.bias`` follow: ``layer`` goes from canonical
    names within a layer to names below ``layers``, ``heads`` from canonical names to full ones by head. ``decoder`` is
    the masked-LM decoder's weight, tied to the word table. ``settings`` holds the names of configuration keys that
    differ from BERT's, ``fixed`` the values of keys that the family does not have.
    """

    class_prefix: str
    base: str
    heads: Mapping[str, Mapping[str, str]]
    decoder: str
    head_activation: str
    layers: str = "encoder.layer"
    layer: Mapping[str, str] = field(default_factory=lambda: _LAYER)
    settings: Mapping[str, str] = field(default_factory=dict)
    fixed: Mapping[str, Any] = field(default_factory=dict)
    # The transform of the masked-LM head has this activation, whatever the encoder's is; None: the encoder's.
    transform_activation: str | None = None
    # Position embeddings start behind the row of the padding token (fairseq's numbering).
    positions_follow_padding: bool = False
    # The embedding tables may be narrower or wider than the hidden size.
    factorises_tables: bool = False
    # Architectures beside the head's own class that bring a trained head along, by head.
    also_trained: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    # First parts of the names of heads that no kind of ours has, such as those of a pretraining.
    other_heads: tuple[str, ...] = ()

    def class_name(self, head: str) -> str:
        return self.class_prefix + HEADS[head].class_suffix

    def read_setting(self, config: Any, key: str) -> Any:
        """The value of one of BERT's configuration keys in a transformers configuration of this family."""
        return self.fixed[key] if key in self.fixed else getattr(config, self.settings.get(key, key))

    def spell_settings(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Settings under BERT's keys as this family writes them, without those that are fixed here."""
        return {self.settings.get(key, key): value for key, value in settings.items() if key not in self.fixed}


def _roberta(class_prefix: str) -> Family:
    return Family(
        class_prefix=class_prefix,
        base="roberta",
        heads={
            "classification": _DENSE_CLASSIFIER,
            "regression": _DENSE_CLASSIFIER,
            "token-classification": _CLASSIFIER,
            "span": _SPAN,
            "masked-lm": {
                "head.transform": "lm_head.dense",
                "head.transform_norm": "lm_head.layer_norm",
                "head.decoder.bias": "lm_head.bias",
            },
        },
        decoder="lm_head.decoder.weight",
        head_activation="tanh",
        transform_activation="gelu",
        positions_follow_padding=True,
    )


_BERT_POOLED = {"head.pooler": "bert.pooler.dense", "head.classifier": "classifier"}
_DISTILBERT_POOLED = {"head.pooler": "pre_classifier", "head.classifier": "classifier"}

FAMILIES: dict[str, Family] = {
    "bert": Family(
        class_prefix="Bert",
        base="bert",
        heads={
            "classification": _BERT_POOLED,
            "regression": _BERT_POOLED,
            "token-classification": _CLASSIFIER,
            "span": _SPAN,
            "masked-lm": {
                "head.transform": "cls.predictions.transform.dense",
                "head.transform_norm": "cls.predictions.transform.LayerNorm",
                "head.decoder.bias": "cls.predictions.bias",
            },
        },
        decoder="cls.predictions.decoder.weight",
        head_activation="tanh",
        also_trained={"masked-lm": ("BertForPreTraining",)},
    ),
    "roberta": _roberta("Roberta"),
    "xlm-roberta": _roberta("XLMRoberta"),
    "camembert": _roberta("Camembert"),
    "distilbert": Family(
        class_prefix="DistilBert",
        base="distilbert",
        heads={
            "classification": _DISTILBERT_POOLED,
            "regression": _DISTILBERT_POOLED,
            "token-classification": _CLASSIFIER,
            "span": _SPAN,
            "masked-lm": {
                "head.transform": "vocab_transform",
                "head.transform_norm": "vocab_layer_norm",
                "head.decoder.bias": "vocab_projector.bias",
            },
        },
        decoder="vocab_projector.weight",
        head_activation="relu",
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
        settings={
            "hidden_size": "dim",
            "num_hidden_layers": "n_layers",
            "num_attention_heads": "n_heads",
            "intermediate_size": "hidden_dim",
            "hidden_act": "activation",
        },
        fixed={"layer_norm_eps": 1e-12, "type_vocab_size": 1},
    ),
    "electra": Family(
        class_prefix="Electra",
        base="electra",
        heads={
            "classification": _DENSE_CLASSIFIER,
            "regression": _DENSE_CLASSIFIER,
            "token-classification": _CLASSIFIER,
            "span": _SPAN,
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
    ),
}


def checkpoint_config(
    dimensions: Dimensions, subnet: Subnet, labels: Sequence[str], activation: str | None = None
) -> dict[str, Any]:
    """The transformers configuration of a subnet; ``activation`` is a cross-encoder's.

    Where layers differ in width, it states the widest: transformers itself has one width for all.
    """
    family = FAMILIES[dimensions.family]
    first_position = dimensions.padding_id + 1 if family.positions_follow_padding else 0
    settings: dict[str, Any] = {
        "vocab_size": dimensions.vocab_size,
        "hidden_size": subnet.hidden_size,
        "num_hidden_layers": len(subnet.layers),
        "num_attention_heads": max(layer.num_heads for layer in subnet.layers),
        "intermediate_size": max(layer.ffn_size for layer in subnet.layers),
        "max_position_embeddings": dimensions.max_positions + first_position,
        "pad_token_id": dimensions.padding_id,
        "type_vocab_size": dimensions.token_types,
        "layer_norm_eps": dimensions.layer_norm_epsilon,
        "hidden_act": {"gelu_tanh": "gelu_new"}.get(dimensions.activation, dimensions.activation),
    }
    if family.factorises_tables:
        settings["embedding_size"] = dimensions.table_size or subnet.hidden_size
    config: dict[str, Any] = {"model_type": dimensions.family, "architectures": [family.class_name(dimensions.head)]}
    config |= family.spell_settings(settings)
    names = list(labels) or ["LABEL_0"] * HEADS[dimensions.head].gives_number
    if names:
        config["id2label"] = dict(enumerate(names))
        config["label2id"] = {label: index for index, label in enumerate(names)}
    if HEADS[dimensions.head].gives_number:
        # Without it the CrossEncoder of sentence-transformers takes a sigmoid.
        config["sentence_transformers"] = {"activation_fn": _ACTIVATION_PATHS[activation or "identity"]}
    return config


def checkpoint_names(dimensions: Dimensions) -> dict[str, str]:
    """Canonical tensor name to the name in the state dict of the transformers class of this family and head.

    The embedding head's projection and a family's missing token types have no counterpart; no two names share one.
    """
    family = FAMILIES[dimensions.family]
    base = "" if HEADS[dimensions.head].is_bare_encoder else f"{family.base}."
    modules = {ours: base + theirs for ours, theirs in _EMBEDDINGS.items()}
    if "type_vocab_size" in family.fixed:
        del modules["embeddings.token_type"]
    if not dimensions.table_size:
        del modules["embeddings.projection"]
    names = {}
    for ours, theirs in modules.items():
        names.update(_tensors(ours, theirs))
    for index in range(dimensions.num_layers):
        for name in LAYER:
            module, kind = name.rsplit(".", 1)
            names[f"layers.{index}.{name}"] = f"{base}{family.layers}.{index}.{family.layer[module]}.{kind}"
    for ours, theirs in family.heads.get(dimensions.head, {}).items():
        names.update(_tensors(ours, theirs))
    return names


def _tensors(ours: str, theirs: str) -> dict[str, str]:
    """A single tensor as it is; a module as its weight and bias."""
    if theirs.endswith((".weight", ".bias")):
        return {ours: theirs}
    return {f"{ours}.{kind}": f"{theirs}.{kind}" for kind in ("weight", "bias")}
