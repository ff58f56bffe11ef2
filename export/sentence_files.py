"""The files of sentence-transformers in packages and in extracted checkpoints."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from safetensors.numpy import save_file

from ortnas.nas.architecture.dimensions import Dimensions
from ortnas.nas.architecture.ops import PoolingMode
from ortnas.nas.architecture.sentence_modules import SentenceModule, module_sizes, module_tensors
from ortnas.nas.arrays import Array
from ortnas.nas.files import write_json

# By our names of activations.
_ACTIVATION_PATHS = {
    "identity": "torch.nn.modules.linear.Identity",
    "tanh": "torch.nn.modules.activation.Tanh",
    "relu": "torch.nn.modules.activation.ReLU",
    "gelu": "torch.nn.modules.activation.GELU",
    "sigmoid": "torch.nn.modules.activation.Sigmoid",
}
# What every release reads, and the order in which it joins the modes.
_POOLING_KEYS: dict[PoolingMode, str] = {
    "cls": "pooling_mode_cls_token",
    "max": "pooling_mode_max_tokens",
    "mean": "pooling_mode_mean_tokens",
    "mean_sqrt_len_tokens": "pooling_mode_mean_sqrt_len_tokens",
    "weightedmean": "pooling_mode_weightedmean_tokens",
    "lasttoken": "pooling_mode_lasttoken",
}


class _Module(NamedTuple):
    """Its class in the library, its settings and its weights."""

    kind: str
    settings: Mapping[str, Any]
    tensors: Mapping[str, Array] = {}


def write_packaged(folder: Path, embedding_size: int, max_length: int) -> None:
    """What the library reads beside a packaged model: the one token of ``last_hidden_state`` is the embedding."""
    _write_modules(folder, [_pooling(embedding_size, ("cls",))], max_length)


def write_extracted(
    folder: Path, dimensions: Dimensions, tensors: Mapping[str, Array], hidden_size: int, max_length: int
) -> None:
    """What the library makes of the hidden states of a subnet: the projection to the checkpoint's channels, poolings,
    and the modules behind them."""
    modes, width = dimensions.pooling, dimensions.hidden_size
    projection = tensors["head.projection.weight"][:, :hidden_size]
    if "max" in modes:
        kind, settings, weights = _dense(projection)
        modules = [
            _Module(kind, {**settings, "module_input_name": "token_embeddings"}, weights),
            _pooling(width, modes),
        ]
    else:
        # Linear, so that every release can have it behind the poolings.
        joined = np.kron(np.eye(len(modes), dtype=np.float32), projection)
        modules = [_pooling(hidden_size, modes), _dense(joined)]
    sizes = module_sizes(len(modes) * width, dimensions.modules)
    for number, module in enumerate(dimensions.modules):
        prefix = f"head.modules.{number}."
        own = {
            name.removeprefix(prefix): tensors[name] for name in module_tensors(dimensions.modules) if prefix in name
        }
        modules += _own(module, own, sizes[f"module_{number}"])
    _write_modules(folder, modules, max_length)


def truncated_size(dimensions: Dimensions) -> int | None:
    """Of embeddings that are cut behind all modules."""
    return next((module.size for module in dimensions.modules if module.kind == "truncate"), None)


def write_usage(
    folder: Path,
    prompts: Mapping[str, str],
    default_prompt: str | None,
    similarity: str | None,
    truncated_size: int | None = None,
) -> None:
    """What the library reads of prompts, of how embeddings are compared, and of how they are cut."""
    document: dict[str, object] = {"model_type": "SentenceTransformer", "prompts": dict(prompts)}
    document["default_prompt_name"] = default_prompt
    optional = {"similarity_fn_name": similarity, "truncate_dim": truncated_size}
    document |= {key: value for key, value in optional.items() if value is not None}
    write_json(folder / "config_sentence_transformers.json", document)


def _own(module: SentenceModule, tensors: Mapping[str, Array], width: int) -> Iterable[_Module]:
    """The library's module; none for what it does without one."""
    if module.kind == "dense":
        yield _dense(tensors["weight"], tensors.get("bias"), module.activation)
    if module.kind == "layer_norm":
        yield _Module("LayerNorm", {"dimension": width}, {f"norm.{name}": value for name, value in tensors.items()})
    if module.kind == "normalize":
        yield _Module("Normalize", {})


def _pooling(width: int, modes: Sequence[PoolingMode]) -> _Module:
    usual = {key: mode in modes for mode, key in _POOLING_KEYS.items()}
    is_usual = [mode for mode in _POOLING_KEYS if mode in modes] == list(modes)
    return _Module(
        "Pooling", {"word_embedding_dimension": width, **(usual if is_usual else {"pooling_mode": [*modes]})}
    )


def _dense(weight: Array, bias: Array | None = None, activation: str = "identity") -> _Module:
    outputs, inputs = weight.shape
    settings = {
        "in_features": inputs,
        "out_features": outputs,
        "bias": bias is not None,
        "activation_function": _ACTIVATION_PATHS[activation],
    }
    return _Module("Dense", settings, {"linear.weight": weight, **({} if bias is None else {"linear.bias": bias})})


def _write_modules(folder: Path, modules: Iterable[_Module], max_length: int) -> None:
    listed = [{"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"}]
    for number, (kind, settings, tensors) in enumerate(modules, start=1):
        path = folder / f"{number}_{kind}"
        path.mkdir(exist_ok=True)
        write_json(path / "config.json", settings)
        if tensors:
            contiguous = {name: np.array(tensor, np.float32, order="C") for name, tensor in tensors.items()}
            save_file(contiguous, path / "model.safetensors", metadata={"format": "pt"})
        listed.append(
            {"idx": number, "name": str(number), "path": path.name, "type": f"sentence_transformers.models.{kind}"}
        )
    write_json(folder / "modules.json", listed)
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": max_length, "do_lower_case": False})
