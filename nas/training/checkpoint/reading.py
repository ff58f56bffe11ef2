"""Reading a Hugging Face checkpoint of the BERT family: canonical tensors, dimensions, labels and tokenizer."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ortnas.nas.architecture.activations import ACTIVATIONS
from ortnas.nas.architecture.dimensions import Dimensions
from ortnas.nas.architecture.families import FAMILIES
from ortnas.nas.architecture.heads import HEADS
from ortnas.nas.architecture.layout import tensor_axes, tensor_shape
from ortnas.nas.architecture.ops import group_axes
from ortnas.nas.architecture.spelling import checkpoint_names
from ortnas.nas.failures import CheckpointError
from ortnas.nas.training.checkpoint.config import CheckpointConfig, read_config
from ortnas.nas.training.checkpoint.folder import find_folder
from ortnas.nas.training.checkpoint.labels import match_labels
from ortnas.nas.training.checkpoint.modules import read_activation, read_sentence_model
from ortnas.nas.training.checkpoint.tokenizer import CheckpointTokenizer, read_tokenizer
from ortnas.nas.training.checkpoint.weights import read_weights
from ortnas.nas.wording import listed

__all__ = [
    "Checkpoint",
    "TextSettings",
    "pick_labels",
    "read_checkpoint",
    "read_text_settings",
]

_DEFAULT_POOLING = "mean"
# Tokens of a text, where the checkpoint has room for them and says nothing else.
_MAX_LENGTH = 128


@dataclass(frozen=True)
class Checkpoint:
    """A pretrained network in canonical form. ``head_is_trained`` is False where the head starts at random.

    ``labels`` are the classifier's rows by name. ``order_is_open`` where nothing tells which row is which label: then
    the classifier has all rows of the checkpoint, in its order, and ``pick_labels`` takes those that were found out.
    ``activation`` is what a cross-encoder puts over its number; ``architectures`` are the classes of transformers that
    its configuration names; ``notes`` are sentences for the user.
    """

    name: str
    dimensions: Dimensions
    tensors: dict[str, Tensor]
    labels: tuple[str, ...]
    head_is_trained: bool
    tokenizer: CheckpointTokenizer
    order_is_open: bool = False
    activation: str | None = None
    notes: tuple[str, ...] = ()
    architectures: tuple[str, ...] = ()


@dataclass(frozen=True)
class TextSettings:
    """The tokenizer of a checkpoint, and how many tokens of a text are read where nothing else is asked for."""

    tokenizer: CheckpointTokenizer
    max_length: int


@dataclass(frozen=True)
class _Head:
    """What becomes of the checkpoint's head: the rows of its classifier to take (None: all), and their names."""

    labels: tuple[str, ...]
    is_trained: bool
    size: int = 0
    rows: tuple[int, ...] | None = None
    order_is_open: bool = False
    notes: tuple[str, ...] = ()


def read_text_settings(name: str, head: str) -> TextSettings:
    """What texts need of a checkpoint, without its weights. Raises CheckpointError."""
    _quieten()
    folder = find_folder(name)
    config = read_config(name, folder)
    sentence = read_sentence_model(config, folder) if HEADS[head].makes_embeddings else None
    tokenizer = read_tokenizer(config, folder, head, sentence is not None and sentence.lower)
    return TextSettings(tokenizer, sentence.max_length if sentence else min(_MAX_LENGTH, config.max_positions))


def read_checkpoint(
    name: str,
    head: str,
    labels: tuple[str, ...] = (),
    seed: int = 0,
    pooling: str | None = None,
    label_names: Mapping[str, str] = {},
    new_head: bool = False,
) -> Checkpoint:
    """Reads a folder or hub name.

    ``labels`` are the task's label names for the classification heads, ``label_names`` says which of the checkpoint's
    they are where that cannot be told. A trained head of the wanted kind is used, unless ``new_head``; otherwise the
    head is initialised from ``seed``. ``pooling`` ("mean" or "cls") is how the embedding head makes one vector of a
    text; None takes what a sentence-transformers folder says, and the mean elsewhere. Raises CheckpointError.
    """
    _quieten()
    folder = find_folder(name, weights=True)
    config = read_config(name, folder)
    sentence = read_sentence_model(config, folder) if HEADS[head].makes_embeddings else None
    tokenizer = read_tokenizer(config, folder, head, sentence is not None and sentence.lower)
    notes = list(tokenizer.notes)
    if sentence is not None and pooling not in (None, sentence.pooling):
        notes.append(f"pooling = {pooling!r} as configured, where the checkpoint's own is {sentence.pooling!r}")
    pooling = pooling or (sentence.pooling if sentence else _DEFAULT_POOLING)
    state = read_weights(name, folder, config.values.model_type)
    dimensions = _dimensions(config, head, pooling)
    choice = _choose_head(config, state, dimensions, labels, label_names, new_head)
    dimensions = replace(dimensions, num_labels=choice.size)
    _check_weights(config, dimensions, state, choice.is_trained)
    tensors = _canonical(config, state, dimensions, choice, seed)
    notes += [*choice.notes, *_unused(config, dimensions, state)]
    return Checkpoint(
        name,
        dimensions if choice.rows is None else replace(dimensions, num_labels=len(choice.rows)),
        tensors,
        choice.labels,
        choice.is_trained,
        tokenizer,
        choice.order_is_open,
        read_activation(config, folder, head) if choice.is_trained else None,
        tuple(notes),
        config.architectures,
    )


