"""How sentence-transformers reads texts: length, case and prompts, as its files in a checkpoint's folder say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ortnas.nas.failures import CheckpointError
from ortnas.nas.training.checkpoint.config import CheckpointConfig
from ortnas.nas.training.checkpoint.folder import encoder_folder, read_file
from ortnas.nas.wording import shown

MODEL_FILE = "config_sentence_transformers.json"
# The first that is there counts; earlier releases named it after the family.
_TEXT_FILES = (
    "sentence_bert_config.json",
    "sentence_roberta_config.json",
    "sentence_distilbert_config.json",
    "sentence_camembert_config.json",
    "sentence_xlm-roberta_config.json",
)


@dataclass(frozen=True)
class SentenceTexts:
    """``max_length`` is in tokens, ``lower`` is before the tokenizer. ``prompts`` are what may be put before a text, by
    name; the one named ``default_prompt`` is, where nothing else is asked for. ``truncated_size`` is that of vectors
    that are cut, ``similarity`` the library's name for how they are compared."""

    max_length: int
    lower: bool
    prompts: Mapping[str, str] = field(default_factory=dict)
    default_prompt: str | None = None
    truncated_size: int | None = None
    similarity: str | None = None

    @property
    def prompt(self) -> str:
        """What comes before every text where nothing else is asked for."""
        return "" if self.default_prompt is None else self.prompts[self.default_prompt]


def read_sentence_texts(config: CheckpointConfig, folder: Path, task: str) -> SentenceTexts:
    """``task`` is what the library calls the wanted output of its Transformer module. Raises CheckpointError."""
    name, inner = config.name, encoder_folder(config.name, folder)
    file = next((file for file in _TEXT_FILES if (inner / file).is_file()), None)
    text = read_file(name, inner, file) if file else {}
    if text.get("transformer_task", task) != task:
        raise CheckpointError(
            f"checkpoint {name}: {file} is for {shown(text['transformer_task'])} (transformer_task), and not for {task}"
        )
    model = read_model_file(name, folder)
    prompts, default = _prompts(name, model)
    size = model.get("truncate_dim")
    if size is not None and (type(size) is not int or size < 1):
        raise CheckpointError(f"checkpoint {name}: truncate_dim = {shown(size)} in {MODEL_FILE}; it should be a size")
    similarity = model.get("similarity_fn_name")
    return SentenceTexts(
        _max_length(config, inner, text),
        bool(text.get("do_lower_case", False)),
        prompts,
        default,
        size,
        similarity if isinstance(similarity, str) else None,
    )


def read_model_file(name: str, folder: Path) -> dict[str, Any]:
    """What the library keeps of the whole model; empty where it keeps nothing. Raises CheckpointError."""
    return dict(read_file(name, folder, MODEL_FILE)) if (folder / MODEL_FILE).is_file() else {}


def _prompts(name: str, model: Mapping[str, Any]) -> tuple[dict[str, str], str | None]:
    stated, default = model.get("prompts") or {}, model.get("default_prompt_name")
    texts = {key: value or "" for key, value in stated.items()} if isinstance(stated, dict) else None
    if texts is None or not all(isinstance(text, str) for text in texts.values()):
        raise CheckpointError(f"checkpoint {name}: prompts = {shown(stated)} in {MODEL_FILE}; they should be texts")
    if default is not None and default not in texts:
        raise CheckpointError(
            f"checkpoint {name}: {MODEL_FILE} names the prompt {shown(default)} (default_prompt_name), and has "
            f"{shown(sorted(texts))}"
        )
    return texts, default


def _max_length(config: CheckpointConfig, folder: Path, text: Mapping[str, Any]) -> int:
    """As the library: what the file says, or the tokenizer's length, within the model's positions."""
    stated = text.get("max_seq_length")
    settings_file = folder / "tokenizer_config.json"
    if stated is None and settings_file.is_file():
        stated = read_file(config.name, folder, settings_file.name).get("model_max_length")
    if not isinstance(stated, int) or stated <= 0:
        return config.max_positions
    return min(stated, config.max_positions)
