"""Reading a Hugging Face checkpoint of the BERT family: canonical tensors, dimensions and tokenizer."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from nas.failures import CheckpointError
from nas.families import ACTIVATIONS, CLASS_SUFFIXES, FAMILIES, checkpoint_names
from nas.layout import Dimensions, tensor_axes, tensor_shape
from nas.text import TOKENIZER_FILE


@dataclass(frozen=True)
class Checkpoint:
    """A pretrained network in canonical form. ``head_is_trained`` is False where the head starts at random."""

    name: str
    dimensions: Dimensions
    tensors: dict[str, torch.Tensor]
    labels: tuple[str, ...]
    head_is_trained: bool
    tokenizer: Any


def _is_folder_name(name: str) -> bool:
    return name.startswith((".", "~", os.sep)) or name.count("/") > 1 or Path(name).exists()


def _read_config(name: str) -> Any:
    import transformers

    folder = Path(name).expanduser()
    if _is_folder_name(name):
        if not folder.is_dir():
            raise CheckpointError(f"checkpoint {name}: no such folder")
        if not (folder / "config.json").is_file():
            raise CheckpointError(
                f"checkpoint {name}: the folder holds no config.json, so it is no transformers checkpoint"
            )
        try:
            kind = json.loads((folder / "config.json").read_text()).get("model_type")
        except ValueError as error:
            raise CheckpointError(f"checkpoint {name}: config.json is not JSON: {error}") from error
        _check_family(name, kind)
    try:
        config = transformers.AutoConfig.from_pretrained(str(folder) if folder.is_dir() else name)
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"checkpoint {name}: not a folder here, and the hub did not serve it ({type(error).__name__}); "
            f"give a local folder, or check the name and the network"
        ) from error
    _check_family(name, config.model_type)
    if getattr(config, "position_embedding_type", "absolute") not in ("absolute", None):
        raise CheckpointError(f"checkpoint {name}: position_embedding_type must be 'absolute'")
    if getattr(config, "is_decoder", False):
        raise CheckpointError(f"checkpoint {name}: is_decoder is set; an encoder is needed")
    activation = FAMILIES[config.model_type].read_setting(config, "hidden_act")
    if activation not in ACTIVATIONS:
        raise CheckpointError(f"checkpoint {name}: activation {activation!r}; supported: {', '.join(ACTIVATIONS)}")
    return config


def _check_family(name: str, model_type: Any) -> None:
    if model_type not in FAMILIES:
        raise CheckpointError(f"checkpoint {name}: model_type is {model_type!r}; supported: {', '.join(FAMILIES)}")


def _read_tokenizer(name: str, vocab_size: int, head: str) -> Any:
    import transformers

    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(name)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"checkpoint {name}: its tokenizer cannot be read: {error}") from error
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise CheckpointError(f"checkpoint {name}: its tokenizer has no fast form ({TOKENIZER_FILE})")
    largest = max(backend.get_vocab(with_added_tokens=True).values(), default=-1)
    if largest < 100:
        raise CheckpointError(f"checkpoint {name}: its tokenizer has only {largest + 1} tokens; are its files missing?")
    if largest >= vocab_size:
        raise CheckpointError(
            f"checkpoint {name}: the tokenizer's ids go up to {largest}, the model has {vocab_size} embeddings; "
            f"the tokenizer belongs to another model"
        )
    if tokenizer.cls_token_id is None or tokenizer.sep_token_id is None:
        raise CheckpointError(f"checkpoint {name}: the tokenizer has no [CLS] and [SEP] (or <s> and </s>) tokens")
    if head == "masked-lm" and tokenizer.mask_token_id is None:
        raise CheckpointError(f"checkpoint {name}: the tokenizer has no [MASK] token, so it cannot serve a masked LM")
    return tokenizer


def read_checkpoint(
    name: str, head: str, labels: tuple[str, ...] = (), seed: int = 0, pooling: str = "mean"
) -> Checkpoint:
    """Reads a folder or hub name.

    ``labels`` are the task's label names for the classification heads. A trained head of the checkpoint is used where
    it is of the wanted kind with as many labels, otherwise the head is initialised from ``seed``. ``pooling`` ("mean"
    or "cls") is how the embedding head makes one vector of a text. Raises CheckpointError.
    """
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    config = _read_config(name)
    path = str(Path(name).expanduser()) if _is_folder_name(name) else name
    tokenizer = _read_tokenizer(path, config.vocab_size, head)
    dimensions = _dimensions(name, config, head, labels, pooling)
    trained = _has_trained_head(config, dimensions)
    if dimensions.num_labels and not trained:
        config.num_labels = dimensions.num_labels
    state, lost = _read_weights(name, path, config, head, seed)
    _check_weights(name, dimensions, state, lost)
    trained = trained and not any(theirs in lost for theirs in checkpoint_names(dimensions).values())
    tensors = _canonical(state, dimensions)
    if trained and dimensions.num_labels and labels:
        order = _label_order(name, config, labels)
        for kind in ("weight", "bias"):
            tensors[f"head.classifier.{kind}"] = tensors[f"head.classifier.{kind}"][order]
    elif dimensions.num_labels and not trained:
        # A classifier of another task may have the same name and shape.
        generator = torch.Generator().manual_seed(seed)
        tensors["head.classifier.weight"].normal_(0, config.initializer_range, generator=generator)
        tensors["head.classifier.bias"].zero_()
    for tensor_name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise CheckpointError(f"checkpoint {name}: {tensor_name} holds values that are not finite")
    return Checkpoint(name, dimensions, tensors, labels, trained, tokenizer)


def _dimensions(name: str, config: Any, head: str, labels: tuple[str, ...], pooling: str) -> Dimensions:
    family = FAMILIES[config.model_type]
    hidden_size, num_heads = (family.read_setting(config, key) for key in ("hidden_size", "num_attention_heads"))
    table_size = config.embedding_size if family.factorises_tables else hidden_size
    first_position = config.pad_token_id + 1 if family.positions_follow_padding else 0
    activation = ACTIVATIONS[family.read_setting(config, "hidden_act")]
    if head == "masked-lm" and family.transform_activation not in (None, activation):
        raise CheckpointError(
            f"checkpoint {name}: a masked LM of {config.model_type} needs the activation "
            f"{family.transform_activation!r} in its encoder, found {activation!r}"
        )
    return Dimensions(
        vocab_size=config.vocab_size,
        max_positions=config.max_position_embeddings - first_position,
        token_types=family.read_setting(config, "type_vocab_size"),
        hidden_size=hidden_size,
        num_layers=family.read_setting(config, "num_hidden_layers"),
        num_heads=num_heads,
        head_size=hidden_size // num_heads,
        ffn_size=family.read_setting(config, "intermediate_size"),
        layer_norm_epsilon=family.read_setting(config, "layer_norm_eps"),
        activation=activation,
        head=head,
        num_labels={
            "classification": len(labels),
            "token-classification": len(labels),
            "regression": 1,
            "span": 2,
        }.get(head, 0),
        embedding_size=hidden_size if head == "embedding" else 0,
        family=config.model_type,
        table_size=0 if table_size == hidden_size else table_size,
        pooling=pooling,
        head_activation=family.head_activation,
    )


def _has_trained_head(config: Any, dimensions: Dimensions) -> bool:
    """Whether the checkpoint's architectures say so; the embedding head needs no training."""
    head = dimensions.head
    if head == "embedding":
        return True
    if dimensions.num_labels and config.num_labels != dimensions.num_labels:
        return False
    brought = FAMILIES[config.model_type].also_trained.get(head, ())
    return any(kind.endswith(CLASS_SUFFIXES[head]) or kind in brought for kind in config.architectures or [])