def pick_labels(checkpoint: Checkpoint, rows: tuple[int, ...]) -> Checkpoint:
    """The checkpoint with these rows of its classifier, one for each label, in their order."""
    tensors = checkpoint.tensors | {
        name: checkpoint.tensors[name][list(rows)] for name in ("head.classifier.weight", "head.classifier.bias")
    }
    dimensions = replace(checkpoint.dimensions, num_labels=len(rows))
    return replace(checkpoint, tensors=tensors, dimensions=dimensions, order_is_open=False)


def _quieten() -> None:
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()


def _dimensions(config: CheckpointConfig, head: str, pooling: str) -> Dimensions:
    """Sizes of the full network, but for the number of labels."""
    values, family = config.values, config.family
    hidden_size, num_heads = (config.setting(key) for key in ("hidden_size", "num_attention_heads"))
    table_size = values.embedding_size if family.factorises_tables else hidden_size
    activation = ACTIVATIONS[config.setting("hidden_act")]
    if HEADS[head].has_decoder and family.transform_activation not in (None, activation):
        raise CheckpointError(
            f"checkpoint {config.name}: a masked LM of {values.model_type} needs the activation "
            f"{family.transform_activation!r} in its encoder, found {activation!r}"
        )
    return Dimensions(
        **{"head_activation": family.head_activation} | config.own_dimensions(),
        vocab_size=values.vocab_size,
        max_positions=config.max_positions,
        token_types=config.setting("type_vocab_size"),
        hidden_size=hidden_size,
        num_layers=config.setting("num_hidden_layers"),
        num_heads=num_heads,
        head_size=hidden_size // num_heads,
        ffn_size=config.setting("intermediate_size"),
        layer_norm_epsilon=config.setting("layer_norm_eps"),
        activation=activation,
        head=head,
        embedding_size=hidden_size if HEADS[head].makes_embeddings else 0,
        family=values.model_type,
        table_size=0 if table_size == hidden_size else table_size,
        pooling=pooling,
        padding_id=values.pad_token_id or 0,
    )


def _choose_head(
    config: CheckpointConfig,
    state: Mapping[str, Tensor],
    dimensions: Dimensions,
    labels: tuple[str, ...],
    label_names: Mapping[str, str],
    new_head: bool,
) -> _Head:
    head = HEADS[dimensions.head]
    if not head.has_classifier:
        # An embedding has no weights of its own.
        return _Head((), head.makes_embeddings or _holds_head(config, state, dimensions))
    size = head.label_rows or len(labels)
    fresh = _Head(labels, False, size)
    if new_head or not _holds_head(config, state, dimensions):
        return fresh
    own_rows = len(state[_names(config, dimensions)["head.classifier.weight"]])
    if head.labels == "class" and config.document.get("problem_type") == "multi_label_classification":
        raise CheckpointError(
            f"checkpoint {config.name}: its head gives several labels to a text (problem_type: "
            f"multi_label_classification), which is not supported yet; training.new_head: true trains one of its own, "
            f"with one label a text"
        )
    if head.label_rows:
        if own_rows == size:
            return replace(fresh, is_trained=True)
        return replace(
            fresh, notes=(f"the checkpoint's head gives {own_rows} numbers, {dimensions.head} needs {size}",)
        )
    own = config.label_names() or tuple(f"LABEL_{row}" for row in range(own_rows))
    if len(own) != own_rows:
        raise CheckpointError(
            f"checkpoint {config.name}: config.json names {len(own)} labels, its classifier has {own_rows} rows"
        )
    if not labels:
        return _Head(own, True, own_rows)
    matched = match_labels(config.name, own, labels, label_names)
    if matched is None:
        other = f"the checkpoint's head is for other labels: {listed(own)}"
        return replace(fresh, notes=(other,))
    return _Head(matched.names, True, own_rows, matched.rows, matched.rows is None, matched.notes)


