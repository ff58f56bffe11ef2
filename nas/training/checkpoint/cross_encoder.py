"""What the CrossEncoder of sentence-transformers does around a network with one number a text."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ortnas.nas.failures import CheckpointError
from ortnas.nas.training.checkpoint.config import CheckpointConfig
from ortnas.nas.training.checkpoint.sentence_texts import (
    MODEL_FILE,
    SentenceTexts,
    read_model_file,
    read_sentence_texts,
)
from ortnas.nas.wording import shortened, shown


@dataclass(frozen=True)
class CrossEncoder:
    """``activation`` is what it puts over its number: ``sigmoid`` or ``identity``."""

    activation: str
    texts: SentenceTexts


def read_cross_encoder(config: CheckpointConfig, folder: Path) -> CrossEncoder | None:
    """None for other checkpoints. The activation is a path of a torch module, by default a sigmoid.

    Raises CheckpointError.
    """
    model = read_model_file(config.name, folder)
    inside = config.document.get("sentence_transformers")
    inside = inside if isinstance(inside, dict) else {}
    old = config.document.get("sbert_ce_default_activation_function")
    if not (inside or old or model.get("model_type") == "CrossEncoder"):
        return None
    # In the library's own order.
    path = str(model.get("activation_fn") or inside.get("activation_fn") or old or "torch.nn.Sigmoid")
    kind = path.rpartition(".")[2].lower() if path.startswith("torch.") else ""
    if kind not in ("sigmoid", "identity"):
        raise CheckpointError(
            f"checkpoint {config.name}: its cross-encoder puts {shortened(path)} over its number; packages know "
            f"Sigmoid and Identity of torch"
        )
    texts = read_sentence_texts(config, folder, "sequence-classification")
    if texts.prompt:
        raise CheckpointError(
            f"checkpoint {config.name}: {MODEL_FILE} puts the prompt {shown(texts.prompt)} before every pair "
            f"(default_prompt_name), which packages of cross-encoders do not; set it to null, and put the prompt into "
            f"your texts"
        )
    return CrossEncoder(kind, texts)
