"""Subnets as transformers spells them: configurations, and names of tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeVar

import numpy as np

from ortnas.nas.architecture.activations import SPELLED_ACTIVATIONS
from ortnas.nas.architecture.dimensions import Dimensions
from ortnas.nas.architecture.families import FAMILIES, Family
from ortnas.nas.architecture.heads import HEADS
from ortnas.nas.architecture.subnet import Subnet
from ortnas.nas.arrays import Array

# What sentence-transformers calls the activations of its cross-encoders.
_ACTIVATION_PATHS = {
    "sigmoid": "torch.nn.modules.activation.Sigmoid",
    "identity": "torch.nn.modules.linear.Identity",
}


class _Rows(Protocol):
    def __len__(self) -> int: ...

    def __getitem__(self, rows: slice, /) -> Any: ...


T = TypeVar("T", bound=_Rows)


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
        "hidden_act": SPELLED_ACTIVATIONS.get(dimensions.activation, dimensions.activation),
    }
    if family.factorises_tables:
        settings["embedding_size"] = dimensions.table_size or subnet.hidden_size
    config: dict[str, Any] = {"model_type": dimensions.family, "architectures": [family.class_name(dimensions.head)]}
    config |= family.spell_settings(settings) | dict(family.required) | family.spell_own(dimensions, subnet)
    if head.has_decoder and dimensions.has_own_decoder:
        config["tie_word_embeddings"] = False
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
    for ours, theirs in {**family.embeddings, **family.exit}.items():
        entry.update(_tensors(ours, f"{base}{theirs}"))
    if not family.has_token_types:
        entry.pop("embeddings.token_type", None)
    own = {**family.network.entry_of(dimensions).tensors, **family.network.exit.tensors}
    names = {ours: entry[ours] for ours in own if ours in entry}
    for index in range(dimensions.num_layers):
        for name in family.network.layer_at(index).tensors:
            if name in family.shared:
                names[f"layers.{index}.{name}"] = f"{base}{family.shared[name]}"
                continue
            module, kind = name.rsplit(".", 1)
            names[f"layers.{index}.{name}"] = f"{base}{family.layers}.{index}.{family.layer[module]}.{kind}"
    for ours, theirs in family.heads.get(HEADS[dimensions.head].spelled_as or dimensions.head, {}).items():
        names.update(_tensors(ours, theirs))
    if HEADS[dimensions.head].has_decoder and dimensions.has_own_decoder:
        # Only where the weight is tied is the bias, too, to the one that the head has beside the decoder.
        names.update(_tensors("head.decoder", family.decoder.removesuffix(".weight")))
    return names


def take_apart(tensors: Mapping[str, T], family: Family) -> dict[str, T]:
    """Tensors by the names of their file as those of the family: fused modules as their parts; what cannot be divided
    stays whole."""
    parts: dict[str, T] = {}
    for stored, tensor in tensors.items():
        name = stored
        for theirs, ours in family.renamed.items():
            name = name.replace(theirs, ours)
        module, _, kind = name.rpartition(".")
        whole = next((whole for whole in family.fused if f".{module}".endswith(f".{whole}")), "")
        ends = family.fused.get(whole, ())
        if not ends or len(tensor) % len(ends):
            parts[name] = tensor
            continue
        size = len(tensor) // len(ends)
        for place, end in enumerate(ends):
            parts[f"{module.removesuffix(whole)}{end}.{kind}"] = tensor[place * size : (place + 1) * size]
    return parts


def join(arrays: Mapping[str, Array], family: Family) -> dict[str, Array]:
    """The way back from ``take_apart``."""
    joined: dict[str, list[Array]] = {}
    ends = {end: whole for whole, parts in family.fused.items() for end in parts}
    for name, array in arrays.items():
        module, _, kind = name.rpartition(".")
        end = next((end for end in ends if f".{module}".endswith(f".{end}")), "")
        stored = f"{module.removesuffix(end)}{ends[end]}.{kind}" if end else name
        for theirs, ours in reversed(list(family.renamed.items())):
            stored = stored.replace(ours, theirs)
        joined.setdefault(stored, []).append(array)
    return {name: parts[0] if len(parts) == 1 else np.concatenate(parts) for name, parts in joined.items()}


def _tensors(ours: str, theirs: str) -> dict[str, str]:
    """A single tensor as it is; a module as its weight and bias."""
    if theirs.endswith((".weight", ".bias")):
        return {ours: theirs}
    return {f"{ours}.{kind}": f"{theirs}.{kind}" for kind in ("weight", "bias")}
