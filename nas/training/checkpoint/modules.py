"""What sentence-transformers does around the encoder, as its files in a checkpoint's folder say.

What a package would not reproduce exactly is refused by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ortnas.nas.architecture.heads import HEADS
from ortnas.nas.failures import CheckpointError
from ortnas.nas.training.checkpoint.config import CheckpointConfig
from ortnas.nas.training.checkpoint.folder import read_file
from ortnas.nas.wording import listed, shortened, shown

MODULES_FILE = "modules.json"
_MODEL_FILE = "config_sentence_transformers.json"
_TEXT_FILE = "sentence_bert_config.json"
_SERVED = ["Transformer", "Pooling", "Normalize"]
# Keys of earlier releases, one switch a mode.
_MODE_KEYS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
POOLINGS = ("mean", "cls")


@dataclass(frozen=True)
class SentenceModel:
    """How ``encode`` makes a vector of a text: ``max_length`` is in tokens, ``lower`` is before the tokenizer."""

    pooling: str
    max_length: int
    lower: bool


def read_sentence_model(config: CheckpointConfig, folder: Path) -> SentenceModel | None:
    """None where the folder is no sentence-transformers model. Raises CheckpointError."""
    name = config.name
    if not (folder / MODULES_FILE).is_file():
        return None
    modules = read_file(name, folder, MODULES_FILE, list)
    try:
        kinds = [str(module["type"]).rpartition(".")[2] for module in modules]
        paths = dict(zip(kinds, [str(module["path"]) for module in modules], strict=True))
    except (KeyError, TypeError) as error:
        raise CheckpointError(f"checkpoint {name}: {MODULES_FILE} names no modules: {error!r}") from error
    if kinds != _SERVED:
        raise CheckpointError(f"checkpoint {name}: {_refusal(kinds)}")
    pooling = _pooling(name, folder, paths["Pooling"])
    _check_prompt(name, folder)
    text = read_file(name, folder, _TEXT_FILE) if (folder / _TEXT_FILE).is_file() else {}
    return SentenceModel(pooling, _max_length(config, folder, text), bool(text.get("do_lower_case", False)))


def _refusal(kinds: list[str]) -> str:
    """Why modules other than Transformer, Pooling and Normalize, in this order, are not served."""
    if kinds == _SERVED[:2]:
        return (
            f"{MODULES_FILE} has no Normalize, and packages give vectors of length one; where their direction is all "
            f"that counts, append the module sentence_transformers.models.Normalize to {MODULES_FILE}"
        )
    strange = next((kind for kind in kinds if kind not in _SERVED), None)
    if strange is not None:
        return f"{MODULES_FILE} has the module {shortened(strange)}, which packages do not reproduce yet"
    return f"{MODULES_FILE} lists {listed(kinds)}; served are {', '.join(_SERVED)}, in this order"


def _pooling(name: str, folder: Path, path: str) -> str:
    file = f"{path}/config.json"
    if Path(path).name != path:
        raise CheckpointError(f"checkpoint {name}: {MODULES_FILE} has Pooling in {shortened(path)!r}, not in a folder")
    settings = read_file(name, folder, file)
    stated = settings.get("pooling_mode", [mode for key, mode in _MODE_KEYS.items() if settings.get(key)] or "mean")
    modes = [stated] if isinstance(stated, str) else list(stated)
    if len(modes) != 1 or modes[0] not in POOLINGS:
        raise CheckpointError(
            f"checkpoint {name}: {file} pools by {shortened(' and '.join(map(str, modes)))}; served are "
            f"{' and '.join(POOLINGS)}"
        )
    return str(modes[0])


def _check_prompt(name: str, folder: Path) -> None:
    settings = read_file(name, folder, _MODEL_FILE) if (folder / _MODEL_FILE).is_file() else {}
    default, prompts = settings.get("default_prompt_name"), settings.get("prompts") or {}
    prompt = prompts.get(default) if isinstance(prompts, dict) and isinstance(default, str) else None
    if prompt:
        raise CheckpointError(
            f"checkpoint {name}: {_MODEL_FILE} puts the prompt {shown(prompt)} before every text "
            f"(default_prompt_name), which packages do not; set it to null, and put the prompt into your texts"
        )
    if settings.get("truncate_dim") is not None:
        raise CheckpointError(f"checkpoint {name}: {_MODEL_FILE} cuts vectors (truncate_dim), which packages do not")


def _max_length(config: CheckpointConfig, folder: Path, text: Mapping[str, Any]) -> int:
    """As the library: what the file says, or the tokenizer's length, within the model's positions."""
    stated = text.get("max_seq_length")
    settings_file = folder / "tokenizer_config.json"
    if stated is None and settings_file.is_file():
        stated = read_file(config.name, folder, settings_file.name).get("model_max_length")
    if not isinstance(stated, int) or stated <= 0:
        return config.max_positions
    return min(stated, config.max_positions)


def read_activation(config: CheckpointConfig, folder: Path, head: str) -> str | None:
    """What a cross-encoder puts over its single number, ``sigmoid`` or ``identity``; None for other checkpoints.

    As the CrossEncoder class decides it: a path of a torch module, by default a sigmoid. Raises CheckpointError.
    """
    if not HEADS[head].gives_number:
        return None
    model = read_file(config.name, folder, _MODEL_FILE) if (folder / _MODEL_FILE).is_file() else {}
    inside = config.document.get("sentence_transformers")
    inside = inside if isinstance(inside, dict) else {}
    old = config.document.get("sbert_ce_default_activation_function")
    if not (inside or old or model.get("model_type") == "CrossEncoder"):
        return None
    path = inside.get("activation_fn") or old or model.get("activation_fn") or "Sigmoid"
    kind = str(path).rpartition(".")[2].lower()
    if kind not in ("sigmoid", "identity"):
        raise CheckpointError(
            f"checkpoint {config.name}: its cross-encoder puts {shortened(str(path))} over its number; packages know "
            f"Sigmoid and Identity"
        )
    return kind
