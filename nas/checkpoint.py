"""Reading a Hugging Face BERT checkpoint: canonical tensors, dimensions and tokenizer."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from nas.failures import CheckpointError
from nas.layout import LAYER, Dimensions
from nas.text import TOKENIZER_FILE

ACTIVATIONS = {"gelu": "gelu", "gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "relu": "relu"}
_LAYER_NAMES = {
    "query": "attention.self.query",
    "key": "attention.self.key",
    "value": "attention.self.value",
    "output": "attention.output.dense",
    "attention_norm": "attention.output.LayerNorm",
    "ffn_in": "intermediate.dense",
    "ffn_out": "output.dense",
    "ffn_norm": "output.LayerNorm",
}
_EMBEDDING_NAMES = {
    "embeddings.word": "embeddings.word_embeddings.weight",
    "embeddings.position": "embeddings.position_embeddings.weight",
    "embeddings.token_type": "embeddings.token_type_embeddings.weight",
    "embeddings.norm.weight": "embeddings.LayerNorm.weight",
    "embeddings.norm.bias": "embeddings.LayerNorm.bias",
}


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
        if kind != "bert":
            raise CheckpointError(f"checkpoint {name}: model_type is {kind!r}; supported is 'bert'")
    try:
        config = transformers.AutoConfig.from_pretrained(str(folder) if folder.is_dir() else name)
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"checkpoint {name}: not a folder here, and the hub did not serve it ({type(error).__name__}); "
            f"give a local folder, or check the name and the network"
        ) from error
    if config.model_type != "bert":
        raise CheckpointError(f"checkpoint {name}: model_type is {config.model_type!r}; supported is 'bert'")
    if getattr(config, "position_embedding_type", "absolute") not in ("absolute", None):
        raise CheckpointError(f"checkpoint {name}: position_embedding_type must be 'absolute'")
    if config.hidden_act not in ACTIVATIONS:
        raise CheckpointError(
            f"checkpoint {name}: activation {config.hidden_act!r}; supported: {', '.join(ACTIVATIONS)}"
        )
    return config


def _read_tokenizer(name: str, vocab_size: int) -> Any:
    import transformers

    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(name)
    except (OSError, ValueError, KeyError) as error:
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
        raise CheckpointError(f"checkpoint {name}: the tokenizer has no [CLS] and [SEP] tokens, so it is not BERT's")
    return tokenizer


def read_checkpoint(name: str, head: str, labels: tuple[str, ...] = (), seed: int = 0) -> Checkpoint:
    """Reads a folder or hub name.

    ``labels`` are the task's label names for the classification head; a checkpoint with a classifier for as many
    labels brings its own trained head, otherwise the head is initialised from ``seed``. Raises CheckpointError.
    """
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    config = _read_config(name)
    path = str(Path(name).expanduser()) if _is_folder_name(name) else name
    tokenizer = _read_tokenizer(path, config.vocab_size)
    torch.manual_seed(seed)
    trained = any("ForSequenceClassification" in kind for kind in config.architectures or [])
    trained = trained and head == "classification" and config.num_labels == len(labels)
    try:
        if head == "classification":
            config.num_labels = config.num_labels if trained else len(labels)
            model = transformers.AutoModelForSequenceClassification.from_pretrained(
                path, config=config, dtype=torch.float32
            )
        else:
            model = transformers.AutoModel.from_pretrained(path, config=config, dtype=torch.float32)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise CheckpointError(f"checkpoint {name}: its weights cannot be read: {error}") from error
    dimensions = Dimensions(
        vocab_size=config.vocab_size,
        max_positions=config.max_position_embeddings,
        token_types=config.type_vocab_size,
        hidden_size=config.hidden_size,
        num_layers=config.num_hidden_layers,
        num_heads=config.num_attention_heads,
        head_size=config.hidden_size // config.num_attention_heads,
        ffn_size=config.intermediate_size,
        layer_norm_epsilon=config.layer_norm_eps,
        activation=ACTIVATIONS[config.hidden_act],
        head=head,
        num_labels=len(labels) if head == "classification" else 0,
        embedding_size=config.hidden_size if head == "embedding" else 0,
    )
    tensors = _canonical(model.state_dict(), dimensions)
    if trained:
        order = _label_order(name, config, labels)
        for kind in ("weight", "bias"):
            tensors[f"head.classifier.{kind}"] = tensors[f"head.classifier.{kind}"][order]
    for tensor_name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise CheckpointError(f"checkpoint {name}: {tensor_name} holds values that are not finite")
    return Checkpoint(name, dimensions, tensors, labels, trained or head == "embedding", tokenizer)


def _label_order(name: str, config: Any, labels: tuple[str, ...]) -> list[int]:
    """Rows of a trained classifier in the order of the task's labels; generic names are taken as sorted."""
    own = [str(config.id2label[index]) for index in range(len(labels))]
    if own == [f"LABEL_{index}" for index in range(len(labels))]:
        return list(range(len(labels)))
    if set(own) != set(labels):
        raise CheckpointError(f"checkpoint {name}: its labels are {own}, the data's are {list(labels)}")
    return [own.index(label) for label in labels]


def _canonical(state: dict[str, torch.Tensor], dimensions: Dimensions) -> dict[str, torch.Tensor]:
    state = {key.removeprefix("bert."): value.detach().float() for key, value in state.items()}
    tensors = {ours: state[theirs] for ours, theirs in _EMBEDDING_NAMES.items()}
    for index in range(dimensions.num_layers):
        for name, axes in LAYER.items():
            module, kind = name.rsplit(".", 1)
            tensor = state[f"encoder.layer.{index}.{_LAYER_NAMES[module]}.{kind}"]
            if "heads" in axes:
                sizes = {**dimensions.sizes, "hidden": dimensions.hidden_size}
                tensor = tensor.reshape([sizes[label] for label in axes])
            tensors[f"layers.{index}.{name}"] = tensor
    if dimensions.head == "embedding":
        tensors["head.projection.weight"] = torch.eye(dimensions.hidden_size)
    else:
        tensors["head.pooler.weight"] = state["pooler.dense.weight"]
        tensors["head.pooler.bias"] = state["pooler.dense.bias"]
        tensors["head.classifier.weight"] = state["classifier.weight"]
        tensors["head.classifier.bias"] = state["classifier.bias"]
    return {name: tensor.clone().contiguous() for name, tensor in tensors.items()}
