"""A checkpoint's weights as the canonical tensors of its network: their names in transformers, checked and copied."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ortnas.nas.architecture.dimensions import Dimensions
from ortnas.nas.architecture.families import FAMILIES
from ortnas.nas.architecture.heads import HEADS
from ortnas.nas.architecture.layout import tensor_axes, tensor_shape
from ortnas.nas.architecture.ops import group_axes
from ortnas.nas.architecture.sentence_modules import module_tensors
from ortnas.nas.architecture.spelling import checkpoint_names
from ortnas.nas.failures import CheckpointError
from ortnas.nas.training.checkpoint.config import CheckpointConfig
from ortnas.nas.wording import listed


def check_weights(
    config: CheckpointConfig, dimensions: Dimensions, state: Mapping[str, Tensor], head_is_trained: bool
) -> None:
    names = stored_names(config, dimensions)
    required = {ours: theirs for ours, theirs in names.items() if head_is_trained or not ours.startswith("head.")}
    if absent := [theirs for theirs in required.values() if theirs not in state]:
        more = f" and {len(absent) - 1} more" if absent[1:] else ""
        others = listed(sorted(state.keys() - set(required.values())))
        # Of a few that are missing, the names of all others would only distract.
        there = f"; they hold {others}" if others and 2 * len(absent) > len(required) else ""
        raise CheckpointError(f"checkpoint {config.name}: its weights lack {absent[0]}{more}{there}")
    for ours, theirs in required.items():
        tensor, shape = state[theirs], _stored_shape(ours, config, dimensions)
        if ours == "embeddings.word" and tuple(tensor.shape[1:]) == shape[1:] != () and len(tensor) != shape[0]:
            raise CheckpointError(
                f"checkpoint {config.name}: its word table ({theirs}) has {len(tensor)} rows, and config.json says "
                f"vocab_size = {shape[0]}; where the table was resized on purpose, set vocab_size to {len(tensor)} in "
                f"config.json and give the tokenizer that goes with it"
            )
        if tuple(tensor.shape) != shape:
            raise CheckpointError(
                f"checkpoint {config.name}: {theirs} is {_shape(tuple(tensor.shape))} in its weights, but "
                f"{_shape(shape)} by config.json"
            )
        if not tensor.is_floating_point():
            raise CheckpointError(
                f"checkpoint {config.name}: {theirs} holds {str(tensor.dtype).removeprefix('torch.')}; give the "
                f"checkpoint before it was quantized"
            )
        if not torch.isfinite(tensor).all():
            raise CheckpointError(f"checkpoint {config.name}: {theirs} holds values that are not finite")


def take_own_decoder(
    config: CheckpointConfig, dimensions: Dimensions, state: dict[str, Tensor]
) -> tuple[Dimensions, dict[str, Tensor]]:
    """Dimensions and weights of a trained masked-LM head, whose decoder may be another than the word table.

    Raises CheckpointError where weights and configuration contradict each other.
    """
    own, is_tied = config.family.decoder, getattr(config.values, "tie_word_embeddings", True)
    tied_names = stored_names(config, dimensions)
    if own not in state:
        if is_tied:
            return dimensions, state
        raise CheckpointError(
            f"checkpoint {config.name}: its weights lack {own}, the masked-LM decoder, which config.json does not tie "
            f"to the word embeddings (tie_word_embeddings)"
        )
    if torch.equal(state[own], state[tied_names["embeddings.word"]]):
        return dimensions, state
    if is_tied:
        raise CheckpointError(
            f"checkpoint {config.name}: {own}, its masked-LM decoder, differs from the word embeddings, to which "
            f"config.json ties it; say there tie_word_embeddings: false to use it, or take it out of the weights"
        )
    dimensions = replace(dimensions, has_own_decoder=True)
    bias = stored_names(config, dimensions)["head.decoder.bias"]
    # Earlier releases of transformers tied the biases in any case, and saved one.
    return dimensions, {bias: state[tied_names["head.decoder.bias"]], **state}


def stored_names(config: CheckpointConfig, dimensions: Dimensions) -> dict[str, str]:
    """Canonical names to those of ``read_weights``, which has an encoder without a head below its base too; without
    biases that the checkpoint does not have."""
    names = {ours: theirs for ours, theirs in checkpoint_names(dimensions).items() if config.has_tensor(ours)}
    if not HEADS[dimensions.head].is_bare_encoder:
        return names
    return {ours: f"{FAMILIES[dimensions.family].base}.{theirs}" for ours, theirs in names.items()}


def stored_head_names(config: CheckpointConfig, dimensions: Dimensions) -> dict[str, str]:
    """Those of the head alone."""
    return {ours: theirs for ours, theirs in stored_names(config, dimensions).items() if ours.startswith("head.")}


def _stored_shape(name: str, config: CheckpointConfig, dimensions: Dimensions) -> tuple[int, ...]:
    """The shape of a canonical tensor as transformers has it: heads and their entries on one axis."""
    sizes = {**dimensions.sizes, "position": config.values.max_position_embeddings}
    groups = group_axes(tensor_axes(dimensions)[name])
    return tuple(math.prod(sizes[label] for label in group) for group in groups)


def _shape(sizes: tuple[int, ...]) -> str:
    return " x ".join(map(str, sizes))


def unused_weights(config: CheckpointConfig, dimensions: Dimensions, state: Mapping[str, Tensor]) -> list[str]:
    """Weights that the configuration has no place for. Those of other heads are no loss."""
    family = config.family
    used = {theirs for head in HEADS for theirs in stored_names(config, replace(dimensions, head=head)).values()}
    heads = {theirs.partition(".")[0] for theirs in used if not theirs.startswith(f"{family.base}.")}
    idle = sorted(
        key
        for key in state
        if key not in used
        and key.partition(".")[0] not in {*heads, *family.other_heads}
        and not key.startswith((f"{family.base}.pooler.", f"{family.base}.embeddings.position_ids"))
    )
    if not idle:
        return []
    more = f" and {len(idle) - 1} more" if idle[1:] else ""
    return [f"config.json has no place for weights of the checkpoint, which are not used: {idle[0]}{more}"]


def canonical_tensors(
    config: CheckpointConfig,
    state: Mapping[str, Tensor],
    dimensions: Dimensions,
    head_is_trained: bool,
    rows: Sequence[int] | None,
    seed: int,
) -> dict[str, Tensor]:
    """All tensors of the network in float32 but those of modules behind it, those of a head that is not trained drawn
    from the seed. ``rows`` are those of its classifier to take; None takes all."""
    names = stored_names(config, dimensions)
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    of_modules = module_tensors(dimensions.modules)
    for name, axes in tensor_axes(dimensions).items():
        if name in of_modules:
            continue
        shape = tensor_shape(axes, dimensions)
        if name == "head.projection.weight":
            tensors[name] = torch.eye(dimensions.hidden_size)
        elif name == "head.dense.weight":
            tensors[name] = torch.eye(*shape)
        elif name not in names:  # token types in a family without them, biases in a checkpoint without them
            tensors[name] = torch.zeros(shape)
        elif name.startswith("head.") and not head_is_trained:
            tensors[name] = _initial(name, shape, config.values.initializer_range, generator)
        else:
            # Rows of the position table before the first position are never used.
            tensor = state[names[name]][-shape[0] :] if name == "embeddings.position" else state[names[name]]
            tensors[name] = tensor.reshape(shape).float().clone()
            if rows is not None and name.startswith("head.classifier."):
                tensors[name] = tensors[name][list(rows)]
    return tensors


def _initial(name: str, shape: tuple[int, ...], deviation: float, generator: torch.Generator) -> Tensor:
    """As transformers initialises the parts of a head."""
    if name.endswith("norm.weight"):
        return torch.ones(shape)
    return (
        torch.zeros(shape) if name.endswith("bias") else torch.empty(shape).normal_(0, deviation, generator=generator)
    )
