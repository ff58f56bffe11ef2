"""What sentence-transformers does around the encoder, as its files in a checkpoint's folder say.

What a package would not reproduce exactly is refused by name. Nothing that a folder brings along is executed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ortnas.nas.architecture.ops import PoolingMode
from ortnas.nas.architecture.sentence_modules import (
    POOLING_MODES,
    SentenceModule,
    module_sizes,
    module_tensors,
)
from ortnas.nas.failures import CheckpointError
from ortnas.nas.training.checkpoint.config import CheckpointConfig
from ortnas.nas.training.checkpoint.folder import MODULES_FILE, read_file
from ortnas.nas.training.checkpoint.sentence_texts import SentenceTexts, read_sentence_texts
from ortnas.nas.training.checkpoint.weights import read_tensors
from ortnas.nas.wording import listed, shortened, shown

_OWN_PACKAGE = "sentence_transformers."
_SERVED = "Transformer, Pooling, and behind them Dense, LayerNorm and Normalize"
# Does nothing but in training.
_IDLE = "Dropout"
# Keys of earlier releases, one switch a mode, in the order in which modes are joined.
_MODE_KEYS: dict[str, PoolingMode] = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
# Dense layers' activations by the last part of their paths in torch.
_ACTIVATIONS = {"identity": "identity", "tanh": "tanh", "relu": "relu", "gelu": "gelu", "sigmoid": "sigmoid"}
_VECTOR = "sentence_embedding"


@dataclass(frozen=True)
class SentenceModel:
    """How ``encode`` makes a vector of a text. ``paths`` are the folders of the modules that have weights, by the
    modules' numbers."""

    pooling: tuple[PoolingMode, ...]
    modules: tuple[SentenceModule, ...]
    paths: Mapping[int, Path]
    texts: SentenceTexts

    @property
    def size(self) -> int:
        """Of what ``pooling`` and ``modules`` make, where it is not that of what is pooled."""
        return next((module.size for module in reversed(self.modules) if module.size), 0)


def read_sentence_model(config: CheckpointConfig, folder: Path) -> SentenceModel | None:
    """None where the folder is no sentence-transformers model. Raises CheckpointError."""
    name = config.name
    if not (folder / MODULES_FILE).is_file():
        return None
    kinds, paths = _listed_modules(name, folder)
    if kinds[:2] != ["Transformer", "Pooling"] or "Pooling" in kinds[2:]:
        raise CheckpointError(f"checkpoint {name}: {MODULES_FILE} lists {listed(kinds)}; served are {_SERVED}")
    texts = read_sentence_texts(config, folder, "feature-extraction")
    pooling = _pooling(config, folder / paths[1], texts)
    width = config.setting("hidden_size") * len(pooling)
    modules: list[SentenceModule] = []
    of_weights: dict[int, Path] = {}
    for kind, path in zip(kinds[2:], paths[2:], strict=True):
        settings = _settings(name, folder / path)
        module = _MODULES[kind](name, path, settings, width)
        if module.kind in ("dense", "layer_norm"):
            of_weights[len(modules)] = folder / path
        modules.append(module)
        width = module.size or width
    if texts.truncated_size is not None and texts.truncated_size < width:
        modules.append(SentenceModule("truncate", texts.truncated_size))
    return SentenceModel(pooling, tuple(modules), of_weights, texts)


def read_module_tensors(config: CheckpointConfig, sentence: SentenceModel) -> dict[str, Tensor]:
    """The weights of the modules, float32 by canonical name. Raises CheckpointError."""
    sizes = module_sizes(config.setting("hidden_size") * len(sentence.pooling), sentence.modules)
    axes, tensors = module_tensors(sentence.modules), dict[str, Tensor]()
    for number, path in sentence.paths.items():
        state = read_tensors(config.name, path)
        for kind in ("weight", "bias"):
            own = f"head.modules.{number}.{kind}"
            if own not in axes:
                continue
            theirs = f"{'norm' if sentence.modules[number].kind == 'layer_norm' else 'linear'}.{kind}"
            shape = tuple(sizes[label] for label in axes[own])
            tensor = state.get(theirs)
            if tensor is None or tuple(tensor.shape) != shape or not tensor.is_floating_point():
                raise CheckpointError(
                    f"checkpoint {config.name}: the weights in {path.name} hold no {theirs} of {shape} numbers, as "
                    f"{MODULES_FILE} and its settings promise"
                )
            if not torch.isfinite(tensor).all():
                raise CheckpointError(
                    f"checkpoint {config.name}: {theirs} in {path.name} holds values that are not finite"
                )
            tensors[own] = tensor.float()
    return tensors


