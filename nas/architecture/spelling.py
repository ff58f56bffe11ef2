"""Subnets as transformers spells them: configurations, and names of tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ortnas.nas.architecture.dimensions import Dimensions
from ortnas.nas.architecture.families import FAMILIES
from ortnas.nas.architecture.heads import HEADS
from ortnas.nas.architecture.subnet import Subnet

# Ours by transformers' names.
ACTIVATIONS = {"gelu": "gelu", "gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "relu": "relu"}
# What sentence-transformers calls the activations of its cross-encoders.
_ACTIVATION_PATHS = {
    "sigmoid": "torch.nn.modules.activation.Sigmoid",
    "identity": "torch.nn.modules.linear.Identity",
}


def checkpoint_config(
    dimensions: Dimensions, subnet: Subnet, labels: Sequence[str], activation: str | None = None
) -> dict[str, Any]:
    """The transformers configuration of a subnet; ``activation`` is a cross-encoder's.

    Where layers differ in width, it states the widest: transformers itself has one width for all, and every layer has
    attention and FFN there.
    """
    family, head = FAMILIES[dimensions.family], HEADS[dimensions.head]
    first_position = dimensions.padding_id + 1 if family.positions_follow_padding else 0
    settings: dict[str, Any] = {
        "vocab_size": dimensions.vocab_size,
        "hidden_size": subnet.hidden_size,
        "num_hidden_layers": len(subnet.layers),
        "num_attention_heads": max(layer.num_heads for layer in subnet.layers),
        "intermediate_size": max(layer.ffn_size for layer in subnet.layers) or dimensions.ffn_size,
        "max_position_embeddings": dimensions.max_positions + first_position,
        "pad_token_id": dimensions.padding_id,
        "type_vocab_size": dimensions.token_types,
        "layer_norm_eps": dimensions.layer_norm_epsilon,
        "hidden_act": {"gelu_tanh": "gelu_new"}.get(dimensions.activation, dimensions.activation),
    }
    if family.factorises_tables:
        settings["embedding_size"] = dimensions.table_size or subnet.hidden_size
    config: dict[str, Any] = {"model_type": dimensions.family, "architectures": [family.class_name(dimensions.head)]}
    config |= family.spell_settings(settings) | dict(family.required)
    names = list(labels) or ["LABEL_0"] * head.gives_number
    if names:
        config["id2label"] = dict(enumerate(names))
        config["label2id"] = {label: index for index, label in enumerate(names)}
    # What pipelines put over logits follows it: a cross-encoder's sigmoid is what they put over one logit without it.
    if head.problem_type and activation != "sigmoid":
        config["problem_type"] = head.problem_type
    if head.gives_number:
        # Without it the CrossEncoder of sentence-transformers takes a sigmoid.
        config["sentence_transformers"] = {"activation_fn": _ACTIVATION_PATHS[activation or "identity"]}
    return config


def checkpoint_names(dimensions: Dimensions) -> dict[str, str]:
    """Canonical tensor name to the name in the state dict of the transformers class of this family and head.

    The embedding head's projection and a family's missing token types have no counterpart; no two names share one, but
    for what all layers share there.
    """
    family = FAMILIES[dimensions.family]
    base = "" if HEADS[dimensions.head].is_bare_encoder else f"{family.base}."
    entry = {}
    for ours, theirs in family.embeddings.items():
        entry.update(_tensors(ours, f"{base}{theirs}"))
    if not family.has_token_types:
        del entry["embeddings.token_type"]
    names = {ours: entry[ours] for ours in family.network.entry_of(dimensions).tensors if ours in entry}
    for index in range(dimensions.num_layers):
        for name in family.network.layer.tensors:
            if name in family.shared:
                names[f"layers.{index}.{name}"] = f"{base}{family.shared[name]}"
                continue
            module, kind = name.rsplit(".", 1)
            names[f"layers.{index}.{name}"] = f"{base}{family.layers}.{index}.{family.layer[module]}.{kind}"
    for ours, theirs in family.heads.get(HEADS[dimensions.head].spelled_as or dimensions.head, {}).items():
        names.update(_tensors(ours, theirs))
    return names


def _tensors(ours: str, theirs: str) -> dict[str, str]:
    """A single tensor as it is; a module as its weight and bias."""
    if theirs.endswith((".weight", ".bias")):
        return {ours: theirs}
    return {f"{ours}.{kind}": f"{theirs}.{kind}" for kind in ("weight", "bias")}