def _holds_head(config: CheckpointConfig, state: Mapping[str, Tensor], dimensions: Dimensions) -> bool:
    """Whether all tensors of the head are there, and those of a head of this kind.

    Classifiers of texts and of tokens may have the same name and shape: the architectures tell, and where there are
    none, whether there is all that another head has beside them.
    """
    head, family = dimensions.head, config.family
    if not all(theirs in state for theirs in _head_names(config, dimensions).values()):
        return False
    if architectures := config.architectures:
        brought = family.also_trained.get(head, ())
        return any(kind.endswith(HEADS[head].class_suffix) or kind in brought for kind in architectures)
    own = set(_head_names(config, dimensions).values())
    larger = (set(_head_names(config, replace(dimensions, head=other)).values()) for other in HEADS)
    return not any(own < names <= state.keys() for names in larger)


def _check_weights(
    config: CheckpointConfig, dimensions: Dimensions, state: Mapping[str, Tensor], head_is_trained: bool
) -> None:
    names = _names(config, dimensions)
    required = {ours: theirs for ours, theirs in names.items() if head_is_trained or not ours.startswith("head.")}
    if absent := [theirs for theirs in required.values() if theirs not in state]:
        more = f" and {len(absent) - 1} more" if absent[1:] else ""
        others = listed(sorted(state.keys() - set(required.values())))
        # Of a few that are missing, the names of all others would only distract.
        there = f"; they hold {others}" if others and 2 * len(absent) > len(required) else ""
        raise CheckpointError(f"checkpoint {config.name}: its weights lack {absent[0]}{more}{there}")
    for ours, theirs in required.items():
        tensor, shape = state[theirs], _stored_shape(ours, config, dimensions)
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
    decoder = state.get(config.family.decoder)
    if HEADS[dimensions.head].has_decoder:
        is_tied = getattr(config.values, "tie_word_embeddings", True) if decoder is None else None
        table = state[names["embeddings.word"]]
        if is_tied is False or (decoder is not None and not torch.equal(decoder, table)):
            raise CheckpointError(f"checkpoint {config.name}: its masked-LM decoder is not tied to the word embeddings")


def _names(config: CheckpointConfig, dimensions: Dimensions) -> dict[str, str]:
    """Canonical names to those of ``read_weights``, which has an encoder without a head below its base too; without
    biases that the checkpoint does not have."""
    names = {ours: theirs for ours, theirs in checkpoint_names(dimensions).items() if config.has_tensor(ours)}
    if not HEADS[dimensions.head].is_bare_encoder:
        return names
    return {ours: f"{FAMILIES[dimensions.family].base}.{theirs}" for ours, theirs in names.items()}


def _head_names(config: CheckpointConfig, dimensions: Dimensions) -> dict[str, str]:
    """Those of the head alone."""
    return {ours: theirs for ours, theirs in _names(config, dimensions).items() if ours.startswith("head.")}


def _stored_shape(name: str, config: CheckpointConfig, dimensions: Dimensions) -> tuple[int, ...]:
    """The shape of a canonical tensor as transformers has it: heads and their entries on one axis."""
    sizes = {**dimensions.sizes, "position": config.values.max_position_embeddings}
    groups = group_axes(tensor_axes(dimensions)[name])
    return tuple(math.prod(sizes[label] for label in group) for group in groups)


def _shape(sizes: tuple[int, ...]) -> str:
    return " x ".join(map(str, sizes))


def _unused(config: CheckpointConfig, dimensions: Dimensions, state: Mapping[str, Tensor]) -> list[str]:
    """Weights that the configuration has no place for. Those of other heads are no loss."""
    family = config.family
    used = {theirs for head in HEADS for theirs in _names(config, replace(dimensions, head=head)).values()}
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


def _canonical(
    config: CheckpointConfig, state: Mapping[str, Tensor], dimensions: Dimensions, choice: _Head, seed: int
) -> dict[str, Tensor]:
    """All tensors of the network in float32, those of a head that is not trained drawn from the seed."""
    names = _names(config, dimensions)
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for name, axes in tensor_axes(dimensions).items():
        shape = tensor_shape(axes, dimensions)
        if name == "head.projection.weight":
            tensors[name] = torch.eye(dimensions.hidden_size)
        elif name not in names:  # token types in a family without them, biases in a checkpoint without them
            tensors[name] = torch.zeros(shape)
        elif name.startswith("head.") and not choice.is_trained:
            tensors[name] = _initial(name, shape, config.values.initializer_range, generator)
        else:
            # Rows of the position table before the first position are never used.
            tensor = state[names[name]][-shape[0] :] if name == "embeddings.position" else state[names[name]]
            tensors[name] = tensor.reshape(shape).float().clone()
            if choice.rows is not None and name.startswith("head.classifier."):
                tensors[name] = tensors[name][list(choice.rows)]
    return tensors


def _initial(name: str, shape: tuple[int, ...], deviation: float, generator: torch.Generator) -> Tensor:
    """As transformers initialises the parts of a head."""
    if name.endswith("norm.weight"):
        return torch.ones(shape)
    return (
        torch.zeros(shape) if name.endswith("bias") else torch.empty(shape).normal_(0, deviation, generator=generator)
    )