def _read_weights(
    name: str, path: str, config: Any, head: str, seed: int
) -> tuple[dict[str, torch.Tensor], frozenset[str]]:
    """The state dict of the head's transformers class, and the names in it that the checkpoint lacks."""
    import transformers

    torch.manual_seed(seed)
    try:
        model, report = getattr(transformers, FAMILIES[config.model_type].class_name(head)).from_pretrained(
            path, config=config, dtype=torch.float32, ignore_mismatched_sizes=True, output_loading_info=True
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise CheckpointError(f"checkpoint {name}: its weights cannot be read: {error}") from error
    state = {key: value.detach().float() for key, value in model.state_dict().items()}
    # transformers 4 lists plain names, transformers 5 names with both shapes.
    mismatched = [entry if isinstance(entry, str) else entry[0] for entry in report["mismatched_keys"]]
    return state, frozenset([*report["missing_keys"], *mismatched])


def _check_weights(name: str, dimensions: Dimensions, state: dict[str, torch.Tensor], lost: frozenset[str]) -> None:
    names = checkpoint_names(dimensions)
    if absent := [theirs for ours, theirs in names.items() if theirs in lost and not ours.startswith("head.")]:
        raise CheckpointError(
            f"checkpoint {name}: its weights lack {absent[0]} in the configured shape"
            + (f" and {len(absent) - 1} more" if absent[1:] else "")
        )
    if dimensions.head == "masked-lm":
        decoder = state[FAMILIES[dimensions.family].decoder]
        if not torch.equal(decoder, state[names["embeddings.word"]]):
            raise CheckpointError(f"checkpoint {name}: its masked-LM decoder is not tied to the word embeddings")


def _label_order(name: str, config: Any, labels: tuple[str, ...]) -> list[int]:
    """Rows of a trained classifier in the order of the task's labels; generic names are taken as sorted."""
    own = [str(config.id2label[index]) for index in range(len(labels))]
    if own == [f"LABEL_{index}" for index in range(len(labels))]:
        return list(range(len(labels)))
    if set(own) != set(labels):
        raise CheckpointError(f"checkpoint {name}: its labels are {own}, the data's are {list(labels)}")
    return [own.index(label) for label in labels]


def _canonical(state: dict[str, torch.Tensor], dimensions: Dimensions) -> dict[str, torch.Tensor]:
    names = checkpoint_names(dimensions)
    tensors = {}
    for name, axes in tensor_axes(dimensions).items():
        shape = tensor_shape(axes, dimensions)
        if name in names:
            # Rows of the position table before the first position are never used.
            tensor = state[names[name]][-shape[0] :] if name == "embeddings.position" else state[names[name]]
            tensors[name] = tensor.reshape(shape).clone()
        elif name == "head.projection.weight":
            tensors[name] = torch.eye(dimensions.hidden_size)
        else:  # token types in a family without them
            tensors[name] = torch.zeros(shape)
    return tensors


def save_tokenizer(name: str, head: str, folder: Path) -> None:
    """Writes the files of a checkpoint's tokenizer alone. Raises CheckpointError."""
    config = _read_config(name)
    path = str(Path(name).expanduser()) if _is_folder_name(name) else name
    _read_tokenizer(path, config.vocab_size, head).save_pretrained(folder)