def _listed_modules(name: str, folder: Path) -> tuple[list[str], list[str]]:
    """Kinds and folders of the modules that do something. Raises CheckpointError for one that is not served."""
    listing = read_file(name, folder, MODULES_FILE, list)
    try:
        entries = [(str(module["type"]), str(module["path"])) for module in listing]
    except (KeyError, TypeError) as error:
        raise CheckpointError(f"checkpoint {name}: {MODULES_FILE} names no modules: {error!r}") from error
    for kind, path in entries:
        if not kind.startswith(_OWN_PACKAGE):
            raise CheckpointError(
                f"checkpoint {name}: {MODULES_FILE} has the module {shortened(kind)}, which is code of its own and not "
                f"of sentence-transformers; nothing of it is executed"
            )
        if Path(path).is_absolute() or ".." in Path(path).parts:
            raise CheckpointError(
                f"checkpoint {name}: {MODULES_FILE} has a module in {shortened(path)}, not in the folder"
            )
    plain = [(kind.rpartition(".")[2], path) for kind, path in entries]
    plain = [(kind, path) for kind, path in plain if kind != _IDLE]
    strange = next((kind for kind, _ in plain if kind not in ("Transformer", "Pooling", *_MODULES)), None)
    if strange is not None:
        raise CheckpointError(
            f"checkpoint {name}: {MODULES_FILE} has the module {shortened(strange)}, which packages do not reproduce; "
            f"served are {_SERVED}"
        )
    return [kind for kind, _ in plain], [path for _, path in plain]


def _settings(name: str, folder: Path) -> dict[str, Any]:
    return dict(read_file(name, folder, "config.json")) if (folder / "config.json").is_file() else {}


def _pooling(config: CheckpointConfig, folder: Path, texts: SentenceTexts) -> tuple[PoolingMode, ...]:
    name, file = config.name, f"{folder.name}/config.json"
    settings = read_file(name, folder, "config.json")
    stated = settings.get("pooling_mode", [mode for key, mode in _MODE_KEYS.items() if settings.get(key)] or "mean")
    modes = stated if isinstance(stated, list) else [stated]
    if strange := [mode for mode in modes if mode not in POOLING_MODES]:
        raise CheckpointError(
            f"checkpoint {name}: {file} pools by {shown(strange[0])}; served are {', '.join(POOLING_MODES)}"
        )
    width = settings.get("embedding_dimension", settings.get("word_embedding_dimension"))
    if width not in (None, config.setting("hidden_size")):
        raise CheckpointError(
            f"checkpoint {name}: {file} pools vectors of {shown(width)} numbers, the encoder's have "
            f"{config.setting('hidden_size')}"
        )
    if settings.get("include_prompt", True) is False and any(texts.prompts.values()):
        raise CheckpointError(
            f"checkpoint {name}: {file} leaves the tokens of prompts out of the pooling (include_prompt: false), "
            f"which packages do not"
        )
    return tuple(modes)


def _dense(name: str, path: str, settings: Mapping[str, Any], width: int) -> SentenceModule:
    _check_vectors(name, path, settings)
    if settings.get("use_residual"):
        raise CheckpointError(
            f"checkpoint {name}: the Dense module in {path} adds its input (use_residual), which packages do not "
            f"reproduce"
        )
    inputs, outputs = settings.get("in_features"), settings.get("out_features")
    if inputs != width or type(outputs) is not int or outputs < 1:
        raise CheckpointError(
            f"checkpoint {name}: the Dense module in {path} goes from {shown(inputs)} to {shown(outputs)} numbers; "
            f"{width} come in"
        )
    # The library's own default.
    stated = str(settings.get("activation_function", "torch.nn.modules.activation.Tanh"))
    activation = _ACTIVATIONS.get(stated.rpartition(".")[2].lower()) if stated.startswith("torch.") else None
    if activation is None:
        raise CheckpointError(
            f"checkpoint {name}: the Dense module in {path} has the activation {shortened(stated)}; packages know "
            f"{', '.join(_ACTIVATIONS)} of torch"
        )
    return SentenceModule("dense", outputs, activation, bool(settings.get("bias", True)))


def _layer_norm(name: str, path: str, settings: Mapping[str, Any], width: int) -> SentenceModule:
    if settings.get("dimension") != width:
        raise CheckpointError(
            f"checkpoint {name}: the LayerNorm module in {path} is for {shown(settings.get('dimension'))} numbers; "
            f"{width} come in"
        )
    return SentenceModule("layer_norm")


def _normalize(name: str, path: str, settings: Mapping[str, Any], _: int) -> SentenceModule:
    _check_vectors(name, path, settings)
    return SentenceModule("normalize")


_MODULES = {"Dense": _dense, "LayerNorm": _layer_norm, "Normalize": _normalize}


def _check_vectors(name: str, path: str, settings: Mapping[str, Any]) -> None:
    """Raises CheckpointError for a module of something else than the pooled vector."""
    for key in ("module_input_name", "module_output_name"):
        if settings.get(key) not in (None, _VECTOR):
            raise CheckpointError(
                f"checkpoint {name}: the module in {path} is for {shown(settings[key])} ({key}); packages reproduce "
                f"modules of {_VECTOR} alone"
            )
